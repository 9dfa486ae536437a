//! Segment registers: VMCS fields, and the two layouts of access rights.

use crate::spec::UNUSABLE;
use crate::{Field, VmcsPort, field};
use abi::Segment;

/// The four fields of a segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Selector.
    pub selector: Field,
    /// Access rights.
    pub access_rights: Field,
    /// Limit.
    pub limit: Field,
    /// Base.
    pub base: Field,
}

macro_rules! segments {
    ($($name:ident $selector:ident $access_rights:ident $limit:ident $base:ident)*) => {$(
        pub const $name: Fields = Fields {
            selector: field::$selector,
            access_rights: field::$access_rights,
            limit: field::$limit,
            base: field::$base,
        };
    )*};
}

segments! {
    CS GUEST_CS_SELECTOR GUEST_CS_ACCESS_RIGHTS GUEST_CS_LIMIT GUEST_CS_BASE
    SS GUEST_SS_SELECTOR GUEST_SS_ACCESS_RIGHTS GUEST_SS_LIMIT GUEST_SS_BASE
    DS GUEST_DS_SELECTOR GUEST_DS_ACCESS_RIGHTS GUEST_DS_LIMIT GUEST_DS_BASE
    ES GUEST_ES_SELECTOR GUEST_ES_ACCESS_RIGHTS GUEST_ES_LIMIT GUEST_ES_BASE
    FS GUEST_FS_SELECTOR GUEST_FS_ACCESS_RIGHTS GUEST_FS_LIMIT GUEST_FS_BASE
    GS GUEST_GS_SELECTOR GUEST_GS_ACCESS_RIGHTS GUEST_GS_LIMIT GUEST_GS_BASE
    TR GUEST_TR_SELECTOR GUEST_TR_ACCESS_RIGHTS GUEST_TR_LIMIT GUEST_TR_BASE
    LDTR GUEST_LDTR_SELECTOR GUEST_LDTR_ACCESS_RIGHTS GUEST_LDTR_LIMIT GUEST_LDTR_BASE
}

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

pub fn read(fields: &Fields, vmcs: &impl VmcsPort) -> Segment {
    Segment {
        sel: vmcs.read(fields.selector) as u16,
        ar: rights_to_utcb(vmcs.read(fields.access_rights)),
        limit: vmcs.read(fields.limit) as u32,
        base: vmcs.read(fields.base),
    }
}

pub fn write(fields: &Fields, vmcs: &mut impl VmcsPort, segment: &Segment) {
    vmcs.write(fields.selector, segment.sel.into());
    vmcs.write(fields.access_rights, rights_to_vmcs(segment.ar));
    vmcs.write(fields.limit, segment.limit.into());
    vmcs.write(fields.base, segment.base);
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
