//! Sessions between two children, and with the parent's own services.

use crate::house::*;
use session::*;

#[test]
fn a_session_from_request_to_close() {
    let mut house = House::usual();
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.request("shell", 7, "log", quota(5, 4)).unwrap();
    let heard = house.hears("console");
    let [Notice::Create(there)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((there.label.as_str(), there.donation), ("shell -> x", quota(4, 3)), "less what the parent keeps");
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(95, 96), quota(104, 103)));
    assert_eq!(house.hears("shell"), [], "nothing yet");
    let number = there.id;
    house.call("console", Call::Respond(number, Response::Ready(Cap(3)))).unwrap();
    assert_eq!(house.phase(number), Some(Phase::Available));
    assert_eq!(house.hears("shell"), [Notice::Session(7, News::Ready(Cap(3)))]);
    assert_eq!(house.phase(number), Some(Phase::HandedOut));

    house.call("shell", Call::Upgrade { id: 7, more: quota(2, 0) }).unwrap();
    assert_eq!(house.call("shell", Call::Upgrade { id: 7, more: quota(1, 1) }), Err(Refusal::Phase), "one at a time");
    assert_eq!(house.hears("console"), [Notice::Upgrade(number, quota(6, 3))], "all told");
    house.call("console", Call::Respond(number, Response::Upgraded)).unwrap();
    assert_eq!(house.hears("shell"), [Notice::Session(7, News::Upgraded)]);

    house.call("shell", Call::Close(7)).unwrap();
    assert_eq!(house.obey("console"), number);
    assert_eq!(house.hears("shell"), ended(7, End::Closed));
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(100, 100), quota(100, 100)));
    assert_eq!(house.parent.sessions().count(), 0);
    let measure = house.parent.measures()[&name("log")];
    assert_eq!((measure.sessions, measure.enough, measure.upgrades), (1, quota(7, 4), 1));
    let line = "shell: refused: it does with a session what cannot be done now (complaint 1 of this life)";
    assert_eq!(house.log, [line], "the upgrade during another");
}

#[test]
fn a_request_waits_for_who_may_still_announce() {
    let mut house = House::usual();
    house.request("shell", 1, "log", quota(2, 2)).unwrap();
    assert_eq!(house.limit("shell"), quota(98, 98));
    let console = house.life("console").child;
    house.turn(|turn| turn.restart(console));
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.obey("console");
    assert_eq!(house.hears("shell").len(), 1);

    house.request("shell", 2, "log", quota(2, 2)).unwrap();
    let number = house.parent.sessions().last().unwrap().number;
    assert_eq!(house.phase(number), Some(Phase::CreateRequested));
    let console = house.life("console");
    house.turn(|turn| turn.died(console, Cause::Fault));
    assert_eq!(house.phase(number), Some(Phase::Waiting), "its next life will create it");
    assert_eq!(house.hears("shell"), ended(1, End::Gone));
    house.turn(|turn| turn.remove(console.child));
    assert_eq!(house.hears("shell"), ended(2, End::Denied), "nobody is left who could");
    assert_eq!(house.limit("shell"), quota(100, 100));
    assert_eq!(house.request("shell", 3, "log", quota(2, 2)), Err(Refusal::Denied));
}

#[test]
fn who_no_route_leads_to_is_not_asked() {
    let mut house = House::usual();
    assert_eq!(house.request("shell", 1, "gpu", quota(2, 2)), Err(Refusal::Denied), "no rule");
    assert_eq!(house.request("console", 1, "log", quota(2, 2)), Err(Refusal::Denied));
    let mut rules = house.child("shell").spec.routes.clone();
    rules.0.insert(0, Rule::to(name("net"), Target::Deny));
    rules.0.push(Rule::to(name("disk"), Target::Own));
    rules.0.push(Rule::to(name("usb"), Target::Child(name("shell"))));
    rules.0.push(Rule::to(name("sound"), Target::AnyChild));
    let shell = house.life("shell").child;
    house.turn(|turn| turn.reroute(shell, rules));
    for service in ["net", "disk", "usb", "sound"] {
        assert_eq!(house.request("shell", 1, service, quota(2, 2)), Err(Refusal::Denied), "{service}");
    }
    assert!(house.said("shell: refused: there is no route (complaint 4 of this life)"));
    assert_eq!(house.log.len(), 4, "the first, second and fourth, and that of console: {:?}", house.log);
}

#[test]
fn any_child_is_the_first_that_provides_it_and_is_not_the_client() {
    let mut house = House::new(|_| {});
    for child in ["a", "b", "c"] {
        house.add(spec(child, &["log"], &[("log", Target::AnyChild)]));
    }
    house.call("c", Call::Announce(name("log"))).unwrap();
    house.call("b", Call::Announce(name("log"))).unwrap();
    house.request("a", 1, "log", quota(1, 1)).unwrap();
    assert_eq!(house.hears("b").len(), 1);
    house.request("b", 1, "log", quota(1, 1)).unwrap();
    assert_eq!((house.hears("a").len(), house.hears("c").len()), (0, 0), "it waits for a, which comes first");
    house.call("a", Call::Announce(name("log"))).unwrap();
    house.call("a", Call::Announce(name("log"))).unwrap();
    assert_eq!(house.hears("a").len(), 1, "asked once");
}

#[test]
fn donations_are_all_or_nothing() {
    let mut house = House::usual();
    house.call("console", Call::Announce(name("log"))).unwrap();
    assert_eq!(house.request("shell", 1, "log", quota(101, 1)), Err(Refusal::Short(Shortage::Ram)));
    assert_eq!(house.request("shell", 1, "log", quota(1, 101)), Err(Refusal::Short(Shortage::Caps)));
    assert_eq!(house.request("shell", 1, "log", quota(0, 9)), Err(Refusal::Short(Shortage::Ram)), "the parent's part");
    assert_eq!(house.limit("shell"), quota(100, 100));
    assert_eq!(house.hears("console"), []);
    house.open(1, quota(2, 2));
    assert_eq!(house.request("shell", 2, "log", Quota::NONE), Err(Refusal::Short(Shortage::Ram)));
    assert_eq!(house.call("shell", Call::Upgrade { id: 1, more: quota(99, 0) }), Err(Refusal::Short(Shortage::Ram)));
    let most = Quota::new(u64::MAX - 4095, u64::MAX).unwrap();
    assert_eq!(house.call("shell", Call::Upgrade { id: 1, more: most }), Err(Refusal::Short(Shortage::Ram)));
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(98, 98), quota(101, 101)));
    assert_eq!(house.parent.measures()[&name("log")].short, 1, "once the service was known");
}

#[test]
fn a_server_that_wants_more_is_paid_back_to_its_client() {
    let mut house = House::usual();
    house.open(1, quota(2, 2));
    for (id, response, end) in [
        (2, Response::Denied, End::Denied),
        (3, Response::Short(Shortage::Caps), End::Short(Shortage::Caps)),
        (4, Response::Incompatible(0x2_0001), End::Incompatible(0x2_0001)),
        (4, Response::Gone, End::Gone),
    ] {
        house.request("shell", id, "log", quota(5, 5)).unwrap();
        let number = house.parent.sessions().last().unwrap().number;
        house.call("console", Call::Respond(number, response)).unwrap();
        assert_eq!(house.hears("console"), [], "it has answered before it was asked");
        assert_eq!(house.hears("shell"), ended(id, end));
        assert_eq!(house.limit("shell"), quota(98, 98));
    }
    assert_eq!(house.parent.measures()[&name("log")].short, 1);
}

#[test]
fn liars_change_nothing() {
    let mut house = House::usual();
    house.add(spec("liar", &["block"], &[("log", Target::Child(name("console")))]));
    let number = house.open(1, quota(2, 2));
    for (call, refusal) in [
        (Call::Announce(name("log")), Refusal::NotProvided),
        (Call::Respond(number, Response::Closed), Refusal::Unknown),
        (Call::Respond(number, Response::Ready(Cap(9))), Refusal::Unknown),
        (Call::Respond(99, Response::Closed), Refusal::Unknown),
        (Call::Close(1), Refusal::Unknown),
        (Call::Upgrade { id: 1, more: quota(1, 1) }, Refusal::Unknown),
    ] {
        assert_eq!(house.call("liar", call.clone()), Err(refusal), "{call:?}");
    }
    for response in [Response::Ready(Cap(9)), Response::Denied, Response::Upgraded, Response::Closed] {
        assert_eq!(house.call("console", Call::Respond(number, response)), Err(Refusal::Phase), "{response:?}");
    }
    assert_eq!(house.request("shell", 1, "log", quota(1, 1)), Err(Refusal::Twice));
    house.call("shell", Call::Close(1)).unwrap();
    assert_eq!(house.call("shell", Call::Close(1)), Err(Refusal::Phase), "twice");
    house.obey("console");
    assert_eq!(house.call("shell", Call::Close(1)), Ok(None), "it may not know yet");
    assert_eq!(house.request("shell", 1, "log", quota(1, 1)), Err(Refusal::Twice), "before it has fetched the end");
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
    assert_eq!(house.request("shell", 1, "log", quota(1, 1)), Ok(()));
    assert!(house.said("liar: refused: it announces a service that it is not to provide"));
}

#[test]
fn who_asks_without_end_is_contained() {
    let mut house = House::usual();
    house.request("shell", 1, "log", quota(1, 1)).unwrap();
    house.request("shell", 2, "log", quota(1, 1)).unwrap();
    for id in 3..1000 {
        assert_eq!(house.request("shell", id, "log", quota(1, 1)), Err(Refusal::TooMany));
    }
    assert_eq!(house.parent.sessions().count(), 2);
    assert!(house.log.len() <= 10, "{} lines for a thousand requests", house.log.len());
    house.call("console", Call::Announce(name("log"))).unwrap();
    while house.parent.sessions().any(|s| s.phase == Phase::CreateRequested) {
        let number = house.parent.sessions().find(|s| s.phase == Phase::CreateRequested).unwrap().number;
        house.call("console", Call::Respond(number, Response::Denied)).unwrap();
    }
    house.request("shell", 3, "log", quota(1, 1)).unwrap();
    house.request("shell", 4, "log", quota(1, 1)).unwrap();
    assert_eq!(
        house.request("shell", 5, "log", quota(1, 1)),
        Err(Refusal::TooMany),
        "ends that it has not fetched count"
    );
    assert_eq!(house.hears("shell").len(), 2);
    assert_eq!(house.request("shell", 5, "log", quota(1, 1)), Err(Refusal::TooMany), "two are pending");
}

#[test]
fn a_server_that_does_not_close_is_not_waited_for() {
    let mut house = House::usual();
    let number = house.open(1, quota(9, 9));
    house.call("shell", Call::Close(1)).unwrap();
    house.tick(99 * MS);
    assert_eq!(house.phase(number), Some(Phase::CloseRequested));
    assert_eq!(house.hears("shell"), []);
    house.tick(MS);
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(100, 100), quota(100, 100)));
    assert!(house.said("console: does not close `shell -> x`; it is closed without it"));
    assert_eq!(house.call("console", Call::Respond(number, Response::Closed)), Err(Refusal::Unknown), "late");
}

#[test]
fn what_a_server_keeps_is_cut_from_its_own_account() {
    let mut house = House::usual();
    let number = house.open(1, quota(9, 9));
    house.spend("console", quota(8, 8));
    house.call("shell", Call::Close(1)).unwrap();
    house.obey("console");
    assert_eq!(house.hears("shell"), ended(1, End::Closed), "it has enough of its own");
    assert_eq!((house.limit("shell"), house.limit("console")), (quota(100, 100), quota(100, 100)));

    let number = { house.open(2, quota(9, 9)).max(number) };
    house.spend("console", quota(97, 90));
    house.call("shell", Call::Close(2)).unwrap();
    house.obey("console");
    assert_eq!(house.phase(number), Some(Phase::Settling(End::Closed)));
    assert_eq!(house.limit("console"), quota(105, 100), "all that was free is taken");
    assert!(
        house.said("console: keeps 20 KiB, 0 capabilities of what was donated for `shell -> x`"),
        "{:?}",
        house.log
    );
    assert_eq!(house.hears("shell"), []);
    house.release("console", quota(5, 0));
    house.tick(MS);
    assert_eq!(house.hears("shell"), ended(2, End::Closed));
    assert_eq!(house.limit("shell"), quota(100, 100));
}

#[test]
fn a_server_that_keeps_a_donation_for_good_is_stopped() {
    let mut house = House::usual();
    house.open(1, quota(9, 9));
    house.open(2, quota(9, 9));
    house.spend("console", quota(116, 116));
    for id in [1, 2] {
        house.call("shell", Call::Close(id)).unwrap();
        house.obey("console");
    }
    house.tick(99 * MS);
    assert!(house.child("console").runs());
    house.tick(MS);
    assert!(!house.child("console").runs());
    assert!(house.said("console: stopped, as it kept what others had donated, is started again in 10 ms"));
    assert_eq!(house.hears("shell").len(), 2);
    assert_eq!(house.limit("shell"), quota(100, 100));
}

#[test]
fn that_it_is_ready_is_not_said_any_more_when_it_is_gone() {
    let mut house = House::usual();
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.request("shell", 1, "log", quota(9, 9)).unwrap();
    let number = house.obey("console");
    house.spend("console", quota(108, 108));
    house.call("console", Call::Respond(number, Response::Gone)).unwrap();
    assert_eq!(house.phase(number), Some(Phase::Settling(End::Gone)));
    assert_eq!(house.hears("shell"), []);
    house.release("console", quota(8, 8));
    house.tick(MS);
    assert_eq!(house.hears("shell"), ended(1, End::Gone));
}

#[test]
fn what_waits_for_a_server_is_not_given_to_others() {
    let mut house = House::usual();
    house.request("shell", 1, "log", quota(50, 50)).unwrap();
    let mut large = spec("large", &[], &[]);
    large.quota = quota(801, 801);
    let large = house.add(large);
    assert!(!house.child("large").runs(), "850 are there, of which 50 are the session's");

    house.call("console", Call::Announce(name("log"))).unwrap();
    let console = house.life("console");
    house.turn(|turn| {
        turn.set_quota(large, quota(901, 901));
        turn.died(console, Cause::Fault);
    });
    assert!(!house.child("large").runs(), "the same when its server has died: 950, and 50");
    house.turn(|turn| turn.set_quota(large, quota(900, 900)));
    assert!(house.child("large").runs());
}

#[test]
fn the_parent_serves_itself_what_is_its_own() {
    let mut house = House::usual();
    house.request("shell", 1, "rom", quota(3, 3)).unwrap();
    let [Effect::Serve(Notice::Create(there))] = &house.done[..] else { panic!("{:?}", house.done) };
    let number = there.id;
    assert_eq!((there.label.as_str(), there.donation), ("shell -> x", quota(2, 2)));
    assert_eq!(house.books.account(house.own).unwrap().limit, quota(803, 803));
    house.turn(|turn| turn.served(number, Response::Ready(Cap(1)))).unwrap();
    house.hears("shell");
    house.call("shell", Call::Upgrade { id: 1, more: quota(1, 1) }).unwrap();
    house.turn(|turn| turn.served(number, Response::Upgraded)).unwrap();
    house.hears("shell");
    house.call("shell", Call::Close(1)).unwrap();
    assert_eq!(
        house.done[1..],
        [Effect::Serve(Notice::Upgrade(number, quota(3, 3))), Effect::Serve(Notice::Close(number))]
    );
    house.turn(|turn| turn.served(number, Response::Closed)).unwrap();
    assert_eq!(house.hears("shell"), ended(1, End::Closed));
    assert_eq!(house.limit("shell"), quota(100, 100));
    assert_eq!(house.turn(|turn| turn.served(number, Response::Closed)), Err(Refusal::Unknown));
}

#[test]
fn the_parent_itself_has_a_session_of_who_provides_it() {
    let mut house = House::usual();
    let ask = |house: &mut House, id, donation| house.turn(|turn| turn.open(request(id, "log", donation)));
    assert_eq!(ask(&mut house, 1, quota(900, 0)), Err(Refusal::Short(Shortage::Ram)), "most of it is its children's");
    ask(&mut house, 1, quota(5, 4)).unwrap();
    assert_eq!(ask(&mut house, 1, quota(5, 4)), Err(Refusal::Twice));
    house.call("console", Call::Announce(name("log"))).unwrap();
    let heard = house.hears("console");
    let [Notice::Create(there)] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((there.label.as_str(), there.donation), ("x", quota(5, 4)), "as it is");
    let number = there.id;
    assert_eq!(house.limit("console"), quota(105, 104));
    house.call("console", Call::Respond(number, Response::Ready(Cap(3)))).unwrap();
    assert_eq!(house.done, [Effect::News(1, News::Ready(Cap(3)))]);

    let console = house.life("console");
    house.turn(|turn| turn.died(console, Cause::Fault));
    assert_eq!(house.done[1..], [Effect::Stop(console, Cause::Fault), Effect::News(1, News::Ended(End::Gone))]);
    ask(&mut house, 2, quota(5, 4)).unwrap();
    house.tick(10 * MS);
    house.call("console", Call::Announce(name("log"))).unwrap();
    house.obey("console");
    house.done.clear();
    house.turn(|turn| turn.shut(2)).unwrap();
    assert_eq!(house.done, [], "the server is asked first");
    house.obey("console");
    assert_eq!(house.done, [Effect::News(2, News::Ended(End::Closed))]);
    assert_eq!(house.limit("console"), quota(100, 100));
    assert_eq!(house.parent.sessions().count(), 0);
    let nobody = Request { service: name("gpu"), ..request(3, "log", quota(1, 1)) };
    assert_eq!(house.turn(|turn| turn.open(nobody)), Err(Refusal::Denied));
}
