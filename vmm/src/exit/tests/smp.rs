//! Several vCPUs: start of the others, INIT, halting, reset of the machine.

use super::*;
use crate::dev::{IpiEvent, IpiKind};

const ICR: u64 = 0x830;

/// vCPU `by` sends an INIT or start-up IPI.
fn send(m: &mut Rig, by: usize, kind: IpiKind, targets: &[usize]) -> Action {
    m.m.board.effect = Some(Effect::Ipi(IpiEvent { kind, targets: set(targets) }));
    let action = m.handle_on(by, event(reason::WRMSR), &mut regs(0, ICR, 0), 0);
    m.m.board.effect = None;
    action
}

/// `n` vCPUs after their STARTUP events: the first runs, the others are blocked.
fn started(n: usize) -> Rig {
    let mut m = Rig::new(n);
    for vcpu in 0..n {
        let action = m.handle_on(vcpu, event(reason::STARTUP), &mut ArchState::default(), 5);
        assert_eq!(action, if vcpu == 0 { Action::Reply(vcpu::STARTUP) } else { Action::Wait });
    }
    m
}

/// A started machine whose vCPU 1 runs, too.
fn two_running(n: usize) -> Rig {
    let mut m = started(n);
    send(&mut m, 0, IpiKind::Startup(0x9a), &[1]);
    assert_eq!(m.m.kicks(), wake(&[1]));
    assert_eq!(m.vcpus[1].proceed(&mut m.m, &mut state(), 0), Action::Reply(vcpu::STARTUP));
    m
}

fn halt(m: &mut Rig, vcpu: usize, rflags: u64) -> Action {
    m.handle_on(vcpu, event(reason::HLT), &mut ArchState { rflags, ..state() }, 0)
}

#[test]
fn an_application_processor_starts_in_real_mode() {
    let mut m = started(3);
    assert_eq!(send(&mut m, 0, IpiKind::Init, &[1, 2]), Action::Reply(Mtd::RIP));
    assert_eq!(m.m.kicks(), NOBODY, "they wait already");
    assert_eq!(send(&mut m, 0, IpiKind::Startup(0x9a), &[2]), Action::Reply(Mtd::RIP));
    assert_eq!((m.m.kicks(), m.m.kicks()), (wake(&[2]), NOBODY));
    let mut s = ArchState { rip: 7, ..state() };
    assert_eq!(m.vcpus[2].proceed(&mut m.m, &mut s, 9), Action::Reply(vcpu::STARTUP));
    assert_eq!((s.cs.sel, s.cs.base, s.rip, s.cr0 & CR0_PE, s.rflags), (0x9a00, 0x9_a000, 0, 0, 2));
    assert_eq!((s.sel_gst, s.sel_pio, s.sel_msr, m.m.entered), (11, 12, 13, 5));
    // The second start-up IPI, which Linux sends to be safe, means nothing to it.
    send(&mut m, 0, IpiKind::Startup(0x55), &[2]);
    assert_eq!(m.m.kicks(), NOBODY);
}

#[test]
fn a_startup_ipi_that_comes_before_the_vcpus_first_event_counts() {
    let mut m = Rig::new(2);
    m.handle(event(reason::STARTUP), &mut ArchState::default(), 0);
    send(&mut m, 0, IpiKind::Startup(0x10), &[1]);
    assert_eq!(m.m.kicks(), recall(&[1]), "which its first event comes before");
    let mut s = ArchState::default();
    assert_eq!(m.handle_on(1, event(reason::STARTUP), &mut s, 0), Action::Reply(vcpu::STARTUP));
    assert_eq!(s.cs.base, 0x1_0000);
}

#[test]
fn init_stops_a_running_vcpu_and_keeps_its_msrs() {
    let mut m = two_running(2);
    let mut s = regs(7, msr::STAR.into(), 0);
    assert_eq!(
        m.handle_on(1, Event { number: reason::WRMSR, mtd: FULL }, &mut s, 0),
        Action::Reply(Mtd::RIP | Mtd::SYSCALL)
    );
    assert_eq!(m.handle_on(1, event(reason::WRMSR), &mut regs(6, 0x2ff, 0), 0), Action::Reply(Mtd::RIP));
    send(&mut m, 0, IpiKind::Init, &[1]);
    assert_eq!(m.m.kicks(), recall(&[1]));
    // An exit that needs no lock may come first; nothing is lost by that.
    let mut s = regs(0, 0, 0);
    assert!(matches!(m.handle_on(1, event(reason::CPUID), &mut s, 0), Action::Reply(_)));
    // One with devices does nothing any more.
    assert_eq!(m.handle_on(1, event(reason::IO), &mut io(0x3f8, 1, 0, 1), 0), Action::Wait);
    assert_eq!(m.m.board.io.len(), 2, "the two of vCPU 0");
    send(&mut m, 0, IpiKind::Startup(0x20), &[1]);
    assert_eq!(m.m.kicks(), wake(&[1]));
    let mut s = state();
    assert_eq!(m.vcpus[1].proceed(&mut m.m, &mut s, 0), Action::Reply(vcpu::INIT));
    assert!(!vcpu::INIT.intersects(Mtd::SYSCALL | Mtd::SPACES | Mtd::PAT | Mtd::XSAVE));
    assert_eq!(s.cs.base, 0x2_0000);
    let mut s = regs(0, 0x2ff, 0);
    m.handle_on(1, event(reason::RDMSR), &mut s, 0);
    assert_eq!(s.gpr[ArchState::RAX], 6, "MTRRs survive INIT");
    // The recall comes late and finds nothing to do.
    assert_eq!(m.handle_on(1, event(reason::RECALL), &mut state(), 0), Action::Reply(Mtd::empty()));
}

#[test]
fn init_and_startup_in_one_go_restart_a_running_vcpu() {
    let mut m = two_running(2);
    send(&mut m, 0, IpiKind::Init, &[1]);
    assert_eq!(m.m.kicks(), recall(&[1]));
    send(&mut m, 0, IpiKind::Startup(0x30), &[1]);
    assert_eq!(m.m.kicks(), NOBODY, "the recall is under way");
    let mut s = state();
    assert_eq!(m.handle_on(1, event(reason::RECALL), &mut s, 0), Action::Reply(vcpu::INIT));
    assert_eq!(s.cs.base, 0x3_0000);
}

#[test]
fn an_init_of_the_bootstrap_processor_is_a_reset() {
    let mut m = two_running(2);
    assert_eq!(send(&mut m, 1, IpiKind::Init, &[0]), Action::Stop(Stop::Reset));
    assert_eq!(send(&mut m, 1, IpiKind::Startup(1), &[0, 1]), Action::Reply(Mtd::RIP), "both run");
    assert_eq!(m.m.kicks(), NOBODY);
}

#[test]
fn an_interrupt_for_another_vcpu_wakes_or_recalls_it() {
    let mut m = two_running(3);
    assert_eq!(halt(&mut m, 1, 2 | RFLAGS_IF), Action::Wait);
    (m.m.board.others, m.m.board.woken) = ([Some(0xfd), Some(0xfd), None], set(&[1, 2]));
    assert_eq!(m.m.kicks(), wake(&[1]), "vCPU 2 was never started");
    let mut s = state();
    assert_eq!(m.vcpus[1].proceed(&mut m.m, &mut s, 0), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 0xfd);
    (m.m.board.others[0], m.m.board.woken) = (Some(0xfe), set(&[1]));
    assert_eq!(m.m.kicks(), recall(&[1]));
}

#[test]
fn an_exit_that_cannot_inject_leaves_the_interrupt_to_a_recall() {
    let mut m = machine();
    (m.m.board.deadline, m.m.board.raises) = (Some(500), Some(0xec));
    // What comes with RDMSR does not tell whether interrupts are on.
    m.m.board.advance(500);
    assert!(matches!(m.handle(event(reason::RDMSR), &mut regs(0, 0x802, 0), 500), Action::Reply(_)));
    assert_eq!(m.m.kicks(), recall(&[0]), "itself");
}

#[test]
fn halt_with_interrupts_off_ends_the_vm_only_if_nobody_runs() {
    let mut m = two_running(3);
    assert_eq!(halt(&mut m, 1, 2), Action::Wait, "a CPU that was taken offline");
    (m.m.board.others[0], m.m.board.woken) = (Some(0xfd), set(&[1]));
    assert_eq!(m.m.kicks(), NOBODY, "interrupts do not wake it");
    send(&mut m, 0, IpiKind::Init, &[1]);
    assert_eq!(m.m.kicks(), NOBODY);
    send(&mut m, 0, IpiKind::Startup(0x40), &[1]);
    assert_eq!(m.m.kicks(), wake(&[1]), "back online");
    m.m.board.others[0] = None;
    assert_eq!(m.vcpus[1].proceed(&mut m.m, &mut state(), 0), Action::Reply(vcpu::INIT));

    assert_eq!(halt(&mut m, 0, 2 | RFLAGS_IF), Action::Wait, "interrupts wake it");
    assert_eq!(halt(&mut m, 1, 2), Action::Wait);
    let mut m = two_running(3);
    assert_eq!(halt(&mut m, 0, 2), Action::Wait, "the other one runs");
    m.m.board.nmi = true;
    assert_eq!(halt(&mut m, 1, 2), Action::Wait, "an NMI will wake it");
    m.m.board.nmi = false;
    assert_eq!(halt(&mut m, 1, 2), Action::Stop(Stop::Halted));
}

#[test]
fn nmis_wake_what_interrupts_cannot() {
    let mut m = two_running(2);
    assert_eq!(halt(&mut m, 0, 2), Action::Wait);
    (m.m.board.nmi, m.m.board.woken) = (true, set(&[0]));
    assert_eq!(m.m.kicks(), wake(&[0]));
    let mut s = ArchState { rflags: 2, ..state() };
    assert_eq!(m.wake(&mut s, 0), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 2 << 8 | 2);
}

#[test]
fn a_blocked_nmi_keeps_no_interrupts_away() {
    let mut m = two_running(2);
    (m.m.board.nmi, m.m.board.woken) = (true, set(&[0]));
    assert_eq!(m.m.kicks(), recall(&[0]));
    let mut s = ArchState { intr_state: 8, ..state() };
    m.handle(event(reason::RECALL), &mut s, 0);
    assert_eq!(s.inj_info & VALID, 0, "NMIs are blocked");
    m.m.board.raise(0x30);
    assert_eq!(m.m.kicks(), recall(&[0]), "this one is not");
    m.handle(event(reason::RECALL), &mut s, 0);
    assert_eq!(s.inj_info & !inject::NMI_WINDOW, VALID | 0x30);

    (s.inj_info, s.intr_state) = (0, 8);
    assert_eq!(m.handle(event(reason::HLT), &mut s, 0), Action::Wait);
    m.m.board.raise(0x31);
    assert_eq!(m.m.kicks(), wake(&[0]));
    assert_eq!(m.wake(&mut s, 0), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(s.inj_info & !inject::NMI_WINDOW, VALID | 0x31);
}

#[test]
fn a_reset_stops_all_loads_once_and_starts_the_first() {
    let mut m = two_running(4);
    assert_eq!(halt(&mut m, 1, 2 | RFLAGS_IF), Action::Wait);
    send(&mut m, 0, IpiKind::Startup(0x50), &[2]);
    assert_eq!(m.m.kicks(), wake(&[2]));
    assert_eq!(m.vcpus[2].proceed(&mut m.m, &mut state(), 0), Action::Reply(vcpu::STARTUP));

    // vCPU 0 asks; 1 is halted, 2 runs, 3 was never started.
    m.m.begin_reset();
    assert_eq!(m.m.kicks(), recall(&[0, 2]));
    assert_eq!(m.vcpus[0].proceed(&mut m.m, &mut state(), 0), Action::Wait);
    send(&mut m, 2, IpiKind::Init, &[0, 1]);
    assert_eq!(m.m.board.io.len(), 2, "nothing is executed any more");
    let reload = m.vcpus[2].proceed(&mut m.m, &mut state(), 0);
    assert_eq!(reload, Action::Reload);
    m.m.board.woken = set(&[0, 1, 2, 3]);
    assert_eq!(m.m.kicks(), NOBODY, "all are held");

    m.m.reset(Fake::default(), Start::Long { rip: 0x20_0200, boot_params: 0x7000 });
    assert_eq!(m.m.kicks(), wake(&[0]));
    assert!(!m.m.is_dead());
    assert_eq!(m.vcpus[2].proceed(&mut m.m, &mut state(), 0), Action::Wait, "for its start-up IPI");
    let mut s = state();
    assert_eq!(m.wake(&mut s, 77), Action::Reply(vcpu::STARTUP));
    assert_eq!((s.rip, m.m.entered), (0x20_0200, 77));
    send(&mut m, 0, IpiKind::Startup(0x60), &[2]);
    assert_eq!(m.m.kicks(), wake(&[2]));
    assert_eq!(m.vcpus[2].proceed(&mut m.m, &mut state(), 0), Action::Reply(vcpu::STARTUP), "fresh");
}

#[test]
fn a_single_vcpu_resets_itself() {
    let mut m = machine();
    m.m.board.effect = Some(Effect::Reset);
    assert_eq!(m.handle(event(reason::IO), &mut io(0xcf9, 1, 0, 6), 0), Action::Stop(Stop::Reset));
    m.m.begin_reset();
    assert_eq!(m.m.kicks(), recall(&[0]));
    assert_eq!(m.wake(&mut state(), 0), Action::Reload);
    m.m.reset(Fake::default(), START);
    assert_eq!(m.m.kicks(), NOBODY, "it is awake");
    assert_eq!(m.wake(&mut state(), 0), Action::Reply(vcpu::STARTUP));
    assert_eq!(m.handle(event(reason::RECALL), &mut state(), 0), Action::Reply(Mtd::empty()));
}
