//! docs/spec/abi.md: the information page.

use crate::boot::several_cpus;
use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::firmware::{self, give_ports, hip, modules, take};
use crate::own::sel;
use crate::scene::{PAGE, Slot, copy, cpu, page, peek, utcb_page, window};
use abi::{CreatePdOp, ExtFeatures, ExtOp, Features, Mad, SEL_NUM, Sel, Status, VirtMissing, nova_obj, perm};
use rt::hw::Ports;
use rt::hypercall::{self as hc, EcArgs};
use std::arch::x86_64::__cpuid;

pub const CHECKS: &[Check] = &[
    ("abi-100 abi-101 abi-102", "signature, length, checksum", head),
    ("abi-103 abi-104", "ranges of kernel and console: whole pages, one in the other", ranges),
    ("abi-105", "range of the root image, as the boot loader says", root_image),
    ("abi-106 boot-3", "RSDP", rsdp),
    ("abi-107 abi-116", "no UEFI map, no event log", absent),
    ("abi-108 boot-6 readme-8", "frequency of the STC, against the PIT", frequency),
    ("abi-109", "number of selectors", selectors),
    ("abi-91 abi-110", "numbers of events", events),
    ("abi-111 boot-12 create_ec-8", "number of CPUs: ECs on each, none on the next", cpus),
    ("abi-112 assign_int-16", "number of interrupts: a semaphore for each, none for the next", interrupts),
    ("abi-113", "orders that cannot fail half-way: object and host space", whole),
    ("abi-97 abi-114 ctrl_pd-9 ctrl_pd-21", "BAD_PAR: cacheability 5 to 7, a key beyond kimax", keys),
    ("abi-115 abi-118 abi-123 boot-11 boot-19", "features and what is missing, against CPUID and create_pd", features),
    ("abi-117 abi-119 abi-120 abi-122", "the extension of the page", extension),
    ("abi-121", "extensions: operations are BAD_HYP where the bit is clear, and only there", operations),
];

fn words() -> Vec<u64> {
    let at = std::ptr::from_ref(hip()).addr() as u64;
    (0..u64::from(hip().length) / 8).map(|i| peek(at + 8 * i)).collect()
}

fn head() -> Outcome {
    equal("signature", hip().signature, 0x4156_4f4e)?;
    holds("length", hip().length as usize >= 0xb0 && u64::from(hip().length) < PAGE)?;
    let parts = words().into_iter().flat_map(|w| [0, 16, 32, 48].map(|s| (w >> s) as u16));
    equal("sum", parts.fold(0u16, u16::wrapping_add), 0)
}

fn ranges() -> Outcome {
    let h = hip();
    equal("offsets in pages", [h.nova_start, h.nova_end, h.mbuf_start, h.mbuf_end].map(|a| a % PAGE), [0; 4])?;
    holds("kernel", h.nova_start < h.nova_end)?;
    holds("console", h.nova_start < h.mbuf_start && h.mbuf_start < h.mbuf_end && h.mbuf_end <= h.nova_end)
}

fn root_image() -> Outcome {
    let (start, end) = (hip().root_start, hip().root_end);
    equal("range", modules().first(), Some(&(start, end)))?;
    let w = window();
    done("map", firmware::map(start, w, perm::Mem::R, Mad::WB))?;
    equal("ELF", peek(w) as u32, u32::from_le_bytes(*b"\x7fELF"))
}

fn rsdp() -> Outcome {
    let w = window();
    done("map", firmware::map(hip().acpi_rsdp & !(PAGE - 1), w, perm::Mem::R, Mad::WB))?;
    let at = w + hip().acpi_rsdp % PAGE;
    let bytes: Vec<u8> = (0..8).map(|i| (peek((at + i) & !7) >> (8 * ((at + i) & 7))) as u8).collect();
    equal("signature", bytes, b"RSD PTR ".to_vec())?;
    holds("a table", firmware::table("APIC").is_some())
}

fn absent() -> Outcome {
    let h = hip();
    equal("UEFI map", (h.uefi_map, h.uefi_map_size, h.uefi_desc_size, h.uefi_desc_version), (u64::MAX, 0, 0, 0))?;
    equal("event log", (h.log_addr, h.log_size, h.log_offset), (0, 0, 0))
}

/// Frequency of the PIT (Intel 82C54) in Hz.
const PIT_HZ: u64 = 1_193_182;
/// How long to measure: 50 ms.
const PIT_COUNT: u64 = PIT_HZ / 20;

/// Ticks of the STC in [`PIT_COUNT`] ticks of the PIT's counter 2, whose output is in port 0x61.
fn measured(pit: &Ports, gate: &Ports) -> u64 {
    // Counter 2, both bytes, mode 0.
    pit.out8(1, 0xb0);
    pit.out8(0, PIT_COUNT as u8);
    let t0 = rt::time::tsc();
    pit.out8(0, (PIT_COUNT >> 8) as u8);
    while gate.in8(0) & 0x20 == 0 {}
    rt::time::tsc() - t0
}

/// The shortest of some measurements counts: an emulator that shares its machine is stopped at times.
fn frequency() -> Outcome {
    give_ports(0x42, 2, true)?;
    give_ports(0x61, 1, true)?;
    let (pit, gate) = (Ports::new(0x42, 2), Ports::new(0x61, 1));
    let old = gate.in8(0);
    gate.out8(0, old & !3 | 1);
    let ticks = (0..8).map(|_| measured(&pit, &gate)).min().unwrap_or(0);
    gate.out8(0, old);
    give_ports(0x42, 2, false)?;
    give_ports(0x61, 1, false)?;
    let (hz, want) = (ticks * PIT_HZ / PIT_COUNT, hip().stc_freq);
    holds(&format!("{want} Hz, and {hz} by the PIT"), hz > want / 10 * 7 && hz < want / 10 * 13)
}

fn selectors() -> Outcome {
    equal("sel_num", hip().sel_num, SEL_NUM)?;
    let s = hip().sel_num - 16;
    done("near the last", hc::create_sm(s, sel::PD, 0))?;
    firmware::clear(s)?;
    refused("sel_num", hc::create_sm(hip().sel_num, sel::PD, 0), Status::BadCap)
}

fn events() -> Outcome {
    let h = hip();
    equal("numbers", (h.sel_hst_arch, h.sel_hst_nova, h.sel_gst_arch, h.sel_gst_nova), (32, 2, 0x60, 2))
}

fn cpus() -> Outcome {
    let create = |cpu| {
        let s = Slot::new();
        // SAFETY: a fresh page; it is never called.
        unsafe { hc::create_ec(s.0, sel::PD, EcArgs { utcb_page: utcb_page(), cpu, ..EcArgs::default() }) }
    };
    (0..hip().cpu_num).try_for_each(|c| done(&format!("CPU {c}"), create(c)))?;
    for c in [hip().cpu_num, 0xfff] {
        refused(&format!("CPU {c}"), create(c), Status::BadCpu)?;
    }
    let (madt, mut at, mut enabled) = (firmware::table("APIC").ok_or("no MADT")?, 44, 0);
    while at + 8 <= madt.len() {
        enabled += u16::from(madt[at] == 0 && madt[at + 4] & 1 != 0);
        at += usize::from(madt[at + 1].max(2));
    }
    equal("those that the firmware names", hip().cpu_num, enabled)?;
    equal("the boot CPU is ours", (hip().cpu_bsp, cpu()), (0, 0))?;
    if several_cpus().is_err() {
        return Ok(());
    }
    // On another CPU, and nowhere else.
    let last = hip().cpu_num - 1;
    rt::thread::set_spawn_cpu(last);
    let there = std::thread::spawn(rt::thread::cpu).join();
    rt::thread::set_spawn_cpu(0);
    equal("a thread there", there.ok(), Some(last))
}

fn interrupts() -> Outcome {
    let n = Sel::from(hip().int_pin) + Sel::from(hip().int_msi);
    let first = take(nova_obj::INT_BASE, perm::ALL)?;
    let last = take(nova_obj::INT_BASE + n - 1, perm::ALL)?;
    for s in [first.0, last.0] {
        refused("down of one that nothing ups", hc::sm_down(s, false, Some(1)), Status::Timeout)?;
    }
    let none = take(nova_obj::INT_BASE + n, perm::ALL)?;
    refused("down of the next", hc::sm_down(none.0, false, Some(1)), Status::BadCap)
}

/// A PD whose account has few frames, with a space.
fn poor(op: CreatePdOp, frames: u64) -> Result<(Slot, Slot), String> {
    let pd = Slot::new();
    done("create_account", hc::create_account(pd.0, sel::PD, frames))?;
    let space = Slot::pd(op, pd.0)?;
    Ok((pd, space))
}

/// Delegates blocks of the largest order until there is no memory: of the last, nothing is there.
fn whole() -> Outcome {
    let (order, sm) = (u32::from(hip().mco_obj), Slot::sm(0)?);
    let from = rt::sel::alloc_range(1 << order, 1 << order).ok_or("no selectors")?;
    (0..1u64 << order).try_for_each(|i| done("copy", copy(sm.0, from + i, perm::ALL)))?;
    let (_pd, obj) = poor(CreatePdOp::Obj, 12)?;
    // SAFETY: object spaces hold no memory.
    let give = |i: u64| unsafe { hc::ctrl_pd(sel::OBJ, obj.0, from, i << order, order, perm::ALL, Mad::WB) };
    let failed = (0..20).find(|i| give(*i).is_err()).ok_or("it never fails")?;
    refused("object space", give(failed), Status::MemCap)?;
    holds("some came before", failed > 0)?;
    for (at, want) in [(failed - 1, Ok(())), (failed, Err(Status::BadCap))] {
        let back = Slot::new();
        // SAFETY: as above.
        done("back", unsafe { hc::ctrl_pd(obj.0, sel::OBJ, at << order, back.0, 0, perm::ALL, Mad::WB) })?;
        equal("up of the first of a block", hc::sm_up(back.0), want)?;
    }
    (0..1u64 << order).for_each(|i| rt::sel::free(from + i));
    let (order, p) = (u32::from(hip().mco_hst), page());
    let (_pd, hst) = poor(CreatePdOp::Hst, 12)?;
    let block = ((p / PAGE) >> order) << order;
    // SAFETY: a host space that nobody runs in.
    let give = |i: u64| unsafe { hc::ctrl_pd(sel::HST, hst.0, block, i << 20, order, perm::ALL, Mad::WB) };
    let failed = (0..20).find(|i| give(*i).is_err()).ok_or("it never fails")?;
    refused("host space", give(failed), Status::MemCap)?;
    let w = window();
    for (at, want) in [(failed - 1, true), (failed, false)] {
        let from = (at << 20) + (p / PAGE - block);
        // SAFETY: to where nothing is.
        done("back", unsafe { hc::ctrl_pd(hst.0, sel::HST, from, w / PAGE, 0, perm::ALL, Mad::WB) })?;
        let there = crate::scene::touch(w, crate::scene::Touch::Read)?.is_none();
        equal("a page of a block is there", there, want)?;
    }
    Ok(())
}

fn keys() -> Outcome {
    equal("kimax", hip().kimax, 0)?;
    let (w, p) = (window(), firmware::free_memory().ok_or("no memory")?.1 - PAGE);
    for c in 0..8 {
        let want = if c < 5 { Ok(()) } else { Err(Status::BadPar) };
        equal(&format!("cacheability {c}"), firmware::map(p, w, perm::Mem::R, Mad(c)), want)?;
    }
    let before = peek(w);
    for key in [1, 2, 0x7fff] {
        let mad = Mad((u32::from(hip().kimax) + key) << 3);
        refused(&format!("key {key}"), firmware::map(p + PAGE, w, perm::Mem::empty(), mad), Status::BadPar)?;
    }
    equal("the page is still there", peek(w), before)
}

fn features() -> Outcome {
    let h = hip();
    let has = |f: Features| h.features & f.bits() != 0;
    let guests = has(Features::VMX) || has(Features::SVM);
    let (vmx, svm) = (__cpuid(1).ecx >> 5 & 1 != 0, __cpuid(0x8000_0001).ecx >> 2 & 1 != 0);
    holds("VMX only where the CPU has it", vmx || !has(Features::VMX))?;
    holds("SVM only where the CPU has it", svm || !has(Features::SVM))?;
    equal("nothing is missing where guests run, and only there", h.virt_missing == 0, guests)?;
    let missing = VirtMissing::from_bits(h.virt_missing).ok_or("unknown bits")?;
    equal("CPU is missing where it has neither", missing.contains(VirtMissing::CPU), !vmx && !svm)?;
    let s = Slot::new();
    let want = if guests { Ok(()) } else { Err(Status::BadFtr) };
    equal("create_pd of a guest space", hc::create_pd(CreatePdOp::Gst, s.0, sel::PD), want)?;
    let dma = hc::create_pd(CreatePdOp::Dma, Slot::new().0, sel::PD);
    equal("create_pd of a DMA space", dma.is_ok(), has(Features::IOMMU))?;
    equal("other bits", Features::from_bits(h.features).is_some(), true)
}

fn extension() -> Outcome {
    let h = hip();
    equal("signature", h.ext_signature, 0x4f52_4546)?;
    holds("length covers it", h.length >= 0xb0)?;
    holds("used and total", h.kmem_used > 0 && h.kmem_used < h.kmem_total && h.kmem_total.is_multiple_of(PAGE))?;
    let (limit, used) = done("read_quota", hc::read_quota(sel::PD))?;
    let rest = limit - used;
    holds("what is left is less than at the start", rest * PAGE < h.kmem_total - h.kmem_used)?;
    // What boot left is what the account of the root PD could have at most.
    holds("and most of it is there", rest * PAGE > (h.kmem_total - h.kmem_used) / 2)
}

fn operations() -> Outcome {
    let there = ExtFeatures::from_bits(hip().ext_features).ok_or("unknown bits")?;
    for n in 0..16u64 {
        let id = sel::PD << 8 | n << 4 | 0xf;
        let wanted = ExtOp::from_flags(n as u8).is_some_and(|o| there.contains(o.feature()));
        // One that is there is not made: with these arguments it could do something.
        if !wanted {
            equal(&format!("operation {n}"), raw(id), Status::BadHyp as u64)?;
        }
    }
    let quota = done("read_quota", hc::read_quota(sel::PD)).is_ok();
    equal("X2", quota, there.contains(ExtFeatures::QUOTA))?;
    equal("INJECT, in this kernel", there.contains(ExtFeatures::INJECT), false)
}

/// A hypercall without further arguments; what RDI is then.
pub fn raw(rdi: u64) -> u64 {
    let mut out = rdi;
    // SAFETY: callers make calls that are refused.
    unsafe {
        std::arch::asm!("syscall", inlateout("rdi") out, inlateout("rsi") 0u64 => _, inlateout("rdx") 0u64 => _,
            inlateout("rax") 0u64 => _, lateout("rcx") _, lateout("r11") _, clobber_abi("C"));
    }
    out
}
