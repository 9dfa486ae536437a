//! Who is whose child in the simulation, and where requests go.
//!
//! ```text
//! root ── srv, slow, hog, liar, cli0, cli1, init
//!           init ── srv2, cli2, liar2, init2
//!                     init2 ── srv3, cli3
//! ```

use crate::scripts::Script;
use session::{
    AccountId, Heartbeat, Labels, Limits, Name, Quota, Restart, Rewrite, Routes, Rule, Settings, Spec, Target,
};

/// A millisecond.
pub const MS: u64 = 1_000_000;
/// What a parent keeps of each donation.
pub const COST: Quota = quota(1, 1);
/// Bounds of each client.
pub const LIMITS: Limits = Limits { sessions: 8, pending: 2 };
/// Services that clients ask for. Nobody provides `none`; `own` is core's; `twin` is provided by two.
pub const SERVICES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "own", "twin", "none"];

pub const fn quota(pages: u64, caps: u64) -> Quota {
    match Quota::new(pages * 4096, caps) {
        Some(quota) => quota,
        None => Quota::NONE,
    }
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect(text)
}

/// What a component of this name is.
pub enum Program {
    Parent,
    Script(Script),
}

pub fn program(name: &str) -> Program {
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "init" => Program::Parent,
        "srv" => Program::Script(Script::server(16)),
        "slow" => Program::Script(Script::server(2)),
        "hog" => Program::Script(Script::hog()),
        "liar" => Program::Script(Script::liar()),
        _ => Program::Script(Script::client()),
    }
}

fn spec(text: &str, quota: Quota, provides: &[&str], routes: Vec<Rule>) -> Spec {
    Spec {
        name: name(text),
        quota,
        most: quota.plus(super::tree::quota(20, 20)).expect("small"),
        provides: provides.iter().map(|service| name(service)).collect(),
        routes: Routes(routes),
        limits: LIMITS,
        heartbeat: Some(Heartbeat { every: 40 * MS, missed: 2 }),
        restart: Restart { tries: 1_000_000, first: MS, longest: 50 * MS, calm: 500 * MS, after_exit: true },
    }
}

fn to(service: &str, child: &str) -> Rule {
    Rule::to(name(service), Target::Child(name(child)))
}

fn rest(target: Target) -> Rule {
    Rule { service: None, labels: Labels::Any, target, rewrite: Rewrite::default() }
}

fn up() -> Vec<Rule> {
    vec![rest(Target::Parent)]
}

/// What a parent of this name is made with.
pub fn settings(text: &str, account: AccountId) -> Settings {
    let exports = match text {
        "init" => vec![to("e", "srv2"), to("f", "init2")],
        "init2" => vec![to("f", "srv3")],
        _ => vec![],
    };
    Settings {
        account,
        cost: COST,
        patience: 200 * MS,
        own: vec![name("own")],
        exports: Routes(exports),
        above: Limits { sessions: 100, pending: 50 },
    }
}

/// The children of a parent of this name, without liars if it is to be peaceful.
pub fn children(text: &str, peaceful: bool) -> Vec<Spec> {
    let small = quota(100, 100);
    let specs = match text {
        "root" => {
            let own = Rule::to(name("own"), Target::Own);
            let twin = Rule::to(name("twin"), Target::AnyChild);
            let named = [("a", "srv"), ("b", "slow"), ("c", "hog"), ("d", "liar"), ("e", "init"), ("f", "init")];
            let routes: Vec<Rule> =
                named.map(|(service, child)| to(service, child)).into_iter().chain([own, twin]).collect();
            vec![
                spec("srv", small, &["a", "twin"], routes.clone()),
                spec("slow", small, &["b", "twin"], routes.clone()),
                spec("hog", small, &["c"], routes.clone()),
                spec("liar", small, &["d"], routes.clone()),
                spec("cli0", small, &[], routes.clone()),
                spec("cli1", small, &[], routes.clone()),
                spec("init", quota(1000, 1000), &["e", "f"], routes),
            ]
        }
        "init" => {
            let routes: Vec<Rule> = [to("e", "srv2"), to("f", "init2")].into_iter().chain(up()).collect();
            vec![
                spec("srv2", small, &["e"], routes.clone()),
                spec("cli2", small, &[], routes.clone()),
                spec("liar2", small, &[], routes.clone()),
                spec("init2", quota(400, 400), &["f"], routes),
            ]
        }
        _ => {
            let routes: Vec<Rule> = [to("f", "srv3")].into_iter().chain(up()).collect();
            vec![spec("srv3", small, &["f"], routes.clone()), spec("cli3", small, &[], routes)]
        }
    };
    let bad = |spec: &Spec| ["liar", "hog", "slow"].iter().any(|bad| spec.name.as_str().starts_with(bad));
    specs.into_iter().filter(|spec| !(peaceful && bad(spec))).collect()
}
