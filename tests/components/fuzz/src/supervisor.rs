//! The part that must live: sets workers to work in a domain of their own, replaces those that die, and ends the domain
//! when it has had its time or nothing moves any more.
//!
//! Each worker is a thread of the domain. Half of them are local: a thread of ours calls them, on its time, and gets them
//! back after a batch, or ABORTED. The others have scheduling contexts of their own.

use crate::domain::{Common, Domain, EVENTS, Slot};
use crate::worker::{self, DESK_PAGES, Desk};
use abi::{ArchState, Mtd, Status, Utcb, event, perm};
use fuzz_logic::{Fuzzer, NUMBERS, Place, STATUSES, WORKERS, fixed};
use parent::{Call, layout, sel};
use rt::PortalThread;
use rt::hypercall::{self as hc, EcArgs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

/// Calls that a local worker makes until it replies.
const BATCH: u64 = 2000;
/// Nothing depends on what is mapped here.
const ARENA: u64 = layout::UNUSED;
/// UTCBs of workers.
const UTCBS: u64 = 0x40_0000_0000;
/// Priorities below the supervisor's.
const LOWER: u64 = 5;
/// So long a worker may make no call before the domain is ended.
const PATIENCE: Duration = Duration::from_secs(1);
/// So long it may take them to come back when they are told to, or when their domain has nothing any more.
const RETURN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(50);

/// What is asked for.
pub struct Order {
    /// For the workers' random numbers.
    pub seed: u64,
    /// Calls in all; 0: without end.
    pub calls: u64,
    /// Calls in each domain.
    pub domain_calls: u64,
    /// CPUs to be on.
    pub cpus: Vec<u16>,
    /// Operations of hypercall 0xf that are tried.
    pub ext_ops: u16,
}

/// What has happened.
#[derive(Default)]
pub struct Books {
    /// Domains that have ended.
    pub domains: u64,
    /// Those that had to be stripped because nothing moved.
    pub stripped: u64,
    /// Workers that died and were replaced.
    pub deaths: AtomicU64,
    /// Workers that never came back.
    pub lost: u64,
    /// Refusals of what the supervisor itself asked for: for lack of memory.
    pub refusals: AtomicU64,
    /// Calls.
    pub calls: u64,
    /// What came of them.
    pub outcomes: [[u64; STATUSES]; NUMBERS],
}

/// Handles events of workers and of what they create.
struct Events {
    stopping: AtomicBool,
    faults: [AtomicU64; EVENTS as usize],
}

/// All that lasts.
pub struct Supervisor {
    order: Order,
    common: Arc<Common>,
    events: Arc<Events>,
    desks: Vec<&'static Desk>,
    /// What happened so far.
    pub books: Books,
    begun: Instant,
}

/// One worker in a domain.
struct Worker {
    desk: &'static Desk,
    index: u16,
    cpu: u16,
}

/// A failure that is the kernel's, or ours.
pub type Failure = String;

impl Supervisor {
    /// Threads for events and echoes on each CPU; memory for the workers.
    pub fn new(order: Order) -> Result<Supervisor, Failure> {
        let events = Arc::new(Events {
            stopping: AtomicBool::new(false),
            faults: [const { AtomicU64::new(0) }; EVENTS as usize],
        });
        let mut common =
            Common { events: vec![], echoes: vec![], sm: Slot::new().map_err(why("a selector"))?.keep().0 };
        hc::create_sm(common.sm, sel::PD, 1).map_err(why("a semaphore"))?;
        for &cpu in &order.cpus {
            let (e, echo) = portals(cpu, &events).map_err(why("portals"))?;
            common.events.push(e);
            common.echoes.push(echo);
        }
        let count = (2 * order.cpus.len()).min(WORKERS as usize);
        let desks = (0..count).map(|i| Desk::new(|own| Fuzzer::new(0, place(&order, i as u16, own)))).collect();
        Ok(Supervisor {
            order,
            common: Arc::new(common),
            events,
            desks,
            books: Books::default(),
            begun: Instant::now(),
        })
    }

    fn cpu(&self, worker: usize) -> u16 {
        self.order.cpus[worker / 2 % self.order.cpus.len()]
    }

    /// Runs domain after domain.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.begun = Instant::now();
        let mut shown = 0;
        while self.order.calls == 0 || self.books.calls < self.order.calls {
            self.one_domain()?;
            if self.books.calls - shown >= self.order.calls.clamp(1, 1_000_000) / 8 {
                shown = self.books.calls;
                println!("fuzz: {}", self.progress());
            }
        }
        Ok(())
    }

    /// How far we are.
    pub fn progress(&self) -> String {
        let b = &self.books;
        format!(
            "seed {}: {} calls in {} domains, {} workers died, {} domains stripped, {} workers lost, {} s",
            self.order.seed,
            b.calls,
            b.domains,
            b.deaths.load(Relaxed),
            b.stripped,
            b.lost,
            self.begun.elapsed().as_secs()
        )
    }

    /// Numbers of the exceptions that workers died of, and how often.
    pub fn faults(&self) -> Vec<(usize, u64)> {
        let faults = self.events.faults.iter().map(|f| f.load(Relaxed)).enumerate();
        faults.filter(|(_, n)| *n > 0).collect()
    }

    fn one_domain(&mut self) -> Result<(), Failure> {
        // The last one may have destroyed it.
        let _ = hc::create_sm(self.common.sm, sel::PD, 1);
        let domain = Domain::new().map_err(why("a domain"))?;
        domain.endow(&self.common).map_err(why("capabilities of a domain"))?;
        self.events.stopping.store(false, SeqCst);
        let before = self.books.calls;
        for (i, desk) in self.desks.iter().enumerate() {
            // Each domain and worker has a sequence of its own, which follows from the seed.
            let seed = (self.order.seed << 32).wrapping_add(self.books.domains << 8).wrapping_add(i as u64);
            desk.renew(Fuzzer::new(seed, place(&self.order, i as u16, desk.address())));
            desk.calls.store(0, Relaxed);
            desk.batch.store(if i % 2 == 0 { BATCH } else { u64::MAX }, Relaxed);
        }
        let run = Run { domain: &domain, common: &self.common, books: &self.books, next_utcb: AtomicU64::new(UTCBS) };
        let workers: Vec<_> =
            (0..self.desks.len()).map(|i| Worker { desk: self.desks[i], index: i as u16, cpu: self.cpu(i) }).collect();
        let (stripped, lost) = run.all(&workers, self.order.domain_calls, &self.events)?;
        domain.end();
        self.books.stripped += u64::from(stripped);
        self.books.lost += lost;
        self.books.domains += 1;
        self.books.calls = before + self.desks.iter().map(|d| d.calls.load(Relaxed)).sum::<u64>();
        self.collect();
        if lost > 0 {
            return Err(format!("{lost} workers do not come back"));
        }
        Ok(())
    }

    fn collect(&mut self) {
        for desk in &self.desks {
            for (sum, row) in self.books.outcomes.iter_mut().zip(&desk.outcomes) {
                sum.iter_mut().zip(row).for_each(|(s, n)| *s += u64::from(n.swap(0, Relaxed)));
            }
        }
    }
}

fn why(what: &'static str) -> impl Fn(Status) -> Failure {
    move |s| format!("{what}: {s:?}")
}

fn place(o: &Order, worker: u16, own: u64) -> Place {
    Place {
        worker,
        cpu: o.cpus[usize::from(worker) / 2 % o.cpus.len()],
        cpus: o.cpus.len() as u16,
        arena: ARENA,
        own,
        own_pages: DESK_PAGES,
        entries: worker::entries(),
        patience: rt::time::tsc_hz() / 500,
        ext_ops: o.ext_ops,
    }
}

/// Threads for events and echoes on a CPU, and portals to them.
fn portals(cpu: u16, events: &Arc<Events>) -> Result<(u64, u64), Status> {
    let e = events.clone();
    let handler = move |n: u64, _, u: &mut Utcb| e.handle(n, u.arch_mut()).bits();
    let thread = PortalThread::new(cpu, 16 << 10, Box::new(handler))?;
    let base = rt::sel::alloc_range(EVENTS, 64).ok_or(Status::MemCap)?;
    let state = Mtd::GPR_0_7 | Mtd::RIP | Mtd::QUAL;
    (0..EVENTS).try_for_each(|n| thread.portal(base + n, n, state.bits()))?;
    let echo = PortalThread::new(cpu, 16 << 10, Box::new(|pid, mtd, _| mtd ^ pid as u32))?;
    let s = Slot::new()?.keep().0;
    echo.portal(s, 0, 0)?;
    Ok((base, s))
}

impl Events {
    fn handle(&self, n: u64, s: &mut ArchState) -> Mtd {
        match n {
            // The stack pointer that the EC was created with is the desk; what workers create is not started.
            event::HST_STARTUP if s.gpr[ArchState::RSP] != 0 => {
                s.gpr[ArchState::RDI] = s.gpr[ArchState::RSP];
                s.rip = worker::started();
                Mtd::GPR_0_7 | Mtd::RIP
            }
            event::HST_RECALL if !self.stopping.load(SeqCst) => Mtd::empty(),
            _ => {
                if let Some(f) = self.faults.get(n as usize) {
                    f.fetch_add(1, Relaxed);
                }
                Mtd::POISON
            }
        }
    }
}

/// A domain at work.
struct Run<'a> {
    domain: &'a Domain,
    common: &'a Common,
    books: &'a Books,
    next_utcb: AtomicU64,
}

impl Run<'_> {
    fn all(&self, workers: &[Worker], calls: u64, events: &Events) -> Result<(bool, u64), Failure> {
        let ended: Vec<_> = workers.iter().map(|_| AtomicBool::new(false)).collect();
        let failure = std::sync::Mutex::new(None);
        thread::scope(|scope| {
            rt::thread::set_spawn_priority(LOWER);
            for (w, ended) in workers.iter().zip(&ended) {
                rt::thread::set_spawn_cpu(w.cpu);
                let failure = &failure;
                scope.spawn(move || {
                    let result = if w.index.is_multiple_of(2) { self.drive(w) } else { self.watch(w) };
                    if let Err(e) = result {
                        *failure.lock().expect("failure") = Some(e);
                        w.desk.stop.store(1, Relaxed);
                    }
                    ended.store(true, SeqCst);
                });
            }
            rt::thread::set_spawn_priority(0);
            let stripped = wait_for(workers, || {
                workers.iter().map(|w| w.desk.calls.load(Relaxed)).sum::<u64>() >= calls
                    || ended.iter().all(|e| e.load(SeqCst))
            });
            workers.iter().for_each(|w| w.desk.stop.store(1, Relaxed));
            events.stopping.store(true, SeqCst);
            if stripped {
                self.domain.strip();
            }
            let begin = Instant::now();
            while !ended.iter().all(|e| e.load(SeqCst)) && begin.elapsed() < RETURN {
                thread::sleep(TICK);
            }
            let lost = ended.iter().filter(|e| !e.load(SeqCst)).count() as u64;
            if lost > 0 {
                // They keep their threads, and the scope would wait for them.
                println!("fuzz: FAILED: {lost} workers do not come back");
                report(workers, &ended);
                rt::exit(1);
            }
            match failure.lock().expect("failure").take() {
                Some(e) => Err(e),
                None => Ok((stripped, lost)),
            }
        })
    }

    /// An EC for a worker, and what it needs to live, new or again.
    fn create(&self, w: &Worker) -> Result<Slot, Status> {
        self.domain.show_code()?;
        self.domain.show(w.desk.address(), DESK_PAGES, perm::Mem::R | perm::Mem::W)?;
        self.domain.endow(self.common)?;
        let ec = Slot::new()?;
        let args = EcArgs {
            utcb_page: self.next_utcb.fetch_add(abi::PAGE_SIZE as u64, Relaxed),
            cpu: w.cpu,
            sp: w.desk.address(),
            evt: fixed::EVENTS + 64 * self.cpu_index(w),
            guest: false,
            global_or_offset: !w.index.is_multiple_of(2),
            fpu: true,
        };
        // SAFETY: an EC of another domain.
        unsafe { hc::create_ec(ec.0, self.domain.pd.0, args)? };
        // Without the right to bind portals: two workers that wait for each other would do so for ever.
        self.domain.give(ec.0, fixed::WORKERS + u64::from(w.index), 0, perm::Ec::CTRL.bits())?;
        Ok(ec)
    }

    fn cpu_index(&self, w: &Worker) -> u64 {
        u64::from(w.index / 2)
    }

    /// Calls a local worker, again and again.
    fn drive(&self, w: &Worker) -> Result<(), Failure> {
        'new: while w.desk.stop.load(Relaxed) == 0 {
            let made = self.create(w).and_then(|ec| {
                let portal = Slot::new()?;
                // SAFETY: the thread is of another domain.
                unsafe { hc::create_pt(portal.0, sel::PD, ec.0, worker::called())? };
                hc::ctrl_pt(portal.0, w.desk.address(), 0)?;
                Ok((ec, portal))
            });
            let (_ec, portal) = match made {
                Ok(both) => both,
                Err(s) => {
                    self.refused(w, s)?;
                    continue;
                }
            };
            while w.desk.stop.load(Relaxed) == 0 {
                match hc::ipc_call(portal.0, 0, false) {
                    Ok(_) => {
                        let _ = self.domain.endow(self.common);
                    }
                    Err(Status::Aborted) => {
                        self.books.deaths.fetch_add(1, Relaxed);
                        continue 'new;
                    }
                    Err(s) => return Err(format!("call of a worker: {s:?}")),
                }
            }
        }
        Ok(())
    }

    /// Gives a worker time of its own, and does so again if it dies.
    fn watch(&self, w: &Worker) -> Result<(), Failure> {
        while w.desk.stop.load(Relaxed) == 0 {
            let made = self.create(w).and_then(|ec| {
                let sc = Slot::new()?;
                start(ec.0, sc.0)?;
                self.domain.give(sc.0, fixed::SCS + u64::from(w.index), 0, perm::ALL)?;
                Ok((ec, sc))
            });
            let (ec, _sc) = match made {
                Ok(both) => both,
                Err(s) => {
                    self.refused(w, s)?;
                    continue;
                }
            };
            // Its calls are all that is seen of it.
            let (mut seen, mut still) = (u64::MAX, 0);
            while w.desk.stop.load(Relaxed) == 0 && still < 10 {
                thread::sleep(TICK);
                let calls = w.desk.calls.load(Relaxed);
                still = if calls == seen { still + 1 } else { 0 };
                seen = calls;
            }
            w.desk.stop.fetch_or(2, Relaxed);
            let _ = hc::ctrl_ec(ec.0, false);
            thread::sleep(TICK);
            if w.desk.stop.fetch_and(1, Relaxed) & 1 == 0 {
                self.books.deaths.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }

    /// There may be no memory at the moment, or a worker has destroyed the domain, or another worker that was just made.
    fn refused(&self, w: &Worker, s: Status) -> Result<(), Failure> {
        self.books.refusals.fetch_add(1, Relaxed);
        thread::sleep(TICK);
        match s {
            Status::MemObj | Status::MemCap => Ok(()),
            Status::BadCap | Status::Aborted => {
                if !self.domain.is_whole() {
                    w.desk.stop.store(1, Relaxed);
                }
                Ok(())
            }
            other => Err(format!("the supervisor's own call: {other:?}")),
        }
    }
}

/// Waits until it is done; `true`: one of the workers has made no call for too long.
fn wait_for(workers: &[Worker], done: impl Fn() -> bool) -> bool {
    let mut last: Vec<_> = workers.iter().map(|_| (u64::MAX, Instant::now())).collect();
    while !done() {
        thread::sleep(TICK);
        for (w, l) in workers.iter().zip(&mut last) {
            let calls = w.desk.calls.load(Relaxed);
            if calls != l.0 {
                *l = (calls, Instant::now());
            } else if l.1.elapsed() > PATIENCE {
                return true;
            }
        }
    }
    false
}

fn report(workers: &[Worker], ended: &[AtomicBool]) {
    for (w, _) in workers.iter().zip(ended).filter(|(_, e)| !e.load(SeqCst)) {
        println!("fuzz: worker {} on CPU {}: last calls {:x?}", w.index, w.cpu, w.desk.last());
    }
}

/// Has the parent give an EC a scheduling context.
fn start(ec: u64, sc: u64) -> Result<(), Status> {
    let mut words = [0; abi::UTCB_WORDS];
    let n = Call::StartThread { ec, sc, lower: LOWER }.encode(&mut words);
    rt::utcb().words[..n].copy_from_slice(&words[..n]);
    hc::ipc_call(sel::parent(rt::thread::cpu()), Mtd::words(n), false)?;
    let reply = rt::utcb().words[0];
    if reply == 0 { Ok(()) } else { Err(Status::MemObj) }
}
