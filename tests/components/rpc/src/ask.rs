//! The client: checks that calls do what the interface says.

use crate::hub::{TOLD, tally};
use crate::{Outcome, STACK, child, done, equal};
use rpc::{Cap, Error, Text};
use rpc_test::{DoorClient, Hub, HubClient, MillClient, MillError, TallyClient, TallyError};
use rt::rpc::{Entrypoint, Held, Portal, raise};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type Link = HubClient<Portal>;

/// Name of the check, and what it does.
type Check = (&'static str, fn(&Link) -> Outcome);

const CHECKS: &[Check] = &[
    ("values_arrive", values),
    ("capabilities_have_one_selector", identity),
    ("windows_are_refilled", windows),
    ("signals_merge_and_arrive", signals),
    ("handlers_wait_for_methods", ordered),
    ("a_watched_tally_raises", watched),
    ("what_is_dissolved_is_gone", dissolved),
    ("a_call_back_in_the_midst_of_a_call", called_back),
    ("many_callers_at_once", many),
    ("cpus_are_kept_to", kept_to),
    ("work_goes_on_behind_a_method", ground),
    ("work_is_bounded_and_can_be_given_up", given_up),
    (TOLD, told),
];

/// The hub of the parent.
pub fn hub() -> Link {
    HubClient::new(Portal::to(Cap::<dyn Hub>::from_sel(child::HUB)))
}

/// Reports to it.
pub fn report(hub: &Link, check: &str, outcome: Outcome) {
    let text = outcome.err().map(|why| Text::new(&why[..why.floor_char_boundary(200)]).expect("cut"));
    hub.report(Text::new(check).expect("a short name"), text).expect("the hub");
}

/// Runs all checks.
pub fn main() {
    let hub = hub();
    for (name, check) in CHECKS {
        report(&hub, name, check(&hub));
    }
}

fn their_tally(hub: &Link) -> Result<Held<Cap<dyn rpc_test::Tally>>, String> {
    Ok(Held::adopt(done("tally", hub.tally())?.ok_or("no tally")?))
}

fn values(hub: &Link) -> Outcome {
    let tally = their_tally(hub)?;
    let t = TallyClient::new(Portal::to(*tally));
    equal("add", t.add(40, 2), Ok(42))?;
    equal("add, wrapping", t.add(u64::MAX, u64::MAX), Ok(40))?;
    equal("take", t.take(30), Ok(Ok(10)))?;
    equal("take too much", t.take(11), Ok(Err(TallyError::TooLittle)))?;
    let name = |s| Text::new(s).ok_or("too long");
    equal("rename", t.rename(name("Tally, Zähler")?), Ok(name("")?))?;
    let long = "x".repeat(64);
    equal("rename again", t.rename(name(&long)?), Ok(name("Tally, Zähler")?))?;
    equal("and again", t.rename(name("")?), Ok(name(&long)?))
}

fn entry() -> Result<Entrypoint, String> {
    done("an entry point", Entrypoint::new(rt::thread::cpu(), STACK))
}

/// The server finds its own object in what we send it, and ours again by the selector that it had.
fn identity(hub: &Link) -> Outcome {
    let (first, again) = (their_tally(hub)?, their_tally(hub)?);
    equal("here", first.sel(), again.sel())?;
    equal("is", TallyClient::new(Portal::to(*first)).is(*again), Ok(true))?;
    let ours = tally(entry()?);
    equal("is ours", TallyClient::new(Portal::to(*first)).is(ours.cap()), Ok(false))?;
    let there = done("keep", hub.keep(ours.cap()))?;
    equal("there", hub.keep(ours.cap()), Ok(there))?;
    done("forget", hub.forget()).map(drop)
}

/// The hub keeps more than a window holds, and has all its selectors again when it gives them up.
fn windows(hub: &Link) -> Outcome {
    let ep = entry()?;
    let ours: Vec<_> = (0..40).map(|_| tally(ep)).collect();
    let round = || {
        let there = ours.iter().map(|t| hub.keep(t.cap())).collect::<Result<Vec<_>, _>>();
        let there = done("keep", there)?;
        let again = done("keep", ours.iter().map(|t| hub.keep(t.cap())).collect::<Result<Vec<_>, _>>())?;
        equal("the same again", &again, &there)?;
        let mut different = there;
        different.sort_unstable();
        different.dedup();
        equal("different ones", different.len(), ours.len())?;
        done("forget", hub.forget())
    };
    let first = round()?;
    equal("free selectors", round()?, first)
}

fn signals(hub: &Link) -> Outcome {
    let signal = done("signal", hub.signal())?.ok_or("no signal")?;
    let before = done("handled", hub.handled())?;
    let handled = |n: u64| {
        for _ in 0..1000 {
            let now = done("handled", hub.handled())? - before;
            if now >= n {
                return Ok(now);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("{n} signals were raised and not handled"))
    };
    done("raise", raise(signal))?;
    equal("one is handled", handled(1)?, 1)?;
    for _ in 0..100 {
        done("raise", raise(signal))?;
    }
    let n = handled(2)?;
    if n > 101 { Err(format!("100 signals were handled {} times", n - 1)) } else { Ok(()) }
}

/// Another thread raises signals while we are in a method that no handler may interrupt: the parent sees to that.
fn ordered(hub: &Link) -> Outcome {
    let signal = done("signal", hub.signal())?.ok_or("no signal")?;
    let before = done("handled", hub.handled())?;
    let raiser = std::thread::spawn(move || {
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            done("raise", raise(signal))?;
        }
        Ok::<_, String>(())
    });
    for _ in 0..10 {
        done("busy", hub.busy(5))?;
    }
    raiser.join().map_err(|_| "the thread panicked")??;
    let after = done("handled", hub.handled())?;
    if after > before { Ok(()) } else { Err("no signal was handled".into()) }
}

/// A signal of ours, which the server raises.
fn watched(hub: &Link) -> Outcome {
    let (tally, seen) = (their_tally(hub)?, Arc::new(AtomicU64::new(0)));
    let count = seen.clone();
    let context = done("a context", entry()?.context(move || _ = count.fetch_add(1, Ordering::SeqCst)))?;
    let t = TallyClient::new(Portal::to(*tally));
    equal("watch", t.watch(context.signal()), Ok(()))?;
    let wait = |n| {
        for _ in 0..1000 {
            if seen.load(Ordering::SeqCst) >= n {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(format!("change {n} was not seen"))
    };
    done("add", t.add(1, 0))?;
    wait(1)?;
    done("add", t.add(1, 0))?;
    wait(2)?;
    let signal = context.signal();
    drop(context);
    equal("raise it ourselves", raise(signal), Err(Error::Gone))?;
    done("add, and nobody is there to be told", t.add(1, 0)).map(drop)
}

/// An object of our own that we dissolve; another one takes its index, and the capabilities to the first do not lead there.
fn dissolved(_: &Link) -> Outcome {
    let ep = entry()?;
    let first = tally(ep);
    let t = TallyClient::new(Portal::to(first.cap()));
    equal("alive", t.add(3, 4), Ok(7))?;
    drop(first);
    equal("a short call", t.add(3, 4), Err(Error::Gone))?;
    let second = tally(ep);
    equal("the next one", TallyClient::new(Portal::to(second.cap())).add(1, 1), Ok(2))
}

/// The hub calls a tally of ours while we are in a call of the hub.
fn called_back(hub: &Link) -> Outcome {
    let ours = tally(entry()?);
    for n in 1..=20 {
        equal("call back", hub.call_back(ours.cap(), 1), Ok(Some(n)))?;
    }
    done("forget", hub.forget()).map(drop)
}

/// More threads than there can be couriers, each with calls of all kinds.
fn many(hub: &Link) -> Outcome {
    const THREADS: u64 = parent::MAX_COURIERS as u64 + 4;
    const CALLS: u64 = 50;
    let tally = their_tally(hub)?;
    let before = done("add", TallyClient::new(Portal::to(*tally)).add(0, 0))?;
    let ep = entry()?;
    let caller = |n: u64| {
        let (hub, tally) = (self::hub(), their_tally(&self::hub())?);
        let (t, ours) = (TallyClient::new(Portal::to(*tally)), crate::hub::tally(ep));
        for i in 1..=CALLS {
            done("add", t.add(n, 0))?;
            equal("is", t.is(*tally), Ok(true))?;
            equal("is ours", t.is(ours.cap()), Ok(false))?;
            equal("the same tally", done("tally", hub.tally())?.map(|c| Held::adopt(c).sel()), Some(tally.sel()))?;
            equal("our own", hub.call_back(ours.cap(), 1), Ok(Some(i)))?;
        }
        Ok::<_, String>(())
    };
    std::thread::scope(|s| {
        let start = |n| std::thread::Builder::new().stack_size(STACK).spawn_scoped(s, move || caller(n));
        let threads = done("threads", (0..THREADS).map(start).collect::<Result<Vec<_>, _>>())?;
        threads.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked")?)
    })?;
    let after = done("add", TallyClient::new(Portal::to(*tally)).add(0, 0))?;
    done("forget", hub.forget())?;
    equal("all were counted", after.wrapping_sub(before), CALLS * THREADS * (THREADS - 1) / 2)
}

/// We may use one CPU, also when we have couriers on another.
fn kept_to(hub: &Link) -> Outcome {
    let (own, theirs) = (rt::thread::cpu(), done("cpu", hub.cpu())?);
    equal("usable", rt::start_info().map(|i| i.usable_cpus()), Some(&[own][..]))?;
    if own != theirs {
        equal("an entry point there", Entrypoint::new(theirs, STACK).err(), Some(abi::Status::BadCpu))?;
        equal("a courier there", rt::rpc::provide_courier(theirs), Ok(()))?;
    }
    Ok(())
}

/// Looks again and again, for a second at most.
fn soon<T: PartialEq + std::fmt::Debug>(what: &str, look: impl Fn() -> Result<T, Error>, want: T) -> Outcome {
    for _ in 0..1000 {
        if done(what, look())? == want {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    equal(what, done(what, look())?, want)
}

/// Futures at the hub's entry point, which wait for a signal of ours, and tell us by one.
fn ground(hub: &Link) -> Outcome {
    let mill = Held::adopt(done("mill", hub.mill())?.ok_or("no mill")?);
    let (m, over) = (MillClient::new(Portal::to(*mill)), Arc::<AtomicU64>::default());
    let count = over.clone();
    let context = done("a context", entry()?.context(move || _ = count.fetch_add(1, Ordering::SeqCst)))?;
    let wind = Held::adopt(done("wind", m.wind())?.ok_or("no signal")?);
    equal("the first", m.grind(2, context.signal()), Ok(Ok(())))?;
    equal("the second", m.grind(3, context.signal()), Ok(Ok(())))?;
    equal("none, and it is over", m.grind(0, context.signal()), Ok(Ok(())))?;
    soon("at work", || m.ground(), (0, 2))?;
    for turned in [(2, 2), (4, 1), (5, 0)] {
        done("wind", raise(*wind))?;
        soon("turned", || m.ground(), turned)?;
    }
    done("nobody is at work", raise(*wind))?;
    soon("told", || Ok(over.load(Ordering::SeqCst) > 0), true)?;
    equal("turned", m.ground(), Ok((5, 0)))
}

/// As much work as there can be, then one more, then none.
fn given_up(hub: &Link) -> Outcome {
    let mill = Held::adopt(done("mill", hub.mill())?.ok_or("no mill")?);
    let m = MillClient::new(Portal::to(*mill));
    let context = done("a context", entry()?.context(|| {}))?;
    for _ in 0..3 {
        // More turns than what is still to come of the check before.
        let begin = || m.grind(1000, context.signal());
        let working = || m.ground().map(|(_, working)| working);
        let begun = (0..crate::mill::TOO_MUCH).take_while(|_| begin() == Ok(Ok(()))).count();
        if begun < 32 {
            return Err(format!("only {begun} at work"));
        }
        equal("one more", begin(), Ok(Err(MillError::Busy)))?;
        equal("at work", working(), Ok(begun as u32))?;
        done("halt", m.halt())?;
        equal("none at work", working(), Ok(0))?;
    }
    Ok(())
}

/// The parent dissolves the door while we are inside; our report opens it, so we have been told before.
fn told(hub: &Link) -> Outcome {
    let door = Held::adopt(done("door", hub.door())?.ok_or("no door")?);
    equal("inside", DoorClient::new(Portal::to(*door)).enter(), Err(Error::Gone))
}
