//! The component's configuration (ROM "config"). Reference: README.md.

use serde::{Deserialize, Deserializer};
pub use settings::Error as ConfigError;
use settings::within;

/// Bytes of a KiB.
const KIB: usize = 1024;
/// Least and most that is kept of the log, in KiB.
const KEPT_KIB: std::ops::RangeInclusive<usize> = 4..=65536;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether lines go on to the collector's own log.
    pub forward: bool,
    /// Whether what is kept can be read: service `journal`.
    pub journal: bool,
    /// Lines that a client may write at once.
    #[serde(deserialize_with = "positive")]
    pub burst: u32,
    /// Lines a second that it may write beyond that; 0: as many as it likes.
    pub rate: u32,
    /// How much is kept of the log.
    #[serde(deserialize_with = "kept")]
    kept_kib: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config { forward: true, journal: false, burst: 200, rate: 50, kept_kib: 64 }
    }
}

fn positive<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let lines = u32::deserialize(d)?;
    if lines == 0 {
        return Err(serde::de::Error::custom("with a burst of 0 there would be no line"));
    }
    Ok(lines)
}

fn kept<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
    within(d, &KEPT_KIB, "KiB is")
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        settings::read(rom)
    }

    /// Bytes that are kept of the log.
    pub fn kept_len(&self) -> usize {
        self.kept_kib * KIB
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_defaults() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
        let c = Config::parse(b"forward = false\nburst = 3\nrate = 0\nkept_kib = 4").unwrap();
        assert_eq!((c.forward, c.burst, c.rate, c.kept_len()), (false, 3, 0, 4096));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, want) in [
            ("\nlines = 1", &["line 2, column 1", "`lines`"][..]),
            ("burst = 0", &["line 1, column 9", "burst of 0"]),
            ("rate = -1", &["line 1, column 8"]),
            ("kept_kib = 3", &["3 KiB is not within 4 and 65536"]),
            ("kept_kib = \"1M\"", &["invalid type"]),
            ("forward = 1", &["invalid type"]),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }
}
