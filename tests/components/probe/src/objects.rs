//! docs/spec/objects.md: exceptions at portals of our own, vector state, FS and GS, who is killed, what stays.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::scene::{Local, PAGE, Slot, in_ms, server};
use abi::{ArchState, Mtd, Status, perm};
use rt::Semaphore;
use rt::hypercall as hc;
use std::arch::asm;
use std::sync::{Arc, Mutex};
use std::thread;

pub const CHECKS: &[Check] = &[
    ("objects-11 abi-85", "exception: #DE", divide),
    ("objects-11 abi-85", "exception: #DB by single step", single_step),
    ("objects-11 abi-85", "exception: #BP", breakpoint),
    ("objects-11 abi-85 abi-21", "exception: #UD", undefined),
    (
        "objects-11 abi-19 abi-28 spaces-4",
        "exception: #GP by a privileged instruction, a port, a gate that user mode may not use",
        protection,
    ),
    ("objects-11", "exception: #GP by a non-canonical address", non_canonical),
    ("objects-11 abi-19 abi-28", "exception: #PF with error code and address: read, write, fetch", page_fault),
    ("objects-11", "exception: of the SIMD unit, #XM", simd),
    ("objects-12 spaces-20 abi-84", "an event without portal, or without EVENT, kills", no_portal),
    ("objects-21", "the call that an event interrupts stays open", call_stays_open),
    ("objects-6", "FS and GS base are per EC", bases),
    ("objects-30", "vector registers survive a blocking ctrl_sm", vectors_blocking),
    ("objects-30", "vector registers survive preemption by others that use them", vectors_preempted),
    (
        "objects-29 ipc_call-16 ipc_reply-12",
        "vector registers of the callee are not seen by the caller",
        vectors_not_leaked,
    ),
    ("objects-30", "vector registers survive an exception whose handler uses them", vectors_exception),
    ("objects-30", "and a page fault", vectors_page_fault),
    ("objects-47", "a semaphore that is waited on outlives its capabilities", lifetime_waiting),
    ("objects-47 objects-49", "a semaphore lives as long as a capability to it", lifetime),
    ("objects-47", "an EC lives as long as a portal to it", portal_holds_ec),
    ("objects-22", "an event waits for a busy handler", busy_handler),
    (
        "objects-59 objects-49 create_ec-22 create_ec-24 create_sm-7 create_sm-8 ctrl_pd-23",
        "MEM_OBJ and MEM_CAP when the account is used up; all of it comes back",
        exhaustion,
    ),
    ("objects-49 objects-53", "300 times: threads, portals, spaces come and go", churn),
];

/// What a provoked exception found, in words of the reply: where it should be, and R15 afterwards.
const AT: usize = 0;
const R15: usize = 1;
const RSP: usize = 2;

/// A body that executes instructions at a known place with known registers: R8 = place, R9 = behind, R12 to R15 known,
/// RSI = 0x66, ECX = 0.
macro_rules! provoke {
    ($name:ident, $setup:literal, $($text:literal),+) => {
        extern "C" fn $name(_: u64, _: u64, u: *mut u64) -> u64 {
            let (at, r15, sp): (u64, u64, u64);
            // SAFETY: the handler goes on at R9, behind; the own UTCB.
            unsafe {
                asm!("lea r8, [rip + 2f]", "lea r9, [rip + 3f]", "mov r10, rsp", "xor ecx, ecx", $setup,
                     "2:", $($text,)+ "3:", "cld",
                     out("r8") at, out("r9") _, out("r10") sp, out("r11") _, out("rcx") _, out("rax") _, out("rdx") _,
                     inout("r12") 0x1212_0000_1212u64 => _, inout("r13") 0x1313u64 => _,
                     inout("r14") 0x1414u64 => _, inout("r15") u64::MAX => r15, inout("rsi") 0x66u64 => _,
                     inout("rdi") 0x77u64 => _);
                u.add(AT).write_volatile(at);
                u.add(R15).write_volatile(r15);
                u.add(RSP).write_volatile(sp);
            }
            2
        }
    };
}

/// The first qualification and second, and how far RIP is from the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Raised {
    event: u64,
    error: u64,
    rip: u64,
}

/// Runs a body; its one event goes on behind with another R15.
fn provoked(body: crate::scene::Body) -> Result<(Raised, ArchState), String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let s = seen.clone();
    let l = Local::new(
        body,
        Some(Box::new(move |n, state| {
            s.lock().expect("seen").push((n, *state));
            state.rip = state.gpr[9];
            state.gpr[15] = 0x9999;
            state.rflags &= !TRAP;
            Mtd::RIP | Mtd::GPR_8_15 | Mtd::RFLAGS
        })),
    )?;
    let words = done("call", l.call(&[0]))?;
    let seen = seen.lock().expect("seen");
    let [(n, s)] = seen[..] else {
        return Err(format!("expected one event, got {:?}", seen.iter().map(|e| e.0).collect::<Vec<_>>()));
    };
    equal("R15 that the reply set", words[R15], 0x9999)?;
    equal("RSP", s.gpr[ArchState::RSP], words[RSP])?;
    equal("RSI, RDI", (s.gpr[ArchState::RSI], s.gpr[ArchState::RDI]), (0x66, 0x77))?;
    equal("R12 to R15", s.gpr[12..].to_vec(), vec![0x1212_0000_1212, 0x1313, 0x1414, u64::MAX])?;
    Ok((Raised { event: n, error: s.qual[0], rip: s.rip.wrapping_sub(words[AT]) }, s))
}

fn raises(what: &str, body: crate::scene::Body, want: Raised) -> Outcome {
    equal(what, provoked(body)?.0, want)
}

const TRAP: u64 = 1 << 8;

provoke!(divides, "xor edx, edx", "div ecx");
provoke!(steps, "pushfq; or dword ptr [rsp], 0x100; popfq", "nop");
provoke!(breaks, "nop", "int3");
provoke!(undefines, "nop", "ud2");
provoke!(halts, "nop", "hlt");
provoke!(reads_port, "nop", "in al, 0x80");
provoke!(uses_gate, "nop", "int 0x20");
provoke!(leaves_canonical, "mov r11, 0x800000000000", "mov al, [r11]");
provoke!(reads_page_0, "xor r11d, r11d", "mov al, [r11 + 0x123]");
provoke!(writes_page_0, "xor r11d, r11d", "mov [r11 + 0x456], eax");
provoke!(writes_kernel, "mov r11, 0xffff800000000000", "mov [r11], eax");
provoke!(
    simd_divides,
    "push 0x1d80; ldmxcsr [rsp]; mov r11d, 0x3f800000; movd xmm0, r11d; xorps xmm1, xmm1; pop r11",
    "divss xmm0, xmm1",
    "nop"
);

fn divide() -> Outcome {
    raises("div by 0", divides, Raised { event: 0, error: 0, rip: 0 })
}

fn single_step() -> Outcome {
    // The instruction after POPF completes before the trap: RIP is behind the NOP.
    let (r, s) = provoked(steps)?;
    equal("event", r, Raised { event: 1, error: 0, rip: 1 })?;
    equal("TF", s.rflags & TRAP, TRAP)
}

fn breakpoint() -> Outcome {
    raises("int3: RIP is behind it", breaks, Raised { event: 3, error: 0, rip: 1 })
}

fn undefined() -> Outcome {
    raises("ud2", undefines, Raised { event: 6, error: 0, rip: 0 })
}

fn protection() -> Outcome {
    raises("hlt", halts, Raised { event: 13, error: 0, rip: 0 })?;
    raises("in", reads_port, Raised { event: 13, error: 0, rip: 0 })?;
    raises("int 0x20", uses_gate, Raised { event: 13, error: 0x20 << 3 | 2, rip: 0 })
}

fn non_canonical() -> Outcome {
    raises("read of 2^47", leaves_canonical, Raised { event: 13, error: 0, rip: 0 })
}

fn page_fault() -> Outcome {
    for (what, body, error, addr) in [
        ("read", reads_page_0 as crate::scene::Body, 4, 0x123),
        ("write", writes_page_0, 6, 0x456),
        ("write to the kernel", writes_kernel, 6, 0xffff_8000_0000_0000),
    ] {
        let (r, s) = provoked(body)?;
        // Whether kernel addresses are mapped is not ours to know: bit 0 of the error code.
        let r = if addr >> 63 == 1 { Raised { error: r.error & !1, ..r } } else { r };
        equal(what, r, Raised { event: 14, error, rip: 0 })?;
        equal("address", s.qual[1], addr)?;
    }
    crate::scene::faults("fetch", 2 * PAGE, crate::scene::Touch::Call, 4 | 0x10)
}

fn simd() -> Outcome {
    raises("divss by 0, unmasked", simd_divides, Raised { event: 19, error: 0, rip: 0 })
}

fn no_portal() -> Outcome {
    let l = Local::new(undefines, None)?;
    refused("no portal", l.call(&[0]), Status::Aborted)?;
    let l = Local::new(
        undefines,
        Some(Box::new(|_, s| {
            s.rip = s.gpr[9];
            Mtd::RIP
        })),
    )?;
    let pt = l.events.base + 6;
    done("mask", crate::scene::copy(pt, pt, perm::ALL & !perm::Pt::EVENT.bits()))?;
    refused("portal without EVENT", l.call(&[0]), Status::Aborted)
}

fn call_stays_open() -> Outcome {
    let (_t, pt) = server(Box::new(|_, mtd, u| {
        u.words[0] += 1;
        mtd
    }))?;
    let portal = pt.0;
    // The handler of the event makes a call of its own meanwhile.
    let l = Local::new(
        undefines,
        Some(Box::new(move |_, s| {
            let rip = s.gpr[9];
            std::hint::black_box(&mut *s);
            let _ = hc::ipc_call(portal, 0, false);
            s.rip = rip;
            Mtd::RIP
        })),
    )?;
    equal("descriptor of the reply", l.call(&[0]).map(|w| w.len()), Ok(3))
}

/// Sets both bases to its first word, has others run (by a down that times out), returns both.
extern "C" fn sets_bases(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: this thread has no thread-local data; the own UTCB.
    unsafe {
        let (v, sm) = (u.read_volatile(), u.add(1).read_volatile());
        if v != 0 {
            asm!("wrfsbase {0}", "wrgsbase {1}", in(reg) v, in(reg) v + 8);
        }
        let _ = hc::sm_down(sm, false, Some(u.add(2).read_volatile()));
        let (fs, gs): (u64, u64);
        asm!("rdfsbase {0}", "rdgsbase {1}", out(reg) fs, out(reg) gs);
        u.write_volatile(fs);
        u.add(1).write_volatile(gs);
    }
    1
}

fn bases() -> Outcome {
    let (a, b, sm) = (Local::new(sets_bases, None)?, Local::new(sets_bases, None)?, Slot::sm(0)?);
    let other = thread::spawn(|| {
        for _ in 0..5 {
            Semaphore::new(0).down_until(in_ms(1));
        }
    });
    for (l, v) in [(&a, 0x1111_0000u64), (&b, 0x7fff_2222_0000), (&a, 0), (&b, 0)] {
        let want = match (v, std::ptr::eq(l, &a)) {
            (0, true) => 0x1111_0000,
            (0, false) => 0x7fff_2222_0000,
            (v, _) => v,
        };
        let got = done("call", l.call(&[v, sm.0, in_ms(2)]))?;
        equal("FS, GS", got, vec![want, want + 8])?;
    }
    other.join().map_err(|_| "panic".into())
}

type Vectors = [u64; 32];

fn pattern(seed: u64) -> Vectors {
    std::array::from_fn(|i| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i as u64 * 0x0101_0101_0101_0101))
}

/// Loads all sixteen registers, executes the text, stores them.
macro_rules! with_vectors {
    ($v:expr, [$($text:literal),+], $($op:tt)*) => {{
        let (load, mut store): (Vectors, Vectors) = ($v, [0; 32]);
        // SAFETY: loads and stores of two arrays; what the text does is said where it is used.
        unsafe {
            asm!(
                "movups xmm0, [r12]", "movups xmm1, [r12+16]", "movups xmm2, [r12+32]", "movups xmm3, [r12+48]",
                "movups xmm4, [r12+64]", "movups xmm5, [r12+80]", "movups xmm6, [r12+96]", "movups xmm7, [r12+112]",
                "movups xmm8, [r12+128]", "movups xmm9, [r12+144]",
                "movups xmm10, [r12+160]", "movups xmm11, [r12+176]",
                "movups xmm12, [r12+192]", "movups xmm13, [r12+208]",
                "movups xmm14, [r12+224]", "movups xmm15, [r12+240]",
                $($text,)+
                "movups [r13], xmm0", "movups [r13+16], xmm1", "movups [r13+32], xmm2", "movups [r13+48], xmm3",
                "movups [r13+64], xmm4", "movups [r13+80], xmm5", "movups [r13+96], xmm6", "movups [r13+112], xmm7",
                "movups [r13+128], xmm8", "movups [r13+144], xmm9",
                "movups [r13+160], xmm10", "movups [r13+176], xmm11",
                "movups [r13+192], xmm12", "movups [r13+208], xmm13",
                "movups [r13+224], xmm14", "movups [r13+240], xmm15",
                in("r12") load.as_ptr(), in("r13") store.as_mut_ptr(), $($op)* clobber_abi("C"),
            );
        }
        (load, store)
    }};
}

fn vectors_blocking() -> Outcome {
    let sm = Slot::sm(0)?;
    let sel = sm.0;
    let t = thread::spawn(move || {
        Semaphore::new(0).down_until(in_ms(3));
        // Uses them all in between.
        let (a, b) = with_vectors!(pattern(5), ["nop"],);
        let _ = hc::sm_up(sel);
        a == b
    });
    let id = abi::Hypercall::CtrlSm.identifier(1, sm.0);
    // A down of an own semaphore.
    let (want, got) = with_vectors!(pattern(9), ["syscall"], inout("rdi") id => _, inout("rsi") 0u64 => _,);
    holds("the other's registers", t.join().map_err(|_| "panic")?)?;
    equal("XMM0 to XMM15", got, want)
}

/// Holds a pattern in the registers until `end`, in user mode all the time.
fn hold_vectors(seed: u64, end: u64) -> (Vectors, Vectors) {
    with_vectors!(pattern(seed), ["2:", "rdtsc", "shl rdx, 32", "or rax, rdx", "cmp rax, r14", "jb 2b"],
                  in("r14") end, out("rax") _, out("rdx") _,)
}

fn vectors_preempted() -> Outcome {
    let end = in_ms(150);
    rt::thread::set_spawn_priority(3);
    let threads: Vec<_> = (1..4).map(|seed| thread::spawn(move || hold_vectors(seed, end))).collect();
    rt::thread::set_spawn_priority(0);
    let mut turns = 0;
    while rt::time::tsc() < end {
        turns += 1;
        Semaphore::new(0).down_until(in_ms(1));
        let (a, b) = with_vectors!(pattern(100 + turns), ["nop"],);
        equal("registers of the thread that interrupts", b, a)?;
    }
    holds(&format!("many interruptions: {turns}"), turns > 3)?;
    for t in threads {
        let (want, got) = t.join().map_err(|_| "panic")?;
        equal("XMM0 to XMM15", got, want)?;
    }
    Ok(())
}

extern "C" fn loads_vectors(_: u64, _: u64, _: *mut u64) -> u64 {
    let (a, b) = with_vectors!([0x5ec3_5ec3_5ec3_5ec3; 32], ["nop"],);
    u64::from(a != b)
}

fn vectors_not_leaked() -> Outcome {
    let l = Local::new(loads_vectors, None)?;
    let id = abi::Hypercall::IpcCall.identifier(0, l.portal.0);
    // A call of our own thread.
    let (_, got) = with_vectors!(pattern(1), ["syscall"], inout("rdi") id => _, inout("rsi") 0u64 => _,);
    holds("none of the callee's values", got.iter().all(|&w| w != 0x5ec3_5ec3_5ec3_5ec3))
}

extern "C" fn holds_vectors(_: u64, _: u64, u: *mut u64) -> u64 {
    let (a, b) = with_vectors!(pattern(77), ["ud2"],);
    // SAFETY: the own UTCB.
    unsafe { u.write_volatile(u64::from(a == b)) };
    0
}

extern "C" fn holds_vectors_and_faults(_: u64, _: u64, u: *mut u64) -> u64 {
    // MOV AL, [0x123].
    let (a, b) = with_vectors!(pattern(79), [".byte 0x8a, 0x04, 0x25, 0x23, 0x01, 0, 0"], out("rax") _,);
    // SAFETY: the own UTCB.
    unsafe { u.write_volatile(u64::from(a == b)) };
    0
}

fn vectors_exception() -> Outcome {
    keeps_vectors(holds_vectors, 2)
}

fn vectors_page_fault() -> Outcome {
    keeps_vectors(holds_vectors_and_faults, 7)
}

/// Its handler, which goes on behind the instruction of that length, has vector registers of its own.
fn keeps_vectors(body: crate::scene::Body, length: u64) -> Outcome {
    let used = Arc::new(Mutex::new(false));
    let u = used.clone();
    let l = Local::new(
        body,
        Some(Box::new(move |_, s| {
            let (a, b) = with_vectors!(pattern(78), ["nop"],);
            *u.lock().expect("used") = a == b;
            s.rip += length;
            Mtd::RIP
        })),
    )?;
    equal("the thread's registers are as they were", l.call(&[0]), Ok(vec![1]))?;
    holds("the handler's registers", *used.lock().expect("used"))
}

fn lifetime_waiting() -> Outcome {
    let sm = Slot::sm(0)?;
    let (sel, until) = (sm.0, in_ms(20));
    let t = thread::spawn(move || hc::sm_down(sel, false, Some(until)));
    Semaphore::new(0).down_until(in_ms(5));
    drop(sm);
    // Others take its memory, if it was free.
    let _others: Vec<_> = (0..100).map(|_| Slot::sm(3)).collect::<Result<_, _>>()?;
    refused("down", t.join().map_err(|_| "panic")?, Status::Timeout)
}

fn lifetime() -> Outcome {
    let sm = Slot::sm(0)?;
    let other = Slot::masked(sm.0, perm::ALL)?;
    done("up", hc::sm_up(sm.0))?;
    drop(sm);
    done("down through the other capability", hc::sm_down(other.0, false, Some(1)))
}

extern "C" fn answers(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB.
    unsafe { u.write_volatile(4711) };
    0
}

fn portal_holds_ec() -> Outcome {
    let l = Local::new(answers, None)?;
    done("revoke the EC", crate::scene::copy(l.ec.0, l.ec.0, 0))?;
    equal("reply", l.call(&[1]), Ok(vec![4711]))
}

fn churn() -> Outcome {
    use abi::CreatePdOp::{Hst, Obj, Pd, Pio};
    for i in 0..300 {
        let pd = Slot::pd(Pd, parent::sel::PD)?;
        let (_o, _h, _p) = (Slot::pd(Obj, pd.0)?, Slot::pd(Hst, pd.0)?, Slot::pd(Pio, pd.0)?);
        let (ec, pt, sm) = (Slot::new(), Slot::new(), Slot::sm(i)?);
        let a = hc::EcArgs { utcb_page: 0x1000, cpu: crate::scene::cpu(), fpu: true, ..hc::EcArgs::default() };
        // SAFETY: an EC of another PD.
        done("create_ec", unsafe { hc::create_ec(ec.0, pd.0, a) })?;
        // SAFETY: as above; never called.
        done("create_pt", unsafe { hc::create_pt(pt.0, parent::sel::PD, ec.0, 0) })?;
        if i > 0 {
            done("down", hc::sm_down(sm.0, false, Some(1)))?;
        }
    }
    Ok(())
}

fn busy_handler() -> Outcome {
    let (inside, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (i, g) = (inside.clone(), gate.clone());
    let a = Local::new(
        undefines,
        Some(Box::new(move |_, s| {
            i.up();
            g.down();
            s.rip = s.gpr[9];
            Mtd::RIP
        })),
    )?;
    let b = Local::new(undefines, None)?;
    done("the same portal", crate::scene::copy(a.events.base + 6, b.events.base + 6, perm::ALL))?;
    let portal = a.portal.0;
    let first = thread::spawn(move || crate::scene::call(portal, &[0], false).map(|w| w.len()));
    let arrived = crate::scene::arrives("first event", &inside);
    let opener = thread::spawn(move || {
        Semaphore::new(0).down_until(in_ms(5));
        gate.up();
        gate.up();
    });
    let second = b.call(&[0]).map(|w| w.len());
    opener.join().map_err(|_| "panic")?;
    arrived?;
    equal("reply of the second", second, Ok(3))?;
    equal("reply of the first", first.join().map_err(|_| "panic")?, Ok(3))
}

/// Creates ECs in another PD until there is no memory; what the pool then refuses, and how many there were.
fn fill() -> Result<usize, String> {
    use abi::CreatePdOp::{Hst, Obj, Pd};
    let pd = Slot::pd(Pd, parent::sel::PD)?;
    let _spaces = (Slot::pd(Obj, pd.0)?, Slot::pd(Hst, pd.0)?);
    let (p, w, sm) = (crate::scene::page(), crate::scene::window(), Slot::sm(0)?);
    let args = hc::EcArgs { utcb_page: 0x1000, cpu: crate::scene::cpu(), fpu: true, ..hc::EcArgs::default() };
    let mut ecs = Vec::new();
    let refusal = loop {
        let s = Slot::new();
        // SAFETY: an EC of another PD.
        match unsafe { hc::create_ec(s.0, pd.0, args) } {
            Ok(()) => ecs.push(s),
            Err(e) => break e,
        }
    };
    // Slots and cells that are still free in frames that are in use.
    let mut sms: Vec<Slot> = Vec::new();
    let sm_refusal = loop {
        let s = Slot::new();
        match hc::create_sm(s.0, parent::sel::PD, 0) {
            Ok(()) => sms.push(s),
            Err(e) => break e,
        }
    };
    let far = abi::SEL_NUM / 2;
    let slot = crate::scene::copy(sm.0, far, perm::ALL);
    // SAFETY: a window of our own.
    let map = unsafe { bare::map(p, w, 0, perm::Mem::R) };
    let n = ecs.len();
    drop((ecs, sms));
    // With several CPUs what is gone comes back a little later; reading the account waits for that.
    done("read_quota", hc::read_quota(parent::sel::PD))?;
    holds(&format!("create_ec: MEM_OBJ or MEM_CAP, not {refusal:?}"), is_memory(refusal))?;
    holds(&format!("create_sm: MEM_OBJ or MEM_CAP, not {sm_refusal:?}"), is_memory(sm_refusal))?;
    refused("a slot where no other is", slot, Status::MemCap)?;
    refused("a page where no other is", map, Status::MemCap)?;
    Ok(n)
}

fn is_memory(s: Status) -> bool {
    matches!(s, Status::MemObj | Status::MemCap)
}

fn exhaustion() -> Outcome {
    let first = fill()?;
    let second = fill()?;
    let third = fill()?;
    holds(&format!("more than 100 ECs: {first}"), first > 100)?;
    // The first time, tables of our own spaces may have been made that stay.
    equal("ECs the third time, as the second time", third, second)
}
