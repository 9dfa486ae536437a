//! What a new configuration asks to be done, given what runs: as little as possible.
//!
//! | changed | action |
//! |---|---|
//! | a component is new, or gone | [`Action::Start`], [`Action::Stop`] |
//! | version, binary, ROMs, priority, CPUs, devices, kernel memory, whether it may have guests | [`Action::Restart`] |
//! | RAM, capabilities: more | [`Action::Grow`], as far as there is something |
//! | RAM, capabilities: less | [`Action::Shrink`] by what it does not use, and [`Action::Yield`] for the rest |
//! | `config` | [`Action::Configure`] |
//! | a route, with an open session that it leads elsewhere | [`Action::Close`] |
//! | a service is no longer provided | [`Action::Withdraw`] |
//! | heartbeat, report | [`Action::Heartbeat`], [`Action::Report`] |
//! | services for the parent | [`Action::Offer`], [`Action::Retract`] |
//!
//! A client whose session is closed sees that its server is gone, and may ask anew. What cannot be paid yet is left
//! out: asked again when something has changed, [`diff`] goes on where it was. A component whose new description has a
//! defect stays as it is.
//!
//! Key types: [`diff`], [`Running`], [`Action`].

use crate::config::{Component, Config, Heartbeat, Quota, Report};
use crate::reach::ROM;
use parent::{CONFIG_ROM, Name};
use session::{Label, Target};
use std::collections::BTreeMap;

/// What an init has running.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Its children, those too that have ended and are not to be started again.
    pub children: BTreeMap<String, Child>,
    /// Sessions of its children, and of its parent with them.
    pub sessions: Vec<Open>,
    /// Services that its parent knows of.
    pub offered: Vec<Name>,
    /// What it reports.
    pub report: Option<Report>,
    /// What no child has.
    pub free: Quota,
}

/// A child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Child {
    /// What it was started with.
    pub born: Born,
    /// The configuration that it was given.
    pub config: Option<String>,
    /// How it shows that it lives.
    pub heartbeat: Option<Heartbeat>,
    /// Services that it has announced.
    pub announced: Vec<Name>,
    /// What it has; nothing, if it has ended.
    pub quota: Quota,
    /// What it uses of that.
    pub used: Quota,
    /// What it was asked to get along with.
    pub yielding: Option<Quota>,
    /// It has ended, and is not to be started again.
    pub ended: bool,
}

/// What cannot be changed in a component that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Born {
    binary: String,
    version: Option<String>,
    priority: u8,
    kmem: Option<u64>,
    children: Option<u64>,
    stack: u64,
    spare: Option<u64>,
    most: Option<Quota>,
    cpus: Option<Vec<u16>>,
    io_ports: Vec<(u16, u16)>,
    irqs: Vec<u32>,
    io_mem: Vec<(u64, u64)>,
    roms: Vec<Name>,
    args: Vec<String>,
    guests: bool,
}

impl Born {
    /// What of a description cannot be changed afterwards.
    pub fn of(c: &Component) -> Born {
        Born {
            binary: c.binary.value.clone(),
            version: c.version.clone(),
            priority: c.priority,
            kmem: c.kmem.map(|k| k.bytes()),
            children: c.children.map(|k| k.bytes()),
            stack: c.stack.bytes(),
            spare: c.spare.map(|s| s.value.bytes()),
            most: c.most.map(|most| most.value),
            cpus: c.cpus.as_ref().map(|cpus| cpus.iter().map(|c| c.value).collect()),
            io_ports: c.io_ports.iter().map(|p| (p.value.first, p.value.last)).collect(),
            irqs: c.irqs.iter().map(|i| i.value).collect(),
            io_mem: c.io_mem.iter().map(|m| (m.value.first, m.value.last)).collect(),
            roms: c.roms.iter().map(|r| r.value).collect(),
            args: c.args.clone(),
            guests: c.may_have_guests(),
        }
    }
}

/// Who has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A child.
    Child(Name),
    /// Somebody outside, through the parent.
    Parent,
}

/// Who serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// A child.
    Child(Name),
    /// Somebody outside, through the parent.
    Parent,
    /// Init itself.
    Init,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Who asked for it.
    pub client: Client,
    /// The service.
    pub service: Name,
    /// The label as it was asked for.
    pub label: Label,
    /// Who serves it.
    pub server: Server,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// End a component. Its sessions end, its quota comes back.
    Stop(Name),
    /// Its parent is no longer to know of a service. Sessions of it end.
    Retract(Name),
    /// A component's service is none any more. Sessions of it end.
    Withdraw(Name, Name),
    /// Close a session.
    Close(Open),
    /// Take so much from a component, which does not use it.
    Shrink(Name, Quota),
    /// Ask a component to get along with so much.
    Yield(Name, Quota),
    /// End a component and start it as it is described now.
    Restart(Name),
    /// Give a component so much more.
    Grow(Name, Quota),
    /// Start a component.
    Start(Name),
    /// Give a component its new configuration, and a signal.
    Configure(Name),
    /// Look after a component's life otherwise.
    Heartbeat(Name),
    /// The parent is to know of a service.
    Offer(Name),
    /// Report otherwise.
    Report,
}

/// What a component is to have.
fn quota_of(c: &Component) -> Quota {
    Quota { ram: c.ram.value.bytes(), caps: c.capabilities() }
}

impl Quota {
    fn minus(self, other: Quota) -> Quota {
        Quota { ram: self.ram.saturating_sub(other.ram), caps: self.caps.saturating_sub(other.caps) }
    }

    fn plus(self, other: Quota) -> Quota {
        Quota { ram: self.ram.saturating_add(other.ram), caps: self.caps.saturating_add(other.caps) }
    }

    fn least(self, other: Quota) -> Quota {
        Quota { ram: self.ram.min(other.ram), caps: self.caps.min(other.caps) }
    }

    fn most(self, other: Quota) -> Quota {
        Quota { ram: self.ram.max(other.ram), caps: self.caps.max(other.caps) }
    }

    fn covers(self, other: Quota) -> bool {
        self.ram >= other.ram && self.caps >= other.caps
    }
}

/// What is to be done, in this order, so that what runs becomes what `config` says.
pub fn diff(config: &Config, running: &Running) -> Vec<Action> {
    let mut plan = Plan { config, now: running.clone(), actions: Vec::new() };
    plan.gone();
    plan.sessions();
    plan.less();
    plan.restarts();
    plan.more();
    plan.starts();
    plan.rest();
    plan.actions
}

impl Config {
    fn offers(&self, service: &Name) -> bool {
        self.services.iter().any(|s| s.name == *service)
    }

    /// Who serves a session; `None`: nobody, now.
    pub fn server(&self, client: Client, service: &Name, label: &Label) -> Option<Server> {
        let provider = |client, child: &Name| self.provider(client, service, child).ok().map(|_| Server::Child(*child));
        let Client::Child(name) = client else {
            let to = self.services.iter().find(|s| s.rule.matches(service, label))?.child()?;
            return provider(usize::MAX, &to);
        };
        let (index, c) = (self.index_of(name.as_str())?, self.component(&name)?);
        if service.as_str() == ROM && label.as_str() == CONFIG_ROM && c.config.is_some() {
            return Some(Server::Init);
        }
        let rule = c.routes.iter().map(|r| &r.rule).find(|r| r.matches(service, label));
        match rule.map(|r| r.target) {
            Some(Target::Child(child)) => provider(index, &child),
            Some(Target::AnyChild) => {
                let first = self.components().find(|c| c.provides(service))?;
                provider(index, &first.name)
            }
            Some(Target::Parent) => {
                let list = self.parent_provides.as_ref();
                list.is_none_or(|l| l.iter().any(|s| s.value == *service)).then_some(Server::Parent)
            }
            // ROMs are the parent's where nothing else is said.
            None if service.as_str() == ROM => Some(Server::Parent),
            Some(Target::Own | Target::Deny) | None => None,
        }
    }
}

impl Running {
    /// What runs after an action.
    pub fn apply(&mut self, action: &Action, config: &Config) {
        match action {
            Action::Stop(name) => self.stop(name),
            Action::Start(name) => self.start(name, config),
            Action::Restart(name) => {
                self.stop(name);
                self.start(name, config);
            }
            Action::Retract(service) => {
                self.offered.retain(|s| s != service);
                self.sessions.retain(|s| s.client != Client::Parent || s.service != *service);
            }
            Action::Withdraw(name, service) => {
                self.sessions.retain(|s| s.server != Server::Child(*name) || s.service != *service);
                self.child(name, |c| c.announced.retain(|s| s != service));
            }
            Action::Close(session) => self.sessions.retain(|s| s != session),
            Action::Shrink(name, less) => {
                self.free = self.free.plus(*less);
                self.child(name, |c| {
                    c.quota = c.quota.minus(*less);
                    c.yielding = c.yielding.filter(|y| !y.covers(c.quota));
                });
            }
            Action::Yield(name, to) => self.child(name, |c| c.yielding = Some(*to).filter(|to| !to.covers(c.quota))),
            Action::Grow(name, more) => {
                self.free = self.free.minus(*more);
                self.child(name, |c| c.quota = c.quota.plus(*more));
            }
            Action::Configure(name) => {
                let text = config.component(name).and_then(|c| c.config.clone());
                self.child(name, |c| c.config = text);
            }
            Action::Heartbeat(name) => {
                let beat = config.component(name).and_then(|c| c.heartbeat).map(|h| h.value);
                self.child(name, |c| c.heartbeat = beat);
            }
            Action::Offer(service) => self.offered.push(*service),
            Action::Report => self.report.clone_from(&config.report),
        }
    }

    fn child(&mut self, name: &Name, change: impl FnOnce(&mut Child)) {
        if let Some(child) = self.children.get_mut(name.as_str()) {
            change(child);
        }
    }

    fn stop(&mut self, name: &Name) {
        if let Some(child) = self.children.remove(name.as_str()) {
            self.free = self.free.plus(child.quota);
        }
        self.sessions.retain(|s| s.client != Client::Child(*name) && s.server != Server::Child(*name));
    }

    fn start(&mut self, name: &Name, config: &Config) {
        let Some(c) = config.component(name) else { return };
        let quota = quota_of(c);
        self.free = self.free.minus(quota);
        let child = Child {
            born: Born::of(c),
            config: c.config.clone(),
            heartbeat: c.heartbeat.map(|h| h.value),
            announced: Vec::new(),
            quota,
            used: Quota::default(),
            yielding: None,
            ended: false,
        };
        self.children.insert(name.to_string(), child);
    }
}

/// Finds actions, and keeps what will run after them.
struct Plan<'a> {
    config: &'a Config,
    now: Running,
    actions: Vec<Action>,
}

impl<'a> Plan<'a> {
    fn act(&mut self, action: Action) {
        self.now.apply(&action, self.config);
        self.actions.push(action);
    }

    /// Children that run, with their descriptions, in the order of the configuration.
    fn pairs(&self) -> Vec<(&'a Component, Child)> {
        let child = |c: &Component| self.now.children.get(c.name.as_str()).filter(|child| !child.ended).cloned();
        let config = self.config;
        config.components().filter_map(|c| Some((c, child(c)?))).collect()
    }

    /// Whether a child, that runs, is to be started anew or ended.
    fn ends(&self, name: &Name) -> bool {
        let described = self.config.component(name);
        let child = self.now.children.get(name.as_str()).filter(|child| !child.ended);
        matches!((described, child), (Some(c), Some(child)) if child.born != Born::of(c))
    }

    fn gone(&mut self) {
        let gone = self.now.children.keys().filter(|n| self.config.index_of(n).is_none());
        let gone: Vec<_> = gone.filter_map(|n| Name::new(n)).collect();
        gone.into_iter().for_each(|n| self.act(Action::Stop(n)));
    }

    fn sessions(&mut self) {
        let retracted: Vec<_> = self.now.offered.iter().filter(|s| !self.config.offers(s)).copied().collect();
        retracted.into_iter().for_each(|s| self.act(Action::Retract(s)));
        for (c, child) in self.pairs() {
            if !self.ends(&c.name) {
                let gone = child.announced.into_iter().filter(|s| !c.provides(s));
                gone.for_each(|s| self.act(Action::Withdraw(c.name, s)));
            }
        }
        let astray: Vec<_> = self.now.sessions.iter().filter(|s| !self.stays(s)).cloned().collect();
        astray.into_iter().for_each(|s| self.act(Action::Close(s)));
    }

    /// Whether nothing is to be done about a session: it leads where it should, or ends with one of the two.
    fn stays(&self, s: &Open) -> bool {
        let ends = |name: Name| self.ends(&name);
        let client = match s.client {
            Client::Child(n) => ends(n) || self.config.component(&n).is_none(),
            Client::Parent => false,
        };
        let server = matches!(s.server, Server::Child(n) if ends(n));
        client || server || self.config.server(s.client, &s.service, &s.label) == Some(s.server)
    }

    fn less(&mut self) {
        for (c, child) in self.pairs() {
            if self.ends(&c.name) {
                continue;
            }
            let wanted = quota_of(c);
            let kept = wanted.most(child.used).least(child.quota);
            if kept != child.quota {
                self.act(Action::Shrink(c.name, child.quota.minus(kept)));
            }
            let yielding = (!wanted.covers(kept)).then_some(wanted);
            if child.yielding.filter(|y| !y.covers(kept)) != yielding {
                self.act(Action::Yield(c.name, wanted));
            }
        }
    }

    fn restarts(&mut self) {
        for (c, child) in self.pairs() {
            if self.ends(&c.name) {
                let there = self.now.free.plus(child.quota).minus(self.config.preserve);
                let restart = there.covers(quota_of(c));
                self.act(if restart { Action::Restart(c.name) } else { Action::Stop(c.name) });
            }
        }
    }

    fn more(&mut self) {
        for (c, child) in self.pairs() {
            let free = self.now.free.minus(self.config.preserve);
            let more = quota_of(c).minus(child.quota).least(free);
            if more != Quota::default() {
                self.act(Action::Grow(c.name, more));
            }
        }
    }

    fn starts(&mut self) {
        for c in self.config.components() {
            let start = match self.now.children.get(c.name.as_str()) {
                None => true,
                Some(child) => child.ended && child.born != Born::of(c),
            };
            if start && self.now.free.minus(self.config.preserve).covers(quota_of(c)) {
                self.act(Action::Start(c.name));
            }
        }
    }

    fn rest(&mut self) {
        for (c, child) in self.pairs() {
            if child.config != c.config {
                self.act(Action::Configure(c.name));
            }
            if child.heartbeat != c.heartbeat.map(|h| h.value) {
                self.act(Action::Heartbeat(c.name));
            }
        }
        for s in &self.config.services {
            if !self.now.offered.contains(&s.name) {
                self.act(Action::Offer(s.name));
            }
        }
        if self.now.report != self.config.report {
            self.act(Action::Report);
        }
    }
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
