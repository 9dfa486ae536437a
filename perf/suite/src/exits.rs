//! VM exits: from one run of the handler to the next. In between are reply, VM entry, one or two instructions of the
//! guest, exit, and the event's message; and the handler's own 11 instructions.
//!
//! Key type: [`Guest`].

use crate::clock::{SAMPLES, WARM_UP, missing, report, samples_at, settle};
use crate::semaphores::{ONE_CPU, other_cpu};
use crate::servers::{Code, Domain, Server};
use crate::threads::up;
use abi::{ArchState, Mtd, Sel, event, perm};
use bare::{PAGE, done, memory, poke};
use parent::sel;
use rt::hypercall as hc;
use rt::vm::{GuestSpace, Vcpu};
use rt::{PortalThread, Semaphore};
use std::mem::offset_of;

/// Guest RAM; its last page is not there.
const RAM: usize = 64 << 10;
const CODE: u64 = 0x1000;
const STACK: u64 = 0xe000;
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
/// Longest wait for the end of a guest, in milliseconds.
const PATIENCE: u64 = 20_000;
/// How long a guest runs before it is recalled, in ticks.
const RUN: u64 = 10_000;
/// RFLAGS: the bit that is always set, and that with interrupts on.
const FLAGS: u64 = 1 << 1;
const INTERRUPTS_ON: u64 = FLAGS | 1 << 9;
/// Injection information: an external interrupt of that vector; a request for an interrupt window.
const VECTOR: u8 = 0x20;
const INTERRUPT: u32 = 1 << 31 | VECTOR as u32;
const WINDOW: u32 = 1 << 12;

const GPR_RIP: Mtd = Mtd::GPR_0_7.union(Mtd::RIP);
/// Descriptors, of the portal and of the reply.
const DESCRIPTORS: [(&str, Mtd); 4] =
    [("rip", Mtd::RIP), ("gpr_rip", GPR_RIP), ("gpr_rip_qual", GPR_RIP.union(Mtd::QUAL)), ("full", Mtd::GUEST_STATE)];

/// What a guest does again and again: name, basic exit reason (Intel SDM vol. 3, appendix C), code.
#[derive(Clone, Copy)]
struct Exit {
    name: &'static str,
    reason: u64,
    /// Where the vendors' instructions differ: that of SVM.
    code: [&'static [u8]; 2],
}

const EXITS: [Exit; 8] = [
    Exit { name: "cpuid", reason: 10, code: [&[0x0f, 0xa2]; 2] },
    HLT,
    Exit { name: "out", reason: 30, code: [&[0xe6, 0x80]; 2] },
    Exit { name: "in", reason: 30, code: [&[0xe4, 0x80]; 2] },
    Exit { name: "vmcall", reason: 18, code: [&[0x0f, 0x01, 0xc1], &[0x0f, 0x01, 0xd9]] },
    Exit { name: "rdmsr", reason: 31, code: [&[0x0f, 0x32]; 2] },
    Exit { name: "wrmsr", reason: 32, code: [&[0x0f, 0x30]; 2] },
    // MOV AL, [0xf000]
    Exit { name: "nested_page_fault", reason: 48, code: [&[0xa0, 0x00, 0xf0]; 2] },
];
const HLT: Exit = Exit { name: "hlt", reason: 12, code: [&[0xf4]; 2] };
/// STI, NOP, CPUID: as the handler of an interrupt, which is never left.
const HANDLER: Exit = Exit { name: "", reason: 10, code: [&[0xfb, 0x90, 0x0f, 0xa2]; 2] };
/// MOV CX, 1000; LOOP to itself; CPUID.
const WORK: Exit = Exit { name: "", reason: 10, code: [&[0xb9, 0xe8, 0x03, 0xe2, 0xfe, 0x0f, 0xa2]; 2] };
/// Of its last instruction.
const CPUID_LENGTH: u64 = 2;
/// JMP to itself; the exit is that of an interrupt window.
const LOOP: Exit = Exit { name: "", reason: 7, code: [&[0xeb, 0xfe]; 2] };

/// How a handler answers.
#[derive(Clone, Copy)]
struct Answer {
    /// Of the portal.
    read: Mtd,
    /// Of the reply.
    write: Mtd,
    /// What it advances RIP by.
    length: u64,
    /// Injection information.
    inject: u32,
}

/// A virtual CPU whose handler takes samples.
pub struct Guest {
    vcpu: Vcpu,
    base: Sel,
    handler: Server,
    _space: GuestSpace,
}

/// Answers STARTUP: real mode, at [`CODE`].
fn begin(u: &mut abi::Utcb, gst: u64, flags: u64, inject: u32) -> Mtd {
    let s = u.arch_mut();
    *s = ArchState::default();
    let begun = s.begin_in_real_mode(CODE, flags);
    // RDMSR and WRMSR name one that no guest may use, so that they exit.
    s.gpr[ArchState::RCX] = 0xc001_1234;
    s.gpr[ArchState::RSP] = STACK;
    s.idtr.limit = 0x3ff;
    s.inj_info = inject;
    s.sel_gst = gst;
    begun | Mtd::GPR_0_7 | Mtd::IDTR | Mtd::INJ | Mtd::SPACES
}

fn svm() -> bool {
    rt::start_info().is_some_and(|i| i.features & abi::Features::SVM.bits() != 0)
}

impl Guest {
    /// That code, many times or, if the handler does not advance RIP, once. It does not run yet.
    fn new(cpu: u16, exit: &Exit, flags: u64, inject: u32) -> Result<Guest, String> {
        let code = exit.code[svm() as usize];
        let (space, ram) = (done("guest space", GuestSpace::new())?, memory(RAM, RAM));
        let times = (WARM_UP + SAMPLES + 1).min((PAGE as usize * 8) / code.len());
        let at = |i: usize| std::ptr::with_exposed_provenance_mut::<u8>((ram + CODE) as usize + i);
        for i in 0..code.len() * times {
            // SAFETY: inside the new memory, to which there are no references.
            unsafe { at(i).write_volatile(code[i % code.len()]) };
        }
        // The real-mode vector: offset and segment.
        poke(ram + 4 * u64::from(VECTOR), CODE);
        let host = std::ptr::with_exposed_provenance::<u8>(ram as usize);
        // SAFETY: the memory is never given back, and only accessed volatile.
        done("guest memory", unsafe { space.map(0, host, RAM as u64 - PAGE, perm::Mem::all()) })?;
        let base = rt::sel::alloc_range(EVENTS, 1).ok_or("no selectors")?;
        let gst = space.sel();
        let starter = Box::new(move |_, _, u: &mut abi::Utcb| begin(u, gst, flags, inject).bits());
        let starter = done("starter", PortalThread::new(cpu, 32 << 10, starter))?;
        done("portal", starter.portal(base + event::GST_STARTUP, 0, 0))?;
        let vcpu = done("vCPU", Vcpu::new(cpu, base))?;
        Ok(Guest { vcpu, base, handler: Domain::own().server(cpu, true)?, _space: space })
    }

    /// The handler of such an exit: its samples go to the address that is returned, and after the last one `end` is upped.
    fn sampled(&self, reason: u64, a: Answer, end: &Semaphore) -> Result<u64, String> {
        let count = WARM_UP + SAMPLES;
        let buffer = memory(4 * count, 64);
        let (utcb, reply) = (self.handler.utcb, a.write.bits().into());
        poke(utcb + offset_of!(ArchState, inj_info) as u64, a.inject.into());
        self.handler.load([buffer, count as u64, utcb, a.length, reply, up(end.sel())])?;
        self.handler.portal(self.base + reason, Code::Exit, a.read.bits())?;
        Ok(buffer)
    }

    fn start(&mut self) -> Result<(), String> {
        done("start", self.vcpu.start(1))
    }

    /// One that runs without end, with interrupts on.
    pub fn looping(cpu: u16) -> Result<Guest, String> {
        let mut g = Guest::new(cpu, &LOOP, INTERRUPTS_ON, 0)?;
        g.start()?;
        Ok(g)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // SAFETY: a virtual CPU, which nothing relies on; it may have been killed.
        let _ = unsafe { hc::destroy(self.vcpu.sel()) };
    }
}

fn wait(end: &Semaphore) -> Result<(), String> {
    let came = end.down_until(rt::time::tsc() + rt::time::tsc_hz() / 1000 * PATIENCE);
    if came { Ok(()) } else { Err("the guest did not come to its end".into()) }
}

/// Guests on those CPUs that do the same, and where their samples will be. They do not run yet.
fn guests(
    cpus: &[u16],
    exit: &Exit,
    a: Answer,
    end: &Semaphore,
    start: (u64, u32),
) -> Result<Vec<(Guest, u64)>, String> {
    let one = |&cpu: &u16| {
        let g = Guest::new(cpu, exit, start.0, start.1)?;
        let buffer = g.sampled(exit.reason, a, end)?;
        Ok((g, buffer))
    };
    cpus.iter().map(one).collect()
}

/// Has them run at the same time, to their ends.
fn to_end(guests: &mut [(Guest, u64)], end: &Semaphore) -> Result<(), String> {
    guests.iter_mut().try_for_each(|(g, _)| g.start())?;
    guests.iter().try_for_each(|_| wait(end))
}

/// Samples of guests that begin with these flags and injection information.
fn measure(cpus: &[u16], exit: &Exit, a: Answer, flags: u64, inject: u32) -> Result<Vec<u32>, String> {
    let end = Semaphore::new(0);
    let mut guests = guests(cpus, exit, a, &end, (flags, inject))?;
    settle();
    to_end(&mut guests, &end)?;
    Ok(guests.iter().flat_map(|(_, buffer)| samples_at(*buffer)).collect())
}

/// Guests, one for each of these CPUs, that compute and exit: ticks of each such unit of work of all together, and bytes of
/// kernel memory of each guest.
pub fn at_work(cpus: &[u16]) -> Result<(u64, u64), String> {
    let answer = Answer { read: GPR_RIP, write: GPR_RIP, length: CPUID_LENGTH, inject: 0 };
    let used = || done("read_quota", hc::read_quota(sel::PD)).map(|(_, frames)| frames);
    let (end, before) = (Semaphore::new(0), used()?);
    let mut guests = guests(cpus, &WORK, answer, &end, (FLAGS, 0))?;
    let frames = used()? - before;
    settle();
    let (since, units) = (rt::time::tsc(), guests.len() * (WARM_UP + SAMPLES));
    to_end(&mut guests, &end)?;
    Ok(((rt::time::tsc() - since) / units as u64, frames * PAGE / guests.len() as u64))
}

fn by_reason(cpus: &[u16], exit: &Exit, mtd: Mtd) -> Result<Vec<u32>, String> {
    let length = exit.code[svm() as usize].len() as u64;
    measure(cpus, exit, Answer { read: mtd, write: mtd, length, inject: 0 }, FLAGS, 0)
}

/// CPUID on several CPUs at once.
pub fn at_once(cpus: &[u16]) -> Result<Vec<u32>, String> {
    no_guests().map_or_else(|| by_reason(cpus, &EXITS[0], GPR_RIP), |why| Err(why.into()))
}

/// From an exit whose answer is an interrupt, to the exit that the guest's handler of that makes.
fn injection(cpu: u16) -> Result<Vec<u32>, String> {
    let a = Answer { read: Mtd::RIP, write: Mtd::INJ, length: 0, inject: INTERRUPT };
    measure(&[cpu], &HANDLER, a, FLAGS, 0)
}

/// From one interrupt window to the next, which is there at once.
fn window(cpu: u16) -> Result<Vec<u32>, String> {
    let a = Answer { read: Mtd::RIP, write: Mtd::INJ, length: 0, inject: WINDOW };
    measure(&[cpu], &LOOP, a, INTERRUPTS_ON, WINDOW)
}

/// From the recall of a guest that has run on that CPU until now to its event's handler.
fn recall(cpu: u16) -> Result<Vec<u32>, String> {
    let (end, since, buffer) = (Semaphore::new(0), memory(8, 64), memory(4 * (WARM_UP + SAMPLES), 64));
    let mut g = Guest::new(cpu, &LOOP, INTERRUPTS_ON, 0)?;
    g.handler.load([buffer, 0, since, 0, 0, up(end.sel())])?;
    g.handler.portal(g.base + event::GST_RECALL, Code::Stamp, Mtd::RIP.bits())?;
    g.start()?;
    let gap = Semaphore::new(0);
    for _ in 0..WARM_UP + SAMPLES {
        gap.down_until(rt::time::tsc() + RUN);
        poke(since, rt::time::tsc());
        done("ctrl_ec", g.vcpu.recall())?;
        wait(&end)?;
    }
    Ok(samples_at(buffer))
}

/// Why there are no rows of this file.
pub fn no_guests() -> Option<&'static str> {
    let features = rt::start_info().map_or(0, |i| i.features);
    let some = features & (abi::Features::VMX | abi::Features::SVM).bits() != 0;
    (!some).then_some("the machine runs no guests")
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    let row = |name: &str, measure: &dyn Fn() -> Result<Vec<u32>, String>| match no_guests() {
        Some(why) => missing(name, why),
        None => report(name, measure(), 0),
    };
    for e in &EXITS {
        for (groups, mtd) in DESCRIPTORS {
            row(&format!("exit_{}_{groups}", e.name), &|| by_reason(&[cpu], e, mtd));
        }
    }
    row("exit_hlt_rip_sta", &|| by_reason(&[cpu], &HLT, Mtd::RIP.union(Mtd::STA)));
    row("exit_cpuid_inject_interrupt", &|| injection(cpu));
    row("exit_interrupt_window", &|| window(cpu));
    row("recall_same_cpu", &|| recall(cpu));
    row("recall_other_cpu", &|| other_cpu(cpu).map_or(Err(ONE_CPU.into()), recall));
    Ok(())
}
