//! Bochs' own debugger, line by line: it prints each instruction while `trace on`.

use super::step::{LONGEST_NAME, Mode, Step, Stepper, Trace, name};
use crate::session::Session;
use anyhow::{Context, Result, bail};
use regex::Regex;
use std::io::{Read, Write};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What it prints when it waits for a command.
const PROMPT: &str = "<bochs:";
/// The longest that a command may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The debugger.
pub struct Bochs {
    commands: ChildStdin,
    output: Receiver<Vec<u8>>,
    stops: Vec<u64>,
    patterns: Patterns,
}

struct Patterns {
    step: Regex,
    stop: Regex,
    word: Regex,
}

impl Patterns {
    fn new() -> Result<Patterns> {
        Ok(Patterns {
            step: Regex::new(
                r"(?m)^\(0\)\.\[\d+\] \[0x[0-9a-f]+\] ([0-9a-f]{4}):([0-9a-f]+) \(.*?\): .*; ([0-9a-f]+)\s*$",
            )?,
            stop: Regex::new(r"(?m)^\(0\) Breakpoint \d+, 0x([0-9a-f]+) in")?,
            word: Regex::new(r":((?:\t0x[0-9a-f]{2})+)")?,
        })
    }

    fn steps(&self, text: &str) -> Result<Vec<Step>> {
        let step = |c: regex::Captures| {
            let (at, cs) = (u64::from_str_radix(&c[2], 16)?, u16::from_str_radix(&c[1], 16)?);
            Ok(Step { at, mode: Mode::of(cs, at), code: bytes(&c[3])? })
        };
        self.step.captures_iter(text).map(step).collect()
    }

    fn stop(&self, text: &str) -> Result<Option<u64>> {
        Ok(self.stop.captures(text).map(|c| u64::from_str_radix(&c[1], 16)).transpose()?)
    }

    /// Of `x /Nbx`: eight bytes a line.
    fn memory(&self, text: &str) -> Result<Vec<u8>> {
        let all: String = self.word.captures_iter(text).map(|c| c[1].replace("0x", "")).collect();
        bytes(&all.split_whitespace().collect::<String>())
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let byte = |i: usize| u8::from_str_radix(hex.get(i..i + 2).context("half a byte")?, 16).context("no byte");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A register of the answer to `r`.
fn register(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name} in {text}"))?;
    Ok(u64::from_str_radix(&line.trim().replace('_', ""), 16)?)
}

impl Bochs {
    /// The machine waits in its debugger.
    pub fn new(session: &mut Session) -> Result<Bochs> {
        let (commands, mut out) = session.prompt().context("the emulator has no prompt")?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buf = [0; 1 << 16];
            while let Ok(n @ 1..) = out.read(&mut buf) {
                if sender.send(buf[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let mut bochs = Bochs { commands, output, stops: Vec::new(), patterns: Patterns::new()? };
        bochs.answer()?.context("Bochs ended before it began")?;
        Ok(bochs)
    }

    /// All until it waits for the next command; `None`: it has ended.
    fn answer(&mut self) -> Result<Option<String>> {
        let (mut text, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        loop {
            match self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(more) => text.extend(more),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(None),
                Err(_) => bail!("Bochs' debugger did not answer within {} s", PATIENCE.as_secs()),
            }
            let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(20)..]).into_owned();
            if tail.rfind(PROMPT).is_some_and(|i| tail[i..].ends_with("> ")) {
                return Ok(Some(String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }

    fn command(&mut self, line: &str) -> Result<Option<String>> {
        writeln!(self.commands, "{line}").context("Bochs takes no commands any more")?;
        self.answer()
    }

    fn must(&mut self, line: &str) -> Result<String> {
        self.command(line)?.with_context(|| format!("Bochs ended on `{line}`"))
    }
}

impl Stepper for Bochs {
    /// Bochs numbers breakpoints from 1 on, and never gives a number twice.
    fn stop_at(&mut self, addresses: &[u64]) -> Result<()> {
        if self.stops == addresses {
            return Ok(());
        }
        for line in self.must("blist")?.lines().filter(|l| l.contains("lbreakpoint")) {
            let number = line.split_whitespace().next().context("a breakpoint without number")?;
            self.must(&format!("d {number}"))?;
        }
        for a in addresses {
            self.must(&format!("lb {a:#x}"))?;
        }
        self.stops = addresses.to_vec();
        Ok(())
    }

    fn go(&mut self) -> Result<Option<u64>> {
        let Some(text) = self.command("c")? else { return Ok(None) };
        let at = self.patterns.stop(&text)?;
        at.with_context(|| format!("the machine stopped, but at no breakpoint: {text}")).map(Some)
    }

    fn trace(&mut self, most: usize) -> Result<Trace> {
        self.must("trace on")?;
        let Some(text) = self.command("c")? else { return Ok(Trace { steps: None, end: None }) };
        self.must("trace off")?;
        let end = self.patterns.stop(&text)?.context("the machine stopped, but at no breakpoint")?;
        let steps = self.patterns.steps(&text)?;
        Ok(Trace { steps: (steps.len() <= most).then_some(steps), end: Some(end) })
    }

    fn text(&mut self) -> Result<Option<String>> {
        let len = register(&self.must("r")?, "rsi:")?;
        if !(1..=LONGEST_NAME).contains(&len) {
            return Ok(None);
        }
        let memory = self.must(&format!("x /{len}bx rdi"))?;
        Ok(self.patterns.memory(&memory).ok().and_then(name))
    }

    fn leave(&mut self) -> Result<()> {
        self.stop_at(&[])?;
        writeln!(self.commands, "c").context("Bochs takes no commands any more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Bochs 2.7 prints it.
    const TRACE: &str = "c\n(0).[142252115] [0x000000162056] 0023:000000000040c056 (unk. ctxt): syscall                   ; 0f05\n\
        (0).[142252126] [0x000000208000] 0008:ffffffff80208000 (unk. ctxt): mov r11, qword ptr ds:0xffffffffffe20048 ; 4c8b1c254800e2ff\n\
        (0).[142252594] [0x000001e313f8] 0000:13f8 (unk. ctxt): cpuid                     ; 0fa2\n\
        (0) Breakpoint 1, 0x000000000040d031 in ?? ()\nNext at t=142253089\n\
        (0) [0x000000162031] 0023:000000000040c031 (unk. ctxt): rdtsc                     ; 0f31\n<bochs:6> ";

    #[test]
    fn steps_are_read_and_what_is_next_is_none() {
        let p = Patterns::new().unwrap();
        let steps = p.steps(TRACE).unwrap();
        assert_eq!(steps.iter().map(|s| s.mode).collect::<Vec<_>>(), [Mode::User, Mode::Kernel, Mode::Guest]);
        assert_eq!((steps[1].at, steps[0].code.as_slice()), (0xffff_ffff_8020_8000, &[0x0f, 0x05][..]));
        assert_eq!(p.stop(TRACE).unwrap(), Some(0x40_d031));
        assert_eq!(p.stop("Next at t=5").unwrap(), None);
    }

    #[test]
    fn registers_and_memory_are_read() {
        assert_eq!(register("rsi: 00000000_0000000b\nrdi: 0000004f_00403fd5\n", "rdi:").unwrap(), 0x4f_0040_3fd5);
        let x =
            "[bochs]:\n0x0000000000403fd5 <bogus+       0>:\t0x63\t0x6c\n0x0000000000403fdd <bogus+       8>:\t0x69\n";
        assert_eq!(Patterns::new().unwrap().memory(x).unwrap(), b"cli");
        assert!(bytes("0").is_err() && bytes("zz").is_err());
    }
}
