//! What the root task, as a parent, is told about a component: from its description to `session::Spec`.
//!
//! Key function: [`spec`].

use init::{Component, Config};
use session::{Quota, Routes, Rule, Spec, Target};

/// The service that tells what runs.
const TRACE: &str = "trace";

/// Whether a component may have sessions of the root task's trace service.
pub fn watched(file: &Config) -> bool {
    let trace = |rule: &Rule| rule.target == Target::Parent && rule.service.is_none_or(|s| s.as_str() == TRACE);
    file.components().any(|c| c.routes.iter().any(|route| trace(&route.rule)))
}

/// What of its RAM and its capabilities is in use as soon as it has started.
pub fn mapped(c: &Component) -> Quota {
    c.mapped()
}

/// What the root task is to know of it as its parent.
pub fn spec(c: &Component) -> Spec {
    let spec = c.spec();
    let routes = spec.routes.0.iter().map(own).collect();
    Spec { routes: Routes(routes), ..spec }
}

/// The root task is the parent, and has none.
fn own(rule: &Rule) -> Rule {
    let target = if rule.target == Target::Parent { Target::Own } else { rule.target };
    Rule { target, ..rule.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parent::Name;
    use session::{Heartbeat, Restart, Time};

    const MS: Time = 1_000_000;

    fn component(tail: &str) -> Component {
        let text = format!("[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n{tail}\n");
        Config::parse(&text).unwrap().entries.remove(0).result.unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn ram_is_mapped_but_for_an_eighth() {
        let c = component("");
        assert_eq!((c.quota().ram(), c.quota().caps()), (1 << 20, 144));
        assert_eq!(mapped(&c).ram(), 896 << 10);
        let c = component("spare = \"16K\"\ncaps = 9");
        assert_eq!((mapped(&c).ram(), c.quota().caps()), ((1 << 20) - (16 << 10), 9));
    }

    #[test]
    fn who_says_nothing_of_more_gets_no_more() {
        let s = spec(&component(""));
        assert_eq!(s.most, s.quota);
        let s = spec(&component("most = { ram = \"2M\", caps = 500 }"));
        assert_eq!((s.most.ram(), s.most.caps(), s.quota.ram()), (2 << 20, 500, 1 << 20));
    }

    #[test]
    fn the_parent_is_the_root_task_itself() {
        let c =
            component("provides = [\"terminal\", \"gpu\"]\nroutes = { log = \"b\", gpu = \"b\", timer = \"parent\" }");
        let spec = spec(&c);
        assert_eq!(spec.provides, [name("terminal"), name("gpu")]);
        let all: Vec<_> = spec.routes.0.iter().map(|r| (r.service.unwrap(), r.target)).collect();
        assert!(all.contains(&(name("gpu"), Target::Child(name("b")))) && all.contains(&(name("timer"), Target::Own)));
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn who_may_trace_has_the_threads_watched() {
        let of = |routes: &str| {
            let text = format!("[[component]]\nname = \"a\"\nbinary = \"m\"\nram = \"1M\"\npriority = 1\n{routes}\n");
            watched(&Config::parse(&text).unwrap())
        };
        assert!(of("routes = { trace = \"parent\" }") && of("route = [{ to = \"parent\" }]"));
        assert!(!of("routes = { timer = \"parent\" }") && !of(""));
    }

    #[test]
    fn times_are_nanoseconds() {
        let tail = "heartbeat = { every = \"10ms\", restart_after = 3 }\n\
                    restart = { limit = 5, within = \"1m\", delay = \"100ms\", longest_delay = \"10s\" }";
        let s = spec(&component(tail));
        assert_eq!(s.heartbeat, Some(Heartbeat { every: 10 * MS, missed: 3 }));
        let restart = Restart { tries: 5, first: 100 * MS, longest: 10_000 * MS, calm: 60_000 * MS, after_exit: true };
        assert_eq!(s.restart, restart);
        let s = spec(&component("restart = 2\nheartbeat = {}"));
        assert_eq!(s.heartbeat, Some(Heartbeat { every: 1000 * MS, missed: u32::MAX }));
        assert_eq!((s.restart.tries, s.restart.first, s.restart.calm), (2, 0, Time::MAX));
    }
}
