//! `cargo xtask platforms`: which platforms there are, and whether they can be used here.

use crate::platform::{self, Platform, Presence};
use anyhow::Result;
use std::process::ExitCode;

/// Prints a line a platform.
pub fn main() -> Result<ExitCode> {
    for p in platform::all()? {
        println!("{}", line(&p, &p.presence()));
    }
    Ok(ExitCode::SUCCESS)
}

fn line(p: &Platform, presence: &Presence) -> String {
    let state = match presence {
        Presence::Present => "present".to_owned(),
        Presence::NotInstalled(list) => {
            format!("absent: not installed: {} (`cargo xtask run` installs them if it may)", list.join(", "))
        }
        Presence::Unfit(why) => format!("absent: {why}"),
    };
    let cpus = if p.cpus == 1 { "1 CPU".into() } else { format!("{} CPUs", p.cpus) };
    format!(
        "{:<14} {}\n{:<14} {cpus}, {} MiB; can: {}\n{:<14} {state}",
        p.name,
        p.about,
        "",
        p.memory_mib,
        p.can.join(", "),
        ""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absence_has_a_reason() {
        let p = platform::all().unwrap().remove(0);
        assert!(line(&p, &Presence::Present).ends_with(" present"));
        assert!(line(&p, &Presence::NotInstalled(vec!["bochs"])).contains("absent: not installed: bochs"));
        assert!(line(&p, &Presence::Unfit("no SVM".into())).ends_with("absent: no SVM"));
    }
}
