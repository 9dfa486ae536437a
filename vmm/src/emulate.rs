//! Emulates single instructions that touched device memory or CR8, or moved strings between ports and memory.
//!
//! The instruction is fetched through the guest's page tables, decoded by `iced-x86` and executed on the registers in
//! an [`ArchState`]: MOV, MOVZX, MOVSX, AND, OR, XOR, ADD, SUB, TEST, CMP, XCHG, STOS, MOVS, LODS, INS, OUTS. Memory
//! operands go to guest RAM or, outside of it, to the [`Board`]. Key types: [`Emulator`], [`Failure`].

use abi::{ArchState, Segment};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::board::Board;
use crate::dev::Effect;
use crate::inject::Exception;
use crate::paging::{Access, PageFault, Paging};
use crate::spec::bits::*;

/// Longest instruction in bytes (SDM volume 2, 2.3.11).
pub const MAX_LEN: usize = 15;
/// Iterations of a repeated string instruction in one go; the rest runs after the next exit, so that interrupts get in.
const MAX_REPEAT: u64 = 256;
const PAGE: u64 = 0x1000;

/// Why an instruction was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest gets this exception.
    Exception(Exception),
    /// The emulator does not know the instruction.
    Unknown,
    /// The instruction is not in RAM.
    Fetch(u64),
    /// The instruction is not what the exit was about: another vCPU has changed it since. The guest may not be allowed
    /// to execute this one, so the CPU has to try it.
    Changed,
}

impl From<PageFault> for Failure {
    fn from(f: PageFault) -> Failure {
        Failure::Exception(Exception { vector: crate::spec::vector::PF, code: Some(f.code), address: Some(f.address) })
    }
}

/// What the exit was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A memory access.
    Memory,
    /// INS or OUTS.
    Port,
    /// MOV from or to CR8.
    Cr8,
}

/// Executes instructions for one vCPU.
pub struct Emulator<'a, B> {
    /// Number of the vCPU.
    pub vcpu: usize,
    /// Its state: general-purpose registers, RIP, RFLAGS, segments, control registers, EFER.
    pub state: &'a mut ArchState,
    /// Guest RAM.
    pub mem: &'a GuestMemoryMmap,
    /// Devices.
    pub board: &'a mut B,
    /// The TSC.
    pub now: u64,
    /// What the exit was about.
    pub cause: Cause,
    /// What the devices want of the monitor.
    pub effect: Effect,
}

/// Instruction bytes at RIP, as many as can be fetched.
pub fn fetch(s: &ArchState, mem: &GuestMemoryMmap) -> Result<Vec<u8>, Failure> {
    let paging = Paging::of(s);
    let start = linear(s, &s.cs, s.rip);
    let mut bytes = vec![0; MAX_LEN];
    let first = (PAGE - start % PAGE).min(MAX_LEN as u64) as usize;
    let at = paging.translate(mem, start, Access::FETCH)?;
    mem.read_slice(&mut bytes[..first], GuestAddress(at)).map_err(|_| Failure::Fetch(at))?;
    if first < MAX_LEN {
        let rest = paging.translate(mem, start.wrapping_add(first as u64), Access::FETCH).ok();
        let rest = rest.and_then(|at| mem.read_slice(&mut bytes[first..], GuestAddress(at)).ok());
        if rest.is_none() {
            bytes.truncate(first);
        }
    }
    Ok(bytes)
}

/// Linear address of an offset in a segment; in 64-bit mode only FS and GS (given here with their base) matter.
fn linear(s: &ArchState, segment: &Segment, offset: u64) -> u64 {
    if bitness(s) == 64 { offset } else { segment.base.wrapping_add(offset) & 0xffff_ffff }
}

/// Code size: 16, 32 or 64 bits.
fn bitness(s: &ArchState) -> u32 {
    match s.cs.ar {
        ar if s.efer & EFER_LMA != 0 && ar & AR_L != 0 => 64,
        ar if ar & AR_DB != 0 => 32,
        _ => 16,
    }
}

impl<B: Board> Emulator<'_, B> {
    /// Executes the instruction at RIP and moves RIP behind it, unless it is a string instruction with repetitions
    /// left.
    pub fn step(&mut self) -> Result<(), Failure> {
        let bytes = fetch(self.state, self.mem)?;
        let bits = bitness(self.state);
        let i = Decoder::with_ip(bits, &bytes, self.state.rip, DecoderOptions::NONE).decode();
        if i.is_invalid() {
            return Err(self.undecodable(bytes.len()));
        }
        if !self.is_for(&i) {
            return Err(Failure::Changed);
        }
        let finished = self.execute(&i)?;
        if finished {
            let mask = if bits == 64 { u64::MAX } else { 0xffff_ffff };
            self.state.rip = i.next_ip() & mask;
        }
        Ok(())
    }

    /// Whether the exit can have been about this instruction, as far as privileges depend on that.
    fn is_for(&self, i: &Instruction) -> bool {
        use Mnemonic::*;
        match i.mnemonic() {
            Insb | Insw | Insd | Outsb | Outsw | Outsd => self.cause == Cause::Port,
            Mov if [i.op0_register(), i.op1_register()].contains(&Register::CR8) => self.cause == Cause::Cr8,
            _ => true,
        }
    }

    /// The bytes are no instruction: because the next page is missing, or for good.
    fn undecodable(&self, have: usize) -> Failure {
        let next = linear(self.state, &self.state.cs, self.state.rip).wrapping_add(have as u64);
        if have == MAX_LEN {
            return Failure::Unknown;
        }
        match Paging::of(self.state).translate(self.mem, next, Access::FETCH) {
            Ok(at) => Failure::Fetch(at),
            Err(fault) => fault.into(),
        }
    }

    /// Returns whether the instruction is finished.
    fn execute(&mut self, i: &Instruction) -> Result<bool, Failure> {
        use Mnemonic::*;
        let size = operand_size(i);
        match i.mnemonic() {
            Mov => {
                let v = self.get(i, 1)?;
                self.set(i, 0, v)?;
            }
            Movzx => {
                let v = self.get(i, 1)?;
                self.set(i, 0, v)?;
            }
            Movsx | Movsxd => {
                let v = sign_extend(self.get(i, 1)?, size_of_operand(i, 1));
                self.set(i, 0, v)?;
            }
            Xchg => {
                let (a, b) = (self.get(i, 0)?, self.get(i, 1)?);
                // The memory operand first: it can fault.
                let (first, second) = if i.op0_kind() == OpKind::Memory { ((0, b), (1, a)) } else { ((1, a), (0, b)) };
                self.set(i, first.0, first.1)?;
                self.set(i, second.0, second.1)?;
            }
            And | Or | Xor | Add | Sub => {
                let (a, b) = (self.get(i, 0)?, self.get(i, 1)?);
                let (v, flags) = arithmetic(i.mnemonic(), a, b, size);
                self.set(i, 0, v)?;
                self.set_flags(flags);
            }
            Test | Cmp => {
                let (a, b) = (self.get(i, 0)?, self.get(i, 1)?);
                let (_, flags) = arithmetic(i.mnemonic(), a, b, size);
                self.set_flags(flags);
            }
            Stosb | Stosw | Stosd | Stosq | Movsb | Movsw | Movsd | Movsq | Lodsb | Lodsw | Lodsd | Lodsq | Insb
            | Insw | Insd | Outsb | Outsw | Outsd
                // MOVSD is also one of SSE2's.
                if i.is_string_instruction() =>
            {
                return self.string(i);
            }
            _ => return Err(Failure::Unknown),
        }
        Ok(true)
    }

    /// A string instruction, with its repetitions.
    fn string(&mut self, i: &Instruction) -> Result<bool, Failure> {
        let size = i.memory_size().size();
        let repeated = i.has_rep_prefix() || i.has_repne_prefix();
        let (address_mask, counter) = string_address_size(i);
        if !repeated {
            self.string_once(i, size, address_mask)?;
            return Ok(true);
        }
        for _ in 0..MAX_REPEAT {
            let count = self.reg(counter);
            if count == 0 {
                return Ok(true);
            }
            self.string_once(i, size, address_mask)?;
            self.set_reg(counter, count - 1);
        }
        Ok(self.reg(counter) == 0)
    }

    fn string_once(&mut self, i: &Instruction, size: usize, mask: u64) -> Result<(), Failure> {
        use Mnemonic::*;
        let (mut source, mut destination) = (false, false);
        match i.mnemonic() {
            Insb | Insw | Insd => {
                // The destination is checked before the device gives up its datum.
                let address = self.address(i, 0)?;
                Paging::of(self.state).translate(self.mem, address, Access::WRITE)?;
                let v = self.board.pio_read(self.state.gpr[ArchState::RDX] as u16, size, self.now);
                self.write(address, size, u64::from(v))?;
                destination = true;
            }
            Outsb | Outsw | Outsd => {
                let v = self.get(i, 1)? as u32;
                let effect = self.board.pio_write(self.state.gpr[ArchState::RDX] as u16, size, v, self.now);
                self.effect = self.effect.or(effect);
                source = true;
            }
            m => {
                let v = self.get(i, 1)?;
                self.set(i, 0, v)?;
                source = !matches!(m, Stosb | Stosw | Stosd | Stosq);
                destination = !matches!(m, Lodsb | Lodsw | Lodsd | Lodsq);
            }
        }
        let delta = if self.state.rflags & RFLAGS_DF != 0 { (size as u64).wrapping_neg() } else { size as u64 };
        for (used, index) in [(source, ArchState::RSI), (destination, ArchState::RDI)] {
            if used {
                let r = &mut self.state.gpr[index];
                let moved = r.wrapping_add(delta) & mask;
                // A 32-bit result clears the upper half, a 16-bit one leaves it.
                *r = if mask == 0xffff { *r & !mask | moved } else { moved };
            }
        }
        Ok(())
    }

    /// Linear address of a memory operand.
    fn address(&self, i: &Instruction, op: u32) -> Result<u64, Failure> {
        let s = &*self.state;
        let long = bitness(s) == 64;
        let value = |r: Register, _, _| match r {
            Register::FS => Some(s.fs.base),
            Register::GS => Some(s.gs.base),
            _ if r.is_segment_register() && long => Some(0),
            _ if r.is_segment_register() => segment(s, r).map(|s| s.base),
            _ => Some(read_reg(s, r)),
        };
        let a = i.virtual_address(op, 0, value).ok_or(Failure::Unknown)?;
        Ok(if long { a } else { a & 0xffff_ffff })
    }

    fn get(&mut self, i: &Instruction, op: u32) -> Result<u64, Failure> {
        let size = size_of_operand(i, op);
        match i.op_kind(op) {
            OpKind::Register => match i.op_register(op) {
                Register::CR8 => Ok(self.board.cr8(self.vcpu).into()),
                r if r.is_segment_register() => segment(self.state, r).map(|s| s.sel.into()).ok_or(Failure::Unknown),
                r => Ok(self.reg(r)),
            },
            k if is_immediate(k) => Ok(i.immediate(op) & mask(operand_size(i))),
            _ => {
                let address = self.address(i, op)?;
                self.read(address, size)
            }
        }
    }

    fn set(&mut self, i: &Instruction, op: u32, v: u64) -> Result<(), Failure> {
        match i.op_kind(op) {
            OpKind::Register if i.op_register(op).is_segment_register() => Err(Failure::Unknown),
            OpKind::Register if i.op_register(op) == Register::CR8 => match v {
                0..=15 => {
                    self.board.set_cr8(self.vcpu, v as u8);
                    Ok(())
                }
                _ => Err(Failure::Exception(Exception::GP)),
            },
            OpKind::Register => {
                self.set_reg(i.op_register(op), v);
                Ok(())
            }
            _ => {
                let address = self.address(i, op)?;
                self.write(address, size_of_operand(i, op), v)
            }
        }
    }

    /// Memory read at a linear address; across a page boundary byte by byte.
    fn read(&mut self, address: u64, size: usize) -> Result<u64, Failure> {
        if address % PAGE + size as u64 > PAGE {
            return (0..size).try_fold(0, |v, n| Ok(v | self.read(address.wrapping_add(n as u64), 1)? << (8 * n)));
        }
        let at = Paging::of(self.state).translate(self.mem, address, Access::READ)?;
        let mut bytes = [0; 8];
        match self.mem.read_slice(&mut bytes[..size], GuestAddress(at)) {
            Ok(()) => Ok(u64::from_le_bytes(bytes)),
            Err(_) => Ok(self.board.mmio_read(self.vcpu, at, size, self.now) & mask(size)),
        }
    }

    /// Memory write at a linear address.
    fn write(&mut self, address: u64, size: usize, v: u64) -> Result<(), Failure> {
        if address % PAGE + size as u64 > PAGE {
            return (0..size).try_for_each(|n| self.write(address.wrapping_add(n as u64), 1, v >> (8 * n)));
        }
        let at = Paging::of(self.state).translate(self.mem, address, Access::WRITE)?;
        if self.mem.write_slice(&v.to_le_bytes()[..size], GuestAddress(at)).is_err() {
            let effect = self.board.mmio_write(self.vcpu, at, size, v & mask(size), self.now);
            self.effect = self.effect.or(effect);
        }
        Ok(())
    }

    fn reg(&self, r: Register) -> u64 {
        read_reg(self.state, r)
    }

    fn set_reg(&mut self, r: Register, v: u64) {
        let Some((index, shift)) = place(r) else { return };
        let slot = &mut self.state.gpr[index];
        *slot = match r.size() {
            8 => v,
            4 => v & 0xffff_ffff,
            n => *slot & !(mask(n) << shift) | (v & mask(n)) << shift,
        };
    }

    fn set_flags(&mut self, flags: u64) {
        let all = RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF;
        self.state.rflags = self.state.rflags & !all | flags;
    }
}

fn read_reg(s: &ArchState, r: Register) -> u64 {
    place(r).map_or(0, |(index, shift)| s.gpr[index] >> shift & mask(r.size()))
}

/// Index of a general-purpose register and how far its value is shifted in it (AH and its like: 8).
fn place(r: Register) -> Option<(usize, u32)> {
    match r {
        Register::AH | Register::CH | Register::DH | Register::BH => Some((r.number() - Register::AH.number(), 8)),
        // SPL follows BH in the numbering of `iced-x86`.
        _ if r.is_gpr8() && r.number() >= 8 => Some((r.number() - 4, 0)),
        _ if r.is_gpr() => Some((r.number(), 0)),
        _ => None,
    }
}

fn segment(s: &ArchState, r: Register) -> Option<&Segment> {
    Some(match r {
        Register::ES => &s.es,
        Register::CS => &s.cs,
        Register::SS => &s.ss,
        Register::DS => &s.ds,
        Register::FS => &s.fs,
        Register::GS => &s.gs,
        _ => return None,
    })
}

/// The low `size` bytes.
fn mask(size: usize) -> u64 {
    if size >= 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}

fn sign_extend(v: u64, size: usize) -> u64 {
    let unused = 64 - 8 * size as u32;
    ((v << unused) as i64 >> unused) as u64
}

fn is_immediate(k: OpKind) -> bool {
    use OpKind::*;
    matches!(
        k,
        Immediate8
            | Immediate16
            | Immediate32
            | Immediate64
            | Immediate8to16
            | Immediate8to32
            | Immediate8to64
            | Immediate32to64
    )
}

/// Size of an operand in bytes; of an immediate, that of the other operand.
fn size_of_operand(i: &Instruction, op: u32) -> usize {
    match i.op_kind(op) {
        OpKind::Register if i.op_register(op).is_segment_register() => 2,
        OpKind::Register => i.op_register(op).size(),
        k if is_immediate(k) => size_of_operand(i, 0),
        _ => i.memory_size().size(),
    }
}

/// Size of the first operand in bytes.
fn operand_size(i: &Instruction) -> usize {
    size_of_operand(i, 0)
}

/// Address mask and count register of a string instruction.
fn string_address_size(i: &Instruction) -> (u64, Register) {
    use OpKind::{MemoryESDI, MemoryESEDI, MemorySegDI, MemorySegEDI, MemorySegESI, MemorySegSI};
    let kinds = [i.op0_kind(), i.op1_kind()];
    let has = |any: &[OpKind]| kinds.iter().any(|k| any.contains(k));
    match () {
        _ if has(&[MemorySegSI, MemorySegDI, MemoryESDI]) => (0xffff, Register::CX),
        _ if has(&[MemorySegESI, MemorySegEDI, MemoryESEDI]) => (0xffff_ffff, Register::ECX),
        _ => (u64::MAX, Register::RCX),
    }
}

/// Result and flags of AND, OR, XOR, TEST, ADD, SUB, CMP (SDM volume 1, appendix A).
fn arithmetic(m: Mnemonic, a: u64, b: u64, size: usize) -> (u64, u64) {
    let (a, b) = (a & mask(size), b & mask(size));
    let (v, carry, overflow, adjust) = match m {
        Mnemonic::Or => (a | b, false, false, false),
        Mnemonic::Xor => (a ^ b, false, false, false),
        Mnemonic::Add => {
            let v = a.wrapping_add(b) & mask(size);
            (v, v < a, sign((a ^ v) & (b ^ v), size), (a ^ b ^ v) & 0x10 != 0)
        }
        Mnemonic::Sub | Mnemonic::Cmp => {
            let v = a.wrapping_sub(b) & mask(size);
            (v, a < b, sign((a ^ b) & (a ^ v), size), (a ^ b ^ v) & 0x10 != 0)
        }
        _ => (a & b, false, false, false),
    };
    let flags = [
        (carry, RFLAGS_CF),
        ((v as u8).count_ones().is_multiple_of(2), RFLAGS_PF),
        (adjust, RFLAGS_AF),
        (v == 0, RFLAGS_ZF),
        (sign(v, size), RFLAGS_SF),
        (overflow, RFLAGS_OF),
    ];
    (v, flags.iter().filter(|(set, _)| *set).map(|(_, f)| f).sum())
}

fn sign(v: u64, size: usize) -> bool {
    v >> (8 * size - 1) & 1 != 0
}

#[cfg(test)]
mod tests;
