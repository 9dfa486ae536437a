//! What the boot loader left: boot modules, the map of memory, and the book of what is free.
//!
//! Key type: [`Boot`]. Neighbours: `window` shows the memory, `core_task_logic::firmware` says what is in use.

use crate::window::Window;
use abi::Hip;
use core_task_logic::firmware::{is_apart, is_ours, module_name, reserved};
use core_task_logic::screen::{COLUMNS, ROWS};
use multiboot2::{BootInformation, FramebufferType, MemoryAreaType};
use policy::{Book, Module, PhysRange};
use thiserror::Error;

/// Our own heap, beside what we start with. Images are not copied, so little is needed.
const HEAP_LEN: u64 = 8 << 20;
/// What the threads that serve a CPU's events and portals, its entry point, and their helpers take: stacks and control blocks.
const HEAP_PER_CPU: u64 = 320 << 10;

/// Why nothing can be started.
#[derive(Debug, Error)]
pub enum BootError {
    /// The boot loader did not use Multiboot 2.
    #[error("the boot loader left no Multiboot 2 information (magic {0:#x})")]
    Magic(u32),
    /// The boot information is damaged.
    #[error("the Multiboot 2 information at {0:#x} is damaged")]
    Damaged(u64),
    /// There is no memory map in it.
    #[error("the Multiboot 2 information has no memory map")]
    NoMap,
    /// Free memory cannot be mapped.
    #[error("the kernel refused to map free memory: {0:?}")]
    Map(abi::Status),
    /// Less memory than we need ourselves.
    #[error("not enough memory for the root task: {0}")]
    Heap(#[from] policy::MemoryError),
}

/// What is there.
pub struct Boot {
    /// Boot modules in the order of the boot loader, without the root task; each has its pages to itself, zeroed behind it.
    pub modules: Vec<Module<'static>>,
    /// Free memory.
    pub book: Book,
    /// All memory that the boot loader's map knows, whoever has it.
    pub memory: Vec<PhysRange>,
    /// Cells of the screen, if the boot loader has left it in the text mode of 80 by 25 characters.
    pub screen: Option<PhysRange>,
}

impl Boot {
    /// Reads the boot information, opens the book, and takes our heap from it.
    pub fn read(window: &Window, hip: &Hip, magic: u32, information: u64) -> Result<Boot, BootError> {
        if magic != multiboot2::MAGIC {
            return Err(BootError::Magic(magic));
        }
        let (info, place) = window.boot_information(information).ok_or(BootError::Damaged(information))?;
        let places = module_places(&info);
        let ranges: Vec<PhysRange> = places.iter().map(|(_, r)| *r).collect();
        let available = available(&info).ok_or(BootError::NoMap)?;
        let mut book = Book::new(available, reserved(hip, place, &ranges));
        let heap = book.take(HEAP_LEN + u64::from(hip.cpu_num) * HEAP_PER_CPU)?;
        window.heap(heap).map_err(BootError::Map)?;
        window.add_frames(book.free_ranges()).map_err(BootError::Map)?;
        let mut modules = Vec::new();
        for (index, (name, phys)) in places.into_iter().enumerate().filter(|(_, (_, phys))| !is_ours(hip, *phys)) {
            let apart = is_apart(hip, place, &ranges, index);
            modules.extend(module(window, name, phys, apart, &mut book));
        }
        Ok(Boot { modules, book, memory: memory(&info), screen: screen(&info) })
    }

    /// The bytes of the module of that name.
    pub fn module(&self, name: &str) -> Option<&'static [u8]> {
        self.modules.iter().find(|m| m.name == name).map(|m| m.bytes)
    }
}

fn screen(info: &BootInformation<'_>) -> Option<PhysRange> {
    let s = info.framebuffer_tag()?.ok()?;
    let is_text = matches!(s.buffer_type(), Ok(FramebufferType::Text));
    let fits = (s.width() as usize, s.height() as usize, s.pitch() as usize) == (COLUMNS, ROWS, 2 * COLUMNS);
    (is_text && fits).then(|| PhysRange::new(s.address(), (2 * COLUMNS * ROWS) as u64))
}

/// What the firmware has reserved may be a device's, and is left out.
fn memory(info: &BootInformation<'_>) -> Vec<PhysRange> {
    let areas = info.memory_map_tag().map(|map| map.memory_areas()).unwrap_or_default();
    let memory = areas.iter().filter(|a| a.typ() != MemoryAreaType::Reserved);
    memory.map(|a| PhysRange::new(a.start_address(), a.size())).collect()
}

fn available(info: &BootInformation<'_>) -> Option<Vec<PhysRange>> {
    let areas = info.memory_map_tag()?.memory_areas();
    let free = areas.iter().filter(|a| a.typ() == MemoryAreaType::Available);
    Some(free.map(|a| PhysRange::new(a.start_address(), a.size())).collect())
}

fn module_places(info: &BootInformation<'_>) -> Vec<(String, PhysRange)> {
    let place = |m: &multiboot2::ModuleTag| PhysRange {
        start: m.start_address().into(),
        end: u64::from(m.end_address()).max(m.start_address().into()),
    };
    info.module_tags().map(|m| (module_name(m.cmdline().unwrap_or("")).to_string(), place(m))).collect()
}

/// Components are shown whole pages of a module: its own, with nothing behind it, or a copy. `None`: there is no memory for
/// one, or the module cannot be shown.
fn module(window: &Window, name: String, phys: PhysRange, apart: bool, book: &mut Book) -> Option<Module<'static>> {
    if apart && window.zero_behind(phys).is_ok() {
        return Some(Module { name, phys, bytes: window.fixed(phys)? });
    }
    let (bytes, frames) = (window.fixed(phys)?, book.take(phys.len()).ok()?);
    let copied = window.zero(frames) && window.write(frames.start, bytes);
    copied.then_some(Module { name, phys: PhysRange::new(frames.start, phys.len()), bytes })
}
