//! Segment registers: the attributes of a VMCB, and the access rights of a UTCB, which have a bit "unusable" more.
//!
//! In SVM a segment that is not present is unusable. The privilege level is a field of its own, which this back end
//! keeps equal to SS.DPL in both directions, as VMX has it: some emulators heed only the one or the other.

use crate::VmcbSegment;
use abi::Segment;

/// What both layouts have.
const SHARED: u16 = 0xfff;
const PRESENT: u16 = 1 << 7;
const DPL_SHIFT: u32 = 5;
const DPL: u16 = 3 << DPL_SHIFT;
/// Unusable, in the UTCB.
const UNUSABLE: u16 = 1 << 12;

const fn attrib(ar: u16) -> u16 {
    if ar & UNUSABLE != 0 { ar & SHARED & !PRESENT } else { ar & SHARED }
}

const fn rights(attrib: u16) -> u16 {
    if attrib & PRESENT != 0 { attrib & SHARED } else { attrib & SHARED | UNUSABLE }
}

pub fn read(s: &VmcbSegment) -> Segment {
    Segment { sel: s.selector, ar: rights(s.attrib), limit: s.limit, base: s.base }
}

pub fn write(s: &mut VmcbSegment, from: &Segment) {
    *s = VmcbSegment { selector: from.sel, attrib: attrib(from.ar), limit: from.limit, base: from.base };
}

/// Privilege level in the access rights of SS.
pub const fn cpl(ss: &Segment) -> u8 {
    (ss.ar >> DPL_SHIFT & 3) as u8
}

/// SS with the privilege level as its DPL. SYSRET and others leave another one in the descriptor.
pub fn with_cpl(ss: Segment, cpl: u8) -> Segment {
    Segment { ar: ss.ar & !DPL | (cpl as u16 & 3) << DPL_SHIFT, ..ss }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_present_is_unusable() {
        for (ar, have) in [(0x0093, 0x093), (0x0a9b, 0xa9b), (0x1000, 0), (0x1093, 0x013), (0x0c93, 0xc93)] {
            assert_eq!(attrib(ar), have, "{ar:#x}");
        }
        for (attrib, ar) in [(0xa9b, 0xa9b), (0, 0x1000), (0x013, 0x1013)] {
            assert_eq!(rights(attrib), ar, "{attrib:#x}");
        }
    }

    #[test]
    fn rights_come_back_with_usable_meaning_present() {
        for ar in 0..=u16::MAX {
            let back = rights(attrib(ar));
            let usable = ar & UNUSABLE == 0 && ar & PRESENT != 0;
            assert_eq!(back & UNUSABLE == 0, usable, "{ar:#x}");
            assert_eq!(back & (SHARED & !PRESENT), ar & (SHARED & !PRESENT), "{ar:#x}");
        }
    }

    #[test]
    fn the_dpl_of_ss_is_the_privilege_level() {
        let ss = Segment { ar: 0xc93, ..Segment::default() };
        assert_eq!((cpl(&ss), cpl(&with_cpl(ss, 3))), (0, 3));
        assert_eq!(with_cpl(ss, 3).ar, 0xcf3);
        assert_eq!(with_cpl(with_cpl(ss, 3), 0), ss);
    }
}
