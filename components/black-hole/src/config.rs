//! The component's configuration (ROM "config"). Reference: README.md.

use serde::Deserialize;
pub use settings::Error as ConfigError;
use std::fmt;

/// A service that it can stand in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Lines are dropped.
    Log,
    /// What is written is dropped, and nobody types.
    Terminal,
}

impl Service {
    /// All of them.
    pub const ALL: [Service; 2] = [Service::Log, Service::Terminal];

    /// Its name in system files.
    pub fn name(self) -> &'static str {
        match self {
            Service::Log => "log",
            Service::Terminal => "terminal",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What it takes.
    pub services: Vec<Service>,
    /// Whether it says what it took.
    pub verbose: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config { services: Service::ALL.into(), verbose: true }
    }
}

impl Config {
    /// Reads the ROM's content. A service that is named twice is taken once.
    pub fn parse(rom: &[u8]) -> Result<Config, ConfigError> {
        let mut config: Config = settings::read(rom)?;
        config.services.sort_unstable();
        config.services.dedup();
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_defaults() {
        assert_eq!(Config::parse(b"").unwrap(), Config::default());
        let c = Config::parse(b"services = ['terminal', 'terminal']\nverbose = false").unwrap();
        assert_eq!(c, Config { services: vec![Service::Terminal], verbose: false });
        for service in Service::ALL {
            let text = format!("services = ['{service}']");
            assert_eq!(Config::parse(text.as_bytes()).unwrap().services, [service]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        for (text, want) in [
            ("\nservice = 1", &["line 2, column 1", "`service`"][..]),
            ("services = ['nic']", &["line 1, column 13", "unknown variant `nic`", "`log`"]),
            ("verbose = 1", &["invalid type"]),
        ] {
            let refusal = Config::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(want.iter().all(|w| refusal.contains(w)), "{text}: {refusal}");
        }
        assert!(Config::parse(b"\xff").unwrap_err().to_string().contains("UTF-8 (byte 0)"));
    }
}
