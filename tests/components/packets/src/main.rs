//! Rings of packets between components: `config = { role = "..." }` says which side this is. What a client checks are tests of
//! their own in the matrix of `cargo xtask test`.
#![forbid(unsafe_code)]
extern crate rt;

mod lies;
mod pipe;
mod server;

use packetring::{Descriptor, Error as Lie};
use pipe::{MOST, Pipe, PipeClient, add, fill, len_of, sum_of};
use rt::packet::{self, Error, Refused, Sink, Source, Waiter, Wake};
use rt::rpc::{Entrypoint, Listener, Portal, raise};
use rt::session::{self, Session};
use std::fmt::Debug;
use std::future::Future;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

type Outcome = Result<(), String>;

/// Packets of a stream, of 2 KiB on average.
const PACKETS: u64 = 2000;
/// Sessions that come and go.
const ROUNDS: u64 = 20;
/// To a sink that is slow.
const FEW: u64 = 100;

fn done<T, E: Debug>(what: &str, result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e:?}"))
}

fn equal<T: PartialEq + Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, not {wanted:?}")) }
}

type Opened = (Session<dyn Pipe>, PipeClient<Portal>);

fn open(label: &str) -> Result<Opened, String> {
    let session = session::open::<dyn Pipe>(label, &[]).map_err(|e| format!("{label}: {e}"))?;
    let client = PipeClient::new(session.portal());
    Ok((session, client))
}

/// The client's end.
fn end<W: Wake>((session, client): &Opened, wake: W) -> Result<packet::End<W>, String> {
    let packets = done("packets", client.packets(wake.signal()))?;
    packet::attach(session, packets, wake).map_err(|e| e.to_string())
}

/// For a thread.
fn blocking(opened: &Opened) -> Result<packet::End<Waiter>, String> {
    end(opened, done("a semaphore", Waiter::new())?)
}

/// For a future at an entry point.
fn waiting(at: Entrypoint, opened: &Opened) -> Result<packet::End<Listener>, String> {
    end(opened, done("a listener", at.listen())?)
}

/// Has a future run at an entry point, and waits for what comes of it.
fn run(at: Entrypoint, future: impl Future<Output = Outcome> + Send + 'static) -> Outcome {
    let (to, from) = mpsc::channel();
    done("a future", at.spawn(async move { drop(to.send(future.await)) }))?.detach();
    done("its end", from.recv())?
}

/// A place to await things. Once for all: the component's notices are handled there.
fn point() -> Result<Entrypoint, String> {
    let at = done("an entry point", Entrypoint::new(rt::thread::cpu(), 64 << 10))?;
    session::attend(at).map_err(|e| e.to_string())?;
    Ok(at)
}

/// The server has seen all of them.
fn seen(client: &PipeClient<Portal>, packets: u64) -> Outcome {
    equal("what the server has seen", done("counts", client.counts())?, (packets, sum_of(packets), 0))
}

fn put<W>(source: &mut Source<W>, packet: packet::Packet, n: u64) -> Outcome {
    let mut bytes = [0; MOST];
    fill(n, &mut bytes[..packet.len()]);
    source.write(&packet, 0, &bytes[..packet.len()]);
    source.submit(packet, n).map_err(|(e, _)| e.to_string())
}

/// What comes back is what was sent, in the order of a sink that takes one at a time.
fn returned<W>(source: &mut Source<W>, taken: packet::Taken, back: &mut u64) -> Outcome {
    equal("what comes back", (taken.tag, taken.packet.len()), (!*back, len_of(*back)))?;
    source.release(taken.packet);
    *back += 1;
    Ok(())
}

/// How often it had to wait.
fn send(source: &mut Source<Waiter>, packets: u64) -> Result<u64, String> {
    let (mut sent, mut back, mut waits) = (0, 0, 0);
    while back < packets {
        let packet = (sent < packets).then(|| source.packet(len_of(sent)));
        match packet {
            Some(Ok(packet)) => {
                put(source, packet, sent)?;
                sent += 1;
            }
            Some(Err(Refused::Full(_) | Refused::NoRoom(_))) | None => {
                waits += 1;
                let taken = source.back().map_err(|e| e.to_string())?;
                returned(source, taken, &mut back)?;
            }
            Some(Err(e)) => return Err(e.to_string()),
        }
    }
    Ok(waits)
}

async fn send_awaiting(mut source: Source<Listener>, packets: u64) -> Outcome {
    let (mut sent, mut back) = (0, 0);
    while back < packets {
        match (sent < packets).then(|| source.packet(len_of(sent))) {
            Some(Ok(packet)) => {
                put(&mut source, packet, sent)?;
                sent += 1;
            }
            Some(Err(Refused::Full(_) | Refused::NoRoom(_))) | None => {
                let taken = source.back().await.map_err(|e| e.to_string())?;
                returned(&mut source, taken, &mut back)?;
            }
            Some(Err(e)) => return Err(e.to_string()),
        }
    }
    Ok(())
}

fn take<W>(sink: &mut Sink<W>, taken: packet::Taken, sum: &mut u64) -> Outcome {
    let mut bytes = [0; MOST];
    let n = sink.read(&taken.packet, 0, &mut bytes);
    *sum = add(*sum, &bytes[..n]);
    sink.acknowledge(taken.packet, 0).map_err(|e| e.to_string())
}

fn receive(sink: &mut Sink<Waiter>, packets: u64) -> Outcome {
    let mut sum = 0;
    for _ in 0..packets {
        let taken = sink.arrival().map_err(|e| e.to_string())?;
        take(sink, taken, &mut sum)?;
    }
    equal("what has come", sum, sum_of(packets))
}

async fn receive_awaiting(mut sink: Sink<Listener>, packets: u64) -> Outcome {
    let mut sum = 0;
    for _ in 0..packets {
        let taken = sink.arrival().await.map_err(|e| e.to_string())?;
        take(&mut sink, taken, &mut sum)?;
    }
    equal("what has come", sum, sum_of(packets))
}

/// A thread sends, to a future and to a thread.
fn thread_sends(_: Entrypoint) -> Outcome {
    for label in ["sink future", "sink thread"] {
        let opened = open(label)?;
        send(&mut done("source", blocking(&opened)?.source())?, PACKETS)?;
        seen(&opened.1, PACKETS)?;
    }
    Ok(())
}

/// A future sends, to both.
fn future_sends(at: Entrypoint) -> Outcome {
    for label in ["sink future", "sink thread"] {
        let opened = open(label)?;
        let source = done("source", waiting(at, &opened)?.source())?;
        run(at, send_awaiting(source, PACKETS))?;
        seen(&opened.1, PACKETS)?;
    }
    Ok(())
}

/// Both receive, from both.
fn receiving(at: Entrypoint) -> Outcome {
    for label in ["source future", "source thread"] {
        let opened = open(label)?;
        receive(&mut done("sink", blocking(&opened)?.sink())?, server::SENT)?;
        let opened = open(label)?;
        let sink = done("sink", waiting(at, &opened)?.sink())?;
        run(at, receive_awaiting(sink, server::SENT))?;
    }
    Ok(())
}

/// A slow sink holds its source: nothing is lost, and no more is out than may be.
fn slow(_: Entrypoint) -> Outcome {
    let opened = open("slow")?;
    let mut source = done("source", blocking(&opened)?.source())?;
    let waits = send(&mut source, FEW)?;
    equal("it has waited at least", waits >= FEW - pipe::SLOTS as u64, true)?;
    seen(&opened.1, FEW)
}

/// Sends without end; why that ends.
fn send_on(source: &mut Source<Waiter>) -> Error {
    loop {
        match source.room(64) {
            Ok(packet) => _ = source.submit(packet, 0),
            Err(e) => return e,
        }
    }
}

async fn send_on_awaiting(mut source: Source<Listener>) -> Outcome {
    loop {
        match source.room(64).await {
            Ok(packet) => _ = source.submit(packet, 0),
            Err(e) => return equal("why it ends", e, Error::Gone),
        }
    }
}

/// The server dies with packets that it has taken: who waits for them is told, and goes on with its next life.
fn death(at: Entrypoint) -> Outcome {
    let opened = open("dies")?;
    let mut source = done("source", blocking(&opened)?.source())?;
    equal("why it ends", send_on(&mut source), Error::Gone)?;
    equal("with packets that are out", source.out(), pipe::SLOTS)?;
    let opened = open("dies")?;
    let source = done("source", waiting(at, &opened)?.source())?;
    run(at, send_on_awaiting(source))?;
    let opened = open("sink future")?;
    send(&mut done("source", blocking(&opened)?.source())?, 10)?;
    seen(&opened.1, 10)
}

/// Sessions that come and go, some with packets that are out, leave nothing behind, here or there.
fn ends(at: Entrypoint) -> Outcome {
    let round = || -> Result<(u64, u64), String> {
        let first = open("sink thread")?;
        let mut source = done("source", blocking(&first)?.source())?;
        let packet = done("a packet", source.packet(64))?;
        put(&mut source, packet, 0)?;
        let opened = open("sink future")?;
        done("source", waiting(at, &opened)?.source())?;
        done("used", opened.1.used())
    };
    let before = (0..3).try_fold((0, 0), |_, _| round())?;
    let selectors = rt::sel::free_count();
    for n in 0..ROUNDS {
        let used = round()?;
        equal(&format!("RAM of the server in round {n}"), used.0, before.0)?;
        // Threads that end may still have some.
        equal("its selectors are no more with each round", used.1 < before.1 + ROUNDS, true)?;
    }
    equal("nor are our own", selectors < rt::sel::free_count() + ROUNDS, true)
}

/// A server that gives back what it has not: it is named, what comes behind it is served; then the ring is broken for good.
fn lied_to(_: Entrypoint) -> Outcome {
    let opened = open("lies")?;
    let mut source = done("source", blocking(&opened)?.source())?;
    let packet = done("a packet", source.packet(100))?;
    done("submit", source.submit(packet, 0))?;
    let descriptor = Descriptor { offset: 64, len: 100, tag: 1 };
    equal("first", source.back().map(drop), Err(Error::Peer(Lie::NotOut { descriptor })))?;
    equal("second", source.back().map(|t| (t.tag, t.packet.offset())), Ok((2, 0)))?;
    let packet = done("a packet", source.packet(100))?;
    done("submit", source.submit(packet, 0))?;
    let broken = Error::Peer(Lie::Broken { claimed: 498, slots: pipe::SLOTS as u32 });
    equal("then", source.back().map(drop), Err(broken))?;
    equal("for good", source.back().map(drop), Err(broken))
}

fn wait_for(client: &PipeClient<Portal>, wanted: (u64, u64)) -> Outcome {
    loop {
        let (packets, _, lies) = done("counts", client.counts())?;
        if (packets, lies) == wanted {
            return Ok(());
        }
        equal("no more than that", packets <= wanted.0 && lies <= wanted.1, true)?;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Submits what is not in the buffer, something that is, and more than goes in. Its stream is over, nobody else's.
fn lie(_: Entrypoint) -> Outcome {
    for label in ["sink future", "sink thread"] {
        let opened = open(label)?;
        let (client, waiter) = (&opened.1, done("a semaphore", Waiter::new())?);
        let packets = done("packets", client.packets(waiter.signal()))?;
        let (raw, signal) = (lies::Raw::attach(packets.memory)?, packets.signal);
        let lies = [(u32::MAX, u32::MAX), (pipe::BUFFER as u32, 4096), (0, 0)];
        for (n, (offset, len)) in (0..).zip(lies) {
            raw.put(0, n, Descriptor { offset, len, tag: 7 });
            raw.tail(0, n as u64 + 1);
            done("raise", raise(signal))?;
            wait_for(client, (0, n as u64 + 1))?;
        }
        raw.put(0, 3, Descriptor { offset: 0, len: 8, tag: 7 });
        raw.tail(0, 4);
        done("raise", raise(signal))?;
        wait_for(client, (1, 3))?;
        raw.tail(0, 1000);
        done("raise", raise(signal))?;
        wait_for(client, (1, 4))?;
    }
    Ok(())
}

/// A name and what is checked.
type Check = (&'static str, fn(Entrypoint) -> Outcome);

const CLIENT: &[Check] = &[
    ("thread_sends", thread_sends),
    ("future_sends", future_sends),
    ("receiving", receiving),
    ("slow", slow),
    ("death", death),
    ("lied_to", lied_to),
    ("ends", ends),
];

fn check(checks: &[Check]) -> Outcome {
    let at = point()?;
    let mut failed = 0;
    for (name, check) in checks {
        match check(at) {
            Ok(()) => println!("test packets_{name} ... ok"),
            Err(why) => {
                println!("test packets_{name} ... FAILED: {why}");
                failed += 1;
            }
        }
    }
    equal("checks that failed", failed, 0)
}

fn main() -> ExitCode {
    let outcome = match role::of(rt::rom(parent::CONFIG_ROM)) {
        "server" => server::main(),
        "client" => check(CLIENT),
        "liar" => check(&[("lie", lie)]),
        other => Err(format!("there is no role {other:?}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("packets: FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}
