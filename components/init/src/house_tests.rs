use super::*;
use init::Show;
use session::{Books, Call, Label, Life, News, Notice, Party, Request, Response};

const SECOND: Time = 1_000_000_000;

/// An init over books of its own, whose effects are kept.
struct Town {
    house: House,
    books: Books,
    now: Time,
    effects: Vec<Effect>,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn component(name: &str, tail: &str) -> String {
    format!("[[component]]\nname = \"{name}\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n{tail}\n")
}

impl Town {
    fn new(text: &str) -> Town {
        let (books, account) = Books::new(session::Quota::new(64 << 20, 10_000).unwrap());
        let mut town = Town { house: House::new(account), books, now: 0, effects: Vec::new() };
        town.configure(text);
        town
    }

    fn configure(&mut self, text: &str) {
        let config = Config::of_init(text).unwrap();
        assert!(config.all_defects().is_empty(), "{:?}", config.all_defects());
        self.effects = self.house.configure(config, self.now, &mut self.books);
    }

    fn child(&self, text: &str) -> &session::Child {
        self.house.parent().child(&name(text)).unwrap().1
    }

    fn life(&self, text: &str) -> Life {
        let (child, c) = self.house.parent().child(&name(text)).unwrap();
        Life { child, number: c.life }
    }

    fn turn<R>(&mut self, f: impl FnOnce(&mut Turn<'_, Books>) -> R) -> R {
        let (result, effects) = self.house.turn(self.now, &mut self.books, f);
        self.effects = effects;
        result
    }

    fn call(&mut self, from: &str, call: Call) -> Option<Notice> {
        let life = self.life(from);
        self.turn(|turn| turn.call(life, call)).unwrap()
    }

    /// Who is started and stopped, in this order.
    fn moves(&self) -> Vec<(bool, usize)> {
        let of = |effect: &Effect| match effect {
            Effect::Start(life, _) => Some((true, life.child)),
            Effect::Stop(life, _) => Some((false, life.child)),
            _ => None,
        };
        self.effects.iter().filter_map(of).collect()
    }

    fn open(&mut self, client: &str, id: u64, service: &str) {
        let request: Request = services::parent::Request {
            id,
            service: rpc::Text::new(service).unwrap(),
            label: rpc::Text::default(),
            built: <dyn services::Timer as rpc::Interface>::TABLE.built,
            args: rpc::Bytes::default(),
            donation: services::parent::Amount { ram: 4096, caps: 1 },
        }
        .try_into()
        .unwrap();
        self.call(client, Call::Request(request));
    }

    /// A server does what it is told to.
    fn serve(&mut self, server: &str) {
        while let Some(notice) = self.call(server, Call::Next) {
            match notice {
                Notice::Create(r) => self.call(server, Call::Respond(r.id, Response::Ready(session::Cap(r.id)))),
                Notice::Close(id) => self.call(server, Call::Respond(id, Response::Closed)),
                other => panic!("{other:?}"),
            };
        }
    }
}

/// Two servers and a client of the first one.
fn usual() -> String {
    let serves = "provides = [\"gpu\"]";
    component("one", serves) + &component("two", serves) + &component("client", "routes = { gpu = \"one\" }")
}

fn with_session() -> Town {
    let mut town = Town::new(&usual());
    for server in ["one", "two"] {
        town.call(server, Call::Announce(name("gpu")));
    }
    town.open("client", 1, "gpu");
    town.serve("one");
    assert!(matches!(town.call("client", Call::Next), Some(Notice::Session(1, News::Ready(_)))));
    town
}

#[test]
fn what_is_described_is_started_and_what_did_not_change_is_left_alone() {
    let mut town = Town::new(&usual());
    assert_eq!(town.moves().len(), 3);
    town.configure(&usual());
    assert_eq!(town.effects, []);
    town.configure(&(usual() + &component("three", "")));
    assert_eq!(town.moves(), [(true, town.life("three").child)]);
    let gone = town.life("three").child;
    town.configure(&usual());
    assert_eq!(town.moves(), [(false, gone)]);
}

#[test]
fn who_is_to_be_another_is_started_anew_alone() {
    let system = |tail: &str| component("one", "") + &component("two", tail);
    let mut town = Town::new(&system(""));
    let (before, one) = (town.life("two"), town.life("one"));
    for tail in ["version = \"2\"", "config = { a = 1 }", "config = { a = 2 }", "args = [\"x\"]", "roms = [\"y\"]"] {
        town.configure(&system(tail));
        assert_eq!(town.moves(), [(false, before.child), (true, before.child)], "{tail}");
        assert_eq!(town.life("one"), one);
    }
}

#[test]
fn quota_moves_and_nobody_is_started_anew() {
    let mut town = Town::new(&usual());
    let limit = |town: &Town| town.books.account(town.child("one").account.unwrap()).unwrap().limit.ram();
    town.configure(&usual().replacen("1M", "3M", 1));
    assert_eq!((town.moves(), limit(&town)), (vec![], 3 << 20));
    town.configure(&usual());
    assert_eq!((town.moves(), limit(&town)), (vec![], 1 << 20));
}

#[test]
fn an_open_session_that_leads_elsewhere_is_gone_and_can_be_had_anew() {
    let mut town = with_session();
    town.configure(&usual().replace("gpu = \"one\"", "gpu = \"two\""));
    assert_eq!(town.moves(), []);
    town.serve("one");
    assert_eq!(town.call("client", Call::Next), Some(Notice::Session(1, News::Ended(session::End::Gone))));
    town.open("client", 1, "gpu");
    town.serve("two");
    let two = town.life("two").child;
    assert!(town.house.parent().sessions().all(|s| s.server == Some(Party::Child(two))));
}

#[test]
fn a_crash_is_the_childs_alone_and_what_is_down_stays_down() {
    let mut town = Town::new(&(usual() + &component("weak", "restart = 1")));
    let weak = town.life("weak");
    town.turn(|turn| turn.died(weak, Cause::Fault));
    assert_eq!(town.moves(), [(false, weak.child), (true, weak.child)]);
    let weak = town.life("weak");
    town.turn(|turn| turn.died(weak, Cause::Fault));
    assert_eq!(town.moves(), [(false, weak.child)]);
    let (now, Town { house, books, .. }) = (town.now + SECOND, &mut town);
    assert_eq!(house.follow(now, books), [], "it was said what is to become of it");
    // What it is started with changes: once more.
    town.configure(&(usual() + &component("weak", "restart = 1\nversion = \"2\"")));
    assert_eq!(town.moves().len(), 1);
    assert!(town.child("weak").runs());
}

#[test]
fn requests_of_children_go_up_as_far_as_the_parent_offers_that() {
    let asks = component("a", "routes = { timer = \"parent\" }");
    let mut town = Town::new(&asks);
    town.open("a", 1, "timer");
    let [Effect::Up(Call::Request(request))] = &town.effects[..] else { panic!("{:?}", town.effects) };
    assert_eq!(request.label, Label::new("a").unwrap());
    let id = request.id;
    town.turn(|turn| turn.notice(Notice::Session(id, News::Ready(session::Cap(7)))));
    assert_eq!(town.call("a", Call::Next), Some(Notice::Session(1, News::Ready(session::Cap(7)))));

    let mut town = Town::new(&format!("parent_provides = [\"log\"]\n{asks}"));
    let request: Request = services::parent::Request {
        id: 1,
        service: rpc::Text::new("timer").unwrap(),
        label: rpc::Text::default(),
        built: <dyn services::Timer as rpc::Interface>::TABLE.built,
        args: rpc::Bytes::default(),
        donation: services::parent::Amount { ram: 0, caps: 0 },
    }
    .try_into()
    .unwrap();
    let life = town.life("a");
    assert!(town.turn(|turn| turn.call(life, Call::Request(request))).is_err());
}

#[test]
fn a_service_is_offered_and_served_by_a_child() {
    let offer = "[[service]]\nname = \"gpu\"\nto = \"one\"\n";
    let mut town = Town::new(&format!("{offer}{}", usual()));
    town.call("one", Call::Announce(name("gpu")));
    assert_eq!(town.effects, [Effect::Up(Call::Announce(name("gpu")))]);
    // Also what is offered later.
    let mut town = Town::new(&usual());
    town.call("two", Call::Announce(name("gpu")));
    assert_eq!(town.effects, []);
    town.configure(&format!("{}{}", offer.replace("one", "two"), usual()));
    assert_eq!(town.effects, [Effect::Up(Call::Announce(name("gpu")))]);
}

#[test]
fn the_end_of_a_child_can_be_that_of_init() {
    let mut town = Town::new(&(component("a", "") + &component("b", "exit = \"propagate\"")));
    town.call("a", Call::Exit(3));
    assert_eq!(town.house.leaves(), None);
    town.call("b", Call::Exit(4));
    assert_eq!(town.house.leaves(), Some(4));
}

#[test]
fn core_is_told_what_a_child_is() {
    let town = Town::new(
        &(component("a", "") + &component("b", "provides = [\"rom\"]\nroute = [{ service = \"rom\", to = \"a\" }]")),
    );
    let text = town.house.describe(town.life("a").child).unwrap();
    assert_eq!(Config::of_child(&text, "i").unwrap().components().count(), 1);
    let why = town.house.describe(town.life("b").child).unwrap_err();
    assert!(why.contains("no route leads `m` to the parent"), "{why}");
    assert!(town.house.describe(99).is_err());
}

#[test]
fn what_cannot_be_paid_waits_until_it_can() {
    let large = |ram: &str| component("large", "").replace("1M", ram);
    let mut town = Town::new(&(usual() + &large("62M")));
    assert_eq!(town.moves().len(), 3, "{:?}", town.effects);
    let said = |effect: &Effect| matches!(effect, Effect::Log(who, text) if *who == name("large") && text.contains("63488 KiB"));
    assert!(town.effects.iter().any(said), "{:?}", town.effects);
    let (now, Town { house, books, .. }) = (SECOND, &mut town);
    assert_eq!(house.follow(now, books), []);
    town.configure(&large("62M"));
    assert!(town.child("large").runs());
}

#[test]
fn the_report_says_what_it_is_asked_for() {
    let plain = format!("report = {{}}\n{}", usual());
    let mut town = Town::new(&plain);
    let report = |town: &Town| -> toml::Table { toml::from_str(&town.house.report(&town.books).unwrap()).unwrap() };
    let children = |t: &toml::Table| t["child"].as_array().unwrap().clone();
    let first = &children(&report(&town))[0];
    assert_eq!(first.as_table().unwrap().len(), 2, "{first}");
    assert_eq!((first["name"].as_str(), first["state"].as_str()), (Some("one"), Some("running")));
    town.call("two", Call::Exit(3));
    assert_eq!(children(&report(&town))[1]["exit_code"].as_integer(), Some(3));

    let mut town = with_session();
    assert_eq!(town.house.report(&town.books), None);
    let all = Show::WORDS.map(|(word, _)| format!("\"{word}\"")).join(", ");
    town.configure(&format!("report = {{ show = [{all}] }}\n{}", usual()));
    let all = report(&town);
    assert!(all["ram"]["limit"].as_integer().unwrap() < 64 << 20 && all["caps"]["peak"].is_integer());
    let client = &children(&all)[2];
    let session = &client["session"][0];
    assert_eq!((session["service"].as_str(), session["server"].as_str()), (Some("gpu"), Some("one")));
    assert_eq!((session["label"].as_str(), session["state"].as_str()), (Some("client"), Some("open")));
    assert_eq!(session["ram"].as_integer(), Some(4096));
    assert!(session["arguments"].as_str().unwrap().len() == 32 && session["id"].is_integer());
    assert_eq!(children(&all)[0]["provided"][0].as_str(), Some("gpu"));
    assert_eq!(client["ram"]["granted"].as_integer(), Some(1 << 20));
}
