//! A CPU in real mode that knows as many instructions as the tests' guests need: what hardware does between an entry and
//! an exit, but for whose virtualisation it is ([`Rules`]).

use vcpu_tests::{Access, RAM};

/// Why the guest does not go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// An instruction that exits, of so many bytes.
    Instruction(Instruction, u8),
    /// A port.
    Io { port: u16, size: u8, input: bool, len: u8 },
    /// A write of RAX to a control register.
    CrWrite { register: u8, len: u8 },
    /// An exception that the VMM wants.
    Exception(u8),
    /// An access to guest-physical memory that is not allowed: 1 read, 2 write, 4 fetch.
    Violation { gpa: u64, access: u64, readable: bool },
    /// The interrupt window (VT-x), or a virtual interrupt that is due (SVM).
    Window,
    /// The NMI window (VT-x).
    NmiWindow,
    /// IRET (SVM).
    Iret,
    /// A fault that cannot be delivered.
    Shutdown,
}

/// Instructions that exit with nothing but their name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    Cpuid,
    Hlt,
    Invd,
    Wbinvd,
    Rdpmc,
    Rdmsr,
    Wrmsr,
    Rdtsc,
    Pause,
    Hypercall,
}

/// An event on its way through the vector table: information word, error code, return address, length of its instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub info: u32,
    pub error: u32,
    pub back: u64,
    pub len: u8,
}

/// Interrupt shadow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Shadow {
    #[default]
    None,
    Sti,
    MovSs,
}

/// What depends on the vendor and on what the VMM has asked for.
pub trait Rules {
    fn exits(&self, i: Instruction) -> bool;
    fn exception(&self, vector: u8) -> bool;
    fn cr_write(&self, register: u8, old: u64, new: u64) -> bool;
    fn iret(&self) -> bool;
    /// At the boundary between two instructions.
    fn window(&self, cpu: &Cpu) -> Option<Cause>;
    /// The instruction that calls the hypervisor: last byte.
    fn hypercall(&self) -> u8;
}

/// Guest memory with rights.
pub struct Memory {
    pub bytes: Vec<u8>,
    pub pages: Vec<Access>,
}

impl Memory {
    pub fn new() -> Memory {
        Memory { bytes: vec![0; RAM as usize], pages: vec![Access::All; RAM as usize / 4096] }
    }

    fn check(&self, gpa: u64, access: u64) -> Result<(), Cause> {
        let page = self.pages.get((gpa >> 12) as usize).copied().unwrap_or(Access::Nothing);
        let allowed = match page {
            Access::Nothing => 0,
            Access::Read => 1,
            Access::ReadWrite => 3,
            Access::All => 7,
        };
        let readable = allowed & 1 != 0;
        if allowed & access == access { Ok(()) } else { Err(Cause::Violation { gpa, access, readable }) }
    }

    fn load(&self, gpa: u64, access: u64) -> Result<u8, Cause> {
        self.check(gpa, access).map(|()| self.bytes[gpa as usize])
    }

    fn load16(&self, gpa: u64) -> Result<u16, Cause> {
        Ok(u16::from_le_bytes([self.load(gpa, 1)?, self.load(gpa + 1, 1)?]))
    }

    fn store16(&mut self, gpa: u64, v: u16) -> Result<(), Cause> {
        self.check(gpa, 2)?;
        self.check(gpa + 1, 2)?;
        self.bytes[gpa as usize..][..2].copy_from_slice(&v.to_le_bytes());
        Ok(())
    }
}

const IF: u64 = 1 << 9;
const TF: u64 = 1 << 8;
const CF: u64 = 1;
const RSP: usize = 4;

#[derive(Clone, Default)]
pub struct Cpu {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub cs: (u16, u64),
    pub ss: (u16, u64),
    /// CR0 and CR4 as the guest reads them.
    pub cr0: u64,
    pub cr4: u64,
    pub idt: (u64, u32),
    pub shadow: Shadow,
    pub nmi_blocked: bool,
    /// The event whose delivery the exit has interrupted.
    pub delivering: Option<Delivery>,
}

impl Cpu {
    pub fn interrupts_on(&self) -> bool {
        self.rflags & IF != 0 && self.shadow == Shadow::None
    }

    /// From an entry to an exit.
    pub fn run(&mut self, mem: &mut Memory, rules: &impl Rules, inject: Option<Delivery>) -> Cause {
        self.delivering = None;
        if let Some(Err(cause)) = inject.map(|d| self.deliver(mem, rules, d)) {
            return cause;
        }
        for _ in 0..100_000 {
            if let Some(cause) = rules.window(self) {
                return cause;
            }
            let before = self.clone();
            let shadow = std::mem::take(&mut self.shadow);
            if let Err(cause) = self.step(mem, rules) {
                let delivering = self.delivering;
                *self = Cpu { delivering, shadow, ..before };
                return cause;
            }
        }
        panic!("the guest runs in circles at {:#x}", self.rip);
    }

    /// Through the vector table. Nothing has changed if that fails.
    fn deliver(&mut self, mem: &mut Memory, rules: &impl Rules, d: Delivery) -> Result<(), Cause> {
        self.delivering = Some(d);
        let vector = u64::from(d.info & 0xff);
        if vector * 4 + 3 > u64::from(self.idt.1) {
            return Err(if rules.exception(13) { Cause::Exception(13) } else { Cause::Shutdown });
        }
        let entry = self.idt.0 + vector * 4;
        let (ip, cs) = (mem.load16(entry)?, mem.load16(entry + 2)?);
        let sp = |n: u64| self.ss.1 + (self.gpr[RSP].wrapping_sub(n) & 0xffff);
        [2, 4, 6].iter().try_for_each(|n| mem.check(sp(*n), 2))?;
        for (n, v) in [(2, self.rflags as u16), (4, self.cs.0), (6, d.back as u16)] {
            mem.store16(sp(n), v)?;
        }
        self.gpr[RSP] = self.gpr[RSP].wrapping_sub(6) & 0xffff;
        (self.rip, self.cs) = (ip.into(), (cs, u64::from(cs) << 4));
        self.rflags &= !(IF | TF);
        self.shadow = Shadow::None;
        self.nmi_blocked |= d.info & 0x7ff == 0x202;
        self.delivering = None;
        Ok(())
    }

    fn fault(&mut self, mem: &mut Memory, rules: &impl Rules, vector: u8) -> Result<(), Cause> {
        if rules.exception(vector) {
            return Err(Cause::Exception(vector));
        }
        let info = 1 << 31 | 3 << 8 | u32::from(vector);
        self.deliver(mem, rules, Delivery { info, error: 0, back: self.rip, len: 0 })
    }

    fn pop(&mut self, mem: &Memory) -> Result<u16, Cause> {
        let v = mem.load16(self.ss.1 + self.gpr[RSP])?;
        self.gpr[RSP] = (self.gpr[RSP] + 2) & 0xffff;
        Ok(v)
    }

    fn push(&mut self, mem: &mut Memory, v: u16) -> Result<(), Cause> {
        self.gpr[RSP] = self.gpr[RSP].wrapping_sub(2) & 0xffff;
        mem.store16(self.ss.1 + self.gpr[RSP], v)
    }

    fn set(&mut self, register: usize, wide: bool, v: u32) {
        self.gpr[register] = if wide { v.into() } else { self.gpr[register] & !0xffff | u64::from(v & 0xffff) };
    }

    /// One instruction.
    fn step(&mut self, mem: &mut Memory, rules: &impl Rules) -> Result<(), Cause> {
        let at = self.cs.1 + self.rip;
        let (mut wide, mut rep, mut n) = (false, false, 0);
        loop {
            match mem.load(at + n, 4)? {
                0x66 => wide = true,
                0xf3 => rep = true,
                _ => break,
            }
            n += 1;
        }
        let byte = |i: u64| mem.load(at + n + i, 4);
        let imm = |i: u64, len: u64| (0..len).try_fold(0u32, |v, k| Ok(v | u32::from(byte(i + k)?) << (8 * k)));
        let exit = |i: Instruction, len: u64| match rules.exits(i) {
            true => Err(Cause::Instruction(i, (n + len) as u8)),
            false => Ok(()),
        };
        let (size, io) = (if wide { 4 } else { 2 }, if wide { 4 } else { 2 });
        let rdx = self.gpr[2] as u16;
        let len = match byte(0)? {
            0x0d => {
                self.gpr[0] |= u64::from(imm(1, size)?);
                1 + size
            }
            0x31 if byte(1)? & 0xc0 == 0xc0 && byte(1)? & 7 == byte(1)? >> 3 & 7 => {
                self.set((byte(1)? & 7).into(), wide, 0);
                2
            }
            0x58 => {
                let v = self.pop(mem)?;
                self.set(0, false, v.into());
                1
            }
            0x8e if byte(1)? == 0xd0 => {
                self.ss = (self.gpr[0] as u16, (self.gpr[0] & 0xffff) << 4);
                self.shadow = Shadow::MovSs;
                2
            }
            0x90 if rep => exit(Instruction::Pause, 1).map(|()| 1)?,
            0x90 | 0xfc => 1,
            0x9c => {
                self.push(mem, self.rflags as u16)?;
                1
            }
            op @ 0xb8..=0xbf => {
                self.set((op & 7).into(), wide, imm(1, size)?);
                1 + size
            }
            0xcc => return self.soft(mem, rules, 3, 6 << 8, n + 1),
            0xcd => return self.soft(mem, rules, byte(1)?, 4 << 8, n + 2),
            0xcf => return self.iret(mem, rules),
            0xe4 => return Err(Cause::Io { port: byte(1)?.into(), size: 1, input: true, len: (n + 2) as u8 }),
            0xe6 => return Err(Cause::Io { port: byte(1)?.into(), size: 1, input: false, len: (n + 2) as u8 }),
            0xed => return Err(Cause::Io { port: rdx, size: io, input: true, len: (n + 1) as u8 }),
            0xef => return Err(Cause::Io { port: rdx, size: io, input: false, len: (n + 1) as u8 }),
            0xf4 => return exit(Instruction::Hlt, 1),
            0xf9 => {
                self.rflags |= CF;
                1
            }
            0xfa => {
                self.rflags &= !IF;
                1
            }
            0xfb => {
                if self.rflags & IF == 0 {
                    self.shadow = Shadow::Sti;
                }
                self.rflags |= IF;
                1
            }
            0x0f => match byte(1)? {
                0x01 if byte(2)? == rules.hypercall() => return exit(Instruction::Hypercall, 3),
                0x08 => return exit(Instruction::Invd, 2),
                0x09 => return exit(Instruction::Wbinvd, 2),
                0x30 => return exit(Instruction::Wrmsr, 2),
                0x31 => exit(Instruction::Rdtsc, 2).map(|()| 2)?,
                0x32 => return exit(Instruction::Rdmsr, 2),
                0x33 => return exit(Instruction::Rdpmc, 2),
                0xa2 => return exit(Instruction::Cpuid, 2),
                0x20 => {
                    self.gpr[0] = if byte(2)? >> 3 & 7 == 0 { self.cr0 } else { self.cr4 };
                    3
                }
                0x22 => {
                    self.move_to_cr(rules, byte(2)? >> 3 & 7)?;
                    3
                }
                _ => return self.fault(mem, rules, 6),
            },
            op => panic!("the software CPU does not know {op:#x} at {at:#x}"),
        };
        self.rip += n + len;
        Ok(())
    }

    fn move_to_cr(&mut self, rules: &impl Rules, register: u8) -> Result<(), Cause> {
        let new = self.gpr[0];
        let cr = if register == 0 { &mut self.cr0 } else { &mut self.cr4 };
        if rules.cr_write(register, *cr, new) {
            return Err(Cause::CrWrite { register, len: 3 });
        }
        *cr = new;
        Ok(())
    }

    fn soft(&mut self, mem: &mut Memory, rules: &impl Rules, vector: u8, kind: u32, len: u64) -> Result<(), Cause> {
        let d = Delivery { info: 1 << 31 | kind | u32::from(vector), error: 0, back: self.rip + len, len: len as u8 };
        self.deliver(mem, rules, d)
    }

    fn iret(&mut self, mem: &Memory, rules: &impl Rules) -> Result<(), Cause> {
        if rules.iret() {
            return Err(Cause::Iret);
        }
        let (ip, cs, flags) = (self.pop(mem)?, self.pop(mem)?, self.pop(mem)?);
        (self.rip, self.cs) = (ip.into(), (cs, u64::from(cs) << 4));
        self.rflags = self.rflags & !0xffff | u64::from(flags) | 2;
        self.nmi_blocked = false;
        Ok(())
    }
}
