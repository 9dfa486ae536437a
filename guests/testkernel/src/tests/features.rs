//! What CPUID says and what is there: instructions, MSRs, extended state.

use crate::harness::Need;
use crate::machine::cpu::{self, cpuid, cpuid_if_any, rdmsr, read_cr4, write_cr4, wrmsr, xgetbv, xsetbv};
use crate::machine::trap::{catch, expect, expect_gp, expect_none};
use crate::machine::{paging, smp};
use crate::spec::{cr4, msr, vector as v};
use crate::x86;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use testkernel_macros::guest_test;

/// Whether an instruction is not undefined.
macro_rules! executes {
    ($($t:tt)*) => { catch(|| x86!($($t)*)).is_none_or(|f| f.vector != v::UD) };
}

/// Name, leaf, register, bit, and whether the instruction that belongs to it executes.
type Feature = (&'static str, u32, usize, u32, fn() -> bool);

const FEATURES: [Feature; 28] = [
    ("TSC", 1, 3, 4, || executes!("rdtsc", out("rax") _, out("rdx") _)),
    ("CX8", 1, 3, 8, || executes!("cmpxchg8b [{}]", in(reg) paging::page(0), out("rax") _, out("rdx") _)),
    ("CMOV", 1, 3, 15, || executes!("cmovz eax, ecx", out("rax") _)),
    ("CLFSH", 1, 3, 19, || executes!("clflush [{}]", in(reg) paging::page(0))),
    ("FXSR", 1, 3, 24, || executes!("fxsave [{}]", in(reg) paging::page(0))),
    ("SSE", 1, 3, 25, || executes!("xorps xmm0, xmm0")),
    ("SSE2", 1, 3, 26, || executes!("pxor xmm0, xmm0")),
    ("SSE3", 1, 2, 0, || executes!("haddps xmm0, xmm0")),
    ("PCLMULQDQ", 1, 2, 1, || executes!("pclmulqdq xmm0, xmm0, 0")),
    ("SSSE3", 1, 2, 9, || executes!("pabsb xmm0, xmm0")),
    ("CX16", 1, 2, 13, || executes!("cmpxchg16b [{}]", in(reg) paging::page(0), out("rax") _, out("rdx") _)),
    ("SSE4.1", 1, 2, 19, || executes!("ptest xmm0, xmm0")),
    ("SSE4.2", 1, 2, 20, || executes!("pcmpgtq xmm0, xmm0")),
    ("MOVBE", 1, 2, 22, || executes!("movbe eax, [{}]", in(reg) paging::page(0), out("rax") _)),
    ("POPCNT", 1, 2, 23, || executes!("popcnt eax, ecx", out("rax") _)),
    ("AES", 1, 2, 25, || executes!("aesimc xmm0, xmm0")),
    ("RDRAND", 1, 2, 30, || executes!("rdrand eax", out("rax") _)),
    ("BMI1", 7, 1, 3, || executes!("andn eax, ecx, edx", out("rax") _)),
    ("BMI2", 7, 1, 8, || executes!("rorx eax, ecx, 3", out("rax") _)),
    ("RDSEED", 7, 1, 18, || executes!("rdseed eax", out("rax") _)),
    ("ADX", 7, 1, 19, || executes!("adcx eax, ecx", out("rax") _)),
    ("SMAP", 7, 1, 20, || executes!("clac")),
    ("CLFLUSHOPT", 7, 1, 23, || executes!("clflushopt [{}]", in(reg) paging::page(0))),
    ("CLWB", 7, 1, 24, || executes!("clwb [{}]", in(reg) paging::page(0))),
    ("SHA", 7, 1, 29, || executes!("sha1nexte xmm0, xmm0")),
    ("LAHF", 0x8000_0001, 2, 0, || executes!("lahf", out("rax") _)),
    ("LZCNT", 0x8000_0001, 2, 5, || executes!("lzcnt eax, ecx", out("rax") _)),
    ("RDTSCP", 0x8000_0001, 3, 27, || executes!("rdtscp", out("rax") _, out("rdx") _, out("rcx") _)),
];

fn register(leaf: u32, n: usize) -> u32 {
    let r = cpuid_if_any(leaf, 0);
    [r.eax, r.ebx, r.ecx, r.edx][n]
}

#[guest_test]
fn every_feature_that_cpuid_shows_executes() {
    for (name, leaf, n, bit, executes) in FEATURES {
        if register(leaf, n) >> bit & 1 != 0 {
            assert!(executes(), "{name} is shown, but undefined");
        }
    }
}

#[guest_test]
fn cpuid_is_the_same_each_time() {
    for leaf in [0, 1, 2, 4, 7, 0xb, 0xd, 0x8000_0000, 0x8000_0001, 0x8000_0008] {
        assert_eq!(cpuid(leaf, 0), cpuid(leaf, 0), "leaf {leaf:#x}");
    }
}

#[guest_test]
fn cpuid_beyond_the_highest_leaf_is_harmless() {
    for leaf in [0x100, 0x7fff_ffff, 0x8000_1000, u32::MAX] {
        expect_none(|| _ = cpuid(leaf, 0));
    }
    assert_ne!(cpuid(0x8000_0000, 0).eax, 0);
}

#[guest_test]
fn cpuid_follows_cr4_osxsave() {
    let shown = || cpuid(1, 0).ecx >> 27 & 1 != 0;
    assert!(!shown());
    if Need::Xsave.is_there() {
        write_cr4(read_cr4() | cr4::OSXSAVE);
        assert!(shown());
    }
}

#[guest_test]
fn five_level_paging_and_virtualisation_are_hidden() {
    assert_eq!(register(7, 2) >> 16 & 1, 0, "LA57");
    assert_eq!(register(1, 2) >> 5 & 3, 0, "VMX, SMX");
    assert_eq!(register(0x8000_0001, 2) >> 2 & 1, 0, "SVM");
}

#[guest_test]
fn virtualisation_instructions_are_undefined() {
    expect(v::UD, 0, || x86!("vmxoff"));
    expect(v::UD, 0, || x86!("vmread rax, rax"));
    expect(v::UD, 0, || x86!("vmrun rax", in("rax") 0));
    expect(v::UD, 0, || x86!("vmload rax", in("rax") 0));
    expect(v::UD, 0, || x86!("stgi"));
}

#[guest_test(needs = [Hypervisor])]
fn a_hypercall_goes_on() {
    let rax: u64;
    // KVM's: the guest sees its signature, none of its features. Undefined is an answer, too.
    let f = catch(|| {
        let _r: u64;
        x86!("vmcall", inout("rax") 1000u64 => _r);
    });
    assert!(f.is_none_or(|f| f.vector == v::UD));
    x86!("mov {}, 1", out(reg) rax);
    assert_eq!(rax, 1);
}

/// Registers that every x86-64 CPU has: number, and a value that can be written, if one can.
const MSRS: [(u32, Option<u64>); 17] = [
    (msr::TSC, None),
    (msr::APIC_BASE, None),
    (msr::MTRRCAP, None),
    (msr::SYSENTER_CS, Some(0x10)),
    (msr::SYSENTER_ESP, Some(0xffff_8000_0000_1000)),
    (msr::SYSENTER_EIP, Some(0xffff_8000_0000_2000)),
    (msr::MCG_CAP, None),
    (msr::PAT, Some(0x0007_0406_0007_0406)),
    (msr::MTRR_DEF_TYPE, None),
    (msr::EFER, None),
    (msr::STAR, Some(0x0023_0010_0000_0000)),
    (msr::LSTAR, Some(0xffff_8000_0000_3000)),
    (msr::CSTAR, Some(0)),
    (msr::FMASK, Some(0x200)),
    (msr::FS_BASE, Some(0x1234_5678_9000)),
    (msr::GS_BASE, Some(0x1234_5678_a000)),
    (msr::KERNEL_GS_BASE, Some(0xffff_8000_0000_4000)),
];

#[guest_test]
fn the_registers_of_every_cpu_can_be_read_and_keep_what_is_written() {
    for (n, value) in MSRS {
        let old = rdmsr(n);
        if let Some(value) = value {
            wrmsr(n, value);
            assert_eq!(rdmsr(n), value, "MSR {n:#x}");
            wrmsr(n, old);
        }
    }
}

#[guest_test]
fn registers_that_hold_addresses_refuse_others() {
    for n in [msr::SYSENTER_ESP, msr::SYSENTER_EIP, msr::LSTAR, msr::FS_BASE, msr::GS_BASE, msr::KERNEL_GS_BASE] {
        if let (msr::SYSENTER_ESP | msr::SYSENTER_EIP, false) = (n, Need::Intel.is_there()) {
            continue; // AMD's CPUs take 32 bits of anything
        }
        let old = rdmsr(n);
        expect_gp(|| wrmsr(n, 1 << 47));
        assert_eq!(rdmsr(n), old, "MSR {n:#x}");
    }
}

#[guest_test]
fn the_page_attribute_table_refuses_types_that_do_not_exist() {
    expect_gp(|| wrmsr(msr::PAT, 0x02));
    expect_gp(|| wrmsr(msr::PAT, 0x08 << 56));
}

#[guest_test(needs = [Hypervisor])]
fn registers_that_do_not_exist_raise_general_protection() {
    for n in [0x3, 0x2000, 0x4000_0000, 0x8000_0000, 0xc000_1000, 0xffff_ffff] {
        expect_gp(|| _ = rdmsr(n));
        expect_gp(|| wrmsr(n, 0));
    }
}

#[guest_test(needs = [Intel, Hypervisor])]
fn registers_that_only_intels_cpus_have_can_be_read() {
    for n in [msr::BIOS_SIGN_ID, msr::MISC_ENABLE] {
        expect_none(|| _ = rdmsr(n));
    }
}

#[guest_test(needs = [TscAdjust])]
fn the_adjustment_of_the_time_stamp_counter_starts_at_zero() {
    assert_eq!(rdmsr(msr::TSC_ADJUST), 0);
    expect_none(|| wrmsr(msr::TSC_ADJUST, 0));
}

#[guest_test]
fn gs_and_its_hidden_base_swap() {
    let (old, hidden) = (rdmsr(msr::GS_BASE), rdmsr(msr::KERNEL_GS_BASE));
    wrmsr(msr::GS_BASE, 0x1000);
    wrmsr(msr::KERNEL_GS_BASE, 0x2000);
    x86!("swapgs");
    cpuid(0, 0);
    let swapped = (rdmsr(msr::GS_BASE), rdmsr(msr::KERNEL_GS_BASE));
    wrmsr(msr::GS_BASE, old);
    wrmsr(msr::KERNEL_GS_BASE, hidden);
    assert_eq!(swapped, (0x2000, 0x1000));
}

#[guest_test(needs = [FsGsBase])]
fn fsgsbase_instructions_and_registers_agree() {
    write_cr4(read_cr4() | cr4::FSGSBASE);
    let value: u64;
    x86!("wrfsbase {}", in(reg) 0x1234_5000u64);
    cpu::in8(crate::spec::port::POST);
    x86!("rdfsbase {}", out(reg) value);
    assert_eq!((value, rdmsr(msr::FS_BASE)), (0x1234_5000, 0x1234_5000));
    wrmsr(msr::FS_BASE, 0);
}

#[guest_test(needs = [Rdtscp])]
fn rdtscp_tells_what_was_written() {
    wrmsr(msr::TSC_AUX, 4711);
    let aux: u32;
    x86!("rdtscp", out("eax") _, out("edx") _, out("ecx") aux);
    assert_eq!(aux, 4711);
    wrmsr(msr::TSC_AUX, 0);
}

#[guest_test(needs = [Mtrr])]
fn memory_type_registers_are_as_many_as_announced() {
    let count = rdmsr(msr::MTRRCAP) as u32 & 0xff;
    (0..2 * count).for_each(|n| expect_none(|| _ = rdmsr(msr::MTRR_PHYS_BASE0 + n)));
    if rdmsr(msr::MTRRCAP) >> 8 & 1 != 0 {
        expect_none(|| _ = rdmsr(msr::MTRR_FIX64K));
    }
}

#[guest_test]
fn vector_registers_survive_exits() {
    let (low, high): (u64, u64);
    x86!(
        "movq xmm5, {v}", "movq xmm13, {v}", "paddq xmm13, xmm13", "push rbx", "xor eax, eax", "cpuid", "pop rbx",
        "in al, 0x80", "movq {a}, xmm5", "movq {b}, xmm13",
        v = in(reg) 0x1234_5678_9abcu64, a = out(reg) low, b = out(reg) high, out("rax") _, out("rcx") _, out("rdx") _);
    assert_eq!((low, high), (0x1234_5678_9abc, 2 * 0x1234_5678_9abc));
}

#[guest_test]
fn the_floating_point_stack_survives_exits() {
    let result = AtomicU64::new(0);
    x86!("fninit", "fldpi", "fld1", "faddp", "in al, 0x80", "fistp qword ptr [{}]", in(reg) result.as_ptr(), out("al") _);
    assert_eq!(result.load(SeqCst), 4);
}

#[guest_test]
fn vector_registers_survive_the_monitors_own_work() {
    // Output makes the monitor work, and other components after it.
    x86!("movq xmm7, {}", in(reg) 0xfeed_f00d_u64);
    for _ in 0..200 {
        cpu::out8(crate::spec::port::COM1 + 7, 1);
        cpuid(1, 0);
    }
    let v: u64;
    x86!("movq {}, xmm7", out(reg) v);
    assert_eq!(v, 0xfeed_f00d);
}

fn enable_xsave(features: u64) {
    write_cr4(read_cr4() | cr4::OSXSAVE);
    xsetbv(0, features);
}

#[guest_test(needs = [Xsave])]
fn xcr0_takes_what_cpuid_offers_and_refuses_the_rest() {
    enable_xsave(1);
    let offered = u64::from(cpuid(0xd, 0).eax);
    xsetbv(0, offered);
    assert_eq!(xgetbv(0), offered);
    expect_gp(|| xsetbv(0, offered & !1));
    expect_gp(|| xsetbv(0, offered | 1 << 63));
    expect_gp(|| xsetbv(1, 1));
    if offered & 4 != 0 {
        expect_gp(|| xsetbv(0, 5));
    }
    xsetbv(0, 1);
}

#[guest_test(needs = [Xsave])]
fn xsetbv_without_its_bit_is_undefined() {
    expect(v::UD, 0, || xsetbv(0, 1));
    expect(v::UD, 0, || _ = xgetbv(0));
}

#[guest_test(needs = [Avx])]
fn wide_registers_survive_exits() {
    enable_xsave(7);
    let data: [u64; 4] = [1, 2, 3, 0xdead_beef];
    let mut back = [0u64; 4];
    x86!("vmovdqu ymm9, [{}]", in(reg) &data);
    for _ in 0..50 {
        cpuid(0, 0);
        cpu::out8(crate::spec::port::POST, 0);
    }
    x86!("vmovdqu [{}], ymm9", in(reg) &mut back);
    xsetbv(0, 1);
    assert_eq!(back, data);
}

#[guest_test(needs = [Avx])]
fn wide_registers_need_their_bit() {
    enable_xsave(3);
    expect(v::UD, 0, || x86!("vmovdqu ymm0, ymm1"));
    xsetbv(0, 7);
    expect_none(|| x86!("vmovdqu ymm0, ymm1"));
    xsetbv(0, 1);
}

#[guest_test]
fn cpuid_names_each_cpu() {
    let own = cpuid(1, 0).ebx >> 24;
    assert_eq!(own, smp::apic_id(0) & 0xff);
}
