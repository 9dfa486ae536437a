//! Register access of the local APIC: what both modes share, and what each adds.
//!
//! In x2APIC mode a wrong access is a #GP (11.12.1.3); in xAPIC mode it is noted in the error status register.

use super::spec::*;
use super::{Ipi, Lapic, Mode, Outcome, Shorthand, entry};
use crate::dev::GpFault;
use crate::dev::message::{DeliveryMode, Destination, Message};

impl Lapic {
    /// Reads an MSR of the x2APIC range.
    pub fn read_msr(&mut self, msr: u32, now: u64) -> Result<u64, GpFault> {
        let register = self.x2apic_register(msr)?;
        match register {
            ID => Ok(u64::from(self.id)),
            LDR => Ok(u64::from(self.x2apic_ldr())),
            ICR => Ok(self.icr),
            _ => self.read_shared(register, now).map(u64::from).ok_or(GpFault),
        }
    }

    /// Writes an MSR of the x2APIC range.
    pub fn write_msr(&mut self, msr: u32, value: u64, now: u64) -> Result<Outcome, GpFault> {
        let register = self.x2apic_register(msr)?;
        if value & !x2apic_writable(register).ok_or(GpFault)? != 0 {
            return Err(GpFault);
        }
        match register {
            ICR => {
                let destination = Destination::from_x2apic((value >> 32) as u32, value as u32 & ICR_LOGICAL != 0);
                self.icr = value;
                Ok(self.command(destination))
            }
            SELF_IPI => Ok(self.self_ipi(value as u8)),
            _ => self.write_shared(register, value as u32, now).ok_or(GpFault),
        }
    }

    /// Reads the register at `offset` of the xAPIC page.
    pub fn read_page(&mut self, offset: u16, now: u64) -> u32 {
        let register = (offset >> 4) as u8;
        match register {
            ID => self.id << XAPIC_ID_SHIFT,
            LDR => self.ldr,
            DFR => self.dfr,
            ICR => self.icr as u32,
            ICR_HIGH => (self.icr >> 32) as u32,
            APR => u32::from(self.ppr()),
            EOI | RRD => 0,
            _ => self.read_shared(register, now).unwrap_or_else(|| self.illegal_register()),
        }
    }

    /// Writes the register at `offset` of the xAPIC page.
    pub fn write_page(&mut self, offset: u16, value: u32, now: u64) -> Outcome {
        let register = (offset >> 4) as u8;
        match register {
            LDR => self.ldr = value & (0xff << XAPIC_ID_SHIFT),
            DFR => self.dfr = value | DFR_ONES,
            ICR_HIGH => self.icr = self.icr & u64::from(u32::MAX) | u64::from(value & (0xff << XAPIC_ID_SHIFT)) << 32,
            ICR => {
                self.icr = self.icr & !u64::from(u32::MAX) | u64::from(value & ICR_BITS & !ICR_STATUS);
                let destination = Destination::from_xapic((self.icr >> 56) as u8, value & ICR_LOGICAL != 0);
                return self.command(destination);
            }
            // Read-only registers ignore writes.
            ID | VERSION | APR | PPR | RRD | ISR..=IRR_LAST | TIMER_CURRENT => {}
            _ => {
                let outcome = self.write_shared(register, value, now);
                return outcome.unwrap_or_else(|| {
                    self.illegal_register();
                    Outcome::Nothing
                });
            }
        }
        Outcome::Nothing
    }

    fn x2apic_register(&self, msr: u32) -> Result<u8, GpFault> {
        match self.mode() {
            Mode::X2Apic => u8::try_from(msr.wrapping_sub(MSR_X2APIC)).map_err(|_| GpFault),
            _ => Err(GpFault),
        }
    }

    fn read_shared(&mut self, register: u8, now: u64) -> Option<u32> {
        Some(match register {
            VERSION => VERSION_VALUE,
            TPR => u32::from(self.tpr),
            PPR => u32::from(self.ppr()),
            SVR => self.svr,
            ISR..TMR => self.isr.register(register - ISR),
            TMR..IRR => self.tmr.register(register - TMR),
            IRR..=IRR_LAST => self.irr.register(register - IRR),
            ESR => self.esr,
            LVT_TIMER..=LVT_ERROR => self.lvt[entry(register)],
            TIMER_INITIAL => self.timer.initial(),
            TIMER_CURRENT => {
                self.advance(now);
                self.timer.current(now)
            }
            TIMER_DIVIDE => self.timer.divide(),
            _ => return None,
        })
    }

    fn write_shared(&mut self, register: u8, value: u32, now: u64) -> Option<Outcome> {
        match register {
            TPR => self.tpr = value as u8,
            EOI => return Some(self.end_of_interrupt()),
            SVR => self.write_svr(value),
            ESR => self.esr = std::mem::take(&mut self.errors),
            LVT_TIMER..=LVT_ERROR => self.write_lvt(register, value, now),
            TIMER_INITIAL => {
                self.advance(now);
                self.timer.set_initial(value, now);
            }
            TIMER_DIVIDE => {
                self.advance(now);
                self.timer.set_divide(value, now);
            }
            _ => return None,
        }
        Some(Outcome::Nothing)
    }

    fn write_svr(&mut self, value: u32) {
        self.svr = value & SVR_MASK;
        if !self.is_software_enabled() {
            self.lvt.iter_mut().for_each(|lvt| *lvt |= LVT_MASKED);
        }
    }

    fn write_lvt(&mut self, register: u8, value: u32, now: u64) {
        // What is due happens under the old mask and mode.
        self.advance(now);
        let index = entry(register);
        let forced = if self.is_software_enabled() { 0 } else { LVT_MASKED };
        self.lvt[index] = value & LVT_BITS[index] & !LVT_READ_ONLY | forced;
        if register == LVT_TIMER {
            self.timer.set_mode(value & LVT_TIMER_MODE);
        }
    }

    fn self_ipi(&mut self, vector: u8) -> Outcome {
        if vector < FIRST_VECTOR {
            self.report_error(ESR_SEND_ILLEGAL);
        } else {
            self.accept(vector, false);
        }
        Outcome::Nothing
    }

    /// Carries out what is in the interrupt command register.
    fn command(&mut self, destination: Destination) -> Outcome {
        let icr = self.icr as u32;
        let (mode, vector) = (DeliveryMode::from_bits(icr >> MODE_SHIFT), icr as u8);
        match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority if vector < FIRST_VECTOR => {
                self.report_error(ESR_SEND_ILLEGAL);
                return Outcome::Nothing;
            }
            // INIT level de-assert: only the arbitration IDs of old processors heard it.
            DeliveryMode::Init if icr & (ICR_LEVEL | ICR_ASSERT) == ICR_LEVEL => return Outcome::Nothing,
            DeliveryMode::Smi | DeliveryMode::ExtInt | DeliveryMode::Reserved => return Outcome::Nothing,
            _ => {}
        }
        let shorthand = match icr >> ICR_SHORTHAND_SHIFT & 3 {
            0 => Shorthand::None,
            1 => Shorthand::OnlySelf,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        };
        // Interprocessor interrupts are edge-triggered whatever the bit says (11.6.1, "Trigger Mode").
        Outcome::Send(Ipi { message: Message { mode, vector, level: false, destination }, shorthand })
    }

    fn illegal_register(&mut self) -> u32 {
        self.report_error(ESR_ILLEGAL_REGISTER);
        0
    }
}

/// The bits of a register that may be ones in a write through its MSR; `None` if it cannot be written (table 11-6).
fn x2apic_writable(register: u8) -> Option<u64> {
    Some(match register {
        TPR | SELF_IPI => 0xff,
        EOI | ESR => 0,
        SVR => u64::from(SVR_MASK),
        ICR => u64::from(u32::MAX) << 32 | u64::from(ICR_BITS),
        LVT_TIMER..=LVT_ERROR => u64::from(LVT_BITS[entry(register)]),
        TIMER_INITIAL => u64::from(u32::MAX),
        TIMER_DIVIDE => u64::from(DIVIDE_BITS),
        _ => return None,
    })
}
