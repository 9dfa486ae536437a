//! Where the guest finds the platform's devices: I/O ports, addresses, interrupt lines.
//!
//! One place for the devices' decoder (`bus`), the device models and whoever writes the guest's ACPI tables.
//! The choice follows the PC where the PC fixes it; what ACPI leaves free (power-management block, sleep type)
//! is chosen here.

/// First port of the ACPI power-management register blocks.
pub const PM_BASE: u16 = 0x600;
/// PM1a event block: status word, then enable word (ACPI 6.5, 4.8.3.1). FADT `PM1a_EVT_BLK`.
pub const PM1A_EVT_BLK: u16 = PM_BASE;
/// Length of the PM1a event block in bytes.
pub const PM1_EVT_LEN: u8 = 4;
/// PM1a control block (ACPI 6.5, 4.8.3.2). FADT `PM1a_CNT_BLK`.
pub const PM1A_CNT_BLK: u16 = PM_BASE + 4;
/// Length of the PM1a control block in bytes.
pub const PM1_CNT_LEN: u8 = 2;
/// Power-management timer, 32 bits wide: FADT flag `TMR_VAL_EXT` is to be set. FADT `PM_TMR_BLK`.
pub const PM_TMR_BLK: u16 = PM_BASE + 8;
/// Length of the power-management timer register in bytes.
pub const PM_TMR_LEN: u8 = 4;
/// General-purpose event block 0: two status bytes, two enable bytes. FADT `GPE0_BLK`.
pub const GPE0_BLK: u16 = 0x620;
/// Length of the general-purpose event block in bytes.
pub const GPE0_BLK_LEN: u8 = 4;
/// `SLP_TYPa` of the soft-off state: the first element of the package `\_S5` in the DSDT.
pub const S5_SLP_TYP: u8 = 5;
/// Reset control register (FADT `RESET_REG`, I/O space, 8 bits).
pub const RESET_PORT: u16 = 0xcf9;
/// Value that resets the machine when written to `RESET_PORT` (FADT `RESET_VALUE`).
pub const RESET_VALUE: u8 = 0x06;

/// First port of the serial interface COM1 (8 ports).
pub const COM1_BASE: u16 = 0x3f8;
/// A byte written here is handed to the VMM's owner: marks for measurements.
pub const MARKER_PORT: u16 = 0x8900;

/// Guest-physical address of the I/O APIC's registers.
pub const IOAPIC_BASE: u64 = 0xfec0_0000;
/// Bytes that the I/O APIC claims at its address.
pub const IOAPIC_LEN: u64 = 0x1000;
/// Identification of the I/O APIC, as the MADT must name it.
pub const IOAPIC_ID: u8 = 0;
/// Guest-physical address of the local APICs' registers after reset.
pub const LAPIC_BASE: u64 = 0xfee0_0000;

/// Interrupt line of the interval timer on the PIC.
pub const PIT_IRQ: u8 = 0;
/// I/O APIC pin of the interval timer: the MADT needs an override of ISA interrupt 0 to this pin.
pub const PIT_PIN: u8 = 2;
/// I/O APIC pin that carries the PIC's INTR output ("ExtINT" in MP tables).
pub const EXTINT_PIN: u8 = 0;
/// Interrupt line of COM1 (edge-triggered, active high, as ISA).
pub const COM1_IRQ: u8 = 4;
/// Interrupt line of the real-time clock (edge-triggered, active high, as ISA).
pub const RTC_IRQ: u8 = 8;
/// System control interrupt: level-triggered; the MADT needs an override (level, active high).
pub const SCI_IRQ: u8 = 9;
