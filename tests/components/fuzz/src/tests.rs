//! Tests on the host: what the fuzzer does, without a kernel.

use super::*;
use abi::Hypercall;

fn place(worker: u16) -> Place {
    Place {
        worker,
        cpu: worker % 4,
        cpus: 4,
        arena: parent::layout::UNUSED,
        own: 0x80_0000_0000,
        own_pages: 8,
        entries: [0x40_1000, 0x40_1010, 0x40_1020, 0x40_1030],
        patience: 1000,
        ext_ops: 0xffff,
    }
}

fn stream(seed: u64, count: usize) -> Vec<Call> {
    let mut f = Fuzzer::new(seed, place(1));
    (0..count)
        .map(|i| {
            let c = f.next(i as u64);
            f.learn(&c, if i % 3 == 0 { 5 } else { 0 });
            c
        })
        .collect()
}

#[test]
fn same_seed_same_calls() {
    assert_eq!(stream(7, 10_000), stream(7, 10_000));
    assert_ne!(stream(7, 100), stream(8, 100));
}

#[test]
fn all_numbers_and_operations_come() {
    let (mut numbers, mut ops) = ([0u32; NUMBERS], [0u32; 16]);
    for c in stream(1, 100_000) {
        numbers[(c.rdi & 0xf) as usize] += 1;
        if c.rdi & 0xf == 0xf {
            ops[(c.rdi >> 4 & 0xf) as usize] += 1;
        }
    }
    assert!(numbers.iter().all(|&n| n > 100), "{numbers:?}");
    assert!(ops.iter().all(|&n| n > 50), "{ops:?}");
}

#[test]
fn no_down_waits_long() {
    let mut downs = 0;
    for seed in 0..20 {
        let mut f = Fuzzer::new(seed, place(0));
        for now in 0..20_000u64 {
            let c = f.next(now);
            if c.rdi & 0xf == Hypercall::CtrlSm as u64 && c.rdi & 0x10 != 0 {
                downs += 1;
                assert!(c.rsi != 0 || now == 0, "no deadline");
                assert!(c.rsi <= now + 1000, "{c:x?} at {now}");
            }
        }
    }
    assert!(downs > 1000);
}

#[test]
fn operations_that_are_not_allowed_are_not_tried() {
    let mut f = Fuzzer::new(3, Place { ext_ops: 0x8001, ..place(0) });
    let mut seen = 0;
    for now in 1..50_000 {
        let c = f.next(now);
        if c.rdi & 0xf == 0xf {
            seen |= 1 << (c.rdi >> 4 & 0xf);
        }
    }
    assert_eq!(seen, 0x8001);
}

#[test]
fn what_was_created_is_picked() {
    let mut f = Fuzzer::new(5, place(2));
    let first = fixed::SLOTS + 2 * SLOTS as u64;
    let sm = Call { rdi: Hypercall::CreateSm.identifier(0, first + 9), ..Call::default() };
    f.learn(&sm, 0);
    assert_eq!(f.slots.kind(first + 9), Kind::Sm);
    let ups =
        (1..50_000).map(|now| f.next(now)).filter(|c| c.rdi == Hypercall::CtrlSm.identifier(0, first + 9)).count();
    assert!(ups > 100, "{ups}");
    // A refused call has made nothing, a revocation takes it away.
    f.learn(&Call { rdi: Hypercall::CreateSm.identifier(0, first + 10), ..Call::default() }, 5);
    assert_eq!(f.slots.kind(first + 10), Kind::Null);
    let revoke = |sel: u64, order: u64| Call {
        rdi: Hypercall::CtrlPd.identifier(0, fixed::OBJ),
        rsi: fixed::OBJ,
        rdx: sel << 12 | order,
        rax: sel << 12,
        r8: 0,
    };
    f.learn(&revoke(first + 8, 1), 0);
    assert_eq!(f.slots.kind(first + 9), Kind::Null);
}

#[test]
fn copies_are_known() {
    let mut f = Fuzzer::new(5, place(0));
    let copy = Call {
        rdi: Hypercall::CtrlPd.identifier(0, fixed::OBJ),
        rsi: fixed::OBJ,
        rdx: fixed::PD << 12,
        rax: (fixed::SLOTS + 3) << 12 | 0x1f,
        r8: 0,
    };
    f.learn(&copy, 0);
    assert_eq!(f.slots.kind(fixed::SLOTS + 3), Kind::Pd);
    // Out of another space, which we know nothing about.
    f.learn(&Call { rdi: Hypercall::CtrlPd.identifier(0, fixed::SLOTS + 9), ..copy }, 0);
    assert_eq!(f.slots.kind(fixed::SLOTS + 3), Kind::Null);
    // Large ones with wild selectors do no harm here.
    f.learn(&Call { rdx: u64::MAX, rax: u64::MAX, ..copy }, 0);
    f.learn(&Call { rdx: 18, rax: 0, ..copy }, 0);
    assert_eq!(f.slots.kind(fixed::SLOTS + 3), Kind::Null);
}

#[test]
fn addresses_are_near_edges() {
    let mut r = Random::new(1);
    let near = |a: u64, edge: u64| a.wrapping_sub(edge).wrapping_add(1 << 22) <= 1 << 23;
    let many: Vec<_> = (0..10_000).map(|_| r.boundary()).collect();
    for edge in [0, 1 << 47, (1u64 << 47).wrapping_neg(), 1 << 48, 0xffff_ffff_8000_0000] {
        assert!(many.iter().filter(|&&a| near(a, edge)).count() > 300, "{edge:x}");
    }
    assert!(many.iter().any(|a| a % 4096 == 0) && many.iter().any(|a| a % 4096 == 1));
}

#[test]
fn statuses_have_places() {
    assert_eq!(status_index(0), 0);
    assert_eq!(status_index(0xab05), 5);
    assert_eq!(status_index(0xff), STATUSES - 1);
}
