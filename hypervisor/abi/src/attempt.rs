//! What kernels for tests do (features `user` and `inject`): hypercall 0xf.8.

/// What a kernel for tests tries: an access that has to fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Attempt {
    /// Write to its code.
    WriteText = 0,
    /// Write to its read-only data.
    WriteRodata = 1,
    /// Execute its data.
    CallData = 2,
    /// Read user memory at the address in RSI.
    ReadUser = 3,
    /// Write there.
    WriteUser = 4,
    /// Execute what is there.
    CallUser = 5,
    /// Read this CPU's data where other CPUs would see it, if they did.
    ReadCpu = 6,
    /// Push until the stack is full.
    Overflow = 7,
    /// None: look at all entries of the page tables in use.
    Audit = 8,
}

impl Attempt {
    /// All, in the order of their numbers.
    pub const ALL: [Attempt; 9] = {
        use Attempt::*;
        [WriteText, WriteRodata, CallData, ReadUser, WriteUser, CallUser, ReadCpu, Overflow, Audit]
    };
}
