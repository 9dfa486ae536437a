//! The VMCB: AMD APM vol. 2, appendix B. Names follow the manual.
//!
//! A vCPU's VMCB also holds what software must remember of it, in the part that the manual leaves to the host
//! ([`Software`]): so that nothing but a VMCB and a [`virt::VcpuRegs`] make a vCPU.

use crate::spec::clean;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! hardware_layout {
    ($($(#[$doc:meta])* struct $name:ident $body:tt)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
        #[repr(C)]
        #[allow(missing_docs, reason = "the names are those of the manual")]
        pub struct $name $body
    )*};
}

hardware_layout! {
    /// What exits: a set.
    #[derive(Default)]
    struct Intercepts {
        /// Reads of CR0 to CR15.
        pub cr_read: u16,
        /// Writes.
        pub cr_write: u16,
        /// Reads of DR0 to DR15.
        pub dr_read: u16,
        /// Writes.
        pub dr_write: u16,
        /// Exceptions by vector.
        pub exceptions: u32,
        /// [`crate::spec::misc1`].
        pub misc1: u32,
        /// [`crate::spec::misc2`].
        pub misc2: u32,
        /// Vector 5: nothing that is used here.
        pub misc3: u32,
    }

    /// Control area, 1 KiB. What is not used here has no name.
    struct ControlArea {
        /// 0x000
        pub intercepts: Intercepts,
        pub _r0: [u8; 0x28],
        /// 0x040: physical address of the I/O permission map, 12 KiB.
        pub iopm_base_pa: u64,
        /// Physical address of the MSR permission map, 8 KiB.
        pub msrpm_base_pa: u64,
        pub tsc_offset: u64,
        /// 0x058: never 0, which is the host's.
        pub guest_asid: u32,
        /// [`crate::spec::tlb`].
        pub tlb_control: u8,
        pub _r1: [u8; 3],
        /// 0x060: [`crate::spec::vintr`].
        pub vintr: u64,
        /// 0x068: [`crate::spec::INTERRUPT_SHADOW`].
        pub interrupt_shadow: u64,
        /// 0x070: [`crate::spec::code`].
        pub exitcode: u64,
        pub exitinfo1: u64,
        pub exitinfo2: u64,
        /// 0x088: event whose delivery the exit interrupted. Only bit 31 tells whether there is one.
        pub exitintinfo: u64,
        /// 0x090: [`crate::spec::NP_ENABLE`].
        pub np_enable: u64,
        pub _r2: [u64; 2],
        /// 0x0a8: event for the next entry.
        pub eventinj: u64,
        /// 0x0b0: physical address of the nested page table's root.
        pub n_cr3: u64,
        pub _r3: u64,
        /// 0x0c0: [`clean`].
        pub vmcb_clean: u32,
        pub _r4: u32,
        /// 0x0c8: address of the next instruction, with NRIPS.
        pub nrip: u64,
        pub _r5: [u8; 0x310],
        /// 0x3e0
        pub software: Software,
    }

    /// What the back end remembers of a vCPU, in the 32 bytes at 0x3e0 that are reserved for the host.
    #[derive(Default)]
    struct Software {
        /// Return address of a software event in `queued`.
        pub next_rip: u64,
        /// RIP of the IRET that may have ended blocking by NMI, where `nmi` says so.
        pub iret_rip: u64,
        /// The event in EVENTINJ as the VMM gave it, in the layout of the UTCB; 0 if there is none.
        pub queued: u32,
        /// Window requests in the bits of the UTCB.
        pub windows: u32,
        /// Blocking by NMI: [`Software::NMI_OPEN`] and others.
        pub nmi: u16,
        /// TPR threshold, 0 to 15.
        pub tpr_threshold: u16,
        pub _r0: u32,
    }

    /// Segment register. Of GDTR and IDTR limit and base are used.
    #[derive(Default)]
    struct VmcbSegment {
        pub selector: u16,
        /// Bits 55:52 and 47:40 of the descriptor.
        pub attrib: u16,
        pub limit: u32,
        pub base: u64,
    }

    /// State-save area, 3 KiB; likewise. FS, GS, TR, LDTR, KernelGsBase, STAR, LSTAR, CSTAR, SFMASK and SYSENTER_* travel with
    /// VMLOAD and VMSAVE, all other registers with VMRUN and #VMEXIT.
    struct StateSaveArea {
        /// 0x000
        pub es: VmcbSegment,
        pub cs: VmcbSegment,
        pub ss: VmcbSegment,
        pub ds: VmcbSegment,
        pub fs: VmcbSegment,
        pub gs: VmcbSegment,
        pub gdtr: VmcbSegment,
        pub ldtr: VmcbSegment,
        pub idtr: VmcbSegment,
        pub tr: VmcbSegment,
        pub _r0: [u8; 0x2b],
        /// 0x0cb
        pub cpl: u8,
        pub _r1: u32,
        /// 0x0d0
        pub efer: u64,
        pub _r2: [u8; 0x70],
        /// 0x148
        pub cr4: u64,
        pub cr3: u64,
        pub cr0: u64,
        pub dr7: u64,
        pub dr6: u64,
        pub rflags: u64,
        pub rip: u64,
        pub _r3: [u8; 0x58],
        /// 0x1d8
        pub rsp: u64,
        pub _r4: [u64; 3],
        /// 0x1f8
        pub rax: u64,
        pub star: u64,
        pub lstar: u64,
        pub _r5: u64,
        pub sfmask: u64,
        pub kernel_gs_base: u64,
        pub sysenter_cs: u64,
        pub sysenter_esp: u64,
        pub sysenter_eip: u64,
        /// 0x240
        pub cr2: u64,
        pub _r6: [u8; 0x20],
        /// 0x268
        pub g_pat: u64,
        pub _r7: [u8; 0x990],
    }
}

/// Virtual machine control block, a frame. Hardware uses it by physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub struct Vmcb {
    /// 0x000
    pub control: ControlArea,
    /// 0x400
    pub save: StateSaveArea,
}

impl Vmcb {
    /// Tells the processor that it cannot use what it has cached of these groups of [`clean`]. To be called with every
    /// change.
    #[inline]
    pub(crate) fn dirty(&mut self, groups: u32) {
        self.control.vmcb_clean &= !groups;
    }

    /// Nothing that a processor may have cached of the VMCB is valid: it ran elsewhere last, or its addresses changed.
    #[inline]
    pub fn forget_cached(&mut self) {
        self.dirty(clean::ALL);
    }
}

impl Software {
    /// NMIs are not blocked.
    pub const NMI_OPEN: u16 = 0;
    /// NMIs are blocked until the next IRET, which is intercepted.
    pub const NMI_BLOCKED: u16 = 1;
    /// The IRET at `iret_rip` is let through: once the guest is elsewhere, NMIs are not blocked any more.
    pub const NMI_IRET: u16 = 2;
}

impl Intercepts {
    /// None.
    pub const NONE: Intercepts = zerocopy::transmute!([0u32; 6]);

    /// Everything in either.
    pub fn union(self, other: Intercepts) -> Intercepts {
        let [a, b]: [[u32; 6]; 2] = [zerocopy::transmute!(self), zerocopy::transmute!(other)];
        zerocopy::transmute!(core::array::from_fn::<u32, 6, _>(|i| a[i] | b[i]))
    }

    /// Whether all of `other` is in it.
    pub fn contains(self, other: Intercepts) -> bool {
        self.union(other) == self
    }
}
