//! Byte streams: clients of a terminal, and servers of logs and terminals (`services::stream`).
//!
//! A session is two byte rings in memory that both sides see, one of a log, and a semaphore for each side. The index logic is
//! `bytering`, which trusts nothing that the peer can write. Here are the memory accesses, the wake-ups, and the rule for
//! several threads that wait on one semaphore: one waits in the kernel ("leads"), the others wait for it, because a wake-up
//! that merges in the counter reaches one thread only. And a wake-up that one thread has taken must not be lost to another that
//! has looked at its ring already but does not wait yet: wake-ups are numbered, and whoever looked before the last one does not
//! wait.
//!
//! When a server has died, core breaks the rings of its clients and wakes them (`services::Rm::stream`).
//!
//! Key types: [`Reader`], [`Writer`], [`Server`].

use crate::dataspace::{AttachError, Attached, attach, pd, rm};
use crate::hypercall;
use crate::lock::{self, Lock};
use crate::rpc::{Entrypoint, Held, Managed, raise};
use crate::sel;
use crate::session::{self, Refused, Request, Root, Session};
use abi::{Sel, Status};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use bytering::{RingMemory, cut_consumer, cut_producer, layout};
use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use rpc::{Cap, Interface, Serves, Signal, Text};
use services::parent::MAX_LABEL;
use services::rm::Attr;
use services::stream::{Connected, NotConnected, RING_LEN};
use services::{Dataspace, Log, LogClient, LogServer, Terminal, TerminalClient, TerminalServer};

/// One ring in shared memory.
#[derive(Debug)]
struct Ring {
    base: *mut u8,
    data_len: usize,
}

// SAFETY: the memory is shared with another domain anyway; all accesses below are atomic or to bytes that the protocol
// gives to this side.
unsafe impl Send for Ring {}

impl Ring {
    fn counter(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: inside the ring's header, aligned, attached as long as the ring is.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast()) }
    }
}

impl RingMemory for Ring {
    fn data_len(&self) -> usize {
        self.data_len
    }
    fn load_head(&self) -> u32 {
        self.counter(layout::HEAD).load(Ordering::Acquire)
    }
    fn store_head(&self, value: u32) {
        self.counter(layout::HEAD).store(value, Ordering::Release);
    }
    fn load_tail(&self) -> u32 {
        self.counter(layout::TAIL).load(Ordering::Acquire)
    }
    fn store_tail(&self, value: u32) {
        self.counter(layout::TAIL).store(value, Ordering::Release);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        assert!(offset + into.len() <= self.data_len);
        // SAFETY: in bounds. A peer that keeps the protocol does not write there now; one that does not changes only
        // which bytes we read: any byte is a valid u8, and the copy is a call the compiler does not look into.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(self.base.add(layout::DATA + offset), into.len()) }
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        assert!(offset + from.len() <= self.data_len);
        // SAFETY: in bounds; nobody on this side has a reference to ring memory.
        unsafe { self.base.add(layout::DATA + offset).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }
}

/// What threads of ours wait on: a semaphore that peers up. All clients of a [`Server`] share one.
#[derive(Debug)]
pub struct Point {
    sel: Sel,
    /// Where followers wait.
    followers_sem: Sel,
    /// Wake-ups so far. Only changed with `state` locked.
    epoch: AtomicU64,
    state: Lock<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// A thread is down in the kernel.
    led: bool,
    followers: u32,
}

impl fmt::Debug for Lock<Waiting> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

impl Point {
    /// A new one.
    pub fn new() -> Result<Arc<Point>, Status> {
        let state = Lock::new(Waiting::default());
        state.gate().equip()?;
        let sems = lock::new_semaphore(0).and_then(|sel| {
            let followers = lock::new_semaphore(0).inspect_err(|_| sel::free(sel))?;
            Ok((sel, followers))
        });
        let (sel, followers_sem) = sems.inspect_err(|_| state.gate().strip())?;
        Ok(Arc::new(Point { sel, followers_sem, epoch: AtomicU64::new(0), state }))
    }

    /// Selector of the semaphore.
    pub fn sel(&self) -> Sel {
        self.sel
    }

    /// What peers raise.
    fn signal(&self) -> Signal {
        Signal { context: self.sel, bell: self.sel }
    }

    /// Number of the last wake-up: to be asked before looking at a ring.
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Waits for a wake-up with a number above `seen`.
    fn wait(&self, seen: u64) {
        let role = self.state.with(|s| match () {
            _ if self.epoch() != seen => Role::Late,
            _ if s.led => {
                s.followers += 1;
                Role::Follower
            }
            _ => {
                s.led = true;
                Role::Leader
            }
        });
        match role {
            Role::Late => {}
            Role::Follower => lock::wait(self.followers_sem),
            Role::Leader => self.lead(),
        }
    }

    /// Waits in the kernel, then wakes the others.
    fn lead(&self) {
        if hypercall::sm_down(self.sel, true, None).is_err() {
            // It is our own.
            crate::start::trap();
        }
        let followers = self.state.with(|s| {
            self.epoch.fetch_add(1, Ordering::Release);
            s.led = false;
            core::mem::take(&mut s.followers)
        });
        for _ in 0..followers {
            let _ = hypercall::sm_up(self.followers_sem);
        }
    }
}

/// What a thread that wants to wait does.
enum Role {
    /// There was a wake-up since it looked.
    Late,
    Leader,
    Follower,
}

impl Drop for Point {
    fn drop(&mut self) {
        self.state.gate().strip();
        sel::free(self.followers_sem);
        sel::free(self.sel);
    }
}

/// The memory of a session, and what it takes to give it back.
struct Link {
    /// Goes first.
    rings: Option<Attached>,
    /// What the peer waits on.
    wake: Held<Signal>,
    side: Side,
}

enum Side {
    Client(#[expect(dead_code, reason = "the session is closed when it goes")] Box<dyn Send + Sync>),
    /// The dataspace, and whether the session is over.
    Server(Cap<dyn Dataspace>, Arc<AtomicBool>),
}

impl Drop for Link {
    fn drop(&mut self) {
        // Of a session that goes on the rings break, and the client keeps them until it has seen that.
        if let (Side::Server(_, over), Some(rings)) = (&self.side, &self.rings)
            && !over.load(Ordering::Acquire)
        {
            ring(rings, 0).iter().for_each(|ring| cut_producer(ring, |_| ()));
            ring(rings, 1).iter().for_each(cut_consumer);
            let _ = raise(*self.wake);
        }
        drop(self.rings.take());
        if let Side::Server(dataspace, over) = &self.side {
            // Of one that is over the client must not keep what it does not pay for any more. A thread that cannot call leaves
            // it for the end.
            let _ = if over.load(Ordering::Acquire) { pd().withdraw(*dataspace) } else { pd().free(*dataspace) };
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rings.fmt(f)
    }
}

/// What both directions of a session need.
#[derive(Clone, Debug)]
struct Wires {
    point: Arc<Point>,
    link: Arc<Link>,
}

impl Wires {
    fn signal(&self) {
        // A peer that is gone needs no wake-up.
        let _ = raise(*self.link.wake);
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Reader {
    ring: bytering::Reader<Ring>,
    wires: Wires,
    /// Wake-ups when it was last looked at.
    seen: u64,
}

/// The sending half.
#[derive(Debug)]
pub struct Writer {
    ring: bytering::Writer<Ring>,
    wires: Wires,
    /// Wake-ups when it was last looked at.
    seen: u64,
}

/// Why there is no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no session.
    Session(session::Error),
    /// The server did not answer.
    Call(rpc::Error),
    /// The server does not connect it.
    Refused(NotConnected),
    /// The rings cannot be attached.
    Attach(AttachError),
    /// What the server has given is too small for the rings.
    Small,
    /// The kernel refused what is needed to wait.
    Kernel(Status),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Session(e) => e.fmt(f),
            Error::Call(e) => write!(f, "the server: {e}"),
            Error::Refused(e) => e.fmt(f),
            Error::Attach(e) => write!(f, "the rings cannot be attached: {e}"),
            Error::Small => f.write_str("the server has given too little memory for the rings"),
            Error::Kernel(status) => write!(f, "the kernel refused what is needed to wait: {status}"),
        }
    }
}

impl core::error::Error for Error {}

/// One of the rings of a session, fresh.
fn ring(rings: &Attached, number: u64) -> Option<Ring> {
    let data_len = layout::data_len(RING_LEN as usize)?;
    let fits = rings.size() as u64 >= (number + 1) * RING_LEN;
    fits.then(|| Ring { base: (rings.address() + number * RING_LEN) as *mut u8, data_len })
}

/// A terminal: what is typed there, and what is shown. Waits for its server.
pub fn terminal() -> Result<(Reader, Writer), Error> {
    terminal_by(Point::new().map_err(Error::Kernel)?)
}

/// The same for a server that waits for its clients and for this at once.
pub fn terminal_at(server: &Server) -> Result<(Reader, Writer), Error> {
    terminal_by(server.0.point.clone())
}

fn terminal_by(point: Arc<Point>) -> Result<(Reader, Writer), Error> {
    let session = session::open::<dyn Terminal>("", &[]).map_err(Error::Session)?;
    let client = TerminalClient::new(session.portal());
    let (wires, to_server, to_client) = connect(session, point, false, |wake| client.connect(wake))?;
    let reader = to_client.and_then(|ring| bytering::Reader::new(ring).ok()).ok_or(Error::Small)?;
    let writer = bytering::Writer::new(to_server).map_err(|_| Error::Small)?;
    Ok((Reader { ring: reader, wires: wires.clone(), seen: 0 }, Writer { ring: writer, wires, seen: 0 }))
}

/// The log, for the component's output.
pub(crate) fn log() -> Result<Writer, Error> {
    let session = session::open_apart::<dyn Log>("", &[]).map_err(Error::Session)?;
    let (client, point) = (LogClient::new(session.portal()), Point::new().map_err(Error::Kernel)?);
    let (wires, to_server, _) = connect(session, point, true, |wake| client.connect(wake))?;
    let writer = bytering::Writer::new(to_server).map_err(|_| Error::Small)?;
    Ok(Writer { ring: writer, wires, seen: 0 })
}

type Rings = (Wires, Ring, Option<Ring>);

fn connect<I: Interface + ?Sized + 'static>(
    session: Session<I>,
    point: Arc<Point>,
    log: bool,
    call: impl FnOnce(Signal) -> Result<Result<Connected, NotConnected>, rpc::Error>,
) -> Result<Rings, Error> {
    let (dataspace, theirs) = call(point.signal()).map_err(Error::Call)?.map_err(Error::Refused)?;
    let (dataspace, wake) = (Held::adopt(dataspace), Held::adopt(theirs));
    let rings = attach(*dataspace, Attr::WRITE).map_err(Error::Attach)?;
    let known = rm().stream(rings.address(), log, point.signal());
    known.map_err(Error::Call)?.map_err(|_| Error::Small)?;
    let (to_server, to_client) = (ring(&rings, 0).ok_or(Error::Small)?, ring(&rings, 1));
    let link = Link { rings: Some(rings), wake, side: Side::Client(Box::new(session)) };
    Ok((Wires { point, link: Arc::new(link) }, to_server, to_client))
}

/// A client of a [`Server`], as it comes and goes.
#[derive(Debug)]
pub enum Event {
    /// It is there.
    Opened {
        /// Number of its session; never another's.
        id: u64,
        /// Its label: the name of the component, with those of the inits around it in front.
        label: String,
        /// What it sends.
        reader: Reader,
        /// What is sent to it; `None`: it is a log.
        writer: Option<Writer>,
    },
    /// It has gone. What it has sent is still to be read; then reader and writer are to go, as the client's donation pays for
    /// them no longer.
    Closed(
        /// Number of its session.
        u64,
    ),
}

/// A server of logs, terminals or both. Sessions are made at an entry point; what has come of that is fetched by whoever waits
/// for the clients.
#[derive(Clone)]
pub struct Server(Arc<Shared>);

struct Shared {
    point: Arc<Point>,
    events: Lock<VecDeque<Event>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.events.gate().strip();
    }
}

impl Shared {
    fn tell(&self, event: Event) {
        self.events.with(|events| events.push_back(event));
        self.wake();
    }

    fn wake(&self) {
        let _ = hypercall::sm_up(self.point.sel);
    }

    /// Makes the rings of a session, which the client has paid for.
    fn connect(&self, stream: &Stream, wake: Signal, two: bool) -> Result<Connected, NotConnected> {
        let len = if two { 2 * RING_LEN } else { RING_LEN };
        let dataspace = pd().alloc(len).ok().and_then(Result::ok).ok_or(NotConnected::Memory)?;
        // From here on it is freed when the link goes.
        let mut link = Link { rings: None, wake: Held::keep(wake), side: Side::Server(dataspace, stream.over.clone()) };
        link.rings = attach(dataspace, Attr::WRITE).ok();
        let both = link.rings.as_ref().and_then(|rings| Some((ring(rings, 0)?, ring(rings, 1))));
        let (from, to) = both.ok_or(NotConnected::Memory)?;
        let wires = Wires { point: self.point.clone(), link: Arc::new(link) };
        let reader = bytering::Reader::new(from).map_err(|_| NotConnected::Memory)?;
        let writer = to.and_then(|to| bytering::Writer::new(to).ok()).filter(|_| two);
        let reader = Reader { ring: reader, wires: wires.clone(), seen: 0 };
        let writer = writer.map(|ring| Writer { ring, wires, seen: 0 });
        self.tell(Event::Opened { id: stream.id, label: stream.label.as_str().into(), reader, writer });
        Ok((dataspace, self.point.signal()))
    }
}

impl Server {
    /// One that serves nothing yet.
    pub fn new() -> Result<Server, Status> {
        let (point, events) = (Point::new()?, Lock::new(VecDeque::new()));
        events.gate().equip()?;
        Ok(Server(Arc::new(Shared { point, events })))
    }

    /// Serves service `log` to so many clients at a time.
    pub fn serve_log(&self, at: Entrypoint, most: usize) -> Result<(), session::Error> {
        session::serve(at, Streams::<dyn Log> { shared: self.0.clone(), most, count: 0, interface: PhantomData })
    }

    /// Serves service `terminal` to so many clients at a time.
    pub fn serve_terminal(&self, at: Entrypoint, most: usize) -> Result<(), session::Error> {
        session::serve(at, Streams::<dyn Terminal> { shared: self.0.clone(), most, count: 0, interface: PhantomData })
    }

    /// What has happened since the last time, one after the other.
    pub fn next(&self) -> Option<Event> {
        self.0.events.with(VecDeque::pop_front)
    }

    /// Selector of the semaphore that is upped when there is something to fetch, or a client has changed one of its rings.
    pub fn wait_sel(&self) -> Sel {
        self.0.point.sel
    }

    /// Ups it.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.point.fmt(f)
    }
}

/// Makes the sessions of a service.
struct Streams<I: ?Sized> {
    shared: Arc<Shared>,
    most: usize,
    count: usize,
    interface: PhantomData<fn(&I)>,
}

/// A session.
struct Stream {
    shared: Arc<Shared>,
    id: u64,
    label: Text<MAX_LABEL>,
    connected: bool,
    /// Set at its end.
    over: Arc<AtomicBool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

impl Stream {
    fn once(&mut self, wake: Signal, two: bool) -> Result<Connected, NotConnected> {
        if self.connected {
            return Err(NotConnected::Twice);
        }
        let connected = self.shared.connect(self, wake, two)?;
        self.connected = true;
        Ok(connected)
    }
}

impl Log for Stream {
    fn connect(&mut self, wake: Signal) -> Result<Connected, NotConnected> {
        self.once(wake, false)
    }
}

impl Terminal for Stream {
    fn connect(&mut self, wake: Signal) -> Result<Connected, NotConnected> {
        self.once(wake, true)
    }
}

impl<I: Interface + ?Sized> Streams<I> {
    fn make<S>(&mut self, at: Entrypoint, request: &Request, serve: fn(Stream) -> S) -> Result<Managed<I>, Refused>
    where
        S: Serves<Interface = I> + Send + 'static,
    {
        if self.count >= self.most {
            return Err(Refused::Denied);
        }
        let (shared, over) = (self.shared.clone(), Arc::default());
        let stream = Stream { shared, id: request.id, label: request.label, connected: false, over };
        let object = at.manage(serve(stream)).map_err(|_| Refused::Denied)?;
        self.count += 1;
        Ok(object)
    }

    fn end(&mut self, id: u64) {
        self.count -= 1;
        self.shared.tell(Event::Closed(id));
    }
}

macro_rules! root {
    ($interface:ty, $server:path) => {
        impl Root for Streams<$interface> {
            type Interface = $interface;
            fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<$interface>, Refused> {
                self.make(at, request, $server)
            }
            fn closed(&mut self, id: u64) {
                self.end(id);
            }
        }
    };
}

root!(dyn Log, LogServer);
root!(dyn Terminal, TerminalServer);

macro_rules! half {
    ($name:ident) => {
        impl $name {
            /// Selector of the semaphore that the peer ups. It is the same for both halves, and for all clients of a
            /// server.
            pub fn wait_sel(&self) -> Sel {
                self.wires.point.sel
            }

            /// Waits until the peer changed something, or already has since this half was last read or written.
            ///
            /// Wake-ups are for the semaphore, not for the half. So look at everything that shares it, this half
            /// first, each until a read or write came back short; then wait, and look again.
            pub fn wait(&self) {
                self.wires.point.wait(self.seen);
            }

            /// Wakes the peer.
            pub fn signal(&self) {
                self.wires.signal();
            }

            /// Whether the peer broke the ring, or has died. Then nothing moves any more.
            pub fn is_broken(&self) -> bool {
                self.ring.broken().is_some()
            }
        }
    };
}

half!(Reader);
half!(Writer);

impl Reader {
    /// Moves bytes into `buf` and says how many; 0: there are none. Wakes the peer if it may wait for the space.
    pub fn read(&mut self, buf: &mut [u8]) -> usize {
        self.seen = self.wires.point.epoch();
        let moved = self.ring.read(buf).unwrap_or_default();
        if moved.signal {
            self.wires.signal();
        }
        moved.bytes
    }
}

impl Writer {
    /// Moves what fits and says how much. Wakes the peer if it may wait for the bytes.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        self.seen = self.wires.point.epoch();
        let moved = self.ring.write(bytes).unwrap_or_default();
        if moved.signal {
            self.wires.signal();
        }
        moved.bytes
    }

    /// Bytes that fit now.
    pub fn space(&mut self) -> usize {
        self.seen = self.wires.point.epoch();
        self.ring.space().unwrap_or(0)
    }

    /// Moves all of it, waiting for space where needed; `false`: the peer broke the ring, or has died.
    ///
    /// A server's wake-ups for other clients may arrive meanwhile: look at all of them afterwards.
    pub fn write_all(&mut self, bytes: &[u8]) -> bool {
        self.write_some(bytes) == bytes.len()
    }

    /// The same; how much was moved: all, or less if the ring is broken.
    pub fn write_some(&mut self, bytes: &[u8]) -> usize {
        let mut moved = 0;
        loop {
            moved += self.write(&bytes[moved..]);
            if moved == bytes.len() || self.is_broken() {
                return moved;
            }
            self.wait();
        }
    }
}
