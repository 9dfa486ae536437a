//! Registers of the 16550, with the names of the PC16550D data sheet (National Semiconductor, TL/C/8652), section 8.

/// Ports of one UART.
pub const PORT_COUNT: u16 = 8;
/// Rate of the baud generator with divisor 1 on a PC: a clock of 1.8432 MHz divided by 16 (section 8.3).
pub const BASE_BAUD: u32 = 115_200;
/// Depth of each FIFO (section 1).
pub const FIFO_DEPTH: usize = 16;

/// Registers as offsets from the base port (table II).
pub mod reg {
    /// Receiver Buffer (read; DLAB = 0).
    pub const RBR: u16 = 0;
    /// Transmitter Holding (write; DLAB = 0).
    pub const THR: u16 = 0;
    /// Interrupt Enable (DLAB = 0).
    pub const IER: u16 = 1;
    /// Divisor Latch, least significant byte (DLAB = 1).
    pub const DLL: u16 = 0;
    /// Divisor Latch, most significant byte (DLAB = 1).
    pub const DLM: u16 = 1;
    /// Interrupt Identification (read).
    pub const IIR: u16 = 2;
    /// FIFO Control (write).
    pub const FCR: u16 = 2;
    /// Line Control.
    pub const LCR: u16 = 3;
    /// Modem Control.
    pub const MCR: u16 = 4;
    /// Line Status.
    pub const LSR: u16 = 5;
    /// Modem Status.
    pub const MSR: u16 = 6;
    /// Scratchpad.
    pub const SCR: u16 = 7;
}

/// Line Control (section 8.1).
pub mod lcr {
    /// Word Length Select: 8 bits.
    pub const WLS_8: u8 = 0b11;
    /// Divisor Latch Access Bit.
    pub const DLAB: u8 = 1 << 7;
}

/// Line Status (section 8.4). Reading it clears OE, PE, FE and BI.
pub mod lsr {
    /// Data Ready.
    pub const DR: u8 = 1 << 0;
    /// Overrun Error: characters were lost.
    pub const OE: u8 = 1 << 1;
    /// Parity Error in the character on top of the FIFO.
    pub const PE: u8 = 1 << 2;
    /// Framing Error in the character on top of the FIFO.
    pub const FE: u8 = 1 << 3;
    /// Break Interrupt; the character on top of the FIFO is 0 and means nothing.
    pub const BI: u8 = 1 << 4;
    /// Transmitter Holding Register Empty; with FIFOs: the transmit FIFO is empty.
    pub const THRE: u8 = 1 << 5;
    /// Transmitter Empty, shift register included.
    pub const TEMT: u8 = 1 << 6;
}

/// FIFO Control (section 8.5).
pub mod fcr {
    /// FIFO Enable.
    pub const ENABLE: u8 = 1 << 0;
    /// RCVR FIFO Reset.
    pub const RCVR_RESET: u8 = 1 << 1;
    /// XMIT FIFO Reset.
    pub const XMIT_RESET: u8 = 1 << 2;
    /// RCVR Trigger: interrupt at 8 bytes.
    pub const TRIGGER_8: u8 = 0b10 << 6;
}

/// Interrupt Identification (section 8.6, table IV).
pub mod iir {
    /// 0: an interrupt is pending.
    pub const NOT_PENDING: u8 = 1 << 0;
    /// Interrupt ID bits.
    pub const ID: u8 = 0b1110;
    /// Modem status; cleared by reading MSR.
    pub const MODEM_STATUS: u8 = 0b0000;
    /// THR empty; cleared by reading IIR or writing THR.
    pub const THR_EMPTY: u8 = 0b0010;
    /// Received data available, FIFO at its trigger level.
    pub const RECEIVED: u8 = 0b0100;
    /// Receiver line status; cleared by reading LSR.
    pub const LINE_STATUS: u8 = 0b0110;
    /// Characters below the trigger level have waited for four character times.
    pub const TIMEOUT: u8 = 0b1100;
    /// Both set: FIFOs are enabled and work.
    pub const FIFOS_ENABLED: u8 = 0b11 << 6;
}

/// Interrupt Enable (section 8.7).
pub mod ier {
    /// Received Data Available and timeout.
    pub const ERBFI: u8 = 1 << 0;
    /// Transmitter Holding Register Empty.
    pub const ETBEI: u8 = 1 << 1;
    /// Receiver Line Status.
    pub const ELSI: u8 = 1 << 2;
    /// Modem Status.
    pub const EDSSI: u8 = 1 << 3;
}

/// Modem Control (section 8.8).
pub mod mcr {
    /// Data Terminal Ready.
    pub const DTR: u8 = 1 << 0;
    /// Request to Send.
    pub const RTS: u8 = 1 << 1;
    /// Output 1: shows as RI in loopback.
    pub const OUT1: u8 = 1 << 2;
    /// Output 2: shows as DCD in loopback; on a PC it connects the interrupt line.
    pub const OUT2: u8 = 1 << 3;
    /// Local loopback.
    pub const LOOP: u8 = 1 << 4;
}

/// Modem Status (section 8.9).
pub mod msr {
    /// Clear to Send: RTS in loopback.
    pub const CTS: u8 = 1 << 4;
    /// Data Set Ready: DTR in loopback.
    pub const DSR: u8 = 1 << 5;
    /// Ring Indicator: OUT1 in loopback.
    pub const RI: u8 = 1 << 6;
    /// Data Carrier Detect: OUT2 in loopback.
    pub const DCD: u8 = 1 << 7;
}
