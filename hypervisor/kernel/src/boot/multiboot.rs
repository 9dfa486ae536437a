//! Multiboot 2 information: command line, first module, RSDP (spec 8.1.1.1).

use crate::arch::cpu;
use crate::mem::window;
use switches::CommandLine;

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

/// Reads the information, and turns off what the command line says.
pub fn read(magic: u32, at: u32) -> Result<Info, &'static str> {
    if magic != MAGIC {
        return Err("not started by a Multiboot 2 loader");
    }
    let at = u64::from(at);
    // SAFETY: the loader put the information there; nobody writes to it.
    let bytes = |len: u64| unsafe { window::bytes(at, len) }.ok_or("no room to map the Multiboot information");
    let bytes = bytes(multiboot::Info::size(bytes(4)?).into())?;
    let info = multiboot::Info::new(bytes).ok_or("damaged Multiboot information")?;
    let root = info.modules().next().ok_or("no boot module: the first one must be the root task")?;
    cpu::turn_off(CommandLine(info.command_line()));
    Ok(Info {
        root,
        low_page: info.low_page((at, at + bytes.len() as u64)),
        rsdp: info.rsdp().map(|offset| at + offset as u64),
    })
}
