//! Sessions that pass through a parent: to its own parent, and from there to its children.

use crate::house::*;
use session::*;

/// A parent that exports the `log` of its child `console`.
fn exporting() -> House {
    let mut house = House::new(|settings| {
        settings.exports = Routes(vec![Rule::to(name("log"), Target::Child(name("console")))]);
    });
    house.add(spec("console", &["log", "raw"], &[]));
    house
}

fn ups(house: &mut House) -> Vec<Call> {
    let up = |effect| match effect {
        Effect::Up(call) => Some(call),
        _ => None,
    };
    std::mem::take(&mut house.done).into_iter().filter_map(up).collect()
}

/// A session of `shell` above; returns what the parent calls it.
fn open_above(house: &mut House) -> SessionId {
    house.request("shell", 1, "net", quota(5, 5)).unwrap();
    let calls = ups(house);
    let [Call::Request(request)] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!((request.label.as_str(), request.donation), ("shell -> x", quota(4, 4)));
    let id = request.id;
    // Above takes the donation from this parent's account.
    house.books.spend(house.own, quota(4, 4)).unwrap();
    house.turn(|turn| turn.notice(Notice::Session(id, News::Ready(Cap(8)))));
    assert_eq!(house.hears("shell"), [Notice::Session(1, News::Ready(Cap(8)))]);
    id
}

#[test]
fn a_session_above() {
    let mut house = House::usual();
    let id = open_above(&mut house);
    house.call("shell", Call::Upgrade { id: 1, more: quota(2, 2) }).unwrap();
    assert_eq!(ups(&mut house), [Call::Upgrade { id, more: quota(2, 2) }]);
    house.turn(|turn| turn.notice(Notice::Session(id, News::Upgraded)));
    assert_eq!(house.hears("shell"), [Notice::Session(1, News::Upgraded)]);
    house.call("shell", Call::Close(1)).unwrap();
    assert_eq!(ups(&mut house), [Call::Close(id)]);
    house.tick(1000 * MS);
    assert_eq!(house.hears("shell"), [], "above has a patience of its own");
    house.books.release(house.own, quota(4, 4)).unwrap();
    house.turn(|turn| turn.notice(Notice::Session(id, News::Ended(End::Closed))));
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
    assert_eq!(house.limit("shell"), quota(100, 100));
}

#[test]
fn what_is_refused_above_comes_back() {
    for (refusal, end) in [
        (Refusal::Denied, End::Denied),
        (Refusal::TooMany, End::Denied),
        (Refusal::Short(Shortage::Caps), End::Short(Shortage::Caps)),
    ] {
        let mut house = House::usual();
        house.request("shell", 1, "net", quota(5, 5)).unwrap();
        let call = ups(&mut house).remove(0);
        house.turn(|turn| turn.refused(call, refusal));
        assert_eq!(house.hears("shell"), ended(1, end));
        assert_eq!(house.limit("shell"), quota(100, 100));
    }
    for (news, end) in [
        (News::Ended(End::Denied), End::Denied),
        (News::Ended(End::Short(Shortage::Ram)), End::Short(Shortage::Ram)),
        (News::Ended(End::Gone), End::Gone),
    ] {
        let mut house = House::usual();
        house.request("shell", 1, "net", quota(5, 5)).unwrap();
        let id = house.parent.sessions().next().unwrap().number;
        house.turn(|turn| turn.notice(Notice::Session(id, news)));
        assert_eq!(house.hears("shell"), ended(1, end));
        house.turn(|turn| turn.notice(Notice::Session(id, news)));
        assert_eq!(house.limit("shell"), quota(100, 100));
    }
}

#[test]
fn an_upgrade_that_is_refused_above_comes_back() {
    let mut house = House::usual();
    let id = open_above(&mut house);
    house.call("shell", Call::Upgrade { id: 1, more: quota(2, 2) }).unwrap();
    let call = ups(&mut house).remove(0);
    house.turn(|turn| turn.refused(call.clone(), Refusal::Short(Shortage::Ram)));
    assert_eq!(house.hears("shell"), [Notice::Session(1, News::NotUpgraded)]);
    assert_eq!(house.limit("shell"), quota(95, 95));
    // The same, when the client has closed the session meanwhile.
    house.call("shell", Call::Upgrade { id: 1, more: quota(2, 2) }).unwrap();
    house.call("shell", Call::Close(1)).unwrap();
    house.turn(|turn| {
        turn.refused(call, Refusal::Phase);
        turn.notice(Notice::Session(id, News::NotUpgraded));
    });
    house.books.release(house.own, quota(4, 4)).unwrap();
    house.turn(|turn| turn.refused(Call::Close(id), Refusal::Unknown));
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
    assert_eq!(house.limit("shell"), quota(100, 100));
}

#[test]
fn what_came_back_above_and_is_gone_here_is_paid_later() {
    let mut house = House::usual();
    let id = open_above(&mut house);
    house.call("shell", Call::Close(1)).unwrap();
    let rest = house.books.account(house.own).unwrap().free();
    house.books.spend(house.own, rest).unwrap();
    house.turn(|turn| turn.notice(Notice::Session(id, News::Ended(End::Closed))));
    assert_eq!(house.hears("shell"), []);
    house.books.release(house.own, rest).unwrap();
    house.turn(|turn| turn.notice(Notice::Granted));
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
}

#[test]
fn a_session_from_above() {
    let mut house = exporting();
    house.turn(|turn| turn.notice(Notice::Create(request(40, "log", quota(5, 5)))));
    assert_eq!(ups(&mut house), [], "nobody has announced it yet");
    house.call("console", Call::Announce(name("raw"))).unwrap();
    assert_eq!(ups(&mut house), [], "that is not exported");
    house.call("console", Call::Announce(name("log"))).unwrap();
    assert_eq!(ups(&mut house), [Call::Announce(name("log"))]);
    let heard = house.hears("console");
    let [Notice::Create(there)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((there.label.as_str(), there.donation), ("x", quota(4, 4)), "the label is that of above");
    let number = there.id;
    house.call("console", Call::Respond(number, Response::Ready(Cap(5)))).unwrap();
    assert_eq!(ups(&mut house), [Call::Respond(40, Response::Ready(Cap(5)))]);
    house.turn(|turn| turn.notice(Notice::Upgrade(40, quota(7, 7))));
    house.obey("console");
    assert_eq!(ups(&mut house), [Call::Respond(40, Response::Upgraded)]);
    assert_eq!(house.limit("console"), quota(106, 106));
    house.turn(|turn| turn.notice(Notice::Close(40)));
    house.obey("console");
    assert_eq!(ups(&mut house), [Call::Respond(40, Response::Closed)]);
    assert_eq!((house.limit("console"), house.parent.sessions().count()), (quota(100, 100), 0));
}

#[test]
fn what_above_is_told_when_it_does_not_work() {
    let mut house = exporting();
    for (service, donation, response) in
        [("gpu", quota(5, 5), Response::Denied), ("log", quota(0, 5), Response::Short(Shortage::Ram))]
    {
        house.turn(|turn| turn.notice(Notice::Create(request(1, service, donation))));
        assert_eq!(ups(&mut house), [Call::Respond(1, response)]);
    }
    house.turn(|turn| turn.notice(Notice::Close(1)));
    assert_eq!(ups(&mut house), [Call::Respond(1, Response::Closed)], "never known is closed");
    house.call("console", Call::Announce(name("log"))).unwrap();
    for (id, response) in [(2, Response::Denied), (3, Response::Short(Shortage::Caps)), (4, Response::Gone)] {
        house.turn(|turn| turn.notice(Notice::Create(request(id, "log", quota(5, 5)))));
        let number = house.parent.sessions().next().unwrap().number;
        ups(&mut house);
        house.call("console", Call::Respond(number, response)).unwrap();
        assert_eq!(ups(&mut house), [Call::Respond(id, response)]);
    }
    house.turn(|turn| turn.notice(Notice::Upgrade(4, quota(9, 9))));
    assert_eq!(ups(&mut house), [], "it has been told that this is gone");
}

#[test]
fn an_upgrade_from_above_that_does_not_reach_the_server() {
    let mut house = exporting();
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.turn(|turn| turn.notice(Notice::Create(request(1, "log", quota(5, 5)))));
    house.obey("console");
    ups(&mut house);
    let rest = house.books.account(house.own).unwrap().free();
    house.books.spend(house.own, rest).unwrap();
    house.turn(|turn| turn.notice(Notice::Upgrade(1, quota(7, 7))));
    assert_eq!(ups(&mut house), [Call::Respond(1, Response::NotUpgraded)]);
    assert_eq!(house.hears("console"), []);
}

#[test]
fn a_server_that_did_not_get_an_upgrade_from_above_says_so() {
    let mut house = exporting();
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.turn(|turn| turn.notice(Notice::Create(request(1, "log", quota(5, 5)))));
    let number = house.obey("console");
    house.turn(|turn| turn.notice(Notice::Upgrade(1, quota(7, 7))));
    ups(&mut house);
    house.call("console", Call::Respond(number, Response::NotUpgraded)).unwrap();
    assert_eq!(ups(&mut house), [Call::Respond(1, Response::NotUpgraded)]);
    assert_eq!(house.limit("console"), quota(104, 104), "above takes it from this parent's account");
}

#[test]
fn a_server_that_did_not_get_an_upgrade_says_so() {
    let mut house = House::usual();
    let number = house.open(1, quota(5, 5));
    house.call("shell", Call::Upgrade { id: 1, more: quota(2, 2) }).unwrap();
    assert_eq!(house.limit("console"), quota(106, 106));
    house.call("console", Call::Respond(number, Response::NotUpgraded)).unwrap();
    assert_eq!(house.hears("shell"), [Notice::Session(1, News::NotUpgraded)]);
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(95, 95), quota(104, 104)));
}

#[test]
fn a_parent_answers_its_own() {
    let mut house = House::usual();
    house.turn(|turn| {
        turn.notice(Notice::Heartbeat);
        turn.notice(Notice::Yield(quota(1, 1)));
        turn.refused(Call::Alive, Refusal::Dead);
    });
    assert_eq!(ups(&mut house), [Call::Alive, Call::Yielded]);
}
