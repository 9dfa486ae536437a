//! Faults while an event is delivered: the VMM is told, and the event is not lost and does not come twice.

use crate::facts::{Emulator, Vendor};
use crate::guest::{Access, CODE, Guest, HANDLERS, Machine, Outcome, STACK, Why, equal, holds};
use crate::modes;
use crate::reason::{self, info};
use abi::Mtd;

tests! {
    missing_stack: "an injected interrupt meets a missing stack page, and comes once it is there", "objects-27 abi-31 abi-58";
    missing_table: "an injected interrupt meets a missing vector table";
    error_code: "an injected exception keeps its error code", "abi-31";
    dropped: "the VMM may take the event over and drop it", "objects-27";
    soft: "INT n of the guest meets a missing stack page: delivered once", "abi-59";
    beyond_limit: "an exception during delivery says so: #GP beyond the IDT's limit";
    nmi: "an NMI that meets a missing stack page comes once it is there", "abi-31 objects-27";
}

const IF: u64 = 1 << 9;
/// The page with the stack.
const STACK_PAGE: u64 = STACK - 0x1000;

/// A guest at HLT in real mode that lacks `page`; handler of `vector`: OUT, IRET.
fn lacking(m: &dyn Machine, vector: u8, page: u64) -> Result<(Guest, u64), Why> {
    let mut g = Guest::new(m, code!(16: "hlt", "nop", "hlt"))?;
    let handler = g.handler(vector, code!(16: "out 0x81, al", "iret"));
    g.s.rflags |= IF;
    g.until(reason::HLT)?;
    g.skip(1)?;
    g.vm.page(page, Access::Nothing)?;
    Ok((g, handler))
}

/// A violation in `page` while `event` was delivered; puts the page back.
fn interrupted(g: &mut Guest, page: u64, event: u32) -> Outcome {
    g.until(reason::EPT_VIOLATION)?;
    equal("page of the address", g.s.qual[2] & !0xfff, page)?;
    equal("event in delivery", g.s.vect_info, info::VALID | event)?;
    equal("event that comes next", g.s.inj_info, info::VALID | event)?;
    Ok(g.vm.page(page, Access::All)?)
}

/// The handler runs once.
fn once(g: &mut Guest, handler: u64, back: u64) -> Outcome {
    g.until(reason::IO)?;
    equal("RIP in the handler", g.s.rip, handler)?;
    equal("IP on the stack", u64::from(g.peek16(g.rsp())), back)?;
    equal("RSP: one frame", g.rsp(), STACK - 6)?;
    g.skip(2)?;
    g.until(reason::HLT)?;
    equal("RSP afterwards", g.rsp(), STACK)
}

fn missing_stack(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = lacking(m, 0x20, STACK_PAGE)?;
    g.inject(info::EXTERNAL | 0x20, 0);
    interrupted(&mut g, STACK_PAGE, info::EXTERNAL | 0x20)?;
    once(&mut g, handler, CODE + 1)
}

fn missing_table(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = lacking(m, 0x20, 0)?;
    g.inject(info::EXTERNAL | 0x20, 0);
    interrupted(&mut g, 0, info::EXTERNAL | 0x20)?;
    // What it wrote back is what it got.
    g.write(Mtd::INJ);
    once(&mut g, handler, CODE + 1)
}

fn error_code(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "hlt", "nop", "hlt"))?;
    modes::long(&mut g);
    g.vm.write(HANDLERS, code!(64: "pop rax", "out 0x81, al", "iretq"));
    modes::gate64(&mut g, 13, HANDLERS);
    g.until(reason::HLT)?;
    g.skip(1)?;
    g.vm.page(STACK_PAGE, Access::Nothing)?;
    g.inject(info::EXCEPTION | info::ERROR | 13, 0x1238);
    interrupted(&mut g, STACK_PAGE, info::EXCEPTION | info::ERROR | 13)?;
    equal("error codes", (g.s.vect_error, g.s.inj_error), (0x1238, 0x1238))?;
    g.until(reason::IO)?;
    equal("error code on the stack", g.rax(), 0x1238)
}

fn dropped(m: &dyn Machine) -> Outcome {
    let (mut g, _) = lacking(m, 0x20, STACK_PAGE)?;
    g.inject(info::EXTERNAL | 0x20, 0);
    interrupted(&mut g, STACK_PAGE, info::EXTERNAL | 0x20)?;
    g.request(0);
    g.until(reason::HLT)?;
    equal("RIP, RSP: as if it had never been", (g.s.rip, g.rsp()), (CODE + 2, STACK))
}

fn soft(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "int 0x21", "nop", "hlt"))?;
    let handler = g.handler(0x21, code!(16: "out 0x81, al", "iret"));
    g.until(reason::CPUID)?;
    g.skip(2)?;
    g.vm.page(STACK_PAGE, Access::Nothing)?;
    g.until(reason::EPT_VIOLATION)?;
    let want = info::VALID | info::SOFT_INTERRUPT | 0x21;
    if g.is(Emulator::Bochs, Vendor::Svm) && g.s.vect_info != want {
        return Err(Why::NotHere("Bochs' SVM tells the event before instead of an INT n in delivery".into()));
    }
    equal("event in delivery", g.s.vect_info, want)?;
    g.vm.page(STACK_PAGE, Access::All)?;
    once(&mut g, handler, CODE + 4)
}

fn beyond_limit(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "hlt", "hlt"))?;
    modes::flat(&mut g);
    g.s.idtr.limit = 0x7f;
    g.s.rflags |= IF;
    g.intercept([0; 2], [0; 2], 1 << 13);
    g.until(reason::HLT)?;
    g.skip(1)?;
    g.inject(info::EXTERNAL | 0x30, 0);
    g.until(reason::EXCEPTION)?;
    let (want, error) = (info::VALID | info::EXCEPTION | info::ERROR | 13, 0x30 * 8 + 3);
    if g.is(Emulator::Tcg, Vendor::Svm) && (g.s.exc_info, g.s.exc_error) == (want, 0x30 * 8 + 2) {
        return Err(Why::NotHere("TCG does not set EXT in the error code of a fault during delivery".into()));
    }
    equal("exception, error code: IDT, external", (g.s.exc_info, g.s.exc_error), (want, error))?;
    equal("event in delivery", g.s.vect_info, info::VALID | info::EXTERNAL | 0x30)?;
    g.s.idtr.limit = 0xfff;
    g.write(Mtd::IDTR);
    g.vm.write(HANDLERS, code!(32: "out 0x81, al", "iretd"));
    modes::gate32(&mut g, 0x30, HANDLERS);
    g.until(reason::IO)?;
    equal("RIP in the handler", g.s.rip, HANDLERS)
}

fn nmi(m: &dyn Machine) -> Outcome {
    let (mut g, handler) = lacking(m, 2, STACK_PAGE)?;
    g.inject(info::NMI, 0);
    interrupted(&mut g, STACK_PAGE, info::NMI)?;
    once(&mut g, handler, CODE + 1)?;
    holds("NMIs are not blocked any more", g.s.intr_state & reason::intr::NMI == 0)
}
