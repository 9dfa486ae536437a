//! Protection domains with accounts, and how their levels are read and compared.
//!
//! Key types: [`Slot`], [`Child`], [`Level`].

use abi::{CreatePdOp, Mad, Sel, Status, perm};
use parent::sel;
use rt::hypercall as hc;
use std::time::{Duration, Instant};

/// A selector of our own; null again when it goes.
pub struct Slot(pub Sel);

impl Slot {
    /// A null one.
    pub fn new() -> Slot {
        Slot(rt::sel::alloc().expect("selectors"))
    }

    /// What `create` makes at a null one.
    pub fn with(create: impl FnOnce(Sel) -> Result<(), Status>) -> Result<Slot, Status> {
        let s = Slot::new();
        create(s.0).map(|()| s)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        rt::sel::free(self.0);
    }
}

/// A protection domain with an account of its own, and its object and host space.
pub struct Child {
    /// PD.
    pub pd: Slot,
    /// Object space.
    pub obj: Slot,
    /// Host space.
    pub hst: Slot,
}

impl Child {
    /// With so many frames.
    pub fn new(frames: u64) -> Result<Child, String> {
        let fail = |e| format!("a child with {frames} frames: {e:?}");
        let pd = Slot::with(|s| hc::create_account(s, sel::PD, frames)).map_err(fail)?;
        let obj = Slot::with(|s| hc::create_pd(CreatePdOp::Obj, s, pd.0)).map_err(fail)?;
        let hst = Slot::with(|s| hc::create_pd(CreatePdOp::Hst, s, pd.0)).map_err(fail)?;
        Ok(Child { pd, obj, hst })
    }

    /// Frames that can still be used.
    pub fn unused(&self) -> u64 {
        let l = level(self.pd.0);
        l.limit - l.used
    }
}

/// Limit and use of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Frames that it may use.
    pub limit: u64,
    /// Frames that it uses.
    pub used: u64,
}

/// The level of a PD's account.
pub fn level(pd: Sel) -> Level {
    let (limit, used) = hc::read_quota(pd).expect("read_quota");
    assert!(used <= limit, "{used} of {limit} frames are used");
    Level { limit, used }
}

/// Our own level.
pub fn own() -> Level {
    level(sel::PD)
}

/// Whether a level comes to be what it was: other CPUs may still be taking objects apart.
pub fn returns(what: &str, pd: Sel, before: Level) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        let now = level(pd);
        if now == before {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{what}: {before:?} became {now:?}"));
        }
    }
}

/// The call was refused with one of these statuses.
pub fn refused<T>(what: &str, got: Result<T, Status>, want: &[Status]) -> Result<(), String> {
    match got {
        Ok(_) => Err(format!("{what}: expected {want:?}, and it succeeded")),
        Err(s) if want.contains(&s) => Ok(()),
        Err(s) => Err(format!("{what}: expected {want:?}, got {s:?}")),
    }
}

/// The call succeeded.
pub fn done<T>(what: &str, got: Result<T, Status>) -> Result<T, String> {
    got.map_err(|s| format!("{what}: expected success, got {s:?}"))
}

/// The two are the same.
pub fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:?}, got {got:?}")) }
}

/// The last of our CPUs.
pub fn last_cpu() -> u16 {
    rt::start_info().and_then(|i| i.usable_cpus().last().copied()).unwrap_or(0)
}

/// Whether this CPU runs guests.
pub fn guests() -> bool {
    rt::start_info().is_some_and(|i| i.features & (abi::Features::VMX | abi::Features::SVM).bits() != 0)
}

/// An EC of another PD.
pub fn create_ec(s: Sel, pd: Sel, args: hc::EcArgs) -> Result<(), Status> {
    assert!(pd != sel::PD);
    // SAFETY: not of our own PD.
    unsafe { hc::create_ec(s, pd, args) }
}

/// Capabilities into another space.
pub fn delegate(src: Sel, dst: Sel, from: u64, to: u64, perms: u8) -> Result<(), Status> {
    assert!(dst != sel::HST);
    // SAFETY: not into our own host space.
    unsafe { hc::ctrl_pd(src, dst, from, to, 0, perms, Mad::WB) }
}

/// A page of our own, by number.
pub fn page() -> u64 {
    parent::layout::RAM >> abi::PAGE_BITS
}

/// All permissions of memory.
pub fn rw() -> u8 {
    (perm::Mem::R | perm::Mem::W).bits()
}

/// Uses as many selectors as any check does.
pub fn warm_up() {
    let all: Vec<Slot> = (0..3500).map(|_| Slot::new()).collect();
    for s in &all {
        hc::create_sm(s.0, sel::PD, 0).expect("create_sm");
    }
    println!("quota: {:?}", own());
}
