//! Events: injection and window requests, re-injection, blocking by NMI, and what an exit means.
//!
//! SVM has no interrupt window, no NMI window, no TPR threshold and no blocking by NMI. They are made of a virtual
//! interrupt, whose delivery exits at the moment when the guest could take one, and of the intercept of IRET; [`arm`]
//! sets both from what was asked for.
//!
//! An NMI window opens only after the IRET, which is intercepted before. The guest executes it with the virtual
//! interrupt pending, which exits as soon as interrupts are on again; if they stay off (or were on before), the next
//! exit of any kind opens the window. To step over the IRET with RFLAGS.TF would be exact, but the guest can see it.

use crate::exit::code;
use crate::spec::{ERROR_CODE_SHIFT, INTERRUPT_SHADOW, clean, misc1, tlb, vintr};
use crate::{Controls, Software, Vmcb, exit};
use abi::ArchState;
use virt::spec::{reason, rflags, vector};
use virt::{Event, EventKind, Exit, HostExit, VcpuRegs, info};

/// Longest instruction in bytes; the UTCB's length has as many bits as VMX's.
const INSTRUCTION_LENGTH: u32 = 0xf;
/// As on VMX, error codes have 16 bits.
const ERROR_CODE: u32 = 0xffff;
const WINDOWS: u32 = ArchState::INJ_IRQ_WINDOW | ArchState::INJ_NMI_WINDOW;
/// Vector of an interrupt that is still pending: the host takes it, with its real vector, after STGI.
const STILL_PENDING: u8 = 0;

/// Whether the last VMRUN refused the VMCB. Emulators truncate the code to 32 bits.
///
/// The guest has not run. Some emulators have written host state to the state-save area: see [`crate::reset`].
#[inline]
pub fn entry_failed(vmcb: &Vmcb) -> bool {
    vmcb.control.exitcode as u32 == code::INVALID
}

/// What the last exit means. To be called after [`requeue`] and [`track_nmi`].
///
/// Interrupts and NMIs are not acknowledged: they stay pending until the kernel executes STGI (and interrupts are
/// on), and come by the IDT. The vector of [`HostExit::ExternalInterrupt`] means nothing. A machine check has
/// happened; its handler has to be called.
#[inline]
pub fn decode_exit(vmcb: &Vmcb) -> Exit {
    const MACHINE_CHECK: u32 = code::EXCP0 + vector::MACHINE_CHECK as u32;
    match vmcb.control.exitcode as u32 {
        code::INTR => Exit::Host(HostExit::ExternalInterrupt(STILL_PENDING)),
        code::NMI => Exit::Host(HostExit::Nmi),
        MACHINE_CHECK => Exit::Host(HostExit::MachineCheck),
        code::VINTR => Exit::Portal(opened(&vmcb.control.software).unwrap_or(reason::INTERRUPT_WINDOW)),
        code => Exit::Portal(exit::event(code, vmcb.control.exitinfo1)),
    }
}

/// The event of an exit that is nothing but that: of an instruction, or of an access to memory, with no event in delivery,
/// nor to be delivered, and NMIs not blocked. Of [`requeue`] and [`track_nmi`] only [`settle`] is to be done then.
#[inline]
pub fn plain_exit(vmcb: &Vmcb) -> Option<u64> {
    let c = &vmcb.control;
    let quiet = c.exitintinfo as u32 & info::VALID == 0 && c.software.queued == 0;
    if quiet && c.software.nmi == Software::NMI_OPEN { exit::plain_event(c.exitcode as u32, c.exitinfo1) } else { None }
}

/// What a virtual interrupt was pending for.
fn opened(s: &Software) -> Option<u64> {
    match () {
        _ if s.windows & ArchState::INJ_IRQ_WINDOW != 0 => Some(reason::INTERRUPT_WINDOW),
        _ if s.windows & ArchState::INJ_NMI_WINDOW != 0 && s.nmi == Software::NMI_OPEN => Some(reason::NMI_WINDOW),
        _ if s.tpr_threshold != 0 => Some(reason::TPR_BELOW_THRESHOLD),
        _ => None,
    }
}

/// The event that is due before the guest runs: an NMI window that is open already. The kernel asks before each entry,
/// and sends the event instead of entering.
#[inline]
pub fn window_due(vmcb: &Vmcb) -> Option<u64> {
    let s = &vmcb.control.software;
    let due = s.windows & ArchState::INJ_NMI_WINDOW != 0
        && s.nmi == Software::NMI_OPEN
        && s.queued == 0
        && vmcb.control.interrupt_shadow & INTERRUPT_SHADOW == 0;
    due.then_some(reason::NMI_WINDOW)
}

/// Puts an event whose delivery the exit interrupted back in the queue: the next entry injects it. Notes that all else
/// that the entry had to do is done.
///
/// To be called once after each exit, host exits included, before [`crate::save`]. Does nothing if the entry failed:
/// then nothing was delivered nor flushed.
#[inline]
pub fn requeue(vmcb: &mut Vmcb, controls: &Controls) {
    if entry_failed(vmcb) {
        return;
    }
    settle(vmcb, controls);
    let control = &mut vmcb.control;
    // Bit 31 alone tells; the others may be old.
    let interrupted = control.exitintinfo as u32 & info::VALID != 0;
    if interrupted || control.software.queued != 0 {
        requeue_event(vmcb, interrupted);
    }
}

/// Notes that all that the entry had to do is done, but for an event.
#[inline]
pub fn settle(vmcb: &mut Vmcb, controls: &Controls) {
    vmcb.control.tlb_control = tlb::KEEP;
    vmcb.control.vmcb_clean = controls.vmcb_clean;
}

#[inline(never)]
fn requeue_event(vmcb: &mut Vmcb, interrupted: bool) {
    let before = vmcb.control.software.queued;
    let word = if interrupted { vmcb.control.exitintinfo } else { 0 };
    let info = word as u32 & info::ALL;
    // The processor forgets where the instruction of a software event ends. If the event is one that was injected, it
    // is known; if not, the guest is still at the instruction and executes it again.
    let again = soft(info);
    let keep = !again || resumes(vmcb, before, info);
    (vmcb.control.eventinj, vmcb.control.software.queued) = match keep {
        true if again => (word & EVENT, before),
        true => (word & EVENT, info),
        false => (0, 0),
    };
    if again && keep {
        vmcb.control.nrip = vmcb.control.software.next_rip;
    }
    let nmi = &mut vmcb.control.software.nmi;
    *nmi = match () {
        _ if is_nmi(info) => Software::NMI_OPEN,
        _ if is_nmi(before) => Software::NMI_BLOCKED,
        _ => *nmi,
    };
    arm(vmcb);
}

fn is_nmi(info: u32) -> bool {
    info & info::VALID != 0 && EventKind::of(info) == Some(EventKind::Nmi)
}

/// What EVENTINJ takes of EXITINTINFO: the error code too.
const EVENT: u64 = info::ALL as u64 | 0xffff_ffff << ERROR_CODE_SHIFT;

/// Whether delivery of the event returns behind an instruction: INT n, INT3, INTO. Of these SVM tells the last two from
/// exceptions by their vectors.
fn soft(info: u32) -> bool {
    match Event::decode(info) {
        Some(Event { kind: EventKind::Exception, vector, .. }) => {
            matches!(vector, vector::BREAKPOINT | vector::OVERFLOW)
        }
        Some(event) => event.kind.is_soft(),
        None => false,
    }
}

/// Whether a software event is the injected one: the guest has not moved since.
fn resumes(vmcb: &Vmcb, injected: u32, interrupted: u32) -> bool {
    let ahead = vmcb.control.software.next_rip.wrapping_sub(vmcb.save.rip);
    soft(injected) && (injected ^ interrupted) & info::VECTOR == 0 && ahead <= u64::from(INSTRUCTION_LENGTH)
}

/// Follows IRETs that end blocking by NMI. True: the exit was for that alone; the guest goes on.
///
/// To be called once after each exit, after [`requeue`].
#[inline]
pub fn track_nmi(vmcb: &mut Vmcb) -> bool {
    let exit = vmcb.control.exitcode as u32;
    if vmcb.control.software.nmi != Software::NMI_OPEN && exit != code::INVALID {
        follow_iret(vmcb, exit);
    }
    exit == code::IRET || exit == code::VINTR && opened(&vmcb.control.software).is_none()
}

#[cold]
fn follow_iret(vmcb: &mut Vmcb, exit: u32) {
    let rip = vmcb.save.rip;
    let s = &mut vmcb.control.software;
    s.nmi = match s.nmi {
        Software::NMI_IRET if rip != s.iret_rip => Software::NMI_OPEN,
        Software::NMI_BLOCKED if exit == code::IRET => Software::NMI_IRET,
        _ => Software::NMI_BLOCKED,
    };
    s.iret_rip = rip;
    arm(vmcb);
}

/// Whether NMIs are blocked.
pub(crate) fn nmis_blocked(vmcb: &Vmcb) -> bool {
    vmcb.control.software.nmi != Software::NMI_OPEN
}

/// Blocks NMIs, or ends it. An IRET that was let through keeps its effect.
pub(crate) fn block_nmis(vmcb: &mut Vmcb, block: bool) {
    if block == nmis_blocked(vmcb) {
        return;
    }
    vmcb.control.software.nmi = if block { Software::NMI_BLOCKED } else { Software::NMI_OPEN };
    arm(vmcb);
}

/// The virtual interrupt that the requests need.
fn virtual_interrupt(s: &Software, interrupts_on: bool) -> u64 {
    let nmi = match s.nmi {
        Software::NMI_OPEN => true,
        // With interrupts on it would come before the IRET, again and again.
        Software::NMI_IRET => !interrupts_on,
        _ => false,
    };
    let window = s.windows & ArchState::INJ_IRQ_WINDOW != 0 || s.windows & ArchState::INJ_NMI_WINDOW != 0 && nmi;
    match s.tpr_threshold {
        _ if window => vintr::IRQ | vintr::IGN_TPR,
        0 => 0,
        // Taken if its priority is above the TPR: the same as "TPR below threshold", but with interrupts on only.
        threshold => vintr::IRQ | u64::from(threshold) << vintr::PRIO_SHIFT,
    }
}

/// Makes virtual interrupt and intercepts what window requests, TPR threshold and blocking by NMI need.
pub(crate) fn arm(vmcb: &mut Vmcb) {
    let s = &vmcb.control.software;
    let wanted = virtual_interrupt(s, vmcb.save.rflags & rflags::IF != 0);
    let windows = if wanted != 0 { misc1::VINTR } else { 0 };
    // The IRET of an NMI handler may come before the next exit.
    let iret = if s.nmi == Software::NMI_BLOCKED || is_nmi(s.queued) { misc1::IRET } else { 0 };
    let old = (vmcb.control.vintr, vmcb.control.intercepts.misc1);
    let new = (
        old.0 & !(vintr::IRQ | vintr::PRIO | vintr::IGN_TPR) | wanted,
        old.1 & !(misc1::VINTR | misc1::IRET) | windows | iret,
    );
    if new != old {
        (vmcb.control.vintr, vmcb.control.intercepts.misc1) = new;
        vmcb.dirty(clean::TPR | clean::I);
    }
}

/// INJ, towards the UTCB: what the next entry would inject, and what the exit interrupted.
pub(crate) fn save_injection(utcb: &mut ArchState, vmcb: &Vmcb, _: &VcpuRegs, _: &Controls) {
    let (control, s) = (&vmcb.control, &vmcb.control.software);
    let code = |word: u64, info: u32| if info & info::ERROR != 0 { (word >> ERROR_CODE_SHIFT) as u32 } else { 0 };
    utcb.inj_info = s.queued | s.windows;
    utcb.inj_error = code(control.eventinj, s.queued);
    if EventKind::of(s.queued).is_some_and(EventKind::is_soft) {
        // So that a VMM which sends back what it got changes nothing.
        utcb.inst_len = s.next_rip.wrapping_sub(vmcb.save.rip) as u32;
    }
    let word = control.exitintinfo as u32;
    utcb.vect_info = if word & info::VALID != 0 { word & info::ALL } else { 0 };
    utcb.vect_error = code(control.exitintinfo, utcb.vect_info);
}

/// INJ, from the UTCB. VMRUN checks the rest; an event that it refuses comes back as a failed entry.
pub(crate) fn load_injection(utcb: &ArchState, vmcb: &mut Vmcb, _: &mut VcpuRegs, controls: &Controls) {
    let event = injectable(utcb.inj_info);
    let s = &mut vmcb.control.software;
    s.windows = utcb.inj_info & WINDOWS;
    s.queued = event.map_or(0, Event::encode);
    if event.is_some() && s.nmi == Software::NMI_IRET {
        // The event comes before the IRET.
        s.nmi = Software::NMI_BLOCKED;
    }
    vmcb.control.eventinj = event.map_or(0, |e| encode(e, utcb.inj_error));
    if event.is_some() && soft(vmcb.control.software.queued) {
        let length = if event.is_some_and(|e| e.kind.is_soft()) { utcb.inst_len & INSTRUCTION_LENGTH } else { 0 };
        return_behind(vmcb, length, controls);
    }
    arm(vmcb);
}

/// The event, if SVM has its kind.
fn injectable(inj_info: u32) -> Option<Event> {
    Event::decode(inj_info).filter(|e| e.kind != EventKind::Other)
}

/// EVENTINJ. SVM has one type for all exceptions.
fn encode(event: Event, error: u32) -> u64 {
    let kind = match event.kind {
        EventKind::PrivilegedException | EventKind::SoftwareException => EventKind::Exception,
        kind => kind,
    };
    let error = if event.has_error { u64::from(error & ERROR_CODE) << ERROR_CODE_SHIFT } else { 0 };
    error | u64::from(Event { kind, ..event }.encode())
}

/// Lets the delivery of a software event return behind its instruction. With NRIPS the VMCB has a field for that, which
/// INT n, INT3 and INTO heed; in all other cases RIP itself is moved on before.
fn return_behind(vmcb: &mut Vmcb, length: u32, controls: &Controls) {
    let next = vmcb.save.rip.wrapping_add(u64::from(length));
    vmcb.control.software.next_rip = next;
    vmcb.control.nrip = next;
    if !(controls.nrips && soft(vmcb.control.eventinj as u32)) {
        vmcb.save.rip = next;
    }
}
