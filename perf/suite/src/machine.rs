//! On what the suite runs, as far as user mode can tell.

use std::arch::x86_64::{__cpuid, CpuidResult};

/// Leaves of CPUID (Intel SDM vol. 2A): features, and the signature of a hypervisor; highest extended leaf; brand string.
const FEATURES: u32 = 1;
const HYPERVISOR: u32 = 0x4000_0000;
const EXTENDED: u32 = 0x8000_0000;
const BRAND: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];
/// Bit of ECX of [`FEATURES`]: a hypervisor is below.
const BELOW_HYPERVISOR: u32 = 1 << 31;

fn text(registers: impl IntoIterator<Item = u32>) -> String {
    let bytes: Vec<u8> = registers.into_iter().flat_map(u32::to_le_bytes).filter(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).trim().into()
}

/// The CPU's name for itself.
fn brand() -> String {
    let all = |r: CpuidResult| [r.eax, r.ebx, r.ecx, r.edx];
    if __cpuid(EXTENDED).eax < BRAND[2] {
        return "without a name".into();
    }
    text(BRAND.into_iter().flat_map(|leaf| all(__cpuid(leaf))))
}

/// Family, model and stepping as manuals count them.
fn model() -> String {
    let v = __cpuid(FEATURES).eax;
    let family = (v >> 8 & 0xf) + if v >> 8 & 0xf == 0xf { v >> 20 & 0xff } else { 0 };
    format!("family {family} model {} stepping {}", v >> 4 & 0xf | v >> 12 & 0xf0, v & 0xf)
}

fn hypervisor() -> String {
    if __cpuid(FEATURES).ecx & BELOW_HYPERVISOR == 0 {
        return "none that says so".into();
    }
    let r = __cpuid(HYPERVISOR);
    text([r.ebx, r.ecx, r.edx])
}

/// Prints it.
pub fn print() {
    println!("perf: machine cpu: {}", brand());
    println!("perf: machine model: {}", model());
    println!("perf: machine hypervisor: {}", hypervisor());
    println!("perf: machine tsc: {} Hz", rt::time::tsc_hz());
    println!("perf: machine cpus: {}", rt::start_info().map_or(1, |i| i.cpus));
}
