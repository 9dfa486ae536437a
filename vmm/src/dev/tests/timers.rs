//! Timers through the platform: deadlines and the interrupts that they bring.

use super::*;

const X2_LVT_TIMER: u32 = 0x832;
const X2_INITIAL: u32 = 0x838;
const X2_DIVIDE: u32 = 0x83e;
const DEADLINE_MODE: u64 = 2 << 17;
const PERIODIC_MODE: u64 = 1 << 17;
const SECOND: u64 = 1_000_000_000;

/// OUT at a moment.
fn outb_at(platform: &mut Platform, port: u16, value: u8, now: u64) {
    assert_eq!(platform.pio_write(port, 1, u32::from(value), now), Effect::None);
}

fn wrmsr_at(platform: &mut Platform, msr: u32, value: u64, now: u64) {
    assert_eq!(platform.msr_write(0, msr, value, now), Some(Ok(Effect::None)));
}

#[test]
fn nothing_programmed_nothing_due() {
    assert_eq!(platform(2).next_deadline(), None);
}

#[test]
fn tsc_deadline_fires_once() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    wrmsr(&mut platform, 0, X2_LVT_TIMER, DEADLINE_MODE | 0xec);
    wrmsr(&mut platform, 0, TSC_DEADLINE, 5000);
    assert_eq!(platform.next_deadline(), Some(5000));
    platform.advance(4999);
    assert_eq!(platform.pending(0), None);
    platform.advance(5000);
    assert_eq!(platform.take_woken(), set(&[0]));
    assert_eq!(platform.ack(0), interrupt(0xec));
    assert_eq!(platform.next_deadline(), None);
    platform.advance(u64::MAX - 1);
    wrmsr(&mut platform, 0, X2_EOI, 0);
    assert_eq!(platform.pending(0), None);
}

#[test]
fn what_is_due_happens_before_an_access() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    wrmsr(&mut platform, 0, X2_LVT_TIMER, DEADLINE_MODE | 0xec);
    wrmsr(&mut platform, 0, TSC_DEADLINE, 5000);
    // The old deadline has passed when the new one is written.
    wrmsr_at(&mut platform, TSC_DEADLINE, 9000, 6000);
    assert_eq!(platform.ack(0), interrupt(0xec));
    assert_eq!(platform.next_deadline(), Some(9000));
}

#[test]
fn local_apic_timer_periods() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    wrmsr(&mut platform, 0, X2_DIVIDE, 3); // by 16
    wrmsr(&mut platform, 0, X2_LVT_TIMER, PERIODIC_MODE | 0xec);
    wrmsr_at(&mut platform, X2_INITIAL, 1000, 100);
    for period in 1..4 {
        let deadline = 100 + period * 16_000;
        assert_eq!(platform.next_deadline(), Some(deadline));
        platform.advance(deadline);
        assert_eq!(platform.ack(0), interrupt(0xec));
        wrmsr_at(&mut platform, X2_EOI, 0, deadline);
    }
}

#[test]
fn interval_timer_ticks_through_the_pic_and_pin_2() {
    let mut platform = platform(1);
    init_pic(&mut platform);
    outb_at(&mut platform, 0x43, 0x34, 0);
    outb_at(&mut platform, 0x40, 0x9c, 0);
    outb_at(&mut platform, 0x40, 0x2e, 0); // 11932: 100 Hz
    let edge = |k: u64| (1 + k * 11932) * SECOND;
    for k in 1..=3 {
        let deadline = edge(k).div_ceil(1_193_182);
        assert_eq!(platform.next_deadline(), Some(deadline));
        platform.advance(deadline - 1);
        assert!(!platform.has_pending(0));
        platform.advance(deadline);
        assert_eq!(platform.ack(0), interrupt(0x30));
        outb_at(&mut platform, 0x20, 0x20, deadline);
    }
    init_x2apic(&mut platform, 0);
    route(&mut platform, 2, 0x30);
    platform.advance(platform.next_deadline().expect("it goes on"));
    assert_eq!(platform.ack(0), interrupt(0x30));
}

#[test]
fn clock_interrupts_on_line_8() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 8, 0x58);
    outb(&mut platform, 0x70, 0x0b);
    outb(&mut platform, 0x71, 0x12); // update-ended, 24 hours
    for second in 1..=3 {
        assert_eq!(platform.next_deadline(), Some(second * SECOND));
        platform.advance(second * SECOND);
        assert_eq!(platform.ack(0), interrupt(0x58));
        outb_at(&mut platform, 0x70, 0x0c, second * SECOND);
        assert_ne!(platform.pio_read(0x71, 1, second * SECOND) & 0x10, 0);
        wrmsr_at(&mut platform, X2_EOI, 0, second * SECOND);
    }
}

#[test]
fn power_management_timer_raises_the_sci() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    route(&mut platform, 9, 0x8059);
    assert_eq!(platform.pio_write(0x602, 2, 1, 0), Effect::None);
    let deadline = ((1u128 << 31) * u128::from(SECOND)).div_ceil(3_579_545) as u64;
    assert_eq!(platform.next_deadline(), Some(deadline));
    assert_eq!(platform.pio_read(0x608, 4, deadline - 1), 0x7fff_ffff);
    assert_eq!(platform.pending(0), None);
    assert_eq!(platform.pio_read(0x608, 4, deadline), 0x8000_0000);
    assert_eq!(platform.pending(0), interrupt(0x59));
}

#[test]
fn the_earliest_deadline_counts() {
    let mut platform = platform(2);
    (0..2).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    for (vcpu, deadline) in [(0, 7000), (1, 6000)] {
        wrmsr(&mut platform, vcpu, X2_LVT_TIMER, DEADLINE_MODE | 0xec);
        wrmsr(&mut platform, vcpu, TSC_DEADLINE, deadline);
    }
    assert_eq!(platform.next_deadline(), Some(6000));
    platform.advance(6000);
    assert_eq!(platform.take_woken(), set(&[1]));
    assert_eq!(platform.next_deadline(), Some(7000));
}

#[test]
fn a_timer_with_a_wrong_vector_gives_the_error_interrupt_and_that_is_told() {
    let mut platform = platform(1);
    init_x2apic(&mut platform, 0);
    wrmsr(&mut platform, 0, 0x837, 0x33);
    wrmsr(&mut platform, 0, X2_LVT_TIMER, 0x05);
    wrmsr(&mut platform, 0, X2_INITIAL, 100);
    platform.take_woken();
    platform.advance(platform.next_deadline().expect("the timer runs"));
    assert_eq!((platform.pending(0), platform.take_woken()), (interrupt(0x33), set(&[0])));
}
