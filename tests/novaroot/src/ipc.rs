//! Calls and replies [5.2].

use crate::nova::{Status, call, on, root, utcb};
use crate::world::{Handler, World, entry, sel, stack, utcb_of};
use crate::{Verdict, check};

/// Slots of the threads here.
const SLOT: usize = 8;

/// Adds one to each word, and answers with a word less.
extern "C" fn echo(utcb: &mut [u64; utcb::WORDS], words: u64) -> u64 {
    for word in utcb.iter_mut().take(words as usize + 1) {
        *word += 1;
    }
    words.saturating_sub(1)
}

fn own(w: &World) -> *mut u64 {
    (w.hip.0 - 0x1000) as *mut u64
}

/// What is in a word of our UTCB.
fn word(w: &World, i: usize) -> u64 {
    // SAFETY: our UTCB is mapped for good.
    unsafe { own(w).add(i).read_volatile() }
}

fn fill(w: &World) {
    for i in 0..utcb::WORDS {
        // SAFETY: as above.
        unsafe { own(w).add(i).write_volatile(i as u64 * 3) };
    }
}

/// A message there and another back.
pub fn call_and_reply(w: &World) -> Verdict {
    let (ec, pt) = (sel::FREE, sel::FREE + 1);
    check!(w.local(ec, w.hip.cpu_bsp(), SLOT) == Status::Success);
    check!(w.portal(pt, ec, echo, 0) == Status::Success);
    for words in [1, 2, 64, utcb::WORDS] {
        fill(w);
        let (status, answer) = on(call::IPC_CALL, pt, [words as u64 - 1, 0, 0, 0]);
        check!(status == Status::Success, status as u8);
        let reply = words.saturating_sub(2) + 1;
        check!(answer == reply as u64 - 1, answer);
        for i in 0..reply {
            check!(word(w, i) == i as u64 * 3 + 1, word(w, i));
        }
    }
    let (status, _) = on(call::IPC_CALL_T, pt, [0; 4]);
    check!(status == Status::Success, status as u8);
    w.empty(sel::FREE, 1);
    Verdict::Ok
}

/// The same thread code in another protection domain: it has only the memory that it was given.
pub fn other_domain(w: &World) -> Verdict {
    let (pd, obj, hst, ec, pt) = (sel::FREE, sel::FREE + 1, sel::FREE + 2, sel::FREE + 3, sel::FREE + 4);
    for (id, at, owner) in [(call::PD, pd, w.root(root::PD)), (call::OBJ, obj, pd), (call::HST, hst, pd)] {
        let (status, _) = on(id, at, [owner, 0, 0, 0]);
        check!(status == Status::Success, status as u8);
    }
    let (first, end) = image();
    for page in first..end {
        check!(w.delegate((sel::ROOT_HST, page), (hst, page), 0, 0x1f) == Status::Success, page);
    }
    let hvp = utcb_of(SLOT + 1) as u64 | w.hip.cpu_bsp();
    check!(on(call::EC_LOCAL, ec, [pd, hvp, stack(SLOT + 1), 0]).0 == Status::Success);
    let create = on(call::CREATE_PT, pt, [w.root(root::PD), ec, entry(), 0]).0;
    check!(create == Status::Success, create as u8);
    check!(on(call::CTRL_PT, pt, [echo as Handler as usize as u64, 0, 0, 0]).0 == Status::Success);
    fill(w);
    let (status, answer) = on(call::IPC_CALL, pt, [9, 0, 0, 0]);
    check!(status == Status::Success && answer == 8, status as u8);
    check!(word(w, 8) == 25, word(w, 8));
    w.empty(sel::FREE, 3);
    Verdict::Ok
}

/// The pages of our image.
fn image() -> (u64, u64) {
    unsafe extern "C" {
        static IMAGE_START: u8;
        static IMAGE_END: u8;
    }
    (&raw const IMAGE_START as u64 >> 12, (&raw const IMAGE_END as u64).div_ceil(0x1000))
}

/// Answers nobody again: the exception that it causes has no handler.
extern "C" fn dies(_: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    // SAFETY: it ends here.
    unsafe { core::arch::asm!("ud2") };
    0
}

/// Portals that cannot be called, and a callee that dies.
pub fn dead_ends(w: &World) -> Verdict {
    let (ec, pt, weak) = (sel::FREE, sel::FREE + 1, sel::FREE + 2);
    let to = |at: u64| on(call::IPC_CALL, at, [0; 4]).0;
    check!(to(pt) == Status::BadCap);
    check!(to(w.root(root::PD)) == Status::BadCap);
    // Events of it would be at 0x7000 on, where nothing is.
    let hvp = utcb_of(SLOT + 2) as u64 | w.hip.cpu_bsp();
    check!(on(call::EC_LOCAL, ec, [w.root(root::PD), hvp, stack(SLOT + 2), 0x7000]).0 == Status::Success);
    check!(w.portal(pt, ec, dies, 0) == Status::Success);
    // A copy without CALL [4.1.2.10].
    let own = w.root(root::OBJ);
    check!(w.delegate((own, pt), (own, weak), 0, 0b101) == Status::Success);
    check!(to(weak) == Status::BadCap);
    check!(to(pt) == Status::Aborted);
    check!(to(pt) == Status::Aborted); // it stays dead
    let other = (0..w.cpus()).find(|c| *c != w.hip.cpu_bsp());
    if let Some(cpu) = other {
        check!(w.local(ec + 3, cpu, SLOT + 3) == Status::Success);
        check!(w.portal(pt + 3, ec + 3, echo, 0) == Status::Success);
        check!(to(pt + 3) == Status::BadCpu);
    }
    w.empty(sel::FREE, 3);
    Verdict::Ok
}
