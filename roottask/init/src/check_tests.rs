use super::*;
use crate::reach::{CORE, CORE_SERVICES};
use proptest::prelude::*;
use session::{ARROW, Label, Target};

/// A system of components with 1M of RAM; each is its name and what more is to be said.
fn system(components: &[(&str, &str)]) -> String {
    let one = |(name, more): &(&str, &str)| {
        format!("[[component]]\nname = \"{name}\"\nbinary = \"{name}.elf\"\nram = \"1M\"\npriority = 1\n{more}\n")
    };
    components.iter().map(one).collect()
}

/// The same as the configuration of an init of that name.
fn inside(name: &str, head: &str, components: &[(&str, &str)], more: &str) -> String {
    let inner = system(components).replace("[[component", "[[component.config.component");
    format!(
        "[[component]]\nname = \"{name}\"\nbinary = \"init\"\nram = \"8M\"\nkmem = \"8M\"\npriority = 1\n{more}\n\
         [component.config]\n{head}\n{inner}"
    )
}

fn world() -> World {
    World { services: vec![Name::new("timer").unwrap(), Name::new("rom").unwrap()], ..World::default() }
}

fn verdict(text: &str) -> Verdict {
    check(&Config::parse(text).unwrap(), &world())
}

fn texts(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|f| f.text.as_str()).collect()
}

/// Client, service, labels, server.
fn reach(v: &Verdict) -> Vec<String> {
    v.reach.iter().map(|r| format!("{} {} \"{}\" {}", r.client, r.service, r.label, r.server)).collect()
}

#[test]
fn the_shipped_systems_can_work() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/systems");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "toml") {
            let offered =
                World { services: CORE_SERVICES.iter().filter_map(|s| Name::new(s)).collect(), ..World::default() };
            let v = check(&Config::parse(&std::fs::read_to_string(&file).unwrap()).unwrap(), &offered);
            assert!(v.errors.is_empty(), "{file:?}: {:?}", v.errors);
            seen += 1;
        }
    }
    assert!(seen > 0, "no system file in {dir}");
}

#[test]
fn who_can_reach_whom_is_told_and_the_log_makes_no_circle() {
    let v = verdict(&system(&[
        ("uart", "provides = [\"terminal\"]\nroutes = { log = \"console\" }"),
        ("console", "provides = [\"log\", \"terminal\"]\nroutes = { terminal = \"uart\" }"),
        ("vm", "routes = { log = \"console\", terminal = \"console\", timer = \"parent\" }"),
    ]));
    assert_eq!((texts(&v.errors), texts(&v.warnings)), (vec![], vec![]));
    let want = [
        "uart log \"uart -> *\" console",
        "console terminal \"console -> *\" uart",
        "vm log \"vm -> *\" console",
        "vm terminal \"vm -> *\" console",
        "vm timer \"vm -> *\" core",
    ];
    assert_eq!(reach(&v), want);
}

#[test]
fn routes_lead_through_inits_to_any_depth() {
    let leaf = [(
        "shell",
        "routes = { log = \"parent\", nic = \"parent\" }\nroute = [{ service = \"terminal\", label = \"x\", to = \
         \"parent\" }]",
    )];
    let inner = inside(
        "inner",
        "",
        &leaf,
        "route = [{ service = \"terminal\", label = \"shell -> x\", to = \"tty\" }]\nroutes = { log = \"parent\", \
         nic = \"parent\" }",
    );
    let tty = system(&[("tty", "provides = [\"terminal\"]")]);
    let outer = format!("{}{}", inner, tty)
        .replace("[[component", "[[component.config.component")
        .replace("[component.config]", "[component.config.component.config]");
    let text = format!(
        "{}[[component]]\nname = \"outer\"\nbinary = \"init\"\nram = \"64M\"\nkmem = \"64M\"\npriority = 1\n\
         route = [{{ service = \"log\", label_prefix = \"inner -> \", to = \"console\", relabel = \"all\" }}]\n\
         routes = {{ nic = \"net\" }}\n{outer}{}",
        system(&[("console", "provides = [\"log\"]")]),
        inside(
            "net",
            "parent_provides = []\nservice = [{ name = \"nic\", label_last = \"raw\", to = \"driver\" }, { name = \
             \"nic\", to = \"router\", relabel = \"r\" }]",
            &[("driver", "provides = [\"nic\"]"), ("router", "provides = [\"nic\"]\nroutes = { nic = \"driver\" }")],
            "provides = [\"nic\"]",
        ),
    );
    let v = verdict(&text);
    assert_eq!((texts(&v.errors), texts(&v.warnings)), (vec![], vec![]), "{text}");
    let found = reach(&v);
    for want in [
        "outer -> inner -> shell terminal \"inner -> shell -> x\" outer -> tty",
        "outer -> inner -> shell log \"outer -> all\" console",
        "outer -> inner -> shell nic \"outer -> inner -> shell -> *\" net -> driver",
        "outer -> inner -> shell nic \"r\" net -> router",
        "net -> router nic \"router -> *\" net -> driver",
    ] {
        assert!(found.contains(&want.to_string()), "{want}: {found:#?}");
    }
}

#[test]
fn a_route_to_nowhere_is_an_error_with_the_nearest_choice() {
    let console = ("console", "provides = [\"log\", \"terminal\"]");
    for (more, want) in [
        (
            "routes = { log = \"consloe\" }",
            "component `a`: `log` goes to `consloe`, but there is no such component; did you mean `console`?",
        ),
        (
            "routes = { lgo = \"console\" }",
            "component `a`: `console` does not provide `lgo`; no component does; did you mean `log`?",
        ),
        ("routes = { log = \"a\" }", "component `a`: `log` goes to the component itself"),
        ("routes = { nic = \"any-child\" }", "component `a`: no component provides `nic`"),
        ("provides = [\"x\"]\nroutes = { x = \"any-child\" }", "component `a`: `x` goes to the component itself"),
        (
            "routes = { tiemr = \"parent\" }",
            "component `a`: the root task does not provide `tiemr`; did you mean `timer`?",
        ),
    ] {
        let v = verdict(&system(&[console, ("a", more)]));
        assert_eq!(texts(&v.errors), [want]);
        assert_eq!(v.errors[0].at.line, 12 + usize::from(more.contains('\n')));
    }
    let v = verdict(&system(&[console, ("a", "routes = { log = \"nobody\" }")]));
    assert!(v.errors.is_empty() && v.reach.is_empty(), "denied on purpose");
    let with_default = format!("[defaults]\nroutes = {{ log = \"x\" }}\n{}", system(&[("a", "")]));
    let want = "component `a` (by `defaults`): `log` goes to `x`, but there is no such component; there is only `a`";
    assert_eq!(texts(&verdict(&with_default).errors), [want]);
}

#[test]
fn what_stops_a_request_on_its_way_is_named() {
    let asks = [("a", "routes = { timer = \"parent\" }")];
    for (head, more, want) in [
        ("", "", "component `i -> a`: the root task has no route of `i` for `timer` \"a -> *\""),
        ("", "routes = { timer = \"nobody\" }", "component `i -> a`: the root task denies `timer` \"i -> a -> *\""),
        (
            "parent_provides = [\"tmier\"]",
            "routes = { timer = \"parent\" }",
            "component `i -> a`: `parent_provides` has no `timer`; did you mean `tmier`?",
        ),
        (
            "",
            "route = [{ service = \"timer\", label_prefix = \"b\", to = \"parent\" }]",
            "component `i -> a`: the root task has no route of `i` for `timer` \"a -> *\"",
        ),
    ] {
        let v = verdict(&inside("i", head, &asks, more));
        assert_eq!(texts(&v.errors), [want]);
    }
    let server = [("s", "provides = [\"x\"]")];
    let client = system(&[("c", "route = [{ service = \"x\", label = \"l\", to = \"i\" }]")]);
    for (head, want) in [
        (
            "",
            vec![
                "`i` is to provide `x`, but has no [[service]] of that name",
                "component `c`: `i` has no [[service]] for `x` \"c -> l\"",
            ],
        ),
        (
            "service = [{ name = \"x\", label = \"y\", to = \"s\" }]",
            vec!["component `c`: `i` has no [[service]] for `x` \"c -> l\""],
        ),
        (
            "service = [{ name = \"x\", label = \"c -> l\", to = \"nobody\" }]",
            vec!["component `c`: `i` denies `x` \"c -> l\""],
        ),
    ] {
        let mut found = verdict(&format!("{client}{}", inside("i", head, &server, "provides = [\"x\"]"))).errors;
        found.sort_by(|a, b| b.text.cmp(&a.text));
        let mut want = want;
        want.sort_by(|a, b| b.cmp(a));
        assert_eq!(texts(&found), want);
    }
    let wrong = inside("i", "service = [{ name = \"x\", to = \"s\" }]", &[("s", "")], "provides = [\"x\"]");
    let want = "component `c`: in `i`, `s` does not provide `x`; no component does";
    assert_eq!(texts(&verdict(&format!("{client}{wrong}")).errors), [want]);
}

#[test]
fn a_route_for_all_services_reaches_what_there_is() {
    let v = verdict(&system(&[
        ("console", "provides = [\"log\"]"),
        ("other", "provides = [\"log\", \"nic\"]"),
        (
            "a",
            "route = [{ label_prefix = \"x\", to = \"any-child\" }, { to = \"parent\" }]\n[component.routes]\nlog = \
             \"other\"",
        ),
    ]));
    assert!(v.errors.is_empty(), "{:?}", v.errors);
    let want =
        ["a log \"a -> x*\" console", "a nic \"a -> x*\" other", "a timer \"a -> *\" core", "a rom \"a -> *\" core"];
    let found = reach(&v);
    assert!(want.iter().all(|w| found.contains(&w.to_string())) && found.len() == 4, "{found:?}");
    let (warnings, never) =
        (texts(&v.warnings), "component `a`: this route is never reached, because of that in line 18");
    assert!(warnings.iter().any(|w| w.starts_with(never)), "{warnings:?}");
    let v = verdict(&inside("i", "", &[("a", "route = [{ to = \"parent\" }]")], ""));
    assert_eq!(texts(&v.warnings), ["component `i -> a`: no service can be reached by this route"]);
}

#[test]
fn components_that_wait_for_each_other_are_named_once() {
    let v = verdict(&system(&[
        ("a", "provides = [\"x\", \"log\"]\nroutes = { y = \"b\" }"),
        ("b", "provides = [\"y\"]\nroutes = { x = \"a\" }"),
        ("c", "routes = { x = \"a\" }"),
    ]));
    let want = "none of these can serve before the others do: `a` needs `y` of `b`, `b` needs `x` of `a`";
    assert_eq!(texts(&v.errors), [want]);
    assert_eq!((v.errors[0].at.line, v.errors[0].at.column), (7, 16));
    let any = "route = [{ to = \"any-child\" }]";
    let v =
        verdict(&system(&[("a", &format!("provides = [\"x\"]\n{any}")), ("b", &format!("provides = [\"y\"]\n{any}"))]));
    assert!(v.errors.is_empty(), "what only may be asked for makes no circle: {:?}", v.errors);
}

#[test]
fn quotas_must_fit() {
    let two = system(&[("a", "kmem = \"1M\"\ncaps = 60"), ("b", "kmem = \"1M\"\ncaps = 60")]);
    let config = Config::parse(&two).unwrap();
    let with = |ram, kmem| check(&config, &World { ram: Some(ram), kmem: Some(kmem), ..world() });
    assert_eq!(with(2 << 20, 2 << 20).errors, []);
    let v = with((2 << 20) - 1, (1 << 20) + 4096);
    let want = [
        "RAM: 2M are given out, but the machine has 2047K for components",
        "kernel memory: 2M are given out, but the machine has 1028K for components",
    ];
    assert_eq!(texts(&v.errors), want);
    let v = check(&config, &World { caps: Some(119), ..world() });
    assert_eq!(texts(&v.errors), ["capabilities: 120 are given out, but the machine has 119 for components"]);
    // What they may ask for is promised to nobody, so it is not added up.
    let may =
        |more: &str| system(&[("a", &format!("kmem = \"1M\"\nmost = {{ ram = \"{more}\" }}")), ("b", "kmem = \"1M\"")]);
    let with = |more| check(&Config::parse(&may(more)).unwrap(), &World { ram: Some(2 << 20), ..world() });
    assert_eq!((with("2M").errors, with("2M").warnings), (vec![], vec![]));
    assert_eq!(texts(&with("3M").warnings), ["`a` may have more than the machine has: `most` bounds nothing"]);
    let inner = [("a", "kmem = \"1M\"\ncaps = 60"), ("b", "kmem = \"1M\"\ncaps = 60")];
    let v = verdict(&inside("i", "preserve = { ram = \"7M\", caps = 80 }", &inner, "caps = 199"));
    let want = [
        "RAM: 9M are given out, but `i` has 7M for components",
        "capabilities: 200 are given out, but `i` has 199 for components",
    ];
    assert_eq!(texts(&v.errors), want);
    assert_eq!(verdict(&inside("i", "preserve = { ram = \"5M\", caps = 80 }", &inner, "caps = 200")).errors, []);
}

#[test]
fn what_is_loaded_must_be_there() {
    let modules = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    let at_root = Config::parse(&system(&[("a", "roms = [\"kernle\"]\ncpus = [0, 4]")])).unwrap();
    let v = check(&at_root, &World { modules: modules(&["a.elf", "kernel"]), cpus: Some(4), ..world() });
    let want = [
        "component `a`, key `roms`: there is no boot module `kernle`; did you mean `kernel`?",
        "component `a`, key `cpus`: there is no CPU 4: the machine has 0 to 3",
    ];
    assert_eq!(texts(&v.errors), want);
    let one = check(&at_root, &World { cpus: Some(1), ..world() });
    assert!(one.errors[0].text.ends_with("there is no CPU 4: the machine has only 0"), "{:?}", one.errors);

    let inner = [
        ("a", "roms = [\"data\"]\nroute = [{ service = \"rom\", label = \"data\", to = \"fs\" }]"),
        ("fs", "provides = [\"rom\"]"),
    ];
    let nested = |more: &str| Config::parse(&inside("i", "", &inner, more)).unwrap();
    let world = World { modules: modules(&["init", "a.elf"]), ..world() };
    let missing = "component `i -> fs`, key `binary`: there is no boot module `fs.elf`";
    let v = check(&nested(""), &world);
    assert!(v.errors.len() == 1 && v.errors[0].text.starts_with(missing), "{:?}", v.errors);
    let v = check(&nested("route = [{ service = \"rom\", to = \"parent\" }]"), &world);
    assert!(v.errors.len() == 1 && v.errors[0].text.starts_with(missing), "{:?}", v.errors);
    let v = check(
        &nested(
            "route = [{ service = \"rom\", label = \"a.elf\", to = \"parent\" }, { service = \"rom\", to = \
             \"nobody\" }]",
        ),
        &world,
    );
    let want = [
        "component `i`, key `binary`: the root task denies `rom` \"i -> init\"",
        "component `i -> fs`, key `binary`: the root task denies `rom` \"i -> fs.elf\"",
    ];
    assert_eq!(texts(&v.errors), want);
}

#[test]
fn a_rom_that_is_asked_of_the_root_task_must_be_a_module() {
    let world = World { modules: Some(["a.elf", "kernel"].map(String::from).into()), ..world() };
    let found = |route: &str| {
        let text = system(&[("a", &format!("route = [{{ service = \"rom\", to = \"parent\", {route} }}]"))]);
        texts(&check(&Config::parse(&text).unwrap(), &world).errors).join("\n")
    };
    let near = "component `a`: there is no boot module `kernle`; did you mean `kernel`?";
    for (route, want) in [
        ("label = \"kernel\"", ""),
        ("label = \"x -> kernel\"", ""),
        ("label = \"kernle\"", near),
        ("label = \"x\", relabel = \"kernel\"", ""),
        ("label = \"kernel\", relabel = \"kernle\"", near),
        ("label_last = \"kernel\"", ""),
        ("label_last = \"kernle\"", near),
        // Nobody knows what will be asked for.
        ("label_prefix = \"kernle\"", ""),
        ("label_last = \"\"", ""),
    ] {
        assert_eq!(found(route), want, "{route}");
    }
}

#[test]
fn an_init_gives_on_only_what_it_has() {
    let inner = [("a", "io_ports = [\"1-3\"]\nirqs = [4]\nio_mem = [\"0-0x1fff\"]\ncpus = [1]")];
    let more = |ports, irq, memory, cpu| {
        format!("io_ports = [\"{ports}\"]\nirqs = [{irq}]\nio_mem = [\"{memory}\"]\ncpus = [{cpu}]")
    };
    assert_eq!(verdict(&inside("i", "", &inner, &more("0-3", 4, "0-0x1fff", 1))).errors, []);
    let v = verdict(&inside("i", "", &inner, &more("2-3", 5, "0x1000-0x1fff", 0)));
    let want = [
        "`i -> a` is to have ports 0x1-0x3, which `i` has not",
        "`i -> a` is to have interrupt 4, which `i` has not",
        "`i -> a` is to have device memory 0x0-0x1fff, which `i` has not",
        "`i -> a` is to use CPU 1, which `i` may not",
    ];
    assert_eq!(texts(&v.errors), want);
}

#[test]
fn a_device_that_cannot_be_opened_is_a_warning() {
    let keys = "io_ports = [\"0x60\"]\nirqs = [1, 12]\nio_mem = [\"0xfed00000-0xfed00fff\"]\n";
    let found = |routes: &str| {
        let v = verdict(&system(&[("a", &format!("{keys}routes = {{ {routes} }}"))]));
        v.warnings.iter().map(|w| w.text.clone()).filter(|t| t.contains("no route for")).collect::<Vec<_>>()
    };
    let want = [
        "component `a`, key `irqs`: it has no route for `irq`, and cannot open any",
        "component `a`, key `io_mem`: it has no route for `io_mem`, and cannot open any",
    ];
    assert_eq!(found("io_port = \"parent\""), want);
    assert!(found("io_port = \"parent\", irq = \"parent\", io_mem = \"parent\"").is_empty());
}

#[test]
fn what_is_of_no_use_is_a_warning() {
    let v = verdict(&format!(
        "parent_provides = [\"timer\", \"rom\"]\n{}{}",
        system(&[
            ("a", "provides = [\"x\"]\nheartbeat = { restart_after = 2 }"),
            (
                "b",
                "route = [{ service = \"x\", label = \"l\", to = \"nobody\" }, { service = \"x\", label = \"l\", to \
                 = \"a\" }]"
            ),
        ]),
        inside("i", "service = [{ name = \"y\", to = \"s\" }]", &[("s", "provides = [\"y\"]")], ""),
    ));
    let want = [
        "no component can reach `timer` of the parent",
        "nobody can reach `x` of `a`",
        "component `a` is stopped when its heart stops: it has no `restart`",
        "component `b`: this route is never reached, because of that in line 14, column 45",
        "`y` is not among what `i` provides: nobody asks for it",
        "nobody can reach `y` of `i -> s`",
    ];
    assert_eq!(texts(&v.warnings), want);
    let v = verdict(&system(&[("a", "provides = [\"x\"]")]));
    assert_eq!(texts(&v.warnings), ["nobody can reach `x` of `a`"]);
    let v = verdict(&system(&[("a", "")]).replace("a.elf", "init"));
    assert_eq!(texts(&v.warnings), ["`a` is an init without a configuration: it starts nothing"]);
}

/// An init that reads its configuration as a ROM, and what else is to be said of it.
fn reading(name: &str, more: &str) -> String {
    format!("[[component]]\nname = \"{name}\"\nbinary = \"init\"\nram = \"8M\"\ncaps = 500\npriority = 5\n{more}\n")
}

const CHILDREN: &str = "children = { kmem = \"4M\" }";

/// The route by which it reads that boot module.
fn from_module(module: &str) -> String {
    format!("route = [{{ service = \"rom\", label = \"config\", relabel = \"{module}\", to = \"parent\" }}]")
}

fn supplied(text: &str, texts: &[(&str, &str)]) -> Verdict {
    let texts = texts.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect();
    check(&Config::parse(text).unwrap(), &World { texts, ..world() })
}

/// Module, line, and what.
fn placed(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|f| format!("{}:{}: {}", f.module, f.at.line, f.text)).collect()
}

#[test]
fn a_configuration_that_is_a_boot_module_is_checked_as_one_in_the_text() {
    let (server, client) = ("provides = [\"x\"]\nroutes = { timer = \"parent\" }", "routes = { x = \"i\" }");
    let more = format!("{CHILDREN}\nprovides = [\"x\"]\nroutes = {{ timer = \"parent\" }}\n{}", from_module("inner"));
    let text = system(&[("c", client)]) + &reading("i", &more);
    let inner = |more: &str| {
        format!("service = [{{ name = \"x\", to = \"s\" }}]\n{}", system(&[("s", &format!("{server}{more}"))]))
    };
    let v = supplied(&text, &[("inner", &inner(""))]);
    assert_eq!((v.errors.as_slice(), v.warnings.as_slice()), ([].as_slice(), [].as_slice()));
    let all = reach(&v);
    for way in ["c x \"c -> *\" i -> s", "i -> s timer \"i -> s -> *\" core"] {
        assert!(all.iter().any(|r| r == way), "{way}: {all:?}");
    }
    // Not known: then it is only known that there is one.
    let v = supplied(&text, &[]);
    assert_eq!((v.errors.as_slice(), reach(&v)[0].as_str()), ([].as_slice(), "c x \"c -> *\" i"));

    let v = supplied(&text, &[("inner", &inner("\nirqs = [4]\ncpus = [9, 9]"))]);
    assert_eq!(placed(&v.errors), ["inner:10: component `s`, key `cpus`: 9 is there twice"]);
    let wrong = inner("\nirqs = [4]\nkmem = \"5M\"").replace("timer", "trace").replace("ram = \"1M\"", "ram = \"9M\"");
    let wrong = wrong.replace("priority = 1", "priority = 6");
    let v = supplied(&text, &[("inner", &wrong)]);
    let want = [
        ":10: RAM: 9M are given out, but `i` has 7M for components",
        ":10: kernel memory: 5M are given out, but `i` has 4M for components",
        "inner:2: `i -> s` is to have priority 6, and `i` has 5",
        "inner:8: component `i -> s`: the root task has no route of `i` for `trace` \"s -> *\"",
        "inner:9: `i -> s` is to have interrupt 4, which `i` has not",
    ];
    assert_eq!(placed(&v.errors), want);
    let v = supplied(&text, &[("inner", "a = = 1\n")]);
    assert!(placed(&v.errors).iter().any(|f| f.starts_with("inner:1: ")), "{:?}", v.errors);
    let v = supplied(&text, &[("inner", &system(&[("s", "provides = [\"y\"]")]))]);
    let want = [
        ":6: component `c`: `i` has no [[service]] for `x` \"c -> *\"",
        ":14: `i` is to provide `x`, but has no [[service]] of that name",
    ];
    assert_eq!(placed(&v.errors), want);
    let want = [":14: nobody can reach `x` of `i`", "inner:6: nobody can reach `y` of `i -> s`"];
    assert_eq!(placed(&v.warnings), want);
}

#[test]
fn an_init_in_a_module_may_read_another_one() {
    let inner = reading("j", &format!("kmem = \"1M\"\nram = \"2M\"\n{CHILDREN}").replace("4M", "2M"))
        .replace("ram = \"8M\"\n", "");
    let inner = inner + "route = [{ service = \"rom\", label = \"config\", relabel = \"second\", to = \"parent\" }]\n";
    let route = "route = [{ service = \"rom\", label_last = \"config\", relabel = \"first\", to = \"parent\" }, { service = \"rom\", to = \"parent\" }]";
    let outer = reading("i", &format!("{CHILDREN}\n{route}"));
    let last = system(&[("a", "routes = { x = \"b\" }")]);
    let v = supplied(&outer, &[("first", &inner), ("second", &last)]);
    assert_eq!(
        placed(&v.errors),
        ["second:6: component `i -> j -> a`: `x` goes to `b`, but there is no such component; there is only `a`"]
    );
}

#[test]
fn modules_that_read_themselves_end_somewhere() {
    let route = "{ service = \"rom\", label = \"config\", relabel = \"self\", to = \"parent\" }";
    let more = format!("{CHILDREN}\nkmem = \"16K\"\nroute = [{route}, {{ service = \"rom\", to = \"parent\" }}]");
    let init = reading("i", &more);
    let v = supplied(&init, &[("self", &init)]);
    let want = "self:1: `i -> i` reads `self`, as an init around it does: there would be no end to it";
    assert!(placed(&v.errors).iter().any(|f| f == want), "{:#?}", placed(&v.errors));
    // Each reads the next one.
    let texts: Vec<_> = (0..10).map(|n| (format!("m{n}"), init.replace("self", &format!("m{}", n + 1)))).collect();
    let texts: Vec<_> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let v = supplied(&init.replace("self", "m0"), &texts);
    let want = format!("m7:1: `{}`: more than 8 inits in each other", ["i"; 9].join(ARROW));
    let deep: Vec<_> = placed(&v.errors).into_iter().filter(|f| f.contains("each other")).collect();
    assert_eq!(deep, [want]);
}

#[test]
fn who_reads_its_configuration_needs_means_for_what_is_in_it() {
    let v = supplied(&reading("i", &from_module("inner")), &[]);
    let want = "`i` reads its configuration as a ROM, and has no `children = { kmem = \"...\" }`: it can start nobody";
    assert_eq!(texts(&v.errors), [want]);
    let manager = system(&[("m", "provides = [\"rom\"]")]);
    let route = "route = [{ service = \"rom\", label = \"config\", to = \"m\" }]";
    assert_eq!(texts(&supplied(&(manager.clone() + &reading("i", route)), &[]).errors), [want]);
    let v = supplied(&(manager + &reading("i", &format!("{route}\n{CHILDREN}"))), &[]);
    assert_eq!((texts(&v.errors), texts(&v.warnings)), (vec![], vec![]));
}

#[test]
fn defects_of_components_are_errors_and_the_rest_is_checked_as_if_they_were_mended() {
    let v = verdict(&system(&[("a", "provides = [\"x\"]\nirqs = [-1]"), ("b", "routes = { x = \"a\", y = \"q\" }")]));
    let want = [
        "component `a`, key `irqs`: -1 is no interrupt",
        "component `b`: `y` goes to `q`, but there is no such component; there are `a`, `b`",
    ];
    assert_eq!(texts(&v.errors), want);
    assert_eq!(reach(&v), ["b x \"b -> *\" a"]);
}

/// A rule for `x` in text: its selector, its target, and whether it changes the label.
fn rules(targets: &'static [&'static str]) -> impl Strategy<Value = String> {
    let selector = prop_oneof![
        Just(String::new()),
        "(label|label_prefix|label_suffix|label_last) = \"(c|a|b| -> ){1,3}\", ".prop_map(|s| s),
    ];
    let relabel = prop_oneof![3 => Just(""), 1 => Just("relabel = \"a\", ")];
    let one = (selector, prop::sample::select(targets), relabel, any::<bool>());
    let text = one.prop_map(|(selector, to, relabel, all)| {
        let service = if all { "" } else { "service = \"x\", " };
        format!("{{ {service}{selector}{relabel}to = \"{to}\" }}")
    });
    prop::collection::vec(text, 1..4).prop_map(|list| format!("route = [{}]", list.join(", ")))
}

/// Where a request of `c`, which is in the init `i`, really ends: each parent asks its rules, one after the other.
fn served(config: &Config, label: &Label) -> Option<String> {
    let name = |text: &str| Name::new(text).unwrap();
    let rules = |c: &Component| Routes(c.routes.iter().map(|r| r.rule.clone()).collect());
    let outer = config.component(&name("i"))?;
    let inner = outer.nested.as_ref()?.component(&name("c"))?;
    let (mut label, none) = (label.clone(), session::Args::default());
    for c in [inner, outer] {
        let rules = rules(c);
        let rule = rules.find(&name("x"), &label)?;
        label = rule.rewrite(&c.name, &label, &none).ok()?.0;
        match rule.target {
            Target::Child(child) => return Some(child.to_string()),
            Target::AnyChild if c.name == name("i") => return Some("s".into()),
            Target::Parent => (),
            _ => return None,
        }
    }
    Some(CORE.into())
}

proptest! {
    #[test]
    fn whatever_is_reached_is_in_the_table(
        inner in rules(&["parent", "nobody"]),
        outer in rules(&["parent", "nobody", "s", "t", "any-child"]),
        label in "(a|b| -> ){0,3}",
    ) {
        let servers = system(&[("s", "provides = [\"x\"]"), ("t", "provides = [\"x\"]")]);
        let text = format!("{servers}{}", inside("i", "", &[("c", &inner)], &outer));
        let config = Config::parse(&text).unwrap();
        let world = World { services: vec![Name::new("x").unwrap()], ..World::default() };
        let v = check(&config, &world);
        if let Some(server) = served(&config, &Label::new(&label).unwrap()) {
            let found = v.reach.iter().any(|r| r.client == "i -> c" && r.server == server);
            prop_assert!(found, "{label:?} {server}\n{text}\n{:#?}", reach(&v));
        }
    }

    #[test]
    fn no_configuration_panics(edits in prop::collection::vec((0usize..600, "[a-z\"\\[\\]{}=\n,]{0,3}"), 0..4)) {
        let client = system(&[("c", "route = [{ to = \"parent\" }, { service = \"x\", label = \"l\", to = \"i\" }]")]);
        let server = [("s", "provides = [\"x\"]\nroutes = { x = \"parent\" }")];
        let init = inside("i", "service = [{ name = \"x\", to = \"s\" }]", &server, "provides = [\"x\"]\nroutes = { \
         x = \"i\" }");
        let mut text = format!("{client}{init}");
        for (at, new) in edits {
            if let Some((i, _)) = text.char_indices().nth(at) {
                text.insert_str(i, &new);
            }
        }
        if let Ok(config) = Config::parse(&text) {
            let _ = check(&config, &world());
        }
        let reads = reading("r", &format!("{CHILDREN}\n{}", from_module("m")));
        let _ = supplied(&reads, &[("m", &text)]);
    }
}
