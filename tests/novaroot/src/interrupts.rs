//! Interrupts by pins [5.5.2]: that of COM1, which says that it can send.

use crate::console::{self, COM1, input, out};
use crate::nova::{Regs, Status, call, hypercall, nova_obj, on, root, stc};
use crate::world::{World, sel};
use crate::{Verdict, check};

/// Pin of COM1.
const GSI: u64 = 4;
const SM: u64 = sel::FREE;

/// Has COM1 raise its interrupt: an empty transmitter does when that is first asked for.
fn raise() {
    console::drain();
    let _ = input(COM1 + 2);
    out(COM1 + 1, 0);
    out(COM1 + 1, 2);
}

/// Masked, unmasked, on another CPU, and what is refused.
pub fn pin(w: &World) -> Verdict {
    let bsp = w.hip.cpu_bsp();
    let assign = |id: u64, sm: u64, cpu: u64| on(id, sm, [cpu, 0, 0, 0]).0;
    let down = |ms: u64| on(call::SM_DOWN, SM, [stc() + w.hip.stc_freq() / 1000 * ms, 0, 0, 0]).0;
    check!(w.take(nova_obj::INTERRUPTS + GSI, SM) == Status::Success);
    raise();
    check!(down(20) == Status::Timeout); // masked before the first assignment
    check!(assign(call::ASSIGN_INT, SM, w.hip.cpu_num()) == Status::BadCpu);
    check!(assign(call::ASSIGN_INT, w.root(root::PD), bsp) == Status::BadCap);
    check!(on(call::CREATE_SM, SM + 1, [w.root(root::PD), 0, 0, 0]).0 == Status::Success);
    check!(assign(call::ASSIGN_INT, SM + 1, bsp) == Status::BadCap);
    check!(assign(call::ASSIGN_INT_MASKED, SM, bsp) == Status::Success);
    raise();
    check!(down(20) == Status::Timeout); // it is masked
    out(COM1 + 1, 0);
    let Regs(after) = hypercall(Regs([SM << 8 | call::ASSIGN_INT, bsp, 0, 0, 0]));
    check!(after[0] & 0xff == Status::Success as u64, after[0]);
    check!(after[1..3] == [0, 0]); // a pin has no message
    // What has come before, if anything.
    let _ = on(call::SM_DOWN_ZERO, SM, [1, 0, 0, 0]);
    raise();
    let came = down(1000);
    check!(came == Status::Success, came as u8);
    if let Some(other) = (0..w.cpus()).find(|c| *c != bsp) {
        check!(assign(call::ASSIGN_INT, SM, other) == Status::Success);
        check!(down(1) == Status::BadCpu);
    }
    out(COM1 + 1, 0);
    check!(assign(call::ASSIGN_INT_MASKED, SM, bsp) == Status::Success);
    w.empty(sel::FREE, 1);
    Verdict::Ok
}
