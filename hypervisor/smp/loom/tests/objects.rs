//! Counted references and semaphores: an object goes once and when nobody uses it; an `up` is taken once.

mod explore;

use explore::{Memory, explore};
use loom::sync::Arc;
use loom::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};
use loom::thread;
use smp_loom::{Count, Semaphore};

/// An object whose cell stays, as the grace period sees to: what may not be used after its end is what is in it.
struct Object {
    count: Count,
    inside: Memory,
    ends: AtomicU32,
}

impl Object {
    fn new() -> Object {
        Object { count: Count::new(), inside: Memory::new(), ends: AtomicU32::new(0) }
    }

    fn give_up(&self) {
        if self.count.less() {
            self.inside.reuse();
            self.ends.fetch_add(1, Relaxed);
        }
    }
}

/// One slot has the only count. One CPU revokes it, two others copy what they find, use it and let it go.
#[test]
fn a_copy_of_a_capability_that_is_revoked_meanwhile() {
    explore(|| {
        let shared = Arc::new((AtomicU64::new(1), Object::new()));
        let copiers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    let (slot, object) = &*shared;
                    if slot.load(Acquire) == 1 && object.count.try_more() {
                        object.inside.access();
                        object.give_up();
                    }
                })
            })
            .collect();
        let (slot, object) = &*shared;
        if slot.swap(0, AcqRel) == 1 {
            object.give_up();
        }
        copiers.into_iter().for_each(|c| c.join().unwrap());
        assert_eq!(object.ends.load(Relaxed), 1, "it ends, and once");
        assert!(!object.count.try_more());
    });
}

/// Two CPUs up, one waits and may give up: each up is in the counter or with the waiter, and a waiter that gives up has
/// none.
#[test]
fn an_up_is_neither_lost_nor_taken_twice() {
    explore(|| {
        let s = Arc::new((Semaphore::new(0, Vec::new()), AtomicU32::new(0)));
        let uppers: Vec<_> = (0..2)
            .map(|_| {
                let s = s.clone();
                thread::spawn(move || {
                    if s.0.up(Vec::pop).expect("it does not overflow") == Some(7) {
                        s.1.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        let waits = !s.0.down(false, |q| q.push(7));
        let gave_up = waits && s.0.forget(|q| q.pop().is_some());
        uppers.into_iter().for_each(|u| u.join().unwrap());
        let released = s.1.load(Relaxed);
        assert_eq!(released, u32::from(waits && !gave_up), "released unless it gave up or did not wait");
        let mut left = 0;
        while s.0.down(false, |_| {}) {
            left += 1;
        }
        assert_eq!(left + released + u32::from(!waits), 2);
    });
}
