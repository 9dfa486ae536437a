//! The index against a map from slots to objects.

use super::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

/// Memory of a small space that counts what is read.
struct Fake {
    objects: Vec<u64>,
    heads: Vec<u32>,
    links: Vec<Links>,
    reads: Cell<usize>,
}

impl Memory for &mut Fake {
    fn object(&self, slot: u32) -> u64 {
        self.reads.set(self.reads.get() + 1);
        self.objects[slot as usize]
    }
    fn head(&self, bucket: usize) -> u32 {
        self.heads[bucket]
    }
    fn set_head(&mut self, bucket: usize, head: u32) {
        self.heads[bucket] = head;
    }
    fn links(&self, slot: u32) -> Links {
        self.reads.set(self.reads.get() + 1);
        self.links[slot as usize]
    }
    fn set_links(&mut self, slot: u32, links: Links) {
        self.links[slot as usize] = links;
    }
}

/// The space: the index, and what it should say.
struct Space {
    fake: Fake,
    key: u64,
    model: BTreeMap<u32, u64>,
    stands: BTreeMap<u64, u32>,
}

impl Space {
    fn new(slots: usize, key: u64) -> Space {
        let fake = Fake {
            objects: vec![0; slots],
            heads: vec![0; BUCKETS],
            links: vec![Links(0); slots],
            reads: Cell::new(0),
        };
        Space { fake, key, model: BTreeMap::new(), stands: BTreeMap::new() }
    }

    fn index(&mut self) -> Index<&mut Fake> {
        Index::new(&mut self.fake, self.key)
    }

    /// What a space does when a slot changes.
    fn set(&mut self, slot: u32, object: u64) {
        let old = std::mem::replace(&mut self.fake.objects[slot as usize], object);
        if old == object {
            return;
        }
        if old != 0 {
            self.index().remove(slot, old);
            self.model.remove(&slot);
            if self.stands.get(&old) == Some(&slot) {
                self.stands.remove(&old);
            }
        }
        if object != 0 {
            self.index().insert(slot, object);
            self.model.insert(slot, object);
        }
    }

    /// Each object is found at a slot that has it, the same one as before if that still has it; others are not found.
    fn check(&mut self, objects: &[u64]) {
        for &object in objects {
            let want: BTreeSet<u32> = self.model.iter().filter(|(_, o)| **o == object).map(|(s, _)| *s).collect();
            let found = self.index().find(object);
            match found {
                None => assert!(want.is_empty(), "{object:#x} is in {want:?}, but not found"),
                Some(s) => {
                    assert!(want.contains(&s), "{object:#x} is in {want:?}, not in {s}");
                    assert_eq!(*self.stands.entry(object).or_insert(s), s, "another slot stands for {object:#x}");
                }
            }
        }
        self.check_chains();
    }

    /// Every slot is in one chain once, with links that agree; every other companion word is zero.
    fn check_chains(&self) {
        let f = &self.fake;
        let mut seen = BTreeSet::new();
        for b in 0..BUCKETS {
            let (mut at, mut prev) = (f.heads[b].checked_sub(1), None);
            while let Some(slot) = at {
                let l = f.links[slot as usize];
                assert!(!l.is_duplicate() && l.get(Link::Prev) == prev && seen.insert(slot));
                let (mut dup, mut before) = (l.get(Link::Duplicates), slot);
                while let Some(d) = dup {
                    let k = f.links[d as usize];
                    assert!(k.is_duplicate() && k.get(Link::Prev) == Some(before) && seen.insert(d));
                    assert_eq!((f.objects[d as usize], k.get(Link::Duplicates)), (f.objects[slot as usize], None));
                    (dup, before) = (k.get(Link::Next), d);
                }
                (at, prev) = (l.get(Link::Next), Some(slot));
            }
        }
        assert_eq!(seen, self.model.keys().copied().collect());
        for (slot, l) in f.links.iter().enumerate() {
            assert!(seen.contains(&(slot as u32)) || *l == Links(0));
        }
    }
}

fn object(n: u64) -> u64 {
    0xffff_ffff_8000_0000 + (n + 1) * crate::OBJECT_ALIGN
}

#[test]
fn the_first_slot_stands_for_the_object_until_it_goes() {
    let mut s = Space::new(8, 0x1234_5678_9abc_def1);
    let a = object(0);
    for slot in [3, 1, 5] {
        s.set(slot, a);
        assert_eq!(s.index().find(a), Some(3));
    }
    s.set(3, 0);
    let heir = s.index().find(a);
    assert!(heir == Some(1) || heir == Some(5));
    s.check(&[a, object(1)]);
    s.set(1, 0);
    s.set(5, 0);
    assert_eq!(s.index().find(a), None);
    s.check(&[a]);
}

#[test]
fn a_slot_stands_for_its_object_until_it_is_removed() {
    let mut s = Space::new(4, 7);
    let a = object(0);
    s.set(0, a);
    s.set(1, a);
    s.set(0, a);
    s.check(&[a]);
    assert_eq!(s.index().find(a), Some(0));
    s.index().remove(0, a);
    s.index().insert(0, a);
    assert_eq!(s.index().find(a), Some(1));
    s.check_chains();
}

#[test]
fn the_last_selector_of_a_space_has_a_link() {
    let last = abi::SEL_NUM as u32 - 1;
    for l in [Link::Next, Link::Prev, Link::Duplicates] {
        let word = Links(0).with(l, Some(last));
        assert_eq!(word.get(l), Some(last));
        assert!(!word.is_duplicate());
        assert_eq!(word.with(l, None), Links(0));
    }
    let all = Links(DUPLICATE).with(Link::Next, Some(0)).with(Link::Prev, Some(1)).with(Link::Duplicates, Some(2));
    assert_eq!((all.get(Link::Next), all.get(Link::Prev), all.get(Link::Duplicates)), (Some(0), Some(1), Some(2)));
}

#[test]
fn duplicates_are_never_walked() {
    let mut s = Space::new(1000, 0x9e37_79b9_7f4a_7c15);
    let a = object(0);
    (0..1000).for_each(|slot| s.set(slot, a));
    for f in [|s: &mut Space| _ = s.index().find(object(0)), |s: &mut Space| s.set(500, 0), |s: &mut Space| s.set(0, 0)]
    {
        s.fake.reads.set(0);
        f(&mut s);
        assert!(s.fake.reads.get() <= 6, "{} reads", s.fake.reads.get());
    }
    s.check(&[a]);
}

#[test]
fn objects_spread_over_the_buckets_whatever_their_stride() {
    for stride in [1, 2, 4, 8, 13, 128, 4096] {
        for key in [0x9e37_79b9_7f4a_7c15, 0xd134_2543_de82_ef95, 0x0123_4567_89ab_cdef] {
            let mut s = Space::new(1, key);
            let mut load = [0u32; BUCKETS];
            (0..4096).for_each(|n| load[s.index().bucket(object(n * stride))] += 1);
            assert!(load.iter().max() <= Some(&64), "stride {stride}, key {key:#x}: {:?}", load.iter().max());
        }
    }
}

#[test]
fn a_full_space_is_indexed() {
    let slots = 4096;
    let mut s = Space::new(slots, 3);
    for slot in 0..slots as u32 {
        s.set(slot, object(u64::from(slot) / 3));
    }
    s.check_chains();
    for slot in (0..slots as u32).rev() {
        s.set(slot, 0);
    }
    s.check(&[object(0), object(1)]);
    assert!(s.fake.heads.iter().all(|h| *h == 0));
}

proptest! {
    /// Few objects, many slots: duplicates. The keys 1 and 0 put neighbours into one bucket.
    #[test]
    fn any_sequence_agrees_with_the_model(
        key in prop_oneof![Just(0u64), Just(1), any::<u64>()],
        steps in prop::collection::vec((0u32..24, 0u64..8), 1..200),
    ) {
        let mut s = Space::new(24, key);
        let objects: Vec<u64> = (0..7).map(object).collect();
        for (slot, o) in steps {
            s.set(slot, if o == 7 { 0 } else { objects[o as usize] });
            s.check(&objects);
        }
    }

    /// A look-up reads two words a different object in the bucket at most, with everything in one bucket.
    #[test]
    fn cost_is_by_different_objects(slots in prop::collection::vec(0u64..5, 1..100)) {
        let mut s = Space::new(slots.len(), 1);
        for (i, o) in slots.iter().enumerate() {
            s.set(i as u32, object(*o));
        }
        let different = slots.iter().collect::<BTreeSet<_>>().len();
        s.fake.reads.set(0);
        prop_assert_eq!(s.index().find(object(99)), None);
        prop_assert!(s.fake.reads.get() <= 2 * different);
    }
}
