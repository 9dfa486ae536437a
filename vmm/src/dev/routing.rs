//! Interrupts between the devices: lines to controllers, messages to local APICs, and what a vCPU has pending.
//!
//! Each ISA line goes to the PIC and to the I/O APIC pin of the same number, the timer's to pin 2. The PIC's output goes
//! to LINT0 of every local APIC and to I/O APIC pin 0.

use super::lapic::{Ipi, Lapic, Outcome, Shorthand};
use super::message::{DeliveryMode, Message};
use super::pit::PIT_IRQ;
use super::{Effect, IpiEvent, IpiKind, Pending, Platform, VcpuSet};
use crate::layout;

/// I/O APIC pin that carries the PIC's output ("ExtINT" in MP tables).
const EXTINT_PIN: u8 = 0;
/// I/O APIC pin of the timer's line.
const PIT_PIN: u8 = layout::PIT_GSI as u8;

impl Platform {
    /// What `vcpu` would take now, if its state allows it.
    pub fn pending(&self, vcpu: usize) -> Option<Pending> {
        if self.lapics.get(vcpu)?.nmi_pending() { Some(Pending::Nmi) } else { self.pending_interrupt(vcpu) }
    }

    /// The same while NMIs are blocked.
    pub fn pending_interrupt(&self, vcpu: usize) -> Option<Pending> {
        let lapic = self.lapics.get(vcpu)?;
        let vector = if self.intr && lapic.passes_extint() { self.pic.peek() } else { lapic.pending_vector() };
        vector.map(Pending::Interrupt)
    }

    /// Whether `vcpu` has something pending.
    pub fn has_pending(&self, vcpu: usize) -> bool {
        self.pending(vcpu).is_some()
    }

    /// `vcpu` takes what it has pending: the caller injects it.
    pub fn ack(&mut self, vcpu: usize) -> Option<Pending> {
        if !self.lapics.get_mut(vcpu)?.take_nmi() {
            return self.ack_interrupt(vcpu);
        }
        self.woken.take(vcpu);
        Some(Pending::Nmi)
    }

    /// The same while NMIs are blocked.
    pub fn ack_interrupt(&mut self, vcpu: usize) -> Option<Pending> {
        let lapic = self.lapics.get_mut(vcpu)?;
        self.woken.take(vcpu);
        if !(self.intr && lapic.passes_extint()) {
            return lapic.take_vector().map(Pending::Interrupt);
        }
        lapic.extint_taken();
        let vector = self.pic.acknowledge();
        // The output drops with the acknowledge, and rises again if there is another request.
        self.set_intr(false);
        self.sync_intr();
        Some(Pending::Interrupt(vector))
    }

    /// The vCPUs for which something new may have come since this was last asked, and which have not taken anything
    /// since: whoever waits or runs has to be told.
    pub fn take_woken(&mut self) -> VcpuSet {
        std::mem::take(&mut self.woken)
    }

    /// The task priority class of `vcpu` as CR8 shows it.
    pub fn cr8(&self, vcpu: usize) -> u8 {
        self.lapics.get(vcpu).map_or(0, |lapic| lapic.tpr() >> 4)
    }

    /// `vcpu` writes CR8.
    pub fn set_cr8(&mut self, vcpu: usize, value: u8) {
        if let Some(lapic) = self.lapics.get_mut(vcpu) {
            lapic.set_tpr(value << 4);
        }
    }

    /// Drives ISA interrupt line `irq`.
    pub(super) fn set_line(&mut self, irq: u8, asserted: bool) {
        let bit = 1 << irq;
        if (self.lines & bit != 0) == asserted {
            return;
        }
        self.lines ^= bit;
        self.pic.set_line(irq, asserted);
        self.set_pin(if irq == PIT_IRQ { PIT_PIN } else { irq }, asserted);
        self.sync_intr();
    }

    /// One edge on ISA interrupt line `irq`.
    pub(super) fn pulse_line(&mut self, irq: u8) {
        self.set_line(irq, true);
        self.set_line(irq, false);
    }

    /// After a change in the PIC: its output to where it is wired.
    pub(super) fn sync_intr(&mut self) {
        self.set_intr(self.pic.intr());
    }

    fn set_intr(&mut self, asserted: bool) {
        if self.intr == asserted {
            return;
        }
        self.intr = asserted;
        self.set_pin(EXTINT_PIN, asserted);
        if !asserted {
            return;
        }
        for (vcpu, lapic) in self.lapics.iter_mut().enumerate() {
            if lapic.raise_lint0() {
                self.woken.insert(vcpu);
            }
        }
    }

    fn set_pin(&mut self, pin: u8, asserted: bool) {
        if let Some(message) = self.ioapic.set_line(pin, asserted) {
            self.deliver_pin(pin, message);
        }
    }

    /// Lets each of `pins` send what it has to.
    pub(super) fn service_pins(&mut self, pins: u32) {
        let mut left = pins;
        while left != 0 {
            let pin = left.trailing_zeros() as u8;
            left &= left - 1;
            if let Some(message) = self.ioapic.request(pin) {
                self.deliver_pin(pin, message);
            }
        }
    }

    fn deliver_pin(&mut self, pin: u8, message: Message) {
        let targets = self.targets(|_, lapic| lapic.is_destination(message.destination));
        if self.deliver(message, targets) {
            self.ioapic.accepted(pin);
        }
    }

    /// What a register write of `vcpu`'s local APIC means for the others.
    pub(super) fn carry_out(&mut self, vcpu: usize, outcome: Outcome) -> Effect {
        match outcome {
            Outcome::Nothing => Effect::None,
            Outcome::Ended(vector) => {
                let pins = self.ioapic.eoi(vector);
                self.service_pins(pins);
                Effect::None
            }
            Outcome::Send(ipi) => self.send(vcpu, ipi),
        }
    }

    fn send(&mut self, sender: usize, ipi: Ipi) -> Effect {
        let Ipi { message, shorthand } = ipi;
        let targets = self.targets(|vcpu, lapic| match shorthand {
            Shorthand::None => lapic.is_destination(message.destination),
            Shorthand::OnlySelf => vcpu == sender,
            Shorthand::All => true,
            Shorthand::Others => vcpu != sender,
        });
        let kind = match message.mode {
            DeliveryMode::Init => IpiKind::Init,
            DeliveryMode::Startup => IpiKind::Startup(message.vector),
            _ => {
                self.deliver(message, targets);
                return Effect::None;
            }
        };
        if targets.is_empty() {
            return Effect::None;
        }
        if kind == IpiKind::Init {
            targets.iter().for_each(|vcpu| self.lapics[vcpu].init());
        }
        Effect::Ipi(IpiEvent { kind, targets })
    }

    fn targets(&self, chosen: impl Fn(usize, &Lapic) -> bool) -> VcpuSet {
        self.lapics.iter().enumerate().filter(|(vcpu, lapic)| chosen(*vcpu, lapic)).map(|(vcpu, _)| vcpu).collect()
    }

    /// Delivers to local APICs; whether one accepted.
    fn deliver(&mut self, message: Message, targets: VcpuSet) -> bool {
        if message.mode == DeliveryMode::LowestPriority {
            let able = targets.iter().filter(|vcpu| self.lapics.get(*vcpu).is_some_and(Lapic::is_accepting));
            let Some(vcpu) = able.min_by_key(|vcpu| self.lapics[*vcpu].ppr()) else { return false };
            return self.deliver_to(vcpu, message);
        }
        let mut accepted = false;
        for vcpu in 0..self.lapics.len() {
            if targets.contains(vcpu) {
                accepted |= self.deliver_to(vcpu, message);
            }
        }
        accepted
    }

    fn deliver_to(&mut self, vcpu: usize, message: Message) -> bool {
        let lapic = &mut self.lapics[vcpu];
        let accepted = match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => lapic.accept(message.vector, message.level),
            DeliveryMode::Nmi => {
                lapic.raise_nmi();
                true
            }
            DeliveryMode::ExtInt => {
                lapic.raise_extint();
                true
            }
            // INIT from an I/O APIC and SMIs: no platform of ours has a use for them.
            _ => false,
        };
        // Also a vector that is not accepted can give an interrupt: that of the error.
        self.woken.insert(vcpu);
        accepted
    }
}
