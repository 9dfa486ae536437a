//! What a virtual-machine monitor needs: guest, PIO and MSR spaces, and virtual CPUs.
//!
//! The memory of a guest is a session with core, [`Guest`]: dataspaces are attached in it. [`GuestSpace`] is one of the own
//! domain, in which own memory can be shown that was not attached.
//!
//! The monitor assigns the spaces to its vCPU in the reply to the vCPU's STARTUP event ([`abi::Mtd::SPACES`]); events
//! arrive at portals that it binds to a [`crate::PortalThread`] at `event_base` + event number.

use crate::dataspace::{self, AllocError, AttachError, Attached};
use crate::hypercall::{self, EcArgs};
use crate::rpc::Held;
use crate::session::{self, Session};
use crate::{domain, sel, space, tcb, thread};
use abi::perm::Mem;
use abi::{CreatePdOp, Mad, PAGE_SIZE, Sel, Status};
use core::fmt;
use rpc::Cap;
use services::rm::Attr;
use services::{Dataspace, Vm, VmClient, vm};

const PAGE: u64 = PAGE_SIZE as u64;

/// A space of the own domain at a selector of its own.
#[derive(Debug)]
struct Space(Sel);

impl Space {
    fn new(op: CreatePdOp) -> Result<Space, Status> {
        let s = sel::alloc().ok_or(Status::MemCap)?;
        hypercall::create_pd(op, s, domain::own().pd).inspect_err(|_| sel::free(s))?;
        Ok(Space(s))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        sel::free(self.0);
    }
}

/// Why there is no guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestError {
    /// There is no session: no route leads to core's `vm`, or core denies it.
    Session(session::Error),
    /// The call did not come to an answer.
    Call(rpc::Error),
}

impl fmt::Display for GuestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestError::Session(e) => e.fmt(f),
            GuestError::Call(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for GuestError {}

/// The guest-physical memory of one guest, at core. It is gone with this value, and virtual CPUs with it.
#[derive(Debug)]
pub struct Guest {
    // First, so that it is given back before the session is closed.
    space: Held<vm::GuestSpace>,
    session: Session<dyn Vm>,
}

impl Guest {
    /// One without memory. On the CPU where the component started.
    pub fn open() -> Result<Guest, GuestError> {
        let session = session::open::<dyn Vm>("", &[]).map_err(GuestError::Session)?;
        let space = VmClient::new(session.portal()).space().map_err(GuestError::Call)?;
        Ok(Guest { space: Held::adopt(space), session })
    }

    /// Its selector, for virtual CPUs.
    pub fn sel(&self) -> Sel {
        self.space.0
    }

    /// Shows it a part of a dataspace, at guest-physical address `attr.at`. Memory of 2 MiB and more lies on such a boundary:
    /// where `attr.at` does, too, large pages map it.
    pub fn attach(&self, dataspace: Cap<dyn Dataspace>, attr: Attr) -> Result<(), AttachError> {
        let attached = VmClient::new(self.session.portal()).attach(dataspace, attr).map_err(AttachError::Call)?;
        attached.map_err(AttachError::Refused)
    }

    /// Takes away what is attached from guest-physical address `at` on; `false`: nothing is.
    pub fn detach(&self, at: u64) -> Result<bool, rpc::Error> {
        VmClient::new(self.session.portal()).detach(at).map(|detached| detached.is_ok())
    }

    /// RAM from the own quota, `len` bytes of zeros, whole pages: at guest-physical address `at`, to be read, written and
    /// executed there, until it is detached; and in the own address space until the value that is returned goes. It is
    /// given back when both have let go of it.
    pub fn ram(&self, at: u64, len: u64) -> Result<Attached, AllocError> {
        let pd = dataspace::pd();
        let ram = Held::adopt(pd.alloc(len).map_err(AllocError::Call)?.map_err(AllocError::Refused)?);
        let both = dataspace::attach(*ram, Attr::WRITE).and_then(|attached| {
            self.attach(*ram, Attr { executable: true, ..Attr::WRITE.at(at) })?;
            Ok(attached)
        });
        // Nobody attaches it any more.
        let _ = pd.free(*ram);
        both.map_err(AllocError::Attach)
    }
}

/// Guest-physical memory of the own domain.
#[derive(Debug)]
pub struct GuestSpace(Space);

impl GuestSpace {
    /// An empty one. [`Status::BadFtr`] where the machine runs no guests.
    pub fn new() -> Result<GuestSpace, Status> {
        Space::new(CreatePdOp::Gst).map(GuestSpace)
    }

    /// Its selector.
    pub const fn sel(&self) -> Sel {
        self.0.0
    }

    /// Lets the guest see `len` bytes at `host_addr` at guest-physical address `gpa`. All three are whole pages
    /// ([`Status::BadPar`] otherwise); equal alignment of both addresses makes it fast. The guest gets those of the
    /// permissions that the host mapping has.
    ///
    /// # Safety
    /// The memory must be ours, stay allocated as long as it is mapped, and be only accessed in ways that bear with
    /// a guest that reads (and, with W, writes) it at any time: no references, but volatile or atomic accesses.
    pub unsafe fn map(&self, gpa: u64, host_addr: *const u8, len: u64, perms: Mem) -> Result<(), Status> {
        let host = host_addr.expose_provenance() as u64;
        if !(gpa | host | len).is_multiple_of(PAGE) {
            return Err(Status::BadPar);
        }
        // SAFETY: the destination is a guest space; the caller vouches for the source.
        unsafe {
            let hst = domain::own().hst;
            space::delegate(hst, self.sel(), host / PAGE, gpa / PAGE, len / PAGE, perms.bits(), Mad::WB)
        }
    }

    /// Takes `len` bytes at `gpa` away from the guest.
    pub fn unmap(&self, gpa: u64, len: u64) -> Result<(), Status> {
        if !(gpa | len).is_multiple_of(PAGE) {
            return Err(Status::BadPar);
        }
        // The source does not matter with an empty mask, but its selectors must exist: host spaces are smaller than
        // guest spaces, so it is always the pages at 0.
        for p in rtlogic::orders(0, gpa / PAGE, len / PAGE) {
            // SAFETY: the destination is a guest space, and nothing is mapped.
            unsafe { hypercall::ctrl_pd(domain::own().hst, self.sel(), 0, p.dst, p.order, 0, Mad::WB)? };
        }
        Ok(())
    }
}

macro_rules! exit_space {
    ($name:ident, $op:expr, $what:literal) => {
        #[doc = concat!($what, " that a guest may access without an exit: at first none.")]
        #[derive(Debug)]
        pub struct $name(Space);

        impl $name {
            /// An empty one: every access exits.
            pub fn new() -> Result<$name, Status> {
                Space::new($op).map($name)
            }

            /// Its selector.
            pub const fn sel(&self) -> Sel {
                self.0.0
            }
        }
    };
}

exit_space!(PioSpace, CreatePdOp::Pio, "I/O ports");
exit_space!(MsrSpace, CreatePdOp::Msr, "MSRs");

/// A virtual CPU. Dropping it gives up the capabilities to it; the kernel ends it when the last one is gone.
#[derive(Debug)]
pub struct Vcpu {
    ec: Sel,
    sc: Sel,
}

impl Vcpu {
    /// A vCPU on `cpu` with events at `event_base`, which must be portals to a thread on the same CPU. It does not run
    /// yet. [`Status::BadCpu`]: the component may not use this CPU; [`Status::BadCap`]: it may have no guests.
    pub fn new(cpu: u16, event_base: Sel) -> Result<Vcpu, Status> {
        Vcpu::create(cpu, event_base, false)
    }

    /// As [`Vcpu::new`]; its TSC begins at 0 now.
    pub fn with_own_time(cpu: u16, event_base: Sel) -> Result<Vcpu, Status> {
        Vcpu::create(cpu, event_base, true)
    }

    fn create(cpu: u16, event_base: Sel, own_time: bool) -> Result<Vcpu, Status> {
        let ec = sel::alloc().ok_or(Status::MemCap)?;
        let args = EcArgs {
            utcb_page: tcb::new_utcb_page(),
            cpu,
            evt: event_base,
            guest: true,
            global_or_offset: own_time,
            fpu: true,
            ..EcArgs::default()
        };
        // SAFETY: a guest runs in its guest space only, and the page for its APIC is fresh.
        unsafe { thread::create_ec(ec, args) }.inspect_err(|_| sel::free(ec))?;
        Ok(Vcpu { ec, sc: 0 })
    }

    /// Its EC.
    pub const fn sel(&self) -> Sel {
        self.ec
    }

    /// Gets it a scheduling context `lower` priorities below the component's own: it raises STARTUP.
    pub fn start(&mut self, lower: u64) -> Result<(), Status> {
        let sc = sel::alloc().ok_or(Status::MemCap)?;
        thread::give_sc(self.ec, sc, lower).inspect_err(|_| sel::free(sc))?;
        self.sc = sc;
        Ok(())
    }

    /// Makes it raise RECALL before it goes on.
    pub fn recall(&self) -> Result<(), Status> {
        hypercall::ctrl_ec(self.ec, false)
    }

    /// A handle to recall it from other threads.
    pub const fn recaller(&self) -> Recaller {
        Recaller(self.ec)
    }
}

impl Drop for Vcpu {
    fn drop(&mut self) {
        [self.sc, self.ec].into_iter().for_each(sel::free);
    }
}

/// Recalls a vCPU. Fails once the vCPU is gone.
#[derive(Clone, Copy, Debug)]
pub struct Recaller(Sel);

impl Recaller {
    /// As [`Vcpu::recall`].
    pub fn recall(self) -> Result<(), Status> {
        hypercall::ctrl_ec(self.0, false)
    }
}
