//! Programs of others as components, their source unchanged (`ports/*.toml`; its README is the reference).
//!
//! Key type: [`Port`]. `rust` builds programs of crates.io, `c` those of Debian's source; `runtime` is what both are
//! linked with.

mod c;
mod runtime;
mod rust;

pub use c::PACKAGE as C_PROGRAM;

use crate::progress::Step;
use crate::tree;
use anyhow::{Context, Result};
use runtime::Runtime;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// A file of `ports/`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Port {
    /// With the key `crate`.
    Rust(rust::Program),
    /// With the key `source`.
    C(c::Program),
}

/// Names of all ports.
pub fn names() -> Result<Vec<String>> {
    Ok(tree::toml_files("ports")?.into_iter().map(|(name, _)| name).collect())
}

/// The port of that name, if there is one.
pub fn find(name: &str) -> Result<Option<Port>> {
    let path = tree::root().join("ports").join(format!("{name}.toml"));
    if !path.is_file() {
        return Ok(None);
    }
    let parse = || Port::parse(name, &tree::read_text(&path)?);
    parse().map(Some).with_context(|| format!("reading {}", tree::shown(&path)))
}

impl Port {
    fn parse(name: &str, text: &str) -> Result<Port> {
        let table: toml::Table = toml::from_str(text)?;
        // By hand, as serde's messages about untagged enums say nothing.
        let port = match table.contains_key("source") {
            true => Port::C(table.try_into()?),
            false => Port::Rust(table.try_into()?),
        };
        if let Port::Rust(program) = &port {
            program.check(name)?;
        }
        Ok(port)
    }

    /// Builds it, unless program and runtime are what they were; returns the linked program.
    pub fn build(&self, name: &str, step: &Step) -> Result<PathBuf> {
        let dir = tree::build_dir(Path::new("ports").join(name))?;
        let (program, stamp) = (dir.join("bin").join(name), dir.join("stamp"));
        let runtime = Runtime::build(step)?;
        let made_of = match self {
            Port::Rust(p) => format!("{p:?} {:016x}", runtime.hash),
            Port::C(p) => format!("{p:?} {:016x} {:016x}", runtime.hash, c::libc_hash()?),
        };
        if program.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|there| there == made_of) {
            return Ok(program);
        }
        match self {
            Port::Rust(p) => p.build(&runtime, &dir, step)?,
            Port::C(p) => p.build(&runtime, &dir, &program, step)?,
        }
        runtime.check(&program).with_context(|| format!("{name} as a component"))?;
        std::fs::write(&stamp, made_of)?;
        Ok(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_are_read() {
        let names = names().unwrap();
        assert!(!names.is_empty());
        for name in names {
            assert!(find(&name).unwrap().is_some(), "{name}");
        }
        assert_eq!(find("no-such-port").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named() {
        let error = |name: &str, text: &str| format!("{:#}", Port::parse(name, text).unwrap_err());
        let e = error("b2sum", "crate = \"b3sum\"\nversion = \"1\"");
        assert!(e.contains("b3sum.toml"), "{e}");
        let e = error("b3sum", "crate = \"b3sum\"\nversion = \"1\"\nfeature = []");
        assert!(e.contains("unknown field `feature`"), "{e}");
        let e = error("lua", "source = \"lua5.4\"\nfile = \"src\"");
        assert!(e.contains("unknown field `file`"), "{e}");
        let e = error("lua", "files = \"src\"");
        assert!(e.contains("crate"), "{e}");
    }
}
