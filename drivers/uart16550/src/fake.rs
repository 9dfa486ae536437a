//! A UART at register level for tests: both sides of the wire, interrupt line with its edges, and a record of all
//! register accesses.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::device::Ports;
use crate::spec::{FIFO_DEPTH, fcr, ier, iir, lcr, lsr, mcr, reg};

/// One register access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    In(u16, u8),
    Out(u16, u8),
}

/// The chip, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Chip {
    pub(crate) accesses: Vec<Access>,
    /// Nothing at these ports.
    pub(crate) absent: bool,
    /// The modem inputs do not follow in loopback.
    pub(crate) deaf: bool,
    /// No FIFOs (16450).
    pub(crate) no_fifo: bool,
    /// IIR always reports this cause.
    pub(crate) stuck: Option<u8>,
    pub(crate) divisor: [u8; 2],
    pub(crate) ier: u8,
    pub(crate) mcr: u8,
    lcr: u8,
    scr: u8,
    fifos_on: bool,
    rx: VecDeque<(u8, u8)>,
    overrun: bool,
    tx: VecDeque<u8>,
    thre_event: bool,
    pub(crate) wire: Vec<u8>,
    /// Most bytes the transmitter ever held.
    pub(crate) tx_overflow: bool,
    line: bool,
    /// Rising edges of the interrupt line since the last [`Fake::take_edges`].
    edges: usize,
}

impl Chip {
    fn depth(&self) -> usize {
        if self.fifos_on { FIFO_DEPTH } else { 1 }
    }

    fn lsr(&mut self) -> u8 {
        let mut v = 0;
        if let Some((_, errors)) = self.rx.front_mut() {
            v |= lsr::DR | std::mem::take(errors);
        }
        if std::mem::take(&mut self.overrun) {
            v |= lsr::OE;
        }
        if self.tx.is_empty() {
            v |= lsr::THRE | lsr::TEMT;
        }
        v
    }

    /// The cause of highest priority (table IV).
    fn cause(&self) -> Option<u8> {
        if self.stuck.is_some() && self.ier != 0 {
            return self.stuck;
        }
        let errors = self.overrun || self.rx.front().is_some_and(|(_, e)| *e != 0);
        [
            (ier::ELSI, errors, iir::LINE_STATUS),
            (ier::ERBFI, self.rx.len() >= 8 || (!self.fifos_on && !self.rx.is_empty()), iir::RECEIVED),
            (ier::ERBFI, !self.rx.is_empty(), iir::TIMEOUT),
            (ier::ETBEI, self.thre_event, iir::THR_EMPTY),
        ]
        .into_iter()
        .find_map(|(enable, pending, id)| (self.ier & enable != 0 && pending).then_some(id))
    }

    fn update_line(&mut self) {
        let line = self.mcr & mcr::OUT2 != 0 && self.cause().is_some();
        self.edges += usize::from(line && !self.line);
        self.line = line;
    }

    fn read(&mut self, r: u16) -> u8 {
        match r {
            reg::RBR => self.rx.pop_front().map_or(0, |(byte, _)| byte),
            reg::IER => self.ier,
            reg::IIR => {
                let fifos = if self.fifos_on { iir::FIFOS_ENABLED } else { 0 };
                let cause = self.cause();
                if cause == Some(iir::THR_EMPTY) {
                    self.thre_event = false;
                }
                fifos | cause.unwrap_or(iir::NOT_PENDING)
            }
            reg::LCR => self.lcr,
            reg::MCR => self.mcr,
            reg::LSR => self.lsr(),
            // RTS, DTR, OUT1, OUT2 come in as CTS, DSR, RI, DCD.
            reg::MSR if self.mcr & mcr::LOOP != 0 && !self.deaf => {
                let out = self.mcr;
                (out & mcr::RTS) << 3 | (out & mcr::DTR) << 5 | (out & mcr::OUT1) << 4 | (out & mcr::OUT2) << 4
            }
            reg::MSR => 0,
            reg::SCR => self.scr,
            _ => panic!("read of register {r}"),
        }
    }

    fn write(&mut self, r: u16, v: u8) {
        match r {
            reg::DLL | reg::DLM if self.lcr & lcr::DLAB != 0 => self.divisor[usize::from(r)] = v,
            reg::THR => {
                self.tx_overflow |= self.tx.len() >= self.depth();
                self.tx.push_back(v);
                self.thre_event = false;
            }
            reg::IER => {
                // Turning ETBEI on with an empty transmitter interrupts at once.
                self.thre_event |= v & !self.ier & ier::ETBEI != 0 && self.tx.is_empty();
                self.ier = v;
            }
            reg::FCR => {
                self.fifos_on = v & fcr::ENABLE != 0 && !self.no_fifo;
                if v & fcr::RCVR_RESET != 0 {
                    self.rx.clear();
                }
                if v & fcr::XMIT_RESET != 0 {
                    self.tx.clear();
                }
            }
            reg::LCR => self.lcr = v,
            reg::MCR => self.mcr = v,
            reg::SCR => self.scr = v,
            _ => panic!("write of register {r}"),
        }
    }
}

/// Handle to a [`Chip`]; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fake(pub(crate) Rc<RefCell<Chip>>);

impl Ports for Fake {
    fn in8(&mut self, r: u16) -> u8 {
        let mut chip = self.0.borrow_mut();
        let v = if chip.absent { 0xff } else { chip.read(r) };
        chip.accesses.push(Access::In(r, v));
        // Sending goes on meanwhile, if only while somebody polls.
        if r == reg::LSR && chip.ier == 0 {
            let byte = chip.tx.pop_front();
            chip.wire.extend(byte);
        }
        chip.update_line();
        v
    }

    fn out8(&mut self, r: u16, v: u8) {
        let mut chip = self.0.borrow_mut();
        chip.accesses.push(Access::Out(r, v));
        if !chip.absent {
            chip.write(r, v);
        }
        chip.update_line();
    }
}

impl Fake {
    /// Bytes come in over the wire.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.inject_with(*b, 0));
    }

    /// A byte comes in with error bits of LSR.
    pub(crate) fn inject_with(&self, byte: u8, errors: u8) {
        let mut chip = self.0.borrow_mut();
        if chip.rx.len() < chip.depth() {
            chip.rx.push_back((byte, errors));
        } else {
            chip.overrun = true;
        }
        chip.update_line();
    }

    /// Up to `count` bytes go out over the wire.
    pub(crate) fn send(&self, count: usize) {
        let mut chip = self.0.borrow_mut();
        let count = count.min(chip.tx.len());
        let bytes: Vec<u8> = chip.tx.drain(..count).collect();
        chip.thre_event |= count > 0 && chip.tx.is_empty();
        chip.wire.extend(bytes);
        chip.update_line();
    }

    pub(crate) fn take_edges(&self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().edges)
    }

    pub(crate) fn take_accesses(&self) -> Vec<Access> {
        std::mem::take(&mut self.0.borrow_mut().accesses)
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        self.0.borrow().wire.clone()
    }
}
