//! Properties over random register accesses: no panic, exact deadlines, and interrupts that agree with each other.

use super::*;
use proptest::prelude::*;

/// Something a guest or the outside world does.
#[derive(Debug, Clone)]
enum Step {
    In(u16, u8),
    Out(u16, u8, u32),
    Load(u64, usize),
    Store(u64, Vec<u8>),
    ReadMsr(u32),
    WriteMsr(u32, u64),
    Cr8(u8),
    Input(Vec<u8>),
    Output(usize),
    PowerButton,
    Ack,
}

fn port() -> impl Strategy<Value = u16> {
    let known = crate::bus::PIO_MAP.iter().flat_map(|range| range.first.saturating_sub(1)..=range.last + 1);
    prop_oneof![9 => prop::sample::select(known.collect::<Vec<_>>()), 1 => any::<u16>()]
}

fn size() -> impl Strategy<Value = u8> {
    prop::sample::select(vec![1, 1, 2, 4])
}

fn gpa() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0u64..0x40).prop_map(|register| LAPIC + register * 16),
        1 => (0u64..0x1000).prop_map(|offset| LAPIC + offset),
        4 => prop::sample::select(vec![IOAPIC, IOAPIC + 0x10, IOAPIC + 0x40]),
        1 => (0u64..0x1000).prop_map(|offset| IOAPIC + offset),
        1 => any::<u64>(),
    ]
}

fn msr() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0x800u32..0x840, 3 => Just(TSC_DEADLINE), 2 => Just(APIC_BASE), 1 => 0x7f0u32..0x910]
}

/// Values of all magnitudes, and those that switch modes.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift),
        prop::sample::select(vec![0, 0x1ff, 0xfee0_0900, 0xfee0_0d00, 0x2_00ec, 0x4_00ec, 0xec, 0x1_0700, 0x700]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (port(), size()).prop_map(|(port, size)| Step::In(port, size)),
        9 => (port(), size(), any::<u32>()).prop_map(|(port, size, value)| Step::Out(port, size, value)),
        2 => (gpa(), 0usize..9).prop_map(|(gpa, length)| Step::Load(gpa, length)),
        5 => (gpa(), prop::collection::vec(any::<u8>(), 4)).prop_map(|(gpa, data)| Step::Store(gpa, data)),
        1 => (gpa(), prop::collection::vec(any::<u8>(), 0..9)).prop_map(|(gpa, data)| Step::Store(gpa, data)),
        2 => msr().prop_map(Step::ReadMsr),
        6 => (msr(), value()).prop_map(|(msr, value)| Step::WriteMsr(msr, value)),
        1 => any::<u8>().prop_map(Step::Cr8),
        1 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Step::Input),
        1 => (0usize..20).prop_map(Step::Output),
        1 => Just(Step::PowerButton),
        2 => Just(Step::Ack),
    ]
}

fn take(platform: &mut Platform, vcpu: usize, step: &Step, now: u64) {
    match step {
        Step::In(port, size) => {
            platform.pio_read(*port, *size, now);
        }
        Step::Out(port, size, value) => {
            let _ = platform.pio_write(*port, *size, *value, now);
        }
        Step::Load(gpa, length) => {
            let _ = platform.mmio_read(vcpu, *gpa, &mut vec![0; *length], now);
        }
        Step::Store(gpa, data) => {
            let _ = platform.mmio_write(vcpu, *gpa, data, now);
        }
        Step::ReadMsr(msr) => {
            platform.msr_read(vcpu, *msr, now);
        }
        Step::WriteMsr(msr, value) => {
            platform.msr_write(vcpu, *msr, *value, now);
        }
        Step::Cr8(value) => platform.set_cr8(vcpu, *value),
        Step::Input(bytes) => {
            platform.serial_in(bytes);
        }
        Step::Output(length) => {
            platform.serial_out(&mut vec![0; *length]);
        }
        Step::PowerButton => platform.press_power_button(),
        Step::Ack => {
            platform.ack(vcpu);
        }
    }
}

/// A platform on which interrupts flow, so that random accesses have something to disturb.
fn busy_platform() -> Platform {
    let mut platform = platform(2);
    init_pic(&mut platform);
    init_x2apic(&mut platform, 0);
    [2, 4, 8].into_iter().for_each(|pin| route(&mut platform, pin, 0x50 + u64::from(pin)));
    route(&mut platform, 9, 0x8059);
    platform
}

/// Everything that a vCPU or the outside world can see without an access.
fn visible(platform: &Platform) -> (Vec<Option<Pending>>, bool) {
    ((0..2).map(|vcpu| platform.pending(vcpu)).collect(), platform.has_serial_out())
}

type Steps = Vec<(usize, Step, u64)>;

fn steps() -> impl Strategy<Value = Steps> {
    let delay = prop_oneof![0u64..100, 0u64..10_000_000, Just(0), 0u64..1 << 33];
    prop::collection::vec((0usize..2, step(), delay), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Nothing panics, not even if time jumps, runs backwards or wraps; what is pending is what is taken.
    #[test]
    fn random_accesses(steps in prop::collection::vec((0usize..3, step(), any::<u64>(), 0u32..64), 1..80)) {
        let mut platform = busy_platform();
        for (vcpu, step, now, shift) in steps {
            take(&mut platform, vcpu, &step, now >> shift);
            let pending = platform.pending(vcpu);
            prop_assert_eq!(platform.has_pending(vcpu), pending.is_some());
            if matches!(step, Step::Cr8(_)) {
                prop_assert_eq!(platform.ack(vcpu), pending);
            }
        }
    }

    /// Before the deadline time changes nothing; at the deadline the platform has done something: a new deadline,
    /// and never one that has passed already.
    #[test]
    fn deadlines_are_exact(steps in steps()) {
        let (mut platform, mut now) = (busy_platform(), 0u64);
        for (vcpu, step, delay) in steps {
            take(&mut platform, vcpu, &step, now);
            let next = now + delay;
            while let Some(deadline) = platform.next_deadline().filter(|deadline| *deadline <= next) {
                prop_assert!(deadline > now, "{} is not after {}", deadline, now);
                let before = visible(&platform);
                platform.advance(deadline - 1);
                prop_assert_eq!(&visible(&platform), &before);
                prop_assert_eq!(platform.next_deadline(), Some(deadline));
                platform.advance(deadline);
                prop_assert!(platform.next_deadline().is_none_or(|next| next > deadline));
                now = deadline;
                if next - now > 1_000_000 { break; } // a fast periodic timer: enough of it
            }
            let before = visible(&platform);
            now = next.min(platform.next_deadline().map_or(next, |deadline| deadline - 1)).max(now);
            platform.advance(now);
            prop_assert_eq!(visible(&platform), before);
        }
    }

    /// A copy behaves as its original: the state is plain data.
    #[test]
    fn clones_behave_alike(before in steps(), after in steps()) {
        let (mut platform, mut now) = (busy_platform(), 0u64);
        for (vcpu, step, delay) in before {
            now += delay;
            take(&mut platform, vcpu, &step, now);
        }
        let mut copy = platform.clone();
        for (vcpu, step, delay) in after {
            now += delay;
            take(&mut platform, vcpu, &step, now);
            take(&mut copy, vcpu, &step, now);
            prop_assert_eq!(visible(&platform), visible(&copy));
            prop_assert_eq!(platform.next_deadline(), copy.next_deadline());
        }
    }
}
