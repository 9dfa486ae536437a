//! Starts, ends, heartbeats, and quota that is asked for or given back.

use crate::house::*;
use session::*;

#[test]
fn the_death_of_a_client_closes_its_sessions() {
    let mut house = House::usual();
    let number = house.open(1, quota(9, 9));
    house.request("shell", 2, "log", quota(5, 5)).unwrap();
    let shell = house.life("shell");
    house.spend("shell", quota(50, 50));
    house.turn(|turn| turn.died(shell, Cause::Fault));
    assert_eq!(house.done, [Effect::Stop(shell, Cause::Fault)]);
    assert!(house.said("shell: stopped after a fault, is started again in 10 ms"));
    let closed = house.hears("console");
    closed.iter().for_each(|notice| assert!(matches!(notice, Notice::Close(_)), "{notice:?}"));
    assert_eq!(closed.len(), 2, "also the one that it did not know of");
    let other = house.parent.sessions().find(|s| s.number != number).unwrap().number;
    for id in [number, other] {
        house.call("console", Call::Respond(id, Response::Closed)).unwrap();
    }
    assert_eq!((house.parent.sessions().count(), house.limit("console")), (0, quota(100, 100)));
    assert_eq!(house.books.account(house.own).unwrap().limit, quota(900, 900));
    assert_eq!(house.child("shell").peak.used, quota(50, 50));

    let old = shell;
    house.tick(10 * MS);
    assert!(house.child("shell").runs());
    assert_ne!(house.life("shell"), old);
    assert_eq!(house.turn(|turn| turn.call(old, Call::Close(1))), Err(Refusal::Dead), "what its past life says");
    house.turn(|turn| turn.died(old, Cause::Fault));
    assert!(house.child("shell").runs(), "it has died once already");
}

#[test]
fn who_fails_again_and_again_is_started_later_each_time_and_then_not() {
    let mut house = House::usual();
    for delay in [10, 20, 30] {
        let life = house.life("shell");
        house.turn(|turn| turn.died(life, Cause::Fault));
        assert_eq!(house.child("shell").state, State::Due(house.now + delay * MS));
        house.tick((delay - 1) * MS);
        assert!(!house.child("shell").runs());
        house.tick(MS);
        assert!(house.child("shell").runs());
    }
    house.call("shell", Call::Exit(3)).unwrap();
    assert_eq!(house.child("shell").state, State::Ended(Cause::Exit(3)));
    assert!(house.said("shell: exit code 3, stays down after 3 tries in a row"));
    house.tick(10_000 * MS);
    assert!(!house.child("shell").runs());
    let shell = house.life("shell").child;
    house.turn(|turn| turn.restart(shell));
    assert!(house.child("shell").runs() && house.child("shell").failures == 0, "a manager may start it");
}

#[test]
fn a_start_that_fails_counts_and_is_tried_again_after_a_while_also_where_none_is_asked_for() {
    let mut house = House::usual();
    let mut hasty = spec("hasty", &[], &[]);
    hasty.restart = Restart { tries: 10, first: 0, longest: 86_400_000 * MS, calm: Time::MAX, after_exit: true };
    house.add(hasty);
    house.call("hasty", Call::Exit(1)).unwrap();
    for delay in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
        let life = house.life("hasty");
        house.turn(|turn| turn.died(life, Cause::NotStarted));
        assert_eq!(house.child("hasty").state, State::Due(house.now + delay * MS));
        house.tick(delay * MS);
        assert!(house.child("hasty").runs());
    }
    house.call("hasty", Call::Exit(1)).unwrap();
    assert!(house.child("hasty").runs(), "after an end it is still started at once");
    let life = house.life("hasty");
    house.turn(|turn| turn.died(life, Cause::NotStarted));
    assert_eq!(house.child("hasty").state, State::Ended(Cause::NotStarted));
    assert!(house.said("hasty: could not be started, stays down after 10 tries in a row"));
}

#[test]
fn a_longer_delay_counts_for_starts_that_fail_too() {
    let mut house = House::usual();
    let mut calm = spec("calm", &[], &[]);
    calm.restart = Restart { first: 300 * MS, longest: 500 * MS, ..calm.restart };
    house.add(calm);
    for delay in [300, 500] {
        let life = house.life("calm");
        house.turn(|turn| turn.died(life, Cause::NotStarted));
        assert_eq!(house.child("calm").state, State::Due(house.now + delay * MS));
        house.tick(delay * MS);
    }
}

#[test]
fn a_parent_knows_when_it_has_to_do_something_next() {
    let mut house = House::usual();
    assert_eq!(house.parent.next_tick(), None);
    let number = house.open(1, quota(9, 9));
    house.call("shell", Call::Close(1)).unwrap();
    let late = house.parent.next_tick().unwrap();
    assert!(late > house.now);
    house.call("console", Call::Respond(number, Response::Closed)).unwrap();
    assert_eq!(house.parent.next_tick(), None);
    let life = house.life("shell");
    house.turn(|turn| turn.died(life, Cause::Fault));
    assert_eq!(house.parent.next_tick(), Some(house.now + 10 * MS));
    house.tick(10 * MS);
    let beating = Spec { heartbeat: Some(Heartbeat { every: 7 * MS, missed: 1 }), ..spec("clock", &[], &[]) };
    house.add(beating);
    assert_eq!(house.parent.next_tick(), Some(house.now + 7 * MS));
}

#[test]
fn a_calm_life_makes_up_for_failures_before_it() {
    let mut house = House::usual();
    for _ in 0..10 {
        let life = house.life("shell");
        house.turn(|turn| turn.died(life, Cause::Fault));
        assert_eq!(house.child("shell").failures, 1);
        house.tick(10 * MS);
        house.tick(1000 * MS);
    }
}

#[test]
fn who_is_started_at_once_is_so_each_time() {
    let mut house = House::usual();
    let mut bomb = spec("bomb", &[], &[]);
    bomb.restart = Restart { tries: 1000, first: 0, longest: 86_400_000 * MS, calm: Time::MAX, after_exit: true };
    house.add(bomb);
    for life in 0..1000 {
        assert_eq!(house.child("bomb").state, State::Running, "after {life} failures");
        house.call("bomb", Call::Exit(1)).unwrap();
    }
    assert!(house.child("bomb").runs());
    house.call("bomb", Call::Exit(1)).unwrap();
    assert_eq!(house.child("bomb").state, State::Ended(Cause::Exit(1)));
}

/// A child that may have as much as there is, beside shell and console.
fn greedy(house: &mut House, text: &str) {
    house.add(Spec { most: TOTAL, ..spec(text, &[], &[]) });
}

#[test]
fn who_was_granted_more_than_it_starts_with_gives_it_back_for_others() {
    let mut house = House::usual();
    greedy(&mut house, "a");
    greedy(&mut house, "b");
    house.call("a", Call::Want(quota(500, 500))).unwrap();
    assert_eq!(house.hears("a"), [Notice::Granted]);
    house.spend("a", quota(450, 300));
    // A hundred are left: of what is lacking `a` has some that is free, and the rest is asked of it.
    house.call("b", Call::Want(quota(300, 300))).unwrap();
    assert_eq!(house.limit("a"), quota(450, 400), "the 150 pages that were free, and 200 of 300 capabilities");
    assert_eq!((house.hears("a"), house.hears("b")), (vec![Notice::Yield(quota(50, 0))], vec![]));
    assert!(house.said("b: stalls: it asks for 1200 KiB, 300 capabilities more; 1000 KiB, 300 capabilities are left"));
    house.release("a", quota(60, 0));
    house.call("a", Call::Yielded).unwrap();
    assert_eq!((house.limit("a"), house.hears("b")), (quota(400, 400), vec![Notice::Granted]));
    assert_eq!(house.limit("b"), quota(400, 400));
    assert!(house.said("b: got 1200 KiB, 300 capabilities more"));
    assert_eq!(house.child("a").yields, Quota::NONE);
}

#[test]
fn what_a_child_will_start_with_again_is_not_granted_to_others() {
    let mut house = House::usual();
    greedy(&mut house, "a");
    house.call("a", Call::Want(quota(701, 0))).unwrap();
    assert!(house.said("a: stalls: it asks for 2804 KiB, 0 capabilities more; 2800 KiB, 700 capabilities are left"));
    let shell = house.life("shell");
    house.turn(|turn| turn.died(shell, Cause::Fault));
    assert_eq!(house.hears("a"), [], "there are 800 now, but not for it");
    house.tick(10 * MS);
    assert!(house.child("shell").runs());
    let shell = house.life("shell").child;
    house.turn(|turn| turn.remove(shell));
    assert_eq!(house.hears("a"), []);
    house.tick(MS);
    assert_eq!(house.hears("a"), [Notice::Granted]);
}

#[test]
fn what_a_child_starts_with_is_nobody_elses() {
    let mut house = House::usual();
    greedy(&mut house, "a");
    greedy(&mut house, "b");
    house.call("a", Call::Want(quota(700, 0))).unwrap();
    assert_eq!((house.limit("a"), house.limit("b")), (quota(100, 100), quota(100, 100)), "600 are left");
    house.call("a", Call::Want(quota(600, 0))).unwrap();
    assert_eq!(house.hears("a"), [Notice::Granted]);
    house.spend("a", quota(700, 0));
    house.call("b", Call::Want(quota(601, 0))).unwrap();
    assert_eq!(house.hears("a"), [Notice::Yield(quota(600, 0))], "and not the last page, too");
    // Who waited has died: nobody needs it.
    let b = house.life("b");
    house.turn(|turn| turn.died(b, Cause::Fault));
    house.tick(MS);
    assert_eq!(house.child("a").yields, Quota::NONE);
    house.release("a", quota(700, 0));
    house.tick(MS);
    assert_eq!(house.limit("a"), quota(700, 100));
}

#[test]
fn a_good_end_is_final_unless_it_is_to_run_always() {
    let mut house = House::usual();
    house.call("shell", Call::Exit(0)).unwrap();
    assert_eq!(house.child("shell").state, State::Ended(Cause::Exit(0)));
    assert!(house.said("shell: exit code 0, stays down"));
    let mut always = spec("daemon", &[], &[]);
    always.restart.after_exit = true;
    always.restart.first = u64::MAX;
    house.add(always);
    house.call("daemon", Call::Exit(0)).unwrap();
    assert_eq!(house.child("daemon").state, State::Due(30 * MS), "no delay beyond the longest");
    let mut once = spec("once", &[], &[]);
    once.restart.tries = 0;
    house.add(once);
    let life = house.life("once");
    house.turn(|turn| turn.died(life, Cause::Fault));
    assert!(house.said("once: stopped after a fault, stays down"));
}

#[test]
fn what_the_log_says_of_ends() {
    for (cause, line) in [
        (Cause::Exit(7), "shell: exit code 7, is started again in 10 ms"),
        (Cause::Fault, "shell: stopped after a fault, is started again in 10 ms"),
        (Cause::Heartbeat, "shell: stopped, as it did not answer heartbeats, is started again in 10 ms"),
        (Cause::Owes, "shell: stopped, as it kept what others had donated, is started again in 10 ms"),
        (Cause::NotStarted, "shell: could not be started, is started again in 100 ms"),
        (Cause::Asked, "shell: stopped, is started again in 10 ms"),
    ] {
        let mut house = House::usual();
        let shell = house.life("shell");
        house.turn(|turn| turn.died(shell, cause));
        assert_eq!(house.log, [line]);
    }
}

#[test]
fn who_does_not_answer_heartbeats_is_started_anew() {
    let mut house = House::usual();
    let mut deaf = spec("deaf", &[], &[]);
    deaf.heartbeat = Some(Heartbeat { every: 50 * MS, missed: 1 });
    house.add(deaf);
    for _ in 0..5 {
        house.tick(50 * MS);
        assert_eq!(house.hears("deaf"), [Notice::Heartbeat]);
        house.call("deaf", Call::Alive).unwrap();
    }
    let life = house.life("deaf");
    house.tick(50 * MS);
    house.tick(50 * MS);
    assert!(house.child("deaf").runs(), "one may be missed");
    house.tick(50 * MS);
    assert_eq!(house.done, [Effect::Stop(life, Cause::Heartbeat)]);
    assert!(house.said("deaf: stopped, as it did not answer heartbeats, is started again in 10 ms"));
}

#[test]
fn who_is_only_asked_is_reported_once_and_when_it_answers_again() {
    let mut house = House::usual();
    let mut deaf = spec("deaf", &[], &[]);
    deaf.heartbeat = Some(Heartbeat { every: 50 * MS, missed: u32::MAX });
    house.add(deaf);
    (0..3).for_each(|_| house.tick(50 * MS));
    assert_eq!(house.log, [""; 0], "two are missed, the third is on its way");
    (0..7).for_each(|_| house.tick(50 * MS));
    assert_eq!(house.log, ["deaf: has not answered 3 heartbeats"]);
    house.call("deaf", Call::Alive).unwrap();
    house.tick(50 * MS);
    house.call("deaf", Call::Alive).unwrap();
    assert_eq!(house.log[1..], ["deaf: answers again, 9 heartbeats late"]);
    assert!(house.child("deaf").runs());
}

#[test]
fn quota_that_is_asked_for() {
    let mut house = House::usual();
    house.call("shell", Call::Want(quota(50, 0))).unwrap();
    assert_eq!(house.hears("shell"), [Notice::Granted]);
    assert_eq!(house.limit("shell"), quota(150, 100));
    house.call("shell", Call::Want(quota(51, 0))).unwrap();
    house.call("shell", Call::Want(quota(52, 0))).unwrap();
    assert_eq!(house.hears("shell"), []);
    assert_eq!(house.child("shell").want, Some(quota(52, 0)));
    let line = "shell: stalls: it asks for 204 KiB, 0 capabilities more; has 600 KiB, 100 capabilities, and may have \
                800 KiB, 200 capabilities";
    assert_eq!(house.log, ["shell: got 200 KiB, 0 capabilities more", line], "said once");
}

#[test]
fn who_asks_for_more_than_there_is_gets_it_when_it_is_there() {
    let mut house = House::usual();
    let mut large = spec("large", &[], &[]);
    large.quota = quota(790, 790);
    let large = house.add(large);
    house.call("shell", Call::Want(quota(50, 50))).unwrap();
    assert!(house.said("shell: stalls: it asks for 200 KiB, 50 capabilities more; 40 KiB, 10 capabilities are left"));
    let mut late = spec("late", &[], &[]);
    late.quota = quota(60, 60);
    house.add(late);
    house.tick(MS);
    assert!(
        house.said("late: cannot start: it is to have 240 KiB, 60 capabilities, and 40 KiB, 10 capabilities are left")
    );
    assert_eq!(house.log.iter().filter(|line| line.contains("late")).count(), 1, "said once");
    house.turn(|turn| turn.remove(large));
    house.tick(MS);
    assert_eq!(house.hears("shell"), [Notice::Granted]);
    assert!(house.child("late").runs());
}

#[test]
fn another_quota() {
    let mut house = House::usual();
    let shell = house.life("shell").child;
    house.turn(|turn| turn.set_quota(shell, quota(120, 90)));
    assert_eq!(house.limit("shell"), quota(120, 90));
    assert_eq!(house.hears("shell"), [Notice::Granted]);
    house.spend("shell", quota(100, 0));
    house.turn(|turn| turn.set_quota(shell, quota(50, 90)));
    assert_eq!(house.limit("shell"), quota(100, 90), "what is free is taken at once");
    assert_eq!(house.hears("shell"), [Notice::Yield(quota(50, 0))]);
    house.release("shell", quota(30, 0));
    house.call("shell", Call::Yielded).unwrap();
    assert_eq!((house.limit("shell"), house.child("shell").yields), (quota(70, 90), quota(20, 0)));
    house.release("shell", quota(30, 0));
    house.tick(MS);
    assert_eq!((house.limit("shell"), house.child("shell").yields), (quota(50, 90), Quota::NONE));

    house.call("shell", Call::Exit(0)).unwrap();
    house.turn(|turn| turn.set_quota(shell, quota(70, 70)));
    assert!(!house.child("shell").runs());
    house.turn(|turn| turn.restart(shell));
    assert_eq!(house.limit("shell"), quota(70, 70));
}

#[test]
fn other_routes() {
    let mut house = House::usual();
    house.add(spec("vault", &["log"], &[]));
    house.call("vault", Call::Announce(name("log"))).unwrap();
    let shell = house.life("shell").child;
    let to = |child: &str| Routes(vec![Rule::to(name("log"), Target::Child(name(child)))]);

    house.request("shell", 1, "log", quota(2, 2)).unwrap();
    let first = house.life("shell");
    house.turn(|turn| turn.reroute(shell, to("vault")));
    house.obey("vault");
    assert_eq!(house.life("shell"), first, "what waited goes elsewhere now");
    assert_eq!(house.hears("shell").len(), 1);
    house.turn(|turn| turn.reroute(shell, to("vault")));
    assert_eq!(house.life("shell"), first, "the same");
    let mut renamed = to("vault");
    renamed.0[0].rewrite.label = Some(Label::new("audit").unwrap());
    house.turn(|turn| turn.reroute(shell, renamed));
    assert_eq!(house.life("shell"), first, "it goes on");
    let [Notice::Close(id)] = house.hears("vault")[..] else { panic!("another label is another session") };
    house.call("vault", Call::Respond(id, Response::Closed)).unwrap();
    assert_eq!(house.hears("shell"), [Notice::Session(1, News::Ended(End::Gone))]);

    house.request("shell", 1, "log", quota(2, 2)).unwrap();
    house.obey("vault");
    house.hears("shell");
    let vault = house.life("vault").child;
    let other = Spec { quota: quota(30, 30), ..spec("vault", &["gpu"], &[]) };
    house.turn(|turn| turn.revise(vault, other));
    assert!(matches!(house.hears("vault")[..], [Notice::Close(_), ..]), "what it is not to provide any more");
    assert_eq!(house.request("shell", 2, "log", quota(2, 2)), Err(Refusal::Denied));
    assert_eq!(house.child("vault").spec.quota, quota(30, 30));
    house.turn(|turn| turn.reroute(99, Routes::default()));
}

#[test]
fn who_runs_low_is_named_in_time() {
    let mut house = House::usual();
    house.spend("shell", quota(80, 80));
    house.tick(MS);
    assert_eq!(house.log, [] as [&str; 0]);
    house.spend("shell", quota(10, 0));
    house.tick(MS);
    house.tick(MS);
    let line = "shell: runs low: 40 KiB, 20 capabilities of 400 KiB, 100 capabilities are free; it has come to need \
                360 KiB, 80 capabilities";
    assert_eq!(house.log, [line], "once");
    house.release("shell", quota(10, 0));
    house.tick(MS);
    house.spend("shell", quota(0, 10));
    house.tick(MS);
    assert_eq!(house.log.len(), 2, "again");
}

#[test]
fn another_description() {
    let mut house = House::usual();
    house.open(1, quota(2, 2));
    let console = house.life("console");
    house.turn(|turn| turn.replace(console.child, spec("other", &["raw"], &[])));
    assert_eq!(house.life("console").child, console.child, "its place and its name");
    assert_eq!(house.call("console", Call::Announce(name("log"))), Err(Refusal::NotProvided));
    assert_eq!(house.call("console", Call::Announce(name("raw"))), Ok(None));
    assert_eq!(house.hears("shell"), ended(1, End::Gone));
    assert_eq!(house.request("shell", 2, "log", quota(2, 2)), Err(Refusal::Denied));
}

#[test]
fn names_are_unique_and_numbers_of_no_child_do_nothing() {
    let mut house = House::usual();
    assert_eq!(house.turn(|turn| turn.add(spec("shell", &[], &[]))), None);
    house.turn(|turn| {
        turn.remove(99);
        turn.restart(99);
        turn.replace(99, spec("new", &[], &[]));
        turn.set_quota(99, quota(1, 1));
        turn.died(Life { child: 99, number: 1 }, Cause::Fault);
    });
    assert_eq!((house.parent.children().count(), house.done.len(), house.log.len()), (2, 0, 0));
}
