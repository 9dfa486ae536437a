//! What a configuration says, typed: components, what each may use, and whom it may ask.
//!
//! Key types: [`Config`], [`Entry`], [`Component`], [`Route`]. `parse` makes them.

use crate::defect::{Defect, Hint, nearest};
use crate::document::{At, Placed};
use crate::quantity::{MemRange, Period, PortRange, Size};
use crate::reach::VM;
use abi::TraceKinds;
use parent::{Name, SERVICE_LOG};
use session::{Label, Labels, Rule, Target};

/// RAM that a parent needs for itself, its first stack included, in bytes.
const PARENT_RAM: u64 = 1 << 20;

/// A configuration: of the root task's children, or of an init's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Indices of the components whose ends are the system's.
    pub shutdown_after: Vec<usize>,
    /// What the kernel is to trace.
    pub trace: TraceKinds,
    /// Services of the parent that children may reach; `None`: all.
    pub parent_provides: Option<Vec<Placed<Name>>>,
    /// What init keeps for itself.
    pub preserve: Quota,
    /// The services that this init offers to its parent, and which child serves them.
    pub services: Vec<Service>,
    /// What the state report says, and how often; `None`: there is none.
    pub report: Option<Report>,
    /// The components in the order of the text.
    pub entries: Vec<Entry>,
    /// What is wrong outside components.
    pub defects: Vec<Defect>,
}

impl Config {
    /// Index of the component of that label; the first if several have it.
    pub fn index_of(&self, label: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.label == label)
    }

    /// The component of that label, if nothing is wrong with it.
    pub fn component(&self, label: &Name) -> Option<&Component> {
        self.entries[self.index_of(label.as_str())?].result.as_ref().ok()
    }

    /// The component that provides a service, if it is the child of that name that has to, and who asks is not that
    /// child itself. One whose own entry is wrong counts: that it does not start is found later.
    pub fn provider(&self, client: usize, service: &Name, child: &Name) -> Result<usize, String> {
        let Some(index) = self.index_of(child.as_str()) else {
            let hint = Hint::new(child.as_str(), self.entries.iter().map(|e| e.label.as_str()));
            return Err(format!("`{service}` goes to `{child}`, but there is no such component{hint}"));
        };
        if index == client {
            return Err(format!("`{service}` goes to the component itself"));
        }
        match &self.entries[index].result {
            Ok(c) if !c.provides(service) => Err(self.not_provided(c, service)),
            _ => Ok(index),
        }
    }

    fn not_provided(&self, child: &Component, service: &Name) -> String {
        let providers: Vec<String> =
            self.components().filter(|c| c.provides(service)).map(|c| format!("`{}`", c.name)).collect();
        let who = match providers.as_slice() {
            [] => "no component does".into(),
            list => format!("{} does", list.join(", ")),
        };
        let provided: Vec<_> = child.provides.iter().map(|p| p.value.to_string()).collect();
        let near = nearest(service.as_str(), &provided.iter().map(String::as_str).collect::<Vec<_>>())
            .map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        format!("`{}` does not provide `{service}`; {who}{near}", child.name)
    }

    /// Components with nothing wrong.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.entries.iter().filter_map(|e| e.result.as_ref().ok())
    }

    /// All that is wrong, in nested configurations too, in the order of the text.
    pub fn all_defects(&self) -> Vec<&Defect> {
        let of_entries = self.entries.iter().flat_map(|e| e.result.as_ref().err().into_iter().chain(&e.more));
        let nested = self.components().filter_map(|c| c.nested.as_deref()).flat_map(Config::all_defects);
        let mut all: Vec<_> = self.defects.iter().chain(of_entries).chain(nested).collect();
        all.sort_by_key(|d| d.at);
        all
    }
}

/// One `[[component]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Label, or "number N" if there is none that can be read.
    pub label: String,
    /// The component, or what is wrong with it first.
    pub result: Result<Component, Defect>,
    /// What is wrong with it besides.
    pub more: Vec<Defect>,
}

/// A component, as far as it can be checked without the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Label; unique among its siblings.
    pub name: Name,
    /// Where it is described.
    pub at: At,
    /// ROM with the ELF image.
    pub binary: Placed<String>,
    /// Changes whenever it is to be started anew.
    pub version: Option<String>,
    /// RAM, the first stack included.
    pub ram: Placed<Size>,
    /// How much of that the first stack is.
    pub stack: Size,
    /// How much of the RAM is not mapped at the start, but there for donations and dataspaces; `None`: an eighth, at most
    /// 256K.
    pub spare: Option<Placed<Size>>,
    /// Capabilities; `None`: the parent's choice.
    pub caps: Option<Placed<u32>>,
    /// What it may have when it asks for more, where that is said; `None`: what it starts with.
    pub most: Option<Placed<Quota>>,
    /// What the kernel may use for it; `None`: what goes with its RAM.
    pub kmem: Option<Size>,
    /// It may have children, for which the kernel may use so much, beside what it may for itself.
    pub children: Option<Size>,
    /// 1 to 100.
    pub priority: u8,
    /// CPUs, each once, at least one, the first for the first thread; `None`: all.
    pub cpus: Option<Vec<Placed<u16>>>,
    /// I/O ports that it may open sessions of.
    pub io_ports: Vec<Placed<PortRange>>,
    /// Global system interrupts that it may open sessions of.
    pub irqs: Vec<Placed<u32>>,
    /// Memory of devices that it may open sessions of.
    pub io_mem: Vec<Placed<MemRange>>,
    /// Services.
    pub provides: Vec<Placed<Name>>,
    /// Who serves it, first match first: its own `route`, its own `routes`, then those of `defaults`.
    pub routes: Vec<Route>,
    /// ROMs handed over read-only at the start.
    pub roms: Vec<Placed<Name>>,
    /// TOML text of the ROM "config".
    pub config: Option<String>,
    /// Arguments of its program, behind its name; no zeros in them.
    pub args: Vec<String>,
    /// If it is an init: its configuration.
    pub nested: Option<Box<Config>>,
    /// When and how often it is started again.
    pub restart: Placed<Restart>,
    /// How it shows that it lives.
    pub heartbeat: Option<Placed<Heartbeat>>,
    /// What its exit does to its parent.
    pub exit: Placed<Exit>,
}

impl Component {
    /// What the kernel may use for it.
    pub fn kernel_memory(&self) -> Size {
        self.kmem.unwrap_or(Size::kernel_memory(self.ram.value))
    }

    /// Whether it may have children: an init, or who is said to.
    pub fn is_parent(&self) -> bool {
        self.children.is_some() || self.nested.is_some()
    }

    /// What the kernel may use for its children, all told, in bytes: what its description says, or what theirs do.
    pub fn kernel_memory_of_children(&self) -> u64 {
        let nested = self.nested.iter().flat_map(|config| config.components());
        let usual = || nested.map(Component::kernel_memory_with_children).fold(0, u64::saturating_add);
        self.children.map_or_else(usual, Size::bytes)
    }

    /// What the kernel may use for it and its children, in bytes.
    pub fn kernel_memory_with_children(&self) -> u64 {
        self.kernel_memory().bytes().saturating_add(self.kernel_memory_of_children())
    }

    /// How much of its RAM is not mapped at the start, in bytes: of who may have children all but what it needs itself.
    pub fn spare_bytes(&self) -> u64 {
        let ram = self.ram.value.bytes();
        let usual = match self.is_parent() {
            true if ram < 2 * PARENT_RAM => ram / 2,
            true => ram - PARENT_RAM,
            false => (ram / 8).min(256 << 10),
        };
        self.spare.map_or(usual & !(abi::PAGE_SIZE as u64 - 1), |spare| spare.value.bytes())
    }

    /// Capabilities that it has: what its description says, or what goes with its RAM, 512 at most, and those of its
    /// components.
    pub fn capabilities(&self) -> u32 {
        let usual = 128 + (self.ram.value.bytes() >> 16).min(384) as u32;
        let nested = self.nested.iter().flat_map(|config| config.components());
        let usual = || nested.map(Component::capabilities).fold(usual, u32::saturating_add);
        self.caps.map_or_else(usual, |caps| caps.value)
    }

    /// What it may have at most, of either currency.
    pub fn most(&self) -> Quota {
        let most = self.most.map_or(Quota::default(), |most| most.value);
        Quota { ram: most.ram.max(self.ram.value.bytes()), caps: most.caps.max(self.capabilities()) }
    }

    /// Whether a route leads its log somewhere.
    pub fn has_log(&self) -> bool {
        let log = Name::new(SERVICE_LOG);
        let rule = |log| self.routes.iter().find(|r| r.rule.matches(&log, &Label::default()));
        log.and_then(rule).is_some_and(|r| r.rule.target != Target::Deny)
    }

    /// Whether it may have guests: a route leads requests for them to its parent, or by the service's name to somebody else.
    pub fn may_have_guests(&self) -> bool {
        let about = |r: &&Rule| r.service.is_none_or(|s| s.as_str() == VM);
        let leads = |r: &Rule| match r.target {
            Target::Parent => true,
            Target::Child(_) | Target::AnyChild => r.service.is_some(),
            Target::Own | Target::Deny => false,
        };
        for rule in self.routes.iter().map(|r| &r.rule).filter(about) {
            // What is behind a rule for all labels is never reached.
            if leads(rule) || rule.labels == Labels::Any {
                return leads(rule);
            }
        }
        false
    }

    /// It may have no guests, whatever its routes say.
    pub fn deny_guests(&mut self) {
        let rules = Name::new(VM).map(|vm| Rule::to(vm, Target::Deny));
        self.routes.splice(..0, rules.map(|rule| Route { rule, at: self.at, default: false }));
    }

    /// Whether it provides a service.
    pub fn provides(&self, service: &Name) -> bool {
        self.provides.iter().any(|p| p.value == *service)
    }
}

/// A rule for requests of a component, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The rule.
    pub rule: Rule,
    /// The place of its target, or of all of it.
    pub at: At,
    /// Whether it comes from `defaults`.
    pub default: bool,
}

/// A rule for requests of the parent's other children, that come through the parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The service.
    pub name: Name,
    /// Labels as they come, and the child.
    pub rule: Rule,
    /// Its place.
    pub at: At,
}

impl Service {
    /// The child that serves; `None` for requests that are denied.
    pub fn child(&self) -> Option<Name> {
        match self.rule.target {
            Target::Child(name) => Some(name),
            _ => None,
        }
    }
}

/// An amount of both currencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// RAM in bytes.
    pub ram: u64,
    /// Capabilities.
    pub caps: u32,
}

/// When and how often a component that has ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// So often, then it has crashed in a loop and stays down.
    pub limit: u32,
    /// Only starts within this time count for the limit; `None`: all.
    pub within: Option<Period>,
    /// Time before the first new start, doubled with each further one that counts; `None`: at once, always.
    pub delay: Option<Period>,
    /// The longest it gets.
    pub longest_delay: Period,
}

impl Restart {
    /// So often, whenever that is, and at once.
    pub const fn times(limit: u32) -> Restart {
        Restart { limit, within: None, delay: None, longest_delay: Period::LONGEST }
    }
}

/// How a component shows that it lives: it answers signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time between signals.
    pub every: Period,
    /// Missing so many in a row it is started anew; `None`: that is only reported.
    pub restart_after: Option<u32>,
}

/// What the exit of a component does to its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exit {
    /// Nothing.
    #[default]
    Stay,
    /// The parent exits with the same code.
    Propagate,
}

impl Exit {
    /// The words for it.
    pub const WORDS: [(&str, Exit); 2] = [("stay", Exit::Stay), ("propagate", Exit::Propagate)];
}

/// What init reports of its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What; each once.
    pub show: Vec<Show>,
    /// Shortest time between two reports.
    pub every: Period,
    /// Longest report.
    pub buffer: Size,
}

/// A part of the state report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum Show {
    Identifiers,
    Requested,
    Provided,
    Arguments,
    ChildRam,
    ChildCaps,
    InitRam,
    InitCaps,
    Peaks,
}

impl Show {
    /// The words for them.
    pub const WORDS: [(&str, Show); 9] = [
        ("identifiers", Show::Identifiers),
        ("requested", Show::Requested),
        ("provided", Show::Provided),
        ("arguments", Show::Arguments),
        ("child_ram", Show::ChildRam),
        ("child_caps", Show::ChildCaps),
        ("init_ram", Show::InitRam),
        ("init_caps", Show::InitCaps),
        ("peaks", Show::Peaks),
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        Show::WORDS.iter().find(|(_, s)| *s == self).map_or("", |(word, _)| word)
    }
}
