//! The MSR permission map: AMD APM vol. 2, 15.11. 8 KiB, contiguous in physical memory, two bits for each MSR.
//!
//! MSR spaces have the layout of VMX: 4 KiB, 1 KiB each for reading and writing MSRs from 0, and the same from
//! C000_0000 (read low, read high, write low, write high). SVM has a third range from C001_0000, which always exits.

use crate::spec::efer;

/// Size in bytes.
pub const SIZE: usize = 0x2000;
/// Size of a VMX MSR bitmap in bytes.
pub const VMX_SIZE: usize = 0x1000;
/// Bytes of one range.
const RANGE: usize = 0x800;
/// MSRs of one range.
const RANGE_MSRS: u32 = 0x2000;
/// First MSR of each range.
const RANGES: [u32; 3] = [0, 0xc000_0000, 0xc001_0000];
/// Ranges that VMX has.
const VMX_RANGES: usize = 2;
/// Bytes of a quarter of a VMX bitmap.
const QUARTER: usize = 0x400;

/// The bits of an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Byte of the map.
    pub byte: usize,
    /// Bit in it: reading exits.
    pub read: u8,
    /// Bit in it: writing exits.
    pub write: u8,
}

/// Where the bits of an MSR are. `None`: all accesses exit.
pub fn position(msr: u32) -> Option<Position> {
    let range = RANGES.iter().position(|first| msr.wrapping_sub(*first) < RANGE_MSRS)?;
    let index = (msr % RANGE_MSRS) as usize;
    let read = 1 << (index % 4 * 2);
    Some(Position { byte: range * RANGE + index / 4, read, write: read << 1 })
}

/// Whether both accesses exit whatever an MSR space allows.
///
/// That is EFER: guests must neither lose EFER.SVME, without which the next VMRUN fails, nor see it. And all that VMX
/// bitmaps do not have.
pub fn always_exits(msr: u32) -> bool {
    msr == efer::MSR || !RANGES[..VMX_RANGES].iter().any(|first| msr.wrapping_sub(*first) < RANGE_MSRS)
}

/// A map in which every access exits.
pub fn deny_all(map: &mut [u8; SIZE]) {
    map.fill(0xff);
}

/// Sets whether accesses exit, as far as they need not.
pub fn set(map: &mut [u8; SIZE], msr: u32, read_exits: bool, write_exits: bool) {
    let Some(p) = position(msr).filter(|_| !always_exits(msr)) else { return };
    let bits = if read_exits { p.read } else { 0 } | if write_exits { p.write } else { 0 };
    map[p.byte] = map[p.byte] & !(p.read | p.write) | bits;
}

/// Bit n of a byte at bit 2n.
const fn spread(byte: u8) -> u16 {
    let mut x = byte as u16;
    x = (x | x << 4) & 0x0f0f;
    x = (x | x << 2) & 0x3333;
    (x | x << 1) & 0x5555
}

/// The whole map for a VMX MSR bitmap.
pub fn convert(vmx: &[u8; VMX_SIZE], map: &mut [u8; SIZE]) {
    deny_all(map);
    let (reads, writes) = vmx.split_at(VMX_RANGES * QUARTER);
    for (i, (read, write)) in reads.iter().zip(writes).enumerate() {
        let bits = spread(*read) | spread(*write) << 1;
        map[2 * i..][..2].copy_from_slice(&bits.to_le_bytes());
    }
    if let Some(p) = position(efer::MSR) {
        map[p.byte] |= p.read | p.write;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(map: &[u8; SIZE], msr: u32) -> (bool, bool) {
        let p = position(msr).expect("in a range");
        (map[p.byte] & p.read != 0, map[p.byte] & p.write != 0)
    }

    #[test]
    fn positions_are_those_of_the_manual() {
        for (msr, byte, read) in [
            (0x0, 0x0, 1),
            (0x1, 0x0, 4),
            (0x1b, 0x6, 0x40),
            (0x1fff, 0x7ff, 0x40),
            (0xc000_0000, 0x800, 1),
            (0xc000_0080, 0x820, 1),
            (0xc000_1fff, 0xfff, 0x40),
            (0xc001_0000, 0x1000, 1),
            (0xc001_0117, 0x1045, 0x40),
            (0xc001_1fff, 0x17ff, 0x40),
        ] {
            assert_eq!(position(msr), Some(Position { byte, read, write: read << 1 }), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xbfff_ffff, 0xc000_2000, 0xc000_ffff, 0xc001_2000, u32::MAX] {
            assert_eq!(position(msr), None, "{msr:#x}");
            assert!(always_exits(msr), "{msr:#x}");
        }
    }

    #[test]
    fn conversion_keeps_every_bit() {
        // An irregular pattern, so that no shift or swap goes unnoticed.
        let vmx: [u8; VMX_SIZE] = std::array::from_fn(|i| (i * 167 + i / 256 * 31) as u8);
        let bit = |base: usize, index: u32| vmx[base + index as usize / 8] & 1 << (index % 8) != 0;
        let mut map = [0; SIZE];
        convert(&vmx, &mut map);
        for index in 0..RANGE_MSRS {
            assert_eq!(bits(&map, index), (bit(0, index), bit(0x800, index)), "{index:#x}");
            let msr = 0xc000_0000 + index;
            let want = if msr == efer::MSR { (true, true) } else { (bit(0x400, index), bit(0xc00, index)) };
            assert_eq!(bits(&map, msr), want, "{msr:#x}");
            assert_eq!(bits(&map, 0xc001_0000 + index), (true, true));
        }
    }

    #[test]
    fn a_bitmap_that_allows_all_still_keeps_efer() {
        let mut map = [0xff; SIZE];
        convert(&[0; VMX_SIZE], &mut map);
        assert_eq!(bits(&map, efer::MSR), (true, true));
        assert_eq!(map[..2 * RANGE].iter().map(|b| b.count_ones()).sum::<u32>(), 2);
    }

    #[test]
    fn single_changes_agree_with_conversion() {
        let (mut map, mut whole, mut vmx) = ([0; SIZE], [0; SIZE], [0xff; VMX_SIZE]);
        deny_all(&mut map);
        for (msr, read, write) in
            [(0x174, false, true), (0x10, false, false), (0xc000_0081, true, false), (0xc000_0080, false, false)]
        {
            set(&mut map, msr, read, write);
            let at = (msr as usize & 0x1fff) / 8 + if msr < 0x2000 { 0 } else { 0x400 };
            for (at, exits) in [(at, read), (at + 0x800, write)] {
                vmx[at] = vmx[at] & !(1 << (msr % 8)) | u8::from(exits) << (msr % 8);
            }
        }
        set(&mut map, 0xc001_0117, false, false);
        set(&mut map, 0x9999_0000, false, false);
        convert(&vmx, &mut whole);
        assert!(map == whole);
        assert_eq!(bits(&map, 0x174), (false, true));
        set(&mut map, 0x174, true, true);
        assert_eq!(bits(&map, 0x174), (true, true));
    }
}
