//! When a guest takes events: windows, shadows, the task priority, recall.

use crate::facts::{Emulator, Vendor};
use crate::guest::{CODE, Guest, Machine, Outcome, Why, bits, equal, holds};
use crate::modes;
use crate::reason::{self, info, intr};
use abi::{Mtd, event};

tests! {
    open: "interrupt window: at once if interrupts are on", "abi-16 abi-17 abi-55";
    behind_sti: "interrupt window: behind the shadow of STI";
    closed: "interrupt window: not before the guest turns interrupts on";
    sti_shadow: "interrupt shadow of STI is shown at an exit", "abi-15 abi-27";
    mov_ss_shadow: "interrupt shadow of MOV SS is shown at an exit", "abi-15 abi-27 abi-78";
    shadow_written: "interrupt shadow that the VMM sets delays the window", "abi-27";
    nmi_open: "NMI window: at once if NMIs are not blocked", "abi-16 abi-17";
    nmi_behind_iret: "NMI window: only behind the IRET of the handler";
    tpr_visible: "task priority: the guest's CR8 is its own, and the VMM sees it", "abi-40";
    tpr_threshold: "task priority: below the threshold", "abi-30";
    tpr_above: "task priority: threshold not reached", "abi-30";
    recall: "RECALL before the first instruction; its state can be changed", "ctrl_ec-3 abi-90";
    recall_window: "RECALL keeps window requests";
}

const IF: u64 = 1 << 9;
const UNSEEN: &str = "Bochs' SVM does not see a virtual interrupt at VMRUN before the guest turns interrupts on";

/// Stops at an OUT of the code, and answers it with a window request.
fn request_at_out(m: &dyn Machine, code: &[u8], windows: u32) -> Result<Guest, Why> {
    let mut g = Guest::new(m, code)?;
    g.until(reason::IO)?;
    g.skip(2)?;
    g.request(windows);
    Ok(g)
}

/// Ends the request.
fn cancel(g: &mut Guest) {
    g.request(0);
}

fn open(m: &dyn Machine) -> Outcome {
    let mut g = request_at_out(m, code!(16: "sti", "nop", "out 0x82, al", "nop", "hlt"), info::IRQ_WINDOW)?;
    g.until_or_gap(reason::INTERRUPT_WINDOW, Emulator::Bochs, Vendor::Svm, UNSEEN)?;
    equal("RIP", g.s.rip, CODE + 4)?;
    cancel(&mut g);
    g.until(reason::HLT)
}

fn behind_sti(m: &dyn Machine) -> Outcome {
    let mut g = request_at_out(m, code!(16: "cli", "out 0x82, al", "sti", "nop", "nop", "hlt"), info::IRQ_WINDOW)?;
    g.until(reason::INTERRUPT_WINDOW)?;
    equal("RIP: one instruction behind STI", g.s.rip, CODE + 5)?;
    equal("IF", g.s.rflags & IF, IF)?;
    equal("request is still there", g.s.inj_info, info::IRQ_WINDOW)?;
    cancel(&mut g);
    g.until(reason::HLT)?;
    equal("RIP", g.s.rip, CODE + 6)
}

fn closed(m: &dyn Machine) -> Outcome {
    let mut g =
        request_at_out(m, code!(16: "cli", "out 0x82, al", "nop", "cpuid", "sti", "nop", "hlt"), info::IRQ_WINDOW)?;
    g.until(reason::CPUID)?;
    g.skip(2)?;
    g.until(reason::INTERRUPT_WINDOW)?;
    equal("RIP", g.s.rip, CODE + 8)
}

fn sti_shadow(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "sti", "cpuid", "cpuid"))?;
    g.until(reason::CPUID)?;
    bits("blocking by STI", g.s.intr_state, intr::STI, intr::STI)?;
    g.skip(2)?;
    g.until(reason::CPUID)?;
    equal("blocking behind it", g.s.intr_state, 0)
}

fn mov_ss_shadow(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "xor eax, eax", "mov ss, ax", "cpuid", "cpuid"))?;
    g.until(reason::CPUID)?;
    let (want, which) = if g.svm() { (intr::STI, "one for both") } else { (intr::MOV_SS, "by MOV SS") };
    bits(which, g.s.intr_state, intr::STI | intr::MOV_SS, want)?;
    g.skip(2)?;
    g.until(reason::CPUID)?;
    equal("blocking behind it", g.s.intr_state, 0)
}

fn shadow_written(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "nop", "nop", "hlt"))?;
    (g.s.rflags, g.s.intr_state) = (2 | IF, intr::STI);
    g.write(Mtd::STA);
    g.request(info::IRQ_WINDOW);
    g.until_or_gap(reason::INTERRUPT_WINDOW, Emulator::Bochs, Vendor::Svm, UNSEEN)?;
    if g.is(Emulator::Tcg, Vendor::Svm) && g.s.rip == CODE {
        return Err(Why::NotHere("QEMU 7.2 does not load the interrupt shadow at VMRUN".into()));
    }
    equal("RIP: one instruction later", g.s.rip, CODE + 1)
}

fn nmi_open(m: &dyn Machine) -> Outcome {
    let mut g = request_at_out(m, code!(16: "out 0x82, al", "nop", "hlt"), info::NMI_WINDOW)?;
    g.until(reason::NMI_WINDOW)?;
    equal("RIP", g.s.rip, CODE + 2)?;
    cancel(&mut g);
    g.until(reason::HLT)
}

fn nmi_behind_iret(m: &dyn Machine) -> Outcome {
    for flags in [2, 2 | IF] {
        let mut g = Guest::new(m, code!(16: "hlt", "nop", "nop", "cpuid", "nop", "hlt"))?;
        g.handler(2, code!(16: "out 0x81, al", "nop", "iret"));
        g.until(reason::HLT)?;
        g.skip(1)?;
        g.s.rflags = flags;
        g.write(Mtd::RFLAGS);
        g.inject(info::NMI, 0);
        g.until(reason::IO)?;
        g.skip(2)?;
        g.request(info::NMI_WINDOW);
        g.run()?;
        // SVM has no such window: with interrupts off it opens at the next exit of any kind.
        let late = g.svm() && flags & IF == 0 && g.event == reason::CPUID;
        if late {
            g.skip(2)?;
            g.run()?;
        }
        g.at(reason::NMI_WINDOW)?;
        let behind = if late { CODE + 5..=CODE + 5 } else { CODE + 1..=CODE + 2 };
        holds("RIP: behind the handler", behind.contains(&g.s.rip))?;
        bits("blocking by NMI", g.s.intr_state, intr::NMI, 0)?;
        cancel(&mut g);
        if !late {
            g.until(reason::CPUID)?;
            g.skip(2)?;
        }
        g.until(reason::HLT)?;
    }
    Ok(())
}

fn tpr_visible(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "mov rax, cr8", "mov ebx, 9", "mov cr8, rbx", "hlt"))?;
    modes::long(&mut g);
    g.s.cr8 = 3;
    if !m.facts().cr8 {
        g.until(reason::CR)?;
        return equal("CR8 as the VMM has set it", g.s.cr8, 3);
    }
    g.until(reason::HLT)?;
    equal("CR8 as the guest reads it", g.rax(), 3)?;
    equal("CR8 as the guest has set it", g.s.cr8, 9)
}

/// A guest that lowers CR8 from 8 to `to` with the threshold at 4.
fn lowered(m: &dyn Machine, to: u64) -> Result<Guest, Why> {
    let f = m.facts();
    if (f.emulator, f.vendor) == (Emulator::Tcg, Vendor::Svm) {
        return Err(Why::NotHere(
            "QEMU 7.2 aborts when a guest writes CR8 while a virtual interrupt is pending".into(),
        ));
    }
    if !f.cr8 {
        return Err(Why::NotHere("there is no threshold where accesses to CR8 exit".into()));
    }
    let mut g = Guest::new(m, code!(64: "sti", "nop", "mov cr8, rbx", "nop", "nop", "hlt"))?;
    modes::long(&mut g);
    (g.s.cr8, g.s.tpr_threshold) = (8, 4);
    g.set_gpr(3, to);
    g.write(Mtd::TPR);
    Ok(g)
}

fn tpr_threshold(m: &dyn Machine) -> Outcome {
    let mut g = lowered(m, 2)?;
    g.until(reason::TPR_BELOW)?;
    equal("CR8", g.s.cr8, 2)?;
    holds("RIP: behind the write", (CODE + 6..=CODE + 7).contains(&g.s.rip))?;
    g.s.tpr_threshold = 0;
    g.write(Mtd::TPR);
    g.until(reason::HLT)
}

fn tpr_above(m: &dyn Machine) -> Outcome {
    let mut g = lowered(m, 5)?;
    g.until(reason::HLT)?;
    equal("CR8", g.s.cr8, 5)
}

fn recall(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "hlt", "hlt"))?;
    g.vm.recall()?;
    g.until(event::GST_RECALL)?;
    equal("RIP", g.s.rip, CODE)?;
    g.s.rip += 1;
    g.write(Mtd::RIP);
    g.until(reason::HLT)?;
    equal("RIP", g.s.rip, CODE + 1)
}

fn recall_window(m: &dyn Machine) -> Outcome {
    let mut g = request_at_out(m, code!(16: "cli", "out 0x82, al", "nop", "sti", "nop", "hlt"), info::IRQ_WINDOW)?;
    g.vm.recall()?;
    g.until(event::GST_RECALL)?;
    equal("request", g.s.inj_info, info::IRQ_WINDOW)?;
    g.until(reason::INTERRUPT_WINDOW)?;
    equal("RIP", g.s.rip, CODE + 6)
}
