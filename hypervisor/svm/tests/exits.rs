//! Exits: event numbers, qualifications, instruction lengths, all as VMX has them.

mod fake;

use abi::{ArchState, Mtd};
use fake::{poor, rich, vcpu};
use svm::{Controls, NO_EVENT, Vmcb, code, decode_exit, save};
use virt::{Exit, HostExit, info};

const DECODE: u32 = ArchState::INST_DECODE;

/// An exit with this code and its two words of information.
fn exit(c: &Controls, code: u64, info1: u64, info2: u64) -> Vmcb {
    let (mut vmcb, _) = vcpu(c);
    vmcb.save.rip = 0x1000;
    (vmcb.control.exitcode, vmcb.control.exitinfo1, vmcb.control.exitinfo2) = (code, info1, info2);
    vmcb
}

/// What the VMM is told of it.
fn told(vmcb: &Vmcb, c: &Controls) -> ArchState {
    let mut u = ArchState::default();
    save(Mtd::RIP | Mtd::QUAL, &mut u, vmcb, &virt::VcpuRegs::RESET, c);
    u
}

fn event(code: u64, info1: u64) -> Exit {
    decode_exit(&exit(&poor(), code, info1, 0))
}

#[test]
fn exits_of_the_host_stay_in_the_host() {
    assert_eq!(event(0x60, 0), Exit::Host(HostExit::ExternalInterrupt(0)));
    assert_eq!(event(0x61, 0), Exit::Host(HostExit::Nmi));
    assert_eq!(event(0x52, 0), Exit::Host(HostExit::MachineCheck));
}

/// Exit code, VMX exit reason of the same meaning, known length of the instruction.
const EVENTS: [(u32, u64, u32); 54] = [
    (0x00, 28, 0), // CR0 read
    (0x08, 28, 0),
    (0x0f, 28, 0),
    (0x10, 28, 0), // CR0 write
    (0x14, 28, 0),
    (0x1f, 28, 0),
    (0x20, 29, 0), // DR0 read
    (0x37, 29, 0), // DR7 write
    (0x3f, 29, 0),
    (0x40, 0, 0), // #DE
    (0x4e, 0, 0), // #PF
    (0x51, 0, 0), // #AC
    (0x5f, 0, 0),
    (0x62, 6, 0),  // SMI
    (0x63, 3, 0),  // INIT
    (0x65, 28, 0), // CR0 selective write
    (0x66, 46, 0), // IDTR read
    (0x67, 46, 0), // GDTR read
    (0x68, 47, 0), // LDTR read
    (0x69, 47, 0), // TR read
    (0x6a, 46, 0), // IDTR write
    (0x6b, 46, 0), // GDTR write
    (0x6c, 47, 0), // LDTR write
    (0x6d, 47, 0), // TR write
    (0x6e, 16, 2), // RDTSC
    (0x6f, 15, 2), // RDPMC
    (0x72, 10, 2), // CPUID
    (0x73, 17, 2), // RSM
    (0x76, 13, 2), // INVD
    (0x77, 40, 2), // PAUSE
    (0x78, 12, 1), // HLT
    (0x79, 14, 0), // INVLPG
    (0x7a, 53, 3), // INVLPGA
    (0x7b, 30, 0), // IOIO
    (0x7d, 9, 0),  // task switch
    (0x7f, 2, 0),  // shutdown
    (0x80, 20, 3), // VMRUN
    (0x81, 18, 3), // VMMCALL
    (0x82, 21, 3), // VMLOAD
    (0x83, 22, 3), // VMSAVE
    (0x84, 27, 3), // STGI
    (0x85, 26, 3), // CLGI
    (0x86, 11, 3), // SKINIT
    (0x87, 51, 3), // RDTSCP
    (0x88, 0, 0),  // ICEBP
    (0x89, 54, 2), // WBINVD
    (0x8a, 39, 3), // MONITOR
    (0x8b, 36, 3), // MWAIT
    (0x8c, 36, 3), // MWAIT, armed
    (0x8d, 55, 3), // XSETBV
    (0xa2, 58, 0), // INVPCID
    (0xa5, 74, 0), // bus lock
    (0xa6, 12, 1), // HLT
    (0x400, 48, 0),
];

#[test]
fn each_exit_is_the_event_of_its_vmx_reason() {
    for (code, reason, length) in EVENTS {
        let vmcb = exit(&poor(), code.into(), 0, 0);
        assert_eq!(decode_exit(&vmcb), Exit::Portal(reason), "{code:#x}");
        assert_eq!(told(&vmcb, &poor()).inst_len, length, "{code:#x}");
    }
}

#[test]
fn every_event_has_a_portal() {
    for code in 0..0x500 {
        for info1 in [0, 1, 1 << 3, u64::MAX] {
            let Exit::Portal(n) = event(code, info1) else { continue };
            assert!(n < abi::event::GST_ARCH || n == NO_EVENT, "{code:#x}");
        }
    }
}

#[test]
fn exits_that_are_never_asked_for_have_no_event() {
    for code in [0x70, 0x71, 0x75, 0x7e, 0x8e, 0x8f, 0x90, 0xa0, 0xa7, 0x401, 0x403, 1 << 31] {
        assert_eq!(event(code, 0), Exit::Portal(NO_EVENT), "{code:#x}");
    }
}

#[test]
fn msr_exits_tell_reading_from_writing() {
    assert_eq!(event(0x7c, 0), Exit::Portal(31));
    assert_eq!(event(0x7c, 1), Exit::Portal(32));
    assert_eq!(told(&exit(&poor(), 0x7c, 1, 0), &poor()).inst_len, 2);
}

#[test]
fn a_refused_vmcb_is_a_failed_entry_in_both_widths() {
    for code in [u64::MAX, 0xffff_ffff] {
        assert_eq!(event(code, 0), Exit::Portal(33));
        assert!(svm::entry_failed(&exit(&poor(), code, 0, 0)));
    }
    assert!(!svm::entry_failed(&exit(&poor(), 0x60, 0, 0)));
}

#[test]
fn reserved_bits_in_nested_entries_are_a_misconfiguration() {
    assert_eq!(event(0x400, 1 << 32 | 0xf), Exit::Portal(49));
    assert_eq!(event(0x400, 1 << 32 | 0x7), Exit::Portal(48));
}

#[test]
fn nested_page_faults_are_described_as_ept_violations() {
    const FINAL: u64 = 1 << 32;
    const WALK: u64 = 1 << 33;
    for (info1, want, why) in [
        (FINAL | 0x04, 1 << 8 | 1, "read, not present"),
        (FINAL | 0x06, 1 << 8 | 2, "write, not present"),
        (FINAL | 0x07, 1 << 8 | 1 << 3 | 2, "write to read-only"),
        (FINAL | 0x14, 1 << 8 | 4, "fetch, not present"),
        (FINAL | 0x15, 1 << 8 | 1 << 3 | 4, "fetch from no-execute"),
        (WALK | 0x06, 2, "page-table walk"),
        (WALK | 0x07, 1 << 3 | 2, "page-table walk in read-only memory"),
    ] {
        let u = told(&exit(&poor(), 0x400, info1, 0xfee0_0030), &poor());
        assert_eq!(u.qual, [want, 0, 0xfee0_0030], "{why}");
        assert_eq!((u.inst_len, u.inst_info), (0, 0), "{why}");
    }
}

#[test]
fn port_accesses_are_described_as_on_vmx() {
    const COM1: u64 = 0x3f8 << 16;
    for (info1, want) in [
        (COM1 | 1 << 4, COM1),                                             // OUT, byte
        (COM1 | 1 << 5 | 1, COM1 | 1 | 1 << 3),                            // IN, word
        (COM1 | 1 << 6 | 1, COM1 | 3 | 1 << 3),                            // IN, doubleword
        (COM1 | 1 << 4 | 1 << 2, COM1 | 1 << 4),                           // OUTSB
        (COM1 | 1 << 6 | 1 << 3 | 1 << 2 | 1, COM1 | 3 | 1 << 3 | 3 << 4), // REP INSD
        (0xffff << 16 | 1 << 4 | 1 << 7, 0xffff << 16),
    ] {
        let u = told(&exit(&poor(), 0x7b, info1, 0x1002), &poor());
        assert_eq!((u.qual, u.inst_len), ([want, 0, 0], 2), "{info1:#x}");
    }
}

#[test]
fn string_accesses_tell_address_size_and_segment_or_say_that_they_do_not() {
    let info = |info1| told(&exit(&rich(), 0x7b, info1, 0x1001), &rich()).inst_info;
    const OUTSB: u64 = 1 << 4 | 1 << 2;
    assert_eq!(info(OUTSB), DECODE);
    assert_eq!(info(OUTSB | 1 << 7 | 3 << 10), 3 << 15, "16 bits, DS");
    assert_eq!(info(OUTSB | 1 << 8 | 4 << 10), 1 << 7 | 4 << 15, "32 bits, FS");
    assert_eq!(info(OUTSB | 1 << 9), 2 << 7, "64 bits, ES");
    assert_eq!(info(1 << 4), 0, "OUT has no address");
    assert_eq!(info(1 << 4 | 1 << 9 | 3 << 10), 0);
}

#[test]
fn cr_accesses_are_described_as_on_vmx() {
    const MOV: u64 = 1 << 63;
    for (code, info1, want, decode) in [
        (0x10, MOV, 0, false),                         // MOV CR0, RAX
        (0x14, MOV | 9, 4 | 9 << 8, false),            // MOV CR4, R9
        (0x03, MOV | 15, 3 | 1 << 4 | 15 << 8, false), // MOV R15, CR3
        (0x18, MOV | 1, 8 | 1 << 8, false),            // MOV CR8, RCX
        (0x65, MOV | 2, 2 << 8, false),                // MOV CR0, RDX
        (0x10, 0, 0, true),                            // LMSW, CLTS
        (0x00, 0, 1 << 4, true),                       // SMSW
    ] {
        let u = told(&exit(&rich(), code, info1, 0), &rich());
        assert_eq!((u.qual, u.inst_info & DECODE != 0), ([want, 0, 0], decode), "{code:#x} {info1:#x}");
    }
}

#[test]
fn without_decode_assists_registers_are_left_to_the_vmm() {
    for (code, want) in [(0x10, 0), (0x14, 4), (0x03, 3 | 1 << 4), (0x65, 0), (0x37, 7), (0x26, 6 | 1 << 4)] {
        // The information words mean nothing then.
        let u = told(&exit(&poor(), code, u64::MAX, u64::MAX), &poor());
        assert_eq!((u.qual, u.inst_info), ([want, 0, 0], DECODE), "{code:#x}");
    }
}

#[test]
fn dr_accesses_are_described_as_on_vmx() {
    for (code, info1, want) in [(0x37, 3, 7 | 3 << 8), (0x20, 10, 1 << 4 | 10 << 8), (0x3f, 0, 7)] {
        let u = told(&exit(&rich(), code, info1, 0), &rich());
        assert_eq!((u.qual, u.inst_info), ([want, 0, 0], 0), "{code:#x}");
    }
}

#[test]
fn invlpg_tells_its_address_where_the_cpu_does() {
    let at = |c| told(&exit(&c, 0x79, 0xffff_8000_0000_1234, 0), &c);
    assert_eq!((at(rich()).qual[0], at(rich()).inst_info), (0xffff_8000_0000_1234, 0));
    assert_eq!((at(poor()).qual[0], at(poor()).inst_info), (0, DECODE));
}

#[test]
fn descriptor_table_accesses_must_be_decoded() {
    for code in (0x66..=0x6d).chain([0xa2]) {
        assert_eq!(told(&exit(&rich(), code, 0, 0), &rich()).inst_info, DECODE, "{code:#x}");
    }
}

#[test]
fn exceptions_tell_their_address_or_cause() {
    let c = rich();
    let mut vmcb = exit(&c, 0x4e, 7, 0xdead_b000);
    vmcb.control.nrip = 0x1003;
    let u = told(&vmcb, &c);
    assert_eq!((u.qual, u.inst_len), ([0xdead_b000, 0, 0], 0));
    let mut vmcb = exit(&c, 0x41, 0, 0);
    vmcb.save.dr6 = 0xffff_4ff1;
    assert_eq!(told(&vmcb, &c).qual, [0x4001, 0, 0]);
    assert_eq!(told(&exit(&c, 0x4d, 0x18, 5), &c).qual, [0; 3]);
}

#[test]
fn task_switches_tell_selector_and_source() {
    for (info2, source) in [(0, 0), (1 << 36, 1), (1 << 38, 2), (1 << 44 | 5, 0)] {
        assert_eq!(told(&exit(&poor(), 0x7d, 0xdead_0028, info2), &poor()).qual[0], 0x28 | source << 30);
    }
}

#[test]
fn the_next_rip_gives_lengths_of_instructions_only() {
    let c = rich();
    let length = |code, nrip| {
        let mut vmcb = exit(&c, code, 0, 0);
        vmcb.control.nrip = nrip;
        told(&vmcb, &c).inst_len
    };
    assert_eq!(length(0x72, 0x1003), 3, "CPUID with a prefix");
    assert_eq!(length(0x10, 0x1004), 4, "MOV CR8");
    assert_eq!(length(0x65, 0x1003), 3);
    assert_eq!(length(0x7c, 0x1002), 2);
    assert_eq!(length(0x81, 0x1003), 3);
    for (code, why) in [(0x4d, "#GP"), (0x400, "NPF"), (0x7d, "task switch"), (0x7f, "shutdown"), (0x62, "SMI")] {
        assert_eq!(length(code, 0x1003), 0, "{why}");
    }
    // Not believable: the length that is known, or none.
    assert_eq!((length(0x72, 0), length(0x72, 0x1000), length(0x72, 0x1010), length(0x10, 0)), (2, 2, 2, 0));
    // An instruction around the end of the address space.
    let mut vmcb = exit(&c, 0x10, 0, 0);
    (vmcb.save.rip, vmcb.control.nrip) = (u64::MAX - 1, 1);
    assert_eq!(told(&vmcb, &c).inst_len, 3);
}

#[test]
fn without_next_rip_the_field_is_not_looked_at() {
    let mut vmcb = exit(&poor(), 0x72, 0, 0);
    vmcb.control.nrip = 0x1005;
    assert_eq!(told(&vmcb, &poor()).inst_len, 2);
    vmcb.control.exitcode = code::CR0_WRITE.into();
    assert_eq!(told(&vmcb, &poor()).inst_len, 0);
}

#[test]
fn an_exception_says_which_and_with_what_error_code() {
    const EXCEPTION: u32 = info::VALID | 3 << 8;
    for (vector, want, error) in [
        (0, EXCEPTION, 0),
        (3, info::VALID | 6 << 8, 0),
        (4, info::VALID | 6 << 8, 0),
        (6, EXCEPTION, 0),
        (8, EXCEPTION | info::ERROR, 0x55),
        (9, EXCEPTION, 0),
        (10, EXCEPTION | info::ERROR, 0x55),
        (14, EXCEPTION | info::ERROR, 0x55),
        (15, EXCEPTION, 0),
        (17, EXCEPTION | info::ERROR, 0x55),
        (19, EXCEPTION, 0),
        (21, EXCEPTION | info::ERROR, 0x55),
    ] {
        let u = told(&exit(&rich(), 0x40 + vector, 0x55, 0), &rich());
        assert_eq!((u.exc_info, u.exc_error), (want | vector as u32, error), "{vector}");
    }
    for other in [0x00, 0x3f, 0x60, 0x72, 0x400, u64::MAX] {
        let u = told(&exit(&rich(), other, 0x55, 0), &rich());
        assert_eq!((u.exc_info, u.exc_error), (0, 0), "{other:#x}");
    }
}
