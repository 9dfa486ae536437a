//! Recall, failed entries, and what ends a virtual CPU.

use super::exits::until_hlt;
use super::*;

pub fn recall() -> Outcome {
    for (what, code) in [("sti; jmp $", [0xfb, 0xeb, 0xfe]), ("cli; jmp $", [0xfa, 0xeb, 0xfe])] {
        let mut recalls = 0;
        let mut g = Guest::new(
            &code,
            |_| {},
            move |n, _| match n {
                event::GST_STARTUP => Some(Mtd::empty()),
                event::GST_RECALL => {
                    recalls += 1;
                    (recalls < 3).then_some(Mtd::empty())
                }
                _ => None,
            },
        )?;
        done("start", g.vcpu.start(1))?;
        for _ in 0..3 {
            sleep_ms(5);
            done("recall", g.vcpu.recall())?;
        }
        arrives(what, &g.end)?;
        let e = g.events();
        equal(what, g.numbers(), [vec![event::GST_STARTUP], vec![event::GST_RECALL; 3]].concat())?;
        equal("RIP", e[3].1.rip, CODE + 1)?;
    }
    Ok(())
}

pub fn recall_early() -> Outcome {
    let mut g = Guest::new(&[0xeb, 0xfe], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    done("recall", g.vcpu.recall())?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, event::GST_RECALL])?;
    equal("RIP", e[1].1.rip, CODE)
}

pub fn shares_cpu() -> Outcome {
    let mut g = Guest::new(&[0xfa, 0xeb, 0xfe], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    let count = Arc::new(AtomicU64::new(0));
    let (c, stop) = (count.clone(), in_ms(200));
    rt::thread::set_spawn_priority(1);
    let other = std::thread::spawn(move || {
        while rt::time::tsc() < stop {
            c.fetch_add(1, SeqCst);
        }
    });
    rt::thread::set_spawn_priority(0);
    done("start", g.vcpu.start(1))?;
    sleep_ms(100);
    let a = count.load(SeqCst);
    sleep_ms(60);
    let b = count.load(SeqCst);
    other.join().map_err(|_| "panic")?;
    done("recall", g.vcpu.recall())?;
    arrives("end of the guest", &g.end)?;
    holds("an equal of the guest runs", a > 0 && b > a)
}

// A failed first entry is no launch: a kernel that takes it for one enters by VMRESUME afterwards, which the CPU
// refuses (VM-instruction error 5) again and again.
pub fn bad_state() -> Outcome {
    let mut g = Guest::new(
        &[0x0f, 0xa2, 0xf4],
        |_| {},
        |n, s| match n {
            event::GST_STARTUP => {
                // Code segments have a type from 9 on (in real mode also 3); this one has none.
                s.cs.ar = 0x90;
                Some(Mtd::CS_SS)
            }
            reason::ENTRY_FAILURE => {
                s.cs.ar = 0x9b;
                Some(Mtd::CS_SS)
            }
            reason::CPUID => Some(skip(s)),
            _ => None,
        },
    )?;
    let e = g.run()?;
    let first: Vec<_> = g.numbers().into_iter().take(6).collect();
    equal("first events", first, vec![event::GST_STARTUP, reason::ENTRY_FAILURE, reason::CPUID, reason::HLT])?;
    equal("RIP, CS access rights at the failure", (e[1].1.rip, e[1].1.cs.ar), (CODE, 0x90))?;
    equal("qualification", e[1].1.qual[0], 0)
}

pub fn triple_fault() -> Outcome {
    // lidt [0x6000] (all zero: limit 0); ud2
    let e = until_hlt(&[0x0f, 0x01, 0x1e, 0x00, 0x60, 0x0f, 0x0b])?;
    equal("events", e.iter().map(|e| e.0).collect(), vec![reason::TRIPLE_FAULT])
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
