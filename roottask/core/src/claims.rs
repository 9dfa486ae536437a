//! Who has which device: what a component may open, and what nobody else has.
//!
//! Key types: [`Device`]; [`Rights`], a component's; [`Claims`], the books.

use init::{MemRange, PortRange};
use policy::PhysRange;
use std::fmt;
use thiserror::Error;

const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Local APICs, and where devices send message-signalled interrupts to: Intel SDM, volume 3, 12.11.1.
const LOCAL_APICS: PhysRange = PhysRange::new(0xfee0_0000, 1 << 20);

/// A part of the machine that one session has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// I/O ports.
    Ports(PortRange),
    /// A global system interrupt.
    Irq(u32),
    /// Physical memory that is no RAM.
    Memory(MemRange),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Ports(range) => write!(f, "ports {range}"),
            Device::Irq(gsi) => write!(f, "interrupt {gsi}"),
            Device::Memory(range) => write!(f, "memory {range}"),
        }
    }
}

impl Device {
    /// Whether a part of one is a part of the other.
    pub fn overlaps(self, other: Device) -> bool {
        match (self, other) {
            (Device::Ports(a), Device::Ports(b)) => a.overlaps(b),
            (Device::Irq(a), Device::Irq(b)) => a == b,
            (Device::Memory(a), Device::Memory(b)) => a.overlaps(b),
            _ => false,
        }
    }
}

/// What a component may have, by its description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// I/O ports.
    pub ports: Vec<PortRange>,
    /// Interrupts.
    pub irqs: Vec<u32>,
    /// Memory of devices.
    pub memory: Vec<MemRange>,
}

impl Rights {
    fn contain(&self, device: Device) -> bool {
        match device {
            Device::Ports(range) => self.ports.iter().any(|p| p.contains(range)),
            Device::Irq(gsi) => self.irqs.contains(&gsi),
            Device::Memory(range) => self.memory.iter().any(|m| m.contains(range)),
        }
    }

    /// Whether a component may open that.
    pub fn admit(&self, device: Device) -> Result<(), NoDevice> {
        let key = match device {
            Device::Ports(_) => "io_ports",
            Device::Irq(_) => "irqs",
            Device::Memory(_) => "io_mem",
        };
        if self.contain(device) { Ok(()) } else { Err(NoDevice::NotDescribed { device, key }) }
    }
}

/// Why there is no session.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum NoDevice {
    /// Not as long as they should be, or a range that ends before it starts or is not whole pages.
    #[error("its arguments name no device")]
    Arguments,
    /// The component's description does not say it.
    #[error("{device}: not in the component's `{key}`")]
    NotDescribed {
        /// What was asked for.
        device: Device,
        /// The key.
        key: &'static str,
    },
    /// Somebody else has it.
    #[error("{device}: `{by}` has {taken}")]
    Taken {
        /// What was asked for.
        device: Device,
        /// What of it is taken.
        taken: Device,
        /// Who has it.
        by: String,
    },
    /// No component can have it.
    #[error("{device}: {what} is there")]
    Kept {
        /// What was asked for.
        device: Device,
        /// What is there.
        what: &'static str,
    },
    /// The kernel refused a step.
    #[error("{device}: the kernel refused to {what}")]
    Kernel {
        /// What was asked for.
        device: Device,
        /// In a form that continues "the kernel refused to ...".
        what: String,
    },
}

/// A session's claim; never another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim(u64);

/// Memory that is no component's, and what is there.
pub type Kept = (&'static str, MemRange);

/// What of physical memory no component can have: RAM, interrupt controllers at these addresses, and the screen that the root
/// task writes to.
pub fn kept(io_apics: &[u64], ram: &[PhysRange], screen: Option<PhysRange>) -> Vec<Kept> {
    let pages = |what, range: PhysRange| {
        let range = range.outward();
        Some((what, MemRange::new(range.start, range.end.checked_sub(1)?)?))
    };
    let ram = ram.iter().filter(|r| !r.is_empty()).filter_map(|r| pages("RAM", *r));
    let chips = io_apics.iter().filter_map(|&at| pages("an I/O APIC", PhysRange::new(at, PAGE)));
    let screen = screen.and_then(|range| pages("the root task's screen", range));
    let local = MemRange::new(LOCAL_APICS.start, LOCAL_APICS.end - 1).map(|range| ("a local APIC", range));
    ram.chain(chips).chain(screen).chain(local).collect()
}

/// Who has what.
#[derive(Debug, Default)]
pub struct Claims {
    /// Of sessions: whose, and what.
    sessions: Vec<(Claim, String, Device)>,
    kept: Vec<Kept>,
    next: u64,
}

impl Claims {
    /// Nobody has anything yet.
    pub fn new(kept: Vec<Kept>) -> Claims {
        Claims { kept, ..Claims::default() }
    }

    /// A session of a component with these rights begins; `label` is the session's.
    pub fn open(&mut self, label: &str, rights: &Rights, device: Device) -> Result<Claim, NoDevice> {
        rights.admit(device)?;
        if let Some((what, _)) = self.kept.iter().find(|(_, kept)| Device::Memory(*kept).overlaps(device)) {
            return Err(NoDevice::Kept { device, what });
        }
        if let Some((_, by, taken)) = self.sessions.iter().find(|(.., d)| d.overlaps(device)) {
            return Err(NoDevice::Taken { device, taken: *taken, by: by.clone() });
        }
        self.next += 1;
        let claim = Claim(self.next);
        self.sessions.push((claim, label.into(), device));
        Ok(claim)
    }

    /// Whether a session has a part of that.
    pub fn has(&self, device: Device) -> bool {
        self.sessions.iter().any(|(.., d)| d.overlaps(device))
    }

    /// The session is over.
    pub fn close(&mut self, claim: Claim) {
        self.sessions.retain(|(c, ..)| *c != claim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ports(first: u16, last: u16) -> Device {
        Device::Ports(PortRange { first, last })
    }

    fn memory(first: u64, last: u64) -> Device {
        Device::Memory(MemRange::new(first, last).unwrap())
    }

    fn rights() -> Rights {
        Rights {
            ports: vec![PortRange { first: 0x70, last: 0x77 }],
            irqs: vec![8],
            memory: vec![MemRange::new(0xb_8000, 0xb_ffff).unwrap()],
        }
    }

    #[test]
    fn what_a_description_does_not_say_is_denied() {
        let mut claims = Claims::default();
        for (device, want) in [
            (ports(0x6f, 0x71), "ports 0x6f-0x71: not in the component's `io_ports`"),
            (ports(0x77, 0x78), "ports 0x77-0x78: not in the component's `io_ports`"),
            (Device::Irq(7), "interrupt 7: not in the component's `irqs`"),
            (memory(0xb_7000, 0xb_8fff), "memory 0xb7000-0xb8fff: not in the component's `io_mem`"),
        ] {
            assert_eq!(claims.open("a", &rights(), device).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn a_device_is_in_one_session_at_a_time() {
        let mut claims = Claims::default();
        let first = claims.open("driver", &rights(), ports(0x70, 0x71)).unwrap();
        let want = "ports 0x71-0x73: `driver` has ports 0x70-0x71";
        assert_eq!(claims.open("other", &rights(), ports(0x71, 0x73)).unwrap_err().to_string(), want);
        let beside = claims.open("other", &rights(), ports(0x72, 0x73)).unwrap();
        assert!(claims.open("other", &rights(), Device::Irq(8)).is_ok());
        assert!(claims.open("third", &rights(), Device::Irq(8)).is_err());
        assert!(claims.has(ports(0x6f, 0x70)) && !claims.has(ports(0x74, 0x7f)));
        claims.close(first);
        assert!(claims.open("other", &rights(), ports(0x70, 0x71)).is_ok());
        claims.close(beside);
        assert!(claims.open("other", &rights(), ports(0x72, 0x72)).is_ok());
    }

    #[test]
    fn memory_that_is_kept_is_nobodys() {
        let kept = vec![("RAM", MemRange::new(0xb_9000, 0xb_9fff).unwrap())];
        let mut claims = Claims::new(kept);
        let e = claims.open("x", &rights(), memory(0xb_8000, 0xb_9fff)).unwrap_err();
        assert_eq!(e.to_string(), "memory 0xb8000-0xb9fff: RAM is there");
        assert!(claims.open("x", &rights(), memory(0xb_8000, 0xb_8fff)).is_ok());
    }

    #[test]
    fn ram_and_interrupt_controllers_are_kept() {
        let ram = [PhysRange::new(0, 0x9_fc00), PhysRange::new(0, 0), PhysRange::new(1 << 20, 1 << 20)];
        let all = kept(&[0xfec0_0000], &ram, Some(PhysRange::new(0xb_8000, 4000)));
        let shown: Vec<_> = all.iter().map(|(what, range)| format!("{what} {range}")).collect();
        let want = [
            "RAM 0x0-0x9ffff",
            "RAM 0x100000-0x1fffff",
            "an I/O APIC 0xfec00000-0xfec00fff",
            "the root task's screen 0xb8000-0xb8fff",
            "a local APIC 0xfee00000-0xfeefffff",
        ];
        assert_eq!(shown, want);
    }

    proptest! {
        /// Whatever is opened and closed, no two open sessions overlap.
        #[test]
        fn open_sessions_never_overlap(steps in prop::collection::vec((any::<bool>(), 0u16..12, 0u16..4), 0..60)) {
            let all = Rights { ports: vec![PortRange { first: 0, last: 20 }], ..Rights::default() };
            let (mut claims, mut open) = (Claims::default(), Vec::<(Claim, PortRange)>::new());
            for (close, first, more) in steps {
                if close && !open.is_empty() {
                    claims.close(open.remove(usize::from(first) % open.len()).0);
                    continue;
                }
                let range = PortRange { first, last: first + more };
                let free = !open.iter().any(|(_, o)| o.overlaps(range));
                let claim = claims.open("x", &all, Device::Ports(range));
                prop_assert_eq!(claim.is_ok(), free);
                open.extend(claim.ok().map(|c| (c, range)));
            }
        }
    }
}
