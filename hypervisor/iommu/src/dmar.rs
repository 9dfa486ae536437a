//! DMAR, the firmware's table of VT-d units (VT-d specification, chapter 8).

use crate::Damage;
use crate::Requester;
use crate::bytes::{self, Chain, u16_at, u64_at};

mod spec {
    //! Offsets and types (8.1 to 8.4).
    pub const STRUCTURES: usize = 48;
    pub const DRHD: u16 = 0;
    pub const RMRR: u16 = 1;
    pub const DRHD_SIZE: usize = 5;
    pub const SEGMENT: usize = 6;
    pub const BASE: usize = 8;
    pub const DRHD_SCOPES: usize = 16;
    pub const RMRR_LIMIT: usize = 16;
    pub const RMRR_SCOPES: usize = 24;
    pub const SCOPE_ENUMERATION: usize = 4;
    pub const SCOPE_BUS: usize = 5;
    pub const SCOPE_PATH: usize = 6;
    pub const SCOPE_IOAPIC: u8 = 3;
}

/// A remapping structure.
#[derive(Clone, Debug)]
pub enum Structure<'t> {
    /// A unit.
    Unit {
        /// PCI segment.
        segment: u16,
        /// Physical address of its registers.
        base: u64,
        /// Pages of registers.
        pages: u64,
        /// Its devices, as far as they are named.
        scopes: Scopes<'t>,
    },
    /// Memory that firmware has devices use.
    Reserved {
        /// PCI segment.
        segment: u16,
        /// First byte.
        base: u64,
        /// Last byte.
        limit: u64,
        /// The devices.
        scopes: Scopes<'t>,
    },
}

/// The structures of the table, header included in `table`. What is too short for its type is left out.
pub fn structures(table: &[u8]) -> Result<impl Iterator<Item = Structure<'_>>, Damage> {
    Ok(bytes::structures(table, spec::STRUCTURES)?.filter_map(structure))
}

fn structure(b: &[u8]) -> Option<Structure<'_>> {
    let scopes = |at| Some(Scopes(Chain::new(b.get(at..)?, |s| s.get(1).map(|n| usize::from(*n)))));
    let (segment, base) = (u16_at(b, spec::SEGMENT)?, u64_at(b, spec::BASE)?);
    match u16_at(b, 0)? {
        spec::DRHD => {
            let pages = 1 << (b[spec::DRHD_SIZE] & 0xf);
            Some(Structure::Unit { segment, base, pages, scopes: scopes(spec::DRHD_SCOPES)? })
        }
        spec::RMRR => {
            let limit = u64_at(b, spec::RMRR_LIMIT)?;
            Some(Structure::Reserved { segment, base, limit, scopes: scopes(spec::RMRR_SCOPES)? })
        }
        _ => None,
    }
}

/// Device scopes.
#[derive(Clone, Debug)]
pub struct Scopes<'t>(Chain<'t>);

/// A device scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The device, or the bridge below which it is.
    pub first: Requester,
    /// Whether it is the device.
    pub direct: bool,
    /// The identifier in the MADT, if it is an IOAPIC.
    pub ioapic: Option<u8>,
}

impl Iterator for Scopes<'_> {
    type Item = Scope;

    fn next(&mut self) -> Option<Scope> {
        let b = self.0.next()?;
        let (bus, path) = (*b.get(spec::SCOPE_BUS)?, b.get(spec::SCOPE_PATH..)?);
        let [device, function, ..] = *path else { return None };
        let ioapic = (b[0] == spec::SCOPE_IOAPIC).then(|| b[spec::SCOPE_ENUMERATION]);
        Some(Scope { first: Requester::new(bus, device, function), direct: path.len() == 2, ioapic })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::sum_up;
    use proptest::prelude::*;

    /// Header, width 38, interrupt remapping.
    fn table(structures: &[&[u8]]) -> Vec<u8> {
        let mut t = b"DMAR".to_vec();
        t.resize(36, 0);
        t.extend([38, 1]);
        t.resize(48, 0);
        t.extend(structures.concat());
        sum_up(&mut t);
        t
    }

    fn all(t: &[u8]) -> Vec<Structure<'_>> {
        structures(t).unwrap().collect()
    }

    /// As QEMU writes it: all devices, and an IOAPIC at ff:00.0.
    const UNIT: &[u8] =
        &[0, 0, 24, 0, 1, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0, /* scope */ 3, 8, 0, 0, 0, 0xff, 0, 0];
    const RESERVED: &[u8] = &[
        1, 0, 40, 0, 0, 0, 2, 0, 0, 0, 0x10, 0x7f, 0, 0, 0, 0, 0xff, 0xff, 0x1f, 0x7f, 0, 0, 0, 0, // two scopes
        1, 8, 0, 0, 0, 0, 0x1d, 1, 1, 8, 0, 0, 0, 0, 0x1a, 0,
    ];

    #[test]
    fn units_and_reserved_regions_are_found() {
        let t = table(&[UNIT, &[9, 0, 8, 0, 1, 2, 3, 4], RESERVED]);
        let all = all(&t);
        let [Structure::Unit { segment, base, pages, scopes }, reserved] = &all[..] else { panic!("{all:?}") };
        assert_eq!((*segment, *base, *pages), (0, 0xfed9_0000, 1));
        let ioapic = Scope { first: Requester(0xff00), direct: true, ioapic: Some(0) };
        assert_eq!(scopes.clone().collect::<Vec<_>>(), [ioapic]);
        let Structure::Reserved { segment, base, limit, scopes } = reserved else { panic!("{reserved:?}") };
        assert_eq!((*segment, *base, *limit), (2, 0x7f10_0000, 0x7f1f_ffff));
        let devices: Vec<_> = scopes.clone().map(|s| (s.first, s.ioapic)).collect();
        assert_eq!(devices, [(Requester::new(0, 0x1d, 1), None), (Requester::new(0, 0x1a, 0), None)]);
    }

    #[test]
    fn newer_units_have_more_pages_and_deeper_paths() {
        let mut unit = UNIT.to_vec();
        unit[5] = 2;
        unit[2] = 26;
        unit[17] = 10;
        unit.extend([3, 1]);
        let t = table(&[&unit]);
        let Structure::Unit { pages, mut scopes, .. } = all(&t).remove(0) else { panic!() };
        assert_eq!((pages, scopes.next().map(|s| s.direct)), (4, Some(false)));
    }

    #[test]
    fn a_damaged_table_is_refused() {
        let mut t = table(&[UNIT, RESERVED]);
        t[40] ^= 1;
        assert_eq!(structures(&t).err(), Some(Damage::Checksum));
        t.truncate(48 + 24 + 39);
        sum_up(&mut t);
        assert_eq!(structures(&t).err(), Some(Damage::Structures));
        assert_eq!(structures(&table(&[&[0, 0, 0, 0]])).err(), Some(Damage::Structures), "no length, no progress");
        assert_eq!(structures(&[0; 20]).err(), Some(Damage::Structures), "less than a header");
        assert_eq!(all(&table(&[&[0, 0, 8, 0, 0, 0, 0, 0], UNIT])).len(), 1, "too short for its type");
    }

    proptest! {
        #[test]
        fn any_bytes_end(mut bytes in prop::collection::vec(any::<u8>(), 10..200)) {
            sum_up(&mut bytes);
            for s in structures(&bytes).into_iter().flatten() {
                let (Structure::Unit { scopes, .. } | Structure::Reserved { scopes, .. }) = s;
                prop_assert!(scopes.count() < 100);
            }
        }
    }
}
