//! VT-d: units with root and context tables of their own, and one interrupt table for all of them.

use super::mmio::{Registers, store, wait_for};
use super::queue::{Kind, Queue};
use super::{Found, MAX_UNITS, Machine, Refusal, Remap, Target, Units, table};
use crate::arch::{interrupt, paging::read};
use crate::object::account::{KERNEL, ROOT};
use ::iommu::vtd::spec::{FECTL_IM, PMEN_EPM, PMEN_PRS, fsts, gcmd, reg};
use ::iommu::vtd::{
    Abilities, Invalidate, MASKED, context_entry, context_table, decode_fault, domain_of, interrupt_entry,
    interrupt_message, interrupt_table, root_entry, wait,
};
use ::iommu::{Fault, LINES, Requester, choose_levels};
use ptab::{Dma, Walker};
use spin::{Mutex, Once};

/// Entries of a root or context table.
const ENTRIES: u16 = 256;
/// log2 entries of the interrupt table, which is a frame.
const INTERRUPT_ORDER: u32 = 8;
const _: () = assert!(interrupt::LINES <= 1 << INTERRUPT_ORDER);
/// Bound of one visit to the fault records: more than there are lines for, after which the unit is silenced.
const PASSES: u32 = 4 * LINES;
static QUEUE: Kind = Kind { tail: reg::IQT, status: reg::FSTS, wait };
static UNITS: Once<All> = Once::new();

/// All units.
struct All {
    units: [Option<Unit>; MAX_UNITS],
    /// The interrupt table. Who writes an entry holds the lock.
    interrupts: Mutex<Option<u64>>,
    /// Its entries name local APICs in 32 bits.
    wide: bool,
    /// What the units read has to be flushed from the cache.
    flush: bool,
}

/// Turns all of them on, or none.
pub fn build(found: &[Option<Found>; MAX_UNITS]) -> Result<Machine, &'static str> {
    let mut units = [const { None }; MAX_UNITS];
    let (mut levels, mut max_order, mut domains) = (u32::MAX, 18, 1 << 16);
    let (mut invalidate_always, mut flush) = (false, false);
    let (mut remap, mut wide) = (true, interrupt::wide_apics());
    for (slot, f) in units.iter_mut().zip(found.iter().flatten()) {
        let unit = Unit::examine(f.base, f.pages)?;
        let a = unit.abilities;
        levels &= a.levels();
        max_order = max_order.min(a.max_order());
        domains = domains.min(a.domains());
        invalidate_always |= a.invalidate_always();
        flush |= !a.coherent();
        remap &= a.interrupts();
        wide &= a.wide_apics();
        *slot = Some(unit);
    }
    let levels = choose_levels(levels).ok_or("they have no table format in common")?;
    let interrupts = match remap {
        true => Some(table(&KERNEL, flush).ok_or("there is no memory for their tables")?),
        false => None,
    };
    let all = All { units, interrupts: Mutex::new(interrupts), wide, flush };
    let line = interrupt::fault_message();
    let register = interrupts.map(|t| interrupt_table(t, INTERRUPT_ORDER, wide));
    if let Err(why) = all.iter().try_for_each(|u| u.enable(line, register)) {
        all.iter().for_each(Unit::disable);
        return Err(why);
    }
    Ok(Machine {
        found: *found,
        units: UNITS.call_once(|| all),
        format: Dma { walker: Walker::Vtd, levels, max_order },
        domains,
        remap: if remap { Remap::All } else { Remap::Nothing },
        wide,
        invalidate_always,
        flush,
        polled: false,
    })
}

impl All {
    fn iter(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().flatten()
    }

    /// Whether all units have done it; all are told to.
    fn each(&self, f: impl Fn(&Unit) -> bool) -> bool {
        self.iter().filter(|u| !f(u)).count() == 0
    }
}

impl Units for All {
    fn assign(&self, unit: usize, device: Requester, to: Target) -> Result<(), Refusal> {
        self.units[unit].as_ref().ok_or(Refusal::Absent)?.assign(device, to)
    }

    fn invalidate(&self, domain: u16) -> bool {
        self.each(|u| u.invalidate(domain))
    }

    fn release(&self, domain: u16) -> bool {
        self.each(|u| u.release(domain))
    }

    fn set_interrupt(&self, n: u16, to: Option<::iommu::Target>, source: Option<Requester>) -> bool {
        let table = self.interrupts.lock();
        let Some(t) = *table else { return false };
        let new = to.map_or(MASKED, |to| interrupt_entry(to, source, self.wide));
        // Half of an entry is not to be seen.
        for (half, word) in [(0, MASKED[0]), (1, new[1]), (0, new[0])] {
            store(t, 2 * usize::from(n) + half, word, self.flush);
        }
        self.each(|u| u.forget_interrupt(n))
    }

    fn message(&self, n: u16) -> (u32, u32) {
        interrupt_message(n)
    }

    fn drain(&self, report: &mut dyn FnMut(Fault)) -> bool {
        self.iter().fold(false, |lost, u| lost | u.drain(&mut *report))
    }

    fn silence(&self, yes: bool) {
        self.iter().for_each(|u| u.silence(yes));
    }
}

/// A unit.
struct Unit {
    regs: Registers,
    /// What it can do.
    abilities: Abilities,
    root: u64,
    queue: Mutex<Queue>,
}

impl Unit {
    /// Looks at a unit and makes its tables.
    fn examine(base: u64, pages: u64) -> Result<Unit, &'static str> {
        let regs = Registers::map(base, pages);
        let abilities = Abilities { cap: regs.read64(reg::CAP), ecap: regs.read64(reg::ECAP) };
        if !abilities.queue() {
            return Err("one has no invalidation queue");
        }
        let flush = !abilities.coherent();
        let no_memory = "there is no memory for its tables";
        let root = table(&KERNEL, flush).ok_or(no_memory)?;
        let queue = Queue::new(&QUEUE, regs, flush).ok_or(no_memory)?;
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
    fn enable(&self, fault: (u64, u32), interrupts: Option<u64>) -> Result<(), &'static str> {
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
        if !rooted
            || !self.command(gcmd::QIE, true)
            || !q.perform(&[Invalidate::Contexts, Invalidate::Translations].map(Invalidate::descriptor))
        {
            return Err("one does not answer");
        }
        if let Some(t) = interrupts {
            // Messages that are not remapped are blocked, too.
            self.command(gcmd::CFI, false);
            self.regs.write64(reg::IRTA, t);
            if !self.command(gcmd::SIRTP, true)
                || !q.perform(&[Invalidate::Interrupts.descriptor()])
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
    fn disable(&self) {
        self.command(gcmd::TE, false);
        self.command(gcmd::IRE, false);
    }

    /// Forgets an interrupt entry. `false`: the unit does not answer.
    fn forget_interrupt(&self, index: u16) -> bool {
        self.queue.lock().perform(&[Invalidate::Interrupt(index).descriptor()])
    }

    /// Keeps it from interrupting, or not.
    fn silence(&self, yes: bool) {
        self.regs.write32(reg::FECTL, if yes { FECTL_IM } else { 0 });
    }

    /// Takes out what it has recorded. Returns whether it has lost something.
    fn drain(&self, mut report: impl FnMut(Fault)) -> bool {
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
        q.perform(&[Invalidate::Context(device, domain), Invalidate::Domain(domain)].map(Invalidate::descriptor))
    }

    /// Lets a device use a page table.
    fn assign(&self, device: Requester, to: Target) -> Result<(), Refusal> {
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
            || q.perform(&[Invalidate::Context(device, 0), Invalidate::Domain(to.domain)].map(Invalidate::descriptor));
        if !ok {
            store(contexts, at, 0, self.flush());
        }
        ok.then_some(()).ok_or(Refusal::Silent)
    }

    /// Forgets the translations of a domain. `false`: the unit does not answer.
    fn invalidate(&self, domain: u16) -> bool {
        self.queue.lock().perform(&[Invalidate::Domain(domain).descriptor()])
    }

    /// Blocks all devices that are in a domain. `false`: the unit does not answer.
    fn release(&self, domain: u16) -> bool {
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
        q.perform(&[Invalidate::Domain(domain).descriptor()]) && ok
    }
}
