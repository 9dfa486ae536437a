//! What each worker does in a round.
//!
//! Key types: [`Checks`]; [`Shared`], what the workers have in common.

use abi::{Mad, Mtd, PAGE_SIZE, Sel, Status, Utcb, perm};
use parent::{layout, sel};
use rt::hypercall as hc;
use rt::{PortalThread, Semaphore};
use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const PAGE: u64 = PAGE_SIZE as u64;
/// Nobody's addresses.
const WINDOW: u64 = layout::UNUSED;
/// Words of a message.
const WORDS: usize = 20;
/// Words of memory that each worker keeps.
const KEPT: usize = 4096;
/// Pages that take turns in the window.
const FRAMES: u64 = 8;
/// How long a signal from the next CPU may take, in ms, and how late a timeout may be.
const PATIENCE_MS: u64 = 20_000;
/// Result of [`chain`] from 1.
const CHAIN: u64 = chain(1);

/// A thousand steps that depend on each other.
const fn chain(seed: u64) -> u64 {
    let (mut v, mut i) = (seed, 0);
    while i < 1000 {
        v = v.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ i;
        i += 1;
    }
    v
}

/// What the workers have in common: a ring of signals, and a count that one changes at a time.
pub struct Shared {
    ring: Vec<Semaphore>,
    count: AtomicU64,
    lenient: bool,
}

impl Shared {
    /// For so many workers; the first may begin.
    pub fn new(workers: usize, lenient: bool) -> Shared {
        let ring = (0..workers).map(|i| Semaphore::new(u64::from(i == 0))).collect();
        Shared { ring, count: AtomicU64::new(0), lenient }
    }
}

/// A worker.
pub struct Checks<'a> {
    index: usize,
    shared: &'a Shared,
    _server: PortalThread,
    portal: Sel,
    free: Sel,
    kept: Vec<u64>,
    frames: u64,
    window: u64,
    timer: Semaphore,
    late: u64,
    short: u64,
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:x?}, got {got:x?}")) }
}

fn done<T>(what: &str, r: Result<T, Status>) -> Result<T, String> {
    r.map_err(|s| format!("{what}: {s:?}"))
}

fn ms(n: u64) -> u64 {
    rt::time::tsc_hz() / 1000 * n
}

impl<'a> Checks<'a> {
    /// All that is needed later, so that little has to be created then.
    pub fn new(index: usize, cpu: u16, shared: &'a Shared) -> Result<Checks<'a>, String> {
        let handler = |pid: u64, mtd, u: &mut Utcb| {
            let count = Mtd::word_count(mtd);
            u.words[..count].iter_mut().for_each(|w| *w = w.wrapping_add(pid));
            Mtd::words(count)
        };
        let server = done("portal thread", PortalThread::new(cpu, 16 << 10, Box::new(handler)))?;
        let portal = rt::sel::alloc().ok_or("no selector")?;
        done("portal", server.portal(portal, 1, 0))?;
        let layout = std::alloc::Layout::from_size_align((FRAMES * PAGE) as usize, PAGE_SIZE).expect("pages");
        // SAFETY: not of size zero. Never given back.
        let frames = unsafe { std::alloc::alloc_zeroed(layout) }.expose_provenance() as u64;
        Ok(Checks {
            index,
            shared,
            _server: server,
            portal,
            free: rt::sel::alloc().ok_or("no selector")?,
            kept: vec![0; KEPT],
            frames,
            window: WINDOW + index as u64 * (2 << 20),
            timer: Semaphore::new(0),
            late: 0,
            short: 0,
        })
    }

    /// The latest timeout, in us.
    pub fn late_us(&self) -> u64 {
        self.late * 1000 / ms(1)
    }

    /// How often there was no memory for an object.
    pub fn short(&self) -> u64 {
        self.short
    }

    /// Does all of it once.
    pub fn round(&mut self, n: u64) -> Result<(), String> {
        equal("a thousand multiplications", chain(std::hint::black_box(1)), CHAIN)?;
        self.memory(n)?;
        self.remapped(n)?;
        self.call(n)?;
        self.signal(n)?;
        self.timeout()?;
        self.objects()
    }

    /// What the last round left is there.
    fn memory(&mut self, n: u64) -> Result<(), String> {
        let value = |n: u64, i: usize| if n == 0 { 0 } else { n << 32 | i as u64 };
        for (i, w) in self.kept.iter_mut().enumerate() {
            equal("kept memory", *w, value(n - 1, i))?;
            *w = value(n, i);
        }
        Ok(())
    }

    /// The page that was mapped last is the one that is seen.
    fn remapped(&mut self, n: u64) -> Result<(), String> {
        let frame = self.frames + n % FRAMES * PAGE;
        // SAFETY: a page of our own, only accessed here; the window is nobody else's, and mapped before it is read.
        unsafe {
            std::ptr::with_exposed_provenance_mut::<u64>(frame as usize).write_volatile(n);
            let map =
                hc::ctrl_pd(sel::HST, sel::HST, frame / PAGE, self.window / PAGE, 0, perm::Mem::R.bits(), Mad::WB);
            done("map", map)?;
            let seen = std::ptr::with_exposed_provenance::<u64>(self.window as usize).read_volatile();
            equal("the page that is mapped", seen, n)
        }
    }

    fn call(&mut self, n: u64) -> Result<(), String> {
        let words: [u64; WORDS] = std::array::from_fn(|i| chain(n).wrapping_add(i as u64));
        rt::utcb().words[..WORDS].copy_from_slice(&words);
        let mtd = done("call", hc::ipc_call(self.portal, Mtd::words(WORDS), false))?;
        equal("words of the reply", Mtd::word_count(mtd), WORDS)?;
        let reply: [u64; WORDS] = std::array::from_fn(|i| rt::utcb().words[i]);
        equal("reply", reply, words.map(|w| w.wrapping_add(1)))
    }

    /// Round the CPUs, each in turn.
    fn signal(&mut self, n: u64) -> Result<(), String> {
        let (ring, count) = (&self.shared.ring, &self.shared.count);
        if !ring[self.index].down_until(rt::time::tsc() + ms(PATIENCE_MS)) {
            return Err(format!("round {n}: no signal within {PATIENCE_MS} ms"));
        }
        // Not atomic as a whole: two at a time would lose one.
        let seen = count.load(SeqCst);
        equal("turn", seen, (n - 1) * ring.len() as u64 + self.index as u64)?;
        count.store(seen + 1, SeqCst);
        ring[(self.index + 1) % ring.len()].up();
        Ok(())
    }

    /// A wait that nobody ends lasts until its deadline; vector registers stay as they are meanwhile.
    fn timeout(&mut self) -> Result<(), String> {
        let deadline = rt::time::tsc() + ms(2);
        let id = abi::Hypercall::CtrlSm.identifier(1, self.timer.sel());
        let (status, vectors) = blocked_with_vectors(id, deadline, self.index as u64);
        let now = rt::time::tsc();
        equal("status of a wait", status, Status::Timeout as u64)?;
        if now < deadline || now - deadline > ms(PATIENCE_MS) {
            return Err(format!("a timeout at {now}, deadline {deadline}"));
        }
        self.late = self.late.max(now - deadline);
        equal("vector registers", vectors, [self.index as u64, !(self.index as u64)])
    }

    /// A semaphore comes and goes.
    fn objects(&mut self) -> Result<(), String> {
        match hc::create_sm(self.free, sel::PD, 1) {
            Err(Status::MemObj | Status::MemCap) if self.shared.lenient => {
                self.short += 1;
                return Ok(());
            }
            other => done("create_sm", other)?,
        }
        done("down", hc::sm_down(self.free, false, Some(1)))?;
        equal("down of an empty one", hc::sm_down(self.free, false, Some(1)), Err(Status::Timeout))?;
        // SAFETY: the object space holds no memory.
        done("revoke", unsafe { hc::ctrl_pd(sel::OBJ, sel::OBJ, self.free, self.free, 0, 0, Mad::WB) })?;
        equal("up of what is gone", hc::sm_up(self.free), Err(Status::BadCap))
    }
}

/// A down with values in the first and the last vector register.
fn blocked_with_vectors(id: u64, deadline: u64, value: u64) -> (u64, [u64; 2]) {
    let (status, low, high);
    // SAFETY: a hypercall that changes nothing but the registers named.
    unsafe {
        asm!(
            "movq xmm0, {a}", "movq xmm15, {b}", "syscall", "movq {a}, xmm0", "movq {b}, xmm15",
            a = inout(reg) value => low, b = inout(reg) !value => high,
            inlateout("rdi") id => status, inlateout("rsi") deadline => _,
            in("rdx") 0, in("rax") 0, in("r8") 0,
            lateout("rcx") _, lateout("r11") _, out("xmm0") _, out("xmm15") _, options(nostack),
        );
    }
    (status, [low, high])
}
