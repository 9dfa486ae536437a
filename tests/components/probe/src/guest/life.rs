//! Recall, and what ends a virtual CPU.

use super::*;
use std::sync::OnceLock;

/// Turns of a loop that take longer than it takes to recall a guest, and end all the same: where an emulator loses
/// interrupts, nothing else would end a guest that loops with interrupts off.
const TURNS: u32 = 100_000_000;

/// Code: the first instruction, a loop, and HLT.
fn loop_after(first: u8) -> Vec<u8> {
    let mut code = vec![first, 0x66, 0xb9]; // mov ecx, TURNS
    code.extend(TURNS.to_le_bytes());
    code.extend([0x66, 0x49, 0x75, 0xfc, 0xf4]); // 1: dec ecx; jnz 1b; hlt
    code
}

const STI: u8 = 0xfb;
const CLI: u8 = 0xfa;
const NOP: u8 = 0x90;

/// Recalls a guest that loops; whether that came before the loop was over.
fn recalled(what: &str, first: u8) -> Result<bool, String> {
    let code = loop_after(first);
    let mut g = Guest::new(&code, |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    done("start", g.vcpu.start(1))?;
    sleep_ms(5);
    done("recall", g.vcpu.recall())?;
    arrives(what, &g.end)?;
    Ok(g.numbers() == [event::GST_STARTUP, event::GST_RECALL])
}

pub fn recall() -> Outcome {
    holds("a guest with interrupts on is recalled", recalled("sti; loop", STI)?)
}

/// Whether interrupts stop a guest that has them off. Bochs' SVM masks them at VMRUN by the guest's flag, although
/// V_INTR_MASKING is set; they come when the guest turns its own on.
fn interrupts_stop_it() -> Result<bool, String> {
    static STOPPED: OnceLock<Result<bool, String>> = OnceLock::new();
    let stopped = STOPPED.get_or_init(|| recalled("cli; loop", CLI)).clone()?;
    let f = Facts::here();
    let known = f.emulator == Emulator::Bochs && f.vendor == Vendor::Svm;
    holds("a guest with interrupts off is recalled", stopped || known)?;
    Ok(stopped)
}

pub fn recall_off() -> Outcome {
    if interrupts_stop_it()? { Ok(()) } else { Err(format!("{}{LOST}", crate::check::NOT_HERE)) }
}

const LOST: &str = "Bochs' SVM loses interrupts while the guest has them off";

pub fn shares_cpu() -> Outcome {
    let first = if interrupts_stop_it()? { CLI } else { STI };
    let mut g = Guest::new(&[first, 0xeb, 0xfe], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    let count = Arc::new(AtomicU64::new(0));
    let (c, stop) = (count.clone(), crate::scene::in_ms(200));
    rt::thread::set_spawn_priority(1);
    let other = std::thread::spawn(move || {
        while rt::time::tsc() < stop {
            c.fetch_add(1, SeqCst);
        }
    });
    rt::thread::set_spawn_priority(0);
    done("start", g.vcpu.start(1))?;
    // Both before it stops.
    let wait = |ms| Semaphore::new(0).down_until(crate::scene::in_ms(ms));
    wait(100);
    let a = count.load(SeqCst);
    wait(60);
    let b = count.load(SeqCst);
    other.join().map_err(|_| "panic")?;
    done("recall", g.vcpu.recall())?;
    arrives("end of the guest", &g.end)?;
    holds("an equal of the guest runs", a > 0 && b > a)
}

/// A guest that was entered with interrupts off, and a thread of its CPU that another CPU releases.
pub fn hears_of_others() -> Outcome {
    let cpu = crate::cpus::other()?;
    // cpuid, which exits, and the loop
    let code = [&[0x0f, 0xa2][..], &loop_after(NOP)].concat();
    let react = |n, s: &mut ArchState| match n {
        event::GST_STARTUP => Some(Mtd::empty()),
        reason::CPUID => Some(skip(s)),
        _ => None,
    };
    let mut g = crate::scene::on_cpu(cpu, || Guest::new(&code, |_| {}, react))?;
    let (go, came) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (wait, tell) = (go.clone(), came.clone());
    rt::thread::set_spawn_cpu(cpu);
    let thread = std::thread::spawn(move || {
        wait.down();
        tell.up();
    });
    rt::thread::set_spawn_cpu(crate::scene::cpu());
    done("start", g.vcpu.start(1))?;
    sleep_ms(20);
    go.up();
    arrives("the thread on the guest's CPU", &came)?;
    thread.join().map_err(|_| "panic")?;
    done("recall", g.vcpu.recall())?;
    arrives("end of the guest", &g.end)?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID, event::GST_RECALL])
}

pub fn poison() -> Outcome {
    let mut g =
        Guest::new(&[0x0f, 0xa2, 0xeb, 0xfc], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    g.run()?;
    sleep_ms(5);
    done("recall of a dead vCPU", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::CPUID])
}

// docs/spec/ipc_reply.md. A kernel that enters with an EPT pointer of 0 is refused by the CPU (VM-instruction error 7),
// and the VMM sees event 0x21 instead.
pub fn no_space() -> Outcome {
    let mut g = Guest::new(&[0xf4], |s| s.sel_gst = 0, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    done("start", g.vcpu.start(1))?;
    sleep_ms(10);
    done("recall", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP])
}

pub fn assigned_outside() -> Outcome {
    let code = [0xf4];
    let keep = |s: &mut ArchState| (s.sel_gst, s.sel_pio, s.sel_msr) = (0, 0, 0);
    let mut g = Guest::new(&code, keep, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    rt::utcb().arch_mut().sel_gst = g._space.sel();
    // SAFETY: a virtual CPU.
    done("set_state", unsafe { hc::set_state(g.vcpu.sel(), Mtd::SPACES) })?;
    g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT])
}

pub fn no_portal() -> Outcome {
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            _ => Some(skip(s)),
        },
    )?;
    rt::sel::free(g._events.base + reason::CPUID);
    done("start", g.vcpu.start(1))?;
    sleep_ms(10);
    done("recall", g.vcpu.recall())?;
    sleep_ms(5);
    equal("events", g.numbers(), vec![event::GST_STARTUP])
}
