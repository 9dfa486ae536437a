//! Message transfer descriptor (4.4, 8.7.4).

use bitflags::bitflags;

bitflags! {
    /// Groups of architectural state that travel with an event message and its reply.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Mtd: u32 {
        /// Reply only: kill the EC.
        const POISON = 1 << 0;
        /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI.
        const GPR_0_7 = 1 << 1;
        /// R8 to R15.
        const GPR_8_15 = 1 << 2;
        /// RFLAGS. For host ECs only status and control flags are written.
        const RFLAGS = 1 << 3;
        /// RIP; guests also: instruction length and information (instruction length is not written back).
        const RIP = 1 << 4;
        /// Guests: interruptibility and activity state.
        const STA = 1 << 5;
        /// Read only. Host: error code, page-fault address. Guest: exit qualification, GLA, GPA.
        const QUAL = 1 << 6;
        /// Write only, guests: execution controls, CR0, CR4 and exception intercepts.
        const CTRL = 1 << 7;
        /// Write only, guests: TPR threshold.
        const TPR = 1 << 8;
        /// Guests: event injection, window requests; read: IDT vectoring information.
        const INJ = 1 << 9;
        /// CS, SS.
        const CS_SS = 1 << 10;
        /// DS, ES.
        const DS_ES = 1 << 11;
        /// FS, GS.
        const FS_GS = 1 << 12;
        /// TR.
        const TR = 1 << 13;
        /// LDTR.
        const LDTR = 1 << 14;
        /// GDTR.
        const GDTR = 1 << 15;
        /// IDTR.
        const IDTR = 1 << 16;
        /// Page-directory-pointer-table entries for PAE paging.
        const PDPTE = 1 << 17;
        /// CR0, CR2, CR3, CR4, CR8.
        const CR = 1 << 18;
        /// DR7.
        const DR = 1 << 19;
        /// XCR0, IA32_XSS.
        const XSAVE = 1 << 20;
        /// Write only, guests: IA32_APIC_BASE (where the APIC access page is in the guest space).
        const APIC = 1 << 22;
        /// IA32_STAR, IA32_LSTAR, IA32_FMASK.
        const SYSCALL = 1 << 23;
        /// IA32_SYSENTER_CS, _ESP, _EIP.
        const SYSENTER = 1 << 24;
        /// IA32_PAT.
        const PAT = 1 << 25;
        /// IA32_EFER.
        const EFER = 1 << 26;
        /// IA32_KERNEL_GS_BASE.
        const KERNEL_GS = 1 << 27;
        /// IA32_TSC_AUX.
        const TSC = 1 << 28;
        /// Write only, guests: flush the vCPU's TLB.
        const TLB = 1 << 29;
        /// Write only, guests: assign the spaces named by SEL_GST, SEL_PIO, SEL_MSR.
        const SPACES = 1 << 31;
    }
}

impl Mtd {
    /// All state of a guest that its exits can carry.
    pub const GUEST_STATE: Mtd = Mtd::all().difference(Mtd::WRITE_ONLY);
    const WRITE_ONLY: Mtd =
        Mtd::POISON.union(Mtd::CTRL).union(Mtd::TPR).union(Mtd::APIC).union(Mtd::TLB).union(Mtd::SPACES);

    /// Number of words of a regular message.
    pub const fn word_count(mtd: u32) -> usize {
        (mtd & 0x1ff) as usize + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_state_is_all_that_is_not_only_written() {
        let groups = [1..=6, 9..=20, 23..=28].into_iter().flatten();
        assert_eq!(Mtd::GUEST_STATE.bits(), groups.fold(0, |all, n| all | 1u32 << n));
    }
}
