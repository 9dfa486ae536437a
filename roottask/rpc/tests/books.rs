//! The books of an entry point.

use proptest::prelude::*;
use rpc::{Indices, Objects, Uses, Window};
use std::collections::BTreeMap;

#[test]
fn objects_are_bounded_and_indices_are_used_again() {
    let mut o = Objects::new(3);
    assert_eq!([o.insert('a'), o.insert('b'), o.insert('c')], [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(o.insert('d'), Err('d'));
    assert_eq!((o.remove(1), o.remove(1), o.remove(9)), (Some('b'), None, None));
    assert_eq!((o.get(0), o.get(1), o.get(u64::MAX)), (Some(&'a'), None, None));
    assert_eq!(o.iter().collect::<Vec<_>>(), [(0, &'a'), (2, &'c')]);
    assert_eq!((o.insert('e'), o.get(1)), (Ok(1), Some(&'e')));
}

#[test]
fn an_index_can_be_given_out_before_its_object_is_there() {
    let (mut o, mut i) = (Objects::new(2), Indices::new(2));
    assert_eq!([i.take(), i.take(), i.take()], [Some(0), Some(1), None]);
    assert_eq!((o.put(1, 'b'), o.put(1, 'c'), o.put(2, 'd')), (Ok(()), Err('c'), Err('d')));
    assert_eq!((o.get(0), o.get(1)), (None, Some(&'b')));
    assert_eq!(o.put(0, 'a'), Ok(()));
    i.give(0);
    i.give(9);
    assert_eq!([i.take(), i.take()], [Some(0), None]);
}

proptest! {
    /// Always the lowest that is free.
    #[test]
    fn the_lowest_index_comes_first(limit in 0usize..20, steps in prop::collection::vec(0usize..30, 0..200)) {
        let (mut indices, mut free) = (Indices::new(limit), (0..limit).collect::<std::collections::BTreeSet<_>>());
        for step in steps {
            if step < 20 {
                prop_assert_eq!(indices.take(), free.pop_first());
            } else if step - 20 < limit {
                indices.give(step - 20);
                free.insert(step - 20);
            }
        }
    }
}

#[test]
fn what_came_another_way_is_not_in_the_books() {
    let mut u = Uses::new();
    assert!(!u.more(5) && !u.less(5) && !u.has(5));
    u.arrived(5);
    assert!(u.has(5) && u.more(5) && !u.less(5) && u.less(5));
    assert!(!u.has(5) && !u.less(5));
}

#[test]
fn who_finds_a_capability_may_be_here_before_whom_it_was_new_to() {
    let mut u = Uses::new();
    // Known to the first, new to the second.
    u.arrived(5);
    u.arrived(5);
    assert!(!u.less(5) && u.has(5), "the second has it still");
    assert!(u.less(5));
}

#[test]
fn a_window_has_room_as_long_as_a_full_message_finds_it() {
    let (w, mut u) = (Window { first: 100, slots: Window::SLOTS }, Uses::new());
    assert!(w.contains(100) && w.contains(131) && !w.contains(99) && !w.contains(132));
    for s in 100..124 {
        assert!(w.has_room(&u));
        u.arrived(s);
    }
    assert!(w.has_room(&u), "8 are left");
    assert_eq!(w.free(&u).collect::<Vec<_>>(), (124..132).collect::<Vec<_>>());
    u.arrived(131);
    assert!(!w.has_room(&u));
    u.less(100);
    assert!(w.has_room(&u));
    assert!(!Window::default().has_room(&u) && !Window::default().contains(0));
}

proptest! {
    /// As many uses as there were, whatever the order; given back once, by the last.
    #[test]
    fn uses_are_counted(steps in prop::collection::vec((0..3u8, 0..4u64), 0..200)) {
        let (mut books, mut model) = (Uses::new(), BTreeMap::<u64, u32>::new());
        for (step, sel) in steps {
            match step {
                0 if !model.contains_key(&sel) => {
                    books.arrived(sel);
                    model.insert(sel, 1);
                }
                0 | 1 => {
                    let known = model.get_mut(&sel).map(|n| *n += 1).is_some();
                    prop_assert_eq!(books.more(sel), known);
                }
                _ => {
                    let last = model.get(&sel) == Some(&1);
                    if let Some(n) = model.get_mut(&sel) {
                        *n -= 1;
                    }
                    model.retain(|_, n| *n > 0);
                    prop_assert_eq!(books.less(sel), last);
                }
            }
            prop_assert_eq!(books.has(sel), model.contains_key(&sel));
        }
    }
}
