//! A new VMCS: controls, host state, and a guest state as after reset.

use crate::spec::{self, FORCED_EXCEPTIONS, reset};
use crate::{Controls, Field, VmcsPort, field};

/// What VM exit loads into the CPU. ES, DS, FS and GS become null.
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
    pub fs_base: u64,
    pub gs_base: u64,
    pub tr_base: u64,
    pub gdtr_base: u64,
    pub idtr_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
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
pub fn init(vmcs: &mut impl VmcsPort, controls: &Controls, host: &HostState, guest: &GuestSetup) {
    init_controls(vmcs, controls);
    init_host(vmcs, host);
    init_setup(vmcs, controls, guest);
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
            (field::PIN_BASED_CONTROLS, c.pin.into()),
            (field::PRIMARY_PROCESSOR_CONTROLS, c.proc1.into()),
            (field::SECONDARY_PROCESSOR_CONTROLS, c.proc2.into()),
            (field::VM_EXIT_CONTROLS, c.exit.into()),
            (field::VM_ENTRY_CONTROLS, c.entry.into()),
            (field::EXCEPTION_BITMAP, FORCED_EXCEPTIONS.into()),
            (field::PAGE_FAULT_ERROR_CODE_MASK, 0),
            (field::PAGE_FAULT_ERROR_CODE_MATCH, 0),
            (field::CR3_TARGET_COUNT, 0),
            (field::VM_ENTRY_INTERRUPTION_INFO, 0),
            (field::VM_ENTRY_EXCEPTION_ERROR_CODE, 0),
            (field::VM_ENTRY_INSTRUCTION_LENGTH, 0),
            (field::CR0_GUEST_HOST_MASK, c.cr0_owned),
            (field::CR4_GUEST_HOST_MASK, c.cr4_fixed | virt::CR4_NOT_SWITCHED),
        ],
    );
}

fn init_host(vmcs: &mut impl VmcsPort, h: &HostState) {
    write_all(
        vmcs,
        &[
            (field::HOST_CR0, h.cr0),
            (field::HOST_CR3, h.cr3),
            (field::HOST_CR4, h.cr4),
            (field::HOST_ES_SELECTOR, 0),
            (field::HOST_CS_SELECTOR, h.cs.into()),
            (field::HOST_SS_SELECTOR, h.ss.into()),
            (field::HOST_DS_SELECTOR, 0),
            (field::HOST_FS_SELECTOR, 0),
            (field::HOST_GS_SELECTOR, 0),
            (field::HOST_TR_SELECTOR, h.tr.into()),
            (field::HOST_FS_BASE, h.fs_base),
            (field::HOST_GS_BASE, h.gs_base),
            (field::HOST_TR_BASE, h.tr_base),
            (field::HOST_GDTR_BASE, h.gdtr_base),
            (field::HOST_IDTR_BASE, h.idtr_base),
            (field::HOST_IA32_SYSENTER_CS, h.sysenter_cs),
            (field::HOST_IA32_SYSENTER_ESP, h.sysenter_esp),
            (field::HOST_IA32_SYSENTER_EIP, h.sysenter_eip),
            (field::HOST_IA32_PAT, h.pat),
            (field::HOST_IA32_EFER, h.efer),
            (field::HOST_RSP, h.rsp),
            (field::HOST_RIP, h.rip),
        ],
    );
}

fn init_setup(vmcs: &mut impl VmcsPort, c: &Controls, g: &GuestSetup) {
    write_all(
        vmcs,
        &[
            (field::VPID, g.vpid.into()),
            (field::TSC_OFFSET, g.tsc_offset),
            (field::EPTP, g.eptp),
            (field::IO_BITMAP_A, g.io_bitmap_a),
            (field::IO_BITMAP_B, g.io_bitmap_b),
            (field::MSR_BITMAP, g.msr_bitmap),
            (field::VM_EXIT_MSR_STORE_ADDRESS, g.guest_msrs),
            (field::VM_EXIT_MSR_STORE_COUNT, g.msr_count.into()),
            (field::VM_ENTRY_MSR_LOAD_ADDRESS, g.guest_msrs),
            (field::VM_ENTRY_MSR_LOAD_COUNT, g.msr_count.into()),
            (field::VM_EXIT_MSR_LOAD_ADDRESS, g.host_msrs),
            (field::VM_EXIT_MSR_LOAD_COUNT, g.msr_count.into()),
        ],
    );
    // These fields exist only with the controls that use them.
    if c.tpr_shadow {
        write_all(vmcs, &[(field::VIRTUAL_APIC_ADDRESS, g.vapic), (field::TPR_THRESHOLD, 0)]);
    }
    if c.timer {
        vmcs.write(field::VMX_PREEMPTION_TIMER_VALUE, u32::MAX.into());
    }
}

/// Selector, access rights, limit and base of a segment register.
fn init_segment(vmcs: &mut impl VmcsPort, fields: &crate::segment::Fields, selector: u64, rights: u64, base: u64) {
    vmcs.write(fields.selector, selector);
    vmcs.write(fields.access_rights, rights);
    vmcs.write(fields.limit, reset::LIMIT);
    vmcs.write(fields.base, base);
}

fn init_guest(vmcs: &mut impl VmcsPort, c: &Controls) {
    use crate::segment::{CS, DS, ES, FS, GS, LDTR, SS, TR};
    init_segment(vmcs, &CS, reset::CS_SELECTOR, reset::AR_CODE, reset::CS_BASE);
    for data in [&SS, &DS, &ES, &FS, &GS] {
        init_segment(vmcs, data, 0, reset::AR_DATA, 0);
    }
    init_segment(vmcs, &LDTR, 0, reset::AR_LDT, 0);
    init_segment(vmcs, &TR, 0, reset::AR_TSS, 0);
    crate::cr::CR0.set(vmcs, reset::CR0, c);
    crate::cr::CR4.set(vmcs, 0, c);
    write_all(
        vmcs,
        &[
            (field::GUEST_CR3, 0),
            (field::GUEST_DR7, spec::dr7::ONE),
            (field::GUEST_RSP, 0),
            (field::GUEST_RIP, reset::RIP),
            (field::GUEST_RFLAGS, spec::rflags::ONE),
            (field::GUEST_GDTR_BASE, 0),
            (field::GUEST_GDTR_LIMIT, reset::LIMIT),
            (field::GUEST_IDTR_BASE, 0),
            (field::GUEST_IDTR_LIMIT, reset::LIMIT),
            (field::GUEST_IA32_DEBUGCTL, 0),
            (field::GUEST_IA32_SYSENTER_CS, 0),
            (field::GUEST_IA32_SYSENTER_ESP, 0),
            (field::GUEST_IA32_SYSENTER_EIP, 0),
            (field::GUEST_IA32_PAT, reset::PAT),
            (field::GUEST_IA32_EFER, 0),
            (field::GUEST_ACTIVITY_STATE, spec::activity::ACTIVE.into()),
            (field::GUEST_INTERRUPTIBILITY_STATE, 0),
            (field::GUEST_PENDING_DEBUG_EXCEPTIONS, 0),
            (field::GUEST_PDPTE0, 0),
            (field::GUEST_PDPTE1, 0),
            (field::GUEST_PDPTE2, 0),
            (field::GUEST_PDPTE3, 0),
            (field::VMCS_LINK_POINTER, u64::MAX),
        ],
    );
}
