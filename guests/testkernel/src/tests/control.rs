//! Control registers and EFER: what can be set, what is refused, and what reads back.

use crate::harness::Need;
use crate::machine::cpu::{self, cpuid, cpuid_if_any, read_cr0, read_cr4, write_cr0, write_cr3, write_cr4};
use crate::machine::trap::{self, expect_gp, expect_none};
use crate::machine::user;
use crate::spec::{cr0, cr4, efer, msr, vector as v};
use crate::{user_code, x86};
use testkernel_macros::guest_test;

/// Bits of CR4 that need a feature, and whether the machine has it.
fn cr4_features() -> [(u64, bool, &'static str); 8] {
    [
        (cr4::UMIP, Need::Umip.is_there(), "UMIP"),
        (cr4::VMXE, cpuid(1, 0).ecx >> 5 & 1 != 0, "VMXE"),
        (cr4::SMXE, cpuid(1, 0).ecx >> 6 & 1 != 0, "SMXE"),
        (cr4::FSGSBASE, Need::FsGsBase.is_there(), "FSGSBASE"),
        (cr4::PCIDE, Need::Pcid.is_there(), "PCIDE"),
        (cr4::OSXSAVE, Need::Xsave.is_there(), "OSXSAVE"),
        (cr4::SMEP, Need::Smep.is_there(), "SMEP"),
        (cr4::SMAP, Need::Smap.is_there(), "SMAP"),
    ]
}

#[guest_test]
fn control_registers_read_back() {
    for bits in [cr0::TS, cr0::AM, cr0::MP, cr0::EM, cr0::WP] {
        let changed = read_cr0() ^ bits;
        write_cr0(changed);
        assert_eq!(read_cr0(), changed, "CR0 bits {bits:#x}");
        write_cr0(changed ^ bits);
    }
    for bits in [cr4::TSD, cr4::DE, cr4::PGE, cr4::PCE] {
        let changed = read_cr4() ^ bits;
        write_cr4(changed);
        assert_eq!(read_cr4(), changed, "CR4 bits {bits:#x}");
        write_cr4(changed ^ bits);
    }
}

#[guest_test]
fn cr2_keeps_its_value_across_exits() {
    for value in [0, 0x1234_5678_9abc, u64::MAX] {
        cpu::write_cr2(value);
        cpuid(0, 0);
        cpu::in8(crate::spec::port::POST);
        assert_eq!(cpu::read_cr2(), value);
    }
}

#[guest_test]
fn cr0_cache_bits_read_back() {
    let old = read_cr0();
    for bits in [cr0::CD, cr0::CD | cr0::NW] {
        write_cr0(old | bits);
        assert_eq!(read_cr0(), old | bits);
        write_cr0(old);
    }
}

#[guest_test]
fn cr0_extension_type_is_always_set() {
    write_cr0(read_cr0() & !cr0::ET);
    assert_ne!(read_cr0() & cr0::ET, 0);
}

#[guest_test(tcg = "does not check CR0")]
fn cr0_refuses_contradictions() {
    let old = read_cr0();
    expect_gp(|| write_cr0(old & !cr0::PE));
    expect_gp(|| write_cr0(old | cr0::NW));
    expect_gp(|| write_cr0(old | 1 << 32));
    expect_gp(|| write_cr0(old | 1 << 63));
    assert_eq!(read_cr0(), old);
}

#[guest_test(tcg = "lets long mode lose its page tables")]
fn long_mode_keeps_paging_and_pae() {
    expect_gp(|| write_cr0(read_cr0() & !cr0::PG));
    expect_gp(|| write_cr4(read_cr4() & !cr4::PAE));
}

#[guest_test]
fn cr4_takes_what_cpuid_offers() {
    let old = read_cr4();
    for (bit, offered, name) in cr4_features() {
        if offered && bit != cr4::SMEP && bit != cr4::SMAP {
            expect_none(|| write_cr4(old | bit));
            assert_eq!(read_cr4(), old | bit, "{name}");
            write_cr4(old);
        }
    }
}

#[guest_test(tcg = "ignores reserved bits of CR4")]
fn cr4_refuses_reserved_bits() {
    let old = read_cr4();
    for bit in (25..64).chain([15, 19]) {
        expect_gp(|| write_cr4(old | 1 << bit));
    }
    expect_gp(|| write_cr4(old | cr4::LA57));
    expect_gp(|| write_cr4(old | cr4::VMXE));
    expect_gp(|| write_cr4(old | cr4::SMXE));
    assert_eq!(read_cr4(), old);
}

#[guest_test(tcg = "ignores reserved bits of CR3")]
fn cr3_refuses_bits_beyond_the_address_width() {
    let width = cpuid_if_any(0x8000_0008, 0).eax & 0xff;
    let old = cpu::read_cr3();
    (width..52).for_each(|bit| expect_gp(|| write_cr3(old | 1 << bit)));
    assert_eq!(cpu::read_cr3(), old);
}

#[guest_test]
fn cr8_is_four_bits() {
    for n in 0..16 {
        cpu::write_cr8(n);
        assert_eq!(cpu::read_cr8(), n);
    }
    cpu::write_cr8(0);
}

#[guest_test]
fn cr8_refuses_reserved_bits() {
    expect_gp(|| cpu::write_cr8(16));
    expect_gp(|| cpu::write_cr8(1 << 32));
}

#[guest_test]
fn control_registers_that_do_not_exist_are_undefined() {
    trap::expect(v::UD, 0, || x86!("mov cr1, rax"));
    trap::expect(v::UD, 0, || x86!(".byte 0x0f, 0x22, 0xe8")); // CR5
    trap::expect(v::UD, 0, || x86!(".byte 0x0f, 0x20, 0xf8", out("rax") _)); // CR7
}

#[guest_test]
fn lmsw_sets_task_switched_and_smsw_shows_it() {
    let low: u64;
    x86!("lmsw {0:x}", in(reg) cr0::PE | cr0::MP | cr0::TS);
    x86!("smsw {0}", out(reg) low);
    assert_eq!(low & 0xf, cr0::PE | cr0::MP | cr0::TS);
    x86!("lmsw {0:x}", in(reg) 0u64);
    assert_eq!(read_cr0() & 0xf, cr0::PE, "LMSW cannot clear PE");
    x86!("clts");
    assert_eq!(read_cr0() & cr0::TS, 0);
}

#[guest_test]
fn efer_refuses_reserved_bits_and_a_change_of_long_mode() {
    let old = cpu::rdmsr(msr::EFER);
    for bit in [1, 2, 7, 9, 16, 32, 63] {
        expect_gp(|| cpu::wrmsr(msr::EFER, old | 1 << bit));
    }
    expect_gp(|| cpu::wrmsr(msr::EFER, old & !efer::LME));
    assert_eq!(cpu::rdmsr(msr::EFER), old);
}

#[guest_test]
fn efer_shows_long_mode_active_and_keeps_it() {
    let old = cpu::rdmsr(msr::EFER);
    assert_eq!(old & (efer::LME | efer::LMA), efer::LME | efer::LMA);
    expect_none(|| cpu::wrmsr(msr::EFER, old & !efer::SCE));
    assert_eq!(cpu::rdmsr(msr::EFER), old & !efer::SCE);
}

#[guest_test]
fn syscall_is_undefined_without_its_bit() {
    cpu::wrmsr(msr::EFER, cpu::rdmsr(msr::EFER) & !efer::SCE);
    trap::expect(v::UD, 0, || x86!("syscall", out("rcx") _, out("r11") _));
}

user_code! {
    /// Into the kernel.
    do_syscall: "syscall";
    /// A system register.
    store_gdtr: "lea rdi, [rsp - 32]", "sgdt [rdi]", "mov eax, 1";
    /// Time.
    read_tsc: "rdtsc";
}

#[guest_test]
fn syscall_goes_where_its_registers_say() {
    let target: u64;
    x86!("lea {}, [rip + 98f]", "jmp 99f", "98: ud2", "99:", out(reg) target);
    cpu::wrmsr(msr::STAR, 0x08 << 32);
    cpu::wrmsr(msr::LSTAR, target);
    cpu::wrmsr(msr::FMASK, 0);
    // SAFETY: user code.
    let f = user::run(unsafe { &do_syscall }, 0, 0);
    assert_eq!((f.vector, f.rip, f.cs), (v::UD, target, 0x08));
}

#[guest_test(needs = [Umip])]
fn umip_keeps_descriptor_tables_from_user_mode() {
    // SAFETY: user code.
    let code = unsafe { &store_gdtr };
    assert_eq!(user::run(code, 0, 0).vector, user::EXIT);
    write_cr4(read_cr4() | cr4::UMIP);
    assert_eq!(user::run(code, 0, 0).vector, v::GP);
}

#[guest_test]
fn tsd_keeps_the_time_from_user_mode() {
    // SAFETY: user code.
    let code = unsafe { &read_tsc };
    assert_eq!(user::run(code, 0, 0).vector, user::EXIT);
    write_cr4(read_cr4() | cr4::TSD);
    assert_eq!(user::run(code, 0, 0).vector, v::GP);
}

#[guest_test(needs = [Pcid])]
fn pcid_needs_its_bit_and_keeps_the_address() {
    let old = cpu::read_cr3();
    write_cr4(read_cr4() | cr4::PCIDE);
    write_cr3(old | 5);
    assert_eq!(cpu::read_cr3(), old | 5);
    write_cr3(old);
    write_cr4(read_cr4() & !cr4::PCIDE);
}

#[guest_test]
fn descriptor_tables_are_stored_as_loaded() {
    let (mut idt, mut gdt) = ([0u8; 10], [0u8; 10]);
    x86!("sidt [{}]", "sgdt [{}]", in(reg) &mut idt, in(reg) &mut gdt);
    assert_eq!(u16::from_le_bytes([idt[0], idt[1]]), 0xfff);
    assert_ne!(gdt[2..], [0; 8]);
    let base = idt[2..].iter().rev().fold(0, |n: u64, b| n << 8 | u64::from(*b));
    assert_eq!(base, { crate::machine::tables::idt_pointer().base });
}
