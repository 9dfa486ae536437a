//! Semaphores, and what std makes of them.

use crate::work::{Outcome, Setting, equal, is_zero};
use rt::Semaphore;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, Condvar, Mutex, mpsc};

/// Pairs of workers hand a counter to and fro. It is not changed atomically, so two at a time would lose a step.
pub fn ping_pong(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers() & !1, s.part(1));
    let signals: Vec<_> = (0..count).map(|i| Semaphore::new(u64::from(i % 2 == 0))).collect();
    let counters: Vec<_> = (0..count / 2).map(|_| AtomicU64::new(0)).collect();
    s.on_all(count, |i| {
        let counter = &counters[i / 2];
        for _ in 0..rounds {
            signals[i].down();
            counter.store(counter.load(Relaxed) + 1, Relaxed);
            signals[i ^ 1].up();
        }
    });
    for (i, c) in counters.iter().enumerate() {
        equal(&format!("pair {i}"), c.load(Relaxed), 2 * rounds)?;
    }
    // The last up of each round trip is left.
    for (i, signal) in signals.iter().enumerate() {
        equal(&format!("count of semaphore {i}"), !is_zero(signal), i % 2 == 0)?;
    }
    Ok(format!("{} pairs, {rounds} rounds", count / 2))
}

/// Half of the workers up one semaphore, the others take as much from it: what was there before is left, no more.
pub fn counting(s: &Setting) -> Outcome {
    const BEFORE: u64 = 3;
    let (count, rounds) = (s.workers() & !1, s.part(1));
    let sem = Semaphore::new(BEFORE);
    s.on_all(count, |i| {
        for _ in 0..rounds {
            if i < count / 2 { sem.up() } else { sem.down() }
        }
    });
    let left = (0..=BEFORE + 1).take_while(|_| !is_zero(&sem)).count();
    equal("count that is left", left as u64, BEFORE)?;
    Ok(format!("{} ups, {rounds} by each of {} workers", count as u64 / 2 * rounds, count / 2))
}

/// Mutex, Condvar and mpsc, which all end up in semaphores of their threads.
pub fn std_locks(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(4));
    let (sum, turn, turned) = (Mutex::new(0u64), Mutex::new(0usize), Condvar::new());
    let (sender, receiver) = mpsc::channel();
    let (barrier, sender) = (Barrier::new(count), Mutex::new(sender));
    s.on_all(count, |i| {
        let sender = sender.lock().expect("sender").clone();
        barrier.wait();
        for n in 0..rounds {
            *sum.lock().expect("sum") += 1;
            sender.send(n).expect("receiver");
        }
        barrier.wait();
        // Once round, each in turn.
        let mut t = turned.wait_while(turn.lock().expect("turn"), |t| *t != i).expect("turn");
        *t += 1;
        turned.notify_all();
    });
    let total = count as u64 * rounds;
    equal("sum behind the lock", *sum.lock().expect("sum"), total)?;
    equal("turns", *turn.lock().expect("turn"), count)?;
    drop(sender);
    equal("messages", receiver.iter().sum::<u64>(), count as u64 * (rounds * (rounds - 1) / 2))?;
    Ok(format!("{total} steps behind a lock, as many messages"))
}
