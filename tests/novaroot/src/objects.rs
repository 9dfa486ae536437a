//! Creating objects: what is refused, and how [5.3].

use crate::nova::{Regs, Status, call, hypercall, on, root};
use crate::world::{World, place, sel};
use crate::{Verdict, check};

/// What a hypercall leaves of the registers [8.8].
pub fn calling_convention(w: &World) -> Verdict {
    let before = Regs([sel::FREE << 8 | call::CREATE_SM, w.root(root::PD), 7, 0x1234_5678_9abc_def0, !0]);
    let Regs(after) = hypercall(before);
    check!(after[0] & 0xff == Status::Success as u64, after[0]);
    check!(after[1..] == before.0[1..], after[3]);
    w.empty(sel::FREE, 0);
    let Regs(after) = hypercall(Regs([w.root(root::PD) << 8 | 0xf | 0xf0, 0, 0, 0, 0]));
    check!(after[0] & 0xff == Status::BadHyp as u64, after[0]);
    Verdict::Ok
}

/// PDs and spaces [5.3.1].
pub fn create_status(w: &World) -> Verdict {
    let (pd, new) = (w.root(root::PD), sel::FREE);
    let create = |id: u64, at: u64, owner: u64| on(id, at, [owner, 0, 0, 0]).0;
    check!(create(call::PD, new, pd) == Status::Success);
    check!(create(call::PD, new, pd) == Status::BadCap); // the slot is taken
    check!(create(call::PD, new + 1, w.root(root::EC)) == Status::BadCap);
    check!(create(call::PD, new + 1, new + 1) == Status::BadCap);
    check!(create(call::PD_BAD_OP, new + 1, pd) == Status::BadPar);
    for (i, space) in [call::OBJ, call::HST, call::PIO, call::MSR].into_iter().enumerate() {
        let status = create(space, new + 1 + i as u64, new);
        check!(status == Status::Success, space << 8 | status as u64);
    }
    for second in [call::OBJ, call::HST] {
        check!(create(second, new + 5, new) == Status::Aborted, second);
    }
    // Many of these are allowed.
    check!(create(call::PIO, new + 5, new) == Status::Success);
    check!(create(call::MSR, new + 6, new) == Status::Success);
    // Its creator's permissions are inherited: one without PD cannot make another.
    let own = w.root(root::OBJ);
    check!(w.delegate((own, new), (own, new + 7), 0, 0x1e) == Status::Success);
    check!(create(call::PD, new + 8, new + 7) == Status::BadCap);
    check!(on(call::CREATE_SM, new + 8, [new + 7, 0, 0, 0]).0 == Status::Success);
    w.empty(sel::FREE, 4);
    check!(create(call::PD, new, pd) == Status::Success); // the slot is null again
    // It has no spaces yet.
    let (status, _) = on(call::EC_LOCAL, new + 1, [new, place::FREE, 0, 0]);
    check!(status == Status::Aborted, status as u8);
    w.empty(sel::FREE, 4);
    Verdict::Ok
}

/// ECs, SCs and portals [5.3.2 to 5.3.4].
pub fn threads_status(w: &World) -> Verdict {
    let (pd, ec) = (w.root(root::PD), sel::FREE);
    let create = |hvp: u64, cpu: u64| on(call::EC_LOCAL, ec, [pd, hvp | cpu, 0, 0]).0;
    check!(create(place::FREE, w.hip.cpu_num()) == Status::BadCpu);
    check!(create(w.hip.0 + 0x1000, 0) == Status::BadPar);
    check!(create(place::FREE, w.hip.cpu_bsp()) == Status::Success);
    // A new UTCB is mapped, and its words are zero.
    // SAFETY: as `create_ec` says.
    check!(unsafe { (place::FREE as *const u64).read_volatile() } == 0);
    let sc = |of: u64, scd: u64| on(call::CREATE_SC, ec + 1, [pd, of, scd, 0]).0;
    check!(sc(ec, 1 << 16 | 10) == Status::BadCap); // a local thread has no SC
    check!(on(call::CREATE_PT, ec + 1, [pd, w.root(root::EC), 0, 0]).0 == Status::BadCap);
    check!(on(call::EC_GLOBAL, ec + 2, [pd, (place::FREE + 0x1000) | w.hip.cpu_bsp(), 0, 0]).0 == Status::Success);
    check!(sc(ec + 2, 1 << 16) == Status::BadPar); // no budget
    check!(sc(ec + 2, 10) == Status::BadPar); // no priority
    check!(sc(w.root(root::EC), 1 << 16 | 10) == Status::Aborted); // it has one
    check!(on(call::CREATE_PT, ec + 1, [pd, ec + 2, 0, 0]).0 == Status::BadCap);
    check!(on(call::CREATE_PT, ec + 1, [pd, ec, 0, 0]).0 == Status::Success);
    w.empty(sel::FREE, 2);
    Verdict::Ok
}
