//! Events: injection and window requests, re-injection, and what an exit means.

use crate::spec::{DOUBLE_FAULT, reason::BASIC};
use crate::spec::{MACHINE_CHECK, NMI_UNBLOCKING_DUE_TO_IRET, interruptibility, proc1, reason};
use crate::{Controls, VmcsPort, field};
use abi::ArchState;
use virt::{Event, EventKind, Exit, HostExit, info};

/// VM-entry instruction lengths are at most 15 bytes (27.2.1.3).
const INSTRUCTION_LENGTH: u32 = 0xf;
/// VM entry wants bits 31:16 of an error code clear (27.2.1.3).
const ERROR_CODE: u32 = 0xffff;

/// What a reason means. `int_info` reads the VM-exit interruption information, for exceptions and interrupts only.
///
/// A failed entry becomes the event of its basic reason, unless a machine check was the cause.
#[inline]
pub fn decode_exit(reason: u64, int_info: impl FnOnce() -> u64) -> Exit {
    match reason & BASIC {
        reason::EXTERNAL_INTERRUPT => Exit::Host(HostExit::ExternalInterrupt(int_info() as u8)),
        reason::PREEMPTION_TIMER => Exit::Host(HostExit::Timer),
        reason::ENTRY_FAILURE_MACHINE_CHECK => Exit::Host(HostExit::MachineCheck),
        reason::EXCEPTION_OR_NMI => match Event::decode(int_info() as u32) {
            Some(Event { kind: EventKind::Nmi, .. }) => Exit::Host(HostExit::Nmi),
            Some(Event { kind: EventKind::Exception, vector, .. }) if u32::from(vector) == MACHINE_CHECK => {
                Exit::Host(HostExit::MachineCheck)
            }
            _ => Exit::Portal(reason::EXCEPTION_OR_NMI),
        },
        basic => Exit::Portal(basic),
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
    let word = vmcs.read(field::IDT_VECTORING_INFO) as u32;
    if word & info::VALID != 0 {
        requeue_event(vmcs, word & info::ALL);
    }
}

#[cold]
fn requeue_event(vmcs: &mut impl VmcsPort, word: u32) {
    vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, word.into());
    if word & info::ERROR != 0 {
        let code = vmcs.read(field::IDT_VECTORING_ERROR_CODE);
        vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, code);
    }
    let kind = EventKind::of(word);
    if kind.is_some_and(EventKind::is_soft) {
        let length = vmcs.read(field::VM_EXIT_INSTRUCTION_LENGTH);
        vmcs.write(field::VM_ENTRY_INSTRUCTION_LENGTH, length);
    }
    if kind == Some(EventKind::Nmi) {
        let state = vmcs.read(field::GUEST_INTERRUPTIBILITY_STATE);
        vmcs.write(field::GUEST_INTERRUPTIBILITY_STATE, state & !interruptibility::NMI);
    }
}

/// Blocks NMIs again if the exit interrupted an IRET that had just unblocked them (28.2.3, 28.2.1).
///
/// To be called for exits with reason 0 or 48 that go to a VMM; does nothing for others.
#[inline]
pub fn restore_nmi_blocking(vmcs: &mut impl VmcsPort, reason: u64) {
    let unblocked = match reason & BASIC {
        reason::EXCEPTION_OR_NMI => {
            let word = vmcs.read(field::VM_EXIT_INTERRUPTION_INFO);
            word & NMI_UNBLOCKING_DUE_TO_IRET != 0 && word as u32 & info::VECTOR != DOUBLE_FAULT
        }
        reason::EPT_VIOLATION => vmcs.read(field::EXIT_QUALIFICATION) & NMI_UNBLOCKING_DUE_TO_IRET != 0,
        _ => false,
    };
    // With an event in delivery the bit is undefined.
    if unblocked && vmcs.read(field::IDT_VECTORING_INFO) as u32 & info::VALID == 0 {
        let state = vmcs.read(field::GUEST_INTERRUPTIBILITY_STATE);
        vmcs.write(field::GUEST_INTERRUPTIBILITY_STATE, state | interruptibility::NMI);
    }
}

/// Window requests in the UTCB's bits, from the primary controls.
fn windows_to_utcb(controls: u32) -> u32 {
    let irq = if controls & proc1::INTERRUPT_WINDOW_EXITING != 0 { ArchState::INJ_IRQ_WINDOW } else { 0 };
    let nmi = if controls & proc1::NMI_WINDOW_EXITING != 0 { ArchState::INJ_NMI_WINDOW } else { 0 };
    irq | nmi
}

/// Window requests in the bits of the primary controls, from the UTCB.
fn windows_to_vmcs(inj_info: u32) -> u32 {
    let irq = if inj_info & ArchState::INJ_IRQ_WINDOW != 0 { proc1::INTERRUPT_WINDOW_EXITING } else { 0 };
    let nmi = if inj_info & ArchState::INJ_NMI_WINDOW != 0 { proc1::NMI_WINDOW_EXITING } else { 0 };
    irq | nmi
}

/// The exception of an exit for one; nothing after any other exit, for which the CPU clears the valid bit.
#[inline]
pub(crate) fn save_exception(utcb: &mut ArchState, vmcs: &impl VmcsPort) {
    let word = vmcs.read(field::VM_EXIT_INTERRUPTION_INFO) as u32;
    utcb.exc_info = if word & info::VALID != 0 { word & info::ALL } else { 0 };
    let code = utcb.exc_info & info::ERROR != 0;
    utcb.exc_error = if code { vmcs.read(field::VM_EXIT_INTERRUPTION_ERROR_CODE) as u32 } else { 0 };
}

/// INJ, towards the UTCB: what the next entry would inject, and what the exit interrupted.
pub(crate) fn save_injection(utcb: &mut ArchState, vmcs: &impl VmcsPort) {
    let word = vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO) as u32;
    let queued = if word & info::VALID != 0 { word & info::ALL } else { 0 };
    utcb.inj_info = queued | windows_to_utcb(vmcs.read(field::PRIMARY_PROCESSOR_CONTROLS) as u32);
    utcb.inj_error = if queued & info::ERROR != 0 { vmcs.read(field::VM_ENTRY_EXCEPTION_ERROR_CODE) as u32 } else { 0 };
    if queued != 0 && EventKind::of(queued).is_some_and(EventKind::is_soft) {
        // So that a VMM which sends back what it got need not ask for RIP.
        utcb.inst_len = vmcs.read(field::VM_ENTRY_INSTRUCTION_LENGTH) as u32;
    }
    let word = vmcs.read(field::IDT_VECTORING_INFO) as u32;
    utcb.vect_info = if word & info::VALID != 0 { word & info::ALL } else { 0 };
    utcb.vect_error =
        if utcb.vect_info & info::ERROR != 0 { vmcs.read(field::IDT_VECTORING_ERROR_CODE) as u32 } else { 0 };
}

/// INJ, from the UTCB. Entry checks the rest; an event that it refuses comes back as a failed entry.
pub(crate) fn load_injection(utcb: &ArchState, vmcs: &mut impl VmcsPort, controls: &Controls) {
    let word = injectable(utcb.inj_info, controls);
    vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, word.into());
    if word & info::ERROR != 0 {
        vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, (utcb.inj_error & ERROR_CODE).into());
    }
    if word != 0 && EventKind::of(word).is_some_and(EventKind::is_soft) {
        vmcs.write(field::VM_ENTRY_INSTRUCTION_LENGTH, (utcb.inst_len & INSTRUCTION_LENGTH).into());
    }
    let old = vmcs.read(field::PRIMARY_PROCESSOR_CONTROLS) as u32;
    let new = old & !proc1::WINDOWS | windows_to_vmcs(utcb.inj_info);
    if new != old {
        vmcs.write(field::PRIMARY_PROCESSOR_CONTROLS, new.into());
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
