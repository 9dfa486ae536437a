//! Timers and the pins that they drive: local APIC, 8254, CMOS clock, IOAPIC, 8259; and the TSC.

use crate::machine::apic::{self, PIC_BASE, pic_register, read, route, write};
use crate::machine::cpu::{self, in8, in32, out8, rdmsr, rdtsc, wrmsr};
use crate::machine::trap::{self, Answer, count, wait_for};
use crate::spec::apic as a;
use crate::spec::{msr, port};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use testkernel_macros::guest_test;

const TIMER: u8 = 0x60;
const PIT_PIN: u32 = 2;
const SERIAL_PIN: u32 = 4;
const RTC_PIN: u32 = 8;
const LEVEL: u32 = 1 << 15;
const REMOTE_IRR: u32 = 1 << 14;

/// A short time in TSC ticks, or a little more in ticks of the local APIC timer; but long enough for an interrupt that
/// comes so often to leave the CPU some time for other things, whatever exits cost here.
fn soon() -> u64 {
    let cost = |_| {
        let start = rdtsc();
        cpu::cpuid(0, 0);
        rdtsc() - start
    };
    (0..8).map(cost).min().map_or(0, |least| 64 * least).max(20_000)
}

fn arm(mode: u32, initial: u64) {
    let initial = initial as u32;
    write(a::TIMER_DIVIDE, 0b1011);
    write(a::LVT_TIMER, mode | u32::from(TIMER));
    write(a::TIMER_INITIAL, initial);
}

/// Long enough for a timer of [`soon`] to fire many times.
fn idle() {
    let (start, long) = (rdtsc(), 20 * soon());
    while rdtsc() - start < long {
        cpu::interrupt_window();
    }
}

#[guest_test]
fn the_apic_timer_fires_once() {
    arm(a::ONE_SHOT, soon());
    wait_for("the timer", || count(TIMER) > 0);
    idle();
    assert_eq!(count(TIMER), 1);
    assert_eq!(read(a::TIMER_CURRENT), 0);
}

#[guest_test]
fn the_apic_timer_fires_periodically() {
    arm(a::PERIODIC, soon());
    wait_for("five periods", || count(TIMER) >= 5);
    write(a::TIMER_INITIAL, 0);
    cpu::interrupt_window();
    let so_far = count(TIMER);
    idle();
    assert_eq!(count(TIMER), so_far, "initial count 0 stops it");
}

#[guest_test]
fn the_apic_timer_counts_down() {
    arm(a::ONE_SHOT | a::MASKED, u32::MAX.into());
    let first = read(a::TIMER_CURRENT);
    idle();
    let second = read(a::TIMER_CURRENT);
    assert!(0 < second && second < first, "{first:#x}, then {second:#x}");
}

#[guest_test]
fn a_masked_apic_timer_is_silent() {
    arm(a::ONE_SHOT | a::MASKED, soon());
    wait_for("the count", || read(a::TIMER_CURRENT) == 0);
    idle();
    assert_eq!(count(TIMER), 0);
}

#[guest_test]
fn the_apic_timer_wakes_from_halt() {
    for n in 1..=3 {
        arm(a::ONE_SHOT, soon());
        while count(TIMER) < n {
            cpu::halt();
        }
    }
}

#[guest_test]
fn the_divider_slows_the_apic_timer() {
    let ticks = |divide: u32| {
        write(a::TIMER_DIVIDE, divide);
        write(a::LVT_TIMER, a::ONE_SHOT | a::MASKED | u32::from(TIMER));
        write(a::TIMER_INITIAL, u32::MAX);
        let (start, long) = (rdtsc(), 100 * soon());
        while rdtsc() - start < long {}
        let elapsed = rdtsc() - start;
        (u64::from(u32::MAX - read(a::TIMER_CURRENT)), elapsed)
    };
    let ((fast, t1), (slow, t2)) = (ticks(0b1011), ticks(0b1010)); // by 1, by 128
    // Per time, with a generous bound: exits take part of it.
    assert!(fast * t2 / t1 > 16 * slow, "{fast} in {t1}, {slow} in {t2}");
}

#[guest_test(needs = [TscDeadline])]
fn the_deadline_timer_fires_at_its_time() {
    write(a::LVT_TIMER, a::DEADLINE | u32::from(TIMER));
    let deadline = rdtsc() + soon();
    wrmsr(msr::TSC_DEADLINE, deadline);
    wait_for("the timer", || count(TIMER) > 0);
    assert!(rdtsc() >= deadline, "too early");
    assert_eq!(rdmsr(msr::TSC_DEADLINE), 0, "disarmed");
    idle();
    assert_eq!(count(TIMER), 1);
}

#[guest_test(needs = [TscDeadline])]
fn a_deadline_in_the_past_fires_at_once() {
    write(a::LVT_TIMER, a::DEADLINE | u32::from(TIMER));
    wrmsr(msr::TSC_DEADLINE, 1);
    wait_for("the timer", || count(TIMER) == 1);
}

#[guest_test(needs = [TscDeadline])]
fn a_deadline_of_zero_disarms() {
    write(a::LVT_TIMER, a::DEADLINE | u32::from(TIMER));
    // Until the deadline is far enough to be still ahead when it is taken back.
    for far in [1, 64, 4096].map(|n| n * soon()) {
        let deadline = rdtsc() + far;
        wrmsr(msr::TSC_DEADLINE, deadline);
        wrmsr(msr::TSC_DEADLINE, 0);
        if rdtsc() < deadline {
            while rdtsc() < deadline + far {
                cpu::interrupt_window();
            }
            return assert_eq!(count(TIMER), 0);
        }
        cpu::interrupt_window();
        trap::clear_counts();
    }
    panic!("two MSR accesses take {} ticks", 4096 * soon());
}

#[guest_test(needs = [TscDeadline])]
fn the_deadline_timer_wakes_from_halt() {
    write(a::LVT_TIMER, a::DEADLINE | u32::from(TIMER));
    for n in 1..=3 {
        wrmsr(msr::TSC_DEADLINE, rdtsc() + soon());
        while count(TIMER) < n {
            cpu::halt();
        }
    }
}

/// Counter 0 as a rate generator.
fn start_pit(divisor: u16) {
    out8(port::PIT + 3, 0x34);
    out8(port::PIT, divisor as u8);
    out8(port::PIT, (divisor >> 8) as u8);
}

fn stop_pit() {
    out8(port::PIT + 3, 0x30); // mode 0, without a count
}

#[guest_test]
fn the_interval_timer_counts_down() {
    start_pit(0xffff);
    let latch = || {
        out8(port::PIT + 3, 0);
        u16::from_le_bytes([in8(port::PIT), in8(port::PIT)])
    };
    let first = latch();
    wait_for("the counter", || latch() != first);
    stop_pit();
}

#[guest_test]
fn the_interval_timer_interrupts_through_the_ioapic() {
    route(PIT_PIN, TIMER.into(), apic::id());
    start_pit(1193);
    wait_for("three periods", || count(TIMER) >= 3);
    stop_pit();
}

#[guest_test]
fn the_interval_timer_interrupts_through_the_8259() {
    write(a::LVT_LINT0, 0x700);
    apic::init_pic(0xfffe);
    start_pit(1193);
    wait_for("three periods", || count(PIC_BASE) >= 3);
    stop_pit();
    apic::init_pic(0xffff);
}

#[guest_test]
fn the_8259_shows_requests_and_holds_masked_ones() {
    apic::init_pic(0xffff);
    start_pit(1193);
    wait_for("the request", || pic_register(0x0a) & 1 != 0);
    assert_eq!(count(PIC_BASE), 0);
    assert_eq!(pic_register(0x0b), 0, "nothing is in service");
    stop_pit();
}

#[guest_test]
fn a_masked_pin_is_silent() {
    route(PIT_PIN, a::MASKED | u32::from(TIMER), apic::id());
    start_pit(1193);
    idle();
    stop_pit();
    assert_eq!(count(TIMER), 0);
}

#[guest_test]
fn a_level_interrupt_comes_again_until_its_cause_ends() {
    const TIMES: u32 = 3;
    static SEEN: AtomicU32 = AtomicU32::new(0);
    SEEN.store(0, Relaxed);
    trap::hook(TIMER, |_| {
        SEEN.fetch_add(1 + (apic::routed(SERIAL_PIN) & REMOTE_IRR), Relaxed);
        if count(TIMER) + 1 >= TIMES {
            out8(port::COM1 + 1, 0);
        }
        Answer::Pass
    });
    route(SERIAL_PIN, LEVEL | u32::from(TIMER), apic::id());
    out8(port::COM1 + 1, 2); // transmitter empty: it is
    wait_for("the interrupts", || count(TIMER) >= TIMES);
    cpu::interrupt_window();
    route(SERIAL_PIN, a::MASKED, 0);
    assert_eq!(count(TIMER), TIMES);
    assert_eq!(SEEN.load(Relaxed), TIMES * (1 + REMOTE_IRR), "remote IRR is set in the handler");
    assert_eq!(apic::routed(SERIAL_PIN) & REMOTE_IRR, 0);
}

#[guest_test]
fn an_edge_interrupt_comes_once() {
    route(SERIAL_PIN, TIMER.into(), apic::id());
    out8(port::COM1 + 1, 2);
    wait_for("the interrupt", || count(TIMER) >= 1);
    idle();
    out8(port::COM1 + 1, 0);
    assert_eq!(count(TIMER), 1);
}

fn cmos(register: u8) -> u8 {
    out8(port::RTC, register);
    in8(port::RTC + 1)
}

fn set_cmos(register: u8, v: u8) {
    out8(port::RTC, register);
    out8(port::RTC + 1, v);
}

#[guest_test]
fn the_clock_interrupts_periodically() {
    static FLAGS: AtomicU32 = AtomicU32::new(0);
    FLAGS.store(0, Relaxed);
    // Without this read there would be no further interrupt.
    trap::hook(TIMER, |_| {
        FLAGS.fetch_add(u32::from(cmos(0x0c) >> 6 & 1), Relaxed);
        Answer::Pass
    });
    set_cmos(0x0a, 0x2a); // 64 Hz
    route(RTC_PIN, TIMER.into(), apic::id());
    set_cmos(0x0b, cmos(0x0b) | 0x40);
    cmos(0x0c);
    wait_for("three periods", || FLAGS.load(Relaxed) >= 3);
    set_cmos(0x0b, cmos(0x0b) & !0x40);
    set_cmos(0x0a, 0x26);
    cmos(0x0c);
}

#[guest_test(needs = [Hypervisor])]
fn the_power_management_timer_advances() {
    let first = in32(port::PM_TIMER);
    wait_for("the timer", || in32(port::PM_TIMER) != first);
}

#[guest_test]
fn the_time_stamp_counter_never_goes_back() {
    let mut last = rdtsc();
    for n in 0..3000 {
        if n % 10 == 0 {
            cpu::cpuid(0, 0);
        }
        let now = rdtsc();
        assert!(now >= last, "{last:#x}, then {now:#x}");
        last = now;
    }
}

#[guest_test]
fn the_time_stamp_counter_is_the_msr() {
    for _ in 0..100 {
        let (before, msr, after) = (rdtsc(), rdmsr(msr::TSC), rdtsc());
        assert!(before <= msr && msr <= after, "{before:#x} {msr:#x} {after:#x}");
    }
}

#[guest_test]
fn many_interrupts_during_exits_are_all_delivered() {
    arm(a::PERIODIC, soon());
    cpu::enable_interrupts();
    for _ in 0..200_000 {
        cpu::cpuid(0, 0);
        if count(TIMER) >= 50 {
            break;
        }
    }
    cpu::disable_interrupts();
    assert!(count(TIMER) >= 50, "{} interrupts", count(TIMER));
}
