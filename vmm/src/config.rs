//! Guest configuration: the ROM "config", TOML. `README.md` is its reference.
//!
//! Key types: [`Guest`] (checked), [`ConfigError`]. What depends on the kernel and initrd is checked by
//! [`crate::loader`].

use serde::Deserialize;
use thiserror::Error;

use crate::layout;
use crate::loader::Protocol;

/// Why a guest configuration is refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// The component has no ROM "config".
    #[error("there is no ROM \"config\": the system file gives the component no [component.config]")]
    Missing,
    /// Not UTF-8.
    #[error("config: not UTF-8 at byte {0}")]
    Utf8(usize),
    /// Not TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("config:{line}:{column}: {cause}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What the parser says.
        cause: String,
    },
    /// A value that makes no sense.
    #[error("config: {key} = {value}: {cause}")]
    Value {
        /// The key.
        key: &'static str,
        /// The value given.
        value: String,
        /// What is wrong with it.
        cause: String,
    },
}

/// CPU features that a guest configuration can hide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hide {
    /// The RDRAND instruction.
    Rdrand,
    /// The RDSEED instruction.
    Rdseed,
    /// AVX and what builds on it.
    Avx,
    /// x2APIC mode of the local APIC.
    X2apic,
}

/// What a reset that the guest asks for means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnReset {
    /// The VM ends.
    #[default]
    Exit,
    /// The guest is loaded again and starts.
    Restart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: Option<String>,
    ram: String,
    #[serde(default)]
    cmdline: String,
    #[serde(default = "one")]
    vcpus: u32,
    cpus: Option<Vec<u16>>,
    kernel: String,
    initrd: Option<String>,
    #[serde(default)]
    modules: Vec<String>,
    boot: Option<Protocol>,
    #[serde(default = "yes")]
    acpi: bool,
    #[serde(default)]
    on_reset: OnReset,
    #[serde(default)]
    hide: Vec<Hide>,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// A guest, checked as far as that is possible without looking at kernel and initrd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Name for messages.
    pub name: String,
    /// RAM in bytes, whole 2 MiB pages.
    pub ram: u64,
    /// Kernel command line.
    pub cmdline: String,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Host CPU of each vCPU, if they are named.
    pub cpus: Option<Vec<u16>>,
    /// Name of the ROM that holds the kernel.
    pub kernel: String,
    /// Name of the ROM that holds the initial RAM disk.
    pub initrd: Option<String>,
    /// ROMs with arguments: more modules for a Multiboot kernel.
    pub modules: Vec<String>,
    /// How to start the kernel; found out from the image if not given.
    pub boot: Option<Protocol>,
    /// Whether the guest gets ACPI tables.
    pub acpi: bool,
    /// What a reset that the guest asks for means.
    pub on_reset: OnReset,
    /// CPU features hidden from the guest.
    pub hide: Vec<Hide>,
}

impl Guest {
    /// Reads and checks the text of the ROM "config".
    pub fn parse(rom: Option<&[u8]>) -> Result<Guest, ConfigError> {
        // ROMs may be padded with zeros to whole pages.
        let bytes = rom.ok_or(ConfigError::Missing)?;
        let bytes = &bytes[..bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1)];
        let text = std::str::from_utf8(bytes).map_err(|e| ConfigError::Utf8(e.valid_up_to()))?;
        let raw: Raw = toml::from_str(text).map_err(|e| syntax(text, &e))?;
        raw.check()
    }

    /// Host CPU of each vCPU. `usable` are those that the component may use, of the machine's, which are 0 to
    /// `machine` - 1. Without a choice in the configuration, vCPU i is on the i-th usable one, wrapping round.
    pub fn place(&self, usable: &[u16], machine: u32) -> Result<Vec<u16>, ConfigError> {
        let Some(cpus) = &self.cpus else {
            return Ok(usable.iter().copied().cycle().take(self.vcpus as usize).collect());
        };
        let refuse = |cpu: &u16| {
            let cause = match u32::from(*cpu) {
                n if n >= machine => format!("there is no CPU {n}: this machine has {machine}, numbered from 0"),
                n => format!("the component may not use CPU {n}; the system file gives it {usable:?}"),
            };
            value("cpus", format!("{cpus:?}"), &cause)
        };
        match cpus.iter().find(|cpu| !usable.contains(cpu)) {
            Some(cpu) => Err(refuse(cpu)),
            None => Ok(cpus.clone()),
        }
    }
}

impl Raw {
    fn check(self) -> Result<Guest, ConfigError> {
        let ram = check_ram(&self.ram)?;
        check_vcpus(self.vcpus, self.cpus.as_deref())?;
        if self.cmdline.contains('\0') {
            return Err(value("cmdline", &self.cmdline, "contains a NUL character"));
        }
        if self.cmdline.len() >= layout::CMDLINE_MAX {
            let cause = format!("{} bytes, the longest possible is {}", self.cmdline.len(), layout::CMDLINE_MAX - 1);
            return Err(value("cmdline", "...", &cause));
        }
        Ok(Guest {
            name: self.name.unwrap_or_else(|| "guest".into()),
            ram,
            cmdline: self.cmdline,
            vcpus: self.vcpus,
            cpus: self.cpus,
            kernel: self.kernel,
            initrd: self.initrd,
            modules: self.modules,
            boot: self.boot,
            acpi: self.acpi,
            on_reset: self.on_reset,
            hide: self.hide,
        })
    }
}

fn check_vcpus(n: u32, cpus: Option<&[u16]>) -> Result<(), ConfigError> {
    let most = layout::MAX_VCPUS;
    if !(1..=most).contains(&n) {
        return Err(value("vcpus", n, &format!("a guest has 1 to {most} vCPUs")));
    }
    match cpus {
        Some(cpus) if cpus.len() != n as usize => {
            let cause = format!("names {} host CPUs for {n} vCPUs; it needs one for each", cpus.len());
            Err(value("cpus", format!("{cpus:?}"), &cause))
        }
        _ => Ok(()),
    }
}

fn check_ram(text: &str) -> Result<u64, ConfigError> {
    let quoted = format!("{text:?}");
    let ram = parse_size(text).map_err(|cause| value("ram", &quoted, cause))?;
    match ram {
        0 => Err(value("ram", &quoted, "a guest cannot run without RAM; it needs at least 16M")),
        _ if ram < layout::RAM_MIN => Err(value("ram", &quoted, "too little for a guest; it needs at least 16M")),
        _ if ram > layout::RAM_MAX => Err(value("ram", &quoted, "more than 3G, where the device hole starts")),
        _ if ram % (2 << 20) != 0 => Err(value("ram", &quoted, "not a multiple of 2M")),
        _ => Ok(ram),
    }
}

/// Reads a size: digits with an optional K, M or G.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let (digits, shift) = match text.trim().char_indices().last() {
        Some((i, 'K')) => (&text.trim()[..i], 10),
        Some((i, 'M')) => (&text.trim()[..i], 20),
        Some((i, 'G')) => (&text.trim()[..i], 30),
        _ => (text.trim(), 0),
    };
    let n: u64 = digits.parse().map_err(|_| "not a size: digits, then nothing, K, M or G")?;
    n.checked_mul(1 << shift).ok_or("does not fit in 64 bits")
}

fn value(key: &'static str, value: impl ToString, cause: &str) -> ConfigError {
    ConfigError::Value { key, value: value.to_string(), cause: cause.into() }
}

fn syntax(text: &str, e: &toml::de::Error) -> ConfigError {
    let at = e.span().map_or(0, |s| s.start).min(text.len());
    let before = text.get(..at).unwrap_or("");
    let line_start = before.rfind('\n').map_or(0, |p| p + 1);
    ConfigError::Syntax {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        cause: e.message().replace('\n', "; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Guest, ConfigError> {
        Guest::parse(Some(text.as_bytes()))
    }

    #[test]
    fn a_full_configuration_is_read() {
        let g = parse(
            "name = \"deb\"\nram = \"256M\"\ncmdline = \"console=ttyS0\"\nvcpus = 2\ncpus = [3, 1]\nkernel = \"bzImage\"\n\
             initrd = \"initramfs\"\nmodules = [\"m x=1\"]\nboot = \"pvh\"\nacpi = false\non_reset = \"restart\"\nhide = [\"rdrand\", \"rdseed\"]\n\0\0",
        )
        .unwrap();
        assert_eq!((g.ram, g.vcpus, g.acpi, g.on_reset), (256 << 20, 2, false, OnReset::Restart));
        assert_eq!(g.cpus.as_deref(), Some(&[3, 1][..]));
        assert_eq!((g.name.as_str(), g.kernel.as_str(), g.initrd.as_deref()), ("deb", "bzImage", Some("initramfs")));
        assert_eq!(g.modules, ["m x=1"]);
        assert_eq!((g.hide, g.boot), (vec![Hide::Rdrand, Hide::Rdseed], Some(Protocol::Pvh)));
    }

    #[test]
    fn defaults() {
        let g = parse("ram = \"16M\"\nkernel = \"k\"").unwrap();
        assert_eq!((g.name.as_str(), g.cmdline.as_str(), g.vcpus, g.acpi), ("guest", "", 1, true));
        assert_eq!((g.initrd, g.boot, g.hide, g.on_reset), (None, None, vec![], OnReset::Exit));
    }

    #[test]
    fn vcpus_are_placed_in_turn_or_as_named() {
        let guest = |text: &str| parse(&format!("ram = \"16M\"\nkernel = \"k\"\n{text}")).unwrap();
        assert_eq!(guest("vcpus = 5").place(&[2, 0, 3], 4), Ok(vec![2, 0, 3, 2, 0]));
        assert_eq!(guest("").place(&[2, 0], 4), Ok(vec![2]));
        assert_eq!(guest("vcpus = 3\ncpus = [0, 2, 0]").place(&[2, 0], 4), Ok(vec![0, 2, 0]));
        for (cpus, want) in [
            ("[0, 4]", "config: cpus = [0, 4]: there is no CPU 4: this machine has 4, numbered from 0"),
            ("[1, 0]", "config: cpus = [1, 0]: the component may not use CPU 1; the system file gives it [2, 0]"),
        ] {
            let e = guest(&format!("vcpus = 2\ncpus = {cpus}")).place(&[2, 0], 4).unwrap_err();
            assert_eq!(e.to_string(), want);
        }
    }

    #[test]
    fn refusals_name_key_value_and_cause() {
        let long = format!("ram = \"16M\"\nkernel = \"k\"\ncmdline = \"{}\"", "x".repeat(layout::CMDLINE_MAX));
        for (text, want) in [
            ("ram = \"0\"\nkernel = \"k\"", "config: ram = \"0\": a guest cannot run without RAM"),
            ("ram = \"8M\"\nkernel = \"k\"", "config: ram = \"8M\": too little"),
            ("ram = \"4G\"\nkernel = \"k\"", "config: ram = \"4G\": more than 3G"),
            ("ram = \"17M\"\nkernel = \"k\"", "config: ram = \"17M\": not a multiple of 2M"),
            ("ram = \"12Q\"\nkernel = \"k\"", "config: ram = \"12Q\": not a size"),
            ("ram = \"99999999999G\"\nkernel = \"k\"", "config: ram = \"99999999999G\": does not fit"),
            ("ram = \"16M\"\nkernel = \"k\"\nvcpus = 9", "config: vcpus = 9: a guest has 1 to 8 vCPUs"),
            ("ram = \"16M\"\nkernel = \"k\"\nvcpus = 0", "config: vcpus = 0: a guest has 1 to 8 vCPUs"),
            (
                "ram = \"16M\"\nkernel = \"k\"\nvcpus = 2\ncpus = [0, 1, 2]",
                "config: cpus = [0, 1, 2]: names 3 host CPUs for 2 vCPUs; it needs one for each",
            ),
            ("ram = \"16M\"\nkernel = \"k\"\ncmdline = \"a\\u0000\"", "config: cmdline = a\0: contains a NUL"),
            (&long, "config: cmdline = ...: 65536 bytes"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.starts_with(want), "{e:?} does not start with {want:?}");
        }
    }

    #[test]
    fn syntax_errors_have_line_and_column() {
        for (text, line, column, cause) in [
            ("ram = \"16M\"\nkernel = k", 2, 10, ""),
            ("ram = \"16M\"\nkernel = \"k\"\nspeed = 3", 3, 1, "unknown field `speed`"),
            ("ram = \"16M\"\n  vcpus = \"x\"\nkernel = \"k\"", 2, 11, "invalid type: string"),
            ("kernel = \"k\"", 1, 1, "missing field `ram`"),
            ("ram = \"16M\"\nkernel = \"k\"\nboot = \"elf\"", 3, 8, "unknown variant `elf`"),
            ("ram = \"16M\"\nkernel = \"k\"\nhide = [\"sse\"]", 3, 9, "unknown variant `sse`"),
        ] {
            match parse(text).unwrap_err() {
                ConfigError::Syntax { line: l, column: c, cause: m } => {
                    assert_eq!((l, c), (line, column), "{text}: {m}");
                    assert!(m.contains(cause), "{m}");
                }
                e => panic!("{text}: {e}"),
            }
        }
    }

    #[test]
    fn the_example_configurations_are_valid() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/guests")).unwrap();
        let files = folder.map(|f| f.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "toml"));
        let guests: Vec<Guest> = files
            .map(|path| {
                let file: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
                Guest::parse(Some(toml::to_string(&file["config"]).unwrap().as_bytes()))
                    .unwrap_or_else(|e| panic!("{path:?}: {e}"))
            })
            .collect();
        assert!(guests.iter().any(|g| g.name == "debian"));
    }

    #[test]
    fn missing_and_binary_roms() {
        assert_eq!(Guest::parse(None), Err(ConfigError::Missing));
        assert_eq!(Guest::parse(Some(b"ram\xff")), Err(ConfigError::Utf8(3)));
    }
}
