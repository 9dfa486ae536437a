//! `cargo xtask platforms`: which platforms there are, and whether they can be used here.

use crate::platform::{self, Platform};
use anyhow::Result;
use std::process::ExitCode;

/// Prints a line a platform.
pub fn main() -> Result<ExitCode> {
    for p in platform::all()? {
        println!("{}", line(&p, &p.absent()));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(p: &Platform, absent: &[&str]) -> String {
    let state = match absent {
        [] => "present".to_owned(),
        list => format!("absent: not installed: {} (`cargo xtask run` installs them if it may)", list.join(", ")),
    };
    format!("{:<14} {}\n{:<14} can: {}; {state}", p.name, p.about, "", p.can.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_has_a_reason() {
        let p = platform::all().unwrap().remove(0);
        assert!(line(&p, &[]).ends_with("present"));
        assert!(line(&p, &["bochs"]).contains("absent: not installed: bochs"));
    }
}
