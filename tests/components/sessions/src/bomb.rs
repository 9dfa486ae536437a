//! Lives that end in the midst of everything, a thousand times, and who ends them.
//!
//! A *bomb* is a client of a shelf, which gets capabilities of it, and of the timer, has dataspaces attached, threads and an
//! entry point, and serves echoes. The *fuse* is its client, and has it end, each time in another way. Fuse and shelf have as much
//! in use after many lives as after a few.

use crate::echo::{Echo, EchoClient, EchoServer};
use crate::shelf::{Shelf, ShelfClient, Used, used};
use crate::{Outcome, done, equal, open};
use rpc::{Bytes, Text};
use rt::Semaphore;
use rt::dataspace::{attach, pd, rm};
use rt::rpc::{Entrypoint, Managed, Portal};
use rt::session::{self, Error, Refused, Request, Root};
use services::parent::Refusal;
use services::rm::Attr;
use services::{RmClient, Timer, TimerClient};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

/// In the first lives everybody may still need more than before.
const WARM: u64 = 8;
const PAGE: u64 = 4096;

struct Session(Arc<Semaphore>);

impl Echo for Session {
    fn label(&mut self) -> Text<255> {
        Text::default()
    }

    fn args(&mut self) -> Bytes<112> {
        Bytes::default()
    }

    fn add(&mut self, n: u64) -> u64 {
        n + 1
    }

    fn donated(&mut self) -> u64 {
        0
    }

    fn end(&mut self, how: u64) {
        match how % 4 {
            0 => rt::exit(how),
            // The caller is answered, and the end comes from another thread.
            1 => self.0.up(),
            // From a thread that nobody has called, while the caller waits.
            2 => {
                self.0.up();
                loop {
                    thread::park();
                }
            }
            _ => std::process::abort(),
        }
    }

    fn crash(&mut self) {}

    fn hang(&mut self) {}
}

struct Bombs(Arc<Semaphore>);

impl Root for Bombs {
    type Interface = dyn Echo;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Echo>, Refused> {
        at.manage(EchoServer(Session(self.0.clone()))).map_err(|_| Refused::Denied)
    }
}

/// One life.
pub fn live() -> Outcome {
    let at = done("an entry point", Entrypoint::new(rt::thread::cpu(), 32 << 10))?;
    let context = done("a context", at.context(|| ()))?;
    let signal = context.signal();
    let shelf = done("a shelf", session::open::<dyn Shelf>("", &[]))?;
    let on = ShelfClient::new(shelf.portal());
    done("keep", on.keep(signal))?;
    let timer = done("a timer", session::open::<dyn Timer>("", &[]))?;
    let alarm = TimerClient::new(timer.portal());
    done("heed", alarm.heed(signal))?;
    done("every", alarm.every(700))?;
    let ram = done("refused RAM", done("alloc", pd().alloc(2 * PAGE))?)?;
    let attached = done("attach", attach(ram, Attr::WRITE))?;
    attached.words()[0].store(42, SeqCst);
    equal("what the shelf sees", done("show", on.show(ram))?, Some(42))?;
    let (map, dataspace) = done("refused a map", done("create", rm().create(16 * PAGE))?)?;
    let map = RmClient::new(Portal::to(map));
    done("handler", map.fault_handler(signal))?;
    done("refused in the map", done("attach in the map", map.attach(ram, Attr::WRITE.at(3 * PAGE)))?)?;
    let managed = done("attach the map", attach(dataspace, Attr::READ))?;
    equal("by the map", managed.words()[3 * 512].load(SeqCst), 42)?;
    thread::spawn(|| Semaphore::new(0).down());
    thread::spawn(|| thread::sleep(Duration::from_secs(1000)));
    // Somebody waits for a page that nobody gives.
    thread::spawn(move || managed.words()[0].load(SeqCst));
    let ended = Arc::new(Semaphore::new(0));
    done("serve", session::serve(at, Bombs(ended.clone())))?;
    ended.down();
    rt::exit(7)
}

/// What fuse and shelf have in use.
fn in_use(shelf: &ShelfClient<Portal>) -> Result<[Used; 2], String> {
    // What was for the bomb goes when the shelf has closed its session.
    thread::sleep(Duration::from_millis(50));
    Ok([used()?, done("used", shelf.used())?])
}

/// What the couriers take at most that a component makes when it needs another one: selectors, frames, bytes.
const COURIERS: Used = (64, 48, 256 << 10);

fn no_more(when: &str, now: [Used; 2], before: [Used; 2]) -> Outcome {
    // With the others on its own CPU there are none.
    let couriers = if others_are_elsewhere() { COURIERS } else { Used::default() };
    let more = |now: Used, then: Used| {
        now.0 > then.0 + couriers.0 || now.1 > then.1 + couriers.1 || now.2 > then.2 + couriers.2
    };
    let worse = now.into_iter().zip(before).any(|(now, then)| more(now, then));
    if worse { Err(format!("in use by fuse and shelf {when}: {now:?}, was {before:?}")) } else { Ok(()) }
}

/// The scenario on several CPUs has each component on one of its own.
fn others_are_elsewhere() -> bool {
    rt::thread::cpu() != 0
}

fn same(when: &str, now: [Used; 2], before: [Used; 2]) -> Outcome {
    no_more(when, now, before)?;
    if others_are_elsewhere() { Ok(()) } else { no_more(when, before, now) }
}

/// Ends a bomb as often as there is another one.
pub fn light() -> Outcome {
    let session = done("a shelf", session::open::<dyn Shelf>("", &[]))?;
    let shelf = ShelfClient::new(session.portal());
    let (mut lives, mut before) = (0u64, None);
    loop {
        let (session, bomb): (_, EchoClient<Portal>) = match open("bomb") {
            Ok(open) => open,
            // It stays down.
            Err(Error::Refused(Refusal::Denied)) => break,
            Err(Error::Gone) => continue,
            Err(e) => return Err(format!("life {lives}: {e:?}")),
        };
        equal("the bomb adds", bomb.add(lives), Ok(lives + 1))?;
        if lives >= WARM && lives.is_power_of_two() {
            // The bomb has all that it will have.
            let now = in_use(&shelf)?;
            same(&format!("after {lives} lives"), now, *before.get_or_insert(now))?;
        }
        match (lives % 4, bomb.end(lives)) {
            (1, Ok(())) | (_, Err(rpc::Error::Gone)) => {}
            (_, other) => return Err(format!("the end of life {lives}: {other:?}")),
        }
        drop(session);
        lives += 1;
    }
    println!("{lives} lives");
    let (now, before) = (in_use(&shelf)?, before.ok_or("too few lives")?);
    no_more("in the end", now, before)
}
