//! Grace periods: what was found before is not freed before the finder has passed a quiescent point.

mod explore;

use explore::{Line, Memory, explore};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::*};
use loom::thread;
use smp_loom::{Period, Seen};

/// An object, the only capability to it, and the CPUs that look it up there.
struct System {
    object: Memory,
    capability: AtomicU64,
    period: Period,
    finders: Vec<(Seen, Line)>,
}

impl System {
    fn new(finders: usize) -> Arc<System> {
        Arc::new(System {
            object: Memory::new(),
            capability: AtomicU64::new(1),
            period: Period::new(),
            finders: (0..finders).map(|_| (Seen::new(), Line::new())).collect(),
        })
    }

    /// One kernel entry and its end.
    fn enter_and_leave(&self, cpu: usize) {
        if self.capability.load(Acquire) != 0 {
            self.object.access();
        }
        self.finders[cpu].0.pass(&self.period);
    }

    /// Entries, then nothing but interrupts.
    fn find(&self, cpu: usize, entries: usize) {
        for _ in 0..entries {
            self.enter_and_leave(cpu);
        }
        let (seen, line) = &self.finders[cpu];
        while line.halt() {
            seen.pass(&self.period);
        }
    }

    fn destroy(&self) {
        self.capability.swap(0, AcqRel);
        let period = self.period.begin();
        self.finders.iter().filter(|(seen, _)| !seen.has_passed(period)).for_each(|(_, line)| line.send());
        while !self.finders.iter().all(|(seen, _)| seen.has_passed(period)) {
            thread::yield_now();
        }
        self.object.reuse();
        self.finders.iter().for_each(|(_, line)| line.switch_off());
    }
}

#[test]
fn no_object_is_freed_under_a_cpu_that_found_it() {
    explore(|| {
        let s = System::new(1);
        let finder = s.clone();
        let finder = thread::spawn(move || finder.find(0, 2));
        s.destroy();
        finder.join().unwrap();
    });
}

/// Two finders, one of whom does not look: the other is waited for all the same.
#[test]
fn every_cpu_counts() {
    explore(|| {
        let s = System::new(2);
        let (a, b) = (s.clone(), s.clone());
        let looks = thread::spawn(move || a.find(0, 1));
        let idles = thread::spawn(move || b.find(1, 0));
        s.destroy();
        looks.join().unwrap();
        idles.join().unwrap();
    });
}

/// The last count is given up by another CPU than the one that took the capability away.
#[test]
fn the_one_who_destroys_need_not_be_the_one_who_revoked() {
    explore(|| {
        let s = System::new(1);
        let finder = s.clone();
        let finder = thread::spawn(move || finder.find(0, 1));
        let count = Arc::new(AtomicU64::new(2));
        let (other, others_count) = (s.clone(), count.clone());
        let revoker = thread::spawn(move || {
            other.capability.swap(0, AcqRel);
            if others_count.fetch_sub(1, AcqRel) == 1 {
                other.destroy();
            }
        });
        if count.fetch_sub(1, AcqRel) == 1 {
            s.destroy();
        }
        revoker.join().unwrap();
        finder.join().unwrap();
    });
}

/// The tests can fail: without the wait the object is freed too early.
#[test]
#[should_panic(expected = "Causality violation")]
fn without_the_period_loom_finds_the_early_free() {
    explore(|| {
        let s = System::new(1);
        let finder = s.clone();
        let finder = thread::spawn(move || finder.enter_and_leave(0));
        s.capability.swap(0, AcqRel);
        s.object.reuse();
        finder.join().unwrap();
    });
}
