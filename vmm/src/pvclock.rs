//! The clock of KVM's paravirtual interface (Linux: Documentation/virt/kvm/x86/msr.rst, cpuid.rst), as far as it tells a
//! guest the frequency of the TSC and the time of day.
//!
//! For AMD CPUs: CPUID has no leaf there that Linux believes, and measuring the TSC against another timer fails where
//! exits are slow. As the guest's TSC is the host's, on all vCPUs, a vCPU's clock is written once and never changes.
//! Key type: [`PvClock`].

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::{Immutable, IntoBytes};

/// MSR_KVM_WALL_CLOCK_NEW.
pub const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
/// MSR_KVM_SYSTEM_TIME_NEW.
pub const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;
/// CPUID leaf 0x4000_0001 EAX: these MSRs (KVM_FEATURE_CLOCKSOURCE2), and clocks of all vCPUs that agree
/// (KVM_FEATURE_CLOCKSOURCE_STABLE_BIT).
pub const FEATURES: u32 = 1 << 3 | 1 << 24;

/// MSR_KVM_SYSTEM_TIME_NEW: the clock is on; the rest is its address.
const ENABLED: u64 = 1;
/// Any even version says that nobody is writing.
const VERSION: u32 = 2;
/// PVCLOCK_TSC_STABLE_BIT.
const TSC_STABLE: u8 = 1;
const NS: u64 = 1_000_000_000;

/// `struct pvclock_vcpu_time_info`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct TimeInfo {
    version: u32,
    _pad: u32,
    tsc_timestamp: u64,
    system_time: u64,
    tsc_to_system_mul: u32,
    tsc_shift: i8,
    flags: u8,
    _pad2: [u8; 2],
}

/// `struct pvclock_wall_clock`: the time of day when the system time was 0.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
struct WallClock {
    version: u32,
    sec: u32,
    nsec: u32,
}

/// The clock of a VM; its system time is 0 when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvClock {
    /// Frequency of the TSC.
    pub tsc_hz: u64,
    /// TSC when the system time was 0.
    pub tsc: u64,
    /// Time of day then, in ns since 1970.
    pub wall_ns: u64,
}

impl PvClock {
    /// The guest writes one of the two MSRs: it wants to be told. `false`: the MSR is another one. An address outside
    /// of RAM gets nothing.
    pub fn write_msr(&self, msr: u32, value: u64, mem: &GuestMemoryMmap) -> bool {
        match msr {
            MSR_SYSTEM_TIME if value & ENABLED != 0 => tell(mem, value & !ENABLED, &self.time_info()),
            MSR_SYSTEM_TIME => {}
            MSR_WALL_CLOCK => tell(mem, value, &self.wall_clock()),
            _ => return false,
        }
        true
    }

    fn time_info(&self) -> TimeInfo {
        let (tsc_to_system_mul, tsc_shift) = scale(self.tsc_hz.max(1));
        TimeInfo {
            version: VERSION,
            _pad: 0,
            tsc_timestamp: self.tsc,
            system_time: 0,
            tsc_to_system_mul,
            tsc_shift,
            flags: TSC_STABLE,
            _pad2: [0; 2],
        }
    }

    fn wall_clock(&self) -> WallClock {
        WallClock { version: VERSION, sec: (self.wall_ns / NS) as u32, nsec: (self.wall_ns % NS) as u32 }
    }
}

fn tell(mem: &GuestMemoryMmap, gpa: u64, what: &(impl IntoBytes + Immutable)) {
    // Outside of RAM there is nobody to read it.
    let _ = mem.write_slice(what.as_bytes(), GuestAddress(gpa));
}

/// Multiplier and shift that turn ticks of `hz` into ns: `(ticks << shift) * mul >> 32`, with as many digits as fit.
fn scale(hz: u64) -> (u32, i8) {
    let mut shift = 0i8;
    let mut per_tick = (u128::from(NS) << 32) / u128::from(hz);
    while per_tick >> 32 != 0 {
        (per_tick, shift) = (per_tick >> 1, shift + 1);
    }
    while per_tick >> 31 == 0 {
        shift -= 1;
        // Anew, since shifting to the left would add zeros.
        per_tick = (u128::from(NS) << (32 + u32::from(shift.unsigned_abs()))) / u128::from(hz);
    }
    (per_tick as u32, shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem;
    use proptest::prelude::*;

    /// What a guest computes (pvclock_scale_delta).
    fn ns(ticks: u64, (mul, shift): (u32, i8)) -> u64 {
        let shifted = if shift < 0 { ticks >> -shift } else { ticks << shift };
        ((u128::from(shifted) * u128::from(mul)) >> 32) as u64
    }

    /// The frequency that Linux takes from the clock (pvclock_tsc_khz).
    fn khz((mul, shift): (u32, i8)) -> u64 {
        let khz = (1_000_000 << 32) / u64::from(mul);
        if shift < 0 { khz << -shift } else { khz >> shift }
    }

    #[test]
    fn usual_frequencies() {
        for hz in [1_000_000_000, 50_000_000, 2_976_123_456, 5_000_000_000, 1_000_000] {
            let s = scale(hz);
            assert!(khz(s).abs_diff(hz / 1000) <= 2, "{hz}: {} kHz by {s:?}", khz(s));
            assert!(ns(hz, s).abs_diff(NS) <= 40, "{hz}: a second is {} ns", ns(hz, s));
        }
    }

    proptest! {
        #[test]
        fn any_frequency_is_told_with_31_digits(hz in 1_000u64..1 << 40) {
            let (mul, shift) = scale(hz);
            prop_assert!(mul >> 31 == 1);
            // hz * mul * 2^shift / 2^32 is a second, but for the rounding of the multiplier.
            let second = (u128::from(hz) * u128::from(mul)) as f64 * f64::from(shift).exp2() / 32f64.exp2();
            prop_assert!((second / 1e9 - 1.0).abs() < 1e-8, "{}", second);
        }
    }

    #[test]
    fn the_guest_is_told_where_it_asks() {
        let m = mem::alone(16 << 20).unwrap();
        let clock = PvClock { tsc_hz: NS, tsc: 77, wall_ns: 5 * NS + 6 };
        assert!(clock.write_msr(MSR_SYSTEM_TIME, 0x1040 | ENABLED, &m));
        assert!(clock.write_msr(MSR_WALL_CLOCK, 0x2000, &m));
        let u32_at = |at: u64| m.read_obj::<u32>(GuestAddress(at)).unwrap();
        let u64_at = |at: u64| m.read_obj::<u64>(GuestAddress(at)).unwrap();
        assert_eq!((u32_at(0x1040), u64_at(0x1048), u64_at(0x1050)), (2, 77, 0));
        assert_eq!((u32_at(0x1058), u32_at(0x105c)), (1 << 31, 0x101), "shift 1, stable");
        assert_eq!((u32_at(0x2000), u32_at(0x2004), u32_at(0x2008)), (2, 5, 6));
        assert!(clock.write_msr(MSR_SYSTEM_TIME, 0x3000, &m));
        assert_eq!(u32_at(0x3000), 0, "switched off");
        assert!(clock.write_msr(MSR_WALL_CLOCK, u64::MAX - 1, &m), "nobody is hurt");
        assert!(!clock.write_msr(0x4b56_4d02, 1, &m));
    }
}
