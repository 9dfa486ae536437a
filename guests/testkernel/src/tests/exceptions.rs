//! Exceptions: each is delivered with the right vector, error code and address, and IRET returns.

use crate::machine::paging::{self, WINDOW};
use crate::machine::tables::{self, IST_TEST, absent, normal_gate, selector, set_gate, set_stack, with_stack};
use crate::machine::trap::{self, Answer, Frame, catch, expect, expect_gp};
use crate::machine::{cpu, user};
use crate::spec::{cr0, pf, pte, rflags, vector as v};
use crate::{user_code, x86};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use testkernel_macros::guest_test;

/// An address that is not mapped.
const NOWHERE: u64 = WINDOW + 0x3000_0000;
/// Not canonical with four levels of tables.
const NOT_CANONICAL: u64 = 1 << 47;

#[guest_test]
fn divide_error_is_delivered() {
    let f = expect(v::DE, 0, || x86!("div {:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _));
    assert_ne!(f.rip, 0);
}

#[guest_test]
fn undefined_opcode_points_to_itself() {
    let at: u64;
    x86!("lea {}, [rip + 99f]", "jmp 98f", "99: ud2", "98:", out(reg) at);
    // SAFETY: the address of the UD2 above.
    let f = expect(v::UD, 0, || unsafe { core::mem::transmute::<u64, extern "C" fn()>(at)() });
    assert_eq!(f.rip, at);
}

#[guest_test]
fn breakpoint_is_a_trap() {
    static RIP: AtomicU64 = AtomicU64::new(0);
    trap::hook(v::BP, |f| {
        RIP.store(f.rip, Relaxed);
        Answer::Resume
    });
    let after: u64;
    x86!("int3", "99: lea {}, [rip + 99b]", out(reg) after);
    assert_eq!(RIP.load(Relaxed), after, "RIP is behind INT3");
}

#[guest_test]
fn software_interrupts_return_behind_themselves() {
    static RIP: AtomicU64 = AtomicU64::new(0);
    trap::hook(0x90, |f| {
        RIP.store(f.rip, Relaxed);
        Answer::Resume
    });
    let after: u64;
    x86!("int 0x90", "99: lea {}, [rip + 99b]", out(reg) after);
    assert_eq!(RIP.load(Relaxed), after);
}

#[guest_test]
fn software_interrupts_ignore_the_interrupt_flag() {
    trap::hook(0x90, trap::count_and_resume);
    x86!("cli", "int 0x90", "int 0x90");
    assert_eq!(trap::count(0x90), 2);
}

#[guest_test(tcg = "has no INT1")]
fn int1_raises_a_debug_exception() {
    trap::hook(v::DB, trap::count_and_resume);
    x86!(".byte 0xf1");
    assert_eq!(trap::count(v::DB), 1);
}

#[guest_test]
fn into_is_undefined_in_64_bit_mode() {
    expect(v::UD, 0, || x86!(".byte 0xce"));
}

#[guest_test(tcg = "gives a wrong error code for absent gates")]
fn an_absent_gate_raises_not_present() {
    set_gate(0x90, absent(normal_gate(0x90)));
    // Error code: index, in the IDT.
    expect(v::NP, 0x90 << 3 | 2, || x86!("int 0x90"));
}

#[guest_test]
fn an_absent_segment_raises_not_present() {
    expect(v::NP, selector::NOT_PRESENT.into(), || x86!("mov fs, {:e}", in(reg) u32::from(selector::NOT_PRESENT)));
}

#[guest_test]
fn a_selector_beyond_the_table_raises_general_protection() {
    expect(v::GP, selector::BEYOND.into(), || x86!("mov fs, {:e}", in(reg) u32::from(selector::BEYOND)));
}

#[guest_test]
fn a_stack_segment_that_is_absent_raises_a_stack_fault() {
    expect(v::SS, selector::NOT_PRESENT.into(), || x86!("mov ss, {:e}", in(reg) u32::from(selector::NOT_PRESENT)));
}

#[guest_test]
fn addresses_that_are_not_canonical_raise_general_protection() {
    expect_gp(|| {
        cpu::load32(NOT_CANONICAL);
    });
}

#[guest_test(tcg = "raises #GP for any address")]
fn a_stack_that_is_not_canonical_raises_a_stack_fault() {
    set_gate(v::SS, with_stack(normal_gate(v::SS), IST_TEST));
    expect(v::SS, 0, || {
        x86!("mov {s}, rsp", "mov rsp, {a}", "push rax", "mov rsp, {s}", s = out(reg) _, a = in(reg) NOT_CANONICAL + 0x1000);
    });
}

#[guest_test]
fn page_faults_tell_read_from_write_and_where() {
    let f = expect(v::PF, 0, || {
        cpu::load32(NOWHERE + 8);
    });
    assert_eq!(f.cr2, NOWHERE + 8);
    let f = expect(v::PF, pf::W, || cpu::store32(NOWHERE + 0x1234, 0));
    assert_eq!(f.cr2, NOWHERE + 0x1234);
}

#[guest_test]
fn page_faults_of_fetches_have_their_address_in_rip_and_cr2() {
    // SAFETY: the call faults.
    let f = catch(|| unsafe { core::mem::transmute::<u64, extern "C" fn()>(NOWHERE)() }).expect("a fault");
    assert_eq!((f.vector, f.cr2, f.rip), (v::PF, NOWHERE, NOWHERE));
    assert_eq!(f.error, pf::I, "NX is on");
}

#[guest_test]
fn page_faults_across_a_page_boundary_name_the_second_page() {
    paging::map(WINDOW, paging::page(0), pte::P | pte::W);
    let f = expect(v::PF, 0, || {
        cpu::load32(WINDOW + 0xffe);
    });
    assert_eq!(f.cr2, WINDOW + 0x1000);
}

#[guest_test]
fn a_fault_handler_that_mends_lets_the_instruction_go_on() {
    trap::hook(v::PF, |_| {
        paging::map(NOWHERE, paging::page(2), pte::P | pte::W);
        paging::word(NOWHERE).store(4711, Relaxed);
        Answer::Resume
    });
    paging::entry(NOWHERE, 1).store(0, Relaxed);
    assert_eq!(cpu::load32(NOWHERE), 4711);
}

#[guest_test]
fn floating_point_with_task_switched_raises_device_not_available() {
    cpu::write_cr0(cpu::read_cr0() | cr0::TS);
    expect(v::NM, 0, || x86!("fldz"));
    expect(v::NM, 0, || x86!("movaps xmm0, xmm1"));
    x86!("clts");
    trap::expect_none(|| x86!("fldz", "fstp st(0)"));
}

#[guest_test]
fn floating_point_with_emulation_raises_device_not_available_and_sse_undefined() {
    cpu::write_cr0(cpu::read_cr0() | cr0::EM);
    expect(v::NM, 0, || x86!("fldz"));
    expect(v::UD, 0, || x86!("movaps xmm0, xmm1"));
}

#[guest_test]
fn an_unmasked_floating_point_error_is_raised_by_the_next_instruction() {
    let control: u16 = 0x37f & !4; // zero divide unmasked
    expect(v::MF, 0, || x86!("fldcw [{}]", "fld1", "fldz", "fdivp", "fwait", in(reg) &control));
}

#[guest_test(tcg = "raises no SIMD errors")]
fn an_unmasked_simd_error_is_raised() {
    let control: u32 = 0x1f80 & !(1 << 9); // zero divide unmasked
    let one = 0x3f80_0000u32;
    expect(v::XM, 0, || {
        x86!("ldmxcsr [{c}]", "movd xmm0, {one:e}", "xorps xmm1, xmm1", "divss xmm0, xmm1", c = in(reg) &control, one = in(reg) one);
    });
    let normal: u32 = 0x1f80;
    x86!("ldmxcsr [{}]", in(reg) &normal);
}

user_code! {
    /// Loads from an odd address.
    misaligned_load: "lea rax, [rsp - 63]", "mov rax, [rax]";
    /// A privileged instruction.
    halt_in_user_mode: "hlt";
    /// A port access; the task-state segment has no bitmap.
    out_in_user_mode: "out 0x80, al";
    /// INT to a gate for the kernel only.
    interrupt_for_the_kernel: "int 0x90";
    /// INT3: its gate is open.
    breakpoint_in_user_mode: "int3";
    /// Nothing: the regular end.
    plain_exit: "mov eax, 4711";
    /// CLI.
    cli_in_user_mode: "cli";
}

fn run(code: &'static u8, flags: u64) -> trap::Fault {
    user::run(code, flags, 0)
}

#[guest_test]
fn iret_enters_user_mode_and_interrupts_leave_it() {
    // SAFETY: a piece of user code.
    let f = run(unsafe { &plain_exit }, 0);
    assert_eq!((f.vector, f.rax, f.cs), (user::EXIT, 4711, selector::USER_CODE.into()));
}

#[guest_test(tcg = "checks no alignment")]
fn misaligned_access_raises_alignment_check_if_asked_to() {
    cpu::write_cr0(cpu::read_cr0() | cr0::AM);
    // SAFETY: a piece of user code.
    let code = unsafe { &misaligned_load };
    assert_eq!(run(code, 0).vector, user::EXIT, "RFLAGS.AC is off");
    let f = run(code, rflags::AC);
    assert_eq!((f.vector, f.error), (v::AC, 0));
    cpu::write_cr0(cpu::read_cr0() & !cr0::AM);
    assert_eq!(run(code, rflags::AC).vector, user::EXIT, "CR0.AM is off");
}

#[guest_test]
fn privileged_instructions_in_user_mode_raise_general_protection() {
    // SAFETY: pieces of user code.
    for code in unsafe { [&halt_in_user_mode, &out_in_user_mode, &cli_in_user_mode] } {
        let f = run(code, 0);
        assert_eq!((f.vector, f.error), (v::GP, 0), "{f}");
    }
}

#[guest_test(tcg = "gives a wrong error code for absent gates")]
fn gates_have_a_privilege_level() {
    // SAFETY: pieces of user code.
    let (closed, open) = unsafe { (&interrupt_for_the_kernel, &breakpoint_in_user_mode) };
    let f = run(closed, 0);
    assert_eq!((f.vector, f.error), (v::GP, 0x90 << 3 | 2));
    assert_eq!(run(open, 0).vector, v::BP);
}

/// An interrupt stack that is not mapped.
fn break_test_stack() {
    set_stack(IST_TEST, NOWHERE + 0x1000);
}

#[guest_test]
fn a_page_fault_during_delivery_of_a_page_fault_is_a_double_fault() {
    break_test_stack();
    set_gate(v::PF, with_stack(normal_gate(v::PF), IST_TEST));
    expect(v::DF, 0, || {
        cpu::load32(NOWHERE);
    });
}

#[guest_test]
fn a_page_fault_during_delivery_of_an_undefined_opcode_is_a_page_fault() {
    break_test_stack();
    set_gate(v::UD, with_stack(normal_gate(v::UD), IST_TEST));
    let f = expect(v::PF, pf::W, || x86!("ud2"));
    assert_eq!(f.cr2, NOWHERE + 0xff8);
}

#[guest_test]
fn a_page_fault_during_delivery_of_a_protection_fault_is_a_page_fault() {
    break_test_stack();
    set_gate(v::GP, with_stack(normal_gate(v::GP), IST_TEST));
    expect(v::PF, pf::W, || {
        cpu::load32(NOT_CANONICAL);
    });
}

#[guest_test]
fn an_absent_gate_during_delivery_of_a_protection_fault_is_a_double_fault() {
    set_gate(v::GP, absent(normal_gate(v::GP)));
    expect(v::DF, 0, || {
        cpu::load32(NOT_CANONICAL);
    });
}

#[guest_test(tcg = "gives a wrong error code for absent gates")]
fn an_absent_gate_during_delivery_of_an_undefined_opcode_is_not_present() {
    set_gate(v::UD, absent(normal_gate(v::UD)));
    let f = catch(|| x86!("ud2")).expect("a fault");
    // EXT is set here by Intel's CPUs and not by AMD's.
    assert_eq!((f.vector, f.error & !1), (v::NP, u64::from(v::UD) << 3 | 2));
}

#[guest_test]
fn a_page_fault_during_delivery_of_a_software_interrupt_is_repeated_after_the_mend() {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    TIMES.store(0, Relaxed);
    break_test_stack();
    set_gate(0x90, with_stack(normal_gate(0x90), IST_TEST));
    trap::hook(0x90, trap::count_and_resume);
    paging::entry(NOWHERE, 1).store(0, Relaxed);
    trap::hook(v::PF, |_: &mut Frame| {
        TIMES.fetch_add(1, Relaxed);
        paging::map(NOWHERE, paging::page(3), pte::P | pte::W);
        Answer::Resume
    });
    x86!("int 0x90");
    assert_eq!((TIMES.load(Relaxed), trap::count(0x90)), (1, 1));
}

#[guest_test(tcg = "gives a wrong error code for absent gates")]
fn a_limit_of_the_interrupt_table_raises_general_protection() {
    let whole = tables::idt_pointer();
    let short = tables::Pointer { limit: 16 * 0x90 - 1, base: whole.base };
    x86!("lidt [{}]", in(reg) &raw const short);
    let f = catch(|| x86!("int 0x90"));
    x86!("lidt [{}]", in(reg) &raw const whole);
    assert_eq!(f.map(|f| (f.vector, f.error)), Some((v::GP, 0x90 << 3 | 2)));
}
