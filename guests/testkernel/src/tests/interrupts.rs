//! Interrupts: flags, shadows, priorities, NMIs; and the local APIC's ways to send them to itself.

use crate::machine::apic::{self, read, self_ipi, write};
use crate::machine::cpu::{self, disable_interrupts, interrupt_window};
use crate::machine::trap::{self, Answer, count, expect_gp};
use crate::machine::user;
use crate::spec::apic as a;
use crate::spec::{msr, rflags, vector as v};
use crate::{user_code, x86};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use testkernel_macros::guest_test;

const LOW: u8 = 0x50;
const HIGH: u8 = 0x90;

/// Whether a vector is in one of the bit fields of the local APIC.
fn is_in(field: u32, vector: u8) -> bool {
    read(field + u32::from(vector) / 32) >> (vector % 32) & 1 != 0
}

#[guest_test]
fn a_self_ipi_arrives() {
    self_ipi(LOW);
    interrupt_window();
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn an_interrupt_waits_for_the_interrupt_flag() {
    self_ipi(LOW);
    cpu::cpuid(0, 0);
    assert_eq!(count(LOW), 0);
    assert!(is_in(a::IRR, LOW), "requested");
    interrupt_window();
    assert_eq!(count(LOW), 1);
    assert!(!is_in(a::IRR, LOW), "no longer requested");
}

#[guest_test]
fn the_same_vector_twice_is_one_interrupt() {
    self_ipi(LOW);
    self_ipi(LOW);
    interrupt_window();
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn sti_holds_interrupts_off_for_one_instruction() {
    self_ipi(LOW);
    x86!("sti", "cli");
    assert_eq!(count(LOW), 0, "STI; CLI");
    x86!("sti", "nop", "cli");
    assert_eq!(count(LOW), 1, "STI; NOP; CLI");
}

#[guest_test]
fn an_exit_in_the_shadow_of_sti_ends_it() {
    self_ipi(LOW);
    // CPUID exits; the interrupt comes right behind it.
    x86!("push rbx", "xor eax, eax", "sti", "cpuid", "cli", "pop rbx", out("rax") _, out("rcx") _, out("rdx") _);
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn popf_and_iret_turn_interrupts_on_without_a_shadow() {
    static RIP: AtomicU64 = AtomicU64::new(0);
    trap::hook(LOW, |f| {
        RIP.store(f.rip, Relaxed);
        Answer::Pass
    });
    self_ipi(LOW);
    let expected: u64;
    x86!("push 0x202", "popfq", "97: nop", "cli", "lea {}, [rip + 97b]", out(reg) expected);
    assert_eq!((count(LOW), RIP.load(Relaxed)), (1, expected));
}

#[guest_test]
fn the_higher_vector_comes_first() {
    static ORDER: AtomicU32 = AtomicU32::new(0);
    ORDER.store(0, Relaxed);
    let note: trap::Hook = |f| {
        ORDER.store(ORDER.load(Relaxed) << 8 | f.vector as u32, Relaxed);
        Answer::Pass
    };
    trap::hook(LOW, note);
    trap::hook(HIGH, note);
    self_ipi(LOW);
    self_ipi(HIGH);
    interrupt_window();
    assert_eq!(ORDER.load(Relaxed), u32::from(HIGH) << 8 | u32::from(LOW));
}

static DEPTH: AtomicU32 = AtomicU32::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);

/// Sends `vector` from inside of a handler and opens a window there.
fn nested(vector: u8) -> u32 {
    static INNER: AtomicU32 = AtomicU32::new(0);
    DEPTH.store(0, Relaxed);
    DEEPEST.store(0, Relaxed);
    INNER.store(vector.into(), Relaxed);
    trap::hook(0x70, |_| {
        DEPTH.fetch_add(1, Relaxed);
        self_ipi(INNER.load(Relaxed) as u8);
        interrupt_window();
        DEPTH.fetch_sub(1, Relaxed);
        Answer::Pass
    });
    trap::hook(vector, |_| {
        DEEPEST.fetch_max(DEPTH.load(Relaxed) + 1, Relaxed);
        Answer::Pass
    });
    self_ipi(0x70);
    interrupt_window();
    interrupt_window();
    assert_eq!((count(0x70), count(vector)), (1, 1));
    DEEPEST.load(Relaxed)
}

#[guest_test]
fn a_higher_interrupt_interrupts_a_handler() {
    assert_eq!(nested(HIGH), 2);
}

#[guest_test]
fn a_lower_interrupt_waits_for_the_end_of_the_handler() {
    assert_eq!(nested(LOW), 1);
}

#[guest_test]
fn an_interrupt_of_the_same_class_waits_for_the_end_of_the_handler() {
    assert_eq!(nested(0x7f), 1);
}

#[guest_test]
fn an_interrupt_is_in_service_until_its_end() {
    static SEEN: AtomicU32 = AtomicU32::new(0);
    trap::hook(LOW, |_| {
        SEEN.store(u32::from(is_in(a::ISR, LOW)) | read(a::PPR) << 8, Relaxed);
        Answer::Pass
    });
    self_ipi(LOW);
    interrupt_window();
    assert_eq!(SEEN.load(Relaxed), 1 | u32::from(LOW & 0xf0) << 8, "in service, and the priority is its class");
    assert!(!is_in(a::ISR, LOW));
    assert_eq!(read(a::PPR), 0);
}

#[guest_test]
fn the_task_priority_holds_interrupts_back_until_it_is_lowered() {
    write(a::TPR, 0x60);
    self_ipi(LOW);
    self_ipi(HIGH);
    interrupt_window();
    assert_eq!((count(LOW), count(HIGH)), (0, 1));
    write(a::TPR, 0x50);
    interrupt_window();
    assert_eq!(count(LOW), 0, "the same class is held back, too");
    write(a::TPR, 0x4f);
    interrupt_window();
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn cr8_holds_interrupts_back_until_it_is_lowered() {
    cpu::write_cr8(5);
    self_ipi(LOW);
    self_ipi(HIGH);
    interrupt_window();
    assert_eq!((count(LOW), count(HIGH)), (0, 1));
    cpu::write_cr8(4);
    interrupt_window();
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn lowering_cr8_with_interrupts_on_delivers_at_once() {
    cpu::write_cr8(15);
    self_ipi(LOW);
    cpu::enable_interrupts();
    assert_eq!(count(LOW), 0);
    x86!("mov cr8, {}", "nop", "nop", in(reg) 0u64);
    let came = count(LOW);
    disable_interrupts();
    assert_eq!(came, 1);
}

#[guest_test]
fn cr8_and_the_task_priority_register_are_one() {
    cpu::write_cr8(7);
    assert_eq!(read(a::TPR), 0x70);
    write(a::TPR, 0x35);
    assert_eq!(cpu::read_cr8(), 3);
    assert_eq!(read(a::TPR), 0x35, "reading changes nothing");
    write(a::TPR, 0);
}

#[guest_test]
fn an_nmi_ignores_the_interrupt_flag() {
    trap::hook(v::NMI, trap::count_and_resume);
    apic::command(a::ASSERT | a::NMI, apic::id());
    x86!("nop", "nop");
    assert_eq!(count(v::NMI), 1);
}

#[guest_test]
fn an_nmi_ignores_the_task_priority() {
    trap::hook(v::NMI, trap::count_and_resume);
    cpu::write_cr8(15);
    apic::command(a::ASSERT | a::NMI, apic::id());
    x86!("nop", "nop");
    cpu::write_cr8(0);
    assert_eq!(count(v::NMI), 1);
}

/// An NMI that waited for IRET comes at the latest with the next exit: SVM alone cannot say when NMIs are unblocked.
fn let_nmis_in() {
    x86!("nop");
    cpu::cpuid(0, 0);
    x86!("nop");
}

/// Sends `n` NMIs from inside of the NMI handler; returns how deep they nested.
fn nmis_in_handler(n: u32) -> u32 {
    static LEFT: AtomicU32 = AtomicU32::new(0);
    LEFT.store(n, Relaxed);
    DEPTH.store(0, Relaxed);
    DEEPEST.store(0, Relaxed);
    trap::hook(v::NMI, |f| {
        let depth = DEPTH.fetch_add(1, Relaxed) + 1;
        DEEPEST.fetch_max(depth, Relaxed);
        while LEFT.load(Relaxed) > 0 {
            LEFT.fetch_sub(1, Relaxed);
            apic::command(a::ASSERT | a::NMI, apic::id());
            x86!("nop");
        }
        DEPTH.fetch_sub(1, Relaxed);
        trap::count_and_resume(f)
    });
    apic::command(a::ASSERT | a::NMI, apic::id());
    let_nmis_in();
    DEEPEST.load(Relaxed)
}

#[guest_test]
fn an_nmi_in_an_nmi_handler_waits_for_iret() {
    assert_eq!(nmis_in_handler(1), 1, "not nested");
    assert_eq!(count(v::NMI), 2);
}

#[guest_test]
fn nmis_that_wait_are_one() {
    assert_eq!(nmis_in_handler(5), 1, "not nested");
    assert_eq!(count(v::NMI), 2);
}

#[guest_test]
fn an_exception_in_an_nmi_handler_unblocks_nmis_with_its_iret() {
    trap::hook(v::BP, trap::count_and_resume);
    static DONE: AtomicU32 = AtomicU32::new(0);
    DONE.store(0, Relaxed);
    trap::hook(v::NMI, |f| {
        if DONE.fetch_add(1, Relaxed) == 0 {
            apic::command(a::ASSERT | a::NMI, apic::id());
            assert_eq!(DONE.load(Relaxed), 1, "blocked");
            x86!("int3");
            let_nmis_in();
            assert_eq!(DONE.load(Relaxed), 2, "the breakpoint's IRET has unblocked them");
        }
        trap::count_and_resume(f)
    });
    apic::command(a::ASSERT | a::NMI, apic::id());
    let_nmis_in();
    assert_eq!(count(v::NMI), 2);
}

user_code! {
    /// Until interrupted.
    count_up: "2: inc rax", "jmp 2b";
}

#[guest_test]
fn an_interrupt_leaves_user_mode() {
    trap::hook(LOW, |_| Answer::Land);
    self_ipi(LOW);
    // SAFETY: user code.
    let f = user::run(unsafe { &count_up }, rflags::IF, 0);
    assert_eq!((f.vector, f.cs), (LOW, 0x33));
    write(a::EOI, 0);
}

#[guest_test]
fn halt_ends_with_an_interrupt() {
    self_ipi(LOW);
    cpu::halt();
    assert_eq!(count(LOW), 1);
}

#[guest_test]
fn illegal_vectors_are_reported_as_errors() {
    write(a::ESR, 0);
    self_ipi(5);
    write(a::ESR, 0);
    assert_ne!(read(a::ESR) & (1 << 5 | 1 << 6), 0, "send or receive of an illegal vector");
    write(a::ESR, 0);
}

#[guest_test(needs = [X2apic])]
fn the_self_ipi_register_sends() {
    write(a::SELF_IPI, LOW.into());
    interrupt_window();
    assert_eq!(count(LOW), 1);
}

#[guest_test(needs = [X2apic])]
fn both_modes_of_the_local_apic_work() {
    let id = apic::id();
    apic::set_mode(false);
    assert!(!apic::in_x2apic_mode());
    assert_eq!(apic::id(), id, "in xAPIC mode");
    write(a::SVR, 0x1ff);
    self_ipi(LOW);
    interrupt_window();
    apic::set_mode(true);
    assert_eq!(apic::id(), id, "in x2APIC mode");
    write(a::SVR, 0x1ff);
    self_ipi(LOW);
    interrupt_window();
    assert_eq!(count(LOW), 2);
}

#[guest_test(needs = [X2apic])]
fn x2apic_refuses_what_the_manual_refuses() {
    for register in [0x00, a::DFR, a::ICR_HIGH, 0x3d, 0x40] {
        expect_gp(|| _ = cpu::rdmsr(msr::X2APIC + register));
    }
    for (register, value) in [(a::ID, 0), (a::VERSION, 0), (a::EOI, 1), (a::TPR, 0x100), (a::ESR, 1), (a::IRR, 0)] {
        expect_gp(|| cpu::wrmsr(msr::X2APIC + register, value));
    }
    expect_gp(|| _ = cpu::rdmsr(msr::X2APIC + a::SELF_IPI));
}

#[guest_test]
fn the_apic_base_refuses_reserved_bits_and_bad_changes() {
    let base = cpu::rdmsr(msr::APIC_BASE);
    assert_ne!(base & a::BASE_BSP, 0, "this is the boot CPU");
    expect_gp(|| cpu::wrmsr(msr::APIC_BASE, base | 1));
    expect_gp(|| cpu::wrmsr(msr::APIC_BASE, base | 1 << 60));
    if base & a::BASE_X2APIC != 0 {
        expect_gp(|| cpu::wrmsr(msr::APIC_BASE, base & !a::BASE_X2APIC));
    }
    assert_eq!(cpu::rdmsr(msr::APIC_BASE), base);
}
