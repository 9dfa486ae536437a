//! What the VM-exit handler wants of the device models: [`Board`], which is the [`Platform`]. Tests have a board of
//! their own.

use crate::dev::{Effect, NEVER, Pending, Platform, VcpuSet};

/// The devices of a virtual machine. `now` is the TSC; widths are in bytes; `vcpu` is who makes the access.
pub trait Board {
    /// IN.
    fn pio_read(&mut self, port: u16, size: usize, now: u64) -> u32;
    /// OUT.
    fn pio_write(&mut self, port: u16, size: usize, value: u32, now: u64) -> Effect;
    /// Load from device memory; all ones where there is no device.
    fn mmio_read(&mut self, vcpu: usize, gpa: u64, size: usize, now: u64) -> u64;
    /// Store to device memory; ignored where there is no device.
    fn mmio_write(&mut self, vcpu: usize, gpa: u64, size: usize, value: u64, now: u64) -> Effect;
    /// RDMSR of a local APIC register. `None`: #GP.
    fn msr_read(&mut self, vcpu: usize, msr: u32, now: u64) -> Option<u64>;
    /// WRMSR of a local APIC register. `None`: #GP.
    fn msr_write(&mut self, vcpu: usize, msr: u32, value: u64, now: u64) -> Option<Effect>;
    /// CR8: the upper half of the local APIC's task priority.
    fn cr8(&self, vcpu: usize) -> u8;
    /// MOV to CR8, 0 to 15.
    fn set_cr8(&mut self, vcpu: usize, value: u8);
    /// Lets time pass up to `now`.
    fn advance(&mut self, now: u64);
    /// TSC value at which [`Board::advance`] has something to do next; [`NEVER`].
    fn next_deadline(&self) -> u64;
    /// What a vCPU would take now if its state allowed it; an NMI only if NMIs are not blocked.
    fn pending(&self, vcpu: usize, nmis_blocked: bool) -> Option<Pending>;
    /// A vCPU takes that.
    fn acknowledge(&mut self, vcpu: usize, nmis_blocked: bool) -> Option<Pending>;
    /// The vCPUs for which something may have come since this was last asked, unless they took it.
    fn take_woken(&mut self) -> VcpuSet;
    /// Whether the guest wrote something to its serial line.
    fn has_output(&self) -> bool;
    /// Moves what the guest wrote to its serial line behind the end of `into`.
    fn take_output(&mut self, into: &mut Vec<u8>);
    /// Bytes typed at the guest's serial line; returns how many fitted.
    fn input(&mut self, bytes: &[u8]) -> usize;
}

impl Board for Platform {
    fn pio_read(&mut self, port: u16, size: usize, now: u64) -> u32 {
        Platform::pio_read(self, port, size as u8, now)
    }

    fn pio_write(&mut self, port: u16, size: usize, value: u32, now: u64) -> Effect {
        Platform::pio_write(self, port, size as u8, value, now)
    }

    fn mmio_read(&mut self, vcpu: usize, gpa: u64, size: usize, now: u64) -> u64 {
        let mut bytes = [0; 8];
        match Platform::mmio_read(self, vcpu, gpa, &mut bytes[..size.min(8)], now) {
            Ok(()) => u64::from_le_bytes(bytes),
            // As on a bus where nobody answers; the platform counts it.
            Err(_) => u64::MAX,
        }
    }

    fn mmio_write(&mut self, vcpu: usize, gpa: u64, size: usize, value: u64, now: u64) -> Effect {
        Platform::mmio_write(self, vcpu, gpa, &value.to_le_bytes()[..size.min(8)], now).unwrap_or(Effect::None)
    }

    fn msr_read(&mut self, vcpu: usize, msr: u32, now: u64) -> Option<u64> {
        Platform::msr_read(self, vcpu, msr, now)?.ok()
    }

    fn msr_write(&mut self, vcpu: usize, msr: u32, value: u64, now: u64) -> Option<Effect> {
        Platform::msr_write(self, vcpu, msr, value, now)?.ok()
    }

    fn cr8(&self, vcpu: usize) -> u8 {
        Platform::cr8(self, vcpu)
    }

    fn set_cr8(&mut self, vcpu: usize, value: u8) {
        Platform::set_cr8(self, vcpu, value);
    }

    fn advance(&mut self, now: u64) {
        Platform::advance(self, now);
    }

    fn next_deadline(&self) -> u64 {
        Platform::next_deadline(self).unwrap_or(NEVER)
    }

    fn pending(&self, vcpu: usize, nmis_blocked: bool) -> Option<Pending> {
        if nmis_blocked { self.pending_interrupt(vcpu) } else { Platform::pending(self, vcpu) }
    }

    fn acknowledge(&mut self, vcpu: usize, nmis_blocked: bool) -> Option<Pending> {
        if nmis_blocked { self.ack_interrupt(vcpu) } else { self.ack(vcpu) }
    }

    fn take_woken(&mut self) -> VcpuSet {
        Platform::take_woken(self)
    }

    fn has_output(&self) -> bool {
        self.has_serial_out()
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
        assert_eq!(b.mmio_read(0, 0xd000_0000, 4, 3) as u32, u32::MAX);
        assert_eq!(b.mmio_write(0, 0xd000_0000, 4, 0, 3), Effect::None);
        assert_eq!(b.msr_read(0, 0x8ff, 4), None);
        assert_eq!(b.msr_write(0, 0x8ff, 0, 4), None);
        assert!(b.msr_read(0, 0x1b, 4).is_some());
        let sleep = u32::from(layout::SLP_TYP_S5) << 10 | 1 << 13;
        assert_eq!(b.pio_write(layout::PM1A_CNT, 2, sleep, 5), Effect::PowerOff);
        assert_eq!(b.pio_write(layout::RESET, 1, layout::RESET_VALUE.into(), 6), Effect::Reset);
    }
}
