//! Which controls the microhypervisor needs, which of them this CPU has, and which a VMM may add.

use crate::spec::{cr0, ept_vpid, feature_control, misc};
use crate::spec::{entry, exit, pin, proc1, proc2};
use abi::VirtMissing;

/// What a CPU says about VMX. Of the control MSRs the TRUE ones, where there are any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityMsrs {
    /// IA32_VMX_BASIC.
    pub basic: u64,
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
    /// IA32_VMX_CR0_FIXED1.
    pub cr0_fixed1: u64,
    /// IA32_VMX_CR4_FIXED0.
    pub cr4_fixed0: u64,
    /// IA32_VMX_CR4_FIXED1.
    pub cr4_fixed1: u64,
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
    /// EPT accessed and dirty flags exist. [`crate::eptp`] leaves them off.
    pub ept_ad: bool,
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
    /// Components that guests may enable in IA32_XSS. [`negotiate`] says none.
    pub xss_supported: u64,
}

const PIN_REQUIRED: u32 = pin::EXTERNAL_INTERRUPT_EXITING | pin::NMI_EXITING | pin::VIRTUAL_NMIS;
const PROC1_REQUIRED: u32 = proc1::HLT_EXITING
    | proc1::TSC_OFFSETTING
    | proc1::MWAIT_EXITING
    | proc1::MONITOR_EXITING
    | proc1::RDPMC_EXITING
    | proc1::IO_BITMAPS
    | proc1::MSR_BITMAPS
    | proc1::SECONDARY_CONTROLS;
/// Not always on, but a VMM can ask for both.
const PROC1_SETTABLE: u32 = proc1::WINDOWS;
const PROC1_NO_TPR_SHADOW: u32 = proc1::CR8_LOAD_EXITING | proc1::CR8_STORE_EXITING;
/// Early CPUs cannot turn these off: their guests would exit on every change of an address space.
const PROC1_UNWANTED: u32 = proc1::CR3_LOAD_EXITING | proc1::CR3_STORE_EXITING;
/// Intercepts that need no further field of the VMCS and take no instruction away from the host.
const PROC1_CHOICE: u32 = proc1::INVLPG_EXITING
    | proc1::RDTSC_EXITING
    | proc1::CR3_LOAD_EXITING
    | proc1::CR3_STORE_EXITING
    | proc1::CR8_LOAD_EXITING
    | proc1::CR8_STORE_EXITING
    | proc1::MOV_DR_EXITING
    | proc1::MONITOR_TRAP_FLAG
    | proc1::PAUSE_EXITING;
const PROC2_OPTIONAL: u32 = proc2::RDTSCP | proc2::INVPCID;
const PROC2_CHOICE: u32 = proc2::DESCRIPTOR_TABLE_EXITING | proc2::RDRAND_EXITING | proc2::RDSEED_EXITING;
/// Required secondary controls, with what their absence means.
const PROC2_REQUIRED: [(u32, VirtMissing); 4] = [
    (proc2::EPT, VirtMissing::NESTED_PAGING),
    (proc2::VPID, VirtMissing::TLB_TAGS),
    (proc2::UNRESTRICTED_GUEST, VirtMissing::UNRESTRICTED),
    (proc2::WBINVD_EXITING, VirtMissing::CONTROLS),
];
const EXIT_REQUIRED: u32 = exit::SAVE_DEBUG_CONTROLS
    | exit::HOST_ADDRESS_SPACE_SIZE
    | exit::ACKNOWLEDGE_INTERRUPT
    | exit::SAVE_PAT
    | exit::LOAD_PAT
    | exit::SAVE_EFER
    | exit::LOAD_EFER;
const ENTRY_REQUIRED: u32 = entry::LOAD_DEBUG_CONTROLS | entry::LOAD_PAT | entry::LOAD_EFER;
/// Not always on, but guests must be able to enter long mode.
const ENTRY_SETTABLE: u32 = entry::IA32E_MODE_GUEST;
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
        (Allowed(c.proc1).has(PROC1_REQUIRED | PROC1_SETTABLE), VirtMissing::CONTROLS),
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

/// Chooses the controls for a CPU, or says everything that it lacks.
pub fn negotiate(c: &CapabilityMsrs) -> Result<Controls, VirtMissing> {
    let missing = missing(c);
    if !missing.is_empty() {
        return Err(missing);
    }
    let (pins, proc1, proc2) = (Allowed(c.pin), Allowed(c.proc1), Allowed(c.proc2));
    let tpr_shadow = proc1.has(proc1::TPR_SHADOW);
    let cr8 = if tpr_shadow { proc1::TPR_SHADOW } else { proc1.may(PROC1_NO_TPR_SHADOW) };
    let proc2_required = PROC2_REQUIRED.iter().fold(0, |all, (control, _)| all | control);
    // An unrestricted guest may clear these two although IA32_VMX_CR0_FIXED0 has them (A.7).
    let cr0_fixed = c.cr0_fixed0 & !(cr0::PE | cr0::PG);
    Ok(Controls {
        pin: pins.must() | PIN_REQUIRED | pins.may(pin::PREEMPTION_TIMER),
        proc1: proc1.must() | PROC1_REQUIRED | cr8,
        proc1_choice: proc1.may(PROC1_CHOICE),
        proc2: proc2.must() | proc2_required | proc2.may(PROC2_OPTIONAL),
        proc2_choice: proc2.may(PROC2_CHOICE),
        exit: Allowed(c.exit).must() | EXIT_REQUIRED,
        entry: Allowed(c.entry).must() | ENTRY_REQUIRED,
        timer: pins.has(pin::PREEMPTION_TIMER),
        timer_shift: (c.misc & misc::TIMER_SHIFT) as u32,
        tpr_shadow,
        ept_ad: has(c.ept_vpid, ept_vpid::ACCESSED_DIRTY),
        ept_giant: has(c.ept_vpid, ept_vpid::PAGES_1G),
        activity_hlt: has(c.misc, misc::ACTIVITY_HLT),
        inject_other: proc1.has(proc1::MONITOR_TRAP_FLAG),
        cr0_fixed,
        // MOV to CR0 in guest mode really sets CD and NW, and neither entry nor exit restores them (27.3.2.1, 28.5.1).
        cr0_owned: cr0_fixed | cr0::CD | cr0::NW,
        cr4_fixed: c.cr4_fixed0,
        xcr0_supported: 1,
        xss_supported: 0,
    })
}

impl Controls {
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
