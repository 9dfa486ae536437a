//! The component's configuration (ROM "config"). Reference: README.md.

use serde::{Deserialize, Deserializer};
pub use settings::Error as ConfigError;
use settings::within;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long a picture stays, in ms.
const EVERY_MS: RangeInclusive<u64> = 100..=3_600_000;
/// Size of a terminal in characters.
const SIZE: RangeInclusive<usize> = 10..=500;

/// Settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    #[serde(deserialize_with = "every")]
    every_ms: u64,
    /// Characters of a line.
    #[serde(deserialize_with = "size")]
    pub width: usize,
    /// Lines of a picture.
    #[serde(deserialize_with = "size")]
    pub height: usize,
    /// Pictures after which it ends; 0: only at a key.
    pub pictures: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { every_ms: 1000, width: 100, height: 23, pictures: 0 }
    }
}

fn every<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    within(d, &EVERY_MS, "is")
}

fn size<'de, D: Deserializer<'de>>(d: D) -> Result<usize, D::Error> {
    within(d, &SIZE, "is")
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        settings::read(rom)
    }

    /// How long a picture stays.
    pub fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_defaults() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
        let c = Config::parse(b"every_ms = 100\nwidth = 80\nheight = 50\npictures = 3").unwrap();
        assert_eq!((c.every(), c.width, c.height, c.pictures), (Duration::from_millis(100), 80, 50, 3));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, want) in [
            ("\nlines = 1", &["line 2, column 1", "`lines`"][..]),
            ("every_ms = 0", &["line 1, column 12", "0 is not within 100 and 3600000"]),
            ("height = 9", &["9 is not within 10 and 500"]),
            ("width = \"80\"", &["invalid type"]),
            ("pictures = -1", &["line 1, column 12"]),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }
}
