//! SVM: a virtual CPU, its entry and its exits. What can be decided without executing an instruction is in the `svm`
//! crate.

mod insn;
mod quick;
mod vcpu;

pub use ::svm::RARE;
pub use quick::{reply_at_once, vm_exit};
pub use vcpu::Vcpu;

use super::cpu::{self, cpu, cpuid};
use super::{fast, fpu, guest, interrupt, tables, time};
use crate::event;
use crate::mem::pool::{Page, Pages};
use crate::object::account::KERNEL;
use crate::object::ec::{Cont, Ec, Expect};
use crate::schedule::{self, Next};
use crate::trace;
use abi::{ArchState, Mtd, VirtMissing};
use core::arch::x86_64::{__cpuid, __cpuid_count};
use spin::Once;
use svm::spec::efer::SVME;
use svm::spec::vm_cr::{LOCK, SVMDIS};
use svm::{CapabilityBits, Controls, code};
use switches::Switches;
use virt::spec::{reason, vector};
use virt::{Event, EventKind, Exit, HostExit};
use x86::msr;

static CONTROLS: Once<Controls> = Once::new();
static DENY: Once<Deny> = Once::new();

/// Maps of vCPUs without PIO or MSR space: everything exits.
struct Deny {
    ports: Pages<3>,
    msrs: Pages<2>,
}
// SAFETY: written once, then only read, by hardware.
unsafe impl Send for Deny {}
// SAFETY: as above.
unsafe impl Sync for Deny {}

/// AMD APM vol. 2, 15.30.
const VM_CR: u32 = 0xc001_0114;
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// Whether guests run on this back end.
pub fn active() -> bool {
    CONTROLS.get().is_some()
}

/// What is in use of that which can be turned off.
pub fn in_use() -> Switches {
    CONTROLS.get().map_or(Switches::empty(), Controls::in_use)
}

fn capabilities() -> CapabilityBits {
    // SAFETY: VM_CR exists on every CPU with SVM, which is all that this is called on.
    let vm_cr = unsafe {
        let v = msr::rdmsr(VM_CR);
        if v & SVMDIS != 0 && v & LOCK == 0 {
            msr::wrmsr(VM_CR, v & !SVMDIS);
        }
        msr::rdmsr(VM_CR)
    };
    let (l, seven) = (__cpuid(0x8000_000a), __cpuid_count(7, 0));
    let more = if seven.eax >= 1 { __cpuid_count(7, 1).eax } else { 0 };
    let leaf7 = [seven.ecx, seven.edx, more];
    CapabilityBits { cpuid_svm: true, vm_cr, ebx: l.ebx, edx: l.edx, leaf7 }.without(cpu::off())
}

/// Enables SVM on this CPU, if it has all that the kernel needs; otherwise says what is missing.
pub fn init() -> Result<(), VirtMissing> {
    let mut c = svm::negotiate(&capabilities())?;
    turn_on()?;
    let (ports, msrs) = Pages::filled(&KERNEL, 0xff).zip(Pages::filled(&KERNEL, 0xff)).ok_or(VirtMissing::CONTROLS)?;
    c.xcr0_supported = cpu().features.get().xcr0;
    c.required.exceptions |= virt::ENDLESS_EXCEPTIONS;
    DENY.call_once(|| Deny { ports, msrs });
    CONTROLS.call_once(|| c);
    Ok(())
}

/// Enables SVM on another CPU, which has to have what the first has.
pub fn enable() -> Result<(), VirtMissing> {
    svm::negotiate(&capabilities())?;
    turn_on()
}

fn turn_on() -> Result<(), VirtMissing> {
    let (save, host) = Page::new(&KERNEL).zip(Page::new(&KERNEL)).ok_or(VirtMissing::CONTROLS)?;
    // SAFETY: SVM is there and not disabled; both frames are used for nothing else, for good.
    unsafe {
        msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | SVME);
        msr::wrmsr(VM_HSAVE_PA, save.phys());
        insn::vmsave(host.phys());
    }
    cpu().host_vmcb.set(host.phys());
    core::mem::forget((save, host));
    Ok(())
}

/// State of a vCPU into a UTCB.
pub fn save_state(v: &Vcpu, mtd: Mtd, s: &mut ArchState) {
    if let Some(c) = CONTROLS.get() {
        svm::save(mtd, s, v.vmcb(), v.regs(), c);
    }
}

/// State from a UTCB into a vCPU.
pub fn load_state(v: &Vcpu, mtd: Mtd, s: &ArchState) {
    let Some(c) = CONTROLS.get() else { return };
    svm::load(mtd, s, v.vmcb(), v.regs(), c);
    if mtd.contains(Mtd::TLB) {
        svm::flush(v.vmcb(), c);
    }
}

/// Enters the guest.
pub fn run(ec: &'static Ec, vcpu: &guest::Vcpu, v: &Vcpu) -> Next {
    let Some(c) = CONTROLS.get() else { return event::kill(ec, "no SVM") };
    if let Some(n) = svm::window_due(v.vmcb()) {
        ec.ipc.expect.set(Expect::State(Cont::Guest));
        return event::raise(ec, n as u16);
    }
    // The exit comes back with this CR3: that of the VMM.
    if !ec.hst.enter(ec.cr3) {
        return event::kill(ec, "has no host space on this CPU any more");
    }
    schedule::make_current(ec);
    v.prepare(c, &vcpu.spaces);
    guest::switch_from_last(ec);
    fpu::enter_guest(ec, v.regs().xcr0);
    fpu::leave_ts_set();
    set_tsc_aux(v.regs().msrs.tsc_aux.value);
    fast::enter_guest(ec);
    enter(v)
}

/// Whether the registers of a guest are in the CPU that the VMCB does not hold, beside those that all back ends have.
pub fn is_whole(v: &Vcpu) -> bool {
    cpu().tsc_aux.get() == v.regs().msrs.tsc_aux.value
}

#[inline(always)]
fn enter(v: &Vcpu) -> ! {
    // SAFETY: CR2 only matters to page-fault handlers. VMRUN loads it, but not that of every emulator. The VMCB is
    // complete, its maps and tables live as long as the spaces that the vCPU counts on.
    unsafe {
        x86::controlregs::cr2_write(v.vmcb().save.cr2);
        super::svm_enter(&v.regs().gpr, v.vmcb_phys())
    }
}

/// TSC_AUX is the guest's while it runs, and its VMM may read it with RDTSCP; others may not ([`forget_tsc_aux`]).
fn set_tsc_aux(value: u64) {
    let has = || cpuid().get_extended_processor_and_feature_identifiers().is_some_and(|x| x.has_rdtscp());
    if cpu().tsc_aux.replace(value) != value && has() {
        // SAFETY: the register exists; its upper half is reserved.
        unsafe { msr::wrmsr(msr::IA32_TSC_AUX, value & 0xffff_ffff) };
    }
}

/// Leaves nothing of a guest in TSC_AUX.
pub fn forget_tsc_aux() {
    if cpu().tsc_aux.get() != 0 {
        set_tsc_aux(0);
    }
}

#[cold]
#[inline(never)]
fn exit_slowly() -> ! {
    let Some(ec) = cpu().ec.get() else { panic!("VM exit from nowhere") };
    ec.ipc.cont.set(Cont::Guest);
    ipc::is_leaf(ec);
    if let early @ 1.. = cpu().early.take() {
        interrupt::handle(early as u8, None);
    }
    time::catch_up();
    schedule::go(exit_of(ec))
}

fn exit_of(ec: &'static Ec) -> Next {
    let (Some(v), Some(c)) = (ec.vcpu.as_ref().and_then(|v| v.svm()), CONTROLS.get()) else {
        return event::kill(ec, "not a vCPU");
    };
    let vmcb = v.vmcb();
    trace!(EXIT, Some(ec), vmcb.control.exitcode, vmcb.save.rip);
    // Some emulators do not intercept XSETBV.
    v.regs().xcr0 = fpu::note_xcr0();
    svm::requeue(vmcb, c);
    if svm::track_nmi(vmcb) {
        return Next::Run(ec);
    }
    ec.ipc.expect.set(Expect::State(Cont::Guest));
    if svm::entry_failed(vmcb) {
        if svm::is_of_host(vmcb, tables::idt_base()) {
            svm::reset(vmcb, c);
        }
        return event::raise(ec, reason::ENTRY_FAILURE as u16);
    }
    match svm::decode_exit(vmcb) {
        // The state is undefined (APM vol. 2, 15.14.3).
        Exit::Portal(reason::TRIPLE_FAULT) => {
            svm::reset(vmcb, c);
            event::raise(ec, reason::TRIPLE_FAULT as u16)
        }
        Exit::Host(HostExit::MachineCheck) => event::kill(ec, "machine check in its guest"),
        Exit::Host(_) => {
            // Still pending: it comes now, and does not return here.
            schedule::preemption_point();
            Next::Run(ec)
        }
        Exit::Portal(0) if reflect(ec, v) => Next::Run(ec),
        Exit::Portal(n) if n >= abi::event::GST_ARCH => event::kill(ec, "exit of a kind that has no event"),
        Exit::Portal(n) => event::raise(ec, n as u16),
    }
}

/// Gives a forced exception that the VMM did not ask for to the guest; `false` if it is not one.
fn reflect(ec: &Ec, v: &Vcpu) -> bool {
    let exception = (v.vmcb().control.exitcode as u32).wrapping_sub(code::EXCP0);
    let wanted = ec.vcpu.as_ref().map_or(0, |v| v.exceptions.get());
    if 1u32.checked_shl(exception).unwrap_or(0) & virt::ENDLESS_EXCEPTIONS & !wanted == 0 {
        return false;
    }
    let vector = exception as u8;
    // The error code of #AC is 0.
    let event = Event { kind: EventKind::Exception, vector, has_error: vector == vector::ALIGNMENT_CHECK };
    v.vmcb().control.eventinj = event.encode().into();
    true
}
