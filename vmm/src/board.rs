//! What the VM-exit handler wants of the device models: [`Board`]. The implementation for [`crate::bus::Platform`] is here as
//! well; tests have one of their own.

/// Something a guest did to its devices that concerns the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The guest switched itself off (ACPI S5).
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A byte on the marker port; benchmarks write them.
    Marker(u8),
}

/// The devices of a virtual machine. `now` is the TSC; widths are in bytes.
pub trait Board {
    /// IN.
    fn pio_read(&mut self, port: u16, size: usize, now: u64) -> u32;
    /// OUT.
    fn pio_write(&mut self, port: u16, size: usize, value: u32, now: u64) -> Option<Effect>;
    /// Load from device memory; all ones where there is no device.
    fn mmio_read(&mut self, gpa: u64, size: usize, now: u64) -> u64;
    /// Store to device memory.
    fn mmio_write(&mut self, gpa: u64, size: usize, value: u64, now: u64) -> Option<Effect>;
    /// RDMSR of a local APIC register. `None`: #GP.
    fn msr_read(&mut self, msr: u32, now: u64) -> Option<u64>;
    /// WRMSR of a local APIC register; `false`: #GP.
    fn msr_write(&mut self, msr: u32, value: u64, now: u64) -> bool;
    /// Lets time pass up to `now`.
    fn advance(&mut self, now: u64);
    /// TSC value at which [`Board::advance`] has something to do next; `u64::MAX`: never.
    fn next_deadline(&self) -> u64;
    /// Whether there is an interrupt that the vCPU would take if it could.
    fn pending(&self) -> bool;
    /// The vCPU takes that interrupt: its vector.
    fn acknowledge(&mut self) -> Option<u8>;
    /// Moves what the guest wrote to its serial line behind the end of `into`.
    fn take_output(&mut self, into: &mut Vec<u8>);
    /// Bytes typed at the guest's serial line; returns how many were accepted.
    fn input(&mut self, bytes: &[u8], now: u64) -> usize;
}
