//! Objects that are created and destroyed on all CPUs at once, and capabilities that go while others use them.

use crate::work::{Frame, Outcome, RW, Random, Setting, Slot, copy, done, equal, is_zero, refused};
use abi::{CreatePdOp, Status, Utcb, perm};
use parent::sel;
use rt::hypercall as hc;
use rt::{PortalThread, Semaphore};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

/// What a worker does at random, and checks.
type Step = fn(&mut Random, &Local) -> Result<(), String>;
const STEPS: &[Step] = &[semaphore, domain, portal, spaces, copies];

/// What each worker has.
struct Local {
    /// A local thread on its CPU that replies with the identifier of the portal.
    thread: PortalThread,
    frame: Frame,
}

/// Workers create objects of all kinds, use them, and take the last capability away.
pub fn come_and_go(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(2));
    s.all_pass(count, |i| {
        let handler = |pid, _, u: &mut Utcb| {
            u.words[0] = pid;
            abi::Mtd::words(1)
        };
        let thread = done("portal thread", PortalThread::new(s.cpu(i), 1, Box::new(handler)))?;
        let (mut random, local) = (s.random(i), Local { thread, frame: Frame::new() });
        for _ in 0..rounds {
            let step = STEPS[random.below(STEPS.len() as u64) as usize];
            step(&mut random, &local)?;
        }
        Ok(())
    })?;
    Ok(format!("{} objects or groups of them", rounds * count as u64))
}

fn semaphore(random: &mut Random, _: &Local) -> Result<(), String> {
    let (slot, count) = (Slot::new()?, random.below(5));
    done("create_sm", hc::create_sm(slot.0, sel::PD, count))?;
    done("up", hc::sm_up(slot.0))?;
    let s = Semaphore::from_sel(slot.0);
    let left = (0..9).take_while(|_| !is_zero(&s)).count() as u64;
    equal("count of a new semaphore", left, count + 1)?;
    done("revoke", copy(slot.0, slot.0, 0))?;
    refused("up of what was revoked", hc::sm_up(slot.0), Status::BadCap)
}

fn domain(_: &mut Random, local: &Local) -> Result<(), String> {
    let slots = [Slot::new()?, Slot::new()?, Slot::new()?, Slot::new()?];
    let [pd, obj, hst, sm] = &slots;
    done("create_pd", hc::create_pd(CreatePdOp::Pd, pd.0, sel::PD))?;
    done("object space", hc::create_pd(CreatePdOp::Obj, obj.0, pd.0))?;
    done("host space", hc::create_pd(CreatePdOp::Hst, hst.0, pd.0))?;
    done("map", local.frame.map(hst.0, Frame(0x40_0000), RW))?;
    done("create_sm", hc::create_sm(sm.0, pd.0, 0))?;
    // A capability in a space that goes with its domain.
    // SAFETY: into an object space.
    let given = unsafe { hc::ctrl_pd(sel::OBJ, obj.0, sm.0, 7, 0, perm::ALL, abi::Mad::WB) };
    done("give", given)
}

fn portal(random: &mut Random, local: &Local) -> Result<(), String> {
    let (slot, pid) = (Slot::new()?, random.below(u64::MAX));
    done("create_pt", local.thread.portal(slot.0, pid, 0))?;
    done("call", hc::ipc_call(slot.0, 0, false))?;
    let got = rt::utcb().words[0];
    equal("identifier of the portal", got, pid)
}

fn spaces(random: &mut Random, local: &Local) -> Result<(), String> {
    let slot = Slot::new()?;
    match (rt::vm::GuestSpace::new(), local.frame) {
        (Ok(g), frame) => {
            let host = std::ptr::with_exposed_provenance(frame.0 as usize);
            let gpa = random.below(1 << 30) * crate::work::PAGE;
            // SAFETY: a frame is never given back, and is accessed atomically.
            done("map for a guest", unsafe { g.map(gpa, host, crate::work::PAGE, RW) })?;
        }
        (Err(Status::BadFtr), _) => {}
        (Err(e), _) => return Err(format!("guest space: {e:?}")),
    }
    done("PIO space", hc::create_pd(CreatePdOp::Pio, slot.0, sel::PD))
}

/// Copies of one semaphore, here and there, all but one of them taken away again.
fn copies(random: &mut Random, _: &Local) -> Result<(), String> {
    let first = Slot::new()?;
    done("create_sm", hc::create_sm(first.0, sel::PD, 0))?;
    let copies: Vec<Slot> = (0..=random.below(6)).map(|_| Slot::new()).collect::<Result<_, _>>()?;
    copies.iter().try_for_each(|c| done("copy", copy(first.0, c.0, perm::ALL)))?;
    drop(first);
    copies.iter().try_for_each(|c| done("up of a copy", hc::sm_up(c.0)))?;
    let s = Semaphore::from_sel(copies[0].0);
    let left = (0..9).take_while(|_| !is_zero(&s)).count();
    equal("ups by way of copies", left, copies.len())
}

/// All want to create a semaphore at the same selector: whoever succeeds has it to itself until it revokes it.
pub fn one_selector(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(1));
    let (slot, owned, creations) = (Slot::new()?, AtomicBool::new(false), AtomicU64::new(0));
    s.all_pass(count, |_| {
        for _ in 0..rounds {
            match hc::create_sm(slot.0, sel::PD, 0) {
                Err(Status::BadCap) => continue,
                other => done("create_sm", other)?,
            }
            equal("somebody else has it, too", owned.swap(true, SeqCst), false)?;
            done("up", hc::sm_up(slot.0))?;
            done("down", hc::sm_down(slot.0, false, Some(1)))?;
            creations.fetch_add(1, SeqCst);
            owned.store(false, SeqCst);
            done("revoke", copy(slot.0, slot.0, 0))?;
        }
        Ok(())
    })?;
    Ok(format!("{} attempts, {} of them successful", rounds * count as u64, creations.into_inner()))
}

/// Half of the workers up a semaphore by way of one selector, at which the others put and take the capability all the
/// time. An up either counts or is refused.
pub fn revoked(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers() & !1, s.part(1));
    let (home, there) = (Semaphore::new(0), Slot::new()?);
    let ups = AtomicU64::new(0);
    s.all_pass(count, |i| {
        for round in 0..rounds {
            if i < count / 2 {
                let perms = if (round + i as u64).is_multiple_of(2) { perm::ALL } else { 0 };
                done("put or take", copy(home.sel(), there.0, perms))?;
                continue;
            }
            match hc::sm_up(there.0) {
                Err(Status::BadCap) => {}
                other => {
                    done("up", other)?;
                    ups.fetch_add(1, SeqCst);
                }
            }
        }
        Ok(())
    })?;
    let ups = ups.into_inner();
    let counted = (0..).take_while(|_| !is_zero(&home)).count() as u64;
    equal("ups that count", counted, ups)?;
    Ok(format!("{ups} of {} ups arrived", rounds * count as u64 / 2))
}

/// Threads that die at once, without anybody who would handle it, as fast as can be: whoever calls them is told, and the
/// kernel's log is not flooded.
pub fn killed(s: &Setting) -> Outcome {
    if !crate::limits::creates_ecs(s) {
        return Ok(
            "not here: it takes ECs of another domain, which a component with some of the CPUs may not create".into()
        );
    }
    let (count, rounds) = (s.cpus.len().min(8), s.part(2));
    s.all_pass(count, |i| die(s.cpu(i), rounds))?;
    // The kernel says how many lines it has left out before the next one that it may print.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    s.all_pass(1, |i| die(s.cpu(i), 1))?;
    Ok(format!("{} threads died", rounds * count as u64))
}

/// Threads on all CPUs spawn threads on all CPUs, which return something, and join them.
pub fn threads(s: &Setting) -> Outcome {
    let (count, rounds) = (s.workers(), s.part(20));
    s.all_pass(count, |i| {
        let mut random = s.random(i);
        for round in 0..rounds {
            let cpu = s.cpu(random.below(s.cpus.len() as u64) as usize);
            rt::thread::set_spawn_cpu(cpu);
            let spawned = std::thread::Builder::new().stack_size(16 << 10).spawn(move || (rt::thread::cpu(), round));
            let got = spawned.map_err(|e| format!("spawn: {e}"))?.join().map_err(|_| "thread panicked")?;
            equal("what the thread returns", got, (cpu, round))?;
        }
        Ok(())
    })?;
    Ok(format!("{} threads", rounds * count as u64))
}

/// Threads of a domain without memory, on a CPU, one after the other.
fn die(cpu: u16, rounds: u64) -> Result<(), String> {
    let slots = [Slot::new()?, Slot::new()?, Slot::new()?];
    let [pd, obj, hst] = &slots;
    done("create_pd", hc::create_pd(CreatePdOp::Pd, pd.0, sel::PD))?;
    done("object space", hc::create_pd(CreatePdOp::Obj, obj.0, pd.0))?;
    done("host space", hc::create_pd(CreatePdOp::Hst, hst.0, pd.0))?;
    for _ in 0..rounds {
        let (ec, pt) = (Slot::new()?, Slot::new()?);
        let args = hc::EcArgs { utcb_page: 0x1000, cpu, ..hc::EcArgs::default() };
        // SAFETY: an EC of another domain, which has no memory to run in.
        patiently("create_ec", || unsafe { hc::create_ec(ec.0, pd.0, args) })?;
        // SAFETY: as above.
        patiently("create_pt", || unsafe { hc::create_pt(pt.0, sel::PD, ec.0, 0) })?;
        refused("call of who dies of it", hc::ipc_call(pt.0, 0, false), Status::Aborted)?;
        refused("call of the dead", hc::ipc_call(pt.0, 0, false), Status::Aborted)?;
    }
    Ok(())
}

/// Again while memory is lacking, for a second at most: a call waits for what its own CPU has to destroy, and other CPUs may be
/// late with theirs.
fn patiently(what: &str, create: impl Fn() -> Result<(), Status>) -> Result<(), String> {
    for _ in 0..1000 {
        match create() {
            Err(Status::MemObj | Status::MemCap) => std::thread::sleep(std::time::Duration::from_millis(1)),
            other => return done(what, other),
        }
    }
    done(what, create())
}
