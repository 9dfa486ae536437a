//! Several small guests at once on one CPU (system `sixteen-guests`): how long their work takes together, and what each needs.
//!
//! Key type: [`Several`].

use super::{LIMIT, start};
use crate::build::Flavour;
use crate::emulator::{Debugger, End};
use crate::platform::Platform;
use crate::progress::Step;
use crate::system::System;
use crate::{image, tree};
use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How many at once.
pub const NUMBERS: [usize; 5] = [1, 2, 4, 8, 16];
/// The system with the largest number.
const SYSTEM: &str = "sixteen-guests";

/// What was measured with so many guests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Several {
    pub guests: u64,
    /// From the first one that begins its work to the last one that ends it.
    pub ticks: u64,
    /// Of all, meanwhile.
    pub exits: u64,
    /// Kernel memory of the VMM's account, with all that the guest needs; the largest.
    pub kernel_bytes: u64,
    /// RAM that the VMM itself uses, without its image; the largest.
    pub vmm_bytes: u64,
}

impl Several {
    /// What a guest's work took.
    pub fn ticks_each(&self) -> u64 {
        self.ticks / self.guests
    }

    /// What the VMMs printed, if they did.
    pub fn parse(text: &str) -> Result<Option<Several>> {
        let marker = |byte: &str| -> Result<Vec<(u64, u64)>> {
            let line = Regex::new(&format!(r"\bmarker {byte} at TSC (\d+), since entry \d+, exits (\d+)"))?;
            line.captures_iter(text).map(|c| Ok((c[1].parse()?, c[2].parse()?))).collect()
        };
        let (begins, ends) = (marker("0x57")?, marker("0x45")?);
        let Some(first) = begins.iter().map(|b| b.0).min() else { return Ok(None) };
        ensure!(begins.len() == ends.len(), "{} guests began their work, {} ended it", begins.len(), ends.len());
        let last = ends.iter().map(|e| e.0).max().context("no guest has ended its work")?;
        let memory = Regex::new(r"\bmemory: (\d+) KiB beside .*; of the kernel (\d+) of \d+ KiB")?;
        let most = |group: usize| -> Result<u64> {
            let each = memory.captures_iter(text).map(|c| Ok(c[group].parse::<u64>()? << 10));
            each.collect::<Result<Vec<_>>>()?.into_iter().max().context("no VMM has printed what memory it needs")
        };
        let exits = |marks: &[(u64, u64)]| marks.iter().map(|m| m.1).sum::<u64>();
        Ok(Some(Several {
            guests: begins.len() as u64,
            ticks: last.checked_sub(first).context("the last guest has ended before the first began")?,
            exits: exits(&ends).checked_sub(exits(&begins)).context("fewer exits at the end than before")?,
            kernel_bytes: most(2)?,
            vmm_bytes: most(1)?,
        }))
    }

    /// In a line, beside that of one guest.
    pub fn show(&self, one: Option<&Several>) -> String {
        let Several { guests, exits, kernel_bytes, vmm_bytes, .. } = self;
        let ratio =
            one.map_or(String::new(), |o| format!(" ({:.3})", self.ticks_each() as f64 / o.ticks_each() as f64));
        let (s, kib) = (if *guests == 1 { "" } else { "s" }, |b: &u64| b >> 10);
        format!("{guests} guest{s} at once: {} ticks each{ratio}, {exits} exits in all, ", self.ticks_each())
            + &format!("{} KiB of the kernel and {} KiB of the VMM each", kib(kernel_bytes), kib(vmm_bytes))
    }
}

/// The system with the first of its guests alone.
fn system(guests: usize) -> Result<System> {
    let mut file: toml::Table = toml::from_str(&System::load(SYSTEM)?.text)?;
    for list in ["component", "shutdown_after"] {
        let list = file.get_mut(list).and_then(|l| l.as_array_mut()).with_context(|| format!("{SYSTEM}: no {list}"))?;
        ensure!(list.len() >= guests, "{SYSTEM}: fewer than {guests} guests");
        list.truncate(guests);
    }
    System::parse(toml::to_string(&file)?)
}

/// Boots so many, until all have switched themselves off.
pub fn measure(platform: &Platform, guests: usize) -> Result<Several> {
    let image = image::make(&system(guests)?, "perf", &platform.kernel_cmdline, Flavour::Release)?;
    let step = Step::begin(format!("running {guests} guests at once ({})", platform.name));
    let dir = tree::build_dir(format!("perf/{}-{guests}-guests", platform.name))?;
    let mut session = start(platform, &image.iso, &dir, Debugger::Off)?;
    let end = session.wait(Some(Instant::now() + LIMIT))?;
    let text = session.text();
    let read = || match end {
        Some(End::PowerOff) => Several::parse(&text)?.context("no guest has begun its work"),
        end => bail!("the machine was not switched off: {end:?}"),
    };
    let several = read().with_context(|| format!("see {}", tree::shown(&session.log)))?;
    ensure!(several.guests == guests as u64, "{} guests worked; see {}", several.guests, tree::shown(&session.log));
    step.done(&format!("{} ticks each", several.ticks_each()));
    Ok(several)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[vm1] marker 0x57 at TSC 1000, since entry 9, exits 5\r\n\
        [vm2] marker 0x57 at TSC 1100, since entry 9, exits 5\r\n\
        [vm1] marker 0x45 at TSC 3000, since entry 9, exits 105\r\n\
        [vm2] marker 0x45 at TSC 3400, since entry 9, exits 106\r\n\
        [vm1] memory: 700 KiB beside the guest's RAM and the image; of the kernel 200 of 512 KiB\r\n\
        [vm2] memory: 704 KiB beside the guest's RAM and the image; of the kernel 196 of 512 KiB\r\n";

    #[test]
    fn figures_are_read_from_the_log() {
        let s = Several::parse(LOG).unwrap().unwrap();
        let expected = Several { guests: 2, ticks: 2400, exits: 201, kernel_bytes: 200 << 10, vmm_bytes: 704 << 10 };
        assert_eq!((&s, s.ticks_each()), (&expected, 1200));
        let one = Several { guests: 1, ticks: 1000, ..s.clone() };
        let line = s.show(Some(&one));
        assert!(line.starts_with("2 guests at once: 1200 ticks each (1.200), 201 exits in all, 200 KiB"), "{line}");
        assert_eq!(Several::parse("perf: done").unwrap(), None);
        let cut = LOG.replace("[vm2] marker 0x45", "[vm2] mark");
        assert!(Several::parse(&cut).unwrap_err().to_string().contains("2 guests began their work, 1 ended"));
    }

    #[test]
    fn the_system_has_as_many_guests_as_are_wanted() {
        for n in NUMBERS {
            let text = system(n).unwrap().text;
            assert_eq!((text.matches("[[component]]").count(), text.contains(&format!("\"vm{n}\""))), (n, true));
        }
        assert!(system(17).unwrap_err().to_string().contains("fewer than 17"));
    }
}
