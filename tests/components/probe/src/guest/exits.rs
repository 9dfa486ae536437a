//! A virtual CPU without PIO and MSR space, and the vector registers that it shares with its VMM.

use super::*;

pub fn no_spaces() -> Outcome {
    let code = [
        0xe6, 0x80, // out 0x80, al
        0x66, 0xb9, 0x01, 0x00, 0x00, 0xc0, // mov ecx, 0xc0000001
        0x0f, 0x32, // rdmsr
        0x0f, 0x30, // wrmsr
        0xf4, // hlt
    ];
    let mut g = Guest::new(
        &code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO | reason::RDMSR | reason::WRMSR => Some(skip(s)),
            _ => None,
        },
    )?;
    g.run()?;
    let want = vec![event::GST_STARTUP, reason::IO, reason::RDMSR, reason::WRMSR, reason::HLT];
    equal("events", g.numbers(), want)
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

/// A guest leaves a value in TSC_AUX; then a thread of another domain looks.
pub fn tsc_aux() -> Outcome {
    let other = crate::isolation::Foreign::new()?;
    let mut g = Guest::new(
        &[0xf4], // hlt
        |_| {},
        |n, s| {
            s.tsc_aux = 0x1234;
            (n == event::GST_STARTUP).then_some(Mtd::TSC)
        },
    )?;
    g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT])?;
    equal("TSC_AUX in another domain", other.call()?.tsc_aux(), 0)
}
