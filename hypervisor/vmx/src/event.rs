//! Events: injection and window requests, re-injection, and what an exit means.

use crate::controls::WINDOWS;
use crate::spec::{BASIC_REASON, NMI_UNBLOCKING_DUE_TO_IRET};
use crate::{Controls, Field, VmcsPort, control, guest, ro};
use abi::ArchState;
use virt::spec::{interruptibility, reason, vector};
use virt::{Event, EventKind, Exit, HostExit, VcpuRegs, info};
use x86::vmx::vmcs::control::PrimaryControls as Proc1;

/// VM-entry instruction lengths are at most 15 bytes (27.2.1.3).
const INSTRUCTION_LENGTH: u32 = 0xf;
/// VM entry wants bits 31:16 of an error code clear (27.2.1.3).
const ERROR_CODE: u32 = 0xffff;

/// What a reason means. `int_info` reads the VM-exit interruption information, for exceptions and interrupts only.
///
/// A failed entry becomes the event of its basic reason, unless a machine check was the cause.
#[inline]
pub fn decode_exit(reason: u64, int_info: impl FnOnce() -> u64) -> Exit {
    match reason & BASIC_REASON {
        reason::EXTERNAL_INTERRUPT => Exit::Host(HostExit::ExternalInterrupt(int_info() as u8)),
        reason::PREEMPTION_TIMER => Exit::Host(HostExit::Timer),
        reason::ENTRY_FAILURE_MACHINE_CHECK => Exit::Host(HostExit::MachineCheck),
        reason::EXCEPTION_OR_NMI => match Event::decode(int_info() as u32) {
            Some(Event { kind: EventKind::Nmi, .. }) => Exit::Host(HostExit::Nmi),
            Some(Event { kind: EventKind::Exception, vector: vector::MACHINE_CHECK, .. }) => {
                Exit::Host(HostExit::MachineCheck)
            }
            _ => Exit::Portal(reason::EXCEPTION_OR_NMI),
        },
        basic => Exit::Portal(basic),
    }
}

/// Reasons that come at an instruction, or between two, and never while an event is delivered (28.2.4).
const PLAIN: u64 = {
    use reason::*;
    let (mut bits, mut i) = (0, 0);
    let instructions = [
        INTERRUPT_WINDOW,
        NMI_WINDOW,
        CPUID,
        HLT,
        INVD,
        INVLPG,
        RDPMC,
        RDTSC,
        VMCALL,
        CR_ACCESS,
        DR_ACCESS,
        IO,
        RDMSR,
        WRMSR,
        MWAIT,
        MONITOR,
        PAUSE,
        TPR_BELOW_THRESHOLD,
        GDTR_IDTR,
        LDTR_TR,
        RDTSCP,
        WBINVD,
        XSETBV,
        INVPCID,
    ];
    while i < instructions.len() {
        bits |= 1 << instructions[i];
        i += 1;
    }
    bits
};

/// Whether an exit goes to the VMM and nothing else is to be done about it: [`requeue`] and [`restore_nmi_blocking`] would do
/// nothing, and [`decode_exit`] says its basic reason.
#[inline]
pub fn is_plain(vmcs: &impl VmcsPort, reason: u64) -> bool {
    match reason {
        reason::EPT_VIOLATION => {
            vmcs.read(ro::IDT_VECTORING_INFO) as u32 & info::VALID == 0
                && vmcs.read(ro::EXIT_QUALIFICATION) & NMI_UNBLOCKING_DUE_TO_IRET == 0
        }
        0..64 => PLAIN >> reason & 1 != 0,
        _ => false,
    }
}

/// Puts an event whose delivery the exit interrupted back in the queue: the next entry injects it.
///
/// To be called once after each exit, host exits included, before [`crate::save`]; but not after a failed entry (bit 31 of
/// the reason), which leaves the vectoring fields of the exit before and the event it should have injected. An NMI that was being delivered has set blocking by NMI
/// already; it is cleared here because entry refuses to inject an NMI while NMIs are blocked (27.3.1.5), and
/// injection sets it again. The reverse case is [`restore_nmi_blocking`].
#[inline]
pub fn requeue(vmcs: &mut impl VmcsPort) {
    let word = vmcs.read(ro::IDT_VECTORING_INFO) as u32;
    if word & info::VALID != 0 {
        requeue_event(vmcs, word & info::ALL);
    }
}

#[cold]
fn requeue_event(vmcs: &mut impl VmcsPort, word: u32) {
    vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, word.into());
    if word & info::ERROR != 0 {
        let code = vmcs.read(ro::IDT_VECTORING_ERR_CODE);
        vmcs.write(control::VMENTRY_EXCEPTION_ERR_CODE, code);
    }
    let kind = EventKind::of(word);
    if kind.is_some_and(EventKind::is_soft) {
        let length = vmcs.read(ro::VMEXIT_INSTRUCTION_LEN);
        vmcs.write(control::VMENTRY_INSTRUCTION_LEN, length);
    }
    if kind == Some(EventKind::Nmi) {
        let state = vmcs.read(guest::INTERRUPTIBILITY_STATE);
        vmcs.write(guest::INTERRUPTIBILITY_STATE, state & !u64::from(interruptibility::NMI));
    }
}

/// Blocks NMIs again if the exit interrupted an IRET that had just unblocked them (28.2.3, 28.2.1).
///
/// To be called for exits with reason 0 or 48 that go to a VMM; does nothing for others.
#[inline]
pub fn restore_nmi_blocking(vmcs: &mut impl VmcsPort, reason: u64) {
    let unblocked = match reason & BASIC_REASON {
        reason::EXCEPTION_OR_NMI => {
            let word = vmcs.read(ro::VMEXIT_INTERRUPTION_INFO);
            word & NMI_UNBLOCKING_DUE_TO_IRET != 0 && word as u8 != vector::DOUBLE_FAULT
        }
        reason::EPT_VIOLATION => vmcs.read(ro::EXIT_QUALIFICATION) & NMI_UNBLOCKING_DUE_TO_IRET != 0,
        _ => false,
    };
    // With an event in delivery the bit is undefined.
    if unblocked && vmcs.read(ro::IDT_VECTORING_INFO) as u32 & info::VALID == 0 {
        let state = vmcs.read(guest::INTERRUPTIBILITY_STATE);
        vmcs.write(guest::INTERRUPTIBILITY_STATE, state | u64::from(interruptibility::NMI));
    }
}

/// Window requests: the primary control and the UTCB's bit.
const REQUESTS: [(u32, u32); 2] = [
    (Proc1::INTERRUPT_WINDOW_EXITING.bits(), ArchState::INJ_IRQ_WINDOW),
    (Proc1::NMI_WINDOW_EXITING.bits(), ArchState::INJ_NMI_WINDOW),
];

/// Window requests in the UTCB's bits, from the primary controls.
fn windows_to_utcb(controls: u32) -> u32 {
    REQUESTS.iter().filter(|(control, _)| controls & control != 0).fold(0, |all, (_, bit)| all | bit)
}

/// Window requests in the bits of the primary controls, from the UTCB.
fn windows_to_vmcs(inj_info: u32) -> u32 {
    REQUESTS.iter().filter(|(_, bit)| inj_info & bit != 0).fold(0, |all, (control, _)| all | control)
}

/// An information word and its error code, 0 where it has none or is not valid.
#[inline]
fn event(vmcs: &impl VmcsPort, info: Field, error: Field) -> (u32, u32) {
    let word = vmcs.read(info) as u32;
    let word = if word & info::VALID != 0 { word & info::ALL } else { 0 };
    (word, if word & info::ERROR != 0 { vmcs.read(error) as u32 } else { 0 })
}

/// Whether a word is an event of an instruction.
fn is_soft(word: u32) -> bool {
    word != 0 && EventKind::of(word).is_some_and(EventKind::is_soft)
}

/// The exception of an exit for one; nothing after any other exit, for which the CPU clears the valid bit.
#[inline]
pub(crate) fn save_exception(utcb: &mut ArchState, vmcs: &impl VmcsPort, _: &VcpuRegs, (): &()) {
    (utcb.exc_info, utcb.exc_error) = event(vmcs, ro::VMEXIT_INTERRUPTION_INFO, ro::VMEXIT_INTERRUPTION_ERR_CODE);
}

/// INJ, towards the UTCB: what the next entry would inject, and what the exit interrupted.
pub(crate) fn save_injection(utcb: &mut ArchState, vmcs: &impl VmcsPort, _: &VcpuRegs, (): &()) {
    let (queued, error) = event(vmcs, control::VMENTRY_INTERRUPTION_INFO_FIELD, control::VMENTRY_EXCEPTION_ERR_CODE);
    utcb.inj_info = queued | windows_to_utcb(vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS) as u32);
    utcb.inj_error = error;
    if is_soft(queued) {
        // So that a VMM which sends back what it got need not ask for RIP.
        utcb.inst_len = vmcs.read(control::VMENTRY_INSTRUCTION_LEN) as u32;
    }
    (utcb.vect_info, utcb.vect_error) = event(vmcs, ro::IDT_VECTORING_INFO, ro::IDT_VECTORING_ERR_CODE);
}

/// INJ, from the UTCB. Entry checks the rest; an event that it refuses comes back as a failed entry.
pub(crate) fn load_injection(utcb: &ArchState, vmcs: &mut impl VmcsPort, _: &mut VcpuRegs, controls: &Controls) {
    let word = injectable(utcb.inj_info, controls);
    vmcs.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, word.into());
    if word & info::ERROR != 0 {
        vmcs.write(control::VMENTRY_EXCEPTION_ERR_CODE, (utcb.inj_error & ERROR_CODE).into());
    }
    if is_soft(word) {
        vmcs.write(control::VMENTRY_INSTRUCTION_LEN, (utcb.inst_len & INSTRUCTION_LENGTH).into());
    }
    let old = vmcs.read(control::PRIMARY_PROCBASED_EXEC_CONTROLS) as u32;
    let new = old & !WINDOWS | windows_to_vmcs(utcb.inj_info);
    if new != old {
        vmcs.write(control::PRIMARY_PROCBASED_EXEC_CONTROLS, new.into());
    }
}

/// The valid bits of an event, or 0. CPUs without monitor trap flag do not know type 7, and some emulators stop there.
fn injectable(inj_info: u32, controls: &Controls) -> u32 {
    let word = inj_info & info::ALL;
    let valid = match EventKind::of(word) {
        Some(EventKind::Other) => controls.inject_other,
        Some(_) => true,
        None => false,
    };
    if valid && word & info::VALID != 0 { word } else { 0 }
}
