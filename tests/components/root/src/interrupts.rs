//! docs/spec/assign_int.md, with COM1's interrupt: its line is high from when the transmitter is empty and may say so,
//! until that is read.

use crate::boot::several_cpus;
use crate::check::{Check, Outcome, done, equal, refused};
use crate::firmware::{com1, hip, take};
use crate::own::sel;
use crate::scene::{Slot, copy, in_ms, spin_ms};
use abi::{Hypercall, Sel, Status, nova_obj, perm};
use rt::hypercall::{self as hc, int_flags};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("assign_int-7 boot-10", "before the first call an interrupt is masked", unassigned),
    ("assign_int-8 assign_int-9", "a pin has no message address and data; its BDF is ignored", results),
    ("assign_int-1", "M: masked, and not", masked),
    ("assign_int-2 assign_int-6 assign_int-15 objects-44", "edge-triggered: each edge counts", edges),
    (
        "assign_int-2 assign_int-13 assign_int-14 ctrl_sm-13 objects-45",
        "level-triggered, whatever the firmware says: masked from its delivery to the next down",
        level,
    ),
    ("assign_int-4 assign_int-17", "G is ignored", guest_owned),
    ("", "P: active low, where the interrupt controller heeds it", polarity),
    ("assign_int-10", "BAD_CPU: no such CPU", bad_cpu),
    ("assign_int-5 assign_int-12 spaces-21", "BAD_CAP: no ASSIGN, no interrupt semaphore, null", bad_cap),
    ("spaces-45", "interrupt semaphores: ASSIGN, CTRL_DN, and no CTRL_UP", permissions),
    ("assign_int-6 ctrl_sm-18 objects-46", "on another CPU: there it comes, and only there one can wait", other_cpu),
];

/// COM1's interrupt.
const GSI: Sel = 4;

fn com1_sm() -> Result<Slot, String> {
    take(nova_obj::INT_BASE + GSI, perm::ALL)
}

/// The line goes high.
fn raise() {
    com1().out8(1, 2);
    spin_ms(2);
}

/// The line goes low.
fn lower() {
    com1().out8(1, 0);
    com1().in8(2);
    spin_ms(1);
}

fn assign(s: &Slot, flags: u8) -> Outcome {
    lower();
    done("assign_int", hc::assign_int(s.0, 0, 0, flags))?;
    let _ = hc::sm_down(s.0, true, Some(1));
    Ok(())
}

/// How many there were.
fn count(s: &Slot) -> u64 {
    (0..1000).take_while(|_| hc::sm_down(s.0, false, Some(1)).is_ok()).count() as u64
}

fn unassigned() -> Outcome {
    let s = com1_sm()?;
    raise();
    lower();
    equal("interrupts", count(&s), 0)
}

fn results() -> Outcome {
    let s = com1_sm()?;
    for bdf in [0, 0xffff] {
        equal("address, data", hc::assign_int(s.0, 0, bdf, int_flags::MASKED), Ok((0, 0)))?;
    }
    Ok(())
}

fn masked() -> Outcome {
    let s = com1_sm()?;
    assign(&s, int_flags::MASKED)?;
    raise();
    lower();
    equal("interrupts while masked", count(&s), 0)?;
    assign(&s, 0)?;
    raise();
    lower();
    equal("interrupts while not", count(&s), 1)
}

fn edges() -> Outcome {
    let s = com1_sm()?;
    assign(&s, 0)?;
    for _ in 0..5 {
        raise();
        lower();
    }
    equal("five edges that nobody has waited for", count(&s), 5)?;
    raise();
    spin_ms(5);
    equal("a line that stays high", count(&s), 1)?;
    lower();
    Ok(())
}

fn level() -> Outcome {
    let s = com1_sm()?;
    assign(&s, int_flags::LEVEL)?;
    raise();
    spin_ms(5);
    equal("the first down", hc::sm_down(s.0, false, Some(1)), Ok(()))?;
    // It has unmasked nothing: that was the delivery that it took. The line is still high.
    equal("a down with the line still high", hc::sm_down(s.0, false, Some(in_ms(50))), Ok(()))?;
    lower();
    // What came between is still counted at most once.
    let rest = count(&s);
    crate::check::holds(&format!("no storm: {rest} more"), rest <= 1)?;
    equal("with the line low", hc::sm_down(s.0, false, Some(in_ms(5))), Err(Status::Timeout))?;
    raise();
    lower();
    equal("the next", count(&s), 1)
}

fn guest_owned() -> Outcome {
    let s = com1_sm()?;
    assign(&s, int_flags::GUEST)?;
    raise();
    lower();
    equal("interrupts", count(&s), 1)?;
    assign(&s, int_flags::MASKED)
}

/// A level-triggered line that is low and active low goes on interrupting. The emulators' IOAPICs do not heed polarity, and
/// say so by this.
fn polarity() -> Outcome {
    let s = com1_sm()?;
    assign(&s, int_flags::LEVEL | int_flags::LOW)?;
    let came = hc::sm_down(s.0, false, Some(in_ms(20))).is_ok();
    assign(&s, int_flags::MASKED)?;
    if came { Ok(()) } else { Err(format!("{}polarity makes no difference", crate::check::NOT_HERE)) }
}

fn bad_cpu() -> Outcome {
    let s = com1_sm()?;
    assign(&s, 0)?;
    for cpu in [hip().cpu_num, 0xffff] {
        refused(&format!("CPU {cpu}"), hc::assign_int(s.0, cpu, 0, int_flags::MASKED), Status::BadCpu)?;
    }
    // SAFETY: refused.
    let far = unsafe {
        let status: u64;
        std::arch::asm!("syscall", inlateout("rdi") Hypercall::AssignInt.identifier(1, s.0) => status,
            inlateout("rsi") 1u64 << 32 => _, inlateout("rdx") 0u64 => _, lateout("rcx") _, lateout("r11") _,
            clobber_abi("C"));
        status
    };
    equal("CPU 2^32", far, Status::BadCpu as u64)?;
    raise();
    lower();
    equal("it stayed unmasked", count(&s), 1)?;
    assign(&s, int_flags::MASKED)
}

fn bad_cap() -> Outcome {
    let (s, null, sm) = (com1_sm()?, Slot::new(), Slot::sm(0)?);
    assign(&s, 0)?;
    let weak = Slot::masked(s.0, perm::ALL & !perm::Sm::ASSIGN.bits())?;
    let console = take(nova_obj::CONSOLE_SM, perm::ALL)?;
    for (what, at) in [
        ("no ASSIGN", weak.0),
        ("null", null.0),
        ("a semaphore of our own", sm.0),
        ("console semaphore", console.0),
        ("PD", sel::PD),
        ("beyond SEL_NUM", abi::SEL_NUM),
    ] {
        for flags in [int_flags::MASKED, int_flags::LEVEL | int_flags::MASKED] {
            refused(what, hc::assign_int(at, 0, 0, flags), Status::BadCap)?;
        }
    }
    raise();
    lower();
    equal("it stayed unmasked and edge-triggered", count(&s), 1)?;
    assign(&s, int_flags::MASKED)
}

fn permissions() -> Outcome {
    let s = com1_sm()?;
    refused("up", hc::sm_up(s.0), Status::BadCap)?;
    refused("down", hc::sm_down(s.0, false, Some(1)), Status::Timeout)?;
    let only = Slot::new();
    done("copy", copy(s.0, only.0, perm::Sm::CTRL_DN.bits()))?;
    refused("down with CTRL_DN", hc::sm_down(only.0, false, Some(1)), Status::Timeout)?;
    let last = nova_obj::INT_BASE + Sel::from(hip().int_pin) - 1;
    let l = take(last, perm::ALL)?;
    done("the last pin can be assigned", hc::assign_int(l.0, 0, 0, int_flags::MASKED)).map(drop)
}

static CAME: AtomicBool = AtomicBool::new(false);

fn other_cpu() -> Outcome {
    several_cpus()?;
    let (s, cpu) = (com1_sm()?, hip().cpu_num - 1);
    assign(&s, int_flags::MASKED)?;
    done("assign_int", hc::assign_int(s.0, cpu, 0, 0))?;
    CAME.store(false, SeqCst);
    refused("down on this CPU", hc::sm_down(s.0, false, Some(1)), Status::BadCpu)?;
    let sm = s.0;
    rt::thread::set_spawn_cpu(cpu);
    let waiter = std::thread::spawn(move || {
        let r = hc::sm_down(sm, false, Some(in_ms(2000)));
        CAME.store(r.is_ok(), SeqCst);
        r
    });
    rt::thread::set_spawn_cpu(0);
    spin_ms(10);
    equal("before", CAME.load(SeqCst), false)?;
    raise();
    let r = waiter.join().map_err(|_| "panic")?;
    lower();
    equal("down there", r, Ok(()))?;
    done("back", hc::assign_int(s.0, 0, 0, int_flags::MASKED))?;
    refused("down on this CPU", hc::sm_down(s.0, false, Some(1)), Status::Timeout)
}
