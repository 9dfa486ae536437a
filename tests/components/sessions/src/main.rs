//! Clients and servers of sessions: `config = { role = "..." }` says which. What a role checks is a test of its own in the
//! matrix of `cargo xtask test`; the component's exit code says it as well.
#![forbid(unsafe_code)]
extern crate rt;

mod bell;
mod bomb;
mod driver;
mod echo;
mod liars;
mod resources;
mod server;
mod shelf;

use echo::{Echo, EchoClient, newer};
use rpc::{Bytes, Cap, Text};
use rt::rpc::Portal;
use rt::session::{self, Amount, Error, Request, Session};
use services::parent::{Refusal, Response};
use services::{Parent, ParentClient};
use std::fmt::Debug;
use std::process::ExitCode;
use std::time::Duration;

type Outcome = Result<(), String>;

fn done<T, E: Debug>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e:?}"))
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

fn open(label: &str) -> Result<(Session<dyn Echo>, EchoClient<Portal>), Error> {
    let session = session::open::<dyn Echo>(label, label.as_bytes())?;
    let client = EchoClient::new(session.portal());
    Ok((session, client))
}

fn label_at_server(label: &str) -> Result<String, Error> {
    let (_session, client) = open(label)?;
    client.label().map(|text| text.as_str().into()).map_err(Error::Parent)
}

/// Rules of the configuration: by prefix, by suffix with another label, denied by name, denied as none matches.
fn routing() -> Outcome {
    equal("prefix", label_at_server("a1"), Ok("router -> a1".into()))?;
    equal("suffix, relabelled", label_at_server("x.log"), Ok("router -> journal".into()))?;
    equal("by name", label_at_server("a-secret"), Err(Error::Refused(Refusal::Denied)))?;
    equal("no rule", label_at_server("b"), Err(Error::Refused(Refusal::Denied)))?;
    equal("the server's wish", label_at_server("a unwanted"), Err(Error::Denied))?;
    let (_first, one) = done("open", open("a"))?;
    let (_second, two) = done("open again", open("a"))?;
    equal("args", done("args", one.args())?.as_slice(), b"a")?;
    equal("counts are a session's own", (one.add(3), two.add(4), one.add(1)), (Ok(3), Ok(4), Ok(4)))
}

fn version() -> Outcome {
    match session::open::<dyn newer::Echo>("", &[]) {
        Err(e @ Error::Incompatible { .. }) => equal(
            "both are named",
            e.to_string(),
            "Echo: the server has version 1.3, this was built against 2.0".into(),
        ),
        other => Err(format!("{other:?}")),
    }
}

/// The server dies under a session; another one is with its next life.
fn follow() -> Outcome {
    let (_session, client) = done("open", open("f"))?;
    equal("add", client.add(5), Ok(5))?;
    equal("the server ends", client.end(3), Err(rpc::Error::Gone))?;
    equal("gone", client.add(1), Err(rpc::Error::Gone))?;
    let (_session, client) = done("open anew", open("f"))?;
    equal("from the beginning", client.add(1), Ok(1))
}

/// Too little for a donation, for the server, for an upgrade; an upgrade that the server learns of; and all comes back.
fn quota() -> Outcome {
    let amount = |kib: u64, caps| Amount { ram: kib << 10, caps };
    let with = |a| session::open_with::<dyn Echo>("q", &[], a);
    let refused = with(amount(1024, 2)).map(drop);
    equal("more than there is", refused, Err(Error::Refused(Refusal::ShortRam)))?;
    equal("too little", with(amount(4, 2)).map(drop), Err(Error::Short(session::Shortage::Ram)))?;
    equal("too few", with(amount(8, 1)).map(drop), Err(Error::Short(session::Shortage::Caps)))?;
    for round in 0..20 {
        let session = done(&format!("open, round {round}"), with(amount(8, 2)))?;
        let client = EchoClient::new(session.portal());
        equal("donated", client.donated(), Ok(8 << 10))?;
        done("upgrade", session.upgrade(amount(4, 0)))?;
        equal("donated, with the upgrade", client.donated(), Ok(12 << 10))?;
        let refused = session.upgrade(amount(1024, 0));
        equal("no more", refused, Err(Error::Refused(Refusal::ShortRam)))?;
        drop(session);
        // What was donated is back when the server has closed it.
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn parent() -> ParentClient<Portal> {
    ParentClient::new(Portal::to(Cap::<dyn Parent>::from_sel(parent::sel::sessions(rt::thread::cpu()))))
}

fn request(id: u64, label: &str) -> Request {
    Request {
        id,
        service: Text::new("echo").unwrap_or_default(),
        label: Text::new(label).unwrap_or_default(),
        built: <dyn Echo as rpc::Interface>::TABLE.built,
        args: Bytes::default(),
        donation: Amount { ram: 8 << 10, caps: 2 },
    }
}

/// Says what is not so. Nothing comes of it, and it is told so each time.
fn lie() -> Outcome {
    let p = parent();
    let service = |name| Text::new(name).ok_or("a long name");
    equal("announce what it is not to", p.announce(service("timer")?), Ok(Err(Refusal::NotProvided)))?;
    for id in [0, 1, u64::MAX] {
        equal("answer nobody", p.respond(id, Response::Closed), Ok(Err(Refusal::Unknown)))?;
        equal("close what is not there", p.close(id), Ok(Err(Refusal::Unknown)))?;
        let more = Amount { ram: 4096, caps: 0 };
        equal("upgrade what is not there", p.upgrade(id, more), Ok(Err(Refusal::Unknown)))?;
    }
    equal("a label of two lines", p.request(request(1, "a\nb")), Ok(Err(Refusal::Malformed)))?;
    let half = Request { donation: Amount { ram: 100, caps: 0 }, ..request(1, "a") };
    equal("half a page", p.request(half), Ok(Err(Refusal::Malformed)))?;
    equal("ask who stalls", p.request(request(7, "a")), Ok(Ok(())))?;
    equal("twice", p.request(request(7, "a")), Ok(Err(Refusal::Twice)))?;
    let none = |id| Request { donation: Amount::default(), ..request(id, "a") };
    let asked = (100..1100).filter(|&id| p.request(none(id)) == Ok(Ok(()))).count();
    equal("ask without end", asked, 15)?;
    equal("ask for more", p.want(Amount { ram: 1 << 30, caps: 0 }), Ok(Ok(())))?;
    equal("nothing is new", p.next(), Ok(None))
}

/// Is to provide a service, and announces it, and that is all.
fn stall() -> Outcome {
    done("announce", parent().announce(Text::new("echo").ok_or("a long name")?))?.map_err(|e| format!("{e:?}"))?;
    loop {
        std::thread::park();
    }
}

/// Opens a session and ends with it, without a word: it is started again at once.
fn brief() -> Outcome {
    let (_session, client) = done("open", open("b"))?;
    equal("add", client.add(1), Ok(1))
}

fn main() -> ExitCode {
    let role = role::of(rt::rom(parent::CONFIG_ROM));
    let (name, outcome) = match role {
        "server" => ("server", server::main()),
        "stall" => ("stall", stall()),
        "routing" => ("routing", routing()),
        "version" => ("version", version()),
        "follow" => ("follow", follow()),
        "quota" => ("quota", quota()),
        "lie" => ("lie", lie()),
        "shelf" => ("shelf", shelf::main()),
        "bomb" => ("bomb", bomb::live()),
        "fuse" => ("fuse", bomb::light()),
        "spend" => ("spend", resources::spend()),
        "lend" => ("lend", resources::lend()),
        "ask" => ("ask", resources::ask()),
        "bells" => ("bells", bell::main()),
        "flood" => ("flood", bell::flood()),
        "call" => ("call", bell::call()),
        "client" => ("client", driver::client()),
        "enemy" => ("enemy", driver::enemy()),
        "late" => ("late", liars::late()),
        "debtor" => ("debtor", liars::keep()),
        "wait" => ("wait", liars::wait()),
        "save" => ("save", liars::save()),
        "hurry" => ("hurry", liars::hurry()),
        "garbage" => ("garbage", liars::garbage()),
        "greedy" => ("greedy", liars::take_all()),
        "steady" => ("steady", liars::steady()),
        "brief" => return if brief().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
        "crash" => return ExitCode::FAILURE,
        // The next allocation of the kernel is for its next life.
        "starve" => {
            let told = rt::hypercall::inject(1);
            return if told.is_ok() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
        "nap" => {
            std::thread::sleep(Duration::from_secs(1));
            return ExitCode::SUCCESS;
        }
        "mute" => loop {
            std::thread::park();
        },
        _ => ("role", Err(format!("there is no role `{role}`"))),
    };
    match outcome {
        Ok(()) => println!("test sessions_{name} ... ok"),
        Err(ref why) => println!("test sessions_{name} ... FAILED: {why}"),
    }
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
