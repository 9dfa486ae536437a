//! What a virtual-machine monitor needs: guest, PIO and MSR spaces, and virtual CPUs.
//!
//! The monitor assigns the spaces to its vCPU in the reply to the vCPU's STARTUP event ([`abi::Mtd::SPACES`]); events
//! arrive at portals that it binds to a [`crate::PortalThread`] at `event_base` + event number.

use crate::hypercall::{self, EcArgs};
use crate::{domain, sel, space, tcb, thread};
use abi::perm::Mem;
use abi::{CreatePdOp, Mad, PAGE_SIZE, Sel, Status};

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

/// Guest-physical memory.
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
    /// yet. [`Status::BadCpu`]: the component may not use this CPU.
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
