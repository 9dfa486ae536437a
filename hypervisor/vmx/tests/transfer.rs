//! State transfer: coverage of the table, identity of save after load, isolation of groups.

mod fake;

use abi::{ArchState, Mtd, Segment};
use fake::{Vmcs, controls, vcpu};
use proptest::prelude::*;
use virt::spec::{dr, interruptibility, rflags};
use virt::{VcpuRegs, info};
use vmx::control::PrimaryControls as Proc1;
use vmx::{Controls, VmcsPort, control, guest, load, ro, save};
use zerocopy::{FromBytes, IntoBytes};

/// Commands and spaces, which the kernel handles.
const KERNEL: Mtd = Mtd::POISON.union(Mtd::TLB).union(Mtd::SPACES).union(Mtd::APIC);
const WRITE_ONLY: Mtd = Mtd::CTRL.union(Mtd::TPR).union(KERNEL);

fn bits(mtd: Mtd) -> impl Iterator<Item = Mtd> {
    mtd.iter_names().map(|(_, bit)| bit)
}

/// Controls that let guests use AVX.
fn generous() -> Controls {
    Controls { xcr0_supported: 7, inject_other: true, ..controls() }
}

/// Forces random state into what hardware could hold, so that it comes back as it went.
fn legal(mut u: ArchState) -> ArchState {
    let clean = |s: Segment| Segment { ar: s.ar & 0x1fff, ..s };
    for s in [&mut u.cs, &mut u.ss, &mut u.ds, &mut u.es, &mut u.fs, &mut u.gs, &mut u.tr, &mut u.ldtr] {
        *s = clean(*s);
    }
    u.rflags = rflags::clean(u.rflags);
    u.dr7 = dr::clean_dr7(u.dr7);
    u.intr_state &= interruptibility::ALL;
    u.actv_state &= 1;
    u.cr8 &= 0xf;
    u.xcr0 = [1, 3, 7][(u.xcr0 % 3) as usize];
    u.xss = 0;
    u.efer &= 0x801; // long mode has tests of its own
    u.sysenter_cs &= 0xffff_ffff;
    u.inst_len &= 0xf;
    let windows = u.inj_info & (ArchState::INJ_IRQ_WINDOW | ArchState::INJ_NMI_WINDOW);
    let reserved_type = u.inj_info & info::TYPE == 1 << info::TYPE_SHIFT;
    let valid = u.inj_info & info::VALID != 0 && !reserved_type;
    u.inj_info = windows | if valid { u.inj_info & info::ALL } else { 0 };
    u.inj_error = if u.inj_info & info::ERROR != 0 { u.inj_error & 0xffff } else { 0 };
    u
}

fn state() -> impl Strategy<Value = ArchState> {
    proptest::collection::vec(any::<u8>(), size_of::<ArchState>())
        .prop_map(|bytes| legal(ArchState::read_from_bytes(&bytes).expect("the right size")))
}

/// Bytes of `u` that an event message with `mtd` carries and that a reply can change.
fn carried(mtd: Mtd, u: &ArchState) -> Vec<&[u8]> {
    let both = virt::items(mtd).filter(|i| i.access == virt::Access::RW);
    both.map(|i| {
        // Of descriptor tables only limit and base.
        let skip = if matches!(i.name, "gdtr" | "idtr") { 4 } else { 0 };
        &u.as_bytes()[i.offset + skip..i.offset + i.width]
    })
    .collect()
}

/// Everything that can be saved.
fn snapshot(mtd: Mtd, vmcs: &Vmcs, regs: &VcpuRegs) -> ArchState {
    let mut u = ArchState::default();
    save(mtd, &mut u, vmcs, regs, &());
    u
}

proptest! {
    #[test]
    fn what_a_reply_sets_the_next_event_shows(u in state(), v in state()) {
        let c = generous();
        for bit in bits(Mtd::all() - WRITE_ONLY) {
            let (mut vmcs, mut regs) = vcpu(&c);
            load(Mtd::all(), &v, &mut vmcs, &mut regs, &c);
            load(bit, &u, &mut vmcs, &mut regs, &c);
            let back = snapshot(bit, &vmcs, &regs);
            prop_assert_eq!(carried(bit, &back), carried(bit, &u), "{:?}", bit);
        }
    }

    #[test]
    fn a_group_leaves_all_others_alone(u in state(), v in state()) {
        let c = generous();
        for bit in bits(Mtd::all()) {
            let (mut vmcs, mut regs) = vcpu(&c);
            load(Mtd::all(), &v, &mut vmcs, &mut regs, &c);
            let others = Mtd::all() - bit - Mtd::RIP;
            let before = snapshot(others, &vmcs, &regs);
            load(bit, &u, &mut vmcs, &mut regs, &c);
            prop_assert_eq!(snapshot(others, &vmcs, &regs), before, "{:?}", bit);
        }
    }

    #[test]
    fn an_event_writes_only_what_its_descriptor_names(u in state(), v in state(), mtd: u32) {
        let c = generous();
        let mtd = Mtd::from_bits_truncate(mtd);
        let (mut vmcs, mut regs) = vcpu(&c);
        load(Mtd::all(), &v, &mut vmcs, &mut regs, &c);
        let mut after = u;
        save(mtd, &mut after, &vmcs, &regs, &());
        let mut owned = [false; size_of::<ArchState>()];
        for i in virt::items(mtd).filter(|i| i.access.reads()) {
            owned[i.offset..][..i.width].fill(true);
        }
        // INJ brings the length of an instruction whose event is queued.
        let soft = mtd.contains(Mtd::INJ);
        let length = std::mem::offset_of!(ArchState, inst_len);
        for (offset, (a, b)) in after.as_bytes().iter().zip(u.as_bytes()).enumerate() {
            let exempt = owned[offset] || soft && (length..length + 4).contains(&offset);
            prop_assert!(exempt || a == b, "offset {:#x}", offset);
        }
    }

    #[test]
    fn no_reply_can_harm_the_host(bytes in proptest::collection::vec(any::<u8>(), size_of::<ArchState>()), mtd: u32) {
        let c = controls();
        let u = ArchState::read_from_bytes(&bytes).expect("the right size");
        let (mut vmcs, mut regs) = vcpu(&c);
        let before = vmcs.clone();
        load(Mtd::from_bits_truncate(mtd), &u, &mut vmcs, &mut regs, &c);
        for f in vmcs.changed_since(&before) {
            // Neither host state nor addresses nor counts of control structures.
            let (kind, width) = (f >> 10 & 3, f >> 13 & 3);
            prop_assert_ne!(kind, 3, "{:x?} is host state", f);
            prop_assert!(!(kind == 0 && width <= 1), "{:x?} is an address", f);
        }
        let bit = |f, mask: u32| vmcs.read(f) & u64::from(mask) == u64::from(mask);
        prop_assert!(bit(control::PINBASED_EXEC_CONTROLS, c.pin));
        prop_assert!(bit(control::PRIMARY_PROCBASED_EXEC_CONTROLS, c.proc1));
        prop_assert!(bit(control::SECONDARY_PROCBASED_EXEC_CONTROLS, c.proc2));
        prop_assert!(bit(control::EXCEPTION_BITMAP, 1 << 18));
        prop_assert!(vmcs.read(control::CR0_GUEST_HOST_MASK) & c.cr0_owned == c.cr0_owned);
        prop_assert!(vmcs.read(control::CR4_GUEST_HOST_MASK) & c.cr4_fixed == c.cr4_fixed);
        prop_assert!(vmcs.read(guest::CR0) & c.cr0_fixed == c.cr0_fixed);
        prop_assert!(vmcs.read(guest::CR4) & c.cr4_fixed == c.cr4_fixed);
        prop_assert!(vmcs.read(guest::ACTIVITY_STATE) <= 1);
        prop_assert_eq!(regs.xcr0, 1);
        prop_assert!(regs.cr8 <= 0xf);
    }
}

#[test]
fn rsp_travels_through_the_vmcs() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let mut u = ArchState { gpr: std::array::from_fn(|i| i as u64 + 1), ..ArchState::default() };
    load(Mtd::GPR_0_7, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(vmcs.read(guest::RSP), 5);
    assert_eq!((regs.gpr[3], regs.gpr[5], regs.gpr[8]), (4, 6, 0));
    vmcs.poke(guest::RSP, 0x1000);
    save(Mtd::GPR_0_7, &mut u, &vmcs, &regs, &());
    assert_eq!((u.gpr[ArchState::RSP], u.gpr[ArchState::RBX]), (0x1000, 4));
}

#[test]
fn read_only_state_arrives_from_the_exit_fields() {
    let (mut vmcs, regs) = vcpu(&controls());
    for (f, value) in [
        (ro::EXIT_QUALIFICATION, 1),
        (ro::GUEST_LINEAR_ADDR, 2),
        (ro::GUEST_PHYSICAL_ADDR_FULL, 3),
        (ro::VMEXIT_INSTRUCTION_LEN, 4),
        (ro::VMEXIT_INSTRUCTION_INFO, 5),
    ] {
        vmcs.poke(f, value);
    }
    let u = snapshot(Mtd::QUAL | Mtd::RIP, &vmcs, &regs);
    assert_eq!((u.qual, u.inst_len, u.inst_info), ([1, 2, 3], 4, 5));
}

#[test]
fn segments_change_their_layout_on_the_way() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let cs = Segment { sel: 0x10, ar: 0xa9b, limit: u32::MAX, base: 7 };
    let ldtr = Segment { ar: 0x1000, ..Segment::default() };
    let u = ArchState { cs, ldtr, ..ArchState::default() };
    load(Mtd::CS_SS | Mtd::LDTR, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(vmcs.read(guest::CS_ACCESS_RIGHTS), 0xa09b);
    assert_eq!(vmcs.read(guest::CS_SELECTOR), 0x10);
    assert_eq!(vmcs.read(guest::CS_LIMIT), 0xffff_ffff);
    assert_eq!(vmcs.read(guest::CS_BASE), 7);
    assert_eq!(vmcs.read(guest::LDTR_ACCESS_RIGHTS), 0x1_0000);
}

#[test]
fn msrs_without_fields_go_to_the_switched_area() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let u = ArchState { star: 1, lstar: 2, fmask: 3, kernel_gs_base: 4, tsc_aux: 5, ..ArchState::default() };
    let before = vmcs.clone();
    load(Mtd::SYSCALL | Mtd::KERNEL_GS | Mtd::TSC, &u, &mut vmcs, &mut regs, &c);
    let m = regs.msrs;
    assert_eq!([m.star, m.lstar, m.fmask, m.kernel_gs_base, m.tsc_aux].map(|e| e.value), [1, 2, 3, 4, 5]);
    assert_eq!(vmcs, before);
}

#[test]
fn groups_of_the_kernel_move_nothing() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let before = (vmcs.clone(), regs);
    let u = ArchState::read_from_bytes(&[0xff; size_of::<ArchState>()]).expect("the right size");
    load(KERNEL, &u, &mut vmcs, &mut regs, &c);
    assert_eq!((vmcs, regs), before);
}

#[test]
fn states_that_would_keep_the_host_out_become_active() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    for (wanted, hlt_exists, want) in
        [(0, true, 0), (1, true, 1), (2, true, 0), (3, true, 0), (9, true, 0), (1, false, 0)]
    {
        let c = Controls { activity_hlt: hlt_exists, ..c };
        load(Mtd::STA, &ArchState { actv_state: wanted, ..ArchState::default() }, &mut vmcs, &mut regs, &c);
        assert_eq!(vmcs.read(guest::ACTIVITY_STATE), want, "{wanted}");
    }
}

#[test]
fn required_controls_cannot_be_dropped_and_choices_can_be_made() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let mut u = ArchState::default();
    load(Mtd::CTRL, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS), u64::from(c.proc1));
    assert_eq!(vmcs.read(control::SECONDARY_PROCBASED_EXEC_CONTROLS), u64::from(c.proc2));
    assert_eq!(vmcs.read(control::EXCEPTION_BITMAP), 1 << 18 | 1 << 17 | 1 << 1);
    u.ctrl = [u32::MAX; 2];
    u.intcpt_exc = 1 << 14;
    (u.pfe_mask, u.pfe_match) = (5, 4);
    load(Mtd::CTRL, &u, &mut vmcs, &mut regs, &c);
    let (p1, p2) =
        (vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS), vmcs.read(control::SECONDARY_PROCBASED_EXEC_CONTROLS));
    assert_eq!(p1, u64::from(c.proc1 | c.proc1_choice));
    assert_eq!(p2, u64::from(c.proc2 | c.proc2_choice));
    assert_eq!(vmcs.read(control::EXCEPTION_BITMAP), 1 << 18 | 1 << 17 | 1 << 1 | 1 << 14);
    let page_faults = (control::PAGE_FAULT_ERR_CODE_MASK, control::PAGE_FAULT_ERR_CODE_MATCH);
    assert_eq!((vmcs.read(page_faults.0), vmcs.read(page_faults.1)), (5, 4));
    // Nothing that needs an address in the VMCS, or takes the timer and interrupts from the host.
    assert_eq!(c.proc1_choice & (1 << 17 | 1 << 21 | 1 << 3), 0);
    assert_eq!(c.proc2_choice & (1 << 0 | 1 << 8 | 1 << 9 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 18 | 1 << 20), 0);
    // All choices are possible on this CPU.
    assert_eq!(p1 as u32 & !(fake::haswell().proc1 >> 32) as u32, 0);
    assert_eq!(p2 as u32 & !(fake::haswell().proc2 >> 32) as u32, 0);
}

#[test]
fn controls_and_windows_do_not_disturb_each_other() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let mut u = ArchState { inj_info: ArchState::INJ_IRQ_WINDOW, ..ArchState::default() };
    load(Mtd::INJ, &u, &mut vmcs, &mut regs, &c);
    u.ctrl[0] = Proc1::RDTSC_EXITING.bits() | Proc1::NMI_WINDOW_EXITING.bits();
    load(Mtd::CTRL, &u, &mut vmcs, &mut regs, &c);
    let want = c.proc1 | Proc1::RDTSC_EXITING.bits() | Proc1::INTERRUPT_WINDOW_EXITING.bits();
    assert_eq!(vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS), u64::from(want));
    u.inj_info = 0;
    load(Mtd::INJ, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS), u64::from(c.proc1 | Proc1::RDTSC_EXITING.bits()));
}

#[test]
fn the_tpr_threshold_is_four_bits_and_needs_a_tpr_shadow() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    let u = ArchState { tpr_threshold: 0x1234_5678, ..ArchState::default() };
    load(Mtd::TPR, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(vmcs.read(control::TPR_THRESHOLD), 8);
    let without = Controls { tpr_shadow: false, ..c };
    let (mut vmcs, mut regs) = vcpu(&without);
    load(Mtd::TPR, &u, &mut vmcs, &mut regs, &without);
    assert!(!vmcs.0.contains_key(&control::TPR_THRESHOLD) && !vmcs.0.contains_key(&control::VIRT_APIC_ADDR_FULL));
}

#[test]
fn xcr0_and_xss_stay_within_what_the_host_switches() {
    let c = generous();
    let (mut vmcs, mut regs) = vcpu(&c);
    let u = ArchState { xcr0: 7, xss: u64::MAX, ..ArchState::default() };
    load(Mtd::XSAVE, &u, &mut vmcs, &mut regs, &c);
    assert_eq!((regs.xcr0, snapshot(Mtd::XSAVE, &vmcs, &regs).xss), (7, 0));
    load(Mtd::XSAVE, &ArchState { xcr0: 5, ..u }, &mut vmcs, &mut regs, &c);
    assert_eq!(regs.xcr0, 7, "AVX without SSE is refused");
}
