use super::*;
use proptest::prelude::*;

const HEAD: &str = "[[component]]\nname = \"uart\"\nbinary = \"uart16550\"\nram = \"1M\"\npriority = 50\n";

fn error_of(tail: &str) -> String {
    let f = SystemFile::parse(&format!("{HEAD}{tail}")).unwrap();
    f.entries.iter().find_map(|e| e.result.as_ref().err()).expect("an error").to_string()
}

#[test]
fn the_shipped_systems_are_right() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/systems");
    let mut seen = 0;
    for file in std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "toml") {
            let f = SystemFile::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
            assert!(f.errors.is_empty() && f.entries.iter().all(|e| e.result.is_ok()), "{file:?}: {f:?}");
            seen += 1;
        }
    }
    assert!(seen > 0, "no system file in {dir}");
}

#[test]
fn a_full_component_is_read() {
    let text = format!(
        "shutdown_after = \"uart\"\n{HEAD}io_ports = [\"0x3f8-0x3ff\"]\nirqs = [4]\nprovides = [\"terminal\"]\n\
         roms = [\"bzImage\"]\n[component.routes]\nlog = \"console\"\n[component.config]\nbaud = 115200\n"
    );
    let f = SystemFile::parse(&text).unwrap();
    assert_eq!(f.shutdown_after, [0]);
    let c = f.entries[0].result.as_ref().unwrap();
    assert_eq!((c.name.as_str(), c.binary.as_str(), c.ram.bytes(), c.priority), ("uart", "uart16550", 1 << 20, 50));
    assert_eq!(c.io_ports, [PortRange { first: 0x3f8, last: 0x3ff }]);
    assert_eq!(c.irqs, [Placed { value: 4, at: (8, 9) }]);
    assert_eq!(c.provides, [Name::new("terminal").unwrap()]);
    assert_eq!(c.roms, [Name::new("bzImage").unwrap()]);
    let route = Route { service: Name::new("log").unwrap(), provider: "console".into(), at: (12, 7) };
    assert_eq!(c.routes, [route]);
    assert_eq!(c.config.as_deref(), Some("baud = 115200\n"));
}

#[test]
fn a_component_without_channels_can_be_started_again() {
    let restart = |tail: &str| SystemFile::parse(&format!("{HEAD}{tail}")).unwrap().entries[0].result.clone();
    assert_eq!(restart("").unwrap().restart, 0);
    assert_eq!(restart("restart = 1000").unwrap().restart, 1000);
    assert_eq!(restart("restart = 0\nprovides = [\"a\"]").unwrap().restart, 0);
    let place = "system: line 6, column 11: component `uart`, key `restart`:";
    for (tail, reason) in [
        ("restart = -1", "-1 is not in 0 to 1000"),
        ("restart = 1001", "1001 is not in 0 to 1000"),
        ("restart = true", "invalid type: boolean `true`, expected i64"),
        (
            "restart = 1\nprovides = [\"a\"]",
            "a component with `provides` or `routes` cannot be started again: its peers would not know",
        ),
        (
            "restart = 1\nroutes = { a = \"b\" }",
            "a component with `provides` or `routes` cannot be started again: its peers would not know",
        ),
    ] {
        assert_eq!(error_of(tail), format!("{place} {reason}"));
    }
}

#[test]
fn cpus_are_a_list_of_numbers_each_once() {
    let f = SystemFile::parse(&format!("{HEAD}cpus = [2,\n0]\n")).unwrap();
    let cpus = f.entries[0].result.as_ref().unwrap().cpus.clone().unwrap();
    assert_eq!(cpus, [Placed { value: 2, at: (6, 9) }, Placed { value: 0, at: (7, 1) }]);
    for (value, at, reason) in [
        ("[]", 8, "a component needs at least one"),
        ("[0, 0]", 12, "0 is there twice"),
        ("[128]", 9, "128 is no CPU: 0 to 127 are possible"),
        ("[-1]", 9, "-1 is no CPU: 0 to 127 are possible"),
        ("[65536]", 9, "65536 is no CPU: 0 to 127 are possible"),
        ("0", 8, "invalid type: integer `0`, expected a sequence"),
    ] {
        let want = format!("system: line 6, column {at}: component `uart`, key `cpus`: {reason}");
        assert_eq!(error_of(&format!("cpus = {value}\n")), want);
    }
}

#[test]
fn syntax_errors_have_line_and_column_and_are_fatal() {
    let e = SystemFile::parse("[[component]]\nname = \"uart\nram = 1\n").unwrap_err();
    assert_eq!((e.line, e.column), (2, 13));
    assert!(e.to_string().starts_with("system: line 2, column 13: "), "{e}");
    assert!(!e.to_string().contains('\n'));
    assert_eq!(SystemFile::parse("\nname = = 1").unwrap_err().line, 2);
}

#[test]
fn unknown_keys_are_named() {
    assert_eq!(error_of("rma = \"1M\"\n"), "system: line 6, column 1: unknown key `rma` in component `uart`");
    let e = SystemFile::parse("shutdown = \"vm\"\n").unwrap_err();
    assert_eq!(e.to_string(), "system: line 1, column 1: unknown key `shutdown` in the system file");
}

#[test]
fn unknown_keys_outside_components_are_noted() {
    let f = SystemFile::parse(&format!("shutdown = 1\nafter = 2\nshutdown_after = 3\n{HEAD}")).unwrap();
    assert!(f.entries[0].result.is_ok() && f.shutdown_after.is_empty());
    let errors: Vec<_> = f.errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors[0], "system: line 1, column 1: unknown key `shutdown` in the system file");
    assert_eq!(errors[1], "system: line 2, column 1: unknown key `after` in the system file");
    assert!(errors[2].starts_with("system: line 3, column 18: the system file, key `shutdown_after`"), "{errors:?}");
}

#[test]
fn missing_keys_are_named() {
    let f = SystemFile::parse("\n[[component]]\nname = \"uart\"\nbinary = \"b\"\npriority = 1\n").unwrap();
    let e = f.entries[0].result.as_ref().unwrap_err();
    assert_eq!(e.to_string(), "system: line 2, column 1: key `ram` is missing in component `uart`");
    let f = SystemFile::parse("[[component]]\nram = \"1M\"\n").unwrap();
    assert_eq!(f.entries[0].label, "number 1");
}

#[test]
fn wrong_types_name_component_and_key() {
    let e = SystemFile::parse(&HEAD.replace("\"1M\"", "1")).unwrap().entries.remove(0).result.unwrap_err();
    let want = "system: line 4, column 7: component `uart`, key `ram`: invalid type: integer `1`, expected a string";
    assert_eq!(e.to_string(), want);
    let irqs = "system: line 6, column 9: component `uart`, key `irqs`: invalid type: string \"4\", expected i64";
    assert_eq!(error_of("irqs = [\"4\"]\n"), irqs);
    for (text, key) in [
        ("shutdown_after = 1", "shutdown_after"),
        ("shutdown_after = [\"uart\", 1]", "shutdown_after"),
        ("component = 1", "component"),
    ] {
        assert!(SystemFile::parse(text).unwrap_err().to_string().contains(&format!("key `{key}`")));
    }
    assert!(SystemFile::parse("component = [1]").unwrap().entries[0].result.is_err());
}

#[test]
fn each_value_is_checked() {
    for (tail, want) in [
        ("io_ports = [\"0x3ff-0x3f8\"]", "io_ports`: port range \"0x3ff-0x3f8\" ends before it starts"),
        ("io_ports = [\"com1\"]", "io_ports`: \"com1\" is no port range"),
        ("io_ports = [\"1-3\", \"3\"]", "io_ports`: 0x3-0x3 is there twice"),
        ("irqs = [-1]", "irqs`: -1 is no interrupt"),
        ("irqs = [4, 4]", "irqs`: 4 is there twice"),
        ("irqs = [1,2,3,4,5,6,7,8,9]", "irqs`: a component has at most 8"),
        ("provides = [\"a\", \"a\"]", "provides`: `a` is there twice"),
        ("provides = [\"\"]", "provides`: \"\" is no name"),
        ("provides = [\"a b\"]", "provides`: \"a b\" is no name"),
        ("roms = [\"config\"]\nconfig = {}", "roms`: `config` is the name of the ROM made from"),
        ("routes = { log = 1 }", "routes`: invalid type"),
        ("config = 1", "config`: invalid type"),
    ] {
        let e = error_of(tail);
        assert!(e.starts_with("system: line 6, column ") && e.contains(want), "{tail}: {e}");
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
        let f = SystemFile::parse(&HEAD.replace(from, to)).unwrap();
        let e = f.entries[0].result.as_ref().unwrap_err().to_string();
        assert!(e.contains(want), "{from} to {to}: {e}");
    }
}

#[test]
fn too_many_roms_and_routes() {
    let names = |n: usize| (0..n).map(|i| format!("\"r{i}\"")).collect::<Vec<_>>().join(",");
    let roms = |n, more| SystemFile::parse(&format!("{HEAD}roms = [{}]\n{more}", names(n))).unwrap();
    assert!(roms(16, "").entries[0].result.is_ok());
    assert!(roms(17, "").entries[0].result.is_err());
    assert!(roms(16, "config = {}").entries[0].result.is_err(), "no room for the ROM `config`");
    let routes: String = (0..25).map(|i| format!("s{i} = \"x\"\n")).collect();
    assert!(error_of(&format!("[component.routes]\n{routes}")).contains("at most 24 channels"));
}

#[test]
fn what_belongs_to_one_component_is_refused_to_the_next() {
    let second = HEAD.replace("uart\"", "two\"");
    let both = |key: &str| format!("{HEAD}{key}\n{second}{key}\n");
    for (key, want) in [
        ("io_ports = [\"0x3f8-0x3ff\"]", "0x3f8-0x3ff overlaps ports of component `uart`"),
        ("irqs = [4]", "4 belongs to component `uart`"),
    ] {
        let f = SystemFile::parse(&both(key)).unwrap();
        assert!(f.entries[0].result.is_ok(), "the first one keeps it");
        let e = f.entries[1].result.as_ref().unwrap_err().to_string();
        assert!(e.starts_with("system: line 12, ") && e.contains("component `two`") && e.contains(want), "{e}");
    }
}

#[test]
fn a_component_named_twice_is_refused_once() {
    let f = SystemFile::parse(&format!("{HEAD}{HEAD}")).unwrap();
    assert!(f.entries[0].result.is_ok());
    let e = f.entries[1].result.as_ref().unwrap_err();
    assert_eq!(e.to_string(), "system: line 7, column 8: component `uart` is named twice; the first one counts");
    assert_eq!(f.index_of("uart"), Some(0));
}

#[test]
fn shutdown_after_nobody_is_reported_but_not_fatal() {
    let f = SystemFile::parse(&format!("shutdown_after = \"vm\"\n{HEAD}")).unwrap();
    assert!(f.shutdown_after.is_empty());
    assert_eq!(f.errors[0].to_string(), "system: line 1, column 18: shutdown_after: there is no component `vm`");
    assert!(f.entries[0].result.is_ok());
}

#[test]
fn shutdown_after_may_name_several() {
    let second = HEAD.replace("\"uart\"", "\"second\"");
    let f = SystemFile::parse(&format!("shutdown_after = [\"second\", \"vm\", \"uart\"]\n{HEAD}{second}")).unwrap();
    assert_eq!(f.shutdown_after, [1, 0]);
    assert_eq!(f.errors[0].to_string(), "system: line 1, column 29: shutdown_after: there is no component `vm`");
}

#[test]
fn an_empty_file_is_no_system() {
    assert_eq!(SystemFile::parse("").unwrap_err().cause, Cause::Empty);
    assert_eq!(SystemFile::parse("component = []").unwrap_err().cause, Cause::Empty);
}

#[test]
fn columns_count_characters() {
    let e = SystemFile::parse(&HEAD.replace("uart\"", "ü\"")).unwrap().entries.remove(0).result.unwrap_err();
    assert_eq!((e.line, e.column), (2, 8));
    let e = SystemFile::parse("a = \"ü\" x").unwrap_err();
    assert_eq!((e.line, e.column), (1, 9));
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
        let _ = SystemFile::parse(&text);
    }
}

#[test]
fn kernel_memory_is_a_size_or_depends_on_ram() {
    let kmem = |text: &str| SystemFile::parse(text).unwrap().entries[0].result.clone().map(|c| c.kmem.bytes());
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
    let parse = |text: &str| SystemFile::parse(&format!("{text}\n{HEAD}")).unwrap();
    assert_eq!(parse("").trace, TraceKinds::empty());
    let f = parse("trace = [\"exit\", \"ipi\"]");
    assert_eq!((f.trace, f.errors.len()), (TraceKinds::EXIT | TraceKinds::IPI, 0));
    let f = parse("trace = [\"exit\", \"exits\"]");
    assert!(
        f.trace.is_empty()
            && f.errors[0].to_string().contains("line 1, column 18: the system file, key `trace`: `exits` is nothing"),
        "{}",
        f.errors[0]
    );
    assert_eq!(parse("trace = 5").errors.len(), 1);
}
