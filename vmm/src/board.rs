//! What the VM-exit handler wants of the device models: [`Board`], which is the [`Platform`] as one vCPU sees it. Tests
//! have a board of their own.

use crate::dev::{self, IpiKind, NEVER, Pending, Platform};

/// What an access means for the machine as a whole: [`dev::Effect`] for one vCPU.
///
/// It fits in a register. Values of 16 bytes and more are copied through vector registers, whose first use after an
/// exit costs a fault and a switch of the guest's vector state; the same goes for [`crate::exit::Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// The guest switched itself off (ACPI S5).
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A byte on the marker port; benchmarks write them.
    Marker(u8),
    /// vCPUs are to be initialised or started.
    Ipi(IpiKind),
}

impl Effect {
    /// This effect, or `other` if this is none.
    pub fn or(self, other: Effect) -> Effect {
        if self == Effect::None { other } else { self }
    }
}

impl From<dev::Effect> for Effect {
    #[inline]
    fn from(e: dev::Effect) -> Effect {
        match e {
            dev::Effect::None => Effect::None,
            dev::Effect::PowerOff => Effect::PowerOff,
            dev::Effect::Reset => Effect::Reset,
            dev::Effect::Marker(b) => Effect::Marker(b),
            dev::Effect::Ipi(ipi) => Effect::Ipi(ipi.kind),
        }
    }
}

/// The devices of a virtual machine. `now` is the TSC; widths are in bytes.
pub trait Board {
    /// IN.
    fn pio_read(&mut self, port: u16, size: usize, now: u64) -> u32;
    /// OUT.
    fn pio_write(&mut self, port: u16, size: usize, value: u32, now: u64) -> Effect;
    /// Load from device memory; all ones where there is no device.
    fn mmio_read(&mut self, gpa: u64, size: usize, now: u64) -> u64;
    /// Store to device memory; ignored where there is no device.
    fn mmio_write(&mut self, gpa: u64, size: usize, value: u64, now: u64) -> Effect;
    /// RDMSR of a local APIC register. `None`: #GP.
    fn msr_read(&mut self, msr: u32, now: u64) -> Option<u64>;
    /// WRMSR of a local APIC register. `None`: #GP.
    fn msr_write(&mut self, msr: u32, value: u64, now: u64) -> Option<Effect>;
    /// Lets time pass up to `now`.
    fn advance(&mut self, now: u64);
    /// TSC value at which [`Board::advance`] has something to do next; [`NEVER`].
    fn next_deadline(&self) -> u64;
    /// What the vCPU would take now if its state allowed it.
    fn pending(&self) -> Option<Pending>;
    /// The vCPU takes it.
    fn acknowledge(&mut self) -> Option<Pending>;
    /// Moves what the guest wrote to its serial line behind the end of `into`.
    fn take_output(&mut self, into: &mut Vec<u8>);
    /// Bytes typed at the guest's serial line; returns how many fitted.
    fn input(&mut self, bytes: &[u8]) -> usize;
}

/// The vCPU of a machine with one.
const BSP: usize = 0;

impl Board for Platform {
    fn pio_read(&mut self, port: u16, size: usize, now: u64) -> u32 {
        Platform::pio_read(self, port, size as u8, now)
    }

    fn pio_write(&mut self, port: u16, size: usize, value: u32, now: u64) -> Effect {
        Platform::pio_write(self, port, size as u8, value, now).into()
    }

    fn mmio_read(&mut self, gpa: u64, size: usize, now: u64) -> u64 {
        let mut bytes = [0; 8];
        match Platform::mmio_read(self, BSP, gpa, &mut bytes[..size.min(8)], now) {
            Ok(()) => u64::from_le_bytes(bytes),
            // As on a bus where nobody answers; the platform counts it.
            Err(_) => u64::MAX,
        }
    }

    fn mmio_write(&mut self, gpa: u64, size: usize, value: u64, now: u64) -> Effect {
        Platform::mmio_write(self, BSP, gpa, &value.to_le_bytes()[..size.min(8)], now)
            .map_or(Effect::None, Effect::from)
    }

    fn msr_read(&mut self, msr: u32, now: u64) -> Option<u64> {
        Platform::msr_read(self, BSP, msr, now)?.ok()
    }

    fn msr_write(&mut self, msr: u32, value: u64, now: u64) -> Option<Effect> {
        Platform::msr_write(self, BSP, msr, value, now)?.ok().map(Effect::from)
    }

    fn advance(&mut self, now: u64) {
        Platform::advance(self, now);
    }

    fn next_deadline(&self) -> u64 {
        Platform::next_deadline(self).unwrap_or(NEVER)
    }

    fn pending(&self) -> Option<Pending> {
        Platform::pending(self, BSP)
    }

    fn acknowledge(&mut self) -> Option<Pending> {
        self.ack(BSP)
    }

    fn take_output(&mut self, into: &mut Vec<u8>) {
        let mut part = [0; 256];
        while self.has_serial_out() {
            let n = self.serial_out(&mut part);
            into.extend_from_slice(&part[..n]);
        }
    }

    fn input(&mut self, bytes: &[u8]) -> usize {
        self.serial_in(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::PlatformConfig;
    use crate::layout;

    #[test]
    fn platform_is_a_board() {
        let mut b: Platform = Platform::new(&PlatformConfig::default());
        let b: &mut dyn Board = &mut b;
        for byte in b"ok" {
            assert_eq!(b.pio_write(layout::COM1, 1, u32::from(*byte), 1), Effect::None);
        }
        let mut out = b">".to_vec();
        b.take_output(&mut out);
        assert_eq!(out, b">ok");
        assert_eq!(b.input(b"x"), 1);
        assert_eq!(b.pio_read(layout::COM1, 1, 2), u32::from(b'x'));
        assert_eq!(b.mmio_read(0xd000_0000, 4, 3) as u32, u32::MAX);
        assert_eq!(b.mmio_write(0xd000_0000, 4, 0, 3), Effect::None);
        assert_eq!(b.msr_read(0x8ff, 4), None);
        assert_eq!(b.msr_write(0x8ff, 0, 4), None);
        assert!(b.msr_read(0x1b, 4).is_some());
        let sleep = u32::from(layout::SLP_TYP_S5) << 10 | 1 << 13;
        assert_eq!(b.pio_write(layout::PM1A_CNT, 2, sleep, 5), Effect::PowerOff);
        assert_eq!(b.pio_write(layout::RESET, 1, layout::RESET_VALUE.into(), 6), Effect::Reset);
    }
}
