//! Starting the other processors: INIT and SIPI (Intel SDM vol. 3, 10.4.4; AMD APM vol. 2, 15.27), one after the other.
//!
//! A processor claims a ticket before it touches anything, so one that comes too late goes to sleep instead of taking
//! another one's place.

use super::memory;
use crate::arch::{self, cpu, guest, interrupt, time};
use crate::mem::{layout, window};
use crate::{remote, say, schedule};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};
use sched::MAX_CPUS;
use spin::Mutex;

/// CPUs that run.
static ONLINE: AtomicU16 = AtomicU16::new(1);

struct Found {
    apics: [u32; MAX_CPUS],
    used: usize,
    /// Processors beyond the last that this kernel knows.
    beyond: usize,
}

static FOUND: Mutex<Found> = Mutex::new(Found { apics: [0; MAX_CPUS], used: 0, beyond: 0 });

/// 1: one processor may start. Taken by start.S.
#[unsafe(no_mangle)]
static AP_TICKET: AtomicU32 = AtomicU32::new(0);
/// What the processor that has the ticket starts with.
static PART: Mutex<Option<cpu::Part>> = Mutex::new(None);
/// How far it has come.
static STATE: AtomicU32 = AtomicU32::new(STARTING);
static WHY: Mutex<&str> = Mutex::new("");
static ITS_TIME: AtomicU64 = AtomicU64::new(0);

const STARTING: u32 = 0;
const ONLINE_NOW: u32 = 1;
const REFUSED: u32 = 2;

/// Between INIT and SIPI, and how long a processor may take to its first instruction and to the end of its set-up.
const INIT_MS: u64 = 10;
const CLAIM_MS: u64 = 100;
const SETUP_MS: u64 = 5000;

/// Number of CPUs that run.
pub fn cpus_online() -> u16 {
    ONLINE.load(SeqCst)
}

/// Notes a processor of the MADT.
pub fn found(apic: u32) {
    let mut f = FOUND.lock();
    let n = f.used;
    if f.apics[..n].contains(&apic) {
        return;
    }
    match f.apics.get_mut(n) {
        Some(a) => {
            *a = apic;
            f.used += 1;
        }
        None => f.beyond += 1,
    }
}

unsafe extern "C" {
    /// Link-time physical addresses in start.S: the real-mode code and its end, the word in it that names the address to
    /// go on at, and that address.
    static ap_addresses: [u64; 4];
}

/// Puts the real-mode code into the page below 1 MiB.
fn install(page: u64) -> Option<()> {
    let to = window::map_writable(page)?;
    // SAFETY: start.S's own words and code; the page is free memory that the loader does not use, and the window maps it
    // writable.
    unsafe {
        let [start, end, target, next] = ap_addresses;
        let from = (layout::KERNEL_BASE + start) as *const u8;
        core::ptr::copy_nonoverlapping(from, to, (end - start) as usize);
        let target = to.add((target - start) as usize).cast::<u32>();
        target.write_unaligned(layout::phys(layout::KERNEL_BASE + next) as u32);
    }
    Some(())
}

/// Starts all processors that were found. `page`: free memory below 1 MiB, if there is any.
pub fn start_all(page: Option<u64>) {
    remote::join(interrupt::apic_id());
    let (apics, used, beyond) = {
        let f = FOUND.lock();
        (f.apics, f.used, f.beyond)
    };
    if beyond > 0 {
        say!("{beyond} processors beyond the {MAX_CPUS} that this kernel knows are left out");
    }
    let others = apics[..used].iter().filter(|a| **a != interrupt::apic_id());
    if others.clone().next().is_none() {
        return;
    }
    let Some(page) = page.filter(|p| install(*p).is_some()) else {
        return say!("no free page below 1 MiB: other processors are left out");
    };
    // For good: a processor may come when nobody waits for it any more.
    memory::protect(page, page + abi::PAGE_SIZE as u64);
    for apic in others {
        if let Err(why) = start(*apic, page) {
            interrupt::send_init(*apic);
            say!("processor with APIC identifier {apic:#x} {why}: left out");
        }
    }
    let n = cpus_online();
    say!("{n} CPU{}", if n == 1 { "" } else { "s" });
}

fn wait(ms: u64, until: impl Fn() -> bool) -> bool {
    let end = time::now() + time::frequency() / 1000 * ms;
    while time::now() < end {
        if until() {
            return true;
        }
        core::hint::spin_loop();
    }
    until()
}

fn start(apic: u32, page: u64) -> Result<(), &'static str> {
    if !interrupt::can_reach(apic) {
        return Err("cannot be reached without x2APIC");
    }
    let mut part = PART.lock();
    // One that did not come has left it.
    if part.is_none() {
        *part = Some(cpu::Part::new(cpus_online()).ok_or("has no memory in the pool")?);
    }
    drop(part);
    STATE.store(STARTING, SeqCst);
    AP_TICKET.store(1, SeqCst);
    let begin = time::now();
    interrupt::send_init(apic);
    wait(INIT_MS, || false);
    let claimed = || AP_TICKET.load(SeqCst) == 0;
    for _ in 0..2 {
        interrupt::send_sipi(apic, (page >> 12) as u8);
        wait(CLAIM_MS, claimed);
    }
    if AP_TICKET.swap(0, SeqCst) == 1 {
        return Err("does not start");
    }
    wait(SETUP_MS, || STATE.load(SeqCst) != STARTING);
    match STATE.load(SeqCst) {
        ONLINE_NOW => check_time(begin),
        REFUSED => return Err(*WHY.lock()),
        // It may hold a lock of the pool or the console, or come yet: there is no safe way on.
        _ => panic!("processor with APIC identifier {apic:#x} has begun to start and stopped"),
    }
    Ok(())
}

/// The TSC is the system time of all CPUs: says so if one cannot be right.
fn check_time(begin: u64) {
    let (its, end) = (ITS_TIME.load(SeqCst), time::now());
    if !(begin..=end).contains(&its) {
        say!(
            "cpu {}: its TSC differs from that of CPU 0: {its:#x} is not in {begin:#x} to {end:#x}",
            cpus_online() - 1
        );
    }
}

/// Start of another processor, on the stack that they all start on.
#[unsafe(no_mangle)]
extern "C" fn kernel_ap_main() -> ! {
    let part = PART.lock().take();
    if let Err(what) = cpu::check() {
        refuse(what);
    }
    let Some(part) = part else { refuse("has nothing to start with") };
    cpu::init(part);
    // SAFETY: nothing on the old stack is needed any more.
    unsafe { arch::on_own_stack(arrive) }
}

extern "C" fn arrive() -> ! {
    cpu::init_controls();
    if !cpu::same_features() {
        refuse("has other features than the boot processor");
    }
    interrupt::init_local();
    if guest::init_other().is_err() {
        refuse("cannot run guests, unlike the boot processor");
    }
    remote::join(interrupt::apic_id());
    ITS_TIME.store(time::now(), SeqCst);
    ONLINE.fetch_add(1, SeqCst);
    STATE.store(ONLINE_NOW, SeqCst);
    schedule::go(schedule::Next::Resched)
}

/// This processor is not used.
fn refuse(why: &'static str) -> ! {
    *WHY.lock() = why;
    STATE.store(REFUSED, SeqCst);
    crate::halt()
}
