//! Port accesses and device memory: widths, strings, instruction forms, addresses without a device.

use crate::machine::cpu::{self, in8, in16, in32, load8, load32, out8, out16, out32, store8, store32};
use crate::machine::paging::{self, WINDOW, map, word};
use crate::machine::trap::{catch, expect, wait_for};
use crate::machine::{apic, cpu::rdtsc};
use crate::spec::{apic as a, mmio, pf, port, pte, vector as v};
use crate::x86;
use core::sync::atomic::Ordering::SeqCst;
use testkernel_macros::guest_test;

/// No device.
const NO_PORT: u16 = 0x2f0;
const RW: u64 = pte::P | pte::W;
/// The index register of the IOAPIC: eight bits that can be written and read.
const INDEX: u64 = mmio::IOAPIC;
/// Scratch register of COM1.
const SCRATCH: u16 = port::COM1 + 7;

#[guest_test]
fn ports_without_a_device_read_as_ones() {
    assert_eq!((in8(NO_PORT), in16(NO_PORT), in32(NO_PORT)), (u8::MAX, u16::MAX, u32::MAX));
    out8(NO_PORT, 0);
    out16(NO_PORT, 0);
    out32(NO_PORT, 0);
    assert_eq!(in32(NO_PORT), u32::MAX);
}

#[guest_test]
fn in_changes_as_much_of_the_register_as_it_is_wide() {
    let (byte, word, long): (u64, u64, u64);
    x86!("in al, dx", in("dx") NO_PORT, inout("rax") 0x1122_3344_5566_7788u64 => byte);
    x86!("in ax, dx", in("dx") NO_PORT, inout("rax") 0x1122_3344_5566_7788u64 => word);
    x86!("in eax, dx", in("dx") NO_PORT, inout("rax") 0x1122_3344_5566_7788u64 => long);
    assert_eq!((byte, word, long), (0x1122_3344_5566_77ff, 0x1122_3344_5566_ffff, 0xffff_ffff));
}

#[guest_test]
fn a_wide_access_reaches_neighbouring_registers() {
    out8(port::COM1 + 3, 0x83); // divisor latch
    out16(port::COM1, 0x0102);
    let divisor = (in8(port::COM1), in8(port::COM1 + 1), in16(port::COM1));
    out16(port::COM1, 0x0001);
    out8(port::COM1 + 3, 3);
    assert_eq!(divisor, (2, 1, 0x0102));
}

#[guest_test]
fn the_configuration_address_port_is_four_bytes_wide() {
    out32(port::PCI_ADDRESS, 0x8000_0000);
    assert_eq!(in32(port::PCI_ADDRESS), 0x8000_0000);
    out32(port::PCI_ADDRESS, 0x8000_fff0);
    assert_eq!(in32(port::PCI_DATA), u32::MAX, "no device 31 on bus 0, function 7");
    out32(port::PCI_ADDRESS, 0);
}

#[guest_test]
fn string_input_fills_memory() {
    out8(SCRATCH, 0x5a);
    let at = paging::page(0);
    let (to, count): (u64, u64);
    x86!("rep insb", in("dx") SCRATCH, inout("rdi") at => to, inout("rcx") 1000u64 => count);
    assert_eq!((to, count), (at + 1000, 0));
    assert_eq!((word(at).load(SeqCst), word(at + 992).load(SeqCst)), (0x5a5a_5a5a_5a5a_5a5a, 0x5a5a_5a5a_5a5a_5a5a));
}

#[guest_test]
fn string_output_takes_memory() {
    let at = paging::page(0);
    word(at).store(0x8877_6655_4433_2211, SeqCst);
    let (from, count): (u64, u64);
    x86!("rep outsb", in("dx") SCRATCH, inout("rsi") at => from, inout("rcx") 3u64 => count);
    assert_eq!((from, count, in8(SCRATCH)), (at + 3, 0, 0x33));
    let back: u64;
    x86!("std", "outsb", "cld", in("dx") SCRATCH, inout("rsi") at + 7 => back);
    assert_eq!((back, in8(SCRATCH)), (at + 6, 0x88));
}

#[guest_test]
fn string_io_of_nothing_does_nothing() {
    out8(SCRATCH, 1);
    let at = paging::page(0);
    x86!("rep outsb", in("dx") SCRATCH, inout("rsi") at => _, inout("rcx") 0u64 => _);
    assert_eq!(in8(SCRATCH), 1);
}

#[guest_test]
fn string_io_of_words_and_longs() {
    let at = paging::page(0);
    word(at).store(0, SeqCst);
    x86!("insw", in("dx") NO_PORT, inout("rdi") at => _);
    assert_eq!(word(at).load(SeqCst), 0xffff);
    let to: u64;
    x86!("insd", in("dx") NO_PORT, inout("rdi") at => to);
    assert_eq!((word(at).load(SeqCst), to), (0xffff_ffff, at + 4));
}

#[guest_test]
fn string_io_that_faults_goes_on_after_the_mend() {
    use crate::machine::trap::{self, Answer};
    const NEXT: u64 = WINDOW + 0x1000;
    trap::hook(v::PF, |_| {
        map(NEXT, paging::page(1), RW);
        Answer::Resume
    });
    map(WINDOW, paging::page(0), RW);
    paging::entry(NEXT, 1).store(0, SeqCst);
    cpu::invlpg(NEXT);
    out8(SCRATCH, 0x77);
    let (to, count): (u64, u64);
    x86!("rep insb", in("dx") SCRATCH, inout("rdi") WINDOW + 0xff8 => to, inout("rcx") 16u64 => count);
    assert_eq!((to, count), (NEXT + 8, 0));
    assert_eq!(word(paging::page(1)).load(SeqCst) as u32, 0x7777_7777);
}

#[guest_test]
fn string_input_to_a_read_only_page_faults() {
    map(WINDOW, paging::page(0), pte::P);
    let f = expect(v::PF, pf::P | pf::W, || x86!("insb", in("dx") NO_PORT, inout("rdi") WINDOW => _));
    assert_eq!(f.cr2, WINDOW);
}

/// One instruction on the IOAPIC's index register, which holds 0x15; what it holds then, and RAX.
macro_rules! on_index {
    ($text:literal, $rax:expr) => {{
        store32(INDEX, 0x15);
        let rax: u64;
        x86!($text, in("rdi") INDEX, inout("rax") $rax => rax, out("rcx") _);
        (load32(INDEX) as u64, rax)
    }};
}

#[guest_test]
fn loads_of_device_memory_come_in_all_forms() {
    assert_eq!(on_index!("mov al, [rdi]", 0x1234u64).1, 0x1215);
    assert_eq!(on_index!("mov ah, [rdi]", 0x1234u64).1, 0x1534);
    assert_eq!(on_index!("mov eax, [rdi]", u64::MAX).1, 0x15);
    assert_eq!(on_index!("movzx eax, byte ptr [rdi]", u64::MAX).1, 0x15);
    assert_eq!(on_index!("movzx rax, word ptr [rdi]", u64::MAX).1, 0x15);
    assert_eq!(on_index!("movsx rax, byte ptr [rdi]", u64::MAX).1, 0x15);
    assert_eq!(on_index!("mov rcx, 2\nmov eax, [rdi + 4*rcx - 8]", 0u64).1, 0x15);
}

#[guest_test]
fn stores_to_device_memory_come_in_all_forms() {
    assert_eq!(on_index!("mov [rdi], eax", 0x21u64).0, 0x21);
    assert_eq!(on_index!("mov dword ptr [rdi], 0x22", 0u64).0, 0x22);
    assert_eq!(on_index!("mov rcx, rdi\nmov [rcx], eax", 0x23u64).0, 0x23);
    assert_eq!(on_index!("xchg [rdi], eax", 0x24u64), (0x24, 0x15));
    assert_eq!(on_index!("push rdi\nstosd\npop rdi", 0x25u64).0, 0x25);
}

#[guest_test]
fn read_modify_write_of_device_memory_sets_flags() {
    assert_eq!(on_index!("or dword ptr [rdi], 0x40", 0u64).0, 0x55);
    assert_eq!(on_index!("and dword ptr [rdi], 0x10", 0u64).0, 0x10);
    assert_eq!(on_index!("xor dword ptr [rdi], 0xff", 0u64).0, 0xea);
    assert_eq!(on_index!("add dword ptr [rdi], 1", 0u64).0, 0x16);
    assert_eq!(on_index!("sub [rdi], eax", 5u64).0, 0x10);
    assert_eq!(on_index!("cmp dword ptr [rdi], 0x15\nsetz al", 0u64).1, 1);
    assert_eq!(on_index!("test dword ptr [rdi], 0x2a\nsetz al", 0u64).1, 1);
    assert_eq!(on_index!("sub eax, [rdi]\nsetc al", 0x14u64).1 & 1, 1);
}

#[guest_test]
fn strings_move_between_device_memory_and_ram() {
    let ram = paging::page(0);
    store32(INDEX, 0x15);
    x86!("movsd", inout("rsi") INDEX => _, inout("rdi") ram => _);
    assert_eq!(load32(ram), 0x15);
    store32(ram, 0x2f);
    x86!("movsd", inout("rsi") ram => _, inout("rdi") INDEX => _);
    assert_eq!(load32(INDEX), 0x2f);
    let (value, from): (u64, u64);
    x86!("lodsd", inout("rsi") INDEX => from, out("rax") value);
    assert_eq!((value, from), (0x2f, INDEX + 4));
}

#[guest_test]
fn device_memory_is_reached_through_any_page_table() {
    map(WINDOW, mmio::IOAPIC, RW);
    store32(WINDOW, 0x31);
    assert_eq!(load32(INDEX), 0x31);
    map(WINDOW, mmio::IOAPIC, pte::P);
    expect(v::PF, pf::P | pf::W, || store32(WINDOW, 0x32));
    assert_eq!(load32(INDEX), 0x31);
}

#[guest_test]
fn the_ioapic_keeps_what_is_written_to_a_pin() {
    assert!(apic::ioapic_pins() >= 24);
    for pin in 0..24 {
        apic::route(pin, a::MASKED | (0x40 + pin), pin % 3);
    }
    for pin in 0..24 {
        assert_eq!(apic::routed(pin) & 0x1_00ff, a::MASKED | (0x40 + pin), "pin {pin}");
        assert_eq!(apic::ioapic_read(0x11 + 2 * pin) >> 24, pin % 3, "pin {pin}");
        apic::route(pin, a::MASKED, 0);
    }
}

#[guest_test]
fn the_local_apic_page_takes_bytes_only_as_part_of_registers() {
    apic::set_mode(false);
    let version = load32(mmio::LAPIC + 0x30);
    assert_eq!(load8(mmio::LAPIC + 0x30), version as u8);
    store32(mmio::LAPIC + 0x80, 0x40);
    assert_eq!(load32(mmio::LAPIC + 0x80), 0x40);
    store32(mmio::LAPIC + 0x80, 0);
}

#[guest_test(needs = [Hypervisor])]
fn addresses_without_a_device_read_as_ones() {
    assert_eq!((load8(mmio::UNMAPPED), load32(mmio::UNMAPPED + 0x100)), (u8::MAX, u32::MAX));
    store8(mmio::UNMAPPED, 0);
    store32(mmio::UNMAPPED, 0);
    assert_eq!(load32(mmio::UNMAPPED), u32::MAX);
}

#[guest_test]
fn the_clock_tells_a_time() {
    let cmos = |n| {
        out8(port::RTC, n);
        in8(port::RTC + 1)
    };
    let valid = |n: u8, most: u8| n & 0xf <= 9 && n >> 4 <= most;
    assert!(valid(cmos(0), 5) && valid(cmos(2), 5) && valid(cmos(8), 1) && valid(cmos(9), 9));
    assert_eq!(cmos(0x0d) & 0x80, 0x80, "the battery is good");
}

#[guest_test]
fn many_exits_lose_no_state() {
    let mut sum = 0u64;
    for n in 0..2000u64 {
        out8(SCRATCH, n as u8);
        sum += u64::from(in8(SCRATCH));
    }
    assert_eq!(sum, (0..2000u64).map(|n| n & 0xff).sum());
}

#[guest_test]
fn all_registers_survive_exits() {
    let ok: u64;
    x86!(
        "push rbx", "push rbp",
        "mov rbx, 0x1111", "mov rbp, 0x2222", "mov rsi, 0x3333", "mov rdi, 0x4444", "mov r8, 0x5555", "mov r9, 0x6666",
        "mov r10, 0x7777", "mov r11, 0x8888", "mov r12, 0x9999", "mov r13, 0xaaaa", "mov r14, 0xbbbb", "mov r15, 0xcccc",
        "out 0x80, al", "in al, 0x80", "mov ecx, 0x10", "rdmsr",
        "xor rax, rax",
        "add rax, rbx", "add rax, rbp", "add rax, rsi", "add rax, rdi", "add rax, r8", "add rax, r9",
        "add rax, r10", "add rax, r11", "add rax, r12", "add rax, r13", "add rax, r14", "add rax, r15",
        "pop rbp", "pop rbx",
        out("rax") ok, out("rcx") _, out("rdx") _, out("rsi") _, out("rdi") _, out("r8") _, out("r9") _, out("r10") _,
        out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _);
    assert_eq!(ok, (1..=12).map(|n| n * 0x1111).sum::<u64>());
}

#[guest_test]
fn an_exit_takes_a_bounded_time() {
    // Not a measurement: only that none of them takes for ever.
    let start = rdtsc();
    (0..100).for_each(|_| _ = cpu::cpuid(0, 0));
    assert!(rdtsc() > start);
    wait_for("the time to pass", || rdtsc() > start + 1000);
    assert_eq!(catch(|| _ = in8(NO_PORT)), None);
}
