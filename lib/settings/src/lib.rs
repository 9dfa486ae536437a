//! Configurations that come as bytes: TOML, typed by serde, with errors that name the place.
//!
//! Key function: [`read`]; [`within`] is for fields that have a range.
#![forbid(unsafe_code)]

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not UTF-8.
    #[error("config is not UTF-8 (byte {})", .0.valid_up_to())]
    NotText(#[from] std::str::Utf8Error),
    /// Not TOML, an unknown key, or a value that makes no sense.
    #[error("config: {0}")]
    Syntax(#[from] toml::de::Error),
}

/// Reads a configuration.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    Ok(toml::from_str(std::str::from_utf8(bytes)?)?)
}

/// A field's value, which has to be in a range. `what` is how a message goes on behind the value: "is", or "KiB are".
pub fn within<'de, D, T>(d: D, range: &RangeInclusive<T>, what: &str) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + PartialOrd + Display,
{
    let value = T::deserialize(d)?;
    if !range.contains(&value) {
        let (least, most) = (range.start(), range.end());
        return Err(D::Error::custom(format!("{value} {what} not within {least} and {most}")));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[serde(deserialize_with = "lines")]
        lines: u8,
    }

    fn lines<'de, D: Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
        within(d, &(2..=5), "lines are")
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        assert_eq!(read::<Config>(b"lines = 5").unwrap().lines, 5);
        for (text, want) in [
            (&b"\nlines = 6"[..], &["line 2, column 9", "6 lines are not within 2 and 5"][..]),
            (b"lines = 2\nline = 1", &["line 2, column 1", "`line`"]),
            (b"lines = \xff", &["config is not UTF-8 (byte 8)"]),
        ] {
            let e = read::<Config>(text).unwrap_err().to_string();
            assert!(want.iter().all(|w| e.contains(w)), "{e}");
        }
    }
}
