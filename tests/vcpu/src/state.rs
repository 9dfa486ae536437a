//! State: groups that a reply writes are there, and nobody else's are.

use crate::facts::Emulator;
use crate::guest::{DATA, Guest, Machine, Outcome, Why, equal, holds, needs};
use crate::modes;
use crate::reason;
use abi::{ArchState, Mtd, Segment, event};

tests! {
    reset: "after STARTUP: a CPU after reset", "create_ec-12 objects-9 abi-88";
    registers: "registers that a reply writes reach the guest, and only its groups", "abi-21 abi-23 abi-24 objects-25";
    flags: "RFLAGS come and go", "abi-25";
    groups: "all other groups hold what is written", "abi-37 abi-38 abi-40 abi-41 abi-44 abi-45 abi-46 abi-48 abi-49";
    outside: "state outside of an event: that of the event, and what is written is in the guest when it goes on",
        "get_state-3 get_state-6 get_state-10 set_state-3 set_state-7 set_state-11";
    segments: "segments come and go", "abi-14 abi-33 abi-34 abi-35";
    sse: "SSE registers of two guests do not mix", "objects-30 create_ec-4";
    avx: "AVX registers of two guests do not mix, nor does XCR0", "abi-42";
    debug_registers: "debug registers of two guests do not mix", "abi-41";
    two_guests: "registers of two guests do not mix";
    tsc: "the guest's TSC is the host's without offset", "create_ec-3 abi-73";
    tsc_offset: "a guest with a time of its own begins at 0", "create_ec-3 abi-73";
}

fn reset(m: &dyn Machine) -> Outcome {
    let mut vm = m.vm(false)?;
    let mut s = ArchState::ZERO;
    equal("first event", vm.run(Mtd::empty(), &mut s)?, event::GST_STARTUP)?;
    equal("CS base, selector, RIP", (s.cs.base, s.cs.sel, s.rip), (0xffff_0000, 0xf000, 0xfff0))?;
    equal("RFLAGS", s.rflags, 2)?;
    equal("CR0.PE, PG", s.cr0 & 0x8000_0001, 0)?;
    equal("registers", s.gpr, [0; 16])?;
    equal("EFER, DR7, XCR0", (s.efer, s.dr7, s.xcr0), (0, 0x400, 1))
}

fn registers(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "out 0x80, al", "hlt"))?;
    g.until(reason::CPUID)?;
    let value = |i: usize| 0x1111_1111_0000_0000 + i as u64;
    let rsp = g.rsp();
    g.s.gpr = std::array::from_fn(value);
    g.s.gpr[ArchState::RSP] = rsp;
    g.write(Mtd::GPR_0_7 | Mtd::GPR_8_15);
    g.skip(2)?;
    g.until(reason::IO)?;
    for i in (0..16).filter(|&i| i != ArchState::RSP) {
        equal(&format!("register {i}"), g.s.gpr[i], value(i))?;
    }
    g.s.gpr = [0; 16];
    g.write(Mtd::GPR_8_15);
    g.skip(2)?;
    g.until(reason::HLT)?;
    for i in (0..16).filter(|&i| i != ArchState::RSP) {
        equal(&format!("register {i} after R8 to R15 were written"), g.s.gpr[i], if i < 8 { value(i) } else { 0 })?;
    }
    equal("RSP", g.rsp(), rsp)
}

fn flags(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "stc", "cpuid", "pushf", "pop ax", "hlt"))?;
    g.until(reason::CPUID)?;
    equal("at CPUID", g.s.rflags & 0xcd5, 1)?;
    g.s.rflags = 2 | 0x40 | 0x400;
    g.write(Mtd::RFLAGS);
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("AX at HLT", g.rax() & 0xffff, 0x442)
}

fn groups(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "cpuid", "mov eax, cr2", "hlt"))?;
    g.until(reason::CPUID)?;
    let s = &mut g.s;
    (s.cr2, s.cr3, s.cr8) = (0x1234_5678, 0x5000, 7);
    (s.star, s.lstar, s.fmask, s.kernel_gs_base) = (0x11, 0x22_0000, 0x33, 0x44_0000);
    (s.sysenter_cs, s.sysenter_esp, s.sysenter_eip) = (0x1b, 0x5_0000, 0x6_0000);
    (s.pat, s.dr7) = (0x0007_0406_0007_0406, 0x401);
    s.gdtr = Segment { limit: 0x27, base: 0x9000, ..Segment::default() };
    s.idtr = Segment { limit: 0x3ff, base: 0x100, ..Segment::default() };
    let tsc_aux = if m.facts().rdtscp() { Mtd::TSC } else { Mtd::empty() };
    s.tsc_aux = 0x77;
    let want = *s;
    let all = Mtd::CR | Mtd::SYSCALL | Mtd::SYSENTER | Mtd::KERNEL_GS | Mtd::PAT | Mtd::DR | Mtd::GDTR | Mtd::IDTR;
    g.write(all | tsc_aux);
    g.skip(2)?;
    for at in [reason::CPUID, reason::HLT] {
        g.until(at)?;
        let s = &g.s;
        equal("CR3, CR8", (s.cr3, s.cr8), (want.cr3, want.cr8))?;
        equal("STAR, LSTAR, FMASK", (s.star, s.lstar, s.fmask), (want.star, want.lstar, want.fmask))?;
        equal("KERNEL_GS_BASE, PAT", (s.kernel_gs_base, s.pat), (want.kernel_gs_base, want.pat))?;
        let sysenter = |s: &ArchState| (s.sysenter_cs, s.sysenter_esp, s.sysenter_eip);
        equal("SYSENTER", sysenter(s), sysenter(&want))?;
        equal("DR7", s.dr7, want.dr7)?;
        equal("GDTR, IDTR", (s.gdtr.base, s.gdtr.limit, s.idtr.base, s.idtr.limit), (0x9000, 0x27, 0x100, 0x3ff))?;
        if !tsc_aux.is_empty() {
            equal("TSC_AUX", s.tsc_aux, want.tsc_aux)?;
        }
        equal("CR2", s.cr2, want.cr2)?;
        if at == reason::CPUID {
            g.skip(2)?;
        }
    }
    equal("CR2 as the guest reads it", g.rax(), 0x1234_5678)
}

fn outside(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "hlt"))?;
    g.until(reason::CPUID)?;
    let mut all = ArchState::ZERO;
    g.vm.get(Mtd::all(), &mut all)?;
    let same = g.s;
    equal("state, as in the event", readable(all), readable(same))?;
    let mut one = ArchState { rip: 1, cr2: 2, ..ArchState::ZERO };
    g.vm.get(Mtd::SYSENTER, &mut one)?;
    equal("groups that were not asked for", (one.rip, one.cr2), (1, 2))?;
    let (rdx, cr2) = (0x1234_0000_4321, 0x9876_5432);
    all.gpr[ArchState::RDX] = rdx;
    (all.gpr[9], all.cr2, all.sysenter_eip, all.star) = (9, cr2, 0x77_0000, 5);
    all.rip += 99;
    g.vm.set(Mtd::GPR_0_7 | Mtd::CR | Mtd::SYSENTER | Mtd::RIP, &all)?;
    g.vm.get(Mtd::RIP, &mut one)?;
    equal("RIP as read back", one.rip, all.rip)?;
    // The reply writes RIP over it, and nothing else.
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RDX, CR2, SYSENTER_EIP", (g.s.gpr[ArchState::RDX], g.s.cr2, g.s.sysenter_eip), (rdx, cr2, 0x77_0000))?;
    equal("R9 and STAR, which were not written", (g.s.gpr[9], g.s.star), (same.gpr[9], same.star))
}

/// Without what can only be written, which stays as it was in the UTCB.
fn readable(s: ArchState) -> ArchState {
    let table = |t: Segment| Segment { limit: t.limit, base: t.base, ..Segment::default() };
    ArchState {
        ctrl: [0; 2],
        ctrl3: 0,
        intcpt_cr0: 0,
        intcpt_cr4: 0,
        intcpt_exc: 0,
        pfe_mask: 0,
        pfe_match: 0,
        tpr_threshold: 0,
        gdtr: table(s.gdtr),
        idtr: table(s.idtr),
        apic_base: 0,
        sel_gst: 0,
        sel_pio: 0,
        sel_msr: 0,
        ..s
    }
}

fn segments(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov ax, 0x10", "mov es, ax", "mov eax, gs:[0x10]", "hlt"))?;
    modes::flat(&mut g);
    g.s.gs = Segment { sel: 0x10, ar: 0xc93, limit: !0, base: DATA };
    g.poke(DATA + 0x10, 0x7777);
    g.until(reason::HLT)?;
    equal("word read through GS", g.rax(), 0x7777)?;
    equal("GS", g.s.gs, Segment { sel: 0x10, ar: 0xc93, limit: !0, base: DATA })?;
    equal("ES", g.s.es, Segment { sel: 0x10, ar: 0xc93, limit: !0, base: 0 })?;
    equal("TR: busy", g.s.tr.ar & 0xf, 0xb)
}

/// Lets two guests run in turns: each stores its number in vector registers, then both compare at every exit.
fn in_turns(m: &dyn Machine, code: &[u8], set_up: impl Fn(&mut Guest)) -> Outcome {
    let mut pair = [Guest::new(m, code)?, Guest::new(m, code)?];
    for (i, g) in pair.iter_mut().enumerate() {
        modes::long(g);
        g.set_gpr(ArchState::RBX, 0x1111_1111 * (i as u64 + 1));
        set_up(g);
    }
    for round in 0..20 {
        for (i, g) in pair.iter_mut().enumerate() {
            g.until(reason::IO)?;
            let what = format!("guest {i}, round {round}: register");
            equal(&what, g.rax() & 0xffff_ffff, 0x1111_1111 * (i as u64 + 1))?;
            g.skip(2)?;
        }
    }
    Ok(())
}

fn sse(m: &dyn Machine) -> Outcome {
    const OSFXSR: u64 = 1 << 9;
    in_turns(m, code!(64: "movd xmm3, ebx", "5:", "movd eax, xmm3", "out 0x80, al", "jmp 5b"), |g| g.s.cr4 |= OSFXSR)
}

fn avx(m: &dyn Machine) -> Outcome {
    const OSFXSR: u64 = 1 << 9;
    const OSXSAVE: u64 = 1 << 18;
    needs("AVX", m.facts().avx())?;
    // The upper half of a register, and bit 2 of XCR0 in AL's place: wrong if that is clear.
    let code = code!(64:
        "vmovd xmm3, ebx", "vinsertf128 ymm4, ymm3, xmm3, 1", "vxorps xmm3, xmm3, xmm3",
        "5:", "xor ecx, ecx", "xgetbv", "and eax, 4", "jz 6f",
        "vextractf128 xmm5, ymm4, 1", "vmovd eax, xmm5", "6:", "out 0x80, al", "jmp 5b",
    );
    in_turns(m, code, |g| {
        g.s.cr4 |= OSFXSR | OSXSAVE;
        g.s.xcr0 = 7;
        g.write(Mtd::XSAVE);
    })
}

fn debug_registers(m: &dyn Machine) -> Outcome {
    in_turns(m, code!(64: "mov dr2, rbx", "5:", "mov rax, dr2", "out 0x80, al", "jmp 5b"), |_| {})
}

fn two_guests(m: &dyn Machine) -> Outcome {
    in_turns(m, code!(64: "mov r12, rbx", "5:", "mov rax, r12", "out 0x80, al", "jmp 5b"), |_| {})
}

/// The TSC as a guest reads it, and the host's before and after.
fn read_tsc(m: &dyn Machine, own_time: bool) -> Result<[u64; 3], Why> {
    if m.facts().emulator == Emulator::Model {
        return Err(Why::NotHere("the software CPU has no TSC".into()));
    }
    let mut g = Guest::with_time(m, code!(64: "rdtsc", "hlt"), own_time)?;
    modes::long(&mut g);
    let before = host_tsc();
    g.until(reason::HLT)?;
    Ok([before, g.s.gpr[ArchState::RDX] << 32 | g.rax(), host_tsc()])
}

fn tsc(m: &dyn Machine) -> Outcome {
    let [before, guest, after] = read_tsc(m, false)?;
    holds("between two readings of the host", (before..=after).contains(&guest))
}

fn tsc_offset(m: &dyn Machine) -> Outcome {
    let start = host_tsc();
    let [before, guest, after] = read_tsc(m, true)?;
    holds("the guest's time began after ours", guest <= after - start)?;
    let again = read_tsc(m, true)?;
    holds("each has its own", again[1] <= again[2] - after)?;
    holds("it goes on", guest > 0 && before > start)
}

fn host_tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { std::arch::x86_64::_rdtsc() }
}
