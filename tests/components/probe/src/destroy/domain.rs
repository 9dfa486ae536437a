//! Domains that are made to be destroyed: protection domains below ours, with our code and a little memory, and threads
//! on bare code in them.
//!
//! Key types: [`Domain`], [`Desk`].

use crate::check::{NOT_HERE, done};
use crate::scene::{Body, PAGE, Slot, memory, peek, poke, probe_entry, start};
use abi::{ArchState, CreatePdOp, Mad, Mtd, Sel, Status, event, perm};
use parent::sel;
use rt::PortalThread;
use rt::hypercall::{self as hc, EcArgs};
use std::cell::Cell;
use std::sync::Mutex;

/// Where UTCBs are in a domain.
const UTCBS: u64 = 0x50_0000_0000;
/// Selectors in a domain from which events are.
const EVENTS: Sel = 0x1000;
/// Threads that a domain can have.
const THREADS: u64 = 8;
const STACK: u64 = 16 << 10;
/// Frames of the account of a domain.
pub const FRAMES: u64 = 200;

/// Selectors in a domain of what it has of itself.
pub mod inside {
    /// PD.
    pub const PD: u64 = 1;
    /// Object space.
    pub const OBJ: u64 = 2;
    /// Host space.
    pub const HST: u64 = 3;
    /// For tests.
    pub const FREE: u64 = 16;
}

/// Memory that a domain shares with us: words, and stacks behind them. It is never given back.
#[derive(Clone, Copy)]
pub struct Desk(pub u64);

impl Desk {
    /// Words are zero.
    pub fn new() -> Desk {
        Desk(memory((PAGE + THREADS * STACK) as usize, PAGE as usize))
    }

    /// A word.
    pub fn word(self, n: u64) -> u64 {
        peek(self.0 + 8 * n)
    }

    /// Whether a word grows while we sleep.
    pub fn moves(self, n: u64, sleep_ms: u64) -> bool {
        let before = self.word(n);
        crate::scene::sleep_ms(sleep_ms);
        self.word(n) != before
    }
}

/// A protection domain with an account of its own.
pub struct Domain {
    /// PD.
    pub pd: Slot,
    /// Object space.
    pub obj: Slot,
    /// Host space.
    pub hst: Slot,
    desk: Desk,
    threads: Cell<u64>,
}

/// Runs in a domain: has no thread-local data and no statics; its argument is the desk's address.
pub type Thread = extern "C" fn(desk: u64) -> !;

impl Domain {
    /// With our code, a desk, and capabilities to itself; not where we may not create threads.
    pub fn new(desk: Desk) -> Result<Domain, String> {
        let pd = Slot::new();
        done("create_pd", hc::create_account(pd.0, sel::PD, FRAMES))?;
        let (obj, hst) = (Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?);
        let d = Domain { pd, obj, hst, desk, threads: Cell::new(0) };
        if matches!(d.create_ec(false, 0, 0, 0), Err(Status::BadCap)) {
            return Err(format!("{NOT_HERE}the component may not create threads"));
        }
        unsafe extern "C" {
            static __executable_start: u8;
            static __bss_start: u8;
        }
        let (from, to) = (&raw const __executable_start as u64, &raw const __bss_start as u64);
        d.show(from, to.div_ceil(PAGE) - from / PAGE, perm::Mem::R | perm::Mem::XU)?;
        d.show(desk.0, 1 + THREADS * STACK / PAGE, perm::Mem::R | perm::Mem::W)?;
        for (own, to) in [(&d.pd, inside::PD), (&d.obj, inside::OBJ), (&d.hst, inside::HST)] {
            d.give(own.0, to, perm::ALL)?;
        }
        Ok(d)
    }

    fn show(&self, address: u64, pages: u64, perms: perm::Mem) -> Result<(), String> {
        for p in address / PAGE..address / PAGE + pages {
            // SAFETY: the destination is another space, and code there uses it in raw or atomic ways.
            let shown = unsafe { hc::ctrl_pd(sel::HST, self.hst.0, p, p, 0, perms.bits(), Mad::WB) };
            done("show memory", shown)?;
        }
        Ok(())
    }

    /// Copies a capability of ours into it.
    pub fn give(&self, from: Sel, to: Sel, perms: u8) -> Result<(), String> {
        // SAFETY: an object space holds no memory.
        done("give", unsafe { hc::ctrl_pd(sel::OBJ, self.obj.0, from, to, 0, perms, Mad::WB) })
    }

    /// A thread that has no SC yet and nothing to run.
    pub fn create_ec(&self, global: bool, cpu: u16, sp: u64, evt: Sel) -> Result<Slot, Status> {
        let s = Slot::new();
        let utcb_page = UTCBS + self.threads.get() * PAGE;
        let args = EcArgs { utcb_page, cpu, sp, evt, guest: false, global_or_offset: global, fpu: true };
        // SAFETY: not of our own PD.
        unsafe { hc::create_ec(s.0, self.pd.0, args).map(|()| s) }
    }

    /// The next thread: its number and the end of its stack.
    fn next(&self) -> (u64, u64) {
        let n = self.threads.get();
        assert!(n < THREADS, "a domain has {THREADS} threads");
        self.threads.set(n + 1);
        (n, self.desk.0 + PAGE + (n + 1) * STACK)
    }

    /// A local thread: EC, and a portal with an identifier.
    pub fn local(&self, cpu: u16, body: Body, pid: u64) -> Result<(Slot, Slot), String> {
        let (n, end) = self.next();
        let top = end - 16;
        poke(top, UTCBS + n * PAGE);
        poke(top + 8, body as *const () as u64);
        self.threads.set(n);
        let ec = done("create_ec", self.create_ec(false, cpu, top, EVENTS + n * 64))?;
        self.threads.set(n + 1);
        let pt = Slot::new();
        // SAFETY: not in our own domain, entered at `probe_entry` only.
        done("create_pt", unsafe { hc::create_pt(pt.0, self.pd.0, ec.0, probe_entry as *const () as u64) })?;
        done("ctrl_pt", hc::ctrl_pt(pt.0, pid, 0))?;
        Ok((ec, pt))
    }

    /// A thread, `lower` below our own priority: EC and SC. Of its events there is a portal for STARTUP only.
    pub fn thread(&self, cpu: u16, body: Thread, lower: u64) -> Result<(Slot, Slot), String> {
        self.thread_with(cpu, body, lower, &[])
    }

    /// A thread with more portals for events: number, portal of ours.
    pub fn thread_with(
        &self,
        cpu: u16,
        body: Thread,
        lower: u64,
        events: &[(u64, Sel)],
    ) -> Result<(Slot, Slot), String> {
        let evt = EVENTS + self.threads.get() * 64;
        for (n, portal) in events {
            self.give(*portal, evt + n, perm::Pt::EVENT.bits())?;
        }
        let (ec, sc) = self.unstarted(cpu, body)?;
        start(ec.0, sc.0, lower)?;
        Ok((ec, sc))
    }

    /// A thread and the selector for its SC.
    pub fn unstarted(&self, cpu: u16, body: Thread) -> Result<(Slot, Slot), String> {
        let (n, end) = self.next();
        let evt = EVENTS + n * 64;
        let startup = Slot(starter(cpu, body as *const () as u64, self.desk)?);
        self.give(startup.0, evt + event::HST_STARTUP, perm::Pt::EVENT.bits())?;
        self.threads.set(n);
        let ec = done("create_ec", self.create_ec(true, cpu, end - 8, evt))?;
        self.threads.set(n + 1);
        Ok((ec, Slot::new()))
    }

    /// Destroys it.
    pub fn destroy(&self) -> Result<(), String> {
        done("destroy of a PD", super::destroy(self.pd.0))
    }
}

impl Drop for Domain {
    /// It holds capabilities to itself, so it would stay.
    fn drop(&mut self) {
        let _ = super::destroy(self.pd.0);
    }
}

/// Where threads begin: an entry, and an argument.
type Beginning = (u64, Desk);

/// A portal for STARTUP on that CPU, whose answer begins there.
fn starter(cpu: u16, rip: u64, desk: Desk) -> Result<Sel, String> {
    static STARTERS: Mutex<Vec<(u16, PortalThread)>> = Mutex::new(Vec::new());
    let mut all = STARTERS.lock().expect("starters");
    let found = all.iter().position(|s| s.0 == cpu);
    let i = match found {
        Some(i) => i,
        None => {
            let handler = Box::new(|pid, _, u: &mut abi::Utcb| {
                let at = std::ptr::with_exposed_provenance::<Beginning>(pid as usize);
                // SAFETY: made below, and never given back.
                let (rip, desk) = unsafe { *at };
                let s = u.arch_mut();
                s.rip = rip;
                s.gpr[ArchState::RDI] = desk.0;
                (Mtd::RIP | Mtd::GPR_0_7).bits()
            });
            all.push((cpu, done("starter", PortalThread::new(cpu, 32 << 10, handler))?));
            all.len() - 1
        }
    };
    let beginning: &'static Beginning = Box::leak(Box::new((rip, desk)));
    let slot = Slot::new();
    let pid = std::ptr::from_ref(beginning).expose_provenance() as u64;
    // The state has to be in the message that the answer changes.
    done("portal", all[i].1.portal(slot.0, pid, (Mtd::RIP | Mtd::GPR_0_7).bits()))?;
    Ok(std::mem::ManuallyDrop::new(slot).0)
}
