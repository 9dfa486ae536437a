//! Checks on the binaries: what the compiler was told to leave out of the kernel is not in it, and components stand
//! on our runtime alone.
//!
//! [`Disassembly`] reads the output of `objdump -d`; the ELF checks read the files.

use crate::{exec, tree};
use anyhow::{Context, Result, bail, ensure};
use object::elf::{self, FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, SymbolIndex};
use regex::Regex;
use std::path::Path;
use std::sync::LazyLock;

const PAGE: u64 = 4096;
/// End of the addresses for a root task's segments: two pages below the information page (docs/spec/boot.md).
const ROOT_END: u64 = (1 << 47) - 3 * PAGE;
/// Undefined weak symbols that the standard library looks for and does without.
const WEAK: [&str; 2] = ["statx", "__cxa_thread_atexit_impl"];

type Header = FileHeader64<Endianness>;
type Segment = ProgramHeader64<Endianness>;

/// An ELF file.
struct Elf<'a> {
    data: &'a [u8],
    header: &'a Header,
    endian: Endianness,
}

impl<'a> Elf<'a> {
    fn parse(data: &'a [u8]) -> Result<Elf<'a>> {
        let header = Header::parse(data).context("not an ELF64 file")?;
        Ok(Elf { data, header, endian: header.endian()? })
    }

    fn segments(&self) -> Result<&'a [Segment]> {
        Ok(self.header.program_headers(self.endian, self.data)?)
    }

    fn loads(&self) -> Result<Vec<Load>> {
        let e = self.endian;
        let load = |s: &Segment| Load {
            offset: s.p_offset(e),
            vaddr: s.p_vaddr(e),
            filesz: s.p_filesz(e),
            memsz: s.p_memsz(e),
            flags: s.p_flags(e),
        };
        Ok(self.segments()?.iter().filter(|s| s.p_type(e) == elf::PT_LOAD).map(load).collect())
    }

    fn sections(&self) -> Result<object::read::elf::SectionTable<'a, Header>> {
        Ok(self.header.sections(self.endian, self.data)?)
    }
}

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug)]
struct Load {
    offset: u64,
    vaddr: u64,
    filesz: u64,
    memsz: u64,
    flags: u32,
}

/// The root task's image must lie in the file as it lies in memory (NOVA interface specification, section 6.2: the
/// kernel maps it in place).
pub fn check_root_task(path: &Path) -> Result<()> {
    let data = tree::read_bytes(path)?;
    root_task(&data).with_context(|| format!("{} cannot be the root task", tree::shown(path)))
}

fn root_task(data: &[u8]) -> Result<()> {
    let elf = Elf::parse(data)?;
    ensure!(elf.header.e_type(elf.endian) == elf::ET_EXEC, "it is not linked to a fixed address (ET_EXEC)");
    for l in elf.loads()? {
        ensure!(
            l.filesz == l.memsz,
            "the segment at {:#x} has {:#x} bytes in the file and {:#x} in memory",
            l.vaddr,
            l.filesz,
            l.memsz
        );
        ensure!(
            l.offset % PAGE == l.vaddr % PAGE,
            "the segment at {:#x} has file offset {:#x}, which differs within the page",
            l.vaddr,
            l.offset
        );
    }
    Ok(())
}

/// What anybody has built as root task of a NOVA kernel: whether the kernel can start it, before a machine says that it
/// cannot.
pub fn check_foreign_root(path: &Path) -> Result<()> {
    let name = path.display();
    ensure!(path.is_file(), "there is no file {name}");
    let data = std::fs::read(path).with_context(|| format!("reading {name}"))?;
    foreign_root(&data)
        .with_context(|| format!("{name} cannot be the root task (docs/guide/bring-your-own-root-task.md)"))
}

fn foreign_root(data: &[u8]) -> Result<()> {
    ensure!(data.starts_with(&elf::ELFMAG), "it is not an ELF file");
    ensure!(data.get(4) == Some(&elf::ELFCLASS64), "it is not a 64-bit ELF file");
    let elf = Elf::parse(data)?;
    let e = elf.endian;
    ensure!(elf.header.e_machine(e) == elf::EM_X86_64, "it is not for x86-64");
    let dynamic = elf.segments()?.iter().any(|s| matches!(s.p_type(e), elf::PT_DYNAMIC | elf::PT_INTERP));
    ensure!(
        !dynamic && elf.header.e_type(e) != elf::ET_DYN,
        "it is dynamically linked or position-independent: link it statically, to a fixed address"
    );
    root_task(data)?;
    let loads = elf.loads()?;
    ensure!(!loads.is_empty(), "it has no segment to load");
    for l in &loads {
        let (in_file, in_memory) = (l.offset.checked_add(l.filesz), l.vaddr.checked_add(l.memsz));
        ensure!(
            in_file.is_some_and(|end| end <= data.len() as u64),
            "the segment at {:#x} ends beyond the file",
            l.vaddr
        );
        ensure!(
            in_memory.is_some_and(|end| end <= ROOT_END),
            "the segment at {:#x} ends beyond {ROOT_END:#x}",
            l.vaddr
        );
    }
    let entry = elf.header.e_entry(e);
    let within = |l: &Load| l.flags & elf::PF_X != 0 && (l.vaddr..l.vaddr + l.memsz).contains(&entry);
    ensure!(loads.iter().any(within), "its entry point {entry:#x} is in no executable segment");
    Ok(())
}

/// A component's linked binary: no other code than ours, nothing left to do for a loader, no memory that is both
/// writable and executable.
pub fn component(data: &[u8]) -> Result<()> {
    let elf = Elf::parse(data)?;
    let e = elf.endian;
    ensure!(elf.header.e_type(e) == elf::ET_EXEC, "it is not linked to a fixed address (ET_EXEC)");
    for s in elf.segments()? {
        match s.p_type(e) {
            elf::PT_DYNAMIC => bail!("it has a dynamic section"),
            elf::PT_INTERP => bail!("it has an interpreter"),
            _ => {}
        }
    }
    for l in elf.loads()? {
        let (w, x) = (l.flags & elf::PF_W != 0, l.flags & elf::PF_X != 0);
        ensure!(!(w && x), "the segment at {:#x} is writable and executable", l.vaddr);
    }
    no_relocations(&elf)?;
    let strange: Vec<String> = undefined(&elf)?.into_iter().filter(|n| !WEAK.contains(&n.as_str())).collect();
    ensure!(strange.is_empty(), "it has undefined symbols: {}", strange.join(", "));
    Ok(())
}

fn no_relocations(elf: &Elf<'_>) -> Result<()> {
    for s in elf.sections()?.iter() {
        let kind = s.sh_type(elf.endian);
        let size = s.sh_size(elf.endian);
        ensure!(!matches!(kind, elf::SHT_REL | elf::SHT_RELA | elf::SHT_RELR) || size == 0, "it has relocations");
    }
    Ok(())
}

fn undefined(elf: &Elf<'_>) -> Result<Vec<String>> {
    let symbols = elf.sections()?.symbols(elf.endian, elf.data, elf::SHT_SYMTAB)?;
    ensure!(!symbols.is_empty(), "it has no symbol table, so nothing can be said");
    let mut names = Vec::new();
    for (index, s) in symbols.enumerate() {
        if index != SymbolIndex(0) && s.is_undefined(elf.endian) {
            names.push(String::from_utf8_lossy(symbols.symbol_name(elf.endian, s)?).into_owned());
        }
    }
    Ok(names)
}

/// Bytes of code and constants: the segments that are loaded and not writable.
pub fn text_and_rodata(data: &[u8]) -> Result<u64> {
    // By segments: a section's flags say what the linker has merged, not what is mapped.
    Ok(Elf::parse(data)?.loads()?.iter().filter(|l| l.flags & elf::PF_W == 0).map(|l| l.filesz).sum())
}

/// Bytes that the segments take in memory, in whole pages.
pub fn memory(data: &[u8]) -> Result<u64> {
    Ok(Elf::parse(data)?.loads()?.iter().map(|l| (l.vaddr % PAGE + l.memsz).next_multiple_of(PAGE)).sum())
}

/// The output of `objdump -d`.
pub struct Disassembly(String);

/// An operand in a floating-point or vector register.
static VECTOR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"%(xmm|ymm|zmm|mm\d|st\b)").expect("constant pattern"));
/// An x87 or SSE instruction that may have no such operand: those that begin with f, but for `fs`-prefixes, which
/// objdump prints as a word of their own; the control and state words of both.
static X87: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(f(ld|st|ist|ild|add|sub|mul|div|com|ucom|chs|abs|sqrt|init|ninit|nstcw|nstsw|wait|nop|xch|free)\w*|emms)$",
    )
    .expect("constant pattern")
});
/// Memory below the stack pointer: a base of %rsp alone, and a negative displacement.
static RED_ZONE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"-0x[0-9a-f]+\(%rsp\)").expect("constant pattern"));

/// `fxsave`, `xsave` and their like are how a kernel keeps this state for others; `fninit`, `ldmxcsr`: how it makes
/// a fresh one.
const STATE_KEEPING: [&str; 4] = ["fninit", "fnclex", "fwait", "fnsave"];

impl Disassembly {
    /// Disassembles the file.
    pub fn of(path: &Path) -> Result<Disassembly> {
        exec::query(exec::command("objdump").args(["-d", "--no-show-raw-insn"]).arg(path)).map(Disassembly)
    }

    /// Lines of instructions, each with its function: "function: instruction".
    fn instructions(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut function = "?";
        self.0.lines().filter_map(move |line| {
            if let Some(name) = line.strip_suffix(">:").and_then(|l| l.split_once(" <")) {
                function = name.1;
                return None;
            }
            let (_, instruction) = line.split_once(":\t")?;
            Some((function, instruction.trim()))
        })
    }

    fn offenders(&self, bad: impl Fn(&str) -> bool) -> Vec<String> {
        self.instructions().filter(|(_, i)| bad(i)).map(|(f, i)| format!("{f}: {i}")).collect()
    }

    /// Instructions with x87, MMX or SSE operands.
    pub fn float_instructions(&self) -> Vec<String> {
        self.offenders(|i| {
            let mnemonic = i.split_whitespace().next().unwrap_or_default();
            VECTOR.is_match(i) || (X87.is_match(mnemonic) && !STATE_KEEPING.contains(&mnemonic))
        })
    }

    /// Accesses below the stack pointer.
    pub fn red_zone_uses(&self) -> Vec<String> {
        self.offenders(|i| RED_ZONE.is_match(i) && !i.starts_with("lea"))
    }

    /// Functions that enter the kernel by themselves.
    pub fn system_calls(&self) -> impl Iterator<Item = &str> {
        self.instructions().filter(|(_, i)| i.split_whitespace().next() == Some("syscall")).map(|(f, _)| f)
    }

    /// Number of instructions: to know that there was something to check.
    pub fn len(&self) -> usize {
        self.instructions().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disassembly(instructions: &[&str]) -> Disassembly {
        let lines: String = instructions.iter().map(|i| format!("  401000:\t{i}\n")).collect();
        Disassembly(format!("\nk:     file format elf64-x86-64\n\n0000000000401000 <core::fmt>:\n{lines}"))
    }

    #[test]
    fn vector_and_x87_instructions_are_found() {
        for bad in ["movups %xmm0,(%rsp)", "vzeroall %ymm1", "movq %mm3,%rax", "fldl (%rax)", "fstp %st(0)", "emms"] {
            let d = disassembly(&["mov %rax,%rbx", bad]);
            assert_eq!(d.float_instructions(), [format!("core::fmt: {bad}")]);
        }
        let good = ["mov %fs:0x0,%rax", "fxsave64 (%rdi)", "xsave (%rdi)", "xrstor64 (%rdi)", "fninit", "swapgs"];
        assert!(disassembly(&good).float_instructions().is_empty());
        assert_eq!(disassembly(&good).len(), 6);
    }

    #[test]
    fn the_red_zone_is_below_the_stack_pointer() {
        assert_eq!(disassembly(&["mov %rax,-0x8(%rsp)"]).red_zone_uses().len(), 1);
        let good = ["mov %rax,0x8(%rsp)", "lea -0x80(%rsp),%rsp", "mov -0x1(%rsp,%rcx,1),%al", "mov -0x8(%rbp),%rax"];
        assert!(disassembly(&good).red_zone_uses().is_empty());
    }

    #[test]
    fn a_call_of_a_function_of_that_name_is_no_system_call() {
        assert_eq!(disassembly(&["syscall"]).system_calls().collect::<Vec<_>>(), ["core::fmt"]);
        assert_eq!(disassembly(&["call 401000 <syscall>", "sysret"]).system_calls().count(), 0);
    }

    /// A minimal ELF file with one program header.
    fn elf(file_type: u16, kind: u32, flags: u32, offset: u64, filesz: u64, memsz: u64) -> Vec<u8> {
        let mut d = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        d.extend(file_type.to_le_bytes());
        d.extend(62u16.to_le_bytes());
        d.extend(1u32.to_le_bytes());
        for v in [0x40_1000u64, 64, 0] {
            d.extend(v.to_le_bytes());
        }
        d.extend(0u32.to_le_bytes());
        for v in [64u16, 56, 1, 64, 0, 0] {
            d.extend(v.to_le_bytes());
        }
        d.extend(kind.to_le_bytes());
        d.extend(flags.to_le_bytes());
        for v in [offset, 0x40_1000, 0x40_1000, filesz, memsz, PAGE] {
            d.extend(v.to_le_bytes());
        }
        d
    }

    const RX: u32 = elf::PF_R | elf::PF_X;

    #[test]
    fn the_root_task_lies_in_the_file_as_in_memory() {
        let check = |data: Vec<u8>| root_task(&data).unwrap_err().to_string();
        root_task(&elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0x2000, 5, 5)).unwrap();
        assert!(check(elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0x2000, 5, 6)).contains("0x5 bytes in the file and 0x6"));
        assert!(check(elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0x2010, 5, 5)).contains("offset 0x2010"));
        assert!(check(elf(elf::ET_DYN, elf::PT_LOAD, RX, 0x2000, 5, 5)).contains("fixed address"));
        assert!(check(b"hello".to_vec()).contains("not an ELF64 file"));
    }

    #[test]
    fn foreign_root_tasks_are_refused_with_the_reason() {
        let good = elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0, 0x78, 0x78);
        foreign_root(&good).unwrap();
        let error = |data: &[u8]| foreign_root(data).unwrap_err().to_string();
        let with = |at: usize, bytes: &[u8]| {
            let mut data = good.clone();
            data[at..at + bytes.len()].copy_from_slice(bytes);
            error(&data)
        };
        assert_eq!(error(b"#!/bin/sh\n"), "it is not an ELF file");
        assert_eq!(with(4, &[elf::ELFCLASS32]), "it is not a 64-bit ELF file");
        assert_eq!(error(&good[..4]), "it is not a 64-bit ELF file");
        assert_eq!(with(18, &183u16.to_le_bytes()), "it is not for x86-64");
        assert!(with(16, &elf::ET_DYN.to_le_bytes()).contains("dynamically linked"));
        assert!(error(&elf(elf::ET_EXEC, elf::PT_INTERP, RX, 0, 1, 1)).contains("dynamically linked"));
        assert!(with(16, &elf::ET_REL.to_le_bytes()).contains("fixed address"));
        assert!(error(&elf(elf::ET_EXEC, elf::PT_NOTE, RX, 0, 1, 1)).contains("no segment"));
        assert!(error(&elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0, 0x78, 0x79)).contains("in memory"));
        assert!(error(&elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0, 0x79, 0x79)).contains("beyond the file"));
        assert!(error(&elf(elf::ET_EXEC, elf::PT_LOAD, elf::PF_R, 0, 0x78, 0x78)).contains("entry point"));
        assert!(with(80, &(1u64 << 47).to_le_bytes()).contains("ends beyond"));
    }

    #[test]
    fn foreign_root_tasks_are_named_when_refused() {
        let error = |path: &Path| format!("{:#}", check_foreign_root(path).unwrap_err());
        assert!(error(Path::new("/no/such/root.elf")).contains("no file /no/such/root.elf"));
        assert!(error(Path::new("/")).contains("no file /"));
        let own = std::env::current_exe().unwrap();
        let said = error(&own);
        assert!(said.contains(&own.display().to_string()) && said.contains("dynamically linked"), "{said}");
    }

    #[test]
    fn memory_is_counted_in_pages() {
        assert_eq!(memory(&elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0x2000, 5, PAGE + 1)).unwrap(), 2 * PAGE);
    }

    #[test]
    fn components_need_no_loader() {
        let check = |data: Vec<u8>| component(&data).unwrap_err().to_string();
        assert!(check(elf(elf::ET_EXEC, elf::PT_DYNAMIC, RX, 0, 0, 0)).contains("dynamic"));
        assert!(check(elf(elf::ET_EXEC, elf::PT_INTERP, RX, 0, 0, 0)).contains("interpreter"));
        assert!(check(elf(elf::ET_EXEC, elf::PT_LOAD, RX | elf::PF_W, 0, 0, 0)).contains("writable and executable"));
        assert!(check(elf(elf::ET_DYN, elf::PT_LOAD, RX, 0, 0, 0)).contains("fixed address"));
        assert!(check(elf(elf::ET_EXEC, elf::PT_LOAD, RX, 0, 0, 0)).contains("no symbol table"));
    }

    #[test]
    fn real_programs_have_what_is_forbidden() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(component(&own).is_err(), "a host program has an interpreter or undefined symbols");
        assert!(text_and_rodata(&own).unwrap() > 100_000);
    }
}
