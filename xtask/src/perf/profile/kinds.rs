//! What kind of instruction it is: those that cost more than others, or that a path promises not to have.
//!
//! Key type: [`Counts`].

use super::step::{Mode, Step};
use iced_x86::Mnemonic::{self, *};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many of each kind; what is not there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

/// Name, and whether an instruction is of that kind.
type Kind = (&'static str, fn(&Instruction) -> bool);

/// In the order in which they are shown. An instruction can be of several.
pub const KINDS: &[Kind] = &[
    ("cr3_writes", |i| i.mnemonic() == Mov && i.op0_register() == Register::CR3),
    ("cr_writes", |i| i.mnemonic() == Mov && i.op0_register().is_cr() && i.op0_register() != Register::CR3),
    ("cr_reads", |i| i.mnemonic() == Mov && i.op1_register().is_cr()),
    ("vmread", |i| i.mnemonic() == Vmread),
    ("vmwrite", |i| i.mnemonic() == Vmwrite),
    ("vmptrld", |i| i.mnemonic() == Vmptrld),
    ("vmclear", |i| i.mnemonic() == Vmclear),
    ("vm_entries", |i| is(i, &[Vmlaunch, Vmresume, Vmrun])),
    ("vmload", |i| i.mnemonic() == Vmload),
    ("vmsave", |i| i.mnemonic() == Vmsave),
    ("gif", |i| is(i, &[Clgi, Stgi])),
    ("wrmsr", |i| i.mnemonic() == Wrmsr),
    ("rdmsr", |i| i.mnemonic() == Rdmsr),
    ("xsetbv", |i| i.mnemonic() == Xsetbv),
    ("xsave", |i| is(i, &[Xsave, Xsave64, Xsavec, Xsavec64, Xsaveopt, Xsaveopt64, Xsaves, Xsaves64, Fxsave, Fxsave64])),
    ("xrstor", |i| is(i, &[Xrstor, Xrstor64, Xrstors, Xrstors64, Fxrstor, Fxrstor64])),
    ("tlb", |i| is(i, &[Invlpg, Invpcid, Invept, Invvpid, Invlpga])),
    ("locked", locked),
    ("fences", |i| is(i, &[Mfence, Lfence, Sfence])),
    ("io", |i| is(i, &[In, Out, Insb, Insd, Insw, Outsb, Outsd, Outsw])),
    ("syscall", |i| i.mnemonic() == Syscall),
    ("sysret", |i| is(i, &[Sysret, Sysretq])),
    ("iret", |i| is(i, &[Iret, Iretd, Iretq])),
    ("swapgs", |i| i.mnemonic() == Swapgs),
    ("base_reads", |i| is(i, &[Rdfsbase, Rdgsbase])),
    ("base_writes", |i| is(i, &[Wrfsbase, Wrgsbase])),
    ("segment_reads", |i| i.mnemonic() == Mov && i.op1_register().is_segment_register()),
    ("segment_loads", |i| {
        is(i, &[Ltr, Lldt, Lgdt, Lidt]) || i.mnemonic() == Mov && i.op0_register().is_segment_register()
    }),
    ("flags", |i| is(i, &[Sti, Cli, Pushfq, Popfq, Stac, Clac])),
    ("rdtsc", |i| is(i, &[Rdtsc, Rdtscp])),
    ("cpuid", |i| i.mnemonic() == Cpuid),
    ("verw", |i| i.mnemonic() == Verw),
    ("string", |i| i.has_rep_prefix() || i.has_repne_prefix()),
    ("calls", |i| matches!(i.flow_control(), FlowControl::Call | FlowControl::IndirectCall) && i.mnemonic() == Call),
    ("returns", |i| i.mnemonic() == Ret),
    ("branches", |i| i.flow_control() == FlowControl::ConditionalBranch),
    ("jumps", |i| i.mnemonic() == Jmp),
];

/// Kinds that come after those of [`KINDS`].
pub const MEMORY_READS: &str = "memory_reads";
pub const MEMORY_WRITES: &str = "memory_writes";
/// What the guest executes, whatever it is.
pub const GUEST: &str = "guest";

/// Those that every function is full of: they are counted, but not marked one by one.
const PLAIN: [&str; 5] = ["calls", "returns", "branches", "jumps", "string"];

fn is(i: &Instruction, any: &[Mnemonic]) -> bool {
    any.contains(&i.mnemonic())
}

/// With LOCK, or as if: XCHG with memory.
fn locked(i: &Instruction) -> bool {
    i.has_lock_prefix() || i.mnemonic() == Xchg && i.op_kinds().any(|k| k == OpKind::Memory)
}

/// The kinds of a step.
pub fn of(step: &Step) -> Vec<&'static str> {
    match step.decode() {
        Some(i) => KINDS.iter().filter(|(_, is)| is(&i)).map(|(name, _)| *name).collect(),
        None => vec![GUEST],
    }
}

/// The kinds of a step that are worth a mark of their own.
pub fn marked(step: &Step) -> Vec<&'static str> {
    of(step).into_iter().filter(|k| !PLAIN.contains(k) && *k != GUEST).collect()
}

/// Whether it reads memory and whether it writes to it; addresses alone (LEA, INVLPG) are neither.
fn memory(step: &Step, factory: &mut InstructionInfoFactory) -> (bool, bool) {
    let Some(i) = step.decode() else { return (false, false) };
    let accesses: Vec<_> = factory.info(&i).used_memory().iter().map(|m| m.access()).collect();
    let reads = [OpAccess::Read, OpAccess::CondRead, OpAccess::ReadWrite, OpAccess::ReadCondWrite];
    let writes = [OpAccess::Write, OpAccess::CondWrite, OpAccess::ReadWrite, OpAccess::ReadCondWrite];
    (accesses.iter().any(|a| reads.contains(a)), accesses.iter().any(|a| writes.contains(a)))
}

impl Counts {
    /// Of all that was executed.
    pub fn of<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Counts {
        let (mut counts, mut factory) = (Counts::default(), InstructionInfoFactory::new());
        for step in steps {
            of(step).into_iter().for_each(|k| counts.add(k));
            if step.mode != Mode::Guest {
                let (read, written) = memory(step, &mut factory);
                [(read, MEMORY_READS), (written, MEMORY_WRITES)]
                    .iter()
                    .filter(|(b, _)| *b)
                    .for_each(|(_, k)| counts.add(k));
            }
        }
        counts
    }

    fn add(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn get(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }

    /// All names, in the order in which they are shown.
    pub fn names() -> impl Iterator<Item = &'static str> {
        KINDS.iter().map(|(name, _)| *name).chain([MEMORY_READS, MEMORY_WRITES, GUEST])
    }

    /// In lines: what is there.
    pub fn show(&self) -> String {
        let there = Counts::names().filter_map(|k| self.0.get(k).map(|n| format!("{n} {k}")));
        let all: Vec<_> = there.collect();
        all.chunks(7).map(|c| format!("    {}\n", c.join(", "))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(code: &[u8]) -> Step {
        Step { at: 0xffff_ffff_8020_8000, mode: Mode::Kernel, code: code.into() }
    }

    #[test]
    fn kinds_are_told_by_their_encoding() {
        let kinds = |code: &[u8]| of(&step(code));
        assert_eq!(kinds(&[0x0f, 0x22, 0xd8]), ["cr3_writes"]);
        assert_eq!(kinds(&[0x0f, 0x22, 0xe0]), ["cr_writes"]);
        assert_eq!(kinds(&[0x0f, 0x20, 0xd0]), ["cr_reads"], "mov rax, cr2");
        assert_eq!(kinds(&[0x0f, 0x78, 0xc1]), ["vmread"]);
        assert_eq!(kinds(&[0x0f, 0x79, 0xc1]), ["vmwrite"]);
        assert_eq!(kinds(&[0x0f, 0x01, 0xc3]), ["vm_entries"]);
        assert_eq!(kinds(&[0x0f, 0x01, 0xd8]), ["vm_entries"], "vmrun");
        assert_eq!(kinds(&[0x0f, 0x01, 0xdb]), ["vmsave"]);
        assert_eq!(kinds(&[0x0f, 0x01, 0xd1]), ["xsetbv"]);
        assert_eq!(kinds(&[0x0f, 0x30]), ["wrmsr"]);
        assert_eq!(kinds(&[0x48, 0x0f, 0x07]), ["sysret"]);
        assert_eq!(kinds(&[0xf3, 0x48, 0x0f, 0xae, 0xd0]), ["base_writes"], "wrfsbase rax: its F3 repeats nothing");
        assert_eq!(kinds(&[0xf3, 0x48, 0xa5]), ["string"]);
        assert_eq!(kinds(&[0x8c, 0xd8]), ["segment_reads"]);
        assert_eq!(kinds(&[0x66, 0x0f, 0x38, 0x82, 0x00]), ["tlb"], "invpcid");
        assert!(kinds(&[0x90]).is_empty());
    }

    #[test]
    fn xchg_with_memory_is_locked_and_without_it_is_not() {
        assert_eq!(of(&step(&[0xf0, 0x0f, 0xb0, 0x0f])), ["locked"], "lock cmpxchg");
        assert_eq!(of(&step(&[0x87, 0x00])), ["locked"]);
        assert_eq!(of(&step(&[0x87, 0x04, 0x25, 0, 0, 0, 0])), ["locked"], "at an address of its own");
        assert!(of(&step(&[0x48, 0x87, 0xd8])).is_empty());
        assert!(of(&step(&[0x66, 0x87, 0xdb])).is_empty());
    }

    #[test]
    fn memory_is_counted_once_an_instruction_and_each_way() {
        let counts = |code: &[u8]| {
            let c = Counts::of([&step(code)]);
            (c.get(MEMORY_READS), c.get(MEMORY_WRITES))
        };
        assert_eq!(counts(&[0x48, 0x8b, 0x07]), (1, 0));
        assert_eq!(counts(&[0x48, 0x89, 0x07]), (0, 1));
        assert_eq!(counts(&[0x48, 0x01, 0x07]), (1, 1));
        assert_eq!(counts(&[0x48, 0x8d, 0x07]), (0, 0), "lea");
        assert_eq!(counts(&[0x53]), (0, 1), "push");
        assert_eq!(counts(&[0xf3, 0x48, 0xa5]), (1, 1));
    }

    #[test]
    fn what_a_guest_does_is_its_own_affair() {
        let guest = Step { mode: Mode::Guest, ..step(&[0x0f, 0x30]) };
        let c = Counts::of([&guest, &step(&[0x0f, 0x30])]);
        assert_eq!((c.get("wrmsr"), c.get(GUEST)), (1, 1));
        assert!(c.show().contains("1 wrmsr, 1 guest"), "{}", c.show());
        assert_eq!(marked(&guest).len(), 0);
        assert!(Counts::names().any(|n| n == "cr3_writes"));
    }
}
