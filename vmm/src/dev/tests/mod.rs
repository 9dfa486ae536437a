//! The devices together: interrupts on their way from a device to a vCPU, timers, effects.

mod ipi;
mod properties;
mod timers;

use super::*;

const X2_SVR: u32 = 0x80f;
const X2_EOI: u32 = 0x80b;
const X2_ICR: u32 = 0x830;
const X2_LVT_LINT0: u32 = 0x835;
const APIC_BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;
const IOAPIC: u64 = crate::layout::IOAPIC;
const LAPIC: u64 = crate::layout::LAPIC;
const COM1: u16 = crate::layout::COM1;

/// A platform whose TSC runs at 1 GHz.
fn platform(vcpus: usize) -> Platform {
    Platform::new(&PlatformConfig { vcpus, wall_ns: 1_795_367_109_000_000_000, ..Default::default() })
}

/// OUT of a byte that means nothing for the machine.
fn outb(platform: &mut Platform, port: u16, value: u8) {
    assert_eq!(platform.pio_write(port, 1, u32::from(value), 0), Effect::None);
}

fn inb(platform: &mut Platform, port: u16) -> u8 {
    platform.pio_read(port, 1, 0) as u8
}

fn wrmsr(platform: &mut Platform, vcpu: usize, msr: u32, value: u64) -> Effect {
    platform.msr_write(vcpu, msr, value, 0).expect("a register of the platform").expect("no #GP")
}

/// Vectors 0x30 and 0x38, all lines open.
fn init_pic(platform: &mut Platform) {
    for (port, vector, cascade) in [(0x20, 0x30, 4), (0xa0, 0x38, 2)] {
        outb(platform, port, 0x11);
        [vector, cascade, 1, 0].into_iter().for_each(|word| outb(platform, port + 1, word));
    }
}

/// x2APIC mode, enabled; LINT0 closed.
fn init_x2apic(platform: &mut Platform, vcpu: usize) {
    let base = platform.msr_read(vcpu, APIC_BASE, 0).expect("ours").expect("readable");
    wrmsr(platform, vcpu, APIC_BASE, base | 1 << 10);
    wrmsr(platform, vcpu, X2_SVR, 0x1ff);
    wrmsr(platform, vcpu, X2_LVT_LINT0, 0x1_0700);
}

fn route(platform: &mut Platform, pin: u8, entry: u64) {
    for (half, value) in [(1, (entry >> 32) as u32), (0, entry as u32)] {
        let index = [0x10 + 2 * pin + half, 0, 0, 0];
        assert_eq!(platform.mmio_write(0, IOAPIC, &index, 0), Ok(Effect::None));
        assert_eq!(platform.mmio_write(0, IOAPIC + 0x10, &value.to_le_bytes(), 0), Ok(Effect::None));
    }
}

fn remote_irr(platform: &mut Platform, pin: u8) -> bool {
    assert_eq!(platform.mmio_write(0, IOAPIC, &[0x10 + 2 * pin, 0, 0, 0], 0), Ok(Effect::None));
    let mut entry = [0; 4];
    platform.mmio_read(0, IOAPIC + 0x10, &mut entry, 0).expect("the I/O APIC answers");
    u32::from_le_bytes(entry) & 1 << 14 != 0
}

fn set(vcpus: &[usize]) -> VcpuSet {
    vcpus.iter().copied().collect()
}

const fn interrupt(vector: u8) -> Option<Pending> {
    Some(Pending::Interrupt(vector))
}

/// Lets COM1 interrupt: received data.
fn receive(platform: &mut Platform, bytes: &[u8]) {
    outb(platform, COM1 + 1, 1);
    assert_eq!(platform.serial_in(bytes), bytes.len());
}

#[test]
fn pic_interrupts_in_virtual_wire_mode() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    assert!(!platform.has_pending(0));
    receive(&mut platform, b"x");
    assert_eq!(platform.pending(0), interrupt(0x34));
    assert_eq!((platform.take_woken(), platform.take_woken()), (set(&[0]), set(&[])));
    assert_eq!(platform.ack(0), interrupt(0x34));
    assert_eq!(platform.ack(0), None);
}

#[test]
fn pic_interrupts_with_the_local_apic_off() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    wrmsr(&mut platform, 0, APIC_BASE, 0xfee0_0100);
    receive(&mut platform, b"x");
    assert_eq!(platform.ack(0), interrupt(0x34));
}

#[test]
fn masked_lint0_keeps_the_pic_out() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    init_x2apic(&mut platform, 0);
    receive(&mut platform, b"x");
    assert_eq!(platform.pending(0), None);
    wrmsr(&mut platform, 0, X2_LVT_LINT0, 0x700);
    assert_eq!(platform.pending(0), interrupt(0x34));
}

#[test]
fn extint_through_the_io_apic() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 0, 0x700);
    receive(&mut platform, b"x");
    assert_eq!(platform.ack(0), interrupt(0x34));
    assert_eq!(platform.ack(0), None);
}

#[test]
fn output_of_the_pic_drops_with_each_acknowledge() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    [0x11, 0].into_iter().zip([0x20, 0x21]).for_each(|(word, port)| outb(&mut platform, port, word));
    [4, 3, 0].into_iter().for_each(|word| outb(&mut platform, 0x21, word)); // automatic EOI
    init_x2apic(&mut platform, 0);
    route(&mut platform, 0, 0x700);
    platform.pulse_line(3);
    platform.pulse_line(4);
    assert_eq!(platform.ack(0), interrupt(0x03));
    assert_eq!(platform.ack(0), interrupt(0x04), "an edge of its own on pin 0");
}

#[test]
fn two_requests_of_the_pic_are_two_interrupts() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    receive(&mut platform, b"x");
    platform.pulse_line(3);
    assert_eq!(platform.ack(0), interrupt(0x33));
    assert_eq!(platform.pending(0), None, "3 is in service");
    outb(&mut platform, 0x20, 0x20);
    assert_eq!(platform.ack(0), interrupt(0x34));
}

#[test]
fn serial_through_the_io_apic() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 4, 0x51);
    receive(&mut platform, b"ab");
    assert_eq!(platform.ack(0), interrupt(0x51));
    assert_eq!(inb(&mut platform, COM1 + 2) & 0xf, 4);
    assert_eq!((inb(&mut platform, COM1), inb(&mut platform, COM1)), (b'a', b'b'));
    wrmsr(&mut platform, 0, X2_EOI, 0);
    assert_eq!(platform.pending(0), None);
    platform.serial_in(b"c");
    assert_eq!(platform.pending(0), interrupt(0x51), "the next edge");
}

#[test]
fn polled_input_does_not_swallow_the_next_edge() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 4, 0x51);
    receive(&mut platform, b"a");
    assert_eq!(platform.ack(0), interrupt(0x51));
    wrmsr(&mut platform, 0, X2_EOI, 0);
    // Read without asking for the cause: the line has not dropped.
    assert_eq!(inb(&mut platform, COM1), b'a');
    platform.serial_in(b"b");
    assert_eq!(platform.ack(0), interrupt(0x51));
}

#[test]
fn sci_is_sent_again_until_its_cause_is_gone() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 9, 0x8059);
    assert_eq!(platform.pio_write(0x602, 2, 0x100, 0), Effect::None);
    platform.press_power_button();
    for _ in 0..3 {
        assert_eq!(platform.ack(0), interrupt(0x59));
        assert!(remote_irr(&mut platform, 9));
        assert_eq!(platform.pending(0), None);
        wrmsr(&mut platform, 0, X2_EOI, 0);
    }
    assert_eq!(platform.ack(0), interrupt(0x59));
    assert_eq!(platform.pio_write(0x600, 2, 0x100, 0), Effect::None);
    wrmsr(&mut platform, 0, X2_EOI, 0);
    assert_eq!(platform.pending(0), None);
    assert!(!remote_irr(&mut platform, 9));
}

#[test]
fn level_interrupt_to_nobody_is_not_in_progress() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 9, 7 << 56 | 0x8059);
    assert_eq!(platform.pio_write(0x602, 2, 0x100, 0), Effect::None);
    platform.press_power_button();
    assert!(!remote_irr(&mut platform, 9));
    route(&mut platform, 9, 0x8059);
    assert_eq!(platform.pending(0), interrupt(0x59));
}

#[test]
fn cr8_holds_back_and_releases() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 4, 0x51);
    platform.set_cr8(0, 5);
    receive(&mut platform, b"x");
    assert_eq!((platform.pending(0), platform.cr8(0)), (None, 5));
    platform.set_cr8(0, 4);
    assert_eq!(platform.pending(0), interrupt(0x51));
}

#[test]
fn local_apic_in_memory_until_x2apic_mode() {
    let mut platform = platform(1);
    let mut version = [0; 4];
    assert_eq!(platform.mmio_read(0, LAPIC + 0x30, &mut version, 0), Ok(()));
    assert_eq!(u32::from_le_bytes(version), 0x0005_0014);
    assert_eq!(platform.mmio_read(0, LAPIC + 0x32, &mut version[..1], 0), Ok(()));
    assert_eq!(version[0], 5, "a byte of a register");
    assert_eq!(platform.mmio_write(0, LAPIC + 0x80, &[0x40, 0, 0, 0], 0), Ok(Effect::None));
    assert_eq!(platform.cr8(0), 4);
    init_x2apic(&mut platform, 0);
    assert!(platform.mmio_read(0, LAPIC + 0x30, &mut version, 0).is_err());
    assert!(platform.mmio_write(0, LAPIC + 0x80, &[0; 4], 0).is_err());
    assert_eq!(platform.unclaimed().mmio, 2);
}

#[test]
fn end_of_interrupt_in_memory_reaches_the_io_apic() {
    let mut platform = platform(1);
    route(&mut platform, 9, 0x8059);
    assert_eq!(platform.pio_write(0x602, 2, 0x100, 0), Effect::None);
    platform.press_power_button();
    assert_eq!(platform.ack(0), interrupt(0x59));
    assert_eq!(platform.mmio_write(0, LAPIC + 0xb0, &[0; 4], 0), Ok(Effect::None));
    assert_eq!(platform.ack(0), interrupt(0x59));
}

#[test]
fn interprocessor_interrupts() {
    let mut platform = platform(3);
    (0..3).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    assert_eq!(wrmsr(&mut platform, 0, X2_ICR, 2 << 32 | 0x4061), Effect::None);
    assert_eq!([0, 1, 2].map(|vcpu| platform.pending(vcpu)), [None, None, interrupt(0x61)]);
    assert_eq!(platform.take_woken(), set(&[2]));
    assert_eq!(wrmsr(&mut platform, 1, X2_ICR, 0xc_0062), Effect::None);
    assert_eq!([0, 1].map(|vcpu| platform.pending(vcpu)), [interrupt(0x62), None]);
    assert_eq!(wrmsr(&mut platform, 1, X2_ICR, 0x4_0063), Effect::None);
    assert_eq!(platform.pending(1), interrupt(0x63));
    assert_eq!(wrmsr(&mut platform, 2, X2_ICR, 0x8_0400), Effect::None);
    assert_eq!([0, 1, 2].map(|vcpu| platform.ack(vcpu)), [Some(Pending::Nmi); 3]);
    assert_eq!(platform.ack(0), interrupt(0x62), "after the NMI");
}

#[test]
fn logical_x2apic_destination() {
    let mut platform = platform(3);
    (0..3).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    wrmsr(&mut platform, 0, X2_ICR, 0b110 << 32 | 0x4861);
    assert_eq!([0, 1, 2].map(|vcpu| platform.has_pending(vcpu)), [false, true, true]);
}

#[test]
fn lowest_priority_goes_to_one() {
    let mut platform = platform(3);
    (0..3).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    platform.set_cr8(0, 3);
    platform.set_cr8(2, 1);
    platform.set_cr8(1, 2);
    route(&mut platform, 4, 0xff << 56 | 0x0951);
    receive(&mut platform, b"x");
    assert_eq!([0, 1, 2].map(|vcpu| platform.has_pending(vcpu)), [false, false, true]);
}

#[test]
fn init_and_startup_are_for_the_monitor() {
    let mut platform = platform(2);
    (0..2).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    platform.set_cr8(1, 7);
    let targets = set(&[1]);
    let init = Effect::Ipi(IpiEvent { kind: IpiKind::Init, targets });
    assert_eq!(wrmsr(&mut platform, 0, X2_ICR, 1 << 32 | 0x4500), init);
    assert_eq!(platform.cr8(1), 0, "its local APIC is reset");
    let startup = Effect::Ipi(IpiEvent { kind: IpiKind::Startup(0x9a), targets });
    assert_eq!(wrmsr(&mut platform, 0, X2_ICR, 0xc_469a), startup);
    assert_eq!(wrmsr(&mut platform, 0, X2_ICR, 9 << 32 | 0x4500), Effect::None, "there is no such vCPU");
}

#[test]
fn registers_of_others_are_not_ours() {
    let mut platform = platform(1);
    assert_eq!(platform.msr_read(0, 0x10, 0), None);
    assert_eq!(platform.msr_write(0, 0xc000_0080, 0, 0), None);
    assert_eq!(platform.msr_read(0, 0x802, 0), Some(Err(GpFault)), "not in x2APIC mode");
    assert_eq!(platform.msr_write(0, APIC_BASE, 0xfee0_0d01, 0), Some(Err(GpFault)));
    assert_eq!(platform.msr_read(0, 0x8ff, 0), Some(Err(GpFault)));
}

#[test]
fn effects_of_ports() {
    let mut platform = platform(1);
    assert_eq!(platform.pio_write(0x604, 2, 5 << 10 | 1 << 13, 0), Effect::PowerOff);
    assert_eq!(platform.pio_write(0x64, 1, 0xfe, 0), Effect::Reset);
    assert_eq!(platform.pio_write(0xcf9, 1, 6, 0), Effect::Reset);
    assert_eq!(platform.pio_write(0x92, 1, 1, 0), Effect::Reset);
    assert_eq!(platform.pio_write(0x8900, 1, 0x142, 0), Effect::Marker(0x42));
    assert_eq!(platform.pio_write(0x88ff, 2, 0x4200, 0), Effect::Marker(0x42), "one byte of two");
    assert_eq!(platform.pio_write(0x80, 1, 7, 0), Effect::None);
}

#[test]
fn pci_has_a_mechanism_but_no_device() {
    let mut platform = platform(1);
    assert_eq!(platform.pio_write(0xcf8, 4, 0x8000_0000, 0), Effect::None);
    assert_eq!(platform.pio_read(0xcf8, 4, 0), 0x8000_0000);
    assert_eq!([1, 2, 4].map(|size| platform.pio_read(0xcfc, size, 0)), [0xff, 0xffff, 0xffff_ffff]);
    assert_eq!(platform.pio_read(0xcf8, 1, 0), 0xff);
    assert_eq!(platform.pio_read(0xcf8, 2, 0), 0xffff);
}

#[test]
fn unclaimed_ports_read_as_ones_and_are_counted() {
    let mut platform = platform(1);
    assert_eq!([1, 2, 4].map(|size| platform.pio_read(0x1234, size, 0)), [0xff, 0xffff, 0xffff_ffff]);
    assert_eq!(platform.pio_write(0x2f8, 1, 0, 0), Effect::None);
    assert_eq!(platform.pio_read(0x6f, 2, 0), 0xffff, "the index port of the clock is write-only");
    let unclaimed = platform.unclaimed();
    assert_eq!((unclaimed.pio_reads, unclaimed.pio_writes, unclaimed.last_port), (8, 1, 0x6f));
    assert_eq!(platform.pio_read(0xffff, 4, 0), 0xffff_ffff, "wraps around");
}

#[test]
fn byte_devices_answer_wide_accesses_byte_by_byte() {
    let mut platform = platform(1);
    assert_eq!(platform.pio_write(0x20, 2, 0xa500, 0), Effect::None);
    assert_eq!(platform.pio_read(0x20, 2, 0), 0xa500);
}

#[test]
fn serial_output_is_drained() {
    let mut platform = platform(1);
    b"boot".iter().for_each(|byte| outb(&mut platform, COM1, *byte));
    assert!(platform.has_serial_out());
    let mut buffer = [0; 16];
    let count = platform.serial_out(&mut buffer);
    assert_eq!(&buffer[..count], b"boot");
    assert_eq!((platform.has_serial_out(), platform.serial_lost()), (false, 0));
}

#[test]
fn vcpus_that_do_not_exist() {
    let mut platform = platform(1);
    assert_eq!((platform.pending(1), platform.ack(1), platform.cr8(1)), (None, None, 0));
    platform.set_cr8(1, 3);
    assert_eq!(platform.msr_read(1, APIC_BASE, 0), None);
    assert!(platform.mmio_read(1, LAPIC, &mut [0; 4], 0).is_err());
}

#[test]
fn sets_of_vcpus() {
    let mut set = VcpuSet::default();
    assert!(set.is_empty());
    set.insert(0);
    set.insert(7);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, 7]);
    assert!(set.take(7) && !set.take(7) && !set.contains(200));
    assert_eq!(set.union([3].into_iter().collect()).iter().collect::<Vec<_>>(), [0, 3]);
}

#[test]
fn wide_access_across_power_management_registers() {
    let mut platform = platform(1);
    // Enable word and control word in one access: the bus splits it.
    assert_eq!(platform.pio_write(0x602, 4, 0x0400_0101, 0), Effect::None);
    assert_eq!(platform.pio_read(0x602, 4, 0), 0x0401_0101);
}

#[test]
fn init_by_memory_disarms_the_timer_of_its_target() {
    let mut platform = platform(2);
    init_x2apic(&mut platform, 1);
    wrmsr(&mut platform, 1, 0x832, 2 << 17 | 0xec);
    wrmsr(&mut platform, 1, TSC_DEADLINE, 5000);
    assert_eq!(platform.next_deadline(), Some(5000));
    assert_eq!(platform.mmio_write(0, LAPIC + 0x310, &[0, 0, 0, 1], 0), Ok(Effect::None));
    assert!(matches!(platform.mmio_write(0, LAPIC + 0x300, &[0, 0x45, 0, 0], 0), Ok(Effect::Ipi(_))));
    assert_eq!(platform.next_deadline(), None);
}

#[test]
fn can_move_to_the_handlers_thread() {
    fn is_send<T: Send>(_: &T) {}
    is_send(&platform(1));
}
