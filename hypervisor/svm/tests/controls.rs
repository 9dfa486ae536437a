//! Negotiation, and the intercepts that a VMM can and cannot choose.

mod fake;

use abi::{ArchState, Mtd, VirtMissing};
use fake::{poor, rich, tcg, vcpu, zen};
use proptest::prelude::*;
use svm::spec::{misc1, misc2};
use svm::{CapabilityBits, Intercepts, load, negotiate};
use switches::Switches;
use zerocopy::FromBytes;

fn missing(change: impl FnOnce(&mut CapabilityBits)) -> Option<VirtMissing> {
    let mut c = tcg();
    change(&mut c);
    negotiate(&c).err()
}

#[test]
fn tcg_runs_guests_with_nothing_optional() {
    let c = poor();
    assert!(!c.nrips && !c.decode_assists && !c.flush_by_asid && c.vmcb_clean == 0);
    assert_eq!((c.asids, c.xcr0_supported), (16, 1));
}

#[test]
fn each_optional_feature_is_used_alone() {
    let with = |edx: u32| negotiate(&CapabilityBits { edx: 1 | edx, ..tcg() }).expect("optional");
    let plain = poor();
    assert_eq!(with(1 << 3), svm::Controls { nrips: true, ..plain });
    assert_eq!(with(1 << 5), svm::Controls { vmcb_clean: svm::spec::clean::ALL, ..plain });
    assert_eq!(with(1 << 6), svm::Controls { flush_by_asid: true, ..plain });
    assert_eq!(with(1 << 7), svm::Controls { decode_assists: true, ..plain });
    // VGIF, LBRV, PauseFilter, AVIC, ...: of no use.
    assert_eq!(with(!0xe9), plain);
    let c = rich();
    assert!(c.nrips && c.decode_assists && c.flush_by_asid && c.vmcb_clean != 0);
    assert_eq!((Intercepts { cr_write: 0, ..c.required }, c.asids), (plain.required, 0x8000));
}

#[test]
fn what_is_turned_off_is_as_if_the_cpu_lacked_it() {
    let all = CapabilityBits { edx: !0, ..tcg() };
    let with = |off| negotiate(&all.without(off)).expect("optional");
    let each = Switches::NRIPS | Switches::DECODE_ASSISTS | Switches::FLUSH_BY_ASID | Switches::CLEAN_BITS;
    assert_eq!((with(Switches::empty()), poor().in_use()), (negotiate(&all).unwrap(), Switches::empty()));
    for one in each {
        assert_eq!(with(one).in_use(), each - one);
        assert_eq!(with(each - one).in_use(), one);
    }
    assert_eq!(with(each), poor());
    assert_eq!(with(Switches::all() - each), with(Switches::empty()));
}

#[test]
fn writes_to_cr4_exit_where_it_has_bits_that_must_not_be_in_force() {
    let cr_write = |leaf7| negotiate(&CapabilityBits { leaf7, ..tcg() }).expect("optional").required.cr_write;
    for (what, leaf7) in [
        ("PKU", [1 << 3, 0, 0]),
        ("CET_SS", [1 << 7, 0, 0]),
        ("PKS", [1 << 31, 0, 0]),
        ("UINTR", [0, 1 << 5, 0]),
        ("CET_IBT", [0, 1 << 20, 0]),
        ("LASS", [0, 0, 1 << 6]),
        ("FRED", [0, 0, 1 << 17]),
        ("LAM", [0, 0, 1 << 26]),
    ] {
        assert_eq!(cr_write(leaf7), 1 << 4, "{what}");
    }
    assert_eq!(cr_write([!(1 << 3 | 1 << 7 | 1 << 31), !(1 << 5 | 1 << 20), !(1 << 6 | 1 << 17 | 1 << 26)]), 0);
}

#[test]
fn a_vmm_cannot_put_them_in_force_either() {
    let c = rich();
    let (mut vmcb, mut regs) = vcpu(&c);
    let u = ArchState { cr4: virt::CR4_NOT_SWITCHED | 0x20, ..ArchState::default() };
    load(Mtd::CR, &u, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.save.cr4, 0x20);
}

#[test]
fn a_cpu_without_svm_lacks_nothing_else() {
    assert_eq!(negotiate(&CapabilityBits::default()), Err(VirtMissing::CPU));
    assert_eq!(negotiate(&CapabilityBits { cpuid_svm: false, ..zen() }), Err(VirtMissing::CPU));
}

#[test]
fn the_firmware_may_switch_svm_off() {
    assert_eq!(missing(|c| c.vm_cr = 1 << 4 | 1 << 3), Some(VirtMissing::LOCKED));
    assert_eq!(missing(|c| c.vm_cr = 1 << 4), Some(VirtMissing::LOCKED), "the kernel could not clear it");
    assert_eq!(missing(|c| c.vm_cr = 1 << 3), None, "locked on");
}

#[test]
fn nested_paging_and_a_second_asid_are_required() {
    assert_eq!(missing(|c| c.edx = !1), Some(VirtMissing::NESTED_PAGING), "qemu64");
    assert_eq!(missing(|c| c.ebx = 0), Some(VirtMissing::TLB_TAGS));
    assert_eq!(missing(|c| c.ebx = 1), Some(VirtMissing::TLB_TAGS));
    assert_eq!(missing(|c| c.ebx = 2), None);
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let all = negotiate(&CapabilityBits { cpuid_svm: true, vm_cr: 1 << 4, ..CapabilityBits::default() });
    assert_eq!(all, Err(VirtMissing::LOCKED | VirtMissing::NESTED_PAGING | VirtMissing::TLB_TAGS));
}

/// Intercepts after a reply with CTRL.
fn intercepts(change: impl FnOnce(&mut ArchState)) -> Intercepts {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let mut u = ArchState::default();
    change(&mut u);
    load(Mtd::CTRL, &u, &mut vmcb, &mut regs, &c);
    vmcb.control.intercepts
}

#[test]
fn the_required_intercepts_are_these() {
    let have = intercepts(|_| ());
    let misc1 = [0, 1, 3, 15, 18, 22, 24, 26, 27, 28, 31].iter().fold(0, |all, bit| all | 1 << bit);
    let misc2 = [0, 1, 2, 3, 4, 5, 6, 9, 10, 11, 13].iter().fold(0, |all, bit| all | 1 << bit);
    assert_eq!(have, Intercepts { exceptions: 1 << 18, misc1, misc2, ..Intercepts::NONE });
}

#[test]
fn each_choice_adds_its_intercepts_and_no_others() {
    let none = Intercepts::NONE;
    for (word, bit, want) in [
        (0, 9, Intercepts { misc1: misc1::INVLPG, ..none }),
        (0, 12, Intercepts { misc1: misc1::RDTSC, misc2: misc2::RDTSCP, ..none }),
        (0, 15, Intercepts { cr_write: 1 << 3, ..none }),
        (0, 16, Intercepts { cr_read: 1 << 3, ..none }),
        (0, 19, Intercepts { cr_write: 1 << 8, ..none }),
        (0, 20, Intercepts { cr_read: 1 << 8, ..none }),
        (0, 23, Intercepts { dr_read: 0xffff, dr_write: 0xffff, ..none }),
        (0, 30, Intercepts { misc1: misc1::PAUSE, ..none }),
        (1, 2, Intercepts { misc1: 0x3fc0, ..none }),
        // Required, windows, without counterpart.
        (0, 7, none),
        (0, 2, none),
        (0, 22, none),
        (0, 27, none),
        (1, 11, none),
    ] {
        assert_eq!(intercepts(|u| u.ctrl[word] = 1 << bit), poor().required.union(want), "{word} {bit}");
    }
}

#[test]
fn owned_bits_of_cr0_and_cr4_make_writes_exit() {
    let none = Intercepts::NONE;
    for (cr0, cr4, want) in [
        (0, 0, none),
        (1 << 31, 0, Intercepts { misc1: misc1::CR0_SEL_WRITE, ..none }),
        (1 << 3, 0, Intercepts { cr_write: 1, ..none }),
        (1 << 31 | 1 << 1, 0, Intercepts { cr_write: 1, ..none }),
        (0, 1 << 7, Intercepts { cr_write: 1 << 4, ..none }),
        (1, 1, Intercepts { cr_write: 1 << 4, misc1: misc1::CR0_SEL_WRITE, ..none }),
    ] {
        let have = intercepts(|u| (u.intcpt_cr0, u.intcpt_cr4) = (cr0, cr4));
        assert_eq!(have, poor().required.union(want), "{cr0:#x} {cr4:#x}");
    }
}

#[test]
fn page_faults_exit_if_some_of_them_should() {
    const PF: u32 = 1 << 14;
    for (bitmap, mask, matching, want) in [
        (0, 0, 0, 0),
        (PF, 0, 0, PF),
        (1 << 13 | 1 << 3, 0, 0, 1 << 13 | 1 << 3),
        // No code equals.
        (0, 0, u32::MAX, PF),
        (PF, 0, u32::MAX, 0),
        // Some do.
        (0, 1, 1, PF),
        (PF, 1, 1, PF),
        (PF, 1, 0, PF),
    ] {
        let have = intercepts(|u| (u.intcpt_exc, u.pfe_mask, u.pfe_match) = (bitmap, mask, matching));
        assert_eq!(have.exceptions, want | 1 << 18, "{bitmap:#x} {mask:#x} {matching:#x}");
    }
}

proptest! {
    #[test]
    fn no_reply_drops_a_required_intercept(bytes: [u8; size_of::<ArchState>()], mtd: u32) {
        for c in [poor(), rich()] {
            let u = ArchState::read_from_bytes(&bytes).expect("the right size");
            let (mut vmcb, mut regs) = vcpu(&c);
            load(Mtd::from_bits_truncate(mtd), &u, &mut vmcb, &mut regs, &c);
            prop_assert!(vmcb.control.intercepts.contains(c.required));
        }
    }
}

#[test]
fn controls_and_windows_do_not_disturb_each_other() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let mut u = ArchState { inj_info: ArchState::INJ_IRQ_WINDOW, intr_state: 8, ..ArchState::default() };
    load(Mtd::INJ | Mtd::STA, &u, &mut vmcb, &mut regs, &c);
    u.ctrl[0] = 1 << 12;
    load(Mtd::CTRL, &u, &mut vmcb, &mut regs, &c);
    let want = c.required.misc1 | misc1::RDTSC | misc1::VINTR | misc1::IRET;
    assert_eq!(vmcb.control.intercepts.misc1, want);
    u = ArchState::default();
    load(Mtd::INJ | Mtd::STA, &u, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.control.intercepts.misc1, c.required.misc1 | misc1::RDTSC);
}
