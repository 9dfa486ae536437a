//! Books against a simple model, and all interleavings of two or three who use the same books.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
use loom::thread;
use proptest::prelude::*;
use quota::{Books, Edge, Word};

/// What one of a few accounts is asked to do.
#[derive(Clone, Copy, Debug)]
enum Op {
    Charge(usize, u32),
    Release(usize, u32),
    Transfer(usize, usize, u32),
    WithdrawAll(usize, usize),
}

const ACCOUNTS: usize = 4;
const FRAMES: u32 = 100;

fn op() -> impl Strategy<Value = Op> {
    let (account, frames) = (0..ACCOUNTS, prop_oneof![5 => 0..30u32, 1 => Just(u32::MAX)]);
    prop_oneof![
        (account.clone(), frames.clone()).prop_map(|(a, n)| Op::Charge(a, n)),
        (account.clone(), frames.clone()).prop_map(|(a, n)| Op::Release(a, n)),
        (account.clone(), account.clone(), frames).prop_map(|(a, b, n)| Op::Transfer(a, b, n)),
        (account.clone(), account).prop_map(|(a, b)| Op::WithdrawAll(a, b)),
    ]
}

fn edge(crossed: bool) -> Edge {
    if crossed { Edge::Crossed } else { Edge::Inside }
}

proptest! {
    #[test]
    fn limits_add_up_and_use_is_never_above_the_limit(ops in prop::collection::vec(op(), 0..200)) {
        let books: [Books; ACCOUNTS] = core::array::from_fn(|i| Books::new(if i == 0 { FRAMES } else { 0 }));
        let mut model = [(0u32, 0u32); ACCOUNTS];
        model[0].0 = FRAMES;
        for op in ops {
            match op {
                Op::Charge(a, n) => {
                    let (limit, used) = &mut model[a];
                    let fits = u64::from(*used) + u64::from(n) <= u64::from(*limit);
                    let want = fits.then(|| edge(*used == 0 && n > 0));
                    prop_assert_eq!(books[a].charge(n), want);
                    if fits { *used += n }
                }
                Op::Release(a, n) => {
                    // Only what was charged can be released.
                    let n = n.min(model[a].1);
                    prop_assert_eq!(books[a].release(n), edge(n > 0 && n == model[a].1));
                    model[a].1 -= n;
                }
                Op::Transfer(a, b, n) => {
                    let there = model[a].0 - model[a].1 >= n;
                    prop_assert_eq!(books[a].transfer(&books[b], n), there);
                    if there {
                        model[a].0 -= n;
                        model[b].0 += n;
                    }
                }
                Op::WithdrawAll(a, b) => {
                    let n = model[a].0 - model[a].1;
                    prop_assert_eq!(books[a].withdraw_all(), n);
                    model[a].0 -= n;
                    books[b].deposit(n);
                    model[b].0 += n;
                }
            }
            for (b, m) in books.iter().zip(model) {
                prop_assert_eq!(b.read(), m);
                prop_assert!(m.1 <= m.0);
            }
            prop_assert_eq!(model.iter().map(|m| m.0).sum::<u32>(), FRAMES);
        }
    }
}

#[test]
fn more_than_was_charged_cannot_be_released() {
    let b = Books::new(5);
    assert_eq!(b.charge(3), Some(Edge::Crossed));
    assert_eq!(b.release(7), Edge::Crossed);
    assert_eq!((b.release(1), b.read()), (Edge::Inside, (5, 0)));
}

/// A word whose accesses loom interleaves.
struct Watched(AtomicU64);

impl Word for Watched {
    fn get(&self) -> u64 {
        self.0.load(SeqCst)
    }

    fn replace(&self, old: u64, new: u64) -> Result<(), u64> {
        self.0.compare_exchange(old, new, SeqCst, SeqCst).map(drop)
    }
}

fn watched(limit: u32) -> Arc<Books<Watched>> {
    let b = Books::within(Watched(AtomicU64::new(0)));
    b.deposit(limit);
    Arc::new(b)
}

#[test]
fn of_two_who_want_the_last_frame_one_gets_it() {
    loom::model(|| {
        let b = watched(2);
        assert!(b.charge(1).is_some());
        let other = b.clone();
        let t = thread::spawn(move || other.charge(1).is_some());
        let mine = b.charge(1).is_some();
        let theirs = t.join().unwrap();
        assert!(mine != theirs, "one frame for both, or for none");
        assert_eq!(b.read(), (2, 2));
    });
}

#[test]
fn what_is_charged_cannot_be_moved_away_meanwhile() {
    loom::model(|| {
        let (a, b) = (watched(2), watched(0));
        let (a2, b2) = (a.clone(), b.clone());
        let mover = thread::spawn(move || a2.transfer(&b2, 2));
        let charged = a.charge(1).is_some();
        let (limit, used) = a.read();
        assert!(used <= limit);
        let moved = mover.join().unwrap();
        assert!(charged != moved);
        assert_eq!(a.read().0 + b.read().0, 2);
    });
}

#[test]
fn moves_in_both_directions_lose_nothing() {
    loom::model(|| {
        let (a, b) = (watched(1), watched(1));
        let (a2, b2) = (a.clone(), b.clone());
        let t = thread::spawn(move || b2.transfer(&a2, 1));
        assert!(a.transfer(&b, 1));
        assert!(t.join().unwrap());
        assert_eq!((a.read(), b.read()), ((1, 0), (1, 0)));
    });
}

/// Who sees use begin or end keeps the account in place, or lets go: each beginning has one end, and only one sees it.
#[test]
fn each_beginning_of_use_has_one_end() {
    loom::model(|| {
        let b = watched(2);
        let user = |b: Arc<Books<Watched>>| {
            move || {
                let begun = b.charge(1) == Some(Edge::Crossed);
                let ended = b.release(1) == Edge::Crossed;
                (begun as i32, ended as i32)
            }
        };
        let t = thread::spawn(user(b.clone()));
        let (mine, theirs) = (user(b.clone())(), t.join().unwrap());
        assert_eq!(mine.0 + theirs.0, mine.1 + theirs.1);
        assert!(mine.0 + theirs.0 >= 1);
        assert_eq!(b.read(), (2, 0));
    });
}

#[test]
fn at_the_end_all_goes_back_whoever_releases_last() {
    loom::model(|| {
        let (parent, child) = (watched(0), watched(2));
        assert!(child.charge(2).is_some());
        let (c2, p2) = (child.clone(), parent.clone());
        let done = |c: Arc<Books<Watched>>, p: Arc<Books<Watched>>| {
            move || {
                if c.release(1) == Edge::Crossed {
                    p.deposit(c.withdraw_all());
                }
            }
        };
        let t = thread::spawn(done(c2, p2));
        done(child.clone(), parent.clone())();
        t.join().unwrap();
        assert_eq!((parent.read(), child.read()), ((2, 0), (0, 0)));
    });
}
