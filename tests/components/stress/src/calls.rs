//! Calls through portals.

use crate::work::{Outcome, Setting, Slot, done, equal, refused};
use abi::{Mtd, Sel, Status, Utcb};
use rt::PortalThread;
use rt::hypercall as hc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words of a message.
const WORDS: usize = 20;

/// A thread on `cpu` that adds one to each word, and counts in `calls`; and a portal to it.
fn adder(cpu: u16, calls: Arc<AtomicU64>) -> Result<(PortalThread, Slot), String> {
    let handler = move |pid: u64, mtd, u: &mut Utcb| {
        // One call at a time: no step may be lost.
        calls.store(calls.load(Relaxed) + 1, Relaxed);
        let count = Mtd::word_count(mtd);
        u.words[..count].iter_mut().for_each(|w| *w = w.wrapping_add(pid));
        Mtd::words(count)
    };
    let t = done("portal thread", PortalThread::new(cpu, 16 << 10, Box::new(handler)))?;
    let s = Slot::new()?;
    done("portal", t.portal(s.0, 1, 0))?;
    Ok((t, s))
}

fn call(pt: Sel, words: [u64; WORDS]) -> Result<[u64; WORDS], Status> {
    rt::utcb().words[..WORDS].copy_from_slice(&words);
    hc::ipc_call(pt, Mtd::words(WORDS), false)?;
    let mut reply = [0; WORDS];
    reply.copy_from_slice(&rt::utcb().words[..WORDS]);
    Ok(reply)
}

/// Several callers on each CPU call the one server there.
pub fn same_cpu(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(1));
    let totals: Vec<_> = s.cpus.iter().map(|_| Arc::new(AtomicU64::new(0))).collect();
    let servers = s.cpus.iter().zip(&totals).map(|(&cpu, calls)| adder(cpu, calls.clone()));
    let servers: Vec<_> = servers.collect::<Result<_, _>>()?;
    s.all_pass(count, |i| {
        let (_, portal) = &servers[i % s.cpus.len()];
        let mut random = s.random(i);
        for round in 0..rounds {
            let words: [u64; WORDS] = std::array::from_fn(|_| random.below(u64::MAX));
            let reply = done("call", call(portal.0, words))?;
            equal(&format!("round {round}"), reply, words.map(|w| w + 1))?;
        }
        Ok(())
    })?;
    for (cpu, total) in totals.iter().enumerate() {
        let callers = (0..count).filter(|i| i % s.cpus.len() == cpu).count() as u64;
        equal(&format!("calls on CPU {}", s.cpus[cpu]), total.load(Relaxed), callers * rounds)?;
    }
    Ok(format!("{} calls", count as u64 * rounds))
}

/// A portal is for one CPU.
pub fn other_cpu(s: &Setting) -> Outcome {
    if s.cpus.len() == 1 {
        return Ok(format!("{}one CPU", crate::work::NOT_HERE));
    }
    let servers = s.cpus.iter().map(|&cpu| adder(cpu, Arc::default())).collect::<Result<Vec<_>, _>>()?;
    s.all_pass(s.cpus.len(), |i| {
        for ((_, portal), &cpu) in servers.iter().zip(&s.cpus) {
            let what = format!("call to CPU {cpu}");
            match call(portal.0, [1; WORDS]) {
                Ok(reply) if cpu == s.cpu(i) => equal(&what, reply, [2; WORDS])?,
                other => refused(&what, other, Status::BadCpu)?,
            }
        }
        Ok(())
    })?;
    Ok(format!("{} pairs of CPUs", s.cpus.len() * s.cpus.len()))
}
