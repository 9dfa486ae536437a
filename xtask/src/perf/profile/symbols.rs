//! What an address belongs to: functions, inlined ones too, source lines, and the stages that `arch/entry.S` names.
//!
//! Key types: [`Symbols`], [`Frame`].

use super::step::{Mode, Step};
use crate::tree;
use addr2line::Loader;
use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection, ObjectSymbol};
use std::collections::BTreeSet;
use std::path::Path;

/// Symbols that begin so are stages: `stage.NAME.N`.
const STAGE: &str = "stage.";
/// The longest instruction.
const LONGEST: usize = 15;

/// A function, and the place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub name: String,
    /// `hypervisor/kernel/src/call/mod.rs:12`, as far as it is known.
    pub place: String,
}

/// Functions by address.
#[derive(Default)]
struct Names(Vec<(u64, String)>);

impl Names {
    /// The last one that begins at or before the address.
    fn at(&self, at: u64) -> Option<&str> {
        let behind = self.0.partition_point(|(a, _)| *a <= at);
        Some(&self.0.get(behind.checked_sub(1)?)?.1)
    }
}

/// An ELF file's.
struct Image {
    functions: Names,
    stages: Names,
    sections: Vec<(u64, Vec<u8>)>,
    lines: Loader,
}

impl Image {
    fn load(path: &Path) -> Result<Image> {
        let data = tree::read_bytes(path)?;
        let file = object::File::parse(&*data).with_context(|| tree::shown(path))?;
        let mut named: Vec<(u64, String)> = Vec::new();
        for s in file.symbols() {
            let name = s.name().unwrap_or_default();
            // Marks of the linker's script are written in capitals.
            if s.section_index().is_some() && !name.is_empty() && name.chars().any(char::is_lowercase) {
                named.push((s.address(), name.into()));
            }
        }
        named.sort();
        let (stages, functions): (Vec<_>, Vec<_>) = named.into_iter().partition(|(_, n)| n.starts_with(STAGE));
        let code = file.sections().filter(|s| s.kind() == object::SectionKind::Text);
        let sections = code.map(|s| Ok((s.address(), s.data()?.to_vec()))).collect::<Result<_>>()?;
        Ok(Image {
            functions: Names(functions.into_iter().map(|(a, n)| (a, demangled(&n))).collect()),
            stages: Names(stages.into_iter().map(|(a, n)| (a, stage_name(&n))).collect()),
            sections,
            lines: Loader::new(path).map_err(|e| anyhow!("{}: {e}", tree::shown(path)))?,
        })
    }

    fn address(&self, name: &str) -> Option<u64> {
        self.functions.0.iter().find(|(_, n)| n == name).map(|(a, _)| *a)
    }

    fn code(&self, at: u64) -> Vec<u8> {
        let inside = |(start, data): &(u64, Vec<u8>)| {
            let from = usize::try_from(at.checked_sub(*start)?).ok()?;
            Some(data.get(from..)?.iter().take(LONGEST).copied().collect())
        };
        self.sections.iter().find_map(inside).unwrap_or_default()
    }

    /// Names of all functions that any byte of code belongs to, as [`Image::frames`] has them.
    fn all_functions(&self) -> BTreeSet<String> {
        let bytes = self.sections.iter().flat_map(|(start, data)| (0..data.len() as u64).map(move |i| start + i));
        bytes.flat_map(|at| self.frames(at)).map(|f| f.name).collect()
    }

    /// Outermost first. The name of the outermost is that of the symbol, which has its path.
    fn frames(&self, at: u64) -> Vec<Frame> {
        let outermost = self.functions.at(at).unwrap_or("?").to_owned();
        let mut all = Vec::new();
        if let Ok(mut frames) = self.lines.find_frames(at) {
            while let Ok(Some(f)) = frames.next() {
                let name = f.function.and_then(|n| n.demangle().ok().map(|n| n.into_owned())).unwrap_or_default();
                let place = f.location.and_then(|l| Some(format!("{}:{}", place(l.file?), l.line?)));
                all.push(Frame { name, place: place.unwrap_or_default() });
            }
        }
        if all.is_empty() {
            all.push(Frame::default());
        }
        all.reverse();
        all[0].name = outermost;
        all
    }
}

/// Without the hash.
fn demangled(name: &str) -> String {
    addr2line::demangle_auto(name.into(), None).into_owned()
}

/// `stage.who_serves_whom.3` names "who serves whom".
fn stage_name(symbol: &str) -> String {
    let name = symbol.strip_prefix(STAGE).unwrap_or(symbol);
    name.rsplit_once('.').map_or(name, |(n, _)| n).replace('_', " ")
}

/// From the root of this tree, or of the library that it belongs to.
fn place(file: &str) -> String {
    let root = format!("{}/", tree::root().display());
    let short = file.strip_prefix(&root).or_else(|| file.split_once("/library/").map(|(_, f)| f)).unwrap_or(file);
    short.split_once("/registry/src/").map_or(short, |(_, f)| f.split_once('/').map_or(f, |(_, f)| f)).to_owned()
}

/// Those of the kernel and of the component.
pub struct Symbols {
    kernel: Image,
    user: Image,
}

impl Symbols {
    pub fn load(kernel: &Path, user: &Path) -> Result<Symbols> {
        Ok(Symbols { kernel: Image::load(kernel)?, user: Image::load(user)? })
    }

    /// A function of the component.
    pub fn user(&self, name: &str) -> Result<u64> {
        self.user.address(name).with_context(|| format!("the component has no {name}"))
    }

    /// The component's symbols that begin so.
    pub fn users(&self, prefix: &str) -> Vec<u64> {
        self.user.functions.0.iter().filter(|(_, n)| n.starts_with(prefix)).map(|(a, _)| *a).collect()
    }

    /// Functions of the kernel, those that are inlined everywhere too.
    pub fn kernel_functions(&self) -> BTreeSet<String> {
        self.kernel.all_functions()
    }

    /// The bytes at an address, as many as the longest instruction has.
    pub fn code(&self, mode: Mode, at: u64) -> Vec<u8> {
        match mode {
            Mode::Kernel => self.kernel.code(at),
            Mode::User => self.user.code(at),
            Mode::Guest => Vec::new(),
        }
    }

    /// Functions at a step, outermost first.
    pub fn frames(&self, step: &Step) -> Vec<Frame> {
        match step.mode {
            Mode::Kernel => self.kernel.frames(step.at),
            Mode::User => self.user.frames(step.at),
            Mode::Guest => vec![],
        }
    }

    /// The stage of `entry.S` that a step of the kernel is in, if that is where it is.
    pub fn stage(&self, step: &Step) -> Option<&str> {
        let at = (step.mode == Mode::Kernel).then_some(step.at)?;
        // A stage ends with the function that it is in.
        let behind = self.kernel.stages.0.partition_point(|(a, _)| *a <= at);
        let (begin, name) = self.kernel.stages.0.get(behind.checked_sub(1)?)?;
        (self.kernel.functions.at(*begin) == self.kernel.functions.at(at)).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_what_is_behind_them() {
        let names = Names(vec![(10, "a".into()), (20, "b".into())]);
        assert_eq!([names.at(9), names.at(10), names.at(19), names.at(20)], [None, Some("a"), Some("a"), Some("b")]);
    }

    #[test]
    fn names_are_for_people() {
        assert_eq!(demangled("_ZN10hypervisor8schedule2go17h84196f4001f9a70eE"), "hypervisor::schedule::go");
        assert_eq!(demangled("syscall_entry"), "syscall_entry");
        assert_eq!(stage_name("stage.who_serves_whom.12"), "who serves whom");
        assert_eq!(stage_name("stage.exit"), "exit");
    }

    #[test]
    fn places_begin_at_the_root_of_a_tree() {
        let own = tree::root().join("hypervisor/ptab/src/lib.rs");
        assert_eq!(place(&own.display().to_string()), "hypervisor/ptab/src/lib.rs");
        assert_eq!(place("/rustc/1234/library/core/src/cell.rs"), "core/src/cell.rs");
        assert_eq!(place("/h/.cargo/registry/src/x-1/spin-0.12.0/src/mutex.rs"), "spin-0.12.0/src/mutex.rs");
    }
}
