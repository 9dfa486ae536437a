//! The system file: which components there are, and what each may use. Text in, checked entries out.
//!
//! What is wrong inside one `[[component]]` is an error of that entry, what is wrong outside is noted; only a file that is
//! not TOML, or has no components, fails as a whole. All errors carry line and column.
//!
//! Key types: [`SystemFile`], [`Entry`], [`Component`]. Routes are resolved in `wiring`, modules in `plan`.

use crate::quantity::{PortRange, QuantityError, Size};
use abi::TraceKinds;
use parent::{CONFIG_ROM, MAX_CHANNELS, MAX_CPUS, MAX_IRQS, MAX_ROMS, NAME_LEN, Name, layout};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ops::Range;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Labels that the root task uses for its own lines in the log.
const RESERVED: [&str; 2] = ["core", "kernel"];
/// How often a component can be started again.
const RESTARTS: std::ops::RangeInclusive<i64> = 0..=1000;
/// Priorities of components; the root task is above.
const PRIORITIES: std::ops::RangeInclusive<i64> = 1..=100;

/// A defect of the system file and where it is.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[error("system: line {line}, column {column}: {cause}")]
pub struct FileError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong in a system file.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Cause {
    #[error("{0}")]
    Syntax(String),
    #[error("unknown key `{key}` in {place}")]
    UnknownKey { key: String, place: String },
    #[error("key `{key}` is missing in {place}")]
    MissingKey { key: String, place: String },
    #[error("{place}, key `{key}`: {reason}")]
    Value { place: String, key: &'static str, reason: String },
    #[error("component `{0}` is named twice; the first one counts")]
    Twice(String),
    #[error("shutdown_after: there is no component `{0}`")]
    ShutdownAfter(String),
    #[error("there is no [[component]]")]
    Empty,
}

/// A component as the system file describes it; all checks that need nothing but this component are done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Label; unique.
    pub name: Name,
    /// Boot module with the ELF image.
    pub binary: String,
    /// RAM, the first stack included.
    pub ram: Size,
    /// What the kernel may use for it.
    pub kmem: Size,
    /// 1 to 100.
    pub priority: u8,
    /// CPUs, each once, at least one, the first for the first thread; `None`: all.
    pub cpus: Option<Vec<Placed<u16>>>,
    /// I/O ports; no port belongs to two components.
    pub io_ports: Vec<PortRange>,
    /// Global system interrupts; none belongs to two components.
    pub irqs: Vec<Placed<u32>>,
    /// Services.
    pub provides: Vec<Name>,
    /// Service and provider.
    pub routes: Vec<Route>,
    /// Boot modules handed over read-only.
    pub roms: Vec<Name>,
    /// TOML text of the ROM "config".
    pub config: Option<String>,
    /// How often it is started again after its end.
    pub restart: u32,
}

/// A value and where it is: `plan` knows what the machine has, and wants to say where something else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Position in the file: line and column.
    pub at: (usize, usize),
}

/// Where requests for a service go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The service.
    pub service: Name,
    /// Label of the provider.
    pub provider: String,
    /// Position in the file: line and column.
    pub at: (usize, usize),
}

/// One `[[component]]` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Label, or "number N" if there is none that can be read.
    pub label: String,
    /// The component, or what is wrong with it.
    pub result: Result<Component, FileError>,
}

/// A system file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemFile {
    /// Indices of the components whose ends are the system's.
    pub shutdown_after: Vec<usize>,
    /// What the kernel is to trace.
    pub trace: TraceKinds,
    /// The components in the order of the file.
    pub entries: Vec<Entry>,
    /// What is wrong outside components but does not keep the system from running.
    pub errors: Vec<FileError>,
}

impl SystemFile {
    /// Reads a system file.
    pub fn parse(text: &str) -> Result<SystemFile, FileError> {
        let source = Source { text };
        let root = DeTable::parse(text).map_err(|e| source.syntax(&e))?.into_inner();
        let mut shutdown_after = Vec::new();
        let mut trace = TraceKinds::empty();
        let (mut tables, mut errors) = (Vec::new(), Vec::new());
        for (key, value) in root {
            match key.get_ref().as_ref() {
                "shutdown_after" => match source.strings("shutdown_after", value) {
                    Ok(names) => shutdown_after = names,
                    Err(e) => errors.push(e),
                },
                "trace" => match source.kinds(value) {
                    Ok(kinds) => trace = kinds,
                    Err(e) => errors.push(e),
                },
                "component" => tables = source.array(value)?,
                other => {
                    let cause = Cause::UnknownKey { key: other.into(), place: "the system file".into() };
                    errors.push(source.error(key.span(), cause));
                }
            }
        }
        errors.sort_by_key(|e| (e.line, e.column));
        if tables.is_empty() {
            // A key that is misspelt is the better reason.
            return Err(errors.into_iter().next().unwrap_or_else(|| source.error(0..0, Cause::Empty)));
        }
        let mut file = SystemFile { shutdown_after: Vec::new(), trace, entries: Vec::new(), errors };
        for (i, t) in tables.into_iter().enumerate() {
            let entry = source.entry(i, t, &file.entries);
            file.entries.push(entry);
        }
        for name in shutdown_after {
            file.resolve_shutdown(&source, name);
        }
        Ok(file)
    }

    /// Index of the component of that label; the first if several have it.
    pub fn index_of(&self, label: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.label == label)
    }

    fn resolve_shutdown(&mut self, source: &Source<'_>, name: Spanned<String>) {
        match self.index_of(name.get_ref()) {
            Some(index) => self.shutdown_after.push(index),
            None => self.errors.push(source.error(name.span(), Cause::ShutdownAfter(name.into_inner()))),
        }
    }
}

/// A `[[component]]` as serde reads it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Spanned<String>,
    binary: Spanned<String>,
    ram: Spanned<String>,
    kmem: Option<Spanned<String>>,
    priority: Spanned<i64>,
    cpus: Option<Spanned<Vec<Spanned<i64>>>>,
    #[serde(default)]
    io_ports: Vec<Spanned<String>>,
    #[serde(default)]
    irqs: Vec<Spanned<i64>>,
    #[serde(default)]
    provides: Vec<Spanned<String>>,
    #[serde(default)]
    routes: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    roms: Vec<Spanned<String>>,
    config: Option<Spanned<toml::Table>>,
    restart: Option<Spanned<i64>>,
}

/// The text, to turn byte offsets into lines and columns.
struct Source<'a> {
    text: &'a str,
}

impl<'a> Source<'a> {
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.rsplit('\n').next().unwrap_or(before);
        (before.matches('\n').count() + 1, line.chars().count() + 1)
    }

    fn error(&self, span: Range<usize>, cause: Cause) -> FileError {
        let (line, column) = self.position(span.start);
        FileError { line, column, cause }
    }

    fn syntax(&self, e: &toml::de::Error) -> FileError {
        let message = e.message().lines().collect::<Vec<_>>().join(", ");
        self.error(e.span().unwrap_or(0..0), Cause::Syntax(message))
    }

    /// A string, or an array of them.
    fn strings(&self, key: &'static str, value: Spanned<DeValue<'a>>) -> Result<Vec<Spanned<String>>, FileError> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(s) => Ok(vec![Spanned::new(span, s.into_owned())]),
            DeValue::Array(a) => a.into_iter().map(|v| self.string(key, v)).collect(),
            other => Err(self.error(span, wrong_type("the system file", key, "a string or several", other.type_str()))),
        }
    }

    /// Kinds of events for the trace.
    fn kinds(&self, value: Spanned<DeValue<'a>>) -> Result<TraceKinds, FileError> {
        let one = |name: &Spanned<String>| {
            TraceKinds::from_lower_name(name.get_ref()).ok_or_else(|| {
                let all: Vec<_> = TraceKinds::all().iter_names().map(|(n, _)| n.to_lowercase()).collect();
                let reason = format!("`{}` is nothing that can be traced: {} are", name.get_ref(), all.join(", "));
                self.error(name.span(), Cause::Value { place: "the system file".into(), key: "trace", reason })
            })
        };
        self.strings("trace", value)?.iter().map(one).collect()
    }

    fn string(&self, key: &'static str, value: Spanned<DeValue<'a>>) -> Result<Spanned<String>, FileError> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(s) => Ok(Spanned::new(span, s.into_owned())),
            other => Err(self.error(span, wrong_type("the system file", key, "a string", other.type_str()))),
        }
    }

    fn array(&self, value: Spanned<DeValue<'a>>) -> Result<Vec<Spanned<DeValue<'a>>>, FileError> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(a) => Ok(a.into_iter().collect()),
            other => {
                let cause = wrong_type("the system file", "component", "[[component]] tables", other.type_str());
                Err(self.error(span, cause))
            }
        }
    }

    fn entry(&self, index: usize, table: Spanned<DeValue<'a>>, earlier: &[Entry]) -> Entry {
        let named = table.get_ref().get("name").and_then(|n| n.get_ref().as_str().map(String::from));
        let label = named.unwrap_or_else(|| format!("number {}", index + 1));
        let place = format!("component `{label}`");
        let span = table.span();
        let keys = Keys::new(table.get_ref());
        let result = Raw::deserialize(ValueDeserializer::from(table))
            .map_err(|e| self.schema_error(&e, &span, &keys, &place))
            .and_then(|raw| Checker { source: self, place: &place, earlier }.component(raw));
        Entry { label, result }
    }

    /// Turns serde's message into one that names component and key.
    fn schema_error(&self, e: &toml::de::Error, table: &Range<usize>, keys: &Keys, place: &str) -> FileError {
        let span = e.span().unwrap_or_else(|| table.clone());
        let place = place.to_string();
        let name = e.message().split('`').nth(1).unwrap_or("?").to_string();
        let cause = if e.message().starts_with("unknown field") {
            Cause::UnknownKey { key: name, place }
        } else if e.message().starts_with("missing field") {
            Cause::MissingKey { key: name, place }
        } else {
            Cause::Value { place, key: keys.at(span.start), reason: e.message().into() }
        };
        self.error(span, cause)
    }
}

fn wrong_type(place: &str, key: &'static str, expected: &str, found: &str) -> Cause {
    Cause::Value { place: place.into(), key, reason: format!("{expected} expected, found {found}") }
}

/// Names of all keys of a component, to have them as `&'static str`.
const KEYS: [&str; 13] = [
    "name", "binary", "ram", "kmem", "priority", "cpus", "io_ports", "irqs", "provides", "routes", "roms", "config",
    "restart",
];

/// Where the keys of a component start in the file, ascending.
struct Keys(Vec<(usize, &'static str)>);

impl Keys {
    fn new(table: &DeValue<'_>) -> Keys {
        let known = |k: &str| KEYS.into_iter().find(|n| *n == k);
        let table = table.as_table().into_iter().flatten();
        let mut starts: Vec<_> =
            table.filter_map(|(k, _)| known(k.get_ref().as_ref()).map(|n| (k.span().start, n))).collect();
        starts.sort_unstable();
        Keys(starts)
    }

    /// The key whose value contains the offset.
    fn at(&self, offset: usize) -> &'static str {
        self.0.iter().rev().find(|(start, _)| *start <= offset).map_or("?", |(_, n)| n)
    }
}

/// Checks one component, also against earlier ones.
struct Checker<'a> {
    source: &'a Source<'a>,
    place: &'a str,
    earlier: &'a [Entry],
}

impl Checker<'_> {
    fn component(&self, raw: Raw) -> Result<Component, FileError> {
        let (name, ram) = (self.label(&raw.name)?, self.ram(&raw.ram)?);
        let channels = !raw.provides.is_empty() || !raw.routes.is_empty();
        let restart = raw.restart.map_or(Ok(0), |r| self.restart(&r, channels))?;
        Ok(Component {
            name,
            ram,
            kmem: raw.kmem.map_or(Ok(Size::kernel_memory(ram)), |k| self.kmem(&k))?,
            priority: self.priority(&raw.priority)?,
            cpus: raw.cpus.map(|c| self.cpus(c)).transpose()?,
            io_ports: self.ports(&raw.io_ports)?,
            irqs: self.irqs(&raw.irqs)?,
            provides: self.names("provides", &raw.provides)?,
            routes: self.routes(raw.routes)?,
            roms: self.roms(&raw.roms, raw.config.is_some())?,
            binary: self.filled("binary", raw.binary)?,
            config: raw.config.map(|c| self.config(c)).transpose()?,
            restart,
        })
    }

    fn fail<T>(&self, span: Range<usize>, key: &'static str, reason: impl ToString) -> Result<T, FileError> {
        let cause = Cause::Value { place: self.place.into(), key, reason: reason.to_string() };
        Err(self.source.error(span, cause))
    }

    fn placed<T>(&self, value: T, span: Range<usize>) -> Placed<T> {
        Placed { value, at: self.source.position(span.start) }
    }

    fn others(&self) -> impl Iterator<Item = &Component> {
        self.earlier.iter().filter_map(|e| e.result.as_ref().ok())
    }

    fn label(&self, name: &Spanned<String>) -> Result<Name, FileError> {
        let text = name.get_ref();
        if self.earlier.iter().any(|e| e.label == *text) {
            return Err(self.source.error(name.span(), Cause::Twice(text.clone())));
        }
        if RESERVED.contains(&text.as_str()) {
            return self.fail(name.span(), "name", "this label belongs to the root task");
        }
        self.name("name", name)
    }

    fn name(&self, key: &'static str, value: &Spanned<String>) -> Result<Name, FileError> {
        let text = value.get_ref();
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return self.fail(value.span(), key, format!("{text:?} is no name: visible ASCII characters are expected"));
        }
        match Name::new(text) {
            Some(n) => Ok(n),
            None => self.fail(value.span(), key, format!("`{text}` is longer than {NAME_LEN} bytes")),
        }
    }

    fn names(&self, key: &'static str, values: &[Spanned<String>]) -> Result<Vec<Name>, FileError> {
        let mut names = Vec::new();
        for v in values {
            let n = self.name(key, v)?;
            if names.contains(&n) {
                return self.fail(v.span(), key, format!("`{n}` is there twice"));
            }
            names.push(n);
        }
        Ok(names)
    }

    fn filled(&self, key: &'static str, value: Spanned<String>) -> Result<String, FileError> {
        if value.get_ref().is_empty() {
            return self.fail(value.span(), key, "the name of a boot module is expected");
        }
        Ok(value.into_inner())
    }

    fn quantity<T>(&self, span: Range<usize>, key: &'static str, r: Result<T, QuantityError>) -> Result<T, FileError> {
        r.or_else(|e| self.fail(span, key, e))
    }

    fn ram(&self, ram: &Spanned<String>) -> Result<Size, FileError> {
        let size = self.quantity(ram.span(), "ram", Size::parse(ram.get_ref()))?;
        if size.bytes() <= layout::STACK_LEN {
            let stack = layout::STACK_LEN >> 10;
            return self.fail(ram.span(), "ram", format!("the first stack alone takes {stack}K; more is needed"));
        }
        Ok(size)
    }

    fn kmem(&self, kmem: &Spanned<String>) -> Result<Size, FileError> {
        self.quantity(kmem.span(), "kmem", Size::parse(kmem.get_ref()))
    }

    fn priority(&self, p: &Spanned<i64>) -> Result<u8, FileError> {
        if !PRIORITIES.contains(p.get_ref()) {
            let (low, high) = (PRIORITIES.start(), PRIORITIES.end());
            return self.fail(p.span(), "priority", format!("{} is not in {low} to {high}", p.get_ref()));
        }
        Ok(*p.get_ref() as u8)
    }

    /// What is at the other end of a channel knows nothing of a new beginning.
    fn restart(&self, n: &Spanned<i64>, channels: bool) -> Result<u32, FileError> {
        if !RESTARTS.contains(n.get_ref()) {
            return self.fail(n.span(), "restart", format!("{} is not in 0 to {}", n.get_ref(), RESTARTS.end()));
        }
        if *n.get_ref() > 0 && channels {
            let reason = "a component with `provides` or `routes` cannot be started again: its peers would not know";
            return self.fail(n.span(), "restart", reason);
        }
        Ok(*n.get_ref() as u32)
    }

    fn cpus(&self, values: Spanned<Vec<Spanned<i64>>>) -> Result<Vec<Placed<u16>>, FileError> {
        if values.get_ref().is_empty() {
            return self.fail(values.span(), "cpus", "a component needs at least one");
        }
        let mut cpus: Vec<Placed<u16>> = Vec::new();
        for v in values.into_inner() {
            let number = u16::try_from(*v.get_ref()).ok().filter(|&n| usize::from(n) < MAX_CPUS);
            let Some(number) = number else {
                let reason = format!("{} is no CPU: 0 to {} are possible", v.get_ref(), MAX_CPUS - 1);
                return self.fail(v.span(), "cpus", reason);
            };
            if cpus.iter().any(|c| c.value == number) {
                return self.fail(v.span(), "cpus", format!("{number} is there twice"));
            }
            cpus.push(self.placed(number, v.span()));
        }
        Ok(cpus)
    }

    fn ports(&self, values: &[Spanned<String>]) -> Result<Vec<PortRange>, FileError> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for v in values {
            let range = self.quantity(v.span(), "io_ports", PortRange::parse(v.get_ref()))?;
            if let Some(o) = self.others().find(|c| c.io_ports.iter().any(|r| r.overlaps(range))) {
                return self.fail(v.span(), "io_ports", format!("{range} overlaps ports of component `{}`", o.name));
            }
            if ranges.iter().any(|r| r.overlaps(range)) {
                return self.fail(v.span(), "io_ports", format!("{range} is there twice"));
            }
            ranges.push(range);
        }
        Ok(ranges)
    }

    fn irqs(&self, values: &[Spanned<i64>]) -> Result<Vec<Placed<u32>>, FileError> {
        let mut irqs: Vec<Placed<u32>> = Vec::new();
        let among = |irqs: &[Placed<u32>], irq| irqs.iter().any(|i| i.value == irq);
        for v in values {
            let Ok(irq) = u32::try_from(*v.get_ref()) else {
                return self.fail(v.span(), "irqs", format!("{} is no interrupt", v.get_ref()));
            };
            if let Some(o) = self.others().find(|c| among(&c.irqs, irq)) {
                return self.fail(v.span(), "irqs", format!("{irq} belongs to component `{}`", o.name));
            }
            if among(&irqs, irq) {
                return self.fail(v.span(), "irqs", format!("{irq} is there twice"));
            }
            if irqs.len() == MAX_IRQS {
                return self.fail(v.span(), "irqs", format!("a component has at most {MAX_IRQS}"));
            }
            irqs.push(self.placed(irq, v.span()));
        }
        Ok(irqs)
    }

    fn routes(&self, routes: BTreeMap<String, Spanned<String>>) -> Result<Vec<Route>, FileError> {
        let mut list = Vec::new();
        for (service, provider) in routes {
            let span = provider.span();
            if list.len() == MAX_CHANNELS {
                return self.fail(span, "routes", format!("a component has at most {MAX_CHANNELS} channels"));
            }
            let service = self.name("routes", &Spanned::new(span.clone(), service))?;
            list.push(Route { service, provider: provider.into_inner(), at: self.source.position(span.start) });
        }
        Ok(list)
    }

    fn roms(&self, roms: &[Spanned<String>], has_config: bool) -> Result<Vec<Name>, FileError> {
        let names = self.names("roms", roms)?;
        let most = MAX_ROMS - usize::from(has_config);
        if let Some(extra) = roms.get(most) {
            return self.fail(extra.span(), "roms", format!("a component has at most {MAX_ROMS}, \"config\" included"));
        }
        match roms.iter().find(|r| has_config && r.get_ref() == CONFIG_ROM) {
            Some(r) => self.fail(r.span(), "roms", "`config` is the name of the ROM made from [component.config]"),
            None => Ok(names),
        }
    }

    fn config(&self, table: Spanned<toml::Table>) -> Result<String, FileError> {
        let span = table.span();
        toml::to_string(table.get_ref()).or_else(|e| self.fail(span, "config", e))
    }
}

#[cfg(test)]
#[path = "system_file_tests.rs"]
mod tests;
