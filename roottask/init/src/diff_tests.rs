use super::*;
use proptest::prelude::*;

const MB: u64 = 1 << 20;

fn name(text: &str) -> Name {
    Name::new(text).expect(text)
}

fn label(text: &str) -> Label {
    Label::new(text).expect(text)
}

/// A system of components with 2M and 10 capabilities; each is its name and what more is to be said.
fn config(components: &[(&str, &str)]) -> Config {
    let one = |(name, more): &(&str, &str)| {
        let ram = if more.contains("ram =") { "" } else { "ram = \"2M\"\n" };
        let caps = if more.contains("caps =") { "" } else { "caps = 10\n" };
        format!("[[component]]\nname = \"{name}\"\nbinary = \"b\"\npriority = 1\n{ram}{caps}{more}\n")
    };
    let text: String = components.iter().map(one).collect();
    let config = Config::parse(&text).unwrap();
    assert!(config.all_defects().is_empty(), "{:?}", config.all_defects());
    config
}

/// What runs when it has been started.
fn running(config: &Config) -> Running {
    let mut running = Running { free: Quota { ram: 100 * MB, caps: 1000 }, ..Running::default() };
    carry_out(&mut running, config);
    running
}

fn carry_out(running: &mut Running, config: &Config) -> Vec<Action> {
    let actions = diff(config, running);
    actions.iter().for_each(|a| running.apply(a, config));
    actions
}

fn open(running: &mut Running, config: &Config, client: Client, service: &str, text: &str) {
    let (service, label) = (name(service), label(text));
    if let Some(server) = config.server(client, &service, &label) {
        let session = Open { client, service, label, server };
        running.sessions.retain(|s| *s != session);
        running.sessions.push(session);
    }
}

/// What a change asks for of a system in which `client` has a session of `log` with `a`, and `a` has announced it.
fn change(before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<Action> {
    let old = config(before);
    let mut running = running(&old);
    if let Some(child) = running.children.get_mut("a") {
        child.announced.push(name("log"));
    }
    open(&mut running, &old, Client::Child(name("client")), "log", "x");
    diff(&config(after), &running)
}

#[test]
fn each_change_has_its_action() {
    let server = ("a", "provides = [\"log\"]");
    let client = ("client", "routes = { log = \"a\" }");
    let base = [server, client];
    assert_eq!(change(&base, &base), []);
    assert_eq!(change(&base, &[client, server]), [], "the order is nothing");
    assert_eq!(change(&base, &[server, client, ("b", "")]), [Action::Start(name("b"))]);
    assert_eq!(change(&base, &[server]), [Action::Stop(name("client"))], "its session ends with it");
    let (log, a, me) = (name("log"), name("a"), name("client"));
    for more in [
        "version = \"2\"",
        "priority2",
        "cpus = [0]",
        "io_ports = [\"1\"]",
        "irqs = [1]",
        "io_mem = [\"0xb8000-0xb8fff\"]",
        "roms = [\"r\"]",
        "args = [\"-v\"]",
        "kmem = \"64K\"",
        "routes = { vm = \"parent\" }",
    ] {
        let (more, priority) = if more == "priority2" { ("", true) } else { (more, false) };
        let mut after = config(&[("a", &format!("provides = [\"log\"]\n{more}")), client]);
        if priority {
            after.entries[0].result.as_mut().unwrap().priority = 2;
        }
        let old = config(&base);
        assert_eq!(diff(&after, &running(&old)), [Action::Restart(a)], "{more}");
    }
    let with = |more: &str| change(&base, &[server, ("client", &format!("routes = {{ log = \"a\" }}\n{more}"))]);
    assert_eq!(with("config = { x = 1 }"), [Action::Configure(me)]);
    assert_eq!(with("heartbeat = {}"), [Action::Heartbeat(me)]);
    assert_eq!(with("exit = \"propagate\"\nrestart = 3\nprovides = [\"y\"]"), [], "asked for when it matters");
    assert_eq!(with("ram = \"3M\"\ncaps = 11"), [Action::Grow(me, Quota { ram: MB, caps: 1 })]);
    assert_eq!(with("ram = \"1M\"\ncaps = 9"), [Action::Shrink(me, Quota { ram: MB, caps: 1 })]);

    let session = Open { client: Client::Child(me), service: log, label: label("x"), server: Server::Child(a) };
    let gone = [Action::Withdraw(a, log)];
    assert_eq!(change(&base, &[("a", ""), client]), gone, "its sessions end with it");
    let elsewhere = ("client", "routes = { log = \"parent\" }");
    assert_eq!(change(&base, &[server, elsewhere]), [Action::Close(session.clone())]);
    assert_eq!(change(&base, &[server, ("client", "")]), [Action::Close(session)]);
    let same = ("client", "route = [{ service = \"log\", label = \"x\", to = \"any-child\" }]");
    assert_eq!(change(&base, &[server, same]), [], "another rule that leads to the same server");
}

#[test]
fn the_configuration_rom_is_a_session_like_others() {
    let old = config(&[("a", "config = { x = 1 }")]);
    let mut now = running(&old);
    open(&mut now, &old, Client::Child(name("a")), "rom", CONFIG_ROM);
    open(&mut now, &old, Client::Child(name("a")), "rom", "b");
    assert_eq!(now.sessions.iter().map(|s| s.server).collect::<Vec<_>>(), [Server::Init, Server::Parent]);
    assert_eq!(diff(&config(&[("a", "config = { x = 2 }")]), &now), [Action::Configure(name("a"))]);
    let close = Action::Close(now.sessions[0].clone());
    assert_eq!(diff(&config(&[("a", "")]), &now), [close, Action::Configure(name("a"))]);
}

#[test]
fn what_is_offered_to_the_parent_is_kept_up_to_date() {
    let text = |services: &str| {
        format!(
            "{services}\n[[component]]\nname = \"a\"\nbinary = \"b\"\nram = \"1M\"\npriority = 1\nprovides = \
             [\"x\", \"y\"]\n"
        )
    };
    let old = Config::parse(&text("service = [{ name = \"x\", to = \"a\" }]")).unwrap();
    let mut now = running(&old);
    assert_eq!(now.offered, [name("x")]);
    open(&mut now, &old, Client::Parent, "x", "far -> away");
    let x = now.sessions[0].clone();
    assert_eq!(x.server, Server::Child(name("a")));
    let narrowed = Config::parse(&text("service = [{ name = \"x\", label = \"y\", to = \"a\" }]")).unwrap();
    assert_eq!(diff(&narrowed, &now), [Action::Close(x)]);
    let other = Config::parse(&text("report = {}\nservice = [{ name = \"y\", to = \"a\" }]")).unwrap();
    assert_eq!(carry_out(&mut now, &other), [Action::Retract(name("x")), Action::Offer(name("y")), Action::Report]);
    assert_eq!((now.sessions.len(), now.offered), (0, vec![name("y")]));
}

#[test]
fn quota_in_use_is_asked_for_and_taken_when_it_is_free() {
    let (less, more) = (config(&[("a", "ram = \"1M\"")]), config(&[("a", "ram = \"4M\"")]));
    let mut now = running(&more);
    let used = |now: &mut Running, mb: u64| now.children.get_mut("a").unwrap().used.ram = mb * MB;
    used(&mut now, 3);
    let (a, ram) = (name("a"), |mb: u64| Quota { ram: mb * MB, caps: 0 });
    let wanted = Quota { ram: MB, caps: 10 };
    assert_eq!(carry_out(&mut now, &less), [Action::Shrink(a, ram(1)), Action::Yield(a, wanted)]);
    assert_eq!(diff(&less, &now), [], "it has been asked");
    used(&mut now, 2);
    assert_eq!(carry_out(&mut now, &less), [Action::Shrink(a, ram(1))]);
    let back = config(&[("a", "")]);
    assert_eq!(carry_out(&mut now.clone(), &back), [Action::Yield(a, Quota { ram: 2 * MB, caps: 10 })], "never mind");
    used(&mut now, 0);
    assert_eq!(carry_out(&mut now, &less), [Action::Shrink(a, ram(1))]);
    assert_eq!((now.children["a"].yielding, now.children["a"].quota), (None, wanted));
}

#[test]
fn what_cannot_be_paid_waits() {
    let big = config(&[("a", "ram = \"60M\""), ("b", "ram = \"60M\""), ("c", "ram = \"40M\"")]);
    let mut now = running(&big);
    assert_eq!(now.children.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(diff(&big, &now), []);
    let less = config(&[("a", "ram = \"30M\""), ("b", "ram = \"60M\""), ("c", "ram = \"50M\"")]);
    let want = [
        Action::Shrink(name("a"), Quota { ram: 30 * MB, caps: 0 }),
        Action::Grow(name("c"), Quota { ram: 10 * MB, caps: 0 }),
    ];
    assert_eq!(carry_out(&mut now, &less), want);
    let dear = config(&[("a", "ram = \"60M\"\nversion = \"2\""), ("c", "ram = \"50M\"")]);
    assert_eq!(carry_out(&mut now, &dear), [Action::Stop(name("a"))], "it is not started anew before it can be paid");
    let cheap = config(&[("a", "ram = \"50M\"\nversion = \"2\""), ("c", "ram = \"50M\"")]);
    assert_eq!(carry_out(&mut now, &cheap), [Action::Start(name("a"))]);
}

#[test]
fn what_init_keeps_for_itself_is_not_given_out() {
    let mut keeps = config(&[("a", "ram = \"60M\"")]);
    keeps.preserve = Quota { ram: 41 * MB, caps: 0 };
    assert!(running(&keeps).children.is_empty());
    keeps.preserve.ram -= MB;
    assert_eq!(running(&keeps).children.len(), 1);
}

#[test]
fn what_has_ended_stays_ended_until_it_is_described_otherwise() {
    let old = config(&[("a", "")]);
    let mut now = running(&old);
    let quota = now.children["a"].quota;
    let child = now.children.get_mut("a").unwrap();
    (child.ended, child.quota) = (true, Quota::default());
    now.free = now.free.plus(quota);
    for same in ["", "config = { x = 1 }", "ram = \"3M\""] {
        assert_eq!(diff(&config(&[("a", same)]), &now), [], "{same}");
    }
    assert_eq!(diff(&config(&[("a", "version = \"2\"")]), &now), [Action::Start(name("a"))]);
    assert_eq!(diff(&config(&[("b", "")]), &now), [Action::Stop(name("a")), Action::Start(name("b"))]);
}

#[test]
fn a_component_with_a_defect_stays_as_it_is() {
    let old = config(&[("a", "provides = [\"log\"]"), ("client", "routes = { log = \"a\" }")]);
    let mut now = running(&old);
    open(&mut now, &old, Client::Child(name("client")), "log", "");
    let broken = |more: &str| {
        let text = "[[component]]\nname = \"a\"\nbinary = \"b\"\npriority = 1\nram = \"2M\"\ncaps = 10\n";
        let client = text.replace("\"a\"", "\"client\"") + "routes = { log = \"a\" }\n";
        Config::parse(&format!("{text}{more}\n{client}")).unwrap()
    };
    assert_eq!(diff(&broken("irqs = [-1]"), &now), []);
    assert_eq!(diff(&broken("provides = [\"log\"]"), &now), []);
}

/// A component of a random system.
#[derive(Debug, Clone)]
struct Spec {
    version: u8,
    ram_mb: u64,
    caps: u32,
    config: Option<u8>,
    provides: [bool; 2],
    /// For each of the two services: nobody, the parent, any child, or one of the children.
    routes: [usize; 2],
    heartbeat: bool,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SERVICES: [&str; 2] = ["x", "y"];
const TARGETS: [&str; 7] = ["nobody", "parent", "any-child", "a", "b", "c", "d"];

fn spec() -> impl Strategy<Value = Spec> {
    let quota = (1u64..4, 1u32..4);
    let rest = (prop::option::of(0u8..2), any::<[bool; 2]>(), [0usize..7, 0usize..7], any::<bool>());
    (0u8..2, quota, rest).prop_map(|(version, (ram_mb, caps), (config, provides, routes, heartbeat))| Spec {
        version,
        ram_mb,
        caps,
        config,
        provides,
        routes,
        heartbeat,
    })
}

/// Systems with some of the four.
fn systems() -> impl Strategy<Value = Config> {
    let some = prop::array::uniform4(prop::option::of(spec()));
    some.prop_map(|specs| {
        let mut text = String::from("[[component]]\nname = \"last\"\nbinary = \"b\"\nram = \"1M\"\npriority = 1\n");
        for (name, s) in NAMES.iter().zip(&specs).filter_map(|(n, s)| Some((n, s.as_ref()?))) {
            let provides: Vec<_> = SERVICES.iter().zip(s.provides).filter(|(_, p)| *p).map(|(s, _)| *s).collect();
            let route = |i: usize| format!("{} = \"{}\"", SERVICES[i], TARGETS[s.routes[i]]);
            let config = s.config.map_or(String::new(), |c| format!("config = {{ n = {c} }}"));
            let heartbeat = if s.heartbeat { "heartbeat = {}" } else { "" };
            text += &format!(
                "[[component]]\nname = \"{name}\"\nbinary = \"b\"\npriority = 1\nversion = \"{}\"\nram = \
                 \"{}M\"\ncaps = {}\n\
                 provides = {provides:?}\nroutes = {{ {}, {} }}\n{config}\n{heartbeat}\n",
                s.version,
                s.ram_mb,
                s.caps,
                route(0),
                route(1)
            );
        }
        Config::parse(&text).unwrap()
    })
}

/// What may have happened since a system started: use in quarters, announcements, sessions, ends.
fn lives(old: &Config, free_mb: u64, used: &[u64; 4], asked: &[(usize, usize)], ended: Option<usize>) -> Running {
    let mut now = Running { free: Quota { ram: free_mb * MB, caps: 1000 }, ..Running::default() };
    carry_out(&mut now, old);
    for (name, quarters) in NAMES.iter().zip(used) {
        let provided: Vec<Name> =
            old.component(&Name::new(name).unwrap()).map_or(vec![], |c| c.provides.iter().map(|p| p.value).collect());
        if let Some(child) = now.children.get_mut(*name) {
            child.used = Quota { ram: child.quota.ram / 4 * quarters, caps: child.quota.caps / 4 * *quarters as u32 };
            child.announced = provided;
        }
    }
    for &(client, service) in asked {
        let server = |n: &Name| now.children.contains_key(n.as_str());
        let (client, asked) = (name(NAMES[client]), name(SERVICES[service]));
        match old.server(Client::Child(client), &asked, &label("l")) {
            Some(Server::Child(n)) if !server(&n) => (),
            _ if !server(&client) => (),
            _ => open(&mut now, old, Client::Child(client), SERVICES[service], "l"),
        }
    }
    if let Some(n) = ended.map(|i| name(NAMES[i])) {
        let before = now.children.get(n.as_str()).cloned();
        if let Some(child) = before {
            now.stop(&n);
            let (quota, used) = (Quota::default(), Quota::default());
            now.children
                .insert(n.to_string(), Child { ended: true, quota, used, yielding: None, announced: vec![], ..child });
        }
    }
    now
}

fn total(running: &Running) -> Quota {
    running.children.values().fold(running.free, |sum, c| sum.plus(c.quota))
}

/// All that a child is, but the sessions.
fn as_described(c: &Component, child: &Child) -> bool {
    child.born == Born::of(c)
        && child.config == c.config
        && child.heartbeat == c.heartbeat.map(|h| h.value)
        && child.announced.iter().all(|s| c.provides(s))
}

proptest! {
    #[test]
    fn what_runs_becomes_what_is_described(
        old in systems(),
        new in systems(),
        used in prop::array::uniform4(0u64..5),
        asked in prop::collection::vec((0usize..4, 0usize..2), 0..8),
        ended in prop::option::of(0usize..4),
        free_mb in 6u64..40,
    ) {
        let before = lives(&old, free_mb, &used, &asked, ended);
        let mut now = before.clone();
        let mut seen = 0;
        for action in diff(&new, &before) {
            now.apply(&action, &new);
            seen += 1;
            prop_assert_eq!(total(&now), total(&before), "{:?}", action);
            prop_assert!(now.children.values().all(|c| c.quota.covers(c.used)), "{:?}", action);
        }
        prop_assert!(seen < 40);
        prop_assert_eq!(diff(&new, &now), [], "once is enough");

        for (n, child) in now.children.iter().filter(|(_, c)| !c.ended) {
            let c = new.component(&name(n));
            prop_assert!(c.is_some_and(|c| as_described(c, child)), "{}", n);
            let wanted = c.map(quota_of).unwrap();
            let no_more_than_used = child.used.most(wanted).covers(child.quota);
            let asked = child.yielding == Some(wanted) && no_more_than_used;
            prop_assert!(wanted.covers(child.quota) || asked);
        }
        for s in &now.sessions {
            prop_assert_eq!(new.server(s.client, &s.service, &s.label), Some(s.server));
        }

        // When all that was asked for is given back, and there is enough, nothing of what is described is missing.
        now.children.values_mut().for_each(|c| c.used = Quota::default());
        carry_out(&mut now, &new);
        let sum = new.components().map(quota_of).fold(Quota::default(), Quota::plus);
        if total(&now).covers(sum) {
            for c in new.components() {
                let child = &now.children[c.name.as_str()];
                prop_assert!(child.ended || child.quota == quota_of(c), "{}", c.name);
            }
        }
    }

    #[test]
    fn nothing_that_did_not_change_is_touched(
        old in systems(),
        new in systems(),
        asked in prop::collection::vec((0usize..4, 0usize..2), 0..8),
    ) {
        let before = lives(&old, 100, &[4; 4], &asked, None);
        let mut now = before.clone();
        let actions = carry_out(&mut now, &new);
        for (n, child) in &before.children {
            let (was, is) = (old.component(&name(n)), new.component(&name(n)));
            if let (Some(was), Some(is)) = (was, is)
                && as_described(is, child)
                && quota_of(was) == quota_of(is)
            {
                prop_assert_eq!(&now.children[n], child);
            }
        }
        let born = |r: &Running, n: &Name| r.children.get(n.as_str()).map(|c| c.born.clone());
        for s in &before.sessions {
            let ends = |n: &Name| born(&now, n) != born(&before, n);
            let server = matches!(s.server, Server::Child(n) if ends(&n));
            let partner = server || matches!(s.client, Client::Child(n) if ends(&n));
            let leads = new.server(s.client, &s.service, &s.label) == Some(s.server);
            let kept = now.sessions.iter().filter(|o| *o == s).count();
            prop_assert_eq!(kept, usize::from(!partner && leads));
        }
        if old == new {
            prop_assert_eq!(actions, []);
        }
    }
}
