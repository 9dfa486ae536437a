//! A thread of another protection domain, to which capabilities travel and from which they come.
//!
//! Key types: [`Foreign`], [`Got`].

use crate::abi_page::raw;
use crate::check::done;
use crate::scene::{PAGE, Slot, cpu};
use abi::{CreatePdOp, Hypercall, Item, Mad, Mtd, Sel, Status, UTCB_WORDS, perm};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};
use std::arch::global_asm;

// The thread has no memory but its UTCB, at which its stack pointer stays: word 0 becomes the descriptor that it got,
// words 1 and 2 of the message are RSI and RDI of its reply.
global_asm!(
    ".balign 64",
    "probe_foreign:",
    "mov [rsp], rsi",
    "mov rsi, [rsp + 8]",
    "mov rdi, [rsp + 16]",
    "syscall",
    "ud2",
);

unsafe extern "C" {
    fn probe_foreign();
}

/// Flags C and T of `ipc_call` and `ipc_reply`.
pub const ITEMS: u8 = 2;
pub const NO_WAIT: u8 = 1;
/// Descriptor of a reply that shows the whole UTCB.
pub const WHOLE: u32 = Mtd::words(UTCB_WORDS);
/// First selectors of its window: in a table of its object space that has nothing else.
pub const WINDOW: Sel = 0x1000;
const UTCB: u64 = 0x7000;

/// What `send` leaves of the UTCB, and what the receiver of the message had as descriptor.
#[derive(Debug)]
pub struct Got {
    /// Descriptor at the foreign thread.
    pub mtd: u32,
    /// Descriptor of its reply.
    pub reply: u32,
    /// Our UTCB afterwards.
    pub words: Vec<u64>,
}

impl Got {
    /// The item at the place of the `i`-th.
    pub fn item(&self, i: usize) -> Item {
        Item(self.words[Item::word(i)])
    }

    /// The first items, as many as that.
    pub fn items(&self, n: usize) -> Vec<Item> {
        (0..n).map(|i| self.item(i)).collect()
    }
}

/// A protection domain with spaces of its own, a local thread and a portal to it.
#[derive(Debug)]
pub struct Foreign {
    /// PD.
    pub pd: Slot,
    /// Object space.
    pub obj: Slot,
    /// Local thread.
    pub ec: Slot,
    /// Portal.
    pub portal: Slot,
    _hst: Slot,
}

impl Foreign {
    /// With a window of `slots` at [`WINDOW`].
    pub fn new(slots: u64) -> Result<Foreign, String> {
        let f = Foreign::without_window()?;
        f.open(slots)?;
        Ok(f)
    }

    /// Without a window.
    pub fn without_window() -> Result<Foreign, String> {
        Foreign::of(Slot::pd(CreatePdOp::Pd, sel::PD)?)
    }

    fn open(&self, slots: u64) -> Result<(), String> {
        done("set_window", hc::set_window(self.ec.0, WINDOW, slots))
    }

    /// With an account of its own.
    pub fn with_frames(frames: u64, slots: u64) -> Result<Foreign, String> {
        let pd = Slot::new();
        done("create_pd with an account", hc::create_account(pd.0, sel::PD, frames))?;
        let f = Foreign::of(pd)?;
        f.open(slots)?;
        Ok(f)
    }

    fn of(pd: Slot) -> Result<Foreign, String> {
        let (obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
        let (code, ec, portal) = (probe_foreign as *const () as u64, Slot::new(), Slot::new());
        let page = code / PAGE;
        let args = EcArgs { utcb_page: UTCB, cpu: cpu(), sp: UTCB, ..EcArgs::default() };
        // SAFETY: spaces of another domain, where nothing but that code runs.
        unsafe {
            let perms = (perm::Mem::R | perm::Mem::XU).bits();
            done("code", hc::ctrl_pd(sel::HST, hst.0, page, page, 0, perms, Mad::WB))?;
            done("create_ec", hc::create_ec(ec.0, pd.0, args))?;
            done("create_pt", hc::create_pt(portal.0, sel::PD, ec.0, code))?;
        }
        Ok(Foreign { pd, obj, ec, portal, _hst: hst })
    }

    /// Copies a capability of ours to `to`.
    pub fn give(&self, from: Sel, to: Sel, perms: u8) -> Result<(), String> {
        // SAFETY: object spaces hold no memory.
        done("give", unsafe { hc::ctrl_pd(sel::OBJ, self.obj.0, from, to, 0, perms, Mad::WB) })
    }

    /// A copy of what it has at `from`.
    pub fn taken(&self, from: Sel) -> Result<Slot, String> {
        let s = Slot::new();
        // SAFETY: as above.
        done("take", unsafe { hc::ctrl_pd(self.obj.0, sel::OBJ, from, s.0, 0, perm::ALL, Mad::WB) })?;
        Ok(s)
    }

    /// Calls with those items, or with what is at their places if `flags` has no C, and has it reply with `reply`.
    pub fn call(&self, flags: u8, mtd: u32, items: &[Item], reply: (u32, u8)) -> Result<Got, Status> {
        let mut u = rt::utcb();
        u.words[1] = reply.0.into();
        u.words[2] = Hypercall::IpcReply.identifier(reply.1, 0);
        for (i, item) in items.iter().enumerate() {
            u.words[Item::word(i)] = item.0;
        }
        drop(u);
        let (rdi, rsi, _) = raw(Hypercall::IpcCall.identifier(flags, self.portal.0), mtd.into(), 0, 0, 0);
        match Status::from_register(rdi) {
            Some(Status::Success) => {
                let words = rt::utcb().words.to_vec();
                Ok(Got { mtd: words[0] as u32, reply: rsi as u32, words })
            }
            other => Err(other.unwrap_or(Status::BadHyp)),
        }
    }

    /// Sends those items; what it then has in its UTCB.
    pub fn send(&self, items: &[Item]) -> Result<Got, String> {
        let got = self.call(ITEMS, Mtd::with_items(Mtd::words(3), items.len()), items, (WHOLE, 0));
        done("call with items", got)
    }

    /// Sends a copy of `sel` with all permissions; the item that arrives.
    pub fn send_one(&self, sel: Sel) -> Result<Item, String> {
        Ok(self.send(&[Item::new(sel, perm::ALL)])?.item(0))
    }

    /// Has it reply with a capability of its own; the item that arrives.
    pub fn ask(&self, item: Item) -> Result<Item, String> {
        // Our words are as they were but for what the reply brings.
        let got = self.call(ITEMS, Mtd::with_items(WHOLE, 0), &[item], (Mtd::with_items(Mtd::words(3), 1), ITEMS));
        Ok(done("call for an item", got)?.item(0))
    }
}
