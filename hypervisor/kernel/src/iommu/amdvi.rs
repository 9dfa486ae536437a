//! AMD-Vi: units that share one device table; each has a command buffer and an event log. Nothing here makes a unit raise
//! an interrupt: its message would be a register of PCI configuration space, which is user land's.

use super::mmio::{Registers, store, wait_for};
use super::queue::{Kind, Queue};
use super::{Found, MAX_UNITS, Machine, Refusal, Remap, Target, Units, ioapic, table};
use crate::arch::{interrupt, paging::read};
use crate::boot::memory;
use crate::mem::pool;
use crate::object::account::KERNEL;
use ::iommu::amdvi::spec::{LENGTH_256, OFFSET, REGISTERS, control, reg, status};
use ::iommu::amdvi::{self, Abilities, BLOCKED, INTERRUPTS_PASS, Invalidate, Tables};
use ::iommu::{Fault, Pair, Requester, choose_levels};
use ptab::{Dma, Walker};
use spin::{Mutex, Once};

static QUEUE: Kind = Kind { tail: reg::COMMAND_TAIL, status: reg::STATUS, wait: amdvi::wait };
const _: () = assert!(interrupt::MESSAGES as usize == amdvi::INTERRUPTS);
static UNITS: Once<All> = Once::new();

/// All units.
struct All {
    units: [Option<Unit>; MAX_UNITS],
    /// The device table, and how many devices it has.
    table: (u64, u64),
    /// No device from this one on is in a domain. Who changes who reaches what holds the lock.
    end: Mutex<u64>,
    /// Whose the interrupt tables are, and the frame that they are in.
    interrupts: Mutex<(Tables, u64)>,
}

/// Turns all of them on, or none.
pub fn build(found: &[Option<Found>; MAX_UNITS]) -> Result<Machine, &'static str> {
    let no_memory = "there is no memory for their tables";
    let (mut units, mut levels, mut last) = ([const { None }; MAX_UNITS], u32::MAX, Requester(0));
    for (slot, f) in units.iter_mut().zip(found.iter().flatten()) {
        let unit = Unit::examine(f)?;
        levels &= unit.abilities.levels();
        last = last.max(f.last);
        *slot = Some(unit);
    }
    let levels = choose_levels(levels).ok_or("they have no table format in common")?;
    let frames = amdvi::device_frames(last);
    let row = pool::phys(pool::row(&KERNEL, frames as usize).ok_or(no_memory)?);
    let interrupts = table(&KERNEL, false).ok_or(no_memory)?;
    let all = All {
        units,
        table: (row, frames * amdvi::ENTRIES),
        end: Mutex::new(0),
        interrupts: Mutex::new((Tables::default(), interrupts)),
    };
    // An IOAPIC that firmware does not name could not raise interrupts.
    let remap = interrupt::all_ioapics(|id| ioapic(id).is_some());
    for d in 0..all.table.1 {
        let device = Requester(d as u16);
        let passes = !remap || super::is_ioapic(device) || found.iter().flatten().any(|f| f.own == Some(device));
        let entry = if passes { INTERRUPTS_PASS } else { BLOCKED };
        (0..).zip(entry).for_each(|(i, word)| all.store(d, i, word));
    }
    if let Err(why) = all.iter().try_for_each(|u| u.enable(row | (frames - 1))) {
        all.iter().for_each(|u| _ = u.disable());
        return Err(why);
    }
    Ok(Machine {
        found: *found,
        units: UNITS.call_once(|| all),
        format: Dma { walker: Walker::AmdVi, levels, max_order: 18 },
        domains: 1 << 16,
        remap: if remap { Remap::Messages } else { Remap::Nothing },
        wide: false,
        // Whether a unit caches what is absent, configuration space says.
        invalidate_always: true,
        flush: false,
        polled: true,
    })
}

impl All {
    fn iter(&self) -> impl Iterator<Item = &Unit> {
        self.units.iter().flatten()
    }

    /// Has all units perform these. `false`: one does not answer.
    fn each(&self, what: &[Pair]) -> bool {
        self.iter().filter(|u| !u.queue.lock().perform(what)).count() == 0
    }

    /// Frame and index of a word of a device's entry.
    fn word(&self, device: u64, word: usize) -> (u64, usize) {
        let (frame, entry) = (device / amdvi::ENTRIES, (device % amdvi::ENTRIES) as usize);
        (self.table.0 + frame * abi::PAGE_SIZE as u64, BLOCKED.len() * entry + word)
    }

    fn load(&self, device: u64, word: usize) -> u64 {
        let (frame, index) = self.word(device, word);
        read(frame, index)
    }

    fn store(&self, device: u64, word: usize, value: u64) {
        let (frame, index) = self.word(device, word);
        store(frame, index, value, false);
    }

    fn domain(&self, device: u64) -> Option<u16> {
        amdvi::domain_of([self.load(device, 0), self.load(device, 1)])
    }

    /// Blocks a device that is in a domain.
    fn block(&self, device: u64, domain: u16) -> bool {
        self.store(device, 0, BLOCKED[0]);
        self.each(&[Invalidate::Device(Requester(device as u16)), Invalidate::Domain(domain)].map(Invalidate::command))
    }

    /// Has a device use an interrupt table, or none: one that the table reaches, and whose interrupts do not just pass.
    fn set_table(&self, device: Requester, word: u64) {
        let d = device.0.into();
        if d < self.table.1 && self.load(d, 2) != INTERRUPTS_PASS[2] {
            self.store(d, 2, word);
        }
    }
}

impl Units for All {
    fn assign(&self, _: usize, device: Requester, to: Target) -> Result<(), Refusal> {
        let (mut end, d) = (self.end.lock(), u64::from(device.0));
        if d >= self.table.1 {
            return Err(Refusal::Absent);
        }
        if !self.block(d, self.domain(d).unwrap_or(to.domain)) {
            return Err(Refusal::Silent);
        }
        *end = (*end).max(d + 1);
        let new = amdvi::memory(to.root, to.levels, to.domain);
        // Until the first word is there, nothing is permitted.
        self.store(d, 1, new[1]);
        self.store(d, 0, new[0]);
        if !self.each(&[Invalidate::Device(device), Invalidate::Domain(to.domain)].map(Invalidate::command)) {
            self.store(d, 0, BLOCKED[0]);
            return Err(Refusal::Silent);
        }
        Ok(())
    }

    fn invalidate(&self, domain: u16) -> bool {
        self.each(&[Invalidate::Domain(domain).command()])
    }

    fn release(&self, domain: u16) -> bool {
        let end = self.end.lock();
        let mine = (0..*end).filter(|d| self.domain(*d) == Some(domain));
        let silent = mine.filter(|d| !self.block(*d, domain)).count();
        self.each(&[Invalidate::Domain(domain).command()]) && silent == 0
    }

    fn set_interrupt(&self, n: u16, to: Option<::iommu::Target>, source: Option<Requester>) -> bool {
        let Some(source) = source else { return false };
        let mut interrupts = self.interrupts.lock();
        let (index, frame) = ((n - interrupt::FIRST_MESSAGE) as usize, interrupts.1);
        let moves = interrupts.0.assign(index, source);
        let write = |table, to| {
            let word = (table * amdvi::INTERRUPTS + index) / 2;
            store(frame, word, amdvi::with_interrupt(read(frame, word), index, to), false);
        };
        if let Some((device, table)) = moves.former {
            write(table, None);
            self.each(&[Invalidate::Interrupts(device).command()]);
        }
        if let Some(device) = moves.evicted {
            self.set_table(device, BLOCKED[2]);
            self.each(&[Invalidate::Device(device), Invalidate::Interrupts(device)].map(Invalidate::command));
        }
        // A unit that has not answered does so never again, and may use the table for whose it was.
        if !self.each(&[]) {
            return false;
        }
        write(moves.table, to);
        self.set_table(source, amdvi::interrupts(frame, moves.table));
        self.each(&[Invalidate::Device(source), Invalidate::Interrupts(source)].map(Invalidate::command))
    }

    fn message(&self, n: u16) -> (u32, u32) {
        amdvi::interrupt_message(n - interrupt::FIRST_MESSAGE)
    }

    fn drain(&self, report: &mut dyn FnMut(Fault)) -> bool {
        self.iter().fold(false, |lost, u| lost | u.drain(report))
    }

    /// They are silent.
    fn silence(&self, _: bool) {}
}

/// A unit.
struct Unit {
    regs: Registers,
    abilities: Abilities,
    /// What its control register has when it is on.
    control: u64,
    queue: Mutex<Queue>,
    /// Frame of the event log.
    log: u64,
}

impl Unit {
    /// Looks at a unit and makes its tables.
    fn examine(f: &Found) -> Result<Unit, &'static str> {
        if !f.base.is_multiple_of(REGISTERS) {
            return Err("one is at an address at which none can be");
        }
        if f.segment != 0 {
            return Err("one is for PCI segments that are not known");
        }
        let regs = Registers::map(f.base, f.pages);
        let abilities = Abilities(regs.read64(reg::FEATURES));
        if !abilities.forgets_all() {
            return Err("one cannot be told to forget everything");
        }
        memory::protect(f.base, f.base + abilities.registers());
        let (queue, log) = (Queue::new(&QUEUE, regs, false), table(&KERNEL, false));
        let no_memory = "there is no memory for its tables";
        let (queue, log) = (queue.ok_or(no_memory)?, log.ok_or(no_memory)?);
        Ok(Unit { regs, abilities, control: amdvi::control(f.flags), queue, log })
    }

    /// Turns it on, with a device table, whose length is in the lower bits.
    fn enable(&self, devices: u64) -> Result<(), &'static str> {
        // Firmware or a loader may have used it.
        if !self.disable() {
            return Err("one cannot be turned off");
        }
        let mut q = self.queue.lock();
        for (register, value) in [
            (reg::DEVICE_TABLE, devices),
            (reg::COMMANDS, q.at | LENGTH_256),
            (reg::COMMAND_HEAD, 0),
            (reg::COMMAND_TAIL, 0),
            (reg::EVENTS, self.log | LENGTH_256),
            (reg::EVENT_HEAD, 0),
            (reg::EVENT_TAIL, 0),
            (reg::EXCLUSION, 0),
            (reg::STATUS, status::EVENT_OVERFLOW),
            (reg::CONTROL, self.control),
        ] {
            self.regs.write64(register, value);
        }
        q.perform(&[Invalidate::Everything.command()]).then_some(()).ok_or("one does not answer")
    }

    /// Turns it off. `false`: it is not.
    fn disable(&self) -> bool {
        self.regs.write64(reg::CONTROL, 0);
        self.stopped(status::CMD_BUF_RUN | status::EVENT_LOG_RUN)
    }

    fn stopped(&self, what: u64) -> bool {
        wait_for(|| self.regs.read64(reg::STATUS) & what == 0)
    }

    /// Takes out what it has logged. Returns whether it has lost something.
    fn drain(&self, report: &mut dyn FnMut(Fault)) -> bool {
        let [mut head, tail] = [reg::EVENT_HEAD, reg::EVENT_TAIL].map(|r| self.regs.read64(r) & OFFSET);
        while head != tail {
            let at = (head / 8) as usize;
            let event: Pair = [read(self.log, at), read(self.log, at + 1)];
            if event == [0, 0] {
                // It is on its way.
                break;
            }
            amdvi::decode_event(event).into_iter().for_each(&mut *report);
            (at..at + 2).for_each(|i| store(self.log, i, 0, false));
            head = (head + 16) & OFFSET;
            self.regs.write64(reg::EVENT_HEAD, head);
        }
        let lost = self.regs.read64(reg::STATUS) & status::EVENT_OVERFLOW != 0;
        if lost {
            // It goes on when it was off and is on again (2.5.1).
            self.regs.write64(reg::CONTROL, self.control & !control::EVENT_LOG_EN);
            self.stopped(status::EVENT_LOG_RUN);
            self.regs.write64(reg::STATUS, status::EVENT_OVERFLOW);
            self.regs.write64(reg::CONTROL, self.control);
        }
        lost
    }
}
