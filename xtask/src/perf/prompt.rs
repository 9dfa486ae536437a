//! Time from switching on to the guest's prompt, in seconds of the emulator's CPU time: the machine that does it may be
//! busy with other things.
//!
//! Key types: [`Prompt`].

use super::guest::Guest;
use super::{LIMIT, native, start};
use crate::emulator::Debugger;
use crate::image::Image;
use crate::platform::Platform;
use crate::progress::Step;
use crate::session::Session;
use crate::tree;
use anyhow::{Context, Result};
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Each is measured so often; the shortest counts.
const RUNS: usize = 3;

/// Seconds to the prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Under us.
    pub ours_s: f64,
    /// On the bare machine.
    pub native_s: f64,
}

impl Prompt {
    /// How much longer it takes under us.
    pub fn ratio(&self) -> f64 {
        self.ours_s / self.native_s
    }
}

/// Boots both, several times.
pub fn measure(platform: &Platform, guest: &Guest, image: &Image) -> Result<Prompt> {
    let native_dir = tree::build_dir("perf/prompt-native")?;
    let ours_dir = tree::build_dir("perf/prompt-ours")?;
    Ok(Prompt {
        native_s: shortest("on the bare machine", || native::boot(platform, guest, &native_dir, Debugger::Off))?,
        ours_s: shortest("under Ferronova", || start(platform, &image.iso, &ours_dir, Debugger::Off))?,
    })
}

fn shortest(what: &str, boot: impl Fn() -> Result<Session>) -> Result<f64> {
    let step = Step::begin(format!("timing the guest to its prompt {what}"));
    let prompt = Regex::new("guest# ")?;
    let (mut least, mut wall) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let (mut session, began) = (boot()?, Instant::now());
        let found = session.expect(&prompt, began + LIMIT);
        found.with_context(|| format!("waiting for the shell; see {}", tree::shown(&session.log)))?;
        least = least.min(session.cpu_time()?);
        wall = wall.min(began.elapsed());
    }
    let seconds = least.as_secs_f64();
    step.done(&format!("{seconds:.1} s of CPU time, {:.1} s by the clock", wall.as_secs_f64()));
    Ok(seconds)
}
