use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::vec::Vec;

/// A ring whose writer goes on by some stores before each load of the reader.
struct Raced {
    words: Vec<Cell<u64>>,
    /// Stores that the writer still has to do.
    stores: RefCell<VecDeque<(usize, u64)>>,
    /// How many come before each load.
    pace: RefCell<VecDeque<u8>>,
}

impl Words for Raced {
    fn count(&self) -> usize {
        self.words.len()
    }
    fn load(&self, at: usize) -> u64 {
        let steps = self.pace.borrow_mut().pop_front().unwrap_or(0);
        self.proceed(steps.into());
        self.words[at].get()
    }
}

impl Raced {
    fn proceed(&self, steps: usize) {
        let mut stores = self.stores.borrow_mut();
        let steps = steps.min(stores.len());
        for (at, v) in stores.drain(..steps) {
            self.words[at].set(v);
        }
    }
}

/// Notes what the writer stores.
struct Noted(Vec<Cell<u64>>, RefCell<VecDeque<(usize, u64)>>);

impl Words for Noted {
    fn count(&self) -> usize {
        self.0.len()
    }
    fn load(&self, at: usize) -> u64 {
        self.0[at].get()
    }
}

impl WordsMut for Noted {
    fn store(&self, at: usize, v: u64) {
        self.0[at].set(v);
        self.1.borrow_mut().push_back((at, v));
    }
}

fn zeros(records: usize) -> Vec<Cell<u64>> {
    (0..(records + 1) * RECORD_WORDS).map(|_| Cell::new(0)).collect()
}

/// No two have a word in common.
fn sample(n: u64) -> Record {
    let word = |i: u64| n << 8 | i;
    Record { time: word(1), kind: (n % u64::from(KINDS)) as u8, who: word(2) as u32, args: [word(3), word(4)] }
}

/// Reads on; adds records by number, and counts the lost.
fn read_on(ring: &(impl Words + ?Sized), reader: &mut Reader, next: &mut u64, lost: &mut u64) {
    while let Some(found) = reader.next(ring) {
        match found {
            Found::Lost(n) => {
                *next += n;
                *lost += n;
            }
            Found::Record(r) => {
                assert_eq!(r, sample(*next));
                *next += 1;
            }
        }
    }
}

proptest! {
    #[test]
    fn a_reader_finds_each_record_whole_or_knows_that_it_is_lost(
        records in 1usize..6,
        count in 0u64..40,
        pace in prop::collection::vec(0u8..8, 0..300),
    ) {
        let noted = Noted(zeros(records), RefCell::default());
        (0..count).for_each(|n| write(&noted, &sample(n)));
        let ring = Raced { words: zeros(records), stores: noted.1, pace: RefCell::new(pace.into()) };
        let (mut reader, mut next, mut lost) = (Reader::default(), 0, 0);
        read_on(&ring, &mut reader, &mut next, &mut lost);
        ring.proceed(usize::MAX);
        read_on(&ring, &mut reader, &mut next, &mut lost);
        prop_assert_eq!(next, count);
    }

    #[test]
    fn nothing_is_lost_that_there_is_room_for(records in 1u64..9, batches in prop::collection::vec(0u64..9, 0..9)) {
        let ring = Noted(zeros(records as usize), RefCell::default());
        let (mut reader, mut next, mut lost, mut written, mut must) = (Reader::default(), 0, 0, 0, 0);
        for b in batches {
            (written..written + b).for_each(|n| write(&ring, &sample(n)));
            written += b;
            must += b.saturating_sub(records);
            read_on(&ring, &mut reader, &mut next, &mut lost);
            prop_assert_eq!((next, lost), (written, must));
        }
    }

    #[test]
    fn any_memory_can_be_read(words in prop::collection::vec(any::<u64>(), 8..40), reads in 0usize..20) {
        let ring: Vec<AtomicU64> = words.into_iter().map(AtomicU64::new).collect();
        let mut reader = Reader::default();
        (0..reads).for_each(|_| _ = reader.next(&ring[..]));
    }
}

#[test]
fn a_record_being_written_is_not_whole() {
    let noted = Noted(zeros(1), RefCell::default());
    write(&noted, &sample(0));
    noted.1.take();
    write(&noted, &sample(1));
    let stores = noted.1.take();
    // All but the count: the reader believes that record 0 is there.
    for done in 1..stores.len() {
        let again = Noted(zeros(1), RefCell::default());
        write(&again, &sample(0));
        stores.iter().take(done).for_each(|(at, v)| again.0[*at].set(*v));
        assert_eq!(Reader::default().next(&again), Some(Found::Lost(1)), "after {done} stores");
    }
}

#[test]
fn a_writer_and_a_reader_on_two_threads() {
    const COUNT: u64 = 200_000;
    let ring: Vec<AtomicU64> = (0..9 * RECORD_WORDS).map(|_| AtomicU64::new(0)).collect();
    let (mut next, mut lost, mut reader) = (0, 0, Reader::default());
    std::thread::scope(|s| {
        s.spawn(|| (0..COUNT).for_each(|n| write(&ring[..], &sample(n))));
        while next < COUNT {
            read_on(&ring[..], &mut reader, &mut next, &mut lost);
        }
    });
    assert_eq!(next, COUNT);
}

#[test]
fn numbers_and_kinds_wrap_in_the_tag_only() {
    let noted = Noted(zeros(2), RefCell::default());
    noted.0[0].set((1 << 24) + 5);
    let r = Record { kind: 0x7f, who: u32::MAX, ..sample(3) };
    write(&noted, &r);
    let mut reader = Reader { next: (1 << 24) + 5 };
    assert_eq!(reader.next(&noted), Some(Found::Record(r)));
}
