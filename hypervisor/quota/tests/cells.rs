//! Classes of cells, and the cells of a frame against a set.

use proptest::prelude::*;
use quota::{CLASSES, Cells, Class, FRAME_BYTES, HEAD_BYTES};
use std::collections::BTreeSet;

fn classes() -> Vec<Class> {
    let mut all: Vec<Class> = (1..=FRAME_BYTES).filter_map(Class::of).collect();
    all.dedup();
    all
}

#[test]
fn classes_are_in_order_and_fill_a_frame() {
    let all = classes();
    assert_eq!(all.len(), CLASSES);
    for (i, c) in all.iter().enumerate() {
        assert_eq!(c.index(), i);
        assert_eq!(c.bytes() % 64, 0, "cells begin at cache lines");
        let (end, next) = (c.offset(c.count()), c.offset(c.count() + 1));
        assert!(end <= FRAME_BYTES && next > FRAME_BYTES, "{c:?} wastes a cell");
        assert!(c.count() < 64, "one bit for each");
    }
}

#[test]
fn cells_are_apart_and_behind_the_head() {
    for c in classes() {
        assert_eq!(c.offset(0), HEAD_BYTES);
        for i in 0..c.count() {
            assert_eq!(c.offset(i) + c.bytes(), c.offset(i + 1));
            assert_eq!((c.cell(c.offset(i)), c.cell(c.offset(i) + c.bytes() - 1)), (i, i));
        }
    }
}

#[test]
fn a_size_gets_the_smallest_class_that_holds_it() {
    assert_eq!(Class::of(0), Class::of(64));
    for c in classes() {
        assert_eq!(Class::of(c.bytes()), Some(c));
        let more = Class::of(c.bytes() + 1);
        assert!(more.is_none_or(|m| m.index() == c.index() + 1));
    }
    assert_eq!(Class::of(FRAME_BYTES), None);
}

proptest! {
    #[test]
    fn cells_behave_like_a_set(size in 1usize..=1344, ops in prop::collection::vec(any::<Option<prop::sample::Index>>(), 0..200)) {
        let class = Class::of(size).unwrap();
        let (mut cells, mut taken) = (Cells::new(class), BTreeSet::new());
        for op in ops {
            match op {
                None => match cells.take() {
                    Some(c) => prop_assert!(c < class.count() && taken.insert(c), "{} is taken twice", c),
                    None => prop_assert_eq!(taken.len(), class.count() as usize),
                },
                Some(i) if !taken.is_empty() => {
                    let c = *i.get(&taken.iter().copied().collect::<Vec<_>>());
                    cells.give(c);
                    taken.remove(&c);
                }
                Some(_) => {}
            }
            prop_assert_eq!(cells.empty(class), taken.is_empty());
            prop_assert_eq!(cells.full(), taken.len() == class.count() as usize);
        }
    }
}
