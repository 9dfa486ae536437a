//! Accounts of kernel memory (docs/spec/objects.md#account): that books are exact, that one account's shortage is its own,
//! and, on a kernel for tests, that a call whose allocation fails has changed nothing, and that the kernel is protected
//! against itself.
//!
//! Each check prints `test NAME ... ok` or `FAILED: why`; the last line is `quota: N checks passed, N failed`. With
//! `inject = true` in its configuration it runs the checks that need such a kernel, else the others.
//!
//! UNSAFETY: it makes hypercalls by hand, all but a few for protection domains that nothing runs in.
#![allow(unsafe_code)]

extern crate rt;

mod attempt;
mod books;
mod child;
mod exhaust;
mod inject;

/// What it found, if not what was expected.
pub type Outcome = Result<(), String>;
/// Tags of docs/spec of what it shows, name, function.
pub type Check = (&'static str, &'static str, fn() -> Outcome);

fn main() {
    let config = rt::rom(parent::CONFIG_ROM).map(String::from_utf8_lossy).unwrap_or_default();
    let checks: Vec<&Check> = match config.contains("inject = true") {
        true => inject::CHECKS.iter().chain(attempt::CHECKS).collect(),
        false => books::CHECKS.iter().chain(exhaust::CHECKS).collect(),
    };
    // The first use of some selectors and addresses adds tables to our own spaces, which stay.
    child::warm_up();
    let (mut passed, mut failed) = (0, 0);
    for (_, name, check) in checks {
        match check() {
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
    println!("quota: {passed} checks passed, {failed} failed");
}
