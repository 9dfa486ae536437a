//! The component's configuration (ROM "config"). Reference: README.md.

use serde::{Deserialize, Deserializer};
pub use settings::Error as ConfigError;
use settings::within;
use std::ops::RangeInclusive;

/// Longest ROM that can be configured, in KiB.
const MAX_KIB: RangeInclusive<u64> = 1..=1 << 20;

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the ROM with the image.
    pub image: String,
    #[serde(default = "default_max", deserialize_with = "max_kib")]
    max_kib: u64,
}

fn default_max() -> u64 {
    16 << 10
}

fn max_kib<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    within(d, &MAX_KIB, "KiB are")
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        settings::read(rom)
    }

    /// Longest ROM in bytes.
    pub fn max_len(&self) -> u64 {
        self.max_kib << 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_defaults() {
        let c = Config::parse(b"image = 'disk'").unwrap();
        assert_eq!((c.image.as_str(), c.max_len()), ("disk", 16 << 20));
        assert_eq!(Config::parse(b"image = 'disk'\nmax_kib = 1").unwrap().max_len(), 1024);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, want) in [
            ("", &["missing field `image`"][..]),
            ("image = 'a'\nroot = 1", &["line 2, column 1", "`root`"]),
            ("image = 'a'\nmax_kib = 0", &["line 2, column 11", "0 KiB are not within 1 and 1048576"]),
            ("image = 1", &["invalid type"]),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }
}
