//! The fuzzing guest: `mode=fuzz seed=N rounds=N`. In stages, each with a line on the console when it is through: every
//! reserved MSR, bit of a control register, port and address; random bytes to the devices; random IPIs; random
//! instructions in user mode. At the end it does one thing that should end the virtual machine, chosen by the seed.

use super::instructions;
use super::random::Random;
use crate::cmdline::Options;
use crate::harness;
use crate::machine::cpu::{self, in8, in16, in32, out8, out16, out32, rdmsr, wrmsr};
use crate::machine::paging::{self, WINDOW};
use crate::machine::trap::{self, catch};
use crate::machine::{self, apic, serial, smp, tables};
use crate::spec::{apic as a, cr0, cr4, mmio, msr, port, pte, vector};
use crate::{println, x86};

/// Ranges of MSRs that are tried one by one.
const MSRS: [core::ops::Range<u32>; 4] =
    [0..0x1000, 0x4000_0000..0x4000_0100, 0xc000_0000..0xc000_0400, 0xc001_0000..0xc001_1100];
/// Registers that the kernel itself stands on.
const KEEP: [u32; 3] = [msr::APIC_BASE, msr::EFER, msr::TSC_DEADLINE];
/// The devices of a PC, as (first port, ports).
const DEVICES: [(u16, u16); 14] = [
    (port::PIC_MASTER, 2),
    (port::PIC_SLAVE, 2),
    (0x4d0, 2),
    (port::PIT, 4),
    (port::PORT_B, 1),
    (0x60, 1),
    (port::RTC, 2),
    (port::POST, 1),
    (port::COM1, 8),
    (0x600, 4),
    (port::PM_TIMER, 4),
    (0x620, 4),
    (port::PCI_ADDRESS, 8),
    (0x8900, 1),
];
/// Ports that regularly end the machine or reset it: not before the end.
const FATAL_PORTS: [u16; 7] = [0x604, 0x605, 0xb004, 0xb005, 0x64, 0x92, port::RESET];
/// Device memory, and memory that nobody has, as (start, bytes).
const MEMORY: [(u64, u64); 5] = [
    (mmio::IOAPIC, 0x1000),
    (mmio::LAPIC, 0x1000),
    (mmio::UNMAPPED, 0x1000),
    (0xc000_0000, 0x1000),
    (0xffff_f000, 0x1000),
];

/// A part of the run.
type Stage = fn(&mut Random, u64);

/// All stages, then the end.
pub fn run(o: &Options) {
    let mut r = Random::new(o.seed);
    let stages: [(&str, Stage); 9] = [
        ("MSRs", msrs),
        ("control registers", control_registers),
        ("ports", ports),
        ("devices", devices),
        ("string I/O", string_io),
        ("device memory", device_memory),
        ("IPIs", ipis),
        ("user mode", user_mode),
        ("addresses", addresses),
    ];
    for (name, stage) in stages {
        machine::reset();
        // Whatever a stage does to the stack: exceptions have their own.
        (0..32).filter(|v| *v != vector::DF).for_each(|v| {
            tables::set_gate(v, tables::with_stack(tables::normal_gate(v), tables::IST_TEST));
        });
        trap::hook(vector::NMI, trap::count_and_resume);
        let through = trap::outermost(|| stage(&mut r, o.rounds));
        machine::reset();
        println!("fuzz: {name} {}", if through { "done" } else { "cut short" });
    }
    println!("fuzz: seed {} survived {} rounds; now the end", o.seed, o.rounds);
    serial::flush();
    the_end(&mut r, o.seed);
}

/// Only the end.
pub fn end(o: &Options) {
    the_end(&mut Random::new(o.seed), o.seed);
}

fn msrs(r: &mut Random, rounds: u64) {
    for n in MSRS.into_iter().flatten() {
        one_msr(r, n);
    }
    for _ in 0..rounds {
        let n = r.next() as u32;
        one_msr(r, n);
    }
}

/// Reads, writes any value, writes the old one back.
fn one_msr(r: &mut Random, n: u32) {
    let mut old = None;
    catch(|| old = Some(rdmsr(n)));
    let value = r.value();
    if !KEEP.contains(&n) && !(msr::X2APIC..msr::X2APIC + 0x100).contains(&n) {
        catch(|| wrmsr(n, value));
    }
    if let Some(old) = old {
        catch(|| wrmsr(n, old));
    }
}

/// Each bit of each register, alone, and back.
fn control_registers(r: &mut Random, rounds: u64) {
    type Register = (fn() -> u64, fn(u64));
    const REGISTERS: [Register; 7] = [
        (cpu::read_cr0, cpu::write_cr0),
        (cpu::read_cr4, cpu::write_cr4),
        (cpu::read_cr8, cpu::write_cr8),
        (cpu::read_dr6, cpu::write_dr6),
        (cpu::read_dr7, cpu::write_dr7),
        (|| rdmsr(msr::EFER), |v| wrmsr(msr::EFER, v)),
        (|| cpu::xgetbv(0), |v| cpu::xsetbv(0, v)),
    ];
    let change = |(read, write): Register, bits: u64| {
        let mut old = None;
        catch(|| old = Some(read()));
        if let Some(old) = old {
            catch(|| write(old ^ bits));
            catch(|| write(old));
        }
    };
    // The bits that make the mode. Some emulators let them through although it leads nowhere: they wait for the end.
    const CR0_MODE: u64 = cr0::PE | cr0::PG;
    const CR4_MODE: u64 = cr4::PAE | cr4::LA57;
    // TCG 7.2 answers a reserved bit of CR3 or CR4 with "VMRUN failed", whatever runs.
    let cr4_fatal = if harness::is_tcg() { !cr4::ALWAYS | CR4_MODE } else { CR4_MODE };
    for (register, mode) in REGISTERS.into_iter().zip([CR0_MODE, cr4_fatal, 0, 0, 0, 0, 0]) {
        let bits = (0..64).map(|bit| 1 << bit).filter(|bit| bit & mode == 0);
        bits.for_each(|bit| change(register, bit));
    }
    for _ in 0..rounds {
        // Not CR0 and EFER: what they turn off together is beyond repair.
        let register = REGISTERS[1 + r.below(4) as usize];
        let bits = r.value() & r.next() & !cr4_fatal;
        change(register, bits);
    }
    // CR3: reserved bits with the right address below.
    let cr3 = cpu::read_cr3();
    if harness::is_tcg() {
        return;
    }
    for bit in 40..64 {
        catch(|| cpu::write_cr3(cr3 | 1 << bit));
        catch(|| cpu::write_cr3(cr3));
    }
}

/// An OUT of any size and an IN of any size.
fn one_port(r: &mut Random, port: u16) {
    let (v, size) = (r.value(), r.below(3));
    // A wide access reaches the neighbours, too.
    let reach = if size == 2 { 4 } else { size as u16 + 1 };
    if !(port..port.saturating_add(reach)).any(|p| FATAL_PORTS.contains(&p)) {
        match size {
            0 => out8(port, v as u8),
            1 => out16(port, v as u16),
            _ => out32(port, v as u32),
        }
    }
    match r.below(3) {
        0 => _ = in8(port),
        1 => _ = in16(port),
        _ => _ = in32(port),
    }
}

/// Every port once.
fn ports(r: &mut Random, _: u64) {
    (0..=u16::MAX).for_each(|p| one_port(r, p));
}

fn devices(r: &mut Random, rounds: u64) {
    for _ in 0..rounds {
        let (first, ports) = r.one_of(&DEVICES);
        let port = first + r.below(ports.into()) as u16;
        one_port(r, port);
    }
}

/// REP INS and REP OUTS: any count, any direction, memory that is there, read-only, absent, or a device's.
fn string_io(r: &mut Random, rounds: u64) {
    paging::map(WINDOW, paging::page(0), pte::P | pte::W);
    paging::map(WINDOW + 0x1000, paging::page(1), pte::P);
    paging::map(WINDOW + 0x3000, mmio::UNMAPPED, pte::P | pte::W);
    for _ in 0..rounds / 8 + 1 {
        let (first, ports) = r.one_of(&DEVICES);
        let port = first + r.below(ports.into()) as u16;
        let (at, count) = (WINDOW + r.below(0x4000), r.below(600));
        let (size, backwards, out) = (r.below(3), r.below(4) == 0, r.below(2) == 0);
        if out && FATAL_PORTS.iter().any(|p| p.wrapping_sub(port) < 4) {
            continue;
        }
        catch(|| instructions::string_io(port, at, count, size, backwards, out));
        x86!("cld");
    }
}

/// Loads and stores of every width and with every instruction that a monitor has to know, in xAPIC mode.
fn device_memory(r: &mut Random, rounds: u64) {
    apic::set_mode(false);
    for _ in 0..rounds {
        let (start, length) = r.one_of(&MEMORY);
        let at = start + r.below(length);
        let mut value = r.value();
        if start == mmio::LAPIC {
            value = harmless_for_apic(at, value);
        }
        catch(|| instructions::on_memory(r.below(instructions::MEMORY_FORMS), at, value));
    }
    for _ in 0..rounds / 64 {
        // Devices through a page table, a descriptor table, a stack.
        let (start, _) = r.one_of(&MEMORY);
        paging::map(WINDOW, start, pte::P | pte::W);
        catch(|| cpu::store32(WINDOW + r.below(0xff0), r.next() as u32));
    }
}

/// Vectors of exceptions would look like exceptions; and IPIs have their own stage.
fn harmless_for_apic(at: u64, value: u64) -> u64 {
    let register = (at & 0xfff) >> 4;
    let is_icr = (u64::from(a::ICR) - 1..=u64::from(a::ICR_HIGH)).contains(&register);
    if is_icr { 0 } else { value & !0x20ff | 0x30 }
}

/// Fixed and NMI to anybody; INIT, SIPI, SMI and reserved ones to nobody or those who can bear it.
fn ipis(r: &mut Random, rounds: u64) {
    for _ in 0..rounds {
        let mode = r.below(8) as u32;
        let kind = mode << 8;
        let vector = if matches!(kind, a::FIXED | 0x100) { 0x30 + r.below(0xc0) as u32 } else { r.below(256) as u32 };
        let alone = smp::online() < 2;
        // INIT and start-up would take a CPU away that others may wait for: only where there is none, or to none.
        let destination = if alone || !matches!(kind, a::INIT | a::STARTUP) { r.below(16) } else { 0xe } as u32;
        let shorthand = if matches!(kind, a::INIT | a::STARTUP) { 0 } else { (r.below(4) as u32) << 18 };
        // Trigger and level; and a logical destination, which may be anybody, only for those that harm nobody.
        let harmless = !matches!(kind, a::INIT | a::STARTUP);
        let rest = (r.next() as u32) & if harmless { 0xc800 } else { 0xc000 };
        if alone && kind == a::INIT && destination == 0 {
            continue;
        }
        catch(|| apic::command(kind | vector | shorthand | rest | a::ASSERT, destination));
        if r.below(16) == 0 {
            cpu::interrupt_window();
        }
    }
}

/// Random bytes as user code; a timer ends what does not end itself.
fn user_mode(r: &mut Random, rounds: u64) {
    trap::hook(instructions::TIMEOUT, |_| trap::Answer::Land);
    for _ in 0..rounds / 4 + 1 {
        let mut code = [0; instructions::LENGTH];
        code.fill_with(|| r.next() as u8);
        instructions::run_in_user_mode(&code, r.next());
    }
}

/// All of the address space: page tables that point anywhere.
fn addresses(r: &mut Random, rounds: u64) {
    for _ in 0..rounds / 4 + 1 {
        let physical = r.next() & 0x000f_ffff_ffff_f000 >> r.below(40) & !0xfff;
        let at = WINDOW + 0x20_0000;
        if physical < 1 << 30 || physical & 0xfff0_0000 == mmio::LAPIC {
            continue; // RAM, and the local APIC, have their stages
        }
        paging::map(at, physical, pte::P | pte::W | r.next() & pte::ADDRESS & (0xff << 48));
        let offset = r.below(0xff8);
        catch(|| _ = cpu::load32(at + offset));
        catch(|| cpu::store32(at + offset, offset as u32));
    }
}

/// One of the things that a virtual machine can hardly survive.
fn the_end(r: &mut Random, seed: u64) {
    let no_idt = tables::Pointer { limit: 0xfff, base: mmio::IOAPIC };
    match seed % 10 {
        0 => super::triple_fault(),
        1 => x86!("lgdt [{0}]", "lidt [{0}]", "ud2", in(reg) mmio::UNMAPPED),
        2 => x86!("lidt [{}]", "int3", in(reg) &raw const no_idt),
        3 => x86!("mov rsp, {}", "push rax", in(reg) mmio::LAPIC + 0x100, options(noreturn)),
        4 => cpu::write_cr3(mmio::IOAPIC),
        5 => x86!("call {}", in(reg) mmio::UNMAPPED),
        6 => cpu::write_cr0(cpu::read_cr0() ^ cr0::PE),
        7 => cpu::write_cr4(cpu::read_cr4() ^ cr4::PAE),
        8 => instructions::random_on_memory(r),
        _ => super::reboot(),
    }
    cpu::halt_forever()
}
