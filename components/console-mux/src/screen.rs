//! What is on the terminal's current line, and the bytes on their way there.

use std::collections::VecDeque;

use crate::client::{LABEL_MAX, LINE_MAX};
use crate::queries;

/// Most bytes waiting for the terminal.
pub const OUT_MAX: usize = 4096;
/// How much of an unfinished line is kept, to print it again; of a longer one it is the end.
pub const PARTIAL_MAX: usize = 256;
/// Most bytes of a terminal's output in one go.
pub(crate) const RAW_MAX: usize = 256;
/// Room that any single operation needs at most.
const OPERATION_MAX: usize = "\r\n".len() + RESET.len() + PARTIAL_MAX + LABEL_MAX + "[] \r\n".len() + LINE_MAX;

/// Takes back what a terminal may have left: colours and the like (ECMA-48, 8.3.117 SGR); the column, too, so that who
/// looks at the bytes sees a new line.
const RESET: &[u8] = b"\x1b[0m\r";

/// The output line of one terminal client.
#[derive(Debug, Default)]
struct Line {
    /// What came since the last newline, at most the last [`PARTIAL_MAX`] bytes of it.
    partial: VecDeque<u8>,
    /// Bytes of the line are missing in `partial`.
    cut: bool,
    /// The cursor is not in column 0.
    indented: bool,
}

impl Line {
    /// Follows the output of `bytes`.
    fn advance(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if let Some(newline) = bytes.iter().rposition(|&b| b == b'\n') {
            self.partial.clear();
            self.cut = false;
            rest = &bytes[newline + 1..];
        }
        self.partial.extend(rest);
        let excess = self.partial.len().saturating_sub(PARTIAL_MAX);
        self.cut |= excess > 0;
        self.partial.drain(..excess);
        if let Some(last) = bytes.iter().rfind(|&&b| b != b'\n') {
            self.indented = *last != b'\r';
        }
    }

    /// Whether there is something on the line.
    fn is_started(&self) -> bool {
        self.partial.iter().any(|&b| b != b'\r')
    }

    /// What to print to get the line again. Of a cut line, what follows a return to column 0 is whole.
    fn again(&self) -> Vec<u8> {
        let whole = self.partial.iter().position(|&b| b == b'\r').filter(|_| self.cut);
        let bytes: Vec<u8> = self.partial.iter().skip(whole.map_or(0, |i| i + 1)).copied().collect();
        queries::without(&bytes)
    }
}

/// The terminal below, as it looks once all output has arrived.
#[derive(Debug)]
pub(crate) struct Screen {
    out: VecDeque<u8>,
    /// For each terminal client.
    lines: Vec<Line>,
    /// The terminal whose line the cursor is on.
    shown: Option<usize>,
    /// The terminal to which the screen belongs: its line is printed again.
    owner: Option<usize>,
}

impl Screen {
    /// For so many terminals; the screen belongs to `owner`.
    pub(crate) fn new(terminals: usize, owner: Option<usize>) -> Screen {
        let lines = (0..terminals).map(|_| Line::default()).collect();
        Screen { out: VecDeque::with_capacity(OUT_MAX), lines, shown: None, owner }
    }

    /// There is one more terminal.
    pub(crate) fn add_terminal(&mut self) {
        self.lines.push(Line::default());
    }

    /// Whether there is room for any one operation.
    pub(crate) fn has_room(&self) -> bool {
        OUT_MAX - self.out.len() >= OPERATION_MAX
    }

    /// The terminal whose unfinished line the cursor is on.
    pub(crate) fn unfinished(&self) -> Option<usize> {
        self.shown.filter(|&t| self.lines[t].is_started())
    }

    /// Prints one log line, line end included. An unfinished terminal line is left behind; [`Screen::restore`] prints
    /// it again.
    pub(crate) fn print_log(&mut self, line: &[u8]) {
        self.leave_line();
        self.out.extend(line);
    }

    /// Prints output of the terminal to which the screen belongs as it is.
    pub(crate) fn print_raw(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.len() <= RAW_MAX);
        let Some(owner) = self.owner else { return };
        self.show(owner);
        self.out.extend(bytes);
        self.lines[owner].advance(bytes);
    }

    /// Gives the screen to a terminal, or to none: the cursor goes to the beginning of an empty line.
    pub(crate) fn give_to(&mut self, owner: Option<usize>) {
        self.leave_line();
        if std::mem::replace(&mut self.owner, owner).is_some() {
            self.out.extend(RESET);
        }
    }

    /// A terminal's output goes on elsewhere: its unfinished line will not be printed again.
    pub(crate) fn forget_line(&mut self, terminal: usize) {
        self.lines[terminal] = Line::default();
    }

    /// Prints an unfinished terminal line again, if it was left behind; says whether it did.
    pub(crate) fn restore(&mut self) -> bool {
        match (self.shown, self.owner) {
            (None, Some(owner)) if self.has_room() => {
                self.show(owner);
                true
            }
            _ => false,
        }
    }

    /// Gives output to the terminal; says whether it took any.
    pub(crate) fn flush(&mut self, mut write: impl FnMut(&[u8]) -> usize) -> bool {
        let before = self.out.len();
        loop {
            let (bytes, _) = self.out.as_slices();
            let asked = bytes.len();
            if asked == 0 {
                break;
            }
            let taken = write(bytes).min(asked);
            self.out.drain(..taken);
            if taken < asked {
                break;
            }
        }
        self.out.len() < before
    }

    /// Puts the cursor where the terminal's output ended.
    fn show(&mut self, terminal: usize) {
        if self.shown != Some(terminal) {
            self.leave_line();
            self.out.extend(self.lines[terminal].again());
            self.shown = Some(terminal);
        }
    }

    /// Puts the cursor at the beginning of an empty line.
    fn leave_line(&mut self) {
        if let Some(terminal) = self.shown.take() {
            let line = &mut self.lines[terminal];
            if line.is_started() {
                self.out.extend(b"\r\n");
            } else if line.indented {
                // The terminal's last newline was a bare one.
                self.out.push_back(b'\r');
                line.indented = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(f: impl FnOnce(&mut Screen)) -> String {
        let mut screen = Screen::new(2, Some(0));
        f(&mut screen);
        let mut bytes = Vec::new();
        screen.flush(|b| {
            bytes.extend(b);
            b.len()
        });
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_log_line_in_front_of_a_prompt() {
        let out = output(|s| {
            s.print_raw(b"hello\r\n~ # ls");
            s.print_log(b"[a] one\r\n");
            s.print_log(b"[b] two\r\n");
            assert!(s.restore());
            assert!(!s.restore());
            s.print_raw(b" -l");
        });
        assert_eq!(out, "hello\r\n~ # ls\r\n[a] one\r\n[b] two\r\n~ # ls -l");
    }

    #[test]
    fn a_prompt_that_comes_back_does_not_ask_the_terminal_again() {
        let out = output(|s| {
            s.print_raw(b"\x1b[1m# \x1b[6n");
            s.print_log(b"[a] x\r\n");
            s.restore();
        });
        assert_eq!(out, "\x1b[1m# \x1b[6n\r\n[a] x\r\n\x1b[1m# ");
    }

    #[test]
    fn output_of_the_terminal_restores_its_line() {
        let out = output(|s| {
            s.print_raw(b"ab");
            s.print_log(b"[a] x\r\n");
            s.print_raw(b"c\r\n");
            s.print_log(b"[a] y\r\n");
            assert!(s.restore(), "nothing to print, but the terminal has its line again");
        });
        assert_eq!(out, "ab\r\n[a] x\r\nabc\r\n[a] y\r\n");
    }

    #[test]
    fn at_column_0_a_log_line_needs_nothing_around_it() {
        assert_eq!(output(|s| s.print_log(b"[a] x\r\n")), "[a] x\r\n");
        let after = |text: &[u8]| {
            output(|s| {
                s.print_raw(text);
                s.print_log(b"[a] x\r\n");
                s.restore();
            })
        };
        assert_eq!(after(b"l\r\n"), "l\r\n[a] x\r\n");
        assert_eq!(after(b"l\r\n\r"), "l\r\n\r[a] x\r\n\r");
        assert_eq!(after(b"l\n"), "l\n\r[a] x\r\n", "a bare newline leaves the column");
        assert_eq!(after(b"10%\r"), "10%\r\r\n[a] x\r\n10%\r", "column 0, but the line is not empty");
    }

    #[test]
    fn of_a_long_line_the_end_is_printed_again() {
        let out = output(|s| {
            for _ in 0..10 {
                s.print_raw(&[b'x'; 100]);
            }
            s.print_raw(b"end");
            s.print_log(b"[a]\r\n");
            s.restore();
        });
        let again = out.split_once("[a]\r\n").unwrap().1;
        assert_eq!(again, "x".repeat(PARTIAL_MAX - 3) + "end");

        let out = output(|s| {
            for n in 0..100 {
                s.print_raw(format!("\r{n}%").as_bytes());
            }
            s.print_log(b"[a]\r\n");
            s.restore();
        });
        let again = out.split_once("[a]\r\n").unwrap().1;
        assert!(again.len() < PARTIAL_MAX && again.ends_with("\r98%\r99%"));
        assert!(again.split('\r').all(|p| p.ends_with('%')), "starts at a whole piece: {again:?}");
    }

    #[test]
    fn each_terminal_finds_its_line_again() {
        let out = output(|s| {
            s.print_raw(b"~ # ");
            s.give_to(Some(1));
            assert!(s.restore(), "nothing to print yet");
            s.print_raw(b"login: ");
            s.print_raw(b"me");
            s.give_to(Some(0));
            s.print_raw(b"ls");
            s.give_to(Some(1));
            assert!(s.restore());
        });
        assert_eq!(out, "~ # \r\n\x1b[0m\rlogin: me\r\n\x1b[0m\r~ # ls\r\n\x1b[0m\rlogin: me");
    }

    #[test]
    fn without_an_owner_there_are_log_lines_only() {
        let out = output(|s| {
            s.print_raw(b"~ # ");
            s.give_to(None);
            s.print_raw(b"dropped");
            s.print_log(b"[a] x\r\n");
            assert!(!s.restore());
            s.give_to(Some(0));
            s.restore();
        });
        assert_eq!(out, "~ # \r\n\x1b[0m\r[a] x\r\n~ # ");
    }

    #[test]
    fn a_forgotten_line_is_not_printed_again() {
        let out = output(|s| {
            s.print_raw(b"\x1b[7mreverse");
            s.give_to(Some(0));
            s.forget_line(0);
            s.print_raw(b"new");
        });
        assert_eq!(out, "\x1b[7mreverse\r\n\x1b[0m\rnew");
    }

    #[test]
    fn the_largest_operation_fits_into_the_room_it_asks_for() {
        let mut s = Screen::new(2, Some(0));
        let log = vec![b'x'; LABEL_MAX + "[] \r\n".len() + LINE_MAX];
        let mut turn = 0;
        while s.has_room() {
            s.give_to(Some(turn % 2));
            s.print_raw(&[b'y'; RAW_MAX]);
            if s.has_room() {
                s.give_to(Some(turn % 2));
                s.print_log(&log);
            }
            turn += 1;
            assert!(s.out.len() <= OUT_MAX);
        }
        assert!(turn > 2);
        assert!(!s.flush(|_| 0));
        assert!(s.flush(|b| b.len().min(1)), "partial writes are progress");
    }
}
