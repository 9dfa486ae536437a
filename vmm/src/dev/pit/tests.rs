//! Register conversations with the timer. One TSC tick is one input clock unless a test says otherwise.

use super::*;
use proptest::prelude::*;

/// Control words: counter, both bytes, mode.
const C0_MODE0: u8 = 0x30;
const C0_MODE2: u8 = 0x34;
const C0_MODE3: u8 = 0x36;
const C0_MODE4: u8 = 0x38;
const C2_MODE0: u8 = 0xb0;
const C2_MODE3: u8 = 0xb6;

fn pit() -> Pit {
    Pit::new(CLK_HZ)
}

fn program(pit: &mut Pit, control: u8, count: u16, now: u64) {
    let counter = u16::from(control >> SC_SHIFT);
    pit.write(CONTROL, control, now);
    pit.write(counter, count as u8, now);
    pit.write(counter, (count >> 8) as u8, now);
}

fn count(pit: &mut Pit, counter: u16, now: u64) -> u16 {
    pit.write(CONTROL, (counter as u8) << SC_SHIFT, now);
    u16::from(pit.read(counter, now)) | u16::from(pit.read(counter, now)) << 8
}

fn status(pit: &mut Pit, counter: u16, now: u64) -> u8 {
    pit.write(CONTROL, 0xc0 | READ_BACK_NO_COUNT | (2 << counter), now);
    pit.read(counter, now)
}

#[test]
fn unprogrammed_counter_never_fires() {
    let mut pit = pit();
    assert_eq!(pit.deadline(), NEVER);
    assert!(!pit.advance(u64::MAX));
}

#[test]
fn mode_0_fires_once() {
    let mut pit = pit();
    program(&mut pit, C0_MODE0, 100, 10);
    assert_eq!(pit.deadline(), 111, "loaded with the clock after the write");
    assert_eq!(count(&mut pit, 0, 61), 50);
    assert_eq!(status(&mut pit, 0, 110), 0x30);
    assert!(!pit.advance(110));
    assert!(pit.advance(111));
    assert_eq!(pit.deadline(), NEVER);
    assert_eq!(status(&mut pit, 0, 111), STATUS_OUTPUT | 0x30);
    assert_eq!(count(&mut pit, 0, 112), 0xffff, "counts on through 0");
}

#[test]
fn mode_0_stops_with_the_first_byte() {
    let mut pit = pit();
    program(&mut pit, C0_MODE0, 100, 0);
    pit.write(0, 5, 50);
    assert_eq!(pit.deadline(), NEVER);
    pit.write(0, 0, 60);
    assert_eq!(pit.deadline(), 66);
}

#[test]
fn mode_2_is_periodic_without_drift() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2, 1000, 0);
    for period in 1..=5 {
        assert_eq!(pit.deadline(), 1 + period * 1000);
        // Late by some clocks, which must not add up.
        assert!(pit.advance(1 + period * 1000 + 7 * period));
    }
    assert_eq!(count(&mut pit, 0, 1 + 6 * 1000 + 1), 999);
    assert_eq!(status(&mut pit, 0, 1 + 6 * 1000 - 1) & STATUS_OUTPUT, 0, "low for the last clock");
}

#[test]
fn missed_periods_are_one_edge() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2, 10, 0);
    assert!(pit.advance(1005));
    assert!(!pit.advance(1005));
    assert_eq!(pit.deadline(), 1011);
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = pit();
    program(&mut pit, C0_MODE3, 10, 9);
    let output: Vec<bool> = (10..30).map(|now| status(&mut pit, 0, now) & STATUS_OUTPUT != 0).collect();
    let wave = [[true; 5], [false; 5]].concat();
    assert_eq!(output, [wave.clone(), wave].concat());
    let counts: Vec<u16> = (10..20).map(|now| count(&mut pit, 0, now)).collect();
    assert_eq!(counts, [10, 8, 6, 4, 2, 10, 8, 6, 4, 2]);
}

#[test]
fn mode_4_strobes_low_for_one_clock() {
    let mut pit = pit();
    program(&mut pit, C0_MODE4, 20, 0);
    assert_eq!(pit.deadline(), 22);
    let low: Vec<u64> = (1..100).filter(|now| status(&mut pit, 0, *now) & STATUS_OUTPUT == 0).collect();
    assert_eq!(low, [21]);
}

#[test]
fn count_0_is_the_largest() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2, 0, 0);
    assert_eq!(pit.deadline(), 1 + 0x1_0000);
}

#[test]
fn latch_holds_the_count_until_read() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2, 0x1234, 0);
    pit.write(CONTROL, 0, 1 + 0x34);
    pit.write(CONTROL, 0, 1 + 0x100);
    assert_eq!((pit.read(0, 5000), pit.read(0, 5001)), (0x00, 0x12), "the second latch command is ignored");
    assert_eq!(pit.read(0, 1 + 0x34 + 2 * 0x1234), 0x00, "and then it is live again");
}

#[test]
fn read_back_gives_status_then_count() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2, 500, 0);
    pit.write(CONTROL, 0xc0 | 2, 101);
    assert_eq!(pit.read(0, 200), STATUS_OUTPUT | 0x34);
    assert_eq!((pit.read(0, 200), pit.read(0, 200)), (144, 1), "400");
    pit.write(CONTROL, C0_MODE2, 300);
    assert_eq!(status(&mut pit, 0, 301) & STATUS_NULL_COUNT, STATUS_NULL_COUNT, "no count written yet");
}

#[test]
fn one_byte_access() {
    let mut pit = pit();
    pit.write(CONTROL, 0x14, 0); // counter 0, LSB only, mode 2
    pit.write(0, 50, 0);
    assert_eq!(pit.deadline(), 51);
    assert_eq!(pit.read(0, 11), 40);
    pit.write(CONTROL, 0x24, 100); // MSB only
    pit.write(0, 2, 100);
    assert_eq!(pit.deadline(), 101 + 512);
    assert_eq!(pit.read(0, 102), 1, "511");
}

#[test]
fn bcd_counts_in_decimal() {
    let mut pit = pit();
    program(&mut pit, C0_MODE2 | BCD, 0x1000, 0);
    assert_eq!(pit.deadline(), 1001);
    assert_eq!(count(&mut pit, 0, 2), 0x0999);
    program(&mut pit, C0_MODE2 | BCD, 0, 0);
    assert_eq!(pit.deadline(), 10_001);
}

#[test]
fn tsc_calibration_of_linux() {
    // pit_calibrate_tsc: gate on, counter 2 mode 0, poll port 0x61 for the output.
    let mut pit = pit();
    pit.write_port_b(1, 0);
    program(&mut pit, C2_MODE0, 59659, 0);
    assert_eq!(pit.read_port_b(59659) & 0x2f, 1);
    assert_eq!(pit.read_port_b(59660) & 0x2f, 1 | PORT_B_OUT2);
}

#[test]
fn gate_of_counter_2_stops_and_resumes() {
    let mut pit = pit();
    program(&mut pit, C2_MODE0, 100, 0);
    assert_eq!(count(&mut pit, 2, 1000), 100, "gated off");
    pit.write_port_b(1, 999);
    assert_eq!(count(&mut pit, 2, 1030), 70);
    pit.write_port_b(0, 1030);
    assert_eq!(count(&mut pit, 2, 5000), 70);
    pit.write_port_b(1, 5000);
    assert_eq!(pit.read_port_b(5070) & PORT_B_OUT2, 0);
    assert_ne!(pit.read_port_b(5071) & PORT_B_OUT2, 0);
}

#[test]
fn gate_restarts_a_periodic_counter() {
    let mut pit = pit();
    pit.write_port_b(1, 0);
    program(&mut pit, C2_MODE3, 100, 0);
    pit.write_port_b(0, 70);
    assert_ne!(pit.read_port_b(80) & PORT_B_OUT2, 0, "high while stopped");
    pit.write_port_b(1, 199);
    assert_eq!(count(&mut pit, 2, 200), 100);
}

#[test]
fn gate_triggers_the_one_shot() {
    let mut pit = pit();
    program(&mut pit, 0xb2, 10, 0); // counter 2, mode 1
    assert_ne!(pit.read_port_b(50) & PORT_B_OUT2, 0);
    pit.write_port_b(1, 99);
    assert_eq!(pit.read_port_b(109) & PORT_B_OUT2, 0);
    assert_ne!(pit.read_port_b(110) & PORT_B_OUT2, 0);
}

#[test]
fn refresh_bit_toggles() {
    let pit = pit();
    assert_ne!(pit.read_port_b(0) & PORT_B_REFRESH, pit.read_port_b(18) & PORT_B_REFRESH);
}

#[test]
fn control_word_register_is_write_only() {
    assert_eq!(pit().read(CONTROL, 0), 0xff);
}

proptest! {
    /// Against plain arithmetic: at a TSC of any frequency, edge `k` comes at the first TSC value that lies
    /// `k * n` clocks after the load.
    #[test]
    fn edges_are_exact(tsc_hz in CLK_HZ..4_000_000_000, n in 2u64..=0xffff, start in 0u64..1 << 40, k in 1u64..1000) {
        let mut pit = Pit::new(tsc_hz);
        program(&mut pit, C0_MODE2, n as u16, start);
        let load = u128::from(start) * u128::from(CLK_HZ) / u128::from(tsc_hz) + 1;
        let edge = |k: u64| ((load + u128::from(k * n)) * u128::from(tsc_hz)).div_ceil(u128::from(CLK_HZ)) as u64;
        prop_assert_eq!(pit.deadline(), edge(1));
        pit.advance(edge(k));
        prop_assert_eq!(pit.deadline(), edge(k + 1));
    }
}
