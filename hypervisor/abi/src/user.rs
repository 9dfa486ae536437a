//! What only user land needs of the interface: it makes what the kernel reads, and reads what the kernel makes. With the
//! feature `user`; the kernel has it not.

use crate::trace::{RECORD_WORDS, RING_BYTES};
use crate::*;

/// Number of the hypercall whose flags are an [`ExtOp`].
pub const EXT_NUMBER: u8 = 0xf;

/// Records of a ring.
pub const RECORDS: u64 = (RING_BYTES / (RECORD_WORDS * 8) - 1) as u64;

impl Hypercall {
    /// First register (RDI): selector or descriptor in bits 63:8, flags in 7:4, number in 3:0 (figure 8.1).
    pub const fn identifier(self, flags: u8, sel: u64) -> u64 {
        sel << 8 | ((flags & 0xf) as u64) << 4 | self as u64
    }
}

impl ExtOp {
    /// First register (RDI): selector in bits 63:8, operation in 7:4, 0xf in 3:0.
    pub const fn identifier(self, sel: u64) -> u64 {
        sel << 8 | (self as u64) << 4 | EXT_NUMBER as u64
    }
}

impl Status {
    /// Decodes bits 7:0 of the status register. `None`: a code that this edition does not define.
    pub const fn from_register(rdi: u64) -> Option<Status> {
        use Status::*;
        const ALL: [Status; 12] =
            [Success, Timeout, Aborted, Ovrflow, BadHyp, BadCap, BadPar, BadFtr, BadCpu, BadDev, MemObj, MemCap];
        let n = (rdi & 0xff) as usize;
        if n < ALL.len() { Some(ALL[n]) } else { None }
    }
}

impl HwOp {
    /// Descriptor of [`HwOp::Sleep`]: S in bits 2:0, A (first byte of the `\_Sx` package) in 5:3, B in 8:6.
    pub const fn sleep_descriptor(s: u8, a: u8, b: u8) -> u64 {
        (s as u64 & 7) | (a as u64 & 7) << 3 | (b as u64 & 7) << 6
    }
}

impl ArchState {
    /// A virtual CPU begins in real mode, in the first 64 KiB, at `ip` with these flags. Returns the groups that this changes.
    pub const fn begin_in_real_mode(&mut self, ip: u64, rflags: u64) -> Mtd {
        self.cs = Segment { sel: 0, ar: 0x9b, limit: 0xffff, base: 0 };
        self.ss = Segment { sel: 0, ar: 0x93, limit: 0xffff, base: 0 };
        self.rip = ip;
        self.rflags = rflags;
        Mtd::CS_SS.union(Mtd::RIP).union(Mtd::RFLAGS)
    }
}

impl Scd {
    /// Packs: budget in bits 15:0, priority in 22:16, COS in 38:23.
    pub const fn pack(self) -> u64 {
        self.budget_ms as u64 | (self.prio as u64 & 0x7f) << 16 | (self.cos as u64) << 23
    }
}

impl Hip {
    /// Whether this CPU runs guests.
    pub const fn guests(&self) -> bool {
        self.features & (Features::VMX.bits() | Features::SVM.bits()) != 0
    }

    /// Whether signature, length and checksum are right.
    pub fn valid(&self) -> bool {
        self.signature == HIP_SIGNATURE
            && usize::from(self.length) == size_of::<Hip>()
            && self.checksum == self.compute_checksum()
    }
}

impl TraceKinds {
    /// The kind of that number.
    pub fn from_number(n: u8) -> Option<TraceKinds> {
        TraceKinds::from_bits(1u16.checked_shl(n.into())?)
    }

    /// The kind of that name, in lower case.
    pub fn from_lower_name(name: &str) -> Option<TraceKinds> {
        TraceKinds::all().iter_names().find(|(n, _)| n.eq_ignore_ascii_case(name) && name != *n).map(|(_, k)| k)
    }
}

impl Arrival {
    /// All, in the order of their numbers.
    pub const ALL: [Arrival; 4] = [Arrival::Null, Arrival::Known, Arrival::New, Arrival::Full];
}

impl Item {
    /// What became of it.
    pub const fn arrival(self) -> Option<Arrival> {
        let n = (self.0 >> 8 & 7) as usize;
        if n < Arrival::ALL.len() { Some(Arrival::ALL[n]) } else { None }
    }
}

impl Mtd {
    /// Descriptor of a regular message of `words` words (1 to 512): their number less one (4.4.1).
    ///
    /// A regular message has at least one word.
    pub const fn words(words: usize) -> u32 {
        (words.saturating_sub(1) & 0x1ff) as u32
    }
}

impl Utcb {
    /// An empty UTCB.
    pub const fn new() -> Utcb {
        Utcb { words: [0; UTCB_WORDS] }
    }
}

impl Default for Utcb {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(missing_docs, reason = "indices named after the registers")]
impl ArchState {
    pub const RCX: usize = 1;
    pub const RDX: usize = 2;
    pub const RBX: usize = 3;
    pub const RBP: usize = 5;
    pub const RSI: usize = 6;
    pub const RDI: usize = 7;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_in_real_mode_changes_what_it_says() {
        let mut s = ArchState::ZERO;
        assert_eq!(s.begin_in_real_mode(0x1000, 0x202), Mtd::CS_SS | Mtd::RIP | Mtd::RFLAGS);
        let (cs, ss) = (s.cs, s.ss);
        assert_eq!((cs.base, cs.limit, ss.base, ss.limit), (0, 0xffff, 0, 0xffff));
        assert_eq!(s, ArchState { cs, ss, rip: 0x1000, rflags: 0x202, ..ArchState::ZERO });
    }
}
