//! Follows requests for sessions along routes: up through parents, and down again into inits that offer services.
//!
//! Key types: [`Reach`], [`Walker`], [`Frame`]. `check` asks for each component.

use crate::check::{Finding, Verdict, World};
use crate::config::{Component, Config, Route};
use crate::defect::Hint;
use crate::document::At;
use crate::pattern::{Match, Pattern};
use crate::supplied::Supplied;
use parent::Name;
use session::{ARROW, Label, Routes, Rule, Target};

/// What the root task is called as a server.
pub const CORE: &str = "core";
/// The services that the root task itself has for its children.
pub const CORE_SERVICES: [&str; 7] = ["timer", "trace", "rom", VM, "io_port", "irq", "io_mem"];
/// Capabilities of all components together: a selector of the root task stands behind each, and it keeps a quarter of its
/// 32768 for itself.
pub const CORE_CAPS: u32 = 24 << 10;
/// The service of guests: who has a route for it may make virtual CPUs and their spaces.
pub const VM: &str = "vm";
/// The service of ROMs.
pub(crate) const ROM: &str = "rom";

/// That a component can have sessions with another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Label of the client, from the outermost init on.
    pub client: String,
    /// The service.
    pub service: Name,
    /// Labels that the server sees.
    pub label: String,
    /// Label of the server, from the outermost init on, or [`CORE`].
    pub server: String,
    /// Place of the route.
    pub at: At,
    /// The boot module that it is in; empty: what is checked.
    pub module: String,
    /// Whether the route is for this service alone: then the client is expected to use it.
    pub needed: bool,
    /// Inits that offer the service of their child as theirs.
    pub(crate) through: Vec<String>,
    /// Inits whose parent was asked; "" is the root task.
    pub(crate) left: Vec<String>,
}

impl Reach {
    /// Whether it ends at this server, or goes through this init.
    pub(crate) fn passes(&self, path: &str, service: &Name) -> bool {
        self.service == *service && (self.server == path || self.through.iter().any(|t| t == path))
    }
}

/// A configuration and where it is in the tree.
pub(crate) struct Frame<'a> {
    pub config: &'a Config,
    /// Label of the init that has it; empty for the root task.
    pub path: String,
    /// The configuration of its parent, and its index there.
    pub parent: Option<(&'a Frame<'a>, usize)>,
    /// The boot module that it is in; empty: what is checked.
    pub module: &'a str,
}

impl Frame<'_> {
    /// Label of a child from the outermost init on.
    pub fn path_of(&self, child: &str) -> String {
        if self.path.is_empty() { child.into() } else { format!("{}{ARROW}{child}", self.path) }
    }

    /// What is responsible, for messages.
    fn whose(&self) -> String {
        if self.path.is_empty() { "the root task".into() } else { format!("`{}`", self.path) }
    }
}

/// A request on its way.
#[derive(Clone)]
struct Trip {
    service: Name,
    labels: Pattern,
    through: Vec<String>,
    left: Vec<String>,
}

/// Where a request ends: with whom, or why nowhere.
type End = Result<(Trip, String), String>;

/// Follows the requests of the components of one configuration.
#[derive(Clone, Copy)]
pub(crate) struct Walker<'a> {
    pub frame: &'a Frame<'a>,
    pub world: &'a World,
    pub supplied: &'a Supplied,
}

impl Walker<'_> {
    /// Follows each route of a component that is ever reached.
    pub fn routes(&self, index: usize, c: &Component, verdict: &mut Verdict) {
        let unreachable = Routes(c.routes.iter().map(|r| r.rule.clone()).collect()).unreachable();
        for (number, route) in c.routes.iter().enumerate() {
            if unreachable.iter().any(|(never, _)| *never == number) {
                continue;
            }
            match route.rule.service {
                Some(service) => {
                    for end in self.route(index, c, route, service) {
                        match end {
                            Ok(end) => verdict.reach.push(self.reach(c, route, end, true)),
                            Err(_) if route.rule.target == Target::Deny => (),
                            Err(why) => verdict.errors.push(self.nowhere(c, route, why)),
                        }
                    }
                }
                None => self.any_service(index, c, number, verdict),
            }
        }
    }

    fn nowhere(&self, c: &Component, route: &Route, why: String) -> Finding {
        let default = if route.default { " (by `defaults`)" } else { "" };
        let why = format!("component `{}`{default}: {why}", self.frame.path_of(c.name.as_str()));
        Finding::new(route.at, why).of(self.frame.module)
    }

    /// A route for all services that no earlier one takes.
    fn any_service(&self, index: usize, c: &Component, number: usize, verdict: &mut Verdict) {
        let route = &c.routes[number];
        let mut services = self.services();
        services.retain(|s| {
            let rule = Rule { service: Some(*s), ..route.rule.clone() };
            !c.routes[..number].iter().any(|before| before.rule.covers(&rule))
        });
        let ends = services.into_iter().flat_map(|s| self.route(index, c, route, s));
        let found: Vec<_> = ends.flatten().map(|end| self.reach(c, route, end, false)).collect();
        if found.is_empty() && route.rule.target != Target::Deny {
            verdict.warnings.push(self.nowhere(c, route, "no service can be reached by this route".into()));
        }
        verdict.reach.extend(found);
    }

    /// All services that are named anywhere in reach: of the root task, of children here and further out.
    fn services(&self) -> Vec<Name> {
        let mut all = self.world.services.clone();
        let mut frame = Some(self.frame);
        while let Some(f) = frame {
            all.extend(f.config.components().flat_map(|c| c.provides.iter().map(|p| p.value)));
            frame = f.parent.map(|(outer, _)| outer);
        }
        let mut once: Vec<Name> = Vec::new();
        all.into_iter().for_each(|s| {
            if !once.contains(&s) {
                once.push(s)
            }
        });
        once
    }

    fn reach(&self, c: &Component, route: &Route, (trip, server): (Trip, String), needed: bool) -> Reach {
        let Trip { service, labels, through, left } = trip;
        let client = self.frame.path_of(c.name.as_str());
        let module = self.frame.module.to_owned();
        Reach { client, service, label: labels.to_string(), server, at: route.at, module, needed, through, left }
    }

    fn route(&self, index: usize, c: &Component, route: &Route, service: Name) -> Vec<End> {
        let labels = Pattern::asked(&route.rule.labels);
        self.follow(index, c, &route.rule, Trip { service, labels, through: Vec::new(), left: Vec::new() })
    }

    /// What child `index` asks for goes by the first rules that take it.
    fn ask(&self, index: usize, c: &Component, trip: Trip) -> Vec<End> {
        let mut ends = Vec::new();
        for rule in c.routes.iter().map(|r| &r.rule).filter(|r| r.service.is_none_or(|s| s == trip.service)) {
            let last = match trip.labels.select(&rule.labels) {
                Match::Never => continue,
                Match::Maybe(labels) => {
                    ends.extend(self.follow(index, c, rule, Trip { labels, ..trip.clone() }));
                    false
                }
                Match::Always => {
                    ends.extend(self.follow(index, c, rule, trip.clone()));
                    true
                }
            };
            if last {
                return ends;
            }
        }
        if ends.is_empty() {
            let (whose, name) = (self.frame.whose(), self.frame.path_of(c.name.as_str()));
            ends.push(Err(format!("{whose} has no route of `{name}` for `{}` \"{}\"", trip.service, trip.labels)));
        }
        ends
    }

    /// One rule of child `index`.
    fn follow(&self, index: usize, c: &Component, rule: &Rule, trip: Trip) -> Vec<End> {
        let labels = rule.rewrite.label.as_ref().map_or(trip.labels, Pattern::exactly).below(c.name);
        let trip = Trip { labels, ..trip };
        let config = self.frame.config;
        match rule.target {
            Target::Child(child) => match config.provider(index, &trip.service, &child) {
                Ok(server) => self.serve(server, trip),
                Err(why) => vec![Err(why)],
            },
            Target::AnyChild => {
                let provides = |c: &Component| c.provides(&trip.service);
                let server = config.entries.iter().position(|e| e.result.as_ref().is_ok_and(provides));
                match server {
                    Some(server) if server != index => self.serve(server, trip),
                    Some(_) => vec![Err(format!("`{}` goes to the component itself", trip.service))],
                    None => vec![Err(format!("no component provides `{}`", trip.service))],
                }
            }
            Target::Parent => self.leave(trip),
            Target::Own | Target::Deny => {
                vec![Err(format!("{} denies `{}` \"{}\"", self.frame.whose(), trip.service, trip.labels))]
            }
        }
    }

    /// To the parent of whose configuration this is.
    fn leave(&self, mut trip: Trip) -> Vec<End> {
        let Frame { config, path, parent, .. } = self.frame;
        if let Some(list) = &config.parent_provides
            && !list.iter().any(|s| s.value == trip.service)
        {
            let hint = Hint::new(trip.service.as_str(), list.iter().map(|s| s.value.as_str()));
            return vec![Err(format!("`parent_provides` has no `{}`{hint}", trip.service))];
        }
        trip.left.push(path.clone());
        let Some((frame, index)) = *parent else {
            if self.world.services.contains(&trip.service) {
                return vec![self.has(&trip).map(|()| (trip, CORE.into()))];
            }
            let hint = Hint::new(trip.service.as_str(), self.world.services.iter().map(Name::as_str));
            return vec![Err(format!("the root task does not provide `{}`{hint}", trip.service))];
        };
        match &frame.config.entries[index].result {
            Ok(c) => Walker { frame, ..*self }.ask(index, c, trip),
            Err(_) => Vec::new(),
        }
    }

    /// Child `index` serves, or, if it is an init, the child that its configuration says.
    fn serve(&self, index: usize, mut trip: Trip) -> Vec<End> {
        let entry = &self.frame.config.entries[index];
        let path = self.frame.path_of(&entry.label);
        let Some(frame) = entry.result.as_ref().ok().and_then(|c| self.inner(index, c)) else {
            return vec![Ok((trip, path))];
        };
        trip.through.push(path);
        Walker { frame: &frame, ..*self }.offer(trip)
    }

    /// What comes from the parent goes to the child that is to serve it.
    fn offer(&self, trip: Trip) -> Vec<End> {
        let config = self.frame.config;
        let mut ends = Vec::new();
        for s in config.services.iter().filter(|s| s.name == trip.service) {
            let (labels, last) = match trip.labels.select(&s.rule.labels) {
                Match::Never => continue,
                Match::Maybe(labels) => (labels, false),
                Match::Always => (trip.labels.clone(), true),
            };
            let labels = s.rule.rewrite.label.as_ref().map_or(labels, Pattern::exactly);
            match s.child() {
                // Nobody here asks: no index is that of the client.
                Some(child) => match config.provider(usize::MAX, &s.name, &child) {
                    Ok(server) => ends.extend(self.serve(server, Trip { labels, ..trip.clone() })),
                    Err(why) => ends.push(Err(format!("in {}, {why}", self.frame.whose()))),
                },
                None => ends.push(Err(format!("{} denies `{}` \"{labels}\"", self.frame.whose(), trip.service))),
            }
            if last {
                return ends;
            }
        }
        if ends.is_empty() {
            let (whose, service) = (self.frame.whose(), trip.service);
            ends.push(Err(format!("{whose} has no [[service]] for `{service}` \"{}\"", trip.labels)));
        }
        ends
    }

    /// Whether a ROM can be had for child `index`: by its first route for it, else from where its parent has its own.
    pub fn rom(&self, index: usize, c: &Component, rom: &str) -> Result<(), String> {
        let label = Label::new(rom).map_err(|e| e.to_string())?;
        let service = Name::new(ROM).ok_or("no name")?;
        let explicit = |r: &&Rule| r.service == Some(service) && r.labels.contain(&label);
        if let Some(rule) = c.routes.iter().map(|r| &r.rule).find(explicit) {
            let trip = Trip { service, labels: Pattern::exactly(&label), through: Vec::new(), left: Vec::new() };
            return self.follow(index, c, rule, trip).into_iter().try_for_each(|end| end.map(drop));
        }
        let Some((frame, outer)) = self.frame.parent else { return self.module(rom) };
        let Ok(c) = &frame.config.entries[outer].result else { return Ok(()) };
        Walker { frame, ..*self }.rom(outer, c, rom)
    }

    /// Where a request of child `index` by that rule ends: the last element of the label that arrives, and the server.
    pub fn end(
        &self,
        index: usize,
        c: &Component,
        rule: &Rule,
        service: Name,
        label: &Label,
    ) -> Option<(String, String)> {
        let trip = Trip { service, labels: Pattern::exactly(label), through: Vec::new(), left: Vec::new() };
        let (trip, server) = self.follow(index, c, rule, trip).into_iter().next()?.ok()?;
        Some((trip.labels.last()?, server))
    }

    /// Whether the root task serves that, as far as the label is known: of ROMs it is a boot module.
    fn has(&self, trip: &Trip) -> Result<(), String> {
        let rom = (trip.service.as_str() == ROM).then(|| trip.labels.last()).flatten();
        rom.map_or(Ok(()), |name| self.module(&name))
    }

    fn module(&self, name: &str) -> Result<(), String> {
        match &self.world.modules {
            Some(modules) if !modules.contains(name) => {
                let hint = Hint::new(name, modules.iter().map(String::as_str));
                Err(format!("there is no boot module `{name}`{hint}"))
            }
            _ => Ok(()),
        }
    }
}
