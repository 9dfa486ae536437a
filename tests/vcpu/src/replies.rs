//! What a reply asks for that there is not, or that must not be: it is left out, and the guest goes on.

use crate::facts::{Emulator, Vendor};
use crate::guest::{DATA, Guest, Machine, Outcome, Why, equal, needs};
use crate::modes;
use crate::reason;
use abi::{Mtd, Segment};

tests! {
    reserved: "reserved groups and APIC are ignored", "abi-43 abi-52";
    ldtr: "LDTR comes and goes", "abi-36";
    activity: "activity states other than HLT become active", "abi-63";
    xcr0: "an XCR0 that XSETBV would refuse is not written; IA32_XSS stays 0", "abi-42 abi-64";
    flush: "cached translations are flushed if asked for", "abi-50";
    cr4: "bits of CR4 that are never in force are dropped", "abi-62 abi-81";
}

fn reserved(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "mov ax, 0x1234", "cpuid", "mov bx, ax", "hlt"))?;
    g.until(reason::CPUID)?;
    let before = g.s;
    g.write(Mtd::from_bits_retain(1 << 21 | 1 << 30 | 1 << 22));
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RAX, RBX", (g.s.gpr[0] & 0xffff, g.s.gpr[3] & 0xffff), (0x1234, 0x1234))?;
    equal("CR0, CR3, CR4", (g.s.cr0, g.s.cr3, g.s.cr4), (before.cr0, before.cr3, before.cr4))
}

fn ldtr(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "sldt eax", "hlt"))?;
    modes::flat(&mut g);
    let want = Segment { sel: 0x28, ar: 0x82, limit: 0x17, base: DATA };
    g.s.ldtr = want;
    g.until(reason::HLT)?;
    equal("LDTR", g.s.ldtr, want)?;
    equal("as the guest reads it", g.rax() & 0xffff, 0x28)
}

fn activity(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "5:", "cpuid", "jmp 5b"))?;
    g.until(reason::CPUID)?;
    for state in [2, 3, 7, !0] {
        g.skip(2)?;
        g.s.actv_state = state;
        g.write(Mtd::STA);
        g.until(reason::CPUID)?;
        equal("state", g.s.actv_state, 0)?;
    }
    Ok(())
}

fn xcr0(m: &dyn Machine) -> Outcome {
    needs("XSAVE", m.facts().xsave())?;
    let mut g = Guest::new(m, code!(16: "5:", "cpuid", "jmp 5b"))?;
    g.until(reason::CPUID)?;
    // Without x87; AVX without SSE; bits that there are not.
    for bad in [0, 2, 5, 1 << 62 | 1, !0] {
        (g.s.xcr0, g.s.xss) = (bad, !0);
        g.write(Mtd::XSAVE);
        g.skip(2)?;
        g.until(reason::CPUID)?;
        equal(&format!("XCR0, IA32_XSS after {bad:#x}"), (g.s.xcr0, g.s.xss), (1, 0))?;
    }
    (g.s.xcr0, g.s.xss) = (3, 0);
    g.write(Mtd::XSAVE);
    g.skip(2)?;
    g.until(reason::CPUID)?;
    equal("XCR0 after 3", g.s.xcr0, 3)
}

/// The VMM changes the guest's page tables behind its back, which the guest does not invalidate.
fn flush(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "5:", "mov eax, [rbx]", "out 0x80, al", "jmp 5b"))?;
    modes::long(&mut g);
    g.set_gpr(abi::ArchState::RBX, modes::ALIAS + 0x10);
    g.poke(DATA + 0x10, 0x1111);
    g.poke(OTHER + 0x10, 0x2222);
    for (frame, word) in [(DATA, 0x1111), (OTHER, 0x2222), (DATA, 0x1111)] {
        modes::alias(&mut g, frame);
        g.write(Mtd::TLB);
        g.until(reason::IO)?;
        equal("word", g.rax() & 0xffff_ffff, word)?;
        g.skip(2)?;
    }
    Ok(())
}

/// Another page of data.
const OTHER: u64 = 0x2_0000;

fn cr4(m: &dyn Machine) -> Outcome {
    // PKE, CET, PKS, UINTR, LASS, FRED.
    const NEVER: u64 = 1 << 22 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 32;
    if m.facts().emulator == Emulator::Model {
        return Err(Why::NotHere("the software CPU has no such bits".into()));
    }
    let mut g = Guest::new(m, code!(64: "mov rax, cr4", "hlt"))?;
    modes::long(&mut g);
    g.s.cr4 |= NEVER;
    g.until(reason::HLT)?;
    if m.facts().vendor == Vendor::Svm {
        equal("in force, as the guest reads it", g.rax() & NEVER, 0)?;
    }
    equal("PAE", g.rax() & 1 << 5, 1 << 5)
}
