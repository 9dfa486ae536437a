//! Who serves pipes: label `SIDE WAIT`, the server's side being `sink` or `source`, which waits as `future` or `thread`; or what
//! a server is not to be.

use crate::lies;
use crate::pipe::{BUFFER, MOST, Pipe, PipeServer, SLOTS, add, fill, len_of};
use packetring::Error as Lie;
use rpc::Signal;
use rt::packet::{self, Error, Server, Sink, Source, Taken, Waiter};
use rt::rpc::{Entrypoint, Held, Listener, Managed, Task};
use rt::session::{self, Refused, Request, Root, Shortage};
use services::Packets;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// Packets that a source sends.
pub const SENT: u64 = 500;
/// As long a slow sink takes for each packet.
const SLOW: Duration = Duration::from_millis(1);
/// After so many packets a mortal one is gone.
const LAST: u64 = 5;

#[derive(Default)]
struct Counts {
    packets: AtomicU64,
    sum: AtomicU64,
    lies: AtomicU64,
}

struct Session {
    server: Server,
    counts: Arc<Counts>,
    /// Ends with the session.
    _task: Option<Task>,
    /// What lies, as soon as there is somebody to lie to.
    liar: Option<Sink<Waiter>>,
}

impl Pipe for Session {
    fn packets(&mut self, wake: Signal) -> Packets {
        let packets = self.server.offer(wake);
        if let Some(sink) = self.liar.take() {
            let (memory, wake) = (packets.memory, Held::keep(wake));
            thread::spawn(move || _ = lies::acknowledge(sink, memory, *wake));
        }
        packets
    }

    fn counts(&mut self) -> (u64, u64, u64) {
        let Counts { packets, sum, lies } = &*self.counts;
        (packets.load(SeqCst), sum.load(SeqCst), lies.load(SeqCst))
    }

    fn used(&mut self) -> (u64, u64) {
        (rt::dataspace::pd().ram().map_or(0, |a| a.used), rt::sel::CAPACITY as u64 - rt::sel::free_count())
    }
}

impl Counts {
    /// Takes note of a packet.
    fn note(&self, bytes: &[u8]) {
        self.sum.store(add(self.sum.load(SeqCst), bytes), SeqCst);
        self.packets.fetch_add(1, SeqCst);
    }

    /// Whether there may be more behind that.
    fn goes_on(&self, error: Error) -> bool {
        let Error::Peer(lie) = error else { return false };
        println!("{lie}");
        self.lies.fetch_add(1, SeqCst);
        !matches!(lie, Lie::Broken { .. } | Lie::TooMany { .. })
    }
}

/// Reads a packet and gives it back. The tag of the acknowledgement is that of the packet, reversed.
fn swallow<W>(sink: &mut Sink<W>, taken: Taken, counts: &Counts) -> Result<(), Error> {
    let mut bytes = [0; MOST];
    let n = sink.read(&taken.packet, 0, &mut bytes);
    counts.note(&bytes[..n]);
    sink.acknowledge(taken.packet, !taken.tag)
}

async fn drain(mut sink: Sink<Listener>, counts: Arc<Counts>) {
    loop {
        let done = match sink.arrival().await {
            Ok(taken) => swallow(&mut sink, taken, &counts),
            Err(e) => Err(e),
        };
        if done.is_err_and(|e| !counts.goes_on(e)) {
            return;
        }
    }
}

fn drain_in_a_thread(mut sink: Sink<Waiter>, counts: &Counts, pause: Option<Duration>) {
    loop {
        let done = sink.arrival().and_then(|taken| {
            pause.into_iter().for_each(thread::sleep);
            swallow(&mut sink, taken, counts)
        });
        if done.is_err_and(|e| !counts.goes_on(e)) {
            return;
        }
    }
}

/// Takes some packets, and ends with them.
fn die(mut sink: Sink<Waiter>) {
    while sink.has() < LAST as usize && sink.arrival().is_ok() {}
    rt::exit(7);
}

async fn send(mut source: Source<Listener>) -> Result<(), Error> {
    for n in 0..SENT {
        let packet = source.room(len_of(n)).await?;
        put(&mut source, packet, n);
    }
    while source.out() > 0 {
        let taken = source.back().await?;
        source.release(taken.packet);
    }
    Ok(())
}

fn send_in_a_thread(mut source: Source<Waiter>) -> Result<(), Error> {
    for n in 0..SENT {
        let packet = source.room(len_of(n))?;
        put(&mut source, packet, n);
    }
    while source.out() > 0 {
        let taken = source.back()?;
        source.release(taken.packet);
    }
    Ok(())
}

fn put<W>(source: &mut Source<W>, packet: packet::Packet, n: u64) {
    let mut bytes = [0; MOST];
    fill(n, &mut bytes[..packet.len()]);
    source.write(&packet, 0, &bytes[..packet.len()]);
    // There is room, as it has been waited for.
    let _ = source.submit(packet, n);
}

/// How the server's side is begun, and its session made.
fn begin(at: Entrypoint, label: &str) -> Option<Session> {
    let counts = Arc::<Counts>::default();
    let mine = counts.clone();
    let session = |server, task| Session { server, counts: counts.clone(), _task: task, liar: None };
    if label.ends_with("future") {
        let (server, end) = Server::new(SLOTS, BUFFER, at.listen().ok()?).ok()?;
        let task = match label {
            "sink future" => at.spawn(drain(end.sink().ok()?, mine)),
            "source future" => {
                let source = end.source().ok()?;
                at.spawn(async move { _ = send(source).await })
            }
            _ => return None,
        };
        return Some(session(server, Some(task.ok()?)));
    }
    let (server, end) = Server::new(SLOTS, BUFFER, Waiter::new().ok()?).ok()?;
    let mut session = session(server, None);
    if label == "source thread" {
        let source = end.source().ok()?;
        thread::spawn(move || _ = send_in_a_thread(source));
        return Some(session);
    }
    let sink = end.sink().ok()?;
    match label {
        "sink thread" => _ = thread::spawn(move || drain_in_a_thread(sink, &mine, None)),
        "slow" => _ = thread::spawn(move || drain_in_a_thread(sink, &mine, Some(SLOW))),
        "dies" => _ = thread::spawn(move || die(sink)),
        "lies" => session.liar = Some(sink),
        _ => return None,
    }
    Some(session)
}

struct Pipes;

impl Root for Pipes {
    type Interface = dyn Pipe;

    fn create(&mut self, at: Entrypoint, r: &Request) -> Result<Managed<dyn Pipe>, Refused> {
        let cost = packet::cost(SLOTS, BUFFER);
        if r.donation.ram < cost.ram {
            return Err(Refused::Short(Shortage::Ram));
        }
        let label = r.label.as_str().rsplit(" -> ").next().unwrap_or_default();
        let session = begin(at, label).ok_or(Refused::Denied)?;
        at.manage(PipeServer(session)).map_err(|_| Refused::Denied)
    }
}

/// Serves until it is ended.
pub fn main() -> crate::Outcome {
    let at = Entrypoint::new(rt::thread::cpu(), 64 << 10).map_err(|e| format!("an entry point: {e:?}"))?;
    session::serve(at, Pipes).map_err(|e| format!("serve: {e}"))?;
    loop {
        thread::park();
    }
}
