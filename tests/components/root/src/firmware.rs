//! What the boot loader and the firmware left, read by hand; and memory, ports and the console.

use crate::check::done;
use crate::own::sel;
use crate::scene::{PAGE, Slot, copy};
use abi::{Hip, Mad, Sel, nova_obj, perm, root_obj};
use rt::hw::Ports;
use rt::hypercall as hc;
use std::sync::OnceLock;

/// Where physical address 0 is for what is looked at, and for what is written.
const WINDOW: u64 = 0x2000_0000_0000;
const HEAP: u64 = 0x3000_0000_0000;
/// Memory that the runtime is given.
const HEAP_LEN: u64 = 32 << 20;

/// The information page.
pub fn hip() -> &'static Hip {
    rt::root::boot().expect("the root task").hip
}

/// A copy of a capability of the NOVA object space, with at most those permissions.
pub fn take(nova: Sel, perms: u8) -> Result<Slot, String> {
    let s = Slot::new();
    // SAFETY: into the object space.
    done("taken from NOVA", unsafe { hc::ctrl_pd(root_obj::NOVA_OBJ, sel::OBJ, nova, s.0, 0, perms, Mad::WB) })?;
    Ok(s)
}

/// The NOVA host space.
pub fn memory() -> Sel {
    static TAKEN: OnceLock<Slot> = OnceLock::new();
    TAKEN.get_or_init(|| take(nova_obj::NOVA_HST, perm::ALL).expect("NOVA host space")).0
}

/// The NOVA PIO space.
pub fn ports() -> Sel {
    static TAKEN: OnceLock<Slot> = OnceLock::new();
    TAKEN.get_or_init(|| take(nova_obj::NOVA_PIO, perm::ALL).expect("NOVA PIO space")).0
}

/// Our own PIO space.
pub fn own_ports() -> Sel {
    static TAKEN: OnceLock<Slot> = OnceLock::new();
    TAKEN.get_or_init(|| take(nova_obj::ROOT_PIO, perm::ALL).expect("root task's PIO space")).0
}

/// Takes ports out of NOVA's space, or out of ours.
pub fn give_ports(first: u16, count: u16, give: bool) -> Result<(), String> {
    for p in u32::from(first)..u32::from(first) + u32::from(count) {
        // SAFETY: ports are no memory.
        let r = unsafe { hc::ctrl_pd(ports(), own_ports(), p.into(), p.into(), 0, give.into(), Mad::WB) };
        done("ports", r)?;
    }
    Ok(())
}

/// Maps frames to pages of ours; addresses in bytes.
pub fn map(phys: u64, virt: u64, perms: perm::Mem, mad: Mad) -> Result<(), abi::Status> {
    // SAFETY: callers map to where nothing of Rust's is.
    unsafe { hc::ctrl_pd(memory(), sel::HST, phys / PAGE, virt / PAGE, 0, perms.bits(), mad) }
}

/// Physical memory that nobody writes.
fn bytes(phys: u64, len: u64) -> &'static [u8] {
    for page in phys / PAGE..(phys + len).div_ceil(PAGE) {
        let _ = map(page * PAGE, WINDOW + page * PAGE, perm::Mem::R, Mad::WB);
    }
    // SAFETY: mapped just now for good; firmware and boot loader are done with it.
    unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance((WINDOW + phys) as usize), len as usize) }
}

/// A little-endian number.
pub fn word(b: &[u8], at: usize, len: usize) -> u64 {
    b[at..at + len].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// Tags of the boot information: kind, and what is behind the size.
pub fn boot_tags() -> Vec<(u64, &'static [u8])> {
    let at = rt::root::boot().expect("the root task").mbi_phys;
    let all = bytes(at, word(bytes(at, 8), 0, 4));
    let (mut tags, mut i) = (Vec::new(), 8);
    while i + 8 <= all.len() {
        let (kind, size) = (word(all, i, 4), word(all, i + 4, 4) as usize);
        if kind == 0 || size < 8 {
            break;
        }
        tags.push((kind, &all[i + 8..i + size]));
        i += size.next_multiple_of(8);
    }
    tags
}

/// Physical ranges of the modules, in their order.
pub fn modules() -> Vec<(u64, u64)> {
    boot_tags().iter().filter(|(k, _)| *k == 3).map(|(_, b)| (word(b, 0, 4), word(b, 4, 4))).collect()
}

/// Physical ranges of available memory.
pub fn available() -> Vec<(u64, u64)> {
    let Some((_, map)) = boot_tags().into_iter().find(|(k, _)| *k == 6) else { return Vec::new() };
    let entries = map[8..].chunks_exact(word(map, 0, 4) as usize);
    entries.filter(|e| word(e, 16, 4) == 1).map(|e| (word(e, 0, 8), word(e, 0, 8) + word(e, 8, 8))).collect()
}

/// Available memory, with nothing of anybody in it, from here on in its range.
pub fn free_memory() -> Option<(u64, u64)> {
    let info = rt::root::boot()?.mbi_phys + 0x10000;
    let used = modules().iter().map(|m| m.1).chain([hip().nova_end, hip().root_end, info]).max()?;
    let start = used.next_multiple_of(2 << 20);
    available().into_iter().find(|(s, e)| *s <= start && start + HEAP_LEN <= *e).map(|(_, e)| (start, e))
}

/// Gives the runtime memory.
pub fn heap() -> Result<(), String> {
    let (start, _) = free_memory().ok_or("no free memory")?;
    for at in (start..start + HEAP_LEN).step_by(2 << 20) {
        let w = perm::Mem::R | perm::Mem::W | perm::Mem::XU;
        // SAFETY: free memory, to where nothing is.
        let r = unsafe { hc::ctrl_pd(memory(), sel::HST, at / PAGE, (HEAP + at) / PAGE, 9, w.bits(), Mad::WB) };
        done("memory", r)?;
    }
    // SAFETY: it is ours alone.
    if unsafe { rt::root::set_ram(HEAP + start, HEAP_LEN) } { Ok(()) } else { Err("memory was refused".into()) }
}

/// The whole ACPI table at an address.
pub fn whole(at: u64) -> &'static [u8] {
    bytes(at, word(bytes(at, 8), 4, 4))
}

/// The ACPI table of that name.
pub fn table(name: &str) -> Option<&'static [u8]> {
    let rsdp = bytes(hip().acpi_rsdp, 36);
    let (at, width) = if rsdp[15] >= 2 { (word(rsdp, 24, 8), 8) } else { (word(rsdp, 16, 4), 4) };
    let list = &whole(at)[36..];
    list.chunks_exact(width).map(|e| word(e, 0, width)).map(whole).find(|t| t.starts_with(name.as_bytes()))
}

/// First port of COM1.
pub const COM1: u16 = 0x3f8;

/// COM1's registers.
pub fn com1() -> Ports {
    Ports::new(COM1, 8)
}

/// Sets COM1 up and has lines go there.
pub fn open_console() -> Result<(), String> {
    give_ports(COM1, 8, true)?;
    let p = com1();
    // 115200 8N1, FIFO, no interrupts, DTR, RTS, and OUT2, which lets interrupts through.
    for (r, v) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7), (4, 0xb)] {
        p.out8(r, v);
    }
    rt::root::set_log(print);
    Ok(())
}

fn put(p: &Ports, b: u8) {
    let _ = (0..100_000).any(|_| p.in8(5) & 0x20 != 0);
    p.out8(0, b);
}

fn print(text: &[u8]) {
    let p = com1();
    for &b in text {
        if b == b'\n' {
            put(&p, b'\r');
        }
        put(&p, b);
    }
}

/// Null in our object space again.
pub fn clear(s: Sel) -> Result<(), String> {
    done("revoke", copy(s, s, 0))
}

/// Whether the second boot module says "reset".
pub fn wants_reset() -> bool {
    modules().get(1).is_some_and(|m| bytes(m.0, m.1 - m.0).starts_with(b"reset"))
}
