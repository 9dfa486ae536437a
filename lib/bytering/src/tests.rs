//! Rings against a model, in two threads, and against lying peers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::vec::Vec;

use proptest::prelude::*;

use crate::{BadLength, Moved, Reader, RingMemory, Writer, cut_consumer, cut_producer, layout};

/// A ring's memory, shared by reference.
struct Memory {
    head: AtomicU32,
    tail: AtomicU32,
    data: Vec<AtomicU8>,
}

impl Memory {
    /// A ring whose two counters stand at `start`.
    fn new(data_len: usize, start: u32) -> Memory {
        let data = (0..data_len).map(|_| AtomicU8::new(0)).collect();
        Memory { head: start.into(), tail: start.into(), data }
    }

    fn ends(&self) -> (Writer<&Memory>, Reader<&Memory>) {
        let (mut w, mut r) = (Writer::new(self).unwrap(), Reader::new(self).unwrap());
        w.cursor.position = self.tail.load(Ordering::Relaxed);
        r.cursor.position = self.head.load(Ordering::Relaxed);
        (w, r)
    }
}

impl RingMemory for Memory {
    fn data_len(&self) -> usize {
        self.data.len()
    }
    fn load_head(&self) -> u32 {
        self.head.load(Ordering::Acquire)
    }
    fn store_head(&self, value: u32) {
        self.head.store(value, Ordering::Release);
    }
    fn load_tail(&self) -> u32 {
        self.tail.load(Ordering::Acquire)
    }
    fn store_tail(&self, value: u32) {
        self.tail.store(value, Ordering::Release);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        let from = &self.data[offset..offset + into.len()];
        into.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        let to = &self.data[offset..offset + from.len()];
        to.iter().zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<u8>),
    Read(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let write = prop::collection::vec(any::<u8>(), 0..40).prop_map(Step::Write);
    prop::collection::vec(prop_oneof![write, (0..40usize).prop_map(Step::Read)], 1..200)
}

/// Starts just below, at and above the wrap-around of the counters, and anywhere.
fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![(0..64u32).prop_map(|n| n.wrapping_sub(32)), any::<u32>()]
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_queue(log_len in 0..6u32, start in starts(), steps in steps()) {
        let len = 1usize << log_len;
        let memory = Memory::new(len, start);
        let (mut w, mut r) = memory.ends();
        let mut model = VecDeque::new();
        for step in steps {
            let before = model.len();
            match step {
                Step::Write(bytes) => {
                    let fits = bytes.len().min(len - before);
                    model.extend(&bytes[..fits]);
                    let signal = before == 0 && fits > 0;
                    prop_assert_eq!(w.write(&bytes), Ok(Moved { bytes: fits, signal }));
                }
                Step::Read(want) => {
                    let mut buf = std::vec![0; want];
                    let moved = r.read(&mut buf).unwrap();
                    let expect: Vec<u8> = model.drain(..want.min(before)).collect();
                    prop_assert_eq!(&buf[..moved.bytes], &expect[..]);
                    prop_assert_eq!(moved.signal, before > len / 2 && model.len() <= len / 2);
                }
            }
            prop_assert_eq!(r.available(), Ok(model.len()));
            prop_assert_eq!(w.space(), Ok(len - model.len()));
        }
    }

    /// The peer stores what it likes between operations: no panic (the memory's slices are bounds-checked), no more
    /// bytes than the ring holds, and an impossible counter breaks the ring for good.
    #[test]
    fn a_lying_producer_cannot_hurt_the_consumer(start in starts(), lies in prop::collection::vec(starts(), 1..50)) {
        let memory = Memory::new(16, start);
        let (_, mut r) = memory.ends();
        let mut broken = None;
        for lie in lies {
            memory.store_tail(lie);
            let claimed = lie.wrapping_sub(r.cursor.position);
            let mut buf = [0; 64];
            let got = r.read(&mut buf);
            if broken.is_some() || claimed > 16 {
                prop_assert!(got.is_err());
                broken = broken.or(got.err());
                prop_assert_eq!(got.err(), broken);
                prop_assert_eq!(r.broken(), broken);
            } else {
                prop_assert_eq!(got.unwrap().bytes, claimed as usize);
            }
        }
    }

    #[test]
    fn a_lying_consumer_cannot_hurt_the_producer(start in starts(), lies in prop::collection::vec(starts(), 1..50)) {
        let memory = Memory::new(16, start);
        let (mut w, _) = memory.ends();
        let mut broken = None;
        for lie in lies {
            memory.store_head(lie);
            let claimed = w.cursor.position.wrapping_sub(lie);
            let got = w.write(&[7; 5]);
            if broken.is_some() || claimed > 16 {
                prop_assert!(got.is_err());
                broken = broken.or(got.err());
                prop_assert_eq!(got.err(), broken);
                prop_assert_eq!(w.broken(), broken);
            } else {
                prop_assert_eq!(got.unwrap().bytes, 5.min(16 - claimed as usize));
            }
        }
    }
}

/// Memory whose peer lies from the `after`-th load of its counter on.
struct LiesLater<'a> {
    inner: &'a Memory,
    loads: AtomicU32,
    after: u32,
}

impl LiesLater<'_> {
    fn load(&self, truth: u32) -> u32 {
        let n = self.loads.fetch_add(1, Ordering::Relaxed);
        if n >= self.after { truth.wrapping_add(1 << 20) } else { truth }
    }
}

impl RingMemory for LiesLater<'_> {
    fn data_len(&self) -> usize {
        self.inner.data_len()
    }
    fn load_head(&self) -> u32 {
        self.load(self.inner.load_head())
    }
    fn store_head(&self, value: u32) {
        self.inner.store_head(value);
    }
    fn load_tail(&self) -> u32 {
        self.load(self.inner.load_tail())
    }
    fn store_tail(&self, value: u32) {
        self.inner.store_tail(value);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        self.inner.read_bytes(offset, into);
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        self.inner.write_bytes(offset, from);
    }
}

#[test]
fn bytes_moved_before_the_lie_are_delivered() {
    let memory = Memory::new(16, 0);
    memory.ends().0.write(b"abc").unwrap();
    let mut r = Reader::new(LiesLater { inner: &memory, loads: 0.into(), after: 1 }).unwrap();
    let mut buf = [0; 8];
    assert_eq!(r.read(&mut buf).unwrap().bytes, 3);
    assert_eq!(&buf[..3], b"abc");
    assert!(r.read(&mut buf).is_err());

    let memory = Memory::new(16, 0);
    let mut w = Writer::new(LiesLater { inner: &memory, loads: 0.into(), after: 1 }).unwrap();
    assert_eq!(w.write(b"abc").unwrap().bytes, 3);
    assert!(w.write(b"d").is_err());
}

#[test]
fn the_own_counter_in_shared_memory_is_not_believed() {
    let memory = Memory::new(16, 0);
    let (mut w, mut r) = memory.ends();
    w.write(b"abcdef").unwrap();
    memory.store_head(5);
    let mut buf = [0; 2];
    assert_eq!(r.read(&mut buf).unwrap().bytes, 2);
    assert_eq!(&buf, b"ab");
    assert_eq!(memory.load_head(), 2, "published anew");
}

#[test]
fn data_areas_are_powers_of_two() {
    assert_eq!(layout::data_len(0), None);
    assert_eq!(layout::data_len(128), None);
    assert_eq!(layout::data_len(129), Some(1));
    assert_eq!(layout::data_len(4096), Some(2048));
    assert_eq!(layout::data_len(4096 + 128), Some(4096));
    assert_eq!(layout::data_len(usize::MAX), Some(1 << 31));
    for len in [0, 3, 48] {
        assert_eq!(Reader::new(&Memory::new(len, 0)).err(), Some(BadLength { data_len: len }));
        assert_eq!(Writer::new(&Memory::new(len, 0)).err(), Some(BadLength { data_len: len }));
    }
}

/// Both sides sleep whenever an operation comes back short, and wake only by the other's signals. A lost wake-up
/// shows as a timeout.
mod threads {
    use std::sync::{Condvar, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Semaphore {
        count: Mutex<u32>,
        changed: Condvar,
    }

    impl Semaphore {
        fn up(&self) {
            *self.count.lock().unwrap() += 1;
            self.changed.notify_one();
        }

        fn down_zero(&self) {
            let count = self.count.lock().unwrap();
            let (mut count, result) =
                self.changed.wait_timeout_while(count, Duration::from_secs(20), |n| *n == 0).unwrap();
            assert!(!result.timed_out(), "lost wake-up");
            *count = 0;
        }
    }

    fn stream(total: usize) -> impl Iterator<Item = u8> {
        (0..total).map(|n| (n ^ (n >> 8)) as u8)
    }

    fn produce(mut w: Writer<&Memory>, total: usize, chunk: usize, own: &Semaphore, peer: &Semaphore) {
        let bytes: Vec<u8> = stream(total).collect();
        for mut part in bytes.chunks(chunk) {
            while !part.is_empty() {
                let moved = w.write(part).unwrap();
                if moved.signal {
                    peer.up();
                }
                part = &part[moved.bytes..];
                if !part.is_empty() {
                    own.down_zero();
                }
            }
        }
    }

    fn consume(mut r: Reader<&Memory>, total: usize, chunk: usize, own: &Semaphore, peer: &Semaphore) {
        let mut expect = stream(total);
        let mut buf = std::vec![0; chunk];
        let mut got = 0;
        while got < total {
            let moved = r.read(&mut buf).unwrap();
            if moved.signal {
                peer.up();
            }
            got += moved.bytes;
            assert!(buf[..moved.bytes].iter().all(|b| expect.next() == Some(*b)), "stream differs before byte {got}");
            if moved.bytes < chunk && got < total {
                own.down_zero();
            }
        }
    }

    #[test]
    fn two_threads_lose_neither_bytes_nor_wake_ups() {
        for (data_len, write_chunk, read_chunk) in [(1, 1, 1), (2, 3, 1), (16, 5, 7), (64, 200, 3), (256, 1, 300)] {
            let total = 60_000;
            let memory = Memory::new(data_len, 0u32.wrapping_sub(30_000));
            let (producer, consumer) = (Semaphore::default(), Semaphore::default());
            let (w, r) = memory.ends();
            thread::scope(|s| {
                s.spawn(|| produce(w, total, write_chunk, &producer, &consumer));
                consume(r, total, read_chunk, &consumer, &producer);
            });
            assert_eq!(memory.load_head(), memory.load_tail());
        }
    }
}

/// What the consumer had not taken when it was cut off.
fn cut(memory: &Memory) -> Vec<u8> {
    let mut rest = Vec::new();
    cut_producer(&memory, |part| rest.extend_from_slice(part));
    rest
}

#[test]
fn a_producer_without_consumer_finds_the_ring_broken_and_the_rest_is_known() {
    // Around the end of the data area and of the counters.
    for start in [0, 500, u32::MAX - 3] {
        let memory = Memory::new(1024, start);
        let (mut w, mut r) = memory.ends();
        let bytes: Vec<u8> = (0..1000u32).map(|n| n as u8).collect();
        w.write(&bytes).unwrap();
        r.read(&mut [0; 300]).unwrap();
        assert_eq!(cut(&memory), bytes[300..]);
        assert!(w.write(b"x").is_err() && w.broken().is_some());
        assert!(w.space().is_err(), "for good");
    }
}

#[test]
fn a_full_producer_that_sleeps_is_told_too() {
    let memory = Memory::new(64, 7);
    let (mut w, _) = memory.ends();
    assert_eq!(w.write(&[1; 100]).unwrap().bytes, 64);
    assert_eq!(cut(&memory), [1; 64]);
    assert!(w.write(&[1; 36]).is_err());
}

#[test]
fn a_consumer_without_producer_finds_the_ring_broken() {
    for start in [0, u32::MAX - 3] {
        let memory = Memory::new(64, start);
        let (mut w, mut r) = memory.ends();
        w.write(&[1; 10]).unwrap();
        cut_consumer(&&memory);
        assert!(r.read(&mut [0; 4]).is_err() && r.available().is_err());
    }
}

proptest! {
    #[test]
    fn cutting_a_ring_of_lies_reads_no_more_than_it_holds(head: u32, tail: u32) {
        let memory = Memory::new(64, 0);
        memory.store_head(head);
        memory.store_tail(tail);
        let used = tail.wrapping_sub(head) as usize;
        prop_assert_eq!(cut(&memory).len(), if used <= 64 { used } else { 0 });
    }
}
