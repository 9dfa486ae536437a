//! What each component is told at its start, and the semaphores that go with it.
//!
//! Key types: [`Machine`]; the functions are methods of [`Plan`].

use crate::plan::Plan;
use crate::sel;
use crate::wiring::{Channel, Client, LOG_LABEL, RING_LEN, channel_address};
use abi::{Sel, perm};
use parent::{Name, ROLE_CLIENT, ROLE_SERVER, StartInfo};
use zerocopy::FromZeros;

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

/// A semaphore of the wiring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sm {
    /// On which this component waits for its clients.
    Server(usize),
    /// On which the client of this channel waits; a [`Channel::id`].
    Client(usize),
}

/// A semaphore capability that a component gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which semaphore.
    pub sm: Sm,
    /// Where in the component's object space.
    pub sel: Sel,
    /// With which permissions.
    pub perms: perm::Sm,
}

impl Plan {
    /// The start information of component `index`; `None` if it does not start.
    pub fn start_info(&self, index: usize, machine: &Machine) -> Option<Box<StartInfo>> {
        let c = self.component(index)?;
        let mut info = Box::new(StartInfo::new(c.name));
        info.tsc_hz = machine.tsc_hz;
        info.wall_base_ns = machine.wall_base_ns;
        info.ram_len = c.ram_len;
        info.stack_pages = (c.stack_len >> abi::PAGE_BITS) as u32;
        info.sel_free = sel::FREE;
        info.sel_end = machine.sel_end;
        info.cpus = machine.cpus.into();
        info.cpu = c.first_cpu().into();
        info.features = machine.features;
        info.virt_missing = machine.virt_missing;
        // None of these can be refused: the lists were bounded when the plan was made.
        c.cpus.iter().for_each(|&cpu| _ = info.push_cpu(cpu));
        for channel in &self.channels {
            self.ends(index, channel).into_iter().flatten().for_each(|e| _ = info.push_channel(e));
        }
        for rom in &c.roms {
            info.push_rom(parent::Rom { name: rom.name, addr: rom.virt, len: rom.len });
        }
        for (slot, &gsi) in c.irqs.iter().enumerate() {
            info.push_irq(parent::Irq { gsi: gsi.into(), sel: sel::irq(slot) });
        }
        Some(info)
    }

    /// The semaphore capabilities of component `index`.
    pub fn grants(&self, index: usize) -> Vec<Grant> {
        let mut grants = Vec::new();
        for c in &self.channels {
            if c.server == index {
                let perms = perm::Sm::CTRL_UP | perm::Sm::CTRL_DN;
                let own = Grant { sm: Sm::Server(index), sel: sel::SERVER_WAIT, perms };
                if !grants.contains(&own) {
                    grants.push(own);
                }
                let sel = sel::signal(c.server_slot);
                grants.push(Grant { sm: Sm::Client(c.id), sel, perms: perm::Sm::CTRL_UP });
            }
            if c.client == Client::Component(index) {
                let (wait, signal) = (sel::wait(c.client_slot), sel::signal(c.client_slot));
                grants.push(Grant { sm: Sm::Client(c.id), sel: wait, perms: perm::Sm::CTRL_DN });
                grants.push(Grant { sm: Sm::Server(c.server), sel: signal, perms: perm::Sm::CTRL_UP });
            }
        }
        grants
    }

    /// The ends of a channel that component `index` holds.
    fn ends(&self, index: usize, c: &Channel) -> [Option<parent::Channel>; 2] {
        let client = (c.client == Client::Component(index)).then(|| self.client_end(c));
        let server = (c.server == index).then(|| self.server_end(c));
        [client, server]
    }

    fn client_end(&self, c: &Channel) -> parent::Channel {
        let base = channel_address(c.client_slot);
        parent::Channel {
            service: c.service,
            peer: name(&self.labels[c.server]),
            role: ROLE_CLIENT,
            ring_len: RING_LEN as u32,
            rx: base + RING_LEN,
            tx: base,
            wait: sel::wait(c.client_slot),
            signal: sel::signal(c.client_slot),
        }
    }

    fn server_end(&self, c: &Channel) -> parent::Channel {
        let base = channel_address(c.server_slot);
        let peer = match c.client {
            Client::Root => LOG_LABEL,
            Client::Component(i) => &self.labels[i],
        };
        parent::Channel {
            service: c.service,
            peer: name(peer),
            role: ROLE_SERVER,
            ring_len: RING_LEN as u32,
            rx: base,
            tx: base + RING_LEN,
            wait: sel::SERVER_WAIT,
            signal: sel::signal(c.server_slot),
        }
    }
}

/// Labels of components that start were checked; the empty name is never seen.
fn name(label: &str) -> Name {
    Name::new(label).unwrap_or_else(Name::new_zeroed)
}

#[cfg(test)]
#[path = "start_info_tests.rs"]
pub(crate) mod tests;
