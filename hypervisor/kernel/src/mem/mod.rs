//! Memory of the kernel: the address-space layout, the pool, and counted object references.
//!
//! The kernel has no view of physical memory in general. It reaches its image and the pool behind it, the per-CPU
//! area, a few device pages, and during boot a window for firmware tables.

pub mod inject;
pub mod pool;
pub mod refs;
pub mod slab;
pub mod tags;
pub mod window;

/// Where the kernel is and what it maps where.
pub mod layout {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

    /// Virtual address of (link-time) physical address 0.
    pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
    /// Boot-time window onto firmware tables; 1 GiB, gone when the root task starts.
    pub const WINDOW: u64 = 0xffff_ffff_4000_0000;
    /// Device pages shared by all CPUs (local APIC, IOAPICs).
    pub const DEVICES: u64 = 0xffff_ffff_e000_0000;
    /// Start of the last 2 MiB: the per-CPU part, different on each CPU.
    pub const CPU_PART: u64 = 0xffff_ffff_ffe0_0000;
    /// The kernel stack of a CPU: below it a page is left unmapped.
    pub const STACK: u64 = CPU_PART + 0x1_1000;
    /// Length of a kernel stack in bytes.
    pub const STACK_LEN: u64 = 0x8000;
    /// [`crate::arch::cpu::Cpu`].
    pub const CPU: u64 = CPU_PART + 0x2_0000;
    /// Task-state segment; the two pages behind it are the I/O permission bitmap.
    ///
    /// More than 64 KiB behind the GDT, like all that is behind [`CPU`]: a VM exit leaves GDTR with limit ffff, and user
    /// mode must not find anything there that it could load as a descriptor.
    pub const TSS: u64 = CPU_PART + 0x5_0000;
    /// I/O permission bitmap of the PIO space in use.
    pub const IO_BITMAP: u64 = TSS + 0x1000;
    /// Stacks for NMI, #DF, #MC, #DB: one page each, an unmapped page below each.
    pub const IST_STACKS: u64 = CPU_PART + 0x4_0000;
    /// End of user-accessible virtual memory.
    pub const USER_END: u64 = 1 << 47;

    static DISPLACEMENT: AtomicU64 = AtomicU64::new(0);

    /// Notes how far from its link address the loader put the image.
    ///
    /// Not inlined: a debugger that stops where `kernel_main` begins is to say so.
    #[inline(never)]
    pub fn set_displacement(d: u64) {
        DISPLACEMENT.store(d, Relaxed);
    }

    /// Physical address of something in the image or pool.
    pub fn phys(virt: u64) -> u64 {
        virt.wrapping_sub(KERNEL_BASE).wrapping_add(DISPLACEMENT.load(Relaxed))
    }

    /// Virtual address of a frame of the image or pool.
    pub fn virt(phys: u64) -> u64 {
        phys.wrapping_add(KERNEL_BASE).wrapping_sub(DISPLACEMENT.load(Relaxed))
    }

    macro_rules! symbols {
        ($($(#[$m:meta])* $f:ident = $s:ident;)*) => {
            unsafe extern "C" { $(static $s: u8;)* }
            $($(#[$m])* pub fn $f() -> u64 { &raw const $s as u64 })*
        }
    }
    symbols! {
        /// Start of the image.
        image_start = IMAGE_START;
        /// Start of code.
        text_start = TEXT_START;
        /// End of code, start of read-only data.
        text_end = TEXT_END;
        /// End of read-only data, start of data.
        rodata_end = RODATA_END;
        /// Start of the pool.
        pool_start = POOL_START;
        /// End of the pool and of the image.
        pool_end = POOL_END;
    }
}
