//! QEMU's stub for gdb, in gdb's remote protocol; and QEMU's log of what it executes, which is switched on and off through
//! it: a line for each block of code, and blocks of one instruction meanwhile. To step is no way: it takes half a
//! millisecond an instruction, and holds interrupts back.

use super::step::{LONGEST_NAME, Mode, Step, Stepper, Trace, name};
use super::symbols::Symbols;
use anyhow::{Context, Result, ensure};
use regex::Regex;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long it may take to answer, and to be there.
const PATIENCE: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(20);
/// Numbers in the order of QEMU's registers of x86-64, 8 bytes each.
const RSI: usize = 4;
const RDI: usize = 5;
const RIP: usize = 16;

/// Name of QEMU's log in the machine's directory.
pub const LOG: &str = "trace.log";
/// Bits of the flags in its lines: privilege level, and that a guest runs (target/i386/cpu.h: HF_CPL_MASK, HF_GUEST_MASK).
const CPL: u32 = 3;
const GUEST: u32 = 1 << 21;

/// The stub.
pub struct Qemu<'a> {
    to: TcpStream,
    from: BufReader<TcpStream>,
    stops: Vec<u64>,
    symbols: &'a Symbols,
    log: PathBuf,
}

/// What the log says was executed. A line may be taken back by the next one.
fn logged(log: &str) -> Result<Vec<(u64, Mode)>> {
    let line = Regex::new(r"^Trace \d+: \S+ \[[0-9a-f]+/([0-9a-f]+)/([0-9a-f]+)/[0-9a-f]+\]")?;
    let mut steps = Vec::new();
    for l in log.lines() {
        if let Some(c) = line.captures(l) {
            let (at, flags) = (u64::from_str_radix(&c[1], 16)?, u32::from_str_radix(&c[2], 16)?);
            let mode = match flags & CPL {
                _ if flags & GUEST != 0 => Mode::Guest,
                0 => Mode::Kernel,
                _ => Mode::User,
            };
            steps.push((at, mode));
        } else if l.starts_with("Stopped execution of TB chain before") {
            steps.pop();
        }
    }
    Ok(steps)
}

/// What is sent: with its length's sum.
fn packet(text: &str) -> String {
    let sum = text.bytes().fold(0u8, u8::wrapping_add);
    format!("${text}#{sum:02x}")
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    let byte = |i: usize| u8::from_str_radix(hex.get(i..i + 2).context("half a byte")?, 16).context("no byte");
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// The registers that matter.
#[derive(Debug, PartialEq)]
struct Registers {
    rsi: u64,
    rdi: u64,
    rip: u64,
}

impl Registers {
    fn parse(hex: &str) -> Result<Registers> {
        let all = bytes(hex)?;
        let word = |i: usize| -> Result<u64> {
            Ok(u64::from_le_bytes(all.get(8 * i..8 * i + 8).context("too few registers")?.try_into()?))
        };
        Ok(Registers { rsi: word(RSI)?, rdi: word(RDI)?, rip: word(RIP)? })
    }
}

impl<'a> Qemu<'a> {
    /// The machine is stopped.
    pub fn new(port: u16, symbols: &'a Symbols, log: PathBuf) -> Result<Qemu<'a>> {
        let deadline = Instant::now() + CONNECT;
        let to = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(s) => break s,
                Err(e) if Instant::now() >= deadline => return Err(e).context("QEMU offers no stub for gdb"),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        to.set_nodelay(true)?;
        to.set_read_timeout(Some(PATIENCE))?;
        let from = BufReader::new(to.try_clone()?);
        let mut qemu = Qemu { to, from, stops: Vec::new(), symbols, log };
        qemu.ask("?")?.context("QEMU ended before it began")?;
        Ok(qemu)
    }

    fn byte(&mut self) -> Result<Option<u8>> {
        let mut b = [0];
        match self.from.read(&mut b) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(b[0])),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
            Err(e) => Err(e).context("QEMU's stub for gdb does not answer"),
        }
    }

    /// `None`: it has ended.
    fn ask(&mut self, text: &str) -> Result<Option<String>> {
        if self.to.write_all(packet(text).as_bytes()).is_err() {
            return Ok(None);
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Option<String>> {
        let mut answer = String::new();
        // Acknowledgements come first.
        loop {
            match self.byte()? {
                None => return Ok(None),
                Some(b'$') => break,
                Some(_) => {}
            }
        }
        loop {
            match self.byte()? {
                None => return Ok(None),
                Some(b'#') => break,
                Some(b) => answer.push(b.into()),
            }
        }
        let sum = (self.byte()?, self.byte()?);
        ensure!(sum.0.is_some() && sum.1.is_some(), "half a packet");
        let _ = self.to.write_all(b"+");
        Ok(if answer.starts_with('W') || answer.starts_with('X') { None } else { Some(answer) })
    }

    fn must(&mut self, text: &str) -> Result<String> {
        self.ask(text)?.with_context(|| format!("QEMU ended on `{text}`"))
    }

    /// A command of QEMU's monitor, which prints nothing if it is content.
    fn monitor(&mut self, line: &str) -> Result<()> {
        let hex: String = line.bytes().map(|b| format!("{b:02x}")).collect();
        let answer = self.must(&format!("qRcmd,{hex}"))?;
        ensure!(answer == "OK", "QEMU does not take `{line}`: {answer}");
        Ok(())
    }

    fn registers(&mut self) -> Result<Registers> {
        Registers::parse(&self.must("g")?)
    }
}

impl Stepper for Qemu<'_> {
    fn stop_at(&mut self, addresses: &[u64]) -> Result<()> {
        for a in std::mem::take(&mut self.stops) {
            self.must(&format!("z1,{a:x},1"))?;
        }
        for a in addresses {
            ensure!(self.must(&format!("Z1,{a:x},1"))? == "OK", "QEMU takes no breakpoint");
        }
        self.stops = addresses.to_vec();
        Ok(())
    }

    /// A step first: it would stop where it is.
    fn go(&mut self) -> Result<Option<u64>> {
        if self.ask("s")?.is_none() {
            return Ok(None);
        }
        let here = self.registers()?.rip;
        if !self.stops.contains(&here) && self.ask("c")?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.registers()?.rip))
    }

    fn trace(&mut self, most: usize) -> Result<Trace> {
        let before = std::fs::metadata(&self.log).map_or(0, |m| m.len());
        ["singlestep on", "log exec,nochain"].iter().try_for_each(|line| self.monitor(line))?;
        let Some(end) = self.go()? else { return Ok(Trace { steps: None, end: None }) };
        ["log none", "singlestep off"].iter().try_for_each(|line| self.monitor(line))?;
        let mut log = std::fs::File::open(&self.log).context("QEMU has no log")?;
        log.seek(SeekFrom::Start(before))?;
        let mut text = String::new();
        log.read_to_string(&mut text)?;
        let steps = logged(&text)?;
        let step = |(at, mode)| Step { at, mode, code: self.symbols.code(mode, at) };
        let steps = (steps.len() <= most).then(|| steps.into_iter().map(step).collect());
        Ok(Trace { steps, end: Some(end) })
    }

    fn text(&mut self) -> Result<Option<String>> {
        let r = self.registers()?;
        if r.rsi > LONGEST_NAME {
            return Ok(None);
        }
        let hex = self.must(&format!("m{:x},{:x}", r.rdi, r.rsi))?;
        Ok(bytes(&hex).ok().and_then(name))
    }

    fn leave(&mut self) -> Result<()> {
        self.stop_at(&[])?;
        Ok(self.to.write_all(packet("c").as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_have_a_sum() {
        assert_eq!(packet("OK"), "$OK#9a");
        assert_eq!(packet(""), "$#00");
    }

    /// As QEMU 7.2 writes it; the guest's line is of a virtual CPU in real mode.
    const TRACE: &str = "Trace 0: 0x7f6d80000100 [0000000000000000/000000000042be50/18d0c2b3/ff020e01] \n\
        Trace 0: 0x7f6d80000100 [0000000000000000/ffffffff80209930/18d0c290/ff020201] \n\
        Stopped execution of TB chain before 0x7f6d80000100 [ffffffff80209930] \n\
        Trace 0: 0x7f6d80000100 [0000000000000000/00000000000010a0/00300040/ff020201] \n";

    #[test]
    fn the_log_says_what_was_executed_and_what_was_not() {
        assert_eq!(logged(TRACE).unwrap(), [(0x42_be50, Mode::User), (0x10a0, Mode::Guest)]);
        assert!(logged("singlestep is on\n").unwrap().is_empty());
    }

    #[test]
    fn registers_are_found_in_the_answer() {
        let mut hex = String::new();
        (0..17u64).for_each(|i| i.to_le_bytes().iter().for_each(|b| hex += &format!("{b:02x}")));
        assert_eq!(Registers::parse(&hex).unwrap(), Registers { rsi: 4, rdi: 5, rip: 16 });
        assert!(Registers::parse("00").is_err() && Registers::parse("E01").is_err());
    }
}
