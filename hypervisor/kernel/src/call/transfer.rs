//! Capabilities in messages and `set_window` (docs/design/0010, X1).

use super::{Done, Outcome, flags, selector};
use crate::object::ec::{Ec, EcKind};
use abi::{Item, Mtd, SEL_NUM, Status, WINDOW_MAX, WITH_ITEMS, perm};

/// Whether the message of `ec` has typed items, and more than there may be, which is none beside `registers`.
pub fn too_many(ec: &Ec, registers: bool) -> bool {
    flags(ec) & WITH_ITEMS != 0 && (registers || Mtd::item_count(ec.regs().rsi() as u32) > Item::MAX)
}

/// The descriptor that the receiver of a message gets, and the items with it.
pub fn items(from: &Ec, to: &Ec, mtd: u32) -> u32 {
    if flags(from) & WITH_ITEMS == 0 && !to.window.is_set() {
        return mtd;
    }
    transfer(from, to, mtd)
}

/// Whoever has a window, or gets a message with items, can rely on what the descriptor says about them.
#[cold]
fn transfer(from: &Ec, to: &Ec, mtd: u32) -> u32 {
    let window = to.window.get();
    let wanted = flags(from) & WITH_ITEMS != 0 && !window.is_empty();
    let count = if wanted { Mtd::item_count(mtd).min(Item::MAX) } else { 0 };
    if let (Some(a), Some(b)) = (from.utcb(), to.utcb()) {
        for word in (0..count).map(Item::word) {
            let item = Item(a.words[word]);
            let cap = from.obj.get(item.sel()).masked(item.perms());
            b.words[word] = to.obj.receive(cap, window.clone()).0;
        }
    }
    Mtd::with_items(mtd, count)
}

/// Sets where an EC receives capabilities.
pub fn set_window(ec: &'static Ec) -> Outcome {
    let (first, slots) = (ec.regs().rsi(), ec.regs().rdx());
    if slots > WINDOW_MAX || first > SEL_NUM - slots {
        return Err(Status::BadPar);
    }
    let target = ec.obj.find::<Ec>(selector(ec), perm::Ec::CTRL.bits()).ok_or(Status::BadCap)?;
    if target.kind == EcKind::Vcpu {
        return Err(Status::BadCap);
    }
    let window = first..first + slots;
    target.obj.open(&window).map_err(|_| Status::MemCap)?;
    target.window.set(window);
    Ok(Done::Now)
}
