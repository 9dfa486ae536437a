//! A terminal client: its last output, and the keys on their way to it.

use std::collections::{TryReserveError, VecDeque};

use crate::backlog::Backlog;
use crate::client::{self, LINE_MAX, Source};

/// Most keys that wait for a client, beyond those in its stream.
pub const KEYS_MAX: usize = 16 << 10;

/// See above.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub(crate) label: String,
    pub(crate) source: Source,
    /// Its number is kept for it, whether it is there or not.
    pub(crate) reserved: bool,
    pub(crate) backlog: Backlog,
    keys: VecDeque<u8>,
    /// Keys were dropped since it had taken all.
    deaf: bool,
}

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    Taken,
    /// There is no room for it.
    Dropped {
        /// The ones before were taken.
        first: bool,
    },
}

impl Terminal {
    /// The terminal of the component `name`, of whose output `kept` bytes are kept.
    pub(crate) fn new(name: &str, kept: usize) -> Result<Terminal, TryReserveError> {
        let (label, backlog) = (client::label(name), Backlog::new(kept)?);
        let (source, keys) = Default::default();
        Ok(Terminal { label, source, reserved: false, backlog, keys, deaf: false })
    }

    /// It is another one's from now on.
    pub(crate) fn restart(&mut self, name: &str) {
        self.label = client::label(name);
        self.backlog.forget();
    }

    /// Reads output; says whether any came. While it is shown, no more than can be shown soon: so a client that writes
    /// faster has to wait. Otherwise all there is, so that nobody waits for a client that nobody looks at.
    pub(crate) fn fill(&mut self, shown: bool, read: impl FnOnce(u64, &mut [u8]) -> usize) -> bool {
        let mut buf = [0; LINE_MAX];
        let room = if shown { LINE_MAX.saturating_sub(self.backlog.unseen()) } else { LINE_MAX };
        if room == 0 {
            return false;
        }
        let count = self.source.read(&mut buf[..room], read);
        self.backlog.push(&buf[..count]);
        count > 0
    }

    /// Its stream has gone, and this was left in it. Nobody is there for keys.
    pub(crate) fn close(&mut self, rest: &[u8]) {
        self.source.close(rest);
        self.keys.clear();
        self.deaf = false;
    }

    /// Takes a key if there is room.
    pub(crate) fn type_in(&mut self, key: u8) -> Typed {
        if self.keys.len() < KEYS_MAX {
            self.keys.push_back(key);
            return Typed::Taken;
        }
        Typed::Dropped { first: !std::mem::replace(&mut self.deaf, true) }
    }

    /// Gives keys to the client; says whether it took any.
    pub(crate) fn give_keys(&mut self, write: impl FnOnce(u64, &[u8]) -> usize) -> bool {
        let Some(stream) = self.source.stream().filter(|_| !self.keys.is_empty()) else { return false };
        let keys = self.keys.make_contiguous();
        let given = write(stream, keys).min(keys.len());
        self.keys.drain(..given);
        self.deaf &= !self.keys.is_empty();
        given > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> Terminal {
        let mut t = Terminal::new("vm", 4096).unwrap();
        t.source.open(5);
        t
    }

    fn fill(t: &mut Terminal, shown: bool) -> bool {
        t.fill(shown, |stream, buf| {
            assert_eq!(stream, 5);
            buf.fill(b'x');
            buf.len()
        })
    }

    #[test]
    fn shown_it_is_read_as_far_as_it_is_printed() {
        let mut t = terminal();
        assert!(fill(&mut t, true));
        assert_eq!(t.backlog.unseen(), LINE_MAX);
        assert!(!t.fill(true, |_, _| panic!("there is no room")));
        t.backlog.take(10, false);
        assert!(t.fill(true, |_, buf| buf.len()));
        assert_eq!(t.backlog.unseen(), LINE_MAX);
    }

    #[test]
    fn hidden_it_is_read_for_ever() {
        let mut t = terminal();
        assert!((0..100).all(|_| fill(&mut t, false)));
        assert_eq!(t.backlog.unseen(), 4096);
        assert!(!t.fill(true, |_, _| panic!("what is kept comes first")));
    }

    #[test]
    fn keys_wait_in_order() {
        let mut t = terminal();
        assert!(!t.give_keys(|_, _| panic!("there are none")));
        b"abc".iter().for_each(|k| assert_eq!(t.type_in(*k), Typed::Taken));
        assert!(!t.give_keys(|_, _| 0));
        assert!(t.give_keys(|_, keys| (assert_eq!(keys, b"abc"), 2).1));
        assert!(t.give_keys(|_, keys| (assert_eq!(keys, b"c"), 1).1));
    }

    #[test]
    fn keys_go_with_their_client() {
        let mut t = terminal();
        t.type_in(b'x');
        t.close(b"bye");
        t.source.open(6);
        assert!(!t.give_keys(|_, _| panic!("they were not for this one")));
        assert!(t.fill(true, |_, _| panic!("what was left comes first")));
        assert_eq!(t.backlog.take(9, false), b"bye");
    }

    #[test]
    fn a_client_that_does_not_read_loses_keys_and_that_is_told_once() {
        let mut t = terminal();
        assert!((0..KEYS_MAX).all(|_| t.type_in(b'x') == Typed::Taken));
        assert_eq!(t.type_in(b'y'), Typed::Dropped { first: true });
        assert_eq!(t.type_in(b'y'), Typed::Dropped { first: false });
        t.give_keys(|_, _| 1);
        assert_eq!(t.type_in(b'z'), Typed::Taken);
        assert_eq!(t.type_in(b'y'), Typed::Dropped { first: false }, "it is still behind");
        t.give_keys(|_, keys| keys.len());
        assert!((0..KEYS_MAX).all(|_| t.type_in(b'x') == Typed::Taken));
        assert_eq!(t.type_in(b'y'), Typed::Dropped { first: true });
    }
}
