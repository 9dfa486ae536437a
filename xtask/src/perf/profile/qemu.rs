//! QEMU's stub for gdb, in gdb's remote protocol: registers, breakpoints, single steps. Interrupts are held back while it
//! steps, which is its own default.

use super::step::{Mode, Step, Stepper};
use super::symbols::Symbols;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// How long it may take to answer, and to be there.
const PATIENCE: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(20);
/// Numbers in the order of QEMU's registers of x86-64, 8 bytes each: RSI, RDI, RIP. RFLAGS (4 bytes) and CS come next.
const RSI: usize = 4;
const RDI: usize = 5;
const RIP: usize = 16;

/// The stub.
pub struct Qemu<'a> {
    to: TcpStream,
    from: BufReader<TcpStream>,
    stops: Vec<u64>,
    symbols: &'a Symbols,
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
    cs: u16,
}

impl Registers {
    fn parse(hex: &str) -> Result<Registers> {
        let all = bytes(hex)?;
        let word = |i: usize| -> Result<u64> {
            Ok(u64::from_le_bytes(all.get(8 * i..8 * i + 8).context("too few registers")?.try_into()?))
        };
        let cs = all.get(8 * RIP + 12..8 * RIP + 14).context("no CS")?;
        Ok(Registers { rsi: word(RSI)?, rdi: word(RDI)?, rip: word(RIP)?, cs: u16::from_le_bytes(cs.try_into()?) })
    }
}

impl<'a> Qemu<'a> {
    /// The machine is stopped.
    pub fn new(port: u16, symbols: &'a Symbols) -> Result<Qemu<'a>> {
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
        let mut qemu = Qemu { to, from, stops: Vec::new(), symbols };
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

    fn trace(&mut self, most: usize) -> Result<Option<Vec<Step>>> {
        let mut steps = Vec::new();
        loop {
            let r = self.registers()?;
            if !steps.is_empty() && self.stops.contains(&r.rip) {
                return Ok(Some(steps));
            }
            if steps.len() >= most {
                return Ok(None);
            }
            let mode = Mode::of(r.cs, r.rip);
            steps.push(Step { at: r.rip, mode, code: self.symbols.code(mode, r.rip) });
            if self.ask("s")?.is_none() {
                bail!("QEMU ended while it was stepped");
            }
        }
    }

    fn text(&mut self) -> Result<String> {
        let r = self.registers()?;
        ensure!((1..1000).contains(&r.rsi), "a name of {} bytes", r.rsi);
        let hex = self.must(&format!("m{:x},{:x}", r.rdi, r.rsi))?;
        Ok(String::from_utf8(bytes(&hex)?)?)
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

    #[test]
    fn registers_are_found_in_the_answer() {
        let mut hex = String::new();
        (0..17u64).for_each(|i| i.to_le_bytes().iter().for_each(|b| hex += &format!("{b:02x}")));
        hex += "0202000023000000";
        assert_eq!(Registers::parse(&hex).unwrap(), Registers { rsi: 4, rdi: 5, rip: 16, cs: 0x23 });
        assert!(Registers::parse("00").is_err() && Registers::parse("E01").is_err());
    }
}
