//! Decisions for CPUs of some generations, and laws for all.

use proptest::prelude::*;
use speculation::spec::{amd_eax21, amd_ebx, arch, leaf7_ebx, leaf7_edx, spec_ctrl};
use speculation::{Facts, Open, Plan};

const ALL: u64 = spec_ctrl::IBRS | spec_ctrl::STIBP | spec_ctrl::SSBD;

#[test]
fn an_intel_cpu_without_microcode_is_open_to_all() {
    let p = Plan::of(&Facts::default());
    assert_eq!(p, Plan { open: Open::all(), ..Plan::default() });
    assert_eq!(p.open.to_string(), "MELTDOWN | L1TF | BUFFERS | BRANCHES | STORES");
}

#[test]
fn a_haswell_with_microcode_flushes_but_has_no_ibrs_that_stays() {
    let edx = leaf7_edx::MD_CLEAR | leaf7_edx::IBRS | leaf7_edx::STIBP | leaf7_edx::L1D_FLUSH | leaf7_edx::SSBD;
    let p = Plan::of(&Facts { leaf7_edx: edx, ..Facts::default() });
    assert_eq!(p.spec_ctrl, spec_ctrl::STIBP | spec_ctrl::SSBD);
    assert!(p.barrier && p.clear_buffers && p.flush_l1d && !p.auto_ibrs);
    assert_eq!(p.open, Open::MELTDOWN | Open::BRANCHES);
}

fn ice_lake() -> Facts {
    let leaf7_edx = leaf7_edx::MD_CLEAR
        | leaf7_edx::IBRS
        | leaf7_edx::STIBP
        | leaf7_edx::L1D_FLUSH
        | leaf7_edx::ARCH_CAPABILITIES
        | leaf7_edx::SSBD;
    let arch = arch::RDCL_NO | arch::IBRS_ALL | arch::SKIP_L1DFL_VMENTRY | arch::MDS_NO | arch::TAA_NO;
    Facts { leaf7_ebx: leaf7_ebx::RTM, leaf7_edx, arch, ..Facts::default() }
}

#[test]
fn an_ice_lake_sets_all_once_and_flushes_nothing() {
    let p = Plan::of(&ice_lake());
    assert_eq!(p, Plan { spec_ctrl: ALL, barrier: true, ..Plan::default() });
    // Each flaw that it says it has not, taken back.
    let without = |bits: u64| Plan::of(&Facts { arch: ice_lake().arch & !bits, ..ice_lake() });
    assert!(without(arch::TAA_NO).clear_buffers);
    assert!(without(arch::MDS_NO).clear_buffers);
    assert_eq!(without(arch::RDCL_NO).open, Open::MELTDOWN);
    assert!(!without(arch::RDCL_NO).flush_l1d, "who is below flushes");
    assert!(without(arch::RDCL_NO | arch::SKIP_L1DFL_VMENTRY).flush_l1d);
    assert_eq!(without(arch::IBRS_ALL).spec_ctrl, ALL & !spec_ctrl::IBRS);
    // Flaws that it says it has.
    let with = |bits: u64| Plan::of(&Facts { arch: ice_lake().arch | bits, ..ice_lake() });
    assert!(with(arch::FB_CLEAR).clear_buffers && with(arch::RFDS_CLEAR).clear_buffers);
    assert!(!with(arch::FB_CLEAR | arch::MMIO_NO).clear_buffers);
    assert!(!with(arch::RFDS_CLEAR | arch::RFDS_NO).clear_buffers);
    assert_eq!(with(arch::SSB_NO).spec_ctrl, ALL & !spec_ctrl::SSBD);
}

fn zen(amd_ebx: u32, amd_eax21: u32) -> Plan {
    Plan::of(&Facts { amd: true, amd_ebx, amd_eax21, ..Facts::default() })
}

#[test]
fn amd_cpus_keep_to_their_own_leaves() {
    assert_eq!(zen(0, 0), Plan { open: Open::BRANCHES | Open::STORES, ..Plan::default() });
    let zen2 = amd_ebx::IBPB | amd_ebx::IBRS | amd_ebx::STIBP | amd_ebx::SSBD;
    assert_eq!(zen(zen2, 0).spec_ctrl, spec_ctrl::STIBP | spec_ctrl::SSBD);
    assert!(zen(zen2, 0).barrier);
    assert_eq!(zen(zen2 | amd_ebx::IBRS_ALWAYS, 0).spec_ctrl, ALL);
    let zen4 = zen(zen2 | amd_ebx::IBRS_ALWAYS, amd_eax21::AUTO_IBRS);
    assert_eq!(zen4, Plan { spec_ctrl: ALL & !spec_ctrl::IBRS, auto_ibrs: true, barrier: true, ..Plan::default() });
    assert_eq!(zen(zen2 | amd_ebx::SSB_NO, 0).spec_ctrl, spec_ctrl::STIBP);
    // Bits of Intel's leaf on AMD mean nothing here.
    let intel = Facts { amd: true, leaf7_edx: u32::MAX, ..Facts::default() };
    assert_eq!(Plan::of(&intel), zen(0, 0));
}

proptest! {
    /// A write to an MSR that the CPU lacks would be #GP in the kernel.
    #[test]
    fn only_what_the_cpu_has_is_written(
        amd in any::<bool>(),
        regs in any::<[u32; 4]>(),
        said in any::<u64>(),
    ) {
        let f = Facts { amd, leaf7_ebx: regs[0], leaf7_edx: regs[1], amd_ebx: regs[2], amd_eax21: regs[3], arch: said };
        let (p, edx, ebx) = (Plan::of(&f), if amd { 0 } else { regs[1] }, if amd { regs[2] } else { 0 });
        let has = |i: u32, a: u32| edx & i != 0 || ebx & a != 0;
        for (bit, i, a) in [
            (spec_ctrl::IBRS, leaf7_edx::IBRS, amd_ebx::IBRS),
            (spec_ctrl::STIBP, leaf7_edx::STIBP, amd_ebx::STIBP),
            (spec_ctrl::SSBD, leaf7_edx::SSBD, amd_ebx::SSBD),
        ] {
            prop_assert!(p.spec_ctrl & bit == 0 || has(i, a));
        }
        prop_assert_eq!(p.spec_ctrl & !ALL, 0);
        prop_assert!(!p.barrier || has(leaf7_edx::IBRS, amd_ebx::IBPB));
        prop_assert!(!p.flush_l1d || edx & leaf7_edx::L1D_FLUSH != 0);
        prop_assert!(!p.auto_ibrs || amd && regs[3] & amd_eax21::AUTO_IBRS != 0);
        prop_assert!(!(p.clear_buffers && p.open.contains(Open::BUFFERS)) || said & (arch::FB_CLEAR | arch::RFDS_CLEAR) != 0);
    }
}
