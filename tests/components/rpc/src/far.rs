//! A component that may use one CPU only, with the root task as its parent: it has couriers elsewhere, but no more than it
//! may, and nothing else.

use crate::{Outcome, STACK, done, equal};
use abi::{Mtd, Sel, Status};
use parent::{Call, LOG_MAX, MAX_COURIERS, Refusal, layout, sel};
use rpc::{Cap, Port};
use rt::hypercall as hc;
use rt::rpc::{Entrypoint, Portal, provide_courier};

/// Runs the checks.
pub fn main() {
    let all = [("calls_elsewhere", elsewhere as fn() -> Outcome), ("couriers_are_counted", counted)];
    let mut failed = 0;
    for (name, check) in all {
        let outcome = check();
        failed += u32::from(outcome.is_err());
        println!("test rpc_{name} ... {}", outcome.map_or_else(|why| format!("FAILED: {why}"), |()| "ok".into()));
    }
    println!("far: {} checks passed, {failed} failed", all.len() as u32 - failed);
}

/// A CPU that we may not use.
fn other() -> Result<u16, String> {
    let info = rt::start_info().ok_or("no start information")?;
    (0..info.cpus as u16).find(|c| !info.usable_cpus().contains(c)).ok_or("we may use all CPUs".into())
}

/// The root task's portal over there, which is no object, but takes messages.
fn say(cpu: u16, text: &str) -> Result<u64, rpc::Error> {
    let mut words = [0; abi::UTCB_WORDS];
    let n = Call::Log { text: &text.as_bytes()[..text.len().min(LOG_MAX)] }.encode(&mut words);
    let put = |to: &mut rpc::Writer<'_>| words[..n].iter().for_each(|w| to.word(*w));
    let portal = Portal::to(Cap::<dyn rpc_test::Door>::from_sel(sel::parent(cpu)));
    portal.message(0, put, |from| from.word().map_err(|_| rpc::Error::Gone))
}

fn elsewhere() -> Outcome {
    let cpu = other()?;
    equal("no courier, no portals", say(cpu, "nothing"), Err(rpc::Error::Gone))?;
    equal("a courier where there is no CPU", provide_courier(127), Err(Status::BadCpu))?;
    equal("nor can there be", provide_courier(u16::MAX), Err(Status::BadCpu))?;
    done("a courier", provide_courier(cpu))?;
    equal("a thread", Entrypoint::new(cpu, STACK).err(), Some(Status::BadCpu))?;
    for n in 0..3 {
        equal("a call", say(cpu, &format!("said {n} from CPU {} on CPU {cpu}", rt::thread::cpu())), Ok(0))?;
    }
    Ok(())
}

/// A courier without `rt`, which never runs.
fn by_hand(cpu: u16, n: u64) -> Result<u64, Status> {
    let at: Sel = rt::sel::alloc().ok_or(Status::MemCap)?;
    // Far behind those that `rt` uses.
    let page = layout::UTCBS + ((1 << 23) + n) * 4096;
    let call = Call::CreateCourier { ec: at, cpu, page, sp: 0, events: sel::events(cpu) };
    let mut utcb = rt::utcb();
    let n = call.encode(&mut utcb.words);
    drop(utcb);
    hc::ipc_call(sel::parent(rt::thread::cpu()), Mtd::words(n), false)?;
    Ok(rt::utcb().words[0])
}

fn counted() -> Outcome {
    let cpu = other()?;
    for n in 1..MAX_COURIERS as u64 {
        equal(&format!("courier {n}"), by_hand(cpu, n), Ok(0))?;
    }
    let refused = Ok(Refusal::NotYourCpu as u64);
    equal("one more", by_hand(cpu, MAX_COURIERS as u64), refused)?;
    equal("where there is no CPU", by_hand(127, 100), refused)?;
    // And the one that there was still works.
    equal("a call", say(cpu, "said after all"), Ok(0))
}
