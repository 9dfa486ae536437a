//! Servers and clients that do what they must not, and one pair that does not notice.

use crate::echo::{Echo, EchoClient, EchoServer};
use crate::server::Session as Served;
use crate::{Outcome, done, equal, open, parent, request};
use abi::Mtd;
use rpc::{Cap, Interface, Text};
use rt::dataspace::{pd, rm};
use rt::rpc::{Entrypoint, Managed};
use rt::session::{self, Amount};
use rt::{Semaphore, hypercall};
use services::parent::{AnyObject, End, News, Notice, Refusal, Response};
use services::{Parent, Pd, Rm, Timer};
use std::time::Duration;

const PAGE: u64 = 4096;
/// The parent waits two seconds for a server that is to close a session, and as long for what it owes.
const PATIENCE: Duration = Duration::from_secs(2);

fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

fn announce() -> Outcome {
    let p = parent();
    let service = |name| Text::new(name).ok_or("a long name");
    equal("announce", p.announce(service("echo")?), Ok(Ok(())))?;
    equal("announce what it is not to", p.announce(service("timer")?), Ok(Err(Refusal::NotProvided)))
}

/// Some object to hand over.
fn object() -> Result<(Managed<dyn Echo>, Cap<AnyObject>), String> {
    let at = done("an entry point", Entrypoint::new(rt::thread::cpu(), 32 << 10))?;
    let object = done("an object", at.manage(EchoServer(Served::default())))?;
    let cap = Cap::from_sel(object.cap().sel());
    Ok((object, cap))
}

/// A server that answers for others, creates its first session when that is to be closed, says all twice, and does not close the
/// second one at all.
pub fn late() -> Outcome {
    announce()?;
    let (p, (_object, cap)) = (parent(), object()?);
    let mut first = None;
    loop {
        match done("next", p.next())? {
            Some(Notice::Create(r)) => {
                equal("for nobody", p.respond(r.id + 1000, Response::Closed), Ok(Err(Refusal::Unknown)))?;
                if first.is_none() {
                    first = Some(r.id);
                    continue;
                }
                equal("closes what is not created", p.respond(r.id, Response::Closed), Ok(Err(Refusal::Phase)))?;
                equal("creates", p.respond(r.id, Response::Ready(cap)), Ok(Ok(())))?;
                equal("creates twice", p.respond(r.id, Response::Ready(cap)), Ok(Err(Refusal::Phase)))?;
                equal("denies afterwards", p.respond(r.id, Response::Denied), Ok(Err(Refusal::Phase)))?;
                equal("an upgrade of no one", p.respond(r.id, Response::Upgraded), Ok(Err(Refusal::Phase)))?;
            }
            Some(Notice::Close(id)) if Some(id) == first => {
                equal("creates late", p.respond(id, Response::Ready(cap)), Ok(Ok(())))?;
                equal("closes", p.respond(id, Response::Closed), Ok(Ok(())))?;
                let again = done("closes twice", p.respond(id, Response::Closed))?;
                equal("closes twice", matches!(again, Err(Refusal::Phase | Refusal::Unknown)), true)?;
            }
            Some(Notice::Close(id)) => {
                std::thread::sleep(2 * PATIENCE);
                return equal("closes too late", p.respond(id, Response::Closed), Ok(Err(Refusal::Unknown)));
            }
            _ => pause(),
        }
    }
}

/// Fetches news until one is of that session.
fn news_of(wanted: u64) -> Result<News, String> {
    for _ in 0..2000 {
        match done("next", parent().next())? {
            Some(Notice::Session(id, news)) if id == wanted => return Ok(news),
            Some(other) => return Err(format!("session {wanted}: {other:?}")),
            None => pause(),
        }
    }
    Err(format!("session {wanted}: nothing is new of it"))
}

/// The client of that server: it does not wait for ever, and has all that it has donated back.
pub fn wait() -> Outcome {
    let (p, ended) = (parent(), News::Ended(End::Closed));
    let before = done("ram", pd().ram())?;
    equal("ask", p.request(request(7, "a")), Ok(Ok(())))?;
    std::thread::sleep(Duration::from_millis(100));
    equal("no answer", p.next(), Ok(None))?;
    equal("does not wait any more", p.close(7), Ok(Ok(())))?;
    equal("the first", news_of(7)?, ended.clone())?;
    equal("ask again", p.request(request(8, "a")), Ok(Ok(())))?;
    equal("there", matches!(news_of(8)?, News::Ready(_)), true)?;
    equal("close", p.close(8), Ok(Ok(())))?;
    equal("the second, without its server", news_of(8)?, ended)?;
    equal("all is back", done("ram", pd().ram())?.limit, before.limit)
}

/// The client of a server that never answers: each time it goes on in time, and has all back in the end. Whoever answers is not too
/// late.
pub fn hurry() -> Outcome {
    for round in 0..3 {
        let before = done("ram", pd().ram())?.limit;
        // As many as it can pay.
        for _ in 0..8 {
            let late = rt::time::tsc() + rt::time::tsc_from_ns(20_000_000);
            let session = session::open_until::<dyn Echo>("late", &[], late).map(drop);
            equal(&format!("round {round}"), session, Err(session::Error::Late))?;
            equal("waited for", rt::time::tsc() >= late, true)?;
            let soon = rt::time::tsc() + rt::time::tsc_from_ns(10_000_000_000);
            let session = done("who answers", session::open_until::<dyn Echo>("soon", &[], soon))?;
            equal("adds", EchoClient::new(session.portal()).add(2), Ok(2))?;
        }
        restored(before)?;
    }
    Ok(())
}

/// Waits until so many bytes may be used again.
fn restored(limit: u64) -> Outcome {
    let now = || done("ram", pd().ram()).map(|a| a.limit);
    for _ in 0..2000 {
        if now()? == limit {
            return Ok(());
        }
        pause();
    }
    Err(format!("{} of {limit} bytes are back", now()?))
}

/// A server that spends what it is given, and keeps that when the session is over.
pub fn keep() -> Outcome {
    announce()?;
    let (p, (_object, cap)) = (parent(), object()?);
    loop {
        match done("next", p.next())? {
            Some(Notice::Create(r)) => {
                while matches!(pd().alloc(PAGE), Ok(Ok(_))) {}
                equal("creates", p.respond(r.id, Response::Ready(cap)), Ok(Ok(())))?;
            }
            Some(Notice::Close(id)) => equal("closes", p.respond(id, Response::Closed), Ok(Ok(())))?,
            _ => pause(),
        }
    }
}

/// The client of that one has its donation back nevertheless.
pub fn save() -> Outcome {
    let limit = || done("ram", pd().ram()).map(|a| a.limit);
    let before = limit()?;
    let session = done("open", open("s"))?;
    equal("donated", limit()?, before - 2 * PAGE)?;
    drop(session);
    restored(before)
}

/// A sequence of numbers that are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        // Xorshift (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn word(&mut self) -> u64 {
        match self.next(4) {
            0 => self.next(8),
            1 => self.next(1 << 16),
            2 => u64::MAX - self.next(3),
            _ => self.next(u64::MAX),
        }
    }
}

/// Sends what is no message: methods that there are not, too few words, too many, without capabilities where some are due, and
/// with null ones. `spared`: methods that do what it does not want.
fn send<I: Interface + ?Sized>(to: u64, spared: &[&str], n: &mut Numbers) {
    // Their numbers begin at 1.
    let methods = I::TABLE.methods;
    let method = match n.next(3) {
        0 => (methods.len() as u64 + 1 + n.next(u64::MAX >> 1)) * n.next(2),
        _ => 1 + n.next(methods.len() as u64),
    };
    let known = usize::try_from(method).ok().and_then(|method| methods.get(method.checked_sub(1)?));
    if known.is_some_and(|m| spared.contains(&m.name)) {
        return;
    }
    let (words, items) = (n.next(60) as usize, n.next(3) as usize);
    let mut utcb = rt::utcb();
    utcb.words.iter_mut().for_each(|w| *w = n.word());
    utcb.words[0] = method;
    for i in 0..items {
        // There is nothing at these selectors.
        utcb.words[abi::Item::word(i)] = abi::Item::new(30_000 + n.next(1000), 0).0;
    }
    drop(utcb);
    let mtd = Mtd::with_items(Mtd::words(words), items);
    // Whatever is answered is right, as long as something is.
    let _ = if items > 0 { hypercall::ipc_call_items(to, mtd) } else { hypercall::ipc_call(to, mtd, false) };
    let _ = hypercall::ipc_call_registers(to, [method, n.word(), n.word(), n.word(), n.word(), n.word()]);
}

/// Sends garbage to whoever it can reach; then all of them still do what they are asked.
pub fn garbage() -> Outcome {
    let (session, client) = done("open", open("g"))?;
    let cpu = rt::thread::cpu();
    let mut n = Numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..3000 {
        send::<dyn Parent>(parent::sel::sessions(cpu), &["exit", "close"], &mut n);
        send::<dyn Pd>(parent::sel::PD_SESSION, &[], &mut n);
        send::<dyn Rm>(parent::sel::RM_SESSION, &[], &mut n);
        send::<dyn Echo>(session.cap().sel(), &["end", "crash", "hang"], &mut n);
        // The older calls, with a CPU that is not there where one is named.
        let op = [0, 4, 5, 6, u64::MAX][n.next(5) as usize];
        let mut utcb = rt::utcb();
        utcb.words[..8].iter_mut().for_each(|w| *w = u64::MAX - n.next(100));
        utcb.words[0] = op;
        drop(utcb);
        let _ = hypercall::ipc_call(parent::sel::parent(cpu), Mtd::words(n.next(9) as usize), false);
    }
    let at = done("the server's count", client.add(0))?;
    equal("the server adds", client.add(2), Ok(at.wrapping_add(2)))?;
    equal("the parent refuses as before", parent().close(1 << 40), Ok(Err(Refusal::Unknown)))?;
    let dataspace = done("refused", done("alloc", pd().alloc(PAGE))?)?;
    equal("free", pd().free(dataspace), Ok(Ok(())))
}

/// Takes all there is of everything, and ends with it.
pub fn take_all() -> Outcome {
    let sessions: Vec<_> = (0..1000).map_while(|_| session::open::<dyn Timer>("", &[]).ok()).collect();
    let mut dataspaces = 0;
    while matches!(pd().alloc(PAGE), Ok(Ok(_))) {
        dataspaces += 1;
    }
    let maps = (0..1000).take_while(|_| matches!(rm().create(PAGE), Ok(Ok(_)))).count();
    let mut semaphores = Vec::new();
    while let Ok(semaphore) = Semaphore::try_new(0) {
        semaphores.push(semaphore);
        if semaphores.len() > 100_000 {
            return Err("kernel memory without end".into());
        }
    }
    println!("{} sessions, {dataspaces} dataspaces, {maps} maps, semaphores until there was no memory", sessions.len());
    let bounded = sessions.len() <= 64 && dataspaces <= 128 && maps <= 16;
    let asked = parent().want(Amount { ram: 1 << 40, caps: 1 << 40 });
    equal("ask for all", asked, Ok(Ok(())))?;
    // With all of that, and without giving anything back.
    let outcome = equal("bounded", bounded, true);
    std::mem::forget((sessions, semaphores));
    outcome
}

/// Uses a server as one should, beside all of them.
pub fn steady() -> Outcome {
    let (_session, client) = done("open", open("s"))?;
    for n in 1..=1500 {
        equal("add", client.add(1), Ok(n))?;
        if n % 100 == 0 {
            let (_other, other) = done("open another", open("t"))?;
            equal("add there", other.add(n), Ok(n))?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
