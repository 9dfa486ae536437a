//! The multiplexer: moves bytes between the clients, the keyboard and the screen, a fair share for each client.
//!
//! [`Mux::pump`] is to be called whenever a stream may have changed. It ends only when nothing can move: all input
//! was seen empty, or output is waiting for a stream that took less than it was given. So it is enough if the streams
//! signal when an empty one gets bytes and a full one gets room, as the rings of crate `bytering` do.

use std::collections::VecDeque;

use crate::client::{Client, Kind};
use crate::screen::{RAW_MAX, Screen};

/// Most keys waiting for the client with the focus.
const KEYS_MAX: usize = 64;

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

/// The multiplexer's state.
#[derive(Debug)]
pub struct Mux {
    clients: Vec<Client>,
    /// The client whose turn is next.
    next: usize,
    /// The terminal client that gets the keys.
    focus: Option<usize>,
    keys: VecDeque<u8>,
    screen: Screen,
}

impl Mux {
    /// Client number n of [`Streams`] is `clients[n]`. The first terminal gets the focus.
    pub fn new(clients: Vec<Client>) -> Mux {
        let focus = clients.iter().position(|c| c.kind == Kind::Terminal);
        let screen = Screen::new(clients.len());
        Mux { clients, next: 0, focus, keys: VecDeque::with_capacity(KEYS_MAX), screen }
    }

    /// Moves all that can move.
    pub fn pump(&mut self, streams: &mut impl Streams) {
        while self.round(streams) {}
    }

    /// One turn for everybody; says whether anything moved.
    fn round(&mut self, streams: &mut impl Streams) -> bool {
        let mut moved = self.move_keys(streams);
        for (n, client) in self.clients.iter_mut().enumerate() {
            moved |= client.fill(|buf| streams.read_client(n, buf));
        }
        let mut logged = false;
        for _ in 0..self.clients.len() {
            // Without room for everything, nobody gets a turn: those with short output would starve those with long.
            if !self.screen.has_room() {
                break;
            }
            let printed = self.turn(self.next);
            logged |= printed && self.clients[self.next].kind == Kind::Log;
            moved |= printed;
            self.next = (self.next + 1) % self.clients.len();
        }
        // Only after the last of several log lines is the unfinished line printed again.
        moved |= !logged && self.screen.restore();
        moved | self.screen.flush(|bytes| streams.write_out(bytes))
    }

    /// Prints something of one client; says whether it did.
    fn turn(&mut self, n: usize) -> bool {
        match self.clients[n].kind {
            Kind::Log => self.log_turn(n),
            Kind::Terminal => self.terminal_turn(n),
        }
    }

    /// One line. It waits while a terminal's line is unfinished, but its end has been read already.
    fn log_turn(&mut self, n: usize) -> bool {
        let wait = self.screen.unfinished().is_some_and(|t| self.clients[t].has_newline());
        let ready = self.clients[n].has_log_line() && !wait;
        if ready {
            let line = self.clients[n].take_log_line();
            self.screen.print_log(&line);
        }
        ready
    }

    /// A piece of raw output; whole lines if a log line waits.
    fn terminal_turn(&mut self, n: usize) -> bool {
        let log_waits = self.clients.iter().any(Client::has_log_line);
        let bytes = self.clients[n].take_raw(RAW_MAX, log_waits);
        if !bytes.is_empty() {
            self.screen.print_raw(n, &bytes);
        }
        !bytes.is_empty()
    }

    /// Keys go to the focus, or nowhere if there is none; says whether any moved.
    fn move_keys(&mut self, streams: &mut impl Streams) -> bool {
        let mut buf = [0; KEYS_MAX];
        let room = KEYS_MAX - self.keys.len();
        let got = if room > 0 { streams.read_keys(&mut buf[..room]).min(room) } else { 0 };
        self.keys.extend(&buf[..got]);
        let given = match self.focus {
            Some(client) => streams.write_client(client, self.keys.make_contiguous()).min(self.keys.len()),
            None => self.keys.len(),
        };
        self.keys.drain(..given);
        got > 0 || given > 0
    }
}

#[cfg(test)]
mod tests;
