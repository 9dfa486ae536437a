//! docs/spec/isolation.md: what a domain finds of others: nothing in its registers, nothing in its memory.
//!
//! Key type: [`Foreign`], a thread in a domain of its own that reports what it was entered with.

use crate::check::{Check, Outcome, done, equal, holds};
use crate::scene::{
    DENIED, FETCH, Local, NOT_MAPPED, PAGE, Slot, Touch, WRITE, faults, page, peek, poke, touch, works,
};
use abi::{CreatePdOp, Hypercall, Mad, Mtd, Status, perm};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};
use std::arch::x86_64::{__cpuid, __cpuid_count};
use std::arch::{asm, global_asm};
use std::sync::{Arc, Mutex};

pub const CHECKS: &[Check] = &[
    ("isolation-6", "our code cannot be written, our data cannot be executed", own_memory),
    ("isolation-7", "user mode reaches nothing at kernel addresses", kernel_addresses),
    ("isolation-8", "#GP by what only the kernel may do", privileged),
    ("isolation-9", "#GP by what shows where the kernel's tables are (UMIP)", tables),
    ("isolation-10", "a callee finds no register of its caller", registers),
    ("isolation-11", "a callee finds no word of its caller beyond the message", words),
    ("isolation-12 create_ec-25", "a new UTCB is zero, whatever its frame held before", fresh),
    ("isolation-13", "no data segment selector passes to another thread", selectors),
];

/// With guests.
pub const GUEST_CHECKS: &[Check] =
    &[("isolation-14", "a guest's TSC_AUX is not seen by others", crate::guest::tsc_aux)];

const PATTERN: u64 = 0x5ec3_e75e_c3e7_5ec3;
/// Where a [`Foreign`] has its UTCB.
const UTCB: u64 = 0x10_0000;

// Entry of a foreign thread: all that it finds goes into its UTCB, as `Found` reads it, and back.
global_asm!(
    "isolation_entry:",
    "push r15; push r14; push r13; push r12; push r11; push r10; push r9; push r8",
    "push rdi; push rsi; push rbp; push rsp; push rbx; push rdx; push rcx; push rax",
    "pushfq",
    "mov ebx, {utcb}",
    "xor eax, eax",
    "mov ecx, 2",
    "2: or rax, [rbx + rcx * 8]",
    "inc ecx",
    "cmp ecx, 512",
    "jb 2b",
    "mov r8, rax",
    "mov r9, [rbx + 8]",
    "mov rsi, rsp",
    "mov rdi, rbx",
    "mov ecx, 17",
    "rep movsq",
    "mov [rbx + 17 * 8], r8",
    "rdfsbase rax",
    "mov [rbx + 18 * 8], rax",
    "rdgsbase rax",
    "mov [rbx + 19 * 8], rax",
    "mov eax, ds; mov ecx, es; or eax, ecx; mov ecx, fs; or eax, ecx; mov ecx, gs; or eax, ecx",
    "mov [rbx + 20 * 8], rax",
    "xor ecx, ecx",
    "test r9, 1",
    "jz 3f",
    "rdtscp",
    "3: mov [rbx + 21 * 8], rcx",
    "por xmm0, xmm1; por xmm2, xmm3; por xmm4, xmm5; por xmm6, xmm7",
    "por xmm8, xmm9; por xmm10, xmm11; por xmm12, xmm13; por xmm14, xmm15",
    "por xmm0, xmm2; por xmm4, xmm6; por xmm8, xmm10; por xmm12, xmm14",
    "por xmm0, xmm4; por xmm8, xmm12; por xmm0, xmm8",
    "movdqu [rbx + 22 * 8], xmm0",
    "add rsp, 17 * 8",
    "mov esi, 23",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    utcb = const UTCB,
    reply = const Hypercall::IpcReply as u8,
);

unsafe extern "C" {
    fn isolation_entry();
}

/// A local thread in a protection domain below ours that has our code, a stack, and nothing else.
pub struct Foreign {
    portal: Slot,
    sp: u64,
    _rest: [Slot; 4],
}

/// What it was entered with.
#[derive(Debug)]
pub struct Found(Vec<u64>);

impl Found {
    /// Flags, then the general registers in the order of the UTCB.
    fn registers(&self) -> &[u64] {
        &self.0[..17]
    }

    /// All words of its UTCB beyond the message, in one.
    fn words(&self) -> u64 {
        self.0[17]
    }

    /// FS and GS base.
    fn bases(&self) -> &[u64] {
        &self.0[18..20]
    }

    /// DS, ES, FS and GS in one.
    fn selectors(&self) -> u64 {
        self.0[20]
    }

    /// TSC_AUX, where there is one.
    pub fn tsc_aux(&self) -> u64 {
        self.0[21]
    }

    /// XMM0 to XMM15 in one.
    fn vectors(&self) -> &[u64] {
        &self.0[22..24]
    }
}

impl Foreign {
    pub fn new() -> Result<Foreign, String> {
        let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
        let (obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
        let (stack, code) = (page(), isolation_entry as *const () as u64);
        for (at, perms) in [(stack, perm::Mem::R | perm::Mem::W), (code, perm::Mem::XU), (code + PAGE, perm::Mem::XU)] {
            let p = at / PAGE;
            let perms = (perms | perm::Mem::R).bits();
            // SAFETY: another space, where only `isolation_entry` runs.
            done("map", unsafe { hc::ctrl_pd(sel::HST, hst.0, p, p, 0, perms, Mad::WB) })?;
        }
        let (ec, portal, sp) = (Slot::new(), Slot::new(), stack + PAGE);
        let args = EcArgs { utcb_page: UTCB, cpu: crate::scene::cpu(), sp, fpu: true, ..EcArgs::default() };
        // SAFETY: not of our space.
        unsafe {
            done("create_ec", hc::create_ec(ec.0, pd.0, args))?;
            done("create_pt", hc::create_pt(portal.0, sel::PD, ec.0, code))?;
        }
        Ok(Foreign { portal, sp, _rest: [pd, obj, hst, ec] })
    }

    /// Calls it with two words, a UTCB and registers full of a pattern, and data segments loaded.
    pub fn call(&self) -> Result<Found, String> {
        let rdtscp = __cpuid(0x8000_0001).edx & 1 << 27 != 0;
        rt::utcb().words = [PATTERN; abi::UTCB_WORDS];
        rt::utcb().words[1] = u64::from(rdtscp);
        let (status, bases) = loud_call(Hypercall::IpcCall.identifier(0, self.portal.0), Mtd::words(2).into());
        equal("status of the call", status, Status::Success as u64)?;
        equal("our bases of FS and GS after it", bases, [LOUD_BASE; 2])?;
        let u = rt::utcb();
        holds("our UTCB beyond the reply is as it was", u.words[24..].iter().all(|w| *w == PATTERN))?;
        Ok(Found(u.words[..24].to_vec()))
    }
}

/// Base of FS and GS in [`loud_call`].
const LOUD_BASE: u64 = 0x5ec3_e75e_c3e7;

/// A call with something in every register: its status, and the bases of FS and GS after it.
fn loud_call(id: u64, mtd: u64) -> (u64, [u64; 2]) {
    let (status, fs, gs);
    // SAFETY: a call; all registers are saved or declared, the bases of FS and GS too, and null selectors are what user
    // code has.
    unsafe {
        asm!(
            "push rbx; push rbp",
            "rdfsbase rax; push rax; rdgsbase rax; push rax",
            "mov eax, 0x1b; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax",
            "mov rax, {p}",
            "wrfsbase r15; wrgsbase r15",
            "mov rbx, rax; mov rdx, rax; mov rbp, rax; mov r8, rax; mov r9, rax; mov r10, rax",
            "mov r12, rax; mov r13, rax; mov r14, rax",
            "movq xmm0, rax; punpcklqdq xmm0, xmm0",
            "movdqa xmm1, xmm0; movdqa xmm2, xmm0; movdqa xmm3, xmm0; movdqa xmm4, xmm0; movdqa xmm5, xmm0",
            "movdqa xmm6, xmm0; movdqa xmm7, xmm0; movdqa xmm8, xmm0; movdqa xmm9, xmm0; movdqa xmm10, xmm0",
            "movdqa xmm11, xmm0; movdqa xmm12, xmm0; movdqa xmm13, xmm0; movdqa xmm14, xmm0; movdqa xmm15, xmm0",
            "syscall",
            "rdfsbase r12; rdgsbase r13",
            "xor eax, eax; mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax",
            "pop rax; wrgsbase rax; pop rax; wrfsbase rax",
            "pop rbp; pop rbx",
            p = const PATTERN, inout("rdi") id => status, inout("rsi") mtd => _, in("r15") LOUD_BASE,
            out("r12") fs, out("r13") gs, out("r14") _, clobber_abi("C"),
        );
    }
    (status, [fs, gs])
}

fn registers() -> Outcome {
    let f = Foreign::new()?;
    let found = f.call()?;
    let mut want = [0; 17];
    // Flags; RCX and R11 as after every hypercall; its stack, less what it has pushed; the descriptor.
    (want[0], want[1 + 1], want[1 + 11]) = (0x202, isolation_entry as *const () as u64, 0x202);
    (want[1 + 4], want[1 + 6]) = (f.sp - 11 * 8, Mtd::words(2).into());
    equal("RFLAGS RAX RCX RDX RBX RSP RBP RSI RDI R8 to R15", found.registers(), &want)?;
    equal("bases of FS and GS", found.bases(), &[0, 0])?;
    equal("XMM0 to XMM15", found.vectors(), &[0, 0])?;
    // Its own come back, and it is not an accident of the first time.
    let again = f.call()?;
    equal("RBX the second time", again.registers()[1 + 3], UTCB)?;
    holds("no pattern the second time", !again.registers().contains(&PATTERN) && again.vectors() == [0, 0])
}

fn words() -> Outcome {
    equal("words 2 to 511", Foreign::new()?.call()?.words(), 0)
}

fn selectors() -> Outcome {
    equal("DS, ES, FS, GS", Foreign::new()?.call()?.selectors(), 0)
}

fn fresh() -> Outcome {
    let mut again = 0;
    for _ in 0..8 {
        let (at, ec) = (crate::scene::window(), Slot::new());
        let args = EcArgs { utcb_page: at, cpu: crate::scene::cpu(), fpu: true, ..EcArgs::default() };
        // SAFETY: nothing is at the address; the EC never runs.
        done("create_ec", unsafe { hc::create_ec(ec.0, sel::PD, args) })?;
        again += (0..PAGE / 8).filter(|i| peek(at + i * 8) != 0).count();
        (0..PAGE / 8).for_each(|i| poke(at + i * 8, PATTERN));
    }
    equal("words that are not zero", again, 0)
}

/// Nothing but RET.
#[unsafe(naked)]
extern "C" fn ret() {
    std::arch::naked_asm!("ret")
}

fn own_memory() -> Outcome {
    static CONSTANT: [u8; 64] = [0xc3; 64];
    let (code, constant, data) = (ret as *const () as u64, &raw const CONSTANT as u64, page());
    poke(data, 0xc3);
    let here = 0xc3u64;
    works("our code runs", code, Touch::Call)?;
    faults("our code is not writable", code, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    faults("constants are not writable", constant, Touch::Write, NOT_MAPPED | WRITE | DENIED)?;
    faults("data is not executable", data, Touch::Call, NOT_MAPPED | FETCH | DENIED)?;
    faults("the stack is not executable", &raw const here as u64, Touch::Call, NOT_MAPPED | FETCH | DENIED)
}

fn kernel_addresses() -> Outcome {
    // Where the kernel has (docs/design/0002): window, code, more of its image, devices, what is of this CPU; and nothing.
    let places = [
        0xffff_ffff_4000_0000,
        0xffff_ffff_8020_1000,
        0xffff_ffff_8040_0000,
        0xffff_ffff_8080_0000,
        0xffff_ffff_e000_0000,
        0xffff_ffff_ffe1_8000,
        0xffff_ffff_ffe2_0000,
        0xffff_ffff_ffe5_0000,
        0xffff_8000_0000_0000,
    ];
    for at in places {
        for (how, error) in [(Touch::Read, 0), (Touch::Write, WRITE), (Touch::Call, FETCH)] {
            let Some(f) = touch(at, how)? else { return Err(format!("{at:#x}: no fault")) };
            // Whether something is there does not matter: bit 0.
            equal("event, error code, address", (f.event, f.error & !DENIED, f.addr), (14, NOT_MAPPED | error, at))?;
        }
    }
    Ok(())
}

/// Bodies of threads that execute one instruction, which has to fault.
macro_rules! instructions {
    ($($name:ident $text:literal)*) => {
        [$(($text, {
            extern "C" fn $name(_: u64, _: u64, u: *mut u64) -> u64 {
                // SAFETY: the handler goes on at R9, behind the instruction; it writes to the UTCB, if to anything.
                unsafe {
                    asm!("lea r9, [rip + 2f]", $text, "2:", in("rsi") u, in("ecx") 0xc000_0080u32, in("eax") 0, in("edx") 0,
                         out("r9") _, clobber_abi("C"));
                }
                0
            }
            $name as crate::scene::Body
        })),*]
    };
}

/// Events of that instruction.
fn events_of(body: crate::scene::Body) -> Result<Vec<u64>, String> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let s = seen.clone();
    let l = Local::new(
        body,
        Some(Box::new(move |n, state| {
            s.lock().expect("seen").push(n);
            state.rip = state.gpr[9];
            Mtd::RIP
        })),
    )?;
    done("call", l.call(&[0]))?;
    let events = seen.lock().expect("seen").clone();
    Ok(events)
}

fn privileged() -> Outcome {
    let all = instructions! {
        reads_cr0 "mov rax, cr0" reads_cr3 "mov rax, cr3" reads_cr4 "mov rax, cr4" writes_cr3 "mov cr3, rax"
        reads_dr0 "mov rax, dr0" reads_dr7 "mov rax, dr7" writes_dr7 "mov dr7, rax" clears_ts "clts"
        reads_msr "rdmsr" writes_msr "wrmsr" loads_gdt "lgdt [rsi]" loads_idt "lidt [rsi]"
        loads_task "ltr ax" loads_ldt "lldt ax" flushes "invlpg [rsi]" invalidates "wbinvd" stops "cli"
        writes_port "out 0x80, al" counts "rdpmc"
    };
    for (text, body) in all {
        equal(text, events_of(body)?, vec![13])?;
    }
    Ok(())
}

fn tables() -> Outcome {
    if __cpuid_count(7, 0).ecx & 1 << 2 == 0 {
        return Err(format!("{}this CPU has no UMIP", crate::check::NOT_HERE));
    }
    let all = instructions! {
        gdt "sgdt [rsi]" idt "sidt [rsi]" ldt "sldt [rsi]" task "str [rsi]" status "smsw [rsi]"
    };
    for (text, body) in all {
        equal(text, events_of(body)?, vec![13])?;
    }
    Ok(())
}
