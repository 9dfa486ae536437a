use super::*;
use crate::document::Table;
use parent::Name;
use proptest::prelude::*;
use session::{Label, Labels, Patch, Rewrite, Rule, Target};

const HEAD: &str = "[[component]]\nname = \"uart\"\nbinary = \"uart16550\"\nram = \"1M\"\npriority = 50\n";

fn error_of(tail: &str) -> String {
    let f = Config::parse(&format!("{HEAD}{tail}")).unwrap();
    f.entries.iter().find_map(|e| e.result.as_ref().err()).expect("an error").to_string()
}

fn at(line: usize, column: usize) -> At {
    At { line, column }
}

fn names(list: &[Placed<Name>]) -> Vec<&str> {
    list.iter().map(|n| n.value.as_str()).collect()
}

#[test]
fn a_full_component_is_read() {
    let text = format!(
        "shutdown_after = \"uart\"\n{HEAD}io_ports = [\"0x3f8-0x3ff\"]\nirqs = [4]\nprovides = [\"terminal\"]\n\
         roms = [\"bzImage\"]\n[component.routes]\nlog = \"console\"\n[component.config]\nbaud = 115200\n"
    );
    let f = Config::parse(&text).unwrap();
    assert_eq!(f.shutdown_after, [0]);
    let c = f.entries[0].result.as_ref().unwrap();
    assert_eq!((c.name.as_str(), c.binary.value.as_str(), c.priority), ("uart", "uart16550", 50));
    assert_eq!((c.ram.value.bytes(), c.ram.at), (1 << 20, at(5, 7)));
    assert_eq!(c.io_ports, [Placed { value: PortRange { first: 0x3f8, last: 0x3ff }, at: at(7, 13) }]);
    assert_eq!(c.irqs, [Placed { value: 4, at: at(8, 9) }]);
    assert_eq!((names(&c.provides), names(&c.roms)), (vec!["terminal"], vec!["bzImage"]));
    let rule = Rule::to(Name::new("log").unwrap(), Target::Child(Name::new("console").unwrap()));
    assert_eq!(c.routes, [Route { rule, at: at(12, 7), default: false }]);
    assert_eq!(c.config.as_deref(), Some("baud = 115200\n"));
    assert_eq!((c.restart.value, c.exit.value, c.heartbeat), (Restart::times(0), Exit::Stay, None));
    assert!(c.caps.is_none() && c.version.is_none() && c.nested.is_none() && f.parent_provides.is_none());
}

#[test]
fn cpus_are_a_list_of_numbers_each_once() {
    let f = Config::parse(&format!("{HEAD}cpus = [2,\n0]\n")).unwrap();
    let cpus = f.entries[0].result.as_ref().unwrap().cpus.clone().unwrap();
    assert_eq!(cpus, [Placed { value: 2, at: at(6, 9) }, Placed { value: 0, at: at(7, 1) }]);
    for (value, at, reason) in [
        ("[]", 8, "a component needs at least one"),
        ("[0, 0]", 12, "0 is there twice"),
        ("[128]", 9, "128 is no CPU: 0 to 127 are possible"),
        ("[-1]", 9, "-1 is no CPU: 0 to 127 are possible"),
        ("[65536]", 9, "65536 is no CPU: 0 to 127 are possible"),
        ("0", 8, "a list is expected, found an integer"),
    ] {
        let want = format!("line 6, column {at}: component `uart`, key `cpus`: {reason}");
        assert_eq!(error_of(&format!("cpus = {value}\n")), want);
    }
}

#[test]
fn syntax_errors_have_line_and_column_and_are_fatal() {
    let e = Config::parse("[[component]]\nname = \"uart\nram = 1\nbinary = = 3\n").unwrap_err();
    assert_eq!(e.iter().map(|d| d.at).collect::<Vec<_>>(), [at(2, 13), at(4, 10)], "all are told: {e:?}");
    assert!(e[0].to_string().starts_with("line 2, column 13: "), "{e:?}");
    assert!(e.iter().all(|d| !d.to_string().contains('\n')));
    assert_eq!(Config::parse("\nname = = 1").unwrap_err()[0].at.line, 2);
}

#[test]
fn unknown_keys_are_named_with_the_nearest() {
    let want = "line 6, column 1: unknown key `kmme` in component `uart`; did you mean `kmem`?";
    assert_eq!(error_of("kmme = \"1M\"\n"), want);
    assert_eq!(error_of("colour = 1\n"), "line 6, column 1: unknown key `colour` in component `uart`");
    let e = Config::parse("shutdown_atfer = \"vm\"\n").unwrap_err();
    let want = "line 1, column 1: unknown key `shutdown_atfer` in the system file; did you mean `shutdown_after`?";
    assert_eq!(e.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
}

#[test]
fn all_that_is_wrong_is_told() {
    let second = HEAD.replace("uart\"", "two\"");
    let text = format!("trcae = 1\n{HEAD}irqs = [-1, 4, 4]\nrotues = {{}}\ncaps = 0\n{second}exit = \"leave\"\n");
    let f = Config::parse(&text.replace("50", "500")).unwrap();
    let all: Vec<_> = f.all_defects().iter().map(|d| (d.at.line, d.to_string())).collect();
    assert_eq!(all.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 6, 7, 7, 8, 9, 14, 15], "{all:?}");
    for (defect, part) in
        [(0, "`trace`"), (4, "did you mean `routes`"), (5, "0 is not in 1 to"), (7, "`stay`, `propagate`")]
    {
        assert!(all[defect].1.contains(part), "{}", all[defect].1);
    }
    assert_eq!(f.entries[0].more.len(), 4);
}

#[test]
fn unknown_keys_outside_components_are_noted() {
    let f = Config::parse(&format!("shutdown = 1\n\"\" = 2\nshutdown_after = 3\n{HEAD}")).unwrap();
    assert!(f.entries[0].result.is_ok() && f.shutdown_after.is_empty());
    let errors: Vec<_> = f.defects.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors[0],
        "line 1, column 1: unknown key `shutdown` in the system file; did you mean `shutdown_after`?"
    );
    let all = "`shutdown_after`, `trace`, `parent_provides`, `preserve`, `report`, `service`, `defaults`, `component`";
    assert_eq!(errors[1], format!("line 2, column 1: unknown key `` in the system file; there are {all}"));
    assert!(errors[2].starts_with("line 3, column 18: the system file, key `shutdown_after`"), "{errors:?}");
}

#[test]
fn missing_keys_are_named() {
    let f = Config::parse("\n[[component]]\nname = \"uart\"\nbinary = \"b\"\npriority = 1\n").unwrap();
    let e = f.entries[0].result.as_ref().unwrap_err();
    assert_eq!(e.to_string(), "line 2, column 1: key `ram` is missing in component `uart`");
    let f = Config::parse("[[component]]\nram = \"1M\"\n").unwrap();
    assert_eq!(f.entries[0].label, "number 1");
}

#[test]
fn wrong_types_name_component_and_key() {
    let e = Config::parse(&HEAD.replace("\"1M\"", "1")).unwrap().entries.remove(0).result.unwrap_err();
    let want = "line 4, column 7: component `uart`, key `ram`: a string is expected, found an integer";
    assert_eq!(e.to_string(), want);
    for (value, found) in [
        ("true", "a truth value"),
        ("1.5", "a number with a point"),
        ("\"4\"", "a string"),
        ("1979-05-27", "a date or time"),
        ("[]", "a list"),
        ("{}", "a table"),
    ] {
        let want = format!("line 6, column 9: component `uart`, key `irqs`: an integer is expected, found {found}");
        assert_eq!(error_of(&format!("irqs = [{value}]\n")), want);
    }
    for (text, want) in [
        ("shutdown_after = 1", "key `shutdown_after`: a string or a list of them is expected, found an integer"),
        ("shutdown_after = [\"uart\", 1]", "key `shutdown_after`: a string is expected"),
        ("component = 1", "key `component`: a list is expected"),
    ] {
        let e = Config::parse(text).unwrap_err();
        assert!(e.iter().any(|d| d.to_string().contains(want)), "{e:?}");
    }
    let e = Config::parse("component = [1]").unwrap().entries.remove(0).result.unwrap_err();
    assert_eq!(e.to_string(), "line 1, column 14: component `number 1`: a table is expected, found an integer");
}

#[test]
fn each_value_is_checked() {
    for (tail, want) in [
        ("io_ports = [\"0x3ff-0x3f8\"]", "io_ports`: port range \"0x3ff-0x3f8\" ends before it starts"),
        ("io_ports = [\"com1\"]", "io_ports`: \"com1\" is no port range"),
        ("io_ports = [\"1-3\", \"3\"]", "io_ports`: 0x3-0x3 is there twice"),
        ("irqs = [-1]", "irqs`: -1 is no interrupt"),
        ("irqs = [4, 4]", "irqs`: 4 is there twice"),
        ("io_mem = [\"0xb8000\"]", "io_mem`: \"0xb8000\" is no memory range"),
        ("io_mem = [\"0xb8000-0xb8001\"]", "io_mem`: memory range \"0xb8000-0xb8001\" is not whole pages"),
        ("io_mem = [\"0-0xfff\", \"0-0x1fff\"]", "io_mem`: 0x0-0x1fff is there twice"),
        ("device_sessions = true", "unknown key `device_sessions`"),
        ("provides = [\"a\", \"a\"]", "provides`: `a` is there twice"),
        ("provides = [\"\"]", "provides`: \"\" is no name"),
        ("provides = [\"a b\"]", "provides`: \"a b\" is no name"),
        ("roms = [\"config\"]\nconfig = {}", "roms`: `config` is the name of the ROM made from the key `config`"),
        ("routes = { log = 1 }", "routes`: a string is expected"),
        ("routes = 1", "routes`: a table is expected, found an integer"),
        ("routes = { log = \"\" }", "routes`: \"\" is no name"),
        ("restart = 1001", "restart`: 1001 is not in 0 to 1000"),
        ("restart = true", "restart`: a number or a table is expected, found a truth value"),
        ("version = 2", "version`: a string is expected"),
        ("config = 1", "config`: a table is expected"),
        ("stack = \"8K\"", "stack`: a stack has 16K to 64M"),
        ("spare = \"960K\"\nstack = \"64K\"", "spare`: the first stack alone takes 64K of `ram`"),
    ] {
        let e = error_of(tail);
        assert!(e.starts_with("line 6, column ") && e.contains(want), "{tail}: {e}");
    }
}

#[test]
fn name_ram_binary_and_priority_are_checked() {
    for (from, to, want) in [
        ("\"1M\"", "\"0\"", "a size of 0 is of no use"),
        ("\"1M\"", "\"1T\"", "\"1T\" is no size"),
        ("\"1M\"", "\"256K\"", "the first stack alone takes 256K"),
        ("50", "0", "0 is not in 1 to 100"),
        ("50", "101", "101 is not in 1 to 100"),
        ("\"uart\"", "\"core\"", "this label belongs to the root task"),
        ("\"uart\"", "\"a-name-of-more-than-thirty-two-bytes\"", "is longer than 32 bytes"),
        ("\"uart16550\"", "\"\"", "the name of a boot module is expected"),
    ] {
        let f = Config::parse(&HEAD.replace(from, to)).unwrap();
        let e = f.entries[0].result.as_ref().unwrap_err().to_string();
        assert!(e.contains(want), "{from} to {to}: {e}");
    }
}

#[test]
fn too_many_roms() {
    let names = |n: usize| (0..n).map(|i| format!("\"r{i}\"")).collect::<Vec<_>>().join(",");
    let roms = |n, more| Config::parse(&format!("{HEAD}roms = [{}]\n{more}", names(n))).unwrap();
    assert!(roms(16, "").entries[0].result.is_ok());
    assert!(roms(17, "").entries[0].result.is_err());
    assert!(roms(16, "config = {}").entries[0].result.is_err(), "no room for the ROM `config`");
    assert!(roms(15, "config = {}").entries[0].result.is_ok());
    assert!(roms(15, "config = {}\nargs = [\"a\"]").entries[0].result.is_err(), "no room for both");
}

#[test]
fn devices_may_be_in_several_descriptions() {
    let second = HEAD.replace("uart\"", "two\"");
    let devices = "io_ports = [\"0x70-0x71\"]\nirqs = [8]\nio_mem = [\"0xb8000-0xb8fff\"]";
    let f = Config::parse(&format!("{HEAD}{devices}\n{second}{devices}\n")).unwrap();
    assert!(f.entries.iter().all(|e| e.result.is_ok()), "who has them when is told by sessions");
}

#[test]
fn a_component_named_twice_is_refused_once() {
    let f = Config::parse(&format!("{HEAD}{HEAD}")).unwrap();
    assert!(f.entries[0].result.is_ok());
    let e = f.entries[1].result.as_ref().unwrap_err();
    assert_eq!(e.to_string(), "line 7, column 8: component `uart` is named twice; the first one counts");
    assert_eq!(f.index_of("uart"), Some(0));
}

#[test]
fn shutdown_after_nobody_is_reported_but_not_fatal() {
    let f = Config::parse(&format!("shutdown_after = \"vm\"\n{HEAD}")).unwrap();
    assert!(f.shutdown_after.is_empty());
    assert_eq!(
        f.defects[0].to_string(),
        "line 1, column 18: shutdown_after: there is no component `vm`; there is only `uart`"
    );
    assert!(f.entries[0].result.is_ok());
}

#[test]
fn shutdown_after_may_name_several() {
    let second = HEAD.replace("\"uart\"", "\"second\"");
    let f = Config::parse(&format!("shutdown_after = [\"second\", \"vm\", \"uart\"]\n{HEAD}{second}")).unwrap();
    assert_eq!(f.shutdown_after, [1, 0]);
    assert_eq!(
        f.defects[0].to_string(),
        "line 1, column 29: shutdown_after: there is no component `vm`; there are `uart`, `second`"
    );
}

#[test]
fn an_empty_file_is_no_system() {
    for text in ["", "component = []"] {
        assert_eq!(Config::parse(text).unwrap_err()[0].cause, Cause::Empty);
    }
}

#[test]
fn columns_count_characters() {
    let e = Config::parse(&HEAD.replace("uart\"", "ü\"")).unwrap().entries.remove(0).result.unwrap_err();
    assert_eq!(e.at, at(2, 8));
    assert_eq!(Config::parse("a = \"ü\" x").unwrap_err()[0].at, at(1, 9));
}

proptest! {
    #[test]
    fn no_text_panics(edits in prop::collection::vec((0usize..80, ".{0,3}"), 1..5)) {
        let mut text = HEAD.to_string();
        for (at, new) in edits {
            if let Some((i, _)) = text.char_indices().nth(at) {
                text.insert_str(i, &new);
            }
        }
        let _ = Config::parse(&text);
    }
}

#[test]
fn kernel_memory_is_a_size_or_depends_on_ram() {
    let kmem = |text: &str| Config::parse(text).unwrap().entries[0].result.clone().map(|c| c.kernel_memory().bytes());
    let with = |ram: &str, more: &str| {
        kmem(&format!("[[component]]\nname = \"a\"\nbinary = \"b\"\nram = \"{ram}\"\npriority = 1\n{more}\n"))
    };
    assert_eq!(with("1M", "kmem = \"64K\""), Ok(64 << 10));
    assert_eq!(with("1M", ""), Ok((1 << 20) + 4096));
    assert_eq!(with("264M", ""), Ok((1 << 20) + (264 << 10)));
    let e = with("1M", "kmem = \"65K\"").unwrap_err().to_string();
    assert!(e.contains("component `a`, key `kmem`: \"65K\" is not a multiple of 4K"), "{e}");
    assert!(with("1M", "kmem = 65").is_err());
}

#[test]
fn what_is_traced_is_a_list_of_names() {
    use abi::TraceKinds;
    let parse = |text: &str| Config::parse(&format!("{text}\n{HEAD}")).unwrap();
    assert_eq!(parse("").trace, TraceKinds::empty());
    let f = parse("trace = [\"exit\", \"ipi\"]");
    assert_eq!((f.trace, f.defects.len()), (TraceKinds::EXIT | TraceKinds::IPI, 0));
    let f = parse("trace = [\"exit\", \"exits\"]");
    let want =
        "line 1, column 18: the system file, key `trace`: `exits` is nothing that can be traced; did you mean `exit`?";
    assert_eq!((f.trace, f.defects[0].to_string().as_str()), (TraceKinds::EXIT, want));
    assert_eq!(parse("trace = 5").defects.len(), 1);
}

/// What init alone can do.
#[test]
fn all_of_an_init_is_read() {
    let text = format!(
        "parent_provides = [\"rom\", \"log\"]\npreserve = {{ ram = \"1M\", caps = 100 }}\n\
         report = {{ show = [\"peaks\"], every = \"2s\", buffer = \"8K\" }}\n{HEAD}caps = 200\nversion = \"7\"\n\
         exit = \"propagate\"\nheartbeat = {{ every = \"5s\", restart_after = 3 }}\n\
         restart = {{ limit = 5, within = \"1m\", delay = \"100ms\", longest_delay = \"10s\" }}\n"
    );
    let f = Config::parse(&text).unwrap();
    assert!(f.all_defects().is_empty(), "{:?}", f.all_defects());
    assert_eq!(names(f.parent_provides.as_ref().unwrap()), ["rom", "log"]);
    assert_eq!(f.preserve, Quota { ram: 1 << 20, caps: 100 });
    let report = f.report.as_ref().unwrap();
    assert_eq!((&report.show[..], report.every.ms(), report.buffer.bytes()), (&[Show::Peaks][..], 2000, 8192));
    let c = f.component(&Name::new("uart").unwrap()).unwrap();
    assert_eq!((c.caps.unwrap().value, c.version.as_deref(), c.exit.value), (200, Some("7"), Exit::Propagate));
    let beat = c.heartbeat.unwrap().value;
    assert_eq!((beat.every.ms(), beat.restart_after), (5000, Some(3)));
    let r = c.restart.value;
    let ms = |p: Option<Period>| p.map(Period::ms);
    assert_eq!((r.limit, ms(r.within), ms(r.delay), r.longest_delay.ms()), (5, Some(60_000), Some(100), 10_000));
}

#[test]
fn routes_have_selectors_targets_and_rewriting() {
    let route = |text: &str| {
        let f = Config::parse(&format!("{HEAD}[[component.route]]\n{text}\n")).unwrap();
        f.entries[0].result.clone().map(|c| c.routes[0].rule.clone()).map_err(|d| d.to_string())
    };
    let log = Name::new("log").unwrap();
    let plain = |labels, target| Rule { labels, ..Rule::to(log, target) };
    let text = |t: &str| t.to_string();
    for (tail, want) in [
        ("to = \"a\"", plain(Labels::Any, Target::Child(Name::new("a").unwrap()))),
        ("to = \"parent\"\nlabel = \"x -> y\"", plain(Labels::Exact(text("x -> y")), Target::Parent)),
        ("to = \"any-child\"\nlabel_prefix = \"x\"", plain(Labels::Prefix(text("x")), Target::AnyChild)),
        ("to = \"nobody\"\nlabel_suffix = \"x\"", plain(Labels::Suffix(text("x")), Target::Deny)),
        ("to = \"parent\"\nlabel_last = \"x\"", plain(Labels::Last(text("x")), Target::Parent)),
    ] {
        assert_eq!(route(&format!("service = \"log\"\n{tail}")), Ok(want));
    }
    let all = route("to = \"parent\"\nrelabel = \"x\"\npatch = { version = 2, offset = 8, bytes = [1, 255] }").unwrap();
    let args = Some(Patch { version: 2, offset: 8, bytes: vec![1, 255] });
    assert_eq!((all.service, all.rewrite), (None, Rewrite { label: Some(Label::new("x").unwrap()), args }));

    for (tail, want) in [
        ("", "line 6, column 1: key `to` is missing in component `uart`, route 1"),
        (
            "to = \"a b\"",
            "line 7, column 6: component `uart`, route 1, key `to`: \"a b\" is no name: visible ASCII characters \
             are expected",
        ),
        (
            "to = \"a\"\nlabel_prefx = \"x\"",
            "line 8, column 1: unknown key `label_prefx` in component `uart`, route 1; did you mean `label_prefix`?",
        ),
        (
            "to = \"a\"\nlabel = \"x\"\nlabel_last = \"y\"",
            "line 9, column 14: component `uart`, route 1, key `label_last`: there is another selector already; one \
             is possible",
        ),
        (
            "to = \"a\"\nlabel = \"\\u0007\"",
            "line 8, column 9: component `uart`, route 1, key `label`: a label has a control character",
        ),
        (
            "to = \"a\"\npatch = { version = 1, offset = 127, bytes = [1, 2] }",
            "line 8, column 9: component `uart`, route 1, key `patch`, key `bytes`: arguments have at most 128 bytes",
        ),
        (
            "to = \"a\"\npatch = { version = -1, offset = 0 }",
            "line 8, column 21: component `uart`, route 1, key `patch`, key `version`: -1 is not in 0 to 4294967295",
        ),
    ] {
        assert_eq!(route(tail).unwrap_err(), want);
    }
}

#[test]
fn what_a_component_may_ask_for_is_at_least_what_it_has() {
    let of = |tail: &str| Config::parse(&format!("{HEAD}{tail}\n")).unwrap().entries.remove(0).result.unwrap().most();
    let own = of("caps = 7");
    assert_eq!(own.caps, 7);
    assert_eq!(of("caps = 7\nmost = { ram = \"3M\" }"), Quota { ram: 3 << 20, ..own });
    assert_eq!(of("caps = 7\nmost = { caps = 9 }"), Quota { caps: 9, ..own });
}

#[test]
fn defaults_are_for_those_that_say_nothing() {
    let text = "[defaults]\nram = \"2M\"\ncaps = 9\npriority = 3\nrestart = 2\nheartbeat = {}\n\
                routes = { log = \"parent\" }\n[[component]]\nname = \"a\"\nbinary = \"b\"\n\
                [[component]]\nname = \"c\"\nbinary = \"b\"\nram = \"3M\"\ncaps = 10\npriority = 4\nrestart = 1\n\
                heartbeat = { every = \"2s\" }\nroutes = { log = \"a\" }\nroute = [{ service = \"rom\", to = \
                 \"parent\" }]\n";
    let f = Config::parse(text).unwrap();
    assert!(f.all_defects().is_empty(), "{:?}", f.all_defects());
    let figures = |i: usize| {
        let c = f.entries[i].result.as_ref().unwrap();
        let routes: Vec<_> = c.routes.iter().map(|r| (r.rule.service.unwrap().to_string(), r.default)).collect();
        let beat = c.heartbeat.unwrap().value.every.ms();
        (c.ram.value.bytes() >> 20, c.caps.unwrap().value, c.priority, c.restart.value.limit, beat, routes)
    };
    let log = || ("log".to_string(), true);
    assert_eq!(figures(0), (2, 9, 3, 2, 1000, vec![log()]));
    assert_eq!(figures(1), (3, 10, 4, 1, 2000, vec![("rom".into(), false), ("log".into(), false), log()]));

    let wrong = Config::parse(&format!("defaults = {{ prioritty = 3, ram = 1 }}\n{HEAD}")).unwrap();
    let all: Vec<_> = wrong.defects.iter().map(ToString::to_string).collect();
    assert_eq!(all[0], "line 1, column 14: unknown key `prioritty` in defaults; did you mean `priority`?");
    assert_eq!(all[1], "line 1, column 35: defaults, key `ram`: a string is expected, found an integer");
}

#[test]
fn words_and_tables_of_an_init_are_checked() {
    for (tail, want) in [
        ("exit = \"propagat\"", "exit`: `propagat` is not possible; did you mean `propagate`?"),
        ("heartbeat = 1", "key `heartbeat`: a table is expected, found an integer"),
        ("heartbeat = { every = \"1h\" }", "key `heartbeat`, key `every`: \"1h\" is no time"),
        ("heartbeat = { restart_after = 0 }", "restart_after`: 0 is not in 1 to 1000"),
        ("restart = { within = \"1s\" }", "key `limit` is missing in component `uart`, key `restart`"),
        (
            "restart = { limit = 1, delay = \"2s\", longest_delay = \"1s\" }",
            "longest_delay`: the first delay is longer",
        ),
        ("most = { ram = \"512K\" }", "key `most`, key `ram`: the component starts with more"),
        ("caps = 100\nmost = { caps = 99 }", "key `most`, key `caps`: the component starts with more"),
        ("most = \"2M\"", "key `most`: a table is expected, found a string"),
        ("caps = 16777217", "caps`: 16777217 is not in 1 to 16777216"),
    ] {
        let e = error_of(tail);
        assert!(e.contains(want), "{tail}: {e}");
    }
    for (head, want) in [
        (
            "report = { show = [\"peeks\"] }",
            "line 1, column 20: the system file, key `report`, key `show`: `peeks` is not possible; did you mean \
             `peaks`?",
        ),
        (
            "report = { show = [\"peaks\", \"peaks\"] }",
            "line 1, column 29: the system file, key `report`, key `show`: peaks is there twice",
        ),
        (
            "preserve = { ram = 5 }",
            "line 1, column 20: the system file, key `preserve`, key `ram`: a string is expected, found an integer",
        ),
        (
            "service = [{ name = \"log\", to = \"uatr\" }]",
            "line 1, column 12: service: there is no component `uatr`; did you mean `uart`?",
        ),
        (
            "service = [{ name = \"log\", to = \"parent\" }]",
            "line 1, column 33: the system file, service 1, key `to`: what comes from the parent is served by a child",
        ),
    ] {
        let f = Config::parse(&format!("{head}\n{HEAD}")).unwrap();
        assert_eq!(f.defects.iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);
    }
}

/// An init with a component, in an init.
fn nested(inner: &str) -> String {
    format!(
        "{HEAD}\n[[component]]\nname = \"sub\"\nbinary = \"init\"\nram = \"8M\"\npriority = 5\n\
         [[component.config.service]]\nname = \"log\"\nto = \"a\"\n\
         [[component.config.component]]\nname = \"a\"\nbinary = \"b\"\nram = \"1M\"\npriority = 1\n{inner}\n"
    )
}

#[test]
fn the_configuration_of_an_init_is_one_of_these() {
    let f = Config::parse(&nested("provides = [\"log\"]")).unwrap();
    assert!(f.all_defects().is_empty(), "{:?}", f.all_defects());
    let c = f.component(&Name::new("sub").unwrap()).unwrap();
    let inner = c.nested.as_ref().unwrap();
    assert_eq!((inner.entries[0].label.as_str(), inner.services[0].child()), ("a", Name::new("a")));
    assert!(c.config.as_ref().unwrap().contains("binary = \"b\""), "it gets the text");

    let f = Config::parse(&nested("irq = [4]")).unwrap();
    assert!(f.entries[1].result.is_ok(), "init itself says so when it runs");
    let want = "line 20, column 1: unknown key `irq` in component `sub -> a`; did you mean `irqs`?";
    assert_eq!(f.all_defects().iter().map(ToString::to_string).collect::<Vec<_>>(), [want]);

    let f = Config::parse(&nested("").replace(
        "[[component.config.service]]",
        "[component.config]\ntrace = [\"exit\"]\n[[component.config.service]]",
    ));
    let want = "line 13, column 9: the configuration of `sub`, key `trace`: only the system file can say that";
    assert_eq!(f.unwrap().all_defects()[0].to_string(), want);
}

#[test]
fn inits_in_inits_have_an_end() {
    let mut text = String::from("a = 1");
    for _ in 0..10 {
        text = format!(
            "component = [{{ name = \"i\", binary = \"init\", ram = \"1M\", priority = 1, config = {{ {text} }} }}]"
        );
    }
    let f = Config::parse(&text).unwrap();
    assert!(
        f.all_defects()[0].to_string().ends_with("key `config`: more than 8 inits in each other"),
        "{:?}",
        f.all_defects()
    );
}

#[test]
fn json_says_the_same() {
    let value: toml::Value = toml::from_str(&nested("provides = [\"log\"]")).unwrap();
    let node: Node = serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
    let (json, toml) = (Config::of_root(&node).unwrap(), Config::parse(&nested("provides = [\"log\"]")).unwrap());
    let texts = |c: &Config| c.components().map(|c| (c.name, c.config.clone(), c.ram.value)).collect::<Vec<_>>();
    assert_eq!(texts(&json), texts(&toml));
    let node: Node = serde_json::from_str("{ \"component\": [{ \"nmae\": \"a\" }] }").unwrap();
    let all: Vec<_> = Config::of_root(&node).unwrap().all_defects().iter().map(ToString::to_string).collect();
    assert!(all.contains(&"unknown key `nmae` in component `number 1`; did you mean `name`?".into()), "{all:?}");
}

#[test]
fn an_empty_table_is_no_system_but_a_configuration() {
    assert_eq!(Config::of_root(&Node { at: at(1, 1), value: Value::Table(Table::new()) }).unwrap_err().len(), 1);
    let f = Config::parse(&format!(
        "{HEAD}[[component]]\nname = \"i\"\nbinary = \"init\"\nram = \"1M\"\npriority = 1\nconfig = {{}}"
    ));
    assert!(f.unwrap().all_defects().is_empty());
}
