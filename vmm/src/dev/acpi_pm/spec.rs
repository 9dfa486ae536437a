//! Fixed-hardware registers of ACPI. Names as in the ACPI specification 6.5, section 4.8.3.

/// Frequency of the power-management timer in Hz (4.8.3.3).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// Half the timer's period in its ticks: the status bit is set whenever bit 31 changes.
pub const TMR_HALF: u64 = 1 << 31;

/// PM1 status and enable: power-management timer (4.8.3.1.1, `TMR_STS`, `TMR_EN`).
pub const TMR: u16 = 1 << 0;
/// PM1 status and enable: global lock (`GBL_STS`).
pub const GBL: u16 = 1 << 5;
/// PM1 status and enable: power button (`PWRBTN_STS`).
pub const PWRBTN: u16 = 1 << 8;
/// PM1 status and enable: sleep button (`SLPBTN_STS`).
pub const SLPBTN: u16 = 1 << 9;
/// PM1 status and enable: clock alarm (`RTC_STS`).
pub const RTC: u16 = 1 << 10;
/// Bits of the enable register that exist.
pub const EN_MASK: u16 = TMR | GBL | PWRBTN | SLPBTN | RTC;

/// PM1 control: the system control interrupt is on (4.8.3.2.1, `SCI_EN`). Fixed: there is no legacy mode.
pub const SCI_EN: u16 = 1 << 0;
/// PM1 control: sleep type (`SLP_TYPx`).
pub const SLP_TYP_SHIFT: u16 = 10;
/// Width mask of the sleep type.
pub const SLP_TYP_MASK: u16 = 7;
/// PM1 control: enter the sleep state (`SLP_EN`), write-only.
pub const SLP_EN: u16 = 1 << 13;
/// Bits of the control register that keep what is written: `BM_RLD`, `SLP_TYPx`.
pub const CNT_MASK: u16 = (1 << 1) | (SLP_TYP_MASK << SLP_TYP_SHIFT);
