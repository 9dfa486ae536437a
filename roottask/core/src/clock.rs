//! The wall clock: read from the clock chip once, counted on by the TSC.

use crate::space::Nova;
use core_task_logic::rtc::{Cmos, unix_seconds};
use rt::hw::Ports;

/// Index and data port of the clock chip.
const INDEX: u16 = 0x70;
/// Number of ports.
const COUNT: u16 = 2;
/// Bit 7 of the index port: NMI off; kept at 0.
const REGISTERS: u8 = 0x7f;

struct Chip(Ports);

impl Cmos for Chip {
    fn read(&mut self, register: u8) -> u8 {
        self.0.out8(0, register & REGISTERS);
        self.0.in8(1)
    }
}

/// Wall-clock time in ns since 1970 when the TSC was 0; `None` if the chip does not say. The ports are ours only for
/// the time of this call.
pub fn wall_base_ns(nova: &Nova) -> Option<u64> {
    nova.give_ports(nova.own_pio, INDEX, COUNT.into()).ok()?;
    let seconds = unix_seconds(&mut Chip(Ports::new(INDEX, COUNT)));
    let up_ns = rt::time::ns_from_tsc(rt::time::tsc());
    let _ = nova.take_ports(nova.own_pio, INDEX, COUNT.into());
    Some(seconds?.saturating_mul(1_000_000_000).saturating_sub(up_ns))
}
