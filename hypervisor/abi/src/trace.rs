//! Trace (docs/design/0010, X6): rings of records, one for each CPU, that the kernel writes and the root task reads.
//!
//! The rings are one behind the other in the range that the information page names, in the order of CPU numbers, each
//! [`RING_BYTES`] long. A ring is an array of records of [`RECORD_WORDS`] words. The first is the header, whose first
//! word is the number of records written so far; record n, from 0 on, is at `1 + n % RECORDS`.

use bitflags::bitflags;

/// Bytes of a ring.
pub const RING_BYTES: usize = 16 << 10;
/// 64-bit words of a record: time, tag, two arguments.
pub const RECORD_WORDS: usize = 4;
#[cfg(feature = "user")]
pub use crate::user::RECORDS;

bitflags! {
    /// Kinds of events, as `ctrl_trace` takes them.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct TraceKinds: u16 {
        /// A hypercall begins: RDI, RSI.
        const HYPERCALL = 1 << 0;
        /// A hypercall ends: status.
        const STATUS = 1 << 1;
        /// `ipc_call` reaches its callee: portal identifier, callee.
        const CALL = 1 << 2;
        /// `ipc_reply`: who gets it, descriptor.
        const REPLY = 1 << 3;
        /// A guest exits: reason, RIP.
        const EXIT = 1 << 4;
        /// An event goes to its handler: number, handler.
        const EVENT = 1 << 5;
        /// An interrupt: vector.
        const INTERRUPT = 1 << 6;
        /// A scheduling context begins to pay: priority, its own EC. EC 0: nobody.
        const SCHEDULE = 1 << 7;
        /// An exception in user mode: vector and error code, RIP.
        const FAULT = 1 << 8;
        /// An interrupt to another CPU: its local APIC.
        const IPI = 1 << 9;
    }
}

impl TraceKinds {
    /// Number of a kind, as in a tag.
    pub const fn number(self) -> u8 {
        self.bits().trailing_zeros() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_of_one_kind_each() {
        for (i, (name, kind)) in TraceKinds::all().iter_names().enumerate() {
            assert_eq!(kind.number(), i as u8);
            assert_eq!(TraceKinds::from_number(i as u8), Some(kind));
            assert_eq!(TraceKinds::from_lower_name(&name.to_ascii_lowercase()), Some(kind));
            assert_eq!(TraceKinds::from_lower_name(name), None);
        }
        for n in [TraceKinds::all().iter().count() as u8, 16, 255] {
            assert_eq!(TraceKinds::from_number(n), None);
        }
    }

    #[test]
    fn header_and_records_fill_a_ring() {
        assert_eq!((RECORDS as usize + 1) * RECORD_WORDS * 8, RING_BYTES);
        assert!(RING_BYTES.is_multiple_of(crate::PAGE_SIZE));
    }
}
