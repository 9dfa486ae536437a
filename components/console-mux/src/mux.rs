//! The multiplexer: moves bytes between the clients, the keyboard and the screen, a fair share for each client.
//!
//! [`Mux::pump`] is to be called whenever a stream may have changed. Unless it says that there is more to do, it ends
//! only when nothing can move: all input was seen empty, or output is waiting for a stream that took less than it was
//! given. So it is enough if the streams signal when an empty one gets bytes and a full one gets room, as the rings of
//! crate `bytering` do.
//!
//! Key types: [`Mux`], [`Streams`], `View`. What keys command is in `commands`.

use std::collections::{TryReserveError, VecDeque};

use crate::client::{self, Kind};
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
    fn read_client(&mut self, client: usize, buf: &mut [u8]) -> usize;
    /// Sends keys to client number `client`.
    fn write_client(&mut self, client: usize, bytes: &[u8]) -> usize;
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
    keys: Keys,
    /// Keys that were not looked at.
    typed: VecDeque<u8>,
    /// Our own lines on their way to the screen.
    notices: VecDeque<String>,
    screen: Screen,
}

impl Mux {
    /// Client number n of [`Streams`] is `clients[n]`, of that kind and name. The first terminal is shown. `name` is
    /// that of the multiplexer.
    pub fn new(name: &str, config: &Config, clients: &[(Kind, &str)]) -> Result<Mux, TryReserveError> {
        let of = |kind| clients.iter().enumerate().filter(move |(_, c)| c.0 == kind);
        let terminals: Result<Vec<_>, _> =
            of(Kind::Terminal).map(|(n, (_, name))| Terminal::new(name, n, config.backlog_len())).collect();
        let logs: Result<Vec<_>, _> = of(Kind::Log).map(|(n, (_, name))| Log::new(name, n, config.log_len())).collect();
        let (terminals, logs) = (terminals?, logs?);
        let owner = (!terminals.is_empty()).then_some(0);
        let mut mux = Mux {
            name: client::label(name),
            next: 0,
            view: owner.map_or(View::AllLogs, View::Terminal),
            focus: 0,
            replay: None,
            muted: false,
            number: 0,
            escape: config.escape,
            keys: Keys::new(config.escape),
            typed: VecDeque::with_capacity(TYPED_MAX),
            notices: VecDeque::new(),
            screen: Screen::new(terminals.len(), owner),
            terminals,
            logs,
        };
        mux.greet();
        Ok(mux)
    }

    /// Moves all that can move, or much of it: `true`: call it again soon, but let others run first.
    pub fn pump(&mut self, streams: &mut impl Streams) -> bool {
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
            let stream = log.stream;
            moved |= log.fill(|buf| streams.read_client(stream, buf));
        }
        for (n, terminal) in self.terminals.iter_mut().enumerate() {
            let stream = terminal.stream;
            moved |= terminal.fill(self.view == View::Terminal(n), |buf| streams.read_client(stream, buf));
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

#[cfg(test)]
mod tests;
