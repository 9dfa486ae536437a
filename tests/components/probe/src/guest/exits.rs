//! Exits, and what state comes and goes with them.

use super::*;

/// Primary controls: RDTSC exiting.
const RDTSC_EXITING: u32 = 1 << 12;

/// Runs code until HLT; all other exits are skipped. The events without STARTUP.
pub fn until_hlt(code: &[u8]) -> Result<Vec<(u64, ArchState)>, String> {
    let mut g = Guest::new(
        code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID | reason::WBINVD | reason::IO | reason::RDMSR | reason::WRMSR => Some(skip(s)),
            _ => None,
        },
    )?;
    Ok(g.run()?.split_off(1))
}

/// Number, RIP and instruction length of each.
pub fn places(events: &[(u64, ArchState)]) -> Vec<(u64, u64, u32)> {
    events.iter().map(|(n, s)| (*n, s.rip, s.inst_len)).collect()
}

pub fn startup() -> Outcome {
    let mut g = Guest::new(&[0xf4], |_| {}, |_, _| None)?;
    let events = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP])?;
    let s = &events[0].1;
    equal("CS base, RIP", (s.cs.base, s.rip), (0xffff_0000, 0xfff0))?;
    equal("RFLAGS", s.rflags, 2)?;
    equal("CR0.PE, PG", s.cr0 & 0x8000_0001, 0)
}

pub fn exits() -> Outcome {
    let e = until_hlt(&[
        0x66, 0xb8, 0x78, 0x56, 0x34, 0x12, // mov eax, 0x12345678
        0x0f, 0xa2, // cpuid
        0xe4, 0x60, // in al, 0x60
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0x66, 0xef, // out dx, eax
        0x0f, 0x09, // wbinvd
        0xf4, // hlt
    ])?;
    let want = [
        (reason::CPUID, CODE + 6, 2),
        (reason::IO, CODE + 8, 2),
        (reason::IO, CODE + 13, 2),
        (reason::WBINVD, CODE + 15, 2),
        (reason::HLT, CODE + 17, 1),
    ];
    equal("event, RIP, length", places(&e), want.to_vec())?;
    equal("RAX at each", e.iter().map(|e| e.1.gpr[RAX]).collect(), vec![0x1234_5678u64; 5])?;
    // Bit 6, port as immediate operand, is VT-x's only.
    equal("qualification of IN", e[1].1.qual[0] & !(1 << 6), 0x60 << 16 | 1 << 3)?;
    equal("qualification of OUT", e[2].1.qual[0], 0x3f8 << 16 | 3)?;
    equal("RSP", e[4].1.gpr[ArchState::RSP], STACK)
}

pub fn msrs() -> Outcome {
    let e = until_hlt(&[
        0x66, 0xb9, 0x01, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000001
        0x0f, 0x32, // rdmsr
        0x0f, 0x30, // wrmsr
        0xf4,
    ])?;
    let want = [(reason::RDMSR, CODE + 6, 2), (reason::WRMSR, CODE + 8, 2), (reason::HLT, CODE + 10, 1)];
    equal("event, RIP, length", places(&e), want.to_vec())?;
    equal("RCX", e[0].1.gpr[ArchState::RCX], 0xc000_0001)
}

pub fn empty_spaces() -> Outcome {
    let (pio, msr) = (done("PIO space", PioSpace::new())?, done("MSR space", MsrSpace::new())?);
    let (p, m) = (pio.sel(), msr.sel());
    let code = [0xe6, 0x80, 0x66, 0xb9, 0x10, 0, 0, 0, 0x0f, 0x32, 0xf4]; // out; mov ecx, IA32_TSC; rdmsr; hlt
    let mut g = Guest::new(
        &code,
        move |s| (s.sel_pio, s.sel_msr) = (p, m),
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO | reason::RDMSR => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal(
        "events",
        places(&e[1..]),
        vec![(reason::IO, CODE, 2), (reason::RDMSR, CODE + 8, 2), (reason::HLT, CODE + 10, 1)],
    )
}

pub fn registers() -> Outcome {
    // cpuid; out 0x80, al; hlt
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0xe6, 0x80, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                let rsp = s.gpr[ArchState::RSP];
                s.gpr = std::array::from_fn(|i| 0x1111_1111_0000_0000 + i as u64);
                s.gpr[ArchState::RSP] = rsp;
                Some(skip(s) | Mtd::GPR_0_7 | Mtd::GPR_8_15)
            }
            reason::IO => {
                s.gpr = [0; 16];
                Some(skip(s) | Mtd::GPR_8_15)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID, reason::IO, reason::HLT])?;
    for i in (0..16).filter(|&i| i != ArchState::RSP) {
        equal(&format!("register {i} at OUT"), e[2].1.gpr[i], 0x1111_1111_0000_0000 + i as u64)?;
        let want = if i < 8 { 0x1111_1111_0000_0000 + i as u64 } else { 0 };
        equal(&format!("register {i} at HLT"), e[3].1.gpr[i], want)?;
    }
    Ok(())
}

pub fn flags() -> Outcome {
    // stc; cpuid; pushf; pop ax; hlt
    let mut g = Guest::new(
        &[0xf9, 0x0f, 0xa2, 0x9c, 0x58, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                s.rflags = 0x2 | 0x40 | 0x400; // ZF, DF
                Some(skip(s) | Mtd::RFLAGS)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("RFLAGS at CPUID", e[1].1.rflags & 0xcd5, 1)?;
    equal("AX at HLT", e[2].1.gpr[RAX] & 0xffff, 0x442)
}

pub fn intercepts() -> Outcome {
    // rdtsc; cpuid; rdtsc; ud2
    let code = [0x0f, 0x31, 0x0f, 0xa2, 0x0f, 0x31, 0x0f, 0x0b];
    let mut g = Guest::new(
        &code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                (s.ctrl, s.ctrl3) = ([RDTSC_EXITING, 0], 0);
                (s.intcpt_cr0, s.intcpt_cr4) = (0, 0);
                (s.intcpt_exc, s.pfe_mask, s.pfe_match) = (1 << 6, 0, 0);
                Some(skip(s) | Mtd::CTRL)
            }
            reason::RDTSC => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    let got: Vec<_> = e[1..].iter().map(|e| (e.0, e.1.rip)).collect();
    equal("event, RIP", got, vec![(reason::CPUID, CODE + 2), (reason::RDTSC, CODE + 4), (reason::EXCEPTION, CODE + 6)])
}

pub fn vectors() -> Outcome {
    // CR4.OSFXSR; movd xmm3, eax; loop of cpuid; movd eax, xmm3; hlt
    let code = [
        0x66, 0xb8, 0x00, 0x02, 0x00, 0x00, // mov eax, 0x200
        0x0f, 0x22, 0xe0, // mov cr4, eax
        0x66, 0xb8, 0xef, 0xbe, 0xad, 0xde, // mov eax, 0xdeadbeef
        0x66, 0x0f, 0x6e, 0xd8, // movd xmm3, eax
        0xbe, 0x64, 0x00, // mov si, 100
        0x0f, 0xa2, // 1: cpuid
        0x4e, // dec si
        0x75, 0xfb, // jnz 1b
        0x66, 0x0f, 0x7e, 0xd8, // movd eax, xmm3
        0xf4,
    ];
    let mut bad = 0;
    let mixed = Arc::new(AtomicU64::new(0));
    let m = mixed.clone();
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                let mut out = 0u64;
                // SAFETY: uses two vector registers.
                unsafe {
                    std::arch::asm!("movq {o}, xmm3", "movq xmm3, {v}", o = out(reg) out,
                                v = in(reg) 0x77u64, out("xmm3") _);
                }
                bad += u64::from(out == 0xdead_beef);
                m.store(bad, SeqCst);
                s.gpr[RAX] = 0;
                Some(skip(s) | Mtd::GPR_0_7)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("last event", g.numbers().last().copied(), Some(reason::HLT))?;
    equal("XMM3 of the guest", e.last().map(|e| e.1.gpr[RAX]), Some(0xdead_beef))?;
    equal("times that the VMM saw the guest's value", mixed.load(SeqCst), 0)
}

pub fn groups() -> Outcome {
    // cpuid; cpuid; hlt
    let mut round = 0;
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0x0f, 0xa2, 0xf4],
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID if round == 0 => {
                round = 1;
                (s.cr2, s.cr3, s.cr8) = (0x1234_5678_9abc, 0x5000, 7);
                (s.star, s.lstar, s.fmask, s.kernel_gs_base) = (0x11, 0x22_0000, 0x33, 0x44_0000);
                s.pat = 0x0007_0406_0007_0406;
                s.xcr0 = 3;
                s.idtr = Segment { limit: 0x3ff, base: 0x100, ..Segment::default() };
                Some(skip(s) | Mtd::CR | Mtd::SYSCALL | Mtd::KERNEL_GS | Mtd::PAT | Mtd::XSAVE | Mtd::IDTR)
            }
            reason::CPUID => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID, reason::CPUID, reason::HLT])?;
    for (_, s) in &e[2..] {
        equal("CR2, CR3, CR8", (s.cr2, s.cr3, s.cr8), (0x1234_5678_9abc, 0x5000, 7))?;
        equal("STAR, LSTAR, FMASK", (s.star, s.lstar, s.fmask), (0x11, 0x22_0000, 0x33))?;
        equal("KERNEL_GS_BASE, PAT, XCR0", (s.kernel_gs_base, s.pat, s.xcr0), (0x44_0000, 0x0007_0406_0007_0406, 3))?;
        equal("IDTR", (s.idtr.base, s.idtr.limit), (0x100, 0x3ff))?;
    }
    Ok(())
}
