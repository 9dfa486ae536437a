//! Every exit that an instruction can cause: number, place, length, qualification.

use crate::facts::{Emulator, Vendor};
use crate::guest::{CODE, DATA, Guest, Machine, Outcome, Why, bits, equal, needs};
use crate::modes;
use crate::reason::{self, ctrl, info};
use abi::{ArchState, Mtd};

tests! {
    always: "CPUID, HLT, WBINVD, RDPMC, RDMSR, WRMSR exit without being asked for", "abi-53 abi-74 abi-86 abi-94";
    invd: "INVD";
    monitor: "MONITOR, MWAIT", "abi-53";
    xsetbv: "XSETBV";
    hypercall: "the hypercall instruction of the CPU's vendor; that of the other is #UD";
    nested_virtualisation: "instructions that run guests";
    ports: "IN, OUT: port, size, direction", "abi-20 abi-28 spaces-5";
    strings: "INS, OUTS: string and REP", "abi-20 abi-76";
    asked: "RDTSC, PAUSE, INVLPG exit if asked for, and only then", "abi-29 abi-54";
    rdtscp: "RDTSCP exits with RDTSC", "abi-54";
    cr0: "CR0: changes of owned bits", "abi-29 abi-61 abi-80";
    cr4: "CR4: changes of owned bits", "abi-29 abi-61 abi-62 abi-80";
    cr3: "CR3: reads and writes if asked for", "abi-54";
    cr8: "CR8: reads and writes if asked for", "abi-53 abi-54 abi-82";
    debug_registers: "debug registers if asked for", "abi-54";
    descriptor_tables: "descriptor tables if asked for", "abi-54 abi-76";
    exceptions: "exceptions: #UD, #DE, #BP, #GP with vector and error code", "abi-16 abi-18 abi-28 abi-29 abi-75";
    page_fault: "exceptions: #PF with error code and address", "abi-18 abi-20 abi-29";
    single_step: "exceptions: #DB of a single step goes to who asked for it", "abi-56";
    single_step_inside: "exceptions: #DB that nobody asked for goes to the guest", "abi-56 abi-93 objects-23";
    triple_fault: "triple fault", "abi-83 abi-86";
    task_switch: "task switch", "abi-79";
}

const NOTHING: [u32; 2] = [0, 0];

/// Runs to an exit at `rip`, and skips the instruction.
fn exit(g: &mut Guest, event: u64, rip: u64, len: u32) -> Outcome {
    g.until(event)?;
    equal("RIP", g.s.rip, rip)?;
    g.skip(len)
}

fn always(m: &dyn Machine) -> Outcome {
    let code = code!(16: "cpuid", "wbinvd", "rdpmc", "mov ecx, 0xc0000001", "rdmsr", "wrmsr", "hlt");
    let mut g = Guest::new(m, code)?;
    exit(&mut g, reason::CPUID, CODE, 2)?;
    exit(&mut g, reason::WBINVD, CODE + 2, 2)?;
    exit(&mut g, reason::RDPMC, CODE + 4, 2)?;
    exit(&mut g, reason::RDMSR, CODE + 12, 2)?;
    equal("RCX", g.s.gpr[ArchState::RCX], 0xc000_0001)?;
    exit(&mut g, reason::WRMSR, CODE + 14, 2)?;
    exit(&mut g, reason::HLT, CODE + 16, 1)
}

fn invd(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "invd", "hlt"))?;
    g.until_or_gap(reason::INVD, Emulator::Tcg, Vendor::Svm, "QEMU 7.2 does not intercept INVD")?;
    equal("RIP", g.s.rip, CODE)?;
    g.skip(2)?;
    g.until(reason::HLT)
}

fn monitor(m: &dyn Machine) -> Outcome {
    needs("MONITOR", m.facts().monitor())?;
    let mut g = Guest::new(m, code!(16: "monitor", "mwait", "hlt"))?;
    g.until_or_gap(reason::MONITOR, Emulator::Bochs, Vendor::Svm, "Bochs' SVM does not intercept MONITOR")?;
    g.skip(3)?;
    exit(&mut g, reason::MWAIT, CODE + 3, 3)?;
    g.until(reason::HLT)
}

fn xsetbv(m: &dyn Machine) -> Outcome {
    const OSXSAVE: u64 = 1 << 18;
    needs("XSAVE", m.facts().xsave())?;
    let mut g = Guest::new(m, code!(16: "mov eax, 1", "xor ecx, ecx", "xor edx, edx", "xsetbv", "hlt"))?;
    g.s.cr4 |= OSXSAVE;
    g.write(Mtd::CR);
    g.until_or_gap(reason::XSETBV, Emulator::Tcg, Vendor::Svm, "QEMU 7.2 does not intercept XSETBV")?;
    equal("RIP, RAX", (g.s.rip, g.rax()), (CODE + 12, 1))?;
    g.skip(3)?;
    g.until(reason::HLT)
}

fn hypercall(m: &dyn Machine) -> Outcome {
    let (own, other) = match m.facts().vendor {
        Vendor::Vmx => (code!(16: "vmcall", "hlt"), code!(16: "vmmcall", "hlt")),
        Vendor::Svm => (code!(16: "vmmcall", "hlt"), code!(16: "vmcall", "hlt")),
    };
    let mut g = Guest::new(m, own)?;
    exit(&mut g, reason::VMCALL, CODE, 3)?;
    g.until(reason::HLT)?;
    let mut g = Guest::new(m, other)?;
    g.intercept(NOTHING, [0; 2], 1 << 6);
    g.until(reason::EXCEPTION)?;
    equal("exception", g.s.exc_info, info::VALID | info::EXCEPTION | 6)
}

fn nested_virtualisation(m: &dyn Machine) -> Outcome {
    let (code, events): (_, &[u64]) = match m.facts().vendor {
        Vendor::Vmx => {
            (code!(64: "vmlaunch", "vmresume", "vmxoff", "hlt"), &[reason::VMLAUNCH, reason::VMRESUME, reason::VMXOFF])
        }
        Vendor::Svm => (
            code!(64: "vmrun rax", "vmload rax", "vmsave rax", "stgi", "clgi", "invlpga rax, ecx", "hlt"),
            &[reason::VMLAUNCH, reason::VMPTRLD, reason::VMPTRST, reason::VMXON, reason::VMXOFF, reason::INVVPID],
        ),
    };
    let mut g = Guest::new(m, code)?;
    modes::long(&mut g);
    for (i, event) in events.iter().enumerate() {
        exit(&mut g, *event, CODE + 3 * i as u64, 3)?;
    }
    g.until(reason::HLT)
}

/// VT-x's qualification of a port access, without bit 6, which SVM does not have: port as immediate operand.
fn port(g: &Guest, port: u64, size: u64, flags: u64) -> Outcome {
    bits("qualification", g.s.qual[0], !(1 << 6), port << 16 | flags | (size - 1))
}

const IN: u64 = 1 << 3;
const STRING: u64 = 1 << 4;
const REP: u64 = 1 << 5;

fn ports(m: &dyn Machine) -> Outcome {
    let code = code!(16: "in al, 0x60", "in ax, dx", "in eax, dx", "out 0x61, al", "out dx, ax", "out dx, eax", "hlt");
    let mut g = Guest::new(m, code)?;
    g.set_gpr(ArchState::RDX, 0xabcd);
    for (len, at, size, flags) in [
        (2, 0x60, 1, IN),
        (1, 0xabcd, 2, IN),
        (2, 0xabcd, 4, IN),
        (2, 0x61, 1, 0),
        (1, 0xabcd, 2, 0),
        (2, 0xabcd, 4, 0),
    ] {
        g.until(reason::IO)?;
        port(&g, at, size, flags)?;
        // The answer of the device.
        g.set_gpr(ArchState::RAX, 0x1122_3344);
        g.skip(len)?;
    }
    g.until(reason::HLT)?;
    equal("RAX", g.rax(), 0x1122_3344)
}

fn strings(m: &dyn Machine) -> Outcome {
    let code = code!(16: "cld", "outsb", "rep insw", "rep outsd", "hlt");
    let mut g = Guest::new(m, code)?;
    g.set_gpr(ArchState::RDX, 0x123);
    g.set_gpr(ArchState::RCX, 2);
    g.set_gpr(ArchState::RSI, DATA);
    g.set_gpr(ArchState::RDI, DATA);
    for (len, size, flags) in [(1, 1, STRING), (2, 2, STRING | REP | IN), (3, 4, STRING | REP)] {
        g.until(reason::IO)?;
        port(&g, 0x123, size, flags)?;
        equal("RCX, RSI, RDI: nothing moved", g.s.gpr[6..8].to_vec(), vec![DATA, DATA])?;
        g.skip(len)?;
    }
    g.until(reason::HLT)
}

fn asked(m: &dyn Machine) -> Outcome {
    let code = code!(16: "rdtsc", "pause", "invlpg [0x6000]", "hlt");
    let mut g = Guest::new(m, code)?;
    g.until(reason::HLT)?;
    let mut g = Guest::new(m, code)?;
    g.intercept([ctrl::RDTSC | ctrl::PAUSE | ctrl::INVLPG, 0], [0; 2], 0);
    exit(&mut g, reason::RDTSC, CODE, 2)?;
    exit(&mut g, reason::PAUSE, CODE + 2, 2)?;
    g.until(reason::INVLPG)?;
    equal("RIP", g.s.rip, CODE + 4)?;
    match g.facts.operands {
        true => equal("address", g.s.qual[0], DATA)?,
        false => equal("\"decode it\"", g.s.inst_info & ArchState::INST_DECODE, ArchState::INST_DECODE)?,
    }
    g.skip(5)?;
    g.until(reason::HLT)
}

fn rdtscp(m: &dyn Machine) -> Outcome {
    needs("RDTSCP", m.facts().rdtscp())?;
    let mut g = Guest::new(m, code!(16: "rdtscp", "hlt"))?;
    g.intercept([ctrl::RDTSC, 0], [0; 2], 0);
    g.until_or_gap(reason::RDTSCP, Emulator::Tcg, Vendor::Svm, "TCG does not intercept RDTSCP")?;
    g.skip(3)?;
    g.until(reason::HLT)
}

/// A write to CR `n` from RAX, of which the CPU may not tell the register.
fn write_from_rax(g: &Guest, n: u64) -> Outcome {
    bits("qualification: register, MOV to CR", g.s.qual[0], 0x3f, n)?;
    if g.s.inst_info & ArchState::INST_DECODE == 0 || !g.svm() {
        bits("qualification: from RAX", g.s.qual[0], 0xf00, 0)?;
    }
    Ok(())
}

fn cr0(m: &dyn Machine) -> Outcome {
    const WP: u64 = 1 << 16;
    let code = code!(16: "mov eax, cr0", "or eax, 0x10000", "mov cr0, eax", "mov eax, cr0", "hlt");
    let mut g = Guest::new(m, code)?;
    (g.s.cr0, g.s.cr3) = (0x10, 0);
    g.write(Mtd::CR);
    g.intercept(NOTHING, [WP, 0], 0);
    g.until(reason::CR)?;
    write_from_rax(&g, 0)?;
    equal("RIP, CR0: not yet written", (g.s.rip, g.s.cr0 & WP), (CODE + 9, 0))?;
    g.s.cr0 |= WP;
    g.write(Mtd::CR);
    g.skip(3)?;
    g.until(reason::HLT)?;
    bits("CR0 as the guest reads it", g.rax(), WP, WP)
}

fn cr4(m: &dyn Machine) -> Outcome {
    const PGE: u64 = 1 << 7;
    let mut g = Guest::new(m, code!(16: "mov eax, 0x80", "mov cr4, eax", "mov eax, cr4", "hlt"))?;
    g.intercept(NOTHING, [0, PGE], 0);
    g.until(reason::CR)?;
    write_from_rax(&g, 4)?;
    equal("RIP, CR4: not yet written", (g.s.rip, g.s.cr4 & PGE), (CODE + 6, 0))?;
    g.s.cr4 |= PGE;
    g.write(Mtd::CR);
    g.skip(3)?;
    g.until(reason::HLT)?;
    bits("CR4 as the guest reads it", g.rax(), PGE, PGE)
}

fn cr3(m: &dyn Machine) -> Outcome {
    let code = code!(16: "mov eax, 0x5000", "mov cr3, eax", "mov ebx, cr3", "hlt");
    let mut g = Guest::new(m, code)?;
    g.until(reason::HLT)?;
    equal("CR3, RBX", (g.s.cr3, g.s.gpr[ArchState::RBX]), (0x5000, 0x5000))?;
    let mut g = Guest::new(m, code)?;
    g.intercept([ctrl::CR3_LOAD | ctrl::CR3_STORE, 0], [0; 2], 0);
    g.until(reason::CR)?;
    write_from_rax(&g, 3)?;
    g.skip(3)?;
    g.until(reason::CR)?;
    bits("qualification: MOV from CR3", g.s.qual[0], 0x3f, 3 | 1 << 4)?;
    g.skip(3)?;
    g.until(reason::HLT)
}

fn cr8(m: &dyn Machine) -> Outcome {
    let code = code!(64: "mov eax, 5", "mov cr8, rax", "xor ebx, ebx", "mov rbx, cr8", "hlt");
    let mut g = Guest::new(m, code)?;
    modes::long(&mut g);
    if m.facts().cr8 {
        g.until(reason::HLT)?;
        equal("CR8, RBX", (g.s.cr8, g.s.gpr[ArchState::RBX]), (5, 5))?;
    } else {
        g.until(reason::CR)?;
        write_from_rax(&g, 8)?;
    }
    let mut g = Guest::new(m, code)?;
    modes::long(&mut g);
    g.intercept([ctrl::CR8_LOAD | ctrl::CR8_STORE, 0], [0; 2], 0);
    g.until(reason::CR)?;
    write_from_rax(&g, 8)?;
    equal("CR8: not yet written", g.s.cr8, 0)?;
    g.skip(4)?;
    g.until(reason::CR)?;
    bits("qualification: MOV from CR8", g.s.qual[0], 0x3f, 8 | 1 << 4)?;
    g.skip(4)?;
    g.until(reason::HLT)
}

fn debug_registers(m: &dyn Machine) -> Outcome {
    let code = code!(16: "mov dr1, eax", "mov ebx, dr7", "hlt");
    let mut g = Guest::new(m, code)?;
    g.until(reason::HLT)?;
    equal("DR7 as the guest reads it", g.s.gpr[ArchState::RBX], 0x400)?;
    let mut g = Guest::new(m, code)?;
    g.intercept([ctrl::MOV_DR, 0], [0; 2], 0);
    g.until(reason::DR)?;
    bits("qualification: MOV to DR1", g.s.qual[0], 0x17, 1)?;
    g.skip(3)?;
    g.until(reason::DR)?;
    bits("qualification: MOV from DR7", g.s.qual[0], 0x17, 7 | 1 << 4)?;
    g.skip(3)?;
    g.until(reason::HLT)
}

fn descriptor_tables(m: &dyn Machine) -> Outcome {
    let code = code!(32: "sgdt [0x6000]", "lidt [0x6000]", "sldt eax", "str eax", "hlt");
    let mut g = Guest::new(m, code)?;
    modes::flat(&mut g);
    g.until(reason::HLT)?;
    let mut g = Guest::new(m, code)?;
    modes::flat(&mut g);
    g.intercept([0, ctrl::DESCRIPTOR_TABLES], [0; 2], 0);
    for (event, rip, len) in
        [(reason::GDTR_IDTR, 0, 7), (reason::GDTR_IDTR, 7, 7), (reason::LDTR_TR, 14, 3), (reason::LDTR_TR, 17, 3)]
    {
        g.until_or_gap(event, Emulator::Tcg, Vendor::Svm, "TCG does not intercept all accesses to descriptor tables")?;
        equal("RIP", g.s.rip, CODE + rip)?;
        g.skip(len)?;
    }
    g.until(reason::HLT)
}

fn exceptions(m: &dyn Machine) -> Outcome {
    let code = code!(32: "ud2", "div ebx", "mov ds, eax", "int3");
    let mut g = Guest::new(m, code)?;
    modes::flat(&mut g);
    g.set_gpr(ArchState::RBX, 0);
    g.set_gpr(ArchState::RAX, 0x1230);
    g.intercept(NOTHING, [0; 2], 1 << 6 | 1 | 1 << 13 | 1 << 3);
    for (len, want, error) in
        [(2, info::EXCEPTION | 6, 0), (2, info::EXCEPTION, 0), (2, info::EXCEPTION | info::ERROR | 13, 0x1230)]
    {
        g.until(reason::EXCEPTION)?;
        equal("exception", (g.s.exc_info, g.s.exc_error), (want | info::VALID, error))?;
        g.s.rip += len;
        g.write(Mtd::RIP);
    }
    g.until(reason::EXCEPTION)?;
    if g.is(Emulator::Tcg, Vendor::Svm) && g.s.exc_info & 0xff == 13 {
        return Err(Why::NotHere("TCG does not intercept #BP of INT3".into()));
    }
    equal("exception", g.s.exc_info, info::VALID | info::SOFT_EXCEPTION | 3)?;
    equal("RIP", g.s.rip, CODE + 6)
}

fn page_fault(m: &dyn Machine) -> Outcome {
    let code = code!(64: "mov [rbx], al", "hlt");
    let mut g = Guest::new(m, code)?;
    modes::long(&mut g);
    g.set_gpr(ArchState::RBX, modes::UNMAPPED + 0x123);
    g.intercept(NOTHING, [0; 2], 1 << 14);
    g.until(reason::EXCEPTION)?;
    let want = info::VALID | info::EXCEPTION | info::ERROR | 14;
    equal("exception and error code: write", (g.s.exc_info, g.s.exc_error), (want, 2))?;
    equal("qualification: address", g.s.qual[0], modes::UNMAPPED + 0x123)?;
    equal("RIP", g.s.rip, CODE)
}

fn single_step(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "nop", "nop", "hlt"))?;
    g.intercept(NOTHING, [0; 2], 1 << 1);
    g.s.rflags |= 1 << 8;
    g.until(reason::EXCEPTION)?;
    equal("exception", g.s.exc_info, info::VALID | info::EXCEPTION | 1)?;
    equal("RIP", g.s.rip, CODE + 1)?;
    if g.is(Emulator::Bochs, Vendor::Svm) && g.s.qual[0] == 0 {
        return Err(Why::NotHere("Bochs' SVM does not write DR6 for an intercepted #DB".into()));
    }
    bits("qualification: single step", g.s.qual[0], 1 << 14, 1 << 14)
}

fn single_step_inside(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "nop", "nop", "hlt"))?;
    let handler = g.handler(1, code!(16: "out 0x80, al"));
    g.s.rflags |= 1 << 8;
    g.until(reason::IO)?;
    equal("RIP: the handler", g.s.rip, handler)?;
    equal("IP on the stack", g.peek16(g.rsp()), (CODE + 1) as u16)
}

fn triple_fault(m: &dyn Machine) -> Outcome {
    let f = m.facts();
    if (f.emulator, f.vendor) == (Emulator::Bochs, Vendor::Svm) {
        return Err(Why::NotHere("Bochs 2.7 has no shutdown exit of SVM and stops the machine".into()));
    }
    let mut g = Guest::new(m, code!(16: "ud2"))?;
    (g.s.idtr.limit, g.s.idtr.base) = (0, 0);
    g.write(Mtd::IDTR);
    g.until(reason::TRIPLE_FAULT)?;
    if g.svm() {
        equal("state of a reset: RIP", g.s.rip, 0xfff0)?;
    }
    Ok(())
}

fn task_switch(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "ljmp 0x28, 0", "hlt"))?;
    modes::flat(&mut g);
    let place = modes::second_task(&mut g, code!(32: "out 0x80, al", "hlt"));
    if g.svm() {
        // It does not exit: the CPU switches.
        g.until(reason::IO)?;
        return equal("RIP in the new task", g.s.rip, place);
    }
    g.until(reason::TASK_SWITCH)?;
    equal("RIP", g.s.rip, CODE)?;
    equal("qualification: JMP to the selector", g.s.qual[0], 2 << 30 | 0x28)
}
