//! User thread control block: message words and architectural state (4.3, 8.7.3).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of message words in a UTCB.
pub const UTCB_WORDS: usize = 512;

/// A UTCB in its regular layout.
#[derive(Clone, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub struct Utcb {
    /// Message words.
    pub words: [u64; UTCB_WORDS],
}

impl Utcb {
    /// The UTCB in its architectural layout.
    pub fn arch(&self) -> &ArchState {
        // Cannot fail: ArchState is smaller than a page and needs 8-byte alignment.
        match ArchState::ref_from_prefix(self.as_bytes()) {
            Ok((s, _)) => s,
            Err(_) => unreachable!(),
        }
    }

    /// The UTCB in its architectural layout, to be written.
    pub fn arch_mut(&mut self) -> &mut ArchState {
        match ArchState::mut_from_prefix(self.as_mut_bytes()) {
            Ok((s, _)) => s,
            Err(_) => unreachable!(),
        }
    }
}

/// Segment register in the UTCB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Segment {
    /// Selector. Not used for GDTR and IDTR.
    pub sel: u16,
    /// Access rights: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11, unusable 12. Not used for GDTR and IDTR.
    pub ar: u16,
    /// Limit in bytes, scaled.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

/// Architectural state of an execution context in a UTCB. Offsets in the comments are those of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
#[allow(missing_docs, reason = "the names are those of the architecture")]
pub struct ArchState {
    /// 0x000: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// 0x080
    pub rflags: u64,
    pub rip: u64,
    /// 0x090: bytes.
    pub inst_len: u32,
    /// VM-exit instruction information.
    pub inst_info: u32,
    /// Interruptibility state: blocking by STI 0, MOV SS 1, SMI 2, NMI 3.
    pub intr_state: u32,
    /// Activity state: 0 active, 1 HLT, 2 shutdown, 3 wait for SIPI.
    pub actv_state: u32,
    /// 0x0a0: qualifications.
    pub qual: [u64; 3],
    /// 0x0b8: extension: the exception of an exit for one, in the layout of `vect_info`, and its error code.
    pub exc_info: u32,
    pub exc_error: u32,
    /// 0x0c0: primary and secondary processor-based execution controls.
    pub ctrl: [u32; 2],
    pub ctrl3: u64,
    /// 0x0d0: intercepted bits of CR0 and CR4.
    pub intcpt_cr0: u64,
    pub intcpt_cr4: u64,
    /// 0x0e0: exception bitmap.
    pub intcpt_exc: u32,
    pub pfe_mask: u32,
    pub pfe_match: u32,
    pub tpr_threshold: u32,
    /// 0x0f0: see [`ArchState::INJ_VALID`] and its neighbours.
    pub inj_info: u32,
    pub inj_error: u32,
    /// IDT vectoring information and error code.
    pub vect_info: u32,
    pub vect_error: u32,
    /// 0x100
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub tr: Segment,
    pub ldtr: Segment,
    pub gdtr: Segment,
    pub idtr: Segment,
    /// 0x1a0
    pub pdpte: [u64; 4],
    /// 0x1c0
    pub cr0: u64,
    pub cr2: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub cr8: u64,
    pub dr7: u64,
    /// 0x1f0
    pub xcr0: u64,
    pub xss: u64,
    pub apic_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    /// 0x220
    pub pat: u64,
    pub efer: u64,
    pub star: u64,
    pub lstar: u64,
    pub fmask: u64,
    pub kernel_gs_base: u64,
    /// 0x250
    pub tsc_aux: u64,
    pub sel_gst: u64,
    pub sel_pio: u64,
    pub sel_msr: u64,
}

#[allow(missing_docs, reason = "indices named after the registers")]
impl ArchState {
    pub const RAX: usize = 0;
    pub const RSP: usize = 4;

    /// `inj_info`: vector in 7:0, type in 10:8 (0 external, 2 NMI, 3 exception, 4 software interrupt, 5 privileged
    /// software exception, 6 software exception, 7 other).
    pub const INJ_TYPE_SHIFT: u32 = 8;
    /// `inj_info`: deliver the error code in `inj_error`.
    pub const INJ_ERROR: u32 = 1 << 11;
    /// `inj_info`: request an interrupt window.
    pub const INJ_IRQ_WINDOW: u32 = 1 << 12;
    /// `inj_info`: request an NMI window.
    pub const INJ_NMI_WINDOW: u32 = 1 << 13;
    /// `inj_info`: type, error and vector fields are valid.
    pub const INJ_VALID: u32 = 1 << 31;

    /// `inst_info`: extension: what the qualification would say of operands (register, address, segment) is not known.
    /// The VMM has to decode the instruction at RIP.
    pub const INST_DECODE: u32 = 1 << 31;

    /// All zero.
    pub const ZERO: ArchState = zerocopy::transmute!([0u8; size_of::<ArchState>()]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::{align_of, offset_of, size_of};

    #[test]
    fn both_layouts_are_of_the_same_bytes() {
        let mut u = Utcb::default();
        assert!(u.words.iter().all(|w| *w == 0), "nothing of what was there before");
        u.arch_mut().rflags = 0x202;
        assert_eq!((u.words[0x80 / 8], u.arch().rflags), (0x202, 0x202));
        u.words[0x1c0 / 8] = 7;
        assert_eq!(u.arch().cr0, 7);
    }

    #[test]
    fn layout_is_that_of_the_specification() {
        assert_eq!(size_of::<Utcb>(), 4096);
        assert_eq!(align_of::<Utcb>(), 4096);
        let rows = [
            (offset_of!(ArchState, rflags), 0x80),
            (offset_of!(ArchState, inst_len), 0x90),
            (offset_of!(ArchState, intr_state), 0x98),
            (offset_of!(ArchState, qual), 0xa0),
            (offset_of!(ArchState, exc_info), 0xb8),
            (offset_of!(ArchState, ctrl), 0xc0),
            (offset_of!(ArchState, intcpt_cr0), 0xd0),
            (offset_of!(ArchState, intcpt_exc), 0xe0),
            (offset_of!(ArchState, tpr_threshold), 0xec),
            (offset_of!(ArchState, inj_info), 0xf0),
            (offset_of!(ArchState, cs), 0x100),
            (offset_of!(ArchState, tr), 0x160),
            (offset_of!(ArchState, idtr), 0x190),
            (offset_of!(ArchState, pdpte), 0x1a0),
            (offset_of!(ArchState, cr0), 0x1c0),
            (offset_of!(ArchState, cr8), 0x1e0),
            (offset_of!(ArchState, xcr0), 0x1f0),
            (offset_of!(ArchState, apic_base), 0x200),
            (offset_of!(ArchState, pat), 0x220),
            (offset_of!(ArchState, star), 0x230),
            (offset_of!(ArchState, fmask), 0x240),
            (offset_of!(ArchState, tsc_aux), 0x250),
            (offset_of!(ArchState, sel_pio), 0x260),
            (size_of::<ArchState>(), 0x270),
        ];
        for (have, want) in rows {
            assert_eq!(have, want);
        }
    }

    #[test]
    fn architectural_view_is_a_view() {
        let mut u = Utcb::new();
        u.arch_mut().rip = 7;
        assert_eq!(u.words[0x88 / 8], 7);
        u.words[0] = 9;
        assert_eq!(u.arch().gpr[ArchState::RAX], 9);
    }
}
