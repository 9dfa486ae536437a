//! Sequences that went wrong once, or would be easy to get wrong. After each step all is checked as after random ones.

use crate::{Both, Op};

/// Runs a story; returns who is in user mode in the end.
fn tell(ops: &[Op]) -> (Both, Option<usize>) {
    let mut b = Both::new();
    ops.iter().for_each(|op| b.run(*op));
    let current = b.world.current.get().map(|e| e.id);
    (b, current)
}

fn aborted(b: &Both, ec: usize) -> u32 {
    b.world.ec(ec).aborted.get()
}

#[test]
fn a_call_and_its_reply() {
    assert_eq!(tell(&[Op::Call(0)]).1, Some(3));
    assert_eq!(tell(&[Op::Call(0), Op::Call(2)]).1, Some(4));
    assert_eq!(tell(&[Op::Call(0), Op::Call(2), Op::Reply, Op::Reply]).1, Some(2));
}

#[test]
fn a_handler_finishes_with_the_sc_of_a_dead_client_and_that_ends_with_its_reply() {
    let (b, current) = tell(&[Op::Call(0), Op::EndEc(2)]);
    assert_eq!((current, b.world.cpu.payer().map(|s| s.id)), (Some(3), Some(2)));
    let (b, current) = tell(&[Op::Call(0), Op::EndEc(2), Op::Reply]);
    assert_eq!((current, b.world.scs.borrow()[2].ipc.is_active()), (Some(1), false));
}

/// The handler's handler works on with the SC, and is there as long as that is, though nothing else counts on it.
#[test]
fn the_handler_of_a_dead_client_dies_in_a_call() {
    let dies = [Op::Call(0), Op::Call(2), Op::EndEc(2), Op::EndEc(3)];
    let freed = [Op::DropPortal(2), Op::DropPortal(3), Op::DropEc(4), Op::Reclaim];
    let (b, current) = tell(&[&dies[..], &freed[..]].concat());
    assert_eq!((current, b.world.cpu.payer().map(|s| s.id)), (Some(4), Some(2)));
    let (b, current) = tell(&[&dies[..], &freed[..], &[Op::Reply, Op::Reclaim]].concat());
    assert_eq!((current, b.world.scs.borrow()[2].ipc.is_active()), (Some(1), false));
}

/// The SC is that of the first handler, which goes on; the one whose caller dies has none.
#[test]
fn a_handler_between_that_of_a_dead_client_and_another_dies() {
    let (b, current) = tell(&[Op::Call(0), Op::Call(2), Op::Call(4), Op::EndEc(2), Op::EndEc(4)]);
    assert_eq!((current, aborted(&b, 3)), (Some(3), 1));
    let (b, current) = tell(&[Op::Call(0), Op::Call(2), Op::Call(4), Op::EndEc(2), Op::EndEc(4), Op::Reply]);
    assert_eq!((current, b.world.scs.borrow()[2].ipc.is_active()), (Some(1), false));
}

/// It is nobody's any more: a portal that ends does not take it from who finishes with it.
#[test]
fn a_portal_ends_by_which_a_dead_client_has_come() {
    let (b, current) = tell(&[Op::Call(0), Op::EndEc(2), Op::EndPortal(0)]);
    assert_eq!((current, b.world.cpu.payer().map(|s| s.id)), (Some(3), Some(2)));
}

/// The caller of the one that ends hears of it, also while its SC is parked at who works for that.
#[test]
fn who_waits_for_a_busy_handler_is_told_of_its_end() {
    // 2 calls 3, which calls 4, which blocks; 1 waits for 3.
    let wait = [Op::Call(0), Op::Call(2), Op::Down(0), Op::Call(1)];
    let (b, _) = tell(&[&wait[..], &[Op::EndEc(3)]].concat());
    assert_eq!((aborted(&b, 2), aborted(&b, 1)), (1, 0), "2 is first");
    let (b, _) = tell(&[&wait[..], &[Op::EndEc(3), Op::Down(1)]].concat());
    assert_eq!((aborted(&b, 2), aborted(&b, 1)), (1, 1));
}

/// 0 waits for 5, which waits for 3, which is blocked. 5 ends: nothing links it to where 0 is parked.
#[test]
fn a_helper_of_a_helper_is_told() {
    let wait = [Op::Call(0), Op::Down(0), Op::Call(4), Op::Call(0), Op::Call(4)];
    let (b, current) = tell(&[&wait[..], &[Op::EndEc(5), Op::Down(1)]].concat());
    assert_eq!((aborted(&b, 1), aborted(&b, 0), current), (1, 1, Some(0)));
}

/// 1 helps 3, which nobody else pays for and which never gives up the CPU, to get at 5 by 4. Who is told of an end is not
/// kept by the one that it helps.
#[test]
fn a_helper_is_told_while_it_runs_another() {
    let busy = [Op::Call(0), Op::EndEc(2), Op::EndSc(2), Op::Call(2), Op::Call(0)];
    let (b, current) = tell(&busy);
    assert_eq!((current, b.world.cpu.payer().map(|s| s.id)), (Some(3), Some(1)));
    let (b, current) = tell(&[&busy[..], &[Op::EndEc(4)]].concat());
    assert_eq!((aborted(&b, 1), current), (1, Some(1)));
}

/// The place of a portal that is gone is used for another one.
#[test]
fn only_who_came_by_a_portal_is_aborted_with_it() {
    let inside = [Op::Call(0), Op::DropPortal(0), Op::CreatePortal(3)];
    let (b, current) = tell(&[&inside[..], &[Op::EndPortal(6)]].concat());
    assert_eq!((aborted(&b, 2), current), (0, Some(3)));
    let (b, current) = tell(&[Op::Call(0), Op::EndPortal(0)]);
    assert_eq!((aborted(&b, 2), current), (1, Some(2)));
}

/// A helper runs a handler that nothing counts on any more, and that calls somebody: it stays until it has its reply.
#[test]
fn who_is_served_is_kept_without_a_count() {
    let orphan = [Op::Call(0), Op::EndEc(2), Op::EndSc(2), Op::Call(0)];
    let uncounted = [Op::DropPortal(0), Op::DropPortal(1), Op::DropEc(3), Op::Call(2), Op::Reclaim];
    let (b, current) = tell(&[&orphan[..], &uncounted[..]].concat());
    assert!(!b.world.ec(3).freed.get());
    assert_eq!(current, Some(4));
    let (b, current) = tell(&[&orphan[..], &uncounted[..], &[Op::Reply, Op::Reclaim]].concat());
    assert!(b.world.ec(3).freed.get());
    assert_eq!(current, Some(1));
}

/// 4 runs on the SC of 1 and waits for 3; 0 helps it to find out that there is no portal any more.
#[test]
fn a_call_that_comes_to_nothing_wakes_who_was_parked_for_it() {
    tell(&[Op::Call(0), Op::Down(0), Op::Call(2), Op::Call(0), Op::DropPortal(0), Op::Call(2)]);
}
