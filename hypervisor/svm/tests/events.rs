//! Events: re-injection, injection, windows, the TPR threshold, and blocking by NMI.

mod fake;

use abi::{ArchState, Mtd};
use fake::*;
use svm::spec::{misc1, vintr};
use svm::{Controls, Vmcb, decode_exit, load, requeue, save, track_nmi, window_due};
use virt::{Exit, VcpuRegs};

const IRQ_WINDOW: u32 = ArchState::INJ_IRQ_WINDOW;
const NMI_WINDOW: u32 = ArchState::INJ_NMI_WINDOW;
const VINTR: u64 = 0x64;
const IRET: u64 = 0x74;
const INTR: u64 = 0x60;
const NPF: u64 = 0x400;
const IF: u64 = 0x200;

/// A vCPU and the kernel's steps around an entry.
struct Vcpu {
    c: Controls,
    vmcb: Vmcb,
    regs: VcpuRegs,
}

impl Vcpu {
    fn new(c: Controls) -> Vcpu {
        let (mut vmcb, regs) = vcpu(&c);
        (vmcb.save.rip, vmcb.save.rflags) = (0x1000, 2 | IF);
        Vcpu { c, vmcb, regs }
    }

    /// A reply with INJ.
    fn inject(&mut self, inj_info: u32, inj_error: u32, inst_len: u32) {
        let u = ArchState { inj_info, inj_error, inst_len, ..ArchState::default() };
        load(Mtd::INJ, &u, &mut self.vmcb, &mut self.regs, &self.c);
    }

    fn set_intr_state(&mut self, intr_state: u32) {
        load(Mtd::STA, &ArchState { intr_state, ..ArchState::default() }, &mut self.vmcb, &mut self.regs, &self.c);
    }

    /// Runs until an exit at `rip`, and does what the kernel does then. True: the guest simply goes on.
    fn run(&mut self, code: u64, rip: u64, interrupted: u64) -> bool {
        let v = &mut self.vmcb;
        (v.control.exitcode, v.control.exitintinfo, v.save.rip) = (code, interrupted, rip);
        // Delivered, or in EXITINTINFO: the processor keeps neither valid bit nor next RIP.
        (v.control.eventinj, v.control.nrip) = (v.control.eventinj & !u64::from(VALID), 0);
        requeue(v, &self.c);
        track_nmi(v)
    }

    fn told(&self) -> ArchState {
        let mut u = ArchState { inst_len: 99, ..ArchState::default() };
        save(Mtd::INJ | Mtd::STA, &mut u, &self.vmcb, &self.regs, &self.c);
        u
    }

    fn queued(&self) -> u64 {
        self.vmcb.control.eventinj
    }

    fn intercepts(&self, bit: u32) -> bool {
        self.vmcb.control.intercepts.misc1 & bit != 0
    }

    /// The virtual interrupt, without CR8 and masking.
    fn virtual_interrupt(&self) -> u64 {
        self.vmcb.control.vintr & !(vintr::INTR_MASKING | vintr::TPR)
    }

    fn nmi_blocked(&self) -> bool {
        self.told().intr_state & 8 != 0
    }
}

fn both() -> [Vcpu; 2] {
    [Vcpu::new(poor()), Vcpu::new(rich())]
}

#[test]
fn without_vectoring_nothing_is_injected() {
    for mut v in both() {
        // Stale bits below an invalid one.
        assert!(!v.run(NPF, 0x1000, event(ERROR | EXCEPTION | 14, 7)));
        let u = v.told();
        assert_eq!((v.queued(), u.inj_info, u.inj_error, u.vect_info, u.vect_error), (0, 0, 0, 0, 0));
    }
}

#[test]
fn an_interrupted_delivery_is_repeated_and_shown() {
    for mut v in both() {
        for (info, error) in [
            (VALID | ERROR | EXCEPTION | 14, 7),
            (VALID | EXTERNAL | 0x20, 0),
            (VALID | NMI | 2, 0),
            (VALID | EXCEPTION | 1, 0),
        ] {
            v.run(NPF, 0x1000, event(info, error));
            assert_eq!(v.queued(), event(info, error), "{info:#x}");
            let u = v.told();
            assert_eq!((u.inj_info, u.inj_error, u.vect_info, u.vect_error), (info, error, info, error));
            assert_eq!(u.inst_len, 99);
        }
        v.run(INTR, 0x1000, 0);
        assert_eq!((v.queued(), v.told().inj_info), (0, 0), "delivered now");
    }
}

#[test]
fn reserved_bits_of_vectoring_are_not_injected() {
    let mut v = Vcpu::new(poor());
    v.run(NPF, 0x1000, event(0x7fff_f000 | VALID | EXTERNAL | 0x20, 0));
    assert_eq!(v.queued(), event(VALID | 0x20, 0));
}

#[test]
fn software_events_of_the_guest_are_executed_again() {
    for mut v in both() {
        for info in [SOFT_INTERRUPT | 0x80, EXCEPTION | 3, EXCEPTION | 4] {
            v.run(NPF, 0x1000, event(VALID | info, 0));
            let u = v.told();
            assert_eq!((v.queued(), u.inj_info, u.vect_info), (0, 0, VALID | info), "{info:#x}");
        }
        assert_eq!(v.vmcb.save.rip, 0x1000);
    }
}

#[test]
fn a_failed_entry_keeps_everything_for_the_vmm() {
    for mut v in both() {
        svm::flush(&mut v.vmcb, &v.c);
        let tlb = v.vmcb.control.tlb_control;
        v.inject(VALID | NMI | 2 | IRQ_WINDOW, 0, 0);
        v.vmcb.control.exitcode = u64::MAX;
        v.vmcb.control.exitintinfo = event(VALID | EXTERNAL | 0x55, 0);
        requeue(&mut v.vmcb, &v.c);
        assert!(!track_nmi(&mut v.vmcb));
        assert_eq!(v.queued(), event(VALID | NMI | 2, 0));
        assert_eq!(v.told().inj_info, VALID | NMI | 2 | IRQ_WINDOW);
        assert_eq!((v.vmcb.control.tlb_control, v.vmcb.control.vmcb_clean), (tlb, 0));
        assert!(!v.nmi_blocked());
    }
}

#[test]
fn clean_bits_are_set_only_where_they_exist() {
    for (mut v, clean) in both().into_iter().zip([0, 0x3ff]) {
        svm::flush(&mut v.vmcb, &v.c);
        v.run(INTR, 0x1000, 0);
        assert_eq!((v.vmcb.control.vmcb_clean, v.vmcb.control.tlb_control), (clean, 0));
    }
}

/// EVENTINJ and RIP after a reply with this injection.
fn injected(c: Controls, inj_info: u32, inj_error: u32, inst_len: u32) -> (u64, u64) {
    let mut v = Vcpu::new(c);
    v.inject(inj_info, inj_error, inst_len);
    (v.queued(), v.vmcb.save.rip)
}

#[test]
fn a_reply_injects_what_svm_has() {
    for c in [poor(), rich()] {
        for (info, error, want) in [
            (VALID | EXTERNAL | 0x30, 7, event(VALID | 0x30, 0)),
            (VALID | NMI | 2, 7, event(VALID | NMI | 2, 0)),
            (VALID | ERROR | EXCEPTION | 13, 7, event(VALID | ERROR | EXCEPTION | 13, 7)),
            (VALID | ERROR | EXCEPTION | 13, u32::MAX, event(VALID | ERROR | EXCEPTION | 13, 0xffff)),
            (VALID | 0x7fff_f000 | 0x30, 0, event(VALID | 0x30, 0)),
            (ERROR | EXCEPTION | 13, 7, 0),
            (VALID | 1 << 8 | 3, 0, 0), // reserved
            (VALID | 7 << 8, 0, 0),     // pending MTF
        ] {
            assert_eq!(injected(c, info, error, 3), (want, 0x1000), "{info:#x}");
        }
    }
}

#[test]
fn software_events_return_behind_their_instruction() {
    for (info, want, nrips_heeded) in [
        (SOFT_INTERRUPT | 0x80, SOFT_INTERRUPT | 0x80, true),
        (SOFT_EXCEPTION | 3, EXCEPTION | 3, true),
        (SOFT_EXCEPTION | 4, EXCEPTION | 4, true),
        (PRIVILEGED_EXCEPTION | 1, EXCEPTION | 1, false),
    ] {
        // Without NRIPS the return address is RIP.
        assert_eq!(injected(poor(), VALID | info, 0, 2), (event(VALID | want, 0), 0x1002));
        let mut v = Vcpu::new(rich());
        v.inject(VALID | info, 0, 2);
        assert_eq!(v.queued(), event(VALID | want, 0));
        assert_eq!(v.vmcb.control.nrip, 0x1002);
        assert_eq!(v.vmcb.save.rip, if nrips_heeded { 0x1000 } else { 0x1002 }, "{info:#x}");
    }
}

#[test]
fn a_hardware_breakpoint_exception_returns_to_rip() {
    let mut v = Vcpu::new(rich());
    v.vmcb.control.nrip = 0x7777;
    v.inject(VALID | EXCEPTION | 3, 0, 5);
    assert_eq!((v.vmcb.control.nrip, v.vmcb.save.rip), (0x1000, 0x1000));
}

#[test]
fn an_injected_software_event_keeps_its_return_address() {
    for mut v in both() {
        for (kind, seen) in [(SOFT_INTERRUPT | 0x80, SOFT_INTERRUPT | 0x80), (SOFT_EXCEPTION | 3, EXCEPTION | 3)] {
            v.vmcb.save.rip = 0x1000;
            v.inject(VALID | kind, 0, 2);
            let rip = v.vmcb.save.rip;
            for _ in 0..2 {
                v.run(NPF, rip, event(VALID | seen, 0));
                assert_eq!(v.queued(), event(VALID | seen, 0));
                assert_eq!(if v.c.nrips { v.vmcb.control.nrip } else { v.vmcb.save.rip }, 0x1002);
                let u = v.told();
                assert_eq!((u.inj_info, u.vect_info), (VALID | kind, VALID | seen));
                // A VMM that sends back what it got changes nothing.
                v.inject(u.inj_info, u.inj_error, u.inst_len);
                assert_eq!(v.vmcb.save.rip, rip);
            }
            // Delivered. Later the guest executes such an instruction itself.
            v.run(NPF, 0x2000, event(VALID | seen, 0));
            assert_eq!((v.queued(), v.told().inj_info), (0, 0));
        }
    }
}

#[test]
fn another_software_event_at_the_same_place_is_not_the_injected_one() {
    for mut v in both() {
        v.inject(VALID | SOFT_INTERRUPT | 0x80, 0, 2);
        let rip = v.vmcb.save.rip;
        v.run(NPF, rip, event(VALID | SOFT_INTERRUPT | 0x81, 0));
        assert_eq!((v.queued(), v.told().inj_info), (0, 0), "another vector");
        v.inject(VALID | EXTERNAL | 0x80, 0, 0);
        v.run(NPF, rip, event(VALID | SOFT_INTERRUPT | 0x80, 0));
        assert_eq!((v.queued(), v.told().inj_info), (0, 0), "the injected one was an interrupt");
    }
}

#[test]
fn an_interrupt_window_is_a_virtual_interrupt_above_every_priority() {
    let mut v = Vcpu::new(poor());
    v.inject(IRQ_WINDOW, 0, 0);
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | vintr::IGN_TPR);
    assert!(v.intercepts(misc1::VINTR));
    assert_eq!(v.told().inj_info, IRQ_WINDOW);
    assert!(!v.run(VINTR, 0x1000, 0));
    assert_eq!(decode_exit(&v.vmcb), Exit::Portal(7));
    // As on VMX the request stays until the VMM takes it back.
    assert_eq!(v.told().inj_info, IRQ_WINDOW);
    v.inject(VALID | 0x30, 0, 0);
    assert_eq!(v.virtual_interrupt(), 0);
    assert!(!v.intercepts(misc1::VINTR));
}

#[test]
fn a_tpr_threshold_is_a_virtual_interrupt_of_its_priority() {
    let mut v = Vcpu::new(poor());
    let threshold = |v: &mut Vcpu, tpr_threshold| {
        let u = ArchState { tpr_threshold, ..ArchState::default() };
        load(Mtd::TPR, &u, &mut v.vmcb, &mut v.regs, &v.c);
    };
    threshold(&mut v, 0x1234_5679);
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | 9 << 16);
    assert!(!v.run(VINTR, 0x1000, 0));
    assert_eq!(decode_exit(&v.vmcb), Exit::Portal(43));
    v.inject(IRQ_WINDOW, 0, 0);
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | vintr::IGN_TPR);
    assert_eq!(decode_exit(&v.vmcb), Exit::Portal(7), "a window is the stronger request");
    v.inject(0, 0, 0);
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | 9 << 16, "not forgotten");
    threshold(&mut v, 0);
    assert_eq!(v.virtual_interrupt(), 0);
    assert!(!v.intercepts(misc1::VINTR));
}

#[test]
fn an_open_nmi_window_is_due_at_once() {
    let mut v = Vcpu::new(poor());
    assert_eq!(window_due(&v.vmcb), None);
    v.inject(NMI_WINDOW, 0, 0);
    assert_eq!(window_due(&v.vmcb), Some(8));
    v.set_intr_state(1);
    assert_eq!(window_due(&v.vmcb), None, "shadow");
    v.set_intr_state(8);
    assert_eq!(window_due(&v.vmcb), None, "blocked");
    v.set_intr_state(0);
    v.inject(NMI_WINDOW | VALID | 0x30, 0, 0);
    assert_eq!(window_due(&v.vmcb), None, "an event goes first");
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | vintr::IGN_TPR, "the next moment with interrupts on ends the guest");
    assert!(!v.run(VINTR, 0x5000, 0));
    assert_eq!(decode_exit(&v.vmcb), Exit::Portal(8));
    assert_eq!(window_due(&v.vmcb), Some(8));
    v.inject(VALID | NMI | 2, 0, 0);
    assert_eq!((window_due(&v.vmcb), v.virtual_interrupt()), (None, 0));
}

#[test]
fn a_delivered_nmi_blocks_nmis_until_its_iret() {
    let mut v = Vcpu::new(poor());
    v.inject(VALID | NMI | 2, 0, 0);
    assert!(!v.nmi_blocked() && v.intercepts(misc1::IRET), "the handler may return before the next exit");
    v.run(NPF, 0x1000, event(VALID | NMI | 2, 0));
    assert!(!v.nmi_blocked() && v.intercepts(misc1::IRET), "not delivered yet");
    v.run(INTR, 0x8000, 0);
    assert!(v.nmi_blocked() && v.intercepts(misc1::IRET));
    assert!(v.run(IRET, 0x8010, 0), "the guest goes on");
    assert!(v.nmi_blocked() && !v.intercepts(misc1::IRET));
    assert_eq!(v.virtual_interrupt(), 0, "nobody waits");
    v.run(INTR, 0x1000, 0);
    assert!(!v.nmi_blocked() && !v.intercepts(misc1::IRET));
}

#[test]
fn a_handler_without_exits_is_followed_too() {
    let mut v = Vcpu::new(poor());
    v.inject(VALID | NMI | 2, 0, 0);
    assert!(v.run(IRET, 0x8010, 0));
    assert!(v.nmi_blocked() && !v.intercepts(misc1::IRET));
    v.run(INTR, 0x1000, 0);
    assert!(!v.nmi_blocked());
}

#[test]
fn an_iret_that_did_not_complete_is_intercepted_again() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    assert!(v.run(IRET, 0x8010, 0));
    assert!(!v.run(NPF, 0x8010, 0), "its stack is not mapped: the VMM's turn");
    assert!(v.nmi_blocked() && v.intercepts(misc1::IRET));
    assert!(v.run(IRET, 0x8010, 0));
    v.run(NPF, 0x1000, 0);
    assert!(!v.nmi_blocked());
}

#[test]
fn a_failed_entry_says_nothing_about_an_iret() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    assert!(v.run(IRET, 0x8010, 0));
    // Some emulators leave another RIP.
    assert!(!v.run(u64::MAX, 0xdead_0000, 0));
    assert!(v.nmi_blocked() && !v.intercepts(misc1::IRET));
    v.run(INTR, 0x8010, 0);
    assert!(v.nmi_blocked() && v.intercepts(misc1::IRET));
}

#[test]
fn a_repeated_nmi_finds_nmis_unblocked() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    v.run(NPF, 0x1000, event(VALID | NMI | 2, 0));
    assert!(!v.nmi_blocked() && v.intercepts(misc1::IRET));
    v.run(INTR, 0x1000, event(VALID | EXCEPTION | 6, 0));
    assert!(v.nmi_blocked(), "delivered, and its handler faulted");
}

#[test]
fn an_nmi_window_opens_after_the_iret() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    v.inject(NMI_WINDOW, 0, 0);
    assert_eq!(v.virtual_interrupt(), 0);
    v.vmcb.save.rflags = 2; // interrupts are off in the handler
    assert!(v.run(IRET, 0x8010, 0));
    assert_eq!(window_due(&v.vmcb), None);
    assert_eq!(v.virtual_interrupt(), vintr::IRQ | vintr::IGN_TPR);
    v.vmcb.save.rflags = 2 | IF;
    assert!(!v.run(VINTR, 0x1000, 0));
    assert_eq!((decode_exit(&v.vmcb), window_due(&v.vmcb)), (Exit::Portal(8), Some(8)));
}

#[test]
fn with_interrupts_on_the_iret_is_not_kept_from_running() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    v.inject(NMI_WINDOW, 0, 0);
    assert!(v.run(IRET, 0x8010, 0));
    assert_eq!(v.virtual_interrupt(), 0, "it would come before the IRET");
    // The next exit of any kind opens the window.
    assert!(!v.run(INTR, 0x1000, 0));
    assert_eq!(window_due(&v.vmcb), Some(8));
}

#[test]
fn an_event_before_the_iret_does_not_count_as_its_end() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    assert!(v.run(IRET, 0x8010, 0));
    v.inject(VALID | 0x30, 0, 0);
    assert!(v.intercepts(misc1::IRET));
    v.run(INTR, 0x9000, 0);
    assert!(v.nmi_blocked());
}

#[test]
fn virtual_interrupts_that_nobody_waits_for_are_no_events() {
    let mut v = Vcpu::new(poor());
    assert!(v.run(VINTR, 0x1000, 0));
    v.set_intr_state(8);
    v.inject(NMI_WINDOW, 0, 0);
    assert!(v.run(VINTR, 0x1000, 0), "NMIs are still blocked");
    assert!(!v.run(INTR, 0x1000, 0));
    assert!(v.run(IRET, 0x1000, 0));
}

#[test]
fn the_vmm_can_end_blocking() {
    let mut v = Vcpu::new(poor());
    v.set_intr_state(8);
    assert!(v.run(IRET, 0x8010, 0));
    v.set_intr_state(8);
    assert!(!v.intercepts(misc1::IRET), "telling what is known changes nothing");
    v.set_intr_state(0);
    assert!(!v.nmi_blocked() && !v.intercepts(misc1::IRET));
}
