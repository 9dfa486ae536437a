//! IVRS, the firmware's table of AMD-Vi units (AMD I/O virtualization specification, 5.2).

use crate::bytes::{self, Chain, u16_at, u64_at};
use crate::{Damage, Requester};

mod spec {
    //! Offsets and types (5.2.1 and 5.2.2).
    pub const BLOCKS: usize = 48;
    pub const IVHD: [u8; 3] = [0x10, 0x11, 0x40];
    pub const IVMD: [u8; 3] = [0x20, 0x21, 0x22];
    pub const FLAGS: usize = 1;
    pub const DEVICE: usize = 4;
    pub const BASE: usize = 8;
    pub const SEGMENT: usize = 16;
    pub const ENTRIES: usize = 24;
    /// Types 11h and 40h have the extended features in the header.
    pub const LONG_ENTRIES: usize = 40;
    pub const IVMD_START: usize = 16;
    pub const IVMD_LENGTH: usize = 24;
    /// Device entries.
    pub const ALL: u8 = 1;
    pub const SPECIAL: u8 = 72;
    pub const SPECIAL_HANDLE: usize = 4;
    pub const SPECIAL_SOURCE: usize = 5;
    pub const SPECIAL_VARIETY: usize = 7;
    pub const IOAPIC: u8 = 1;
    pub const NAMED: u8 = 240;
    pub const NAMED_LENGTH: usize = 21;
    pub const NAMED_HEADER: usize = 22;
}

/// A block of the table.
#[derive(Clone, Debug)]
pub enum Block<'t> {
    /// A unit.
    Unit(Unit<'t>),
    /// Memory that firmware has devices use.
    Reserved {
        /// The first device; other fields of the block say which more.
        device: Requester,
        /// First byte.
        base: u64,
        /// Bytes.
        len: u64,
    },
}

/// A unit. The same may be there more than once, described in different types of blocks.
#[derive(Clone, Debug)]
pub struct Unit<'t> {
    /// The unit's own function.
    pub device: Requester,
    /// How it is connected ([`crate::amdvi::control`]).
    pub flags: u8,
    /// Physical address of its registers.
    pub base: u64,
    /// PCI segment.
    pub segment: u16,
    entries: Chain<'t>,
}

/// The blocks of the table, header included in `table`. What is too short for its type is left out.
pub fn blocks(table: &[u8]) -> Result<impl Iterator<Item = Block<'_>>, Damage> {
    Ok(bytes::structures(table, spec::BLOCKS)?.filter_map(block))
}

fn block(b: &[u8]) -> Option<Block<'_>> {
    let (kind, device) = (*b.first()?, Requester(u16_at(b, spec::DEVICE)?));
    if spec::IVMD.contains(&kind) {
        let (base, len) = (u64_at(b, spec::IVMD_START)?, u64_at(b, spec::IVMD_LENGTH)?);
        return Some(Block::Reserved { device, base, len });
    }
    if !spec::IVHD.contains(&kind) {
        return None;
    }
    let entries = b.get(if kind == spec::IVHD[0] { spec::ENTRIES } else { spec::LONG_ENTRIES }..)?;
    Some(Block::Unit(Unit {
        device,
        flags: *b.get(spec::FLAGS)?,
        base: u64_at(b, spec::BASE)?,
        segment: u16_at(b, spec::SEGMENT)?,
        entries: Chain::new(entries, entry_length),
    }))
}

fn entry_length(b: &[u8]) -> Option<usize> {
    match *b.first()? {
        spec::NAMED => Some(spec::NAMED_HEADER + usize::from(*b.get(spec::NAMED_LENGTH)?)),
        kind => Some(4 << (kind >> 6)),
    }
}

impl Unit<'_> {
    /// The highest requester that an entry names: the device table reaches so far.
    pub fn last(&self) -> Requester {
        let own = self.device.0;
        let last = self.entries.clone().map(|e| match e[0] {
            spec::ALL => u16::MAX,
            spec::SPECIAL => u16_at(e, spec::SPECIAL_SOURCE).unwrap_or(0),
            // For an alias, both the device and what it appears as.
            _ => u16_at(e, 1).unwrap_or(0).max(if e.len() >= 8 { u16_at(e, 5).unwrap_or(0) } else { 0 }),
        });
        Requester(last.fold(own, u16::max))
    }

    /// IOAPICs: identifier in the MADT, and as what they appear.
    pub fn ioapics(&self) -> impl Iterator<Item = (u8, Requester)> {
        let special =
            self.entries.clone().filter(|e| e[0] == spec::SPECIAL && e[spec::SPECIAL_VARIETY] == spec::IOAPIC);
        special.filter_map(|e| Some((e[spec::SPECIAL_HANDLE], Requester(u16_at(e, spec::SPECIAL_SOURCE)?))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::sum_up;
    use proptest::prelude::*;

    fn table(blocks: &[&[u8]]) -> Vec<u8> {
        let mut t = b"IVRS".to_vec();
        t.resize(48, 0);
        t.extend(blocks.concat());
        sum_up(&mut t);
        t
    }

    fn unit(kind: u8, entries: &[&[u8]]) -> Vec<u8> {
        let entries = entries.concat();
        let header = if kind == 0x10 { 24 } else { 40 };
        let mut b = vec![kind, 0xb1];
        b.extend((header + entries.len() as u16).to_le_bytes());
        b.extend([0x02, 0, 0x40, 0]);
        b.extend(0xfed8_0000u64.to_le_bytes());
        b.resize(header.into(), 0);
        b.extend(entries);
        b
    }

    const SELECT: &[u8] = &[2, 0xf8, 0, 0];
    const RANGE: &[u8] = &[3, 0, 1, 0, 4, 0xff, 1, 0];
    const ALIAS: &[u8] = &[66, 0, 3, 0, 0, 0x10, 2, 0];
    const IOAPIC: &[u8] = &[72, 0, 0, 0xd7, 0, 0xa0, 0, 1];
    const HPET: &[u8] = &[72, 0, 0, 0, 0, 0xa0, 0, 2];

    fn units(t: &[u8]) -> Vec<Unit<'_>> {
        let only = |b| if let Block::Unit(u) = b { Some(u) } else { None };
        blocks(t).into_iter().flatten().filter_map(only).collect()
    }

    #[test]
    fn units_say_where_they_are_and_how_far_they_reach() {
        for kind in [0x10, 0x11, 0x40] {
            let t = table(&[&unit(kind, &[SELECT, HPET, IOAPIC])]);
            let [u] = &units(&t)[..] else { panic!() };
            assert_eq!((u.device, u.flags, u.base, u.segment), (Requester(2), 0xb1, 0xfed8_0000, 0));
            assert_eq!(u.last(), Requester(0xf8));
            assert_eq!(u.ioapics().collect::<Vec<_>>(), [(0, Requester(0xa0))]);
        }
    }

    #[test]
    fn the_last_device_is_that_of_all_entries() {
        let named: &[u8] = &[240, 0, 4, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 9, 9, 9];
        for (entries, last) in [
            (&[][..], 2),
            (&[SELECT][..], 0xf8),
            (&[RANGE, SELECT], 0x1ff),
            (&[ALIAS], 0x300),
            (&[&[1, 0, 0, 0]], 0xffff),
            (&[IOAPIC], 0xa0),
            (&[named, RANGE], 0x400),
        ] {
            assert_eq!(units(&table(&[&unit(0x40, entries)]))[0].last(), Requester(last), "{entries:?}");
        }
    }

    #[test]
    fn reserved_regions_are_found_and_unknown_blocks_skipped() {
        let mut ivmd = vec![0x21, 0, 32, 0, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        ivmd.extend(0x7f00_0000u64.to_le_bytes());
        ivmd.extend(0x1_0000u64.to_le_bytes());
        let t = table(&[&[0x77, 0, 6, 0, 0, 0], &ivmd, &unit(0x10, &[SELECT])]);
        let all: Vec<_> = blocks(&t).unwrap().collect();
        let [Block::Reserved { device, base, len }, Block::Unit(_)] = all[..] else { panic!("{all:?}") };
        assert_eq!((device, base, len), (Requester(0x90), 0x7f00_0000, 0x1_0000));
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let mut t = table(&[&unit(0x10, &[SELECT])]);
        t[50] += 1;
        assert_eq!(blocks(&t).err(), Some(Damage::Checksum));
        sum_up(&mut t);
        assert_eq!(blocks(&t).err(), Some(Damage::Structures), "a block that is longer than what is there");
        t[50] -= 2;
        sum_up(&mut t);
        assert_eq!(blocks(&t).err(), Some(Damage::Structures), "one that is shorter");
        assert_eq!(blocks(&[0; 40]).err(), Some(Damage::Structures));
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut bytes in prop::collection::vec(any::<u8>(), 10..200)) {
            sum_up(&mut bytes);
            for u in units(&table(&[&unit(0x10, &[&bytes])])).iter().chain(&units(&bytes)) {
                prop_assert!(u.ioapics().count() < 100 && u.last() >= u.device);
            }
        }
    }
}
