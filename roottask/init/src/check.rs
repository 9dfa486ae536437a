//! Whether a configuration can work, decided without running it: each route leads to somebody who serves, quotas fit,
//! nobody waits for himself, what is to be loaded is there. And who can reach whom.
//!
//! Key types: [`check`], [`World`], [`Verdict`], [`Reach`]. `reach` follows routes through inits.

use crate::config::{Component, Config, Route};
use crate::defect::Defect;
use crate::document::{At, Placed};
use crate::quantity::human;
use crate::reach::{Frame, ROM, Reach, Walker};
use crate::supplied::{self, Supplied};
use parent::Name;
use petgraph::algo::kosaraju_scc;
use petgraph::graphmap::DiGraphMap;
use session::Routes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

/// What a system is to run in, as far as it is known.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// RAM for components in bytes.
    pub ram: Option<u64>,
    /// Kernel memory for components in bytes.
    pub kmem: Option<u64>,
    /// Capabilities for components.
    pub caps: Option<u64>,
    /// CPUs.
    pub cpus: Option<u16>,
    /// Boot modules; `None`: any that is asked for.
    pub modules: Option<BTreeSet<String>>,
    /// What is in boot modules that may be configurations, by name, as far as it is known.
    pub texts: BTreeMap<String, String>,
    /// Services of the root task.
    pub services: Vec<Name>,
}

/// What became of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What keeps the system, or a component, from working.
    pub errors: Vec<Finding>,
    /// What is of no use, or may be meant otherwise.
    pub warnings: Vec<Finding>,
    /// Who can reach whom.
    pub reach: Vec<Reach>,
}

/// Something that was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The boot module that it is in; empty: what is checked.
    pub module: String,
    /// The place.
    pub at: At,
    /// What.
    pub text: String,
}

impl Finding {
    pub(crate) fn new(at: At, text: impl Display) -> Finding {
        Finding { module: String::new(), at, text: text.to_string() }
    }

    pub(crate) fn of(self, module: &str) -> Finding {
        Finding { module: module.into(), ..self }
    }
}

impl From<&Defect> for Finding {
    fn from(d: &Defect) -> Finding {
        Finding::new(d.at, &d.cause)
    }
}

/// Checks all of a configuration, nested ones included, also those that are boot modules with a known text. Components that have defects of their own are taken as they
/// would be if these were mended: as somebody who may serve, and asks for nothing.
pub fn check(config: &Config, world: &World) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.errors.extend(config.all_defects().into_iter().map(Finding::from));
    let root = Frame { config, path: String::new(), parent: None, module: "" };
    let supplied = supplied::all(&root, world, &mut verdict);
    let budget = Budget {
        ram: world.ram,
        kmem: world.kmem,
        caps: world.caps,
        whose: "the machine".into(),
        at: At::default(),
        module: "",
    };
    Checker { world, supplied: &supplied, verdict: &mut verdict, module: "" }.all(&root, &budget);
    unused(&Walker { frame: &root, world, supplied: &supplied }, &mut verdict);
    cycles(&mut verdict);
    for list in [&mut verdict.errors, &mut verdict.warnings] {
        list.sort();
        list.dedup();
    }
    verdict
}

/// What the parent of some components has for them.
struct Budget<'a> {
    ram: Option<u64>,
    kmem: Option<u64>,
    caps: Option<u64>,
    whose: String,
    at: At,
    module: &'a str,
}

struct Checker<'a> {
    world: &'a World,
    supplied: &'a Supplied,
    verdict: &'a mut Verdict,
    /// Where the configuration is that is being checked.
    module: &'a str,
}

impl<'a> Checker<'a> {
    fn error(&mut self, at: At, text: impl Display) {
        self.verdict.errors.push(Finding::new(at, text).of(self.module));
    }

    fn warn(&mut self, at: At, text: impl Display) {
        self.verdict.warnings.push(Finding::new(at, text).of(self.module));
    }

    fn all(&mut self, frame: &Frame<'_>, budget: &Budget<'_>) {
        self.quotas(frame.config, budget);
        for (index, entry) in frame.config.entries.iter().enumerate() {
            let Ok(c) = &entry.result else { continue };
            let walker = Walker { frame, world: self.world, supplied: self.supplied };
            walker.routes(index, c, self.verdict);
            self.loaded(&walker, index, c);
            self.shadowed(frame, c);
            self.words(frame, c);
            self.devices(frame, c);
            self.nested(&walker, index, c);
        }
    }

    fn nested(&mut self, walker: &Walker<'_>, index: usize, c: &Component) {
        if c.nested.is_none() {
            self.reads_configuration(walker, index, c);
        }
        let Some(inner) = walker.inner(index, c) else { return };
        let Frame { config, path, module, .. } = &inner;
        let caps = Some(c.capabilities().into());
        let (ram, kmem) = (Some(c.spare_bytes()), Some(c.kernel_memory_of_children()));
        let budget = Budget { ram, kmem, caps, whose: format!("`{path}`"), at: c.ram.at, module: self.module };
        let beyond = config.components().flat_map(|inner| within(c, path, inner)).map(|finding| finding.of(module));
        self.verdict.errors.extend(beyond);
        for p in &c.provides {
            if !config.services.iter().any(|s| s.name == p.value) {
                self.error(p.at, format!("`{path}` is to provide `{}`, but has no [[service]] of that name", p.value));
            }
        }
        let Checker { world, supplied, verdict, .. } = self;
        let mut there = Checker { world, supplied, verdict, module };
        for s in config.services.iter().filter(|s| !c.provides(&s.name)) {
            there.warn(s.at, format!("`{}` is not among what `{path}` provides: nobody asks for it", s.name));
        }
        there.all(&inner, &budget);
    }

    /// An init without the key `config` has a configuration from somewhere, and means of its own for what will be in it.
    fn reads_configuration(&mut self, walker: &Walker<'_>, index: usize, c: &Component) {
        if c.binary.value != crate::INIT {
            return;
        }
        let path = walker.frame.path_of(c.name.as_str());
        if walker.origin(index, c).is_none() {
            self.warn(c.at, format!("`{path}` is an init without a configuration: it starts nothing"));
        } else if c.children.is_none() {
            let key = "`children = { kmem = \"...\" }`";
            self.error(
                c.at,
                format!("`{path}` reads its configuration as a ROM, and has no {key}: it can start nobody"),
            );
        }
    }

    fn quotas(&mut self, config: &Config, budget: &Budget<'_>) {
        let sum = |of: fn(&Component) -> u64| config.components().map(of).fold(0u64, u64::saturating_add);
        let ram = sum(|c| c.ram.value.bytes()).saturating_add(config.preserve.ram);
        let kmem = sum(Component::kernel_memory_with_children);
        let caps = sum(|c| c.capabilities().into()).saturating_add(config.preserve.caps.into());
        let bytes: fn(u64) -> String = human;
        for (c, most) in config.components().filter_map(|c| Some((c, c.most?))) {
            let (ram, caps) = (budget.ram.unwrap_or(u64::MAX), budget.caps.unwrap_or(u64::MAX));
            if most.value.ram > ram || u64::from(most.value.caps) > caps {
                let text = format!("`{}` may have more than {} has: `most` bounds nothing", c.name, budget.whose);
                self.warn(most.at, text);
            }
        }
        for (what, asked, there, shown) in [
            ("RAM", ram, budget.ram, bytes),
            ("kernel memory", kmem, budget.kmem, bytes),
            ("capabilities", caps, budget.caps, |n| n.to_string()),
        ] {
            if let Some(there) = there.filter(|&there| asked > there) {
                let (whose, asked, there) = (&budget.whose, shown(asked), shown(there));
                let text = format!("{what}: {asked} are given out, but {whose} has {there} for components");
                self.verdict.errors.push(Finding::new(budget.at, text).of(budget.module));
            }
        }
    }

    /// Binaries and ROMs are there, CPUs as well.
    fn loaded(&mut self, walker: &Walker<'_>, index: usize, c: &Component) {
        let binary = (c.binary.value.as_str(), c.binary.at, "binary");
        let roms = c.roms.iter().map(|r| (r.value.as_str(), r.at, "roms"));
        for (module, at, key) in std::iter::once(binary).chain(roms) {
            if let Err(why) = walker.rom(index, c, module) {
                self.error(at, format!("component `{}`, key `{key}`: {why}", walker.frame.path_of(c.name.as_str())));
            }
        }
        let Some(cpus) = self.world.cpus else { return };
        let has = if cpus == 1 { "only 0".into() } else { format!("0 to {}", cpus.saturating_sub(1)) };
        for cpu in c.cpus.iter().flatten().filter(|cpu| cpu.value >= cpus) {
            let path = walker.frame.path_of(c.name.as_str());
            self.error(
                cpu.at,
                format!("component `{path}`, key `cpus`: there is no CPU {}: the machine has {has}", cpu.value),
            );
        }
    }

    fn shadowed(&mut self, frame: &Frame<'_>, c: &Component) {
        let rules = Routes(c.routes.iter().map(|r| r.rule.clone()).collect());
        for (index, before) in rules.unreachable() {
            let (route, before) = (&c.routes[index], &c.routes[before]);
            if !route.default {
                let path = frame.path_of(c.name.as_str());
                self.warn(
                    route.at,
                    format!("component `{path}`: this route is never reached, because of that in {}", before.at),
                );
            }
        }
    }

    /// Whoever may have a device opens a session for it.
    fn devices(&mut self, frame: &Frame<'_>, c: &Component) {
        let keys = [
            ("io_ports", "io_port", c.io_ports.first().map(|p| p.at)),
            ("irqs", "irq", c.irqs.first().map(|i| i.at)),
            ("io_mem", "io_mem", c.io_mem.first().map(|m| m.at)),
        ];
        for (key, service, at) in keys {
            let routed = |r: &Route| r.rule.service.is_none_or(|s| s.as_str() == service);
            if let Some(at) = at.filter(|_| !c.routes.iter().any(routed)) {
                let path = frame.path_of(c.name.as_str());
                let text =
                    format!("component `{path}`, key `{key}`: it has no route for `{service}`, and cannot open any");
                self.warn(at, text);
            }
        }
    }

    /// What contradicts itself.
    fn words(&mut self, frame: &Frame<'_>, c: &Component) {
        let Some(beat) = c.heartbeat else { return };
        if beat.value.restart_after.is_some() && c.restart.value.limit == 0 {
            let path = frame.path_of(c.name.as_str());
            self.warn(beat.at, format!("component `{path}` is stopped when its heart stops: it has no `restart`"));
        }
    }
}

/// What a component is to have beyond what its parent has, of which the label is `path`: devices, CPUs, priority.
pub fn within(outer: &Component, path: &str, inner: &Component) -> Vec<Finding> {
    let name = format!("{path}{}{}", session::ARROW, inner.name);
    let mut found = Vec::new();
    let mut error = |at, text| found.push(Finding::new(at, text));
    for p in inner.io_ports.iter().filter(|p| !outer.io_ports.iter().any(|o| o.value.contains(p.value))) {
        error(p.at, format!("`{name}` is to have ports {}, which `{path}` has not", p.value));
    }
    for m in inner.io_mem.iter().filter(|m| !outer.io_mem.iter().any(|o| o.value.contains(m.value))) {
        error(m.at, format!("`{name}` is to have device memory {}, which `{path}` has not", m.value));
    }
    for i in inner.irqs.iter().filter(|i| !outer.irqs.iter().any(|o| o.value == i.value)) {
        error(i.at, format!("`{name}` is to have interrupt {}, which `{path}` has not", i.value));
    }
    let theirs = |cpu: u16| outer.cpus.as_ref().is_none_or(|cpus| cpus.iter().any(|o| o.value == cpu));
    for c in inner.cpus.iter().flatten().filter(|c| !theirs(c.value)) {
        error(c.at, format!("`{name}` is to use CPU {}, which `{path}` may not", c.value));
    }
    if inner.priority > outer.priority {
        error(
            inner.at,
            format!("`{name}` is to have priority {}, and `{path}` has {}", inner.priority, outer.priority),
        );
    }
    found
}

/// Services that nobody can reach, and ways that nobody goes.
fn unused(walker: &Walker<'_>, verdict: &mut Verdict) {
    let frame = walker.frame;
    let reached = |path: &str, service: &Name| verdict.reach.iter().any(|r| r.passes(path, service));
    let mut found = Vec::new();
    for c in frame.config.components() {
        let path = frame.path_of(c.name.as_str());
        for p in c.provides.iter().filter(|p| !reached(&path, &p.value)) {
            found.push(Finding::new(p.at, format!("nobody can reach `{}` of `{path}`", p.value)));
        }
    }
    // Binaries come from the parent without a route.
    let by_route = |s: &&Placed<Name>| s.value.as_str() != ROM;
    for s in frame.config.parent_provides.iter().flatten().filter(by_route) {
        let to_parent = |r: &Reach| r.service == s.value && r.left.contains(&frame.path);
        if !verdict.reach.iter().any(to_parent) {
            found.push(Finding::new(s.at, format!("no component can reach `{}` of the parent", s.value)));
        }
    }
    verdict.warnings.extend(found.into_iter().map(|finding| finding.of(frame.module)));
    for (index, c) in frame.config.entries.iter().enumerate() {
        let Ok(c) = &c.result else { continue };
        if let Some(inner) = walker.inner(index, c) {
            unused(&Walker { frame: &inner, ..*walker }, verdict);
        }
    }
}

/// Components that wait for each other before they can serve. A server of logs serves before it asks for anything.
fn cycles(verdict: &mut Verdict) {
    let edges: Vec<&Reach> =
        verdict.reach.iter().filter(|r| r.needed && r.service.as_str() != parent::SERVICE_LOG).collect();
    let graph: DiGraphMap<&str, ()> = edges.iter().map(|r| (r.client.as_str(), r.server.as_str())).collect();
    for circle in kosaraju_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let inside = |r: &&&Reach| circle.contains(&r.client.as_str()) && circle.contains(&r.server.as_str());
        let steps: Vec<&&Reach> = edges.iter().filter(inside).collect();
        let (module, at) = steps.iter().map(|r| (r.module.as_str(), r.at)).min().unwrap_or_default();
        let steps: Vec<_> =
            steps.iter().map(|r| format!("`{}` needs `{}` of `{}`", r.client, r.service, r.server)).collect();
        let text = format!("none of these can serve before the others do: {}", steps.join(", "));
        verdict.errors.push(Finding::new(at, text).of(module));
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
