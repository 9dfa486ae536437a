//! Answers VM exits: a pure function from event, vCPU state and machine to a reply.
//!
//! Each event has a portal with the state that its answer normally needs ([`crate::spec::portal_mtd`]). An answer that
//! needs more asks for it with [`Action::Widen`]: the exit is repeated with all state. Key types: [`Machine`],
//! [`Event`], [`Action`].

use abi::{ArchState, Mtd};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::board::{Board, Effect};
use crate::control;
use crate::cpuid::{Policy, VcpuView};
use crate::dev::NEVER;
use crate::emulate::{Emulator, Failure};
use crate::inject::{self, Exception};
use crate::layout;
use crate::msr::{Access, Msrs};
use crate::spec::bits::{RFLAGS_IF, SHADOW};
use crate::spec::{EVENTS, GPR, event_name, reason};
use crate::vcpu::{self, Start};

/// Exit qualification of I/O instructions (SDM volume 3, table 28-5): size less one, IN, string.
const IO_SIZE: u64 = 0b111;
const IO_IN: u64 = 1 << 3;
const IO_STRING: u64 = 1 << 4;
const IO_PORT_SHIFT: u32 = 16;
/// Exit qualification of EPT violations (table 28-7): instruction fetch.
const EPT_FETCH: u64 = 1 << 2;
/// Console output is sent in lines; a line that has grown to so many bytes is not waited for.
const OUTPUT_BATCH: u32 = 256;
/// What VMCALL returns: KVM_ENOSYS, no such hypercall.
const ENOSYS: u64 = -1000i64 as u64;

/// An event message of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// VM-exit reason, or one of the events of the microhypervisor.
    pub number: u64,
    /// State that the message carries.
    pub mtd: Mtd,
}

/// What to do after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Resume the guest with this state.
    Reply(Mtd),
    /// Resume without change; the next event of this kind must carry all state.
    Widen,
    /// The guest waits for an interrupt: block until woken, then ask [`Machine::wake`].
    Halt,
    /// The VM ends.
    Stop(Stop),
}

/// Why a VM ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest executed HLT with interrupts off; nothing can wake it.
    Halted,
    /// The guest did something that cannot be answered: see [`Machine::cause`].
    Broken,
}

/// What another thread has to do after it changed the devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// Nothing.
    None,
    /// Wake the handler of the halted vCPU.
    Wake,
    /// Recall the vCPU.
    Recall,
}

/// One vCPU, as far as it is not in its UTCB.
#[derive(Clone, Debug)]
pub struct Vcpu {
    /// MSRs.
    pub msrs: Msrs,
    apic_id: u32,
    xcr0: u64,
    start: Start,
    /// Selectors of guest, PIO and MSR space.
    spaces: [u64; 3],
    /// Requests for interrupt and NMI windows that the kernel has.
    windows: u32,
    /// The handler waits for an interrupt.
    halted: bool,
    /// A recall is under way.
    recalled: bool,
}

/// A virtual machine with one vCPU.
pub struct Machine<B> {
    /// Device models.
    pub board: B,
    /// Guest RAM.
    pub mem: GuestMemoryMmap,
    /// CPUID policy.
    pub cpuid: Policy,
    /// The vCPU.
    pub vcpu: Vcpu,
    /// Events so far, by number.
    pub counts: [u64; EVENTS as usize],
    /// Lines for the log.
    pub notes: Vec<String>,
    /// Why the guest cannot go on, after [`Stop::Broken`].
    pub cause: String,
    /// TSC at the guest's entry.
    pub entered: u64,
    /// TSC value for which the timer thread is armed.
    pub armed: u64,
    devices_touched: bool,
    /// Bytes of console output that nobody was told about; [`OUTPUT_BATCH`] or more: it is due.
    unsent: u32,
}

impl<B: Board> Machine<B> {
    /// A machine at reset whose vCPU starts as `start` says, in the spaces (guest, PIO, MSR) behind the selectors.
    pub fn new(board: B, mem: GuestMemoryMmap, cpuid: Policy, start: Start, spaces: [u64; 3]) -> Self {
        let msrs = Msrs::new(cpuid.phys_bits());
        let vcpu = Vcpu { msrs, apic_id: 0, xcr0: 1, start, spaces, windows: 0, halted: false, recalled: false };
        Machine {
            board,
            mem,
            cpuid,
            vcpu,
            counts: [0; EVENTS as usize],
            notes: Vec::new(),
            cause: String::new(),
            unsent: 0,
            entered: 0,
            armed: NEVER,
            devices_touched: false,
        }
    }

    /// Answers an event. `s` is the vCPU's state as far as `event.mtd` says, `now` the TSC.
    pub fn handle(&mut self, event: Event, s: &mut ArchState, now: u64) -> Action {
        if let Some(count) = self.counts.get_mut(event.number as usize) {
            *count += 1;
        }
        if !event.mtd.contains(Mtd::INJ) {
            s.inj_info = self.vcpu.windows;
        }
        match event.number {
            reason::CPUID => self.cpuid(s),
            reason::IO => self.io(event, s, now),
            reason::WRMSR => self.wrmsr(event, s, now),
            reason::RDMSR => self.rdmsr(event, s, now),
            reason::HLT => self.hlt(s, now),
            reason::INTERRUPT_WINDOW | reason::NMI_WINDOW => self.resume(s, now),
            reason::RECALL => {
                self.vcpu.recalled = false;
                self.resume(s, now)
            }
            reason::EPT_VIOLATION => self.ept_violation(s, now),
            reason::CR_ACCESS => self.cr_access(event, s),
            reason::XSETBV => self.xsetbv(s),
            reason::INVD | reason::WBINVD | reason::PAUSE => Action::Reply(skip(s)),
            reason::VMCALL => {
                s.gpr[ArchState::RAX] = ENOSYS;
                Action::Reply(skip(s) | Mtd::GPR_0_7)
            }
            reason::RDPMC => raise(s, Exception::GP),
            reason::GETSEC | reason::MWAIT | reason::MONITOR | reason::INVEPT | reason::INVVPID | reason::VMFUNC => {
                raise(s, Exception::UD)
            }
            reason::VMCLEAR..=reason::VMXON => raise(s, Exception::UD),
            reason::STARTUP => self.startup(s, now),
            n => self.broken(format!("unexpected event {n:#x} ({})", event_name(n))),
        }
    }

    /// The handler of the halted vCPU was woken, or the vCPU executed HLT.
    pub fn wake(&mut self, s: &mut ArchState, now: u64) -> Action {
        self.board.advance(now);
        self.vcpu.halted = self.board.pending().is_none();
        if self.vcpu.halted {
            return Action::Halt;
        }
        inject::interrupts(s, &mut self.board, &mut self.vcpu.windows);
        Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ)
    }

    /// What a thread that changed the devices has to do so that the vCPU notices.
    pub fn kick(&mut self) -> Kick {
        match () {
            _ if self.board.pending().is_none() => Kick::None,
            _ if self.vcpu.halted => Kick::Wake,
            _ if self.vcpu.windows != 0 || self.vcpu.recalled => Kick::None,
            _ => {
                self.vcpu.recalled = true;
                Kick::Recall
            }
        }
    }

    /// Whether the devices now want to be advanced before the time for which the timer thread is armed.
    pub fn timer_is_late(&mut self) -> bool {
        std::mem::take(&mut self.devices_touched) && self.board.next_deadline() < self.armed
    }

    /// Whether there is console output worth sending: a line, or a lot.
    pub fn output_is_due(&mut self) -> bool {
        let due = self.unsent >= OUTPUT_BATCH;
        if due {
            self.unsent = 0;
        }
        due
    }

    fn count_output(&mut self, port: u16, value: u32) {
        if port == layout::COM1 {
            self.unsent += if value == u32::from(b'\n') { OUTPUT_BATCH } else { 1 };
        }
    }

    /// Number of events so far.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    #[cold]
    fn startup(&mut self, s: &mut ArchState, now: u64) -> Action {
        self.entered = now;
        *s = vcpu::initial(&self.vcpu.start);
        [s.sel_gst, s.sel_pio, s.sel_msr] = self.vcpu.spaces;
        Action::Reply(vcpu::STARTUP)
    }

    #[inline(never)]
    fn cpuid(&mut self, s: &mut ArchState) -> Action {
        let view = VcpuView { apic_id: self.vcpu.apic_id, cr4: s.cr4, xcr0: self.vcpu.xcr0 };
        let [a, b, c, d] =
            self.cpuid.query(s.gpr[ArchState::RAX] as u32, s.gpr[ArchState::RCX] as u32, view).map(u64::from);
        s.gpr[ArchState::RAX] = a;
        s.gpr[ArchState::RBX] = b;
        s.gpr[ArchState::RCX] = c;
        s.gpr[ArchState::RDX] = d;
        Action::Reply(skip(s) | Mtd::GPR_0_7)
    }

    fn io(&mut self, event: Event, s: &mut ArchState, now: u64) -> Action {
        let qual = s.qual[0];
        if qual & IO_STRING != 0 {
            return if event.mtd.contains(crate::spec::EMULATE) { self.emulate(s, now) } else { Action::Widen };
        }
        let (port, size) = ((qual >> IO_PORT_SHIFT) as u16, (qual & IO_SIZE) as usize + 1);
        let rax = &mut s.gpr[ArchState::RAX];
        let mut mtd = Mtd::empty();
        if qual & IO_IN != 0 {
            let v = u64::from(self.board.pio_read(port, size, now));
            // 32-bit results clear the upper half of RAX.
            *rax = match size {
                1 => *rax & !0xff | v & 0xff,
                2 => *rax & !0xffff | v & 0xffff,
                _ => v,
            };
            mtd = Mtd::GPR_0_7;
        } else {
            let v = *rax as u32 & (u32::MAX >> (32 - 8 * size as u32));
            self.count_output(port, v);
            let effect = self.board.pio_write(port, size, v, now);
            if let Some(stop) = self.effect(effect, now) {
                return Action::Stop(stop);
            }
        }
        mtd |= skip(s);
        self.finish(s, mtd)
    }

    fn rdmsr(&mut self, event: Event, s: &mut ArchState, now: u64) -> Action {
        let msr = s.gpr[ArchState::RCX] as u32;
        let access = match self.vcpu.msrs.read(msr, s, event.mtd, now) {
            Access::Device => self.board.msr_read(msr, now).map_or(Access::Fault, Access::Value),
            a => a,
        };
        match access {
            Access::Value(v) => {
                s.gpr[ArchState::RAX] = v & 0xffff_ffff;
                s.gpr[ArchState::RDX] = v >> 32;
                Action::Reply(skip(s) | Mtd::GPR_0_7)
            }
            Access::Needs(_) => Action::Widen,
            _ => self.msr_fault(s, msr, "read"),
        }
    }

    fn wrmsr(&mut self, event: Event, s: &mut ArchState, now: u64) -> Action {
        let msr = s.gpr[ArchState::RCX] as u32;
        let value = s.gpr[ArchState::RDX] << 32 | s.gpr[ArchState::RAX] & 0xffff_ffff;
        match self.vcpu.msrs.write(msr, value, s, event.mtd) {
            Access::Device => match self.board.msr_write(msr, value, now) {
                Some(effect) => {
                    if let Some(stop) = self.effect(effect, now) {
                        return Action::Stop(stop);
                    }
                    let mtd = skip(s);
                    self.finish(s, mtd)
                }
                None => raise(s, Exception::GP),
            },
            Access::Written(mtd) => Action::Reply(skip(s) | mtd),
            Access::Needs(_) => Action::Widen,
            _ => self.msr_fault(s, msr, "written"),
        }
    }

    #[cold]
    fn msr_fault(&mut self, s: &mut ArchState, msr: u32, verb: &str) -> Action {
        if self.vcpu.msrs.first_unknown(msr) {
            self.notes.push(format!("unknown MSR {msr:#x} {verb}: #GP"));
        }
        raise(s, Exception::GP)
    }

    fn hlt(&mut self, s: &mut ArchState, now: u64) -> Action {
        skip(s);
        s.intr_state &= !SHADOW;
        if s.rflags & RFLAGS_IF == 0 && s.inj_info & ArchState::INJ_VALID == 0 {
            return Action::Stop(Stop::Halted);
        }
        self.wake(s, now)
    }

    /// The exit was about interrupts only.
    fn resume(&mut self, s: &mut ArchState, now: u64) -> Action {
        self.board.advance(now);
        let write = inject::interrupts(s, &mut self.board, &mut self.vcpu.windows);
        Action::Reply(if write { Mtd::INJ } else { Mtd::empty() })
    }

    /// An exit that may have changed the devices ends with the state `mtd`: interrupts may be deliverable now.
    fn finish(&mut self, s: &mut ArchState, mut mtd: Mtd) -> Action {
        self.devices_touched = true;
        if inject::interrupts(s, &mut self.board, &mut self.vcpu.windows) {
            mtd |= Mtd::INJ;
        }
        Action::Reply(mtd)
    }

    fn ept_violation(&mut self, s: &mut ArchState, now: u64) -> Action {
        let gpa = s.qual[2];
        let what = match () {
            _ if self.mem.address_in_range(GuestAddress(gpa)) => "EPT violation inside of guest RAM",
            _ if s.qual[0] & EPT_FETCH != 0 => "instruction fetch outside of guest RAM",
            _ if s.inj_info & ArchState::INJ_VALID != 0 => "event delivery touches device memory",
            _ => return self.emulate(s, now),
        };
        self.broken(format!("{what} at guest-physical {gpa:#x}"))
    }

    fn emulate(&mut self, s: &mut ArchState, now: u64) -> Action {
        let mut e = Emulator { state: s, mem: &self.mem, board: &mut self.board, now, effect: Effect::None };
        let result = e.step();
        let effect = e.effect;
        if let Some(stop) = self.effect(effect, now) {
            return Action::Stop(stop);
        }
        match result {
            Ok(()) => {
                s.intr_state &= !SHADOW;
                self.finish(s, GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::STA)
            }
            // A string instruction may have run in part: its registers go back too.
            Err(Failure::Exception(x)) => {
                inject::exception(s, x);
                Action::Reply(GPR | Mtd::CR | Mtd::INJ)
            }
            Err(Failure::Unknown) => {
                let what = "an instruction that the emulator does not know touched";
                self.broken(format!("{what} guest-physical {:#x}", s.qual[2]))
            }
            Err(Failure::Fetch(at)) => {
                self.broken(format!("instruction outside of guest RAM, at guest-physical {at:#x}"))
            }
        }
    }

    /// XSETBV (SDM volume 2): XCR0 only, x87 always on, AVX not without SSE, nothing that CPUID does not offer.
    fn xsetbv(&mut self, s: &mut ArchState) -> Action {
        let value = s.gpr[ArchState::RDX] << 32 | s.gpr[ArchState::RAX] & 0xffff_ffff;
        let valid = s.gpr[ArchState::RCX] as u32 == 0
            && value & 1 != 0
            && value & 0b110 != 0b100
            && value & !self.cpuid.xcr0() == 0;
        if !valid {
            return raise(s, Exception::GP);
        }
        s.xcr0 = value;
        self.vcpu.xcr0 = value;
        Action::Reply(skip(s) | Mtd::XSAVE)
    }

    /// MOV to CR0 or CR4 that changes a bit which is not the guest's own: CD, NW, NE, VMXE.
    #[cold]
    fn cr_access(&mut self, event: Event, s: &mut ArchState) -> Action {
        match control::write(s, &self.mem) {
            Some(Ok(mtd)) => Action::Reply(skip(s) | mtd),
            Some(Err(e)) => raise(s, e),
            None => self.broken(format!("unexpected CR access, exit {:#x}", event.number)),
        }
    }

    #[cold]
    fn broken(&mut self, cause: String) -> Action {
        self.cause = cause;
        Action::Stop(Stop::Broken)
    }

    #[inline]
    fn effect(&mut self, effect: Effect, now: u64) -> Option<Stop> {
        match effect {
            Effect::None => return None,
            Effect::PowerOff => return Some(Stop::PowerOff),
            Effect::Reset => return Some(Stop::Reset),
            Effect::Marker(b) => self.note_marker(b, now),
            Effect::Ipi(kind) => self.note(format!("{kind:?} IPI ignored: the guest has one vCPU")),
        }
        None
    }

    #[cold]
    fn note_marker(&mut self, b: u8, now: u64) {
        let (since, exits) = (now.wrapping_sub(self.entered), self.total());
        self.note(format!("marker {b:#04x} at TSC {now}, since entry {since}, exits {exits}"));
    }

    #[cold]
    fn note(&mut self, line: String) {
        self.notes.push(line);
    }
}

/// Moves RIP behind the instruction and ends an interrupt shadow; returns what to write back.
fn skip(s: &mut ArchState) -> Mtd {
    s.rip = s.rip.wrapping_add(u64::from(s.inst_len));
    if s.intr_state & SHADOW == 0 {
        return Mtd::RIP;
    }
    s.intr_state &= !SHADOW;
    Mtd::RIP | Mtd::STA
}

fn raise(s: &mut ArchState, e: Exception) -> Action {
    inject::exception(s, e);
    Action::Reply(Mtd::INJ)
}

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;
