//! Traps: exceptions and interrupts, from user mode, from the idle kernel, and on their own stacks.

use super::{cpu::cpu, fast, fault, fpu, interrupt, tables};
use crate::object::ec::{Cont, Ec, Expect};
use crate::schedule::{self, Next};
use crate::{event, remote, say, trace};
use abi::REGISTER_WORDS;
use x86::controlregs::cr2;

/// Registers of user mode, in the order in which entry.S pushes them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Regs {
    /// RAX, RCX, RDX, RBX, RSP (not used here), RBP, RSI, RDI, R8 to R15: the order of the UTCB.
    pub gpr: [u64; 16],
    /// Vector of the exception.
    pub vector: u64,
    /// Its error code, or 0.
    pub error: u64,
    /// Instruction pointer.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

/// A register frame that traps push into: its end is 16-byte aligned.
#[repr(C, align(16))]
pub struct Frame {
    /// Address of the last page fault.
    pub cr2: u64,
    /// The registers.
    pub regs: Regs,
}

const RAX: usize = 0;
const RDX: usize = 2;
/// Where it is among the registers.
pub const RSI: usize = 6;
/// Likewise.
pub const RDI: usize = 7;
const R8: usize = 8;
/// R8 to R10, R12 to R14.
const MESSAGE: [usize; REGISTER_WORDS] = [8, 9, 10, 12, 13, 14];

/// RFLAGS after a hypercall (spec 8.8) and at start: interrupts on.
pub const USER_FLAGS: u64 = 0x202;
/// Flags that a reply may change: CF PF AF ZF SF TF DF OF NT RF AC ID.
const WRITABLE_FLAGS: u64 = 0x25_4dd5;

impl Frame {
    /// Registers of an EC that has not run, with a stack pointer.
    pub const fn new(sp: u64) -> Frame {
        let regs = Regs {
            gpr: [0; 16],
            vector: 0,
            error: 0,
            rip: 0,
            cs: tables::USER_CS as u64,
            rflags: USER_FLAGS,
            rsp: sp,
            ss: tables::USER_SS as u64,
        };
        Frame { cr2: 0, regs }
    }

    /// First hypercall parameter.
    pub fn rdi(&self) -> u64 {
        self.regs.gpr[RDI]
    }
    /// Second.
    pub fn rsi(&self) -> u64 {
        self.regs.gpr[RSI]
    }
    /// Third.
    pub fn rdx(&self) -> u64 {
        self.regs.gpr[RDX]
    }
    /// Fourth.
    pub fn rax(&self) -> u64 {
        self.regs.gpr[RAX]
    }
    /// Fifth.
    pub fn r8(&self) -> u64 {
        self.regs.gpr[R8]
    }
    /// A message in registers.
    pub fn message(&self) -> [u64; REGISTER_WORDS] {
        MESSAGE.map(|r| self.regs.gpr[r])
    }
    /// The same.
    pub fn set_message(&mut self, words: [u64; REGISTER_WORDS]) {
        MESSAGE.iter().zip(words).for_each(|(r, w)| self.regs.gpr[*r] = w);
    }
    /// Result register.
    pub fn set_rdi(&mut self, v: u64) {
        self.regs.gpr[RDI] = v;
    }
    /// Second result register.
    pub fn set_rsi(&mut self, v: u64) {
        self.regs.gpr[RSI] = v;
    }
    /// Third result register.
    pub fn set_rdx(&mut self, v: u64) {
        self.regs.gpr[RDX] = v;
    }
    /// What a hypercall is made with.
    pub fn call(&self) -> [u64; 5] {
        [self.rdi(), self.rsi(), self.rdx(), self.rax(), self.r8()]
    }
    /// Where user mode goes on. Kept below the end of user memory, so that a return can never fault in the kernel.
    pub fn set_rip(&mut self, v: u64) {
        self.regs.rip = v & (crate::mem::layout::USER_END - 1);
    }
    /// Status and control flags only.
    pub fn set_rflags(&mut self, v: u64) {
        self.regs.rflags = v & WRITABLE_FLAGS | USER_FLAGS;
    }
}

const DB: u64 = 1;
const NMI: u64 = 2;
const UD: u64 = 6;
const NM: u64 = 7;
/// Page fault.
pub const PF: u64 = 14;
const MC: u64 = 18;

/// An exception in user mode. Its frame is in the current EC.
pub extern "C" fn user_trap() -> ! {
    let Some(ec) = cpu().ec.get() else { panic!("trap from nowhere") };
    fault::raise(cpu(), ec);
    fast::arrive(ec);
    ec.ipc.cont.set(Cont::Iret);
    schedule::go(user_trap_of(ec))
}

/// An interrupt in user mode, likewise.
pub extern "C" fn user_interrupt(vector: u32) -> ! {
    let Some(ec) = cpu().ec.get() else { panic!("interrupt from nowhere") };
    fast::arrive(ec);
    ec.ipc.cont.set(Cont::Iret);
    interrupt::handle(vector as u8, Some(ec));
    schedule::go(Next::Run(ec))
}

fn user_trap_of(ec: &'static Ec) -> Next {
    let f = ec.regs();
    match f.regs.vector {
        PF => {
            // SAFETY: reading CR2 has no effect.
            f.cr2 = unsafe { cr2() } as u64;
            if ec.hst.sync(f.cr2) {
                return Next::Run(ec);
            }
        }
        // An instruction that XCR0 does not permit is that before it finds CR0.TS set.
        UD if fpu::set_host_xcr0() => return Next::Run(ec),
        NM if fpu::claim(ec) => return Next::Run(ec),
        _ => {}
    }
    trace!(FAULT, Some(ec), f.regs.vector | f.regs.error << 8, f.regs.rip);
    ec.ipc.expect.set(Expect::State(Cont::Iret));
    event::raise(ec, f.regs.vector as u16)
}

/// An interrupt while the CPU idles or at a preemption point.
pub extern "C" fn kernel_interrupt(vector: u32) -> ! {
    interrupt::handle(vector as u8, None);
    schedule::go(Next::Resched)
}

/// An exception in kernel mode: a bug, but for the one register that may not be there.
pub extern "C" fn kernel_trap(r: &mut Regs) -> ! {
    let (begin, end) = (super::microcode as *const () as u64, super::no_microcode as *const () as u64);
    if (begin..end).contains(&r.rip) {
        r.rip = end;
        // SAFETY: the frame is that of the fault, but for where it goes on.
        unsafe { super::leave_iret(r) }
    }
    // SAFETY: reading CR2 has no effect.
    let cr2 = unsafe { cr2() };
    #[cfg(feature = "inject")]
    super::attempt::caught(r);
    panic!(
        "exception {} in the kernel: error {:#x} at {:#x}, stack {:#x}, CR2 {cr2:#x}",
        r.vector, r.error, r.rip, r.rsp
    )
}

/// A trap with a stack of its own. NMIs and stray debug traps return to where they came from.
pub extern "C" fn ist_trap(r: &Regs) {
    let user = r.cs & 3 != 0;
    match (r.vector, user, cpu().ec.get()) {
        (DB, true, Some(ec)) => {
            ec.regs().regs = *r;
            // SAFETY: the frame is complete; the stack that this runs on is not needed any more.
            unsafe { super::user_trap_again() }
        }
        (DB, ..) => {}
        (NMI, ..) if remote::stopped() => crate::halt(),
        (NMI, true, _) => say!("cpu {}: NMI", cpu().id.get()),
        // The kernel may hold any lock: only count.
        (NMI, ..) => cpu().nmis.set(cpu().nmis.get().wrapping_add(1)),
        (MC, true, _) => say!("cpu {}: machine check at {:#x}", cpu().id.get(), r.rip),
        _ => {
            #[cfg(feature = "inject")]
            super::attempt::caught(r);
            panic!("exception {} in the kernel: error {:#x} at {:#x}, stack {:#x}", r.vector, r.error, r.rip, r.rsp)
        }
    }
}
