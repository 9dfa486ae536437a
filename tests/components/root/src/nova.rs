//! docs/spec/spaces.md: the NOVA spaces. `interrupts` and `schedule` have their semaphores and idle SCs.

use crate::boot::take_and_grant;
use crate::check::{Check, NOT_HERE, Outcome, done, equal, holds, refused};
use crate::firmware::{self, free_memory, give_ports, hip, own_ports, table, take, word};
use crate::own::sel;
use crate::ports::{self, GP};
use crate::scene::{
    DENIED, Events, FETCH, NOT_MAPPED, PAGE, Slot, Touch, WRITE, faults, in_ms, memory, peek, poke, sleep_ms, window,
    works,
};
use abi::{CreatePdOp, Features, Mad, Mtd, Scd, Segment, Status, event, nova_obj, perm};
use rt::hypercall as hc;
use rt::vm::{GuestSpace, Vcpu};
use std::arch::x86_64::__cpuid;
use std::sync::{Arc, Mutex};

pub const CHECKS: &[Check] = &[
    ("spaces-36 spaces-38 spaces-39 spaces-40 spaces-41", "NOVA spaces: TAKE, and not GRANT", nova_spaces),
    ("spaces-42 spaces-43 spaces-44", "the root task's own spaces", own_spaces),
    ("spaces-47 spaces-51 ctrl_pd-13", "host space: frame N at selector N, with all permissions", frames),
    ("spaces-35 spaces-48 abi-103", "null: image and pool of the kernel", kernel),
    ("spaces-60", "the trace: R, and no more", trace),
    ("spaces-49", "null: local APIC, IOAPIC, message-signalled interrupts", controllers),
    ("spaces-50", "null: beyond the CPU's width", width),
    ("boot-12 boot-16", "null: one page below 1 MiB, where there are several CPUs", low_page),
    ("abi-98 ctrl_pd-14", "from another host space MAD is ignored", mad_ignored),
    ("spaces-52", "PIO space: ports can be taken, one by one", some_ports),
    ("spaces-53", "null: PM1 control, PM2 control, SMI command", power_ports),
    ("spaces-6 spaces-54 spaces-55 spaces-56 spaces-57 spaces-58", "MSR space: the list, and nothing else", msrs),
];

/// A space of that kind with nothing in it.
fn empty(op: CreatePdOp) -> Result<Slot, String> {
    Slot::pd(op, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)
}

fn nova_spaces() -> Outcome {
    for (what, at, op) in [
        ("object", nova_obj::NOVA_OBJ, CreatePdOp::Obj),
        ("host", nova_obj::NOVA_HST, CreatePdOp::Hst),
        ("PIO", nova_obj::NOVA_PIO, CreatePdOp::Pio),
        ("MSR", nova_obj::NOVA_MSR, CreatePdOp::Msr),
    ] {
        let (s, scratch) = (take(at, perm::ALL)?, empty(op)?);
        equal(&format!("{what} space: TAKE, GRANT"), take_and_grant(s.0, scratch.0)?, (true, false))?;
    }
    Ok(())
}

fn own_spaces() -> Outcome {
    for (what, at, op) in [
        ("object", nova_obj::ROOT_OBJ, CreatePdOp::Obj),
        ("host", nova_obj::ROOT_HST, CreatePdOp::Hst),
        ("PIO", nova_obj::ROOT_PIO, CreatePdOp::Pio),
    ] {
        let (s, scratch) = (take(at, perm::ALL)?, empty(op)?);
        equal(&format!("{what} space: TAKE, GRANT"), take_and_grant(s.0, scratch.0)?, (true, true))?;
    }
    // It is ours: what is put there is here.
    let (obj, s) = (take(nova_obj::ROOT_OBJ, perm::ALL)?, Slot::sm(1)?);
    let free = Slot::new();
    // SAFETY: object spaces hold no memory.
    done("through the copy", unsafe { hc::ctrl_pd(obj.0, obj.0, s.0, free.0, 0, perm::ALL, Mad::WB) })?;
    done("down", hc::sm_down(free.0, false, Some(1)))
}

/// What reading a frame comes to: mapped, or null.
fn is_there(phys: u64) -> Result<bool, String> {
    let w = window();
    done("map", firmware::map(phys, w, perm::Mem::all(), Mad::WB))?;
    let fault = crate::scene::touch(w, Touch::Read)?;
    match fault {
        None => Ok(true),
        Some(f) if f.event == 14 && f.error == NOT_MAPPED => Ok(false),
        Some(f) => Err(format!("{phys:#x}: {f:x?}")),
    }
}

fn frames() -> Outcome {
    let (start, end) = free_memory().ok_or("no memory")?;
    let (a, b) = (window(), window());
    let phys = end - 3 * PAGE;
    holds("free memory", phys > start)?;
    done("map", firmware::map(phys, a, perm::Mem::all(), Mad::WB))?;
    done("map", firmware::map(phys, b, perm::Mem::all(), Mad::WB))?;
    // A function that returns.
    poke(a, 0xc3);
    equal("the same frame", peek(b), 0xc3)?;
    works("call", b, Touch::Call)?;
    done("map", firmware::map(phys, b, perm::Mem::R | perm::Mem::W, Mad::WB))?;
    faults("call without XU", b, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    done("map", firmware::map(phys + PAGE, b, perm::Mem::all(), Mad::WB))?;
    poke(b, 0x55);
    equal("the next frame is another", peek(a), 0xc3)?;
    // No memory is there, perhaps a device.
    holds("a frame without memory", is_there(0xfd00_0000)?)
}

/// What the kernel lets others see of its memory: console and trace.
pub fn is_open(phys: u64) -> bool {
    let h = hip();
    (h.mbuf_start..h.mbuf_end).contains(&phys) || (h.trace_start..h.trace_end).contains(&phys)
}

fn trace() -> Outcome {
    let (h, w) = (hip(), window());
    for phys in [h.trace_start, h.trace_end - PAGE] {
        done("map", firmware::map(phys, w, perm::Mem::all(), Mad::WB))?;
        works("read", w, Touch::Read)?;
        faults("write", w, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
        faults("call", w, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    }
    Ok(())
}

fn kernel() -> Outcome {
    let (h, w) = (hip(), window());
    for phys in [h.nova_start, h.nova_start + 5 * PAGE, h.nova_end - PAGE] {
        equal(&format!("{phys:#x} is there"), is_there(phys)?, is_open(phys))?;
    }
    for phys in [h.nova_start - PAGE, h.nova_end] {
        holds(&format!("{phys:#x} is not"), is_there(phys)?)?;
    }
    holds("the console is not", is_there(h.mbuf_start)?)?;
    // Not by a large block either: the one that has the kernel's beginning in it.
    let block = (h.nova_start / PAGE) & !0x1ff;
    // SAFETY: to where nothing is.
    let r = unsafe { hc::ctrl_pd(firmware::memory(), sel::HST, block, w / PAGE, 9, perm::ALL, Mad::WB) };
    done("a block", r)?;
    faults("the kernel's first page in it", w + h.nova_start % (2 << 20), Touch::Read, NOT_MAPPED)?;
    // Nor is what lies in our own space but is the kernel's.
    let (from, to) = (((1 << 47) - 2 * PAGE) / PAGE, window());
    // SAFETY: to where nothing is.
    let r = unsafe { hc::ctrl_pd(sel::HST, sel::HST, from, to / PAGE, 0, perm::ALL, Mad::WB) };
    done("the UTCB", r)?;
    faults("an alias of the UTCB", to, Touch::Read, NOT_MAPPED)
}

fn controllers() -> Outcome {
    let madt = table("APIC").ok_or("no MADT")?;
    let mut list = vec![word(madt, 36, 4), 0xfee0_0000, 0xfeef_f000];
    let mut rest = &madt[44..];
    while rest.len() >= 2 {
        if rest[0] == 1 {
            list.push(word(rest, 4, 4));
        }
        rest = &rest[rest[1].max(2) as usize..];
    }
    holds("there is an IOAPIC", list.len() > 3)?;
    for phys in list {
        holds(&format!("{phys:#x} is null"), !is_there(phys)?)?;
    }
    holds("behind the MiB of interrupts", is_there(0xfef0_0000)?)?;
    holds("before it", is_there(0xfedf_f000)?)
}

fn width() -> Outcome {
    let bits = __cpuid(0x8000_0008).eax & 0xff;
    for phys in [1 << bits, 1 << 51, (1 << 52) - PAGE] {
        holds(&format!("{phys:#x} is null"), !is_there(phys)?)?;
    }
    let w = window();
    // The last selector that a register can name.
    // SAFETY: to where nothing is.
    let r = unsafe { hc::ctrl_pd(firmware::memory(), sel::HST, (1 << 52) - 1, w / PAGE, 0, perm::ALL, Mad::WB) };
    done("the last selector", r)?;
    faults("it is null", w, Touch::Read, NOT_MAPPED)
}

fn low_page() -> Outcome {
    let mut null = Vec::new();
    for phys in (0..1 << 20).step_by(PAGE as usize) {
        if !is_there(phys)? {
            null.push(phys);
        }
    }
    equal(&format!("pages below 1 MiB: {null:x?}"), null.len(), usize::from(hip().cpu_num > 1))
}

fn mad_ignored() -> Outcome {
    let (a, b) = (window(), window());
    let phys = free_memory().ok_or("no memory")?.1 - 4 * PAGE;
    done("map", firmware::map(phys, a, perm::Mem::all(), Mad(3)))?;
    poke(a, 0x77);
    for mad in [0, 7, u32::MAX] {
        // SAFETY: an alias of memory of ours.
        let r = unsafe { hc::ctrl_pd(sel::HST, sel::HST, a / PAGE, b / PAGE, 0, perm::ALL, Mad(mad)) };
        done(&format!("MAD {mad:#x}"), r)?;
        equal("alias", peek(b), 0x77)?;
    }
    Ok(())
}

fn some_ports() -> Outcome {
    for port in [0x80, 0x82, 0xffff] {
        equal("before", ports::read(port)?, GP)?;
        give_ports(port, 1, true)?;
        equal(&format!("port {port:#x}"), ports::read(port)?, None)?;
        equal("its neighbour", ports::read(port - 1)?, GP)?;
        give_ports(port, 1, false)?;
        equal("after", ports::read(port)?, GP)?;
    }
    let end = 1 << 16;
    // SAFETY: ports are no memory.
    let r = unsafe { hc::ctrl_pd(firmware::ports(), own_ports(), end, end, 0, perm::ALL, Mad::WB) };
    refused("port 2^16", r, Status::BadPar)
}

/// ACPI 6.5, 5.2.9: where the FADT names ports.
const SMI_CMD: usize = 48;
const PM1A_CNT: usize = 64;
const PM1B_CNT: usize = 68;
const PM2_CNT: usize = 72;

fn power_ports() -> Outcome {
    let fadt = table("FACP").ok_or("no FADT")?;
    let mut names = 0;
    for (at, len) in [(SMI_CMD, 1), (PM1A_CNT, 2), (PM1B_CNT, 2), (PM2_CNT, 1)] {
        let first = word(fadt, at, 4) as u16;
        for port in (first..first.saturating_add(len)).filter(|_| first != 0) {
            names += 1;
            give_ports(port, 1, true)?;
            equal(&format!("port {port:#x}"), ports::read(port)?, GP)?;
        }
    }
    holds("the FADT names some", names >= 2)
}

const RW: [u64; 8] = [0x174, 0x175, 0x176, 0x277, 0xc000_0080, 0xc000_0100, 0xc000_0101, 0xc000_0102];
const EFER: u64 = 0xc000_0080;
const WRITE_ONLY: [u64; 2] = [0x49, 0x10b];
const READ_ONLY: [u64; 18] = [
    0x10,
    0x17,
    0x8b,
    0xcf,
    0xe7,
    0xe8,
    0xfe,
    0x10a,
    0x123,
    0x195,
    0x198,
    0x19c,
    0x1b1,
    0xda0,
    0xc000_0081,
    0xc000_0082,
    0xc000_0084,
    0xc000_0103,
];
/// Of many that are null: their neighbours, APIC, debugging, machine check, VMX, and the ends.
const NULL: [u64; 22] = [
    0,
    0xf,
    0x11,
    0x1b,
    0x3a,
    0x48,
    0x4a,
    0x79,
    0x173,
    0x177,
    0x1d9,
    0x276,
    0x278,
    0x400,
    0x480,
    0x802,
    0x830,
    0x1fff,
    0xc000_0083,
    0xc000_00ff,
    0xc000_0104,
    0xc000_1fff,
];

const RDMSR: u64 = 31;
const WRMSR: u64 = 32;
const EXCEPTION: u64 = 0;
const HLT: u64 = 12;

/// `rdmsr; wrmsr; hlt`, and what is in the guest's registers at the start.
const CODE: [u8; 5] = [0x0f, 0x32, 0x0f, 0x30, 0xf4];

/// A virtual CPU that accesses MSR after MSR; whether reading and writing each exited.
struct Accesses {
    list: Vec<u64>,
    at: usize,
    exits: Vec<(bool, bool)>,
}

impl Accesses {
    fn done(&self) -> bool {
        self.at == self.list.len()
    }

    /// Answers an event. An exception is one that the access itself raised in the guest: it was granted.
    fn answer(&mut self, n: u64, s: &mut abi::ArchState) -> Mtd {
        match n {
            RDMSR | WRMSR => {
                if let Some(e) = self.exits.last_mut() {
                    if n == RDMSR { e.0 = true } else { e.1 = true }
                }
                s.rip += 2;
                return Mtd::RIP;
            }
            EXCEPTION => {
                s.rip += 2;
                s.inj_info = 0;
                return Mtd::RIP | Mtd::INJ;
            }
            HLT => self.at += 1,
            _ => {}
        }
        let Some(msr) = self.list.get(self.at) else { return Mtd::POISON };
        self.exits.push((false, false));
        s.gpr = [0; 16];
        s.gpr[abi::ArchState::RCX] = *msr;
        s.rip = 0x1000;
        Mtd::RIP | Mtd::GPR_0_7
    }
}

fn msrs() -> Outcome {
    if hip().features & (Features::VMX | Features::SVM).bits() == 0 {
        return Err(format!("{NOT_HERE}no guests"));
    }
    let list: Vec<u64> = RW.into_iter().chain(WRITE_ONLY).chain(READ_ONLY).chain(NULL).collect();
    let exits = accesses(list.clone())?;
    equal("MSRs that were accessed", exits.len(), list.len())?;
    for (msr, (read, write)) in list.into_iter().zip(exits) {
        let granted = match msr {
            // SVM cannot do without: the guest must not lose EFER.SVME.
            EFER if hip().features & Features::SVM.bits() != 0 => (false, false),
            m if RW.contains(&m) => (true, true),
            m if WRITE_ONLY.contains(&m) => (false, true),
            m if READ_ONLY.contains(&m) => (true, false),
            _ => (false, false),
        };
        equal(&format!("MSR {msr:#x}: read and write without an exit"), (!read, !write), granted)?;
    }
    Ok(())
}

/// Of each MSR, with all of NOVA's MSR space: whether reading and writing exit.
fn accesses(list: Vec<u64>) -> Result<Vec<(bool, bool)>, String> {
    let (nova, own) = (take(nova_obj::NOVA_MSR, perm::ALL)?, empty(CreatePdOp::Msr)?);
    for first in [0, 0xc000_0000] {
        // SAFETY: MSRs of a guest.
        done("MSRs", unsafe { hc::ctrl_pd(nova.0, own.0, first, first, 13, perm::ALL, Mad::WB) })?;
    }
    let space = done("guest space", GuestSpace::new())?;
    let ram = memory(64 << 10, 64 << 10);
    for (i, b) in CODE.into_iter().enumerate() {
        let at = std::ptr::with_exposed_provenance_mut::<u8>((ram + 0x1000) as usize + i);
        // SAFETY: inside the new memory.
        unsafe { at.write_volatile(b) };
    }
    let host = std::ptr::with_exposed_provenance(ram as usize);
    // SAFETY: never given back, only accessed volatile.
    done("guest memory", unsafe { space.map(0, host, 64 << 10, perm::Mem::all()) })?;
    let state = Arc::new(Mutex::new(Accesses { list, at: 0, exits: Vec::new() }));
    let (accesses, gst, msr) = (state.clone(), space.sel(), own.0);
    let react = move |n, s: &mut abi::ArchState| {
        let first = if n == event::GST_STARTUP {
            (s.sel_gst, s.sel_pio, s.sel_msr) = (gst, 0, msr);
            s.cs = Segment { sel: 0, ar: 0x9b, limit: 0xffff, base: 0 };
            s.intcpt_exc = !0;
            (s.intcpt_cr0, s.intcpt_cr4) = (0, 0);
            (s.ctrl, s.pfe_mask, s.pfe_match) = ([0; 2], 0, 0);
            Mtd::SPACES | Mtd::CS_SS | Mtd::CTRL
        } else {
            Mtd::empty()
        };
        first | accesses.lock().expect("state").answer(n, s)
    };
    let mtd = Mtd::RIP | Mtd::GPR_0_7 | Mtd::CS_SS | Mtd::INJ;
    let events = Events::new(event::GST_ARCH + event::GST_NOVA, mtd, Some(Box::new(react)))?;
    let vcpu = done("vCPU", Vcpu::new(0, events.base))?;
    let sc = Slot::new();
    let scd = Scd { cos: 0, prio: 50, budget_ms: 10 };
    done("create_sc", hc::create_sc(sc.0, sel::PD, vcpu.sel(), scd))?;
    let end = in_ms(5000);
    while !state.lock().expect("state").done() && rt::time::tsc() < end {
        sleep_ms(10);
    }
    let exits = state.lock().expect("state").exits.clone();
    Ok(exits)
}
