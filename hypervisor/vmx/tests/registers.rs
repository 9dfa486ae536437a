//! CR0, CR4, EFER: visible and real values, ownership, long mode. And the state of a new vCPU.

mod fake;

use abi::{ArchState, Mtd};
use fake::{Vmcs, controls, vcpu};
use virt::VcpuRegs;
use virt::spec::{cr0, efer};
use vmx::control::EntryControls;
use vmx::{Controls, GuestSetup, HostState, VmcsPort, control, eptp, guest, host, init, load, save};

/// CR0.NE and CR4.VMXE, which VMX operation demands.
const NE: u64 = 1 << 5;
const VMXE: u64 = 1 << 13;

const TS: u64 = 1 << 3;
const PGE: u64 = 1 << 7;

struct Vcpu {
    controls: Controls,
    vmcs: Vmcs,
    regs: VcpuRegs,
}

impl Vcpu {
    fn new() -> Vcpu {
        let controls = controls();
        let (vmcs, regs) = vcpu(&controls);
        Vcpu { controls, vmcs, regs }
    }

    fn load(&mut self, mtd: Mtd, u: ArchState) {
        load(mtd, &u, &mut self.vmcs, &mut self.regs, &self.controls);
    }

    fn save(&self, mtd: Mtd) -> ArchState {
        let mut u = ArchState::default();
        save(mtd, &mut u, &self.vmcs, &self.regs, &());
        u
    }

    fn long_mode(&self) -> (bool, bool) {
        let control =
            self.vmcs.read(control::VMENTRY_CONTROLS) & u64::from(EntryControls::IA32E_MODE_GUEST.bits()) != 0;
        (self.vmcs.read(guest::IA32_EFER_FULL) & efer::LMA != 0, control)
    }
}

#[test]
fn guests_see_what_was_written_and_run_with_what_vmx_needs() {
    let mut v = Vcpu::new();
    for value in [0, 0x6000_0010, 0x8005_0033, 0x8005_0013, u64::from(u32::MAX)] {
        v.load(Mtd::CR, ArchState { cr0: value, cr4: value & 0xffff, ..ArchState::default() });
        let u = v.save(Mtd::CR);
        assert_eq!((u.cr0, u.cr4), (value, value & 0xffff));
        assert_eq!(v.vmcs.read(guest::CR0), (value | NE) & !(cr0::CD | cr0::NW));
        assert_eq!(v.vmcs.read(guest::CR4), value & 0xffff | VMXE);
    }
}

#[test]
fn bits_of_the_guest_come_from_the_real_register() {
    let mut v = Vcpu::new();
    v.load(Mtd::CR, ArchState { cr0: 0x8005_0013, cr4: 0x20, ..ArchState::default() });
    // The guest sets TS and PGE without an exit.
    v.vmcs.poke(guest::CR0, v.vmcs.read(guest::CR0) | TS);
    v.vmcs.poke(guest::CR4, v.vmcs.read(guest::CR4) | PGE);
    let u = v.save(Mtd::CR);
    assert_eq!((u.cr0, u.cr4), (0x8005_0013 | TS, 0x20 | PGE));
}

#[test]
fn changing_hands_does_not_change_what_the_guest_reads() {
    let mut v = Vcpu::new();
    v.load(Mtd::CR, ArchState { cr0: 0x8005_0013, ..ArchState::default() });
    v.vmcs.poke(guest::CR0, v.vmcs.read(guest::CR0) | TS);
    v.load(Mtd::CTRL, ArchState { intcpt_cr0: TS, intcpt_cr4: PGE, ..ArchState::default() });
    assert_eq!(v.vmcs.read(control::CR0_GUEST_HOST_MASK), v.controls.cr0_owned | TS);
    assert_eq!(v.vmcs.read(control::CR4_GUEST_HOST_MASK), v.controls.cr4_fixed | virt::CR4_NOT_SWITCHED | PGE);
    assert_eq!(v.save(Mtd::CR).cr0, 0x8005_0013 | TS, "now from the shadow");
    v.load(Mtd::CTRL, ArchState::default());
    assert_eq!(v.vmcs.read(control::CR0_GUEST_HOST_MASK), v.controls.cr0_owned);
    assert_eq!(v.save(Mtd::CR).cr0, 0x8005_0013 | TS, "from the real register again");
}

#[test]
fn long_mode_follows_efer_and_paging_in_either_order() {
    let mut v = Vcpu::new();
    let on = ArchState { cr0: cr0::PG | cr0::PE, efer: efer::LME | efer::LMA, ..ArchState::default() };
    v.load(Mtd::EFER, on);
    assert_eq!(v.long_mode(), (false, false), "enabled, but paging is off");
    v.load(Mtd::CR, on);
    assert_eq!(v.long_mode(), (true, true));
    v.load(Mtd::CR, ArchState { cr0: cr0::PE, ..on });
    assert_eq!(v.long_mode(), (false, false));
    v.load(Mtd::CR | Mtd::EFER, ArchState { efer: efer::LME, ..on });
    assert_eq!(v.long_mode(), (true, true), "LMA need not be asked for");
    v.load(Mtd::EFER, ArchState { efer: efer::LMA, ..on });
    assert_eq!(v.long_mode(), (false, false), "LMA alone is nothing");
    assert_eq!(v.vmcs.read(control::VMENTRY_CONTROLS), u64::from(v.controls.entry), "other controls stay");
}

#[test]
fn efer_keeps_only_what_exists() {
    let mut v = Vcpu::new();
    v.load(Mtd::EFER, ArchState { efer: u64::MAX, ..ArchState::default() });
    assert_eq!(v.vmcs.read(guest::IA32_EFER_FULL), 0x901, "SCE, LME, NXE");
}

#[test]
fn a_new_vcpu_is_in_the_state_after_reset() {
    let v = Vcpu::new();
    let u = v.save(Mtd::all());
    assert_eq!((u.cr0, u.cr3, u.cr4, u.rflags, u.rip, u.efer), (0x6000_0010, 0, 0, 2, 0xfff0, 0));
    assert_eq!((u.cs.sel, u.cs.ar, u.cs.limit, u.cs.base), (0xf000, 0x9b, 0xffff, 0xffff_0000));
    for s in [u.ss, u.ds, u.es, u.fs, u.gs] {
        assert_eq!((s.sel, s.ar, s.limit, s.base), (0, 0x93, 0xffff, 0));
    }
    assert_eq!((u.tr.ar, u.ldtr.ar, u.gdtr.limit, u.idtr.limit), (0x8b, 0x82, 0xffff, 0xffff));
    assert_eq!((u.dr7, u.pat, u.actv_state, u.intr_state), (0x400, 0x0007_0406_0007_0406, 0, 0));
    assert_eq!((u.inj_info, u.xcr0), (0, 1));
    assert_eq!(v.vmcs.read(guest::LINK_PTR_FULL), u64::MAX);
    assert_eq!(v.long_mode(), (false, false));
}

#[test]
fn host_state_and_setup_end_in_their_fields() {
    let host = HostState {
        cr0: 1,
        cr3: 2,
        cr4: 3,
        cs: 0x8,
        ss: 0x10,
        tr: 0x28,
        tr_base: 6,
        gdtr_base: 7,
        idtr_base: 8,
        pat: 12,
        efer: 13,
        rsp: 14,
        rip: 15,
    };
    let guest = GuestSetup {
        eptp: eptp(0x1000),
        tsc_offset: 0u64.wrapping_sub(77),
        vpid: 2,
        io_bitmap_a: 0x3000,
        io_bitmap_b: 0x4000,
        msr_bitmap: 0x5000,
        vapic: 0x6000,
        guest_msrs: 0x7000,
        host_msrs: 0x8000,
        msr_count: 5,
    };
    let mut vmcs = Vmcs::default();
    init(&mut vmcs, &controls(), &host, &guest);
    for (f, want) in [
        (control::TSC_OFFSET_FULL, 0u64.wrapping_sub(77)),
        (host::CR0, 1),
        (host::CR3, 2),
        (host::CR4, 3),
        (host::CS_SELECTOR, 0x8),
        (host::SS_SELECTOR, 0x10),
        (host::TR_SELECTOR, 0x28),
        (host::ES_SELECTOR, 0),
        (host::DS_SELECTOR, 0),
        (host::FS_SELECTOR, 0),
        (host::GS_SELECTOR, 0),
        (host::FS_BASE, 0),
        (host::GS_BASE, 0),
        (host::TR_BASE, 6),
        (host::GDTR_BASE, 7),
        (host::IDTR_BASE, 8),
        (host::IA32_SYSENTER_CS, 0),
        (host::IA32_SYSENTER_ESP, 0),
        (host::IA32_SYSENTER_EIP, 0),
        (host::IA32_PAT_FULL, 12),
        (host::IA32_EFER_FULL, 13),
        (host::RSP, 14),
        (host::RIP, 15),
        (control::EPTP_FULL, 0x101e),
        (control::VPID, 2),
        (control::IO_BITMAP_A_ADDR_FULL, 0x3000),
        (control::IO_BITMAP_B_ADDR_FULL, 0x4000),
        (control::MSR_BITMAPS_ADDR_FULL, 0x5000),
        (control::VIRT_APIC_ADDR_FULL, 0x6000),
        (control::VMEXIT_MSR_STORE_ADDR_FULL, 0x7000),
        (control::VMENTRY_MSR_LOAD_ADDR_FULL, 0x7000),
        (control::VMEXIT_MSR_LOAD_ADDR_FULL, 0x8000),
        (control::VMEXIT_MSR_STORE_COUNT, 5),
        (control::VMENTRY_MSR_LOAD_COUNT, 5),
        (control::VMEXIT_MSR_LOAD_COUNT, 5),
    ] {
        assert_eq!(vmcs.read(f), want, "{f:x?}");
    }
}

#[test]
fn controls_end_in_their_fields() {
    let v = Vcpu::new();
    let c = v.controls;
    for (f, want) in [
        (control::PINBASED_EXEC_CONTROLS, c.pin),
        (control::PRIMARY_PROCBASED_EXEC_CONTROLS, c.proc1),
        (control::SECONDARY_PROCBASED_EXEC_CONTROLS, c.proc2),
        (control::VMEXIT_CONTROLS, c.exit),
        (control::VMENTRY_CONTROLS, c.entry),
        (control::EXCEPTION_BITMAP, 1 << 18 | 1 << 17 | 1 << 1),
    ] {
        assert_eq!(v.vmcs.read(f), u64::from(want), "{f:x?}");
    }
}

#[test]
fn fields_of_missing_features_are_not_touched() {
    let without = Controls { timer: false, tpr_shadow: false, ..controls() };
    let mut vmcs = Vmcs::default();
    init(&mut vmcs, &without, &HostState::default(), &GuestSetup::default());
    for f in [guest::VMX_PREEMPTION_TIMER_VALUE, control::VIRT_APIC_ADDR_FULL, control::TPR_THRESHOLD] {
        assert!(!vmcs.0.contains_key(&f), "{f:x?}");
    }
}

#[test]
fn features_whose_state_is_not_switched_are_never_in_force() {
    let mut v = Vcpu::new();
    let pke = 1 << 22;
    v.load(Mtd::CR, ArchState { cr0: 0x8005_0013, cr4: 0x20 | pke, ..ArchState::default() });
    assert_eq!(v.vmcs.read(guest::CR4) & virt::CR4_NOT_SWITCHED, 0);
    assert_eq!(v.vmcs.read(control::CR4_GUEST_HOST_MASK) & pke, pke, "and setting them exits");
    assert_eq!(v.save(Mtd::CR).cr4, 0x20 | pke, "what the VMM wrote is what the guest reads");
}
