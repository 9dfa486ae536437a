//! Page tables of long mode: permissions, large pages, accessed and dirty bits, TLB; SMEP and SMAP.

use crate::machine::cpu::{self, invlpg, load32, read_cr0, read_cr4, store32, write_cr0, write_cr3, write_cr4};
use crate::machine::paging::{self, WINDOW, entry, map, map_large, word};
use crate::machine::trap::{catch, expect, expect_none};
use crate::machine::user;
use crate::spec::{cr0, cr4, efer, msr, pf, pte, rflags, vector as v};
use crate::{user_code, x86};
use core::sync::atomic::Ordering::SeqCst;
use testkernel_macros::guest_test;

const RW: u64 = pte::P | pte::W;
const LARGE: u64 = 2 << 20;

#[guest_test]
fn a_page_is_where_its_entry_says() {
    map(WINDOW, paging::page(0), RW);
    map(WINDOW + 0x1000, paging::page(1), RW);
    store32(WINDOW + 8, 111);
    store32(WINDOW + 0x1008, 222);
    assert_eq!((load32(paging::page(0) + 8), load32(paging::page(1) + 8)), (111, 222));
}

#[guest_test]
fn the_same_memory_can_be_mapped_twice() {
    map(WINDOW, paging::page(0), RW);
    map(WINDOW + 0x5000, paging::page(0), RW);
    store32(WINDOW + 12, 4711);
    assert_eq!(load32(WINDOW + 0x500c), 4711);
}

#[guest_test]
fn invlpg_makes_a_new_mapping_visible() {
    for (n, value) in [(0, 10), (1, 11), (2, 12)] {
        word(paging::page(n)).store(value, SeqCst);
        map(WINDOW, paging::page(n), RW);
        assert_eq!(load32(WINDOW), value as u32);
    }
    entry(WINDOW, 1).store(0, SeqCst);
    invlpg(WINDOW);
    expect(v::PF, 0, || _ = load32(WINDOW));
}

#[guest_test]
fn loading_cr3_makes_a_new_mapping_visible() {
    for (n, value) in [(0, 10), (1, 11)] {
        word(paging::page(n)).store(value, SeqCst);
        entry(WINDOW, 1).store(paging::page(n) | RW, SeqCst);
        write_cr3(cpu::read_cr3());
        assert_eq!(load32(WINDOW), value as u32);
    }
}

#[guest_test]
fn global_pages_go_with_the_change_of_cr4() {
    write_cr4(read_cr4() | cr4::PGE);
    for (n, value) in [(0, 10), (1, 11)] {
        word(paging::page(n)).store(value, SeqCst);
        entry(WINDOW, 1).store(paging::page(n) | RW | pte::G, SeqCst);
        write_cr4(read_cr4() & !cr4::PGE);
        write_cr4(read_cr4() | cr4::PGE);
        assert_eq!(load32(WINDOW), value as u32);
    }
}

#[guest_test]
fn large_pages_translate() {
    map_large(WINDOW, paging::large_page(), 2, RW);
    store32(WINDOW + LARGE - 4, 99);
    assert_eq!(load32(paging::large_page() + LARGE - 4), 99);
}

#[guest_test(needs = [Pages1G])]
fn pages_of_a_gigabyte_translate() {
    map_large(WINDOW + (1 << 30), 0, 3, RW);
    assert_eq!(load32(WINDOW + (1 << 30) + 0x10_0000), load32(0x10_0000));
}

#[guest_test]
fn write_protection_binds_the_kernel_if_wp_is_on() {
    map(WINDOW, paging::page(0), pte::P);
    let f = expect(v::PF, pf::P | pf::W, || store32(WINDOW + 4, 1));
    assert_eq!(f.cr2, WINDOW + 4);
    write_cr0(read_cr0() & !cr0::WP);
    expect_none(|| store32(WINDOW + 4, 2));
    write_cr0(read_cr0() | cr0::WP);
    assert_eq!(load32(WINDOW + 4), 2);
}

#[guest_test]
fn write_protection_of_any_level_counts() {
    map(WINDOW, paging::page(0), RW);
    for level in 2..=4 {
        let e = entry(WINDOW, level);
        e.fetch_and(!pte::W, SeqCst);
        invlpg(WINDOW);
        expect(v::PF, pf::P | pf::W, || store32(WINDOW, 1));
        e.fetch_or(pte::W, SeqCst);
    }
    invlpg(WINDOW);
    expect_none(|| store32(WINDOW, 1));
}

/// Puts a RET at the start of page 0 and calls it through the window.
fn call_window() {
    word(paging::page(0)).store(0xc3, SeqCst);
    // SAFETY: a RET, or a fault.
    unsafe { core::mem::transmute::<u64, extern "C" fn()>(WINDOW)() }
}

#[guest_test]
fn no_execute_binds_the_kernel() {
    map(WINDOW, paging::page(0), RW);
    expect_none(call_window);
    map(WINDOW, paging::page(0), RW | pte::NX);
    let f = expect(v::PF, pf::P | pf::I, call_window);
    assert_eq!(f.cr2, WINDOW);
    expect_none(|| _ = load32(WINDOW));
}

#[guest_test(tcg = "says of reserved bits that the page is absent")]
fn no_execute_is_reserved_if_it_is_off() {
    map(WINDOW, paging::page(0), RW | pte::NX);
    cpu::wrmsr(msr::EFER, cpu::rdmsr(msr::EFER) & !efer::NXE);
    let f = catch(|| _ = load32(WINDOW));
    cpu::wrmsr(msr::EFER, cpu::rdmsr(msr::EFER) | efer::NXE);
    assert_eq!(f.map(|f| (f.vector, f.error)), Some((v::PF, pf::P | pf::RSVD)));
}

#[guest_test(tcg = "says of reserved bits that the page is absent")]
fn reserved_bits_of_entries_are_told() {
    map_large(WINDOW, paging::large_page() | 1 << 13, 2, RW);
    expect(v::PF, pf::P | pf::RSVD, || _ = load32(WINDOW));
    entry(WINDOW, 2).store(0, SeqCst);
    map(WINDOW, paging::page(0) | 1 << 51, RW);
    expect(v::PF, pf::P | pf::RSVD | pf::W, || store32(WINDOW, 0));
}

#[guest_test]
fn accessed_and_dirty_bits_follow_the_accesses() {
    map(WINDOW, paging::page(0), RW);
    let bits = || entry(WINDOW, 1).load(SeqCst) & (pte::A | pte::D);
    assert_eq!(bits(), 0);
    load32(WINDOW);
    assert_eq!(bits(), pte::A, "after a load");
    store32(WINDOW, 0);
    assert_eq!(bits(), pte::A | pte::D, "after a store");
    for level in 2..=4 {
        assert_ne!(entry(WINDOW, level).load(SeqCst) & pte::A, 0, "level {level}");
    }
}

#[guest_test]
fn the_dirty_bit_of_a_large_page_is_in_its_entry() {
    map_large(WINDOW, paging::large_page(), 2, RW);
    load32(WINDOW + 0x12345);
    assert_eq!(entry(WINDOW, 2).load(SeqCst) & (pte::A | pte::D), pte::A);
    store32(WINDOW + 0x12344, 0);
    assert_eq!(entry(WINDOW, 2).load(SeqCst) & (pte::A | pte::D), pte::A | pte::D);
}

user_code! {
    /// Loads from the address in RDI.
    user_load: "mov eax, [rdi]";
    /// Stores there.
    user_store: "mov [rdi], eax";
    /// Jumps there.
    user_jump: "jmp rdi";
}

/// How a piece of user code with an address ends: vector and error code.
fn in_user_mode(code: &'static u8, address: u64) -> (u8, u64) {
    let f = user::run(code, 0, address);
    (f.vector, f.error)
}

#[guest_test]
fn user_mode_reaches_user_pages_only() {
    map(WINDOW, paging::page(0), RW);
    map(WINDOW + 0x1000, paging::page(0), RW | pte::U);
    map(WINDOW + 0x2000, paging::page(0), pte::P | pte::U);
    map(WINDOW + 0x3000, paging::page(0), pte::P | pte::U | pte::NX);
    // SAFETY: pieces of user code.
    let (load, store, jump) = unsafe { (&user_load, &user_store, &user_jump) };
    assert_eq!(in_user_mode(load, WINDOW), (v::PF, pf::P | pf::U), "a kernel page");
    assert_eq!(in_user_mode(load, WINDOW + 0x1000).0, user::EXIT);
    assert_eq!(in_user_mode(store, WINDOW + 0x1000).0, user::EXIT);
    assert_eq!(in_user_mode(store, WINDOW + 0x2000), (v::PF, pf::P | pf::U | pf::W), "a read-only page");
    assert_eq!(in_user_mode(jump, WINDOW + 0x3000), (v::PF, pf::P | pf::U | pf::I), "a page without code");
    assert_eq!(in_user_mode(load, WINDOW + 0x3f00_0000), (v::PF, pf::U), "nothing");
}

#[guest_test(needs = [Smep])]
fn smep_keeps_the_kernel_from_user_code() {
    map(WINDOW, paging::page(0), RW | pte::U);
    expect_none(call_window);
    write_cr4(read_cr4() | cr4::SMEP);
    expect(v::PF, pf::P | pf::I, call_window);
    write_cr4(read_cr4() & !cr4::SMEP);
    expect_none(call_window);
}

#[guest_test(needs = [Smap])]
fn smap_keeps_the_kernel_from_user_data_unless_ac_is_set() {
    map(WINDOW, paging::page(0), RW | pte::U);
    write_cr4(read_cr4() | cr4::SMAP);
    expect(v::PF, pf::P, || _ = load32(WINDOW));
    expect(v::PF, pf::P | pf::W, || store32(WINDOW, 1));
    x86!("stac");
    assert_ne!(cpu::flags() & rflags::AC, 0);
    expect_none(|| _ = load32(WINDOW));
    x86!("clac");
    expect(v::PF, pf::P, || _ = load32(WINDOW));
}

#[guest_test]
fn an_exit_reads_its_operand_through_the_page_tables() {
    map(WINDOW, paging::page(0), RW);
    map(WINDOW + 0x1000, paging::page(5), RW);
    // OUTS: the monitor has to find the bytes by itself, across a page boundary.
    word(paging::page(0) + 0xff8).store(0x4142_0000_0000_0000, SeqCst);
    word(paging::page(5)).store(0x4443, SeqCst);
    let rest: u64;
    x86!("rep outsb", in("dx") crate::spec::port::POST, inout("rsi") WINDOW + 0xffe => rest, inout("rcx") 4u64 => _);
    assert_eq!(rest, WINDOW + 0x1002);
}
