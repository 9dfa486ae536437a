//! AMD-Vi: what a unit can do ([`Abilities`]), device-table and interrupt entries, commands and events, and which device
//! has which interrupt table ([`Tables`]).

pub mod spec;
mod tables;

use crate::{Access, Fault, MESSAGES, Pair, Requester, Target};
use spec::{command, control, dte, event, features, irte};
pub use tables::{Moves, Tables};

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

    /// Whether it can forget everything at once.
    pub const fn forgets_all(self) -> bool {
        self.0 & features::IA_SUP != 0
    }

    /// Bytes of registers.
    pub const fn registers(self) -> u64 {
        if self.0 & features::PC_SUP != 0 { spec::REGISTERS_WITH_COUNTERS } else { spec::REGISTERS }
    }
}

/// Value of the control register of a unit that is on: with what firmware wants to be set, by the flags of its block.
/// Nothing raises an interrupt.
pub const fn control(flags: u8) -> u64 {
    const WANTED: [u64; 4] = [control::HT_TUN_EN, control::PASS_PW, control::RES_PASS_PW, control::ISOC];
    let mut value = control::IOMMU_EN | control::EVENT_LOG_EN | control::CMD_BUF_EN | control::COHERENT;
    let mut bit = 0;
    while bit < WANTED.len() {
        if flags & 1 << bit != 0 {
            value |= WANTED[bit];
        }
        bit += 1;
    }
    value
}

/// Entries of a device table in a frame.
pub const ENTRIES: u64 = 128;

/// Frames of the device table that reaches so far.
pub const fn device_frames(last: Requester) -> u64 {
    last.0 as u64 / ENTRIES + 1
}

/// Entry of a device that may do nothing. (V would let everything pass if it were 0.)
pub const BLOCKED: Entry = [dte::V | dte::TV | 1 << dte::MODE_SHIFT, 0, dte::IV, 0];

/// Entry of a device that does not access memory, and whose interrupts are not remapped: a unit itself, an IOAPIC.
pub const INTERRUPTS_PASS: Entry = [BLOCKED[0], 0, 0, 0];

/// First half of the entry of a device that uses a page table.
pub const fn memory(table: u64, levels: u32, domain: u16) -> Pair {
    [dte::V | dte::TV | (levels as u64) << dte::MODE_SHIFT | table | dte::IR | dte::IW, domain as u64]
}

/// The domain of a device, by the first half of its entry; `None`: it has no access to memory.
pub const fn domain_of(e: Pair) -> Option<u16> {
    if e[0] & (dte::IR | dte::IW) != 0 { Some((e[1] & dte::DOMAIN) as u16) } else { None }
}

/// log2 entries of an interrupt table.
const TABLE_ORDER: u32 = 5;
/// Entries of an interrupt table: one for each message-signalled interrupt.
pub const INTERRUPTS: usize = 1 << TABLE_ORDER;

/// Third word of the entry of a device that has the n-th interrupt table of a frame.
pub const fn interrupts(frame: u64, n: usize) -> u64 {
    let table = frame + (n * INTERRUPTS * size_of::<u32>()) as u64;
    dte::IV | (TABLE_ORDER as u64) << dte::TABLE_LENGTH_SHIFT | table | dte::INT_CTL_REMAP
}

/// Two entries of an interrupt table, with that of an interrupt changed; where it goes to nothing, it is blocked and not
/// reported. Identifiers of local APICs have 8 bits.
pub const fn with_interrupt(pair: u64, interrupt: usize, to: Option<Target>) -> u64 {
    let shift = interrupt as u32 % 2 * u32::BITS;
    let entry = match to {
        Some(t) => irte::REMAP_EN | t.apic << irte::DESTINATION_SHIFT | (t.vector as u32) << irte::VECTOR_SHIFT,
        None => irte::SUP_IO_PF,
    };
    pair & !((u32::MAX as u64) << shift) | (entry as u64) << shift
}

/// Address and data with which a device uses an entry.
pub const fn interrupt_message(index: u16) -> (u32, u32) {
    (MESSAGES, index as u32)
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
    /// All of these.
    Everything,
}

impl Invalidate {
    /// The command.
    pub const fn command(self) -> Pair {
        use command::*;
        match self {
            Invalidate::Device(r) => [INVALIDATE_DEVTAB_ENTRY << OPCODE_SHIFT | r.0 as u64, 0],
            Invalidate::Domain(d) => [INVALIDATE_IOMMU_PAGES << OPCODE_SHIFT | (d as u64) << DOMAIN_SHIFT, ALL_PAGES],
            Invalidate::Interrupts(r) => [INVALIDATE_INTERRUPT_TABLE << OPCODE_SHIFT | r.0 as u64, 0],
            Invalidate::Everything => [INVALIDATE_IOMMU_ALL << OPCODE_SHIFT, 0],
        }
    }
}

/// Command that writes `data` to the double word at `status` when all before it are done.
pub const fn wait(status: u64, data: u32) -> Pair {
    [command::COMPLETION_WAIT << command::OPCODE_SHIFT | status | command::STORE, data as u64]
}

/// The fault of an event. `None`: it is about the unit itself.
pub fn decode_event([lo, hi]: Pair) -> Option<Fault> {
    let (reason, source) = ((lo >> event::CODE_SHIFT) as u8, Requester(lo as u16));
    let (access, address) = match reason {
        event::IO_PAGE_FAULT if lo & event::I != 0 => (Access::Interrupt, hi),
        event::IO_PAGE_FAULT if lo & event::RW != 0 => (Access::Write, hi & !0xfff),
        event::IO_PAGE_FAULT => (Access::Read, hi & !0xfff),
        _ => (Access::Other, hi),
    };
    (!event::COMMAND.contains(&reason)).then_some(Fault { source, access, address, reason })
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
        assert!(Abilities(1 << 6).forgets_all() && !Abilities(!(1 << 6)).forgets_all());
    }

    #[test]
    fn firmware_says_how_a_unit_is_connected() {
        // On, log, commands, coherent. The flags for coherency, prefetching and ATS concern nothing that is used.
        assert_eq!(control(0), 1 | 1 << 2 | 1 << 12 | 1 << 10);
        for (flag, bit) in [(0, 1), (1, 8), (2, 9), (3, 11)] {
            assert_eq!(control(1 << flag), control(0) | 1 << bit);
        }
        assert_eq!(control(0xf0), control(0));
        assert_eq!(control(0xff) >> 3 & 3, 0, "no interrupt, neither of events nor of completions");
    }

    #[test]
    fn device_tables_are_whole_frames() {
        for (last, frames) in [(0, 1), (127, 1), (128, 2), (u16::MAX, 512)] {
            assert_eq!(device_frames(Requester(last)), frames);
        }
    }

    #[test]
    fn a_device_starts_with_nothing() {
        assert_eq!(BLOCKED, [0x203, 0, 1, 0]);
        assert_eq!(domain_of([BLOCKED[0], 7]), None);
        assert_eq!(INTERRUPTS_PASS, [0x203, 0, 0, 0]);
    }

    #[test]
    fn entries_name_page_table_domain_and_interrupt_table() {
        let e = memory(0x1234_5000, 4, 7);
        assert_eq!(e, [0x6000_0000_1234_5803, 7]);
        assert_eq!(domain_of(e), Some(7));
        assert_eq!(interrupts(0x8000, 1), 0x2000_0000_0000_808b);
        assert_eq!(interrupts(0x8000, 31), 0x2000_0000_0000_8f8b, "all are in one frame");
    }

    #[test]
    fn interrupt_entries_name_the_target() {
        let t = Target { apic: 3, vector: 0x41, level: false };
        assert_eq!(with_interrupt(0, 2, Some(t)), 0x41_0301);
        assert_eq!(with_interrupt(0x41_0301, 3, Some(t)), 0x0041_0301_0041_0301);
        assert_eq!(with_interrupt(0x0041_0301_0041_0301, 2, None), 0x0041_0301_0000_0002);
        assert_eq!(with_interrupt(0x0041_0301_0041_0301, 3, None), 0x0000_0002_0041_0301);
        assert_eq!(interrupt_message(3), (0xfee0_0000, 3));
    }

    #[test]
    fn commands_are_those_of_the_manual() {
        assert_eq!(Invalidate::Device(Requester(0x20)).command(), [0x2000_0000_0000_0020, 0]);
        assert_eq!(Invalidate::Domain(7).command(), [0x3000_0007_0000_0000, 0x7fff_ffff_ffff_f003]);
        assert_eq!(Invalidate::Interrupts(Requester(0x20)).command(), [0x5000_0000_0000_0020, 0]);
        assert_eq!(Invalidate::Everything.command(), [0x8000_0000_0000_0000, 0]);
        assert_eq!(wait(0x9008, 5), [0x1000_0000_0000_9009, 5]);
    }

    #[test]
    fn events_name_device_kind_and_address() {
        let e = |lo, hi| decode_event([lo, hi]).unwrap();
        let write = e(0x2020_0007_0000_0020, 0x1234_5678);
        assert_eq!(write, Fault { source: Requester(0x20), access: Access::Write, address: 0x1234_5000, reason: 2 });
        assert_eq!(e(0x2000_0007_0000_0020, 0).access, Access::Read);
        assert_eq!(e(0x2008_0000_0000_0020, 5).access, Access::Interrupt);
        assert_eq!(e(0x1000_0000_0000_0020, 0).access, Access::Other, "an illegal device-table entry");
        assert_eq!(decode_event([0x5000_0000_0000_0000, 0x9000]), None, "about a command");
    }

    proptest! {
        #[test]
        fn any_entry_with_access_names_its_domain(table: u64, levels in 3u32..6, domain: u16) {
            let e = memory(table & 0x000f_ffff_ffff_f000, levels, domain);
            prop_assert_eq!(domain_of(e), Some(domain));
            prop_assert_eq!(e[0] >> 9 & 7, u64::from(levels));
        }
    }
}
