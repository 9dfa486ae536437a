//! What the root task finds: registers, information page, object space, UTCB [6.2, 6.3, 8.1.2].

use crate::nova::{Status, call, on, root};
use crate::world::{World, sel};
use crate::{Verdict, check};

/// Registers [8.1.2], and where the information page is [6.2.3.2].
pub fn registers(w: &World) -> Verdict {
    let magic = w.boot[0];
    check!(magic == 0x36d7_6289 || magic == 0x2bad_b002, magic);
    check!(w.boot[1] != 0 && w.boot[1].is_multiple_of(4), w.boot[1]);
    let end = w.hip.0 + 0x1000;
    check!(end.is_power_of_two() && (47..=56).contains(&end.trailing_zeros()), end);
    Verdict::Ok
}

/// The information page [6.3, 8.7.2].
pub fn hip(w: &World) -> Verdict {
    let h = w.hip;
    check!(h.field(0, 32) == 0x4156_4f4e, h.field(0, 32));
    check!(h.length() >= 0x90 && h.length() <= 0x1000 && h.length().is_multiple_of(2), h.length());
    let sum = (0..h.length() / 2).fold(0u16, |sum, i| sum.wrapping_add(h.field(i * 2, 16) as u16));
    check!(sum == 0, sum);
    for (start, end) in [(0x08, 0x10), (0x18, 0x20), (0x28, 0x30)] {
        check!(h.field(start, 64) <= h.field(end, 64), start);
    }
    check!(h.field(0x08, 64) < h.field(0x10, 64));
    // The image is one of ours, and as large as we are.
    check!(h.field(0x30, 64) - h.field(0x28, 64) > 0x4000);
    if h.field(0x40, 64) == u64::MAX {
        check!(h.field(0x48, 64) == 0, h.field(0x48, 64));
    }
    check!(h.stc_freq() > 1_000_000, h.stc_freq());
    check!(h.sel_num() > 1 << 16, h.sel_num());
    // 32 exceptions and 0x52 VM exits at least; STARTUP and RECALL.
    check!(h.field(0x60, 16) == 0x20 && h.field(0x64, 16) >= 0x52, h.field(0x60, 64));
    check!(h.field(0x62, 16) >= 2 && h.field(0x66, 16) >= 2, h.field(0x60, 64));
    check!(h.cpu_num() >= 1 && h.cpu_bsp() < h.cpu_num(), h.cpu_num());
    check!(h.field(0x6c, 16) >= 16, h.field(0x6c, 16));
    check!(h.field(0x78, 64) & 6 != 6, h.field(0x78, 64));
    Verdict::Ok
}

/// Slots that must be taken, and some that must be null [6.2.3.1]: only into a null slot can an object be created.
pub fn root_object_space(w: &World) -> Verdict {
    let create = |at: u64| on(call::CREATE_SM, at, [w.root(root::PD), 0, 0, 0]).0;
    for below in 1..=5 {
        check!(create(w.hip.sel_num() - below) == Status::BadCap, below);
    }
    for at in [sel::FREE, 0x3fff, 0x1_0000, w.hip.sel_num() - 6] {
        let status = create(at);
        check!(status == Status::Success, status as u8);
        w.empty(at, 0);
    }
    let beyond = create(w.hip.sel_num());
    check!(beyond == Status::BadCap, beyond as u8);
    let (status, _) = on(call::CTRL_SC, w.root(root::SC), [0; 4]);
    check!(status == Status::Success, status as u8);
    let (status, _) = on(call::CTRL_SC, w.root(root::EC), [0; 4]);
    check!(status == Status::BadCap, status as u8);
    Verdict::Ok
}

/// The root EC's UTCB is below the information page [6.2.3.2], zeroed or not, and ours to write.
pub fn root_utcb(w: &World) -> Verdict {
    let last = (w.hip.0 - 8) as *mut u64;
    // SAFETY: the last word of the UTCB, which only messages use.
    let read = unsafe {
        last.write_volatile(0x0123_4567_89ab_cdef);
        last.read_volatile()
    };
    check!(read == 0x0123_4567_89ab_cdef, read);
    Verdict::Ok
}
