//! docs/spec/abi.md, typed items: capabilities in messages, and what becomes of them.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::foreign::{Foreign, Got, ITEMS, NO_WAIT, WHOLE, WINDOW};
use crate::scene::{Local, Slot, copy, server};
use abi::{Arrival, Item, Mtd, Sel, Status, perm};
use rt::hypercall as hc;
use std::arch::asm;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    (
        "abi-150 abi-155 abi-159 abi-160 ipc_call-21 set_window-2",
        "an object that the receiver does not know arrives at the first null slot of the window",
        new,
    ),
    ("abi-152 abi-154", "one that it knows: as the capability that it has, unchanged", known),
    ("abi-152 abi-153", "of several capabilities to one object always the same arrives, while it is there", duplicates),
    ("abi-153", "replacing a capability by one to the same object leaves it the one that arrives", replaced),
    ("abi-156", "nothing arrives of a null capability, nor of one without permissions; no slot changes", null),
    ("abi-157", "a full window: the message and all other items arrive", full),
    ("abi-158", "the same object twice in a message: new, then known; eight items", twice),
    ("abi-159", "items take the place of words; the sender's UTCB stays", words),
    ("abi-151 abi-161", "a receiver without a window: no items, and no word or slot of it changes", no_window),
    (
        "abi-162 abi-163",
        "without C there are no items for a window; without a window the bits travel as they are",
        no_flag,
    ),
    ("abi-164", "a sender with the receiver's object space", own_space),
    ("ipc_call-23 ipc_reply-16", "items in a reply, to a caller with a window or without", reply),
    ("ipc_reply-17", "a reply with more than 8 items has 8", long_reply),
    ("ipc_call-22", "BAD_PAR: more than 8 items; nobody was called", too_many),
    ("ipc_call-21", "a refused call passes no capability", refused_calls),
    ("abi-165", "events and their replies have no items", events),
    ("abi-167 objects-47", "what has arrived counts as any capability", lifetime),
    ("abi-168", "every kind of object travels, and is known by any of its capabilities", kinds),
];

/// The two are capabilities to one semaphore.
pub fn same(what: &str, a: Sel, b: Sel) -> Outcome {
    done(what, hc::sm_up(a))?;
    done(what, hc::sm_down(b, true, Some(1)))
}

/// An item that arrived with all permissions that a semaphore has.
pub fn sm(sel: Sel, how: Arrival) -> Item {
    Item::arrived(sel, how, (perm::Sm::CTRL_UP | perm::Sm::CTRL_DN).bits())
}

const UP: u8 = perm::Sm::CTRL_UP.bits();

/// It has nothing there.
fn is_null(f: &Foreign, sel: Sel) -> Outcome {
    refused(&format!("slot {sel:#x} of the receiver"), hc::sm_up(f.taken(sel)?.0), Status::BadCap)
}

fn new() -> Outcome {
    let (f, a, b) = (Foreign::new(4)?, Slot::sm(0)?, Slot::sm(0)?);
    let got = f.send(&[Item(Item::new(a.0, perm::ALL).0 | 0xfe0), Item::new(b.0, UP)])?;
    equal("items", got.items(2), vec![sm(WINDOW, Arrival::New), Item::arrived(WINDOW + 1, Arrival::New, UP)])?;
    equal("items by the descriptor", Mtd::item_count(got.mtd), 2)?;
    same("first", a.0, f.taken(WINDOW)?.0)?;
    let second = f.taken(WINDOW + 1)?;
    same("second", second.0, b.0)?;
    refused("down by way of the second", hc::sm_down(second.0, true, Some(1)), Status::BadCap)?;
    // A gap is filled.
    f.give(0, WINDOW, 0)?;
    let c = Slot::sm(0)?;
    equal("the first slot is null again", f.send_one(c.0)?, sm(WINDOW, Arrival::New))?;
    same("third", c.0, f.taken(WINDOW)?.0)
}

fn known() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    f.give(a.0, 77, UP)?;
    let other = Slot::masked(a.0, perm::Sm::CTRL_DN.bits())?;
    let want = Item::arrived(77, Arrival::Known, UP);
    for (what, item) in [
        ("more permissions", Item::new(a.0, perm::ALL)),
        ("another selector, other permissions", Item::new(other.0, perm::ALL)),
    ] {
        equal(what, f.send(&[item])?.item(0), want)?;
        let has = f.taken(77)?;
        same("it has", has.0, a.0)?;
        refused("down", hc::sm_down(has.0, true, Some(1)), Status::BadCap)?;
    }
    is_null(&f, WINDOW)
}

fn duplicates() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    let mut at = vec![5, 600, 7];
    at.iter().try_for_each(|&s| f.give(a.0, s, perm::ALL))?;
    while !at.is_empty() {
        let i = f.send_one(a.0)?;
        holds(&format!("{i:x?} is one of {at:x?}"), at.contains(&i.sel()) && i == sm(i.sel(), Arrival::Known))?;
        equal("again", f.send_one(a.0)?, i)?;
        f.give(a.0, 8, perm::ALL)?;
        equal("with one more", f.send_one(a.0)?, i)?;
        f.give(0, 8, 0)?;
        equal("with one less", f.send_one(a.0)?, i)?;
        f.give(0, i.sel(), 0)?;
        at.retain(|&s| s != i.sel());
    }
    equal("when all are gone", f.send_one(a.0)?, sm(WINDOW, Arrival::New))
}

fn replaced() -> Outcome {
    let (f, a, b) = (Foreign::new(4)?, Slot::sm(0)?, Slot::sm(0)?);
    f.give(a.0, 5, perm::ALL)?;
    f.give(a.0, 6, perm::ALL)?;
    let first = f.send_one(a.0)?.sel();
    f.give(a.0, first, UP)?;
    equal("with other permissions", f.send_one(a.0)?, Item::arrived(first, Arrival::Known, UP))?;
    f.give(b.0, first, perm::ALL)?;
    equal("another object", f.send_one(b.0)?, sm(first, Arrival::Known))?;
    equal("the other capability", f.send_one(a.0)?, sm(11 - first, Arrival::Known))
}

fn null() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    let (null, up) = (Slot::new(), Slot::masked(a.0, UP)?);
    for (what, item) in [
        ("null", Item::new(null.0, perm::ALL)),
        ("SEL_NUM", Item::new(abi::SEL_NUM, perm::ALL)),
        ("the last selector that an item can have", Item::new((1 << 52) - 1, perm::ALL)),
        ("no permission in the item", Item::new(a.0, 0)),
        ("none of the capability's", Item::new(up.0, !UP)),
    ] {
        let got = f.send(&[item])?;
        equal(what, (got.item(0), Mtd::item_count(got.mtd)), (Item::default(), 1))?;
        is_null(&f, WINDOW)?;
    }
    f.give(a.0, 9, perm::ALL)?;
    equal("null though it is known", f.send(&[Item::new(a.0, 0)])?.item(0), Item::default())
}

fn full() -> Outcome {
    let (f, a, b, c) = (Foreign::new(2)?, Slot::sm(0)?, Slot::sm(0)?, Slot::sm(0)?);
    let all = |s: &Slot| Item::new(s.0, perm::ALL);
    let got = f.send(&[all(&a), all(&b), all(&c), all(&a)])?;
    let full = Item::arrived(0, Arrival::Full, 0);
    let want = [sm(WINDOW, Arrival::New), sm(WINDOW + 1, Arrival::New), full, sm(WINDOW, Arrival::Known)];
    equal("items", got.items(4), want.to_vec())?;
    equal("words", got.words[1], WHOLE.into())?;
    is_null(&f, WINDOW + 2)?;
    equal("later", f.send_one(c.0)?, full)
}

fn twice() -> Outcome {
    let (f, a, b) = (Foreign::new(8)?, Slot::sm(0)?, Slot::sm(0)?);
    let copied = Slot::masked(a.0, UP)?;
    let order = [&a, &b, &a, &copied, &b, &b, &a, &copied];
    let got = f.send(&order.map(|s| Item::new(s.0, perm::ALL)))?;
    let want = order.iter().enumerate().map(|(i, s)| {
        sm(if s.0 == b.0 { WINDOW + 1 } else { WINDOW }, if i < 2 { Arrival::New } else { Arrival::Known })
    });
    equal("items", got.items(8), want.collect())?;
    equal("their number", Mtd::item_count(got.mtd), 8)?;
    is_null(&f, WINDOW + 2)
}

fn words() -> Outcome {
    let (f, a) = (Foreign::new(1)?, Slot::sm(0)?);
    let items = [Item::new(a.0, perm::ALL); 8];
    rt::utcb().words[3..504].iter_mut().enumerate().for_each(|(i, w)| *w = !(i as u64));
    let mtd = Mtd::with_items(WHOLE, 8);
    let got = done("call", f.call(ITEMS, mtd, &items, (WHOLE, 0)))?;
    equal("descriptor", got.mtd, mtd)?;
    equal("words", got.words[3..504].to_vec(), (0..501).map(|i| !i).collect())?;
    equal("first item", got.item(0), sm(WINDOW, Arrival::New))?;
    equal("others", got.items(8)[1..].to_vec(), vec![sm(WINDOW, Arrival::Known); 7])?;
    let got = done("call", f.call(ITEMS, mtd, &items, (Mtd::words(1), 0)))?;
    equal("what the sender has at the end of its UTCB", got.items(8), items.to_vec())
}

const OTHER_BITS: u32 = 0xa5f0_0000;

fn no_window() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    let before = f.send(&[])?.items(8);
    done("no window", hc::set_window(f.ec.0, 0, 0))?;
    let items = [Item::new(a.0, perm::ALL); 3];
    let mtd = Mtd::with_items(Mtd::words(3) | OTHER_BITS, 3);
    let got = done("call", f.call(ITEMS, mtd, &items, (WHOLE, 0)))?;
    equal("descriptor", got.mtd, Mtd::words(3) | OTHER_BITS)?;
    equal("words at the places of items", got.items(8), before)?;
    is_null(&f, WINDOW)
}

fn no_flag() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    let items = [Item::new(a.0, perm::ALL)];
    let mtd = Mtd::with_items(Mtd::words(3) | OTHER_BITS, 15);
    let got = done("to a window", f.call(0, mtd, &items, (WHOLE, 0)))?;
    equal("descriptor", got.mtd, Mtd::words(3) | OTHER_BITS)?;
    is_null(&f, WINDOW)?;
    // Words that look like items are words.
    let got = done("512 words", f.call(0, Mtd::with_items(WHOLE, 1), &items, (WHOLE, 0)))?;
    equal("word", (got.item(0), got.mtd), (items[0], WHOLE))?;
    done("no window", hc::set_window(f.ec.0, 0, 0))?;
    equal("descriptor without window", done("call", f.call(0, mtd, &items, (WHOLE, 0)))?.mtd, mtd)
}

fn own_space() -> Outcome {
    let (t, pt) = server(Box::new(|_, mtd, u| {
        u.words[0] = mtd.into();
        u.words[1] = u.words[Item::word(0)];
        Mtd::words(2)
    }))?;
    let (a, window) = (Slot::sm(0)?, Slot::new());
    let other = Slot::masked(a.0, UP)?;
    done("set_window", hc::set_window(t.sel(), window.0, 1))?;
    for s in [a.0, other.0] {
        rt::utcb().words[Item::word(0)] = Item::new(s, perm::ALL).0;
        done("call", hc::ipc_call_items(pt.0, Mtd::with_items(0, 1)))?;
        let arrived = Item(rt::utcb().words[1]);
        equal("items", Mtd::item_count(rt::utcb().words[0] as u32), 1)?;
        equal("the one of our two that was there first", arrived, sm(a.0, Arrival::Known))?;
    }
    refused("window", hc::sm_up(window.0), Status::BadCap)
}

/// A window of our own thread, as long as it lives.
struct Own(Sel);

const OWN: u64 = 4;

impl Own {
    fn new() -> Result<Own, String> {
        let first = rt::sel::alloc_range(OWN, 1).ok_or("no selectors")?;
        done("set_window", hc::set_window(parent::sel::EC, first, OWN))?;
        Ok(Own(first))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        hc::set_window(parent::sel::EC, 0, 0).expect("no window");
        rt::sel::free_range(self.0, OWN);
    }
}

fn reply() -> Outcome {
    let (f, known) = (Foreign::new(0)?, Slot::sm(0)?);
    // An object of which we keep no capability.
    let away = Slot::sm(0)?;
    f.give(away.0, 10, perm::ALL)?;
    drop(away);
    f.give(known.0, 11, UP)?;
    let items = [10, 11, 12, 10].map(|s| Item::new(s, perm::ALL));
    let ask = |own: bool, flags: u8| -> Result<Got, String> {
        let reply = Mtd::with_items(Mtd::words(3) | OTHER_BITS, 4);
        let got = done("call", f.call(0, WHOLE, &items, (reply, flags)))?;
        let count = if own && flags & ITEMS != 0 { 4 } else { 0 };
        let want = if own || flags & ITEMS != 0 { Mtd::with_items(reply, count) } else { reply };
        equal("descriptor of the reply", got.reply, want)?;
        Ok(got)
    };
    // The session of the log has left one.
    done("no window", hc::set_window(parent::sel::EC, 0, 0))?;
    for flags in [0, ITEMS] {
        equal("without a window", ask(false, flags)?.items(4), items.to_vec())?;
    }
    let own = Own::new()?;
    equal("without C", ask(true, 0)?.items(4), items.to_vec())?;
    let want = [sm(own.0, Arrival::New), sm(known.0, Arrival::Known), Item::default(), sm(own.0, Arrival::Known)];
    equal("items", ask(true, ITEMS)?.items(4), want.to_vec())?;
    same("what arrived", own.0, f.taken(10)?.0)
}

fn long_reply() -> Outcome {
    let (f, a, own) = (Foreign::new(0)?, Slot::sm(0)?, Own::new()?);
    f.give(a.0, 10, perm::ALL)?;
    let items = [Item::new(10, perm::ALL); 15];
    for n in [9, 15] {
        let got = done("call", f.call(0, WHOLE, &items, (Mtd::with_items(Mtd::words(3), n), ITEMS)))?;
        equal("number", Mtd::item_count(got.reply), 8)?;
        equal("items", got.items(8), vec![sm(a.0, Arrival::Known); 8])?;
        equal("what follows", got.items(15)[8..].to_vec(), items[8..].to_vec())?;
    }
    refused("window", hc::sm_up(own.0), Status::BadCap)
}

fn too_many() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(0)?);
    let before = f.send(&[])?.words[3..].to_vec();
    let items = [Item::new(a.0, perm::ALL); 15];
    for n in 9..16 {
        let mtd = Mtd::with_items(WHOLE, n);
        for flags in [ITEMS, ITEMS | NO_WAIT] {
            refused(&format!("{n} items"), f.call(flags, mtd, &items, (WHOLE, 0)), Status::BadPar)?;
        }
    }
    is_null(&f, WINDOW)?;
    equal("the callee's UTCB", f.send(&[])?.words[3..].to_vec(), before)
}

extern "C" fn dies(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception without a handler, which kills this thread.
    unsafe { asm!("ud2", options(noreturn)) }
}

fn refused_calls() -> Outcome {
    let (f, a, window) = (Foreign::new(4)?, Slot::sm(0)?, Slot::new());
    let weak = Slot::masked(f.portal.0, (perm::Pt::CTRL | perm::Pt::EVENT).bits())?;
    rt::utcb().words[Item::word(0)] = Item::new(a.0, perm::ALL).0;
    refused("no CALL", hc::ipc_call_items(weak.0, Mtd::with_items(2, 1)), Status::BadCap)?;
    is_null(&f, WINDOW)?;
    let dead = Local::new(dies, None)?;
    refused("call that kills", dead.call(&[0]), Status::Aborted)?;
    done("a window of the dead", hc::set_window(dead.ec.0, window.0, 1))?;
    rt::utcb().words[Item::word(0)] = Item::new(a.0, perm::ALL).0;
    refused("dead callee", hc::ipc_call_items(dead.portal.0, Mtd::with_items(0, 1)), Status::Aborted)?;
    refused("window", hc::sm_up(window.0), Status::BadCap)
}

static SEEN: AtomicU64 = AtomicU64::new(0);
/// Groups of virtual CPUs that look like four items.
const GROUPS: u32 = Mtd::CR.bits();

/// Answers an exception: goes on at R9, with flag C and groups that look like items.
extern "C" fn handler(_: u64, mtd: u64, u: *mut u64) -> u64 {
    SEEN.store(mtd, SeqCst);
    // SAFETY: the own UTCB with RIP at 0x88, R9 at 0x48.
    unsafe { u.add(0x11).write_volatile(u.add(9).read_volatile()) };
    u64::from(Mtd::RIP.bits() | GROUPS) | u64::from(ITEMS) << 32
}

/// Raises #UD; replies with the word of the first item.
extern "C" fn raises(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the handler goes on behind the instruction; the own UTCB.
    unsafe {
        u.add(Item::word(0)).write_volatile(0x5a5a);
        asm!("lea r9, [rip + 3f]", "ud2", "3:", out("r9") _, out("rax") _);
        u.write_volatile(u.add(Item::word(0)).read_volatile());
    }
    0
}

fn events() -> Outcome {
    let (h, l, window) = (Local::new(handler, None)?, Local::new(raises, None)?, Slot::new());
    done("set_window", hc::set_window(h.ec.0, window.0, 1))?;
    done("set_window", hc::set_window(l.ec.0, window.0, 1))?;
    let mtd = (Mtd::RIP | Mtd::GPR_8_15).bits() | GROUPS;
    let portal = Slot::masked(h.portal.0, perm::ALL)?;
    done("ctrl_pt", hc::ctrl_pt(portal.0, 6, mtd))?;
    done("event portal", copy(portal.0, l.events.base + 6, perm::ALL))?;
    equal("word of the thread", done("call", l.call(&[0]))?, vec![0x5a5a])?;
    equal("descriptor of the event", SEEN.load(SeqCst), mtd.into())
}

fn lifetime() -> Outcome {
    let (f, a) = (Foreign::new(4)?, Slot::sm(3)?);
    let arrived = f.send_one(a.0)?;
    done("the sender's goes", copy(a.0, a.0, 0))?;
    let (back, own) = (Slot::new(), Own::new()?);
    let item = f.ask(Item::new(arrived.sel(), perm::ALL))?;
    equal("it comes back", item, sm(own.0, Arrival::New))?;
    done("its counter", hc::sm_down(item.sel(), true, Some(1)))?;
    done("copy", copy(item.sel(), back.0, perm::ALL))?;
    f.give(0, arrived.sel(), 0)?;
    is_null(&f, arrived.sel())?;
    same("ours is still there", item.sel(), back.0)
}

fn kinds() -> Outcome {
    let f = Foreign::new(16)?;
    let t = Foreign::new(0)?;
    let ids = parent::sel::SC;
    let all = [t.pd.0, t.obj.0, t.ec.0, t.portal.0, ids, parent::sel::HST];
    for (i, &s) in all.iter().enumerate() {
        let item = f.send_one(s)?;
        equal("where and how", (item.sel(), item.arrival()), (WINDOW + i as u64, Some(Arrival::New)))?;
        let again = f.send_one(s)?;
        equal("again", again, Item::arrived(item.sel(), Arrival::Known, item.perms()))?;
    }
    // The space holds itself now and would stay.
    f.give(0, WINDOW, 0)
}
