//! Segment registers: VMCS fields, and the two layouts of access rights.

use crate::spec::UNUSABLE;
use crate::{Field, VmcsPort, guest};
use abi::Segment;

/// AVL, L, D/B and G: bits 11:8 in the UTCB, 15:12 in the VMCS. Unusable follows them in both.
const UPPER_SHIFT: u32 = 4;
const LOWER: u64 = 0xff;
const UPPER_UTCB: u64 = 0x1f00;

const _: () = assert!(UNUSABLE == 1 << (12 + UPPER_SHIFT));

/// VMCS layout of access rights, from the UTCB's.
const fn rights_to_vmcs(ar: u16) -> u64 {
    ar as u64 & LOWER | (ar as u64 & UPPER_UTCB) << UPPER_SHIFT
}

/// UTCB layout of access rights, from the VMCS's.
const fn rights_to_utcb(ar: u64) -> u16 {
    (ar & LOWER | ar >> UPPER_SHIFT & UPPER_UTCB) as u16
}

/// Where the other fields of a segment register are, as far behind those of ES as its selector is.
const fn fields(selector: Field) -> [Field; 3] {
    let at = selector - guest::ES_SELECTOR;
    [guest::ES_ACCESS_RIGHTS + at, guest::ES_LIMIT + at, guest::ES_BASE + at]
}

pub fn read(selector: Field, vmcs: &impl VmcsPort) -> Segment {
    let [rights, limit, base] = fields(selector).map(|f| vmcs.read(f));
    Segment { sel: vmcs.read(selector) as u16, ar: rights_to_utcb(rights), limit: limit as u32, base }
}

pub fn write(selector: Field, vmcs: &mut impl VmcsPort, segment: &Segment) {
    let [rights, limit, base] = fields(selector);
    vmcs.write(selector, segment.sel.into());
    vmcs.write(rights, rights_to_vmcs(segment.ar));
    vmcs.write(limit, segment.limit.into());
    vmcs.write(base, segment.base);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_rights_move_bit_by_bit() {
        for (utcb, vmcs) in [
            (0x0093, 0x0093),
            (0x0100, 0x1000),
            (0x0200, 0x2000),
            (0x0400, 0x4000),
            (0x0800, 0x8000),
            (0x1000, 0x1_0000),
            (0x0a9b, 0xa09b),
        ] {
            assert_eq!(rights_to_vmcs(utcb), vmcs);
            assert_eq!(rights_to_utcb(vmcs), utcb);
        }
    }

    #[test]
    fn reserved_bits_do_not_pass() {
        for ar in 0..=u16::MAX {
            assert_eq!(rights_to_vmcs(ar) & !0x1_f0ff, 0);
            assert_eq!(rights_to_utcb(rights_to_vmcs(ar)), ar & 0x1fff);
        }
        assert_eq!(rights_to_utcb(0x0f00), 0);
    }
}
