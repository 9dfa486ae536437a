//! What belongs where in a configuration: from a tree of values to checked entries.
//!
//! What is wrong inside one `[[component]]` is a defect of that entry, what is wrong outside is noted; only a text that
//! is not TOML, or a system without components, fails as a whole. All that is wrong is told, not the first alone.

use crate::config::{Component, Config, Entry, Exit, Heartbeat, Quota, Report, Restart, Route, Show};
use crate::defect::{Cause, Defect, Hint};
use crate::document::{At, Node, Placed, Value};
use crate::quantity::{MemRange, Period, PortRange, Size};
use crate::reader::{Reader, inner, numbered};
use crate::rules::{routes, service};
use crate::values::{caps, cpus, heartbeat, period, priority, restart, size, stack};
use abi::TraceKinds;
use parent::{ARGS_ROM, CONFIG_ROM, MAX_ARGS, MAX_ROMS, Name};

/// Binary of which the configuration is one of these.
pub const INIT: &str = "init";
/// Names that mean something else: labels of parents' own lines in the log, and the words for targets.
const RESERVED: [(&str, &str); 5] = [
    ("core", "this label belongs to the root task"),
    ("kernel", "this label belongs to the root task"),
    ("parent", "as a target of routes this is the parent"),
    ("any-child", "as a target of routes this is whichever child provides the service"),
    ("nobody", "as a target of routes this is a refusal"),
];
/// Inits in inits.
pub(crate) const DEEPEST: usize = 8;

/// Whose children a configuration describes.
#[derive(Clone, Copy)]
struct Whose<'a> {
    /// Labels from the outermost init to this one, each with an arrow behind it; empty for the root task.
    path: &'a str,
    depth: usize,
}

impl Config {
    /// Reads the configuration of the root task.
    pub fn parse(text: &str) -> Result<Config, Vec<Defect>> {
        Config::of_root(&Node::from_toml(text)?)
    }

    /// The same of a tree that comes from elsewhere.
    pub fn of_root(node: &Node) -> Result<Config, Vec<Defect>> {
        let mut config = read(node, Whose { path: "", depth: 0 });
        if !config.entries.is_empty() {
            return Ok(config);
        }
        // A key that is misspelt is the better reason.
        if config.defects.is_empty() {
            config.defects.push(Defect { at: node.at, cause: Cause::Empty });
        }
        Err(config.defects)
    }
}

impl Config {
    /// Reads the configuration of an init, by itself.
    pub fn of_init(text: &str) -> Result<Config, Vec<Defect>> {
        Ok(read(&Node::from_toml(text)?, Whose { path: "", depth: 1 }))
    }

    /// Reads the description of one component, a child of the one with the label `path`: a [`Component::describe`].
    pub fn of_child(text: &str, path: &str) -> Result<Config, Vec<Defect>> {
        let node = Node::from_toml(text)?;
        let (path, depth) = (format!("{path}{}", session::ARROW), 1 + path.matches(session::ARROW).count());
        let config = read(&node, Whose { path: &path, depth });
        let mut defects: Vec<Defect> = config.all_defects().into_iter().cloned().collect();
        if config.entries.len() != 1 && defects.is_empty() {
            defects.push(Defect { at: node.at, cause: Cause::Empty });
        }
        if defects.is_empty() { Ok(config) } else { Err(defects) }
    }
}

/// What components have that do not say otherwise.
#[derive(Default)]
struct Defaults {
    ram: Option<Placed<Size>>,
    caps: Option<Placed<u32>>,
    priority: Option<u8>,
    restart: Option<Placed<Restart>>,
    heartbeat: Option<Placed<Heartbeat>>,
    routes: Vec<Route>,
}

fn read(node: &Node, whose: Whose<'_>) -> Config {
    let mut c = Config::default();
    let place = match whose.path {
        "" => "the system file".into(),
        path => format!("the configuration of `{}`", path.trim_end_matches(session::ARROW)),
    };
    let mut r = Reader::new(place, node);
    let shutdown_after = r.texts("shutdown_after");
    c.trace = kinds(&mut r);
    if whose.depth > 0 {
        for key in ["shutdown_after", "trace"] {
            if let Some(n) = r.get(key) {
                r.wrong(n.at, key, "only the system file can say that");
            }
        }
    }
    c.parent_provides = r.get("parent_provides").is_some().then(|| r.names("parent_provides"));
    c.preserve = r.optional("preserve", preserve).unwrap_or_default();
    c.report = r.optional("report", report);
    c.services = numbered(&mut r, "service", service);
    let defaults = r.optional("defaults", defaults).unwrap_or_default();
    let tables = r.optional("component", Reader::list).unwrap_or_default();
    for (i, table) in tables.iter().enumerate() {
        let entry = entry(i, table, &defaults, &c.entries, whose);
        c.entries.push(entry);
    }
    for name in shutdown_after {
        match c.index_of(name.value) {
            Some(index) => c.shutdown_after.push(index),
            None => r.defects.push(no_component("shutdown_after", name.value, name.at, &c)),
        }
    }
    for child in c.services.iter().filter(|s| s.child().is_some_and(|child| c.index_of(child.as_str()).is_none())) {
        let name = child.child().map(|n| n.to_string()).unwrap_or_default();
        r.defects.push(no_component("service", &name, child.at, &c));
    }
    c.defects = r.finish();
    c.defects.sort_by_key(|d| d.at);
    c
}

fn no_component(key: &'static str, name: &str, at: At, config: &Config) -> Defect {
    let hint = Hint::new(name, config.entries.iter().map(|e| e.label.as_str()));
    Defect { at, cause: Cause::NoComponent { key, name: name.into(), hint } }
}

/// Kinds of events for the trace.
fn kinds(r: &mut Reader<'_>) -> TraceKinds {
    let mut all = TraceKinds::empty();
    for word in r.texts("trace") {
        match TraceKinds::from_lower_name(word.value) {
            Some(kind) => all |= kind,
            None => {
                let kinds: Vec<_> = TraceKinds::all().iter_names().map(|(n, _)| n.to_lowercase()).collect();
                let hint = Hint::new(word.value, kinds.iter().map(String::as_str));
                r.wrong(word.at, "trace", format!("`{}` is nothing that can be traced{hint}", word.value));
            }
        }
    }
    all
}

/// What a component may have when it asks for more than that.
fn most<'a>(
    r: &mut Reader<'a>,
    key: &'static str,
    node: &'a Node,
    ram: Option<Placed<Size>>,
    own: Option<Placed<u32>>,
) -> Option<Placed<Quota>> {
    let most = inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let more = r.optional("ram", size);
        if let Some(less) = more.filter(|more| ram.is_some_and(|ram| more.value < ram.value)) {
            r.wrong(less.at, "ram", "the component starts with more");
        }
        let many = r.optional("caps", caps);
        if let Some(few) = many.filter(|many| own.is_some_and(|own| many.value < own.value)) {
            r.wrong(few.at, "caps", "the component starts with more");
        }
        Some(Quota { ram: more.map_or(0, |s| s.value.bytes()), caps: many.map_or(0, |c| c.value) })
    });
    Some(Placed { value: most?, at: node.at })
}

fn preserve<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Quota> {
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let ram = r.optional("ram", size).map_or(0, |s| s.value.bytes());
        Some(Quota { ram, caps: r.optional("caps", caps).map_or(0, |c| c.value) })
    })
}

/// What who may have children gets for them.
fn children<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Size> {
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        Some(r.need("kmem").and_then(|n| size(r, "kmem", n))?.value)
    })
}

fn report<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Report> {
    inner(r, format!("{}, key `{key}`", r.place), node, |r| {
        let word =
            |r: &mut Reader<'a>, key, n: &'a Node| Some(Placed { value: r.word(key, n, &Show::WORDS)?, at: n.at });
        let show = r.each("show", word);
        let show = r.once("show", show, |a, b| a.value == b.value, |s| s.value.word().into());
        let every = r.optional("every", period).unwrap_or(Period::TENTH);
        let buffer = r.optional("buffer", size).map_or(Size::PAGE, |s| s.value);
        Some(Report { show: show.into_iter().map(|s| s.value).collect(), every, buffer })
    })
}

fn defaults<'a>(r: &mut Reader<'a>, _: &'static str, node: &'a Node) -> Option<Defaults> {
    let mut inner = Reader::new("defaults".into(), node);
    let mut d = Defaults {
        ram: inner.optional("ram", size),
        caps: inner.optional("caps", caps),
        priority: inner.optional("priority", priority),
        restart: inner.optional("restart", restart),
        heartbeat: inner.optional("heartbeat", heartbeat),
        routes: routes(&mut inner),
    };
    d.routes.iter_mut().for_each(|r| r.default = true);
    r.defects.extend(inner.finish());
    Some(d)
}

fn entry(index: usize, node: &Node, defaults: &Defaults, earlier: &[Entry], whose: Whose<'_>) -> Entry {
    let named = match &node.value {
        Value::Table(t) => t.get("name").and_then(|(_, n)| match &n.value {
            Value::Text(t) => Some(t.clone()),
            _ => None,
        }),
        _ => None,
    };
    let label = named.unwrap_or_else(|| format!("number {}", index + 1));
    let mut r = Reader::new(format!("component `{}{label}`", whose.path), node);
    let component = Checker { defaults, earlier, whose }.component(&mut r);
    let mut defects = r.finish();
    defects.sort_by_key(|d| d.at);
    let mut defects = defects.into_iter();
    let result = match (component, defects.next()) {
        (Some(component), None) => Ok(component),
        (_, first) => Err(first.unwrap_or(Defect { at: node.at, cause: Cause::Empty })),
    };
    Entry { label, result, more: defects.collect() }
}

/// Checks one component, also against earlier ones.
struct Checker<'a> {
    defaults: &'a Defaults,
    earlier: &'a [Entry],
    whose: Whose<'a>,
}

impl Checker<'_> {
    /// Reads all keys before it gives up, so that all that is wrong is told.
    fn component(&self, r: &mut Reader<'_>) -> Option<Component> {
        let name = r.need("name").and_then(|n| self.label(r, n));
        let binary = r.need("binary").and_then(|n| filled(r, "binary", n));
        let ram = or_default(r, "ram", size, self.defaults.ram);
        let stack = r.optional("stack", stack).unwrap_or(Size::STACK);
        let ram = ram.filter(|ram| holds_stack(r, *ram, stack));
        let priority = or_default(r, "priority", priority, self.defaults.priority);
        let spare = r.optional("spare", size).filter(|spare| fits(r, spare, ram, stack));
        let kmem = r.optional("kmem", size);
        let children = r.optional("children", children);
        let caps = r.optional("caps", caps).or(self.defaults.caps);
        let most = r.optional("most", |r, key, n| most(r, key, n, ram, caps));
        let version = r.optional("version", |r, key, n| r.text(key, n).map(String::from));
        let cpus = r.optional("cpus", cpus);
        let (io_ports, irqs, io_mem) = (ports(r), irqs(r), memory(r));
        let (provides, roms) = (r.names("provides"), r.names("roms"));
        let mut routes = routes(r);
        routes.extend(self.defaults.routes.iter().cloned());
        let restart = r.optional("restart", restart).or(self.defaults.restart);
        let heartbeat = r.optional("heartbeat", heartbeat).or(self.defaults.heartbeat);
        let exit = r.optional("exit", |r, key, n| Some(Placed { value: r.word(key, n, &Exit::WORDS)?, at: n.at }));
        let config = r.get("config");
        let args = args(r);
        few_roms(r, &roms, &[(CONFIG_ROM, config.is_some()), (ARGS_ROM, !args.is_empty())]);
        let text = config.and_then(|n| config_text(r, n));
        let is_init = binary.as_ref().is_some_and(|b| b.value == INIT);
        let nested = config.filter(|_| is_init).and_then(|n| self.nested(r, n, name.as_ref()?.value));
        let (ram, at) = (ram?, r.at);
        Some(Component {
            name: name?.value,
            at,
            binary: binary?,
            version,
            ram,
            stack,
            spare,
            caps,
            most,
            kmem: kmem.map(|k| k.value),
            children,
            priority: priority?,
            cpus,
            io_ports,
            irqs,
            io_mem,
            provides,
            routes,
            roms,
            config: text,
            args,
            nested: nested.map(Box::new),
            restart: restart.unwrap_or(Placed { value: Restart::times(0), at }),
            heartbeat,
            exit: exit.unwrap_or(Placed { value: Exit::Stay, at }),
        })
    }

    fn label<'a>(&self, r: &mut Reader<'a>, node: &'a Node) -> Option<Placed<Name>> {
        let text = r.text("name", node)?;
        if self.earlier.iter().any(|e| e.label == text) {
            r.defects.push(Defect { at: node.at, cause: Cause::Twice(format!("{}{text}", self.whose.path)) });
            return None;
        }
        if let Some((_, why)) = RESERVED.iter().find(|(word, _)| *word == text) {
            r.wrong(node.at, "name", why);
            return None;
        }
        r.as_name("name", text, node.at)
    }

    fn nested(&self, r: &mut Reader<'_>, node: &Node, name: Name) -> Option<Config> {
        let (path, depth) = (format!("{}{name}{}", self.whose.path, session::ARROW), self.whose.depth + 1);
        if depth > DEEPEST {
            r.wrong(node.at, "config", format!("more than {DEEPEST} inits in each other"));
            return None;
        }
        Some(read(node, Whose { path: &path, depth }))
    }
}

/// I/O ports.
fn ports(r: &mut Reader<'_>) -> Vec<Placed<PortRange>> {
    let all = r.each("io_ports", |r, key, n| {
        let range = PortRange::parse(r.text(key, n)?);
        Some(Placed { value: r.check(n.at, key, range)?, at: n.at })
    });
    r.once("io_ports", all, |a, b| a.value.overlaps(b.value), |p| p.value.to_string())
}

/// Global system interrupts.
fn irqs(r: &mut Reader<'_>) -> Vec<Placed<u32>> {
    let all = r.each("irqs", |r, key, n| {
        let number = r.integer(key, n)?;
        let irq = u32::try_from(number).map_err(|_| format!("{number} is no interrupt"));
        Some(Placed { value: r.check(n.at, key, irq)?, at: n.at })
    });
    r.once("irqs", all, |a, b| a.value == b.value, |i| i.value.to_string())
}

/// Memory of devices.
fn memory(r: &mut Reader<'_>) -> Vec<Placed<MemRange>> {
    let all = r.each("io_mem", |r, key, n| {
        let range = MemRange::parse(r.text(key, n)?);
        Some(Placed { value: r.check(n.at, key, range)?, at: n.at })
    });
    r.once("io_mem", all, |a, b| a.value.overlaps(b.value), |m| m.value.to_string())
}

/// The value of a key that must be there if there is no default.
fn or_default<'a, T>(
    r: &mut Reader<'a>,
    key: &'static str,
    one: impl FnOnce(&mut Reader<'a>, &'static str, &'a Node) -> Option<T>,
    default: Option<T>,
) -> Option<T> {
    match default {
        Some(value) => r.get(key).map_or(Some(value), |n| one(r, key, n)),
        None => r.need(key).and_then(|n| one(r, key, n)),
    }
}

/// Whether the RAM is more than the first stack.
fn holds_stack(r: &mut Reader<'_>, ram: Placed<Size>, stack: Size) -> bool {
    let holds = ram.value > stack;
    if !holds {
        r.wrong(ram.at, "ram", format!("the first stack alone takes {}K; more is needed", stack.bytes() >> 10));
    }
    holds
}

/// Whether the first stack and something more is left of the RAM.
fn fits(r: &mut Reader<'_>, spare: &Placed<Size>, ram: Option<Placed<Size>>, stack: Size) -> bool {
    let left = |ram: Placed<Size>| ram.value.bytes().saturating_sub(spare.value.bytes());
    let fits = ram.is_none_or(|ram| left(ram) > stack.bytes());
    if !fits {
        let stack = stack.bytes() >> 10;
        r.wrong(spare.at, "spare", format!("the first stack alone takes {stack}K of `ram`; more has to be left"));
    }
    fits
}

fn filled<'a>(r: &mut Reader<'a>, key: &'static str, node: &'a Node) -> Option<Placed<String>> {
    let text = r.text(key, node)?;
    if text.is_empty() {
        r.wrong(node.at, key, "the name of a boot module is expected");
        return None;
    }
    Some(Placed { value: text.into(), at: node.at })
}

/// Those that are made of keys, and whether they are, count.
fn few_roms(r: &mut Reader<'_>, roms: &[Placed<Name>], made: &[(&str, bool)]) {
    let made: Vec<&str> = made.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if let Some(extra) = roms.get(MAX_ROMS - made.len()) {
        r.wrong(extra.at, "roms", format!("a component has at most {MAX_ROMS}, those of `config` and `args` included"));
    }
    for rom in roms.iter().filter(|rom| made.contains(&rom.value.as_str())) {
        r.wrong(rom.at, "roms", format!("`{0}` is the name of the ROM made from the key `{0}`", rom.value));
    }
}

/// Arguments of a program.
fn args(r: &mut Reader<'_>) -> Vec<String> {
    let all = r.each("args", |r, key, n| {
        let text = r.text(key, n)?;
        if text.contains('\0') {
            r.wrong(n.at, key, "an argument ends at a zero");
            return None;
        }
        Some(Placed { value: String::from(text), at: n.at })
    });
    if let Some(extra) = all.get(MAX_ARGS) {
        r.wrong(extra.at, "args", format!("a program has at most {MAX_ARGS}"));
    }
    all.into_iter().map(|arg| arg.value).collect()
}

fn config_text(r: &mut Reader<'_>, node: &Node) -> Option<String> {
    if !matches!(node.value, Value::Table(_)) {
        r.wrong(node.at, "config", format!("a table is expected, found {}", node.kind()));
        return None;
    }
    let text = node.to_toml();
    r.check(node.at, "config", text)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
