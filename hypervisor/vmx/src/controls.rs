//! Which controls the microhypervisor needs, which of them this CPU has, and which a VMM may add.

use crate::spec::{ept_vpid, feature_control, misc};
use abi::VirtMissing;
use switches::Switches;
use virt::spec::cr0;
use x86::vmx::vmcs::control::{
    EntryControls as Entry, ExitControls as Exit, PinbasedControls as Pin, PrimaryControls as Proc1,
    SecondaryControls as Proc2,
};

/// What a CPU says about VMX. Of the control MSRs the TRUE ones, where there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityMsrs {
    /// IA32_VMX_(TRUE_)PINBASED_CTLS.
    pub pin: u64,
    /// IA32_VMX_(TRUE_)PROCBASED_CTLS.
    pub proc1: u64,
    /// IA32_VMX_PROCBASED_CTLS2; 0 where there are no secondary controls.
    pub proc2: u64,
    /// IA32_VMX_(TRUE_)EXIT_CTLS.
    pub exit: u64,
    /// IA32_VMX_(TRUE_)ENTRY_CTLS.
    pub entry: u64,
    /// IA32_VMX_EPT_VPID_CAP; 0 where there is neither.
    pub ept_vpid: u64,
    /// IA32_VMX_CR0_FIXED0.
    pub cr0_fixed0: u64,
    /// IA32_VMX_CR4_FIXED0.
    pub cr4_fixed0: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_FEATURE_CONTROL.
    pub feature_control: u64,
    /// CPUID.1:ECX.VMX. If clear, nothing else is looked at.
    pub cpuid_vmx: bool,
}

/// Controls for all vCPUs of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// Pin-based controls.
    pub pin: u32,
    /// Primary controls that are always on.
    pub proc1: u32,
    /// Primary controls that a VMM may add.
    pub proc1_choice: u32,
    /// Secondary controls that are always on.
    pub proc2: u32,
    /// Secondary controls that a VMM may add.
    pub proc2_choice: u32,
    /// VM-exit controls.
    pub exit: u32,
    /// VM-entry controls, without IA-32e mode guest, which follows the guest's EFER.LMA.
    pub entry: u32,
    /// The preemption timer is in use.
    pub timer: bool,
    /// log2 TSC ticks per tick of the preemption timer.
    pub timer_shift: u32,
    /// A TPR shadow is in use: CR8 lives in the virtual-APIC page. Otherwise accesses to CR8 exit.
    pub tpr_shadow: bool,
    /// EPT has 1 GiB leaves.
    pub ept_giant: bool,
    /// Activity state HLT exists.
    pub activity_hlt: bool,
    /// Events of type "other" (pending MTF) may be injected.
    pub inject_other: bool,
    /// Bits of CR0 that are 1 while guests run.
    pub cr0_fixed: u64,
    /// Bits of CR0 that guests cannot change without an exit.
    pub cr0_owned: u64,
    /// Bits of CR4 that are 1 while guests run, and that guests cannot change without an exit.
    pub cr4_fixed: u64,
    /// Components that guests may enable in XCR0. [`negotiate`] says x87 only; the kernel adds what it switches.
    pub xcr0_supported: u64,
}

const PIN_REQUIRED: u32 = Pin::EXTERNAL_INTERRUPT_EXITING.union(Pin::NMI_EXITING).union(Pin::VIRTUAL_NMIS).bits();
const PROC1_REQUIRED: u32 = Proc1::HLT_EXITING
    .union(Proc1::USE_TSC_OFFSETTING)
    .union(Proc1::MWAIT_EXITING)
    .union(Proc1::MONITOR_EXITING)
    .union(Proc1::RDPMC_EXITING)
    .union(Proc1::USE_IO_BITMAPS)
    .union(Proc1::USE_MSR_BITMAPS)
    .union(Proc1::SECONDARY_CONTROLS)
    .bits();
/// Interrupt and NMI window: not always on, but a VMM can ask for both.
pub(crate) const WINDOWS: u32 = Proc1::INTERRUPT_WINDOW_EXITING.union(Proc1::NMI_WINDOW_EXITING).bits();
const PROC1_NO_TPR_SHADOW: u32 = Proc1::CR8_LOAD_EXITING.union(Proc1::CR8_STORE_EXITING).bits();
/// Early CPUs cannot turn these off: their guests would exit on every change of an address space.
const PROC1_UNWANTED: u32 = Proc1::CR3_LOAD_EXITING.union(Proc1::CR3_STORE_EXITING).bits();
/// Intercepts that need no further field of the VMCS and take no instruction away from the host.
const PROC1_CHOICE: u32 = Proc1::INVLPG_EXITING
    .union(Proc1::RDTSC_EXITING)
    .union(Proc1::CR3_LOAD_EXITING)
    .union(Proc1::CR3_STORE_EXITING)
    .union(Proc1::CR8_LOAD_EXITING)
    .union(Proc1::CR8_STORE_EXITING)
    .union(Proc1::MOV_DR_EXITING)
    .union(Proc1::MONITOR_TRAP_FLAG)
    .union(Proc1::PAUSE_EXITING)
    .bits();
const PROC2_OPTIONAL: u32 = Proc2::ENABLE_RDTSCP.union(Proc2::ENABLE_INVPCID).bits();
const PROC2_CHOICE: u32 = Proc2::DTABLE_EXITING.union(Proc2::RDRAND_EXITING).union(Proc2::RDSEED_EXITING).bits();
/// Required secondary controls, with what their absence means.
const PROC2_REQUIRED: [(u32, VirtMissing); 4] = [
    (Proc2::ENABLE_EPT.bits(), VirtMissing::NESTED_PAGING),
    (Proc2::ENABLE_VPID.bits(), VirtMissing::TLB_TAGS),
    (Proc2::UNRESTRICTED_GUEST.bits(), VirtMissing::UNRESTRICTED),
    (Proc2::WBINVD_EXITING.bits(), VirtMissing::CONTROLS),
];
const EXIT_REQUIRED: u32 = Exit::SAVE_DEBUG_CONTROLS
    .union(Exit::HOST_ADDRESS_SPACE_SIZE)
    .union(Exit::ACK_INTERRUPT_ON_EXIT)
    .union(Exit::SAVE_IA32_PAT)
    .union(Exit::LOAD_IA32_PAT)
    .union(Exit::SAVE_IA32_EFER)
    .union(Exit::LOAD_IA32_EFER)
    .bits();
const ENTRY_REQUIRED: u32 = Entry::LOAD_DEBUG_CONTROLS.union(Entry::LOAD_IA32_PAT).union(Entry::LOAD_IA32_EFER).bits();
/// Not always on, but guests must be able to enter long mode.
const ENTRY_SETTABLE: u32 = Entry::IA32E_MODE_GUEST.bits();
const EPT_REQUIRED: u64 =
    ept_vpid::WALK_LENGTH_4 | ept_vpid::WRITE_BACK | ept_vpid::PAGES_2M | ept_vpid::INVEPT | ept_vpid::INVEPT_ALL;
const VPID_REQUIRED: u64 = ept_vpid::INVVPID | ept_vpid::INVVPID_SINGLE;

/// A control MSR (A.2): bits 31:0 must be set, bits 63:32 may be set.
#[derive(Clone, Copy)]
struct Allowed(u64);

impl Allowed {
    fn must(self) -> u32 {
        self.0 as u32
    }

    fn may(self, wanted: u32) -> u32 {
        wanted & (self.0 >> 32) as u32
    }

    fn has(self, wanted: u32) -> bool {
        self.may(wanted) == wanted
    }
}

/// Whether `caps` has all of `required`.
fn has(caps: u64, required: u64) -> bool {
    caps & required == required
}

/// Everything that keeps a CPU from running guests.
fn missing(c: &CapabilityMsrs) -> VirtMissing {
    if !c.cpuid_vmx {
        return VirtMissing::CPU;
    }
    let locked = has(c.feature_control, feature_control::LOCK);
    let proc2 = Allowed(c.proc2);
    let checks = [
        (!locked || has(c.feature_control, feature_control::VMX_OUTSIDE_SMX), VirtMissing::LOCKED),
        (Allowed(c.pin).has(PIN_REQUIRED), VirtMissing::CONTROLS),
        (Allowed(c.proc1).has(PROC1_REQUIRED | WINDOWS), VirtMissing::CONTROLS),
        (Allowed(c.proc1).must() & PROC1_UNWANTED == 0, VirtMissing::CONTROLS),
        (Allowed(c.exit).has(EXIT_REQUIRED), VirtMissing::CONTROLS),
        (Allowed(c.entry).has(ENTRY_REQUIRED | ENTRY_SETTABLE), VirtMissing::CONTROLS),
        (has(c.ept_vpid, EPT_REQUIRED), VirtMissing::NESTED_PAGING),
        (has(c.ept_vpid, VPID_REQUIRED), VirtMissing::TLB_TAGS),
    ];
    let secondary = PROC2_REQUIRED.map(|(control, name)| (proc2.has(control), name));
    checks
        .into_iter()
        .chain(secondary)
        .filter(|(present, _)| !present)
        .fold(VirtMissing::empty(), |all, (_, name)| all | name)
}

impl CapabilityMsrs {
    /// As if the CPU had nothing of these.
    pub fn without(mut self, off: Switches) -> CapabilityMsrs {
        let may = |s, bit: u32| if off.contains(s) { u64::from(bit) << 32 } else { 0 };
        self.pin &= !may(Switches::PREEMPTION_TIMER, Pin::VMX_PREEMPTION_TIMER.bits());
        self.proc1 &= !may(Switches::TPR_SHADOW, Proc1::USE_TPR_SHADOW.bits());
        if off.contains(Switches::GIANT_PAGES) {
            self.ept_vpid &= !ept_vpid::PAGES_1G;
        }
        self
    }
}

/// Chooses the controls for a CPU, or says everything that it lacks.
pub fn negotiate(c: &CapabilityMsrs) -> Result<Controls, VirtMissing> {
    let missing = missing(c);
    if !missing.is_empty() {
        return Err(missing);
    }
    let (pins, proc1, proc2) = (Allowed(c.pin), Allowed(c.proc1), Allowed(c.proc2));
    let tpr_shadow = proc1.has(Proc1::USE_TPR_SHADOW.bits());
    let cr8 = if tpr_shadow { Proc1::USE_TPR_SHADOW.bits() } else { proc1.may(PROC1_NO_TPR_SHADOW) };
    let proc2_required = PROC2_REQUIRED.iter().fold(0, |all, (control, _)| all | control);
    // An unrestricted guest may clear these two although IA32_VMX_CR0_FIXED0 has them (A.7).
    let cr0_fixed = c.cr0_fixed0 & !(cr0::PE | cr0::PG);
    Ok(Controls {
        pin: pins.must() | PIN_REQUIRED | pins.may(Pin::VMX_PREEMPTION_TIMER.bits()),
        proc1: proc1.must() | PROC1_REQUIRED | cr8,
        proc1_choice: proc1.may(PROC1_CHOICE),
        proc2: proc2.must() | proc2_required | proc2.may(PROC2_OPTIONAL),
        proc2_choice: proc2.may(PROC2_CHOICE),
        exit: Allowed(c.exit).must() | EXIT_REQUIRED,
        entry: Allowed(c.entry).must() | ENTRY_REQUIRED,
        timer: pins.has(Pin::VMX_PREEMPTION_TIMER.bits()),
        timer_shift: (c.misc & misc::TIMER_SHIFT) as u32,
        tpr_shadow,
        ept_giant: has(c.ept_vpid, ept_vpid::PAGES_1G),
        activity_hlt: has(c.misc, misc::ACTIVITY_HLT),
        inject_other: proc1.has(Proc1::MONITOR_TRAP_FLAG.bits()),
        cr0_fixed,
        // MOV to CR0 in guest mode really sets CD and NW, and neither entry nor exit restores them (27.3.2.1, 28.5.1).
        cr0_owned: cr0_fixed | cr0::CD | cr0::NW,
        cr4_fixed: c.cr4_fixed0,
        xcr0_supported: 1,
    })
}

impl Controls {
    /// What is in use of that which can be turned off.
    pub fn in_use(&self) -> Switches {
        let mut all = Switches::empty();
        all.set(Switches::PREEMPTION_TIMER, self.timer);
        all.set(Switches::TPR_SHADOW, self.tpr_shadow);
        all
    }

    /// Value of the preemption timer for a number of TSC ticks.
    #[inline]
    pub fn timer_value(&self, tsc_ticks: u64) -> u32 {
        u32::try_from(tsc_ticks >> self.timer_shift).unwrap_or(u32::MAX)
    }

    /// Primary controls for a VMM's wishes; windows not included.
    #[inline]
    pub(crate) fn proc1_with(&self, wanted: u32) -> u32 {
        self.proc1 | wanted & self.proc1_choice
    }

    /// Secondary controls for a VMM's wishes.
    #[inline]
    pub(crate) fn proc2_with(&self, wanted: u32) -> u32 {
        self.proc2 | wanted & self.proc2_choice
    }
}
