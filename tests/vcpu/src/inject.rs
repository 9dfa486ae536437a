//! Injection of each type of event.

use crate::facts::{Emulator, Vendor};
use crate::guest::{CODE, Guest, HANDLERS, Machine, Outcome, STACK, Why, bits, equal};
use crate::modes;
use crate::reason::{self, info, intr};
use abi::Mtd;

tests! {
    external: "external interrupt, real mode", "abi-16 abi-31";
    external_long: "external interrupt, long mode";
    nmi: "NMI; blocking until IRET", "abi-15 abi-16 abi-27";
    exception: "hardware exception without error code", "abi-16";
    exception_error: "hardware exception with error code", "abi-16";
    software_interrupt: "software interrupt returns behind the instruction", "abi-16 abi-31 abi-59";
    software_exception: "software exception returns behind the instruction", "abi-16 abi-59";
    privileged_exception: "privileged software exception", "abi-16 abi-59";
    delivered: "what is injected is gone once it is delivered", "abi-58";
    page_fault: "page fault with address, as a VMM forwards it", "abi-18 abi-40";
}

const IF: u64 = 1 << 9;

/// A guest in real mode at a HLT, with a handler of OUT and IRET for `vector`.
fn halted(m: &dyn Machine, vector: u8) -> Result<(Guest, u64), Why> {
    let mut g = Guest::new(m, code!(16: "hlt", "nop", "nop", "nop", "hlt"))?;
    let handler = g.handler(vector, code!(16: "out 0x81, al", "iret"));
    g.until(reason::HLT)?;
    Ok((g, handler))
}

/// IP, CS and FLAGS on the stack.
fn frame(g: &Guest) -> [u16; 3] {
    [0, 2, 4].map(|i| g.peek16(g.rsp() + i))
}

/// The handler ran from its beginning; the guest would return to `rip`, and does.
fn handled(g: &mut Guest, handler: u64, rip: u64) -> Outcome {
    g.until(reason::IO)?;
    equal("RIP in the handler", g.s.rip, handler)?;
    equal("IP on the stack", u64::from(frame(g)[0]), rip)?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RSP afterwards", g.rsp(), STACK)
}

fn external(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = halted(m, 0x20)?;
    g.skip(1)?;
    g.s.rflags |= IF;
    g.write(Mtd::RFLAGS);
    g.inject(info::EXTERNAL | 0x20, 0);
    g.until(reason::IO)?;
    equal("IF in the handler", g.s.rflags & IF, 0)?;
    equal("RIP, RSP", (g.s.rip, g.rsp()), (handler, STACK - 6))?;
    equal("frame", frame(&g), [(CODE + 1) as u16, 0, 0x202])?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("IF after IRET", g.s.rflags & IF, IF)
}

fn external_long(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "hlt", "hlt"))?;
    modes::long(&mut g);
    g.vm.write(HANDLERS, code!(64: "out 0x81, al", "iretq"));
    modes::gate64(&mut g, 0x44, HANDLERS);
    g.s.rflags |= IF;
    g.until(reason::HLT)?;
    g.skip(1)?;
    g.inject(info::EXTERNAL | 0x44, 0);
    g.until(reason::IO)?;
    equal("RIP, RSP", (g.s.rip, g.rsp()), (HANDLERS, STACK - 40))?;
    equal("return address", g.peek(STACK - 40), CODE + 1)?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RIP, RSP", (g.s.rip, g.rsp()), (CODE + 1, STACK))
}

fn nmi(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = halted(m, 2)?;
    g.skip(1)?;
    g.inject(info::NMI, 0);
    g.until(reason::IO)?;
    equal("RIP", g.s.rip, handler)?;
    bits("blocking by NMI in the handler", g.s.intr_state, intr::NMI, intr::NMI)?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RIP", g.s.rip, CODE + 4)?;
    bits("blocking by NMI after IRET", g.s.intr_state, intr::NMI, 0)
}

fn exception(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = halted(m, 6)?;
    g.skip(1)?;
    g.inject(info::EXCEPTION | 6, 0);
    handled(&mut g, handler, CODE + 1)
}

fn exception_error(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "hlt", "nop", "hlt"))?;
    modes::long(&mut g);
    g.vm.write(HANDLERS, code!(64: "pop rax", "out 0x81, al", "iretq"));
    modes::gate64(&mut g, 13, HANDLERS);
    g.until(reason::HLT)?;
    g.skip(1)?;
    g.inject(info::EXCEPTION | info::ERROR | 13, 0x1238);
    g.until(reason::IO)?;
    equal("error code", g.rax(), 0x1238)?;
    equal("return address", g.peek(g.rsp()), CODE + 1)?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RIP, RSP", (g.s.rip, g.rsp()), (CODE + 2, STACK))
}

/// An event of an instruction of `len` bytes behind the first HLT.
fn soft(m: &dyn Machine, vector: u8, kind: u32, len: u32) -> Outcome {
    let (mut g, handler) = halted(m, vector)?;
    g.skip(1)?;
    g.inject(kind | u32::from(vector), 0);
    g.s.inst_len = len;
    g.until(reason::IO)?;
    let ip = frame(&g)[0];
    if g.is(Emulator::Bochs, Vendor::Svm) && u64::from(ip) == CODE + 1 {
        return Err(Why::NotHere("Bochs' SVM does not heed the VMCB's next RIP".into()));
    }
    equal("RIP in the handler", g.s.rip, handler)?;
    equal("IP on the stack", u64::from(ip), CODE + 1 + u64::from(len))?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RIP, RSP", (g.s.rip, g.rsp()), (CODE + 4, STACK))
}

fn software_interrupt(m: &dyn Machine) -> Outcome {
    soft(m, 0x21, info::SOFT_INTERRUPT, 2)
}

fn software_exception(m: &dyn Machine) -> Outcome {
    soft(m, 3, info::SOFT_EXCEPTION, 1)
}

fn privileged_exception(m: &dyn Machine) -> Outcome {
    soft(m, 1, info::PRIVILEGED, 1)
}

fn delivered(m: &dyn Machine) -> Outcome {
    let (mut g, _) = halted(m, 0x20)?;
    g.skip(1)?;
    g.s.rflags |= IF;
    g.write(Mtd::RFLAGS);
    g.inject(info::EXTERNAL | 0x20, 0);
    g.until(reason::IO)?;
    equal("pending, interrupted", (g.s.inj_info, g.s.vect_info), (0, 0))?;
    // Writing back what was read changes nothing.
    g.write(Mtd::INJ);
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RSP: one frame", g.rsp(), STACK)
}

fn page_fault(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "mov [rbx], al", "hlt"))?;
    modes::long(&mut g);
    g.vm.write(HANDLERS, code!(64: "pop rax", "mov rdx, cr2", "out 0x81, al"));
    modes::gate64(&mut g, 14, HANDLERS);
    g.set_gpr(abi::ArchState::RBX, modes::UNMAPPED + 8);
    g.intercept([0; 2], [0; 2], 1 << 14);
    g.until(reason::EXCEPTION)?;
    g.s.cr2 = g.s.qual[0];
    g.write(Mtd::CR);
    let (event, error) = (g.s.exc_info, g.s.exc_error);
    g.inject(event, error);
    g.until(reason::IO)?;
    equal("error code", g.rax(), 2)?;
    equal("return address", g.peek(g.rsp()), CODE)?;
    let f = g.facts;
    if (f.emulator, f.vendor) == (Emulator::Bochs, Vendor::Svm) && g.s.gpr[2] != modes::UNMAPPED + 8 {
        return Err(Why::NotHere("VMRUN of Bochs does not load CR2, and its host has taken page faults".into()));
    }
    equal("CR2", g.s.gpr[abi::ArchState::RDX], modes::UNMAPPED + 8)
}
