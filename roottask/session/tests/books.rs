//! The books alone: laws that hold whatever is entered, and what each entry says.

use proptest::prelude::*;
use session::{AccountId, Bank, BookError, Books, Guarded, Quota, Shortage};

fn quota(pages: u64, caps: u64) -> Quota {
    Quota::new(pages * 4096, caps).expect("whole pages")
}

fn sum(books: &Books) -> Quota {
    books.accounts().fold(Quota::NONE, |sum, (_, account)| sum.plus(account.limit).expect("no more than there was"))
}

/// A parent with 100 pages and capabilities, and two children with 20 each.
fn family() -> (Books, AccountId, [AccountId; 2]) {
    let (mut books, parent) = Books::new(quota(100, 100));
    let children = [(); 2].map(|()| books.open(parent, quota(20, 20)).unwrap());
    (books, parent, children)
}

#[test]
fn quota_moves_between_an_account_and_its_reference_only() {
    let (mut books, parent, [a, b]) = family();
    assert_eq!(books.transfer(a, b, quota(1, 0)), Err(BookError::Unrelated));
    assert_eq!(books.transfer(a, a, quota(1, 0)), Err(BookError::Unrelated));
    let grandchild = books.open(a, quota(5, 5)).unwrap();
    assert_eq!(books.transfer(grandchild, parent, quota(1, 0)), Err(BookError::Unrelated));
    assert_eq!(books.transfer(grandchild, a, quota(5, 0)), Ok(()));
    assert_eq!(books.transfer(a, parent, quota(20, 15)), Ok(()));
    assert_eq!(books.account(parent).unwrap().limit, quota(80, 75));
    assert_eq!(books.account(a).unwrap().free(), Quota::NONE);
}

#[test]
fn only_what_is_free_moves() {
    let (mut books, parent, [a, _]) = family();
    books.spend(a, quota(15, 20)).unwrap();
    assert_eq!(books.transfer(a, parent, quota(6, 0)), Err(BookError::Short(Shortage::Ram)));
    assert_eq!(books.transfer(a, parent, quota(5, 1)), Err(BookError::Short(Shortage::Caps)));
    assert_eq!(books.reclaim(a, quota(6, 0)), Err(BookError::Short(Shortage::Ram)));
    assert_eq!(books.spend(a, quota(0, 1)), Err(BookError::Short(Shortage::Caps)));
    assert_eq!(books.open(a, quota(6, 0)), Err(BookError::Short(Shortage::Ram)));
    assert_eq!(books.grant(a, quota(61, 0)), Err(BookError::Short(Shortage::Ram)));
    assert_eq!(books.release(a, quota(16, 0)), Err(BookError::Unused));
    assert_eq!(books.transfer(a, parent, quota(5, 0)), Ok(()));
    assert_eq!(books.account(a).unwrap().peak.refused, 4, "what the owner asked for");
}

#[test]
fn a_closed_account_leaves_nothing_and_is_nobody_elses() {
    let (mut books, parent, [a, b]) = family();
    let below = books.open(a, quota(10, 10)).unwrap();
    books.open(below, quota(10, 1)).unwrap();
    books.spend(a, quota(3, 3)).unwrap();
    let closed = books.close(a).unwrap();
    assert_eq!((closed.quota, closed.peak.used), (quota(20, 20), quota(3, 3)));
    assert_eq!(books.account(parent).unwrap().limit, quota(80, 80));
    assert_eq!(books.close(a), Err(BookError::Unknown));
    assert_eq!(books.account(below), Err(BookError::Unknown));
    assert_eq!(books.spend(a, Quota::NONE), Err(BookError::Unknown));
    assert_eq!(books.transfer(parent, a, Quota::NONE), Err(BookError::Unknown));
    assert_eq!(Bank::free(&books, a), Quota::NONE);
    assert_eq!(books.close(parent), Err(BookError::Unrelated));
    assert_eq!(books.grant(parent, Quota::NONE), Err(BookError::Unrelated));
    assert_eq!(books.reclaim(parent, Quota::NONE), Err(BookError::Unrelated));
    let new = books.open(parent, quota(1, 1)).unwrap();
    assert!(new != a && new != below && new != b);
}

#[test]
fn transfers_over_hops_are_undone_unless_committed() {
    let (mut books, parent, [a, b]) = family();
    let mut hops = Guarded::new(&mut books);
    hops.hop(a, parent, quota(7, 7)).unwrap();
    hops.hop(parent, b, quota(6, 6)).unwrap();
    assert_eq!(hops.hop(b, a, quota(1, 1)), Err(BookError::Unrelated));
    drop(hops);
    let limits = |books: &Books| [parent, a, b].map(|id| books.account(id).unwrap().limit);
    assert_eq!(limits(&books), [quota(60, 60), quota(20, 20), quota(20, 20)]);
    let mut hops = Guarded::new(&mut books);
    hops.hop(a, parent, quota(7, 7)).unwrap();
    hops.hop(parent, b, quota(6, 6)).unwrap();
    hops.commit();
    assert_eq!(limits(&books), [quota(61, 61), quota(13, 13), quota(26, 26)]);
}

#[test]
fn who_has_less_than_an_eighth_runs_low() {
    let (mut books, parent, [a, _]) = family();
    let mut low = |entry: &dyn Fn(&mut Books)| {
        entry(&mut books);
        books.account(a).unwrap().low()
    };
    assert!(!low(&|books| books.spend(a, quota(18, 0)).unwrap()), "an eighth of 20, rounded down, is free");
    assert!(low(&|books| books.spend(a, quota(1, 0)).unwrap()));
    assert!(!low(&|books| books.transfer(parent, a, quota(10, 0)).unwrap()));
    assert!(low(&|books| books.spend(a, quota(0, 19)).unwrap()), "capabilities as well");
    assert!(!low(&|books| books.release(a, quota(0, 1)).unwrap()));
    assert!(low(&|books| books.transfer(a, parent, quota(11, 0)).unwrap()));
}

#[test]
fn what_is_fixed_is_not_counted_when_it_runs_low() {
    let (mut books, _, [a, _]) = family();
    books.fix(a, quota(4, 4)).unwrap();
    books.spend(a, quota(14, 0)).unwrap();
    assert!(!books.account(a).unwrap().low(), "an eighth of the other 16");
    books.spend(a, quota(1, 0)).unwrap();
    assert!(books.account(a).unwrap().low());
    assert!(books.fix(a, quota(2, 0)).is_err());
    assert_eq!(books.account(a).unwrap().fixed, quota(4, 4));
}

#[test]
fn what_would_have_been_enough() {
    let (mut books, parent, [a, _]) = family();
    let enough = |books: &Books| books.account(a).unwrap().peak.enough;
    books.spend(a, quota(4, 2)).unwrap();
    books.transfer(a, parent, quota(3, 0)).unwrap();
    assert_eq!(enough(&books), quota(7, 2), "what it donates counts");
    books.transfer(parent, a, quota(3, 0)).unwrap();
    books.transfer(parent, a, quota(5, 5)).unwrap();
    books.spend(a, quota(9, 5)).unwrap();
    assert_eq!(enough(&books), quota(8, 2), "donations of others pay for what is done for them");
    books.spend(a, quota(13, 1)).unwrap_err();
    assert_eq!(enough(&books), quota(21, 3), "what was refused counts");
    books.grant(a, quota(10, 10)).unwrap();
    books.spend(a, quota(13, 1)).unwrap();
    assert_eq!(enough(&books), quota(21, 3), "a grant is no donation");
    books.reclaim(a, quota(2, 2)).unwrap();
    assert_eq!(books.account(a).unwrap().granted, quota(28, 28));
    let peak = books.account(a).unwrap().peak;
    let other = session::Peak { used: quota(1, 99), enough: quota(99, 1), refused: 2 };
    let both = peak.with(other);
    assert_eq!((both.used, both.enough, both.refused), (quota(26, 99), quota(99, 3), 3));
}

#[derive(Debug, Clone)]
enum Entry {
    Open(usize, Quota),
    Close(usize),
    Transfer(usize, usize, Quota),
    Grant(usize, Quota),
    Reclaim(usize, Quota),
    Spend(usize, Quota),
    Release(usize, Quota),
    /// Hops down a chain of accounts and whether they are committed.
    Hops(Vec<usize>, Quota, bool),
}

fn entry() -> impl Strategy<Value = Entry> {
    let at = || 0usize..8;
    let some = || (0u64..12, 0u64..12).prop_map(|(pages, caps)| quota(pages, caps));
    prop_oneof![
        2 => (at(), some()).prop_map(|(at, q)| Entry::Open(at, q)),
        1 => at().prop_map(Entry::Close),
        3 => (at(), at(), some()).prop_map(|(a, b, q)| Entry::Transfer(a, b, q)),
        1 => (at(), some()).prop_map(|(at, q)| Entry::Grant(at, q)),
        1 => (at(), some()).prop_map(|(at, q)| Entry::Reclaim(at, q)),
        3 => (at(), some()).prop_map(|(at, q)| Entry::Spend(at, q)),
        2 => (at(), some()).prop_map(|(at, q)| Entry::Release(at, q)),
        1 => (prop::collection::vec(at(), 2..5), some(), any::<bool>()).prop_map(|(v, q, c)| Entry::Hops(v, q, c)),
    ]
}

/// Makes an entry through the parents' view; whether it was made.
fn make(books: &mut Books, ids: &mut Vec<AccountId>, entry: &Entry) -> bool {
    let bank: &mut dyn Bank = books;
    let id = |at: usize| ids[at % ids.len()];
    match entry {
        Entry::Open(at, q) => bank.open(id(*at), *q).map(|new| ids.push(new)).is_ok(),
        Entry::Close(at) => bank.close(id(*at)).is_ok(),
        Entry::Transfer(a, b, q) => bank.transfer(id(*a), id(*b), *q).is_ok(),
        Entry::Grant(at, q) => bank.grant(id(*at), *q).is_ok(),
        Entry::Reclaim(at, q) => bank.reclaim(id(*at), *q).is_ok(),
        Entry::Spend(at, q) => books.spend(id(*at), *q).is_ok(),
        Entry::Release(at, q) => books.release(id(*at), *q).is_ok(),
        Entry::Hops(chain, q, commit) => {
            let mut hops = Guarded::new(bank);
            let made = chain.windows(2).all(|hop| hops.hop(id(hop[0]), id(hop[1]), *q).is_ok());
            if made && *commit {
                hops.commit();
            }
            made && *commit
        }
    }
}

/// What must not change when an entry is refused: all but the figures about refusals.
fn state(books: &Books) -> Vec<(AccountId, Quota, Quota, Quota)> {
    books.accounts().map(|(id, a)| (id, a.limit, a.used, a.granted)).collect()
}

proptest! {
    #[test]
    fn the_books_add_up_whatever_is_entered(entries in prop::collection::vec(entry(), 0..80)) {
        let total = quota(50, 40);
        let (mut books, first) = Books::new(total);
        let mut ids = vec![first];
        for entry in &entries {
            let before = state(&books);
            if !make(&mut books, &mut ids, entry) {
                prop_assert_eq!(before, state(&books), "{:?} was refused", entry);
            }
            prop_assert_eq!(sum(&books), total);
            for (_, account) in books.accounts() {
                prop_assert_eq!(account.limit.lacks(account.used), None);
                prop_assert_eq!(account.peak.used.lacks(account.used), None);
            }
        }
        let children: Vec<_> = books.accounts().filter(|(_, a)| a.reference == Some(first)).map(|(id, _)| id).collect();
        for child in children {
            books.close(child).unwrap();
        }
        prop_assert_eq!(books.account(first).unwrap().limit, total);
        prop_assert_eq!(books.accounts().count(), 1);
    }

    /// Who had `enough` is refused nothing, and who has less in either is.
    #[test]
    fn enough_is_enough_and_no_more(entries in prop::collection::vec((0usize..4, 0u64..9, 0u64..9), 1..40)) {
        let run = |granted: Quota| {
            let (mut books, parent) = Books::new(quota(10_000, 10_000));
            let child = books.open(parent, granted).unwrap();
            let mut refused = 0;
            for &(what, pages, caps) in &entries {
                let amount = quota(pages, caps);
                refused += u32::from(match what {
                    0 => books.spend(child, amount).is_err(),
                    1 => books.transfer(child, parent, amount).is_err(),
                    2 => books.transfer(parent, child, amount).is_err(),
                    _ => {
                        let used = books.account(child).unwrap().used;
                        books.release(child, amount.least(used)).is_err()
                    }
                });
            }
            (refused, books.account(child).unwrap().peak.enough)
        };
        let (_, enough) = run(quota(1000, 1000));
        prop_assert_eq!(run(enough).0, 0);
        for less in [quota(1, 0), quota(0, 1)] {
            prop_assert!(enough.minus(less).is_err() || run(enough.without(less)).0 > 0);
        }
    }
}
