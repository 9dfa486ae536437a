//! Memory and capabilities that go from one domain to another and back, and page faults.

use crate::clock::{LONG_OVERHEAD, OVERHEAD, Registers, SAMPLES, WARM_UP, missing, report, samples_at, ticks};
use crate::semaphores::{ONE_CPU, other_cpu};
use crate::servers::{Code as Serve, Domain, selector};
use crate::threads::{Code, Place, R8, R12, R13, R15, RSP, Start, Thread, registers};
use abi::{Hypercall, Mad, Mtd, Sel, perm};
use bare::{PAGE, Slot, memory, page, window};
use parent::sel;

/// What is mapped: the name, and log2 of pages.
const SIZES: [(&str, u32); 4] = [("1p", 0), ("8p", 3), ("64p", 6), ("2m", 9)];
/// Exception of a page that is not there.
const PAGE_FAULT: u64 = 14;

/// A delegation, as registers: from `src` to `dst`, selectors or addresses in pages.
fn delegation(src: Sel, dst: Sel, from: u64, to: u64, order: u32, perms: u8) -> Registers {
    let (rdx, rax) = (from << 12 | u64::from(order), to << 12 | u64::from(perms));
    Registers { rdi: Hypercall::CtrlPd.identifier(0, src), rsi: dst, rdx, rax, r8: Mad::WB.0.into() }
}

/// Two kinds of samples.
type Pair = (Vec<u32>, Vec<u32>);

/// Delegates and revokes in turns.
fn there_and_back(there: Registers, back: Registers) -> Result<Pair, String> {
    let mut samples = Pair::default();
    for i in 0..WARM_UP + SAMPLES {
        // SAFETY: callers name memory that nothing relies on, or an object space.
        let (a, b) = unsafe { (ticks("delegate", there)?, ticks("revoke", back)?) };
        if i >= WARM_UP {
            samples.0.push(a);
            samples.1.push(b);
        }
    }
    Ok(samples)
}

fn report_pair(names: [String; 2], pair: Result<Pair, String>) {
    let (there, back) = match pair {
        Ok((there, back)) => (Ok(there), Ok(back)),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    report(&names[0], there, LONG_OVERHEAD);
    report(&names[1], back, LONG_OVERHEAD);
}

/// Pages of ours, mapped into a space and taken away again.
fn pages(where_: &str, dst: Sel, to: u64) {
    let from = memory(2 << 20, 2 << 20) / PAGE;
    for (size, order) in SIZES {
        let way = |perms| delegation(sel::HST, dst, from, to / PAGE, order, perms);
        let pair = there_and_back(way((perm::Mem::R | perm::Mem::W).bits()), way(0));
        report_pair([format!("map_{size}_{where_}"), format!("unmap_{size}_{where_}")], pair);
    }
}

/// The same in our own space, while a thread of ours runs on another CPU.
fn pages_on_two_cpus(cpu: u16) -> Result<(), String> {
    let Some(other) = other_cpu(cpu) else {
        for (size, _) in SIZES {
            missing(&format!("map_{size}_own_pd_two_cpus"), ONE_CPU);
            missing(&format!("unmap_{size}_own_pd_two_cpus"), ONE_CPU);
        }
        return Ok(());
    };
    let place = Place { cpu: other, lower: 1, fpu: true };
    let _runs = Thread::new(place, Code::Spin, registers(&[(R15, memory(8, 64))]))?;
    pages("own_pd_two_cpus", sel::HST, window());
    Ok(())
}

/// A capability, to another domain.
fn capability(domain: &Domain) -> Result<Pair, String> {
    let (sm, to) = (Slot::sm(0)?, selector()?);
    let way = |perms| delegation(sel::OBJ, domain.obj(), sm.0, to, 0, perms);
    there_and_back(way(perm::ALL), way(0))
}

/// A page fault: the access, the pager, which maps one page, and the access again.
fn page_fault(cpu: u16, pager: &Domain) -> Result<Vec<u32>, String> {
    let (from, to, read) = (page(), window(), perm::Mem::R.bits());
    let back = delegation(sel::HST, sel::HST, from / PAGE, to / PAGE, 0, 0);
    let server = pager.server(cpu, true)?;
    // As a pager of its own it has our host space from us.
    pager.give(sel::HST)?;
    let there = delegation(sel::HST, sel::HST, from / PAGE, to / PAGE, 0, read);
    server.load([0, there.rdi, there.rsi, there.rdx, there.rax, 0])?;
    let start = Start::of(1);
    let place = Place { cpu, lower: 1, fpu: true };
    let set = [(R12, back.rdi), (R13, back.rsi), (R8, back.rdx), (RSP, back.rax), (R15, to)];
    let (faulter, buffer) = start.sampler_asleep(place, Code::Touch, &set)?;
    server.portal(faulter.events() + PAGE_FAULT, Serve::Pager, Mtd::QUAL.bits())?;
    faulter.start(place.lower)?;
    start.wait(1)?;
    Ok(samples_at(buffer))
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    let other = Domain::other()?;
    pages("other_pd", other.hst(), window());
    pages("own_pd", sel::HST, window());
    pages_on_two_cpus(cpu)?;
    report_pair(["delegate_capability", "revoke_capability"].map(str::to_owned), capability(&other));
    report("page_fault_pager_same_pd", page_fault(cpu, &Domain::own()), OVERHEAD);
    report("page_fault_pager_other_pd", page_fault(cpu, &Domain::other()?), OVERHEAD);
    Ok(())
}
