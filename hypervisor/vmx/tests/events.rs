//! Events: exits, re-injection, injection and windows.

mod fake;

use abi::{ArchState, Mtd};
use fake::{controls, vcpu};
use virt::{Exit, HostExit};
use vmx::{Controls, Field, VmcsPort, control, decode_exit, guest, load, requeue, restore_nmi_blocking, ro, save};

const VALID: u64 = 1 << 31;
const ERROR: u64 = 1 << 11;
const EXTERNAL: u64 = 0 << 8;
const NMI: u64 = 2 << 8;
const EXCEPTION: u64 = 3 << 8;
const SOFT_INTERRUPT: u64 = 4 << 8;
const SOFT_EXCEPTION: u64 = 6 << 8;
const OTHER: u64 = 7 << 8;
const NMI_BLOCKED: u64 = 1 << 3;

fn must_not_be_read() -> u64 {
    panic!("interruption information costs a VMREAD and is not needed here")
}

#[test]
fn exits_of_the_host_stay_in_the_host() {
    let interrupt = decode_exit(1, || VALID | EXTERNAL | 0x31);
    assert_eq!(interrupt, Exit::Host(HostExit::ExternalInterrupt(0x31)));
    assert_eq!(decode_exit(0, || VALID | NMI | 2), Exit::Host(HostExit::Nmi));
    assert_eq!(decode_exit(0, || VALID | EXCEPTION | 18), Exit::Host(HostExit::MachineCheck));
    assert_eq!(decode_exit(52, must_not_be_read), Exit::Host(HostExit::Timer));
    assert_eq!(decode_exit(1 << 31 | 41, must_not_be_read), Exit::Host(HostExit::MachineCheck));
}

#[test]
fn exceptions_of_the_guest_go_to_its_vmm() {
    assert_eq!(decode_exit(0, || VALID | ERROR | EXCEPTION | 14), Exit::Portal(0));
    assert_eq!(decode_exit(0, || VALID | SOFT_EXCEPTION | 3), Exit::Portal(0));
    assert_eq!(decode_exit(0, || VALID | SOFT_EXCEPTION | 18), Exit::Portal(0), "INT 18 is no machine check");
}

#[test]
fn all_other_exits_are_events_of_their_basic_reason() {
    for basic in (2..abi::event::GST_ARCH).filter(|r| ![41, 52].contains(r)) {
        assert_eq!(decode_exit(basic, must_not_be_read), Exit::Portal(basic));
        // Enclave, pending MTF and VMX-root flags do not change the event; neither does a failed entry.
        assert_eq!(decode_exit(basic | 0xf << 27, must_not_be_read), Exit::Portal(basic));
        assert_eq!(decode_exit(basic | 1 << 31, must_not_be_read), Exit::Portal(basic));
    }
}

/// Runs `requeue` after an exit with these fields; returns the fields asked for.
fn requeued<const N: usize>(fields: &[(Field, u64)], wanted: [Field; N]) -> [u64; N] {
    let (mut vmcs, _) = vcpu(&controls());
    fields.iter().for_each(|(f, value)| vmcs.poke(*f, *value));
    requeue(&mut vmcs);
    wanted.map(|f| vmcs.read(f))
}

const ENTRY: [Field; 3] =
    [control::VMENTRY_INTERRUPTION_INFO_FIELD, control::VMENTRY_EXCEPTION_ERR_CODE, control::VMENTRY_INSTRUCTION_LEN];

#[test]
fn without_vectoring_nothing_is_injected() {
    let fields = [(ro::IDT_VECTORING_INFO, EXCEPTION | 14), (ro::IDT_VECTORING_ERR_CODE, 7)];
    assert_eq!(requeued(&fields, ENTRY), [0, 0, 0]);
}

#[test]
fn an_interrupted_delivery_is_repeated() {
    let fields = [
        (ro::IDT_VECTORING_INFO, VALID | ERROR | EXCEPTION | 14 | 1 << 12), // bit 12 is undefined
        (ro::IDT_VECTORING_ERR_CODE, 7),
        (ro::VMEXIT_INSTRUCTION_LEN, 9),
    ];
    assert_eq!(requeued(&fields, ENTRY), [VALID | ERROR | EXCEPTION | 14, 7, 0]);
    let fields = [(ro::IDT_VECTORING_INFO, VALID | EXTERNAL | 0x20), (ro::IDT_VECTORING_ERR_CODE, 7)];
    assert_eq!(requeued(&fields, ENTRY), [VALID | 0x20, 0, 0]);
}

#[test]
fn software_events_keep_their_instruction_length() {
    for kind in [4 << 8, 5 << 8, 6 << 8] {
        let fields = [(ro::IDT_VECTORING_INFO, VALID | kind | 0x80), (ro::VMEXIT_INSTRUCTION_LEN, 2)];
        assert_eq!(requeued(&fields, ENTRY), [VALID | kind | 0x80, 0, 2]);
    }
}

#[test]
fn a_repeated_nmi_finds_nmis_unblocked() {
    let state = [guest::INTERRUPTIBILITY_STATE];
    let blocked = (guest::INTERRUPTIBILITY_STATE, NMI_BLOCKED | 1);
    assert_eq!(requeued(&[blocked, (ro::IDT_VECTORING_INFO, VALID | NMI | 2)], state), [1]);
    assert_eq!(requeued(&[blocked, (ro::IDT_VECTORING_INFO, VALID | EXTERNAL | 2)], state), [NMI_BLOCKED | 1]);
}

#[test]
fn an_interrupted_iret_blocks_nmis_again() {
    const UNBLOCKED: u64 = 1 << 12;
    let info = ro::VMEXIT_INTERRUPTION_INFO;
    for (reason, f, value, vectoring, want) in [
        (0, info, VALID | EXCEPTION | 13 | UNBLOCKED, 0, NMI_BLOCKED),
        (0, info, VALID | EXCEPTION | 13, 0, 0),
        (0, info, VALID | EXCEPTION | 8 | UNBLOCKED, 0, 0), // double fault
        (0, info, VALID | EXCEPTION | 13 | UNBLOCKED, VALID | EXTERNAL | 0x20, 0),
        (48, ro::EXIT_QUALIFICATION, UNBLOCKED, 0, NMI_BLOCKED),
        (48, ro::EXIT_QUALIFICATION, 0, 0, 0),
        (30, ro::EXIT_QUALIFICATION, UNBLOCKED, 0, 0), // another meaning there
    ] {
        let (mut vmcs, _) = vcpu(&controls());
        vmcs.poke(f, value);
        vmcs.poke(ro::IDT_VECTORING_INFO, vectoring);
        restore_nmi_blocking(&mut vmcs, reason);
        assert_eq!(vmcs.read(guest::INTERRUPTIBILITY_STATE), want, "reason {reason}, {value:#x}");
    }
}

#[test]
fn the_vmm_sees_what_is_queued_and_what_was_interrupted() {
    let (mut vmcs, regs) = vcpu(&controls());
    vmcs.poke(ro::IDT_VECTORING_INFO, VALID | ERROR | EXCEPTION | 14);
    vmcs.poke(ro::IDT_VECTORING_ERR_CODE, 7);
    requeue(&mut vmcs);
    let mut u = ArchState { inst_len: 99, ..ArchState::default() };
    save(Mtd::INJ, &mut u, &vmcs, &regs, &());
    let word = (VALID | ERROR | EXCEPTION | 14) as u32;
    assert_eq!((u.inj_info, u.inj_error, u.vect_info, u.vect_error), (word, 7, word, 7));
    assert_eq!(u.inst_len, 99);
    // At the next exit hardware has cleared the valid bits.
    vmcs.poke(ro::IDT_VECTORING_INFO, ERROR | EXCEPTION | 14);
    vmcs.poke(control::VMENTRY_INTERRUPTION_INFO_FIELD, ERROR | EXCEPTION | 14);
    requeue(&mut vmcs);
    save(Mtd::INJ, &mut u, &vmcs, &regs, &());
    assert_eq!((u.inj_info, u.inj_error, u.vect_info, u.vect_error), (0, 0, 0, 0));
}

#[test]
fn sending_back_a_queued_software_event_keeps_its_length() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    vmcs.poke(ro::IDT_VECTORING_INFO, VALID | SOFT_INTERRUPT | 0x80);
    vmcs.poke(ro::VMEXIT_INSTRUCTION_LEN, 2);
    requeue(&mut vmcs);
    let mut u = ArchState { inst_len: 99, ..ArchState::default() };
    save(Mtd::INJ, &mut u, &vmcs, &regs, &());
    assert_eq!(u.inst_len, 2);
    load(Mtd::INJ, &u, &mut vmcs, &mut regs, &c);
    assert_eq!(ENTRY.map(|f| vmcs.read(f)), [VALID | SOFT_INTERRUPT | 0x80, 0, 2]);
}

/// Entry fields after a reply with this injection.
fn injected(c: &Controls, inj_info: u64, inj_error: u32, inst_len: u32) -> [u64; 3] {
    let (mut vmcs, mut regs) = vcpu(c);
    let u = ArchState { inj_info: inj_info as u32, inj_error, inst_len, ..ArchState::default() };
    load(Mtd::INJ, &u, &mut vmcs, &mut regs, c);
    ENTRY.map(|f| vmcs.read(f))
}

#[test]
fn a_reply_injects_with_error_code_and_length_where_they_belong() {
    let c = controls();
    assert_eq!(injected(&c, VALID | EXTERNAL | 0x30, 7, 3), [VALID | 0x30, 0, 0]);
    assert_eq!(injected(&c, VALID | ERROR | EXCEPTION | 13, 7, 3), [VALID | ERROR | EXCEPTION | 13, 7, 0]);
    assert_eq!(injected(&c, VALID | SOFT_EXCEPTION | 3, 7, 1), [VALID | SOFT_EXCEPTION | 3, 0, 1]);
    assert_eq!(injected(&c, EXCEPTION | ERROR | 13, 7, 3), [0, 0, 0], "not valid");
}

#[test]
fn only_defined_bits_are_injected() {
    let c = controls();
    assert_eq!(injected(&c, 0xffff_f000 | EXTERNAL | 0x30, 0, 0)[0], VALID | 0x30);
    assert_eq!(injected(&c, VALID | ERROR | EXCEPTION | 13, u32::MAX, 0)[1], 0xffff);
    assert_eq!(injected(&c, VALID | SOFT_INTERRUPT | 3, 0, u32::MAX)[2], 15);
    assert_eq!(injected(&c, VALID | 1 << 8 | 3, 0, 0)[0], 0, "type 1 is reserved");
}

#[test]
fn other_events_need_a_cpu_that_knows_them() {
    let c = controls();
    assert_eq!(injected(&c, VALID | OTHER, 0, 0)[0], 0);
    assert_eq!(injected(&Controls { inject_other: true, ..c }, VALID | OTHER, 0, 0)[0], VALID | OTHER);
}

#[test]
fn window_requests_become_controls_and_come_back() {
    let c = controls();
    let (mut vmcs, mut regs) = vcpu(&c);
    for (request, control) in [
        (ArchState::INJ_IRQ_WINDOW, 1 << 2),
        (ArchState::INJ_NMI_WINDOW, 1 << 22),
        (ArchState::INJ_IRQ_WINDOW | ArchState::INJ_NMI_WINDOW, 1 << 2 | 1 << 22),
        (0, 0),
    ] {
        let mut u = ArchState { inj_info: request, ..ArchState::default() };
        load(Mtd::INJ, &u, &mut vmcs, &mut regs, &c);
        assert_eq!(vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS), u64::from(c.proc1) | control);
        save(Mtd::INJ, &mut u, &vmcs, &regs, &());
        assert_eq!(u.inj_info, request);
    }
}

#[test]
fn an_exception_says_which_and_with_what_error_code() {
    let c = controls();
    let (mut vmcs, regs) = vcpu(&c);
    vmcs.poke(ro::VMEXIT_INTERRUPTION_ERR_CODE, 5);
    for (word, want) in [
        (VALID | ERROR | EXCEPTION | 14, ((VALID | ERROR | EXCEPTION | 14) as u32, 5)),
        (VALID | 1 << 12 | EXCEPTION | 6, ((VALID | EXCEPTION | 6) as u32, 0)),
        (VALID | SOFT_EXCEPTION | 3, ((VALID | SOFT_EXCEPTION | 3) as u32, 0)),
        (ERROR | EXCEPTION | 14, (0, 0)),
    ] {
        vmcs.poke(ro::VMEXIT_INTERRUPTION_INFO, word);
        let mut u = ArchState::default();
        save(Mtd::QUAL, &mut u, &vmcs, &regs, &());
        assert_eq!((u.exc_info, u.exc_error), want, "{word:#x}");
    }
}
