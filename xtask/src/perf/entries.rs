//! What entries of the kernel cost: the component `probe` measures it from inside (`run = "bench"`).
//!
//! Key type: [`Entries`].

use super::printed;
use crate::platform::Platform;
use crate::system::System;
use anyhow::Result;
use regex::Regex;
use serde::Serialize;

/// The root task alone, and the component.
const SYSTEM: &str = "[[component]]\nname = 'probe'\nbinary = 'probe'\nram = '64M'\nkmem = '6M'\npriority = 30\n\
    config = { run = 'bench' }\n";

/// Figures of a platform, in ticks.
#[derive(Debug, PartialEq, Serialize)]
pub struct Entries {
    /// The platform.
    pub platform: String,
    /// Name and ticks.
    pub figures: Vec<(String, u64)>,
}

impl Entries {
    /// The largest of the figures whose names begin so.
    pub fn most(&self, prefix: &str) -> u64 {
        self.figures.iter().filter(|(n, _)| n.starts_with(prefix)).map(|(_, v)| *v).max().unwrap_or(0)
    }
}

/// Boots the system on a platform that counts instructions.
pub fn measure(platform: &Platform) -> Result<Entries> {
    let (step, text) = printed(platform, &System::parse(SYSTEM.into())?, "bench", "counting entries of the kernel")?;
    let entries = parse(&platform.name, &text)?;
    step.done(&format!("{} ticks for a call and its reply", entries.most("ipc_round_trip")));
    Ok(entries)
}

fn parse(platform: &str, text: &str) -> Result<Entries> {
    let line = Regex::new(r"(?m)\bbench: ([a-z_]+) (\d+)\s*$")?;
    let figures: Vec<_> =
        line.captures_iter(text).map(|c| Ok((c[1].to_string(), c[2].parse()?))).collect::<Result<_>>()?;
    for name in ["ipc_round_trip", "stretch_objects", "stretch_pages", "stretch_tables", "stretch_destroy_threads"] {
        anyhow::ensure!(figures.iter().any(|(n, _)| n == name), "the component did not print {name}");
    }
    Ok(Entries { platform: platform.into(), figures })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[probe] bench: ipc_round_trip 700\r\n[probe] bench: hypercall 90\r\n\
        [probe] bench: stretch_objects 5\r\n[probe] bench: stretch_pages 70\r\n[probe] bench: stretch_tables 6\r\n\
        [probe] bench: stretch_destroy_threads 9\r\n";

    #[test]
    fn figures_are_read_and_the_largest_of_a_kind_counts() {
        let e = parse("qemu", TEXT).unwrap();
        assert_eq!((e.most("ipc_round_trip"), e.most("stretch_"), e.figures.len()), (700, 70, 6));
        assert!(parse("qemu", "bench: ipc_round_trip 1").unwrap_err().to_string().contains("stretch_objects"));
        assert_eq!(System::parse(SYSTEM.into()).unwrap().binaries, ["probe"]);
    }
}
