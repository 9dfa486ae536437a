//! What the CPU says of itself, and which emulator it is, if any: so that a test can say "not here" and why.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count};

/// Whose virtualisation the CPU has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Vendor {
    /// VT-x.
    Vmx,
    /// SVM.
    Svm,
}

/// What runs the code. Emulators have gaps that are known; on hardware nothing is excused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Emulator {
    /// A CPU, as far as one can see.
    None,
    /// QEMU's TCG, by its signature in CPUID 4000_0000.
    Tcg,
    /// Bochs, which has no signature, but whose TSC counts instructions.
    Bochs,
    /// The software CPU of the host tests.
    Model,
}

/// The machine that a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Back end.
    pub vendor: Vendor,
    /// Emulator.
    pub emulator: Emulator,
    /// The CPU tells the length of every instruction that exits (VT-x, NRIPS).
    pub lengths: bool,
    /// The CPU tells operands of exits (VT-x, decode assists).
    pub operands: bool,
    /// Accesses to CR8 do not exit unless asked for.
    pub cr8: bool,
    /// CPUID 1, ECX.
    pub leaf1_ecx: u32,
    /// CPUID 7, EBX.
    pub leaf7_ebx: u32,
    /// CPUID 8000_0001, EDX.
    pub extended_edx: u32,
}

const TCG: [u8; 12] = *b"TCGTCGTCGTCG";
/// More instructions than two readings of an instruction counter can be apart, fewer cycles than any CPU needs.
const COUNTS: u32 = 4;

impl Facts {
    /// Of the CPU that executes this.
    pub fn here() -> Facts {
        let (leaf1, leaf7, extended) = (__cpuid(1), __cpuid_count(7, 0), __cpuid(0x8000_0001));
        let svm = extended.ecx & 1 << 2 != 0;
        let features = if svm { __cpuid(0x8000_000a).edx } else { 0 };
        Facts {
            vendor: if svm { Vendor::Svm } else { Vendor::Vmx },
            emulator: emulator(),
            lengths: !svm || features & 1 << 3 != 0,
            operands: !svm || features & 1 << 7 != 0,
            cr8: true,
            leaf1_ecx: leaf1.ecx,
            leaf7_ebx: leaf7.ebx,
            extended_edx: extended.edx,
        }
    }

    /// The same if words of the kernel's command line turn features off.
    pub fn without(mut self, words: &str) -> Facts {
        let vmx = self.vendor == Vendor::Vmx;
        self.lengths &= vmx || !words.contains("no-nrips");
        self.operands &= vmx || !words.contains("no-decode-assists");
        self.cr8 &= !vmx || !words.contains("no-tpr-shadow");
        self
    }

    /// XSAVE.
    pub fn xsave(&self) -> bool {
        self.leaf1_ecx & 1 << 26 != 0
    }

    /// AVX.
    pub fn avx(&self) -> bool {
        self.leaf1_ecx & 1 << 28 != 0
    }

    /// MONITOR and MWAIT.
    pub fn monitor(&self) -> bool {
        self.leaf1_ecx & 1 << 3 != 0
    }

    /// RDTSCP.
    pub fn rdtscp(&self) -> bool {
        self.extended_edx & 1 << 27 != 0
    }
}

fn emulator() -> Emulator {
    let l = __cpuid(0x4000_0000);
    let signature: Vec<u8> = [l.ebx, l.ecx, l.edx].into_iter().flat_map(u32::to_le_bytes).collect();
    match () {
        _ if signature == TCG => Emulator::Tcg,
        _ if (0..16).map(|_| two_readings()).min() <= Some(COUNTS) => Emulator::Bochs,
        _ => Emulator::None,
    }
}

/// The TSC's advance between two readings in a row.
fn two_readings() -> u32 {
    let apart;
    // SAFETY: reads a counter.
    unsafe { asm!("rdtsc", "mov ecx, eax", "rdtsc", "sub eax, ecx", out("eax") apart, out("ecx") _, out("edx") _) };
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_without_is_not_expected() {
        let words = "no-nrips no-decode-assists no-tpr-shadow";
        let of = |vendor| Facts { vendor, lengths: true, operands: true, ..Facts::here() };
        let (vmx, svm) = (of(Vendor::Vmx), of(Vendor::Svm));
        assert_eq!(vmx.without(words), Facts { cr8: false, ..vmx });
        assert_eq!(svm.without(words), Facts { lengths: false, operands: false, ..svm });
        assert_eq!(svm.without("no-nrips"), Facts { lengths: false, ..svm });
    }

    #[test]
    fn this_machine_is_described_without_contradiction() {
        let f = Facts::here();
        assert!(f.vendor == Vendor::Svm || f.lengths && f.operands);
        assert!(f.cr8 && f.without("") == f);
        assert!(f.emulator != Emulator::Model && (f.xsave() || !f.avx()));
    }
}
