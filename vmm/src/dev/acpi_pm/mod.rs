//! ACPI fixed hardware: PM1a event and control block, power-management timer, and a general-purpose event block that
//! remembers its enable bits but never has an event.
//!
//! The system control interrupt is a level: [`AcpiPm::sci`]. There is no legacy mode, hence no SMI command port.

mod spec;

use super::Effect;
use super::timebase::{NEVER, Timebase};
use crate::layout::SLP_TYP_S5;
use spec::*;

/// Registers of the fixed hardware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcpiPm {
    clock: Timebase,
    status: u16,
    enable: u16,
    control: u16,
    gpe_enable: u16,
    /// Timer tick at which the timer's status bit is set next.
    next_carry: u64,
}

impl AcpiPm {
    /// Awake, nothing enabled.
    pub fn new(tsc_hz: u64) -> Self {
        let clock = Timebase::new(PM_TIMER_HZ, tsc_hz);
        Self { clock, status: 0, enable: 0, control: SCI_EN, gpe_enable: 0, next_carry: TMR_HALF }
    }

    /// Reads `size` (1, 2 or 4) bytes at `offset` from the event block: status word, then enable word.
    pub fn read_events(&mut self, offset: u16, size: u8, now: u64) -> u32 {
        self.advance(now);
        part(u32::from(self.status) | u32::from(self.enable) << 16, offset, size)
    }

    /// Writes `size` (1, 2 or 4) bytes at `offset` to the event block.
    pub fn write_events(&mut self, offset: u16, size: u8, value: u32, now: u64) {
        self.advance(now);
        // Status bits are cleared by writing ones.
        self.status &= !(replaced(0, offset, size, value) as u16);
        self.enable = (replaced(u32::from(self.enable) << 16, offset, size, value) >> 16) as u16 & EN_MASK;
    }

    /// Reads `size` (1 or 2) bytes at `offset` from the control block.
    pub fn read_control(&self, offset: u16, size: u8) -> u32 {
        part(u32::from(self.control), offset, size)
    }

    /// Writes `size` (1 or 2) bytes at `offset` to the control block.
    pub fn write_control(&mut self, offset: u16, size: u8, value: u32) -> Effect {
        let written = replaced(u32::from(self.control), offset, size, value) as u16;
        self.control = written & CNT_MASK | SCI_EN;
        let sleep_type = ((written >> SLP_TYP_SHIFT) & SLP_TYP_MASK) as u8;
        match written & SLP_EN != 0 && sleep_type == SLP_TYP_S5 {
            true => Effect::PowerOff,
            false => Effect::None,
        }
    }

    /// Reads `size` (1, 2 or 4) bytes at `offset` from the timer.
    pub fn read_timer(&self, offset: u16, size: u8, now: u64) -> u32 {
        part(self.clock.ticks(now) as u32, offset, size)
    }

    /// Reads `size` bytes at `offset` from the general-purpose event block.
    pub fn read_gpe(&self, offset: u16, size: u8) -> u32 {
        part(u32::from(self.gpe_enable) << 16, offset, size)
    }

    /// Writes `size` bytes at `offset` from the general-purpose event block.
    pub fn write_gpe(&mut self, offset: u16, size: u8, value: u32) {
        self.gpe_enable = (replaced(u32::from(self.gpe_enable) << 16, offset, size, value) >> 16) as u16;
    }

    /// The user pressed the power button.
    pub fn press_power_button(&mut self) {
        self.status |= PWRBTN;
    }

    /// Level of the system control interrupt.
    pub fn sci(&self) -> bool {
        self.status & self.enable != 0
    }

    /// TSC value at which the timer raises the interrupt, if it can.
    pub fn deadline(&self) -> u64 {
        match self.enable & !self.status & TMR {
            0 => NEVER,
            _ => self.clock.tsc(self.next_carry),
        }
    }

    /// Sets the timer's status bit if its top bit has changed since the last call.
    pub fn advance(&mut self, now: u64) {
        let ticks = self.clock.ticks(now);
        if ticks >= self.next_carry {
            self.status |= TMR;
            self.next_carry = (ticks / TMR_HALF + 1).saturating_mul(TMR_HALF);
        }
    }
}

/// `size` bytes at `offset` of a register block of four bytes.
fn part(block: u32, offset: u16, size: u8) -> u32 {
    (block >> (8 * (offset & 3))) & mask(size)
}

/// The block after `size` bytes at `offset` were written.
fn replaced(block: u32, offset: u16, size: u8, value: u32) -> u32 {
    let shift = 8 * (offset & 3);
    let written = mask(size) << shift;
    (block & !written) | ((value << shift) & written)
}

fn mask(size: u8) -> u32 {
    u32::MAX >> (32 - 8 * u32::from(size.clamp(1, 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: u16 = 0;
    const ENABLE: u16 = 2;

    fn pm() -> AcpiPm {
        AcpiPm::new(PM_TIMER_HZ)
    }

    #[test]
    fn timer_counts_and_wraps_at_32_bits() {
        let pm = pm();
        assert_eq!(pm.read_timer(0, 4, 1234), 1234);
        assert_eq!(pm.read_timer(0, 4, (1 << 32) + 5), 5);
        assert_eq!(pm.read_timer(1, 1, 0x1234), 0x12);
    }

    #[test]
    fn soft_off_in_one_word_or_two_bytes() {
        let off = u32::from(SLP_EN) | u32::from(SLP_TYP_S5) << SLP_TYP_SHIFT;
        assert_eq!(pm().write_control(0, 2, off), Effect::PowerOff);
        assert_eq!(pm().write_control(1, 1, off >> 8), Effect::PowerOff);
        // acpi_hw_legacy_sleep: first the type, then the type with the enable bit.
        let mut pm = pm();
        assert_eq!(pm.write_control(0, 2, off & !u32::from(SLP_EN)), Effect::None);
        assert_eq!(pm.write_control(0, 2, off), Effect::PowerOff);
    }

    #[test]
    fn other_sleep_types_do_nothing() {
        let mut pm = pm();
        assert_eq!(pm.write_control(0, 2, u32::from(SLP_EN) | 1 << SLP_TYP_SHIFT), Effect::None);
        assert_eq!(pm.read_control(0, 2), 0x0401, "type kept, enable write-only, SCI_EN set");
    }

    #[test]
    fn sci_enable_cannot_be_cleared() {
        let mut pm = pm();
        pm.write_control(0, 2, 0);
        assert_eq!(pm.read_control(0, 2), u32::from(SCI_EN));
    }

    #[test]
    fn power_button_is_a_level_until_cleared() {
        let mut pm = pm();
        pm.press_power_button();
        assert!(!pm.sci(), "not enabled");
        pm.write_events(ENABLE, 2, u32::from(PWRBTN), 0);
        assert!(pm.sci());
        assert_eq!(pm.read_events(STATUS, 4, 0), 0x0100_0100);
        pm.write_events(STATUS, 2, u32::from(GBL), 0);
        assert!(pm.sci(), "another bit cleared");
        pm.write_events(STATUS, 2, u32::from(PWRBTN), 0);
        assert!(!pm.sci());
        assert_eq!(pm.read_events(ENABLE, 2, 0), u32::from(PWRBTN));
    }

    #[test]
    fn timer_interrupt_at_each_change_of_the_top_bit() {
        let mut pm = pm();
        assert_eq!(pm.deadline(), NEVER);
        pm.write_events(ENABLE, 2, u32::from(TMR), 0);
        assert_eq!(pm.deadline(), 1 << 31);
        pm.advance((1 << 31) - 1);
        assert!(!pm.sci());
        pm.advance(1 << 31);
        assert!(pm.sci());
        assert_eq!(pm.deadline(), NEVER, "already asserted");
        pm.write_events(STATUS, 2, u32::from(TMR), 1 << 31);
        assert!(!pm.sci());
        assert_eq!(pm.deadline(), 1 << 32);
    }

    #[test]
    fn enable_bits_that_do_not_exist_stay_zero() {
        let mut pm = pm();
        pm.write_events(ENABLE, 2, 0xffff, 0);
        assert_eq!(pm.read_events(ENABLE, 2, 0), u32::from(EN_MASK));
    }

    #[test]
    fn general_purpose_events_never_happen() {
        let mut pm = pm();
        pm.write_gpe(2, 1, 0xa5);
        pm.write_gpe(0, 2, 0xffff);
        assert_eq!(pm.read_gpe(0, 4), 0x00a5_0000);
        assert!(!pm.sci());
    }
}
