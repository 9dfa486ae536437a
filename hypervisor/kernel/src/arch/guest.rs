//! Virtual CPUs: what VT-x and SVM have in common, and the choice between them, made once at boot.
//!
//! Above this file nothing knows the vendor. Below, `vmx/` and `svm/` have the same shape.

use super::cpu::{cpu, cpuid};
use super::{speculation, svm, vmx};
use crate::mem::refs::{Object, Ref};
use crate::object::{account::Account, ec::Ec, gst::GstSpace, msr::MsrSpace, obj::ObjSpace, pio::PioSpace};
use crate::schedule::Next;
use abi::{ArchState, Features, Mtd, VirtMissing, perm};
use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering::*};
use switches::Switches;
use virt::spec::dr;

static MISSING: AtomicU32 = AtomicU32::new(u32::MAX);

/// Enables what this CPU has for guests, or notes what is missing.
pub fn init() {
    let amd = cpuid().get_extended_processor_and_feature_identifiers().is_some_and(|x| x.has_svm());
    let result = if amd { svm::init() } else { vmx::init() };
    MISSING.store(result.err().map_or(0, |m| m.bits()), Relaxed);
}

/// Enables it on another processor.
pub fn init_other() -> Result<(), VirtMissing> {
    match features() {
        Features::SVM => svm::enable(),
        Features::VMX => vmx::enable(),
        _ => Ok(()),
    }
}

/// Flushes all guest translations of this CPU. SVM needs nothing: a vCPU flushes before its next entry.
pub fn flush_all() {
    vmx::flush_all();
}

/// This CPU leaves an address space: what a guest has left in registers that user mode can read is of that space.
pub fn leave_space() {
    svm::forget_tsc_aux();
}

/// Why there are no guests on this machine; empty if there are.
pub fn missing() -> VirtMissing {
    VirtMissing::from_bits_truncate(MISSING.load(Relaxed))
}

/// The feature bit of the back end in use.
pub fn features() -> Features {
    match () {
        _ if !missing().is_empty() => Features::empty(),
        _ if svm::active() => Features::SVM,
        _ => Features::VMX,
    }
}

/// What is in use for guests of that which can be turned off.
pub fn in_use() -> Switches {
    vmx::in_use() | svm::in_use()
}

/// A space that a vCPU is assigned to, if it is.
pub struct Assigned<T: Object>(Cell<Option<Ref<T>>>);

impl<T: Object> Assigned<T> {
    const fn none() -> Self {
        Assigned(Cell::new(None))
    }

    /// Looks at it.
    pub fn with<R>(&self, f: impl FnOnce(Option<&Ref<T>>) -> R) -> R {
        let held = self.0.take();
        let r = f(held.as_ref());
        self.0.set(held);
        r
    }

    /// Leaves it if it is destroyed.
    fn leave(&self) -> bool {
        let gone = self.with(|held| held.is_some_and(|s| s.header().doomed()));
        if gone {
            self.0.set(None);
        }
        gone
    }

    /// Assigns the vCPU to another one, which hears of this CPU by `join`. Without suitable capability the old one stays.
    fn assign(&self, obj: &ObjSpace, sel: u64, join: fn(&T)) {
        if let Some(s) = obj.find::<T>(sel, perm::Space::ASSIGN.bits()).and_then(Ref::try_from_found) {
            join(&s);
            self.0.set(Some(s));
        }
    }
}

/// The spaces that a vCPU is assigned to.
pub struct Spaces {
    /// Its guest memory.
    pub gst: Assigned<GstSpace>,
    /// Its ports.
    pub pio: Assigned<PioSpace>,
    /// Its MSRs.
    pub msr: Assigned<MsrSpace>,
    /// The back end has not seen the last change.
    moved: Cell<bool>,
    /// [`CHANGES`] when it was last looked at.
    seen: Cell<u32>,
}

/// Counts what may concern a vCPU that returns to its guest: spaces that were destroyed, and on SVM memory that is another.
static CHANGES: AtomicU32 = AtomicU32::new(0);

/// Has vCPUs leave a space that is destroyed, before they next run.
pub fn note_space_gone() {
    CHANGES.fetch_add(1, SeqCst);
}

/// Has vCPUs look whether they have to flush, before they next run, where nobody else does it for them.
pub fn note_remapped() {
    if svm::active() {
        CHANGES.fetch_add(1, SeqCst);
    }
}

impl Spaces {
    /// Whether there was a change since the last call.
    pub fn take_moved(&self) -> bool {
        self.moved.replace(false)
    }

    /// Whether there is nothing to do about them before the guest goes on.
    #[inline(always)]
    fn settled(&self) -> bool {
        !self.moved.get() && self.seen.get() == CHANGES.load(Relaxed)
    }

    /// Leaves spaces that are destroyed.
    fn leave_destroyed(&self) {
        let now = CHANGES.load(Relaxed);
        if self.seen.replace(now) != now && self.gst.leave() | self.pio.leave() | self.msr.leave() {
            self.moved.set(true);
        }
    }
}

/// The half of a vCPU that differs.
enum BackEnd {
    Vmx(vmx::Vcpu),
    Svm(svm::Vcpu),
}

/// Virtual CPU.
pub struct Vcpu {
    /// Where it is assigned to.
    pub spaces: Spaces,
    /// DR0 to DR3 and DR6 while another vCPU's are in the CPU.
    debug: Cell<[u64; 5]>,
    /// Exceptions that the VMM wants.
    pub exceptions: Cell<u32>,
    back_end: BackEnd,
}

impl Vcpu {
    /// A vCPU in the state after reset. `None`: no memory.
    pub fn create(a: &'static Account) -> Option<Vcpu> {
        let back_end =
            if svm::active() { BackEnd::Svm(svm::Vcpu::create(a)?) } else { BackEnd::Vmx(vmx::Vcpu::create(a)?) };
        let spaces = Spaces {
            gst: Assigned::none(),
            pio: Assigned::none(),
            msr: Assigned::none(),
            moved: Cell::new(true),
            seen: Cell::new(CHANGES.load(Relaxed)),
        };
        Some(Vcpu { spaces, debug: Cell::new([0, 0, 0, 0, dr::DR6_RESET]), exceptions: Cell::new(0), back_end })
    }

    /// Its time is the TSC and this. Before it first runs.
    pub fn offset_time(&self, by: u64) {
        match &self.back_end {
            BackEnd::Vmx(v) => v.offset_time(by),
            BackEnd::Svm(v) => v.offset_time(by),
        }
    }

    /// The half of VT-x.
    pub fn vmx(&self) -> Option<&vmx::Vcpu> {
        if let BackEnd::Vmx(v) = &self.back_end { Some(v) } else { None }
    }

    /// The half of SVM.
    pub fn svm(&self) -> Option<&svm::Vcpu> {
        if let BackEnd::Svm(v) = &self.back_end { Some(v) } else { None }
    }

    /// The virtual-APIC page, which the VMM sees if the CPU uses one.
    pub fn vapic_frame(&self) -> Option<u64> {
        self.vmx().and_then(|v| v.vapic_frame())
    }

    /// Assigns it to the spaces that the UTCB names. A selector without suitable capability leaves the old space.
    pub fn assign(&self, obj: &ObjSpace, s: &ArchState) {
        let spaces = &self.spaces;
        spaces.gst.assign(obj, s.sel_gst, GstSpace::join);
        spaces.pio.assign(obj, s.sel_pio, PioSpace::join);
        spaces.msr.assign(obj, s.sel_msr, MsrSpace::join);
        spaces.moved.set(true);
    }
}

/// State of a vCPU into a UTCB.
pub fn save_state(v: &Vcpu, mtd: Mtd, s: &mut ArchState) {
    match &v.back_end {
        BackEnd::Vmx(x) => vmx::save_state(x, mtd, s),
        BackEnd::Svm(x) => svm::save_state(x, mtd, s),
    }
}

/// State from a UTCB into a vCPU.
pub fn load_state(v: &Vcpu, mtd: Mtd, s: &ArchState) {
    if mtd.contains(Mtd::CTRL) {
        v.exceptions.set(s.intcpt_exc);
    }
    match &v.back_end {
        BackEnd::Vmx(x) => vmx::load_state(x, mtd, s),
        BackEnd::Svm(x) => svm::load_state(x, mtd, s),
    }
}

/// Groups that may change more than the back end's state.
pub const RARE: Mtd = vmx::RARE.union(svm::RARE);

/// A reply to an exit of a guest whose registers are [in the CPU](is_whole): loads what `mtd` says, does `back`, which makes
/// the vCPU the current EC, and enters the guest. If that is not all that there is to do it does nothing.
#[inline(always)]
pub fn reply_at_once(v: &Vcpu, mtd: u32, s: &ArchState, back: impl FnOnce()) {
    if v.spaces.settled() {
        match &v.back_end {
            BackEnd::Vmx(x) => vmx::reply_at_once(x, mtd, s, back),
            BackEnd::Svm(x) => svm::reply_at_once(x, mtd, s, back),
        }
    }
}

/// Enters the guest.
pub fn run(ec: &'static Ec) -> Next {
    let Some(v) = ec.vcpu.as_ref() else { return crate::event::kill(ec, "not a vCPU") };
    v.spaces.leave_destroyed();
    if v.spaces.gst.with(|g| g.is_none()) {
        return crate::event::kill(ec, "vCPU without guest space");
    }
    match &v.back_end {
        BackEnd::Vmx(x) => vmx::run(ec, v, x),
        BackEnd::Svm(x) => svm::run(ec, v, x),
    }
}

/// Whether the registers of `ec`'s guest are in this CPU, all but those that exits store: a reply to its exit finds them so.
pub fn is_whole(ec: &'static Ec) -> bool {
    let Some(v) = ec.vcpu.as_ref() else { return false };
    cpu().debug_owner.get().is_some_and(|o| core::ptr::eq(o, ec))
        && match &v.back_end {
            BackEnd::Vmx(x) => x.is_whole(),
            BackEnd::Svm(x) => svm::is_whole(x),
        }
}

fn read_debug() -> [u64; 5] {
    let mut d = [0; 5];
    // SAFETY: reading debug registers, which only guests use.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", "mov {}, dr6",
            out(reg) d[0], out(reg) d[1], out(reg) d[2], out(reg) d[3], out(reg) d[4],
            options(nomem, nostack, preserves_flags));
    }
    d
}

fn write_debug(d: &[u64; 5]) {
    // SAFETY: the host runs with DR7 clear; the values were read from there, so reserved bits are right.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}",
            in(reg) d[0], in(reg) d[1], in(reg) d[2], in(reg) d[3], in(reg) d[4],
            options(nomem, nostack, preserves_flags));
    }
}

/// A debug exception is given to the guest: what the exit says of it goes into DR6.
pub fn note_debug(qualification: u64) {
    let mut d = read_debug();
    d[4] = d[4] & !0xf | qualification & dr::DR6_CAUSES;
    write_debug(&d);
}

/// Before a vCPU runs: the debug registers become its own, and what the guest of another VMM has trained leads it nowhere.
pub fn switch_from_last(ec: &'static Ec) {
    let old = cpu().debug_owner.replace(Some(ec));
    if old.is_some_and(|o| core::ptr::eq(o, ec)) {
        return;
    }
    if !old.is_some_and(|o| core::ptr::eq(o.hst.found(), ec.hst.found())) {
        speculation::barrier();
    }
    if let Some(o) = old.and_then(|o| o.vcpu.as_ref()) {
        o.debug.set(read_debug());
    }
    if let Some(v) = ec.vcpu.as_ref() {
        write_debug(&v.debug.get());
    }
}
