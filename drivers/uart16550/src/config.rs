//! The component's configuration (ROM "config"). Reference: README.md.

use serde::Deserialize;
pub use settings::Error as ConfigError;

use crate::spec::BASE_BAUD;

/// Settings with their defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// First of the UART's eight ports.
    pub port: u16,
    /// Its interrupt: a global system interrupt.
    pub irq: u32,
    /// Bits per second.
    pub baud: Baud,
}

impl Default for Config {
    fn default() -> Config {
        Config { port: 0x3f8, irq: 4, baud: Baud { rate: BASE_BAUD, divisor: 1 } }
    }
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        settings::read(rom)
    }
}

/// A rate that the baud generator can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u32")]
pub struct Baud {
    rate: u32,
    divisor: u16,
}

/// The baud generator has no divisor for a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a 16550 cannot make {0} baud: it makes 115200 divided by 1 to 65535, and must come within 3%")]
pub struct BadBaud(u32);

impl Baud {
    /// Bits per second as asked for.
    pub fn rate(self) -> u32 {
        self.rate
    }

    /// Content of the divisor latches, DLM and DLL.
    pub fn divisor(self) -> u16 {
        self.divisor
    }
}

impl TryFrom<u32> for Baud {
    type Error = BadBaud;

    /// Takes the nearest divisor if it is close enough: a frame of 10 bits tolerates about 3%.
    fn try_from(rate: u32) -> Result<Baud, BadBaud> {
        let nearest = BASE_BAUD.saturating_add(rate / 2).checked_div(rate).ok_or(BadBaud(rate))?;
        let divisor = u16::try_from(nearest).ok().filter(|&d| d > 0).ok_or(BadBaud(rate))?;
        let off = (BASE_BAUD / u32::from(divisor)).abs_diff(rate);
        if u64::from(off) * 100 > u64::from(rate) * 3 {
            return Err(BadBaud(rate));
        }
        Ok(Baud { rate, divisor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_config_means_com1_at_115200() {
        let c = Config::parse(b"").unwrap();
        assert_eq!((c.port, c.irq, c.baud.rate(), c.baud.divisor()), (0x3f8, 4, 115_200, 1));
        let c = Config::parse(b"port = 0x2f8\nirq = 3\nbaud = 9600").unwrap();
        assert_eq!((c.port, c.irq, c.baud.rate(), c.baud.divisor()), (0x2f8, 3, 9600, 12));
    }

    #[test]
    fn refusals_name_place_and_cause() {
        for (text, expect) in [
            ("bauds = 1", "unknown field `bauds`"),
            ("baud = ", "line 1, column 8"),
            ("\nbaud = 100000", "line 2, column 8"),
            ("baud = 100000", "cannot make 100000 baud"),
            ("baud = 0", "cannot make 0 baud"),
            ("port = 70000", "70000"),
            ("irq = -1", "-1"),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(refusal.contains(expect), "{text:?}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }

    #[test]
    fn divisors() {
        for (rate, expect) in [
            (115_200, Some(1)),
            (57_600, Some(2)),
            (9600, Some(12)),
            (1200, Some(96)),
            (2, Some(57_600)),
            (1, None),
            (0, None),
            (230_400, None),
            (u32::MAX, None),
        ] {
            assert_eq!(Baud::try_from(rate).ok().map(Baud::divisor), expect, "{rate}");
        }
    }
}
