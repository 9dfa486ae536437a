//! Quota: what a server may spend for a session, and what a component gets when it asks, as another one gives it up.

use crate::shelf::{Shelf, ShelfClient};
use crate::{Outcome, done, equal};
use rpc::Cap;
use rt::dataspace::pd;
use rt::rpc::{Entrypoint, Portal};
use rt::session::{self, Amount, Error, Session, Shortage};
use services::Dataspace;
use services::parent::Refusal;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PAGE: u64 = 4096;

fn open(ram: u64) -> Result<(Session<dyn Shelf>, ShelfClient<Portal>), Error> {
    let session = session::open_with::<dyn Shelf>("", &[], Amount { ram, caps: 4 })?;
    let client = ShelfClient::new(session.portal());
    Ok((session, client))
}

/// A session may cost its donation, an upgrade included, and not more; another session has its own.
pub fn spend() -> Outcome {
    equal("too little", open(PAGE).err(), Some(Error::Short(Shortage::Ram)))?;
    let ((first, a), (_second, b)) = (done("open", open(2 * PAGE))?, done("open another", open(2 * PAGE))?);
    equal("what has been donated", a.store(2 * PAGE), Ok(true))?;
    equal("more than that", a.store(PAGE), Ok(false))?;
    equal("by the other one", b.store(PAGE), Ok(true))?;
    done("upgrade", first.upgrade(Amount { ram: PAGE, caps: 0 }))?;
    equal("what has been donated since", a.store(PAGE), Ok(true))?;
    equal("more than that, too", a.store(PAGE), Ok(false))?;
    equal("by the other one, again", b.store(PAGE), Ok(true))?;
    let too_much = first.upgrade(Amount { ram: 64 << 20, caps: 0 });
    equal("an upgrade that cannot be paid", too_much, Err(Error::Refused(Refusal::ShortRam)))?;
    equal("after it", a.store(PAGE), Ok(false))?;
    let before = limit()?;
    drop(first);
    // What was donated comes back, as the server has freed what it bought with it.
    for _ in 0..200 {
        if limit()? > before {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err("the donation does not come back".into())
}

fn limit() -> Result<u64, String> {
    done("ram", pd().ram()).map(|a| a.limit)
}

fn caps() -> Result<(u64, u64), String> {
    done("caps", pd().caps()).map(|a| (a.limit, a.used))
}

fn dataspaces(n: u64) -> Result<Vec<Cap<dyn Dataspace>>, String> {
    (0..n).map(|i| done(&format!("dataspace {i} of {n}"), done("alloc", pd().alloc(PAGE))?)).collect()
}

/// Asks for a hundred capabilities and has a dataspace for each; gives back as many as it is asked for.
pub fn lend() -> Outcome {
    let (at_first, used) = caps()?;
    done("want", session::want(Amount { ram: 0, caps: 100 }))?;
    equal("more capabilities", caps()?, (at_first + 100, used))?;
    let all = Arc::new(Mutex::new(dataspaces(at_first + 100 - used)?));
    let (mine, asked_for) = (Arc::clone(&all), Arc::new(AtomicU64::new(0)));
    let told = Arc::clone(&asked_for);
    session::on_yield(move |asked| {
        let mut all = mine.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.len().saturating_sub(asked.caps as usize);
        let freed = all.drain(kept..).filter(|&d| pd().free(d) == Ok(Ok(()))).count();
        println!("gives {freed} of {} capabilities back", asked.caps);
        told.store(asked.caps, SeqCst);
    });
    let at = done("an entry point", Entrypoint::new(rt::thread::cpu(), 32 << 10))?;
    done("attend", session::attend(at))?;
    println!("has all that is left");
    let left = || at_first + 100 - asked_for.load(SeqCst);
    while left() == at_first + 100 || caps()?.0 > left() {
        std::thread::sleep(Duration::from_millis(10));
    }
    equal("kept", all.lock().unwrap_or_else(PoisonError::into_inner).len() as u64, left() - used)
}

/// Asks for what another one has to give back first.
pub fn ask() -> Outcome {
    // The other one comes first.
    std::thread::sleep(Duration::from_millis(500));
    let (at_first, used) = caps()?;
    done("want", session::want(Amount { ram: 0, caps: 80 }))?;
    equal("more capabilities", caps()?, (at_first + 80, used))?;
    dataspaces(at_first + 80 - used)?;
    equal("all in use", caps()?, (at_first + 80, at_first + 80))
}
