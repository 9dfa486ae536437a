//! Instructions for the fuzzing guest: those that touch memory in all forms, string I/O, and random bytes.

use super::random::Random;
use crate::machine::cpu;
use crate::machine::paging;
use crate::machine::trap;
use crate::machine::{apic, user};
use crate::spec::{apic as a, mmio, pte, rflags};
use crate::x86;

/// Number of forms of [`on_memory`].
pub const MEMORY_FORMS: u64 = 28;
/// Bytes of random code.
pub const LENGTH: usize = 48;
/// The timer's vector.
pub const TIMEOUT: u8 = 0x40;
/// Timer ticks that user code may take.
const PATIENCE: u32 = 20_000;

macro_rules! forms {
    ($form:expr, $at:expr, $v:expr; $($n:literal $text:literal)*) => {
        match $form {
            $($n => x86!($text, "cld", inout("rdi") $at => _, inout("rax") $v => _, inout("rcx") 3u64 => _,
                inout("rdx") $v => _, out("rsi") _),)*
            _ => {}
        }
    };
}

/// One instruction with a memory operand at `at`.
pub fn on_memory(form: u64, at: u64, value: u64) {
    forms!(form, at, value;
        0 "mov al, [rdi]"
        1 "mov ax, [rdi]"
        2 "mov eax, [rdi]"
        3 "mov rax, [rdi]"
        4 "mov [rdi], al"
        5 "mov [rdi], ax"
        6 "mov [rdi], eax"
        7 "mov [rdi], rax"
        8 "movzx eax, byte ptr [rdi]"
        9 "movzx eax, word ptr [rdi]"
        10 "movsx rax, byte ptr [rdi]"
        11 "movsxd rax, dword ptr [rdi]"
        12 "and [rdi], eax"
        13 "or [rdi], eax"
        14 "xor [rdi], ax"
        15 "add [rdi], al"
        16 "sub eax, [rdi]"
        17 "cmp [rdi], eax"
        18 "test [rdi], eax"
        19 "xchg [rdi], eax"
        20 "stosb"
        21 "rep stosd"
        22 "mov rsi, rdi\nlodsd"
        23 "mov rsi, rdi\nrep lodsb"
        24 "mov rsi, rdi\nmovsd"
        25 "mov dword ptr [rdi], 0x30"
        26 "mov byte ptr [rdi], 0x30"
        27 "test byte ptr [rdi], 0xff"
    );
}

/// REP INS or REP OUTS of 1, 2 or 4 bytes (`size` 0, 1, 2).
pub fn string_io(port: u16, at: u64, count: u64, size: u64, backwards: bool, out: bool) {
    if backwards {
        x86!("std");
    }
    macro_rules! go {
        ($text:literal) => {
            x86!($text, "cld", in("dx") port, inout("rdi") at => _, inout("rsi") at => _, inout("rcx") count => _)
        };
    }
    match (out, size) {
        (true, 0) => go!("rep outsb"),
        (true, 1) => go!("rep outsw"),
        (true, _) => go!("rep outsd"),
        (false, 0) => go!("rep insb"),
        (false, 1) => go!("rep insw"),
        (false, _) => go!("rep insd"),
    }
}

/// Runs bytes as user code in which anything may happen, and comes back at the latest when the timer fires.
pub fn run_in_user_mode(code: &[u8], argument: u64) {
    user::map();
    let page = paging::page(2);
    for (n, byte) in code.iter().chain(&[0xcc; 16]).enumerate() {
        // SAFETY: the page belongs to this module while a mode runs.
        unsafe { ((page + n as u64) as *mut u8).write_volatile(*byte) };
    }
    paging::map(user::CODE + 0x8000, page, pte::P | pte::U);
    apic::write(a::LVT_TIMER, u32::from(TIMEOUT));
    apic::write(a::TIMER_DIVIDE, 0b1011);
    apic::write(a::TIMER_INITIAL, PATIENCE);
    user::run_at(user::CODE + 0x8000, rflags::IF, argument);
    apic::write(a::TIMER_INITIAL, 0);
    apic::write(a::EOI, 0);
    cpu::disable_interrupts();
}

/// Random instructions with a memory operand in device memory, without end: the monitor will meet one that it does not
/// know. HLT is not among them.
pub fn random_on_memory(r: &mut Random) {
    let page = paging::page(2);
    loop {
        let mut bytes = [0xcc; 24];
        let two = r.below(3) == 0;
        let prefix = r.one_of(&[0x66, 0x48, 0xf2, 0xf3, 0xf0, 0x90]);
        let opcode = if two { [0x0f, r.next() as u8] } else { [0x90, r.next() as u8] };
        if !two && opcode[1] == 0xf4 {
            continue;
        }
        // ModR/M: [RDI], any register; then random immediate bytes.
        bytes[..4].copy_from_slice(&[prefix, opcode[0], opcode[1], (r.below(8) as u8) << 3 | 7]);
        bytes[4..8].copy_from_slice(&(r.next() as u32).to_le_bytes());
        for (n, byte) in bytes.iter().enumerate() {
            // SAFETY: as above.
            unsafe { ((page + n as u64) as *mut u8).write_volatile(*byte) };
        }
        let at = r.one_of(&[mmio::IOAPIC + 0x10, mmio::UNMAPPED, mmio::UNMAPPED + 0xffc]);
        trap::catch(|| {
            x86!("call {}", in(reg) page, inout("rdi") at => _, inout("rax") 0u64 => _, inout("rcx") 1u64 => _,
                inout("rdx") 0x80u64 => _, inout("rsi") page + 0x800 => _, clobber_abi("C"))
        });
    }
}
