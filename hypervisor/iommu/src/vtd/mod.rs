//! VT-d: what a unit can do ([`Abilities`]), entries, invalidation descriptors and fault records.

pub mod spec;

use crate::{Access, Fault, MESSAGES, Pair, Requester, Target};
use spec::{cap, context, descriptor, ecap, fault, irta, irte, message, rte};

/// Capability and extended-capability register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Capability register.
    pub cap: u64,
    /// Extended-capability register.
    pub ecap: u64,
}

impl Abilities {
    /// Queued invalidation.
    pub const fn queue(self) -> bool {
        self.ecap & ecap::QI != 0
    }

    /// Interrupt remapping.
    pub const fn interrupts(self) -> bool {
        self.ecap & ecap::IR != 0
    }

    /// 32-bit identifiers of local APICs.
    pub const fn wide_apics(self) -> bool {
        self.ecap & ecap::EIM != 0
    }

    /// The unit sees what is in the CPUs' caches.
    pub const fn coherent(self) -> bool {
        self.ecap & ecap::C != 0
    }

    /// Numbers of levels that tables may have: bit n stands for n levels.
    pub const fn levels(self) -> u32 {
        ((self.cap >> cap::SAGAW_SHIFT & 0x1f) as u32) << 2 & 0b11_1000
    }

    /// log2 pages of the largest leaf.
    pub const fn max_order(self) -> u32 {
        match self.cap >> cap::SLLPS_SHIFT & 3 {
            3 => 18,
            1 => 9,
            _ => 0,
        }
    }

    /// Number of domains.
    pub const fn domains(self) -> u32 {
        let n = 4 + 2 * (self.cap & cap::ND) as u32;
        if n > 16 { 1 << 16 } else { 1 << n }
    }

    /// Whether entries that were not there have to be invalidated, too: absence is cached, or stores are buffered, which
    /// an invalidation flushes (6.8).
    pub const fn invalidate_always(self) -> bool {
        self.cap & (cap::CM | cap::RWBF) != 0
    }

    /// Whether firmware may have protected memory.
    pub const fn protects(self) -> bool {
        self.cap & cap::PMR != 0
    }

    /// Offset and number of the fault-recording registers.
    pub const fn fault_records(self) -> (u64, u64) {
        ((self.cap >> cap::FRO_SHIFT & 0x3ff) * 16, (self.cap >> cap::NFR_SHIFT & 0xff) + 1)
    }
}

/// Root entry of a bus.
pub const fn root_entry(context_table: u64) -> u64 {
    context_table | context::P
}

/// The context table of a root entry.
pub const fn context_table(root_entry: u64) -> Option<u64> {
    if root_entry & context::P != 0 { Some(root_entry & !0xfff) } else { None }
}

/// Context entry of a device that uses a page table. Requests that claim to be translated are refused.
pub const fn context_entry(table: u64, levels: u32, domain: u16) -> Pair {
    [table | context::P, (levels - context::AW_LEVELS) as u64 | (domain as u64) << context::DID_SHIFT]
}

/// The domain of a context entry.
pub const fn domain_of(e: Pair) -> Option<u16> {
    if e[0] & context::P != 0 { Some((e[1] >> context::DID_SHIFT) as u16) } else { None }
}

/// Value of the interrupt-remapping table register for a table of 2^order entries.
pub const fn interrupt_table(phys: u64, order: u32, wide: bool) -> u64 {
    phys | (order - 1) as u64 | if wide { irta::EIME } else { 0 }
}

/// Interrupt-remapping entry. `source`: the only requester that may use it; any if `None`.
pub const fn interrupt_entry(t: Target, source: Option<Requester>, wide: bool) -> Pair {
    let shift = if wide { irte::DST_SHIFT } else { irte::DST_XAPIC_SHIFT };
    let trigger = if t.level { irte::TM } else { 0 };
    let who = match source {
        Some(r) => irte::SVT_ALL | r.0 as u64,
        None => 0,
    };
    [irte::P | trigger | (t.vector as u64) << irte::V_SHIFT | (t.apic as u64) << shift, who]
}

/// Interrupt-remapping entry that blocks and does not report.
pub const MASKED: Pair = [irte::FPD, 0];

/// Address and data with which a device uses an entry.
pub const fn interrupt_message(index: u16) -> (u32, u32) {
    let high = if index >> 15 != 0 { message::HANDLE_15 } else { 0 };
    (MESSAGES | message::FORMAT | (index as u32 & 0x7fff) << message::HANDLE_SHIFT | high, 0)
}

/// What an IOAPIC's redirection entry has beside vector, trigger mode, polarity and mask to use an entry.
pub const fn redirection(index: u16) -> u64 {
    let high = if index >> 15 != 0 { rte::INDEX_15 } else { 0 };
    rte::FORMAT | (index as u64 & 0x7fff) << rte::INDEX_SHIFT | high
}

/// An invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidate {
    /// All context entries.
    Contexts,
    /// A device's context entry, which was in that domain.
    Context(Requester, u16),
    /// All translations.
    Translations,
    /// The translations of a domain.
    Domain(u16),
    /// All interrupt entries.
    Interrupts,
    /// One interrupt entry.
    Interrupt(u16),
}

impl Invalidate {
    /// The descriptor.
    pub const fn descriptor(self) -> Pair {
        use descriptor::*;
        match self {
            Invalidate::Contexts => [CONTEXT | GLOBAL, 0],
            Invalidate::Context(r, domain) => {
                [CONTEXT | DEVICE | (domain as u64) << DID_SHIFT | (r.0 as u64) << SID_SHIFT, 0]
            }
            Invalidate::Translations => [IOTLB | GLOBAL | DRAIN, 0],
            Invalidate::Domain(domain) => [IOTLB | DOMAIN | DRAIN | (domain as u64) << DID_SHIFT, 0],
            Invalidate::Interrupts => [INTERRUPT, 0],
            Invalidate::Interrupt(index) => [INTERRUPT | INDEX | (index as u64) << IIDX_SHIFT, 0],
        }
    }
}

/// Descriptor that writes `data` to `status` when all before it are done.
pub const fn wait(status: u64, data: u32) -> Pair {
    [descriptor::WAIT | descriptor::SW | (data as u64) << descriptor::DATA_SHIFT, status]
}

/// The fault in a fault-recording register, if there is one.
pub fn decode_fault([lo, hi]: Pair) -> Option<Fault> {
    let reason = (hi >> fault::FR_SHIFT) as u8;
    let (access, address) = if fault::INTERRUPTS.contains(&reason) {
        (Access::Interrupt, lo >> fault::INDEX_SHIFT)
    } else {
        (if hi & fault::READ != 0 { Access::Read } else { Access::Write }, lo & !0xfff)
    };
    let source = Requester((hi & fault::SID) as u16);
    (hi & fault::F != 0).then_some(Fault { source, access, address, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What QEMU's unit says: 39 and 48 bits, superpages, one fault record at 0x220, no coherency.
    const QEMU: Abilities = Abilities { cap: 0x00d2_008c_2226_0606, ecap: 0x0000_0000_00f0_0f5a };

    #[test]
    fn abilities_are_read_from_the_registers() {
        assert!(QEMU.queue() && QEMU.interrupts() && QEMU.wide_apics() && !QEMU.coherent());
        assert_eq!((QEMU.levels(), QEMU.max_order(), QEMU.domains()), (1 << 3 | 1 << 4, 18, 1 << 16));
        assert_eq!(QEMU.fault_records(), (0x220, 1));
        assert!(!QEMU.invalidate_always() && !QEMU.protects());
        let with = |bits| Abilities { cap: bits, ecap: 1 };
        assert!(with(1 << 7).invalidate_always() && with(1 << 4).invalidate_always());
        assert!(with(1 << 5).protects() && with(1 << 6).protects() && with(0).coherent());
        assert_eq!([0, 1, 2, 3].map(|n| with(n << 34).max_order()), [0, 9, 0, 18], "1 GiB alone is not used");
        assert_eq!((with(1).domains(), with(7).domains()), (64, 1 << 16));
        assert_eq!(with(1 << 11).levels(), 1 << 5);
        assert_eq!(with(1 << 8 | 1 << 12).levels(), 0, "two levels, and six, are not defined any more");
    }

    #[test]
    fn context_entries_name_table_width_and_domain() {
        assert_eq!(context_entry(0x1234_5000, 3, 7), [0x1234_5001, 0x701]);
        assert_eq!(context_entry(0x1234_5000, 5, 0xffff), [0x1234_5001, 0xff_ff03]);
        assert_eq!((domain_of([0x1234_5001, 0x702]), domain_of([0, 0])), (Some(7), None));
        assert_eq!((context_table(root_entry(0x7000)), context_table(0)), (Some(0x7000), None));
    }

    #[test]
    fn interrupt_entries_name_target_and_source() {
        let t = Target { apic: 3, vector: 0x41, level: false };
        assert_eq!(interrupt_entry(t, Some(Requester(0x20)), false), [0x0000_0300_0041_0001, 0x4_0020]);
        assert_eq!(interrupt_entry(Target { level: true, ..t }, None, false), [0x0000_0300_0041_0011, 0]);
        let far = Target { apic: 0x1_0005, ..t };
        assert_eq!(interrupt_entry(far, None, true), [0x0001_0005_0041_0001, 0], "x2APIC identifiers are whole");
        assert_eq!(MASKED[0] & 1, 0);
        assert_eq!((interrupt_table(0x8000, 9, false), interrupt_table(0x8000, 16, true)), (0x8008, 0x880f));
    }

    #[test]
    fn messages_and_redirections_name_the_entry() {
        assert_eq!(interrupt_message(5), (0xfee0_00b0, 0));
        assert_eq!(interrupt_message(0x8001), (0xfee0_0034, 0));
        assert_eq!(redirection(5), 0x000b_0000_0000_0000);
        assert_eq!(redirection(0x8001), 0x0003_0000_0000_0800);
    }

    #[test]
    fn descriptors_are_those_of_the_manual() {
        for (what, want) in [
            (Invalidate::Contexts, 0x11),
            (Invalidate::Context(Requester(0x20), 7), 0x20_0007_0031),
            (Invalidate::Translations, 0xd2),
            (Invalidate::Domain(7), 0x7_00e2),
            (Invalidate::Interrupts, 0x4),
            (Invalidate::Interrupt(9), 0x9_0000_0014),
        ] {
            assert_eq!(what.descriptor(), [want, 0], "{what:?}");
        }
        assert_eq!(wait(0x9008, 5), [0x5_0000_0025, 0x9008]);
    }

    #[test]
    fn faults_name_device_kind_and_address() {
        let f = |lo: u64, hi: u64| decode_fault([lo, hi | 1 << 63]).unwrap();
        let write = f(0x1234_5000, 0x5_0000_0020);
        assert_eq!(write, Fault { source: Requester(0x20), access: Access::Write, address: 0x1234_5000, reason: 5 });
        assert_eq!(f(0x1234_5fff, 0x6_0000_0020 | 1 << 62).access, Access::Read);
        let int = f(7 << 48, 0x26_0000_0020);
        assert_eq!((int.access, int.address), (Access::Interrupt, 7));
        assert_eq!(decode_fault([0x1000, 0x5_0000_0020]), None, "no fault");
    }

    proptest! {
        #[test]
        fn each_message_names_one_entry(a: u16, b: u16) {
            prop_assert_eq!(interrupt_message(a) == interrupt_message(b), a == b);
            prop_assert_eq!(redirection(a) == redirection(b), a == b);
        }

        #[test]
        fn any_record_is_decoded(lo: u64, hi: u64) {
            prop_assert_eq!(decode_fault([lo, hi]).is_some(), hi >> 63 != 0);
        }
    }
}
