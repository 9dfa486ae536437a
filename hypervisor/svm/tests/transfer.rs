//! State transfer: coverage of the table, identity of save after load, isolation of groups, clean bits.

mod fake;

use abi::{ArchState, Mtd, Segment};
use fake::{poor, rich, vcpu};
use proptest::prelude::*;
use svm::{Controls, Vmcb, load, save, spec};
use virt::spec::{dr, interruptibility, rflags};
use virt::{VcpuRegs, info};
use zerocopy::{FromBytes, IntoBytes};

/// Commands and spaces, which the kernel handles.
const KERNEL: Mtd = Mtd::POISON.union(Mtd::TLB).union(Mtd::SPACES).union(Mtd::APIC);
const WRITE_ONLY: Mtd = Mtd::CTRL.union(Mtd::TPR).union(KERNEL);

fn bits(mtd: Mtd) -> impl Iterator<Item = Mtd> {
    mtd.iter_names().map(|(_, bit)| bit)
}

/// CPUs with and without what is optional, whose guests may use AVX.
fn generous() -> [Controls; 2] {
    [poor(), rich()].map(|c| Controls { xcr0_supported: 7, ..c })
}

/// Forces random state into what a vCPU can hold, so that it comes back as it went.
fn legal(mut u: ArchState) -> ArchState {
    // What is not present is unusable.
    let clean = |s: Segment| Segment { ar: s.ar & 0xfff | u16::from(s.ar & 0x80 == 0) << 12, ..s };
    for s in [&mut u.cs, &mut u.ss, &mut u.ds, &mut u.es, &mut u.fs, &mut u.gs, &mut u.tr, &mut u.ldtr] {
        *s = clean(*s);
    }
    u.rflags = rflags::clean(u.rflags);
    u.dr7 = dr::clean_dr7(u.dr7);
    u.intr_state &= interruptibility::STI | interruptibility::NMI;
    u.actv_state = 0;
    u.pdpte = [0; 4];
    u.cr8 &= 0xf;
    u.xcr0 = [1, 3, 7][(u.xcr0 % 3) as usize];
    u.xss = 0;
    u.cr4 &= !virt::CR4_NOT_SWITCHED;
    u.efer &= 0xc801; // long mode has tests of its own
    let windows = u.inj_info & (ArchState::INJ_IRQ_WINDOW | ArchState::INJ_NMI_WINDOW);
    // Reserved, and "other".
    let no_such_type = matches!((u.inj_info & info::TYPE) >> info::TYPE_SHIFT, 1 | 7);
    let valid = u.inj_info & info::VALID != 0 && !no_such_type;
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
fn snapshot(mtd: Mtd, vmcb: &Vmcb, regs: &VcpuRegs, c: &Controls) -> ArchState {
    let mut u = ArchState::default();
    save(mtd, &mut u, vmcb, regs, c);
    u
}

proptest! {
    #[test]
    fn what_a_reply_sets_the_next_event_shows(u in state(), v in state()) {
        for c in generous() {
            for bit in bits(Mtd::all() - WRITE_ONLY) {
                let (mut vmcb, mut regs) = vcpu(&c);
                load(Mtd::all(), &v, &mut vmcb, &mut regs, &c);
                load(bit, &u, &mut vmcb, &mut regs, &c);
                let back = snapshot(bit, &vmcb, &regs, &c);
                prop_assert_eq!(carried(bit, &back), carried(bit, &u), "{:?}", bit);
            }
        }
    }

    #[test]
    fn a_group_leaves_all_others_alone(u in state(), v in state()) {
        for c in generous() {
            for bit in bits(Mtd::all()) {
                let (mut vmcb, mut regs) = vcpu(&c);
                load(Mtd::all(), &v, &mut vmcb, &mut regs, &c);
                // RIP carries the length that a queued software event is relative to, and INJ may move RIP.
                let others = Mtd::all() - bit - Mtd::RIP;
                let mut before = snapshot(others, &vmcb, &regs, &c);
                load(bit, &u, &mut vmcb, &mut regs, &c);
                let mut after = snapshot(others, &vmcb, &regs, &c);
                (before.inst_len, after.inst_len) = (0, 0);
                prop_assert_eq!(after, before, "{:?}", bit);
            }
        }
    }

    #[test]
    fn an_event_writes_only_what_its_descriptor_names(u in state(), v in state(), mtd: u32) {
        let c = generous()[0];
        let mtd = Mtd::from_bits_truncate(mtd);
        let (mut vmcb, mut regs) = vcpu(&c);
        load(Mtd::all(), &v, &mut vmcb, &mut regs, &c);
        let mut after = u;
        save(mtd, &mut after, &vmcb, &regs, &c);
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
        let c = poor();
        let u = ArchState::read_from_bytes(&bytes).expect("the right size");
        let (mut vmcb, mut regs) = vcpu(&c);
        let before = vmcb.control;
        load(Mtd::from_bits_truncate(mtd), &u, &mut vmcb, &mut regs, &c);
        let mut after = vmcb.control;
        prop_assert!(after.intercepts.contains(c.required));
        prop_assert_eq!(after.vintr & !0x1f_010f, 1 << 24, "masking on, no vector, no AVIC");
        prop_assert!(after.interrupt_shadow <= 1);
        prop_assert!(after.eventinj == 0 || after.eventinj as u32 & !0x8000_0fff == 0);
        // Nothing else of the control area changes: addresses, ASID, nested paging, TSC offset.
        after.intercepts = before.intercepts;
        after.vintr = before.vintr;
        after.interrupt_shadow = before.interrupt_shadow;
        after.eventinj = before.eventinj;
        after.nrip = before.nrip;
        after.vmcb_clean = before.vmcb_clean;
        after.software = before.software;
        prop_assert_eq!(after, before);
        prop_assert!(vmcb.save.efer & 1 << 12 != 0 && vmcb.save.efer & !0xdd01 == 0);
        prop_assert_eq!(u16::from(vmcb.save.cpl), vmcb.save.ss.attrib >> 5 & 3);
        prop_assert_eq!(regs.xcr0, 1);
    }

    #[test]
    fn whatever_changes_is_not_taken_from_the_cache(u in state(), v in state(), mtd: u32) {
        let c = generous()[1];
        let (mut vmcb, mut regs) = vcpu(&c);
        load(Mtd::all(), &v, &mut vmcb, &mut regs, &c);
        // As after an exit.
        vmcb.control.vmcb_clean = spec::clean::ALL;
        let before = vmcb;
        load(Mtd::from_bits_truncate(mtd), &u, &mut vmcb, &mut regs, &c);
        let (a, b) = (&before, &vmcb);
        for (bit, same) in [
            (0, a.control.intercepts == b.control.intercepts),
            (3, a.control.vintr == b.control.vintr),
            (4, a.save.g_pat == b.save.g_pat),
            (5, [a.save.cr0, a.save.cr3, a.save.cr4, a.save.efer] == [b.save.cr0, b.save.cr3, b.save.cr4, b.save.efer]),
            (6, a.save.dr7 == b.save.dr7),
            (7, [a.save.gdtr, a.save.idtr] == [b.save.gdtr, b.save.idtr]),
            (8, [a.save.cs, a.save.ss, a.save.ds, a.save.es] == [b.save.cs, b.save.ss, b.save.ds, b.save.es]),
            (8, a.save.cpl == b.save.cpl),
            (9, a.save.cr2 == b.save.cr2),
        ] {
            prop_assert!(same || b.control.vmcb_clean & 1 << bit == 0, "clean bit {}", bit);
        }
    }
}

#[test]
fn groups_that_change_nothing_cached_leave_the_cache_alone() {
    let c = rich();
    let (mut vmcb, mut regs) = vcpu(&c);
    svm::requeue(&mut vmcb, &c);
    let u = ArchState { rip: 1, rflags: 0x202, inj_info: 0x8000_0030, ..ArchState::default() };
    let frequent = Mtd::GPR_0_7 | Mtd::GPR_8_15 | Mtd::RIP | Mtd::RFLAGS | Mtd::STA | Mtd::INJ;
    let with_vmload = Mtd::FS_GS | Mtd::TR | Mtd::LDTR | Mtd::SYSCALL | Mtd::SYSENTER | Mtd::KERNEL_GS;
    load(frequent | with_vmload, &u, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.control.vmcb_clean, spec::clean::ALL);
    load(Mtd::CTRL, &u, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.control.vmcb_clean, spec::clean::ALL & !spec::clean::I);
    vmcb.control.vmcb_clean = spec::clean::ALL;
    load(Mtd::DR, &u, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.control.vmcb_clean, spec::clean::ALL & !spec::clean::DRX);
}

#[test]
fn rax_and_rsp_travel_through_the_vmcb() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let mut u = ArchState { gpr: std::array::from_fn(|i| i as u64 + 1), ..ArchState::default() };
    load(Mtd::GPR_0_7, &u, &mut vmcb, &mut regs, &c);
    assert_eq!((vmcb.save.rax, vmcb.save.rsp), (1, 5));
    assert_eq!((regs.gpr[3], regs.gpr[5], regs.gpr[8]), (4, 6, 0));
    (vmcb.save.rax, vmcb.save.rsp) = (0x2000, 0x1000);
    save(Mtd::GPR_0_7, &mut u, &vmcb, &regs, &c);
    assert_eq!((u.gpr[ArchState::RAX], u.gpr[ArchState::RSP], u.gpr[ArchState::RBX]), (0x2000, 0x1000, 4));
}

#[test]
fn msrs_go_where_vmload_takes_them() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let u = ArchState { star: 1, lstar: 2, fmask: 3, kernel_gs_base: 4, tsc_aux: 5, pat: 6, ..ArchState::default() };
    load(Mtd::SYSCALL | Mtd::KERNEL_GS | Mtd::TSC | Mtd::PAT, &u, &mut vmcb, &mut regs, &c);
    let s = &vmcb.save;
    assert_eq!((s.star, s.lstar, s.sfmask, s.kernel_gs_base, s.g_pat), (1, 2, 3, 4, 6));
    assert_eq!(
        {
            let m = regs.msrs;
            [m.star, m.lstar, m.fmask, m.kernel_gs_base, m.tsc_aux].map(|e| e.value)
        },
        [0, 0, 0, 0, 5]
    );
}

#[test]
fn the_privilege_level_and_the_dpl_of_ss_are_one() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let ss = Segment { sel: 0x1b, ar: 0xcf3, limit: u32::MAX, base: 0 };
    load(Mtd::CS_SS, &ArchState { ss, ..ArchState::default() }, &mut vmcb, &mut regs, &c);
    assert_eq!((vmcb.save.cpl, vmcb.save.ss.attrib), (3, 0xcf3));
    // A null SS of 64-bit mode has a privilege level too.
    let null = Segment { ar: 0x1060, ..Segment::default() };
    load(Mtd::CS_SS, &ArchState { ss: null, ..ArchState::default() }, &mut vmcb, &mut regs, &c);
    assert_eq!((vmcb.save.cpl, vmcb.save.ss.attrib), (3, 0x060));
    // SYSCALL left another DPL in the attributes.
    vmcb.save.cpl = 0;
    assert_eq!(snapshot(Mtd::CS_SS, &vmcb, &regs, &c).ss.ar, 0x1000);
}

#[test]
fn groups_of_the_kernel_move_nothing() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let before = (vmcb, regs);
    let u = ArchState::read_from_bytes(&[0xff; size_of::<ArchState>()]).expect("the right size");
    load(KERNEL | Mtd::PDPTE, &u, &mut vmcb, &mut regs, &c);
    assert!((vmcb, regs) == before);
}

#[test]
fn guests_do_not_see_svm_and_cannot_lose_it() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    load(Mtd::EFER, &ArchState { efer: u64::MAX, ..ArchState::default() }, &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.save.efer, 0xd901, "SCE, LME, NXE, SVME, FFXSR, TCE");
    assert_eq!(snapshot(Mtd::EFER, &vmcb, &regs, &c).efer, 0xc901);
    load(Mtd::EFER, &ArchState::default(), &mut vmcb, &mut regs, &c);
    assert_eq!(vmcb.save.efer, 1 << 12);
}

#[test]
fn long_mode_follows_efer_and_paging_in_either_order() {
    use virt::spec::{cr0, efer};
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let on = ArchState { cr0: cr0::PG | cr0::PE, efer: efer::LME | efer::LMA, ..ArchState::default() };
    for (mtd, u, active, why) in [
        (Mtd::EFER, on, false, "enabled, but paging is off"),
        (Mtd::CR, on, true, "enabled and paging"),
        (Mtd::CR, ArchState { cr0: cr0::PE, ..on }, false, "paging went off"),
        (Mtd::CR | Mtd::EFER, ArchState { efer: efer::LME, ..on }, true, "LMA need not be asked for"),
        (Mtd::EFER, ArchState { efer: efer::LMA, ..on }, false, "LMA alone is nothing"),
    ] {
        load(mtd, &u, &mut vmcb, &mut regs, &c);
        assert_eq!(vmcb.save.efer & efer::LMA != 0, active, "{why}");
    }
}

#[test]
fn control_registers_are_what_the_guest_reads() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    let u = ArchState { cr0: 0x8005_0013, cr2: 2, cr3: 3, cr4: 0x20, cr8: 0xfff5, ..ArchState::default() };
    load(Mtd::CR, &u, &mut vmcb, &mut regs, &c);
    let s = &vmcb.save;
    assert_eq!((s.cr0, s.cr2, s.cr3, s.cr4, vmcb.control.vintr), (0x8005_0013, 2, 3, 0x20, 1 << 24 | 5));
}

#[test]
fn xcr0_and_xss_stay_within_what_the_host_switches() {
    let c = generous()[0];
    let (mut vmcb, mut regs) = vcpu(&c);
    let u = ArchState { xcr0: 7, xss: u64::MAX, ..ArchState::default() };
    load(Mtd::XSAVE, &u, &mut vmcb, &mut regs, &c);
    assert_eq!((regs.xcr0, snapshot(Mtd::XSAVE, &vmcb, &regs, &c).xss), (7, 0));
    load(Mtd::XSAVE, &ArchState { xcr0: 5, ..u }, &mut vmcb, &mut regs, &c);
    assert_eq!(regs.xcr0, 7, "AVX without SSE is refused");
}

#[test]
fn any_shadow_is_the_shadow_and_there_is_no_activity_state() {
    let c = poor();
    let (mut vmcb, mut regs) = vcpu(&c);
    for (wanted, shadow, back) in [(0, 0, 0), (1, 1, 1), (2, 1, 1), (3, 1, 1), (4, 0, 0), (8, 0, 8), (10, 1, 9)] {
        let u = ArchState { intr_state: wanted, actv_state: 1, ..ArchState::default() };
        load(Mtd::STA, &u, &mut vmcb, &mut regs, &c);
        assert_eq!(vmcb.control.interrupt_shadow, shadow, "{wanted}");
        let s = snapshot(Mtd::STA, &vmcb, &regs, &c);
        assert_eq!((s.intr_state, s.actv_state), (back, 0), "{wanted}");
    }
}
