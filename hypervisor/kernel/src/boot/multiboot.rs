//! Multiboot 2 information: command line, first module, RSDP (spec 8.1.1.1).

use crate::mem::window;
use multiboot2::{BootInformation, BootInformationHeader, MemoryArea, MemoryAreaType};

const PAGE: u64 = abi::PAGE_SIZE as u64;

/// Magic value in EAX.
const MAGIC: u32 = 0x36d7_6289;

/// What the kernel wants to know from the loader.
pub struct Info {
    /// Physical range of the first module: the root task.
    pub root: (u64, u64),
    /// Physical address of a free page below 1 MiB.
    pub low_page: Option<u64>,
    /// Physical address of a copy of the RSDP that the loader made, with its length.
    pub rsdp: Option<u64>,
}

/// Reads the information.
pub fn read(magic: u32, at: u32) -> Result<Info, &'static str> {
    if magic != MAGIC {
        return Err("not started by a Multiboot 2 loader");
    }
    // The first word is the total length.
    // SAFETY: the loader put the information there; nobody writes to it.
    let head = unsafe { window::bytes(at.into(), 8) }.ok_or("no room to map the Multiboot information")?;
    let len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let p = window::map(at.into(), len.into()).ok_or("no room to map the Multiboot information")?;
    // SAFETY: the loader put the information there, below the window's end; nobody writes to it.
    let info = unsafe { BootInformation::load(p.cast::<BootInformationHeader>()) };
    let info = info.map_err(|_| "damaged Multiboot information")?;
    let module = info.module_tags().next().ok_or("no boot module: the first one must be the root task")?;
    let base = info.start_address() as u64;
    let offset = |a: *const u8| at as u64 + (a as u64 - base);
    // The tag holds the RSDP itself, behind its header of 8 bytes.
    let rsdp = info
        .rsdp_v2_tag()
        .map(|t| offset((&raw const *t).cast()) + 8)
        .or_else(|| info.rsdp_v1_tag().map(|t| offset((&raw const *t).cast()) + 8));
    let low_page = low_page(&info, (at.into(), at as u64 + len as u64));
    Ok(Info { root: (module.start_address().into(), module.end_address().into()), low_page, rsdp })
}

/// A page of available memory below 640 KiB where neither the boot information nor a module is; not the first one, which
/// holds the firmware's data.
fn low_page(info: &BootInformation, own: (u64, u64)) -> Option<u64> {
    let map = info.memory_map_tag()?;
    let taken = || info.module_tags().map(|m| (m.start_address().into(), m.end_address().into())).chain([own]);
    let free = |p: u64| {
        let area = |a: &MemoryArea| a.start_address() <= p && p + PAGE <= a.end_address();
        map.memory_areas().iter().any(|a| a.typ() == MemoryAreaType::Available && area(a))
            && !taken().any(|(s, e)| s < p + PAGE && p < e)
    };
    (1..0xa0).rev().map(|n| n * PAGE).find(|p| free(*p))
}
