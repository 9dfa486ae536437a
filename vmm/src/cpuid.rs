//! CPUID policy: what a guest sees of the host's CPU, as a table of register masks (SDM volume 2, CPUID).
//!
//! A [`Policy`] is the host's CPUID through the table, frozen at start; what depends on the vCPU's state (OSXSAVE, APIC
//! ID, size of the XSAVE area) is filled in at each query.
//!
//! Hypervisor leaves: Linux accepts x2APIC mode without interrupt remapping only on a hypervisor interface that it
//! knows. Leaves 0x4000_0000 and 0x4000_0001 are those of the documented KVM paravirtual interface
//! (Documentation/virt/kvm/x86/cpuid.rst), offered without features, but for the clock ([`pvclock`]) on AMD CPUs.

use crate::config::Hide;
use crate::pvclock;
use crate::spec::bits::CR4_OSXSAVE;

/// EAX, EBX, ECX, EDX.
pub type Regs = [u32; 4];
const NONE: u32 = 0;
const ALL: u32 = u32::MAX;

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CX16, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE, AVX, F16C, RDRAND.
/// Hidden: DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, PCID, DCA; set apart: x2APIC, TSC
/// deadline.
const ECX1: u32 = 1 << 0
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 19
    | 1 << 20
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 28
    | 1 << 29
    | 1 << 30;
const ECX1_X2APIC: u32 = 1 << 21;
const ECX1_TSC_DEADLINE: u32 = 1 << 24;
const ECX1_CX16: u32 = 1 << 13;
const ECX1_XSAVE: u32 = 1 << 26;
const ECX1_OSXSAVE: u32 = 1 << 27;
const ECX81_SVM: u32 = 1 << 2;
const EDX8A_NRIPS: u32 = 1 << 3;
const ECX1_AVX: u32 = 1 << 28;
/// FMA, AVX, F16C: what goes with AVX.
const ECX1_AVX_GROUP: u32 = 1 << 12 | ECX1_AVX | 1 << 29;
const ECX1_RDRAND: u32 = 1 << 30;
const ECX1_HYPERVISOR: u32 = 1 << 31;
/// Leaf 1 EDX: hidden are PSN, DS, ACPI (thermal), HTT, TM, PBE.
const EDX1: u32 = !(1 << 18 | 1 << 21 | 1 << 22 | 1 << 28 | 1 << 29 | 1 << 31);
/// Leaf 6 EAX: ARAT, the APIC timer runs in all C-states.
const EAX6_ARAT: u32 = 1 << 2;
/// Leaf 7 EBX: FSGSBASE, BMI1, AVX2, FDP, SMEP, BMI2, ERMS, FPU CS/DS deprecation, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB,
/// SHA. Hidden: SGX, HLE, INVPCID, RTM, RDT, MPX, AVX-512, PT.
const EBX7: u32 = 1 << 0
    | 1 << 3
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 13
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 24
    | 1 << 29;
/// IA32_TSC_ADJUST: emulated, so there on every host. With it Linux needs no watchdog for the TSC.
const EBX7_TSC_ADJUST: u32 = 1 << 1;
const EBX7_AVX2: u32 = 1 << 5;
const EBX7_RDSEED: u32 = 1 << 18;
/// Leaf 7 ECX: UMIP, GFNI, VAES, VPCLMULQDQ, RDPID. Hidden: PKU, OSPKE, WAITPKG, CET, LA57, KL, ENQCMD.
const ECX7: u32 = 1 << 2 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 22;
/// VAES, VPCLMULQDQ.
const ECX7_AVX_GROUP: u32 = 1 << 9 | 1 << 10;
/// Leaf 7 EDX: FSRM. Hidden: speculation controls, CET, ARCH_CAPABILITIES, CORE_CAPABILITIES.
const EDX7: u32 = 1 << 4;
/// Leaf 0xd.1 EAX: XSAVEOPT. Hidden: XSAVEC, XGETBV with ECX = 1, XSAVES.
const EAXD1: u32 = 1 << 0;
/// XCR0: x87, SSE, AVX.
const XCR0_MAX: u32 = 0b111;
const XCR0_AVX: u32 = 0b100;
/// Leaf 0x8000_0001 ECX: LAHF, LZCNT, PREFETCHW. EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const ECX81: u32 = 1 << 0 | 1 << 5 | 1 << 8;
const EDX81: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;
/// Leaf 0x8000_0007 EDX: invariant TSC.
const EDX87_INVARIANT_TSC: u32 = 1 << 8;

/// CR4: VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT.
const CR4_ALWAYS: u64 = 0x7ff;
/// Leaf, register, bit; and the bit of CR4 that goes with it: UMIP, FSGSBASE, OSXSAVE, SMEP, SMAP (SDM volume 3, 2.5).
const CR4_FEATURES: [(u32, usize, u32, u64); 5] =
    [(7, 2, 2, 1 << 11), (7, 1, 0, 1 << 16), (1, 2, 26, 1 << 18), (7, 1, 7, 1 << 20), (7, 1, 20, 1 << 21)];

/// First hypervisor leaf, and the last that is offered.
const HYPERVISOR: u32 = 0x4000_0000;
const HYPERVISOR_FEATURES: u32 = 0x4000_0001;
/// "KVMKVMKVM\0\0\0" in EBX, ECX, EDX.
const KVM_SIGNATURE: [u32; 3] = [0x4b4d_564b, 0x564b_4d56, 0x0000_004d];
const BASIC_MAX: u32 = 0x16;
const EXTENDED_MAX: u32 = 0x8000_0008;
/// The same where AMD's topology leaves are offered.
const EXTENDED_MAX_TOPOLOGY: u32 = 0x8000_001e;
/// EBX of leaf 0 on AMD CPUs, and on Hygon's, which are like them: "Auth", "Hygo".
const AMD: [u32; 2] = [0x6874_7541, 0x6f67_7948];
/// AMD, leaf 0x8000_0001 ECX: several cores without a leaf that says so (CmpLegacy); topology leaves.
const ECX81_CMP_LEGACY: u32 = 1 << 1;
const ECX81_TOPOLOGY: u32 = 1 << 22;

/// One row of the policy: which bits of the host's registers pass. Subleaf [`ALL`]: any.
struct Row {
    leaf: u32,
    subleaf: u32,
    pass: Regs,
}

const fn row(leaf: u32, subleaf: u32, pass: Regs) -> Row {
    Row { leaf, subleaf, pass }
}

/// What passes. Leaves that are not here read as zero.
const TABLE: [Row; 23] = [
    row(0x0, 0, [NONE, ALL, ALL, ALL]),
    // EBX: brand index and CLFLUSH size; counts and the APIC ID are filled in.
    row(0x1, 0, [ALL, 0xffff, ECX1, EDX1]),
    row(0x2, 0, [ALL; 4]),
    // Caches: not how many share them (EAX 31:14).
    row(0x4, 0, [0x3fff, ALL, ALL, ALL]),
    row(0x4, 1, [0x3fff, ALL, ALL, ALL]),
    row(0x4, 2, [0x3fff, ALL, ALL, ALL]),
    row(0x4, 3, [0x3fff, ALL, ALL, ALL]),
    row(0x7, 0, [NONE, EBX7, ECX7, EDX7]),
    row(0xd, 0, [XCR0_MAX, NONE, ALL, NONE]),
    row(0xd, 1, [EAXD1, NONE, NONE, NONE]),
    row(0xd, 2, [ALL, ALL, NONE, NONE]),
    row(0x8000_0001, 0, [ALL, NONE, ECX81, EDX81]),
    row(0x8000_0002, 0, [ALL; 4]),
    row(0x8000_0003, 0, [ALL; 4]),
    row(0x8000_0004, 0, [ALL; 4]),
    row(0x8000_0005, 0, [ALL; 4]),
    row(0x8000_0006, 0, [ALL; 4]),
    row(0x8000_0007, 0, [NONE, NONE, NONE, EDX87_INVARIANT_TSC]),
    // Address sizes only.
    row(0x8000_0008, 0, [0xffff, NONE, NONE, NONE]),
    // AMD's leaf 4.
    row(0x8000_001d, 0, [0x3fff, ALL, ALL, ALL]),
    row(0x8000_001d, 1, [0x3fff, ALL, ALL, ALL]),
    row(0x8000_001d, 2, [0x3fff, ALL, ALL, ALL]),
    row(0x8000_001d, 3, [0x3fff, ALL, ALL, ALL]),
];

/// What of a vCPU's state shows in CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuView {
    /// APIC ID.
    pub apic_id: u32,
    /// CR4.
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
}

/// CPUID as one guest sees it.
#[derive(Clone, Debug)]
pub struct Policy {
    rows: Vec<(u32, u32, Regs)>,
    vcpus: u32,
}

impl Policy {
    /// Takes the host's CPUID through the table. `tsc_hz` is the frequency that the guest is told.
    pub fn new(host: impl Fn(u32, u32) -> Regs, vcpus: u32, tsc_hz: u64, hide: &[Hide]) -> Policy {
        let host_max = |leaf: u32| host(leaf & 0x8000_0000, 0)[0];
        let pass = |r: &Row| {
            let value = if r.leaf <= host_max(r.leaf) { host(r.leaf, r.subleaf) } else { [0; 4] };
            (r.leaf, r.subleaf, std::array::from_fn(|i| value[i] & r.pass[i]))
        };
        let mut policy = Policy { rows: TABLE.iter().map(pass).collect(), vcpus };
        policy.force(tsc_hz);
        policy.describe_amd(&host);
        policy.limit_to_host(host);
        hide.iter().for_each(|h| policy.hide(*h));
        policy
    }

    /// What every guest sees, whatever the host has.
    fn force(&mut self, tsc_hz: u64) {
        self.row(0x0)[0] = BASIC_MAX;
        self.row(0x1)[2] |= ECX1_X2APIC | ECX1_TSC_DEADLINE | ECX1_HYPERVISOR;
        self.row(0x7)[1] |= EBX7_TSC_ADJUST;
        self.rows.push((0x6, 0, [EAX6_ARAT, 0, 0, 0]));
        // TSC frequency, exactly, so that Linux calibrates nothing.
        let crystal = crystal_hz(tsc_hz);
        self.rows.push((0x15, 0, [1, (tsc_hz / crystal) as u32, crystal as u32, 0]));
        let mhz = u32::try_from(tsc_hz / 1_000_000).unwrap_or(0).min(0xffff);
        self.rows.push((0x16, 0, [mhz, mhz, 0, 0]));
        let [b, c, d] = KVM_SIGNATURE;
        self.rows.push((HYPERVISOR, 0, [HYPERVISOR_FEATURES, b, c, d]));
        self.rows.push((HYPERVISOR_FEATURES, 0, [0; 4]));
        self.rows.push((0x8000_0000, 0, [EXTENDED_MAX, 0, 0, 0]));
        self.row(0x8000_0007)[3] |= EDX87_INVARIANT_TSC;
    }

    /// Whether the guest gets KVM's clock.
    pub fn has_clock(&self) -> bool {
        self.find(HYPERVISOR_FEATURES, 0)[0] & pvclock::FEATURES != 0
    }

    /// AMD CPUs say in leaves of their own how many cores there are (APM volume 3, appendix E.4.7 and E.4.16), and
    /// nowhere how fast the TSC is.
    fn describe_amd(&mut self, host: impl Fn(u32, u32) -> Regs) {
        if !AMD.contains(&self.row(0x0)[1]) {
            return;
        }
        self.row(HYPERVISOR_FEATURES)[0] |= pvclock::FEATURES;
        self.row(0x8000_0008)[2] = self.core_bits() << 12 | (self.vcpus - 1);
        if self.vcpus > 1 {
            self.row(0x8000_0001)[2] |= ECX81_CMP_LEGACY;
        }
        if host(0x8000_0001, 0)[2] & ECX81_TOPOLOGY != 0 {
            self.row(0x8000_0001)[2] |= ECX81_TOPOLOGY;
            self.row(0x8000_0000)[0] = EXTENDED_MAX_TOPOLOGY;
        }
    }

    /// Bits of an APIC ID that number the core.
    fn core_bits(&self) -> u32 {
        u32::BITS - (self.vcpus - 1).leading_zeros()
    }

    /// Whether AMD's topology leaves are offered.
    fn has_amd_topology(&self) -> bool {
        self.find(0x8000_0000, 0)[0] >= EXTENDED_MAX_TOPOLOGY
    }

    /// Extended state only as far as the host's kernel switches it: OSXSAVE and the size of the area in use show that.
    ///
    /// And neither it nor CMPXCHG16B under an SVM without next-RIP saving: every CPU with these has that. The emulator
    /// that has not, QEMU 7.2, does not intercept XSETBV, and its CMPXCHG16B takes flags for computed that are not: an
    /// operand then shows in RFLAGS, NT and all.
    fn limit_to_host(&mut self, host: impl Fn(u32, u32) -> Regs) {
        let osxsave = host(0x1, 0)[2] & ECX1_OSXSAVE != 0;
        let ([size, offset, ..], in_use) = (*self.row_at(0xd, 2), host(0xd, 0)[1]);
        let svm = host(0x8000_0001, 0)[2] & ECX81_SVM != 0;
        let emulated = svm && host(0x8000_000a, 0)[3] & EDX8A_NRIPS == 0;
        if emulated {
            self.row(0x1)[2] &= !ECX1_CX16;
        }
        if !osxsave || emulated {
            self.row(0x1)[2] &= !ECX1_XSAVE;
            *self.row(0xd) = [0; 4];
            *self.row_at(0xd, 1) = [0; 4];
        }
        if self.row(0xd)[0] & XCR0_AVX == 0 || in_use < size.saturating_add(offset) {
            self.hide(Hide::Avx);
        }
    }

    fn hide(&mut self, what: Hide) {
        match what {
            Hide::Rdrand => self.row(0x1)[2] &= !ECX1_RDRAND,
            Hide::Rdseed => self.row(0x7)[1] &= !EBX7_RDSEED,
            Hide::X2apic => self.row(0x1)[2] &= !ECX1_X2APIC,
            Hide::Avx => {
                self.row(0x1)[2] &= !ECX1_AVX_GROUP;
                let leaf7 = self.row(0x7);
                leaf7[1] &= !EBX7_AVX2;
                leaf7[2] &= !ECX7_AVX_GROUP;
                self.row(0xd)[0] &= !XCR0_AVX;
            }
        }
    }

    /// The first row of a leaf, which the table has.
    fn row(&mut self, leaf: u32) -> &mut Regs {
        self.row_at(leaf, 0)
    }

    fn row_at(&mut self, leaf: u32, subleaf: u32) -> &mut Regs {
        match self.rows.iter().position(|r| (r.0, r.1) == (leaf, subleaf)) {
            Some(i) => &mut self.rows[i].2,
            None => unreachable!("leaf {leaf:#x}, {subleaf:#x} is in the table"),
        }
    }

    fn find(&self, leaf: u32, subleaf: u32) -> Regs {
        self.rows.iter().find(|r| (r.0, r.1) == (leaf, subleaf)).map_or([0; 4], |r| r.2)
    }

    /// Bits of XCR0 that the guest may set.
    pub fn xcr0(&self) -> u64 {
        u64::from(self.find(0xd, 0)[0])
    }

    /// Family, model and stepping.
    pub fn signature(&self) -> u32 {
        self.find(0x1, 0)[0]
    }

    /// Bits of CR4 that the guest may set: those that every 64-bit CPU has, and those whose feature CPUID shows.
    pub fn cr4_bits(&self) -> u64 {
        let shown = |(leaf, register, bit, cr4): &(u32, usize, u32, u64)| {
            (self.find(*leaf, 0)[*register] >> bit & 1 != 0).then_some(*cr4)
        };
        CR4_FEATURES.iter().filter_map(shown).fold(CR4_ALWAYS, |all, bit| all | bit)
    }

    /// Physical address bits.
    pub fn phys_bits(&self) -> u32 {
        (self.find(0x8000_0008, 0)[0] & 0xff).clamp(36, 52)
    }

    /// What the guest reads. Leaves without subleaves ignore `subleaf`; out of range it is the highest basic leaf, as
    /// on Intel CPUs, which is all zero here but for the frequencies, so zero is returned.
    pub fn query(&self, leaf: u32, subleaf: u32, vcpu: VcpuView) -> Regs {
        match leaf {
            0x1 => self.leaf1(vcpu),
            0x4 => self.caches(leaf, subleaf),
            0x7 => self.find(leaf, subleaf),
            0xb => self.leaf_b(subleaf, vcpu.apic_id),
            0xd => self.leaf_d(subleaf, vcpu.xcr0),
            0x8000_001d if self.has_amd_topology() => self.caches(leaf, subleaf),
            // One thread per core, one node; APM volume 3, E.4.16.
            0x8000_001e if self.has_amd_topology() => [vcpu.apic_id, vcpu.apic_id, 0, 0],
            0x8000_001d => [0; 4],
            _ => self.find(leaf, 0),
        }
    }

    fn leaf1(&self, vcpu: VcpuView) -> Regs {
        let mut r = self.find(0x1, 0);
        r[1] |= self.vcpus << 16 | vcpu.apic_id << 24;
        if self.vcpus > 1 {
            r[3] |= 1 << 28;
        }
        if r[2] & ECX1_XSAVE != 0 && vcpu.cr4 & CR4_OSXSAVE != 0 {
            r[2] |= ECX1_OSXSAVE;
        }
        r
    }

    /// Caches: one thread per core, so L1 and L2 are private; the last level is shared by all.
    /// Intel's leaf 4 also has the number of cores, in what is reserved in AMD's.
    fn caches(&self, leaf: u32, subleaf: u32) -> Regs {
        let mut r = self.find(leaf, subleaf);
        if r[0] & 0x1f != 0 {
            let sharing = if r[0] >> 5 & 7 >= 3 { self.vcpus - 1 } else { 0 };
            let cores = if leaf == 0x4 { self.vcpus - 1 } else { 0 };
            r[0] |= sharing << 14 | cores << 26;
        }
        r
    }

    /// Topology: one thread per core, all cores in one package.
    fn leaf_b(&self, subleaf: u32, apic_id: u32) -> Regs {
        match subleaf {
            0 => [0, 1, 1 << 8, apic_id],
            1 => [self.core_bits(), self.vcpus, 2 << 8 | 1, apic_id],
            n => [0, 0, n & 0xff, apic_id],
        }
    }

    /// Extended state: the area is 512 bytes legacy, 64 bytes header, then AVX where the host puts it.
    fn leaf_d(&self, subleaf: u32, xcr0: u64) -> Regs {
        let [features, ..] = self.find(0xd, 0);
        let avx = self.find(0xd, 2);
        let end = |enabled: u64| if enabled & u64::from(XCR0_AVX) != 0 { avx[0] + avx[1] } else { 576 };
        match subleaf {
            _ if features == 0 => [0; 4],
            0 => [features, end(xcr0), end(u64::from(features)), 0],
            1 => self.find(0xd, 1),
            2 if features & XCR0_AVX != 0 => avx,
            _ => [0; 4],
        }
    }
}

/// Frequency of the crystal clock of leaf 0x15, which is also the local APIC timer's: that of the TSC, or half of it if
/// it does not fit in 32 bits.
pub fn crystal_hz(tsc_hz: u64) -> u64 {
    if tsc_hz >> 32 == 0 { tsc_hz.max(1) } else { tsc_hz / 2 }
}

/// The host's CPUID.
pub fn host(leaf: u32, subleaf: u32) -> Regs {
    let r = std::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

#[cfg(test)]
mod tests;
