//! Why a guest's images are refused.

use thiserror::Error;

/// Why a guest's images are refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// There is no such ROM.
    #[error("{what} {rom:?}: this component has no ROM of that name; check `roms` in the system file")]
    Missing {
        /// "kernel", "initrd" or "module".
        what: &'static str,
        /// Name of the ROM.
        rom: String,
    },
    /// No protocol takes the kernel.
    #[error("kernel {rom:?}: neither a bzImage, nor an ELF kernel, nor a Multiboot kernel: {found}")]
    Unknown {
        /// Name of the ROM.
        rom: String,
        /// What it is.
        found: String,
    },
    /// The kernel is something else than the configuration says.
    #[error("kernel {rom:?}: not a bzImage: {found}")]
    NotBzImage {
        /// Name of the ROM.
        rom: String,
        /// What it is.
        found: String,
    },
    /// The same for PVH.
    #[error("kernel {rom:?}: cannot be started by PVH: {cause}")]
    NotPvh {
        /// Name of the ROM.
        rom: String,
        /// What is missing or wrong.
        cause: String,
    },
    /// The same for Multiboot.
    #[error("kernel {rom:?}: cannot be started by Multiboot: {cause}")]
    NotMultiboot {
        /// Name of the ROM.
        rom: String,
        /// What is missing or wrong.
        cause: String,
    },
    /// Something that only kernels of other protocols have.
    #[error("config: {key}: the kernel {rom:?} is started as flat code, which takes none")]
    NotForFlat {
        /// The key.
        key: &'static str,
        /// Name of the ROM.
        rom: String,
    },
    /// The kernel's file ends too early.
    #[error("kernel {rom:?}: truncated: its header says {want} bytes, there are {have}")]
    Truncated {
        /// Name of the ROM.
        rom: String,
        /// Bytes that the header asks for.
        want: u64,
        /// Bytes that there are.
        have: u64,
    },
    /// The kernel has no 64-bit entry point.
    #[error(
        "kernel {rom:?}: boot protocol {:#x} without 64-bit entry point; a 64-bit kernel of Linux 3.8 or later is needed",
        version
    )]
    TooOld {
        /// Name of the ROM.
        rom: String,
        /// Its protocol version.
        version: u16,
    },
    /// The kernel does not fit.
    #[error("kernel {rom:?}: needs guest RAM up to {} MiB, the guest has {} MiB", need.div_ceil(1 << 20), ram >> 20)]
    KernelTooBig {
        /// Name of the ROM.
        rom: String,
        /// End of what the kernel needs to start, in bytes.
        need: u64,
        /// Guest RAM in bytes.
        ram: u64,
    },
    /// A part of the kernel has its place where there is no RAM for it.
    #[error(
        "kernel {rom:?}: its part at {start:#x} to {end:#x} is not in guest RAM, which is up to {low:#x} and from \
         {high:#x} to {ram:#x}"
    )]
    NotInRam {
        /// Name of the ROM.
        rom: String,
        /// First byte.
        start: u64,
        /// End.
        end: u64,
        /// End of low RAM.
        low: u64,
        /// Start of high RAM.
        high: u64,
        /// Its end.
        ram: u64,
    },
    /// A part of the kernel has its place where we put something.
    #[error("kernel {rom:?}: its part at {start:#x} to {end:#x} overlaps the {what} at {taken:#x} to {taken_end:#x}")]
    Overlap {
        /// Name of the ROM.
        rom: String,
        /// First byte.
        start: u64,
        /// End.
        end: u64,
        /// What is there.
        what: &'static str,
        /// Its first byte.
        taken: u64,
        /// Its end.
        taken_end: u64,
    },
    /// The kernel would start at nothing.
    #[error("kernel {rom:?}: its entry point {entry:#x} is in no part that is loaded")]
    Entry {
        /// Name of the ROM.
        rom: String,
        /// The entry point.
        entry: u64,
    },
    /// The protocol has no place for modules.
    #[error("config: modules: the kernel {rom:?} is not started by Multiboot; others take an initrd at most")]
    Modules {
        /// Name of the kernel's ROM.
        rom: String,
    },
    /// Their list has an end.
    #[error("config: modules: {have} for the kernel {rom:?}, at most {most} are possible")]
    TooManyModules {
        /// Name of the kernel's ROM.
        rom: String,
        /// Their number, with the initial RAM disk.
        have: usize,
        /// The most.
        most: usize,
    },
    /// The texts of the modules do not fit.
    #[error("config: modules: texts of {have} bytes, the kernel {rom:?} can be given at most {most}")]
    ModuleTextsTooLong {
        /// Name of the kernel's ROM.
        rom: String,
        /// Their length in bytes, with the loader's name and an end each.
        have: usize,
        /// The most.
        most: usize,
    },
    /// The initial RAM disk, or another module, does not fit.
    #[error(
        "{what} {rom:?}: {len} bytes do not fit between the kernel's end at {} MiB and the top at {} MiB of guest RAM",
        from.div_ceil(1 << 20),
        to >> 20
    )]
    ModuleTooBig {
        /// "initrd" or "module".
        what: &'static str,
        /// Name of the ROM.
        rom: String,
        /// Its length in bytes.
        len: u64,
        /// End of the kernel, and of modules before this one.
        from: u64,
        /// Where it has to end.
        to: u64,
    },
    /// The kernel accepts less.
    #[error("config: cmdline: {have} bytes, the kernel {rom:?} takes at most {most}")]
    CmdlineTooLong {
        /// Name of the ROM.
        rom: String,
        /// Length in bytes.
        have: usize,
        /// The kernel's limit in bytes.
        most: usize,
    },
    /// Guest RAM could not be written.
    #[error("kernel {rom:?}: cannot be written to guest RAM: {cause}")]
    Write {
        /// Name of the ROM.
        rom: String,
        /// The loader's or memory's message.
        cause: String,
    },
}

pub(super) fn write_error(rom: &str, e: impl std::fmt::Display) -> LoadError {
    LoadError::Write { rom: rom.into(), cause: e.to_string() }
}
