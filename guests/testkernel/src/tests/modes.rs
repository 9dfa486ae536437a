//! Changes of mode: the tour in low.S goes through all of them; each test looks at one part of what it saw.

use crate::harness::Need;
use crate::machine::cpu::cpuid;
use crate::machine::paging::Table;
use crate::machine::{smp, tables::selector};
use crate::spec::{cr0, efer, pte};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use testkernel_macros::guest_test;

const RESULTS: usize = 32;
/// Bytes that the tour looks for.
const MARKER: u32 = 0x5eed_1e55;
/// Where it looks: from 3 GiB on.
const DIRECTORY_OF_3_GIB: usize = 3;
const ENTRY_OF_3_GIB: usize = 0x300;

unsafe extern "C" {
    fn tour(results: *mut u32, pae: *const Table, paging32: *const Table32, intel: u32);
    static mut tour_out: [u32; RESULTS];
    static boot_magic: u32;
}

/// A page of 32-bit entries.
#[repr(C, align(4096))]
struct Table32([AtomicU32; 1024]);

static PAE_POINTERS: Table = Table::new();
static PAE_LOW: Table = Table::new();
static PAE_HIGH: Table = Table::new();
static DIRECTORY32: Table32 = Table32([const { AtomicU32::new(0) }; 1024]);
static TABLE32: Table32 = Table32([const { AtomicU32::new(0) }; 1024]);

/// The first MiBs where they are, and physical 0 again at 3 GiB; with 4 KiB pages at 3 GiB + 4 MiB.
fn prepare() {
    const RW: u64 = pte::P | pte::W;
    PAE_POINTERS.0[0].store(PAE_LOW.at() | pte::P, Relaxed);
    PAE_POINTERS.0[DIRECTORY_OF_3_GIB].store(PAE_HIGH.at() | pte::P, Relaxed);
    PAE_HIGH.0[0].store(RW | pte::PS, Relaxed);
    let table = &raw const TABLE32 as u32;
    for n in 0..512 {
        PAE_LOW.0[n as usize].store(n << 21 | RW | pte::PS, Relaxed);
    }
    for n in 0..256 {
        DIRECTORY32.0[n as usize].store(n << 22 | (RW | pte::PS) as u32, Relaxed);
    }
    DIRECTORY32.0[ENTRY_OF_3_GIB].store((RW | pte::PS) as u32, Relaxed);
    DIRECTORY32.0[ENTRY_OF_3_GIB + 1].store(table | RW as u32, Relaxed);
    for n in 0..1024 {
        TABLE32.0[n as usize].store(n << 12 | RW as u32, Relaxed);
    }
}

fn take_tour() -> [u32; RESULTS] {
    prepare();
    // SAFETY: low.S restores all that the ABI wants, the tables map the image, the results are below 1 MiB.
    unsafe {
        tour(&raw mut tour_out[0], &PAE_POINTERS, &DIRECTORY32, Need::Intel.is_there().into());
        (&raw const tour_out).read()
    }
}

const EFER_LME: u32 = efer::LME as u32;
const EFER_LMA: u32 = efer::LMA as u32;

#[guest_test]
fn compatibility_mode_runs_32_bit_code_in_long_mode() {
    let r = take_tour();
    assert_eq!(r[0], selector::CODE32.into(), "CS");
    assert_eq!(r[1], 1, "opcode 0x40 is INC EAX");
    assert_eq!(r[2] & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
}

#[guest_test]
fn long_mode_ends_with_paging() {
    let r = take_tour();
    assert_eq!(r[3] & (EFER_LME | EFER_LMA), EFER_LME, "EFER after paging is off");
    assert_eq!(r[4] & (EFER_LME | EFER_LMA), 0, "EFER after LME is off");
    assert_eq!(r[20] & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA, "EFER back in long mode");
}

#[guest_test]
fn protected_mode_without_paging_executes_and_exits() {
    let r = take_tour();
    assert_eq!(u64::from(r[5]) & (cr0::PE | cr0::PG), cr0::PE);
    assert_eq!(r[6], cpuid(0, 0).eax, "CPUID");
}

#[guest_test]
fn real_mode_is_entered_and_left() {
    let r = take_tour();
    assert_eq!(u64::from(r[7]) & (cr0::PE | cr0::PG), 0);
    assert_eq!(u64::from(r[12]) & (cr0::PE | cr0::PG), cr0::PE, "protected mode again");
    // SAFETY: a constant since boot.
    assert_eq!(r[13], unsafe { *(0x10_0000 as *const u32) }, "memory at 1 MiB");
    // SAFETY: as above.
    assert_eq!(unsafe { boot_magic }, 0x2bad_b002);
}

#[guest_test]
fn real_mode_segments_are_paragraphs() {
    let r = take_tour();
    assert_eq!(r[8], MARKER);
    assert_eq!(r[11], 0x1234, "16-bit stack");
}

#[guest_test]
fn real_mode_interrupts_go_through_the_vector_table() {
    assert_eq!(take_tour()[9], 0x70);
}

#[guest_test]
fn real_mode_instructions_that_exit_go_on() {
    assert_eq!(take_tour()[10], cpuid(0x8000_0000, 0).eax, "CPUID");
}

#[guest_test]
fn pae_paging_translates() {
    let r = take_tour();
    assert_eq!(r[14], MARKER, "through 3 GiB");
    assert_eq!(r[15], cpuid(0, 0).eax, "CPUID");
}

#[guest_test(needs = [Intel])]
fn pae_pointers_are_read_with_cr3_only() {
    assert_eq!(take_tour()[16], MARKER);
}

#[guest_test]
fn paging_of_32_bits_translates_small_and_large_pages() {
    let r = take_tour();
    assert_eq!((r[17], r[18]), (MARKER, MARKER));
    assert_eq!(r[19], cpuid(0, 0).eax, "CPUID");
}

#[guest_test(needs = [Vcpus(2)])]
fn application_processors_start_in_real_mode() {
    for n in 1..smp::online() {
        let seen = smp::at_start(n);
        assert_eq!(u64::from(seen.cr0) & (cr0::PE | cr0::PG), 0, "CR0 of CPU {n}");
        assert_eq!(seen.cs, 0x800, "CS of CPU {n}: the vector is the page");
        assert_eq!(seen.rflags, 2, "RFLAGS of CPU {n}");
    }
}
