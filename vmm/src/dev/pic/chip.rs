//! One 8259A: registers, priorities, initialisation. The pair of a PC is in the parent module.

use super::spec::*;

/// Which initialisation word the data port expects next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Icw2,
    Icw3,
    Icw4,
    /// Initialised: the data port is the mask register.
    Ocw1,
}

/// Registers of one 8259A. Inputs are numbered 0..=7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chip {
    /// Requests: latched edges, and the level-triggered inputs that are asserted.
    irr: u8,
    isr: u8,
    imr: u8,
    lines: u8,
    elcr: u8,
    vector_base: u8,
    /// Input with the lowest priority; the one after it has the highest.
    lowest: u8,
    expect: Expect,
    icw4_follows: bool,
    single: bool,
    automatic_eoi: bool,
    rotate_on_aeoi: bool,
    special_mask: bool,
    /// Special fully nested: the inputs in this mask do not block themselves while in service.
    nested: u8,
    poll: bool,
    read_isr: bool,
}

impl Chip {
    pub(super) fn new() -> Self {
        Self {
            irr: 0,
            isr: 0,
            imr: 0xff,
            lines: 0,
            elcr: 0,
            vector_base: 0,
            lowest: 7,
            expect: Expect::Ocw1,
            icw4_follows: false,
            single: false,
            automatic_eoi: false,
            rotate_on_aeoi: false,
            special_mask: false,
            nested: 0,
            poll: false,
            read_isr: false,
        }
    }

    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, elcr: u8) {
        self.elcr = elcr;
        self.irr = (self.irr & !elcr) | (self.lines & elcr);
    }

    pub(super) fn set_line(&mut self, input: u8, asserted: bool) {
        let bit = 1 << input;
        let rising = asserted && self.lines & bit == 0;
        self.lines = if asserted { self.lines | bit } else { self.lines & !bit };
        if self.elcr & bit != 0 {
            self.irr = (self.irr & !bit) | (self.lines & bit);
        } else if rising {
            self.irr |= bit;
        }
    }

    /// Input that follows another chip's output as it is: the cascade needs no edge.
    pub(super) fn follow(&mut self, input: u8, asserted: bool) {
        let bit = 1 << input;
        self.irr = if asserted { self.irr | bit } else { self.irr & !bit };
    }

    /// The request that the INT output stands for.
    pub(super) fn request(&self) -> Option<u8> {
        let candidate = self.first(self.irr & !self.imr)?;
        let blocking = self.isr & !self.nested & if self.special_mask { !self.imr } else { 0xff };
        match self.first(blocking) {
            Some(serving) if self.rank(serving) <= self.rank(candidate) => None,
            _ => Some(candidate),
        }
    }

    pub(super) fn vector(&self, input: u8) -> u8 {
        self.vector_base | input
    }

    /// Interrupt acknowledge for `input`.
    pub(super) fn acknowledge(&mut self, input: u8) {
        let bit = 1 << input;
        if self.elcr & bit == 0 {
            self.irr &= !bit;
        }
        if !self.automatic_eoi {
            self.isr |= bit;
        } else if self.rotate_on_aeoi {
            self.lowest = input;
        }
    }

    pub(super) fn write(&mut self, offset: u16, value: u8) {
        match (offset, self.expect) {
            (COMMAND, _) if value & ICW1_INIT != 0 => self.initialise(value),
            (COMMAND, _) if value & OCW3 != 0 => self.ocw3(value),
            (COMMAND, _) => self.ocw2(value),
            (_, Expect::Ocw1) => self.imr = value,
            (_, Expect::Icw2) => {
                self.vector_base = value & ICW2_VECTOR;
                self.expect = if self.single { self.after_icw3() } else { Expect::Icw3 };
            }
            (_, Expect::Icw3) => self.expect = self.after_icw3(),
            (_, Expect::Icw4) => self.icw4(value),
        }
    }

    pub(super) fn read(&mut self, offset: u16) -> u8 {
        if self.poll {
            self.poll = false;
            return match self.request() {
                Some(input) => {
                    self.acknowledge(input);
                    POLL_FOUND | input
                }
                None => 0,
            };
        }
        match (offset, self.read_isr) {
            (COMMAND, true) => self.isr,
            (COMMAND, false) => self.irr,
            _ => self.imr,
        }
    }

    fn initialise(&mut self, icw1: u8) {
        *self = Self {
            // The edge detection starts afresh; asserted level-triggered inputs keep asking.
            irr: self.lines & self.elcr,
            imr: 0,
            lines: self.lines,
            elcr: self.elcr,
            vector_base: self.vector_base,
            expect: Expect::Icw2,
            icw4_follows: icw1 & ICW1_IC4 != 0,
            single: icw1 & ICW1_SNGL != 0,
            ..Self::new()
        };
    }

    fn after_icw3(&self) -> Expect {
        if self.icw4_follows { Expect::Icw4 } else { Expect::Ocw1 }
    }

    fn icw4(&mut self, value: u8) {
        self.automatic_eoi = value & ICW4_AEOI != 0;
        self.nested = if value & ICW4_SFNM != 0 { 1 << CASCADE } else { 0 };
        self.expect = Expect::Ocw1;
    }

    fn ocw2(&mut self, value: u8) {
        let named = value & 7;
        match value >> 5 {
            OCW2_EOI => self.end(self.first(self.isr), false),
            OCW2_ROTATE_EOI => self.end(self.first(self.isr), true),
            OCW2_SPECIFIC_EOI => self.end(Some(named), false),
            OCW2_ROTATE_SPECIFIC_EOI => self.end(Some(named), true),
            OCW2_SET_PRIORITY => self.lowest = named,
            OCW2_ROTATE_AEOI_SET => self.rotate_on_aeoi = true,
            OCW2_ROTATE_AEOI_CLEAR => self.rotate_on_aeoi = false,
            _ => {}
        }
    }

    fn ocw3(&mut self, value: u8) {
        if value & OCW3_ESMM != 0 {
            self.special_mask = value & OCW3_SMM != 0;
        }
        if value & OCW3_RR != 0 {
            self.read_isr = value & OCW3_RIS != 0;
        }
        self.poll = value & OCW3_P != 0;
    }

    fn end(&mut self, input: Option<u8>, rotate: bool) {
        let Some(input) = input else { return };
        self.isr &= !(1 << input);
        if rotate {
            self.lowest = input;
        }
    }

    /// Distance from the highest priority.
    fn rank(&self, input: u8) -> u8 {
        input.wrapping_sub(self.lowest + 1) & 7
    }

    /// The input of `set` with the highest priority.
    fn first(&self, set: u8) -> Option<u8> {
        let highest = (self.lowest + 1) & 7;
        let rank = set.rotate_right(u32::from(highest)).trailing_zeros() as u8;
        (set != 0).then_some((rank + highest) & 7)
    }
}
