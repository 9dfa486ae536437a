//! Where things are in the guest: memory map, ports and interrupt lines, shared by loader, ACPI tables and device
//! models.
//!
//! Guest-physical memory, in bytes:
//! ```text
//! 0x0000_0500  GDT                      0x0000_7000  boot_params ("zero page"), PVH or Multiboot information
//! 0x0000_9000  page tables, 6 pages     0x0002_0000  command line; page tables only for a start in 64-bit mode
//! 0x0009_fc00  end of low RAM (EBDA)    0x000e_0000  ACPI tables, RSDP first
//! 0x0010_0000  high RAM ... at most to 0xc000_0000; above it the device hole with IOAPIC and local APIC
//! ```
//! RAM is one range from 0. There is no RAM above the hole: guests of more than 3 GiB are refused.

/// Global descriptor table for the entry state.
pub const GDT: u64 = 0x500;
/// `struct boot_params` of the Linux boot protocol, or what other protocols have in its place.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Identity-mapping page tables: PML4, PDPT and four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// Kernel command line, NUL-terminated.
pub const CMDLINE: u64 = 0x2_0000;
/// Room for the command line in bytes, NUL included.
pub const CMDLINE_MAX: usize = 0x1_0000;
/// Extended BIOS data area; low RAM ends here.
pub const EBDA: u64 = 0x9_fc00;
/// End of conventional memory.
pub const LOW_RAM_END: u64 = 0xa_0000;
/// ACPI tables; the RSDP is at the very start.
pub const ACPI: u64 = 0xe_0000;
/// End of the room for ACPI tables.
pub const ACPI_END: u64 = 0xf_0000;
/// RAM above the BIOS area starts here.
pub const HIGH_RAM: u64 = 0x10_0000;
/// End of the RAM that a guest can have: start of the device hole.
pub const RAM_MAX: u64 = 0xc000_0000;
/// Least RAM that a guest is given, in bytes.
pub const RAM_MIN: u64 = 16 << 20;
/// IOAPIC registers.
pub const IOAPIC: u64 = 0xfec0_0000;
/// Local APIC registers in xAPIC mode.
pub const LAPIC: u64 = 0xfee0_0000;
/// Most vCPUs that the layout provides for.
pub const MAX_VCPUS: u32 = 8;

/// PM1a event block: status and enable, 2 bytes each.
pub const PM1A_EVT: u16 = 0x600;
/// PM1a control, 2 bytes.
pub const PM1A_CNT: u16 = 0x604;
/// PM timer, 4 bytes, 3.579545 MHz.
pub const PM_TIMER: u16 = 0x608;
/// Reset control register.
pub const RESET: u16 = 0xcf9;
/// What to write to [`RESET`].
pub const RESET_VALUE: u8 = 6;
/// SLP_TYP of S5 in PM1 control.
pub const SLP_TYP_S5: u8 = 5;
/// Port of the first serial line.
pub const COM1: u16 = 0x3f8;
/// Its interrupt line.
pub const COM1_IRQ: u8 = 4;
/// Index port of the real-time clock.
pub const RTC: u16 = 0x70;
/// Its interrupt line.
pub const RTC_IRQ: u8 = 8;
/// CMOS register that holds the century.
pub const RTC_CENTURY: u8 = 0x32;
/// System control interrupt of ACPI; level, active high.
pub const SCI: u8 = 9;
/// IOAPIC input that the PIT (ISA interrupt 0) drives.
pub const PIT_GSI: u32 = 2;
