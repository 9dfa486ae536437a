//! The wall clock: read from the clock chip once, counted on by the TSC.

use crate::space::Nova;
use mc146818::{ChipError, Civil, Cmos, spec};
use rt::hw::Ports;

struct Chip(Ports);

impl Cmos for Chip {
    fn read(&mut self, register: u8) -> u8 {
        self.0.out8(0, register & spec::INDEX_MASK);
        self.0.in8(1)
    }
}

/// Wall-clock time in ns since 1970 when the TSC was 0, or why it is not known. The ports are ours only for the time of
/// this call.
pub fn wall_base_ns(nova: &Nova) -> Result<u64, String> {
    let (first, count) = (spec::INDEX_PORT, spec::PORT_COUNT);
    let refused = |e| format!("the kernel does not give the ports of the clock chip: {e:?}");
    nova.give_ports(nova.own_pio, first, count.into()).map_err(refused)?;
    let now = mc146818::read(&mut Chip(Ports::new(first, count))).map(Civil::to_unix);
    let up_ns = rt::time::ns_from_tsc(rt::time::tsc());
    let _ = nova.take_ports(nova.own_pio, first, count.into());
    let seconds = now.map_err(|e: ChipError| e.to_string())?;
    Ok(seconds.saturating_mul(1_000_000_000).saturating_sub(up_ns))
}
