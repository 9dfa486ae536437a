//! The multiplexer: moves bytes between the clients, the keyboard and the screen, a fair share for each client.
//!
//! [`Mux::pump`] is to be called whenever a stream may have changed. Unless it says that there is more to do, it ends
//! only when nothing can move: all input was seen empty, or output is waiting for a stream that took less than it was
//! given. So it is enough if the streams signal when an empty one gets bytes and a full one gets room, as the rings of
//! crate `bytering` do.
//!
//! Key types: [`Mux`], [`Streams`], `View`. What keys command is in `commands`.

use std::collections::{TryReserveError, VecDeque};

use crate::client::{self, CLIENTS_MAX, Kind, LINE_MAX};
use crate::config::{Config, Escape};
use crate::keys::Keys;
use crate::log::Log;
use crate::screen::{RAW_MAX, Screen};
use crate::terminal::Terminal;

mod commands;

/// Most bytes of keys that were read but not looked at.
const TYPED_MAX: usize = 64;
/// Rounds of one [`Mux::pump`]. A client that is not shown and writes as fast as it can is read at most 1 KiB in each.
const ROUNDS_MAX: usize = 64;

/// The streams around the multiplexer. All operations return at once with the number of bytes moved, which may be 0.
pub trait Streams {
    /// Reads what client number `client` sends.
    fn read_client(&mut self, client: u64, buf: &mut [u8]) -> usize;
    /// Sends keys to client number `client`.
    fn write_client(&mut self, client: u64, bytes: &[u8]) -> usize;
    /// Reads keys from the terminal below.
    fn read_keys(&mut self, buf: &mut [u8]) -> usize;
    /// Sends output to the terminal below.
    fn write_out(&mut self, bytes: &[u8]) -> usize;
}

/// What the screen shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// A terminal, with log lines in between. It gets the keys.
    Terminal(usize),
    /// The log of all components.
    AllLogs,
    /// The log of one.
    Log(usize),
}

/// The multiplexer's state.
#[derive(Debug)]
pub struct Mux {
    /// Label of the multiplexer's own lines.
    name: String,
    terminals: Vec<Terminal>,
    logs: Vec<Log>,
    /// Whose turn is next: logs, then terminals.
    next: usize,
    view: View,
    /// The last terminal that was shown.
    focus: usize,
    /// The next log line to be printed of those that are kept; `None`: all that are to be seen have been printed.
    replay: Option<u64>,
    /// Log lines do not come between those of a terminal.
    muted: bool,
    /// Number of the next log line.
    number: u64,
    escape: Escape,
    /// Bytes that are kept of each terminal's output, and of each log.
    kept: (usize, usize),
    /// The user knows that there are several terminals.
    greeted: bool,
    keys: Keys,
    /// Keys that were not looked at.
    typed: VecDeque<u8>,
    /// Our own lines on their way to the screen.
    notices: VecDeque<String>,
    screen: Screen,
}

impl Mux {
    /// One without clients, but for the terminals that have their numbers from the start. `name` is that of the multiplexer.
    pub fn new(name: &str, config: &Config) -> Result<Mux, TryReserveError> {
        let mut mux = Mux {
            name: client::label(name),
            terminals: Vec::new(),
            logs: Vec::new(),
            next: 0,
            view: View::AllLogs,
            focus: 0,
            replay: None,
            muted: false,
            number: 0,
            escape: config.escape,
            kept: (config.backlog_len(), config.log_len()),
            greeted: false,
            keys: Keys::new(config.escape),
            typed: VecDeque::with_capacity(TYPED_MAX),
            notices: VecDeque::new(),
            screen: Screen::new(0, None),
        };
        for name in &config.terminals {
            let mut terminal = Terminal::new(name, mux.kept.0)?;
            terminal.reserved = true;
            mux.add_terminal(terminal);
        }
        Ok(mux)
    }

    fn add_terminal(&mut self, terminal: Terminal) {
        self.terminals.push(terminal);
        self.screen.add_terminal();
        if self.terminals.len() == 1 {
            self.view = View::Terminal(0);
            self.screen.give_to(Some(0));
        }
    }

    /// A client has come: number `id` of [`Streams`], never another's. One of a label that was there before continues it. The
    /// first terminal is shown. `false`: there is no memory for it, or there are too many; nothing is read of it.
    pub fn open(&mut self, kind: Kind, id: u64, label: &str) -> bool {
        match kind {
            Kind::Log => self.open_log(id, label),
            Kind::Terminal => self.open_terminal(id, label),
        }
    }

    fn open_log(&mut self, id: u64, label: &str) -> bool {
        let cut = client::label(label);
        let before = self.logs.iter().position(|l| l.label == cut && l.source.stream().is_none());
        let n = before.or_else(|| {
            let full = self.logs.len() >= CLIENTS_MAX;
            let new = if full { Err(()) } else { log_of(label, self.kept.1).map_err(drop) };
            if let Ok(log) = new {
                self.logs.push(log);
                return Some(self.logs.len() - 1);
            }
            let old = self.logs.iter().position(Log::is_over)?;
            self.logs[old].restart(label);
            Some(old)
        });
        if let Some(n) = n {
            self.logs[n].source.open(id);
        }
        self.told(n.is_some(), label)
    }

    fn open_terminal(&mut self, id: u64, label: &str) -> bool {
        let cut = client::label(label);
        let before = self.terminals.iter().position(|t| t.label == cut && t.source.stream().is_none());
        let n = before.or_else(|| {
            let full = self.terminals.len() >= CLIENTS_MAX;
            let new = if full { Err(()) } else { terminal_of(label, self.kept.0).map_err(drop) };
            if let Ok(terminal) = new {
                self.add_terminal(terminal);
                return Some(self.terminals.len() - 1);
            }
            let view = self.view;
            let unused = |(n, t): (usize, &Terminal)| {
                t.source.is_over() && !t.reserved && view != View::Terminal(n) && self.focus != n
            };
            let old = self.terminals.iter().enumerate().position(unused)?;
            self.terminals[old].restart(label);
            self.screen.forget_line(old);
            Some(old)
        });
        if let Some(n) = n {
            self.terminals[n].source.open(id);
        }
        self.told(n.is_some(), label)
    }

    fn told(&mut self, opened: bool, label: &str) -> bool {
        if !opened {
            self.notices.push_back(format!("no room for {}: it is not read", client::label(label)));
        }
        opened
    }

    /// Client number `id` has gone, and this was left in its stream.
    pub fn close(&mut self, id: u64, rest: &[u8]) {
        if let Some(log) = self.logs.iter_mut().find(|l| l.source.stream() == Some(id)) {
            log.close(rest);
        }
        if let Some(terminal) = self.terminals.iter_mut().find(|t| t.source.stream() == Some(id)) {
            terminal.close(rest);
        }
    }

    /// Moves all that can move, or much of it: `true`: call it again soon, but let others run first.
    pub fn pump(&mut self, streams: &mut impl Streams) -> bool {
        self.greet();
        (0..ROUNDS_MAX).all(|_| self.round(streams))
    }

    /// One turn for everybody; says whether anything moved.
    fn round(&mut self, streams: &mut impl Streams) -> bool {
        let mut moved = self.move_keys(streams);
        moved |= self.fill(streams);
        moved |= self.keep_hidden_lines();
        let mut logged = self.print_notices() | self.print_kept_lines();
        moved |= logged;
        for _ in 0..self.logs.len() + self.terminals.len() {
            // Without room for everything, nobody gets a turn: those with short output would starve those with long.
            if !self.screen.has_room() {
                break;
            }
            match self.next.checked_sub(self.logs.len()) {
                Some(terminal) => moved |= self.terminal_turn(terminal),
                None => logged |= self.log_turn(self.next),
            }
            self.next = (self.next + 1) % (self.logs.len() + self.terminals.len());
        }
        moved |= logged;
        // Only after the last of several log lines is the unfinished line printed again.
        moved |= !logged && self.screen.restore();
        moved | self.screen.flush(|bytes| streams.write_out(bytes))
    }

    /// Reads the clients.
    fn fill(&mut self, streams: &mut impl Streams) -> bool {
        let mut moved = false;
        for log in &mut self.logs {
            moved |= log.fill(|stream, buf| streams.read_client(stream, buf));
        }
        for (n, terminal) in self.terminals.iter_mut().enumerate() {
            moved |= terminal.fill(self.view == View::Terminal(n), |stream, buf| streams.read_client(stream, buf));
        }
        moved
    }

    /// Whether lines of that log are printed as they come.
    fn is_shown(&self, log: usize) -> bool {
        match self.view {
            View::Terminal(_) => !self.muted,
            View::AllLogs => true,
            View::Log(n) => n == log,
        }
    }

    /// Takes a line of that log if there is one, and keeps it.
    fn take_line(&mut self, log: usize) -> Option<Vec<u8>> {
        let log = &mut self.logs[log];
        log.has_line().then(|| {
            self.number += 1;
            log.take_line(self.number)
        })
    }

    /// Takes the lines that nobody looks at.
    fn keep_hidden_lines(&mut self) -> bool {
        let mut moved = false;
        for n in 0..self.logs.len() {
            while !self.is_shown(n) && self.take_line(n).is_some() {
                moved = true;
            }
        }
        moved
    }

    /// Prints our own lines.
    fn print_notices(&mut self) -> bool {
        let mut printed = false;
        while self.screen.has_room()
            && let Some(line) = self.notices.pop_front()
        {
            self.screen.print_log(format!("[{}] {line}\r\n", self.name).as_bytes());
            printed = true;
        }
        printed
    }

    /// Prints log lines that are kept, when they are to be seen.
    fn print_kept_lines(&mut self) -> bool {
        let mut printed = false;
        while let Some(from) = self.replay
            && self.screen.has_room()
        {
            let shown = (0..self.logs.len()).filter(|&n| self.is_shown(n));
            let first = shown.filter_map(|n| self.logs[n].history.line_from(from)).min_by_key(|(number, _)| *number);
            self.replay = first.as_ref().map(|(number, _)| number + 1);
            if let Some((_, line)) = first {
                self.screen.print_log(&line);
                printed = true;
            }
        }
        printed
    }

    /// One line; says whether there was one. It waits for those that are printed again, and while a terminal's line is
    /// unfinished, but its end has been read already.
    fn log_turn(&mut self, n: usize) -> bool {
        let wait = self.screen.unfinished().is_some_and(|t| self.terminals[t].backlog.has_newline());
        if !self.is_shown(n) || self.replay.is_some() || wait {
            return false;
        }
        let line = self.take_line(n);
        line.inspect(|line| self.screen.print_log(line)).is_some()
    }

    /// A piece of raw output, if the terminal is shown; whole lines if a log line waits. Says whether there was any.
    fn terminal_turn(&mut self, n: usize) -> bool {
        if self.view != View::Terminal(n) || !self.notices.is_empty() {
            return false;
        }
        let log_waits = !self.muted && self.logs.iter().any(Log::has_line);
        let bytes = self.terminals[n].backlog.take(RAW_MAX, log_waits);
        if !bytes.is_empty() {
            self.screen.print_raw(&bytes);
        }
        !bytes.is_empty()
    }
}

/// A log that keeps as much as it is to, or, without memory for that, little.
fn log_of(label: &str, kept: usize) -> Result<Log, TryReserveError> {
    Log::new(label, kept).or_else(|_| Log::new(label, LINE_MAX))
}

/// The same for a terminal.
fn terminal_of(label: &str, kept: usize) -> Result<Terminal, TryReserveError> {
    Terminal::new(label, kept).or_else(|_| Terminal::new(label, 0))
}

#[cfg(test)]
mod tests;
