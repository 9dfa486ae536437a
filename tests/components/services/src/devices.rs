//! Clients of the root task's devices: ports, an interrupt and memory as sessions.

use crate::{Outcome, equal, text};
use mc146818::spec;
use rpc::{Cap, Space};
use rt::hw::{self, Interrupt, OpenError, OpenPorts, Registers};
use rt::rpc::{Entrypoint, Managed};
use rt::session::{self, Error, Refused, Request, Root, Session};
use services::device::{self, NotGiven};
use services::{Date, IoMem, IoPort, IoPortClient, Irq, Rtc, RtcClient, RtcError, RtcServer};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use zerocopy::IntoBytes;

/// The clock chip's ports.
const PORTS: (u16, u16) = (0x70, 0x71);
/// Its interrupt.
const IRQ: u32 = 8;
/// The second page of the text screen's memory, which nobody shows.
const MEMORY: (u64, u64) = (0xb_9000, 0xb_9fff);
/// Ticks that are waited for.
const TICKS: usize = 20;
const STACK: usize = 32 << 10;

/// The clock chip, and a page of the screen.
struct Device {
    ports: OpenPorts,
    interrupt: Interrupt,
    memory: Registers,
}

fn open() -> Result<Device, OpenError> {
    let (ports, interrupt) = (hw::ports(PORTS.0, PORTS.1)?, hw::interrupt(IRQ)?);
    Ok(Device { ports, interrupt, memory: hw::memory(MEMORY.0, MEMORY.1)? })
}

fn denied<T>(what: &str, opened: Result<T, OpenError>) -> Outcome {
    equal(what, opened.map(drop), Err(OpenError::Session(Error::Denied)))
}

impl Device {
    fn read(&self, register: u8) -> u8 {
        self.ports.out8(0, register & spec::INDEX_MASK);
        self.ports.in8(1)
    }

    /// Whether the chip interrupts at its rate.
    fn tick(&self, ticks: bool) {
        let b = self.read(spec::REGISTER_B) & !spec::SOURCES;
        self.ports.out8(0, spec::REGISTER_B);
        self.ports.out8(1, if ticks { b | spec::PERIODIC } else { b });
        if !ticks {
            self.read(spec::REGISTER_C);
        }
    }

    /// Returns when the chip has interrupted for so many ticks.
    fn wait(&self) {
        // Who had it before may have left it ticking; a chip that nobody answers may interrupt more than once.
        self.tick(false);
        while self.interrupt.down_until(rt::time::tsc()) {}
        self.tick(true);
        let mut seen = 0;
        while seen < TICKS {
            self.interrupt.down_zero();
            seen += usize::from(self.read(spec::REGISTER_C) & spec::PERIODIC != 0);
        }
    }

    /// What is written is there, in all widths.
    fn remember(&self) -> Outcome {
        let m = &self.memory;
        m.write64(8, 0x1122_3344_5566_7788);
        m.write8(15, 0xff);
        let found = (m.read16(8), m.read32(12), m.read64(8));
        equal("memory", found, (0x7788, 0xff22_3344, 0xff22_3344_5566_7788))?;
        equal("its size", m.size(), 4096)
    }
}

/// The life of a driver: what its description does not say is denied, and so is what is no device's; what it opens it has until
/// it lets go of it, or ends.
pub fn driver() -> Outcome {
    denied("ports that it may not have", hw::ports(0x60, 0x64))?;
    denied("more ports than it may have", hw::ports(PORTS.0, PORTS.1 + 1))?;
    denied("an interrupt that it may not have", hw::interrupt(1))?;
    denied("memory that it may not have", hw::memory(MEMORY.0, MEMORY.1 + 0x1000))?;
    denied("RAM", hw::memory(0x10_0000, 0x10_0fff))?;
    denied("a local APIC", hw::memory(0xfee0_0000, 0xfee0_0fff))?;
    denied("an I/O APIC", hw::memory(0xfec0_0000, 0xfec0_0fff))?;
    denied("a part of a page", hw::memory(MEMORY.0, MEMORY.0 + 3))?;
    let args = device::Ports { first: PORTS.1, last: PORTS.0 };
    let reversed = session::open::<dyn IoPort>("", args.as_bytes());
    denied("no range", reversed.map_err(OpenError::Session))?;
    denied("no arguments", session::open::<dyn Irq>("", &[]).map_err(OpenError::Session))?;
    denied("half an argument", session::open::<dyn IoMem>("", &[0; 8]).map_err(OpenError::Session))?;

    let device = patient()?;
    device.remember()?;
    device.wait();
    denied("its own port again", hw::ports(PORTS.0, PORTS.0))?;
    denied("its own interrupt again", hw::interrupt(IRQ))?;
    denied("its own memory again", hw::memory(MEMORY.0, MEMORY.1))?;
    // In later lives it may have ended; it says itself whether it was asked.
    let rival: Result<Session<dyn Rtc>, Error> = session::open("", &[]);
    if let Ok(rival) = &rival {
        let rivals = RtcClient::new(rival.portal()).unix_ns().map_err(text)?;
        equal("the rival has got nothing", rivals, Err(RtcError::Silent))?;
    }

    // Ticks that have come for it are not there for the next one.
    device.tick(true);
    std::thread::sleep(Duration::from_millis(20));
    device.tick(false);
    drop(device.interrupt);
    let interrupt = hw::interrupt(IRQ).map_err(text)?;
    equal("an old interrupt", interrupt.down_until(rt::time::tsc()), false)?;
    let device = Device { interrupt, ..device };
    device.wait();
    drop(device);
    let device = patient()?;
    device.remember()?;
    end("the driver has ports, interrupt and memory, and ends with them")
}

/// As a fault would: nothing is let go of.
fn end(what: &str) -> ! {
    println!("{what}");
    std::process::exit(0)
}

/// A driver that is started again and again finds its device as it was.
pub fn renewed() -> Outcome {
    let device = open().map_err(text)?;
    device.remember()?;
    device.wait();
    end("renewed")
}

/// Opens all, as soon as the rival lets it.
fn patient() -> Result<Device, String> {
    loop {
        match open() {
            Err(OpenError::Session(Error::Denied)) => std::thread::sleep(Duration::from_millis(10)),
            other => return other.map_err(text),
        }
    }
}

/// A second component that may have the same, as a server, so that it tries when the driver asks.
struct Rival;

/// Whether the driver has had it try.
static ASKED: AtomicBool = AtomicBool::new(false);

impl Rtc for Rival {
    fn date(&mut self) -> Result<Date, RtcError> {
        Err(RtcError::NoDate)
    }

    /// Tries while the driver has it.
    fn unix_ns(&mut self) -> Result<u64, RtcError> {
        ASKED.store(true, Relaxed);
        let each = [denied("", hw::ports(PORTS.1, PORTS.1)), denied("", hw::interrupt(IRQ)), denied("", open())];
        if each.iter().all(Outcome::is_ok) { Err(RtcError::Silent) } else { Ok(0) }
    }
}

struct Rivals(Sender<()>);

impl Root for Rivals {
    type Interface = dyn Rtc;
    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Rtc>, Refused> {
        at.manage(RtcServer(Rival)).map_err(|_| Refused::Denied)
    }
    fn closed(&mut self, _: u64) {
        // Fails only if the main thread is gone, and the component with it.
        let _ = self.0.send(());
    }
}

/// Has it when the driver has ended.
pub fn rival() -> Outcome {
    let (ended, ends) = channel();
    session::serve(Entrypoint::new(rt::thread::cpu(), STACK).map_err(text)?, Rivals(ended)).map_err(text)?;
    ends.recv().map_err(text)?;
    equal("the driver has asked", ASKED.load(Relaxed), true)?;
    let device = patient()?;
    device.remember()?;
    device.wait();
    device.tick(false);
    println!("the rival has had ports, interrupt and memory after the driver");
    Ok(())
}

/// Uses a port when it has let go of it, and is to be stopped for that.
pub fn late() -> Outcome {
    let ports = hw::ports(0x80, 0x80).map_err(text)?;
    ports.out8(0, 1);
    drop(ports);
    println!("the port is given back");
    hw::Ports::new(0x80, 1).out8(0, 2);
    Err("nobody has stopped it".into())
}

/// In an init, which has more than this component may have.
pub fn inner() -> Outcome {
    let ports = hw::ports(0x84, 0x85).map_err(text)?;
    ports.out8(1, 3);
    // The init may have that.
    equal("another's port", hw::ports(0x86, 0x86).map(drop), Err(OpenError::Refused(NotGiven::Denied)))?;
    let args = device::Ports { first: 0x87, last: 0x87 };
    let session = session::open::<dyn IoPort>("", args.as_bytes()).map_err(text)?;
    let to = Cap::from_sel(parent::sel::RM_SESSION);
    let nobodys = IoPortClient::new(session.portal()).give(to).map_err(text)?;
    equal("what is no protection domain", nobodys, Err(NotGiven::Nobody))?;
    let nobodys = IoPortClient::new(session.portal()).give_guest(Space(to.sel())).map_err(text)?;
    equal("what is no guest's", nobodys, Err(NotGiven::Kernel))?;
    denied("no port of the init's", hw::ports(0x88, 0x88))
}
