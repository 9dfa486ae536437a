//! A way to touch ports that may not be ours.

use crate::check::{Outcome, done, equal};
use crate::own::sel;
use crate::scene::{Events, Local, React, Slot, THREAD, THREAD_EVENTS, memory, poke};
use crate::{early, firmware};
use abi::{CreatePdOp, Mad, Mtd, perm};
use rt::hypercall::{self as hc, EcArgs};
use std::arch::asm;
use std::sync::{Arc, Mutex, OnceLock};

/// As an entry of a table of checks; [`none_yet`] runs before all else.
pub const NONE_YET: (&str, &str) = ("boot-39", "the PIO space is empty at boot");

/// Reads the port in its first word; an exception goes on at the address in R9.
extern "C" fn reader(_: u64, _: u64, u: *mut u64) -> u64 {
    // SAFETY: the own UTCB; the access is the purpose.
    unsafe {
        let port = u.read_volatile();
        asm!("lea r9, [rip + 2f]", "in al, dx", "2:", in("dx") port as u16, out("al") _, out("r9") _);
    }
    0
}

/// The exception that reading a port raises, if any.
pub fn read(port: u16) -> Result<Option<u64>, String> {
    static READER: OnceLock<(Local, Arc<Mutex<Option<u64>>>)> = OnceLock::new();
    let (local, seen) = READER.get_or_init(|| {
        let seen = Arc::new(Mutex::new(None));
        let s = seen.clone();
        let react: React = Box::new(move |event, state| {
            *s.lock().expect("seen") = Some(event);
            state.rip = state.gpr[9];
            Mtd::RIP
        });
        (Local::new(reader, Some(react)).expect("a thread that reads"), seen)
    });
    *seen.lock().expect("seen") = None;
    done("call of the thread that reads", local.call(&[port.into()]))?;
    Ok(*seen.lock().expect("seen"))
}

/// As [`NONE_YET`].
pub const OTHER_DOMAIN: (&str, &str) = (
    "create_ec-9 create_pd-12 objects-3 objects-4",
    "an EC has the spaces of its PD: portals, memory, and the first PIO space",
);

/// A thread of another PD, with our code and a stack, that reads ports of that PD's first PIO space. The second PIO space
/// makes no difference, nor does ours. What it cannot read is an event at portals of its own object space.
pub fn other_domain() -> Outcome {
    let pd = Slot::pd(CreatePdOp::Pd, sel::PD)?;
    let (obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
    let (first, second) = (Slot::pd(CreatePdOp::Pio, pd.0)?, Slot::pd(CreatePdOp::Pio, pd.0)?);
    let (stack, utcb) = (memory(4096, 4096), 0x7000_0000);
    poke(stack + 4096 - 16, utcb);
    poke(stack + 4096 - 8, reader as *const () as u64);
    let give = |src, dst, from: u64, to: u64, perms| {
        // SAFETY: into spaces of another PD.
        done("delegation", unsafe { hc::ctrl_pd(src, dst, from, to, 0, perms, Mad::WB) })
    };
    for page in early::image_start() >> 12..early::image_end().div_ceil(4096) {
        give(sel::HST, hst.0, page, page, (perm::Mem::R | perm::Mem::XU).bits())?;
    }
    give(sel::HST, hst.0, stack >> 12, stack >> 12, (perm::Mem::R | perm::Mem::W).bits())?;
    give(firmware::ports(), first.0, 0x80, 0x80, 1)?;
    give(firmware::ports(), second.0, 0x82, 0x82, 1)?;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let s = seen.clone();
    let react: React = Box::new(move |event, state| {
        s.lock().expect("seen").push(event);
        state.rip = state.gpr[9];
        Mtd::RIP
    });
    let events = Events::new(THREAD_EVENTS, THREAD, Some(react))?;
    for n in 0..THREAD_EVENTS {
        give(sel::OBJ, obj.0, events.base + n, 0x40 + n, perm::ALL)?;
    }
    let (ec, pt) = (Slot::new(), Slot::new());
    let args = EcArgs { utcb_page: utcb, sp: stack + 4096 - 16, evt: 0x40, ..EcArgs::default() };
    // SAFETY: it runs in the memory of its own PD.
    unsafe {
        done("create_ec", hc::create_ec(ec.0, pd.0, args))?;
        done("create_pt", hc::create_pt(pt.0, sel::PD, ec.0, crate::scene::entry()))?;
    }
    for (port, events) in [(0x80, 0), (0x82, 1), (0x3f8, 2), (0x80, 2)] {
        done("call", crate::scene::call(pt.0, &[port], false))?;
        equal(&format!("events after port {port:#x}"), seen.lock().expect("seen").len(), events)?;
    }
    equal("events", seen.lock().expect("seen").clone(), vec![13, 13])?;
    // A later thread of this PD has the same.
    equal("ours", read(0x80)?, GP)
}

/// General protection.
pub const GP: Option<u64> = Some(13);

/// No port can be read.
pub fn none_yet() -> Outcome {
    for port in (0..0x400).chain((0x400..=0xffff).step_by(61)).chain([0xcf8, 0xcf9, 0xffff]) {
        equal(&format!("port {port:#x}"), read(port)?, GP)?;
    }
    Ok(())
}
