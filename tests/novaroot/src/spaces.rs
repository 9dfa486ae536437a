//! Taking from the kernel's own spaces, and granting [5.4.1, 6.1.3].

use crate::console::COM1;
use crate::events;
use crate::nova::{Status, call, nova_obj, on, root};
use crate::world::{World, place, sel};
use crate::{Verdict, check};

/// Object spaces: permissions only get fewer, what is overwritten is gone.
pub fn objects(w: &World) -> Verdict {
    let (nova, own) = (w.root(root::NOVA_OBJ), w.root(root::OBJ));
    let free = sel::FREE;
    // The NOVA object space can be taken from, but not granted to.
    check!(w.delegate((own, free), (nova, free), 0, 0x1f) == Status::BadCap);
    check!(w.delegate((nova, 0), (own, free), 0, 0x1f) == Status::Success);
    check!(on(call::CTRL_SC, free, [0; 4]).0 == Status::Success); // an idle SC
    // The console semaphore's selector is odd.
    let console = w.hip.sel_num() - nova_obj::CONSOLE;
    check!(w.delegate((nova, console), (own, free), 1, 0x1f) == Status::BadPar);
    check!(w.delegate((nova, console - 1), (own, free), 1, 0x1f) == Status::Success);
    check!(on(call::SM_UP, free + 1, [0; 4]).0 == Status::Success);
    check!(w.delegate((nova, 0), (own, w.hip.sel_num()), 0, 0x1f) == Status::BadPar);
    // Interrupt semaphores come without CTRL_UP.
    check!(w.take(nova_obj::INTERRUPTS, free + 2) == Status::Success);
    check!(on(call::SM_UP, free + 2, [0; 4]).0 == Status::BadCap);
    check!(w.delegate((w.root(root::PD), 0), (own, free), 0, 0x1f) == Status::BadCap);
    check!(w.delegate((sel::NOVA_HST, 0), (own, free), 0, 0x1f) == Status::BadCap); // spaces of two kinds
    w.empty(free, 2);
    check!(on(call::SM_UP, free + 1, [0; 4]).0 == Status::BadCap);
    Verdict::Ok
}

/// Host spaces: physical memory arrives, is shared, and goes; what the kernel protects does not come at all.
pub fn memory(w: &World) -> Verdict {
    let (at, again) = (place::FREE + 0x10_0000, place::FREE + 0x20_0000);
    check!(events::read(at).is_err());
    // Our own image, which is RAM, a second time.
    let image = w.hip.field(0x28, 64) & !0xfff;
    check!(w.map(at, image, 1) == Status::Success);
    // SAFETY: mapped a line above.
    let elf = unsafe { (at as *const u32).read_volatile() };
    check!(elf == u32::from_le_bytes(*b"\x7fELF"), elf);
    let own =
        |from: u64, to: u64, mask: u64| w.delegate((sel::ROOT_HST, from >> 12), (sel::ROOT_HST, to >> 12), 0, mask);
    check!(own(at, again, 0x1f) == Status::Success && events::read(again).is_ok());
    check!(own(at, at, 0) == Status::Success && events::read(at).is_err());
    check!(events::read(again).is_ok()); // the copy stays
    check!(own(again, again, 0) == Status::Success && events::read(again).is_err());
    let nova = w.hip.field(0x08, 64);
    check!(w.map(at, nova, 0x1f) == Status::Success && events::read(at).is_err(), nova);
    for apic in [0xfee0_0000, 0xfec0_0000] {
        check!(w.map(at, apic, 0x1f) == Status::Success && events::read(at).is_err(), apic);
    }
    // A UTCB and the information page belong to the kernel [4.3, 6.3].
    for page in [w.hip.0 - 0x1000, w.hip.0] {
        let _ = own(page, at, 0x1f);
        check!(events::read(at).is_err(), page);
    }
    // Alignment, and a cacheability that does not exist [8.7.5].
    check!(w.delegate((sel::NOVA_HST, 1), (sel::ROOT_HST, at >> 12), 1, 1) == Status::BadPar);
    let to = (at & !0xfff) | 1;
    check!(on(call::CTRL_PD, sel::NOVA_HST, [sel::ROOT_HST, image, to, 5]).0 == Status::BadPar);
    check!(w.delegate((sel::ROOT_HST, 1), (sel::NOVA_HST, 1), 0, 1) == Status::BadCap);
    Verdict::Ok
}

/// PIO and MSR spaces.
pub fn ports(w: &World) -> Verdict {
    let port = u64::from(COM1);
    check!(events::input(port + 5).is_ok());
    // A port of the CMOS clock, in an order that is not aligned, then in one that is.
    check!(w.ports(0x71, 1, 1) == Status::BadPar);
    check!(events::input(0x71).is_err());
    check!(w.ports(0x70, 1, 1) == Status::Success && events::input(0x71).is_ok());
    check!(w.ports(0x70, 1, 0) == Status::Success && events::input(0x71).is_err());
    let (pio, other) = (sel::NOVA_PIO, sel::ROOT_PIO);
    check!(w.delegate((pio, 0x70), (other, 0x71), 0, 1) == Status::BadPar); // the numbers differ
    check!(w.ports(0x1_0000, 0, 1) == Status::BadPar);
    check!(w.delegate((other, 0x70), (pio, 0x70), 0, 1) == Status::BadCap); // only TAKE
    let msr = sel::FREE;
    check!(on(call::MSR, msr, [w.root(root::PD), 0, 0, 0]).0 == Status::Success);
    // IA32_SYSENTER_CS.
    check!(w.delegate((sel::NOVA_MSR, 0x174), (msr, 0x174), 0, 3) == Status::Success);
    check!(w.delegate((sel::NOVA_MSR, 0x174), (msr, 0x175), 0, 3) == Status::BadPar);
    check!(w.delegate((msr, 0x174), (sel::NOVA_MSR, 0x174), 0, 3) == Status::BadCap);
    w.empty(msr, 0);
    Verdict::Ok
}

/// The Multiboot 2 information, whose address RSI had: the first module is our image.
pub fn boot_information(w: &World) -> Verdict {
    if w.boot[0] != 0x36d7_6289 {
        return Verdict::NotHere("booted by Multiboot 1");
    }
    let word = |at: u64| w.physical::<4>(w.boot[1] + at).map_or(0, u32::from_le_bytes);
    let (total, mut at) = (u64::from(word(0)), 8);
    check!(total > 8 && total < 1 << 20, total);
    let (mut module, mut memory_map) = (None, false);
    while at < total {
        let (kind, size) = (word(at), u64::from(word(at + 4)));
        match kind {
            0 => break,
            3 if module.is_none() => module = Some((u64::from(word(at + 8)), u64::from(word(at + 12)))),
            6 => memory_map = true,
            _ => {}
        }
        check!(size >= 8, at);
        at += size.next_multiple_of(8);
    }
    let root = (w.hip.field(0x28, 64), w.hip.field(0x30, 64));
    check!(module == Some(root), root.0);
    check!(memory_map);
    Verdict::Ok
}
