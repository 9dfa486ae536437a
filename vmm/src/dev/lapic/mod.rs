//! The local APIC of one vCPU: priorities, acceptance, local vector table, timer.
//!
//! [`Lapic`] is reached through `registers` (x2APIC MSRs and the xAPIC page) and by the messages that `dev::routing`
//! delivers. What concerns others comes out as an [`Outcome`]. Chapter numbers are those of the Intel SDM, volume 3.

mod bits;
mod registers;
mod spec;
#[cfg(test)]
mod tests;
mod timer;

use super::GpFault;
use super::message::{DeliveryMode, Destination, Message};
use super::timebase::{NEVER, Timebase};
use bits::Vectors;
use spec::*;
use timer::Timer;

pub use spec::{MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC, MSR_X2APIC_LAST};

/// What a register write means for the rest of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Nothing.
    Nothing,
    /// A level-triggered interrupt with this vector has ended.
    Ended(u8),
    /// An interprocessor interrupt is to be sent.
    Send(Ipi),
}

/// An interprocessor interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipi {
    /// What to deliver; its destination counts only without a shorthand.
    pub message: Message,
    /// Receivers by position.
    pub shorthand: Shorthand,
}

/// Destination shorthand (11.6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shorthand {
    /// None: the destination field counts.
    None,
    /// The sender.
    OnlySelf,
    /// Everyone.
    All,
    /// Everyone but the sender.
    Others,
}

/// Mode of operation (11.12.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Off: LINT0 is the processor's INTR pin.
    Disabled,
    /// Registers in memory.
    XApic,
    /// Registers in MSRs.
    X2Apic,
}

/// Registers and timer of one local APIC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapic {
    id: u32,
    /// IA32_APIC_BASE.
    base: u64,
    /// Address bits that the processor does not have.
    base_reserved: u64,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    esr: u32,
    /// Errors since the last write to the error status register.
    errors: u32,
    icr: u64,
    lvt: [u32; LVT_ENTRIES],
    timer: Timer,
    nmi: bool,
    /// An ExtINT message came: the next interrupt is the 8259A's.
    extint: bool,
}

impl Lapic {
    /// State after reset: xAPIC mode, disabled by software. The timer runs on `clock`; addresses have `phys_bits` bits.
    pub fn new(id: u32, bootstrap: bool, clock: Timebase, phys_bits: u8) -> Self {
        let bsp = if bootstrap { BASE_BSP } else { 0 };
        Self {
            id,
            base: crate::layout::LAPIC | BASE_EN | bsp,
            base_reserved: BASE_RESERVED | u64::MAX.checked_shl(u32::from(phys_bits)).unwrap_or(0),
            tpr: 0,
            ldr: 0,
            dfr: DFR_RESET,
            svr: SVR_RESET,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            esr: 0,
            errors: 0,
            icr: 0,
            lvt: [LVT_MASKED; LVT_ENTRIES],
            timer: Timer::new(clock),
            nmi: false,
            extint: false,
        }
    }

    /// Virtual wire mode, as PC firmware leaves the bootstrap processor (MP specification 1.4, 3.6.2.2): enabled, LINT0
    /// takes the 8259A's interrupts, LINT1 is NMI.
    pub fn set_virtual_wire(&mut self) {
        self.svr |= SVR_ENABLED;
        self.lvt[entry(LVT_LINT0)] = MODE_EXTINT << MODE_SHIFT;
        self.lvt[entry(LVT_LINT1)] = MODE_NMI << MODE_SHIFT;
    }

    /// INIT: everything but ID and mode (11.4.7.4, 11.12.5.1).
    pub fn init(&mut self) {
        self.timer.reset();
        *self = Self {
            id: self.id,
            base: self.base,
            base_reserved: self.base_reserved,
            timer: self.timer.clone(),
            ..Self::new(self.id, false, Timebase::new(1, 1), 0)
        };
    }

    /// Mode of operation.
    pub fn mode(&self) -> Mode {
        match self.base & BASE_MODE {
            BASE_MODE => Mode::X2Apic,
            BASE_EN => Mode::XApic,
            _ => Mode::Disabled,
        }
    }

    /// Guest-physical address of the register page, in the mode that has one.
    pub fn page(&self) -> Option<u64> {
        (self.mode() == Mode::XApic).then_some(self.base & !BASE_FLAGS)
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE; transitions as in 11.12.5.
    pub fn set_base(&mut self, value: u64) -> Result<(), GpFault> {
        let (old, new) = (self.base & BASE_MODE, value & BASE_MODE);
        let refused = matches!((old, new), (_, BASE_EXTD) | (BASE_MODE, BASE_EN) | (0, BASE_MODE));
        if refused || value & self.base_reserved != 0 {
            return Err(GpFault);
        }
        self.base = value;
        if new == 0 && old != 0 {
            self.init();
        }
        Ok(())
    }

    /// Whether `destination` means this local APIC.
    pub fn is_destination(&self, destination: Destination) -> bool {
        match (self.mode(), destination) {
            (Mode::Disabled, _) => false,
            (_, Destination::Everyone) => true,
            (_, Destination::Physical(id)) => id == self.id,
            (Mode::X2Apic, Destination::Logical(set)) => {
                let logical_id = self.x2apic_ldr();
                logical_id >> 16 == set >> 16 && logical_id & set & 0xffff != 0
            }
            (Mode::XApic, Destination::Logical(set)) => self.is_in_xapic_set(set),
        }
    }

    /// Takes a vector in; false if the local APIC is off or the vector is not one for interrupts.
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.is_accepting() {
            return false;
        }
        if vector < FIRST_VECTOR {
            self.report_error(ESR_RECEIVE_ILLEGAL);
            return false;
        }
        self.irr.insert(vector);
        if level {
            self.tmr.insert(vector)
        } else {
            self.tmr.remove(vector)
        }
        true
    }

    /// Whether vectors are taken in at all.
    pub fn is_accepting(&self) -> bool {
        self.mode() != Mode::Disabled && self.is_software_enabled()
    }

    /// A non-maskable interrupt comes in.
    pub fn raise_nmi(&mut self) {
        self.nmi = true;
    }

    /// An ExtINT message comes in.
    pub fn raise_extint(&mut self) {
        self.extint = true;
    }

    /// The 8259A asserts LINT0. Whether something new may be pending because of it.
    pub fn raise_lint0(&mut self) -> bool {
        let lint0 = self.lvt[entry(LVT_LINT0)];
        if self.mode() == Mode::Disabled {
            return true;
        }
        if lint0 & LVT_MASKED != 0 {
            return self.extint;
        }
        match DeliveryMode::from_bits(lint0 >> MODE_SHIFT) {
            // Also a vector that is not accepted can give an interrupt: that of the error.
            DeliveryMode::Fixed => _ = self.accept(lint0 as u8, false),
            DeliveryMode::Nmi => self.nmi = true,
            DeliveryMode::ExtInt => {}
            _ => return false,
        }
        true
    }

    /// Whether an interrupt of the 8259A reaches the processor through this local APIC.
    pub fn passes_extint(&self) -> bool {
        let lint0 = self.lvt[entry(LVT_LINT0)];
        let wired = DeliveryMode::from_bits(lint0 >> MODE_SHIFT) == DeliveryMode::ExtInt && lint0 & LVT_MASKED == 0;
        self.extint || wired || self.mode() == Mode::Disabled
    }

    /// The 8259A's interrupt was taken.
    pub fn extint_taken(&mut self) {
        self.extint = false;
    }

    /// Whether an NMI is pending.
    pub fn nmi_pending(&self) -> bool {
        self.nmi
    }

    /// Takes the pending NMI.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    /// The vector that the processor is offered: above its priority.
    pub fn pending_vector(&self) -> Option<u8> {
        let vector = self.irr.highest()?;
        (vector & CLASS > self.ppr() & CLASS).then_some(vector)
    }

    /// The processor takes the vector that it is offered.
    pub fn take_vector(&mut self) -> Option<u8> {
        let vector = self.pending_vector()?;
        self.irr.remove(vector);
        self.isr.insert(vector);
        Some(vector)
    }

    /// Task priority.
    pub fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Sets the task priority.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
    }

    /// Processor priority (11.8.3.1).
    pub fn ppr(&self) -> u8 {
        let in_service = self.isr.highest().unwrap_or(0) & CLASS;
        if self.tpr & CLASS >= in_service { self.tpr } else { in_service }
    }

    /// TSC value at which the timer interrupts next. A masked timer needs nobody to watch it.
    pub fn deadline(&self) -> u64 {
        match self.lvt[entry(LVT_TIMER)] & LVT_MASKED {
            0 => self.timer.deadline(),
            _ => NEVER,
        }
    }

    /// Lets the timer fire if it is due. Whether it did, which may have given an interrupt: also with a vector that is
    /// not accepted, that of the error.
    pub fn advance(&mut self, now: u64) -> bool {
        let fired = self.timer.advance(now);
        if fired {
            self.raise_local(LVT_TIMER);
        }
        fired
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.timer.tsc_deadline()
    }

    /// Writes IA32_TSC_DEADLINE; a moment that has passed fires at once.
    pub fn set_tsc_deadline(&mut self, tsc: u64, now: u64) {
        self.advance(now);
        self.timer.set_tsc_deadline(tsc);
        self.advance(now);
    }

    fn is_software_enabled(&self) -> bool {
        self.svr & SVR_ENABLED != 0
    }

    /// Posts the interrupt of an entry of the local vector table, unless it is masked.
    fn raise_local(&mut self, register: u8) -> bool {
        let lvt = self.lvt[entry(register)];
        lvt & LVT_MASKED == 0 && self.accept(lvt as u8, false)
    }

    fn report_error(&mut self, error: u32) {
        self.errors |= error;
        let lvt = self.lvt[entry(LVT_ERROR)];
        if lvt & LVT_MASKED == 0 && lvt as u8 >= FIRST_VECTOR {
            self.irr.insert(lvt as u8);
        }
    }

    fn end_of_interrupt(&mut self) -> Outcome {
        let Some(vector) = self.isr.highest() else { return Outcome::Nothing };
        self.isr.remove(vector);
        if self.tmr.contains(vector) { Outcome::Ended(vector) } else { Outcome::Nothing }
    }

    /// Logical ID in x2APIC mode: cluster and position follow from the ID (11.12.10.2).
    fn x2apic_ldr(&self) -> u32 {
        (self.id >> 4) << 16 | 1 << (self.id & 0xf)
    }

    /// Logical destinations in xAPIC mode: flat or cluster model (11.6.2.2).
    fn is_in_xapic_set(&self, set: u32) -> bool {
        let logical_id = self.ldr >> XAPIC_ID_SHIFT;
        if set > 0xff {
            return false;
        }
        if self.dfr | DFR_ONES == DFR_RESET {
            return logical_id & set != 0;
        }
        (set >> 4 == 0xf || set >> 4 == logical_id >> 4) && logical_id & set & 0xf != 0
    }
}

/// Position in the local vector table.
fn entry(register: u8) -> usize {
    usize::from(register - LVT_TIMER)
}
