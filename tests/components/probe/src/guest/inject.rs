//! Events that are injected into a guest, and the interrupt window.

use super::exits::places;
use super::*;

const HANDLER: u64 = 0x2000;

/// A guest that is injected `inj` at its first HLT; the handler is at [`HANDLER`]: OUT and IRET.
fn injected(code: &[u8], inj: u32, len: u32) -> Result<(Guest, Vec<(u64, ArchState)>), String> {
    let mut halts = 0;
    let mut g = Guest::new(
        code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => Some(skip(s)),
            reason::HLT if halts == 0 => {
                halts += 1;
                s.rip += 1;
                s.inst_len = len;
                s.inj_info = inj | ArchState::INJ_VALID;
                (s.intr_state, s.actv_state) = (0, 0);
                Some(Mtd::RIP | Mtd::INJ | Mtd::STA)
            }
            _ => None,
        },
    )?;
    poke(g.ram + HANDLER, 0xcf_81e6); // out 0x81, al; iret
    poke(g.ram + ((u64::from(inj & 0xff) * 4) & !7), HANDLER << (u64::from(inj & 1) * 32));
    let e = g.run()?;
    Ok((g, e))
}

/// Words that the guest has pushed: the highest first.
fn pushed(g: &Guest) -> [u16; 3] {
    let v = peek(g.ram + STACK - 8);
    [(v >> 48) as u16, (v >> 32) as u16, (v >> 16) as u16]
}

pub fn interrupt() -> Outcome {
    let (g, e) = injected(&[0xfb, 0xf4, 0xf4], 0x20, 0)?; // sti; hlt; hlt
    let want = [(reason::HLT, CODE + 1, 1), (reason::IO, HANDLER, 2), (reason::HLT, CODE + 2, 1)];
    equal("event, RIP, length", places(&e[1..]), want.to_vec())?;
    equal("IF in the handler", e[2].1.rflags & 0x200, 0)?;
    equal("IF after IRET", e[3].1.rflags & 0x200, 0x200)?;
    equal("RSP in the handler", e[2].1.gpr[ArchState::RSP], STACK - 6)?;
    equal("FLAGS, CS, IP on the stack", pushed(&g), [0x202, 0, (CODE + 2) as u16])?;
    equal("nothing left to inject", e[2].1.inj_info & ArchState::INJ_VALID, 0)
}

pub fn software_interrupt() -> Outcome {
    // As if an "int 0x21" of two bytes were behind the first HLT.
    let (g, e) = injected(&[0xf4, 0x90, 0x90, 0xf4], 4 << 8 | 0x21, 2)?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT, reason::IO, reason::HLT])?;
    let f = Facts::here();
    if (pushed(&g)[2], f.emulator, f.vendor) == ((CODE + 1) as u16, Emulator::Bochs, Vendor::Svm) {
        return Err(format!("{}Bochs' SVM does not heed the VMCB's next RIP", crate::check::NOT_HERE));
    }
    equal("IP on the stack", pushed(&g)[2], (CODE + 3) as u16)?;
    equal("RIP at the second HLT", e[3].1.rip, CODE + 3)
}

pub fn exception() -> Outcome {
    let (g, e) = injected(&[0xf4, 0xf4], 3 << 8 | 6, 0)?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT, reason::IO, reason::HLT])?;
    equal("RIP in the handler", e[2].1.rip, HANDLER)?;
    equal("IP on the stack", pushed(&g)[2], (CODE + 1) as u16)
}

pub fn window() -> Outcome {
    // cli; out 0x82, al; sti; nop; nop; hlt
    let code = [0xfa, 0xe6, 0x82, 0xfb, 0x90, 0x90, 0xf4];
    let mut g = Guest::new(
        &code,
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => {
                s.inj_info = ArchState::INJ_IRQ_WINDOW;
                Some(skip(s) | Mtd::INJ)
            }
            reason::INTERRUPT_WINDOW => {
                s.inj_info = 0;
                Some(Mtd::INJ)
            }
            _ => None,
        },
    )?;
    let e = g.run()?;
    let got: Vec<_> = e[1..].iter().map(|e| (e.0, e.1.rip)).collect();
    equal(
        "event, RIP",
        got,
        vec![(reason::IO, CODE + 1), (reason::INTERRUPT_WINDOW, CODE + 5), (reason::HLT, CODE + 6)],
    )
}
