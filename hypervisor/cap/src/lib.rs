//! Capability words and the object-space table.
//!
//! A capability is one 64-bit word: a reference to a kernel object, the object's kind, and permissions. An object
//! space is a two-level table of such words. This crate knows the encoding and the index arithmetic; who counts
//! references and who may change a slot is the kernel's business.
//!
//! Key types: [`Cap`], [`Kind`], [`index()`]; [`identity`] finds the selector that stands for an object.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod identity;

use abi::{SEL_NUM, Sel};

/// What a capability refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Protection domain.
    Pd = 1,
    /// Execution context.
    Ec = 2,
    /// Scheduling context.
    Sc = 3,
    /// Portal.
    Pt = 4,
    /// Semaphore.
    Sm = 5,
    /// Object space.
    Obj = 6,
    /// Host space.
    Hst = 7,
    /// Guest space.
    Gst = 8,
    /// PIO space.
    Pio = 9,
    /// MSR space.
    Msr = 10,
    /// DMA space.
    Dma = 11,
    /// Account of kernel memory: never in a capability.
    Account = 0xff,
}

impl Kind {
    const ALL: [Kind; 11] = {
        use Kind::*;
        [Pd, Ec, Sc, Pt, Sm, Obj, Hst, Gst, Pio, Msr, Dma]
    };

    /// The kind with that number.
    pub const fn from_number(n: u8) -> Option<Kind> {
        if n >= 1 && n <= Self::ALL.len() as u8 { Some(Self::ALL[n as usize - 1]) } else { None }
    }

    /// Permissions without which a capability is not enough to destroy the object; `None`: nobody can.
    ///
    /// Of a PD all but SC, which components do not get of their own PDs, hence not of those that they create.
    pub const fn perms_to_destroy(self) -> Option<u8> {
        use abi::perm::{Ec, Pd, Pt, Sc, Sm, Space};
        Some(match self {
            Kind::Pd => Pd::PD.union(Pd::EC).union(Pd::PT).union(Pd::SM).bits(),
            Kind::Ec => Ec::CTRL.bits(),
            Kind::Sc => Sc::CTRL.bits(),
            Kind::Pt => Pt::CTRL.bits(),
            Kind::Sm => Sm::CTRL_UP.union(Sm::CTRL_DN).bits(),
            Kind::Obj | Kind::Hst => Space::TAKE.union(Space::GRANT).bits(),
            Kind::Gst | Kind::Dma => Space::GRANT.union(Space::ASSIGN).bits(),
            Kind::Pio | Kind::Msr => Space::all().bits(),
            Kind::Account => return None,
        })
    }
}

/// Objects are aligned to this many bytes, so that permissions fit below their address.
pub const OBJECT_ALIGN: u64 = 32;

/// A capability word: permissions in bits 4:0, address bits 55:5 in place, kind in bits 63:56; 0 is the null
/// capability. Bits 63:56 of the address are a copy of bit 55, as in every canonical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cap(pub u64);

impl Cap {
    /// The null capability.
    pub const NULL: Cap = Cap(0);

    /// A capability for the object at `address`, a canonical multiple of [`OBJECT_ALIGN`].
    ///
    /// Without permissions the result is the null capability (5.4.1).
    pub const fn new(kind: Kind, address: u64, perms: u8) -> Cap {
        debug_assert!(address.is_multiple_of(OBJECT_ALIGN));
        if perms & abi::perm::ALL == 0 {
            return Cap::NULL;
        }
        Cap((kind as u64) << 56 | address & 0x00ff_ffff_ffff_ffe0 | (perms & abi::perm::ALL) as u64)
    }

    /// Whether it is the null capability.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// Kind of the object; `None` for the null capability.
    pub const fn kind(self) -> Option<Kind> {
        Kind::from_number(self.kind_number())
    }

    /// Its number; 0 for the null capability.
    #[inline]
    pub const fn kind_number(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// Address of the object.
    pub const fn address(self) -> u64 {
        (((self.0 << 8) as i64 >> 8) as u64) & !(OBJECT_ALIGN - 1)
    }

    /// Permissions.
    pub const fn perms(self) -> u8 {
        self.0 as u8 & abi::perm::ALL
    }

    /// The address, if the capability is of that kind and has all of these permissions.
    pub const fn validate(self, kind: Kind, perms: u8) -> Option<u64> {
        if self.kind_number() == kind as u8 && self.0 as u8 & perms == perms { Some(self.address()) } else { None }
    }

    /// A copy with permissions masked; null if none is left.
    pub const fn masked(self, mask: u8) -> Cap {
        if self.perms() & mask == 0 { Cap::NULL } else { Cap(self.0 & !(!(mask as u64) & abi::perm::ALL as u64)) }
    }
}

/// Slots of one table frame, and entries of the root frame.
pub const FANOUT: usize = 512;
/// log2 of [`FANOUT`]: up to this order a range of slots lies in one frame and an update does not fail half-way.
pub const LEAF_ORDER: u32 = 9;

/// Root and leaf index of a selector; `None` if it is beyond the space.
pub const fn index(sel: Sel) -> Option<(usize, usize)> {
    if sel >= SEL_NUM { None } else { Some(((sel >> LEAF_ORDER) as usize, sel as usize % FANOUT)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_root_frame_covers_the_space() {
        assert_eq!(SEL_NUM, (FANOUT * FANOUT) as u64);
        assert_eq!(index(SEL_NUM - 1), Some((FANOUT - 1, FANOUT - 1)));
        assert_eq!(index(SEL_NUM), None);
        assert_eq!(index(512), Some((1, 0)));
    }

    #[test]
    fn null_is_nothing() {
        assert_eq!(Cap::NULL.kind(), None);
        assert_eq!(Cap::new(Kind::Ec, 0x1000, 0), Cap::NULL);
        for k in Kind::ALL {
            assert_eq!(Cap::NULL.validate(k, 0), None);
        }
    }

    #[test]
    fn what_can_only_be_used_cannot_be_destroyed() {
        use abi::perm::{Pt, Sm, Space};
        assert_eq!(Kind::Account.perms_to_destroy(), None);
        for k in Kind::ALL {
            assert!(k.perms_to_destroy().is_some_and(|p| p != 0 && p & !abi::perm::ALL == 0));
        }
        // Of an interrupt semaphore, a portal to call, a NOVA space.
        for (k, p) in [
            (Kind::Sm, (Sm::CTRL_DN | Sm::ASSIGN).bits()),
            (Kind::Pt, (Pt::CALL | Pt::EVENT).bits()),
            (Kind::Obj, Space::TAKE.bits()),
            (Kind::Hst, Space::TAKE.bits()),
            (Kind::Pio, Space::TAKE.bits()),
            (Kind::Msr, Space::TAKE.bits()),
        ] {
            assert_ne!(k.perms_to_destroy().map(|needs| needs & !p), Some(0), "{k:?}");
        }
    }

    proptest! {
        #[test]
        fn encoding_round_trips(n in 1u8..=11, a in any::<u64>(), p in 1u8..32) {
            let address = ((a << 8) as i64 >> 8) as u64 & !31;
            let kind = Kind::from_number(n).unwrap();
            let c = Cap::new(kind, address, p);
            prop_assert_eq!((c.kind(), c.address(), c.perms()), (Some(kind), address, p));
        }

        #[test]
        fn validation_needs_kind_and_every_permission(n in 1u8..=11, m in 1u8..=11, have in 1u8..32, want in 0u8..32) {
            let c = Cap::new(Kind::from_number(n).unwrap(), 0x40, have);
            let ok = c.validate(Kind::from_number(m).unwrap(), want).is_some();
            prop_assert_eq!(ok, n == m && have & want == want);
        }

        #[test]
        fn masking_never_adds(have in 1u8..32, mask in any::<u8>()) {
            let c = Cap::new(Kind::Sm, 0x40, have).masked(mask);
            prop_assert_eq!(c.perms(), have & mask & 31);
            prop_assert_eq!(c.is_null(), have & mask & 31 == 0);
        }
    }
}
