//! Interrupt controllers: local APIC in both modes, IOAPIC, and the two 8259, which stay masked unless a test wants
//! them.

use super::cpu::{self, cpuid, in8, load32, out8, rdmsr, store32, wrmsr};
use crate::spec::apic::*;
use crate::spec::mmio::{IOAPIC, LAPIC};
use crate::spec::msr;
use crate::spec::port::{PIC_MASTER, PIC_SLAVE};

/// First vector of the 8259 pair.
pub const PIC_BASE: u8 = 0x20;
/// Spurious interrupts of the local APIC.
pub const SPURIOUS: u8 = 0xff;
const SVR_ENABLE: u32 = 1 << 8;
/// IOAPIC registers, by index: SDM does not have them; 82093AA data sheet, 3.1 and 3.2.
const IOAPIC_DATA: u64 = IOAPIC + 0x10;
const IOAPIC_VERSION: u32 = 1;
const IOAPIC_PINS: u32 = 0x10;

/// Whether CPUID offers the x2APIC.
pub fn has_x2apic() -> bool {
    cpuid(1, 0).ecx >> 21 & 1 != 0
}

/// Whether this CPU's local APIC is in x2APIC mode.
pub fn in_x2apic_mode() -> bool {
    rdmsr(msr::APIC_BASE) & BASE_X2APIC != 0
}

/// Reads a register in the mode that is on.
pub fn read(register: u32) -> u32 {
    if in_x2apic_mode() { rdmsr(msr::X2APIC + register) as u32 } else { load32(LAPIC + 16 * u64::from(register)) }
}

/// Writes a register in the mode that is on.
pub fn write(register: u32, v: u32) {
    if in_x2apic_mode() {
        wrmsr(msr::X2APIC + register, v.into());
    } else {
        store32(LAPIC + 16 * u64::from(register), v);
    }
}

/// The ID of this CPU's local APIC.
pub fn id() -> u32 {
    if in_x2apic_mode() { read(ID) } else { read(ID) >> 24 }
}

/// Sends what the interrupt command register says, and waits until it is sent.
pub fn command(command: u32, destination: u32) {
    if in_x2apic_mode() {
        return wrmsr(msr::X2APIC + ICR, u64::from(destination) << 32 | u64::from(command));
    }
    write(ICR_HIGH, destination << 24);
    write(ICR, command);
    for _ in 0..1_000_000 {
        if read(ICR) & PENDING == 0 {
            return;
        }
    }
    panic!("the IPI stays pending");
}

/// A fixed interrupt to this CPU.
pub fn self_ipi(vector: u8) {
    command(ASSERT | TO_SELF | FIXED | u32::from(vector), 0);
}

/// Enables this CPU's local APIC, in x2APIC mode if there is one.
pub fn enable_local() {
    set_mode(has_x2apic());
    put_in_order();
}

/// Changes the mode. The way back from x2APIC leads through "disabled" (10.12.5).
pub fn set_mode(x2apic: bool) {
    let old = rdmsr(msr::APIC_BASE);
    let base = old & !(BASE_X2APIC | BASE_ENABLE);
    let wanted = if x2apic { BASE_ENABLE | BASE_X2APIC } else { BASE_ENABLE };
    if old == base | wanted {
        return;
    }
    if old & BASE_X2APIC != 0 {
        wrmsr(msr::APIC_BASE, base);
    }
    wrmsr(msr::APIC_BASE, base | BASE_ENABLE);
    if x2apic {
        wrmsr(msr::APIC_BASE, base | wanted);
    }
}

/// Enabled, nothing masked by priority, all local sources masked.
fn put_in_order() {
    write(SVR, SVR_ENABLE | u32::from(SPURIOUS));
    write(TPR, 0);
    for lvt in [LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        // Not every CPU has all of them: #GP in x2APIC mode.
        let _ = super::trap::catch(|| write(lvt, MASKED));
    }
    write(TIMER_INITIAL, 0);
    write(ESR, 0);
}

/// EOI of whatever controller has the vector.
pub fn end_of_interrupt(vector: u8) {
    match vector {
        SPURIOUS => {}
        v if (PIC_BASE..PIC_BASE + 16).contains(&v) => {
            if v >= PIC_BASE + 8 {
                out8(PIC_SLAVE, 0x20);
            }
            out8(PIC_MASTER, 0x20);
        }
        _ => write(EOI, 0),
    }
}

/// The 8259 pair, from scratch, with these inputs masked (master in the low byte).
pub fn init_pic(mask: u16) {
    for (port, base, wiring, mask) in
        [(PIC_MASTER, PIC_BASE, 4, mask as u8), (PIC_SLAVE, PIC_BASE + 8, 2, (mask >> 8) as u8)]
    {
        out8(port, 0x11);
        for v in [base, wiring, 1, mask] {
            out8(port + 1, v);
        }
    }
}

/// Both registers of the 8259 pair that OCW3 selects: requests (0x0a) or in service (0x0b).
pub fn pic_register(ocw3: u8) -> u16 {
    let [low, high] = [PIC_MASTER, PIC_SLAVE].map(|port| {
        out8(port, ocw3);
        in8(port)
    });
    u16::from_le_bytes([low, high])
}

/// An IOAPIC register.
pub fn ioapic_read(index: u32) -> u32 {
    store32(IOAPIC, index);
    load32(IOAPIC_DATA)
}

/// Writes an IOAPIC register.
pub fn ioapic_write(index: u32, v: u32) {
    store32(IOAPIC, index);
    store32(IOAPIC_DATA, v);
}

/// Number of pins.
pub fn ioapic_pins() -> u32 {
    (ioapic_read(IOAPIC_VERSION) >> 16 & 0xff) + 1
}

/// Redirects a pin to a CPU.
pub fn route(pin: u32, entry: u32, destination: u32) {
    ioapic_write(IOAPIC_PINS + 2 * pin + 1, destination << 24);
    ioapic_write(IOAPIC_PINS + 2 * pin, entry);
}

/// The low half of a pin's entry.
pub fn routed(pin: u32) -> u32 {
    ioapic_read(IOAPIC_PINS + 2 * pin)
}

/// At boot.
pub fn init() {
    init_pic(0xffff);
    enable_local();
    (0..ioapic_pins()).for_each(|pin| route(pin, MASKED, 0));
}

/// Before a test: all masked, nothing pending, x2APIC mode if there is one.
pub fn reset() {
    if in_x2apic_mode() != has_x2apic() || rdmsr(msr::APIC_BASE) & BASE_ENABLE == 0 {
        set_mode(has_x2apic());
    }
    if has_deadline() {
        wrmsr(msr::TSC_DEADLINE, 0);
    }
    put_in_order();
    init_pic(0xffff);
    for pin in 0..ioapic_pins() {
        if routed(pin) & MASKED == 0 {
            route(pin, MASKED, 0);
        }
    }
    finish_what_is_in_service();
    cpu::interrupt_window();
}

/// A test that failed in a handler left interrupts in service.
fn finish_what_is_in_service() {
    for _ in 0..256 {
        if (0..8).all(|n| read(ISR + n) == 0) {
            return;
        }
        write(EOI, 0);
    }
}

/// Whether the timer has TSC-deadline mode.
pub fn has_deadline() -> bool {
    cpuid(1, 0).ecx >> 24 & 1 != 0
}
