//! Guest memory and EPT violations.

use super::*;

// Qualification of EPT violations: the access.
const EPT_READ: u64 = 1;
const EPT_WRITE: u64 = 2;
const EPT_FETCH: u64 = 4;

pub fn shared_memory() -> Outcome {
    // mov ax, [0x6000]; inc ax; mov [0x6008], ax; hlt
    let mut g = Guest::new(
        &[0xa1, 0x00, 0x60, 0x40, 0xa3, 0x08, 0x60, 0xf4],
        |_| {},
        |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()),
    )?;
    poke(g.ram + 0x6000, 0x4141);
    g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::HLT])?;
    equal("word that the guest wrote", peek(g.ram + 0x6008), 0x4142)
}

pub fn violation() -> Outcome {
    // mov ax, 0x2000; mov ds, ax; mov al, [0x123]; mov [0x1123], al; jmp 0x2000:0x2000 -- DS base 0x20000
    let code = [
        0xb8, 0x00, 0x20, 0x8e, 0xd8, // mov ax, 0x2000; mov ds, ax
        0xa0, 0x23, 0x01, // mov al, [0x123]
        0xa2, 0x23, 0x11, // mov [0x1123], al
        0xea, 0x00, 0x20, 0x00, 0x20, // jmp 0x2000:0x2000
    ];
    let pages = [page(), page(), page()];
    poke(pages[0] + 0x120, 0x7700_0000);
    poke(pages[2], 0xf4);
    let slot = Arc::new(std::sync::Mutex::new(None::<Arc<GuestSpace>>));
    let s2 = slot.clone();
    let mut next = 0;
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, _| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::EPT_VIOLATION if next < 3 => {
                let space = s2.lock().expect("space").clone()?;
                let host = std::ptr::with_exposed_provenance::<u8>(pages[next] as usize);
                // SAFETY: a page that is never given back, and only accessed volatile.
                let r = unsafe { space.map(0x20000 + next as u64 * PAGE, host, PAGE, perm::Mem::all()) };
                next += 1;
                r.is_ok().then_some(Mtd::empty())
            }
            _ => None,
        },
    )?;
    *slot.lock().expect("space") = Some(g.space.clone());
    let e = g.run()?;
    *slot.lock().expect("space") = None;
    equal("events", g.numbers(), vec![event::GST_STARTUP, 48, 48, 48, reason::HLT])?;
    for (i, access, gpa, rip) in
        [(1, EPT_READ, 0x20123, CODE + 5), (2, EPT_WRITE, 0x21123, CODE + 8), (3, EPT_FETCH, 0x22000, 0x2000)]
    {
        let s = &e[i].1;
        equal("kind of access", s.qual[0] & 7, access)?;
        equal("nothing there: permissions", s.qual[0] >> 3 & 7, 0)?;
        if Facts::here().vendor == Vendor::Vmx {
            equal("guest-linear address", s.qual[1], gpa)?;
        }
        equal("guest-physical address", s.qual[2], gpa)?;
        equal("RIP", s.rip, rip)?;
    }
    equal("AL that was read", e[4].1.gpr[RAX] & 0xff, 0x77)?;
    equal("byte that was written", peek(pages[1] + 0x120) >> 24 & 0xff, 0x77)
}

pub fn read_only() -> Outcome {
    // mov [0x5000], al; hlt
    let mut g =
        Guest::new(&[0xa2, 0x00, 0x50, 0xf4], |_| {}, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
    let host = std::ptr::with_exposed_provenance::<u8>((g.ram + 0x5000) as usize);
    // SAFETY: as all of its RAM.
    done("map", unsafe { g.space.map(0x5000, host, PAGE, perm::Mem::R) })?;
    let e = g.run()?;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::EPT_VIOLATION])?;
    equal("write; readable, not writable", e[1].1.qual[0] & 0x1b, EPT_WRITE | 1 << 3)?;
    equal("guest-physical address", e[1].1.qual[2], 0x5000)
}

pub fn revoked() -> Outcome {
    // mov al, [0x5000]; out 0x80, al; mov al, [0x5000]; hlt
    let code = [0xa0, 0x00, 0x50, 0xe6, 0x80, 0xa0, 0x00, 0x50, 0xf4];
    let space = Arc::new(std::sync::Mutex::new(None::<Arc<GuestSpace>>));
    let s2 = space.clone();
    let mut g = Guest::new(
        &code,
        |_| {},
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::IO => {
                let space = s2.lock().expect("space").clone()?;
                space.unmap(0x5000, PAGE).ok()?;
                Some(skip(s))
            }
            _ => None,
        },
    )?;
    *space.lock().expect("space") = Some(g.space.clone());
    let e = g.run()?;
    *space.lock().expect("space") = None;
    equal("events", g.numbers(), vec![event::GST_STARTUP, reason::IO, reason::EPT_VIOLATION])?;
    equal("guest-physical address, RIP", (e[2].1.qual[2], e[2].1.rip), (0x5000, CODE + 5))
}

pub fn bad_cap() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    let weak = Slot::masked(space.sel(), perm::Space::ASSIGN.bits())?;
    for (what, src, dst) in [
        ("guest space to itself", space.sel(), space.sel()),
        ("guest space to host space", space.sel(), sel::HST),
        ("host space to guest space without GRANT", sel::HST, weak.0),
        ("object space to guest space", sel::OBJ, space.sel()),
    ] {
        // SAFETY: refused.
        refused(what, unsafe { hc::ctrl_pd(src, dst, 0, 0, 0, 0, abi::Mad::WB) }, Status::BadCap)?;
    }
    Ok(())
}

pub fn bad_par() -> Outcome {
    let space = done("guest space", GuestSpace::new())?;
    // SAFETY: a guest space, and nothing runs in it.
    let grant = |ssb, dsb, ord| unsafe { hc::ctrl_pd(sel::HST, space.sel(), ssb, dsb, ord, perm::ALL, abi::Mad::WB) };
    let (own, end) = (page() / PAGE, 1 << 36);
    done("last page", grant(own, end - 1, 0))?;
    refused("beyond", grant(own, end, 0), Status::BadPar)?;
    refused("misaligned destination", grant(0, 1, 1), Status::BadPar)?;
    refused("misaligned source", grant(1, 0, 1), Status::BadPar)?;
    refused("order 19", grant(0, 0, 19), Status::BadPar)
}
