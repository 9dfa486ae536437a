//! Virtual CPUs (docs/spec/objects.md, abi.md, ipc_reply.md), with guests of a few bytes in real mode: what does not
//! depend on a back end. `machine` runs the rest, `vcpu_tests`, which is written for any.
//!
//! Key type: [`Guest`]: 64 KiB of RAM at 0, code at [`CODE`], a stack below [`STACK`].

mod exits;
mod life;
mod machine;
mod memory;
mod spaces;

pub use exits::tsc_aux;
pub use machine::{Here, facts};

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Events, Log, PAGE, Slot, arrives, cpu, memory, page, sleep_ms};
use abi::{ArchState, Mtd, Status, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use rt::vm::{GuestSpace, Vcpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use vcpu_tests::{Emulator, Facts, Vendor};

pub const CHECKS: &[Check] = &[
    ("abi-67 spaces-59", "without PIO and MSR space every access exits", exits::no_spaces),
    ("objects-29", "vector registers: the guest's and the VMM's do not mix", exits::vectors),
    ("ctrl_ec-3 abi-90", "RECALL stops a guest that loops with interrupts on", life::recall),
    ("ctrl_ec-3", "RECALL stops a guest that loops with interrupts off", life::recall_off),
    ("objects-28", "a looping guest does not keep the CPU from others", life::shares_cpu),
    (
        "objects-28 ctrl_sm-6",
        "a guest with interrupts off does not keep its CPU from a thread that another CPU releases",
        life::hears_of_others,
    ),
    ("ipc_reply-4 abi-22", "POISON kills a virtual CPU", life::poison),
    (
        "create_ec-12 objects-24 abi-66 ipc_reply-15",
        "a virtual CPU without guest space is killed when it would run (ipc_reply.md)",
        life::no_space,
    ),
    ("set_state-6", "SPACES by set_state, before the virtual CPU has started", life::assigned_outside),
    ("objects-12 abi-84", "an event without portal kills a virtual CPU", life::no_portal),
    (
        "abi-51 ipc_reply-5 objects-26 spaces-5 spaces-15 spaces-16 spaces-26",
        "a reply exchanges guest and PIO space",
        spaces::exchange,
    ),
    (
        "abi-65 ipc_reply-15 spaces-26",
        "a selector that is null, of another kind or without ASSIGN leaves the space as it was",
        spaces::unsuitable,
    ),
    (
        "spaces-29 spaces-31",
        "a guest executes what has XS, of memory that we cannot execute; not what has neither",
        spaces::execute,
    ),
    (
        "create_pd-3 ctrl_pd-17 spaces-15",
        "BAD_CAP: a guest space as source; delegation to it without GRANT",
        memory::bad_cap,
    ),
    ("ctrl_pd-18 ctrl_pd-19 spaces-9", "BAD_PAR: guest addresses misaligned or beyond 2^48", memory::bad_par),
];

const RAM: usize = 64 << 10;
const CODE: u64 = 0x1000;
const STACK: u64 = 0x8000;

/// Basic exit reasons (Intel SDM vol. 3, appendix C).
mod reason {
    pub const CPUID: u64 = 10;
    pub const HLT: u64 = 12;
    pub const IO: u64 = 30;
    pub const EPT_VIOLATION: u64 = 48;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
}

/// More events than any guest here has: it goes in circles.
const MANY: usize = 400;
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
/// Read at each event.
const STATE: Mtd = Mtd::GPR_0_7
    .union(Mtd::GPR_8_15)
    .union(Mtd::RFLAGS)
    .union(Mtd::RIP)
    .union(Mtd::STA)
    .union(Mtd::QUAL)
    .union(Mtd::INJ)
    .union(Mtd::CS_SS)
    .union(Mtd::IDTR)
    .union(Mtd::CR)
    .union(Mtd::XSAVE)
    .union(Mtd::SYSCALL)
    .union(Mtd::PAT)
    .union(Mtd::EFER)
    .union(Mtd::KERNEL_GS);

const RAX: usize = ArchState::RAX;

/// A guest.
struct Guest {
    vcpu: Vcpu,
    log: Log,
    end: Arc<Semaphore>,
    _events: Events,
    _space: GuestSpace,
}

/// What starts a guest at [`CODE`] in real mode: the groups that it writes.
fn enter(s: &mut ArchState) -> Mtd {
    s.gpr[ArchState::RSP] = STACK;
    s.begin_in_real_mode(CODE, 2) | Mtd::GPR_0_7
}

/// Goes on behind the instruction that exited.
fn skip(s: &mut ArchState) -> Mtd {
    s.rip += u64::from(s.inst_len);
    Mtd::RIP
}

impl Guest {
    /// `react` gets event and state, STARTUP after it was set up; `None`: that was the end.
    fn new(
        code: &[u8],
        spaces: impl Fn(&mut ArchState) + Send + 'static,
        mut react: impl FnMut(u64, &mut ArchState) -> Option<Mtd> + Send + 'static,
    ) -> Result<Guest, String> {
        let space = done("guest space", GuestSpace::new())?;
        let ram = memory(RAM, RAM);
        for (i, b) in code.iter().enumerate() {
            let at = ram + CODE + i as u64;
            // SAFETY: inside the new memory, to which there are no references.
            unsafe { std::ptr::with_exposed_provenance_mut::<u8>(at as usize).write_volatile(*b) };
        }
        let host = std::ptr::with_exposed_provenance::<u8>(ram as usize);
        // SAFETY: the memory is never given back, and only accessed volatile.
        done("guest memory", unsafe { space.map(0, host, RAM as u64, perm::Mem::all()) })?;
        let (log, end) = (Log::default(), Arc::new(Semaphore::new(0)));
        let (seen, ended, gst) = (log.clone(), end.clone(), space.sel());
        let mut over = false;
        let events = Events::new(
            EVENTS,
            STATE,
            Some(Box::new(move |n, s| {
                seen.lock().expect("log").push((n, *s));
                let first = if n == event::GST_STARTUP {
                    (s.sel_gst, s.sel_pio, s.sel_msr) = (gst, 0, 0);
                    spaces(s);
                    enter(s) | Mtd::SPACES
                } else {
                    Mtd::empty()
                };
                over |= seen.lock().expect("log").len() > MANY;
                match react(n, s) {
                    Some(mtd) if !over => first | mtd,
                    _ => {
                        over = true;
                        ended.up();
                        Mtd::POISON
                    }
                }
            })),
        )?;
        let vcpu = done("vCPU", Vcpu::new(cpu(), events.base))?;
        Ok(Guest { vcpu, log, end, _events: events, _space: space })
    }

    /// Runs it to its end; returns all events.
    fn run(&mut self) -> Result<Vec<(u64, ArchState)>, String> {
        done("start", self.vcpu.start(1))?;
        if let Err(e) = arrives("end of the guest", &self.end) {
            let first: Vec<_> = self.numbers().into_iter().take(6).collect();
            return Err(format!("{e}; first events: {first:x?}"));
        }
        Ok(self.events())
    }

    fn events(&self) -> Vec<(u64, ArchState)> {
        self.log.lock().expect("log").clone()
    }

    /// Numbers of the events so far.
    fn numbers(&self) -> Vec<u64> {
        self.log.lock().expect("log").iter().map(|e| e.0).collect()
    }
}
