//! What an exit tells a VMM: event number, qualifications, and length of the instruction, all in the terms of VMX.

use crate::spec::{code, dr, inst_info, ioio, mov, npf, qual, reason, task, vector};
use crate::{Controls, Vmcb};
use abi::ArchState;
use virt::{Event, EventKind};

/// Event number of exits that have no VMX counterpart. None of them is ever intercepted.
pub const NO_EVENT: u64 = u64::MAX;

/// Longest instruction in bytes.
const MAX_LENGTH: u64 = 15;

/// Exit codes with the event that they become, and the length of the instruction in bytes without redundant prefixes.
struct Row {
    first: u32,
    last: u32,
    event: u64,
    /// 0: not known, or no instruction.
    length: u8,
}

const fn row(first: u32, last: u32, event: u64, length: u8) -> Row {
    Row { first, last, event, length }
}

/// Ordered by code. IOIO tells the length, MSR the direction, NPF more.
const ROWS: &[Row] = &[
    row(code::CR0_READ, code::DR0_READ - 1, reason::CR_ACCESS, 0),
    row(code::DR0_READ, code::EXCP0 - 1, reason::DR_ACCESS, 0),
    row(code::EXCP0, code::INTR - 1, reason::EXCEPTION_OR_NMI, 0),
    row(code::SMI, code::SMI, reason::OTHER_SMI, 0),
    row(code::INIT, code::INIT, reason::INIT, 0),
    row(code::VINTR, code::VINTR, reason::INTERRUPT_WINDOW, 0),
    row(code::CR0_SEL_WRITE, code::CR0_SEL_WRITE, reason::CR_ACCESS, 0),
    row(code::IDTR_READ, code::GDTR_READ, reason::GDTR_IDTR, 0),
    row(code::LDTR_READ, code::TR_READ, reason::LDTR_TR, 0),
    row(code::IDTR_WRITE, code::GDTR_WRITE, reason::GDTR_IDTR, 0),
    row(code::LDTR_WRITE, code::TR_WRITE, reason::LDTR_TR, 0),
    row(code::RDTSC, code::RDTSC, reason::RDTSC, 2),
    row(code::RDPMC, code::RDPMC, reason::RDPMC, 2),
    row(code::CPUID, code::CPUID, reason::CPUID, 2),
    row(code::RSM, code::RSM, reason::RSM, 2),
    row(code::IRET, code::IRET, reason::NMI_WINDOW, 0),
    row(code::INVD, code::INVD, reason::INVD, 2),
    row(code::PAUSE, code::PAUSE, reason::PAUSE, 2),
    row(code::HLT, code::HLT, reason::HLT, 1),
    row(code::INVLPG, code::INVLPG, reason::INVLPG, 0),
    row(code::INVLPGA, code::INVLPGA, reason::INVVPID, 3),
    row(code::IOIO, code::IOIO, reason::IO, 0),
    row(code::MSR, code::MSR, reason::RDMSR, 2),
    row(code::TASK_SWITCH, code::TASK_SWITCH, reason::TASK_SWITCH, 0),
    row(code::SHUTDOWN, code::SHUTDOWN, reason::TRIPLE_FAULT, 0),
    row(code::VMRUN, code::VMRUN, reason::VMLAUNCH, 3),
    row(code::VMMCALL, code::VMMCALL, reason::VMCALL, 3),
    row(code::VMLOAD, code::VMLOAD, reason::VMPTRLD, 3),
    row(code::VMSAVE, code::VMSAVE, reason::VMPTRST, 3),
    row(code::STGI, code::STGI, reason::VMXON, 3),
    row(code::CLGI, code::CLGI, reason::VMXOFF, 3),
    row(code::SKINIT, code::SKINIT, reason::GETSEC, 3),
    row(code::RDTSCP, code::RDTSCP, reason::RDTSCP, 3),
    row(code::ICEBP, code::ICEBP, reason::EXCEPTION_OR_NMI, 0),
    row(code::WBINVD, code::WBINVD, reason::WBINVD, 2),
    row(code::MONITOR, code::MONITOR, reason::MONITOR, 3),
    row(code::MWAIT, code::MWAIT_CONDITIONAL, reason::MWAIT, 3),
    row(code::XSETBV, code::XSETBV, reason::XSETBV, 3),
    row(code::INVPCID, code::INVPCID, reason::INVPCID, 0),
    row(code::BUSLOCK, code::BUSLOCK, reason::BUS_LOCK, 0),
    row(code::IDLE_HLT, code::IDLE_HLT, reason::HLT, 1),
];

const CODES: usize = code::IDLE_HLT as usize + 1;
const NONE: u8 = 0xff;

/// Event and length by exit code: [`ROWS`] made fast.
const BY_CODE: [(u8, u8); CODES] = {
    let (mut table, mut i) = ([(NONE, 0); CODES], 0);
    while i < ROWS.len() {
        let mut code = ROWS[i].first;
        while code <= ROWS[i].last {
            table[code as usize] = (ROWS[i].event as u8, ROWS[i].length);
            code += 1;
        }
        i += 1;
    }
    table
};

#[inline]
fn by_code(code: u32) -> (u8, u8) {
    BY_CODE.get(code as usize).copied().unwrap_or((NONE, 0))
}

/// The event of an exit that is for a VMM.
#[inline]
pub(crate) fn event(code: u32, exitinfo1: u64) -> u64 {
    match code {
        code::MSR => reason::RDMSR + (exitinfo1 & 1),
        code::NPF if exitinfo1 & npf::RSV != 0 => reason::EPT_MISCONFIGURATION,
        code::NPF => reason::EPT_VIOLATION,
        code::INVALID => reason::ENTRY_FAILURE,
        _ => match by_code(code).0 {
            NONE => NO_EVENT,
            event => event.into(),
        },
    }
}

/// Whether the exit is an instruction's, so that there is a next one.
fn is_instruction(code: u32) -> bool {
    matches!(code, 0..code::EXCP0 | code::CR0_SEL_WRITE..code::TASK_SWITCH | code::VMRUN..code::NPF)
        && !matches!(code, code::IRET | code::ICEBP)
}

/// Length of the instruction in bytes; 0 if it is not known or there is none.
#[inline]
pub(crate) fn instruction_length(vmcb: &Vmcb, controls: &Controls) -> u32 {
    let c = &vmcb.control;
    let code = c.exitcode as u32;
    let next = match code {
        code::IOIO => c.exitinfo2,
        _ if controls.nrips && is_instruction(code) => c.nrip,
        _ => return by_code(code).1.into(),
    };
    match next.wrapping_sub(vmcb.save.rip) {
        length @ 1..=MAX_LENGTH => length as u32,
        _ => by_code(code).1.into(),
    }
}

/// How much an exit tells of its operands.
struct Operands {
    qualification: u64,
    /// The rest is in the instruction only.
    decode: bool,
}

impl Operands {
    fn known(qualification: u64) -> Operands {
        Operands { qualification, decode: false }
    }
}

/// Qualification of an instruction's exit.
fn operands(vmcb: &Vmcb, controls: &Controls) -> Operands {
    let (info1, info2) = (vmcb.control.exitinfo1, vmcb.control.exitinfo2);
    match vmcb.control.exitcode as u32 {
        code @ code::CR0_READ..code::CR0_WRITE => cr_access(code, qual::MOV_FROM_CR, info1, controls),
        code @ code::CR0_WRITE..code::DR0_READ => cr_access(code - code::CR0_WRITE, 0, info1, controls),
        code::CR0_SEL_WRITE => cr_access(0, 0, info1, controls),
        code @ code::DR0_READ..code::DR0_WRITE => dr_access(code - code::DR0_READ, qual::MOV_FROM_DR, info1, controls),
        code @ code::DR0_WRITE..code::EXCP0 => dr_access(code - code::DR0_WRITE, 0, info1, controls),
        code::IDTR_READ..=code::TR_WRITE | code::INVPCID => Operands { qualification: 0, decode: true },
        code::INVLPG if controls.decode_assists => Operands::known(info1),
        code::INVLPG => Operands { qualification: 0, decode: true },
        code::IOIO => io(info1),
        code::TASK_SWITCH => Operands::known(task_switch(info1, info2)),
        _ => Operands::known(0),
    }
}

/// VMX: register in 3:0, access type in 5:4, general-purpose register in 11:8.
fn cr_access(register: u32, access: u64, info1: u64, controls: &Controls) -> Operands {
    let known = controls.decode_assists && info1 & mov::IS_MOV_CR != 0;
    let gpr = if known { info1 & mov::GPR } else { 0 };
    let qualification = u64::from(register) | access << qual::CR_TYPE_SHIFT | gpr << qual::GPR_SHIFT;
    Operands { qualification, decode: !known }
}

/// VMX: register in 2:0, direction in 4, general-purpose register in 11:8.
fn dr_access(register: u32, direction: u64, info1: u64, controls: &Controls) -> Operands {
    let known = controls.decode_assists;
    let gpr = if known { info1 & mov::GPR } else { 0 };
    let qualification = u64::from(register & 7) | direction | gpr << qual::GPR_SHIFT;
    Operands { qualification, decode: !known }
}

/// VMX: size less one in 2:0, IN 3, string 4, REP 5, port in 31:16. Bit 6, port as immediate, cannot be told.
fn io(info1: u64) -> Operands {
    let if_set = |from, to| if info1 & from != 0 { to } else { 0 };
    let size = info1 >> ioio::SIZE_SHIFT & 7;
    let port = info1 >> ioio::PORT_SHIFT & 0xffff;
    let qualification = size.saturating_sub(1)
        | if_set(ioio::IN, qual::IO_IN)
        | if_set(ioio::STR, qual::IO_STRING)
        | if_set(ioio::REP, qual::IO_REP)
        | port << ioio::PORT_SHIFT;
    Operands { qualification, decode: info1 & ioio::STR != 0 && address_size(info1).is_none() }
}

/// Address size as VMX numbers it. `None`: the CPU does not say.
fn address_size(info1: u64) -> Option<u32> {
    match info1 >> ioio::ADDRESS_SHIFT & 7 {
        1 => Some(0),
        2 => Some(1),
        4 => Some(2),
        _ => None,
    }
}

/// VMX: selector in 15:0, source in 31:30. Task gates in the IDT cannot be told from CALL.
fn task_switch(info1: u64, info2: u64) -> u64 {
    let source = match () {
        _ if info2 & task::IRET != 0 => qual::TASK_IRET,
        _ if info2 & task::JUMP != 0 => qual::TASK_JUMP,
        _ => 0,
    };
    info1 & 0xffff | source << qual::TASK_SHIFT
}

/// VMX: access in 2:0, permissions in 5:3; bit 7, linear address valid, stays clear. Bit 8 counts nevertheless: it
/// tells an access of the instruction from one to the guest's page tables.
fn nested_page_fault(info1: u64) -> u64 {
    let access = match () {
        _ if info1 & npf::ID != 0 => qual::FETCH,
        _ if info1 & npf::W != 0 => qual::WRITE,
        _ => qual::READ,
    };
    let present = if info1 & npf::P != 0 { qual::READABLE } else { 0 };
    access | present | if info1 & npf::FINAL != 0 { qual::FINAL } else { 0 }
}

/// Qualification, guest-linear address, guest-physical address.
#[inline]
pub(crate) fn qualifications(vmcb: &Vmcb, controls: &Controls) -> [u64; 3] {
    const DEBUG: u32 = code::EXCP0 + vector::DEBUG;
    const PAGE_FAULT: u32 = code::EXCP0 + vector::PAGE_FAULT;
    let c = &vmcb.control;
    match c.exitcode as u32 {
        code::NPF => [nested_page_fault(c.exitinfo1), 0, c.exitinfo2],
        PAGE_FAULT => [c.exitinfo2, 0, 0],
        DEBUG => [vmcb.save.dr6 & dr::DR6_CAUSES, 0, 0],
        _ => [operands(vmcb, controls).qualification, 0, 0],
    }
}

/// Exceptions that have an error code (APM vol. 2, table 8-1).
const WITH_ERROR: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// The exception of an exit for one, as an information word, and its error code. #BP and #OF are an instruction's.
#[inline]
pub(crate) fn exception(vmcb: &Vmcb) -> (u32, u32) {
    let vector = (vmcb.control.exitcode as u32).wrapping_sub(code::EXCP0);
    if vector >= code::INTR - code::EXCP0 {
        return (0, 0);
    }
    let has_error = WITH_ERROR & 1 << vector != 0;
    let kind = match vector as u8 {
        vector::BREAKPOINT | vector::OVERFLOW => EventKind::SoftwareException,
        _ => EventKind::Exception,
    };
    let event = Event { kind, vector: vector as u8, has_error };
    (event.encode(), if has_error { vmcb.control.exitinfo1 as u32 } else { 0 })
}

/// Instruction information: address size and segment of INS and OUTS, and [`ArchState::INST_DECODE`].
#[inline]
pub(crate) fn instruction_info(vmcb: &Vmcb, controls: &Controls) -> u32 {
    let info1 = vmcb.control.exitinfo1;
    let code = vmcb.control.exitcode as u32;
    if operands(vmcb, controls).decode {
        return ArchState::INST_DECODE;
    }
    match address_size(info1) {
        Some(size) if code == code::IOIO && info1 & ioio::STR != 0 => {
            let segment = (info1 >> ioio::SEGMENT_SHIFT & 7) as u32;
            size << inst_info::ADDRESS_SHIFT | segment << inst_info::SEGMENT_SHIFT
        }
        _ => 0,
    }
}
