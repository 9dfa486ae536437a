//! docs/spec/set_window.md.

use crate::check::{Check, Outcome, done, equal, refused};
use crate::foreign::{Foreign, WINDOW};
use crate::scene::Slot;
use crate::transfer::{same, sm};
use abi::{Arrival, Item, SEL_NUM, Sel, Status, perm};
use parent::sel;
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    (
        "set_window-3 set_window-4 set_window-7",
        "a window is set, replaced, taken away; at first there is none",
        replaced,
    ),
    ("set_window-5", "what is in its slots stays", occupied),
    ("set_window-2", "64 slots, at the end of the object space, fill up one after the other", largest),
    (
        "set_window-6 abi-166 spaces-70",
        "tables are made when it is set, and paid for by the object space; not later",
        tables,
    ),
    ("set_window-10", "MEM_CAP: no memory for the tables; the window is as it was", no_memory),
    ("set_window-1 set_window-8", "BAD_CAP: null, beyond SEL_NUM, wrong type, no CTRL", bad_cap),
    ("set_window-8", "BAD_CAP: a virtual CPU", virtual_cpu),
    ("set_window-9", "BAD_PAR: more than 64 slots, beyond SEL_NUM", bad_par),
];

/// A new semaphore sent there arrives like that.
fn arrives(what: &str, f: &Foreign, sel: Sel) -> Outcome {
    let a = Slot::sm(0)?;
    equal(what, f.send_one(a.0)?, sm(sel, Arrival::New))?;
    same(what, a.0, f.taken(sel)?.0)
}

/// Nothing arrives.
fn closed(what: &str, f: &Foreign) -> Outcome {
    let a = Slot::sm(0)?;
    equal(what, abi::Mtd::item_count(f.send(&[Item::new(a.0, perm::ALL)])?.mtd), 0)
}

fn replaced() -> Outcome {
    let f = Foreign::without_window()?;
    closed("at first", &f)?;
    done("set", hc::set_window(f.ec.0, WINDOW, 2))?;
    arrives("first", &f, WINDOW)?;
    done("set", hc::set_window(f.ec.0, 3, 1))?;
    arrives("elsewhere", &f, 3)?;
    done("set", hc::set_window(f.ec.0, WINDOW, 2))?;
    arrives("back", &f, WINDOW + 1)?;
    done("none", hc::set_window(f.ec.0, WINDOW + 2, 0))?;
    closed("none", &f)?;
    done("of 0 slots, at the end", hc::set_window(f.ec.0, SEL_NUM, 0))?;
    closed("none", &f)
}

fn occupied() -> Outcome {
    let (f, a, b) = (Foreign::new(0)?, Slot::sm(0)?, Slot::sm(0)?);
    f.give(a.0, WINDOW, perm::Sm::CTRL_UP.bits())?;
    f.give(b.0, WINDOW + 1, perm::ALL)?;
    done("set", hc::set_window(f.ec.0, WINDOW, 3))?;
    arrives("the first null slot", &f, WINDOW + 2)?;
    same("second", b.0, f.taken(WINDOW + 1)?.0)?;
    let first = f.taken(WINDOW)?;
    same("first", first.0, a.0)?;
    refused("down on the first", hc::sm_down(first.0, true, Some(1)), Status::BadCap)
}

fn largest() -> Outcome {
    let f = Foreign::new(0)?;
    done("set", hc::set_window(f.ec.0, SEL_NUM - 64, 64))?;
    (SEL_NUM - 64..SEL_NUM).try_for_each(|s| arrives("in its turn", &f, s))?;
    let a = Slot::sm(0)?;
    equal("full", f.send_one(a.0)?, Item::arrived(0, Arrival::Full, 0))
}

fn used(f: &Foreign) -> Result<u64, String> {
    Ok(done("read_quota", hc::read_quota(f.pd.0))?.1)
}

/// It has no unused frame.
fn exhaust(f: &Foreign) -> Outcome {
    let (limit, used) = done("read_quota", hc::read_quota(f.pd.0))?;
    done("move_quota", hc::move_quota(f.pd.0, sel::PD, limit - used))
}

fn tables() -> Outcome {
    let f = Foreign::with_frames(64, 0)?;
    let none = used(&f)?;
    done("none", hc::set_window(f.ec.0, 0x3000, 0))?;
    equal("of no slots", used(&f)? - none, 0)?;
    done("one slot", hc::set_window(f.ec.0, 0x2000, 1))?;
    equal("512 slots and their part of the index", used(&f)? - none, 2)?;
    done("the same table", hc::set_window(f.ec.0, 0x21c0, 64))?;
    equal("no more", used(&f)? - none, 2)?;
    done("two tables, one of them new", hc::set_window(f.ec.0, 0x21c1, 64))?;
    equal("one more", used(&f)? - none, 4)?;
    exhaust(&f)?;
    let before = used(&f)?;
    for s in 0x21c1..0x2201 {
        arrives("without unused frames", &f, s)?;
    }
    equal("used", used(&f)?, before)
}

fn no_memory() -> Outcome {
    let f = Foreign::with_frames(64, 2)?;
    let before = used(&f)?;
    exhaust(&f)?;
    refused("no frame", hc::set_window(f.ec.0, 0x2000, 1), Status::MemCap)?;
    equal("used", used(&f)?, before)?;
    done("a frame", hc::move_quota(sel::PD, f.pd.0, 1))?;
    refused("one of two frames", hc::set_window(f.ec.0, 0x2000, 1), Status::MemCap)?;
    equal("used", used(&f)?, before)?;
    arrives("the old window", &f, WINDOW)?;
    done("a frame", hc::move_quota(sel::PD, f.pd.0, 1))?;
    done("with two", hc::set_window(f.ec.0, 0x2000, 1))?;
    arrives("the new window", &f, 0x2000)
}

fn bad_cap() -> Outcome {
    let (f, null, a) = (Foreign::new(1)?, Slot::new(), Slot::sm(0)?);
    let weak = Slot::masked(f.ec.0, perm::ALL & !perm::Ec::CTRL.bits())?;
    for (what, s) in [
        ("null", null.0),
        ("SEL_NUM", SEL_NUM),
        ("a selector of 56 bits", (1 << 56) - 1),
        ("own PD", sel::PD),
        ("a semaphore", a.0),
        ("its portal", f.portal.0),
        ("no CTRL", weak.0),
    ] {
        refused(what, hc::set_window(s, 3, 1), Status::BadCap)?;
        refused(what, hc::set_window(s, 3, 0), Status::BadCap)?;
    }
    arrives("the window", &f, WINDOW)
}

fn virtual_cpu() -> Outcome {
    let (pd, ec) = (Foreign::new(0)?, Slot::new());
    let args = hc::EcArgs { utcb_page: 0x9000, cpu: crate::scene::cpu(), guest: true, ..hc::EcArgs::default() };
    // SAFETY: of another domain.
    match unsafe { hc::create_ec(ec.0, pd.pd.0, args) } {
        Err(Status::BadFtr) => Err(format!("{}no guests", crate::check::NOT_HERE)),
        other => {
            done("create_ec", other)?;
            refused("virtual CPU", hc::set_window(ec.0, 3, 1), Status::BadCap)
        }
    }
}

fn bad_par() -> Outcome {
    let f = Foreign::new(1)?;
    for (what, first, slots) in [
        ("65 slots", 3, 65),
        ("all slots", 0, SEL_NUM),
        ("2^64 - 1 slots", 3, u64::MAX),
        ("2^63 slots", 0, 1 << 63),
        ("SEL_NUM", SEL_NUM, 1),
        ("one too many", SEL_NUM - 63, 64),
        ("wrapping", u64::MAX, 2),
        ("far beyond", 1 << 40, 1),
        ("far beyond, of no slots", 1 << 40, 0),
    ] {
        refused(what, hc::set_window(f.ec.0, first, slots), Status::BadPar)?;
    }
    arrives("the window", &f, WINDOW)
}
