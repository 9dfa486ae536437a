//! From what a CPU says of itself to what is done about it.

use crate::spec::{amd_eax21, amd_ebx, arch, leaf7_ebx, leaf7_edx, spec_ctrl};
use bitflags::bitflags;
use core::fmt;

/// What a CPU says. All zero on an Intel CPU that knows nothing of the matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// AMD, or Hygon, which is like it.
    pub amd: bool,
    /// CPUID 7.0, EBX.
    pub leaf7_ebx: u32,
    /// CPUID 7.0, EDX.
    pub leaf7_edx: u32,
    /// CPUID 8000_0008, EBX.
    pub amd_ebx: u32,
    /// CPUID 8000_0021, EAX.
    pub amd_eax21: u32,
    /// IA32_ARCH_CAPABILITIES; 0 if there is none.
    pub arch: u64,
}

bitflags! {
    /// What user land or a guest may still learn.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Open: u8 {
        /// User mode reads what the kernel maps.
        const MELTDOWN = 1 << 0;
        /// What is in the L1 cache, for guests.
        const L1TF = 1 << 1;
        /// What is in buffers of the core.
        const BUFFERS = 1 << 2;
        /// What the kernel can be led to by trained indirect branches.
        const BRANCHES = 1 << 3;
        /// What a load finds that runs before an older store.
        const STORES = 1 << 4;
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Bits of SPEC_CTRL that are set once and stay; 0: not written.
    pub spec_ctrl: u64,
    /// EFER's automatic IBRS is set once.
    pub auto_ibrs: bool,
    /// A barrier for branches when the guest of another VMM comes to run.
    pub barrier: bool,
    /// VERW before user mode and guests go on.
    pub clear_buffers: bool,
    /// The L1 cache is emptied before a guest goes on.
    pub flush_l1d: bool,
    /// What stays.
    pub open: Open,
}

/// `bits` where `yes`.
fn when(yes: bool, bits: u64) -> u64 {
    if yes { bits } else { 0 }
}

impl Plan {
    /// The plan for a CPU.
    pub fn of(f: &Facts) -> Plan {
        let leaf7 = |bit: u32| !f.amd && f.leaf7_edx & bit != 0;
        let amd = |bit: u32| f.amd && f.amd_ebx & bit != 0;
        let not = |bits: u64| f.amd || f.arch & bits == bits;
        let auto_ibrs = f.amd && f.amd_eax21 & amd_eax21::AUTO_IBRS != 0;
        // An IBRS that has to be written at each entry costs more than an IPC does: it is left out.
        let ibrs = leaf7(leaf7_edx::IBRS) && not(arch::IBRS_ALL)
            || !auto_ibrs && amd(amd_ebx::IBRS) && amd(amd_ebx::IBRS_ALWAYS);
        let ssb_no = if f.amd { amd(amd_ebx::SSB_NO) } else { not(arch::SSB_NO) };
        let ssbd = !ssb_no && (leaf7(leaf7_edx::SSBD) || amd(amd_ebx::SSBD));
        let stibp = leaf7(leaf7_edx::STIBP) || amd(amd_ebx::STIBP);
        let leaks = Leaks::of(f);
        let l1tf = !not(arch::RDCL_NO) && f.arch & arch::SKIP_L1DFL_VMENTRY == 0;
        let flush_l1d = l1tf && leaf7(leaf7_edx::L1D_FLUSH);
        Plan {
            spec_ctrl: when(ibrs, spec_ctrl::IBRS) | when(stibp, spec_ctrl::STIBP) | when(ssbd, spec_ctrl::SSBD),
            auto_ibrs,
            barrier: leaf7(leaf7_edx::IBRS) || amd(amd_ebx::IBPB),
            clear_buffers: leaks.cleared,
            flush_l1d,
            open: [
                (!not(arch::RDCL_NO), Open::MELTDOWN),
                (l1tf && !flush_l1d, Open::L1TF),
                (leaks.open, Open::BUFFERS),
                (!ibrs && !auto_ibrs, Open::BRANCHES),
                (!ssb_no && !ssbd, Open::STORES),
            ]
            .into_iter()
            .filter(|(yes, _)| *yes)
            .fold(Open::empty(), |all, (_, o)| all | o),
        }
    }
}

/// Data left in buffers and register files of the core.
struct Leaks {
    /// VERW helps.
    cleared: bool,
    /// There is some against which it does not.
    open: bool,
}

impl Leaks {
    fn of(f: &Facts) -> Leaks {
        if f.amd {
            return Leaks { cleared: false, open: false };
        }
        let has = |bits: u64| f.arch & bits == bits;
        let md_clear = f.leaf7_edx & leaf7_edx::MD_CLEAR != 0;
        // TAA needs transactions; CPUs that are open to MMIO stale data or RFDS say so by how VERW helps.
        let mds = !has(arch::MDS_NO) || f.leaf7_ebx & leaf7_ebx::RTM != 0 && !has(arch::TAA_NO);
        let others = has(arch::FB_CLEAR) && !has(arch::MMIO_NO) || has(arch::RFDS_CLEAR) && !has(arch::RFDS_NO);
        Leaks { cleared: mds && md_clear || others, open: mds && !md_clear }
    }
}
