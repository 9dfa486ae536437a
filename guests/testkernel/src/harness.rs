//! Tests: what they are, what they may need, and the runner.
//!
//! A test is a function with the attribute `#[guest_test]`; it fails by panicking. The runner puts the machine in order
//! before each, prints a line for each, and a sum at the end. Whether a test can run here CPUID alone decides.

use crate::machine::cpu::{cpuid, cpuid_if_any};
use crate::machine::{self, smp, tables, trap};
use crate::{print, println, x86};
use core::fmt;

/// A test, as the attribute puts it into the section `.guest_tests`.
pub struct GuestTest {
    /// Path of the function.
    pub name: &'static str,
    /// All of it must be there.
    pub needs: &'static [Need],
    /// What QEMU's TCG does wrong so that the test cannot pass on it, under whatever monitor.
    pub tcg: Option<&'static str>,
    /// A known defect, because of which it cannot pass anywhere yet.
    pub unstable: Option<&'static str>,
    /// The function.
    pub run: fn(),
}

/// What a test may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the manual")]
pub enum Need {
    X2apic,
    TscDeadline,
    InvariantTsc,
    Xsave,
    Avx,
    Smep,
    Smap,
    Umip,
    Pcid,
    FsGsBase,
    Rdtscp,
    Pages1G,
    TscAdjust,
    Mtrr,
    /// The CPU calls itself Intel's.
    Intel,
    /// It says that a hypervisor is below.
    Hypervisor,
    /// So many CPUs.
    Vcpus(usize),
}

impl Need {
    /// Whether the machine has it.
    pub fn is_there(self) -> bool {
        let bit = |v: u32, n: u32| v >> n & 1 != 0;
        let (one, seven) = (cpuid(1, 0), cpuid_if_any(7, 0));
        match self {
            Need::X2apic => bit(one.ecx, 21),
            Need::TscDeadline => bit(one.ecx, 24),
            Need::InvariantTsc => bit(cpuid_if_any(0x8000_0007, 0).edx, 8),
            Need::Xsave => bit(one.ecx, 26),
            Need::Avx => bit(one.ecx, 28) && bit(one.ecx, 26),
            Need::Smep => bit(seven.ebx, 7),
            Need::Smap => bit(seven.ebx, 20),
            Need::Umip => bit(seven.ecx, 2),
            Need::Pcid => bit(one.ecx, 17),
            Need::FsGsBase => bit(seven.ebx, 0),
            Need::Rdtscp => bit(cpuid_if_any(0x8000_0001, 0).edx, 27),
            Need::Pages1G => bit(cpuid_if_any(0x8000_0001, 0).edx, 26),
            Need::TscAdjust => bit(seven.ebx, 1),
            Need::Mtrr => bit(one.edx, 12),
            Need::Intel => cpuid(0, 0).ecx == u32::from_le_bytes(*b"ntel"),
            Need::Hypervisor => bit(one.ecx, 31),
            Need::Vcpus(n) => smp::expected() >= n,
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Need::Vcpus(n) => write!(f, "{n} CPUs needed, {} there", smp::expected()),
            other => write!(f, "CPUID has no {other:?}"),
        }
    }
}

unsafe extern "C" {
    static TESTS_START: u8;
    static TESTS_END: u8;
}

fn all() -> &'static [GuestTest] {
    let (start, end) = (&raw const TESTS_START, &raw const TESTS_END);
    let count = (end as usize - start as usize) / size_of::<GuestTest>();
    // SAFETY: the link script puts the tests there, and nothing else.
    unsafe { core::slice::from_raw_parts(start.cast(), count) }
}

/// Results so far.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    passed: usize,
    failed: usize,
    not_here: usize,
}

/// Runs the tests whose names contain `filter`, but for those that `skip` names: NAME or NAME,NAME,... With `gaps` also
/// those that are known to fail.
pub fn run_all(filter: &str, skip: &'static str, gaps: bool) {
    let terms = Terms { skip, gaps, tcg: is_tcg() };
    let mut sum = Sum::default();
    let mut last = "";
    // By name; the linker's order is nobody's.
    while let Some(test) = all().iter().filter(|t| t.name > last).min_by_key(|t| t.name) {
        last = test.name;
        let name = test.name.trim_start_matches("testkernel::tests::");
        if name.contains(filter) {
            run(test, name, terms, &mut sum);
        }
    }
    println!("{} passed, {} failed, {} not here", sum.passed, sum.failed, sum.not_here);
}

/// How tests are to be run.
#[derive(Clone, Copy)]
struct Terms {
    skip: &'static str,
    /// Those with a known gap, too.
    gaps: bool,
    tcg: bool,
}

fn run(test: &GuestTest, name: &str, terms: Terms, sum: &mut Sum) {
    print!("test {name} ... ");
    if print_why_not(test, name, terms) {
        sum.not_here += 1;
        return;
    }
    machine::reset();
    match trap::outermost(test.run) {
        true => {
            sum.passed += 1;
            println!("ok");
        }
        // The panic has printed the reason.
        false => sum.failed += 1,
    }
}

fn print_why_not(test: &GuestTest, name: &str, terms: Terms) -> bool {
    let Terms { skip, gaps, tcg } = terms;
    let need = test.needs.iter().find(|n| !n.is_there());
    match (need, test.tcg, test.unstable) {
        (Some(need), ..) => println!("not here: {need}"),
        (_, Some(gap), _) if tcg && !gaps => println!("not here: QEMU's TCG {gap}"),
        (.., Some(defect)) if !gaps => println!("not here: known defect: {defect}"),
        _ if skip.split(',').any(|s| s == name) => println!("not here: the command line says so"),
        _ => return false,
    }
    true
}

/// Whether TCG executes the instructions: only TCG (7.2) gives 16 for 8 in the error code of an absent gate.
pub fn is_tcg() -> bool {
    const VECTOR: u8 = 0x90;
    tables::set_gate(VECTOR, tables::absent(tables::normal_gate(VECTOR)));
    let fault = trap::catch(|| x86!("int 0x90"));
    tables::set_gate(VECTOR, tables::normal_gate(VECTOR));
    fault.is_some_and(|f| f.error == u64::from(VECTOR) << 4 | 2)
}
