//! Register conversations with the I/O APIC.

use super::*;

const LEVEL: u32 = ENTRY_LEVEL as u32;
const MASK: u32 = ENTRY_MASK as u32;
const REMOTE_IRR: u32 = ENTRY_REMOTE_IRR as u32;

fn get(ioapic: &mut IoApic, index: u8) -> u32 {
    ioapic.write(IOREGSEL, u32::from(index));
    ioapic.read(IOWIN)
}

fn put(ioapic: &mut IoApic, index: u8, value: u32) -> u32 {
    ioapic.write(IOREGSEL, u32::from(index));
    ioapic.write(IOWIN, value)
}

fn with_pin(pin: u8, low: u32) -> IoApic {
    let mut ioapic = IoApic::new(0);
    put(&mut ioapic, IOREDTBL + 2 * pin + 1, 3 << 24);
    put(&mut ioapic, IOREDTBL + 2 * pin, low);
    ioapic
}

#[test]
fn identification() {
    let mut ioapic = IoApic::new(5);
    assert_eq!(get(&mut ioapic, IOAPICID), 5 << 24);
    assert_eq!(get(&mut ioapic, IOAPICVER), 0x0017_0020);
    put(&mut ioapic, IOAPICID, 0xf2 << 24);
    assert_eq!((get(&mut ioapic, IOAPICID), get(&mut ioapic, IOAPICARB)), (2 << 24, 2 << 24));
    assert_eq!(ioapic.read(IOREGSEL), 2);
}

#[test]
fn entries_reset_masked_and_keep_only_writable_bits() {
    let mut ioapic = IoApic::new(0);
    assert_eq!(get(&mut ioapic, IOREDTBL + 46), MASK);
    put(&mut ioapic, IOREDTBL + 46, 0xffff_ffff);
    put(&mut ioapic, IOREDTBL + 47, 0xffff_ffff);
    assert_eq!((get(&mut ioapic, IOREDTBL + 46), get(&mut ioapic, IOREDTBL + 47)), (0x0001_afff, 0xff00_0000));
    assert_eq!(put(&mut ioapic, IOREDTBL + 48, 0), 0, "there is no 25th entry");
    assert_eq!(get(&mut ioapic, IOREDTBL + 48), 0);
}

#[test]
fn edge_sends_once_per_edge() {
    let mut ioapic = with_pin(4, 0x0834);
    let expected =
        Message { mode: DeliveryMode::Fixed, vector: 0x34, level: false, destination: Destination::Logical(3) };
    assert_eq!(ioapic.set_line(4, true), Some(expected));
    ioapic.accepted(4);
    assert_eq!(get(&mut ioapic, IOREDTBL + 8) & REMOTE_IRR, 0);
    assert_eq!(ioapic.set_line(4, true), None);
    assert_eq!(ioapic.set_line(4, false), None);
    assert!(ioapic.set_line(4, true).is_some());
}

#[test]
fn masked_edge_is_lost() {
    let mut ioapic = with_pin(4, MASK | 0x34);
    assert_eq!(ioapic.set_line(4, true), None);
    assert_eq!(put(&mut ioapic, IOREDTBL + 8, 0x34), 1 << 4);
    assert_eq!(ioapic.request(4), None);
}

#[test]
fn level_waits_for_the_end_and_sends_again() {
    let mut ioapic = with_pin(9, LEVEL | 0x39);
    assert!(ioapic.set_line(9, true).is_some_and(|message| message.level));
    ioapic.accepted(9);
    assert_eq!(get(&mut ioapic, IOREDTBL + 18), LEVEL | REMOTE_IRR | 0x39);
    assert_eq!(ioapic.request(9), None, "still in progress");
    assert_eq!(ioapic.eoi(0x38), 0);
    assert_eq!(ioapic.eoi(0x39), 1 << 9);
    assert!(ioapic.request(9).is_some());
    ioapic.set_line(9, false);
    assert_eq!(ioapic.request(9), None);
}

#[test]
fn level_that_nobody_accepts_is_sent_again() {
    let mut ioapic = with_pin(9, LEVEL | 0x39);
    assert!(ioapic.set_line(9, true).is_some());
    assert!(ioapic.request(9).is_some());
}

#[test]
fn masked_level_comes_with_the_unmask() {
    let mut ioapic = with_pin(9, LEVEL | MASK | 0x39);
    assert_eq!(ioapic.set_line(9, true), None);
    assert_eq!(put(&mut ioapic, IOREDTBL + 18, LEVEL | 0x39), 1 << 9);
    assert!(ioapic.request(9).is_some());
}

#[test]
fn eoi_register_and_switch_to_edge_end_an_interrupt() {
    let mut ioapic = with_pin(9, LEVEL | 0x39);
    ioapic.set_line(9, true);
    ioapic.accepted(9);
    assert_eq!(ioapic.write(EOI, 0x39), 1 << 9);
    ioapic.accepted(9);
    put(&mut ioapic, IOREDTBL + 18, MASK | 0x39);
    put(&mut ioapic, IOREDTBL + 18, LEVEL | 0x39);
    assert!(ioapic.request(9).is_some());
}

#[test]
fn remote_irr_cannot_be_written() {
    let mut ioapic = with_pin(9, LEVEL | 0x39);
    put(&mut ioapic, IOREDTBL + 18, LEVEL | REMOTE_IRR | 0x39);
    assert_eq!(get(&mut ioapic, IOREDTBL + 18) & REMOTE_IRR, 0);
    ioapic.accepted(9);
    put(&mut ioapic, IOREDTBL + 18, LEVEL | 0x39);
    assert_eq!(get(&mut ioapic, IOREDTBL + 18) & REMOTE_IRR, REMOTE_IRR);
}

#[test]
fn pins_beyond_the_last_do_nothing() {
    let mut ioapic = IoApic::new(0);
    assert_eq!(ioapic.set_line(24, true), None);
    assert_eq!(ioapic.request(31), None);
}
