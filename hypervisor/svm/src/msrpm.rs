//! The MSR permission map: AMD APM vol. 2, 15.11. 8 KiB, contiguous in physical memory, two bits for each MSR.
//!
//! Of its three ranges VMX has the first two, from 0 and from C000_0000; MSRs of the third, from C001_0000, always exit.

/// Bytes of one range.
const RANGE: usize = 0x800;
/// MSRs of one range.
const RANGE_MSRS: u32 = 0x2000;
/// First MSR of each range that VMX has.
const RANGES: [u32; 2] = [0, 0xc000_0000];

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

/// Where the bits of an MSR are. `None`: all accesses exit, whatever an MSR space allows.
///
/// That is also EFER: guests must neither lose EFER.SVME, without which the next VMRUN fails, nor see it.
pub fn position(msr: u32) -> Option<Position> {
    let range = RANGES.iter().position(|first| msr != x86::msr::IA32_EFER && msr.wrapping_sub(*first) < RANGE_MSRS)?;
    let index = (msr % RANGE_MSRS) as usize;
    let read = 1 << (index % 4 * 2);
    Some(Position { byte: range * RANGE + index / 4, read, write: read << 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_manual() {
        for (msr, byte, read) in [
            (0x0, 0x0, 1),
            (0x1, 0x0, 4),
            (0x1b, 0x6, 0x40),
            (0x1fff, 0x7ff, 0x40),
            (0xc000_0000, 0x800, 1),
            (0xc000_0081, 0x820, 4),
            (0xc000_1fff, 0xfff, 0x40),
        ] {
            assert_eq!(position(msr), Some(Position { byte, read, write: read << 1 }), "{msr:#x}");
        }
    }

    #[test]
    fn no_two_msrs_share_bits() {
        let mut seen = [0u8; 2 * RANGE];
        for msr in (0..RANGE_MSRS).chain(0xc000_0000..0xc000_0000 + RANGE_MSRS) {
            let Some(p) = position(msr) else { continue };
            assert_eq!(seen[p.byte] & (p.read | p.write), 0, "{msr:#x}");
            seen[p.byte] |= p.read | p.write;
        }
        let free: u32 = seen.iter().map(|b| b.count_zeros()).sum();
        assert_eq!(free, 2, "those of EFER");
    }

    #[test]
    fn what_vmx_bitmaps_do_not_have_always_exits() {
        for msr in [0x2000, 0x4000_0000, 0xbfff_ffff, 0xc000_2000, 0xc001_0000, 0xc001_0117, 0xc001_2000, u32::MAX] {
            assert_eq!(position(msr), None, "{msr:#x}");
        }
        assert_eq!(position(x86::msr::IA32_EFER), None);
    }
}
