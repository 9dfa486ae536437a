//! The x86-64 machine: processors, traps, paging, interrupt controllers, time, FPU, virtualisation.

#[cfg(feature = "inject")]
pub mod attempt;
pub mod cpu;
pub mod exit;
pub mod fast;
pub mod fault;
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

use crate::call::ctrl;
use crate::mem::{layout, refs::Header};
use crate::object::{ec::Cont, ec::Ec, ec::Expect, obj::ObjSpace, pt::Pt};
use core::arch::global_asm;
use core::mem::offset_of;
use cpu::Cpu;
use smp::Presence;
use trap::{Frame, Regs};

const CPU: usize = layout::CPU as usize;
const STATE: usize = offset_of!(Ec, ipc);
const FRAME: usize = offset_of!(Ec, frame);
const REGS: usize = FRAME + offset_of!(Frame, regs);

global_asm!(include_str!("start.S"));
global_asm!(
    include_str!("entry.S"),
    STACK_TOP = const layout::STACK + layout::STACK_LEN,
    RSP0 = const tables::RSP0,
    HOST_VMCB = const CPU + offset_of!(Cpu, host_vmcb),
    CPU_EC = const CPU + offset_of!(Cpu, ec),
    CPU_SLOW = const CPU + offset_of!(Cpu, slow),
    CPU_EARLY = const CPU + offset_of!(Cpu, early),
    SLOW_EXIT = const fast::slow::REGISTERS,
    CPU_CR3 = const CPU + offset_of!(Cpu, cr3),
    CPU_FREE = const CPU + offset_of!(Cpu, receives),
    CPU_WAITS = const CPU + offset_of!(Cpu, waits),
    CPU_WAITS_FOR_REGISTERS = const CPU + offset_of!(Cpu, waits_for_registers),
    CPU_PRESENCE = const CPU + offset_of!(Cpu, presence),
    P_ROOT = const offset_of!(Presence, root),
    P_LEAVING = const offset_of!(Presence, leaving),
    GPR = const REGS + offset_of!(Regs, gpr),
    RIP = const REGS + offset_of!(Regs, rip),
    RFLAGS = const REGS + offset_of!(Regs, rflags),
    RSP = const REGS + offset_of!(Regs, rsp),
    FRAME_END = const FRAME + size_of::<Frame>(),
    FS = const offset_of!(Ec, fs_gs),
    OBJ = const offset_of!(Ec, obj),
    UTCB = const offset_of!(Ec, utcb),
    CR3 = const offset_of!(Ec, cr3),
    ROOT = const offset_of!(Ec, root),
    STATE = const STATE,
    CALLER = const STATE + offset_of!(ipc::State<Ec>, caller),
    CALLEE = const STATE + offset_of!(ipc::State<Ec>, callee),
    CHAIN = const STATE + offset_of!(ipc::State<Ec>, chain),
    ENTRANCE = const STATE + offset_of!(ipc::State<Ec>, entrance),
    RUNS = const fast::half(Cont::Sysret, Expect::Words),
    FREE = const fast::half(Cont::Receive, Expect::Words),
    WAITS = const fast::half(Cont::Reply, Expect::Words),
    WAITS_FOR_REGISTERS = const fast::half(Cont::Reply, Expect::Registers),
    CALL_IN_REGISTERS = const (abi::IN_REGISTERS as u32) << 4 | abi::Hypercall::IpcCall as u32,
    REPLY_IN_REGISTERS = const (abi::IN_REGISTERS as u32) << 4 | abi::Hypercall::IpcReply as u32,
    TABLE = const ObjSpace::TABLE,
    KIND = const Header::KIND_AND_LIFE,
    IS_PT = const cap::Kind::Pt as u32,
    MAY_CALL = const abi::perm::Pt::CALL.bits(),
    PT_EC = const offset_of!(Pt, ec),
    PT_REGISTERS = const offset_of!(Pt, registers),
    PT_IP = const offset_of!(Pt, ip),
    PT_PID = const offset_of!(Pt, pid),
    clean = sym fpu::CLEAN,
    clear_segments = sym tables::clear_data_segments,
    go_on = sym fast::go_on,
    NOT_QUICK = const fast::slow::CHORES | fast::slow::TRACE | fast::slow::OFF,
    CTRL_SM = const abi::Hypercall::CtrlSm as u32,
    DOWN = const (ctrl::DOWN as u32) << 4,
    IS_SM = const cap::Kind::Sm as u32,
    MAY_UP = const abi::perm::Sm::CTRL_UP.bits(),
    MAY_DOWN = const abi::perm::Sm::CTRL_DN.bits(),
    LAST_EXT = const (abi::ExtOp::ALL.len() as u32 - 1) << 4 | 0xf,
    BAD_HYP = const abi::Status::BadHyp as u32,
    up = sym ctrl::quick_up,
    down = sym ctrl::quick_down,
    ctrl_sm = sym crate::call::ctrl_sm,
    run_released = sym crate::schedule::run_released,
    released = sym crate::call::released,
    SUCCESS = const abi::Status::Success as u32,
    hypercall = sym crate::call::hypercall,
    reply = sym exit::reply,
    reply_usually = sym exit::reply_usually,
    user_trap = sym trap::user_trap,
    user_interrupt = sym trap::user_interrupt,
    kernel_interrupt = sym trap::kernel_interrupt,
    kernel_trap = sym trap::kernel_trap,
    ist_trap = sym trap::ist_trap,
    vmx_entry_failed = sym vmx::entry_failed,
    vmx_exit = sym vmx::vm_exit,
    svm_exit = sym svm::vm_exit,
);

unsafe extern "C" {
    /// Return to user mode from a hypercall.
    pub fn leave_sysret(frame: *const Regs) -> !;
    /// Runs the EC at that address, which receives, from where a portal leads to, with two parameters.
    pub fn enter_portal(pid: u64, mtd: u32, ec: usize, ip: u64) -> !;
    /// Return to user mode from a trap.
    pub fn leave_iret(frame: *const Regs) -> !;
    /// [`trap::user_trap`], on the CPU's stack.
    pub fn user_trap_again() -> !;
    /// Leaves the boot stack for this CPU's own.
    pub fn on_own_stack(go_on: extern "C" fn() -> !) -> !;
    /// Revision of the microcode, of a CPU from Intel or not; 0: it has none, or does not tell.
    pub fn microcode(intel: bool) -> u32;
    /// Where that goes on if there is no such register.
    pub fn no_microcode() -> !;
    /// Waits for an interrupt.
    pub fn idle_halt() -> !;
    /// Start of the stubs of exceptions, each 16 bytes.
    pub static exception_stubs: u8;
    /// And of those of interrupts, 8 bytes.
    pub static interrupt_stubs: u8;
    /// Hypercall entry.
    pub fn syscall_entry() -> !;
    /// First VM entry.
    pub fn vmx_launch(gpr: *const [u64; 16]) -> !;
    /// VM entry.
    pub fn vmx_resume(gpr: *const [u64; 16]) -> !;
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
