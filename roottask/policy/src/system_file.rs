//! What of a configuration (crate `init`) the root task can do. What it cannot do yet costs the component that asks for
//! it, with a defect that names the key.

use init::{At, CORE_SERVICES, Cause, Component, Config, Defect, Exit};
use session::Target;

/// Reads a system file.
pub fn system_file(text: &str) -> Result<Config, Vec<Defect>> {
    let mut config = Config::parse(text)?;
    for entry in &mut config.entries {
        let mut refused = entry.result.as_ref().map_or(Vec::new(), refused).into_iter();
        if let Some(first) = refused.next() {
            entry.result = Err(first);
            entry.more.extend(refused);
        }
    }
    let keys = [
        ("parent_provides", config.parent_provides.is_some()),
        ("preserve", config.preserve != Default::default()),
        ("report", config.report.is_some()),
        ("service", !config.services.is_empty()),
    ];
    let noted =
        keys.iter().filter(|(_, there)| *there).map(|(key, _)| defect(At::default(), "the system file", key, NOT_YET));
    config.defects.extend(noted);
    Ok(config)
}

const NOT_YET: &str = "the root task cannot do that yet";

fn defect(at: At, place: &str, key: &'static str, reason: &str) -> Defect {
    Defect { at, cause: Cause::Value { place: place.into(), key, reason: reason.into() } }
}

/// What a component asks for in vain.
fn refused(c: &Component) -> Vec<Defect> {
    let place = format!("component `{}`", c.name);
    let mut all = Vec::new();
    let mut refuse = |at, key, reason: &str| all.push(defect(at, &place, key, reason));
    if c.exit.value != Exit::Stay {
        refuse(c.exit.at, "exit", NOT_YET);
    }
    for route in &c.routes {
        if let (Target::Parent, Some(service)) = (route.rule.target, &route.rule.service)
            && !CORE_SERVICES.contains(&service.as_str())
        {
            let all = CORE_SERVICES.join("`, `");
            refuse(route.at, "route", &format!("the root task does not offer `{service}`, but `{all}`"));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "[[component]]\nname = \"uart\"\nbinary = \"uart16550\"\nram = \"1M\"\npriority = 50\n";

    fn defects(tail: &str) -> Vec<String> {
        let config = system_file(&format!("{HEAD}{tail}\n")).unwrap();
        config.all_defects().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_the_root_task_can_do_passes() {
        for tail in [
            "",
            "restart = 1000",
            "restart = { limit = 3, delay = \"1s\" }",
            "restart = 2\nprovides = [\"gpu\"]\nroutes = { timer = \"parent\", nic = \"a\" }",
            "version = \"2\"",
            "routes = { log = \"a\" }",
            "restart = 1\nprovides = [\"log\"]\nroutes = { terminal = \"a\" }",
            "route = [{ service = \"log\", to = \"a\", label = \"x\", relabel = \"y\" }]",
            "caps = 100\nspare = \"8K\"\nheartbeat = {}",
            "route = [{ service = \"nic\", to = \"a\", label_prefix = \"x\", relabel = \"y\" }, { to = \"any-child\" }]",
        ] {
            assert_eq!(defects(tail), [""; 0], "{tail}");
        }
    }

    #[test]
    fn what_it_cannot_do_yet_is_named_with_its_place() {
        let cannot = "the root task cannot do that yet";
        let found = defects("exit = \"propagate\"");
        assert_eq!(found, [format!("line 6, column 8: component `uart`, key `exit`: {cannot}")]);
        let found = defects("routes = { gpu = \"parent\" }");
        assert!(found.len() == 1 && found[0].contains("the root task does not offer `gpu`, but `timer`"), "{found:?}");
    }

    #[test]
    fn what_is_for_inits_is_noted() {
        let keys = "parent_provides = []\npreserve = { ram = \"4K\" }\nreport = {}\nservice = [{ name = \"a\", to = \
         \"uart\" }]\n";
        let config = system_file(&format!("{keys}{HEAD}")).unwrap();
        assert!(config.entries[0].result.is_ok());
        let noted: Vec<_> = config.defects.iter().map(ToString::to_string).collect();
        let want = |key| format!("the system file, key `{key}`: the root task cannot do that yet");
        assert_eq!(noted, ["parent_provides", "preserve", "report", "service"].map(want));
    }

    #[test]
    fn the_shipped_systems_can_be_done() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/systems");
        let mut seen = 0;
        for file in std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "toml") {
                let config = system_file(&std::fs::read_to_string(&file).unwrap()).unwrap();
                assert!(config.all_defects().is_empty(), "{file:?}: {config:?}");
                seen += 1;
            }
        }
        assert!(seen > 0, "no system file in {dir}");
    }
}
