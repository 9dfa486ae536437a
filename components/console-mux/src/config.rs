//! The component's configuration (ROM "config"). There are no settings yet; those that do not exist are refused.

use serde::Deserialize;

/// Settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not UTF-8.
    #[error("config is not UTF-8 (byte {})", .0.valid_up_to())]
    NotText(#[from] std::str::Utf8Error),
    /// Not TOML, or an unknown key.
    #[error("config: {0}")]
    Syntax(#[from] toml::de::Error),
}

impl Config {
    /// Reads the ROM's content.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        Ok(toml::from_str(std::str::from_utf8(rom)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_settings_are_refused() {
        assert_eq!(Config::parse(b"").unwrap(), Config {});
        let refusal = Config::parse(b"\nlog_to = 1").unwrap_err().to_string();
        assert!(refusal.contains("line 2, column 1") && refusal.contains("`log_to`"), "{refusal}");
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8"));
    }
}
