//! What a machine's screen shows in text mode, asked of QEMU's monitor.

use crate::tree;
use anyhow::{Context, Result, bail, ensure};
use regex::bytes::Regex;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where text is, a character and its attributes each, and how much.
const CELLS: u64 = 0xb8000;
const COLUMNS: usize = 80;
const LINES: usize = 25;
/// The file in the machine's directory that the monitor writes them to.
const FILE: &str = "screen";
/// The monitor waits for a command.
const PROMPT: &[u8] = b"(qemu) ";
/// Between two looks at the screen.
const PAUSE: Duration = Duration::from_millis(200);

/// The monitor of a machine.
struct Monitor(TcpStream);

impl Monitor {
    fn at(port: u16, deadline: Instant) -> Result<Monitor> {
        let stream = TcpStream::connect(("127.0.0.1", port)).context("connecting to QEMU's monitor")?;
        stream.set_read_timeout(Some(deadline.saturating_duration_since(Instant::now()).max(PAUSE)))?;
        let mut monitor = Monitor(stream);
        monitor.until_prompt()?;
        Ok(monitor)
    }

    fn until_prompt(&mut self) -> Result<()> {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(PROMPT) {
            ensure!(self.0.read(&mut byte).context("QEMU's monitor")? == 1, "QEMU's monitor has gone");
            text.push(byte[0]);
        }
        Ok(())
    }

    /// The lines that are shown.
    fn screen(&mut self, dir: &Path) -> Result<String> {
        let command = format!("pmemsave {CELLS:#x} {} {FILE}\n", COLUMNS * LINES * 2);
        self.0.write_all(command.as_bytes())?;
        self.until_prompt()?;
        Ok(lines(&tree::read_bytes(&dir.join(FILE))?))
    }
}

/// Characters of cells; what is no ASCII is a dot.
fn lines(cells: &[u8]) -> String {
    let shown = |c: &[u8]| if matches!(c[0], b' '..=b'~') { c[0] as char } else { '.' };
    let line = |row: &[u8]| row.chunks(2).map(shown).collect::<String>().trim_end().to_owned() + "\n";
    cells.chunks(COLUMNS * 2).map(line).collect()
}

/// Waits until the screen of the machine with that monitor shows all of these at once.
pub fn expect(patterns: &[Regex], port: u16, dir: &Path, deadline: Instant) -> Result<()> {
    let mut monitor = Monitor::at(port, deadline)?;
    loop {
        let text = monitor.screen(dir)?;
        match patterns.iter().find(|p| !p.is_match(text.as_bytes())) {
            None => return Ok(()),
            Some(p) if Instant::now() > deadline => bail!("expected /{p}/ on the screen, which shows:\n{text}"),
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_characters_in_lines_without_the_blanks_behind_them() {
        let mut cells = [b' ', 7].repeat(COLUMNS * LINES);
        for (i, c) in b"a b\0".iter().enumerate() {
            cells[2 * (COLUMNS + i)] = *c;
        }
        assert_eq!(lines(&cells), format!("\na b.\n{}", "\n".repeat(LINES - 2)));
    }
}
