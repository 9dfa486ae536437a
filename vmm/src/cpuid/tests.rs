//! What guests see, on hosts that have everything, nothing, or AMD's name.

use super::*;

/// A host that has everything, with Intel's name.
fn everything(leaf: u32, subleaf: u32) -> Regs {
    match (leaf, subleaf) {
        (0, _) => [0x1b, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        (0x8000_0000, _) => [0x8000_0008, 0, 0, 0],
        (0x8000_0008, _) => [0x3028, ALL, ALL, ALL],
        (4, 0..=2) => [ALL & !0xe0 | (subleaf + 1) << 5, 7, 63, 0],
        (4, 3) => [0; 4],
        (0xd, 0) => [0x7, 832, 832, 0],
        (0xd, 2) => [256, 576, 0, 0],
        _ => [ALL; 4],
    }
}

fn nothing(leaf: u32, _: u32) -> Regs {
    if leaf == 0 { [1, 0x756e_6547, 0x6c65_746e, 0x4965_6e69] } else { [0; 4] }
}

const VCPU: VcpuView = VcpuView { apic_id: 0, cr4: 0, xcr0: 1 };

fn policy(hide: &[Hide]) -> Policy {
    Policy::new(everything, 1, 50_000_000, hide)
}

#[test]
fn hidden_features_are_hidden() {
    let p = policy(&[]);
    for (name, leaf, register, bit) in [
        ("MONITOR", 1, 2, 3),
        ("VMX", 1, 2, 5),
        ("SMX", 1, 2, 6),
        ("PDCM", 1, 2, 15),
        ("PCID", 1, 2, 17),
        ("OSXSAVE", 1, 2, 27),
        ("DS", 1, 3, 21),
        ("TM", 1, 3, 29),
        ("SGX", 7, 1, 2),
        ("HLE", 7, 1, 4),
        ("INVPCID", 7, 1, 10),
        ("RTM", 7, 1, 11),
        ("AVX512F", 7, 1, 16),
        ("PT", 7, 1, 25),
        ("PKU", 7, 2, 3),
        ("OSPKE", 7, 2, 4),
        ("CET_SS", 7, 2, 7),
        ("LA57", 7, 2, 16),
        ("CET_IBT", 7, 3, 20),
        ("SPEC_CTRL", 7, 3, 26),
        ("ARCH_CAPABILITIES", 7, 3, 29),
        ("SVM", 0x8000_0001, 2, 2),
    ] {
        assert_eq!(p.query(leaf, 0, VCPU)[register] >> bit & 1, 0, "{name}");
    }
    for leaf in [3, 5, 9, 0xa, 0xc, 0xf, 0x10, 0x12, 0x14, 0x17, 0x1f, 0x4000_0002, 0x8000_001f] {
        assert_eq!(p.query(leaf, 0, VCPU), [0; 4], "leaf {leaf:#x}");
    }
    assert_eq!(p.query(0xd, 1, VCPU), [1, 0, 0, 0], "XSAVES, XSAVEC");
    assert_eq!(p.query(7, 1, VCPU), [0; 4]);
    assert_eq!(p.query(6, 0, VCPU), [EAX6_ARAT, 0, 0, 0]);
}

#[test]
fn what_linux_needs_is_there_on_any_host() {
    for host in [everything as fn(u32, u32) -> Regs, nothing] {
        let p = Policy::new(host, 1, 3_400_000_000, &[]);
        assert_eq!(p.query(0, 0, VCPU)[0], 0x16);
        let ecx = p.query(1, 0, VCPU)[2];
        assert_eq!(ecx & (1 << 21 | 1 << 24 | 1 << 31), 1 << 21 | 1 << 24 | 1 << 31);
        assert_eq!(p.query(0x15, 9, VCPU), [1, 1, 3_400_000_000, 0], "subleaf ignored");
        assert_eq!(p.query(0x16, 0, VCPU)[0], 3400);
        assert_eq!(p.query(0x8000_0007, 0, VCPU)[3], 1 << 8);
        let [max, b, c, d] = p.query(0x4000_0000, 0, VCPU);
        let name: Vec<u8> = [b, c, d].iter().flat_map(|r| r.to_le_bytes()).collect();
        assert_eq!((max, &name[..]), (0x4000_0001, &b"KVMKVMKVM\0\0\0"[..]));
        assert_eq!(p.query(0x4000_0001, 0, VCPU), [0; 4]);
    }
}

#[test]
fn fast_clocks_are_described_exactly() {
    let p = Policy::new(everything, 1, 5_000_000_000, &[]);
    let [den, num, crystal, _] = p.query(0x15, 0, VCPU).map(u64::from);
    assert_eq!(crystal * num / den, 5_000_000_000);
}

#[test]
fn cr4_has_what_cpuid_shows() {
    let (all, none) = (policy(&[]), Policy::new(nothing, 1, 1_000_000, &[]));
    assert_eq!(all.cr4_bits(), 0x35_0fff);
    assert_eq!(none.cr4_bits(), 0x7ff);
    assert_eq!(all.cr4_bits() & (1 << 12 | 1 << 13 | 1 << 14 | 1 << 17 | 1 << 22 | 1 << 23), 0, "hidden ones");
}

#[test]
fn osxsave_follows_cr4() {
    let p = policy(&[]);
    assert_ne!(p.query(1, 0, VcpuView { cr4: CR4_OSXSAVE, ..VCPU })[2] & ECX1_OSXSAVE, 0);
    let none = Policy::new(nothing, 1, 1_000_000, &[]);
    assert_eq!(none.query(1, 0, VcpuView { cr4: CR4_OSXSAVE, ..VCPU })[2] & ECX1_OSXSAVE, 0);
}

#[test]
fn extended_state_sizes_follow_xcr0() {
    let p = policy(&[]);
    assert_eq!(p.query(0xd, 0, VCPU), [7, 576, 832, 0]);
    assert_eq!(p.query(0xd, 0, VcpuView { xcr0: 7, ..VCPU }), [7, 832, 832, 0]);
    assert_eq!(p.query(0xd, 2, VCPU), [256, 576, 0, 0]);
    assert_eq!(p.query(0xd, 9, VCPU), [0; 4]);
    assert_eq!(p.xcr0(), 7);
}

#[test]
fn extended_state_is_what_the_host_switches() {
    let without = |ecx: u32, in_use: u32| {
        let host = move |leaf, subleaf| match (leaf, subleaf) {
            (1, _) => [ALL, ALL, !ecx, ALL],
            (0xd, 0) => [7, in_use, 832, 0],
            _ => everything(leaf, subleaf),
        };
        Policy::new(host, 1, 1_000_000, &[])
    };
    let (sse, none) = (without(0, 576), without(ECX1_OSXSAVE, 0));
    assert_eq!((sse.xcr0(), sse.query(1, 0, VCPU)[2] & (ECX1_AVX | ECX1_XSAVE)), (3, ECX1_XSAVE));
    assert_eq!((none.xcr0(), none.query(1, 0, VCPU)[2] & (ECX1_AVX | ECX1_XSAVE)), (0, 0));
    assert_eq!(none.query(0xd, 1, VCPU), [0; 4]);
    assert_eq!(without(0, 832).xcr0(), 7);
}

#[test]
fn nothing_that_an_emulator_of_svm_gets_wrong() {
    let under_svm = |nrips: u32| {
        let host = move |leaf, subleaf| match (leaf, subleaf) {
            (0x8000_0001, _) => [ALL, ALL, ECX81_SVM, ALL],
            (0x8000_000a, _) => [1, 16, 0, nrips],
            _ => everything(leaf, subleaf),
        };
        let p = Policy::new(host, 1, 1_000_000, &[]);
        (p.xcr0(), p.query(1, 0, VCPU)[2] & ECX1_CX16)
    };
    assert_eq!((under_svm(0), under_svm(EDX8A_NRIPS)), ((0, 0), (7, ECX1_CX16)));
}

#[test]
fn features_can_be_hidden_by_configuration() {
    let p = policy(&[Hide::Rdrand, Hide::Rdseed, Hide::Avx, Hide::X2apic]);
    let (leaf1, leaf7) = (p.query(1, 0, VCPU), p.query(7, 0, VCPU));
    assert_eq!(leaf1[2] & (ECX1_RDRAND | ECX1_AVX_GROUP | ECX1_X2APIC), 0);
    assert_eq!(leaf7[1] & (EBX7_RDSEED | EBX7_AVX2), 0);
    assert_eq!((p.xcr0(), p.query(0xd, 2, VCPU)), (3, [0; 4]));
    assert_eq!(p.query(0xd, 0, VCPU), [3, 576, 576, 0]);
}

#[test]
fn topology_is_one_package_of_single_threaded_cores() {
    let one = policy(&[]);
    assert_eq!(one.query(0xb, 0, VCPU), [0, 1, 0x100, 0]);
    assert_eq!(one.query(0xb, 1, VCPU), [0, 1, 0x201, 0]);
    assert_eq!(one.query(0xb, 2, VCPU), [0, 0, 2, 0]);
    assert_eq!(one.query(1, 0, VCPU)[1] >> 16, 1);
    assert_eq!(one.query(4, 2, VCPU)[0] >> 14, 0);
    let four = Policy::new(everything, 4, 1_000_000, &[]);
    let v = VcpuView { apic_id: 2, ..VCPU };
    assert_eq!(four.query(0xb, 1, v), [2, 4, 0x201, 2]);
    assert_eq!(four.query(1, 0, v)[1] >> 16, 4 | 2 << 8);
    assert_eq!(four.query(4, 2, v)[0] >> 14, 3 | 3 << 12, "shared last level");
    assert_eq!(four.query(4, 0, v)[0] >> 14, 3 << 12, "private first level");
    assert_eq!(four.query(4, 3, v), [0; 4]);
}

#[test]
fn amd_cpus_say_it_in_their_own_leaves() {
    let amd = |topology: u32| {
        move |leaf, subleaf| match (leaf, subleaf) {
            (0, _) => [0x16, AMD[0], 0x444d_4163, 0x6974_6e65],
            (0x8000_0000, _) => [0x8000_001f, 0, 0, 0],
            (0x8000_0001, _) => [ALL, ALL, topology, ALL],
            (0x8000_001d, n @ 0..=2) => [ALL & !0xe0 | (n + 1) << 5, 7, 63, 0],
            (0x8000_001d, _) => [0; 4],
            _ => everything(leaf, subleaf),
        }
    };
    let v = VcpuView { apic_id: 3, ..VCPU };
    let four = Policy::new(amd(ECX81_TOPOLOGY), 4, 1_000_000, &[]);
    assert_eq!(four.query(0x8000_0008, 0, v)[2], 2 << 12 | 3);
    assert_eq!(four.query(0x8000_0001, 0, v)[2], ECX81_TOPOLOGY | ECX81_CMP_LEGACY);
    assert_eq!(four.query(0x8000_0000, 0, v)[0], 0x8000_001e);
    assert_eq!(four.query(0x8000_001e, 0, v), [3, 3, 0, 0]);
    assert_eq!(four.query(0x4000_0001, 0, v), [1 << 3 | 1 << 24, 0, 0, 0], "KVM's clock");
    assert!(four.has_clock() && !policy(&[]).has_clock());
    assert_eq!(four.query(0x8000_001d, 2, v)[0] >> 14, 3, "shared last level, no cores");
    assert_eq!(four.query(0x8000_001d, 0, v)[0] >> 14, 0);
    let old = Policy::new(amd(0), 4, 1_000_000, &[]);
    assert_eq!((old.query(0x8000_0000, 0, v)[0], old.query(0x8000_001e, 0, v)), (0x8000_0008, [0; 4]));
    assert_eq!(old.query(0x8000_001d, 0, v), [0; 4]);
    assert_eq!(old.query(0x8000_0008, 0, v)[2], 2 << 12 | 3);
    let one = Policy::new(amd(0), 1, 1_000_000, &[]);
    assert_eq!((one.query(0x8000_0008, 0, v)[2], one.query(0x8000_0001, 0, v)[2]), (0, 0));
    assert_eq!(Policy::new(everything, 4, 1_000_000, &[]).query(0x8000_0008, 0, v)[2], 0, "Intel's is reserved");
}

#[test]
fn a_poor_host_gets_no_avx_and_sane_address_bits() {
    let p = Policy::new(nothing, 1, 1_000_000, &[]);
    assert_eq!(p.query(1, 0, VCPU)[2] & ECX1_AVX, 0);
    assert_eq!((p.xcr0(), p.phys_bits()), (0, 36));
    assert_eq!(p.query(0xd, 0, VCPU), [0; 4]);
    assert_eq!(policy(&[]).phys_bits(), 40);
}
