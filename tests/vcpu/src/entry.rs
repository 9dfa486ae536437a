//! Entries that the CPU refuses: an event, which can be repaired; and random state, which must not harm the kernel.

use crate::facts::{Emulator, Vendor};
use crate::guest::{CODE, Guest, Machine, Outcome, RAM, Why, equal, holds};
use crate::modes;
use crate::reason::{self, info};
use abi::{ArchState, Mtd, event};

tests! {
    cr4_reserved: "reserved bits of CR4", "abi-68 abi-70";
    paging_without_protection: "CR0.PG without CR0.PE", "abi-68";
    long_without_pae: "long mode without PAE", "abi-68";
    efer_reserved: "reserved bits of EFER are dropped";
    no_code_segment: "a code segment that is none", "abi-68";
    no_such_exception: "an exception that there is not", "abi-68 abi-70";
    bad_msr: "an MSR value that the CPU refuses", "abi-68";
    reserved_event: "an event of a reserved type is dropped", "abi-60";
}

const IS_FAILURE: [u64; 2] = [reason::ENTRY_FAILURE, reason::ENTRY_FAILURE_MSR];

/// The state of which the CPU makes a failed entry; the guest goes on once it is repaired.
fn refused(m: &dyn Machine, bad: impl FnOnce(&mut Guest)) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "hlt"))?;
    let good = (g.s.cr0, g.s.cr3, g.s.efer, g.s.lstar);
    // Where the CPU does not refuse it: Bochs' SVM stops the machine at a triple fault.
    g.intercept([0; 2], [0; 2], !0);
    bad(&mut g);
    g.run()?;
    if !IS_FAILURE.contains(&g.event) {
        g.at(reason::ENTRY_FAILURE)?;
    }
    // What is left of the state is the guest's or that of a reset, never the host's.
    holds("RIP at the failure is the guest's", [CODE, 0xfff0].contains(&g.s.rip))?;
    holds("CS base is the guest's", [0, 0xffff_0000].contains(&g.s.cs.base))?;
    holds("IDT is the guest's", g.s.idtr.base < RAM)?;
    g.real_mode();
    (g.s.cr0, g.s.cr3, g.s.efer, g.s.lstar) = good;
    (g.s.cr4, g.s.kernel_gs_base) = (0, 0);
    g.write(Mtd::CR | Mtd::EFER | Mtd::KERNEL_GS | Mtd::SYSCALL);
    g.request(0);
    g.until(reason::CPUID)?;
    g.skip(2)?;
    g.until(reason::HLT)
}

fn cr4_reserved(m: &dyn Machine) -> Outcome {
    refused(m, |g| {
        g.s.cr4 = 1 << 15;
        g.write(Mtd::CR);
    })
}

/// As [`refused`]; emulators of SVM that do not check it run the guest.
fn refused_or_unchecked(m: &dyn Machine, gap: &str, bad: impl FnOnce(&mut Guest)) -> Outcome {
    match refused(m, bad) {
        Err(Why::Failed(_)) if m.facts().vendor == Vendor::Svm && m.facts().emulator != Emulator::None => {
            Err(Why::NotHere(gap.into()))
        }
        other => other,
    }
}

fn paging_without_protection(m: &dyn Machine) -> Outcome {
    refused_or_unchecked(m, "SVM has a paged real mode", |g| {
        g.s.cr0 = 1 << 31 | 0x30;
        g.write(Mtd::CR);
    })
}

fn long_without_pae(m: &dyn Machine) -> Outcome {
    refused_or_unchecked(m, "this emulator does not check EFER against CR4", |g| {
        modes::long(g);
        g.s.cr4 = 0;
    })
}

fn efer_reserved(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "hlt"))?;
    g.s.efer = 1 << 63 | 1 << 40 | 1 << 1;
    g.write(Mtd::EFER);
    g.until(reason::CPUID)?;
    equal("EFER", g.s.efer, 0)
}

fn no_code_segment(m: &dyn Machine) -> Outcome {
    if m.facts().vendor == Vendor::Svm {
        return Err(Why::NotHere("SVM does not check segments".into()));
    }
    refused(m, |g| g.s.cs.ar = 0x90)
}

fn no_such_exception(m: &dyn Machine) -> Outcome {
    refused_or_unchecked(m, "this emulator does not check EVENTINJ", |g| g.inject(info::EXCEPTION | 0x33, 0))
}

fn bad_msr(m: &dyn Machine) -> Outcome {
    if m.facts().vendor == Vendor::Svm {
        return Err(Why::NotHere("VMLOAD makes addresses canonical".into()));
    }
    refused(m, |g| {
        g.s.lstar = 1 << 60;
        g.write(Mtd::SYSCALL);
    })
}

fn reserved_event(m: &dyn Machine) -> Outcome {
    let mut g = Guest::new(m, code!(16: "cpuid", "hlt"))?;
    g.inject(1 << 8 | 0x20, 0);
    g.until(reason::CPUID)?;
    equal("pending", g.s.inj_info, 0)
}

/// What [`fuzz`] saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fuzz {
    /// Replies with random state.
    pub replies: u32,
    /// Entries that the CPU refused.
    pub refused: u32,
    /// Other events.
    pub others: u32,
}

/// Groups that random replies write: all but those that end the virtual CPU or give it other spaces.
const GROUPS: Mtd = Mtd::all().difference(Mtd::POISON).difference(Mtd::SPACES);

/// Answers events with random state, `guests` times up to 40 events each; the guest's memory is full of HLT. All that may
/// come of it is events. The same seed does the same.
pub fn fuzz(m: &dyn Machine, seed: u64, guests: u32) -> Result<Fuzz, Why> {
    let mut r = Random(seed | 1);
    let mut sum = Fuzz::default();
    for _ in 0..guests {
        let mut g = Guest::new(m, &[0xf4])?;
        g.vm.write(0, &vec![0xf4; RAM as usize]);
        for _ in 0..40 {
            random_reply(&mut g, &mut r);
            sum.replies += 1;
            match g.run()? {
                n if IS_FAILURE.contains(&n) => sum.refused += 1,
                // SVM leaves nothing to go on with, nor does a CPU after a triple fault.
                n if n < event::GST_ARCH => sum.others += 1,
                n => return Err(Why::Failed(format!("event {n:#x} of nobody"))),
            }
        }
    }
    holds("some entries were refused, others not", sum.refused > 0 && sum.others > 0)?;
    Ok(sum)
}

/// xorshift64: good enough to hit what nobody thought of.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// A sane state, of which some words are replaced: all random state would fail the first check every time.
fn random_reply(g: &mut Guest, r: &mut Random) {
    match r.next() % 4 {
        0 => modes::long(g),
        1 => modes::flat(g),
        _ => g.real_mode(),
    }
    (g.s.inj_info, g.s.intr_state, g.s.actv_state) = (0, 0, 0);
    let bytes = size_of::<ArchState>() as u64;
    let mut words: [u64; size_of::<ArchState>() / 8] = zerocopy_words(&g.s);
    for _ in 0..=r.next() % 4 {
        let i = (r.next() % (bytes / 8)) as usize;
        words[i] = match r.next() % 4 {
            0 => r.next(),
            1 => 1 << (r.next() % 64),
            2 => words[i] ^ 1 << (r.next() % 64),
            _ => words[i] ^ 1 << (r.next() % 32) ^ 1 << (r.next() % 32),
        };
    }
    g.s = state_of(&words);
    avoid_gaps(g);
    // A halted virtual CPU would wait, and rightly.
    g.s.actv_state = if g.s.actv_state == 1 { 0 } else { g.s.actv_state };
    // Every exception exits: Bochs' SVM stops the machine at a guest's triple fault.
    (g.s.intcpt_exc, g.s.pfe_mask, g.s.pfe_match) = (!0, 0, 0);
    // Nothing else ends a guest that has interrupts off there; HLT everywhere ends every guest.
    let groups = if r.one_in(3) { GROUPS } else { Mtd::from_bits_truncate(r.next() as u32) & GROUPS };
    g.write(groups | Mtd::CTRL | Mtd::RIP | Mtd::CS_SS | Mtd::CR | Mtd::INJ);
}

/// What would end an emulator instead of the guest.
fn avoid_gaps(g: &mut Guest) {
    const TF: u64 = 1 << 8;
    const VM: u64 = 1 << 17;
    const PAE: u64 = 1 << 5;
    const LME: u64 = 1 << 8;
    match (g.facts.emulator, g.facts.vendor) {
        // A single step that exits is a #DB in the host, before it has its own TR back. Paging without protection and
        // virtual-8086 mode in long mode stop the emulator.
        (Emulator::Bochs, Vendor::Svm) => {
            g.s.rflags &= !(TF | VM);
            g.s.cr0 |= g.s.cr0 >> 31 & 1;
        }
        // An exit with LME, but neither PG nor PAE, leaves the host without paging.
        (Emulator::Tcg, Vendor::Svm) if g.s.efer & LME != 0 => g.s.cr4 |= PAE,
        _ => {}
    }
    g.write(Mtd::RFLAGS | Mtd::EFER);
}

fn zerocopy_words(s: &ArchState) -> [u64; size_of::<ArchState>() / 8] {
    zerocopy::transmute!(*s)
}

fn state_of(words: &[u64; size_of::<ArchState>() / 8]) -> ArchState {
    zerocopy::transmute!(*words)
}
