//! The component's configuration (ROM "config"). `README.md` is its reference.

use std::fmt;

use serde::{Deserialize, Deserializer};
pub use settings::Error as ConfigError;
use settings::within;

/// Bytes in a KiB.
const KIB: usize = 1024;
/// Fewest KiB that are kept of one client: a line fits.
const KEPT_MIN_KIB: usize = 2;
/// Most KiB that are kept of one client.
const KEPT_MAX_KIB: usize = 4096;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The key that begins a command.
    pub escape: Escape,
    /// Clients whose terminals have numbers from the start, from 1 on.
    #[serde(deserialize_with = "names")]
    pub terminals: Vec<String>,
    /// How much of a terminal's output is kept.
    #[serde(deserialize_with = "kept")]
    backlog_kib: usize,
    /// How much of a component's log is kept.
    #[serde(deserialize_with = "kept")]
    log_kib: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { escape: Escape::default(), terminals: Vec::new(), backlog_kib: 32, log_kib: 8 }
    }
}

/// The key that begins a command, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Escape(Option<u8>);

/// Distance of a control character from its letter.
const CONTROL: u8 = 0x40;

impl Default for Escape {
    fn default() -> Escape {
        Escape(Some(b'A' - CONTROL))
    }
}

impl Escape {
    /// No commands: all keys go to the terminal shown.
    pub const NONE: Escape = Escape(None);

    /// Whether it is that byte.
    pub(crate) fn is(self, byte: u8) -> bool {
        self.0 == Some(byte)
    }

    /// Its byte.
    pub(crate) fn byte(self) -> Option<u8> {
        self.0
    }
}

impl fmt::Display for Escape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(byte) => write!(f, "Ctrl-{}", char::from(byte + CONTROL)),
            None => f.write_str("none"),
        }
    }
}

impl TryFrom<String> for Escape {
    type Error = String;

    fn try_from(text: String) -> Result<Escape, String> {
        if text == "none" {
            return Ok(Escape::NONE);
        }
        match text.to_ascii_uppercase().strip_prefix("CTRL-").map(str::as_bytes) {
            // Ctrl-M and Ctrl-J are Enter, Ctrl-I is the tabulator, Ctrl-[ begins what arrow keys send.
            Some([b'I' | b'J' | b'M' | b'[']) => Err(format!("{text:?} is needed for typing")),
            Some(&[key @ b'A'..=b'_']) => Ok(Escape(Some(key - CONTROL))),
            _ => Err(format!("{text:?} is no control key such as \"ctrl-a\", and not \"none\"")),
        }
    }
}

fn kept<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
    within(d, &(KEPT_MIN_KIB..=KEPT_MAX_KIB), "KiB is")
}

/// Most terminals that are named.
const NAMED_MAX: usize = 32;

fn names<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let all: Vec<String> = Deserialize::deserialize(d)?;
    match all.iter().enumerate().find(|(i, name)| name.is_empty() || all[..*i].contains(name)) {
        Some((_, name)) => Err(serde::de::Error::custom(format!("{name:?} is no name, or is there twice"))),
        None if all.len() > NAMED_MAX => Err(serde::de::Error::custom(format!("at most {NAMED_MAX} are possible"))),
        None => Ok(all),
    }
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        settings::read(rom)
    }

    /// Bytes that are kept of each terminal's output.
    pub fn backlog_len(&self) -> usize {
        self.backlog_kib * KIB
    }

    /// Bytes that are kept of each component's log.
    pub fn log_len(&self) -> usize {
        self.log_kib * KIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn settings_have_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!((config.backlog_len(), config.log_len(), config.escape.byte()), (32768, 8192, Some(1)));
    }

    #[test]
    fn settings_are_read() {
        let config = parse("escape = \"Ctrl-]\"\nbacklog_kib = 2\nlog_kib = 64").unwrap();
        assert_eq!((config.backlog_len(), config.log_len()), (2048, 65536));
        assert_eq!((config.escape.byte(), config.escape.to_string().as_str()), (Some(0x1d), "Ctrl-]"));
        assert!(config.escape.is(0x1d) && !config.escape.is(1));
        assert_eq!(parse("terminals = [\"vm1\", \"init -> vm2\"]").unwrap().terminals, ["vm1", "init -> vm2"]);
        let none = parse("escape = \"none\"").unwrap().escape;
        assert_eq!((none, none.to_string().as_str()), (Escape::NONE, "none"));
        assert!((0..=255).all(|byte| !none.is(byte)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let many = format!("terminals = {:?}", (0..33).map(|n| n.to_string()).collect::<Vec<_>>());
        for (text, want) in [
            ("\nlog_to = 1", &["line 2, column 1", "`log_to`"][..]),
            ("escape = \"a\"", &["line 1, column 10", "\"a\" is no control key"]),
            ("escape = \"ctrl-aa\"", &["is no control key"]),
            ("escape = \"ctrl-1\"", &["is no control key"]),
            ("escape = \"ctrl-m\"", &["is needed for typing"]),
            ("escape = \"ctrl-ä\"", &["is no control key"]),
            ("backlog_kib = 1", &["line 1, column 15", "1 KiB is not within 2 and 4096"]),
            ("log_kib = 4097", &["not within"]),
            ("log_kib = -1", &["line 1"]),
            ("log_kib = \"8K\"", &["invalid type"]),
            ("terminals = [\"a\", \"b\", \"a\"]", &["line 1", "\"a\" is no name, or is there twice"]),
            ("terminals = [\"\"]", &["\"\" is no name"]),
            (&many, &["at most 32"]),
        ] {
            let refusal = parse(text).unwrap_err();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8"));
    }
}
