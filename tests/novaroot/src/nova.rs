//! What NOVA's interface specification (edition of 24 January 2024, x86-64) says, as far as it is used here. Sections of
//! the specification are in brackets. Written from it alone: the crate `abi` of this repository is not used on purpose.

use core::arch::asm;

/// Status codes [5.1.2].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum Status {
    Success,
    Timeout,
    Aborted,
    Ovrflow,
    BadHyp,
    BadCap,
    BadPar,
    BadFtr,
    BadCpu,
    BadDev,
    MemObj,
    MemCap,
    Reserved,
}

const STATUS: [Status; 12] = {
    use Status::*;
    [Success, Timeout, Aborted, Ovrflow, BadHyp, BadCap, BadPar, BadFtr, BadCpu, BadDev, MemObj, MemCap]
};

/// Hypercall numbers [5.1.1] and flags, as they stand in RDI [7:0].
pub mod call {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const IPC_CALL: u64 = 0x0;
    pub const IPC_CALL_T: u64 = 0x10;
    /// Create PD [5.3.1]: the operation is the flags.
    pub const PD: u64 = 0x02;
    pub const OBJ: u64 = 0x12;
    pub const HST: u64 = 0x22;
    pub const GST: u64 = 0x32;
    pub const PIO: u64 = 0x52;
    pub const MSR: u64 = 0x62;
    pub const PD_BAD_OP: u64 = 0x72;
    /// Create EC [5.3.2]; all threads here may use the FPU.
    pub const EC_LOCAL: u64 = 0x43;
    pub const EC_GLOBAL: u64 = 0x63;
    pub const EC_GUEST: u64 = 0x53;
    pub const CREATE_SC: u64 = 0x4;
    pub const CREATE_PT: u64 = 0x5;
    pub const CREATE_SM: u64 = 0x6;
    pub const CTRL_PD: u64 = 0x7;
    pub const CTRL_EC_STRONG: u64 = 0x18;
    pub const CTRL_SC: u64 = 0x9;
    pub const CTRL_PT: u64 = 0xa;
    pub const SM_UP: u64 = 0x0b;
    pub const SM_DOWN: u64 = 0x1b;
    pub const SM_DOWN_ZERO: u64 = 0x3b;
    pub const CTRL_HW_SLEEP: u64 = 0x0c;
    pub const CTRL_HW_BAD_OP: u64 = 0xfc;
    pub const ASSIGN_INT: u64 = 0x0d;
    pub const ASSIGN_INT_MASKED: u64 = 0x1d;
}

/// Selectors in the root object space [6.2.3.1], below SEL_NUM.
pub mod root {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const NOVA_OBJ: u64 = 1;
    pub const OBJ: u64 = 2;
    pub const PD: u64 = 3;
    pub const EC: u64 = 4;
    pub const SC: u64 = 5;
}

/// Selectors in the NOVA object space [6.1.3.1], below SEL_NUM.
pub mod nova_obj {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const CONSOLE: u64 = 1;
    pub const HST: u64 = 3;
    pub const PIO: u64 = 4;
    pub const MSR: u64 = 5;
    pub const ROOT_HST: u64 = 7;
    pub const ROOT_PIO: u64 = 8;
    /// From 0 on.
    pub const INTERRUPTS: u64 = 1 << 16;
}

/// Message transfer descriptor [8.7.4].
pub mod mtd {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const POISON: u64 = 1 << 0;
    pub const GPR_0_7: u64 = 1 << 1;
    pub const RFLAGS: u64 = 1 << 3;
    pub const RIP: u64 = 1 << 4;
    pub const QUAL: u64 = 1 << 6;
    pub const SEGMENTS: u64 = 0x7f << 10;
    pub const CR: u64 = 1 << 18;
    pub const DR: u64 = 1 << 19;
    pub const XSAVE: u64 = 1 << 20;
    pub const PAT: u64 = 1 << 25;
    pub const EFER: u64 = 1 << 26;
    pub const SPACES: u64 = 1 << 31;
}

/// Words of the UTCB's architectural layout [8.7.3].
pub mod utcb {
    #![allow(missing_docs, reason = "the specification's names")]
    pub const RAX: usize = 0;
    pub const RCX: usize = 1;
    pub const RBX: usize = 3;
    pub const RSP: usize = 4;
    pub const RFLAGS: usize = 0x80 / 8;
    pub const RIP: usize = 0x88 / 8;
    /// Instruction length in the lower half.
    pub const INSTRUCTION: usize = 0x90 / 8;
    pub const QUAL: usize = 0xa0 / 8;
    pub const CS: usize = 0x100 / 8;
    pub const CR0: usize = 0x1c0 / 8;
    pub const DR7: usize = 0x1e8 / 8;
    pub const XCR0: usize = 0x1f0 / 8;
    pub const PAT: usize = 0x220 / 8;
    pub const SEL_GST: usize = 0x258 / 8;
    /// 512 words in all [4.3.1].
    pub const WORDS: usize = 512;
}

/// Parameters of a hypercall in RDI, RSI, RDX, RAX and R8 [8.8], before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs(pub [u64; 5]);

/// Makes a hypercall.
pub fn hypercall(regs: Regs) -> Regs {
    let Regs([mut rdi, mut rsi, mut rdx, mut rax, mut r8]) = regs;
    // SAFETY: what the kernel changes is named; memory that it takes away is not used by the compiler's code.
    unsafe {
        asm!("syscall", inout("rdi") rdi, inout("rsi") rsi, inout("rdx") rdx, inout("rax") rax, inout("r8") r8,
             out("rcx") _, out("r11") _);
    }
    Regs([rdi, rsi, rdx, rax, r8])
}

/// Makes a hypercall on `sel`; status and RSI afterwards.
pub fn on(id: u64, sel: u64, more: [u64; 4]) -> (Status, u64) {
    let [rsi, rdx, rax, r8] = more;
    let Regs([status, rsi, ..]) = hypercall(Regs([sel << 8 | id, rsi, rdx, rax, r8]));
    (STATUS.get((status & 0xff) as usize).copied().unwrap_or(Status::Reserved), rsi)
}

/// Reads the system time counter [3.1].
pub fn stc() -> u64 {
    // SAFETY: it reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The information page [6.3].
#[derive(Clone, Copy)]
pub struct Hip(pub u64);

impl Hip {
    /// A field of up to 64 bits.
    pub fn field(self, offset: u64, bits: u32) -> u64 {
        // SAFETY: the page is mapped for good; the offsets used here are multiples of 8 plus what is shifted out below.
        let word = unsafe { ((self.0 + offset / 8 * 8) as *const u64).read_volatile() };
        word >> (offset % 8 * 8) & (u64::MAX >> (64 - bits))
    }

    #[allow(missing_docs, reason = "the specification's names")]
    pub fn length(self) -> u64 {
        self.field(6, 16)
    }

    #[allow(missing_docs, reason = "the specification's names")]
    pub fn sel_num(self) -> u64 {
        self.field(0x58, 64)
    }

    #[allow(missing_docs, reason = "the specification's names")]
    pub fn stc_freq(self) -> u64 {
        self.field(0x50, 64)
    }

    #[allow(missing_docs, reason = "the specification's names")]
    pub fn cpu_num(self) -> u64 {
        self.field(0x68, 16)
    }

    #[allow(missing_docs, reason = "the specification's names")]
    pub fn cpu_bsp(self) -> u64 {
        self.field(0x6a, 16)
    }
}
