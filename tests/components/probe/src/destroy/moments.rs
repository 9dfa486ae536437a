//! PDs that are destroyed at random moments, with partners that call them and that they call, on all CPUs.

use super::cpus;
use super::domain::{Desk, Domain, inside};
use super::kinds::{calls, counts, outcome, serves};
use super::states::returns;
use crate::check::{Outcome, done, holds};
use crate::scene::{Local, Slot, call};
use abi::{Status, perm};
use rt::Semaphore;
use rt::hypercall as hc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

/// Rounds, each with a new domain.
const ROUNDS: u64 = 40;
/// Selectors in the domain: portal of its own server, its semaphore; FREE is the portal of ours.
const SERVER: u64 = inside::FREE + 1;
const SM: u64 = inside::FREE + 2;

/// Calls the domain's own server, and ours from time to time.
extern "C" fn works(desk: u64) -> ! {
    let at = std::ptr::with_exposed_provenance_mut::<u64>(desk as usize);
    for n in 1u64.. {
        let _ = hc::ipc_call(if n % 4 == 0 { inside::FREE } else { SERVER }, 0, false);
        // SAFETY: a word of the desk.
        unsafe { at.write_volatile(at.read_volatile() + 1) };
        if n % 8 == 0 {
            let _ = hc::sm_up(SM);
        }
    }
    loop {
        std::hint::spin_loop();
    }
}

/// Waits for its semaphore, then calls ours.
extern "C" fn relays(_: u64, _: u64, _: *mut u64) -> u64 {
    let _ = hc::sm_down(SM, false, Some(1));
    let _ = hc::ipc_call(inside::FREE, 0, false);
    0
}

/// What a partner of ours on a CPU does until it is told to stop: calls the domain's server, whatever that is now.
fn partner(pt: u64, stop: &AtomicBool, made: &AtomicU64) -> Result<(), String> {
    // Made once: kernel memory is measured meanwhile.
    let pause = Semaphore::new(0);
    while !stop.load(SeqCst) {
        match call(pt, &[], false) {
            // It was there, or its end came in between.
            Ok(_) | Err(Status::Aborted) => made.fetch_add(1, SeqCst),
            Err(Status::BadCap) => 0,
            Err(e) => return Err(format!("call of a domain that comes and goes: {e:?}")),
        };
        // Others are to come in between, at any moment.
        pause.down_until(rt::time::tsc() + rt::time::tsc_hz() / 5000);
    }
    Ok(())
}

/// A domain comes, works for a while and is destroyed.
fn round(desk: Desk, ours: &Local, pt: &Slot, wait_us: u64) -> Outcome {
    let d = Domain::new(desk)?;
    let sm = Slot::new();
    done("create_sm", hc::create_sm(sm.0, d.pd.0, 0))?;
    d.give(ours.portal.0, inside::FREE, perm::ALL)?;
    d.give(sm.0, SM, perm::ALL)?;
    let all = cpus();
    let first = all[0];
    let (_server, server) = d.local(first, relays, 0)?;
    d.give(server.0, SERVER, perm::ALL)?;
    done("show the portal", crate::scene::copy(server.0, pt.0, perm::ALL))?;
    let mut threads = vec![d.thread(first, works, 2)?, d.thread(first, calls, 2)?];
    for c in all.iter().skip(1).take(3) {
        threads.push(d.thread(*c, if c % 2 == 0 { works } else { counts }, 2)?);
    }
    let end = rt::time::tsc() + rt::time::tsc_hz() / 1_000_000 * wait_us;
    crate::scene::sleep_ms(wait_us / 1000);
    while rt::time::tsc() < end {}
    d.destroy()?;
    done("revoke", crate::scene::copy(pt.0, pt.0, 0))
}

pub fn random() -> Outcome {
    // Not here where we may not create threads in other domains: say so before there are partners.
    drop(Domain::new(Desk::new())?);
    let (desk, ours, pt) = (Desk::new(), Local::new(serves, None)?, Arc::new(Slot::new()));
    done("ctrl_pt", hc::ctrl_pt(ours.portal.0, abi::SEL_NUM, 0))?;
    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    rt::thread::set_spawn_priority(1);
    let partners: Vec<_> = (0..2)
        .map(|_| {
            let (pt, stop, made) = (pt.clone(), stop.clone(), made.clone());
            thread::spawn(move || partner(pt.0, &stop, &made))
        })
        .collect();
    rt::thread::set_spawn_priority(0);
    let mut seed = 0x5eed_0004u64;
    // What is taken once and stays, such as tables of our own spaces, is taken now.
    let mut result = round(desk, &ours, &pt, 10_000).map_err(|e| format!("a first one: {e}"));
    for n in 0..ROUNDS {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if result.is_err() {
            break;
        }
        result = returns(|| round(desk, &ours, &pt, seed % 3000)).map_err(|e| format!("round {n}: {e}"));
    }
    stop.store(true, SeqCst);
    for t in partners {
        outcome("a partner", t)??;
    }
    result?;
    holds(&format!("domains worked: {}", desk.word(0)), desk.word(0) > 0)?;
    holds(&format!("partners called: {}", made.load(SeqCst)), made.load(SeqCst) > 0)?;
    // Our server has come through it all.
    done("call of ours", ours.call(&[])).map(drop)
}
