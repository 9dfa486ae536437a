//! The layout of the VMCB, and the state of a new vCPU.

mod fake;

use abi::{ArchState, Mtd};
use fake::{SETUP, poor, rich, vcpu};
use std::mem::{align_of, offset_of, size_of};
use svm::{
    ControlArea, GuestSetup, Intercepts, Software, StateSaveArea, Vmcb, VmcbSegment, assign, flush, init, reset,
};
use zerocopy::{FromBytes, IntoBytes};

macro_rules! at {
    ($area:ident: $($field:ident $offset:literal)*) => {
        $(assert_eq!(offset_of!($area, $field), $offset, stringify!($field));)*
    };
}

#[test]
fn sizes_are_those_of_the_manual() {
    assert_eq!((size_of::<Vmcb>(), align_of::<Vmcb>()), (4096, 4096));
    assert_eq!((size_of::<ControlArea>(), size_of::<StateSaveArea>()), (0x400, 0xc00));
    assert_eq!((size_of::<Intercepts>(), size_of::<VmcbSegment>(), size_of::<Software>()), (24, 16, 32));
    at! { Vmcb: control 0x0 save 0x400 }
}

#[test]
fn the_control_area_is_that_of_table_b_1() {
    at! { Intercepts:
        cr_read 0x0 cr_write 0x2 dr_read 0x4 dr_write 0x6 exceptions 0x8 misc1 0xc misc2 0x10 misc3 0x14
    }
    at! { ControlArea:
        intercepts 0x0 iopm_base_pa 0x40 msrpm_base_pa 0x48 tsc_offset 0x50 guest_asid 0x58 tlb_control 0x5c vintr 0x60
        interrupt_shadow 0x68 exitcode 0x70 exitinfo1 0x78 exitinfo2 0x80 exitintinfo 0x88 np_enable 0x90 eventinj 0xa8
        n_cr3 0xb0 vmcb_clean 0xc0 nrip 0xc8 software 0x3e0
    }
}

#[test]
fn the_state_save_area_is_that_of_table_b_2() {
    at! { StateSaveArea:
        es 0x0 cs 0x10 ss 0x20 ds 0x30 fs 0x40 gs 0x50 gdtr 0x60 ldtr 0x70 idtr 0x80 tr 0x90 cpl 0xcb efer 0xd0
        cr4 0x148 cr3 0x150 cr0 0x158 dr7 0x160 dr6 0x168 rflags 0x170 rip 0x178 rsp 0x1d8 rax 0x1f8 star 0x200
        lstar 0x208 sfmask 0x218 kernel_gs_base 0x220 sysenter_cs 0x228 sysenter_esp 0x230 sysenter_eip 0x238 cr2 0x240
        g_pat 0x268
    }
    at! { VmcbSegment: selector 0 attrib 2 limit 4 base 8 }
}

#[test]
fn a_new_vcpu_is_in_the_state_after_reset() {
    let c = poor();
    let (vmcb, regs) = vcpu(&c);
    let mut u = ArchState::default();
    svm::save(Mtd::all(), &mut u, &vmcb, &regs, &c);
    assert_eq!((u.cr0, u.cr3, u.cr4, u.rflags, u.rip, u.efer), (0x6000_0010, 0, 0, 2, 0xfff0, 0));
    assert_eq!((u.cs.sel, u.cs.ar, u.cs.limit, u.cs.base), (0xf000, 0x9b, 0xffff, 0xffff_0000));
    for s in [u.ss, u.ds, u.es, u.fs, u.gs] {
        assert_eq!((s.sel, s.ar, s.limit, s.base), (0, 0x93, 0xffff, 0));
    }
    assert_eq!((u.tr.ar, u.ldtr.ar, u.gdtr.limit, u.idtr.limit), (0x8b, 0x82, 0xffff, 0xffff));
    assert_eq!((u.dr7, u.pat, u.actv_state, u.intr_state), (0x400, 0x0007_0406_0007_0406, 0, 0));
    assert_eq!((u.inj_info, u.xcr0, u.cr8), (0, 1, 0));
    assert_eq!((vmcb.save.dr6, vmcb.save.efer, vmcb.save.cpl), (0xffff_0ff0, 0x1000, 0));
}

#[test]
fn a_new_vmcb_can_be_run() {
    for (c, tlb) in [(poor(), 1), (rich(), 3)] {
        let mut vmcb = Vmcb::read_from_bytes(&[0xff; 4096]).expect("a frame");
        init(&mut vmcb, &c, &SETUP);
        let v = &vmcb.control;
        assert_eq!(
            (v.n_cr3, v.guest_asid, v.iopm_base_pa, v.msrpm_base_pa, v.tsc_offset),
            (0x1000, 3, 0x2000, 0x5000, 7)
        );
        // Nested paging on; virtual interrupt masking on and nothing pending; flushed; nothing cached.
        assert_eq!((v.np_enable, v.vintr, v.tlb_control, v.vmcb_clean), (1, 1 << 24, tlb, 0));
        assert_eq!((v.eventinj, v.interrupt_shadow, v._r3), (0, 0, 0), "and no LBR virtualisation");
        assert_eq!(v.intercepts, c.required);
    }
}

#[test]
fn other_spaces_are_not_taken_from_the_cache() {
    let c = rich();
    let (mut vmcb, _) = vcpu(&c);
    svm::requeue(&mut vmcb, &c);
    assert_eq!((vmcb.control.vmcb_clean, vmcb.control.tlb_control), (0x3ff, 0));
    assign(&mut vmcb, &GuestSetup { n_cr3: 0x9000, ..SETUP });
    assert_eq!((vmcb.control.n_cr3, vmcb.control.vmcb_clean), (0x9000, 0x3ff & !0b1_0111));
    flush(&mut vmcb, &c);
    assert_eq!(vmcb.control.tlb_control, 3);
    vmcb.forget_cached();
    assert_eq!(vmcb.control.vmcb_clean, 0);
}

#[test]
fn reset_leaves_nothing_of_the_state_but_the_setup() {
    let c = rich();
    let (fresh, _) = vcpu(&c);
    let mut vmcb = fresh;
    // What an emulator leaves there when it refuses a VMCB.
    vmcb.save.as_mut_bytes().fill(0xa5);
    vmcb.control.software.as_mut_bytes().fill(0xa5);
    (vmcb.control.eventinj, vmcb.control.interrupt_shadow) = (0x8000_0030, 1);
    vmcb.control.intercepts.misc1 |= 1 << 4 | 1 << 20;
    vmcb.control.vintr |= 1 << 8 | 7;
    vmcb.control.vmcb_clean = 0x3ff;
    reset(&mut vmcb, &c);
    assert!(vmcb == fresh);
}

#[test]
fn host_state_in_the_vmcb_is_noticed() {
    let c = poor();
    let (mut vmcb, _) = vcpu(&c);
    const IDT: u64 = 0xffff_ffff_8000_0000;
    assert!(!svm::is_of_host(&vmcb, IDT));
    vmcb.save.idtr.base = IDT;
    assert!(svm::is_of_host(&vmcb, IDT));
    reset(&mut vmcb, &c);
    assert!(!svm::is_of_host(&vmcb, IDT));
}
