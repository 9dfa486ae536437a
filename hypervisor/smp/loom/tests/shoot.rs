//! Shoot-downs: when the shooter returns, no CPU uses the translation that it has taken away.

mod explore;

use explore::{Line, Memory, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::*, fence};
use loom::thread;
use smp_loom::{Presence, Requests, Root};

/// What a shoot-down wants.
const LEAVE: u32 = 1;
const NOTHING: u32 = 0;
/// Roots: of the space, of another one, and that without user half.
const SPACE: u64 = 0x1000;
const OTHER: u64 = 0x2000;
const BARE: u64 = 0x3000;

/// A space of one page, and one CPU that uses it.
struct System {
    /// The page's entry: 1 leads to `frame`.
    entry: AtomicU64,
    frame: Memory,
    root: Root,
    presence: Presence,
    requests: Requests,
    line: Line,
}

/// The CPU: CR3, and what the TLB says of the page in the space's tag.
struct Cpu<'a> {
    s: &'a System,
    cr3: u64,
    tlb: Option<u64>,
}

impl Cpu<'_> {
    /// As `HstSpace::enter` does.
    fn enter_space(&mut self) {
        if self.s.root.get().is_none() {
            assert!(self.s.root.make(SPACE));
        }
        let moves = std::mem::replace(&mut self.cr3, SPACE) != SPACE;
        if moves {
            self.s.presence.enter(SPACE);
        }
        if (moves || self.s.root.is_stale()) && self.s.root.take_stale() {
            self.tlb = None;
        }
        if moves {
            self.s.presence.entered();
        }
    }

    /// As the fast path does: loading CR3 is a fence, and the mark is looked at behind it.
    fn enter_space_fast(&mut self) {
        if std::mem::replace(&mut self.cr3, SPACE) != SPACE {
            self.s.presence.enter(SPACE);
            fence(SeqCst);
            self.s.presence.entered();
            if self.s.root.is_stale() {
                self.s.root.take_stale();
                self.tlb = None;
            }
        }
    }

    /// To a root of another tag: the translations of the space stay in the TLB.
    fn enter(&mut self, root: u64) {
        if std::mem::replace(&mut self.cr3, root) != root {
            self.s.presence.enter(root);
            self.s.presence.entered();
        }
    }

    /// User mode accesses the page. The entry is read by hardware, in no order with anything.
    fn access(&mut self) {
        assert_eq!(self.cr3, SPACE);
        let entry = *self.tlb.get_or_insert_with(|| self.s.entry.load(Relaxed));
        if entry == 1 {
            self.s.frame.access();
        } else {
            self.tlb = None;
        }
    }

    fn interrupt(&mut self) {
        let s = self.s;
        s.requests.answer(|what| {
            if what & LEAVE != 0 {
                self.enter(BARE);
            }
        });
    }

    /// An instruction or two of user mode, before which an interrupt may come.
    fn run(&mut self) {
        self.interrupt();
        self.enter_space();
        self.access();
    }

    fn idle(&mut self) {
        self.enter(BARE);
        while self.s.line.halt() {
            self.interrupt();
        }
    }
}

impl System {
    fn new() -> Arc<System> {
        Arc::new(System {
            entry: AtomicU64::new(1),
            frame: Memory::new(),
            root: Root::new(),
            presence: Presence::new(),
            requests: Requests::new(),
            line: Line::new(),
        })
    }

    fn cpu(&self) -> Cpu<'_> {
        Cpu { s: self, cr3: BARE, tlb: None }
    }

    /// Takes the page away, and gives its frame to somebody else.
    fn revoke(&self) {
        self.entry.store(0, Release);
        Root::outdate(std::iter::once(&self.root));
        if self.root.get().is_some_and(|r| self.presence.may_be_in(r)) {
            shoot(&self.requests, &self.line, LEAVE);
        }
        self.frame.reuse();
        self.line.switch_off();
    }
}

/// As the kernel shoots.
fn shoot(target: &Requests, line: &Line, what: u32) {
    target.ask(what);
    line.send();
    let asked = target.asked();
    while !target.answered(asked) {
        thread::yield_now();
    }
}

fn against_a_revocation(script: impl Fn(&mut Cpu) + Send + Sync + Copy + 'static) {
    explore(move || {
        let s = System::new();
        let theirs = s.clone();
        let other = thread::spawn(move || {
            let mut cpu = theirs.cpu();
            script(&mut cpu);
            cpu.idle();
        });
        s.revoke();
        other.join().unwrap();
    });
}

#[test]
fn a_cpu_that_enters_the_space_for_the_first_time() {
    against_a_revocation(|cpu| cpu.run());
}

/// Another CPU has made its root for it, where the first thread of this CPU was created.
#[test]
fn a_cpu_that_enters_by_a_root_that_another_has_made() {
    explore(|| {
        let s = System::new();
        let (theirs, makers) = (s.clone(), s.clone());
        let other = thread::spawn(move || {
            let mut cpu = theirs.cpu();
            if theirs.root.get().is_some() {
                cpu.run();
            }
            cpu.idle();
        });
        let maker = thread::spawn(move || assert!(makers.root.make(SPACE)));
        s.revoke();
        maker.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_cpu_that_stays_in_the_space() {
    against_a_revocation(|cpu| (0..3).for_each(|_| cpu.run()));
}

#[test]
fn a_cpu_that_leaves_the_space_and_comes_back() {
    against_a_revocation(|cpu| {
        cpu.run();
        cpu.enter(OTHER);
        cpu.run();
    });
}

/// From one space to another and back, without leaving by way of the kernel's slow exit.
#[test]
fn a_cpu_that_comes_back_by_the_fast_path() {
    against_a_revocation(|cpu| {
        cpu.run();
        cpu.enter(OTHER);
        cpu.enter_space_fast();
        cpu.access();
    });
}

/// Two want different things of one CPU at the same time; one of them waits.
#[test]
fn each_shooter_gets_what_it_wants() {
    explore(|| {
        let target = Arc::new((Requests::new(), Line::new(), [AtomicU64::new(0), AtomicU64::new(0)]));
        let (a, b) = (target.clone(), target.clone());
        let waits = thread::spawn(move || {
            let (requests, line, done) = &*a;
            shoot(requests, line, 1);
            assert_eq!(done[0].load(Relaxed), 1, "not done, or done twice");
        });
        let asks = thread::spawn(move || {
            b.0.ask(2);
            b.1.send();
        });
        let (requests, line, done) = &*target;
        while !requests.answered(2) && line.halt() {
            requests.answer(|what| {
                for i in [0, 1].into_iter().filter(|i| what & 1 << i != 0) {
                    done[i].fetch_add(1, Relaxed);
                }
            });
        }
        assert_eq!(done[1].load(Relaxed), 1);
        waits.join().unwrap();
        asks.join().unwrap();
    });
}

/// Two CPUs shoot each other: neither waits for ever, since who waits answers.
#[test]
fn two_that_shoot_each_other_both_return() {
    explore(|| {
        let cpus = Arc::new([Requests::new(), Requests::new()]);
        let shoot = |cpus: &[Requests; 2], me: usize| {
            cpus[1 - me].ask(NOTHING);
            while !cpus[1 - me].answered(1) {
                cpus[me].answer(|_| ());
                thread::yield_now();
            }
            // What has not come yet comes as an interrupt.
            cpus[me].answer(|_| ());
        };
        let theirs = cpus.clone();
        let other = thread::spawn(move || shoot(&theirs, 1));
        shoot(&cpus, 0);
        other.join().unwrap();
    });
}

/// The tests can fail: a CPU that does not say where it goes is not shot.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_presence_loom_finds_the_use_of_a_freed_frame() {
    explore(|| {
        let s = System::new();
        let theirs = s.clone();
        let other = thread::spawn(move || {
            let mut cpu = theirs.cpu();
            assert!(cpu.s.root.make(SPACE));
            cpu.s.root.take_stale();
            cpu.cr3 = SPACE;
            cpu.access();
            cpu.idle();
        });
        s.revoke();
        other.join().unwrap();
    });
}
