//! Rings against a model, in two threads, and against lying peers.

use crate::buffer::Buffer;
use crate::{BadLayout, Descriptor, Error, Packet, PacketMemory, Queue, Refused, Sink, Source, Taken, layout};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::string::ToString;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::vec::Vec;

struct Ends {
    head: AtomicU32,
    tail: AtomicU32,
    slots: Vec<[AtomicU64; 2]>,
}

/// A ring's memory, shared by reference.
struct Memory {
    queues: [Ends; 2],
    bytes: Vec<AtomicU8>,
}

impl Memory {
    fn new(slots: usize, buffer_len: usize) -> Memory {
        let ends =
            || Ends { head: 0.into(), tail: 0.into(), slots: (0..slots).map(|_| [0.into(), 0.into()]).collect() };
        Memory { queues: [ends(), ends()], bytes: (0..buffer_len).map(|_| 0.into()).collect() }
    }

    fn queue(&self, queue: Queue) -> &Ends {
        &self.queues[queue as usize]
    }

    /// Both sides, all of whose counters stand at `start`.
    fn ends(&self, start: u32) -> (Source<&Memory>, Sink<&Memory>) {
        for q in &self.queues {
            q.head.store(start, Ordering::SeqCst);
            q.tail.store(start, Ordering::SeqCst);
        }
        let (mut source, mut sink) = (Source::new(self).unwrap(), Sink::new(self).unwrap());
        source.start_at(start);
        sink.start_at(start);
        (source, sink)
    }
}

impl PacketMemory for Memory {
    fn slots(&self) -> usize {
        self.queues[0].slots.len()
    }
    fn buffer_len(&self) -> usize {
        self.bytes.len()
    }
    fn load_head(&self, queue: Queue) -> u32 {
        self.queue(queue).head.load(Ordering::Acquire)
    }
    fn store_head(&self, queue: Queue, value: u32) {
        self.queue(queue).head.store(value, Ordering::Release);
    }
    fn load_tail(&self, queue: Queue) -> u32 {
        self.queue(queue).tail.load(Ordering::Acquire)
    }
    fn store_tail(&self, queue: Queue, value: u32) {
        self.queue(queue).tail.store(value, Ordering::Release);
    }
    fn load_slot(&self, queue: Queue, slot: usize) -> Descriptor {
        let [place, tag] = &self.queue(queue).slots[slot];
        let place = place.load(Ordering::Relaxed);
        Descriptor { offset: place as u32, len: (place >> 32) as u32, tag: tag.load(Ordering::Relaxed) }
    }
    fn store_slot(&self, queue: Queue, slot: usize, d: Descriptor) {
        let [place, tag] = &self.queue(queue).slots[slot];
        place.store(u64::from(d.len) << 32 | u64::from(d.offset), Ordering::Relaxed);
        tag.store(d.tag, Ordering::Relaxed);
    }
    fn read_bytes(&self, offset: usize, into: &mut [u8]) {
        let from = &self.bytes[offset..offset + into.len()];
        into.iter_mut().zip(from).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
    }
    fn write_bytes(&self, offset: usize, from: &[u8]) {
        let to = &self.bytes[offset..offset + from.len()];
        to.iter().zip(from).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }
}

/// Around the wrap-around of the counters, and anywhere.
fn starts() -> impl Strategy<Value = u32> {
    prop_oneof![(0..64u32).prop_map(|n| n.wrapping_sub(32)), any::<u32>()]
}

#[derive(Clone, Debug)]
enum Step {
    /// Cut, fill and submit.
    Submit(usize),
    Take,
    /// The one at that place of those that the sink has.
    Acknowledge(usize),
    GetBack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..300usize).prop_map(Step::Submit),
        Just(Step::Take),
        (0..8usize).prop_map(Step::Acknowledge),
        Just(Step::GetBack),
    ];
    prop::collection::vec(step, 1..200)
}

/// What both sides do to a ring, and what has to come of it.
struct Model<'a> {
    source: Source<&'a Memory>,
    sink: Sink<&'a Memory>,
    memory: &'a Memory,
    submitted: VecDeque<(u64, usize)>,
    acknowledged: VecDeque<(u64, usize)>,
    at_sink: Vec<Taken>,
    next: u64,
}

impl Model<'_> {
    fn out(&self) -> usize {
        self.submitted.len() + self.acknowledged.len() + self.at_sink.len()
    }

    fn submit(&mut self, len: usize, most: usize) {
        let packet = match self.source.packet(len) {
            Ok(packet) => packet,
            Err(Refused::Empty) => return assert_eq!(len, 0),
            Err(e) => return assert_eq!(e, Refused::NoRoom(len)),
        };
        assert_eq!(packet.len(), len);
        let fill = std::vec![self.next as u8; len];
        assert_eq!(packet.write(self.memory, 0, &fill), len);
        match self.source.submit(packet, self.next) {
            Ok(signal) => {
                assert_eq!(signal, self.submitted.is_empty());
                self.submitted.push_back((self.next, len));
                self.next += 1;
            }
            Err((why, packet)) => {
                assert_eq!((why, self.out()), (Refused::Full(most as u32), most));
                self.source.release(packet);
            }
        }
    }

    fn take(&mut self) {
        let taken = self.sink.take().unwrap();
        assert_eq!(taken.as_ref().map(|t| (t.tag, t.packet.len())), self.submitted.pop_front());
        if let Some(t) = taken {
            let mut bytes = std::vec![0; t.packet.len() + 1];
            assert_eq!(t.packet.read(self.memory, 0, &mut bytes), t.packet.len(), "no more than there is");
            assert!(bytes[..t.packet.len()].iter().all(|b| *b == t.tag as u8), "nobody else's");
            self.at_sink.push(t);
        }
    }

    fn acknowledge(&mut self, n: usize) {
        if n < self.at_sink.len() {
            let t = self.at_sink.swap_remove(n);
            let len = t.packet.len();
            assert_eq!(self.sink.acknowledge(t.packet, !t.tag), Ok(self.acknowledged.is_empty()));
            self.acknowledged.push_back((!t.tag, len));
        }
    }

    fn get_back(&mut self) {
        let back = self.source.take_back().unwrap();
        assert_eq!(back.as_ref().map(|t| (t.tag, t.packet.len())), self.acknowledged.pop_front());
        if let Some(t) = back {
            self.source.release(t.packet);
        }
    }
}

proptest! {
    #[test]
    fn packets_come_and_go_in_order_and_are_nobody_elses(log in 0..4u32, start in starts(), steps in steps()) {
        let (slots, len) = (1 << log, 1000);
        let memory = Memory::new(slots, len);
        let (source, sink) = memory.ends(start);
        let free = source.free();
        let (submitted, acknowledged) = (VecDeque::new(), VecDeque::new());
        let mut m = Model { source, sink, memory: &memory, submitted, acknowledged, at_sink: Vec::new(), next: 1 };
        for step in steps {
            match step {
                Step::Submit(len) => m.submit(len, slots),
                Step::Take => m.take(),
                Step::Acknowledge(n) => m.acknowledge(n),
                Step::GetBack => m.get_back(),
            }
            prop_assert_eq!((m.source.out(), m.sink.has()), (m.out(), m.at_sink.len()));
        }
        while m.out() > 0 {
            m.take();
            m.acknowledge(0);
            m.get_back();
        }
        prop_assert_eq!(m.source.free(), free, "all of the buffer is free again");
    }

    /// A sink writes what it likes whenever it likes: the source has each packet once at most, and never one that is not out.
    #[test]
    fn a_lying_sink_cannot_hurt_the_source(
        start in starts(),
        lies in prop::collection::vec((0..5u8, any::<u32>(), any::<u32>(), 0..8usize), 1..100),
    ) {
        let memory = Memory::new(4, 1000);
        let (mut source, _) = memory.ends(start);
        let (mut out, mut broken) = (BTreeMap::<usize, usize>::new(), None);
        for (what, a, b, n) in lies {
            let q = memory.queue(Queue::Acknowledge);
            match what {
                0 => q.tail.store(a, Ordering::SeqCst),
                1 => _ = q.tail.fetch_add(1, Ordering::SeqCst),
                2 => {
                    // One that is out, perhaps with another length, or out of the blue.
                    let one = out.iter().nth(n).map(|(o, l)| (*o as u32, *l as u32));
                    let (offset, len) = one.map_or((a, b), |(o, l)| (o, if b % 3 == 0 { b } else { l }));
                    memory.store_slot(Queue::Acknowledge, n % 4, Descriptor { offset, len, tag: 0 });
                }
                3 => memory.queue(Queue::Submit).head.store(a, Ordering::SeqCst),
                _ => if let Ok(packet) = source.packet(n * 40) {
                    let (at, len) = (packet.offset(), packet.len());
                    prop_assert!(out.iter().all(|(o, l)| at + len <= *o || o + l <= at), "a packet that is out");
                    match source.submit(packet, 0) {
                        Ok(_) => prop_assert_eq!(out.insert(at, len), None),
                        Err((_, packet)) => source.release(packet),
                    }
                },
            }
            for _ in 0..6 {
                match source.take_back() {
                    Ok(None) => break,
                    Ok(Some(t)) => {
                        prop_assert_eq!(out.remove(&t.packet.offset()), Some(t.packet.len()));
                        source.release(t.packet);
                    }
                    Err(Error::NotOut { descriptor: d }) => {
                        prop_assert_ne!(out.get(&(d.offset as usize)), Some(&(d.len as usize)));
                    }
                    Err(e) => {
                        prop_assert_eq!(*broken.get_or_insert(e), e, "for good");
                        break;
                    }
                }
            }
            prop_assert_eq!(source.out(), out.len());
        }
    }

    /// A source writes what it likes whenever it likes: what the sink gets is in the buffer, and it never has more than slots.
    #[test]
    fn a_lying_source_cannot_hurt_the_sink(
        start in starts(),
        lies in prop::collection::vec((0..5u8, any::<u32>(), any::<u32>(), 0..8usize), 1..100),
    ) {
        let memory = Memory::new(4, 1000);
        let (_, mut sink) = memory.ends(start);
        let (mut has, mut broken) = (Vec::new(), None);
        for (what, a, b, n) in lies {
            let q = memory.queue(Queue::Submit);
            match what {
                0 => q.tail.store(a, Ordering::SeqCst),
                1 => _ = q.tail.fetch_add(1, Ordering::SeqCst),
                2 => {
                    let (offset, len) = if n % 2 == 0 { (a % 1100, b % 300) } else { (a, b) };
                    memory.store_slot(Queue::Submit, n % 4, Descriptor { offset, len, tag: 7 });
                }
                3 => memory.queue(Queue::Acknowledge).head.store(a, Ordering::SeqCst),
                _ => if let Some(Taken { packet, .. }) = has.pop() {
                    let _ = sink.acknowledge(packet, 0);
                },
            }
            for _ in 0..6 {
                match sink.take() {
                    Ok(None) => break,
                    Ok(Some(t)) => {
                        prop_assert!(!t.packet.is_empty() && t.packet.offset() + t.packet.len() <= 1000);
                        t.packet.read(&memory, 0, &mut std::vec![0; t.packet.len()]);
                        has.push(t);
                    }
                    Err(Error::Outside { descriptor: d, buffer_len }) => {
                        let end = u64::from(d.offset) + u64::from(d.len);
                        prop_assert!(buffer_len == 1000 && (d.len == 0 || end > 1000));
                    }
                    Err(e) => {
                        prop_assert_eq!(*broken.get_or_insert(e), e, "for good");
                        break;
                    }
                }
            }
            prop_assert!(has.len() <= 4 && sink.has() == has.len());
        }
    }

    #[test]
    fn free_parts_are_joined_again(lens in prop::collection::vec(1..400u32, 1..40), order in any::<u64>()) {
        let mut buffer = Buffer::new(4096);
        let mut taken: Vec<(u32, u32)> = Vec::new();
        for len in lens {
            if let Some(at) = buffer.take(len) {
                prop_assert!(at % 64 == 0 && at + len <= 4096);
                prop_assert!(taken.iter().all(|(o, l)| at + len <= *o || o + l <= at));
                taken.push((at, len));
            }
        }
        taken.sort_by_key(|(at, _)| u64::from(*at).wrapping_mul(order | 1) >> 7);
        for (at, len) in taken {
            buffer.give_back(at, len);
        }
        prop_assert_eq!(buffer.free(), 4096);
        prop_assert_eq!(buffer.take(4096), Some(0), "in one part");
    }
}

fn submitted(source: &mut Source<&Memory>, len: usize) -> bool {
    let packet = source.packet(len).unwrap();
    source.submit(packet, 0).unwrap()
}

#[test]
fn an_acknowledgement_counts_once() {
    let memory = Memory::new(4, 1000);
    let (mut source, mut sink) = memory.ends(0);
    submitted(&mut source, 100);
    let taken = sink.take().unwrap().unwrap();
    let descriptor = Descriptor { offset: 0, len: 100, tag: 5 };
    assert_eq!(sink.acknowledge(taken.packet, 5), Ok(true));
    // The same again.
    memory.store_slot(Queue::Acknowledge, 1, descriptor);
    memory.store_tail(Queue::Acknowledge, 2);
    assert_eq!(source.take_back().unwrap().map(|t| t.tag), Some(5));
    assert_eq!(source.take_back(), Err(Error::NotOut { descriptor }));
    assert_eq!(source.take_back(), Ok(None), "what comes behind is served");
}

#[test]
fn mistakes_are_named() {
    let descriptor = Descriptor { offset: 0x3e0, len: 64, tag: 9 };
    let texts = [
        (
            Error::Outside { descriptor, buffer_len: 1000 },
            "the source submitted 64 bytes at 0x3e0 of a buffer of 1000 (tag 0x9)",
        ),
        (Error::NotOut { descriptor }, "the sink acknowledged 64 bytes at 0x3e0 (tag 0x9), which are not out"),
        (Error::Broken { claimed: 9, slots: 4 }, "the peer broke the ring: it claims 9 descriptors in a queue of 4"),
        (Error::TooMany { slots: 4 }, "the source broke the ring: it has more than 4 packets out"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
    assert_eq!(Refused::Full(4).to_string(), "all 4 packets that can be out are");
    assert_eq!(Refused::NoRoom(70).to_string(), "the buffer has no room for 70 bytes in a row");
}

#[test]
fn a_source_with_too_many_out_breaks_the_ring() {
    let memory = Memory::new(2, 1000);
    let (_, mut sink) = memory.ends(0);
    for slot in 0..2 {
        memory.store_slot(Queue::Submit, slot, Descriptor { offset: 0, len: 1, tag: 0 });
    }
    memory.store_tail(Queue::Submit, 2);
    let mine: Vec<_> = (0..2).map(|_| sink.take().unwrap().unwrap()).collect();
    assert_eq!(sink.take(), Ok(None));
    memory.store_tail(Queue::Submit, 3);
    assert_eq!(sink.take(), Err(Error::TooMany { slots: 2 }));
    for t in mine {
        assert!(sink.acknowledge(t.packet, 0).is_ok());
    }
    assert_eq!(sink.take(), Err(Error::TooMany { slots: 2 }), "for good");
}

#[test]
fn nothing_is_out_of_a_packet() {
    let memory = Memory::new(2, 200);
    let (mut source, _) = memory.ends(0);
    let p = source.packet(100).unwrap();
    assert_eq!(
        (p.write(&memory, 90, &[1; 50]), p.write(&memory, 100, &[1]), p.write(&memory, usize::MAX, &[1])),
        (10, 0, 0)
    );
    let mut bytes = [0; 50];
    assert_eq!((p.read(&memory, 95, &mut bytes), p.read(&memory, 101, &mut bytes)), (5, 0));
    assert_eq!(source.packet(100).map(drop), Err(Refused::NoRoom(100)));
    assert_eq!(source.packet(usize::MAX).map(drop), Err(Refused::NoRoom(usize::MAX)));
    assert_eq!(source.packet(u32::MAX as usize).map(drop), Err(Refused::NoRoom(u32::MAX as usize)));
    source.release(p);
    assert!(source.packet(192).is_ok());
}

#[test]
fn rings_have_a_power_of_two_of_slots_and_a_buffer() {
    for (slots, buffer_len) in [(0, 64), (3, 64), (4, 0)] {
        let memory = Memory::new(slots, buffer_len);
        assert_eq!(Source::new(&memory).err(), Some(BadLayout { slots, buffer_len }));
        assert_eq!(Sink::new(&memory).err(), Some(BadLayout { slots, buffer_len }));
    }
    assert_eq!((layout::queue_len(4), layout::acknowledge_at(4), layout::buffer_at(4)), (192, 192, 384));
    assert_eq!((layout::queue_len(1), layout::acknowledge_at(1), layout::buffer_at(1)), (144, 192, 384));
}

/// Both sides sleep whenever there is nothing to do, and wake only by the other's signals. A lost wake-up shows as a timeout.
#[test]
fn two_threads_lose_neither_packets_nor_wake_ups() {
    use std::sync::{Condvar, Mutex};
    #[derive(Default)]
    struct Semaphore(Mutex<u32>, Condvar);
    impl Semaphore {
        fn up(&self, wanted: bool) {
            if wanted {
                *self.0.lock().unwrap() += 1;
                self.1.notify_one();
            }
        }
        fn down(&self) {
            let late = std::time::Duration::from_secs(20);
            let (mut n, late) = self.1.wait_timeout_while(self.0.lock().unwrap(), late, |n| *n == 0).unwrap();
            assert!(!late.timed_out(), "lost wake-up");
            *n = 0;
        }
    }
    const PACKETS: u64 = 20_000;
    for slots in [1, 2, 8] {
        let memory = Memory::new(slots, 1024);
        let (mut source, mut sink) = memory.ends(0u32.wrapping_sub(10_000));
        let (to_source, to_sink) = (Semaphore::default(), Semaphore::default());
        std::thread::scope(|s| {
            s.spawn(|| {
                let mut taken = 0;
                while taken < PACKETS {
                    match sink.take().unwrap() {
                        None => to_sink.down(),
                        Some(Taken { packet, tag }) => {
                            let mut bytes = [0; 8];
                            packet.read(&&memory, 0, &mut bytes);
                            assert_eq!((u64::from_le_bytes(bytes), tag), (taken, taken));
                            to_source.up(sink.acknowledge(packet, tag).unwrap());
                            taken += 1;
                        }
                    }
                }
            });
            let (mut sent, mut back) = (0, 0);
            while back < PACKETS {
                if let Some(Taken { packet, tag }) = source.take_back().unwrap() {
                    assert_eq!(tag, back);
                    source.release(packet);
                    back += 1;
                    continue;
                }
                let packet = (sent < PACKETS).then(|| source.packet(8)).and_then(Result::ok);
                let Some(packet) = packet else {
                    to_source.down();
                    continue;
                };
                packet.write(&&memory, 0, &sent.to_le_bytes());
                match source.submit(packet, sent) {
                    Ok(signal) => {
                        to_sink.up(signal);
                        sent += 1;
                    }
                    Err((_, packet)) => {
                        source.release(packet);
                        to_source.down();
                    }
                }
            }
        });
    }
}

/// That a packet is plain data, which only the crate makes.
#[test]
fn packets_say_where_they_are() {
    let memory = Memory::new(2, 200);
    let (mut source, _) = memory.ends(0);
    let _first: Packet = source.packet(1).unwrap();
    let second = source.packet(65).unwrap();
    assert_eq!((second.offset(), second.len(), second.is_empty()), (64, 65, false));
}
