//! The plan: which component gets which frames, where they are mapped, and what is in them at the start.
//!
//! Errors are confined: a component that cannot start takes nobody along. Who needs its services is told so when he asks for
//! a session.
//!
//! Key types: [`Plan`], [`ComponentPlan`], [`ComponentError`].

use crate::image::{Image, ImageError};
use crate::memory::{Book, MemoryError, PhysRange};
use crate::routes;
use crate::start_info::Machine;
use abi::perm::Mem;
use init::{Cause, Component, Config, Defect, MemRange, Placed, PortRange, human};
use parent::{ARGS_ROM, CONFIG_ROM, Name, StartInfo, layout};
use std::fmt::Display;
use std::ops::{Range, Sub};
use thiserror::Error;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// ROMs are mapped at the same offset to this as in physical memory, so that large pages can map them.
const LARGE: u64 = 2 << 20;

/// Why a component does not start. The messages name the component, the module if there is one, and the cause.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum ComponentError {
    #[error("system: {0}")]
    File(Defect),
    #[error("component `{component}`: there is no boot module `{module}` (key `{key}`)")]
    NoModule { component: String, module: String, key: &'static str },
    #[error("component `{component}`: module `{module}` {cause}")]
    Image { component: String, module: String, cause: ImageError },
    #[error("component `{component}`: not enough memory for its {what}: {cause}")]
    Memory { component: String, what: &'static str, cause: MemoryError },
    #[error("component `{component}`, key `kmem`: {asked} of kernel memory are not there: {left} are left")]
    KernelMemory { component: String, asked: String, left: String },
    #[error("component `{component}` has ended")]
    Ended { component: String },
    #[error("component `{component}`: the kernel refused to {what}: {status}")]
    Kernel { component: String, what: &'static str, status: String },
}

/// A boot module: its name, where it is, and its bytes.
#[derive(Clone, Debug)]
pub struct Module<'a> {
    /// Name: the command line that the boot loader was given for it.
    pub name: String,
    /// Where it is in physical memory; starts on a page.
    pub phys: PhysRange,
    /// Its contents.
    pub bytes: &'a [u8],
}

/// Pages of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// Virtual address in the component; page-aligned.
    pub virt: u64,
    /// Physical address; page-aligned.
    pub phys: u64,
    /// Length in bytes; whole pages.
    pub len: u64,
    /// Permissions.
    pub perms: Mem,
}

/// Bytes to put into (zeroed) frames before the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Physical address.
    pub phys: u64,
    /// Where the bytes come from.
    pub source: Source,
}

/// Where bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A part of a boot module, by its index.
    Module(usize, Range<usize>),
    /// This text.
    Text(String),
}

/// A ROM of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RomPlan {
    pub name: Name,
    pub virt: u64,
    pub len: u64,
}

/// Everything that is to be done to start a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentPlan {
    /// Label.
    pub name: Name,
    /// Boot module of the image.
    pub binary: String,
    /// Priority.
    pub priority: u8,
    /// CPUs that it may use; the first is that of its first thread.
    pub cpus: Vec<u16>,
    /// Entry point.
    pub entry: u64,
    /// I/O ports that it may open.
    pub io_ports: Vec<PortRange>,
    /// Global system interrupts that it may open.
    pub irqs: Vec<u32>,
    /// Memory of devices that it may open.
    pub io_mem: Vec<MemRange>,
    /// Services.
    pub provides: Vec<Name>,
    /// Frames of kernel memory that are set apart for it.
    pub kmem_frames: u64,
    /// Kernel memory that is set apart for its children, in bytes; `None`: it has none.
    pub kmem_of_children: Option<u64>,
    /// RAM at [`layout::RAM`] in bytes: what the system file grants less the first stack, and what is spared for later.
    pub ram_len: u64,
    /// The first stack in bytes.
    pub stack_len: u64,
    /// Frames that are its own; zeroed before anything is put into them.
    pub frames: Vec<PhysRange>,
    /// Where frames and modules are mapped.
    pub mappings: Vec<Mapping>,
    /// What is in the frames.
    pub contents: Vec<Content>,
    /// Frames for the start information.
    pub info: PhysRange,
    pub(crate) roms: Vec<RomPlan>,
    /// Whether it may have guests.
    pub guests: bool,
    /// Whether a route leads its log somewhere.
    pub(crate) has_log: bool,
}

impl ComponentPlan {
    /// Kernel memory that is set apart for it and its children, in bytes.
    pub fn kmem(&self) -> u64 {
        (self.kmem_frames << abi::PAGE_BITS) + self.kmem_of_children.unwrap_or(0)
    }

    /// CPU of the first thread, and of the interrupts.
    pub fn first_cpu(&self) -> u16 {
        self.cpus.first().copied().unwrap_or(0)
    }
}

/// The plan for all components of a system file.
#[derive(Debug, Clone)]
pub struct Plan {
    /// By index of the system file: what to do, or why nothing can be done.
    pub components: Vec<Result<ComponentPlan, ComponentError>>,
    /// Labels by index.
    pub labels: Vec<String>,
    /// What is worth a line in the log but keeps no component from starting.
    pub notes: Vec<String>,
    /// Indices of the components whose ends are the system's.
    pub shutdown_after: Vec<usize>,
    /// Kernel memory in bytes that is not set apart for anybody.
    pub(crate) kmem: u64,
}

impl Plan {
    /// Plans all components of `file` for this machine. Takes their memory from `book`; a component that fails takes none.
    pub fn new(file: &Config, modules: &[Module<'_>], machine: &Machine, book: &mut Book) -> Plan {
        let mut plan = Plan {
            components: Vec::new(),
            labels: file.entries.iter().map(|e| e.label.clone()).collect(),
            notes: notes(file),
            shutdown_after: file.shutdown_after.clone(),
            kmem: machine.kmem,
        };
        // Memory comes last, so that a component that fails for another reason takes none from the others.
        let checked: Vec<_> = (0..file.entries.len()).map(|i| checked(file, i, modules, machine)).collect();
        let place = |c: Result<Checked<'_>, _>| c?.place(modules, &mut plan.kmem, book);
        plan.components = checked.into_iter().map(place).collect();
        plan
    }

    /// Takes back the plan of a component that could not be created.
    pub fn fail(&mut self, index: usize, error: ComponentError, book: &mut Book) {
        self.give_back(index, error, book);
    }

    /// The plan of component `index`, if it starts.
    pub fn component(&self, index: usize) -> Option<&ComponentPlan> {
        self.components.get(index)?.as_ref().ok()
    }

    /// What component `index` has goes back. `false`: it has nothing.
    pub(crate) fn give_back(&mut self, index: usize, why: ComponentError, book: &mut Book) -> bool {
        let Some(slot) = self.components.get_mut(index) else { return false };
        match std::mem::replace(slot, Err(why)) {
            Ok(plan) => {
                plan.frames.iter().for_each(|f| book.give_back(*f));
                // Without frames its kernel memory is not set apart yet.
                if !plan.frames.is_empty() {
                    self.kmem += plan.kmem();
                }
                true
            }
            Err(before) => {
                *slot = Err(before);
                false
            }
        }
    }
}

/// What is wrong outside components, and what more than the first defect is wrong in one.
fn notes(file: &Config) -> Vec<String> {
    let more = file.entries.iter().flat_map(|e| &e.more);
    file.defects.iter().chain(more).map(|d| format!("system: {d}")).collect()
}

/// A component of which all is known but its memory.
pub(crate) struct Checked<'a> {
    component: &'a Component,
    /// Index of the module, and what is in it.
    image: (usize, Image),
    roms: Vec<(Name, usize)>,
    cpus: Vec<u16>,
    irqs: Vec<u32>,
}

pub(crate) fn checked<'a>(
    file: &'a Config,
    index: usize,
    modules: &[Module<'_>],
    machine: &Machine,
) -> Result<Checked<'a>, ComponentError> {
    let component = file.entries[index].result.as_ref().map_err(|d| ComponentError::File(d.clone()))?;
    let find = |module: &str, key| {
        modules.iter().position(|m| m.name == module).ok_or_else(|| ComponentError::NoModule {
            component: component.name.to_string(),
            module: module.into(),
            key,
        })
    };
    let cpus = match &component.cpus {
        None => Ok((0..machine.cpus).collect()),
        Some(cpus) => existing(component, "cpus", "CPU", cpus, machine.cpus),
    };
    let cpus = cpus.map_err(ComponentError::File)?;
    let irqs = existing(component, "irqs", "interrupt", &component.irqs, machine.pins).map_err(ComponentError::File)?;
    routes::check(file, index, component).map_err(ComponentError::File)?;
    let module = find(&component.binary.value, "binary")?;
    let image = Image::parse(modules[module].bytes).map_err(|cause| ComponentError::Image {
        component: component.name.to_string(),
        module: component.binary.value.clone(),
        cause,
    })?;
    let rom = |n: &Placed<Name>| find(n.value.as_str(), "roms").map(|m| (n.value, m));
    let roms = component.roms.iter().map(rom).collect::<Result<_, _>>()?;
    Ok(Checked { component, image: (module, image), roms, cpus, irqs })
}

/// The numbers of a list, if the machine, which has `count` of them, has them all.
fn existing<T>(
    component: &Component,
    key: &'static str,
    noun: &str,
    list: &[Placed<T>],
    count: T,
) -> Result<Vec<T>, Defect>
where
    T: Copy + Ord + Display + From<u8> + Sub<Output = T>,
{
    let Some(Placed { value, at }) = list.iter().find(|p| p.value >= count) else {
        return Ok(list.iter().map(|p| p.value).collect());
    };
    let one = T::from(1);
    let has = match () {
        _ if count < one => "none".into(),
        _ if count == one => "only 0".into(),
        _ => format!("{count}, 0 to {}", count - one),
    };
    let reason = format!("there is no {noun} {value}: the machine has {has}");
    let place = format!("component `{}`", component.name);
    Err(Defect { at: *at, cause: Cause::Value { place, key, reason } })
}

impl Checked<'_> {
    /// The plan without anything that takes memory.
    fn empty_plan(&self) -> ComponentPlan {
        let c = self.component;
        ComponentPlan {
            name: c.name,
            binary: c.binary.value.clone(),
            priority: c.priority,
            cpus: self.cpus.clone(),
            entry: self.image.1.entry,
            io_ports: c.io_ports.iter().map(|p| p.value).collect(),
            irqs: self.irqs.clone(),
            io_mem: c.io_mem.iter().map(|m| m.value).collect(),
            provides: c.provides.iter().map(|p| p.value).collect(),
            kmem_frames: c.kernel_memory().pages(),
            kmem_of_children: c.is_parent().then(|| c.kernel_memory_of_children()),
            stack_len: c.stack.bytes(),
            ram_len: c.ram.value.bytes().saturating_sub(c.stack.bytes()).saturating_sub(c.spare_bytes()),
            frames: Vec::new(),
            mappings: Vec::new(),
            contents: Vec::new(),
            info: PhysRange::new(0, 0),
            roms: Vec::new(),
            guests: c.may_have_guests(),
            has_log: c.has_log(),
        }
    }

    /// Takes its share of what is left of the kernel's memory.
    fn set_apart(&self, left: &mut u64) -> Result<(), ComponentError> {
        let asked = self.component.kernel_memory_with_children();
        *left = left.checked_sub(asked).ok_or_else(|| ComponentError::KernelMemory {
            component: self.component.name.to_string(),
            asked: human(asked),
            left: human(*left),
        })?;
        Ok(())
    }

    /// Takes memory and says what goes where; gives everything back if something is missing.
    pub(crate) fn place(
        &self,
        modules: &[Module<'_>],
        kmem: &mut u64,
        book: &mut Book,
    ) -> Result<ComponentPlan, ComponentError> {
        self.set_apart(kmem)?;
        let mut plan = self.empty_plan();
        match self.fill(&mut plan, modules, book) {
            Ok(()) => Ok(plan),
            Err((what, cause)) => {
                plan.frames.into_iter().for_each(|f| book.give_back(f));
                *kmem += self.component.kernel_memory_with_children();
                Err(ComponentError::Memory { component: self.component.name.to_string(), what, cause })
            }
        }
    }

    fn fill(
        &self,
        plan: &mut ComponentPlan,
        modules: &[Module<'_>],
        book: &mut Book,
    ) -> Result<(), (&'static str, MemoryError)> {
        let mut take = |plan: &mut ComponentPlan, what, len| {
            let range = book.take(len).map_err(|e| (what, e))?;
            plan.frames.push(range);
            Ok(range)
        };
        let image = take(plan, "image", self.image.1.memory())?;
        let mapped = plan.ram_len + plan.stack_len;
        let ram = take(plan, "RAM", mapped)?;
        plan.info = take(plan, "start information", StartInfo::PAGES as u64 * PAGE)?;
        let mut texts = Vec::new();
        for (name, text) in self.texts() {
            let frames = take(plan, "configuration", text.len() as u64)?;
            texts.push((name, text, frames));
        }
        self.place_image(plan, image);
        place_ram(plan, ram);
        self.place_roms(plan, modules, texts);
        Ok(())
    }

    /// ROMs that are made of the description.
    fn texts(&self) -> impl Iterator<Item = (Name, String)> {
        let Component { config, args, .. } = self.component;
        let args = (!args.is_empty()).then(|| args.iter().flat_map(|arg| [arg.as_str(), "\0"]).collect());
        let made = [(CONFIG_ROM, config.clone()), (ARGS_ROM, args)];
        made.into_iter().filter_map(|(name, text)| Some((Name::new(name)?, text?)))
    }

    fn place_image(&self, plan: &mut ComponentPlan, frames: PhysRange) {
        let mut phys = frames.start;
        for s in &self.image.1.segments {
            let (virt, len) = (s.page_start(), s.page_end() - s.page_start());
            plan.mappings.push(Mapping { virt, phys, len, perms: s.perms });
            let source = Source::Module(self.image.0, s.file.clone());
            plan.contents.push(Content { phys: phys + (s.vaddr - virt), source });
            phys += len;
        }
    }

    fn place_roms(&self, plan: &mut ComponentPlan, modules: &[Module<'_>], texts: Vec<(Name, String, PhysRange)>) {
        let mut next = layout::ROMS;
        let mut place = |plan: &mut ComponentPlan, name, phys: PhysRange| {
            let virt = next + phys.start % LARGE;
            let pages = phys.outward();
            plan.mappings.push(Mapping { virt, phys: pages.start, len: pages.len(), perms: Mem::R });
            plan.roms.push(RomPlan { name, virt, len: phys.len() });
            // At least one page between ROMs stays unmapped.
            next = (virt + pages.len() + PAGE).next_multiple_of(LARGE);
        };
        for &(name, module) in &self.roms {
            place(plan, name, modules[module].phys);
        }
        for (name, text, frames) in texts {
            place(plan, name, PhysRange::new(frames.start, text.len() as u64));
            plan.contents.push(Content { phys: frames.start, source: Source::Text(text) });
        }
    }
}

/// RAM from the start of its frames; the first stack is the end of them.
fn place_ram(plan: &mut ComponentPlan, ram: PhysRange) {
    let perms = Mem::R | Mem::W;
    let stack = layout::STACK_TOP - plan.stack_len;
    // XS is nothing for the component itself, but what it may pass on to guest spaces of its own.
    let guests = if plan.guests { Mem::XS } else { Mem::empty() };
    plan.mappings.extend([
        Mapping { virt: layout::RAM, phys: ram.start, len: plan.ram_len, perms: perms | guests },
        Mapping { virt: stack, phys: ram.start + plan.ram_len, len: plan.stack_len, perms },
        Mapping { virt: layout::START_INFO, phys: plan.info.start, len: plan.info.len(), perms: Mem::R },
    ]);
}

#[cfg(test)]
#[path = "plan_tests.rs"]
pub(crate) mod tests;
