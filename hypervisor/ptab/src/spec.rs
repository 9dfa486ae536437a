//! Bits of paging-structure entries: Intel SDM vol. 3, tables 4-15 to 4-20 (4-level paging), 29-1 to 29-7 (EPT).

/// log2 of the entries of a table.
pub const INDEX_BITS: u32 = 9;
/// Entries of a table.
pub const ENTRIES: usize = 1 << INDEX_BITS;
/// Physical address of a table or page in an entry.
pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Leaf above level 0, the same bit in all formats but AMD-Vi's.
pub const PAGE_SIZE: u64 = 1 << 7;
/// First of five bits that hardware ignores in both formats: `perm::Mem` as it was given, and [`crate::BOUND`].
pub const SOFT_PERMS_SHIFT: u32 = 52;
/// These bits, moved to 0.
pub const SOFT_PERMS: u8 = 0x1f;

/// Host tables (4.5).
pub mod host {
    /// Present, which is readable.
    pub const P: u64 = 1 << 0;
    /// Writable.
    pub const RW: u64 = 1 << 1;
    /// Accessible in user mode.
    pub const US: u64 = 1 << 2;
    /// Bit 0 of the PAT index.
    pub const PWT: u64 = 1 << 3;
    /// Bit 1 of the PAT index.
    pub const PCD: u64 = 1 << 4;
    /// Accessed.
    pub const A: u64 = 1 << 5;
    /// Dirty (leaves).
    pub const D: u64 = 1 << 6;
    /// Bit 2 of the PAT index in 4 KiB leaves.
    pub const PAT: u64 = 1 << 7;
    /// Bit 2 of the PAT index in larger leaves.
    pub const PAT_LARGE: u64 = 1 << 12;
    /// Not executable; reserved unless IA32_EFER.NXE is set.
    pub const NX: u64 = 1 << 63;
}

/// EPT (29.3.2).
pub mod ept {
    /// Readable.
    pub const R: u64 = 1 << 0;
    /// Writable.
    pub const W: u64 = 1 << 1;
    /// Executable.
    pub const X: u64 = 1 << 2;
    /// Memory type (leaves), bits 5:3.
    pub const TYPE_SHIFT: u32 = 3;
    /// Accessed; ignored unless the EPTP enables the flags.
    pub const A: u64 = 1 << 8;
    /// Dirty (leaves); ignored unless the EPTP enables the flags.
    pub const D: u64 = 1 << 9;
}

/// Second-level (second-stage) entries of VT-d (specification 3.7, 9.8).
pub mod vtd {
    /// Readable by devices.
    pub const R: u64 = 1 << 0;
    /// Writable by devices.
    pub const W: u64 = 1 << 1;
}

/// I/O page-table entries of AMD-Vi (specification 2.2.3, v1 tables).
pub mod amdvi {
    /// Present.
    pub const PR: u64 = 1 << 0;
    /// Level of the table that the entry refers to, counted from 1; 0: a leaf of the size that its table's level gives.
    pub const NEXT_LEVEL_SHIFT: u32 = 9;
    /// All its bits.
    pub const NEXT_LEVEL: u64 = 7 << NEXT_LEVEL_SHIFT;
    /// Force coherent: accesses are snooped whatever the device asks for (leaves).
    pub const FC: u64 = 1 << 60;
    /// Readable by devices.
    pub const IR: u64 = 1 << 61;
    /// Writable by devices.
    pub const IW: u64 = 1 << 62;
}

/// Memory-type encodings of IA32_PAT and EPT entries (table 12-10).
pub mod memory_type {
    /// Strong uncacheable.
    pub const UC: u64 = 0;
    /// Write combining.
    pub const WC: u64 = 1;
    /// Write through.
    pub const WT: u64 = 4;
    /// Write protected.
    pub const WP: u64 = 5;
    /// Write back.
    pub const WB: u64 = 6;
    /// Uncacheable unless the MTRRs say write combining; IA32_PAT only.
    pub const UC_MINUS: u64 = 7;
}
