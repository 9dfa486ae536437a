//! What each component is told at its start.
//!
//! Key types: [`Machine`]; the functions are methods of [`Plan`].

use crate::plan::Plan;
use crate::sel;
use parent::StartInfo;

/// What is the same for all components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Frequency of the TSC in Hz.
    pub tsc_hz: u64,
    /// Wall-clock time in ns since 1970 when the TSC was 0.
    pub wall_base_ns: u64,
    /// CPUs.
    pub cpus: u16,
    /// Interrupts with a pin: the global system interrupts from 0.
    pub pins: u32,
    /// [`abi::Features`] bits.
    pub features: u64,
    /// [`abi::VirtMissing`] bits.
    pub virt_missing: u32,
    /// Kernel memory for all components together, in bytes.
    pub kmem: u64,
    /// End of the selectors of an object space, exclusive.
    pub sel_end: u64,
}

impl Plan {
    /// The start information of component `index`; `None` if it does not start.
    pub fn start_info(&self, index: usize, machine: &Machine) -> Option<Box<StartInfo>> {
        let c = self.component(index)?;
        let mut info = Box::new(StartInfo::new(c.name));
        info.tsc_hz = machine.tsc_hz;
        info.wall_base_ns = machine.wall_base_ns;
        info.ram_len = c.ram_len;
        info.stack_len = c.stack_len;
        info.sel_free = sel::FREE;
        info.sel_end = machine.sel_end;
        info.cpus = machine.cpus.into();
        info.cpu = c.first_cpu().into();
        info.features = machine.features;
        info.virt_missing = machine.virt_missing;
        info.has_log = c.has_log.into();
        // None of these can be refused: the lists were bounded when the plan was made.
        c.cpus.iter().for_each(|&cpu| _ = info.push_cpu(cpu));
        for rom in &c.roms {
            info.push_rom(parent::Rom { name: rom.name, addr: rom.virt, len: rom.len });
        }
        Some(info)
    }
}

#[cfg(test)]
#[path = "start_info_tests.rs"]
pub(crate) mod tests;
