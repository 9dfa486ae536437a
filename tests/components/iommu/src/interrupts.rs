//! Message-signalled interrupts (docs/spec/assign_int.md), with and without an IOMMU that remaps them.

use crate::machine::{Machine, config, set_config, take};
use crate::{Check, Outcome};
use abi::{Sel, Status, nova_obj};
use rt::hw::Ports;
use rt::hypercall::{self as hc, int_flags};
use std::sync::OnceLock;

pub const CHECKS: &[Check] = &[
    ("abi-112 assign_int-16 spaces-45", "int_msi semaphores follow those of pins", semaphores),
    ("assign_int-6 assign_int-8 assign_int-9", "a pin's interrupt arrives", pin),
    ("assign_int-5 assign_int-18", "a device raises the interrupt that it was given", arrives),
    ("assign_int-1", "a masked message-signalled interrupt does not arrive, an unmasked one does", masked),
    ("assign_int-21", "trigger mode and polarity mean nothing for it: always an edge", edges),
    ("assign_int-19", "interrupt remapping: a message that is another device's does not arrive", anothers),
    ("assign_int-19", "an interrupt that was given to another device is that one's alone", moved),
    ("assign_int-19", "an interrupt that is given to the IOAPIC, or to no device, disturbs no other", nobodys),
    ("assign_int-10", "assign_int: BAD_CPU, and nothing has changed", no_cpu),
];

/// PCI 3.0, 6.7 and 6.8.1.
mod pci {
    pub const CAPABILITIES: u32 = 0x34;
    pub const MSI: u32 = 5;
    pub const ENABLE: u32 = 1 << 16;
    pub const WIDE: u32 = 1 << 23;
}

/// The two semaphores that are used; selectors of pins come first.
fn semaphore(m: &Machine, n: usize) -> Result<Sel, String> {
    static TAKEN: OnceLock<Result<[Sel; 2], String>> = OnceLock::new();
    let first = nova_obj::INT_BASE + u64::from(m.hip.int_pin);
    let taken = TAKEN.get_or_init(|| Ok([take(first)?, take(first + u64::from(m.hip.int_msi) - 1)?]));
    taken.clone().map(|s| s[n])
}

/// Gives a message to a device, which is to raise it from now on.
fn program(bdf: u16, (address, data): (u32, u16)) -> Outcome {
    let mut at = config(bdf, pci::CAPABILITIES) & 0xfc;
    while at != 0 && config(bdf, at) & 0xff != pci::MSI {
        at = config(bdf, at) >> 8 & 0xfc;
    }
    if at == 0 {
        return Err("the device has no message-signalled interrupt".into());
    }
    let head = config(bdf, at);
    set_config(bdf, at + 4, address);
    if head & pci::WIDE != 0 {
        set_config(bdf, at + 8, 0);
    }
    set_config(bdf, at + if head & pci::WIDE != 0 { 12 } else { 8 }, data.into());
    set_config(bdf, at, head | pci::ENABLE);
    Ok(())
}

/// Routes an interrupt to this CPU, for a device.
fn assign(sm: Sel, bdf: u16, flags: u8) -> Result<(u32, u16), String> {
    hc::assign_int(sm, 0, bdf, flags).map_err(|e| format!("assign_int: {e:?}"))
}

/// Whether it comes within a tenth of a second, once or more often.
fn came(sm: Sel) -> Result<bool, String> {
    down(sm, true)
}

fn down(sm: Sel, all: bool) -> Result<bool, String> {
    let soon = rt::time::tsc() + rt::time::tsc_hz() / 10;
    match hc::sm_down(sm, all, Some(soon)) {
        Ok(()) => Ok(true),
        Err(Status::Timeout) => Ok(false),
        Err(e) => Err(format!("down: {e:?}")),
    }
}

fn expect(what: &str, got: bool, want: bool) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("{what}: {got}")) }
}

/// With a unit that does not answer.
pub fn silent_interrupt(m: &mut Machine) -> Outcome {
    let (edu, sm) = (m.edu[0], semaphore(m, 0)?);
    match hc::assign_int(sm, 0, edu.bdf, 0) {
        Err(Status::Aborted) => {}
        other => return Err(format!("{other:?}")),
    }
    // What it would have been told (QEMU's AMD-Vi, `amdvi::interrupt_message`).
    program(edu.bdf, (0xfee0_0000, 0))?;
    edu.interrupt();
    expect("raised", came(sm)?, false)
}

fn semaphores(m: &mut Machine) -> Outcome {
    let [first, last] = [semaphore(m, 0)?, semaphore(m, 1)?];
    for sm in [first, last] {
        let (address, _) = assign(sm, 0, int_flags::MASKED)?;
        expect("a message's address", address >> 20 == 0xfee, true)?;
    }
    let beyond = take(nova_obj::INT_BASE + u64::from(m.hip.int_pin) + u64::from(m.hip.int_msi))?;
    match hc::assign_int(beyond, 0, 0, 0) {
        Err(Status::BadCap) => Ok(()),
        other => Err(format!("one more: {other:?}")),
    }
}

/// COM1 (16550): its transmitter is empty, which it says by interrupt 4 when it is asked to.
fn pin(_: &mut Machine) -> Outcome {
    const PIN: u64 = 4;
    let (com1, sm) = (Ports::new(0x3f8, 8), take(nova_obj::INT_BASE + PIN)?);
    let message = assign(sm, 0, 0)?;
    expect("address and data are 0", message == (0, 0), true)?;
    expect("before it is enabled", came(sm)?, false)?;
    // OUT2 lets interrupts through.
    com1.out8(4, 0x0b);
    com1.out8(1, 2);
    let first = came(sm);
    com1.out8(1, 0);
    expect("when it is enabled", first?, true)?;
    came(sm)?;
    assign(sm, 0, int_flags::MASKED)?;
    com1.out8(1, 2);
    let masked = came(sm);
    com1.out8(1, 0);
    expect("masked", masked?, false)
}

fn arrives(m: &mut Machine) -> Outcome {
    for (device, n) in [(0, 0), (1, 1)] {
        let (edu, sm) = (m.edu[device], semaphore(m, n)?);
        program(edu.bdf, assign(sm, edu.bdf, 0)?)?;
        expect("before it is raised", came(sm)?, false)?;
        edu.interrupt();
        expect("when it is raised", came(sm)?, true)?;
        expect("a second time", came(sm)?, false)?;
    }
    Ok(())
}

fn masked(m: &mut Machine) -> Outcome {
    let (edu, sm) = (m.edu[0], semaphore(m, 0)?);
    program(edu.bdf, assign(sm, edu.bdf, int_flags::MASKED)?)?;
    edu.interrupt();
    expect("masked", came(sm)?, false)?;
    program(edu.bdf, assign(sm, edu.bdf, 0)?)?;
    expect("what came meanwhile", came(sm)?, false)?;
    edu.interrupt();
    expect("unmasked", came(sm)?, true)
}

/// As an edge it is not masked when it arrives: a second one adds up, though nobody has waited for the first.
fn edges(m: &mut Machine) -> Outcome {
    let (edu, sm) = (m.edu[0], semaphore(m, 0)?);
    let plain = assign(sm, edu.bdf, 0)?;
    for flags in [int_flags::LEVEL, int_flags::LOW, int_flags::LEVEL | int_flags::LOW, 0] {
        let message = assign(sm, edu.bdf, flags)?;
        expect(&format!("flags {flags:#x}: the same message"), message == plain, true)?;
        program(edu.bdf, message)?;
        expect(&format!("flags {flags:#x}: before it is raised"), came(sm)?, false)?;
        for _ in 0..2 {
            edu.interrupt();
            let soon = rt::time::tsc() + rt::time::tsc_hz() / 1000;
            while rt::time::tsc() < soon {}
        }
        for (n, want) in [("first", true), ("second", true), ("third", false)] {
            expect(&format!("flags {flags:#x}: {n}"), down(sm, false)?, want)?;
        }
    }
    Ok(())
}

fn anothers(m: &mut Machine) -> Outcome {
    if !m.iommu() {
        return Ok(());
    }
    let (own, other, sm) = (m.edu[0], m.edu[2], semaphore(m, 0)?);
    let message = assign(sm, own.bdf, 0)?;
    program(own.bdf, message)?;
    program(other.bdf, message)?;
    other.interrupt();
    expect("raised by another device", came(sm)?, false)?;
    own.interrupt();
    expect("raised by its own", came(sm)?, true)
}

fn moved(m: &mut Machine) -> Outcome {
    let (first, second, sms) = (m.edu[0], m.edu[1], [semaphore(m, 0)?, semaphore(m, 1)?]);
    program(first.bdf, assign(sms[0], first.bdf, 0)?)?;
    program(second.bdf, assign(sms[1], second.bdf, 0)?)?;
    // Each gets the other's.
    let messages = [assign(sms[0], second.bdf, 0)?, assign(sms[1], first.bdf, 0)?];
    if m.iommu() {
        first.interrupt();
        expect("raised by the device that had it", came(sms[0])?, false)?;
    }
    program(first.bdf, messages[1])?;
    program(second.bdf, messages[0])?;
    first.interrupt();
    expect("raised by the first with that of the second", came(sms[1])?, true)?;
    second.interrupt();
    expect("raised by the second with that of the first", came(sms[0])?, true)?;
    program(first.bdf, assign(sms[0], first.bdf, 0)?)
}

fn nobodys(m: &mut Machine) -> Outcome {
    /// As what the IOAPIC appears: with VT-d, with AMD-Vi (QEMU's firmware tables).
    const IOAPIC: [u16; 2] = [0xff00, 0x00a0];
    let (edu, sms) = (m.edu[0], [semaphore(m, 0)?, semaphore(m, 1)?]);
    program(edu.bdf, assign(sms[0], edu.bdf, 0)?)?;
    for bdf in IOAPIC.into_iter().chain([0, u16::MAX]) {
        assign(sms[1], bdf, 0)?;
        edu.interrupt();
        expect("a device's", came(sms[0])?, true)?;
        pin(m)?;
    }
    Ok(())
}

fn no_cpu(m: &mut Machine) -> Outcome {
    let (edu, sm) = (m.edu[0], semaphore(m, 0)?);
    match hc::assign_int(sm, m.hip.cpu_num, edu.bdf, 0) {
        Err(Status::BadCpu) => {}
        other => return Err(format!("{other:?}")),
    }
    edu.interrupt();
    expect("as it was routed before", came(sm)?, true)
}
