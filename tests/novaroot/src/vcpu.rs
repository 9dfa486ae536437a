//! A virtual CPU, where VMX or SVM is enabled [2.2.2, 8.6, 8.7]: it executes CPUID and HLT.

use crate::nova::{Status, call, mtd, on, root, stc, utcb};
use crate::world::{World, place, sel};
use crate::{Verdict, check};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

const DONE: u64 = sel::FREE;
const GST: u64 = sel::FREE + 1;
const VCPU: u64 = sel::FREE + 2;

/// The guest's memory at guest-physical address 0, in real mode.
#[repr(C, align(4096))]
struct Page([u8; 4096]);
static GUEST: Page = {
    let mut page = Page([0; 4096]);
    let (code, mut i) = (*b"\xb8\x34\x12\x0f\xa2\x89\xd8\xf4", 0);
    while i < code.len() {
        page.0[i] = code[i];
        i += 1;
    }
    page
};

/// What the guest had in RAX at CPUID, and at HLT; the instruction's length; VM exits in all.
static AT_CPUID: AtomicU64 = AtomicU64::new(0);
static AT_HLT: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicU64 = AtomicU64::new(0);

const STATE: u64 = mtd::GPR_0_7
    | mtd::RFLAGS
    | mtd::RIP
    | mtd::SEGMENTS
    | mtd::CR
    | mtd::DR
    | mtd::XSAVE
    | mtd::PAT
    | mtd::EFER
    | mtd::SPACES;

/// Selector, access rights, limit in one word; the base in the next [8.7.3].
fn segment(access: u64) -> [u64; 2] {
    [access << 16 | 0xffff << 32, 0]
}

/// STARTUP: real mode at 0.
extern "C" fn start(utcb: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    utcb[..utcb::SEL_GST + 3].fill(0);
    // CS; SS, DS, ES, FS, GS; TR, LDTR; GDTR, IDTR.
    let kinds = [0x9b, 0x93, 0x93, 0x93, 0x93, 0x93, 0x8b, 0x82, 0, 0];
    for (i, access) in kinds.into_iter().enumerate() {
        utcb[utcb::CS + 2 * i..][..2].copy_from_slice(&segment(access));
    }
    utcb[utcb::RFLAGS] = 2;
    utcb[utcb::CR0] = 0x10;
    utcb[utcb::DR7] = 0x400;
    utcb[utcb::XCR0] = 1;
    utcb[utcb::PAT] = 0x0007_0406_0007_0406;
    utcb[utcb::SEL_GST] = GST;
    STATE
}

extern "C" fn cpuid(utcb: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    AT_CPUID.store(utcb[utcb::RAX], SeqCst);
    let length = utcb[utcb::INSTRUCTION] & 0xffff_ffff;
    LENGTH.store(length, SeqCst);
    utcb[utcb::RIP] += length;
    utcb[utcb::RBX] = 0x5678;
    mtd::GPR_0_7 | mtd::RIP
}

extern "C" fn halt(utcb: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    AT_HLT.store(utcb[utcb::RAX], SeqCst);
    let _ = on(call::SM_UP, DONE, [0; 4]);
    mtd::POISON
}

/// From STARTUP to its end.
pub fn run(w: &World) -> Verdict {
    let (pd, bsp) = (w.root(root::PD), w.hip.cpu_bsp());
    if w.hip.field(0x78, 64) & 6 == 0 {
        let (status, _) = on(call::EC_GUEST, VCPU, [pd, place::FREE | bsp, 0, sel::GUEST_EVENTS]);
        check!(status == Status::BadFtr, status as u8);
        let (status, _) = on(call::GST, GST, [pd, 0, 0, 0]);
        check!(status == Status::BadFtr, status as u8);
        return Verdict::NotHere("neither VMX nor SVM is enabled");
    }
    let handler = sel::HANDLERS + bsp;
    let arch = w.hip.field(0x64, 16);
    let portals: [(u64, crate::world::Handler, u64); 3] =
        [(arch, start, 0), (0xa, cpuid, mtd::GPR_0_7 | mtd::RIP), (0xc, halt, mtd::GPR_0_7)];
    for (event, answer, groups) in portals {
        let status = w.portal(sel::GUEST_EVENTS + event, handler, answer, groups);
        check!(status == Status::Success, event << 8 | status as u64);
    }
    check!(on(call::CREATE_SM, DONE, [pd, 0, 0, 0]).0 == Status::Success);
    check!(on(call::GST, GST, [pd, 0, 0, 0]).0 == Status::Success);
    let page = &raw const GUEST as u64 >> 12;
    let granted = w.delegate((sel::ROOT_HST, page), (GST, 0), 0, 0x1f);
    check!(granted == Status::Success, granted as u8);
    let (status, _) = on(call::EC_GUEST, VCPU, [pd, place::FREE | bsp, 0, sel::GUEST_EVENTS]);
    check!(status == Status::Success, status as u8);
    let (status, _) = on(call::CREATE_SC, VCPU + 1, [pd, VCPU, 9 << 16 | 10, 0]);
    check!(status == Status::Success, status as u8);
    let (status, _) = on(call::SM_DOWN, DONE, [stc() + w.hip.stc_freq() * 2, 0, 0, 0]);
    check!(status == Status::Success, status as u8);
    check!(AT_CPUID.load(SeqCst) & 0xffff == 0x1234, AT_CPUID.load(SeqCst));
    check!(LENGTH.load(SeqCst) == 2, LENGTH.load(SeqCst));
    // MOV AX, BX after CPUID: what the answer has put into RBX.
    check!(AT_HLT.load(SeqCst) & 0xffff == 0x5678, AT_HLT.load(SeqCst));
    w.empty(sel::FREE, 2);
    Verdict::Ok
}
