//! Descriptor tables: the GDT of boot.S with a task-state segment for each CPU, and one IDT.

use super::smp::MAX_CPUS;
use crate::x86;

/// Selectors of the GDT.
#[allow(missing_docs, reason = "the names say it")]
pub mod selector {
    pub const CODE: u16 = 0x08;
    pub const DATA: u16 = 0x10;
    pub const CODE32: u16 = 0x18;
    pub const USER_CODE: u16 = 0x33;
    pub const NOT_PRESENT: u16 = 0x48;
    pub const FIRST_TSS: u16 = 0x50;
    /// Behind the end of the table.
    pub const BEYOND: u16 = 0xfff0;
}

/// Stacks of the interrupt stack table: for #DF, NMI, and whatever a test wants.
pub const IST_DF: u8 = 1;
/// Any other.
pub const IST_TEST: u8 = 3;

const STACK: usize = 16 << 10;
const GATE_PRESENT: u64 = 1 << 47;
const GATE_INTERRUPT: u64 = 0xe << 40;
/// The bytes of a TSS after which an I/O bitmap would be: none.
const TSS_LIMIT: u64 = size_of::<Tss>() as u64 - 1;

/// 64-bit task-state segment (SDM volume 3, figure 8-11).
#[repr(C, packed(4))]
struct Tss {
    reserved: u32,
    rsp: [u64; 3],
    reserved2: u64,
    ist: [u64; 7],
    reserved3: u64,
    reserved4: u16,
    io_map: u16,
}

#[repr(C, align(16))]
struct Stack([u8; STACK]);

/// Two descriptor words of an IDT gate.
pub type Gate = [u64; 2];

#[repr(C, align(4096))]
struct Idt([Gate; 256]);

const EMPTY: Tss = Tss {
    reserved: 0,
    rsp: [0; 3],
    reserved2: 0,
    ist: [0; 7],
    reserved3: 0,
    reserved4: 0,
    io_map: size_of::<Tss>() as u16,
};

static mut TSS: [Tss; MAX_CPUS] = [const { EMPTY }; MAX_CPUS];
/// RSP0, and two of the interrupt stack table, for each CPU.
static mut STACKS: [[Stack; 3]; MAX_CPUS] = [const { [const { Stack([0; STACK]) }; 3] }; MAX_CPUS];
static mut IDT: Idt = Idt([[0; 2]; 256]);

unsafe extern "C" {
    static mut gdt: [u64; 64];
    static gdt_pointer: u8;
    static trap_entries: u8;
}

/// What LGDT and LIDT take.
#[repr(C, packed)]
pub struct Pointer {
    /// Size less one.
    pub limit: u16,
    /// Linear address.
    pub base: u64,
}

fn stack_top(cpu: usize, n: usize) -> u64 {
    (&raw const STACKS) as u64 + ((3 * cpu + n + 1) * STACK) as u64
}

/// Fills the tables and loads them on the boot CPU.
pub fn init() {
    let all = &raw mut TSS;
    // SAFETY: no other CPU runs yet.
    for (cpu, tss) in unsafe { (*all).iter_mut().enumerate() } {
        let at = (&raw const *tss) as u64;
        tss.rsp[0] = stack_top(cpu, 0);
        tss.ist[usize::from(IST_DF) - 1] = stack_top(cpu, 1);
        tss.ist[usize::from(IST_TEST) - 1] = stack_top(cpu, 2);
        let slot = usize::from(selector::FIRST_TSS) / 8 + 2 * cpu;
        // SAFETY: as above, and the table has room for `MAX_CPUS` descriptors.
        unsafe {
            gdt[slot] = TSS_LIMIT | (at & 0xff_ffff) << 16 | 0x89 << 40 | (at >> 24 & 0xff) << 56;
            gdt[slot + 1] = at >> 32;
        }
    }
    load(0);
}

/// The gate that `vector` normally has.
pub fn normal_gate(vector: u8) -> Gate {
    let at = (&raw const trap_entries) as u64 + 16 * u64::from(vector);
    let dpl = if matches!(vector, 3 | 4 | super::user::EXIT) { 3 << 45 } else { 0 };
    let ist = if vector == crate::spec::vector::DF { u64::from(IST_DF) << 32 } else { 0 };
    let low = at & 0xffff | u64::from(selector::CODE) << 16 | ist | GATE_PRESENT | GATE_INTERRUPT | dpl;
    [low | (at >> 16 & 0xffff) << 48, at >> 32]
}

/// Changes a gate until the next test.
pub fn set_gate(vector: u8, gate: Gate) {
    // SAFETY: the CPU reads it, Rust only here.
    unsafe { (&raw mut IDT.0[usize::from(vector)]).write_volatile(gate) };
}

/// The same gate with another interrupt stack.
pub fn with_stack(gate: Gate, ist: u8) -> Gate {
    [gate[0] & !(7 << 32) | u64::from(ist) << 32, gate[1]]
}

/// The same gate, not present.
pub fn absent(gate: Gate) -> Gate {
    [gate[0] & !GATE_PRESENT, gate[1]]
}

/// Changes an interrupt stack of the boot CPU until the next test.
pub fn set_stack(ist: u8, top: u64) {
    // SAFETY: the CPU reads it, Rust only here.
    unsafe { (&raw mut TSS[0].ist[usize::from(ist) - 1]).write_unaligned(top) };
}

/// What LIDT takes for the normal table.
pub fn idt_pointer() -> Pointer {
    Pointer { limit: 0xfff, base: (&raw const IDT) as u64 }
}

/// Loads all tables on this CPU, which has the number `cpu`; on the boot CPU also repairs what tests changed.
pub fn load(cpu: usize) {
    if cpu == 0 {
        (0..=255).for_each(|v| set_gate(v, normal_gate(v)));
        set_stack(IST_TEST, stack_top(0, 2));
    }
    let tr = selector::FIRST_TSS + 16 * cpu as u16;
    let busy = usize::from(tr) / 8;
    // SAFETY: each CPU touches its own descriptor only; LTR wants it not busy.
    unsafe { gdt[busy] &= !(2 << 40) };
    let idt = idt_pointer();
    x86!("lgdt [{}]", in(reg) &raw const gdt_pointer);
    x86!("lidt [{}]", in(reg) &raw const idt);
    x86!("ltr {:x}", in(reg) tr);
    x86!("mov ds, {0:e}", "mov es, {0:e}", "mov ss, {0:e}", "mov fs, {0:e}", "mov gs, {0:e}", in(reg) u32::from(selector::DATA));
}

/// The number of this CPU: from its task register.
pub fn this_cpu() -> usize {
    let tr: u32;
    x86!("str {:e}", out(reg) tr, options(nostack));
    (tr as usize).saturating_sub(usize::from(selector::FIRST_TSS)) / 16 % MAX_CPUS
}
