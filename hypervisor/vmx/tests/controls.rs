//! Negotiation: what passes, what is missing, and what it is called.

mod fake;

use abi::VirtMissing;
use fake::{haswell, sandy_bridge};
use switches::Switches;
use virt::spec::cr0;
use vmx::control::{
    EntryControls as Entry, ExitControls as Exit, PinbasedControls as Pin, PrimaryControls as Proc1,
    SecondaryControls as Proc2,
};
use vmx::spec::ept_vpid;
use vmx::{CapabilityMsrs, negotiate};

/// CR0.NE and CR4.VMXE, which VMX operation demands.
const NE: u64 = 1 << 5;
const VMXE: u64 = 1 << 13;

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
    assert!(c.timer && c.tpr_shadow && c.ept_giant && c.activity_hlt && !c.inject_other);
    assert_eq!((c.timer_shift, c.xcr0_supported), (0, 1));
}

#[test]
fn what_is_turned_off_is_as_if_the_cpu_lacked_it() {
    let all = Switches::TPR_SHADOW | Switches::PREEMPTION_TIMER;
    let with = |off| negotiate(&haswell().without(off)).expect("nothing of it is demanded");
    let c = with(Switches::empty());
    assert_eq!((c, c.in_use()), (negotiate(&haswell()).unwrap(), all));
    let c = with(Switches::TPR_SHADOW);
    assert_eq!(
        (c.tpr_shadow, c.proc1 & Proc1::USE_TPR_SHADOW.bits(), c.in_use()),
        (false, 0, Switches::PREEMPTION_TIMER)
    );
    let cr8 = (Proc1::CR8_LOAD_EXITING | Proc1::CR8_STORE_EXITING).bits();
    assert_eq!(c.proc1 & cr8, cr8);
    let c = with(Switches::PREEMPTION_TIMER);
    assert_eq!((c.timer, c.pin & Pin::VMX_PREEMPTION_TIMER.bits(), c.in_use()), (false, 0, Switches::TPR_SHADOW));
    let c = with(Switches::GIANT_PAGES);
    assert_eq!((c.ept_giant, c.in_use()), (false, all));
    // What is of other kinds changes nothing.
    assert_eq!(with(Switches::all() - all - Switches::GIANT_PAGES), with(Switches::empty()));
    assert_eq!(with(Switches::all()).in_use(), Switches::empty());
}

#[test]
fn sandy_bridge_runs_guests_with_less() {
    let c = negotiate(&sandy_bridge()).expect("all that is required");
    assert_eq!(c.proc2, 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7);
    assert!(!c.ept_giant);
}

#[test]
fn guests_change_cr3_and_their_own_bits_without_exits() {
    let c = negotiate(&haswell()).expect("all there");
    assert_eq!(
        c.proc1 & (Proc1::CR3_LOAD_EXITING.bits() | Proc1::CR3_STORE_EXITING.bits() | Proc1::INVLPG_EXITING.bits()),
        0
    );
    assert_eq!(c.proc1 & Proc1::UNCOND_IO_EXITING.bits(), 0);
    assert_eq!((c.cr0_fixed, c.cr0_owned), (NE, NE | cr0::CD | cr0::NW));
    assert_eq!(c.cr4_fixed, VMXE);
    assert_eq!(c.entry & Entry::IA32E_MODE_GUEST.bits(), 0);
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
    for control in [Pin::EXTERNAL_INTERRUPT_EXITING.bits(), Pin::NMI_EXITING.bits(), Pin::VIRTUAL_NMIS.bits()] {
        assert_eq!(missing(|c| c.pin = without(c.pin, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
}

#[test]
fn each_required_primary_control_counts() {
    for control in [
        Proc1::INTERRUPT_WINDOW_EXITING.bits(),
        Proc1::USE_TSC_OFFSETTING.bits(),
        Proc1::HLT_EXITING.bits(),
        Proc1::MWAIT_EXITING.bits(),
        Proc1::RDPMC_EXITING.bits(),
        Proc1::NMI_WINDOW_EXITING.bits(),
        Proc1::USE_IO_BITMAPS.bits(),
        Proc1::USE_MSR_BITMAPS.bits(),
        Proc1::MONITOR_EXITING.bits(),
        Proc1::SECONDARY_CONTROLS.bits(),
    ] {
        assert_eq!(missing(|c| c.proc1 = without(c.proc1, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
}

#[test]
fn a_cpu_that_forces_cr3_exits_is_refused() {
    assert_eq!(missing(|c| c.proc1 |= u64::from(Proc1::CR3_LOAD_EXITING.bits())), Some(VirtMissing::CONTROLS));
}

#[test]
fn each_required_secondary_control_has_its_name() {
    for (control, name) in [
        (Proc2::ENABLE_EPT.bits(), VirtMissing::NESTED_PAGING),
        (Proc2::ENABLE_VPID.bits(), VirtMissing::TLB_TAGS),
        (Proc2::UNRESTRICTED_GUEST.bits(), VirtMissing::UNRESTRICTED),
        (Proc2::WBINVD_EXITING.bits(), VirtMissing::CONTROLS),
    ] {
        assert_eq!(missing(|c| c.proc2 = without(c.proc2, control)), Some(name));
    }
    for control in [Proc2::ENABLE_RDTSCP.bits(), Proc2::ENABLE_INVPCID.bits()] {
        assert_eq!(missing(|c| c.proc2 = without(c.proc2, control)), None);
    }
}

#[test]
fn each_required_exit_and_entry_control_counts() {
    for control in [
        Exit::SAVE_DEBUG_CONTROLS.bits(),
        Exit::HOST_ADDRESS_SPACE_SIZE.bits(),
        Exit::ACK_INTERRUPT_ON_EXIT.bits(),
        Exit::SAVE_IA32_PAT.bits(),
        Exit::LOAD_IA32_PAT.bits(),
        Exit::SAVE_IA32_EFER.bits(),
        Exit::LOAD_IA32_EFER.bits(),
    ] {
        assert_eq!(missing(|c| c.exit = without(c.exit, control)), Some(VirtMissing::CONTROLS), "{control:#x}");
    }
    for control in [
        Entry::LOAD_DEBUG_CONTROLS.bits(),
        Entry::IA32E_MODE_GUEST.bits(),
        Entry::LOAD_IA32_PAT.bits(),
        Entry::LOAD_IA32_EFER.bits(),
    ] {
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
    c.pin = without(c.pin, Pin::VMX_PREEMPTION_TIMER.bits());
    let c = negotiate(&c).expect("optional");
    assert!(!c.timer && c.pin & Pin::VMX_PREEMPTION_TIMER.bits() == 0);
}

#[test]
fn cr8_exits_where_there_is_no_tpr_shadow() {
    let mut c = haswell();
    c.proc1 = without(c.proc1, Proc1::USE_TPR_SHADOW.bits());
    let c = negotiate(&c).expect("optional");
    let cr8 = Proc1::CR8_LOAD_EXITING.bits() | Proc1::CR8_STORE_EXITING.bits();
    assert!(!c.tpr_shadow && c.proc1 & (cr8 | Proc1::USE_TPR_SHADOW.bits()) == cr8);
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
