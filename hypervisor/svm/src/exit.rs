//! What an exit tells a VMM: event number, qualifications, and length of the instruction, all in the terms of VMX.

use crate::spec::{inst_info, ioio, mov, npf, qual, task};
use crate::{Controls, Vmcb};
use abi::ArchState;
use virt::spec::{dr, reason, vector};
use virt::{Event, EventKind, VcpuRegs};

/// Event number of exits that have no VMX counterpart. None of them is ever intercepted.
pub const NO_EVENT: u64 = u64::MAX;

/// Longest instruction in bytes.
const MAX_LENGTH: u64 = 15;

/// An exit code, or several in a row, with the event that it becomes.
struct Row {
    /// First and last.
    codes: &'static [u32],
    event: u64,
    /// Length of the instruction in bytes without redundant prefixes; 0: not known, or no instruction.
    length: u8,
}

/// Names for codes, and [`ROWS`].
macro_rules! exits {
    ($($name:ident $first:literal $(..= $last:literal)? => $event:ident $length:literal;)*) => {
        /// Exit codes, low 32 bits (appendix C); of several in a row the first.
        #[allow(missing_docs, reason = "the names are those of the manual")]
        pub mod code {
            $(pub const $name: u32 = $first;)*
            pub const INTR: u32 = 0x60;
            pub const NMI: u32 = 0x61;
            pub const NPF: u32 = 0x400;
            /// -1: the state in the VMCB is not valid. Some emulators store it with 32 bits.
            pub const INVALID: u32 = 0xffff_ffff;
        }

        const ROWS: &[Row] =
            &[$(Row { codes: &[$first $(, $last)?], event: reason::$event, length: $length }),*];
    };
}

// By code. IOIO tells the length, MSR the direction, NPF more.
exits! {
    CR0_READ 0x00..=0x0f => CR_ACCESS 0;
    CR0_WRITE 0x10..=0x1f => CR_ACCESS 0;
    DR0_READ 0x20..=0x2f => DR_ACCESS 0;
    DR0_WRITE 0x30..=0x3f => DR_ACCESS 0;
    EXCP0 0x40..=0x5f => EXCEPTION_OR_NMI 0;
    SMI 0x62 => OTHER_SMI 0;
    INIT 0x63 => INIT 0;
    VINTR 0x64 => INTERRUPT_WINDOW 0;
    CR0_SEL_WRITE 0x65 => CR_ACCESS 0;
    IDTR_READ 0x66..=0x67 => GDTR_IDTR 0;
    LDTR_READ 0x68..=0x69 => LDTR_TR 0;
    IDTR_WRITE 0x6a..=0x6b => GDTR_IDTR 0;
    LDTR_WRITE 0x6c..=0x6d => LDTR_TR 0;
    RDTSC 0x6e => RDTSC 2;
    RDPMC 0x6f => RDPMC 2;
    CPUID 0x72 => CPUID 2;
    RSM 0x73 => RSM 2;
    IRET 0x74 => NMI_WINDOW 0;
    INVD 0x76 => INVD 2;
    PAUSE 0x77 => PAUSE 2;
    HLT 0x78 => HLT 1;
    INVLPG 0x79 => INVLPG 0;
    INVLPGA 0x7a => INVVPID 3;
    IOIO 0x7b => IO 0;
    MSR 0x7c => RDMSR 2;
    TASK_SWITCH 0x7d => TASK_SWITCH 0;
    SHUTDOWN 0x7f => TRIPLE_FAULT 0;
    VMRUN 0x80 => VMLAUNCH 3;
    VMMCALL 0x81 => VMCALL 3;
    VMLOAD 0x82 => VMPTRLD 3;
    VMSAVE 0x83 => VMPTRST 3;
    STGI 0x84 => VMXON 3;
    CLGI 0x85 => VMXOFF 3;
    SKINIT 0x86 => GETSEC 3;
    RDTSCP 0x87 => RDTSCP 3;
    ICEBP 0x88 => EXCEPTION_OR_NMI 0;
    WBINVD 0x89 => WBINVD 2;
    MONITOR 0x8a => MONITOR 3;
    MWAIT 0x8b..=0x8c => MWAIT 3;
    XSETBV 0x8d => XSETBV 3;
    INVPCID 0xa2 => INVPCID 0;
    BUSLOCK 0xa5 => BUS_LOCK 0;
    IDLE_HLT 0xa6 => HLT 1;
}

const CODES: usize = code::IDLE_HLT as usize + 1;
const NONE: u8 = 0xff;

/// What is known of an exit by its code alone.
#[derive(Clone, Copy)]
struct Known {
    event: u8,
    length: u8,
    /// There is a next instruction.
    instruction: bool,
    operands: Told,
}

/// Where an exit tells the operands of its instruction.
#[derive(Clone, Copy)]
enum Told {
    /// There are none, or the qualification has them.
    Always,
    /// With decode assists.
    Assisted,
    /// With decode assists, if it was a MOV.
    AssistedMov,
    /// As an access to a port.
    Port,
    /// Nowhere.
    Never,
}

impl Told {
    const fn by(code: u32) -> Told {
        match code {
            ..code::DR0_READ | code::CR0_SEL_WRITE => Told::AssistedMov,
            code::DR0_READ..code::EXCP0 | code::INVLPG => Told::Assisted,
            code::IDTR_READ..code::RDTSC | code::INVPCID => Told::Never,
            code::IOIO => Told::Port,
            _ => Told::Always,
        }
    }
}

const UNKNOWN: Known = Known { event: NONE, length: 0, instruction: false, operands: Told::Always };

/// [`ROWS`] made fast.
const BY_CODE: [Known; CODES] = {
    let (mut table, mut i) = ([UNKNOWN; CODES], 0);
    while i < ROWS.len() {
        let Row { codes, event, length } = ROWS[i];
        let mut code = codes[0];
        while code <= codes[codes.len() - 1] {
            let operands = Told::by(code);
            let instruction = is_instruction(code);
            table[code as usize] = Known { event: event as u8, length, instruction, operands };
            code += 1;
        }
        i += 1;
    }
    table
};

#[inline]
fn by_code(code: u32) -> Known {
    BY_CODE.get(code as usize).copied().unwrap_or(UNKNOWN)
}

/// The event of an exit that is for a VMM.
#[inline]
pub(crate) fn event(code: u32, exitinfo1: u64) -> u64 {
    match code {
        code::MSR => reason::RDMSR + (exitinfo1 & 1),
        code::NPF if exitinfo1 & npf::RSV != 0 => reason::EPT_MISCONFIGURATION,
        code::NPF => reason::EPT_VIOLATION,
        code::INVALID => reason::ENTRY_FAILURE,
        _ => match by_code(code).event {
            NONE => NO_EVENT,
            event => event.into(),
        },
    }
}

/// The event of an exit of an instruction, or of an access to memory.
#[inline]
pub(crate) fn plain_event(code: u32, exitinfo1: u64) -> Option<u64> {
    match by_code(code) {
        Known { instruction: true, event, .. } => {
            Some(u64::from(event) + if code == code::MSR { exitinfo1 & 1 } else { 0 })
        }
        _ if code == code::NPF => Some(event(code, exitinfo1)),
        _ => None,
    }
}

/// Whether the exit is an instruction's, so that there is a next one.
const fn is_instruction(code: u32) -> bool {
    matches!(code, 0..code::EXCP0 | code::CR0_SEL_WRITE..code::TASK_SWITCH | code::VMRUN..code::NPF)
        && !matches!(code, code::IRET | code::ICEBP)
}

/// Length of the instruction in bytes; 0 if it is not known or there is none.
#[inline]
fn instruction_length(known: Known, vmcb: &Vmcb, controls: &Controls) -> u32 {
    let c = &vmcb.control;
    let next = match () {
        _ if c.exitcode as u32 == code::IOIO => c.exitinfo2,
        _ if controls.nrips && known.instruction => c.nrip,
        _ => return known.length.into(),
    };
    match next.wrapping_sub(vmcb.save.rip) {
        length @ 1..=MAX_LENGTH => length as u32,
        _ => known.length.into(),
    }
}

/// Qualification of an instruction's exit.
fn operands(vmcb: &Vmcb, controls: &Controls) -> u64 {
    let (info1, info2) = (vmcb.control.exitinfo1, vmcb.control.exitinfo2);
    match vmcb.control.exitcode as u32 {
        code @ code::CR0_READ..code::CR0_WRITE => cr_access(code, qual::MOV_FROM_CR, info1, controls),
        code @ code::CR0_WRITE..code::DR0_READ => cr_access(code - code::CR0_WRITE, 0, info1, controls),
        code::CR0_SEL_WRITE => cr_access(0, 0, info1, controls),
        code @ code::DR0_READ..code::DR0_WRITE => dr_access(code - code::DR0_READ, qual::MOV_FROM_DR, info1, controls),
        code @ code::DR0_WRITE..code::EXCP0 => dr_access(code - code::DR0_WRITE, 0, info1, controls),
        code::INVLPG if controls.decode_assists => info1,
        code::IOIO => io(info1),
        code::TASK_SWITCH => task_switch(info1, info2),
        _ => 0,
    }
}

/// VMX: register in 3:0, access type in 5:4, general-purpose register in 11:8.
fn cr_access(register: u32, access: u64, info1: u64, controls: &Controls) -> u64 {
    let gpr = if controls.decode_assists && info1 & mov::IS_MOV_CR != 0 { info1 & mov::GPR } else { 0 };
    u64::from(register) | access << qual::CR_TYPE_SHIFT | gpr << qual::GPR_SHIFT
}

/// VMX: register in 2:0, direction in 4, general-purpose register in 11:8.
fn dr_access(register: u32, direction: u64, info1: u64, controls: &Controls) -> u64 {
    let gpr = if controls.decode_assists { info1 & mov::GPR } else { 0 };
    u64::from(register & 7) | direction | gpr << qual::GPR_SHIFT
}

/// VMX: size less one in 2:0, IN 3, string 4, REP 5, port in 31:16. Bit 6, port as immediate, cannot be told.
fn io(info1: u64) -> u64 {
    let if_set = |from, to| if info1 & from != 0 { to } else { 0 };
    let size = info1 >> ioio::SIZE_SHIFT & 7;
    let port = info1 >> ioio::PORT_SHIFT & 0xffff;
    size.saturating_sub(1)
        | if_set(ioio::IN, qual::IO_IN)
        | if_set(ioio::STR, qual::IO_STRING)
        | if_set(ioio::REP, qual::IO_REP)
        | port << ioio::PORT_SHIFT
}

/// Address size as VMX numbers it. `None`: the CPU does not say.
#[inline]
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
pub(crate) fn save_qualifications(u: &mut ArchState, vmcb: &Vmcb, _: &VcpuRegs, controls: &Controls) {
    const DEBUG: u32 = code::EXCP0 + vector::DEBUG as u32;
    const PAGE_FAULT: u32 = code::EXCP0 + vector::PAGE_FAULT as u32;
    let c = &vmcb.control;
    u.qual = match c.exitcode as u32 {
        code::NPF => [nested_page_fault(c.exitinfo1), 0, c.exitinfo2],
        PAGE_FAULT => [c.exitinfo2, 0, 0],
        DEBUG => [vmcb.save.dr6 & dr::DR6_CAUSES, 0, 0],
        _ => [operands(vmcb, controls), 0, 0],
    };
}

/// Exceptions that have an error code (APM vol. 2, table 8-1).
const WITH_ERROR: u32 = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21 | 1 << 29 | 1 << 30;

/// The exception of an exit for one, as an information word, and its error code. #BP and #OF are an instruction's.
#[inline]
pub(crate) fn save_exception(u: &mut ArchState, vmcb: &Vmcb, _: &VcpuRegs, _: &Controls) {
    let vector = (vmcb.control.exitcode as u32).wrapping_sub(code::EXCP0);
    if vector >= code::INTR - code::EXCP0 {
        (u.exc_info, u.exc_error) = (0, 0);
        return;
    }
    let has_error = WITH_ERROR & 1 << vector != 0;
    let kind = match vector as u8 {
        vector::BREAKPOINT | vector::OVERFLOW => EventKind::SoftwareException,
        _ => EventKind::Exception,
    };
    let event = Event { kind, vector: vector as u8, has_error };
    u.exc_info = event.encode();
    u.exc_error = if has_error { vmcb.control.exitinfo1 as u32 } else { 0 };
}

/// Length of the instruction and what VMX says of it.
#[inline]
pub(crate) fn save_instruction(u: &mut ArchState, vmcb: &Vmcb, _: &VcpuRegs, controls: &Controls) {
    let known = by_code(vmcb.control.exitcode as u32);
    u.inst_len = instruction_length(known, vmcb, controls);
    u.inst_info = instruction_info(known.operands, vmcb.control.exitinfo1, controls);
}

/// Instruction information: address size and segment of INS and OUTS, and [`ArchState::INST_DECODE`].
#[inline(always)]
fn instruction_info(operands: Told, info1: u64, controls: &Controls) -> u32 {
    let known = match operands {
        Told::Always => true,
        Told::Assisted => controls.decode_assists,
        Told::AssistedMov => controls.decode_assists && info1 & mov::IS_MOV_CR != 0,
        Told::Port if info1 & ioio::STR == 0 => true,
        Told::Port => match address_size(info1) {
            None => false,
            Some(size) => {
                let segment = (info1 >> ioio::SEGMENT_SHIFT & 7) as u32;
                return size << inst_info::ADDRESS_SHIFT | segment << inst_info::SEGMENT_SHIFT;
            }
        },
        Told::Never => false,
    };
    if known { 0 } else { ArchState::INST_DECODE }
}
