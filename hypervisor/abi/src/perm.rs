//! Permissions of capabilities, by the type of what they refer to (4.1).

use bitflags::bitflags;

/// Number of permission bits of any capability.
pub const BITS: u32 = 5;
/// All permission bits.
pub const ALL: u8 = 0x1f;

bitflags! {
    /// Object, host, guest, DMA, PIO and MSR space capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Space: u8 {
        /// `ctrl_pd` can use the space as source (object, host, PIO, MSR).
        const TAKE = 1 << 0;
        /// `ctrl_pd` can use the space as destination.
        const GRANT = 1 << 1;
        /// `ipc_reply` (guest, PIO, MSR) or `assign_dev` (DMA) can assign the space.
        const ASSIGN = 1 << 2;
    }
    /// Protection domain capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pd: u8 {
        /// `create_pd` permitted.
        const PD = 1 << 0;
        /// `create_ec` permitted.
        const EC = 1 << 1;
        /// `create_sc` permitted.
        const SC = 1 << 2;
        /// `create_pt` permitted.
        const PT = 1 << 3;
        /// `create_sm` permitted.
        const SM = 1 << 4;
    }
    /// Execution context capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ec: u8 {
        /// `ctrl_ec` permitted.
        const CTRL = 1 << 0;
        /// `create_pt` can bind a portal to the EC.
        const BIND_PT = 1 << 2;
        /// `create_sc` can bind a scheduling context to the EC.
        const BIND_SC = 1 << 3;
    }
    /// Scheduling context capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sc: u8 {
        /// `ctrl_sc` permitted.
        const CTRL = 1 << 0;
    }
    /// Portal capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pt: u8 {
        /// `ctrl_pt` permitted.
        const CTRL = 1 << 0;
        /// `ipc_call` permitted.
        const CALL = 1 << 1;
        /// Delivery of events permitted.
        const EVENT = 1 << 2;
    }
    /// Semaphore capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sm: u8 {
        /// `ctrl_sm` (up) permitted.
        const CTRL_UP = 1 << 0;
        /// `ctrl_sm` (down) permitted.
        const CTRL_DN = 1 << 1;
        /// `assign_int` permitted; defined for interrupt semaphores only.
        const ASSIGN = 1 << 2;
    }
    /// Memory capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mem: u8 {
        /// Readable.
        const R = 1 << 0;
        /// Writable.
        const W = 1 << 1;
        /// Executable in user mode.
        const XU = 1 << 2;
        /// Executable in supervisor mode.
        const XS = 1 << 3;
    }
    /// PIO capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Pio: u8 {
        /// Accessible by IN and OUT.
        const A = 1 << 0;
    }
    /// MSR capabilities.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Msr: u8 {
        /// Readable by RDMSR.
        const R = 1 << 0;
        /// Writable by WRMSR.
        const W = 1 << 1;
    }
}
