//! Register conversations with the clock. The TSC runs at 1 GHz unless a test says otherwise: one tick is one ns.

use super::*;
use crate::dev::timebase::NEVER;
use proptest::prelude::*;

/// 2026-11-22 17:05:09, a Sunday.
const START: u64 = 1_795_367_109;

fn rtc() -> Rtc {
    Rtc::new(NS, 0, START * NS, 256 << 20)
}

fn get(rtc: &mut Rtc, register: u8, now: u64) -> u8 {
    rtc.write(0, register, now);
    rtc.read(1, now)
}

fn put(rtc: &mut Rtc, register: u8, value: u8, now: u64) {
    rtc.write(0, register, now);
    rtc.write(1, value, now);
}

fn date(rtc: &mut Rtc, now: u64) -> Vec<u8> {
    [RTC_CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS].map(|r| get(rtc, r, now)).to_vec()
}

#[test]
fn shows_the_wall_clock_in_bcd() {
    let mut rtc = rtc();
    assert_eq!(date(&mut rtc, 0), [0x20, 0x26, 0x11, 0x22, 1, 0x17, 0x05, 0x09]);
    assert_eq!(date(&mut rtc, 51 * NS)[6..], [0x06, 0x00]);
}

#[test]
fn time_starts_at_the_boot_tsc() {
    let mut rtc = Rtc::new(2 * NS, 1000 * NS, START * NS, 0);
    assert_eq!(get(&mut rtc, SECONDS, 1000 * NS), 0x09);
    assert_eq!(get(&mut rtc, SECONDS, 1006 * NS), 0x12, "2 GHz");
    assert_eq!(get(&mut rtc, SECONDS, 0), 0x09, "a TSC before the start does no harm");
}

#[test]
fn binary_and_twelve_hours() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_B, B_DM | B_24H, 0);
    assert_eq!(date(&mut rtc, 0)[..6], [20, 26, 11, 22, 1, 17]);
    put(&mut rtc, REGISTER_B, B_DM, 0);
    assert_eq!(get(&mut rtc, HOURS, 0), 5 | HOURS_PM);
    put(&mut rtc, HOURS, 12, 0);
    put(&mut rtc, REGISTER_B, B_DM | B_24H, 0);
    assert_eq!(get(&mut rtc, HOURS, 0), 0, "12 am is midnight");
}

#[test]
fn update_in_progress_before_the_second() {
    let mut rtc = rtc();
    assert_eq!(get(&mut rtc, REGISTER_A, NS - UPDATE_NS - 1), A_RESET);
    assert_eq!(get(&mut rtc, REGISTER_A, NS - UPDATE_NS), A_RESET | A_UIP);
    assert_eq!(get(&mut rtc, REGISTER_A, NS), A_RESET);
}

#[test]
fn setting_the_time_holds_it_until_set_is_cleared() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_B, B_SET | B_24H, 0);
    for (register, value) in [(YEAR, 0x24), (MONTH, 0x02), (DAY_OF_MONTH, 0x28), (HOURS, 0x23), (MINUTES, 0x59)] {
        put(&mut rtc, register, value, 0);
    }
    put(&mut rtc, SECONDS, 0x58, 5 * NS);
    assert_eq!(get(&mut rtc, SECONDS, 9 * NS), 0x58, "no updates");
    put(&mut rtc, REGISTER_B, B_24H, 10 * NS);
    assert_eq!(date(&mut rtc, 12 * NS), [0x20, 0x24, 0x02, 0x29, 5, 0, 0, 0]);
}

#[test]
fn setting_one_register_without_set() {
    let mut rtc = rtc();
    put(&mut rtc, MINUTES, 0x30, 0);
    assert_eq!(date(&mut rtc, 0)[5..], [0x17, 0x30, 0x09]);
    put(&mut rtc, RTC_CENTURY, 0x21, 0);
    assert_eq!(date(&mut rtc, 0)[..4], [0x21, 0x26, 0x11, 0x22]);
    put(&mut rtc, RTC_CENTURY, 0x19, 0);
    assert_eq!(date(&mut rtc, 0)[..2], [0x19, 0x70], "there is no time before 1970");
}

#[test]
fn memory_size_for_those_who_ask_cmos() {
    let mut rtc = rtc();
    let mut word = |register| u16::from_le_bytes([get(&mut rtc, register, 0), get(&mut rtc, register + 1, 0)]);
    assert_eq!(word(BASE_MEMORY), 640);
    assert_eq!(word(EXTENDED_MEMORY), u16::MAX);
    assert_eq!(word(MEMORY_ABOVE_16M), 240 << 4);
}

#[test]
fn cmos_memory_keeps_bytes_and_registers_c_d_do_not() {
    let mut rtc = rtc();
    put(&mut rtc, 0x40, 0x5a, 0);
    put(&mut rtc, REGISTER_D, 0, 0);
    put(&mut rtc, REGISTER_C, 0xff, 0);
    assert_eq!(get(&mut rtc, 0x40, 0), 0x5a);
    assert_eq!(get(&mut rtc, 0x80 | 0x40, 0), 0x5a, "bit 7 masks NMIs");
    assert_eq!(get(&mut rtc, REGISTER_D, 0), D_VRT);
    assert_eq!(get(&mut rtc, REGISTER_C, 0), 0);
    assert_eq!(rtc.read(0, 0), 0xff, "the index port is write-only");
}

#[test]
fn update_interrupt_each_second() {
    let mut rtc = rtc();
    assert_eq!(rtc.deadline(), NEVER);
    put(&mut rtc, REGISTER_B, UPDATE | B_24H, NS / 2);
    assert_eq!(rtc.deadline(), NS);
    rtc.advance(NS - 1);
    assert!(!rtc.irq());
    rtc.advance(NS);
    assert!(rtc.irq());
    assert_eq!(rtc.deadline(), NEVER, "asserted until register C is read");
    assert_eq!(get(&mut rtc, REGISTER_C, NS) & !PERIODIC, C_IRQF | UPDATE);
    assert!(!rtc.irq());
    assert_eq!(rtc.deadline(), 2 * NS);
}

#[test]
fn periodic_interrupt_at_its_rate() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_A, 0x2d, 0); // 8 Hz
    put(&mut rtc, REGISTER_B, PERIODIC | B_24H, 1);
    for k in 1..=3 {
        assert_eq!(rtc.deadline(), k * NS / 8);
        rtc.advance(k * NS / 8);
        assert!(rtc.irq());
        assert_ne!(get(&mut rtc, REGISTER_C, k * NS / 8) & PERIODIC, 0);
    }
    put(&mut rtc, REGISTER_A, 0x20, NS);
    get(&mut rtc, REGISTER_C, NS);
    assert_eq!(rtc.deadline(), NEVER, "rate 0 is off");
}

#[test]
fn fastest_rates_repeat_slower_ones() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_B, PERIODIC | B_24H, 0);
    for (rate, hz) in [(1, 256), (2, 128), (3, 8192), (15, 2)] {
        put(&mut rtc, REGISTER_A, 0x20 | rate, 0);
        assert_eq!(rtc.deadline(), NS.div_ceil(hz), "rate {rate}");
    }
}

#[test]
fn asserted_line_needs_no_deadline_of_another_source() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_A, 0x2d, 0);
    put(&mut rtc, REGISTER_B, PERIODIC | UPDATE | B_24H, 0);
    rtc.advance(NS / 8);
    assert_eq!((rtc.irq(), rtc.deadline()), (true, NEVER));
}

#[test]
fn no_updates_while_the_time_is_set() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_A, 0x20, 0);
    put(&mut rtc, REGISTER_B, B_SET | UPDATE | ALARM | B_24H, 0);
    assert_eq!(get(&mut rtc, REGISTER_B, 0), B_SET | ALARM | B_24H);
    assert_eq!(rtc.deadline(), NEVER);
    assert_eq!(get(&mut rtc, REGISTER_C, 3 * NS), 0);
}

#[test]
fn events_go_on_after_the_clock_is_set_back() {
    let mut rtc = rtc();
    put(&mut rtc, REGISTER_B, UPDATE | B_24H, 0);
    put(&mut rtc, HOURS, 0x03, NS / 2);
    assert_eq!(rtc.deadline(), NS);
    rtc.advance(NS);
    assert!(rtc.irq());
}

#[test]
fn alarm_at_the_time_of_day() {
    let mut rtc = rtc();
    for (register, value) in [(HOURS_ALARM, 0x17), (MINUTES_ALARM, 0x06), (SECONDS_ALARM, 0x00)] {
        put(&mut rtc, register, value, 0);
    }
    put(&mut rtc, REGISTER_B, ALARM | B_24H, 0);
    assert_eq!(rtc.deadline(), 51 * NS);
    rtc.advance(51 * NS);
    assert_ne!(get(&mut rtc, REGISTER_C, 51 * NS) & ALARM, 0);
    assert_eq!(rtc.deadline(), (51 + 86_400) * NS, "tomorrow");
    put(&mut rtc, HOURS_ALARM, DO_NOT_CARE, 51 * NS);
    assert_eq!(rtc.deadline(), (51 + 3600) * NS);
    put(&mut rtc, SECONDS_ALARM, 0x61, 51 * NS);
    assert_eq!(rtc.deadline(), NEVER, "no such second");
}

#[test]
fn flags_are_set_without_interrupts() {
    let mut rtc = rtc();
    assert_eq!(get(&mut rtc, REGISTER_C, 3 * NS), UPDATE | PERIODIC, "all alarm registers are 0: no alarm yet");
    assert_eq!(get(&mut rtc, REGISTER_C, 3 * NS), 0);
}

proptest! {
    #[test]
    fn deadline_is_when_the_line_rises(tsc_hz in 1_000_000u64..4_000_000_000, enable in 0u8..8, a in 0u8..16,
                                       hour in 0u8..25, minute in 0u8..60, start in 0u64..1 << 40) {
        let mut rtc = Rtc::new(tsc_hz, 77, START * NS + 123_456_789, 0);
        put(&mut rtc, REGISTER_B, B_DM | B_24H, start);
        put(&mut rtc, REGISTER_A, 0x20 | a, start);
        put(&mut rtc, HOURS_ALARM, if hour == 24 { 0xff } else { hour }, start);
        put(&mut rtc, MINUTES_ALARM, minute, start);
        put(&mut rtc, REGISTER_B, B_DM | B_24H | enable << 4, start);
        get(&mut rtc, REGISTER_C, start);
        let deadline = rtc.deadline();
        prop_assume!(deadline != NEVER);
        prop_assert!(deadline > start);
        rtc.advance(deadline - 1);
        prop_assert!(!rtc.irq());
        rtc.advance(deadline);
        prop_assert!(rtc.irq());
    }
}
