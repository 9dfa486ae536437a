//! Workers on all CPUs, numbers that can be repeated, and memory that may be mapped elsewhere.
//!
//! Key types: [`Setting`], [`Random`], [`Frame`].

use abi::{Mad, PAGE_SIZE, Sel, Status, perm};
use parent::{layout, sel};
use rt::Semaphore;
use rt::hypercall as hc;
use std::alloc::Layout;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// `Ok`: what was done, or [`NOT_HERE`] and why not. `Err`: what was expected and what came.
pub type Outcome = Result<String, String>;
/// Begins an `Ok` of a check that this machine cannot show.
pub const NOT_HERE: &str = "not here: ";

/// Bytes of a page.
pub const PAGE: u64 = PAGE_SIZE as u64;
/// Workers on few CPUs: enough to have several on each.
const FEW: usize = 8;

/// How much is done, and where.
pub struct Setting {
    /// For [`Random`].
    pub seed: u64,
    /// Rounds of the cheapest checks; the others do a fraction.
    pub rounds: u64,
    /// The component's CPUs.
    pub cpus: Vec<u16>,
}

impl Setting {
    /// From configuration and start information.
    pub fn read() -> Result<Setting, String> {
        let info = rt::start_info().ok_or("no start information")?;
        let mut s = Setting { seed: 1, rounds: 1000, cpus: info.usable_cpus().to_vec() };
        let text = rt::rom(parent::CONFIG_ROM).and_then(|b| str::from_utf8(b).ok()).unwrap_or_default();
        for line in text.lines() {
            let (key, value) = line.split_once('=').ok_or(format!("config: `{line}` is not `key = number`"))?;
            let number = value.trim().parse().map_err(|_| format!("config: `{}` is not a number", value.trim()))?;
            match key.trim() {
                "seed" => s.seed = number,
                "rounds" => s.rounds = number,
                other => return Err(format!("config: unknown key `{other}`")),
            }
        }
        Ok(s)
    }

    /// Number of workers: at least two on each CPU, unless there are many.
    pub fn workers(&self) -> usize {
        FEW.max(self.cpus.len())
    }

    /// CPU of worker `i`.
    pub fn cpu(&self, i: usize) -> u16 {
        self.cpus[i % self.cpus.len()]
    }

    /// `rounds` divided, but at least ten.
    pub fn part(&self, divisor: u64) -> u64 {
        (self.rounds / divisor).max(10)
    }

    /// Random numbers for worker `i`.
    pub fn random(&self, i: usize) -> Random {
        Random(self.seed.wrapping_mul(0x1_0000).wrapping_add(i as u64))
    }

    /// Runs `f(i)` for `count` workers at once, worker `i` on its CPU, and collects what they return.
    pub fn on_all<T: Send>(&self, count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
        let home = rt::thread::cpu();
        let f = &f;
        let results = thread::scope(|s| {
            let spawn = |i| {
                rt::thread::set_spawn_cpu(self.cpu(i));
                s.spawn(move || f(i))
            };
            let threads: Vec<_> = (0..count).map(spawn).collect();
            threads.into_iter().map(|t| t.join().expect("worker")).collect()
        });
        rt::thread::set_spawn_cpu(home);
        results
    }

    /// The same for workers that can fail: the first failure, with its worker.
    pub fn all_pass(&self, count: usize, f: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), String> {
        let named = |i| f(i).map_err(|e| format!("worker {i} on CPU {}: {e}", self.cpu(i)));
        self.on_all(count, named).into_iter().collect()
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { seed, rounds, cpus } = self;
        write!(f, "seed {seed}, {rounds} rounds, {} workers on CPUs {cpus:?}", self.workers())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(u64);

impl Random {
    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

/// The two are the same.
pub fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:x?}, got {got:x?}")) }
}

/// The call succeeded.
pub fn done<T>(what: &str, got: Result<T, Status>) -> Result<T, String> {
    got.map_err(|s| format!("{what}: expected success, got {s:?}"))
}

/// The call was refused with that status.
pub fn refused<T: Debug>(what: &str, got: Result<T, Status>, want: Status) -> Result<(), String> {
    match got {
        Err(s) if s == want => Ok(()),
        other => Err(format!("{what}: expected {want:?}, got {other:?}")),
    }
}

/// The TSC, so many microseconds from now.
pub fn in_us(n: u64) -> u64 {
    rt::time::tsc() + rt::time::tsc_hz() / 1_000_000 * n
}

/// Whether a semaphore's count is 0 now. Takes one if it is not.
pub fn is_zero(s: &Semaphore) -> bool {
    !s.down_until(1)
}

/// A selector of our own; null again when it goes.
pub struct Slot(pub Sel);

impl Slot {
    /// A null one.
    pub fn new() -> Result<Slot, String> {
        rt::sel::alloc().map(Slot).ok_or("no free selector".into())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        rt::sel::free(self.0);
    }
}

/// Copies one capability inside the own object space; without permissions: nulls the destination.
pub fn copy(from: Sel, to: Sel, perms: u8) -> Result<(), Status> {
    // SAFETY: the object space holds no memory.
    unsafe { hc::ctrl_pd(sel::OBJ, sel::OBJ, from, to, 0, perms, Mad::WB) }
}

/// A page of memory that is never given back. It may be visible elsewhere too, so all accesses are atomic.
#[derive(Clone, Copy)]
pub struct Frame(pub u64);

impl Frame {
    /// A zeroed one.
    pub fn new() -> Frame {
        Frame::block(1)
    }

    /// The first of so many zeroed ones.
    pub fn block(pages: usize) -> Frame {
        let layout = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).expect("pages");
        // SAFETY: not of size zero.
        let p = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!p.is_null(), "no memory");
        Frame(p.expose_provenance() as u64)
    }

    /// A virtual page where nothing is mapped and nobody else will map anything, the first of so many.
    pub fn window(pages: u64) -> Frame {
        static NEXT: AtomicU64 = AtomicU64::new(layout::UNUSED);
        Frame(NEXT.fetch_add((pages * PAGE).next_multiple_of(2 << 20), Ordering::Relaxed))
    }

    /// Page `n` of a block.
    pub fn page(self, n: u64) -> Frame {
        Frame(self.0 + n * PAGE)
    }

    /// Its word number `n`. A page of a window must have been mapped first.
    pub fn word(self, n: usize) -> &'static AtomicU64 {
        assert!(n < PAGE_SIZE / 8);
        let p = std::ptr::with_exposed_provenance_mut::<u64>(self.0 as usize + 8 * n);
        // SAFETY: aligned, and mapped for good: blocks are never given back, and in a window a page is only replaced by
        // another one. Everybody accesses these words atomically.
        unsafe { AtomicU64::from_ptr(p) }
    }

    /// Maps this page at page `to` of host space `hst`; without permissions: unmaps what is there.
    pub fn map(self, hst: Sel, to: Frame, perms: perm::Mem) -> Result<(), Status> {
        map(sel::HST, self, hst, to, perms)
    }
}

/// Maps page `from` of host space `src` at page `to` of host space `dst`.
pub fn map(src: Sel, from: Frame, dst: Sel, to: Frame, perms: perm::Mem) -> Result<(), Status> {
    // SAFETY: callers map into windows or into other domains' spaces only, and the pages that become visible are frames.
    unsafe { hc::ctrl_pd(src, dst, from.0 / PAGE, to.0 / PAGE, 0, perms.bits(), Mad::WB) }
}

/// Readable and writable.
pub const RW: perm::Mem = perm::Mem::R.union(perm::Mem::W);
