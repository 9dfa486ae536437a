//! Commands among the keys: the escape key and one more.
//!
//! Key types: [`Keys`], [`Command`].

use crate::config::Escape;

/// What a command does. [`HELP`] says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Next,
    Previous,
    /// Terminal with this index.
    Select(usize),
    Log,
    Again,
    Mute,
    List,
    Help,
    /// There is no such command.
    Unknown(u8),
}

/// Keys and what they do, for the user.
pub(crate) const HELP: [(&str, &str); 9] = [
    ("n", "the next terminal"),
    ("p", "the terminal before this one"),
    ("1 to 9", "the terminal with that number"),
    ("l", "the log of all components; once more: of the first alone, of the second, and so on"),
    ("h", "print again what is kept of this terminal, or of this log"),
    ("m", "stop log lines between those of a terminal, or let them come again"),
    ("w", "list terminals and logs"),
    ("a", "send the escape key itself; so does that key twice"),
    ("?", "this list"),
];

/// A key as it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// For the terminal.
    Text(u8),
    /// For us.
    Command(Command),
}

/// Finds the commands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    escape: Escape,
    escaped: bool,
}

impl Keys {
    pub(crate) fn new(escape: Escape) -> Keys {
        Keys { escape, escaped: false }
    }

    /// Whether the next key completes a command.
    pub(crate) fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// Takes the next byte; `None`: it is the beginning of a command.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Key> {
        if !std::mem::take(&mut self.escaped) {
            self.escaped = self.escape.is(byte);
            return (!self.escaped).then_some(Key::Text(byte));
        }
        Some(match byte {
            b'n' | b'N' | b' ' => Key::Command(Command::Next),
            b'p' | b'P' => Key::Command(Command::Previous),
            b'1'..=b'9' => Key::Command(Command::Select(usize::from(byte - b'1'))),
            b'l' | b'L' => Key::Command(Command::Log),
            b'h' | b'H' => Key::Command(Command::Again),
            b'm' | b'M' => Key::Command(Command::Mute),
            b'w' | b'W' => Key::Command(Command::List),
            b'?' => Key::Command(Command::Help),
            b'a' | b'A' => Key::Text(self.escape.byte().unwrap_or(byte)),
            _ if self.escape.is(byte) => Key::Text(byte),
            _ => Key::Command(Command::Unknown(byte)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn keys(escape: Escape, bytes: &[u8]) -> Vec<Key> {
        let mut keys = Keys::new(escape);
        bytes.iter().filter_map(|&b| keys.take(b)).collect()
    }

    const A: u8 = 1;

    #[test]
    fn commands_are_found() {
        use Command::*;
        for (bytes, want) in [
            (&b"\x01n"[..], Key::Command(Next)),
            (b"\x01N", Key::Command(Next)),
            (b"\x01 ", Key::Command(Next)),
            (b"\x01p", Key::Command(Previous)),
            (b"\x011", Key::Command(Select(0))),
            (b"\x019", Key::Command(Select(8))),
            (b"\x01l", Key::Command(Log)),
            (b"\x01h", Key::Command(Again)),
            (b"\x01m", Key::Command(Mute)),
            (b"\x01w", Key::Command(List)),
            (b"\x01?", Key::Command(Help)),
            (b"\x01a", Key::Text(A)),
            (b"\x01\x01", Key::Text(A)),
            (b"\x010", Key::Command(Unknown(b'0'))),
            (b"\x01\xff", Key::Command(Unknown(0xff))),
        ] {
            assert_eq!(keys(Escape::default(), bytes), [want], "{bytes:?}");
        }
    }

    #[test]
    fn only_the_key_after_the_escape_is_a_command() {
        let got = keys(Escape::default(), b"n\x01\x01n\x01nn");
        let text = |b| Key::Text(b);
        assert_eq!(got, [text(b'n'), text(A), text(b'n'), Key::Command(Command::Next), text(b'n')]);
        let mut keys = Keys::new(Escape::default());
        assert!(!keys.is_escaped());
        assert_eq!(keys.take(A), None);
        assert!(keys.is_escaped());
    }

    #[test]
    fn another_escape_key_or_none() {
        let b = Config::parse(b"escape = \"ctrl-b\"").unwrap().escape;
        assert_eq!(keys(b, b"\x01n\x02n\x02a\x02\x02")[..2], [Key::Text(A), Key::Text(b'n')]);
        assert_eq!(keys(b, b"\x02n\x02a\x02\x02"), [Key::Command(Command::Next), Key::Text(2), Key::Text(2)]);
        let all: Vec<u8> = (0..=255).collect();
        assert!(keys(Escape::NONE, &all).iter().zip(&all).all(|(k, b)| *k == Key::Text(*b)));
    }

    #[test]
    fn each_line_of_the_help_is_a_command() {
        for (key, _) in HELP {
            let key = key.as_bytes()[0];
            let got = keys(Escape::default(), &[A, key]);
            assert!(!matches!(got[..], [Key::Command(Command::Unknown(_))]), "{key}");
        }
    }
}
