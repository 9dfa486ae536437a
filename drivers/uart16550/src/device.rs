//! The UART as a state machine between its registers and two byte streams.
//!
//! The caller passes both streams to each call: a sink that takes received bytes and says how many it took, and a
//! source that fills a buffer with bytes to send and says how many there were. Both may fall short at any time; after
//! the caller learns that they may move again, it calls [`Uart::kick`].
//!
//! The interrupt may be edge-triggered (it is on a PC's COM1), so [`Uart::service`] must leave no cause pending: a
//! cause that stays makes no further edge.

use std::collections::VecDeque;

use crate::config::Baud;
use crate::health::{LineErrors, Reporter};
use crate::spec::{FIFO_DEPTH, fcr, ier, iir, lcr, lsr, mcr, msr, reg};

/// Register access; `reg` is an offset of [`crate::spec::reg`].
pub trait Ports {
    /// Reads a register.
    fn in8(&mut self, reg: u16) -> u8;
    /// Writes a register.
    fn out8(&mut self, reg: u16, value: u8);
}

/// Received bytes that are kept here while the sink takes none. Then the UART's own FIFO fills, and then it loses
/// bytes and reports overruns, which are counted.
pub const RX_BACKLOG: usize = 256;
/// Most rounds of one [`Uart::service`] before it lets others have their turn.
const SERVICE_ROUNDS: usize = 64;
/// Most reads of LSR to wait for what somebody else is still sending; a read takes about 1 µs on real hardware, and
/// a full FIFO 1.5 ms at 115200 baud.
const DRAIN_READS: usize = 100_000;
/// MCR in operation. OUT2 lets the interrupt through.
const MCR_RUNNING: u8 = mcr::DTR | mcr::RTS | mcr::OUT2;
/// Interrupts of the receiver.
const IER_RX: u8 = ier::ERBFI | ier::ELSI;

/// Why there is no UART to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The scratchpad does not hold what is written to it.
    #[error("no UART there: wrote {wrote:#04x} to its scratch register and read {read:#04x}")]
    NoScratch {
        /// Value written.
        wrote: u8,
        /// Value read back.
        read: u8,
    },
    /// In loopback, the modem inputs do not follow the modem outputs.
    #[error("no working UART there: in loopback its modem status is {read:#04x}, not {expected:#04x}")]
    NoLoopback {
        /// MSR as it should be.
        expected: u8,
        /// MSR as it is.
        read: u8,
    },
}

/// A UART in operation.
#[derive(Debug)]
pub struct Uart<P> {
    ports: P,
    /// Bytes that one empty-transmitter event makes room for.
    depth: usize,
    /// What IER holds.
    ier: u8,
    /// Received, not yet taken by the sink.
    backlog: VecDeque<u8>,
    /// Whether the receiver is off because the backlog is full.
    throttled: bool,
    /// The next bytes to send, taken from the source already.
    load: Load,
    errors: LineErrors,
    reporter: Reporter,
}

/// Up to one FIFO of bytes.
#[derive(Debug, Default)]
struct Load {
    bytes: [u8; FIFO_DEPTH],
    len: usize,
}

impl<P: Ports> Uart<P> {
    /// Finds the UART, waits until it has sent what it holds, and sets it to `baud`, 8 data bits, no parity, 1 stop
    /// bit, FIFOs on, receiver interrupts on.
    pub fn open(mut ports: P, baud: Baud) -> Result<Uart<P>, OpenError> {
        check_scratch(&mut ports)?;
        drain_transmitter(&mut ports);
        ports.out8(reg::LCR, lcr::WLS_8);
        ports.out8(reg::IER, 0);
        check_loopback(&mut ports)?;
        set_divisor(&mut ports, baud.divisor());
        let depth = enable_fifos(&mut ports);
        ports.out8(reg::MCR, MCR_RUNNING);
        for stale in [reg::LSR, reg::RBR, reg::IIR, reg::MSR] {
            ports.in8(stale);
        }
        let mut uart = Uart {
            ports,
            depth,
            ier: 0,
            backlog: VecDeque::with_capacity(RX_BACKLOG),
            throttled: false,
            load: Load::default(),
            errors: LineErrors::default(),
            reporter: Reporter::new(),
        };
        uart.set_ier(IER_RX, true);
        Ok(uart)
    }

    /// Bytes the transmitter takes at once: 16, or 1 without working FIFOs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Serves all pending causes of the interrupt.
    pub fn service(&mut self, sink: &mut impl FnMut(&[u8]) -> usize, source: &mut impl FnMut(&mut [u8]) -> usize) {
        let mut moved = 0;
        for _ in 0..SERVICE_ROUNDS {
            let id = self.ports.in8(reg::IIR);
            if id & iir::NOT_PENDING != 0 {
                return;
            }
            if id & iir::ID == iir::MODEM_STATUS {
                self.ports.in8(reg::MSR);
            }
            moved += self.receive(sink) + self.transmit(source);
        }
        if moved == 0 {
            self.errors.storms += 1;
        }
        // Whatever is still pending makes a new edge.
        self.ports.out8(reg::IER, 0);
        self.ports.out8(reg::IER, self.ier);
    }

    /// Continues after the sink may have room again or the source may have bytes again.
    pub fn kick(&mut self, sink: &mut impl FnMut(&[u8]) -> usize, source: &mut impl FnMut(&mut [u8]) -> usize) {
        self.flush(sink);
        self.update_throttle();
        self.transmit(source);
    }

    /// The error counts, if they have grown enough since the last time to be logged.
    pub fn error_report(&mut self) -> Option<LineErrors> {
        self.reporter.is_due(self.errors.total()).then_some(self.errors)
    }

    /// Moves bytes from the receiver to the sink, or to the backlog; returns how many left the receiver.
    fn receive(&mut self, sink: &mut impl FnMut(&[u8]) -> usize) -> usize {
        let mut count = 0;
        while self.backlog.len() < RX_BACKLOG {
            let status = self.line_status();
            if status & lsr::DR == 0 {
                break;
            }
            let byte = self.ports.in8(reg::RBR);
            count += 1;
            if status & lsr::BI == 0 {
                self.backlog.push_back(byte);
            }
        }
        self.flush(sink);
        self.update_throttle();
        count
    }

    /// Gives the backlog to the sink.
    fn flush(&mut self, sink: &mut impl FnMut(&[u8]) -> usize) {
        loop {
            let (bytes, _) = self.backlog.as_slices();
            if bytes.is_empty() {
                return;
            }
            let taken = sink(bytes).min(bytes.len());
            self.backlog.drain(..taken);
            if taken == 0 {
                return;
            }
        }
    }

    /// Turns the receiver's interrupt and RTS off when the backlog is full, and on when it has drained to half.
    fn update_throttle(&mut self) {
        let throttle =
            if self.throttled { self.backlog.len() > RX_BACKLOG / 2 } else { self.backlog.len() == RX_BACKLOG };
        if throttle != self.throttled {
            self.throttled = throttle;
            self.ports.out8(reg::MCR, if throttle { MCR_RUNNING & !mcr::RTS } else { MCR_RUNNING });
            self.set_ier(IER_RX, !throttle);
        }
    }

    /// Loads the transmitter if it is empty; leaves its interrupt on exactly if there is more to send. Returns how
    /// many bytes went into it.
    fn transmit(&mut self, source: &mut impl FnMut(&mut [u8]) -> usize) -> usize {
        self.refill(source);
        let mut sent = 0;
        if self.load.len > 0 && self.line_status() & lsr::THRE != 0 {
            sent = self.load.len;
            for byte in &self.load.bytes[..sent] {
                self.ports.out8(reg::THR, *byte);
            }
            self.load.len = 0;
            self.refill(source);
        }
        self.set_ier(ier::ETBEI, self.load.len > 0);
        sent
    }

    /// Takes the next load from the source, if there is none waiting.
    fn refill(&mut self, source: &mut impl FnMut(&mut [u8]) -> usize) {
        if self.load.len == 0 {
            self.load.len = source(&mut self.load.bytes[..self.depth]).min(self.depth);
        }
    }

    /// LSR. Each read clears the error bits, so each is counted.
    fn line_status(&mut self) -> u8 {
        let status = self.ports.in8(reg::LSR);
        self.errors.note(status);
        status
    }

    fn set_ier(&mut self, bits: u8, on: bool) {
        let value = if on { self.ier | bits } else { self.ier & !bits };
        if value != self.ier {
            self.ier = value;
            self.ports.out8(reg::IER, value);
        }
    }
}

/// Where there is nothing, reads give all ones (or whatever), but not two different values as written.
fn check_scratch(ports: &mut impl Ports) -> Result<(), OpenError> {
    for wrote in [0x5a, 0xa5] {
        ports.out8(reg::SCR, wrote);
        let read = ports.in8(reg::SCR);
        if read != wrote {
            return Err(OpenError::NoScratch { wrote, read });
        }
    }
    Ok(())
}

/// The modem outputs come back as modem inputs (section 8.8).
fn check_loopback(ports: &mut impl Ports) -> Result<(), OpenError> {
    let saved = ports.in8(reg::MCR);
    let inputs = msr::CTS | msr::DSR | msr::RI | msr::DCD;
    for (outputs, expected) in [(mcr::RTS | mcr::OUT2, msr::CTS | msr::DCD), (mcr::DTR | mcr::OUT1, msr::DSR | msr::RI)]
    {
        ports.out8(reg::MCR, mcr::LOOP | outputs);
        let read = ports.in8(reg::MSR) & inputs;
        if read != expected {
            ports.out8(reg::MCR, saved);
            return Err(OpenError::NoLoopback { expected, read });
        }
    }
    Ok(())
}

/// Lets the last words of an earlier owner of the UART out before its FIFO is reset.
fn drain_transmitter(ports: &mut impl Ports) {
    for _ in 0..DRAIN_READS {
        if ports.in8(reg::LSR) & lsr::TEMT != 0 {
            return;
        }
    }
}

fn set_divisor(ports: &mut impl Ports, divisor: u16) {
    let [low, high] = divisor.to_le_bytes();
    ports.out8(reg::LCR, lcr::DLAB | lcr::WLS_8);
    ports.out8(reg::DLL, low);
    ports.out8(reg::DLM, high);
    ports.out8(reg::LCR, lcr::WLS_8);
}

/// Returns the depth: 1 on chips without FIFOs or with those of the first 16550, which do not work.
fn enable_fifos(ports: &mut impl Ports) -> usize {
    ports.out8(reg::FCR, fcr::ENABLE | fcr::RCVR_RESET | fcr::XMIT_RESET | fcr::TRIGGER_8);
    if ports.in8(reg::IIR) & iir::FIFOS_ENABLED == iir::FIFOS_ENABLED {
        FIFO_DEPTH
    } else {
        ports.out8(reg::FCR, 0);
        1
    }
}

#[cfg(test)]
mod tests;
