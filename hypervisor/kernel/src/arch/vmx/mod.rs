//! VT-x: a virtual CPU, its entry and its exits. What can be decided without executing an instruction is in the `vmx`
//! crate.

mod insn;
mod quick;
mod vcpu;

pub use ::vmx::RARE;
pub use quick::{reply_at_once, vm_exit};
pub use vcpu::Vcpu;

use super::cpu::{self, cpu, cpuid};
use super::{fast, fpu, guest, interrupt, paging, speculation, tables, time};
use crate::event;
use crate::mem::{layout, pool::Page};
use crate::object::account::KERNEL;
use crate::object::ec::{Cont, Ec, Expect};
use crate::schedule::{self, Next};
use crate::{complain, say, trace};
use abi::{ArchState, Mtd, VirtMissing};
use spin::Once;
use switches::Switches;
use virt::spec::{reason, vector};
use virt::{Exit, HostExit, MsrArea};
use vmx::{CapabilityMsrs, Controls, Field, HostState, VmcsPort, control, guest as guest_state, ro};
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr;

static CONTROLS: Once<Controls> = Once::new();

/// IA32_FEATURE_CONTROL: lock, and VMXON outside SMX (Intel SDM vol. 4).
const LOCKED_ON: u64 = 0b101;

/// Whether EPT has 1 GiB pages.
pub fn ept_giant() -> bool {
    CONTROLS.get().is_some_and(|c| c.ept_giant)
}

/// What is in use of that which can be turned off.
pub fn in_use() -> Switches {
    CONTROLS.get().map_or(Switches::empty(), Controls::in_use)
}

fn read(msr: u32) -> u64 {
    // SAFETY: called for MSRs that exist on a CPU with the feature only.
    unsafe { msr::rdmsr(msr) }
}

fn capabilities() -> CapabilityMsrs {
    if !cpuid().get_feature_info().is_some_and(|f| f.has_vmx()) {
        return CapabilityMsrs::default();
    }
    // Bit 55: the TRUE control MSRs exist.
    let exact = read(msr::IA32_VMX_BASIC) & 1 << 55 != 0;
    let control = |plain: u32, true_one: u32| read(if exact { true_one } else { plain });
    let proc1 = control(msr::IA32_VMX_PROCBASED_CTLS, msr::IA32_VMX_TRUE_PROCBASED_CTLS);
    let proc2 = if proc1 >> 63 != 0 { read(msr::IA32_VMX_PROCBASED_CTLS2) } else { 0 };
    // Bits 1 and 5 of the secondary controls: EPT, VPID.
    let ept_vpid = if proc2 >> 32 & 0x22 != 0 { read(msr::IA32_VMX_EPT_VPID_CAP) } else { 0 };
    CapabilityMsrs {
        pin: control(msr::IA32_VMX_PINBASED_CTLS, msr::IA32_VMX_TRUE_PINBASED_CTLS),
        proc1,
        proc2,
        exit: control(msr::IA32_VMX_EXIT_CTLS, msr::IA32_VMX_TRUE_EXIT_CTLS),
        entry: control(msr::IA32_VMX_ENTRY_CTLS, msr::IA32_VMX_TRUE_ENTRY_CTLS),
        ept_vpid,
        cr0_fixed0: read(msr::IA32_VMX_CR0_FIXED0),
        cr4_fixed0: read(msr::IA32_VMX_CR4_FIXED0),
        misc: read(msr::IA32_VMX_MISC),
        feature_control: unlock(),
        cpuid_vmx: true,
    }
    .without(cpu::off())
}

/// Locks VMX on if the firmware has left that to us.
fn unlock() -> u64 {
    let v = read(msr::IA32_FEATURE_CONTROL);
    if v & 1 == 0 {
        // SAFETY: allowed while unlocked; enables what the kernel uses.
        unsafe { msr::wrmsr(msr::IA32_FEATURE_CONTROL, v | LOCKED_ON) };
    }
    read(msr::IA32_FEATURE_CONTROL)
}

/// Enters VMX operation on this CPU, if it has all that the kernel needs; otherwise says what is missing.
pub fn init() -> Result<(), VirtMissing> {
    let caps = capabilities();
    let mut c = vmx::negotiate(&caps)?;
    turn_on(&caps)?;
    c.xcr0_supported = cpu().features.get().xcr0;
    CONTROLS.call_once(|| c);
    Ok(())
}

/// Enters VMX operation on another CPU, which has to have what the first has.
pub fn enable() -> Result<(), VirtMissing> {
    let caps = capabilities();
    vmx::negotiate(&caps)?;
    turn_on(&caps)
}

fn turn_on(caps: &CapabilityMsrs) -> Result<(), VirtMissing> {
    let (region, host) = Page::new(&KERNEL).zip(Page::new(&KERNEL)).ok_or(VirtMissing::CONTROLS)?;
    set_revision(&region);
    // SAFETY: the fixed bits are those that VMX operation demands; the frame is the VMXON region and nothing else.
    unsafe {
        cr0_write(cr0() | Cr0::from_bits_truncate(caps.cr0_fixed0 as usize));
        cr4_write(cr4() | Cr4::from_bits_truncate(caps.cr4_fixed0 as usize) | Cr4::CR4_ENABLE_VMX);
        insn::vmxon(region.phys()).map_err(|_| VirtMissing::CONTROLS)?;
    }
    let mut area = MsrArea::ZERO;
    for m in [&mut area.star, &mut area.lstar, &mut area.fmask] {
        m.value = read(m.index);
    }
    // SAFETY: a frame of our own, large enough and aligned.
    unsafe { host.at().write(area) };
    cpu().host_msrs.set(host.phys());
    // Hardware uses both as long as the CPU is on.
    core::mem::forget((region, host));
    Ok(())
}

fn set_revision(page: &Page) {
    // SAFETY: a frame of our own.
    unsafe { page.at::<u32>().write(read(msr::IA32_VMX_BASIC) as u32 & 0x7fff_ffff) };
}

/// Number of MSRs that entries and exits switch.
fn msr_count() -> u32 {
    let rdtscp = cpuid().get_extended_processor_and_feature_identifiers().is_some_and(|x| x.has_rdtscp());
    if rdtscp { MsrArea::LEN } else { MsrArea::LEN_NO_TSC_AUX }
}

/// The current VMCS.
struct Port;

impl VmcsPort for Port {
    #[inline(always)]
    fn read(&self, field: Field) -> u64 {
        // SAFETY: a vCPU exists, so the CPU is in VMX operation.
        unsafe { insn::vmread(field) }
    }

    #[inline(always)]
    fn write(&mut self, field: Field, value: u64) {
        // SAFETY: as above; the callers are the `vmx` crate and this module.
        unsafe { insn::vmwrite(field, value) };
    }
}

/// Flushes what this CPU knows of guest spaces.
pub fn flush_all() {
    if CONTROLS.get().is_some() {
        // SAFETY: in VMX operation; all-context INVEPT is part of what `negotiate` requires.
        unsafe { insn::invept(2, 0) };
    }
}

/// State of a vCPU into a UTCB.
pub fn save_state(v: &Vcpu, mtd: Mtd, s: &mut ArchState) {
    v.make_current();
    if mtd.contains(Mtd::CR) {
        v.fetch_cr8();
    }
    vmx::save(mtd, s, &Port, v.regs(), &());
}

/// State from a UTCB into a vCPU.
pub fn load_state(v: &Vcpu, mtd: Mtd, s: &ArchState) {
    v.make_current();
    v.known.forget();
    vmx::load(mtd, s, &mut Port, v.regs(), v.controls);
    if mtd.contains(Mtd::CR) {
        v.store_cr8();
    }
    if mtd.contains(Mtd::TLB) {
        v.flush();
    }
}

/// Enters the guest.
pub fn run(ec: &'static Ec, vcpu: &guest::Vcpu, v: &Vcpu) -> Next {
    // The exit comes back with this CR3: that of the VMM.
    if !ec.hst.enter(ec.cr3) {
        return event::kill(ec, "has no host space on this CPU any more");
    }
    schedule::make_current(ec);
    v.make_current();
    v.prepare(&vcpu.spaces, paging::cr3());
    guest::switch_from_last(ec);
    fpu::enter_guest(ec, v.regs().xcr0);
    if v.controls.timer {
        let left = cpu().timer.get().saturating_sub(time::now());
        Port.write(guest_state::VMX_PREEMPTION_TIMER_VALUE, v.controls.timer_value(left).into());
    }
    fast::enter_guest(ec);
    // As this and later exits leave it.
    fpu::note_ts();
    cpu().tr_stale.set(true);
    speculation::before_guest();
    let regs = v.regs();
    // SAFETY: CR2 only matters to page-fault handlers; the VMCS is complete.
    unsafe {
        x86::controlregs::cr2_write(regs.cr2);
        if v.launched() { super::vmx_resume(&regs.gpr) } else { super::vmx_launch(&regs.gpr) }
    }
}

#[cold]
#[inline(never)]
fn exit_slowly(reason: u64) -> ! {
    let Some(ec) = cpu().ec.get() else { panic!("VM exit from nowhere") };
    ec.ipc.cont.set(Cont::Guest);
    ipc::is_leaf(ec);
    trace!(EXIT, Some(ec), reason, Port.read(guest_state::RIP));
    if let Some(v) = ec.vcpu.as_ref().and_then(|v| v.vmx())
        && reason & ENTRY_FAILED == 0
    {
        // After a failed entry the vectoring information is that of an older exit, and the VMCS is not launched.
        v.entered();
        v.known.forget();
        vmx::requeue(&mut Port);
    }
    let next = match vmx::decode_exit(reason, || Port.read(ro::VMEXIT_INTERRUPTION_INFO)) {
        Exit::Portal(n) if n >= abi::event::GST_ARCH => event::kill(ec, "exit of a kind that has no event"),
        Exit::Portal(0) if reflect(ec) => Next::Run(ec),
        Exit::Portal(n) => {
            vmx::restore_nmi_blocking(&mut Port, reason);
            ec.ipc.expect.set(Expect::State(Cont::Guest));
            event::raise(ec, n as u16)
        }
        Exit::Host(HostExit::MachineCheck) => event::kill(ec, "machine check in its guest"),
        Exit::Host(h) => {
            host_exit(h);
            Next::Run(ec)
        }
    };
    schedule::go(next)
}

/// Gives a forced exception that the VMM did not ask for to the guest; `false` if it is not one.
///
/// An event whose delivery it interrupted is given up for it.
fn reflect(ec: &Ec) -> bool {
    let Some(v) = ec.vcpu.as_ref() else { return false };
    let info = Port.read(ro::VMEXIT_INTERRUPTION_INFO) as u32;
    let bit = 1u32.checked_shl(info & virt::info::VECTOR).unwrap_or(0);
    if bit & virt::ENDLESS_EXCEPTIONS & !v.exceptions.get() == 0 {
        return false;
    }
    if bit == 1 << vector::DEBUG {
        guest::note_debug(Port.read(ro::EXIT_QUALIFICATION));
        // As delivery without an exit would have done (17.2.4).
        Port.write(guest_state::DR7, Port.read(guest_state::DR7) & !virt::spec::dr::DR7_GD);
    }
    Port.write(control::VMENTRY_INTERRUPTION_INFO_FIELD, (info & virt::info::ALL).into());
    Port.write(control::VMENTRY_EXCEPTION_ERR_CODE, 0);
    // INT1 is an event with an instruction, and entry wants to know its length.
    Port.write(control::VMENTRY_INSTRUCTION_LEN, Port.read(ro::VMEXIT_INSTRUCTION_LEN));
    true
}

fn host_exit(h: HostExit) {
    match h {
        HostExit::ExternalInterrupt(vector) => interrupt::handle(vector, None),
        HostExit::Timer => {
            time::fired();
            // Bochs holds interrupts back while a guest that was entered with its own off runs. Here they come.
            schedule::preemption_point();
        }
        HostExit::Nmi if crate::remote::stopped() => crate::halt(),
        HostExit::Nmi => say!("cpu {}: NMI", cpu().id.get()),
        HostExit::MachineCheck => {}
    }
}

/// VMLAUNCH or VMRESUME refused the VMCS itself. For the VMM that is a failed VM entry like any other.
pub extern "C" fn entry_failed() -> ! {
    let Some(ec) = cpu().ec.get() else { panic!("VM entry from nowhere") };
    // There was no VM exit; whoever replied by the quick way has left selectors.
    tables::clear_data_segments();
    fpu::look_at_ts();
    ipc::is_leaf(ec);
    complain!("vCPU with event base {:#x}: VM-instruction error {}", ec.evt, Port.read(ro::VM_INSTRUCTION_ERROR));
    ec.ipc.expect.set(Expect::State(Cont::Guest));
    schedule::go(event::raise(ec, reason::ENTRY_FAILURE as u16))
}

/// Exit reason: the entry failed after the host state was saved (Intel SDM vol. 3, 25.9.1).
const ENTRY_FAILED: u64 = 1 << 31;

/// What VM exit loads: constant but for the address space and the place of the vCPU's registers.
fn host_state(cr3: u64, rsp: u64) -> HostState {
    // SAFETY: reading control registers.
    let (c0, c4) = unsafe { (cr0(), cr4()) };
    HostState {
        // A VM exit sets TS: vector state stays the guest's until somebody else uses it.
        cr0: (c0 | Cr0::CR0_TASK_SWITCHED).bits() as u64,
        cr3,
        cr4: c4.bits() as u64,
        cs: tables::KERNEL_CS,
        ss: tables::KERNEL_SS,
        tr: tables::TSS,
        tr_base: layout::TSS,
        gdtr_base: cpu().gdt.as_ptr() as u64,
        idtr_base: tables::idt_base(),
        pat: ptab::IA32_PAT,
        efer: read(msr::IA32_EFER),
        rsp,
        rip: super::vmx_exit as *const () as u64,
    }
}
