//! AMD-Vi: what a unit can do ([`Abilities`]), device-table and interrupt entries, commands and events.

pub mod spec;

use crate::{Access, Fault, MESSAGES, Requester, Target};
use spec::{command, dte, event, features, irte};

/// A command or event.
pub type Pair = [u64; 2];
/// A device-table entry.
pub type Entry = [u64; 4];

/// The extended-feature register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities(pub u64);

impl Abilities {
    /// Numbers of levels that tables may have: bit n stands for n levels. Six are not used.
    pub const fn levels(self) -> u32 {
        if self.0 >> features::HATS_SHIFT & 3 == 0 { 0b01_1000 } else { 0b11_1000 }
    }

    /// Bytes of registers.
    pub const fn registers(self) -> u64 {
        if self.0 & features::PC_SUP != 0 { spec::REGISTERS_WITH_COUNTERS } else { spec::REGISTERS }
    }
}

/// log2 entries of an interrupt table.
pub const TABLE_ORDER: u32 = 9;
/// Entries of an interrupt table: pins by their vector, then message-signalled interrupts.
pub const TABLE_ENTRIES: usize = 1 << TABLE_ORDER;
/// Entry of the first message-signalled interrupt.
pub const FIRST_MESSAGE: u16 = 256;

/// Entry of a device that may do nothing.
pub const BLOCKED: Entry = [dte::V | dte::TV | 1 << dte::MODE_SHIFT, 0, dte::IV, 0];

/// The entry, with translation by a page table.
pub const fn with_table(e: Entry, table: u64, levels: u32, domain: u16) -> Entry {
    let word = dte::V | dte::TV | (levels as u64) << dte::MODE_SHIFT | table | dte::IR | dte::IW;
    [word, domain as u64, e[2], e[3]]
}

/// The entry, with no access to memory.
pub const fn without_table(e: Entry) -> Entry {
    [BLOCKED[0], BLOCKED[1], e[2], e[3]]
}

/// The domain of an entry whose device has access to memory.
pub const fn domain_of(e: Entry) -> Option<u16> {
    if e[0] & (dte::IR | dte::IW) != 0 { Some((e[1] & dte::DOMAIN) as u16) } else { None }
}

/// The entry, with the interrupts of a table.
pub const fn with_interrupts(e: Entry, table: u64) -> Entry {
    [e[0], e[1], dte::IV | (TABLE_ORDER as u64) << dte::TABLE_LENGTH_SHIFT | table | dte::INT_CTL_REMAP, e[3]]
}

/// The entry, with no interrupts.
pub const fn without_interrupts(e: Entry) -> Entry {
    [e[0], e[1], BLOCKED[2], e[3]]
}

/// The unit's own entry: its interrupts are not remapped, memory it does not access as a device.
pub const OWN: Entry = [BLOCKED[0], 0, 0, 0];

/// Interrupt entry. `None`: the local APIC's identifier does not fit.
pub const fn interrupt_entry(t: Target) -> Option<u32> {
    if t.apic >= 0xff {
        return None;
    }
    Some(irte::REMAP_EN | t.apic << irte::DESTINATION_SHIFT | (t.vector as u32) << irte::VECTOR_SHIFT)
}

/// Interrupt entry that blocks and does not report.
pub const MASKED: u32 = irte::SUP_IO_PF;

/// Address and data with which a device uses an entry.
pub const fn interrupt_message(index: u16) -> (u32, u32) {
    (MESSAGES, index as u32 & 0x7ff)
}

/// An invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidate {
    /// A device's entry.
    Device(Requester),
    /// The translations of a domain.
    Domain(u16),
    /// A device's interrupt entries.
    Interrupts(Requester),
}

impl Invalidate {
    /// The command.
    pub const fn command(self) -> Pair {
        use command::*;
        match self {
            Invalidate::Device(r) => [INVALIDATE_DEVTAB_ENTRY << OPCODE_SHIFT | r.0 as u64, 0],
            Invalidate::Domain(d) => [INVALIDATE_IOMMU_PAGES << OPCODE_SHIFT | (d as u64) << DOMAIN_SHIFT, ALL_PAGES],
            Invalidate::Interrupts(r) => [INVALIDATE_INTERRUPT_TABLE << OPCODE_SHIFT | r.0 as u64, 0],
        }
    }
}

/// Command that writes `data` to `status`, a multiple of 8, when all before it are done.
pub const fn wait(status: u64, data: u64) -> Pair {
    [command::COMPLETION_WAIT << command::OPCODE_SHIFT | status | command::STORE, data]
}

/// The fault of an event. `None`: the slot is empty, or the event is about the unit itself.
pub fn decode_event([lo, hi]: Pair) -> Option<Fault> {
    let (reason, source) = ((lo >> event::CODE_SHIFT) as u8, Requester(lo as u16));
    if lo == 0 && hi == 0 || event::COMMAND.contains(&reason) {
        return None;
    }
    let access = match reason {
        event::IO_PAGE_FAULT if lo & event::I != 0 => Access::Interrupt,
        event::IO_PAGE_FAULT if lo & event::RW != 0 => Access::Write,
        event::IO_PAGE_FAULT => Access::Read,
        _ => Access::Other,
    };
    Some(Fault { source, access, address: hi, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn abilities_are_read_from_the_register() {
        assert_eq!(Abilities(0).levels(), 1 << 3 | 1 << 4);
        assert_eq!([1, 2].map(|n: u64| Abilities(n << 10).levels()), [0b11_1000; 2]);
        assert_eq!((Abilities(0).registers(), Abilities(1 << 9).registers()), (0x4000, 0x8_0000));
    }

    #[test]
    fn a_device_starts_with_nothing() {
        // V would let everything pass if it were 0 (table 6).
        assert_eq!(BLOCKED, [0x203, 0, 1, 0]);
        assert_eq!(domain_of(BLOCKED), None);
        assert_eq!(OWN, [0x203, 0, 0, 0]);
    }

    #[test]
    fn memory_and_interrupts_are_separate() {
        let e = with_table(BLOCKED, 0x1234_5000, 4, 7);
        assert_eq!(e, [0x6000_0000_1234_5803, 7, 1, 0]);
        assert_eq!((domain_of(e), domain_of(without_table(e))), (Some(7), None));
        let i = with_interrupts(e, 0x8000);
        assert_eq!(i, [0x6000_0000_1234_5803, 7, 0x2000_0000_0000_8013, 0]);
        assert_eq!(without_interrupts(i), e);
        assert_eq!(without_table(i), with_interrupts(BLOCKED, 0x8000));
    }

    #[test]
    fn interrupt_entries_name_the_target() {
        let t = Target { apic: 3, vector: 0x41, level: true };
        assert_eq!(interrupt_entry(t), Some(0x41_0301));
        assert_eq!(interrupt_entry(Target { apic: 0xff, ..t }), None);
        assert_eq!(interrupt_message(FIRST_MESSAGE + 3), (0xfee0_0000, 0x103));
        assert_eq!(MASKED & 1, 0);
    }

    #[test]
    fn commands_are_those_of_the_manual() {
        assert_eq!(Invalidate::Device(Requester(0x20)).command(), [0x2000_0000_0000_0020, 0]);
        assert_eq!(Invalidate::Domain(7).command(), [0x3000_0007_0000_0000, 0x7fff_ffff_ffff_f003]);
        assert_eq!(Invalidate::Interrupts(Requester(0x20)).command(), [0x5000_0000_0000_0020, 0]);
        assert_eq!(wait(0x9008, 5), [0x1000_0000_0000_9009, 5]);
    }

    #[test]
    fn events_name_device_kind_and_address() {
        let e = |lo, hi| decode_event([lo, hi]).unwrap();
        let write = e(0x2020_0007_0000_0020, 0x1234_5678);
        assert_eq!(write, Fault { source: Requester(0x20), access: Access::Write, address: 0x1234_5678, reason: 2 });
        assert_eq!(e(0x2000_0007_0000_0020, 0).access, Access::Read);
        assert_eq!(e(0x2008_0000_0000_0020, 5).access, Access::Interrupt);
        assert_eq!(e(0x1000_0000_0000_0020, 0).access, Access::Other, "an illegal device-table entry");
        assert_eq!(decode_event([0, 0]), None, "not written yet");
        assert_eq!(decode_event([0x5000_0000_0000_0000, 0x9000]), None, "about a command");
    }

    proptest! {
        #[test]
        fn blocking_takes_all_access(table: u64, levels in 3u32..6, domain: u16) {
            let e = with_table(BLOCKED, table & 0x000f_ffff_ffff_f000, levels, domain);
            prop_assert_eq!(domain_of(e), Some(domain));
            prop_assert_eq!(without_table(e), BLOCKED);
            prop_assert_eq!(e[0] >> 9 & 7, u64::from(levels));
        }
    }
}
