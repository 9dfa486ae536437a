//! From an interrupt to the first instruction of the thread that waits for it.
//!
//! When an interrupt came is known in two ways: the timer's from the deadline; any other from a thread below the waiter that
//! notes the time again and again, up to the last instruction before the interrupt.

use crate::clock::{SAMPLES, WARM_UP, missing, report};
use crate::exits::{Guest, no_guests};
use crate::threads::{Code, Place, R15, Thread, registers};
use abi::{Hypercall, Sel};
use bare::{memory, peek};
use rt::Semaphore;
use rt::hw;
use rt::session::Error;
use std::arch::asm;

/// Flag of `ctrl_sm`: down.
const DOWN: u8 = 1 << 0;
/// Ticks until the deadline: at least, and spread over so many more.
const NAP: (u64, u64) = (20_000, 10_000);
/// What is provided, but served by nobody: who asks for a session waits until the provider has ended.
#[rpc::interface(version = "1.0", ram = "0", caps = 0)]
pub trait Turn {
    /// A service has methods.
    #[expect(dead_code, reason = "it is never served")]
    fn turn(&mut self);
}

/// Waits for a semaphore, until the deadline if it is not 0: status, and the time right behind the hypercall.
fn down(sm: Sel, deadline: u64) -> (u64, u64) {
    let (status, low, high): (u64, u64, u64);
    // SAFETY: a semaphore's hypercall changes no memory; the kernel keeps what is not named (docs/spec/abi.md).
    unsafe {
        asm!(
            "syscall", "rdtsc",
            inlateout("rdi") Hypercall::CtrlSm.identifier(DOWN, sm) => status, inlateout("rsi") deadline => _,
            lateout("rax") low, lateout("rdx") high, lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    (status & 0xff, high << 32 | low)
}

fn all(mut one: impl FnMut(u64) -> Result<u32, String>) -> Result<Vec<u32>, String> {
    let samples = (0..(WARM_UP + SAMPLES) as u64).map(&mut one).collect::<Result<Vec<_>, _>>()?;
    Ok(samples[WARM_UP..].to_vec())
}

/// Deadlines, one after the other. `since` says when it came, given the deadline.
fn naps(since: impl Fn(u64) -> u64) -> Result<Vec<u32>, String> {
    let alarm = Semaphore::new(0);
    all(|i| {
        let at = rt::time::tsc() + NAP.0 + i * 7919 % NAP.1;
        let (_, woken) = down(alarm.sel(), at);
        Ok(woken.wrapping_sub(since(at)) as u32)
    })
}

/// Who runs meanwhile.
fn spinner(cpu: u16, note: u64) -> Result<Thread, String> {
    Thread::new(Place { cpu, lower: 1, fpu: true }, Code::Spin, registers(&[(R15, note)]))
}

/// The timer, over nobody, a thread, a guest.
pub fn run(cpu: u16) -> Result<(), String> {
    report("timer_to_waiter_idle_since_deadline", naps(|at| at), 0);
    let note = memory(8, 64);
    let spins = spinner(cpu, note)?;
    report("timer_to_waiter_user_since_deadline", naps(|at| at), 0);
    report("timer_to_waiter_user_since_last_instruction", naps(|_| peek(note)), 0);
    drop(spins);
    let name = "timer_to_waiter_guest_since_deadline";
    match no_guests() {
        Some(why) => missing(name, why),
        None => {
            let _guest = Guest::looping(cpu)?;
            report(name, naps(|at| at), 0);
        }
    }
    Ok(())
}

/// Row of [`pins`].
const PIN: &str = "pin_to_waiter_user_since_last_instruction";
/// First and last port of the 8254 (datasheet of the 82C54, table 1): counter 0, and the control word.
const PIT: (u16, u16) = (0x40, 0x43);
/// Its interrupt, by the MADT's override.
const IRQ: u32 = 2;
const CONTROL: u16 = 3;
/// Counter 0, both bytes, mode 0: an edge when it has counted down.
const ONCE: u8 = 0x30;
/// Ticks of 1.19 MHz.
const COUNT: u16 = 120;

/// An interrupt pin, which the 8254 raises: needs its ports and its interrupt.
fn pin(cpu: u16) -> Result<Vec<u32>, String> {
    let opened = hw::ports(PIT.0, PIT.1).and_then(|ports| Ok((ports, hw::interrupt(IRQ)?)));
    let ((ports, interrupt), note) = (opened.map_err(|e| e.to_string())?, memory(8, 64));
    let irq = interrupt.sel();
    let _spins = spinner(cpu, note)?;
    let patience = rt::time::tsc_hz() / 10;
    // One may be there from before.
    down(irq, rt::time::tsc() + patience);
    all(|_| {
        ports.out8(CONTROL, ONCE);
        COUNT.to_le_bytes().iter().for_each(|b| ports.out8(0, *b));
        match down(irq, rt::time::tsc() + patience) {
            (0, woken) => Ok((woken as u32).wrapping_sub(peek(note) as u32)),
            _ => Err("no interrupt came of the 8254".into()),
        }
    })
}

/// The row of a component that has the 8254. That with all other rows has no ports, as these would slow down its calls.
pub fn pins(cpu: u16) {
    report(PIN, pin(cpu), 0);
}

/// Waits until the component with the 8254 has ended.
pub fn wait_for_pins() {
    match rt::session::open::<dyn Turn>("", &[]) {
        Err(Error::Denied) => {}
        _ => missing(PIN, "no component has the 8254"),
    }
}
