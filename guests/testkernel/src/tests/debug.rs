//! Debug registers, breakpoints, single steps.

use crate::machine::cpu::{self, read_dr6, read_dr7, write_dr0, write_dr1, write_dr6, write_dr7};
use crate::machine::trap::{self, Answer, Frame, expect, expect_gp};
use crate::machine::{paging, user};
use crate::spec::{cr4, dr, msr, rflags, vector as v};
use crate::{user_code, x86};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use testkernel_macros::guest_test;

/// DR7: breakpoint 0 enabled; its kinds and its length 4.
const L0: u64 = 1 << 0;
const L1: u64 = 1 << 2;
const ON_WRITE0: u64 = 0b01 << 16;
const ON_IO0: u64 = 0b10 << 16;
const ON_ACCESS0: u64 = 0b11 << 16;
const LENGTH4_0: u64 = 0b11 << 18;

static RIP: AtomicU64 = AtomicU64::new(0);
static DR6: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);

/// Notes where and why, and goes on.
fn note(f: &mut Frame) -> Answer {
    RIP.store(f.rip, Relaxed);
    DR6.store(read_dr6(), Relaxed);
    STEPS.fetch_add(1, Relaxed);
    write_dr6(dr::DR6_RESET);
    f.rflags |= rflags::RF;
    Answer::Resume
}

fn watch() {
    STEPS.store(0, Relaxed);
    DR6.store(0, Relaxed);
    trap::hook(v::DB, note);
}

fn seen() -> u64 {
    DR6.load(Relaxed) & !dr::DR6_RESET
}

#[guest_test]
fn debug_registers_keep_values_across_exits() {
    for n in 0..50u64 {
        write_dr0(n * 0x1111);
        write_dr1(!n & 0x7fff_ffff);
        cpu::write_dr2(n << 40);
        cpu::write_dr3(n + 3);
        cpu::cpuid(0, 0);
        cpu::in8(crate::spec::port::POST);
        assert_eq!((cpu::read_dr0(), cpu::read_dr1()), (n * 0x1111, !n & 0x7fff_ffff));
        assert_eq!((cpu::read_dr2(), cpu::read_dr3()), (n << 40, n + 3));
    }
}

#[guest_test]
fn debug_control_and_status_have_fixed_bits() {
    write_dr6(0);
    assert_eq!(read_dr6() & 0xffff_0ff0, dr::DR6_RESET & 0xffff_0ff0);
    write_dr7(0);
    assert_eq!(read_dr7(), dr::DR7_RESET);
}

#[guest_test(tcg = "takes 64 bits")]
fn debug_registers_refuse_high_bits() {
    expect_gp(|| write_dr7(1 << 32));
    expect_gp(|| write_dr6(1 << 32));
}

#[guest_test]
fn debug_register_4_is_6_or_undefined() {
    let alias: u64;
    x86!(".byte 0x0f, 0x21, 0xe0", out("rax") alias); // MOV RAX, DR4
    assert_eq!(alias, read_dr6());
    cpu::write_cr4(cpu::read_cr4() | cr4::DE);
    expect(v::UD, 0, || x86!(".byte 0x0f, 0x21, 0xe0", out("rax") _));
}

#[guest_test]
fn an_instruction_breakpoint_comes_before_the_instruction() {
    watch();
    let at: u64;
    x86!("lea {}, [rip + 97f]", "jmp 98f", "97: nop", "ret", "98:", out(reg) at);
    write_dr0(at);
    write_dr7(dr::DR7_RESET | L0);
    // SAFETY: the NOP and RET above.
    unsafe { core::mem::transmute::<u64, extern "C" fn()>(at)() };
    assert_eq!((RIP.load(Relaxed), seen(), STEPS.load(Relaxed)), (at, 1, 1));
}

#[guest_test]
fn a_write_breakpoint_comes_after_the_instruction() {
    watch();
    let place = paging::page(0);
    write_dr0(place);
    write_dr7(dr::DR7_RESET | L0 | ON_WRITE0 | LENGTH4_0);
    cpu::load32(place);
    assert_eq!(STEPS.load(Relaxed), 0, "a load");
    let after: u64;
    x86!("mov [{}], eax", "97: lea {}, [rip + 97b]", in(reg) place, out(reg) after);
    assert_eq!((RIP.load(Relaxed), seen(), STEPS.load(Relaxed)), (after, 1, 1));
}

#[guest_test]
fn an_access_breakpoint_sees_loads_and_stores() {
    watch();
    let place = paging::page(0);
    write_dr0(place);
    write_dr7(dr::DR7_RESET | L0 | ON_ACCESS0);
    cpu::load8(place);
    cpu::store8(place, 1);
    cpu::load8(place + 8);
    assert_eq!(STEPS.load(Relaxed), 2);
}

#[guest_test(tcg = "names breakpoints that were not hit")]
fn two_breakpoints_are_told_apart() {
    watch();
    write_dr0(paging::page(0));
    write_dr1(paging::page(1));
    write_dr7(dr::DR7_RESET | L0 | L1 | ON_WRITE0 | 0b01 << 20);
    cpu::store8(paging::page(1), 1);
    assert_eq!(seen(), 2);
    cpu::store8(paging::page(0), 1);
    assert_eq!(seen(), 1);
}

#[guest_test(unstable = "a breakpoint on an instruction that exits is not noticed")]
fn an_io_breakpoint_comes_after_the_access() {
    watch();
    cpu::write_cr4(cpu::read_cr4() | cr4::DE);
    write_dr0(crate::spec::port::POST.into());
    write_dr7(dr::DR7_RESET | L0 | ON_IO0);
    cpu::in8(crate::spec::port::POST);
    assert_eq!((seen(), STEPS.load(Relaxed)), (1, 1));
}

#[guest_test(tcg = "does not clear DR7.GD")]
fn general_detect_guards_the_debug_registers_once() {
    watch();
    write_dr7(dr::DR7_RESET | dr::DR7_GD);
    let f = {
        trap::unhook(v::DB);
        trap::catch(|| write_dr0(1)).expect("a debug exception")
    };
    assert_eq!(f.vector, v::DB);
    assert_ne!(read_dr6() & dr::DR6_BD, 0, "DR6.BD");
    assert_eq!(read_dr7(), dr::DR7_RESET, "GD is cleared");
}

/// Single-steps over `n` instructions, between two flags instructions; returns how many traps came.
macro_rules! step {
    ($($text:literal),* ; $($more:tt)*) => {{
        watch();
        x86!("pushfq", "or dword ptr [rsp], 0x100", "popfq", $($text,)* "pushfq", "and dword ptr [rsp], ~0x100", "popfq", $($more)*);
        // One for PUSHFQ, one for AND, one for POPFQ, which still ran with TF.
        STEPS.load(Relaxed) - 3
    }};
}

#[guest_test]
fn a_single_step_comes_after_each_instruction() {
    assert_eq!(step!("nop", "nop", "nop";), 3);
    assert_eq!(seen(), dr::DR6_BS);
}

#[guest_test]
fn a_single_step_does_not_come_between_a_stack_switch_and_its_second_half() {
    let data = 0x10u32;
    // MOV SS holds the trap off for one instruction.
    assert_eq!(step!("mov ss, {0:e}", "nop"; in(reg) data), 1);
}

#[guest_test(unstable = "single-stepping over an instruction that exits does not trap")]
fn a_single_step_comes_after_instructions_that_exit() {
    assert_eq!(step!("xor eax, eax", "cpuid"; out("rax") _, out("rcx") _, out("rdx") _, inout("rdi") 0 => _), 2);
    assert_eq!(step!("in al, 0x80"; out("al") _), 1);
}

#[guest_test]
fn a_single_step_of_a_repeated_instruction_comes_after_each_round() {
    let (to, from) = (paging::page(0), paging::page(1));
    let steps = step!("rep movsb"; inout("rdi") to => _, inout("rsi") from => _, inout("rcx") 5u64 => _);
    assert_eq!(steps, 5);
}

user_code! {
    /// Two instructions.
    two_steps: "nop", "nop";
}

#[guest_test]
fn iret_with_the_trap_flag_steps_in_user_mode() {
    // SAFETY: user code.
    let f = user::run(unsafe { &two_steps }, rflags::TF, 0);
    assert_eq!((f.vector, f.rip & 0xf), (v::DB, 1), "after the first instruction");
    assert_ne!(read_dr6() & dr::DR6_BS, 0);
}

#[guest_test]
fn debug_control_msr_can_be_read() {
    trap::expect_none(|| _ = cpu::rdmsr(msr::DEBUGCTL));
}
