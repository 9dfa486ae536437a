//! A VT-d unit: registers, invalidation queue, root and context tables.

use super::mmio::{Registers, store, wait_for};
use super::{Refusal, Target, table};
use crate::arch::paging::read;
use crate::mem::layout;
use crate::object::account::{KERNEL, ROOT};
use crate::say;
use ::iommu::vtd::spec::{FECTL_IM, PMEN_EPM, PMEN_PRS, fsts, gcmd, reg};
use ::iommu::vtd::{
    Abilities, Invalidate, Pair, context_entry, context_table, decode_fault, domain_of, root_entry, wait,
};
use ::iommu::{Fault, LINES, Requester};
use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use spin::Mutex;

/// Descriptors in the queue, a frame of them.
const QUEUE: u64 = 256;
/// Entries of a root or context table.
const ENTRIES: u16 = 256;
/// Bound of one visit to the fault records: more than there are lines for, after which the unit is silenced.
const PASSES: u32 = 4 * LINES;

/// The unit.
pub struct Unit {
    regs: Registers,
    /// What it can do.
    pub abilities: Abilities,
    root: u64,
    queue: Mutex<Queue>,
}

/// The invalidation queue. It is empty whenever the lock is free.
struct Queue {
    regs: Registers,
    at: u64,
    tail: u64,
    flush: bool,
    /// The unit has not answered in time, and is not asked again.
    dead: bool,
    /// Where the unit writes what it is told to when it has come so far.
    done: &'static AtomicU32,
}

impl Queue {
    fn put(&mut self, d: Pair) {
        for (i, word) in d.into_iter().enumerate() {
            store(self.at, (2 * self.tail) as usize + i, word, self.flush);
        }
        self.tail = (self.tail + 1) % QUEUE;
    }

    /// Has the unit perform these, and waits until it has. `false`: it does not answer.
    fn perform(&mut self, what: &[Invalidate]) -> bool {
        if self.dead {
            return false;
        }
        let (status, token) = (layout::phys(self.done as *const _ as u64), self.done.load(SeqCst).wrapping_add(1));
        what.iter().for_each(|w| self.put(w.descriptor()));
        self.put(wait(status, token));
        self.regs.write64(reg::IQT, self.tail << 4);
        self.dead = !wait_for(|| self.done.load(SeqCst) == token);
        if self.dead {
            say!("an IOMMU does not answer: fault status {:#x}", self.regs.read32(reg::FSTS));
        }
        !self.dead
    }
}

/// Status words, one a unit.
static DONE: [AtomicU32; super::MAX_UNITS] = [const { AtomicU32::new(0) }; super::MAX_UNITS];
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Unit {
    /// Looks at a unit and makes its tables.
    pub fn examine(base: u64, pages: u64) -> Result<Unit, &'static str> {
        let regs = Registers::map(base, pages);
        let abilities = Abilities { cap: regs.read64(reg::CAP), ecap: regs.read64(reg::ECAP) };
        if !abilities.queue() {
            return Err("one has no invalidation queue");
        }
        let flush = !abilities.coherent();
        let no_memory = "there is no memory for its tables";
        let root = table(&KERNEL, flush).ok_or(no_memory)?;
        let at = table(&KERNEL, flush).ok_or(no_memory)?;
        let done = &DONE[NEXT.fetch_add(1, SeqCst) as usize % DONE.len()];
        let queue = Mutex::new(Queue { regs, at, tail: 0, flush, dead: false, done });
        Ok(Unit { regs, abilities, root, queue })
    }

    /// Sets or clears one bit of the global command, and waits for it.
    fn command(&self, bit: u32, on: bool) -> bool {
        let now = self.regs.read32(reg::GSTS) & gcmd::KEPT;
        self.regs.write32(reg::GCMD, if on { now | bit } else { now & !bit });
        wait_for(|| (self.regs.read32(reg::GSTS) & bit != 0) == on)
    }

    /// Turns it on, with tables that let nobody through. Faults raise the interrupt with that address and data.
    /// `interrupts`: value of the register for the interrupt table, if interrupts are remapped.
    pub fn enable(&self, fault: (u64, u32), interrupts: Option<u64>) -> Result<(), &'static str> {
        // Firmware or a loader may have used it.
        self.disable();
        if !self.command(gcmd::QIE, false) || !self.command(gcmd::IRE, false) {
            return Err("one cannot be turned off");
        }
        self.regs.write64(reg::RTADDR, self.root);
        let rooted = self.command(gcmd::SRTP, true);
        let mut q = self.queue.lock();
        self.regs.write64(reg::IQT, 0);
        self.regs.write64(reg::IQA, q.at);
        if !rooted || !self.command(gcmd::QIE, true) || !q.perform(&[Invalidate::Contexts, Invalidate::Translations]) {
            return Err("one does not answer");
        }
        if let Some(t) = interrupts {
            // Messages that are not remapped are blocked, too.
            self.command(gcmd::CFI, false);
            self.regs.write64(reg::IRTA, t);
            if !self.command(gcmd::SIRTP, true)
                || !q.perform(&[Invalidate::Interrupts])
                || !self.command(gcmd::IRE, true)
            {
                return Err("one does not remap interrupts");
            }
        }
        self.regs.write32(reg::FEDATA, fault.1);
        self.regs.write32(reg::FEADDR, fault.0 as u32);
        self.regs.write32(reg::FEUADDR, (fault.0 >> 32) as u32);
        self.drain(|_| {});
        self.silence(false);
        if !self.command(gcmd::TE, true) {
            return Err("one cannot be turned on");
        }
        if self.abilities.protects() {
            self.regs.write32(reg::PMEN, self.regs.read32(reg::PMEN) & !PMEN_EPM);
            wait_for(|| self.regs.read32(reg::PMEN) & PMEN_PRS == 0);
        }
        Ok(())
    }

    /// Turns translation off, and remapping of interrupts.
    pub fn disable(&self) {
        self.command(gcmd::TE, false);
        self.command(gcmd::IRE, false);
    }

    /// Forgets an interrupt entry. `false`: the unit does not answer.
    pub fn forget_interrupt(&self, index: u16) -> bool {
        self.queue.lock().perform(&[Invalidate::Interrupt(index)])
    }

    /// Keeps it from interrupting, or not.
    pub fn silence(&self, yes: bool) {
        self.regs.write32(reg::FECTL, if yes { FECTL_IM } else { 0 });
    }

    /// Takes out what it has recorded. Returns whether it has lost something.
    pub fn drain(&self, mut report: impl FnMut(Fault)) -> bool {
        let (first, count) = self.abilities.fault_records();
        // As long as one is pending, another one raises no interrupt.
        for _ in 0..PASSES {
            for at in (0..count).map(|i| first + 16 * i) {
                let record = [self.regs.read64(at), self.regs.read64(at + 8)];
                if let Some(f) = decode_fault(record) {
                    report(f);
                    // The bit clears itself where it is written as 1.
                    self.regs.write64(at + 8, record[1]);
                }
            }
            if self.regs.read32(reg::FSTS) & fsts::PPF == 0 {
                break;
            }
        }
        let status = self.regs.read32(reg::FSTS);
        self.regs.write32(reg::FSTS, status & (fsts::PFO | fsts::ICE | fsts::ITE));
        status & fsts::PFO != 0
    }

    fn flush(&self) -> bool {
        !self.abilities.coherent()
    }

    fn contexts(&self, bus: u8) -> Option<u64> {
        context_table(read(self.root, 2 * usize::from(bus)))
    }

    /// The context table of a bus, made if there is none.
    fn make_contexts(&self, bus: u8) -> Option<u64> {
        if let Some(t) = self.contexts(bus) {
            return Some(t);
        }
        let t = table(&ROOT, self.flush())?;
        store(self.root, 2 * usize::from(bus), root_entry(t), self.flush());
        Some(t)
    }

    /// Blocks a device that is in a domain.
    fn block(&self, q: &mut Queue, contexts: u64, device: Requester, domain: u16) -> bool {
        store(contexts, 2 * usize::from(device.devfn()), 0, self.flush());
        q.perform(&[Invalidate::Context(device, domain), Invalidate::Domain(domain)])
    }

    /// Lets a device use a page table.
    pub fn assign(&self, device: Requester, to: Target) -> Result<(), Refusal> {
        let mut q = self.queue.lock();
        let contexts = self.make_contexts(device.bus()).ok_or(Refusal::Memory)?;
        let at = 2 * usize::from(device.devfn());
        let new = context_entry(to.root, to.levels, to.domain);
        if let Some(old) = domain_of([read(contexts, at), read(contexts, at + 1)]) {
            // Half of an entry is not to be seen.
            self.block(&mut q, contexts, device, old).then_some(()).ok_or(Refusal::Silent)?;
        }
        store(contexts, at + 1, new[1], self.flush());
        store(contexts, at, new[0], self.flush());
        // Where absence is cached, domain 0 stands for it (6.1).
        let ok = !self.abilities.invalidate_always()
            || q.perform(&[Invalidate::Context(device, 0), Invalidate::Domain(to.domain)]);
        ok.then_some(()).ok_or(Refusal::Silent)
    }

    /// Forgets the translations of a domain. `false`: the unit does not answer.
    pub fn invalidate(&self, domain: u16) -> bool {
        self.queue.lock().perform(&[Invalidate::Domain(domain)])
    }

    /// Blocks all devices that are in a domain. `false`: the unit does not answer.
    pub fn release(&self, domain: u16) -> bool {
        let mut q = self.queue.lock();
        let mut ok = true;
        for (bus, contexts) in (0..=u8::MAX).filter_map(|b| Some((b, self.contexts(b)?))) {
            for devfn in 0..ENTRIES {
                let at = 2 * usize::from(devfn);
                if domain_of([read(contexts, at), read(contexts, at + 1)]) == Some(domain) {
                    let device = Requester(u16::from(bus) << 8 | devfn);
                    ok &= self.block(&mut q, contexts, device, domain);
                }
            }
        }
        q.perform(&[Invalidate::Domain(domain)]) && ok
    }
}
