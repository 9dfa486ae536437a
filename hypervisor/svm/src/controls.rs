//! Which features the microhypervisor needs, which of them this CPU has, and which intercepts a VMM may add.
//!
//! Not used although CPUs have them: VGIF, virtual VMLOAD and LBR (for guests that run guests), PauseFilter (PAUSE
//! exits are all or nothing, as on VMX), AVIC, VNMI.

use crate::Intercepts;
use crate::spec::{clean, feature, misc1, misc2, vm_cr};
use abi::{ArchState, VirtMissing};
use switches::Switches;
use virt::spec::{cr0, vector};
use x86::vmx::vmcs::control::{PrimaryControls as Proc1, SecondaryControls as Proc2};

/// What a CPU says about SVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityBits {
    /// CPUID 8000_0001, ECX.SVM. If clear, nothing else is looked at.
    pub cpuid_svm: bool,
    /// VM_CR, after the kernel has tried to clear SVMDIS.
    pub vm_cr: u64,
    /// CPUID 8000_000A, EBX: number of ASIDs.
    pub ebx: u32,
    /// CPUID 8000_000A, EDX: [`feature`].
    pub edx: u32,
    /// CPUID 7, ECX and EDX, and CPUID 7.1, EAX.
    pub leaf7: [u32; 3],
}

/// Controls for all vCPUs of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controls {
    /// What always exits.
    pub required: Intercepts,
    /// Number of ASIDs; guests can have 1 to one less.
    pub asids: u32,
    /// The VMCB gets the address of the next instruction.
    pub nrips: bool,
    /// Exits tell operands.
    pub decode_assists: bool,
    /// One ASID can be flushed. Otherwise a flush costs all of them.
    pub flush_by_asid: bool,
    /// The clean bits after an exit: all, or none if the processor does not heed them.
    pub vmcb_clean: u32,
    /// Components that guests may enable in XCR0. [`negotiate`] says x87 only; the kernel adds what it switches.
    pub xcr0_supported: u64,
}

/// What takes the CPU away from the host, depends on state that the host shares with guests, or is an instruction of a
/// feature that guests do not have. And what exits on VMX without being asked for.
///
/// EFER is not here: its accesses exit by the MSR permission map ([`crate::msrpm`]).
const REQUIRED: Intercepts = Intercepts {
    exceptions: 1 << vector::MACHINE_CHECK,
    misc1: misc1::INTR
        | misc1::NMI
        | misc1::INIT
        | misc1::RDPMC
        | misc1::CPUID
        | misc1::INVD
        | misc1::HLT
        | misc1::INVLPGA
        | misc1::IOIO_PROT
        | misc1::MSR_PROT
        | misc1::SHUTDOWN,
    misc2: misc2::VMRUN
        | misc2::VMMCALL
        | misc2::VMLOAD
        | misc2::VMSAVE
        | misc2::STGI
        | misc2::CLGI
        | misc2::SKINIT
        | misc2::WBINVD
        | misc2::MONITOR
        | misc2::MWAIT
        | misc2::XSETBV,
    ..Intercepts::NONE
};

/// Features in [`CapabilityBits::leaf7`] with the bits [`virt::CR4_NOT_SWITCHED`] of CR4. PKU, CET_SS, PKS; UINTR, CET_IBT;
/// LASS, FRED, LAM.
const NOT_SWITCHED: [u32; 3] = [1 << 3 | 1 << 7 | 1 << 31, 1 << 5 | 1 << 20, 1 << 6 | 1 << 17 | 1 << 26];

const CR3: u16 = 1 << 3;
const CR4: u16 = 1 << 4;
const CR8: u16 = 1 << 8;

/// What each bit of the primary controls adds.
const PROC1_CHOICE: [(u32, Intercepts); 8] = [
    (Proc1::INVLPG_EXITING.bits(), Intercepts { misc1: misc1::INVLPG, ..Intercepts::NONE }),
    (Proc1::RDTSC_EXITING.bits(), Intercepts { misc1: misc1::RDTSC, misc2: misc2::RDTSCP, ..Intercepts::NONE }),
    (Proc1::CR3_LOAD_EXITING.bits(), Intercepts { cr_write: CR3, ..Intercepts::NONE }),
    (Proc1::CR3_STORE_EXITING.bits(), Intercepts { cr_read: CR3, ..Intercepts::NONE }),
    (Proc1::CR8_LOAD_EXITING.bits(), Intercepts { cr_write: CR8, ..Intercepts::NONE }),
    (Proc1::CR8_STORE_EXITING.bits(), Intercepts { cr_read: CR8, ..Intercepts::NONE }),
    (Proc1::MOV_DR_EXITING.bits(), Intercepts { dr_read: u16::MAX, dr_write: u16::MAX, ..Intercepts::NONE }),
    (Proc1::PAUSE_EXITING.bits(), Intercepts { misc1: misc1::PAUSE, ..Intercepts::NONE }),
];
/// What each bit of the secondary controls adds.
const PROC2_CHOICE: [(u32, Intercepts); 1] =
    [(Proc2::DTABLE_EXITING.bits(), Intercepts { misc1: misc1::DESCRIPTOR_TABLES, ..Intercepts::NONE })];

/// What can be turned off, and its bit of [`CapabilityBits::edx`].
const OPTIONAL: [(Switches, u32); 4] = [
    (Switches::NRIPS, feature::NRIPS),
    (Switches::DECODE_ASSISTS, feature::DECODE_ASSISTS),
    (Switches::FLUSH_BY_ASID, feature::FLUSH_BY_ASID),
    (Switches::CLEAN_BITS, feature::VMCB_CLEAN),
];

impl CapabilityBits {
    /// As if the CPU had nothing of these.
    pub fn without(mut self, off: Switches) -> CapabilityBits {
        let hidden = OPTIONAL.iter().filter(|(s, _)| off.contains(*s));
        self.edx &= !hidden.fold(0, |all, (_, bit)| all | bit);
        self
    }
}

/// Everything that keeps a CPU from running guests.
fn missing(c: &CapabilityBits) -> VirtMissing {
    if !c.cpuid_svm {
        return VirtMissing::CPU;
    }
    [
        (c.vm_cr & vm_cr::SVMDIS == 0, VirtMissing::LOCKED),
        (c.edx & feature::NP != 0, VirtMissing::NESTED_PAGING),
        (c.ebx >= 2, VirtMissing::TLB_TAGS),
    ]
    .into_iter()
    .filter(|(present, _)| !present)
    .fold(VirtMissing::empty(), |all, (_, name)| all | name)
}

/// Chooses the controls for a CPU, or says everything that it lacks.
pub fn negotiate(c: &CapabilityBits) -> Result<Controls, VirtMissing> {
    let missing = missing(c);
    if !missing.is_empty() {
        return Err(missing);
    }
    let has = |bit| c.edx & bit != 0;
    let cr_write = if c.leaf7.iter().zip(NOT_SWITCHED).any(|(have, bits)| have & bits != 0) { CR4 } else { 0 };
    Ok(Controls {
        required: Intercepts { cr_write, ..REQUIRED },
        asids: c.ebx,
        nrips: has(feature::NRIPS),
        decode_assists: has(feature::DECODE_ASSISTS),
        flush_by_asid: has(feature::FLUSH_BY_ASID),
        vmcb_clean: if has(feature::VMCB_CLEAN) { clean::ALL } else { 0 },
        xcr0_supported: 1,
    })
}

impl Controls {
    /// What is in use of that which can be turned off.
    pub fn in_use(&self) -> Switches {
        let mut all = Switches::empty();
        all.set(Switches::NRIPS, self.nrips);
        all.set(Switches::DECODE_ASSISTS, self.decode_assists);
        all.set(Switches::FLUSH_BY_ASID, self.flush_by_asid);
        all.set(Switches::CLEAN_BITS, self.vmcb_clean != 0);
        all
    }

    /// Intercepts for a VMM's wishes; windows not included.
    pub(crate) fn intercepts_with(&self, u: &ArchState) -> Intercepts {
        let chosen = |word: u32, choices: &[(u32, Intercepts)]| {
            choices.iter().filter(|(bit, _)| word & bit != 0).fold(Intercepts::NONE, |all, (_, i)| all.union(*i))
        };
        self.required
            .union(chosen(u.ctrl[0], &PROC1_CHOICE))
            .union(chosen(u.ctrl[1], &PROC2_CHOICE))
            .union(register_intercepts(u.intcpt_cr0, u.intcpt_cr4))
            .union(Intercepts { exceptions: exceptions(u), ..Intercepts::NONE })
    }
}

/// Intercepts of writes for owned bits of CR0 and CR4. Where neither TS nor MP is owned, the frequent switching of
/// these two does not exit.
fn register_intercepts(owned_cr0: u64, owned_cr4: u64) -> Intercepts {
    let frequent = owned_cr0 & (cr0::TS | cr0::MP) != 0;
    let selective = owned_cr0 != 0 && !frequent;
    Intercepts {
        cr_write: u16::from(frequent) | u16::from(owned_cr4 != 0) << 4,
        misc1: if selective { misc1::CR0_SEL_WRITE } else { 0 },
        ..Intercepts::NONE
    }
}

/// The exception bitmap. VMX selects page faults by their error code: those exit whose masked code equals the match or
/// does not, as bit 14 says. SVM cannot: all exit if some should.
fn exceptions(u: &ArchState) -> u32 {
    const PAGE_FAULT: u32 = 1 << vector::PAGE_FAULT;
    let never_equal = u.pfe_match & !u.pfe_mask != 0;
    let always_equal = u.pfe_mask == 0 && u.pfe_match == 0;
    let wanted = u.intcpt_exc & PAGE_FAULT != 0;
    let some = if never_equal { !wanted } else { !always_equal || wanted };
    u.intcpt_exc & !PAGE_FAULT | if some { PAGE_FAULT } else { 0 }
}
