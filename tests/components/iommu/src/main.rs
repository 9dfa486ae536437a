//! A root task that checks what the kernel promises of devices and DMA spaces (docs/spec/assign_dev.md): with QEMU's
//! device `edu`, whose DMA engine reads and writes where it is told to. Where there is no IOMMU it checks the refusals.
//!
//! `machine` has what a root task takes from the kernel, `edu` is the device, `checks`, `interrupts` and `refusals` are what is checked.
//! The last line is `iommu: N checks passed, N failed`.
//!
//! UNSAFETY: the purpose is to make hypercalls by hand, and to have devices write to memory.
#![allow(unsafe_code)]

mod checks;
mod edu;
mod interrupts;
mod machine;
mod refusals;

use machine::Machine;

/// What it found, if not what was expected.
pub type Outcome = Result<(), String>;
/// Tags of docs/spec of what it shows, name, function.
pub type Check = (&'static str, &'static str, fn(&mut Machine) -> Outcome);

fn main() {
    let mut m = match Machine::take() {
        Ok(m) => m,
        Err(why) => return eprintln!("iommu: {why}"),
    };
    if m.iommu() && !m.reports() {
        println!("this unit reports nothing: whether something was blocked is seen by the memory alone");
    }
    let all = match m.iommu() {
        true if m.silent() == Ok(true) => refusals::SILENT.to_vec(),
        true => [checks::CHECKS, refusals::CHECKS, interrupts::CHECKS].concat(),
        // Without devices there is nobody to raise an interrupt.
        false => [refusals::WITHOUT, &interrupts::CHECKS[..2]].concat(),
    };
    let (mut passed, mut failed) = (0, 0);
    for (_, name, check) in all {
        match check(&mut m) {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(why) => {
                failed += 1;
                println!("test {name} ... FAILED: {why}");
            }
        }
    }
    println!("iommu: {passed} checks passed, {failed} failed");
}
