//! Packets of a session: a ring of `lib/packetring` in a dataspace, and what its sides wait for.
//!
//! The memory is the server's, who takes it from what the client has donated, and it is the client's as long as the session
//! lasts. A server attaches nothing that is a client's, as that could be withdrawn under it. So a client believes its server that
//! it does not withdraw the memory before the session is over; what is in the memory neither believes. If the server ends, what
//! its client has attached stays until that lets go of it.
//!
//! Either side is the source, as the session's interface says, and either waits in one of two ways, which have the same methods: a
//! thread blocks ([`Waiter`]), a future at an entry point awaits ([`Listener`]). When nothing more is to come, as the session
//! is over, they say [`Error::Gone`]. That a server has died its client learns from its parent, at an entry point that
//! [attends](crate::session::attend): without one no end is attached.
//!
//! Key types: [`Server`], [`End`], [`Source`], [`Sink`].

use crate::Semaphore;
use crate::dataspace::{self, Attached};
use crate::rpc::{Held, Listener, raise};
use crate::session::{Amount, Session, Watch};
use abi::{PAGE_SIZE, Status};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use packetring::{Descriptor, PacketMemory, Queue, layout};
pub use packetring::{Packet, Refused, Taken};
use rpc::{Cap, Signal};
use services::pd::NoQuota;
use services::rm::Attr;
use services::{Dataspace, Packets};

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// Slots, or bytes, that are none of a ring's.
    Layout(packetring::BadLayout),
    /// There is no RAM for it.
    Quota(NoQuota),
    /// It cannot be attached.
    Attach(dataspace::AttachError),
    /// Core cannot be called.
    Call(rpc::Error),
    /// No entry point attends, so nobody would learn of the session's end.
    Unattended,
}

impl fmt::Display for NotMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotMade::Layout(e) => e.fmt(f),
            NotMade::Quota(e) => e.fmt(f),
            NotMade::Attach(e) => e.fmt(f),
            NotMade::Call(e) => write!(f, "the root task: {e}"),
            NotMade::Unattended => f.write_str("no entry point attends to the ends of sessions"),
        }
    }
}

impl core::error::Error for NotMade {}

/// Why there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The other side has ended, or the session.
    Gone,
    /// What the other side did that it must not. It was left out if that can be; who calls again has what comes behind it.
    Peer(packetring::Error),
    /// There is no such packet, and there will be none.
    Refused(Refused),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Gone => f.write_str("the other side of the packets is gone"),
            Error::Peer(e) => e.fmt(f),
            Error::Refused(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// Bytes of memory of a ring with at least `buffer_len` bytes for packets.
const fn memory_len(slots: usize, buffer_len: usize) -> u64 {
    (layout::buffer_at(slots) + buffer_len).next_multiple_of(PAGE_SIZE) as u64
}

/// What a server takes from a client's donation for a ring.
pub const fn cost(slots: usize, buffer_len: usize) -> Amount {
    Amount { ram: memory_len(slots, buffer_len), caps: 1 }
}

/// What a side waits for.
pub trait Wake {
    /// What wakes it.
    fn signal(&self) -> Signal;
}

/// A semaphore for which a thread waits.
#[derive(Debug)]
pub struct Waiter(Semaphore);

impl Waiter {
    /// For one thread and one ring.
    pub fn new() -> Result<Waiter, Status> {
        Semaphore::try_new(0).map(Waiter)
    }

    fn wait(&self) {
        self.0.down_zero();
    }
}

impl Wake for Waiter {
    fn signal(&self) -> Signal {
        Signal { context: self.0.sel(), bell: self.0.sel() }
    }
}

impl Wake for Listener {
    fn signal(&self) -> Signal {
        Listener::signal(self)
    }
}

/// What a server alone has.
#[derive(Debug)]
struct Owned {
    dataspace: Cap<dyn Dataspace>,
    /// The session is.
    over: AtomicBool,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // If core cannot be called from here the memory stays until the component ends.
        let _ = dataspace::pd().withdraw(self.dataspace);
    }
}

/// What one side sees of a ring.
#[derive(Debug)]
struct Link {
    /// Goes before `owned`: where the memory was, something else may be attached as soon as it is withdrawn.
    attached: Attached,
    slots: usize,
    /// What is raised for the other side; null: not known yet.
    peer: AtomicPtr<Held<Signal>>,
    owned: Option<Owned>,
    /// At the client: the session.
    session: Option<Watch>,
}

impl Link {
    /// Checks what a ring cannot be, before anything is computed of it.
    fn new(attached: Attached, slots: u64, owned: Option<Owned>, session: Option<Watch>) -> Result<Link, NotMade> {
        let (most, bad) = (attached.size() / layout::SLOT_LEN, usize::try_from(slots).unwrap_or(usize::MAX));
        if !slots.is_power_of_two() || bad > most {
            let buffer_len = attached.size();
            return Err(NotMade::Layout(packetring::BadLayout { slots: bad, buffer_len }));
        }
        Ok(Link { attached, slots: bad, peer: AtomicPtr::default(), owned, session })
    }

    /// What is raised for the other side from now on. The first one stays: somebody may be about to raise it.
    fn set_peer(&self, peer: Held<Signal>) {
        let new = Box::into_raw(Box::new(peer));
        let set = self.peer.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Relaxed);
        if set.is_err() {
            // SAFETY: from the line above, and nobody has seen it.
            drop(unsafe { Box::from_raw(new) });
        }
    }

    fn is_over(&self) -> bool {
        self.owned.as_ref().is_some_and(|o| o.over.load(Ordering::Acquire))
            || self.session.as_ref().is_some_and(Watch::is_over)
    }

    /// Wakes the other side, if it may be asleep. That it is gone shows when it is waited for.
    fn wake(&self, wanted: bool) {
        if wanted {
            // SAFETY: null, or from `Box::into_raw` and there until `self` is dropped.
            let peer = unsafe { self.peer.load(Ordering::Acquire).as_ref() };
            peer.into_iter().for_each(|signal| _ = raise(**signal));
        }
    }

    /// Before one waits.
    fn go_on(&self) -> Result<(), Error> {
        if self.is_over() { Err(Error::Gone) } else { Ok(()) }
    }

    fn address(&self, offset: usize) -> u64 {
        self.attached.address() + offset as u64
    }

    fn queue(&self, queue: Queue) -> usize {
        match queue {
            Queue::Submit => 0,
            Queue::Acknowledge => layout::acknowledge_at(self.slots),
        }
    }

    fn counter(&self, queue: Queue, offset: usize) -> &AtomicU32 {
        let at = self.address(self.queue(queue) + offset);
        // SAFETY: in a queue's header, which is attached for as long as `self`, and aligned.
        unsafe { AtomicU32::from_ptr(ptr::with_exposed_provenance_mut(at as usize)) }
    }

    /// Both words of a slot.
    fn slot(&self, queue: Queue, slot: usize) -> &[AtomicU64; 2] {
        assert!(slot < self.slots);
        let at = self.address(self.queue(queue) + layout::SLOTS + slot * layout::SLOT_LEN);
        // SAFETY: in the queue by the line above, aligned, and used by atomics only.
        unsafe { &*ptr::with_exposed_provenance(at as usize) }
    }

    fn buffer_len(&self) -> usize {
        self.attached.size().saturating_sub(layout::buffer_at(self.slots))
    }

    fn bytes(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.buffer_len()));
        ptr::with_exposed_provenance_mut(self.address(layout::buffer_at(self.slots) + offset) as usize)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let peer = *self.peer.get_mut();
        if !peer.is_null() {
            // SAFETY: from `Box::into_raw`, and nobody else has it.
            drop(unsafe { Box::from_raw(peer) });
        }
    }
}

/// The memory of a ring.
#[derive(Clone, Debug)]
struct Memory(Arc<Link>);

impl PacketMemory for Memory {
    fn slots(&self) -> usize {
        self.0.slots
    }
    fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }
    fn load_head(&self, queue: Queue) -> u32 {
        self.0.counter(queue, layout::HEAD).load(Ordering::Acquire)
    }
    fn store_head(&self, queue: Queue, value: u32) {
        self.0.counter(queue, layout::HEAD).store(value, Ordering::Release);
    }
    fn load_tail(&self, queue: Queue) -> u32 {
        self.0.counter(queue, layout::TAIL).load(Ordering::Acquire)
    }
    fn store_tail(&self, queue: Queue, value: u32) {
        self.0.counter(queue, layout::TAIL).store(value, Ordering::Release);
    }
    fn load_slot(&self, queue: Queue, slot: usize) -> Descriptor {
        let [place, tag] = self.0.slot(queue, slot);
        let place = place.load(Ordering::Relaxed);
        Descriptor { offset: place as u32, len: (place >> 32) as u32, tag: tag.load(Ordering::Relaxed) }
    }
    fn store_slot(&self, queue: Queue, slot: usize, descriptor: Descriptor) {
        let [place, tag] = self.0.slot(queue, slot);
        place.store(u64::from(descriptor.offset) | u64::from(descriptor.len) << 32, Ordering::Relaxed);
        tag.store(descriptor.tag, Ordering::Relaxed);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        let from = self.0.bytes(offset, into.len());
        // SAFETY: in bounds by `bytes`. A peer that keeps the rules does not write there now; one that does not changes only
        // which bytes we read: any byte is a valid u8, and the copy is a call the compiler does not look into.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(from, into.len()) }
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        let to = self.0.bytes(offset, from.len());
        // SAFETY: in bounds by `bytes`; nobody on this side has a reference to it.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }
}

/// A ring at its server, for as long as its session lasts: when this value goes, neither side gets anything any more.
#[derive(Debug)]
pub struct Server {
    link: Arc<Link>,
    packets: Packets,
}

impl Server {
    /// Makes a ring of the own RAM: so many slots, a power of two, and at least so many bytes for packets; the rest of
    /// the last page too. It takes [`cost`]. The own side of it waits for `wake`.
    pub fn new<W: Wake>(slots: usize, buffer_len: usize, wake: W) -> Result<(Server, End<W>), NotMade> {
        if !slots.is_power_of_two() || slots > 1 << 16 || buffer_len == 0 || buffer_len > 1 << 30 {
            return Err(NotMade::Layout(packetring::BadLayout { slots, buffer_len }));
        }
        let size = memory_len(slots, buffer_len);
        let dataspace = dataspace::pd().alloc(size).map_err(NotMade::Call)?.map_err(NotMade::Quota)?;
        // From here on it is given back whatever happens.
        let owned = Owned { dataspace, over: AtomicBool::new(false) };
        let attached = dataspace::attach(dataspace, Attr::WRITE).map_err(NotMade::Attach)?;
        let link = Arc::new(Link::new(attached, slots as u64, Some(owned), None)?);
        let packets = Packets { memory: dataspace, slots: slots as u64, signal: wake.signal() };
        Ok((Server { link: link.clone(), packets }, End { link, wake }))
    }

    /// What the client is to get, for the signal by which it is woken from now on. The first one stays.
    pub fn offer(&self, wake: Signal) -> Packets {
        self.link.set_peer(Held::keep(wake));
        // Until now nobody could be.
        self.link.wake(true);
        self.packets.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(owned) = &self.link.owned {
            owned.over.store(true, Ordering::Release);
        }
        let _ = raise(self.packets.signal);
    }
}

/// One end of a ring: what it is it says once.
#[derive(Debug)]
pub struct End<W> {
    link: Arc<Link>,
    wake: W,
}

/// The client's end. What the server was given for `packets` is `wake`'s signal.
pub fn attach<I: ?Sized, W: Wake>(session: &Session<I>, packets: Packets, wake: W) -> Result<End<W>, NotMade> {
    let (memory, signal) = (Held::adopt(packets.memory), Held::adopt(packets.signal));
    let attached = dataspace::attach(*memory, Attr::WRITE).map_err(NotMade::Attach)?;
    let watch = Watch::new(session, wake.signal()).ok_or(NotMade::Unattended)?;
    let link = Link::new(attached, packets.slots, None, Some(watch))?;
    link.set_peer(signal);
    Ok(End { link: Arc::new(link), wake })
}

impl<W: Wake> End<W> {
    /// It has the packets.
    pub fn source(self) -> Result<Source<W>, NotMade> {
        let ring = packetring::Source::new(Memory(self.link)).map_err(NotMade::Layout)?;
        Ok(Source { ring, wake: self.wake })
    }

    /// It gets packets.
    pub fn sink(self) -> Result<Sink<W>, NotMade> {
        let ring = packetring::Sink::new(Memory(self.link)).map_err(NotMade::Layout)?;
        Ok(Sink { ring, wake: self.wake })
    }
}

/// Submits packets and gets them back.
#[derive(Debug)]
pub struct Source<W> {
    ring: packetring::Source<Memory>,
    wake: W,
}

impl<W> Source<W> {
    /// Cuts a packet out of the buffer, if it could be submitted now.
    pub fn packet(&mut self, len: usize) -> Result<Packet, Refused> {
        let slots = self.ring.memory().slots();
        if self.ring.out() >= slots { Err(Refused::Full(slots as u32)) } else { self.ring.packet(len) }
    }

    /// Submits a packet. One that is refused comes back.
    pub fn submit(&mut self, packet: Packet, tag: u64) -> Result<(), (Refused, Packet)> {
        let wake = self.ring.submit(packet, tag)?;
        self.ring.memory().0.wake(wake);
        Ok(())
    }

    /// The next packet that has come back, with what the sink says of it; to be released.
    pub fn take_back(&mut self) -> Result<Option<Taken>, Error> {
        self.ring.take_back().map_err(Error::Peer)
    }

    /// Gives a packet back to the buffer.
    pub fn release(&mut self, packet: Packet) {
        self.ring.release(packet);
    }

    /// How many packets are out.
    pub fn out(&self) -> usize {
        self.ring.out()
    }

    /// Copies bytes into a packet, from `at` on; as many as find room: how many.
    pub fn write(&self, packet: &Packet, at: usize, bytes: &[u8]) -> usize {
        packet.write(self.ring.memory(), at, bytes)
    }

    /// Copies bytes out of a packet, from `at` on; as many as there are: how many.
    pub fn read(&self, packet: &Packet, at: usize, into: &mut [u8]) -> usize {
        packet.read(self.ring.memory(), at, into)
    }
}

/// Gets packets and acknowledges them.
#[derive(Debug)]
pub struct Sink<W> {
    ring: packetring::Sink<Memory>,
    wake: W,
}

impl<W> Sink<W> {
    /// The next packet, if there is one.
    pub fn take(&mut self) -> Result<Option<Taken>, Error> {
        self.ring.take().map_err(Error::Peer)
    }

    /// How many packets were taken and not acknowledged.
    pub fn has(&self) -> usize {
        self.ring.has()
    }

    /// Gives a packet back, with what is to be said of it.
    pub fn acknowledge(&mut self, packet: Packet, tag: u64) -> Result<(), Error> {
        let wake = self.ring.acknowledge(packet, tag).map_err(Error::Peer)?;
        self.ring.memory().0.wake(wake);
        Ok(())
    }

    /// Copies bytes into a packet, from `at` on; as many as find room: how many.
    pub fn write(&self, packet: &Packet, at: usize, bytes: &[u8]) -> usize {
        packet.write(self.ring.memory(), at, bytes)
    }

    /// Copies bytes out of a packet, from `at` on; as many as there are: how many.
    pub fn read(&self, packet: &Packet, at: usize, into: &mut [u8]) -> usize {
        packet.read(self.ring.memory(), at, into)
    }
}

/// The methods that wait, for a thread or for a future.
macro_rules! waits {
    ($wake:ident, $wait:ident $(, $how:tt, $then:tt)?) => {
        impl Source<$wake> {
            /// Waits for a packet to come back.
            pub $($how)? fn back(&mut self) -> Result<Taken, Error> {
                loop {
                    if let Some(taken) = self.take_back()? {
                        return Ok(taken);
                    }
                    self.ring.memory().0.go_on()?;
                    self.wake.$wait()$(.$then)?;
                }
            }

            /// Waits until a packet can be had and submitted. What comes back meanwhile is released: who wants to see it
            /// waits for it ([`Source::back`]).
            pub $($how)? fn room(&mut self, len: usize) -> Result<Packet, Error> {
                loop {
                    match self.packet(len) {
                        Ok(packet) => return Ok(packet),
                        // Only what comes back makes room.
                        Err(Refused::Full(_) | Refused::NoRoom(_)) if self.out() > 0 => {
                            let taken = self.back()$(.$then)??;
                            self.release(taken.packet);
                        }
                        Err(refused) => return Err(Error::Refused(refused)),
                    }
                }
            }
        }

        impl Sink<$wake> {
            /// Waits for a packet.
            pub $($how)? fn arrival(&mut self) -> Result<Taken, Error> {
                loop {
                    if let Some(taken) = self.take()? {
                        return Ok(taken);
                    }
                    self.ring.memory().0.go_on()?;
                    self.wake.$wait()$(.$then)?;
                }
            }
        }
    };
}

waits!(Waiter, wait);
waits!(Listener, raised, async, await);
