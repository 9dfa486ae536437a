//! Timeouts of semaphores.

use crate::work::{Outcome, Setting, equal, in_us, is_zero};
use rt::Semaphore;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Longest wait in µs.
const LONGEST: u64 = 3000;

/// Nobody ups these semaphores: every wait ends by its timeout, and not before it.
pub fn deadlines(s: &Setting) -> Outcome {
    let rounds = s.part(20);
    s.all_pass(s.workers(), |i| {
        let (mut random, sem) = (s.random(i), Semaphore::new(0));
        for _ in 0..rounds {
            let deadline = in_us(random.below(LONGEST));
            equal("a down without an up", sem.down_until(deadline), false)?;
            let now = rt::time::tsc();
            if now < deadline {
                return Err(format!("timeout at {now}, before {deadline}"));
            }
        }
        Ok(())
    })?;
    Ok(format!("{rounds} timeouts of up to {LONGEST} us each"))
}

/// In each pair one waits with a deadline and the other ups at about that time. Either the wait took the up, or it timed
/// out and the up is still there.
pub fn races(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers() & !1, s.part(10));
    let pairs: Vec<_> = (0..count / 2).map(|_| [Semaphore::new(0), Semaphore::new(0), Semaphore::new(0)]).collect();
    let timeouts = AtomicU64::new(0);
    s.all_pass(count, |i| {
        let [sem, go, done] = &pairs[i / 2];
        let mut random = s.random(i);
        for round in 0..rounds {
            if i % 2 == 1 {
                go.down();
                let until = in_us(random.below(LONGEST / 10));
                while rt::time::tsc() < until {}
                sem.up();
                done.up();
                continue;
            }
            go.up();
            let taken = sem.down_until(in_us(random.below(LONGEST / 10)));
            done.down();
            timeouts.fetch_add(u64::from(!taken), Relaxed);
            equal(&format!("round {round}: up still there"), !is_zero(sem), !taken)?;
        }
        Ok(())
    })?;
    let timeouts = timeouts.into_inner();
    Ok(format!("{} races, {timeouts} of them timed out", rounds * count as u64 / 2))
}
