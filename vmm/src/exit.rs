//! Answers VM exits: a pure function from event, vCPU state and machine to a reply.
//!
//! Each event has a portal with the state that its answer normally needs ([`crate::spec::portal_mtd`]). An answer that
//! needs more asks for it with [`Action::Widen`]: the exit is repeated with all state.
//!
//! What a vCPU can answer out of its own ([`Vcpu::alone`], in `own`) needs no lock; the rest ([`Vcpu::handle`]) is
//! answered with the [`Machine`], which is locked for that time. Key types: [`Vcpu`], [`Event`], [`Action`].

use std::sync::Arc;

use abi::{ArchState, Mtd};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::board::Board;
use crate::cpuid::Policy;
use crate::dev::Effect;
use crate::emulate::{Cause, Emulator, Failure};
use crate::inject::{self, Exception};
use crate::machine::{Counts, Machine};
use crate::msr::Msrs;
use crate::pvclock::PvClock;
use crate::run::{Entry, Next};
use crate::spec::bits::{BLOCKED_BY_NMI, RFLAGS_IF, SHADOW};
use crate::spec::{GPR, event_name, reason};
use crate::vcpu;

/// Exit qualification of I/O instructions (SDM volume 3, table 28-5): size less one, IN, string.
const IO_SIZE: u64 = 0b111;
const IO_IN: u64 = 1 << 3;
const IO_STRING: u64 = 1 << 4;
const IO_PORT_SHIFT: u32 = 16;
/// Exit qualification of EPT violations (table 28-7): instruction fetch.
const EPT_FETCH: u64 = 1 << 2;
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
    /// The vCPU halts, or waits for a start-up IPI: block until woken, then [`Vcpu::proceed`].
    Wait,
    /// All vCPUs have stopped for a reset of the machine: carry it out, then [`Vcpu::proceed`].
    Reload,
    /// The VM ends, or is reset.
    Stop(Stop),
}

/// Why a VM ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest switched itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// No vCPU runs, and none can be woken: HLT with interrupts off.
    Halted,
    /// The guest did something that cannot be answered: see [`Vcpu::cause`].
    Broken,
}

/// What the vCPUs of a machine have in common and nobody changes.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Guest RAM.
    pub mem: GuestMemoryMmap,
    /// CPUID policy.
    pub cpuid: Policy,
    /// KVM's clock, for guests that CPUID shows it to.
    pub clock: PvClock,
    /// Selectors of guest, PIO and MSR space.
    pub spaces: [u64; 3],
}

/// One vCPU, as far as it is neither in its UTCB nor of interest to others. Its handler owns it.
#[derive(Debug)]
pub struct Vcpu {
    /// Lines for the log.
    pub notes: Vec<String>,
    /// Why the guest cannot go on, after [`Stop::Broken`].
    pub cause: String,
    /// Number, and APIC ID.
    id: usize,
    env: Arc<Environment>,
    msrs: Msrs,
    xcr0: u64,
    /// Requests for interrupt and NMI windows that the kernel has.
    windows: u32,
    counts: Arc<Counts>,
}

impl Vcpu {
    /// vCPU `id` of `machine`, before its STARTUP event.
    pub fn new<B: Board>(id: usize, env: Arc<Environment>, machine: &Machine<B>) -> Vcpu {
        let msrs = Msrs::new(env.cpuid.phys_bits());
        let counts = machine.counts_of(id);
        Vcpu { notes: Vec::new(), cause: String::new(), id, env, msrs, xcr0: 1, windows: 0, counts }
    }

    /// Number of the vCPU.
    pub fn id(&self) -> usize {
        self.id
    }

    /// Guest RAM.
    pub fn mem(&self) -> &GuestMemoryMmap {
        &self.env.mem
    }

    /// Answers an event that [`alone`](Self::alone) did not.
    pub fn handle<B: Board>(&mut self, m: &mut Machine<B>, event: Event, s: &mut ArchState, now: u64) -> Action {
        if event.number == reason::RECALL {
            m.run(self.id).recalled();
        }
        // An INIT or a reset comes before the event: the instruction that caused it is not executed.
        if !m.run(self.id).is_undisturbed() {
            return self.proceed(m, s, now);
        }
        match event.number {
            reason::IO => self.io(m, event, s, now),
            reason::WRMSR => self.wrmsr(m, s, now),
            reason::RDMSR => self.rdmsr(m, s, now),
            reason::HLT => self.hlt(m, s, now),
            reason::INTERRUPT_WINDOW | reason::NMI_WINDOW | reason::RECALL => self.resume(m, s, now),
            reason::EPT_VIOLATION => self.ept_violation(m, s, now),
            // Only CR8 comes here: it is the local APIC's.
            reason::CR_ACCESS if event.mtd.contains(crate::spec::EMULATE) => self.emulate(m, Cause::Cr8, s, now),
            reason::CR_ACCESS => Action::Widen,
            n => self.broken(format!("unexpected event {n:#x} ({})", event_name(n))),
        }
    }

    /// The vCPU has stopped, or been told to: whether it goes on, and where. Also after [`Action::Wait`], when woken.
    pub fn proceed<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        m.board.advance(now);
        match m.next(self.id) {
            Next::Go => {
                self.inject(m, s);
                Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ)
            }
            Next::Enter(entry, fresh) => self.enter(m, entry, fresh, s, now),
            Next::Block if m.is_ready_for_reset(self.id) => Action::Reload,
            Next::Block if m.is_dead() => Action::Stop(Stop::Halted),
            Next::Block => Action::Wait,
        }
    }

    /// The vCPU starts. `fresh`: all its state is set, else what INIT sets (SDM volume 3, table 10-1).
    #[cold]
    fn enter<B: Board>(
        &mut self,
        m: &mut Machine<B>,
        entry: Entry,
        fresh: bool,
        s: &mut ArchState,
        now: u64,
    ) -> Action {
        *s = match entry {
            Entry::Boot => {
                m.entered = now;
                vcpu::initial(m.start())
            }
            Entry::Startup(page) => vcpu::application(page, self.env.cpuid.signature()),
        };
        self.windows = 0;
        let mut mtd = vcpu::INIT;
        if fresh {
            self.msrs = Msrs::new(self.env.cpuid.phys_bits());
            self.xcr0 = s.xcr0;
            [s.sel_gst, s.sel_pio, s.sel_msr] = self.env.spaces;
            mtd = vcpu::STARTUP;
        }
        self.inject(m, s);
        Action::Reply(mtd)
    }

    /// Injects what is pending, or asks for a window. Whether the reply must carry that.
    fn inject<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState) -> bool {
        let write = inject::interrupts(s, &mut m.board, self.id, &mut self.windows);
        m.run(self.id).set_windows(self.windows);
        write
    }

    fn io<B: Board>(&mut self, m: &mut Machine<B>, event: Event, s: &mut ArchState, now: u64) -> Action {
        let qual = s.qual[0];
        if qual & IO_STRING != 0 {
            if !event.mtd.contains(crate::spec::EMULATE) {
                return Action::Widen;
            }
            let action = self.emulate(m, Cause::Port, s, now);
            m.count_string_output();
            return action;
        }
        let (port, size) = ((qual >> IO_PORT_SHIFT) as u16, ((qual & IO_SIZE) as usize + 1).min(4));
        let rax = &mut s.gpr[ArchState::RAX];
        let mut mtd = Mtd::empty();
        if qual & IO_IN != 0 {
            let v = u64::from(m.board.pio_read(port, size, now));
            // 32-bit results clear the upper half of RAX.
            *rax = match size {
                1 => *rax & !0xff | v & 0xff,
                2 => *rax & !0xffff | v & 0xffff,
                _ => v,
            };
            mtd = Mtd::GPR_0_7;
        } else {
            let v = *rax as u32 & (u32::MAX >> (32 - 8 * size as u32));
            m.count_output(port, v);
            let effect = m.board.pio_write(port, size, v, now);
            if let Some(stop) = self.effect(m, effect, now) {
                return Action::Stop(stop);
            }
        }
        mtd |= skip(s);
        self.finish(m, s, mtd)
    }

    /// RDMSR of what the devices have, or nobody.
    fn rdmsr<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        let msr = s.gpr[ArchState::RCX] as u32;
        if !self.msrs.is_device(msr) {
            return self.unknown_msr(m, s, msr, "read");
        }
        match m.board.msr_read(self.id, msr, now) {
            Some(v) => give_msr(s, v),
            None => raise(s, Exception::GP),
        }
    }

    /// WRMSR to what the devices have, or nobody.
    fn wrmsr<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        let msr = s.gpr[ArchState::RCX] as u32;
        if !self.msrs.is_device(msr) {
            return self.unknown_msr(m, s, msr, "written");
        }
        match m.board.msr_write(self.id, msr, msr_value(s), now) {
            Some(effect) => {
                if let Some(stop) = self.effect(m, effect, now) {
                    return Action::Stop(stop);
                }
                let mtd = skip(s);
                self.finish(m, s, mtd)
            }
            None => raise(s, Exception::GP),
        }
    }

    #[cold]
    fn unknown_msr<B>(&mut self, m: &mut Machine<B>, s: &mut ArchState, msr: u32, verb: &str) -> Action
    where
        B: Board,
    {
        if m.unknown_msr(msr) {
            self.note(format!("unknown MSR {msr:#x} {verb}: #GP"));
        }
        raise(s, Exception::GP)
    }

    fn hlt<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        skip(s);
        s.intr_state &= !SHADOW;
        // With an event whose delivery has to be repeated, the vCPU does not stop at all.
        if s.inj_info & ArchState::INJ_VALID == 0 {
            m.run(self.id).halt(s.rflags & RFLAGS_IF != 0, s.intr_state & BLOCKED_BY_NMI == 0);
        }
        self.proceed(m, s, now)
    }

    /// The exit was about interrupts only.
    fn resume<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        m.board.advance(now);
        let write = self.inject(m, s);
        Action::Reply(if write { Mtd::INJ } else { Mtd::empty() })
    }

    /// An exit that may have changed the devices ends with the state `mtd`: interrupts may be deliverable now.
    fn finish<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, mut mtd: Mtd) -> Action {
        m.touch_devices();
        if self.inject(m, s) {
            mtd |= Mtd::INJ;
        }
        Action::Reply(mtd)
    }

    fn ept_violation<B: Board>(&mut self, m: &mut Machine<B>, s: &mut ArchState, now: u64) -> Action {
        let gpa = s.qual[2];
        let what = match () {
            _ if self.env.mem.address_in_range(GuestAddress(gpa)) => "EPT violation inside of guest RAM",
            _ if s.qual[0] & EPT_FETCH != 0 => "instruction fetch outside of guest RAM",
            _ if s.inj_info & ArchState::INJ_VALID != 0 => "event delivery touches device memory",
            _ => return self.emulate(m, Cause::Memory, s, now),
        };
        self.broken(format!("{what} at guest-physical {gpa:#x}"))
    }

    fn emulate<B: Board>(&mut self, m: &mut Machine<B>, cause: Cause, s: &mut ArchState, now: u64) -> Action {
        let (vcpu, mem) = (self.id, &self.env.mem);
        let mut e = Emulator { vcpu, state: s, mem, board: &mut m.board, now, cause, effect: Effect::None };
        let result = e.step();
        let effect = e.effect;
        if let Some(stop) = self.effect(m, effect, now) {
            return Action::Stop(stop);
        }
        match result {
            Ok(()) => {
                s.intr_state &= !SHADOW;
                self.finish(m, s, GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::STA)
            }
            // A string instruction may have run in part: its registers go back too.
            Err(Failure::Exception(x)) => {
                inject::exception(s, x);
                self.finish(m, s, GPR | Mtd::CR | Mtd::INJ)
            }
            Err(Failure::Changed) => self.resume(m, s, now),
            Err(Failure::Unknown) => {
                let what = "an instruction that the emulator does not know touched";
                self.broken(format!("{what} guest-physical {:#x}", s.qual[2]))
            }
            Err(Failure::Fetch(at)) => {
                self.broken(format!("instruction outside of guest RAM, at guest-physical {at:#x}"))
            }
        }
    }

    #[cold]
    fn broken(&mut self, cause: String) -> Action {
        self.cause = cause;
        Action::Stop(Stop::Broken)
    }

    #[inline]
    fn effect<B: Board>(&mut self, m: &mut Machine<B>, effect: Effect, now: u64) -> Option<Stop> {
        match effect {
            Effect::None => None,
            Effect::PowerOff => Some(Stop::PowerOff),
            Effect::Reset => Some(Stop::Reset),
            Effect::Marker(b) => {
                self.note_marker(m, b, now);
                None
            }
            Effect::Ipi(ipi) => m.ipi(ipi),
        }
    }

    #[cold]
    fn note_marker<B: Board>(&mut self, m: &mut Machine<B>, b: u8, now: u64) {
        let (since, exits) = (now.wrapping_sub(m.entered), m.counts().iter().sum::<u64>());
        if m.marker() {
            self.note(format!("marker {b:#04x} at TSC {now}, since entry {since}, exits {exits}"));
        }
    }

    #[cold]
    fn note(&mut self, line: String) {
        self.notes.push(line);
    }
}

/// The value that WRMSR writes.
fn msr_value(s: &ArchState) -> u64 {
    s.gpr[ArchState::RDX] << 32 | s.gpr[ArchState::RAX] & 0xffff_ffff
}

/// RDMSR read this.
fn give_msr(s: &mut ArchState, v: u64) -> Action {
    s.gpr[ArchState::RAX] = v & 0xffff_ffff;
    s.gpr[ArchState::RDX] = v >> 32;
    Action::Reply(skip(s) | Mtd::GPR_0_7)
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

mod own;

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;
