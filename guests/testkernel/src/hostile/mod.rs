//! What a guest should not do. The virtual machine may die of it; nothing else may. And one that works.

mod fuzz;
mod instructions;
mod random;

use crate::cmdline::Options;
use crate::machine::tables::Pointer;
use crate::machine::{apic, cpu, power_off, serial};
use crate::spec::port::{MARKER, PM1A_CNT, RESET};
use crate::{println, spec, x86};

/// What [`work`] marks (`cargo xtask perf` reads it of the monitor's log).
const WORK_BEGINS: u8 = 0x57;
const WORK_ENDS: u8 = 0x45;

type Mode = fn(&Options);

/// What `mode=` can be, and what then happens.
const MODES: [(&str, Mode); 13] = [
    ("fuzz", fuzz::run),
    ("end", fuzz::end),
    ("spin", |_| spin()),
    ("flood", |_| flood()),
    ("triple", |_| triple_fault()),
    ("reboot", |_| reboot()),
    ("halt", |_| cpu::halt_forever()),
    ("off", |_| power_off()),
    ("smi", |_| x86!("out 0xb2, al", in("al") 0xffu8)),
    ("exits", |_| exits()),
    ("timers", |_| timers()),
    ("faults", |_| faults()),
    ("work", |o| work(o.rounds)),
];

/// Does what `mode` says.
pub fn run(mode: &str, options: &Options) {
    match MODES.iter().find(|(name, _)| *name == mode) {
        Some((_, run)) => {
            println!("mode {mode}");
            serial::flush();
            run(options);
        }
        None => {
            println!("no mode {mode:?}; there are test and");
            MODES.iter().for_each(|(name, _)| println!("  {name}"));
        }
    }
}

/// Keeps the CPU, with interrupts off.
fn spin() -> ! {
    x86!("cli", "2: jmp 2b", options(noreturn));
}

/// Console output without end, in lines that count.
fn flood() -> ! {
    for n in 0u64.. {
        println!("flood {n:016} {:x<80}", "");
    }
    unreachable!()
}

/// An exception without an interrupt table.
fn triple_fault() {
    let none = Pointer { limit: 0, base: 0 };
    x86!("lidt [{}]", "ud2", in(reg) &raw const none);
}

/// By the reset control register.
fn reboot() {
    cpu::out8(RESET, 2);
    cpu::out8(RESET, 6);
    cpu::halt_forever()
}

/// Exits as fast as they come, of the kind that the monitor answers, without end.
fn exits() -> ! {
    loop {
        cpu::cpuid(0, 0);
        cpu::in8(PM1A_CNT[0]);
    }
}

/// So many rounds of computing and two exits, between marks of its beginning and end; and a rest.
fn work(rounds: u64) {
    /// Steps of a round.
    const STEPS: u32 = 5000;
    /// The timer's interrupt, and ticks of it.
    const WAKES: (u32, u32) = (0x60, 10_000_000);
    let begin = cpu::rdtsc();
    cpu::out8(MARKER, WORK_BEGINS);
    for _ in 0..rounds {
        x86!("2: dec {0:e}", "jnz 2b", inout(reg) STEPS => _);
        cpu::cpuid(0, 0);
        cpu::in8(PM1A_CNT[0]);
    }
    cpu::out8(MARKER, WORK_ENDS);
    // The end of a virtual machine costs time, too: it is to come when its neighbours have ended their work.
    let end = cpu::rdtsc();
    while cpu::rdtsc() - end < (end - begin) / 2 {
        apic::write(spec::apic::LVT_TIMER, WAKES.0);
        apic::write(spec::apic::TIMER_INITIAL, WAKES.1);
        cpu::halt();
    }
}

/// The local APIC's timer at its highest rate, for a CPU that takes no interrupts.
fn timers() -> ! {
    const DIVIDE_BY_1: u32 = 0b1011;
    const PERIODIC: u32 = 1 << 17;
    apic::write(spec::apic::TIMER_DIVIDE, DIVIDE_BY_1);
    apic::write(spec::apic::LVT_TIMER, PERIODIC | 0xf0);
    apic::write(spec::apic::TIMER_INITIAL, 1);
    spin()
}

/// An exception whose delivery causes itself, without end.
fn faults() {
    use crate::machine::tables::{IST_DF, IST_TEST, normal_gate, set_gate, with_stack};
    use crate::spec::{cr0, rflags, vector};
    // #DB of a breakpoint on the stack that #DB itself uses: the delivery hits it again.
    set_gate(vector::DB, with_stack(normal_gate(vector::DB), IST_TEST));
    set_gate(vector::AC, with_stack(normal_gate(vector::AC), IST_DF));
    cpu::write_cr0(cpu::read_cr0() | cr0::AM);
    cpu::write_dr7(crate::spec::dr::DR7_RESET);
    // Single-stepping into a handler that single-steps: each step is a #DB.
    crate::machine::trap::hook(vector::DB, |f| {
        f.rflags |= rflags::TF;
        crate::machine::trap::Answer::Resume
    });
    x86!("pushfq", "or dword ptr [rsp], 0x100", "popfq", "2: jmp 2b");
}
