//! A component of its own, with which sessions are opened and packets exchanged. It is started again when it is told to end.

use rpc::Signal;
use rt::packet::{self, Error, Server, Sink, Taken};
use rt::rpc::{Entrypoint, Listener, Managed, Task};
use rt::session::{self, Refused, Request, Root};
use services::Packets;

/// Slots of a ring, and bytes for packets.
const RING: (usize, usize) = (16, 17 * LONGEST);
/// Bytes of the longest packet.
pub const LONGEST: usize = 4096;

/// The other side.
#[rpc::interface(version = "1.0", ram = "0", caps = 0)]
pub trait Peer {
    /// A ring, of which the server is the sink.
    fn packets(&mut self, wake: Signal) -> Option<Packets>;
    /// Value of the TSC at the first line of `main`.
    fn begun(&mut self) -> u64;
    /// Ends the component.
    fn end(&mut self);
}

struct Session {
    at: Entrypoint,
    begun: u64,
    ring: Option<(Server, Task)>,
}

impl Session {
    fn ring(&mut self) -> Option<&Server> {
        if self.ring.is_none() {
            let (server, end) = Server::new(RING.0, RING.1, self.at.listen().ok()?).ok()?;
            let task = self.at.spawn(drain(end.sink().ok()?)).ok()?;
            self.ring = Some((server, task));
        }
        self.ring.as_ref().map(|(server, _)| server)
    }
}

/// Reads all packets and gives them back.
async fn drain(mut sink: Sink<Listener>) {
    let mut bytes = [0; LONGEST];
    let one = |sink: &mut Sink<Listener>, taken: Taken, bytes: &mut [u8]| -> Result<(), Error> {
        sink.read(&taken.packet, 0, bytes);
        sink.acknowledge(taken.packet, taken.tag)
    };
    while let Ok(taken) = sink.arrival().await {
        if one(&mut sink, taken, &mut bytes).is_err() {
            return;
        }
    }
}

impl Peer for Session {
    fn packets(&mut self, wake: Signal) -> Option<Packets> {
        self.ring().map(|server| server.offer(wake))
    }

    fn begun(&mut self) -> u64 {
        self.begun
    }

    fn end(&mut self) {
        rt::exit(0);
    }
}

/// Makes a session for whoever asks.
struct Peers {
    begun: u64,
}

impl Root for Peers {
    type Interface = dyn Peer;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Peer>, Refused> {
        let session = Session { at, begun: self.begun, ring: None };
        at.manage(PeerServer(session)).map_err(|_| Refused::Denied)
    }
}

/// What a ring is paid with: a session that wants one donates as much.
pub const DONATION: session::Amount = packet::cost(RING.0, RING.1);

/// Serves until it is told to end.
pub fn serve(cpu: u16, begun: u64) {
    let served = Entrypoint::new(cpu, 32 << 10).map_err(|e| format!("an entry point: {e:?}"));
    match served.and_then(|at| session::serve(at, Peers { begun }).map_err(|e| e.to_string())) {
        Ok(()) => std::thread::park(),
        Err(why) => println!("perf: stopped: the peer: {why}"),
    }
}
