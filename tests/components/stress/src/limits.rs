//! Where threads are, and where they may not be.

use crate::work::{Outcome, Setting, Slot, equal, refused};
use abi::Status;
use parent::{MAX_CPUS, sel};
use rt::hypercall::{self as hc, EcArgs};
use std::io::ErrorKind;
use std::thread;

/// Each CPU of the component runs threads, which know where they are, and print.
pub fn places(s: &Setting) -> Outcome {
    s.all_pass(s.cpus.len(), |i| {
        equal("CPU of the thread", rt::thread::cpu(), s.cpu(i))?;
        println!("stress: hello from CPU {}", s.cpu(i));
        Ok(())
    })?;
    // Threads start where the thread that spawns them is, if it does not say something else.
    let nested = s.on_all(s.cpus.len(), |_| thread::scope(|t| t.spawn(rt::thread::cpu).join().expect("thread")));
    equal("CPUs of threads of threads", nested, s.cpus.clone())?;
    equal("the first CPU is that of the first thread", rt::thread::cpu(), s.cpus[0])?;
    Ok(format!("{} CPUs", s.cpus.len()))
}

/// Threads, portal threads and vCPUs elsewhere are refused, also if one does not ask the runtime.
pub fn refusals(s: &Setting) -> Outcome {
    let machine = machine_cpus();
    let (last, beyond) = (MAX_CPUS as u16 - 1, MAX_CPUS as u16);
    let elsewhere = (0..machine).chain([machine, last, beyond, 0xfff, u16::MAX]).filter(|c| !s.cpus.contains(c));
    let mut count = 0;
    for cpu in elsewhere {
        rt::thread::set_spawn_cpu(cpu);
        let spawned = thread::Builder::new().spawn(|| ());
        rt::thread::set_spawn_cpu(s.cpus[0]);
        let kind = spawned.map(|t| t.join().expect("thread")).map_err(|e| e.kind());
        equal(&format!("thread on CPU {cpu}"), kind, Err(ErrorKind::InvalidInput))?;
        let handler = Box::new(|_, _, _: &mut abi::Utcb| 0);
        refused(&format!("portal thread on CPU {cpu}"), rt::PortalThread::new(cpu, 1, handler), Status::BadCpu)?;
        refused(&format!("vCPU on CPU {cpu}"), rt::vm::Vcpu::new(cpu, 0), Status::BadCpu)?;
        count += 1;
    }
    let free = creates_ecs(s);
    if !free {
        by_hand(s)?;
    }
    Ok(format!("{count} numbers{}", if free { "" } else { "; create_ec by hand" }))
}

/// Whether this component may create ECs itself: it has all CPUs. Of one that has not, the root task creates the threads.
pub fn creates_ecs(s: &Setting) -> bool {
    s.cpus.len() == usize::from(machine_cpus())
}

fn machine_cpus() -> u16 {
    rt::start_info().map_or(0, |i| i.cpus as u16)
}

/// A component that may not use all CPUs holds no permission to create ECs, in its own PD or below.
fn by_hand(s: &Setting) -> Result<(), String> {
    let (ec, pd) = (Slot::new()?, Slot::new()?);
    let args = EcArgs { utcb_page: 0x60_0000_0000, cpu: s.cpus[0], ..EcArgs::default() };
    // SAFETY: refused.
    refused("create_ec in the own PD", unsafe { hc::create_ec(ec.0, sel::PD, args) }, Status::BadCap)?;
    hc::create_pd(abi::CreatePdOp::Pd, pd.0, sel::PD).map_err(|e| format!("create_pd: {e:?}"))?;
    // SAFETY: refused.
    refused("create_ec in a PD below", unsafe { hc::create_ec(ec.0, pd.0, args) }, Status::BadCap)
}
