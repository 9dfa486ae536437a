//! Negotiation: what passes, what is missing, and what it is called.

mod fake;

use abi::VirtMissing;
use fake::{haswell, sandy_bridge};
use vmx::spec::{cr0, cr4, entry, ept_vpid, exit, pin, proc1, proc2};
use vmx::{CapabilityMsrs, negotiate};

/// Removes a control from the allowed settings.
fn without(msr: u64, control: u32) -> u64 {
    msr & !(u64::from(control) << 32)
}

fn missing(change: impl FnOnce(&mut CapabilityMsrs)) -> Option<VirtMissing> {
    let mut c = haswell();
    change(&mut c);
    negotiate(&c).err()
}

#[test]
fn haswell_runs_guests() {
    let c = negotiate(&haswell()).expect("all there");
    assert_eq!(c.pin, 0x16 | 1 << 0 | 1 << 3 | 1 << 5 | 1 << 6);
    let wanted = [3, 7, 10, 11, 21, 25, 28, 29, 31].iter().fold(0, |all, bit| all | 1 << bit);
    assert_eq!(c.proc1, 0x0400_6172 | wanted);
    assert_eq!(c.proc2, 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 12);
    assert_eq!(c.exit, 0x0003_6dfb | 1 << 2 | 1 << 9 | 1 << 15 | 0xf << 18);
    assert_eq!(c.entry, 0x11fb | 1 << 2 | 1 << 14 | 1 << 15);
    assert!(c.timer && c.tpr_shadow && c.ept_ad && c.ept_giant && c.activity_hlt && !c.inject_other);
    assert_eq!((c.timer_shift, c.xcr0_supported, c.xss_supported), (0, 1, 0));
}

#[test]
fn sandy_bridge_runs_guests_with_less() {
    let c = negotiate(&sandy_bridge()).expect("all that is required");
    assert_eq!(c.proc2, 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7);
    assert!(!c.ept_ad && !c.ept_giant);
}

#[test]
fn guests_change_cr3_and_their_own_bits_without_exits() {
    let c = negotiate(&haswell()).expect("all there");
    assert_eq!(c.proc1 & (proc1::CR3_LOAD_EXITING | proc1::CR3_STORE_EXITING | proc1::INVLPG_EXITING), 0);
    assert_eq!(c.proc1 & proc1::UNCONDITIONAL_IO_EXITING, 0);
    assert_eq!((c.cr0_fixed, c.cr0_owned), (cr0::NE, cr0::NE | cr0::CD | cr0::NW));
    assert_eq!(c.cr4_fixed, cr4::VMXE);
    assert_eq!(c.entry & entry::IA32E_MODE_GUEST, 0);
}

#[test]
fn a_cpu_without_vmx_lacks_nothing_else() {
    assert_eq!(negotiate(&CapabilityMsrs::default()), Err(VirtMissing::CPU));
    assert_eq!(missing(|c| c.cpuid_vmx = false), Some(VirtMissing::CPU));
}

#[test]
fn the_firmware_may_lock_vmx_off_or_leave_it_open() {
    assert_eq!(missing(|c| c.feature_control = 1), Some(VirtMissing::LOCKED));
    assert_eq!(missing(|c| c.feature_control = 3), Some(VirtMissing::LOCKED), "SMX only");
    assert_eq!(missing(|c| c.feature_control = 0), None);
    assert_eq!(missing(|c| c.feature_control = 5), None);
}

#[test]
fn each_required_pin_control_counts() {
    for control in [pin::EXTERNAL_INTERRUPT_EXITING, pin::NMI_EXITING, pin::VIRTUAL_NMIS] {
        assert_eq!(missing(|c| c.pin = without(c.pin, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
}

#[test]
fn each_required_primary_control_counts() {
    for control in [
        proc1::INTERRUPT_WINDOW_EXITING,
        proc1::TSC_OFFSETTING,
        proc1::HLT_EXITING,
        proc1::MWAIT_EXITING,
        proc1::RDPMC_EXITING,
        proc1::NMI_WINDOW_EXITING,
        proc1::IO_BITMAPS,
        proc1::MSR_BITMAPS,
        proc1::MONITOR_EXITING,
        proc1::SECONDARY_CONTROLS,
    ] {
        assert_eq!(missing(|c| c.proc1 = without(c.proc1, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
}

#[test]
fn a_cpu_that_forces_cr3_exits_is_refused() {
    assert_eq!(missing(|c| c.proc1 |= u64::from(proc1::CR3_LOAD_EXITING)), Some(VirtMissing::CONTROLS));
}

#[test]
fn each_required_secondary_control_has_its_name() {
    for (control, name) in [
        (proc2::EPT, VirtMissing::NESTED_PAGING),
        (proc2::VPID, VirtMissing::TLB_TAGS),
        (proc2::UNRESTRICTED_GUEST, VirtMissing::UNRESTRICTED),
        (proc2::WBINVD_EXITING, VirtMissing::CONTROLS),
    ] {
        assert_eq!(missing(|c| c.proc2 = without(c.proc2, control)), Some(name));
    }
    for control in [proc2::RDTSCP, proc2::INVPCID] {
        assert_eq!(missing(|c| c.proc2 = without(c.proc2, control)), None);
    }
}

#[test]
fn each_required_exit_and_entry_control_counts() {
    for control in [
        exit::SAVE_DEBUG_CONTROLS,
        exit::HOST_ADDRESS_SPACE_SIZE,
        exit::ACKNOWLEDGE_INTERRUPT,
        exit::SAVE_PAT,
        exit::LOAD_PAT,
        exit::SAVE_EFER,
        exit::LOAD_EFER,
    ] {
        assert_eq!(missing(|c| c.exit = without(c.exit, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
    for control in [entry::LOAD_DEBUG_CONTROLS, entry::IA32E_MODE_GUEST, entry::LOAD_PAT, entry::LOAD_EFER] {
        assert_eq!(missing(|c| c.entry = without(c.entry, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
}

#[test]
fn each_required_capability_of_ept_and_vpid_has_its_name() {
    for (bit, name) in [
        (ept_vpid::WALK_LENGTH_4, VirtMissing::NESTED_PAGING),
        (ept_vpid::WRITE_BACK, VirtMissing::NESTED_PAGING),
        (ept_vpid::PAGES_2M, VirtMissing::NESTED_PAGING),
        (ept_vpid::INVEPT, VirtMissing::NESTED_PAGING),
        (ept_vpid::INVEPT_ALL, VirtMissing::NESTED_PAGING),
        (ept_vpid::INVVPID, VirtMissing::TLB_TAGS),
        (ept_vpid::INVVPID_SINGLE, VirtMissing::TLB_TAGS),
    ] {
        assert_eq!(missing(|c| c.ept_vpid &= !bit), Some(name), "{bit:#x}");
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let all = missing(|c| {
        c.feature_control = 1;
        c.proc2 = 0;
        c.ept_vpid = 0;
    });
    let locked_and_old = VirtMissing::all() - VirtMissing::CPU - VirtMissing::BACK_END;
    assert_eq!(all, Some(locked_and_old));
}

#[test]
fn the_preemption_timer_is_optional() {
    let mut c = haswell();
    c.pin = without(c.pin, pin::PREEMPTION_TIMER);
    let c = negotiate(&c).expect("optional");
    assert!(!c.timer && c.pin & pin::PREEMPTION_TIMER == 0);
}

#[test]
fn cr8_exits_where_there_is_no_tpr_shadow() {
    let mut c = haswell();
    c.proc1 = without(c.proc1, proc1::TPR_SHADOW);
    let c = negotiate(&c).expect("optional");
    let cr8 = proc1::CR8_LOAD_EXITING | proc1::CR8_STORE_EXITING;
    assert!(!c.tpr_shadow && c.proc1 & (cr8 | proc1::TPR_SHADOW) == cr8);
    assert_eq!(fake::controls().proc1 & cr8, 0);
}

#[test]
fn timer_values_are_scaled_and_saturate() {
    let c = negotiate(&CapabilityMsrs { misc: 5, ..haswell() }).expect("all there");
    assert_eq!(c.timer_value(64), 2);
    assert_eq!(c.timer_value(63), 1);
    assert_eq!(c.timer_value(u64::MAX), u32::MAX);
    assert!(!c.activity_hlt);
}
