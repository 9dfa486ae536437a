//! The 16550 at COM1: `vm_superio`'s model with queues of bounded size on both sides and an interrupt line.
//!
//! Output waits in a queue until the VMM takes it. While the queue is nearly full the line status shows a busy
//! transmitter, so nothing is lost: a polling driver waits, an interrupt-driven one gets its interrupt when there is room
//! again. Input waits in a queue until the model's FIFO is empty.

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read, Write};

use vm_superio::Trigger;
use vm_superio::serial::{NoEvents, Serial};

/// Registers of the 16550 (National Semiconductor PC16550D data sheet, 8.0), as far as this file looks at them.
mod spec {
    /// Interrupt enable (with DLAB clear).
    pub const IER: u8 = 1;
    /// Interrupt identification (read).
    pub const IIR: u8 = 2;
    /// Line control.
    pub const LCR: u8 = 3;
    /// Line control: the divisor is at offsets 0 and 1.
    pub const LCR_DLAB: u8 = 1 << 7;
    /// Line status.
    pub const LSR: u8 = 5;
    /// Line status: transmitter holding register and shift register empty.
    pub const LSR_IDLE: u8 = (1 << 5) | (1 << 6);
}
use spec::*;

/// Bytes that wait for the VMM.
const OUTPUT_BYTES: usize = 8192;
/// A driver may write so many bytes after one look at the line status: a FIFO, with room to spare.
const BURST_BYTES: usize = 64;
/// Bytes that wait for the guest.
const INPUT_BYTES: usize = 4096;
/// Size of the model's receive FIFO.
const FIFO_BYTES: usize = 64;

/// Remembers that the model asked for an interrupt.
#[derive(Debug, Default, Clone)]
struct Latch(Cell<bool>);

impl Trigger for Latch {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// Output on its way to the VMM.
#[derive(Debug, Clone)]
struct Output(VecDeque<u8>);

impl Output {
    fn is_nearly_full(&self) -> bool {
        self.0.len() > OUTPUT_BYTES - BURST_BYTES
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(OUTPUT_BYTES - self.0.len());
        self.0.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The serial interface.
#[derive(Debug)]
pub struct SerialPort {
    uart: Serial<Latch, NoEvents, Output>,
    input: VecDeque<u8>,
    line: bool,
    /// The guest may have been told that the transmitter is busy.
    busy: bool,
    lost: u64,
}

impl Clone for SerialPort {
    fn clone(&self) -> Self {
        let latch = Latch::default();
        let uart = Serial::from_state(&self.uart.state(), latch, NoEvents, self.uart.writer().clone());
        let uart = uart.expect("the state of a live model fits its FIFO");
        uart.interrupt_evt().0.set(self.uart.interrupt_evt().0.get());
        Self { uart, input: self.input.clone(), line: self.line, busy: self.busy, lost: self.lost }
    }
}

impl Default for SerialPort {
    fn default() -> Self {
        Self::new()
    }
}

impl SerialPort {
    /// After reset, both queues empty.
    pub fn new() -> Self {
        let output = Output(VecDeque::with_capacity(OUTPUT_BYTES));
        let input = VecDeque::with_capacity(INPUT_BYTES);
        Self { uart: Serial::new(Latch::default(), output), input, line: false, busy: false, lost: 0 }
    }

    /// Reads the register at `offset` 0..=7.
    pub fn read(&mut self, offset: u16) -> u8 {
        let offset = offset as u8;
        let value = self.uart.read(offset);
        match offset {
            0 => self.feed(),
            // The model drops all its interrupts when they are identified.
            IIR => self.line = false,
            LSR if self.uart.writer().is_nearly_full() => {
                self.busy = true;
                return value & !LSR_IDLE;
            }
            _ => {}
        }
        value
    }

    /// Writes the register at `offset` 0..=7.
    pub fn write(&mut self, offset: u16, value: u8) {
        if self.uart.write(offset as u8, value).is_err() {
            self.lost += 1;
        }
        match offset as u8 {
            0 => self.busy |= self.uart.writer().is_nearly_full(),
            // The model forgets to take its requests back; identified, they are gone.
            IER if !self.divisor() && self.uart.read(IER) == 0 => {
                self.uart.read(IIR);
                self.uart.interrupt_evt().0.set(false);
                self.line = false;
            }
            // Loopback may have ended, or access to the registers may have come back.
            _ => {
                self.feed();
                self.report_room();
            }
        }
    }

    /// Takes output; returns the number of bytes.
    pub fn take_output(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.uart.writer_mut().0.read(buffer).unwrap_or(0);
        self.report_room();
        count
    }

    /// Whether there is output to take.
    pub fn has_output(&self) -> bool {
        !self.uart.writer().0.is_empty()
    }

    /// Offers input; returns the number of bytes that fitted.
    pub fn push_input(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(INPUT_BYTES - self.input.len());
        self.input.extend(&bytes[..count]);
        self.feed();
        count
    }

    /// Bytes of output that were lost because a driver did not wait.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Level of the interrupt line.
    pub fn irq(&self) -> bool {
        self.line
    }

    /// Whether the model has asked for an interrupt since the last call: an edge, even if the line is asserted already.
    pub fn take_edge(&mut self) -> bool {
        let edge = self.uart.interrupt_evt().0.replace(false);
        self.line |= edge;
        edge
    }

    /// Moves input into the FIFO when that is empty, so that a driver's read loop costs one interrupt.
    fn feed(&mut self) {
        if self.input.is_empty() || self.uart.fifo_capacity() != FIFO_BYTES {
            return;
        }
        let (first, _) = self.input.as_slices();
        // In loopback mode the model takes nothing.
        let taken = self.uart.enqueue_raw_bytes(first).unwrap_or(0);
        self.input.drain(..taken);
    }

    /// Whether offsets 0 and 1 are the divisor's.
    fn divisor(&mut self) -> bool {
        self.uart.read(LCR) & LCR_DLAB != 0
    }

    /// After the transmitter was busy: lets the model raise its interrupt once more.
    fn report_room(&mut self) {
        if !self.busy || self.divisor() || self.uart.writer().is_nearly_full() {
            return;
        }
        self.busy = false;
        let enable = self.uart.read(IER);
        // Cannot fail: the trigger does not, and no byte is sent.
        let _ = self.uart.write(IER, enable);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LSR_READY: u8 = 1;
    const MCR: u16 = 4;
    const RX: u8 = 1;
    const TX: u8 = 2;

    fn output(port: &mut SerialPort) -> Vec<u8> {
        let mut buffer = vec![0; OUTPUT_BYTES + 1];
        let count = port.take_output(&mut buffer);
        buffer.truncate(count);
        buffer
    }

    #[test]
    fn output_arrives_in_order() {
        let mut port = SerialPort::new();
        assert!(!port.has_output());
        b"hello".iter().for_each(|byte| port.write(0, *byte));
        assert!(port.has_output());
        let mut part = [0; 2];
        assert_eq!(port.take_output(&mut part), 2);
        assert_eq!((&part, output(&mut port).as_slice()), (b"he", b"llo".as_slice()));
        assert!(!port.has_output());
    }

    #[test]
    fn input_interrupts_and_is_read() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), RX);
        assert_eq!(port.push_input(b"ab"), 2);
        assert!(port.take_edge() && port.irq());
        assert!(!port.take_edge(), "one edge");
        assert_eq!(port.read(u16::from(IIR)) & 0xf, 4);
        assert!(!port.irq());
        assert_eq!(port.read(u16::from(LSR)) & LSR_READY, LSR_READY);
        assert_eq!((port.read(0), port.read(0)), (b'a', b'b'));
        assert_eq!(port.read(u16::from(LSR)) & LSR_READY, 0);
    }

    #[test]
    fn input_waits_for_the_fifo_and_then_for_the_queue() {
        let mut port = SerialPort::new();
        let bytes: Vec<u8> = (0..=255).cycle().take(INPUT_BYTES + 1000).collect();
        assert_eq!(port.push_input(&bytes), INPUT_BYTES);
        assert_eq!(port.push_input(&bytes[INPUT_BYTES..]), FIFO_BYTES, "as much as had gone into the FIFO");
        assert_eq!(port.push_input(&bytes), 0);
        let read: Vec<u8> = std::iter::from_fn(|| {
            let ready = port.read(u16::from(LSR)) & LSR_READY != 0;
            ready.then(|| port.read(0))
        })
        .collect();
        assert_eq!(read, bytes[..INPUT_BYTES + FIFO_BYTES]);
    }

    #[test]
    fn busy_transmitter_loses_nothing() {
        let mut port = SerialPort::new();
        let mut sent = 0u64;
        while port.read(u16::from(LSR)) & LSR_IDLE == LSR_IDLE {
            (0..16).for_each(|_| port.write(0, b'x'));
            sent += 16;
        }
        assert_eq!((port.lost(), output(&mut port).len() as u64), (0, sent));
        assert_eq!(port.read(u16::from(LSR)) & LSR_IDLE, LSR_IDLE);
    }

    #[test]
    fn driver_that_does_not_wait_loses() {
        let mut port = SerialPort::new();
        (0..OUTPUT_BYTES + 3).for_each(|_| port.write(0, b'x'));
        assert_eq!((port.lost(), output(&mut port).len()), (3, OUTPUT_BYTES));
    }

    #[test]
    fn transmit_interrupt_comes_back_with_the_room() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), TX);
        while port.read(u16::from(LSR)) & LSR_IDLE != 0 {
            port.write(0, b'x');
        }
        assert!(port.take_edge() && port.irq());
        port.read(u16::from(IIR));
        assert!(!port.irq());
        output(&mut port);
        assert!(port.take_edge());
        assert_eq!(port.read(u16::from(IIR)) & 0xf, 2);
    }

    #[test]
    fn a_request_ends_with_its_enable_bit() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), TX);
        assert!(port.take_edge() && port.irq());
        port.write(u16::from(IER), 0);
        assert!(!port.take_edge() && !port.irq());
        port.write(u16::from(IER), TX);
        assert!(port.take_edge() && port.irq(), "it comes back");
    }

    #[test]
    fn room_is_reported_once() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), TX);
        while port.read(u16::from(LSR)) & LSR_IDLE != 0 {
            port.write(0, b'x');
        }
        port.read(u16::from(IIR));
        output(&mut port);
        assert!(port.take_edge());
        port.read(u16::from(IIR));
        output(&mut port);
        assert!(!port.take_edge());
    }

    #[test]
    fn full_fifo_is_one_interrupt() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), RX);
        port.push_input(&[b'x'; FIFO_BYTES + 10]);
        assert!(port.take_edge());
        (1..FIFO_BYTES).for_each(|_| assert_eq!(port.read(0), b'x'));
        assert!(!port.take_edge());
        assert_eq!(port.read(0), b'x');
        assert!(port.take_edge(), "the next bytes have come");
    }

    #[test]
    fn room_is_reported_after_the_divisor_is_done() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), TX);
        while port.read(u16::from(LSR)) & LSR_IDLE != 0 {
            port.write(0, b'x');
        }
        port.write(u16::from(LCR), LCR_DLAB);
        port.take_edge();
        port.read(u16::from(IIR));
        output(&mut port);
        assert!(!port.take_edge());
        port.write(u16::from(LCR), 3);
        assert!(port.take_edge());
    }

    #[test]
    fn loopback_keeps_input_out_until_it_ends() {
        let mut port = SerialPort::new();
        port.write(MCR, 1 << 4);
        assert_eq!(port.push_input(b"k"), 1);
        port.write(0, b'l');
        assert_eq!(port.read(0), b'l');
        assert!(!port.has_output());
        port.write(MCR, 0);
        assert_eq!(port.read(0), b'k');
    }

    #[test]
    fn clone_is_independent_and_equal() {
        let mut port = SerialPort::new();
        port.write(u16::from(IER), RX);
        port.write(7, 0x5a);
        port.push_input(b"q");
        let mut copy = port.clone();
        assert!(copy.take_edge(), "the pending edge is copied");
        assert_eq!((copy.read(7), copy.read(0)), (0x5a, b'q'));
        assert_eq!(port.read(0), b'q');
    }
}
