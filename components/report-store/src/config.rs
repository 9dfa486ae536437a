//! The component's configuration (ROM "config"). Reference: README.md.

use crate::rules::{RuleError, Rules, Written};
use serde::{Deserialize, Deserializer};
use settings::within;
use std::ops::RangeInclusive;

/// Bytes of a KiB.
const KIB: usize = 1024;
/// Longest report that can be configured, in KiB.
const MAX_KIB: RangeInclusive<usize> = 1..=4096;
/// Most sessions that can be configured.
const SESSIONS: RangeInclusive<usize> = 1..=1024;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    max_kib: usize,
    /// Most sessions, of those who report and those who read.
    pub sessions: usize,
    /// Whose ROM is whose report.
    pub rules: Rules,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    #[serde(deserialize_with = "max_kib")]
    max_kib: usize,
    #[serde(deserialize_with = "sessions")]
    sessions: usize,
    rom: Vec<Written>,
}

impl Default for File {
    fn default() -> File {
        File { max_kib: 64, sessions: 64, rom: Vec::new() }
    }
}

fn max_kib<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
    within(d, &MAX_KIB, "KiB are")
}

fn sessions<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
    within(d, &SESSIONS, "sessions are")
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error(transparent)]
    Text(#[from] settings::Error),
    /// A rule that cannot be.
    #[error("config: {0}")]
    Rule(#[from] RuleError),
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        let file: File = settings::read(rom)?;
        Ok(Config { max_kib: file.max_kib, sessions: file.sessions, rules: Rules::new(file.rom)? })
    }

    /// Longest report in bytes.
    pub fn max_len(&self) -> usize {
        self.max_kib * KIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_defaults() {
        let c = Config::parse(b"").unwrap();
        assert_eq!((c.max_len(), c.sessions, c.rules), (65536, 64, Rules::default()));
        let c = Config::parse(b"max_kib = 1\nsessions = 2\n[[rom]]\nlabel = 'a'\nreport = 'b'").unwrap();
        assert_eq!((c.max_len(), c.sessions), (1024, 2));
        assert_ne!(c.rules, Rules::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, want) in [
            ("\nmax = 1", &["line 2, column 1", "`max`"][..]),
            ("max_kib = 0", &["line 1, column 11", "0 KiB are not within 1 and 4096"]),
            ("sessions = 2000", &["2000 sessions are not within"]),
            ("[[rom]]\nlabel = 'a'", &["missing field `report`"]),
            ("[[rom]]\nlabel = 'a'\nreport = 'b'\nto = 1", &["line 4, column 1", "`to`"]),
            ("[[rom]]\nreport = 'b'", &["number 1 has 0"]),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }
}
