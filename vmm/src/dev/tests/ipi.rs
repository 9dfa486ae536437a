//! Who gets an interprocessor interrupt: the devices against a model that is a table of the SDM (volume 3, 11.6).

use super::*;
use proptest::prelude::*;

const VCPUS: usize = 8;

/// ICR fields.
#[derive(Clone, Copy, Debug)]
struct Icr {
    vector: u8,
    nmi: bool,
    logical: bool,
    shorthand: u32,
    destination: u32,
}

impl Icr {
    fn low(self) -> u32 {
        let mode = if self.nmi { 4 } else { 0 };
        u32::from(self.vector) | mode << 8 | u32::from(self.logical) << 11 | 1 << 14 | self.shorthand << 18
    }

    /// Whether `vcpu` is meant; `in_set` says whether a logical destination does.
    fn means(self, vcpu: usize, sender: usize, broadcast: u32, in_set: impl Fn(u32, usize) -> bool) -> bool {
        match self.shorthand {
            1 => vcpu == sender,
            2 => true,
            3 => vcpu != sender,
            _ if !self.logical => self.destination == broadcast || self.destination == vcpu as u32,
            _ => in_set(self.destination, vcpu),
        }
    }
}

fn icr(destination: impl Strategy<Value = u32>) -> impl Strategy<Value = Icr> {
    (16u8..=255, any::<bool>(), any::<bool>(), 0u32..4, destination)
        .prop_map(|(vector, nmi, logical, shorthand, destination)| Icr { vector, nmi, logical, shorthand, destination })
}

fn receivers(platform: &mut Platform, icr: Icr) -> Vec<usize> {
    let want = if icr.nmi { Some(Pending::Nmi) } else { interrupt(icr.vector) };
    let got: Vec<usize> = (0..VCPUS).filter(|vcpu| platform.pending(*vcpu).is_some()).collect();
    assert!(got.iter().all(|vcpu| platform.pending(*vcpu) == want));
    assert_eq!(platform.take_woken().iter().collect::<Vec<_>>(), got, "and all of them are to be told");
    got
}

fn expected(icr: Icr, sender: usize, broadcast: u32, in_set: impl Fn(u32, usize) -> bool) -> Vec<usize> {
    (0..VCPUS).filter(|vcpu| icr.means(*vcpu, sender, broadcast, &in_set)).collect()
}

fn xapic_write(platform: &mut Platform, vcpu: usize, offset: u64, value: u32) {
    assert_eq!(platform.mmio_write(vcpu, LAPIC + offset, &value.to_le_bytes(), 0), Ok(Effect::None));
}

proptest! {
    #[test]
    fn in_x2apic_mode(
        sender in 0..VCPUS,
        icr in icr(prop_oneof![0u32..10, Just(u32::MAX), 0u32..0x200, 0x1_0000u32..0x1_0010]),
    ) {
        let mut platform = platform(VCPUS);
        (0..VCPUS).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
        let value = u64::from(icr.destination) << 32 | u64::from(icr.low());
        prop_assert_eq!(wrmsr(&mut platform, sender, X2_ICR, value), Effect::None);
        // All are in cluster 0, each with a bit of its own.
        let in_set = |set: u32, vcpu: usize| set == u32::MAX || set >> 16 == 0 && set >> vcpu & 1 != 0;
        prop_assert_eq!(receivers(&mut platform, icr), expected(icr, sender, u32::MAX, in_set));
    }

    #[test]
    fn in_xapic_mode(sender in 0..VCPUS, clusters: bool, icr in icr(prop_oneof![0u32..10, 0u32..=0xff])) {
        let mut platform = platform(VCPUS);
        for vcpu in 0..VCPUS {
            // Flat: a bit for each. Clusters: two of four.
            let ldr = if clusters { (vcpu as u32 / 4) << 4 | 1 << (vcpu % 4) } else { 1 << vcpu };
            xapic_write(&mut platform, vcpu, 0xf0, 0x1ff);
            xapic_write(&mut platform, vcpu, 0xe0, if clusters { 0x0fff_ffff } else { u32::MAX });
            xapic_write(&mut platform, vcpu, 0xd0, ldr << 24);
        }
        xapic_write(&mut platform, sender, 0x310, icr.destination << 24);
        xapic_write(&mut platform, sender, 0x300, icr.low());
        let in_set = |set: u32, vcpu: usize| match clusters {
            false => set >> vcpu & 1 != 0,
            true => (set >> 4 == 0xf || set >> 4 == vcpu as u32 / 4) && set >> (vcpu % 4) & 1 != 0,
        };
        prop_assert_eq!(receivers(&mut platform, icr), expected(icr, sender, 0xff, in_set));
    }
}

#[test]
fn a_wrong_vector_gives_the_error_interrupt_and_that_is_told() {
    let mut platform = platform(2);
    (0..2).for_each(|vcpu| init_x2apic(&mut platform, vcpu));
    wrmsr(&mut platform, 1, 0x837, 0x33);
    // An I/O APIC entry with a vector below 16: its receiver reports it.
    route(&mut platform, 4, 1 << 56 | 0x05);
    platform.take_woken();
    receive(&mut platform, b"x");
    assert_eq!(platform.pending(1), interrupt(0x33));
    assert_eq!(platform.take_woken(), set(&[1]));
}
