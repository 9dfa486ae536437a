//! A new VMCS: controls, host state, and a guest state as after reset.

use crate::spec::{self, FORCED_EXCEPTIONS};
use crate::{Controls, Field, VmcsPort, control, guest, host, load};
use abi::Mtd;
use virt::VcpuRegs;
use virt::spec::RESET;

/// What VM exit loads into the CPU. ES, DS, FS and GS become null, their bases and the SYSENTER MSRs 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the registers")]
pub struct HostState {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// Selector, RPL and TI 0.
    pub cs: u16,
    /// Selector, RPL and TI 0; may be null.
    pub ss: u16,
    /// Selector, RPL and TI 0.
    pub tr: u16,
    pub tr_base: u64,
    pub gdtr_base: u64,
    pub idtr_base: u64,
    pub pat: u64,
    pub efer: u64,
    pub rsp: u64,
    pub rip: u64,
}

/// What is different in each guest. Addresses are physical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestSetup {
    /// EPT pointer: [`eptp`].
    pub eptp: u64,
    /// Added to the TSC that the guest reads.
    pub tsc_offset: u64,
    /// TLB tag, not 0.
    pub vpid: u16,
    /// I/O bitmap for ports 0 to 7fff, 4 KiB.
    pub io_bitmap_a: u64,
    /// I/O bitmap for ports 8000 to ffff, 4 KiB.
    pub io_bitmap_b: u64,
    /// MSR bitmaps, 4 KiB.
    pub msr_bitmap: u64,
    /// Virtual-APIC page, 4 KiB. Used with a TPR shadow only.
    pub vapic: u64,
    /// The guest's [`virt::MsrArea`]: stored at exit, loaded at entry.
    pub guest_msrs: u64,
    /// The host's [`virt::MsrArea`]: loaded at exit.
    pub host_msrs: u64,
    /// Entries of both areas.
    pub msr_count: u32,
}

/// The EPT pointer for a root table: write-back, four levels.
///
/// Accessed and dirty flags stay off: nobody reads them, and with them the CPU treats its walks of guest page tables as
/// writes, which fail where a VMM maps memory read-only (29.3.5).
pub const fn eptp(root: u64) -> u64 {
    root | spec::eptp::WALK_LENGTH_4 | spec::eptp::WRITE_BACK
}

/// Writes all fields of a VMCS. The guest starts in real mode at the reset vector unless its VMM sets other state.
pub fn init(vmcs: &mut impl VmcsPort, controls: &Controls, h: &HostState, g: &GuestSetup) {
    init_controls(vmcs, controls);
    init_host(vmcs, h);
    init_setup(vmcs, controls, g);
    init_guest(vmcs, controls);
}

fn write_all(vmcs: &mut impl VmcsPort, fields: &[(Field, u64)]) {
    for (f, value) in fields {
        vmcs.write(*f, *value);
    }
}

fn init_controls(vmcs: &mut impl VmcsPort, c: &Controls) {
    write_all(
        vmcs,
        &[
            (control::PINBASED_EXEC_CONTROLS, c.pin.into()),
            (control::PRIMARY_PROCBASED_EXEC_CONTROLS, c.proc1.into()),
            (control::SECONDARY_PROCBASED_EXEC_CONTROLS, c.proc2.into()),
            (control::VMEXIT_CONTROLS, c.exit.into()),
            (control::VMENTRY_CONTROLS, c.entry.into()),
            (control::EXCEPTION_BITMAP, FORCED_EXCEPTIONS.into()),
            (control::PAGE_FAULT_ERR_CODE_MASK, 0),
            (control::PAGE_FAULT_ERR_CODE_MATCH, 0),
            (control::CR3_TARGET_COUNT, 0),
            (control::VMENTRY_INTERRUPTION_INFO_FIELD, 0),
            (control::VMENTRY_EXCEPTION_ERR_CODE, 0),
            (control::VMENTRY_INSTRUCTION_LEN, 0),
            (control::CR0_GUEST_HOST_MASK, c.cr0_owned),
            (control::CR4_GUEST_HOST_MASK, c.cr4_fixed | virt::CR4_NOT_SWITCHED),
        ],
    );
}

fn init_host(vmcs: &mut impl VmcsPort, h: &HostState) {
    write_all(
        vmcs,
        &[
            (host::CR0, h.cr0),
            (host::CR3, h.cr3),
            (host::CR4, h.cr4),
            (host::ES_SELECTOR, 0),
            (host::CS_SELECTOR, h.cs.into()),
            (host::SS_SELECTOR, h.ss.into()),
            (host::DS_SELECTOR, 0),
            (host::FS_SELECTOR, 0),
            (host::GS_SELECTOR, 0),
            (host::TR_SELECTOR, h.tr.into()),
            (host::FS_BASE, 0),
            (host::GS_BASE, 0),
            (host::TR_BASE, h.tr_base),
            (host::GDTR_BASE, h.gdtr_base),
            (host::IDTR_BASE, h.idtr_base),
            (host::IA32_SYSENTER_CS, 0),
            (host::IA32_SYSENTER_ESP, 0),
            (host::IA32_SYSENTER_EIP, 0),
            (host::IA32_PAT_FULL, h.pat),
            (host::IA32_EFER_FULL, h.efer),
            (host::RSP, h.rsp),
            (host::RIP, h.rip),
        ],
    );
}

fn init_setup(vmcs: &mut impl VmcsPort, c: &Controls, g: &GuestSetup) {
    write_all(
        vmcs,
        &[
            (control::VPID, g.vpid.into()),
            (control::TSC_OFFSET_FULL, g.tsc_offset),
            (control::EPTP_FULL, g.eptp),
            (control::IO_BITMAP_A_ADDR_FULL, g.io_bitmap_a),
            (control::IO_BITMAP_B_ADDR_FULL, g.io_bitmap_b),
            (control::MSR_BITMAPS_ADDR_FULL, g.msr_bitmap),
            (control::VMEXIT_MSR_STORE_ADDR_FULL, g.guest_msrs),
            (control::VMEXIT_MSR_STORE_COUNT, g.msr_count.into()),
            (control::VMENTRY_MSR_LOAD_ADDR_FULL, g.guest_msrs),
            (control::VMENTRY_MSR_LOAD_COUNT, g.msr_count.into()),
            (control::VMEXIT_MSR_LOAD_ADDR_FULL, g.host_msrs),
            (control::VMEXIT_MSR_LOAD_COUNT, g.msr_count.into()),
        ],
    );
    // These fields exist only with the controls that use them.
    if c.tpr_shadow {
        vmcs.write(control::VIRT_APIC_ADDR_FULL, g.vapic);
    }
    if c.timer {
        vmcs.write(guest::VMX_PREEMPTION_TIMER_VALUE, u32::MAX.into());
    }
}

/// The state of a reset, and what no group has.
fn init_guest(vmcs: &mut impl VmcsPort, c: &Controls) {
    write_all(
        vmcs,
        &[(guest::IA32_DEBUGCTL_FULL, 0), (guest::PENDING_DBG_EXCEPTIONS, 0), (guest::LINK_PTR_FULL, u64::MAX)],
    );
    load(Mtd::all().difference(Mtd::CTRL), &RESET, vmcs, &mut VcpuRegs::RESET.clone(), c);
}
