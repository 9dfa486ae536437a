//! Hypercall numbers, status codes and packed descriptors (5.1, 4.5, 8.7.5, 8.8).

/// Hypercall numbers (5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Hypercall {
    /// Call a portal.
    IpcCall = 0x0,
    /// Reply and wait.
    IpcReply = 0x1,
    /// Create a protection domain or a space.
    CreatePd = 0x2,
    /// Create an execution context.
    CreateEc = 0x3,
    /// Create a scheduling context.
    CreateSc = 0x4,
    /// Create a portal.
    CreatePt = 0x5,
    /// Create a semaphore.
    CreateSm = 0x6,
    /// Take and grant capabilities between spaces.
    CtrlPd = 0x7,
    /// Recall an execution context.
    CtrlEc = 0x8,
    /// Read the time a scheduling context has consumed.
    CtrlSc = 0x9,
    /// Set identifier and MTD of a portal.
    CtrlPt = 0xa,
    /// Up or down on a semaphore.
    CtrlSm = 0xb,
    /// Platform power and quality of service.
    CtrlHw = 0xc,
    /// Route an interrupt.
    AssignInt = 0xd,
    /// Assign a device to a DMA space.
    AssignDev = 0xe,
}

impl Hypercall {
    /// All hypercalls, in the order of their numbers.
    pub const ALL: [Hypercall; 15] = {
        use Hypercall::*;
        [
            IpcCall, IpcReply, CreatePd, CreateEc, CreateSc, CreatePt, CreateSm, CtrlPd, CtrlEc, CtrlSc, CtrlPt,
            CtrlSm, CtrlHw, AssignInt, AssignDev,
        ]
    };

    /// The hypercall of that number.
    pub const fn from_number(n: u8) -> Option<Hypercall> {
        if (n as usize) < Self::ALL.len() { Some(Self::ALL[n as usize]) } else { None }
    }
}

/// Status codes (5.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Status {
    /// Operation successful.
    Success = 0x0,
    /// The timeout triggered, or the callee was busy and the caller did not want to wait.
    Timeout = 0x1,
    /// The operation was aborted because a partner is dead, or an object could not bind.
    Aborted = 0x2,
    /// A counter would overflow.
    Ovrflow = 0x3,
    /// Invalid hypercall.
    BadHyp = 0x4,
    /// Invalid capability, or one with insufficient permissions.
    BadCap = 0x5,
    /// Invalid parameter.
    BadPar = 0x6,
    /// Feature not supported by this machine.
    BadFtr = 0x7,
    /// Invalid CPU number, or caller and callee on different CPUs.
    BadCpu = 0x8,
    /// Invalid device.
    BadDev = 0x9,
    /// Insufficient memory for an object.
    MemObj = 0xa,
    /// Insufficient memory for capabilities.
    MemCap = 0xb,
}

impl core::fmt::Display for Status {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Status::Success => "the kernel did it (SUCCESS)",
            Status::Timeout => "the time was over, or the callee busy (TIMEOUT)",
            Status::Aborted => "the partner is dead, or the object could not bind (ABORTED)",
            Status::Ovrflow => "a counter would overflow (OVRFLOW)",
            Status::BadHyp => "the kernel has no such hypercall (BAD_HYP)",
            Status::BadCap => "no such capability, or too few permissions (BAD_CAP)",
            Status::BadPar => "the kernel does not take a parameter (BAD_PAR)",
            Status::BadFtr => "this machine has no such feature (BAD_FTR)",
            Status::BadCpu => "no such CPU, or not the caller's (BAD_CPU)",
            Status::BadDev => "no such device (BAD_DEV)",
            Status::MemObj => "too little kernel memory for an object (MEM_OBJ)",
            Status::MemCap => "too little kernel memory for capabilities (MEM_CAP)",
        })
    }
}

impl core::error::Error for Status {}

/// What `create_pd` creates: its OP flags (5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CreatePdOp {
    /// A protection domain.
    Pd = 0,
    /// The object space of a protection domain.
    Obj = 1,
    /// The host space of a protection domain.
    Hst = 2,
    /// A guest space.
    Gst = 3,
    /// A DMA space.
    Dma = 4,
    /// A PIO space.
    Pio = 5,
    /// An MSR space.
    Msr = 6,
    /// Extension X2: a protection domain with an account of its own.
    Account = 8,
}

impl CreatePdOp {
    /// Decodes the OP flags.
    pub const fn from_flags(f: u8) -> Option<CreatePdOp> {
        use CreatePdOp::*;
        const ALL: [Option<CreatePdOp>; 9] =
            [Some(Pd), Some(Obj), Some(Hst), Some(Gst), Some(Dma), Some(Pio), Some(Msr), None, Some(Account)];
        if (f as usize) < ALL.len() { ALL[f as usize] } else { None }
    }
}

/// Operations of `ctrl_hw` (5.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HwOp {
    /// S-state transition or platform reset.
    Sleep = 0,
    /// Quality-of-service configuration.
    Qos = 4,
    /// L3 capacity bit mask.
    L3Mask = 5,
    /// L2 capacity bit mask.
    L2Mask = 6,
    /// Memory-bandwidth delay.
    MbaDelay = 7,
}

impl HwOp {
    /// S value of a platform reset in the descriptor of [`HwOp::Sleep`].
    pub const RESET: u8 = 7;
}

/// Scheduling context descriptor (4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scd {
    /// Class of service.
    pub cos: u16,
    /// Priority, 1 to 127; higher numbers preempt lower ones.
    pub prio: u8,
    /// Budget in milliseconds, at least 1.
    pub budget_ms: u16,
}

impl Scd {
    /// Unpacks; bits 63:39 are ignored.
    pub const fn unpack(v: u64) -> Scd {
        Scd { cos: (v >> 23) as u16, prio: (v >> 16 & 0x7f) as u8, budget_ms: v as u16 }
    }
}

/// Memory attribute descriptor: cacheability in bits 2:0, key identifier in 17:3 (8.7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mad(pub u32);

impl Mad {
    /// Write back.
    pub const WB: Mad = Mad(0);
    /// Write through.
    pub const WT: Mad = Mad(1);
    /// Write combining.
    pub const WC: Mad = Mad(2);
    /// Strong uncacheable.
    pub const UC: Mad = Mad(3);
    /// Write protected.
    pub const WP: Mad = Mad(4);

    /// Cacheability encoding.
    pub const fn cacheability(self) -> u32 {
        self.0 & 7
    }

    /// Key identifier.
    pub const fn key(self) -> u32 {
        self.0 >> 3 & 0x7fff
    }

    /// Whether cacheability is defined and the key is at most `key_max`.
    pub const fn valid(self, key_max: u32) -> bool {
        self.cacheability() <= 4 && self.key() <= key_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for (i, h) in Hypercall::ALL.into_iter().enumerate() {
            assert_eq!(Hypercall::from_number(i as u8), Some(h));
            assert_eq!(h.identifier(0, 0), i as u64);
        }
        assert_eq!(Hypercall::from_number(15), None);
        assert_eq!(Status::from_register(0xabcd_0005), Some(Status::BadCap));
        assert_eq!(Status::from_register(0xc), None);
    }

    #[test]
    fn operations_of_create_pd_round_trip() {
        for f in 0..=15 {
            assert_eq!(CreatePdOp::from_flags(f).map(|op| op as u8), Some(f).filter(|f| *f < 7 || *f == 8));
        }
    }

    #[test]
    fn identifier_places_selector_and_flags() {
        assert_eq!(Hypercall::CtrlSm.identifier(0b11, 0x1234), 0x12_343b);
    }

    #[test]
    fn scheduling_descriptor_round_trips() {
        let d = Scd { cos: 0x1234, prio: 127, budget_ms: 1000 };
        assert_eq!(Scd::unpack(d.pack()), d);
        assert_eq!(Scd::unpack(d.pack() | 1 << 63), d);
        assert_eq!(Scd { cos: 0, prio: 1, budget_ms: 1 }.pack(), 0x10001);
    }

    #[test]
    fn memory_attributes_are_checked() {
        assert!(Mad::UC.valid(0));
        assert!(!Mad(5).valid(0));
        assert!(!Mad(1 << 3).valid(0));
        assert!(Mad(1 << 3).valid(1));
    }

    #[test]
    fn sleep_descriptor_layout() {
        assert_eq!(HwOp::sleep_descriptor(5, 0, 0), 5);
        assert_eq!(HwOp::sleep_descriptor(5, 7, 1), 5 | 7 << 3 | 1 << 6);
    }
}
