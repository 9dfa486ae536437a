//! The x86-64 machine: processors, traps, paging, interrupt controllers, time, FPU, virtualisation.

#[cfg(feature = "inject")]
pub mod attempt;
pub mod cpu;
pub mod fast;
pub mod fpu;
pub mod guest;
pub mod interrupt;
pub mod paging;
pub mod speculation;
pub mod svm;
pub mod tables;
pub mod time;
pub mod trap;
pub mod vmx;

use core::arch::global_asm;

global_asm!(include_str!("start.S"));
global_asm!(
    include_str!("entry.S"),
    CPU_EC = const fast::at::CPU_EC, CPU_SLOW = const fast::at::CPU_SLOW, CPU_CR3 = const fast::at::CPU_CR3,
    CPU_FREE = const fast::at::CPU_FREE, CPU_WAITS = const fast::at::CPU_WAITS,
    CPU_PRESENCE = const fast::at::CPU_PRESENCE,
    GPR = const fast::at::GPR, RIP = const fast::at::RIP, RFLAGS = const fast::at::RFLAGS, RSP = const fast::at::RSP,
    FRAME_END = const fast::at::FRAME_END, FS = const fast::at::FS, OBJ = const fast::at::OBJ,
    UTCB = const fast::at::UTCB, CR3 = const fast::at::CR3, ROOT = const fast::at::ROOT,
    STATE = const fast::at::EC_STATE, CALLER = const fast::at::CALLER, CALLEE = const fast::at::CALLEE,
    CHAIN = const fast::at::CHAIN, ENTRANCE = const fast::at::ENTRANCE, TABLE = const fast::at::TABLE,
    KIND = const fast::at::KIND, PT_EC = const fast::at::PT_EC, PT_IP = const fast::at::PT_IP,
    PT_PID = const fast::at::PT_PID, P_ROOT = const fast::at::P_ROOT, P_LEAVING = const fast::at::P_LEAVING,
    RUNS = const fast::at::RUNS, FREE = const fast::at::FREE, WAITS = const fast::at::WAITS,
    IS_PT = const fast::at::IS_PT, MAY_CALL = const fast::at::MAY_CALL,
    clean = sym fpu::CLEAN,
    clear_segments = sym tables::clear_data_segments,
    go_on = sym fast::go_on,
    hypercall = sym crate::call::hypercall,
    user_trap = sym trap::user_trap,
    kernel_interrupt = sym trap::kernel_interrupt,
    kernel_trap = sym trap::kernel_trap,
    ist_trap = sym trap::ist_trap,
    vmx_entry_failed = sym vmx::entry_failed,
    vmx_exit = sym vmx::exit,
    svm_exit = sym svm::exit,
);

unsafe extern "C" {
    /// Return to user mode from a hypercall.
    pub fn leave_sysret(frame: *const trap::Regs) -> !;
    /// Return to user mode from a trap.
    pub fn leave_iret(frame: *const trap::Regs) -> !;
    /// [`trap::user_trap`], on the CPU's stack.
    pub fn user_trap_again() -> !;
    /// Leaves the boot stack for this CPU's own.
    pub fn on_own_stack(go_on: extern "C" fn() -> !) -> !;
    /// Waits for an interrupt.
    pub fn idle_halt() -> !;
    /// Start of the 16-byte interrupt stubs.
    pub static interrupt_stubs: u8;
    /// Hypercall entry.
    pub fn syscall_entry() -> !;
    /// VM entry.
    pub fn vmx_enter(gpr: *const [u64; 16], resume: u32) -> !;
    /// VM exit.
    pub fn vmx_exit() -> !;
    /// VMRUN.
    pub fn svm_enter(gpr: *const [u64; 16], vmcb: u64) -> !;
}

/// Entry points that the linker needs although nothing unwinds.
mod unwinding {
    #[unsafe(no_mangle)]
    extern "C" fn _Unwind_Resume() -> ! {
        panic!("unwinding")
    }
    #[unsafe(no_mangle)]
    extern "C" fn rust_eh_personality() {}
}
