//! Channels: two byte rings in shared memory and two semaphores, as the parent wired them ([`parent::Channel`]).
//!
//! The index logic is `bytering`, which trusts nothing that the peer can write. Here are the memory accesses, the
//! wake-ups, and the rule for several threads that wait on one semaphore: one waits in the kernel ("leads"), the
//! others wait for it, because a wake-up that merges in the counter reaches one thread only. And a wake-up that one
//! thread has taken must not be lost to another that has looked at its ring already but does not wait yet: wake-ups
//! are numbered, and whoever looked before the last one does not wait.
//!
//! Key types: [`Channel`], [`Reader`], [`Writer`].

use crate::hypercall;
use crate::lock::{self, Gate, Lock};
use crate::{domain, sel};
use abi::{Sel, Status};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytering::{RingMemory, layout};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use parent::{ROLE_CLIENT, ROLE_SERVER};

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
        // SAFETY: inside the ring's header, aligned, mapped for the life of the component.
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

/// A semaphore of a channel and the threads of ours that wait on it. A server's channels share one.
#[derive(Debug)]
struct WaitPoint {
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

impl core::fmt::Debug for Lock<Waiting> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Lock")
    }
}

/// Wait points of open channels. They live as long as the component, like the channels.
static POINTS: Lock<Vec<Arc<WaitPoint>>> = Lock::new(Vec::new());
/// Channels that are open, by their index in the start information: each ring has one reader and one writer.
static OPEN: AtomicU32 = AtomicU32::new(0);
const _: () = assert!(parent::MAX_CHANNELS <= 32);

pub(crate) fn gate() -> &'static Gate {
    POINTS.gate()
}

impl WaitPoint {
    fn new(sel: Sel) -> Result<WaitPoint, Status> {
        let state = Lock::new(Waiting::default());
        state.gate().equip()?;
        let followers_sem = lock::new_semaphore(0).inspect_err(|_| state.gate().strip())?;
        Ok(WaitPoint { sel, followers_sem, epoch: AtomicU64::new(0), state })
    }

    /// The wait point of a semaphore.
    fn of(sel: Sel) -> Result<Arc<WaitPoint>, Status> {
        POINTS.with(|points| match points.iter().find(|p| p.sel == sel) {
            Some(p) => Ok(p.clone()),
            None => {
                let p = Arc::new(WaitPoint::new(sel)?);
                points.push(p.clone());
                Ok(p)
            }
        })
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
            // The parent took the channel away: nothing will ever change again.
            crate::start::die("rt: a channel's semaphore is gone\n");
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

/// What both directions of a channel need.
#[derive(Clone, Debug)]
struct Wires {
    info: &'static parent::Channel,
    point: Arc<WaitPoint>,
}

impl Wires {
    fn signal(&self) {
        // A peer that is gone, or whose counter is full, needs no wake-up.
        let _ = hypercall::sm_up(self.info.signal);
    }
}

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    reader: Reader,
    writer: Writer,
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

/// The channel of that service of which we are the client. `None`: there is none, or it is open already (the log
/// channel is, from the first line of output on).
pub fn client(service: &str) -> Option<Channel> {
    matching(service, ROLE_CLIENT).find_map(|(i, c)| open_once(i, c))
}

/// All channels of that service of which we are the server, but those that are open already.
pub fn servers(service: &str) -> Vec<Channel> {
    matching(service, ROLE_SERVER).filter_map(|(i, c)| open_once(i, c)).collect()
}

fn matching(service: &str, role: u32) -> impl Iterator<Item = (usize, &'static parent::Channel)> {
    let all = domain::start_info().map_or(&[][..], |i| i.channels());
    all.iter().enumerate().filter(move |(_, c)| c.role == role && c.service.as_str() == service)
}

/// Opens the channel with that index if nobody has.
fn open_once(index: usize, info: &'static parent::Channel) -> Option<Channel> {
    let bit = 1 << index;
    if OPEN.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
        return None;
    }
    // SAFETY: the parent maps both rings for the life of the component, and nobody else has opened them.
    unsafe { Channel::open(info) }
}

impl Channel {
    /// `None`: the rings are too short to be rings, or there is no memory for the wait point.
    ///
    /// # Safety
    /// Both rings are mapped writable for good, zero at first, and opened only once.
    pub(crate) unsafe fn open(info: &'static parent::Channel) -> Option<Channel> {
        let data_len = layout::data_len(info.ring_len as usize)?;
        let ring = |addr: u64| Ring { base: addr as *mut u8, data_len };
        let wires = Wires { info, point: WaitPoint::of(info.wait).ok()? };
        Some(Channel {
            reader: Reader { ring: bytering::Reader::new(ring(info.rx)).ok()?, wires: wires.clone(), seen: 0 },
            writer: Writer { ring: bytering::Writer::new(ring(info.tx)).ok()?, wires, seen: 0 },
        })
    }

    /// The other side: at the server the client's label, at the client the server's name.
    pub fn peer(&self) -> &str {
        self.reader.wires.info.peer.as_str()
    }

    /// The two halves, which may go to different threads.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }
}

macro_rules! half {
    ($name:ident) => {
        impl $name {
            /// Selector of the semaphore that the peer ups. It is the same for both halves, and for all channels of a
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

            /// Whether the peer broke the ring. Then nothing moves any more.
            pub fn is_broken(&self) -> bool {
                self.ring.broken().is_some()
            }

            /// The other side, as [`Channel::peer`].
            pub fn peer(&self) -> &str {
                self.wires.info.peer.as_str()
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

    /// Moves all of it, waiting for space where needed; `false`: the peer broke the ring.
    ///
    /// A server's wake-ups for other channels may arrive meanwhile: look at all of them afterwards.
    pub fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            let n = self.write(bytes);
            bytes = &bytes[n..];
            match () {
                _ if bytes.is_empty() => return true,
                _ if self.is_broken() => return false,
                _ => self.wait(),
            }
        }
    }
}

impl Drop for WaitPoint {
    fn drop(&mut self) {
        self.state.gate().strip();
        sel::free(self.followers_sem);
    }
}
