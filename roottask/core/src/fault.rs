//! Exceptions in words: what a component did when it was stopped.
//!
//! Key type: [`Fault`]. Vectors and error codes: Intel SDM volume 3, 6.15.

use std::fmt;

/// Page fault.
const PF: u64 = 14;
/// Error code of a page fault: the page was there.
const PF_PRESENT: u64 = 1 << 0;
/// Write access.
const PF_WRITE: u64 = 1 << 1;
/// Instruction fetch.
const PF_FETCH: u64 = 1 << 4;

/// Name of each vector; "" for those that are reserved.
const NAMES: [&str; 32] = [
    "divide error",
    "debug exception",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection fault",
    "page fault",
    "",
    "x87 floating-point error",
    "alignment check",
    "machine check",
    "SIMD floating-point error",
    "virtualization exception",
    "control protection exception",
    "",
    "",
    "",
    "",
    "",
    "",
    "hypervisor injection exception",
    "VMM communication exception",
    "security exception",
    "",
];

/// What a thread with its UTCB, its vector state and tables for both can take at once, in frames.
const SCARCE: u64 = 12;

/// What is said of a component that was stopped. A program that gets no kernel memory for its threads or locks traps, which says
/// nothing of the cause: limit and use of its `account`, in frames, do.
pub fn stopped(label: &str, fault: Fault, account: Option<(u64, u64)>) -> String {
    let line = format!("component `{label}`: stopped: {fault}");
    let kib = |frames: u64| (frames << abi::PAGE_BITS) >> 10;
    match account.filter(|(limit, used)| limit.saturating_sub(*used) < SCARCE) {
        Some((limit, used)) => {
            format!("{line}; of its kernel memory (key `kmem`) {}K of {}K are used", kib(used), kib(limit))
        }
        None => line,
    }
}

/// An exception of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Vector, 0 to 31.
    pub vector: u64,
    /// Error code; 0 for vectors that have none.
    pub error: u64,
    /// Address of a page fault.
    pub address: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
}

impl Fault {
    fn access(&self) -> &'static str {
        match self.error {
            e if e & PF_FETCH != 0 => "execute",
            e if e & PF_WRITE != 0 => "write",
            _ => "read",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { vector, error, address, rip, rsp } = *self;
        match NAMES.get(vector as usize) {
            Some(name) if !name.is_empty() => write!(f, "{name}")?,
            _ => write!(f, "exception {vector}")?,
        }
        if vector == PF {
            let why = if error & PF_PRESENT == 0 { "not mapped" } else { "not permitted" };
            write!(f, " at {address:#x} ({}, {why})", self.access())?;
        }
        write!(f, ", rip {rip:#x}, rsp {rsp:#x}, error code {error:#x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(vector: u64, error: u64) -> String {
        Fault { vector, error, address: 0x123, rip: 0x40_1000, rsp: 0x4f_ffff_ef00 }.to_string()
    }

    #[test]
    fn page_faults_say_what_was_tried() {
        let tail = ", rip 0x401000, rsp 0x4fffffef00, error code";
        assert_eq!(fault(14, 6), format!("page fault at 0x123 (write, not mapped){tail} 0x6"));
        assert_eq!(fault(14, 5), format!("page fault at 0x123 (read, not permitted){tail} 0x5"));
        assert_eq!(fault(14, 0x15), format!("page fault at 0x123 (execute, not permitted){tail} 0x15"));
    }

    #[test]
    fn other_vectors_have_names_or_numbers() {
        assert!(fault(13, 0x10).starts_with("general protection fault, rip 0x401000"));
        assert!(fault(0, 0).starts_with("divide error, "));
        assert!(fault(6, 0).starts_with("invalid opcode, "));
    }

    #[test]
    fn an_account_that_is_used_up_may_be_why() {
        let of = |account| stopped("a", Fault { vector: 6, error: 0, address: 0, rip: 0, rsp: 0 }, account);
        assert!(of(Some((28, 27))).ends_with("; of its kernel memory (key `kmem`) 108K of 112K are used"));
        assert!(of(Some((28, 16))).ends_with("error code 0x0"));
        assert!(of(None).ends_with("error code 0x0"));
        assert!(fault(21, 0).starts_with("control protection exception, "));
        assert!(fault(15, 0).starts_with("exception 15, "));
        assert!(fault(99, 0).starts_with("exception 99, "));
    }
}
