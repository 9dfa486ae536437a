//! Devices: I/O ports, interrupts, and memory of devices. What a component's description lets it have it opens by sessions at
//! core, and has until it lets the value go: [`ports`], [`interrupt`], [`memory`].
//!
//! Key types: [`Ports`]; [`OpenPorts`], [`Interrupt`], [`Registers`], what sessions give.

use crate::dataspace::{AttachError, Attached, attach};
use crate::rpc::Portal;
use crate::session::{self, Session};
use crate::vm::PioSpace;
use crate::{Semaphore, sel};
use core::arch::asm;
use core::fmt;
use core::ops::Deref;
use parent::sel::PD_SESSION;
use rpc::{Cap, Error, Space};
use services::device::{self, NotGiven};
use services::rm::Attr;
use services::{IoMem, IoMemClient, IoPort, IoPortClient, Irq, IrqClient, Pd};
use zerocopy::IntoBytes;

/// Why a device cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no session: the component may not have it, or somebody else has it. Core's log says which.
    Session(session::Error),
    /// Core does not answer.
    Call(Error),
    /// Core does not give it.
    Refused(NotGiven),
    /// The memory cannot be attached.
    Attach(AttachError),
    /// No selector is free.
    Selectors,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Session(e) => e.fmt(f),
            OpenError::Call(e) => e.fmt(f),
            OpenError::Refused(e) => e.fmt(f),
            OpenError::Attach(e) => e.fmt(f),
            OpenError::Selectors => f.write_str("no selector is free"),
        }
    }
}

impl core::error::Error for OpenError {}

/// The own protection domain, to which devices are given.
fn own() -> Cap<dyn Pd> {
    Cap::from_sel(PD_SESSION)
}

fn given(answer: Result<Result<(), NotGiven>, Error>) -> Result<(), OpenError> {
    answer.map_err(OpenError::Call)?.map_err(OpenError::Refused)
}

/// Opens the ports from `first` to `last`, if they are among `io_ports` of the description and nobody else has them.
pub fn ports(first: u16, last: u16) -> Result<OpenPorts, OpenError> {
    let session = PortSession::open(first, last)?;
    given(session.client().give(own()))?;
    // Arguments of a session that there is are in order.
    Ok(OpenPorts { ports: Ports { first, count: u32::from(last - first) + 1 }, _session: session })
}

/// Opens ports as [`ports`] does, for a guest, which uses them without exits.
pub fn guest_ports(first: u16, last: u16, space: &PioSpace) -> Result<GuestPorts, OpenError> {
    let session = PortSession::open(first, last)?;
    given(session.client().give_guest(Space(space.sel())))?;
    Ok(GuestPorts(session))
}

/// Opens a global system interrupt, if it is among `irqs` of the description and nobody else has it.
pub fn interrupt(gsi: u32) -> Result<Interrupt, OpenError> {
    let session = session::open::<dyn Irq>("", device::Pin { gsi }.as_bytes()).map_err(OpenError::Session)?;
    let at = sel::alloc().ok_or(OpenError::Selectors)?;
    // From here on it is given back by its end.
    let interrupt = Interrupt { semaphore: Semaphore::from_sel(at), session };
    given(interrupt.client().give(own(), at))?;
    Ok(interrupt)
}

/// Opens the physical addresses from `first` to `last`, whole pages, if they are within `io_mem` of the description, no RAM,
/// and nobody else has them.
pub fn memory(first: u64, last: u64) -> Result<Registers, OpenError> {
    let args = device::Memory { first, last };
    let session = session::open::<dyn IoMem>("", args.as_bytes()).map_err(OpenError::Session)?;
    let dataspace = IoMemClient::new(session.portal()).dataspace().map_err(OpenError::Call)?;
    let attached = attach(dataspace, Attr::WRITE).map_err(OpenError::Attach)?;
    Ok(Registers { attached, _session: session })
}

/// A session of ports. When it goes, whoever has them loses them first.
#[derive(Debug)]
struct PortSession(Session<dyn IoPort>);

impl PortSession {
    fn open(first: u16, last: u16) -> Result<PortSession, OpenError> {
        let args = device::Ports { first, last };
        session::open::<dyn IoPort>("", args.as_bytes()).map(PortSession).map_err(OpenError::Session)
    }

    fn client(&self) -> IoPortClient<Portal> {
        IoPortClient::new(self.0.portal())
    }
}

impl Drop for PortSession {
    fn drop(&mut self) {
        // At once, whoever is between core and here. If core does not answer it is gone, or they are.
        let _ = self.client().take_back();
    }
}

/// Ports of a session. When this value goes, an access to them is a fault.
#[derive(Debug)]
pub struct OpenPorts {
    ports: Ports,
    _session: PortSession,
}

impl Deref for OpenPorts {
    type Target = Ports;
    fn deref(&self) -> &Ports {
        &self.ports
    }
}

/// Ports of a session that a guest has. When this value goes, its accesses are exits again.
#[derive(Debug)]
pub struct GuestPorts(#[expect(dead_code, reason = "the ports are taken back when it goes")] PortSession);

/// An interrupt of a session. It is silent when this value has gone.
#[derive(Debug)]
pub struct Interrupt {
    semaphore: Semaphore,
    session: Session<dyn Irq>,
}

impl Interrupt {
    fn client(&self) -> IrqClient<Portal> {
        IrqClient::new(self.session.portal())
    }
}

/// The semaphore that is upped at each interrupt.
impl Deref for Interrupt {
    type Target = Semaphore;
    fn deref(&self) -> &Semaphore {
        &self.semaphore
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // As long as core may still empty the selector it is nothing else's.
        if self.client().take_back().is_ok() {
            sel::free(self.semaphore.sel());
        }
    }
}

/// Memory of a device, in the own address space: an access to what is not there, or no longer, is a fault.
#[derive(Debug)]
pub struct Registers {
    // First, so that it is detached before the session is closed.
    attached: Attached,
    _session: Session<dyn IoMem>,
}

macro_rules! registers {
    ($($bits:literal $t:ty, $read:ident $write:ident;)*) => { $(
        #[doc = concat!("Reads ", $bits, " bits at offset `off`, in bytes.")]
        #[inline]
        pub fn $read(&self, off: usize) -> $t {
            // SAFETY: a device's memory, aligned, attached as long as `self`, and referenced by nobody.
            unsafe { self.at::<$t>(off).read_volatile() }
        }
        #[doc = concat!("Writes ", $bits, " bits at offset `off`, in bytes.")]
        #[inline]
        pub fn $write(&self, off: usize, v: $t) {
            // SAFETY: as above.
            unsafe { self.at::<$t>(off).write_volatile(v) };
        }
    )* };
}

impl Registers {
    /// Bytes.
    pub fn size(&self) -> usize {
        self.attached.size()
    }

    /// A register. Panics if it is not aligned, or ends behind the memory.
    fn at<T>(&self, off: usize) -> *mut T {
        let fits = off.checked_add(size_of::<T>()).is_some_and(|end| end <= self.size());
        assert!(fits && off.is_multiple_of(size_of::<T>()), "register offset {off:#x} is out of range");
        core::ptr::with_exposed_provenance_mut(self.attached.address() as usize + off)
    }

    registers! {
        8 u8, read8 write8;
        16 u16, read16 write16;
        32 u32, read32 write32;
        64 u64, read64 write64;
    }
}

/// A range of I/O ports. An access to those that no session of this component's has is a fault.
///
/// Accesses are checked against the range. They are safe in Rust's sense as long as the device behind them does no
/// DMA; what they do to the machine is the driver's business.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    count: u32,
}

macro_rules! accessors {
    ($($bits:literal $t:ty, $read:ident $write:ident $reg:tt;)*) => { $(
        #[doc = concat!("Reads ", $bits, " bits at offset `off`.")]
        #[inline]
        pub fn $read(&self, off: u16) -> $t {
            let port = self.port(off, size_of::<$t>());
            let v: $t;
            // SAFETY: reads a port of the own range.
            unsafe { asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) v, options(nomem, nostack, preserves_flags)) };
            v
        }
        #[doc = concat!("Writes ", $bits, " bits at offset `off`.")]
        #[inline]
        pub fn $write(&self, off: u16, v: $t) {
            let port = self.port(off, size_of::<$t>());
            // SAFETY: writes a port of the own range.
            unsafe { asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) v, options(nomem, nostack, preserves_flags)) };
        }
    )* };
}

impl Ports {
    /// `count` ports from `first` on. Panics if they are not all within 0 to 0xffff.
    pub const fn new(first: u16, count: u16) -> Ports {
        assert!(first as u32 + count as u32 <= 0x1_0000, "I/O ports end at 0xffff");
        Ports { first, count: count as u32 }
    }

    /// The port at an offset. Panics if an access of that size leaves the range.
    fn port(&self, off: u16, size: usize) -> u16 {
        assert!(usize::from(off) + size <= self.count as usize, "port offset {off:#x} is out of range");
        self.first + off
    }

    accessors! {
        8 u8, in8 out8 "al";
        16 u16, in16 out16 "ax";
        32 u32, in32 out32 "eax";
    }
}
