//! Capabilities that travel in messages, into one object space from all CPUs at once.
//!
//! Key types: [`Domain`], whose object space that is, with a thread on the CPU of each worker; [`Mine`], what a worker
//! knows of its part of it.

use crate::work::{Outcome, PAGE, Random, Setting, Slot, copy, done, equal, is_zero};
use abi::{Arrival, CreatePdOp, Hypercall, Item, Mad, Mtd, Sel, UTCB_WORDS, perm};
use parent::sel;
use rt::Semaphore;
use rt::hypercall::{self as hc, EcArgs};
use std::arch::global_asm;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

// Replies with the whole UTCB, at which its stack pointer stays; word 0 is the descriptor that it got.
global_asm!(
    ".balign 64",
    "stress_receiver:",
    "mov [rsp], rsi",
    "mov esi, {mtd}",
    "mov edi, {reply}",
    "syscall",
    "ud2",
    mtd = const Mtd::words(UTCB_WORDS),
    reply = const Hypercall::IpcReply as u8,
);

unsafe extern "C" {
    fn stress_receiver();
}

/// Slots of a worker: its window, and as many more.
const SLOTS: u64 = 16;
const WINDOW: u64 = 8;

fn first(worker: usize) -> Sel {
    0x400 + worker as u64 * SLOTS
}

/// A protection domain with a thread on the CPU of each worker.
struct Domain {
    obj: Slot,
    /// Thread and portal.
    threads: Vec<(Slot, Slot)>,
    _rest: (Slot, Slot),
}

impl Domain {
    fn new(s: &Setting, count: usize) -> Result<Domain, String> {
        let create = |op, pd| -> Result<Slot, String> {
            let s = Slot::new()?;
            done("create_pd", hc::create_pd(op, s.0, pd))?;
            Ok(s)
        };
        let pd = create(CreatePdOp::Pd, sel::PD)?;
        let (obj, hst) = (create(CreatePdOp::Obj, pd.0)?, create(CreatePdOp::Hst, pd.0)?);
        let code = stress_receiver as *const () as u64;
        let perms = (perm::Mem::R | perm::Mem::XU).bits();
        // SAFETY: the host space of another domain.
        done("code", unsafe { hc::ctrl_pd(sel::HST, hst.0, code / PAGE, code / PAGE, 0, perms, Mad::WB) })?;
        let thread = |i: usize| -> Result<(Slot, Slot), String> {
            let (ec, pt, utcb) = (Slot::new()?, Slot::new()?, 0x7000 + i as u64 * PAGE);
            let args = EcArgs { utcb_page: utcb, cpu: s.cpu(i), sp: utcb, ..EcArgs::default() };
            // SAFETY: of another domain.
            unsafe {
                done("create_ec", hc::create_ec(ec.0, pd.0, args))?;
                done("create_pt", hc::create_pt(pt.0, sel::PD, ec.0, code))?;
            }
            done("set_window", hc::set_window(ec.0, first(i), WINDOW))?;
            Ok((ec, pt))
        };
        let threads = (0..count).map(thread).collect::<Result<_, _>>()?;
        Ok(Domain { obj, threads, _rest: (pd, hst) })
    }

    /// Sends those capabilities to the thread of a worker: the items that arrive.
    fn send(&self, worker: usize, sels: &[Sel]) -> Result<Vec<Item>, String> {
        for (i, &s) in sels.iter().enumerate() {
            rt::utcb().words[Item::word(i)] = Item::new(s, perm::ALL).0;
        }
        let mtd = Mtd::with_items(0, sels.len());
        done("call", hc::ipc_call_items(self.threads[worker].1.0, mtd))?;
        let u = rt::utcb();
        equal("descriptor", u.words[0], mtd.into())?;
        Ok((0..sels.len()).map(|i| Item(u.words[Item::word(i)])).collect())
    }

    /// Copies our capability to a slot of the domain; without permissions: nulls the slot.
    fn give(&self, from: Sel, to: Sel, perms: u8) -> Result<(), String> {
        // SAFETY: into an object space.
        done("give", unsafe { hc::ctrl_pd(sel::OBJ, self.obj.0, from, to, 0, perms, Mad::WB) })
    }

    /// Whether the domain has that semaphore of ours there.
    fn has(&self, at: Sel, semaphore: Sel) -> Result<bool, String> {
        let copied = Slot::new()?;
        // SAFETY: into an object space.
        done("take", unsafe { hc::ctrl_pd(self.obj.0, sel::OBJ, at, copied.0, 0, perm::ALL, Mad::WB) })?;
        Ok(hc::sm_up(copied.0).is_ok() && !is_zero(&Semaphore::from_sel(semaphore)))
    }
}

fn semaphore() -> Result<Slot, String> {
    let s = Slot::new()?;
    done("create_sm", hc::create_sm(s.0, sel::PD, 0))?;
    Ok(s)
}

const PERMS: u8 = perm::Sm::CTRL_UP.union(perm::Sm::CTRL_DN).bits();

/// What a worker knows: nobody else uses its objects and slots.
struct Mine {
    objects: Vec<Slot>,
    first: Sel,
    /// Object in each slot.
    slots: [Option<usize>; SLOTS as usize],
    /// Which slot stands for each object, once it was seen.
    stands: Vec<Option<u64>>,
}

impl Mine {
    fn new(worker: usize) -> Result<Mine, String> {
        let objects = (0..6).map(|_| semaphore()).collect::<Result<Vec<_>, _>>()?;
        Ok(Mine { stands: vec![None; objects.len()], objects, first: first(worker), slots: [None; SLOTS as usize] })
    }

    /// The slot has that object from now on.
    fn put(&mut self, slot: u64, object: Option<usize>) {
        let old = std::mem::replace(&mut self.slots[slot as usize], object);
        if let Some(o) = old.filter(|o| Some(*o) != object && self.stands[*o] == Some(slot)) {
            self.stands[o] = None;
        }
    }

    /// An item with that object has arrived: as it had to?
    fn arrived(&mut self, object: usize, item: Item) -> Result<(), String> {
        let what = format!("object {object} in {:?}, represented by {:?}", self.slots, self.stands[object]);
        if self.slots.contains(&Some(object)) {
            let slot = item.sel().wrapping_sub(self.first);
            equal(&what, item, Item::arrived(item.sel(), Arrival::Known, PERMS))?;
            equal(&what, self.slots.get(slot as usize), Some(&Some(object)))?;
            equal(&what, slot, *self.stands[object].get_or_insert(slot))
        } else if let Some(slot) = self.slots[..WINDOW as usize].iter().position(Option::is_none) {
            self.put(slot as u64, Some(object));
            self.stands[object] = Some(slot as u64);
            equal(&what, item, Item::arrived(self.first + slot as u64, Arrival::New, PERMS))
        } else {
            equal(&what, item, Item::arrived(0, Arrival::Full, 0))
        }
    }

    fn step(&mut self, random: &mut Random, d: &Domain, worker: usize) -> Result<(), String> {
        let slot = random.below(SLOTS);
        match random.below(4) {
            0 | 1 => {
                let which: Vec<usize> = (0..=random.below(8)).map(|_| random.below(6) as usize).take(8).collect();
                let sels: Vec<Sel> = which.iter().map(|&o| self.objects[o].0).collect();
                let items = d.send(worker, &sels)?;
                which.into_iter().zip(items).try_for_each(|(o, i)| self.arrived(o, i))
            }
            2 => {
                let object = random.below(6) as usize;
                d.give(self.objects[object].0, self.first + slot, perm::ALL)?;
                self.put(slot, Some(object));
                Ok(())
            }
            _ => {
                d.give(0, self.first + slot, 0)?;
                self.put(slot, None);
                Ok(())
            }
        }
    }

    /// The domain has in its slots what it should.
    fn check(&self, d: &Domain) -> Result<(), String> {
        for (slot, object) in (self.first..).zip(self.slots) {
            match object {
                Some(o) => equal(&format!("{slot:#x} has object {o}"), d.has(slot, self.objects[o].0)?, true)?,
                None => equal(&format!("{slot:#x} has something"), d.has(slot, self.objects[0].0)?, false)?,
            }
        }
        Ok(())
    }
}

/// Who may not create ECs of another domain cannot do this.
fn domain(s: &Setting, count: usize) -> Result<Option<Domain>, String> {
    if crate::limits::creates_ecs(s) { Domain::new(s, count).map(Some) } else { Ok(None) }
}

const NOT_HERE: &str =
    "not here: it takes ECs of another domain, which a component with some of the CPUs may not create";

/// Each worker sends, delegates and revokes its own objects in its own slots, all in one object space: what arrives is
/// what a model says.
pub fn in_one_space(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(1));
    let Some(d) = domain(s, count)? else { return Ok(NOT_HERE.into()) };
    s.all_pass(count, |i| {
        let (mut random, mut mine) = (s.random(i), Mine::new(i)?);
        (0..rounds).try_for_each(|_| mine.step(&mut random, &d, i))?;
        mine.check(&d)
    })?;
    Ok(format!("{} steps", rounds * count as u64))
}

/// All workers send a new object at the same time: it has one selector, and is new to one of them.
pub fn of_one_object(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(4));
    let Some(d) = domain(s, count)? else { return Ok(NOT_HERE.into()) };
    let (barrier, object) = (Barrier::new(count), Slot::new()?);
    let items: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    s.all_pass(count, |i| {
        for round in 0..rounds {
            if i == 0 {
                done("create_sm", hc::create_sm(object.0, sel::PD, 0))?;
            }
            barrier.wait();
            // Failures end the round for all.
            let item = d.send(i, &[object.0]).map_or(Item::default(), |a| a[0]);
            items[i].store(item.0, SeqCst);
            barrier.wait();
            let all: Vec<Item> = items.iter().map(|a| Item(a.load(SeqCst))).collect();
            barrier.wait();
            if i == 0 {
                d.give(0, item.sel(), 0)?;
                done("revoke", copy(object.0, object.0, 0))?;
            }
            let new = all.iter().filter(|a| a.arrival() == Some(Arrival::New)).count();
            let known = all.iter().filter(|a| a.arrival() == Some(Arrival::Known)).count();
            equal(&format!("round {round}: new, known"), (new, known), (1, count - 1))?;
            equal("selectors", all.iter().all(|a| a.sel() == all[0].sel()), true)?;
        }
        Ok(())
    })?;
    Ok(format!("{rounds} objects, {count} senders"))
}

/// Half of the workers send an object that is there all the time, while the others put and take further capabilities to
/// it: it is always known, by the selector that was first.
pub fn known(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers() & !1, s.part(1));
    let Some(d) = domain(s, count)? else { return Ok(NOT_HERE.into()) };
    let (object, home) = (semaphore()?, first(count));
    d.give(object.0, home, perm::ALL)?;
    s.all_pass(count, |i| {
        for round in 0..rounds {
            if i < count / 2 {
                let item = d.send(i, &[object.0])?[0];
                equal("item", item, Item::arrived(home, Arrival::Known, PERMS))?;
            } else {
                let perms = if round % 2 == 0 { perm::ALL } else { 0 };
                d.give(object.0, first(i) + round / 2 % SLOTS, perms)?;
            }
        }
        Ok(())
    })?;
    Ok(format!("{} times", rounds * count as u64 / 2))
}

/// Half of the workers send new objects to threads whose windows the others, on other CPUs, move to and fro.
pub fn windows(s: &Setting) -> Outcome {
    if s.cpus.len() == 1 {
        return Ok(format!("{}one CPU", crate::work::NOT_HERE));
    }
    let (count, rounds) = (s.workers() & !1, s.part(1));
    let Some(d) = domain(s, count)? else { return Ok(NOT_HERE.into()) };
    let ends: Vec<AtomicBool> = (0..count / 2).map(|_| AtomicBool::new(false)).collect();
    s.all_pass(count, |i| {
        let (pair, thread) = (i / 2, i & !1);
        let places = [first(thread), first(thread) + WINDOW];
        if i != thread {
            for n in (0..).take_while(|_| !ends[pair].load(SeqCst)) {
                done("set_window", hc::set_window(d.threads[thread].0.0, places[n % 2], 1))?;
            }
            return Ok(());
        }
        let work = (0..rounds).try_for_each(|_| {
            let object = semaphore()?;
            let item = d.send(i, &[object.0])?[0];
            equal("item", (item.arrival(), places.contains(&item.sel())), (Some(Arrival::New), true))?;
            equal("the object is there", d.has(item.sel(), object.0)?, true)?;
            d.give(0, item.sel(), 0)
        });
        ends[pair].store(true, SeqCst);
        work
    })?;
    Ok(format!("{} objects", rounds * count as u64 / 2))
}
