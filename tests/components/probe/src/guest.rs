//! Virtual CPUs (docs/spec/objects.md, abi.md, ipc_reply.md), with guests of a few bytes in real mode.
//!
//! Key type: [`Guest`]: 64 KiB of RAM at 0, code at [`CODE`], a stack below [`STACK`].

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Events, Log, PAGE, Slot, arrives, cpu, in_ms, memory, page, peek, poke};
use abi::{ArchState, Mtd, Segment, Status, event, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall as hc;
use rt::vm::{GuestSpace, MsrSpace, PioSpace, Vcpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("STARTUP is the first event; state after reset", startup),
    ("exits: CPUID, IN, OUT, VMCALL, HLT with RIP, length, registers, qualification", exits),
    ("exits: RDMSR, WRMSR of what the MSR space does not grant", msrs),
    ("exits: an empty PIO space and MSR space exit as well", empty_spaces),
    ("registers that a reply writes reach the guest, and only its groups", registers),
    ("RFLAGS come and go", flags),
    ("guest memory is the memory that was delegated", shared_memory),
    ("injection: an external interrupt through the IVT", interrupt),
    ("injection: a software interrupt pushes the address behind it", software_interrupt),
    ("injection: an exception in real mode", exception),
    ("interrupt window: exit as soon as the guest takes interrupts", window),
    ("EPT violation: read, write, fetch with address; goes on once the page is there", violation),
    ("EPT violation: write to a read-only page", read_only),
    ("revoking a guest page takes it away at once", revoked),
    ("RECALL stops a guest that loops with interrupts on, and off", recall),
    ("RECALL before the first entry", recall_early),
    ("a looping guest does not keep the CPU from others", shares_cpu),
    ("CTRL: RDTSC and exception intercepts can be added", intercepts),
    ("vector registers: the guest's and the VMM's do not mix", vectors),
    ("TPR, CR2, CR3, XCR0 and MSR groups hold what is written", groups),
    ("failed entry on bad guest state: event 0x21; goes on once repaired", bad_state),
    ("triple fault: event 2", triple_fault),
    ("POISON kills a virtual CPU", poison),
    ("a virtual CPU without guest space is killed when it would run (ipc_reply.md)", no_space),
    ("an event without portal kills a virtual CPU", no_portal),
    ("BAD_CAP: a guest space as source; delegation to it without GRANT", bad_cap),
    ("BAD_PAR: guest addresses misaligned or beyond 2^48", bad_par),
];

const RAM: usize = 64 << 10;
const CODE: u64 = 0x1000;
const STACK: u64 = 0x8000;

/// Basic exit reasons (Intel SDM vol. 3, appendix C).
mod reason {
    pub const EXCEPTION: u64 = 0;
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const CPUID: u64 = 10;
    pub const HLT: u64 = 12;
    pub const RDTSC: u64 = 16;
    pub const VMCALL: u64 = 18;
    pub const IO: u64 = 30;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const ENTRY_FAILURE: u64 = 33;
    pub const EPT_VIOLATION: u64 = 48;
}

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
    space: Arc<GuestSpace>,
    /// Where its RAM is for us.
    ram: u64,
    log: Log,
    end: Arc<Semaphore>,
    _events: Events,
}

/// What starts a guest at [`CODE`] in real mode: the groups that it writes.
fn enter(s: &mut ArchState) -> Mtd {
    s.cs = Segment { sel: 0, ar: 0x9b, limit: 0xffff, base: 0 };
    s.ss = Segment { sel: 0, ar: 0x93, limit: 0xffff, base: 0 };
    s.rip = CODE;
    s.gpr[ArchState::RSP] = STACK;
    s.rflags = 2;
    Mtd::CS_SS | Mtd::RIP | Mtd::GPR_0_7 | Mtd::RFLAGS
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
        let space = Arc::new(done("guest space", GuestSpace::new())?);
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
        Ok(Guest { vcpu, space, ram, log, end, _events: events })
    }

    /// Runs it to its end; returns all events.
    fn run(&mut self) -> Result<Vec<(u64, ArchState)>, String> {
        done("start", self.vcpu.start(1))?;
        if let Err(e) = arrives("end of the guest", &self.end) {
            return Err(format!("{e}; events: {:x?}", self.numbers()));
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

/// Runs code until HLT; all other exits are skipped. The events without STARTUP.
fn until_hlt(code: &[u8]) -> Result<Vec<(u64, ArchState)>, String> {
    let mut g = Guest::new(
        code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID | reason::VMCALL | reason::IO | reason::RDMSR | reason::WRMSR => Some(skip(s)),
            _ => None,
        },
    )?;
    Ok(g.run()?.split_off(1))
}

/// Number, RIP and instruction length of each.
fn places(events: &[(u64, ArchState)]) -> Vec<(u64, u64, u32)> {
    events.iter().map(|(n, s)| (*n, s.rip, s.inst_len)).collect()
}

fn startup() -> Outcome {
    let mut g = Guest::new(&[0xf4], |_| {}, |_, _| None)?;
    let events = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP])?;
    let s = &events[0].1;
    equal("CS base, RIP", (s.cs.base, s.rip), (0xffff_0000, 0xfff0))?;
    equal("RFLAGS", s.rflags, 2)?;
    equal("CR0.PE, PG", s.cr0 & 0x8000_0001, 0)
}

fn exits() -> Outcome {
    let e = until_hlt(&[
        0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
        0x0f, 0xa2, // cpuid
        0xe4, 0x60, // in al, 0x60
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x66, 0xef, // out dx, eax
        0x0f, 0x01, 0xc1, // vmcall
        0xf4, // hlt
    ])?;
    let want = [
        (reason::CPUID, CODE + 6, 2),
        (reason::IO, CODE + 8, 2),
        (reason::IO, CODE + 13, 2),
        (reason::VMCALL, CODE + 15, 3),
        (reason::HLT, CODE + 18, 1),
    ];
    equal("event, RIP, length", places(&e), want.to_vec())?;
    equal("RAX at each", e.iter().map(|e| e.1.gpr[RAX]).collect(), vec![0x1234_5678u64; 5])?;
    equal("qualification of IN", e[1].1.qual[0], 0x60 << 16 | 1 << 6 | 1 << 3)?;
    equal("qualification of OUT", e[2].1.qual[0], 0x3f8 << 16 | 3)?;
    equal("RSP", e[4].1.gpr[ArchState::RSP], STACK)
}

fn msrs() -> Outcome {
    let e = until_hlt(&[
        0x66, 0xb9, 0x01, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000001
        0x0f, 0x32, // rdmsr
        0x0f, 0x30, // wrmsr
        0xf4,
    ])?;
    let want = [(reason::RDMSR, CODE + 6, 2), (reason::WRMSR, CODE + 8, 2), (reason::HLT, CODE + 10, 1)];
    equal("event, RIP, length", places(&e), want.to_vec())?;
    equal("RCX", e[0].1.gpr[ArchState::RCX], 0xc000_0001)
}

fn empty_spaces() -> Outcome {
    let (pio, msr) = (done("PIO space", PioSpace::new())?, done("MSR space", MsrSpace::new())?);
    let (p, m) = (pio.sel(), msr.sel());
    let code = [0xe6, 0x80, 0x66, 0xb9, 0x10, 0, 0, 0, 0x0f, 0x32, 0xf4]; // out; mov ecx, IA32_TSC; rdmsr; hlt
    let mut g = Guest::new(
        &code,
        move |s| (s.sel_pio, s.sel_msr) = (p, m),
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO | reason::RDMSR => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal(
        "events",
        places(&e[1..]),
        vec![(reason::IO, CODE, 2), (reason::RDMSR, CODE + 8, 2), (reason::HLT, CODE + 10, 1)],
    )
}

fn registers() -> Outcome {
    // cpuid; vmcall; hlt
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0x0f, 0x01, 0xc1, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                let rsp = s.gpr[ArchState::RSP];
                s.gpr = std::array::from_fn(|i| 0x1111_1111_0000_0000 + i as u64);
                s.gpr[ArchState::RSP] = rsp;
                Some(skip(s) | Mtd::GPR_0_7 | Mtd::GPR_8_15)
            }
            reason::VMCALL => {
                s.gpr = [0; 16];
                Some(skip(s) | Mtd::GPR_8_15)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID, reason::VMCALL, reason::HLT])?;
    for i in (0..16).filter(|&i| i != ArchState::RSP) {
        equal(&format!("register {i} at VMCALL"), e[2].1.gpr[i], 0x1111_1111_0000_0000 + i as u64)?;
        let want = if i < 8 { 0x1111_1111_0000_0000 + i as u64 } else { 0 };
        equal(&format!("register {i} at HLT"), e[3].1.gpr[i], want)?;
    }
    Ok(())
}

fn flags() -> Outcome {
    // stc; cpuid; pushf; pop ax; hlt
    let mut g = Guest::new(
        &[0xf9, 0x0f, 0xa2, 0x9c, 0x58, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                s.rflags = 0x2 | 0x40 | 0x400; // ZF, DF
                Some(skip(s) | Mtd::RFLAGS)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("RFLAGS at CPUID", e[1].1.rflags & 0xcd5, 1)?;
    equal("AX at HLT", e[2].1.gpr[RAX] & 0xffff, 0x442)
}

fn shared_memory() -> Outcome {
    // mov ax, [0x6000]; inc ax; mov [0x6008], ax; hlt
    let mut g = Guest::new(
        &[0xa1, 0x00, 0x60, 0x40, 0xa3, 0x08, 0x60, 0xf4],
        |_| {},
        |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()),
    )?;
    poke(g.ram + 0x6000, 0x4141);
    g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT])?;
    equal("word that the guest wrote", peek(g.ram + 0x6008), 0x4142)
}

const HANDLER: u64 = 0x2000;

/// A guest that is injected `inj` at its first HLT; the handler is at [`HANDLER`]: OUT and IRET.
fn injected(code: &[u8], inj: u32, len: u32) -> Result<(Guest, Vec<(u64, ArchState)>), String> {
    let mut halts = 0;
    let mut g = Guest::new(
        code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => Some(skip(s)),
            reason::HLT if halts == 0 => {
                halts += 1;
                s.rip += 1;
                s.inst_len = len;
                s.inj_info = inj | ArchState::INJ_VALID;
                (s.intr_state, s.actv_state) = (0, 0);
                Some(Mtd::RIP | Mtd::INJ | Mtd::STA)
            }
            _ => None,
        },
    )?;
    poke(g.ram + HANDLER, 0xcf_81e6); // out 0x81, al; iret
    poke(g.ram + u64::from(inj & 0xff) * 4 & !7, HANDLER << (u64::from(inj & 1) * 32));
    let e = g.run()?;
    Ok((g, e))
}

/// Words that the guest has pushed: the highest first.
fn pushed(g: &Guest) -> [u16; 3] {
    let v = peek(g.ram + STACK - 8);
    [(v >> 48) as u16, (v >> 32) as u16, (v >> 16) as u16]
}

fn interrupt() -> Outcome {
    let (g, e) = injected(&[0xfb, 0xf4, 0xf4], 0x20, 0)?; // sti; hlt; hlt
    let want = [(reason::HLT, CODE + 1, 1), (reason::IO, HANDLER, 2), (reason::HLT, CODE + 2, 1)];
    equal("event, RIP, length", places(&e[1..]), want.to_vec())?;
    equal("IF in the handler", e[2].1.rflags & 0x200, 0)?;
    equal("IF after IRET", e[3].1.rflags & 0x200, 0x200)?;
    equal("RSP in the handler", e[2].1.gpr[ArchState::RSP], STACK - 6)?;
    equal("FLAGS, CS, IP on the stack", pushed(&g), [0x202, 0, (CODE + 2) as u16])?;
    equal("nothing left to inject", e[2].1.inj_info & ArchState::INJ_VALID, 0)
}

fn software_interrupt() -> Outcome {
    // A software interrupt of length 2, as if "int 0x21" were at CODE + 1.
    let (g, e) = injected(&[0xf4, 0x90, 0x90, 0xf4], 4 << 8 | 0x21, 2)?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT, reason::IO, reason::HLT])?;
    // The length is not among what a reply writes (abi.md: r instruction length): what is pushed follows the
    // length that the exit had, 1.
    equal("IP on the stack, behind an instruction of the length of the exit", pushed(&g)[2], (CODE + 2) as u16)?;
    equal("RIP at the second HLT", e[3].1.rip, CODE + 3)
}

fn exception() -> Outcome {
    let (g, e) = injected(&[0xf4, 0xf4], 3 << 8 | 6, 0)?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT, reason::IO, reason::HLT])?;
    equal("RIP in the handler", e[2].1.rip, HANDLER)?;
    equal("IP on the stack", pushed(&g)[2], (CODE + 1) as u16)
}

fn window() -> Outcome {
    // cli; out 0x82, al; sti; nop; nop; hlt
    let code = [0xfa, 0xe6, 0x82, 0xfb, 0x90, 0x90, 0xf4];
    let mut g = Guest::new(
        &code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => {
                s.inj_info = ArchState::INJ_IRQ_WINDOW;
                Some(skip(s) | Mtd::INJ)
            }
            reason::INTERRUPT_WINDOW => {
                s.inj_info = 0;
                Some(Mtd::INJ)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    let got: Vec<_> = e[1..].iter().map(|e| (e.0, e.1.rip)).collect();
    equal(
        "event, RIP",
        got,
        vec![(reason::IO, CODE + 1), (reason::INTERRUPT_WINDOW, CODE + 5), (reason::HLT, CODE + 6)],
    )
}

// Qualification of EPT violations: the access.
const EPT_READ: u64 = 1;
const EPT_WRITE: u64 = 2;
const EPT_FETCH: u64 = 4;

fn violation() -> Outcome {
    // mov ax, 0x2000; mov ds, ax; mov al, [0x123]; mov [0x1123], al; jmp 0x2000:0x2000 -- DS base 0x20000
    let code = [
        0xb8, 0x00, 0x20, 0x8e, 0xd8, // mov ax, 0x2000; mov ds, ax
        0xa0, 0x23, 0x01, // mov al, [0x123]
        0xa2, 0x23, 0x11, // mov [0x1123], al
        0xea, 0x00, 0x20, 0x00, 0x20, // jmp 0x2000:0x2000
    ];
    let pages = [page(), page(), page()];
    poke(pages[0] + 0x120, 0x7700_0000);
    poke(pages[2], 0xf4);
    let slot = Arc::new(std::sync::Mutex::new(None::<Arc<GuestSpace>>));
    let s2 = slot.clone();
    let mut next = 0;
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, _| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::EPT_VIOLATION if next < 3 => {
                let space = s2.lock().expect("space").clone()?;
                let host = std::ptr::with_exposed_provenance::<u8>(pages[next] as usize);
                // SAFETY: a page that is never given back, and only accessed volatile.
                let r = unsafe { space.map(0x20000 + next as u64 * PAGE, host, PAGE, perm::Mem::all()) };
                next += 1;
                r.is_ok().then_some(Mtd::empty())
            }
            _ => None,
        },
    )?;
    *slot.lock().expect("space") = Some(g.space.clone());
    let e = g.run()?;
    *slot.lock().expect("space") = None;
    equal("events", g.numbers(), vec![event::GST_STARTUP, 48, 48, 48, reason::HLT])?;
    for (i, access, gpa, rip) in
        [(1, EPT_READ, 0x20123, CODE + 5), (2, EPT_WRITE, 0x21123, CODE + 8), (3, EPT_FETCH, 0x22000, 0x2000)]
    {
        let s = &e[i].1;
        equal("kind of access", s.qual[0] & 7, access)?;
        equal("nothing there: permissions", s.qual[0] >> 3 & 7, 0)?;
        equal("guest-linear address", s.qual[1], gpa)?;
        equal("guest-physical address", s.qual[2], gpa)?;
        equal("RIP", s.rip, rip)?;
    }
    equal("AL that was read", e[4].1.gpr[RAX] & 0xff, 0x77)?;
    equal("byte that was written", peek(pages[1] + 0x120) >> 24 & 0xff, 0x77)
}

fn read_only() -> Outcome {
    // mov [0x5000], al; hlt
    let mut g =
        Guest::new(&[0xa2, 0x00, 0x50, 0xf4], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    let host = std::ptr::with_exposed_provenance::<u8>((g.ram + 0x5000) as usize);
    // SAFETY: as all of its RAM.
    done("map", unsafe { g.space.map(0x5000, host, PAGE, perm::Mem::R) })?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::EPT_VIOLATION])?;
    equal("write; readable, not writable", e[1].1.qual[0] & 0x1b, EPT_WRITE | 1 << 3)?;
    equal("guest-physical address", e[1].1.qual[2], 0x5000)
}

fn revoked() -> Outcome {
    // mov al, [0x5000]; out 0x80, al; mov al, [0x5000]; hlt
    let code = [0xa0, 0x00, 0x50, 0xe6, 0x80, 0xa0, 0x00, 0x50, 0xf4];
    let space = Arc::new(std::sync::Mutex::new(None::<Arc<GuestSpace>>));
    let s2 = space.clone();
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => {
                let space = s2.lock().expect("space").clone()?;
                space.unmap(0x5000, PAGE).ok()?;
                Some(skip(s))
            }
            _ => None,
        },
    )?;
    *space.lock().expect("space") = Some(g.space.clone());
    let e = g.run()?;
    *space.lock().expect("space") = None;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::IO, reason::EPT_VIOLATION])?;
    equal("guest-physical address, RIP", (e[2].1.qual[2], e[2].1.rip), (0x5000, CODE + 5))
}

fn sleep_ms(n: u64) {
    Semaphore::new(0).down_until(in_ms(n));
}

fn recall() -> Outcome {
    for (what, code) in [("sti; jmp $", [0xfb, 0xeb, 0xfe]), ("cli; jmp $", [0xfa, 0xeb, 0xfe])] {
        let mut recalls = 0;
        let mut g = Guest::new(
            &code,
            |_| {},
            move |n, _| match n {
                event::GST_STARTUP => Some(Mtd::empty()),
                event::GST_RECALL => {
                    recalls += 1;
                    (recalls < 3).then_some(Mtd::empty())
                }
                _ => None,
            },
        )?;
        done("start", g.vcpu.start(1))?;
        for _ in 0..3 {
            sleep_ms(5);
            done("recall", g.vcpu.recall())?;
        }
        arrives(what, &g.end)?;
        let e = g.events();
        equal(what, g.numbers(), [vec![event::GST_STARTUP], vec![event::GST_RECALL; 3]].concat())?;
        equal("RIP", e[3].1.rip, CODE + 1)?;
    }
    Ok(())
}

fn recall_early() -> Outcome {
    let mut g = Guest::new(&[0xeb, 0xfe], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    done("recall", g.vcpu.recall())?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, event::GST_RECALL])?;
    equal("RIP", e[1].1.rip, CODE)
}

fn shares_cpu() -> Outcome {
    let mut g = Guest::new(&[0xfa, 0xeb, 0xfe], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    let count = Arc::new(AtomicU64::new(0));
    let (c, stop) = (count.clone(), in_ms(200));
    rt::thread::set_spawn_priority(1);
    let other = std::thread::spawn(move || {
        while rt::time::tsc() < stop {
            c.fetch_add(1, SeqCst);
        }
    });
    rt::thread::set_spawn_priority(0);
    done("start", g.vcpu.start(1))?;
    sleep_ms(100);
    let a = count.load(SeqCst);
    sleep_ms(60);
    let b = count.load(SeqCst);
    other.join().map_err(|_| "panic")?;
    done("recall", g.vcpu.recall())?;
    arrives("end of the guest", &g.end)?;
    holds("an equal of the guest runs", a > 0 && b > a)
}

/// Primary controls: RDTSC exiting.
const RDTSC_EXITING: u32 = 1 << 12;

fn intercepts() -> Outcome {
    // rdtsc; cpuid; rdtsc; ud2
    let code = [0x0f, 0x31, 0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0x0b];
    let mut g = Guest::new(
        &code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                (s.ctrl, s.ctrl3) = ([RDTSC_EXITING, 0], 0);
                (s.intcpt_cr0, s.intcpt_cr4) = (0, 0);
                (s.intcpt_exc, s.pfe_mask, s.pfe_match) = (1 << 6, 0, 0);
                Some(skip(s) | Mtd::CTRL)
            }
            reason::RDTSC => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    let got: Vec<_> = e[1..].iter().map(|e| (e.0, e.1.rip)).collect();
    equal("event, RIP", got, vec![(reason::CPUID, CODE + 2), (reason::RDTSC, CODE + 4), (reason::EXCEPTION, CODE + 6)])
}

fn vectors() -> Outcome {
    // CR4.OSFXSR; movd xmm3, eax; loop of cpuid; movd eax, xmm3; hlt
    let code = [
        0x66, 0xb8, 0x00, 0x02, 0x00, 0x00, // mov eax, 0x200
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0x66, 0xb8, 0xef, 0xbe, 0xad, 0xde, // mov eax, 0xdeadbeef
        0x66, 0x0f, 0x6e, 0xd8, // movd xmm3, eax
        0xbe, 0x64, 0x00, // mov si, 100
        0x0f, 0xa2, // 1: cpuid
        0x4e, // dec si
        0x75, 0xfb, // jnz 1b
        0x66, 0x0f, 0x7e, 0xd8, // movd eax, xmm3
        0xf4,
    ];
    let mut bad = 0;
    let mixed = Arc::new(AtomicU64::new(0));
    let m = mixed.clone();
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                let mut out = 0u64;
                // SAFETY: uses two vector registers.
                unsafe {
                    std::arch::asm!("movq {o}, xmm3", "movq xmm3, {v}", o = out(reg) out, v = in(reg) 0x77u64, out("xmm3") _);
                }
                bad += u64::from(out == 0xdead_beef);
                m.store(bad, SeqCst);
                s.gpr[RAX] = 0;
                Some(skip(s) | Mtd::GPR_0_7)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("last event", g.numbers().last().copied(), Some(reason::HLT))?;
    equal("XMM3 of the guest", e.last().map(|e| e.1.gpr[RAX]), Some(0xdead_beef))?;
    equal("times that the VMM saw the guest's value", mixed.load(SeqCst), 0)
}

fn groups() -> Outcome {
    // cpuid; cpuid; hlt
    let mut round = 0;
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0x0f, 0xa2, 0xf4],
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID if round == 0 => {
                round = 1;
                (s.cr2, s.cr3, s.cr8) = (0x1234_5678_9abc, 0x5000, 7);
                (s.star, s.lstar, s.fmask, s.kernel_gs_base) = (0x11, 0x22_0000, 0x33, 0x44_0000);
                s.pat = 0x0007_0406_0007_0406;
                s.xcr0 = 3;
                s.idtr = Segment { limit: 0x3ff, base: 0x100, ..Segment::default() };
                Some(skip(s) | Mtd::CR | Mtd::SYSCALL | Mtd::KERNEL_GS | Mtd::PAT | Mtd::XSAVE | Mtd::IDTR)
            }
            reason::CPUID => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID, reason::CPUID, reason::HLT])?;
    for (_, s) in &e[2..] {
        equal("CR2, CR3, CR8", (s.cr2, s.cr3, s.cr8), (0x1234_5678_9abc, 0x5000, 7))?;
        equal("STAR, LSTAR, FMASK", (s.star, s.lstar, s.fmask), (0x11, 0x22_0000, 0x33))?;
        equal("KERNEL_GS_BASE, PAT, XCR0", (s.kernel_gs_base, s.pat, s.xcr0), (0x44_0000, 0x0007_0406_0007_0406, 3))?;
        equal("IDTR", (s.idtr.base, s.idtr.limit), (0x100, 0x3ff))?;
    }
    Ok(())
}

fn bad_state() -> Outcome {
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => {
                // Code segments have a type from 9 on (in real mode also 3); this one has none.
                s.cs.ar = 0x90;
                Some(Mtd::CS_SS)
            }
            reason::ENTRY_FAILURE => {
                s.cs.ar = 0x9b;
                Some(Mtd::CS_SS)
            }
            reason::CPUID => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::ENTRY_FAILURE, reason::CPUID, reason::HLT])?;
    equal("RIP, CS access rights at the failure", (e[1].1.rip, e[1].1.cs.ar), (CODE, 0x90))
}

fn triple_fault() -> Outcome {
    // lidt [0x6000] (all zero: limit 0); ud2
    let e = until_hlt(&[0x0f, 0x01, 0x1e, 0x00, 0x60, 0x0f, 0x0b])?;
    equal("events", e.iter().map(|e| e.0).collect(), vec![reason::TRIPLE_FAULT])
}

fn poison() -> Outcome {
    let mut g =
        Guest::new(&[0x0f, 0xa2, 0xeb, 0xfc], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    g.run()?;
    sleep_ms(5);
    done("recall of a dead vCPU", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID])
}

fn no_space() -> Outcome {
    let mut g = Guest::new(&[0xf4], |s| s.sel_gst = 0, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    done("start", g.vcpu.start(1))?;
    sleep_ms(10);
    done("recall", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP])
}

fn no_portal() -> Outcome {
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            _ => Some(skip(s)),
        },
    )?;
    rt::sel::free(g._events.base + reason::CPUID);
    done("start", g.vcpu.start(1))?;
    sleep_ms(10);
    done("recall", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP])
}

fn bad_cap() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    let weak = Slot::masked(space.sel(), perm::Space::ASSIGN.bits())?;
    for (what, src, dst) in [
        ("guest space to itself", space.sel(), space.sel()),
        ("guest space to host space", space.sel(), sel::HST),
        ("host space to guest space without GRANT", sel::HST, weak.0),
        ("object space to guest space", sel::OBJ, space.sel()),
    ] {
        // SAFETY: refused.
        refused(what, unsafe { hc::ctrl_pd(src, dst, 0, 0, 0, 0, abi::Mad::WB) }, Status::BadCap)?;
    }
    Ok(())
}

fn bad_par() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    // SAFETY: a guest space, and nothing runs in it.
    let grant = |ssb, dsb, ord| unsafe { hc::ctrl_pd(sel::HST, space.sel(), ssb, dsb, ord, perm::ALL, abi::Mad::WB) };
    let (own, end) = (page() / PAGE, 1 << 36);
    done("last page", grant(own, end - 1, 0))?;
    refused("beyond", grant(own, end, 0), Status::BadPar)?;
    refused("misaligned destination", grant(0, 1, 1), Status::BadPar)?;
    refused("misaligned source", grant(1, 0, 1), Status::BadPar)?;
    refused("order 19", grant(0, 0, 19), Status::BadPar)
}
