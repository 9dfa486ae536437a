//! MSR policy: what each model-specific register of the guest is, as a table (SDM volume 4; MTRRs: volume 3, 12.11).
//!
//! Registers are constants, storage, part of the vCPU state that travels in the UTCB, or belong to the device models
//! (local APIC). All others do not exist: access raises #GP and is logged once per register.
//! Key types: [`Msrs`], [`Access`].

use abi::{ArchState, Mtd};

use crate::spec::bits::{CR0_PG, EFER_LMA, EFER_LME, EFER_NXE, EFER_SCE};
use crate::spec::msr as m;

/// IA32_FEATURE_CONTROL: locked, so VMX and SMX cannot be turned on.
const FEATURE_CONTROL_LOCKED: u64 = 1;
/// IA32_MISC_ENABLE: fast strings, no branch trace storage, no PEBS.
const MISC_ENABLE_RESET: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// HWCR: the TSC counts at P0 frequency, whatever the P-state.
const HWCR_TSC_FREQ_SEL: u64 = 1 << 24;
/// IA32_BIOS_SIGN_ID: microcode revision 1.
const MICROCODE: u64 = 1 << 32;
/// Number of variable-range MTRRs.
const VARIABLE_MTRRS: u32 = 8;
/// IA32_MTRRCAP: their number, fixed ranges, write combining.
const MTRRCAP: u64 = VARIABLE_MTRRS as u64 | 1 << 8 | 1 << 10;
/// IA32_MTRR_DEF_TYPE: enabled, fixed ranges enabled, write-back; the bits that can be written.
const MTRR_DEF_TYPE_RESET: u64 = 1 << 11 | 1 << 10 | 6;
const MTRR_DEF_TYPE_BITS: u64 = 1 << 11 | 1 << 10 | 0xff;
/// A fixed-range MTRR full of write-back.
const FIXED_WB: u64 = 0x0606_0606_0606_0606;
/// IA32_MTRR_PHYSMASK: valid.
const PHYSMASK_VALID: u64 = 1 << 11;
/// The device hole, 1 GiB from 3 GiB, is uncacheable.
const HOLE: u64 = crate::layout::RAM_MAX;
/// EFER bits that the guest may write.
const EFER_BITS: u64 = EFER_SCE | EFER_LME | EFER_NXE;

/// What a register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Reads as this; writes are ignored.
    Const(u64),
    /// Reads as this; writing anything else raises #GP.
    Fixed(u64),
    /// Reads as this; writes raise #GP.
    ReadOnly(u64),
    /// The time-stamp counter; writes are ignored, it cannot be set back.
    Tsc,
    /// Storage: slot number, bits that can be written without #GP.
    Stored(usize, u64),
    /// Part of the vCPU state: what carries it, what is valid in it.
    State(Mtd, Valid),
    /// The local APIC's.
    Device,
    /// Does not exist, and Linux is known to ask: #GP without a line in the log.
    Absent,
}

/// What may be written to a register in the vCPU state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Valid {
    Any,
    Low32,
    Canonical,
    Pat,
    Efer,
}

/// Result of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read: the value.
    Value(u64),
    /// Written; the reply must carry this state.
    Written(Mtd),
    /// The device models have the register.
    Device,
    /// The portal did not bring the state that holds the register.
    Needs(Mtd),
    /// The guest gets #GP.
    Fault,
    /// As [`Access::Fault`], and nobody expected that.
    Unknown,
}

/// The MSRs of a vCPU that are neither in its UTCB state nor in the local APIC.
#[derive(Clone, Debug)]
pub struct Msrs {
    slots: [u64; SLOTS],
    phys_mask: u64,
}

/// Storage slots: MISC_ENABLE, MCG_STATUS, DEBUGCTL, CSTAR, MTRR default, 11 fixed, 16 variable.
const SLOTS: usize = 5 + 11 + 2 * VARIABLE_MTRRS as usize;
const SLOT_MTRR_DEF: usize = 4;
const SLOT_FIXED: usize = 5;
const SLOT_VARIABLE: usize = 16;

/// Registers that stand alone; ranges are in [`Msrs::kind`].
const TABLE: [(u32, Kind); 40] = [
    (m::TSC, Kind::Tsc),
    (m::PLATFORM_ID, Kind::ReadOnly(0)),
    (m::APIC_BASE, Kind::Device),
    (m::FEATURE_CONTROL, Kind::ReadOnly(FEATURE_CONTROL_LOCKED)),
    // Another value would shift the guest's TSC against the host's.
    (m::TSC_ADJUST, Kind::Fixed(0)),
    (m::BIOS_SIGN_ID, Kind::Const(MICROCODE)),
    (m::PLATFORM_INFO, Kind::ReadOnly(0)),
    (m::MTRRCAP, Kind::ReadOnly(MTRRCAP)),
    (m::SYSENTER_CS, Kind::State(Mtd::SYSENTER, Valid::Low32)),
    (m::SYSENTER_ESP, Kind::State(Mtd::SYSENTER, Valid::Canonical)),
    (m::SYSENTER_EIP, Kind::State(Mtd::SYSENTER, Valid::Canonical)),
    (m::MCG_CAP, Kind::ReadOnly(0)),
    (m::MCG_STATUS, Kind::Stored(1, 0)),
    (m::MISC_ENABLE, Kind::Stored(0, u64::MAX)),
    (m::DEBUGCTL, Kind::Stored(2, 0)),
    (m::MTRR_FIX64K, Kind::Stored(SLOT_FIXED, u64::MAX)),
    (m::MTRR_FIX16K, Kind::Stored(SLOT_FIXED + 1, u64::MAX)),
    (m::MTRR_FIX16K + 1, Kind::Stored(SLOT_FIXED + 2, u64::MAX)),
    (m::PAT, Kind::State(Mtd::PAT, Valid::Pat)),
    (m::MTRR_DEF_TYPE, Kind::Stored(SLOT_MTRR_DEF, MTRR_DEF_TYPE_BITS)),
    (m::TSC_DEADLINE, Kind::Device),
    (m::EFER, Kind::State(Mtd::EFER.union(Mtd::CR), Valid::Efer)),
    (m::STAR, Kind::State(Mtd::SYSCALL, Valid::Any)),
    (m::LSTAR, Kind::State(Mtd::SYSCALL, Valid::Canonical)),
    // Only AMD CPUs use it; Intel's store it.
    (m::CSTAR, Kind::Stored(3, u64::MAX)),
    (m::FMASK, Kind::State(Mtd::SYSCALL, Valid::Low32)),
    (m::FS_BASE, Kind::State(Mtd::FS_GS, Valid::Canonical)),
    (m::GS_BASE, Kind::State(Mtd::FS_GS, Valid::Canonical)),
    (m::KERNEL_GS_BASE, Kind::State(Mtd::KERNEL_GS, Valid::Canonical)),
    (m::TSC_AUX, Kind::State(Mtd::TSC, Valid::Low32)),
    (m::X2APIC, Kind::Device),
    (m::SMI_COUNT, Kind::Absent),
    (m::MISC_FEATURES_ENABLES, Kind::Absent),
    (m::DE_CFG, Kind::Absent),
    // What Linux takes for granted on AMD CPUs; writes change nothing.
    (m::SYSCFG, Kind::Const(0)),
    (m::HWCR, Kind::Const(HWCR_TSC_FREQ_SEL)),
    (m::NB_CFG, Kind::Const(0)),
    (m::LS_CFG, Kind::Const(0)),
    (m::PERF_CTL0, Kind::Absent),
    (m::FP_CFG, Kind::Absent),
];

impl Msrs {
    /// Values after reset, and MTRRs as firmware leaves them: RAM write-back, devices uncacheable.
    pub fn new(phys_bits: u32) -> Msrs {
        let phys_mask = (1u64 << phys_bits.min(52)) - 1;
        let mut slots = [0; SLOTS];
        slots[0] = MISC_ENABLE_RESET;
        slots[SLOT_MTRR_DEF] = MTRR_DEF_TYPE_RESET;
        slots[SLOT_FIXED..SLOT_VARIABLE].fill(FIXED_WB);
        // 0xa0000 to 0xbffff, where a VGA adapter would be.
        slots[SLOT_FIXED + 2] = 0;
        slots[SLOT_VARIABLE] = HOLE;
        slots[SLOT_VARIABLE + 1] = phys_mask & !((1 << 30) - 1) | PHYSMASK_VALID;
        Msrs { slots, phys_mask }
    }

    fn kind(&self, msr: u32) -> Option<Kind> {
        let slot = |base: u32, first: usize| first + (msr - base) as usize;
        match msr {
            m::X2APIC..=m::X2APIC_END => Some(Kind::Device),
            m::MTRR_FIX4K..=0x26f => Some(Kind::Stored(slot(m::MTRR_FIX4K, SLOT_FIXED + 3), u64::MAX)),
            m::MTRR_PHYS_BASE0..=0x20f => {
                let low = if msr.is_multiple_of(2) { 0xff } else { PHYSMASK_VALID };
                Some(Kind::Stored(slot(m::MTRR_PHYS_BASE0, SLOT_VARIABLE), self.phys_mask & !0xfff | low))
            }
            _ => TABLE.iter().find(|(n, _)| *n == msr).map(|(_, k)| *k),
        }
    }

    /// RDMSR. `have` is what `state` carries, `now` the TSC.
    pub fn read(&self, msr: u32, state: &mut ArchState, have: Mtd, now: u64) -> Access {
        match self.kind(msr) {
            Some(Kind::Const(v) | Kind::Fixed(v) | Kind::ReadOnly(v)) => Access::Value(v),
            Some(Kind::Tsc) => Access::Value(now),
            Some(Kind::Stored(slot, _)) => Access::Value(self.slots[slot]),
            Some(Kind::State(mtd, _)) if !have.contains(mtd) => Access::Needs(mtd),
            Some(Kind::State(..)) => field(msr, state).map_or(Access::Fault, |f| Access::Value(*f)),
            Some(Kind::Device) => Access::Device,
            Some(Kind::Absent) => Access::Fault,
            None => Access::Unknown,
        }
    }

    /// WRMSR.
    pub fn write(&mut self, msr: u32, value: u64, state: &mut ArchState, have: Mtd) -> Access {
        match self.kind(msr) {
            Some(Kind::Const(_) | Kind::Tsc) => Access::Written(Mtd::empty()),
            Some(Kind::Fixed(v)) if v == value => Access::Written(Mtd::empty()),
            Some(Kind::Stored(slot, bits)) if value & !bits == 0 => {
                self.slots[slot] = value;
                Access::Written(Mtd::empty())
            }
            Some(Kind::Fixed(_) | Kind::ReadOnly(_) | Kind::Stored(..) | Kind::Absent) => Access::Fault,
            Some(Kind::State(mtd, _)) if !have.contains(mtd) => Access::Needs(mtd),
            Some(Kind::State(mtd, valid)) => write_state(msr, value, valid, mtd, state),
            Some(Kind::Device) => Access::Device,
            None => Access::Unknown,
        }
    }

    /// Whether the device models have the register.
    pub fn is_device(&self, msr: u32) -> bool {
        self.kind(msr) == Some(Kind::Device)
    }
}

/// The place of a register in the vCPU state.
fn field(msr: u32, s: &mut ArchState) -> Option<&mut u64> {
    Some(match msr {
        m::SYSENTER_CS => &mut s.sysenter_cs,
        m::SYSENTER_ESP => &mut s.sysenter_esp,
        m::SYSENTER_EIP => &mut s.sysenter_eip,
        m::PAT => &mut s.pat,
        m::EFER => &mut s.efer,
        m::STAR => &mut s.star,
        m::LSTAR => &mut s.lstar,
        m::FMASK => &mut s.fmask,
        m::FS_BASE => &mut s.fs.base,
        m::GS_BASE => &mut s.gs.base,
        m::KERNEL_GS_BASE => &mut s.kernel_gs_base,
        m::TSC_AUX => &mut s.tsc_aux,
        _ => return None,
    })
}

fn write_state(msr: u32, value: u64, valid: Valid, mtd: Mtd, s: &mut ArchState) -> Access {
    let (ok, value, mtd) = match valid {
        Valid::Any => (true, value, mtd),
        Valid::Low32 => (value >> 32 == 0, value, mtd),
        Valid::Canonical => (canonical(value), value, mtd),
        Valid::Pat => (value.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7)), value, mtd),
        Valid::Efer => (efer_valid(value, s), value & EFER_BITS | s.efer & EFER_LMA, Mtd::EFER),
    };
    match field(msr, s) {
        Some(f) if ok => {
            *f = value;
            Access::Written(mtd)
        }
        _ => Access::Fault,
    }
}

/// Whether bits 63:47 are equal.
fn canonical(v: u64) -> bool {
    (v as i64) << 16 >> 16 == v as i64
}

/// LMA is ignored; LME cannot change while paging is on (SDM volume 3, 2.2.1).
fn efer_valid(value: u64, s: &ArchState) -> bool {
    let lme_changes = (value ^ s.efer) & EFER_LME != 0;
    value & !(EFER_BITS | EFER_LMA) == 0 && !(lme_changes && s.cr0 & CR0_PG != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> (Msrs, ArchState) {
        (Msrs::new(40), ArchState { efer: EFER_LME | EFER_LMA, cr0: CR0_PG, ..Default::default() })
    }

    const OK: Access = Access::Written(Mtd::empty());

    #[test]
    fn table_is_sorted_enough_and_consistent() {
        let (msrs, mut s) = new();
        for (i, (n, kind)) in TABLE.iter().enumerate() {
            assert!(!TABLE[..i].iter().any(|(o, _)| o == n), "{n:#x} twice");
            match kind {
                Kind::State(..) => assert!(field(*n, &mut s).is_some(), "{n:#x} has no place in the state"),
                Kind::Stored(slot, _) => assert!(*slot < SLOTS),
                _ => (),
            }
            let absent = *kind == Kind::Absent;
            assert_eq!(msrs.read(*n, &mut s, Mtd::all(), 0) == Access::Fault, absent, "{n:#x}");
        }
        let slots: Vec<usize> = (0..0x2_0000)
            .chain(0xc000_0080..0xc000_0104)
            .filter_map(|n| if let Some(Kind::Stored(slot, _)) = msrs.kind(n) { Some(slot) } else { None })
            .collect();
        let mut unique = slots.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!((slots.len(), unique.len(), unique.last()), (SLOTS, SLOTS, Some(&(SLOTS - 1))));
    }

    #[test]
    fn reads_of_constants() {
        let (msrs, mut s) = new();
        for (msr, want) in [
            (0x3a, 1),
            (0x3b, 0),
            (0x8b, 1 << 32),
            (0xfe, 0x508),
            (0x179, 0),
            (0x1a0, 0x1801),
            (0x2ff, 0xc06),
            (0x250, FIXED_WB),
            (0x259, 0),
            (0x26f, FIXED_WB),
            (0x200, 0xc000_0000),
            (0x201, 0xff_c000_0800),
            (0x20f, 0),
            (0x10, 77),
        ] {
            assert_eq!(msrs.read(msr, &mut s, Mtd::empty(), 77), Access::Value(want), "{msr:#x}");
        }
    }

    #[test]
    fn writes() {
        let (mut msrs, mut s) = new();
        for (msr, value, want) in [
            (0x3a, 5, Access::Fault),
            (0x3b, 0, OK),
            (0x3b, 9, Access::Fault),
            (0x8b, 0, OK),
            (0x10, 0, OK),
            (0xfe, 0, Access::Fault),
            (0x17a, 0, OK),
            (0x17a, 4, Access::Fault),
            (0x1a0, 1, OK),
            (0x2ff, 0xc06, OK),
            (0x2ff, 1 << 12, Access::Fault),
            (0x202, 0x8000_0006, OK),
            (0x203, 0xff_8000_0800, OK),
            (0x203, 1 << 40, Access::Fault),
        ] {
            assert_eq!(msrs.write(msr, value, &mut s, Mtd::empty()), want, "{msr:#x} := {value:#x}");
        }
        assert_eq!(msrs.read(0x202, &mut s, Mtd::empty(), 0), Access::Value(0x8000_0006));
    }

    #[test]
    fn vcpu_state_needs_a_wider_message_and_is_checked() {
        let (mut msrs, mut s) = new();
        assert_eq!(msrs.write(m::LSTAR, 0x1000, &mut s, Mtd::GPR_0_7), Access::Needs(Mtd::SYSCALL));
        assert_eq!(msrs.read(m::PAT, &mut s, Mtd::empty(), 0), Access::Needs(Mtd::PAT));
        let high = 0xffff_ffff_8100_0000;
        for (msr, value, want) in [
            (m::LSTAR, high, Access::Written(Mtd::SYSCALL)),
            (m::LSTAR, 1 << 47, Access::Fault),
            (m::STAR, u64::MAX, Access::Written(Mtd::SYSCALL)),
            (m::FMASK, 1 << 32, Access::Fault),
            (m::PAT, 0x0407_0506_0007_0106, Access::Written(Mtd::PAT)),
            (m::PAT, 2, Access::Fault),
            (m::GS_BASE, high, Access::Written(Mtd::FS_GS)),
            (m::TSC_AUX, 3, Access::Written(Mtd::TSC)),
        ] {
            assert_eq!(msrs.write(msr, value, &mut s, Mtd::all()), want, "{msr:#x} := {value:#x}");
        }
        assert_eq!((s.lstar, s.gs.base, s.tsc_aux), (high, high, 3));
        assert_eq!(msrs.read(m::GS_BASE, &mut s, Mtd::all(), 0), Access::Value(high));
    }

    #[test]
    fn efer_keeps_lma_and_refuses_nonsense() {
        let (mut msrs, mut s) = new();
        let on = EFER_LME | EFER_LMA;
        assert_eq!(msrs.write(m::EFER, EFER_LME | EFER_SCE | EFER_NXE, &mut s, Mtd::all()), Access::Written(Mtd::EFER));
        assert_eq!(s.efer, on | EFER_SCE | EFER_NXE);
        assert_eq!(msrs.write(m::EFER, on | 1 << 12, &mut s, Mtd::all()), Access::Fault, "SVME");
        assert_eq!(msrs.write(m::EFER, EFER_SCE, &mut s, Mtd::all()), Access::Fault, "LME with paging on");
        (s.cr0, s.efer) = (0, 0);
        assert_eq!(msrs.write(m::EFER, on, &mut s, Mtd::all()), Access::Written(Mtd::EFER));
        assert_eq!(s.efer, EFER_LME, "LMA comes with paging");
    }

    #[test]
    fn device_registers_are_passed_on() {
        let (mut msrs, mut s) = new();
        for msr in [0x1b, 0x6e0, 0x800, 0x80b, 0x8ff] {
            assert_eq!(msrs.read(msr, &mut s, Mtd::empty(), 0), Access::Device);
            assert_eq!(msrs.write(msr, 0, &mut s, Mtd::empty()), Access::Device);
        }
    }

    #[test]
    fn unknown_registers_are_told_apart_from_those_that_are_known_to_be_absent() {
        let (mut msrs, mut s) = new();
        assert_eq!(msrs.read(0x606, &mut s, Mtd::all(), 0), Access::Unknown);
        assert_eq!(msrs.write(0x606, 1, &mut s, Mtd::all()), Access::Unknown);
        assert_eq!(msrs.read(m::SMI_COUNT, &mut s, Mtd::all(), 0), Access::Fault);
        assert_eq!(msrs.write(m::SMI_COUNT, 0, &mut s, Mtd::all()), Access::Fault);
        assert!(msrs.is_device(0x830) && !msrs.is_device(0x606) && !msrs.is_device(m::EFER));
    }
}
