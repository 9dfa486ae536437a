//! Guest memory: what faults, with what qualification, and that it goes on once the page is there.

use crate::guest::{Access, CODE, DATA, Guest, Machine, Outcome, RAM, bits, equal};
use crate::modes;
use crate::reason;
use abi::ArchState;

tests! {
    nothing: "a read, a write and a fetch of nothing", "abi-20 abi-28 abi-77 spaces-3";
    read_only: "a write to a read-only page", "spaces-22";
    not_executable: "a fetch from a page that is not executable", "spaces-22";
    walk: "an access to nothing by the walk of the guest's page tables", "abi-20 abi-77";
    taken: "a page that is taken away is gone at once, one that comes is there", "ctrl_pd-3 ctrl_pd-12 spaces-3";
    beyond: "memory beyond what any page can be";
}

const READ: u64 = 1;
const WRITE: u64 = 2;
const FETCH: u64 = 4;
const READABLE: u64 = 1 << 3;
const WRITABLE: u64 = 1 << 4;
const EXECUTABLE: u64 = 1 << 5;
const LINEAR: u64 = 1 << 7;
const FINAL: u64 = 1 << 8;

/// A violation: access and rights, the address, and where the CPU says so the linear address.
fn violation(g: &mut Guest, access: u64, rights: u64, gpa: u64) -> Outcome {
    g.until(reason::EPT_VIOLATION)?;
    let known = if g.svm() { READABLE } else { READABLE | WRITABLE | EXECUTABLE };
    bits("qualification: access", g.s.qual[0], 7, access)?;
    bits("qualification: rights", g.s.qual[0], known, rights & known)?;
    equal("guest-physical address", g.s.qual[2], gpa)?;
    if !g.svm() {
        bits("qualification: linear address valid", g.s.qual[0], LINEAR, LINEAR)?;
    }
    Ok(())
}

fn nothing(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov al, [0x40123]", "mov [0x41123], al", "ljmp 0x08, 0x6000"))?;
    modes::flat(&mut g);
    g.vm.page(DATA, Access::Nothing)?;
    violation(&mut g, READ, 0, RAM + 0x123)?;
    equal("RIP", g.s.rip, CODE)?;
    if !g.svm() {
        equal("guest-linear address", g.s.qual[1], RAM + 0x123)?;
    }
    g.s.rip += 5;
    g.write(abi::Mtd::RIP);
    violation(&mut g, WRITE, 0, RAM + 0x1123)?;
    g.s.rip += 5;
    g.write(abi::Mtd::RIP);
    violation(&mut g, FETCH, 0, DATA)?;
    g.vm.write(DATA, &[0xf4]);
    g.vm.page(DATA, Access::All)?;
    g.until(reason::HLT)?;
    equal("RIP", g.s.rip, DATA)
}

fn read_only(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov eax, [0x6010]", "mov [0x6010], ebx", "hlt"))?;
    modes::flat(&mut g);
    g.poke(DATA + 0x10, 0x1111);
    g.set_gpr(ArchState::RBX, 0x2222);
    g.vm.page(DATA, Access::Read)?;
    violation(&mut g, WRITE, READABLE, DATA + 0x10)?;
    equal("word read before", g.rax(), 0x1111)?;
    equal("word in memory", g.peek32(DATA + 0x10), 0x1111)?;
    g.vm.page(DATA, Access::All)?;
    g.until(reason::HLT)?;
    equal("word in memory", g.peek32(DATA + 0x10), 0x2222)
}

fn not_executable(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov [0x6800], eax", "ljmp 0x08, 0x6000"))?;
    modes::flat(&mut g);
    g.vm.write(DATA, &[0xf4]);
    g.vm.page(DATA, Access::ReadWrite)?;
    violation(&mut g, FETCH, READABLE | WRITABLE, DATA)?;
    g.vm.page(DATA, Access::All)?;
    g.until(reason::HLT)?;
    equal("RIP", g.s.rip, DATA)
}

fn walk(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(64: "mov eax, [rbx]", "hlt"))?;
    modes::long(&mut g);
    // The table of the alias' page.
    g.vm.page(0x13000, Access::Nothing)?;
    g.set_gpr(ArchState::RBX, 0x20_0010);
    g.until(reason::EPT_VIOLATION)?;
    equal("page of the address", g.s.qual[2] & !0xfff, 0x13000)?;
    bits("qualification: not the access itself", g.s.qual[0], FINAL, 0)?;
    g.vm.page(0x13000, Access::All)?;
    g.vm.page(DATA, Access::Nothing)?;
    g.until(reason::EPT_VIOLATION)?;
    equal("guest-physical address", g.s.qual[2], DATA + 0x10)?;
    bits("qualification: the access itself", g.s.qual[0], FINAL, FINAL)?;
    g.vm.page(DATA, Access::All)?;
    g.until(reason::HLT)
}

fn taken(m: &dyn Machine) -> Outcome {
    let code = code!(32: "mov al, [0x6000]", "out 0x80, al", "mov al, [0x6000]", "out 0x80, al", "hlt");
    let mut g = Guest::new(m, code)?;
    modes::flat(&mut g);
    g.until(reason::IO)?;
    g.vm.page(DATA, Access::Nothing)?;
    g.skip(2)?;
    violation(&mut g, READ, 0, DATA)?;
    equal("RIP", g.s.rip, CODE + 7)?;
    g.vm.page(DATA, Access::Read)?;
    g.until(reason::IO)?;
    g.skip(2)?;
    g.until(reason::HLT)
}

fn beyond(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(32: "mov al, [ebx]", "hlt"))?;
    modes::flat(&mut g);
    g.set_gpr(ArchState::RBX, 0xffff_f000);
    violation(&mut g, READ, 0, 0xffff_f000)
}
