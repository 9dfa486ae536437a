//! What devices reach, and what not.

use crate::edu::{Edu, LEN};
use crate::machine::{FREE_PHYS, Machine, Shared, selector};
use crate::{Check, Outcome};
use abi::{Mad, Sel, Status, perm::Mem, root_obj};
use rt::hypercall as hc;
use std::time::{Duration, Instant};

pub const CHECKS: &[Check] = &[
    ("assign_dev-3 boot-45", "no device reaches memory before it is assigned", blocked_from_boot),
    (
        "assign_dev-4 assign_dev-5 assign_dev-18 create_pd-5 ctrl_pd-33 spaces-7 abi-99 abi-115",
        "a device reads and writes what its DMA space maps",
        inside,
    ),
    ("assign_dev-6 assign_dev-7", "what is not mapped is blocked, and reported with device and address", outside),
    ("spaces-61", "a page that is mapped for reading only cannot be written", read_only),
    ("ctrl_pd-12 assign_dev-19", "what is taken out of the space is blocked when the call returns", unmapped),
    (
        "assign_dev-8 assign_dev-21",
        "a device that is assigned to another space reaches that, and nothing of the first",
        other_space,
    ),
    ("assign_dev-9", "another device of the unit is not concerned", other_device),
    ("assign_dev-10", "when a space goes, its devices are blocked", gone),
    ("destroy-34", "and when it is destroyed", destroyed),
    ("spaces-63", "the unit's registers cannot be delegated", registers),
    ("assign_dev-11", "a device that faults all the time: some lines a second, and the system goes on", storm),
];

/// Where devices find the first page, and where they find nothing.
pub const HERE: u64 = 0x1234_5000;
const NOWHERE: u64 = FREE_PHYS;
const ALL: Mem = Mem::R.union(Mem::W);
const GOOD: u8 = 0x5a;

/// Moves a byte pattern into the device and out again at another page.
fn round_trip(m: &mut Machine, device: usize, from: (Shared, u64), to: (Shared, u64), byte: u8) -> Outcome {
    from.0.fill(byte);
    m.edu[device].dma(false, from.1)?;
    to.0.fill(0);
    m.edu[device].dma(true, to.1)?;
    match to.0.uniform(LEN as usize) {
        Some(b) if b == byte => m.no_fault(),
        other => Err(format!("{byte:#x} went in, {other:x?} came out")),
    }
}

/// A write that has to be blocked and reported. At [`NOWHERE`] there is memory, which must not change.
fn write_blocked(m: &mut Machine, device: usize, address: u64) -> Outcome {
    let free = m.free_page(0x21)?;
    m.log();
    m.edu[device].dma(true, address)?;
    let name = m.edu[device].name();
    m.said(&format!("DMA fault: {name} writes {address:#x}"))?;
    // SAFETY: just mapped.
    match unsafe { free.read_volatile() } {
        now if now == [0x21; abi::PAGE_SIZE] => Ok(()),
        now => Err(format!("memory of nobody has changed: it begins with {:#x} now", now[0])),
    }
}

fn blocked_from_boot(m: &mut Machine) -> Outcome {
    if m.edu.len() < 3 {
        return Err(format!("{} devices", m.edu.len()));
    }
    write_blocked(m, 0, HERE)?;
    // Memory that is there.
    write_blocked(m, 1, NOWHERE)
}

/// A space with pages 0 and 1 at [`HERE`], and the first device in it.
pub fn first_space(m: &mut Machine) -> Result<Sel, String> {
    let s = m.space()?;
    m.show(s, Shared(0), HERE, ALL)?;
    m.show(s, Shared(1), HERE + 0x1000, ALL)?;
    m.assign(s, 0)?;
    Ok(s)
}

fn inside(m: &mut Machine) -> Outcome {
    first_space(m)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)
}

fn outside(m: &mut Machine) -> Outcome {
    first_space(m)?;
    write_blocked(m, 0, NOWHERE)?;
    // What the device has is not what is at the address that it cannot read.
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)?;
    m.edu[0].dma(false, NOWHERE)?;
    let name = m.edu[0].name();
    m.said(&format!("DMA fault: {name} reads {NOWHERE:#x}"))?;
    m.edu[0].dma(true, HERE + 0x1000)?;
    if Shared(1).uniform(LEN as usize) == Some(0x21) {
        return Err("it has read what is there".into());
    }
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)
}

fn read_only(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    m.show(s, Shared(2), NOWHERE, Mem::R)?;
    round_trip(m, 0, (Shared(2), NOWHERE), (Shared(1), HERE + 0x1000), 0x33)?;
    Shared(2).fill(0x44);
    // QEMU 7.2 does not report it if it has the translation in its cache.
    m.edu[0].dma(true, NOWHERE)?;
    m.log();
    unchanged(Shared(2), 0x44)
}

fn unchanged(page: Shared, byte: u8) -> Outcome {
    match page.uniform(abi::PAGE_SIZE) {
        Some(b) if b == byte => Ok(()),
        other => Err(format!("the page has changed: {other:x?}")),
    }
}

fn unmapped(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    // So that the unit has it in its cache.
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)?;
    m.show(s, Shared(1), HERE + 0x1000, Mem::empty())?;
    Shared(1).fill(0x11);
    write_blocked(m, 0, HERE + 0x1000)?;
    unchanged(Shared(1), 0x11)?;
    m.show(s, Shared(1), HERE + 0x1000, ALL)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), 0x66)
}

fn other_space(m: &mut Machine) -> Outcome {
    let first = first_space(m)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)?;
    let other = m.space()?;
    m.show(other, Shared(2), HERE, ALL)?;
    m.assign(other, 0)?;
    Shared(0).fill(0x22);
    round_trip(m, 0, (Shared(2), HERE), (Shared(2), HERE), 0x77)?;
    unchanged(Shared(0), 0x22)?;
    write_blocked(m, 0, HERE + 0x1000)?;
    // Into an empty one: to nowhere.
    let empty = m.space()?;
    m.assign(empty, 0)?;
    write_blocked(m, 0, HERE)?;
    m.assign(first, 0)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), 0x78)
}

fn other_device(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    Shared(0).fill(0x12);
    write_blocked(m, 2, HERE)?;
    unchanged(Shared(0), 0x12)?;
    m.assign(s, 1)?;
    round_trip(m, 1, (Shared(0), HERE), (Shared(1), HERE + 0x1000), 0x79)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), 0x7a)
}

/// Gives a capability up.
pub fn drop_cap(sel: Sel) -> Result<(), Status> {
    // SAFETY: an object space.
    unsafe { hc::ctrl_pd(root_obj::ROOT_OBJ, root_obj::ROOT_OBJ, sel, sel, 0, 0, Mad::WB) }
}

fn gone(m: &mut Machine) -> Outcome {
    ended(m, drop_cap)
}

fn destroyed(m: &mut Machine) -> Outcome {
    // SAFETY: nothing of ours is in the space.
    ended(m, |s| unsafe { hc::destroy(s) }.and_then(|()| drop_cap(s)))
}

fn ended(m: &mut Machine, end: impl FnOnce(Sel) -> Result<(), Status>) -> Outcome {
    let s = first_space(m)?;
    m.assign(s, 1)?;
    round_trip(m, 1, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)?;
    let (_, used) = hc::read_quota(root_obj::ROOT_PD).map_err(|e| format!("{e:?}"))?;
    end(s).map_err(|e| format!("{e:?}"))?;
    let (_, now) = hc::read_quota(root_obj::ROOT_PD).map_err(|e| format!("{e:?}"))?;
    if now >= used {
        return Err(format!("the space is still there: {used} frames used, then {now}"));
    }
    // Who gets its number next does not get its devices.
    let next = m.space()?;
    m.show(next, Shared(2), HERE, ALL)?;
    for page in [0, 2] {
        Shared(page).fill(0x13);
    }
    for device in [0, 1] {
        write_blocked(m, device, HERE)?;
    }
    unchanged(Shared(0), 0x13)?;
    unchanged(Shared(2), 0x13)?;
    drop_cap(next).map_err(|e| format!("{e:?}"))
}

fn registers(m: &mut Machine) -> Outcome {
    let s = first_space(m)?;
    const AT: u64 = 0x12_0000_0000;
    m.map(m.unit(), AT, ALL, Mad::UC).map_err(|e| format!("{e:?}"))?;
    // SAFETY: not our host space.
    unsafe { hc::ctrl_pd(m.hst, s, AT >> 12, NOWHERE >> 12, 0, ALL.bits(), Mad::WB) }.map_err(|e| format!("{e:?}"))?;
    write_blocked(m, 0, NOWHERE)
}

fn storm(m: &mut Machine) -> Outcome {
    m.log();
    std::thread::sleep(Duration::from_secs(1));
    let (end, mut text, mut rounds) = (Instant::now() + Duration::from_millis(1500), String::new(), 0);
    while Instant::now() < end {
        for e in m.edu.clone() {
            e.wait()?;
            e.start(true, NOWHERE);
            rounds += 1;
            // Each takes a tenth of a second: not two at the same time, which the unit could not record.
            std::thread::sleep(Duration::from_millis(20));
            text += &m.log();
        }
    }
    m.edu.iter().try_for_each(Edu::wait)?;
    let lines = text.matches("DMA fault:").count();
    if lines > 24 || rounds < 40 {
        return Err(format!("{lines} lines for {rounds} accesses"));
    }
    std::thread::sleep(Duration::from_millis(1500));
    text += &m.log();
    if m.reports() && !text.contains("DMA faults: at least") {
        return Err(format!("{lines} lines for {rounds} accesses, and nothing of the others"));
    }
    first_space(m)?;
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), GOOD)?;
    write_blocked(m, 0, NOWHERE)
}

/// Whether the first device still works: what a refused call must not have changed.
pub fn works(m: &mut Machine) -> Outcome {
    round_trip(m, 0, (Shared(0), HERE), (Shared(1), HERE + 0x1000), 0x2b)
}

/// A selector that holds nothing.
pub fn null() -> Sel {
    selector()
}
