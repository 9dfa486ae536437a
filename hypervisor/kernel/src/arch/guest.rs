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

/// The spaces that a vCPU is assigned to.
pub struct Spaces {
    gst: Cell<Option<Ref<GstSpace>>>,
    pio: Cell<Option<Ref<PioSpace>>>,
    msr: Cell<Option<Ref<MsrSpace>>>,
    /// The back end has not seen the last change.
    moved: Cell<bool>,
    /// [`GONE`] when it was last looked whether one of them is destroyed.
    seen: Cell<u32>,
}

/// Counts the spaces of guests that were destroyed.
static GONE: AtomicU32 = AtomicU32::new(0);

/// Has vCPUs leave a space that is destroyed, before they next run.
pub fn note_space_gone() {
    GONE.fetch_add(1, SeqCst);
}

/// Empties a cell if what it holds is destroyed.
fn leave<T: Object>(cell: &Cell<Option<Ref<T>>>) -> bool {
    let held = cell.take();
    let gone = held.as_ref().is_some_and(|s| s.header().doomed());
    if !gone {
        cell.set(held);
    }
    gone
}

/// Looks at what a cell holds.
fn with<T: Object, R>(cell: &Cell<Option<Ref<T>>>, f: impl FnOnce(Option<&Ref<T>>) -> R) -> R {
    let held = cell.take();
    let r = f(held.as_ref());
    cell.set(held);
    r
}

impl Spaces {
    /// Whether there was a change since the last call.
    pub fn take_moved(&self) -> bool {
        self.moved.replace(false)
    }

    /// Leaves spaces that are destroyed.
    fn leave_destroyed(&self) {
        let now = GONE.load(Relaxed);
        if self.seen.replace(now) != now && leave(&self.gst) | leave(&self.pio) | leave(&self.msr) {
            self.moved.set(true);
        }
    }

    /// Its guest memory.
    pub fn gst<R>(&self, f: impl FnOnce(Option<&Ref<GstSpace>>) -> R) -> R {
        with(&self.gst, f)
    }

    /// Its ports.
    pub fn pio<R>(&self, f: impl FnOnce(Option<&Ref<PioSpace>>) -> R) -> R {
        with(&self.pio, f)
    }

    /// Its MSRs.
    pub fn msr<R>(&self, f: impl FnOnce(Option<&Ref<MsrSpace>>) -> R) -> R {
        with(&self.msr, f)
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
            gst: Cell::new(None),
            pio: Cell::new(None),
            msr: Cell::new(None),
            moved: Cell::new(true),
            seen: Cell::new(GONE.load(Relaxed)),
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
        let (assign, spaces) = (perm::Space::ASSIGN.bits(), &self.spaces);
        if let Some(g) = obj.find::<GstSpace>(s.sel_gst, assign).and_then(Ref::try_from_found) {
            g.join();
            spaces.gst.set(Some(g));
        }
        if let Some(p) = obj.find::<PioSpace>(s.sel_pio, assign).and_then(Ref::try_from_found) {
            p.join();
            spaces.pio.set(Some(p));
        }
        if let Some(m) = obj.find::<MsrSpace>(s.sel_msr, assign).and_then(Ref::try_from_found) {
            m.join();
            spaces.msr.set(Some(m));
        }
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

/// Enters the guest.
pub fn run(ec: &'static Ec) -> Next {
    let Some(v) = ec.vcpu.as_ref() else { return crate::event::kill(ec, "not a vCPU") };
    v.spaces.leave_destroyed();
    if v.spaces.gst(|g| g.is_none()) {
        return crate::event::kill(ec, "vCPU without guest space");
    }
    match &v.back_end {
        BackEnd::Vmx(x) => vmx::run(ec, v, x),
        BackEnd::Svm(x) => svm::run(ec, v, x),
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
