//! The spaces of a virtual CPU: exchanged by replies, or not; and what a guest may execute.

use super::*;
use crate::check::NOT_HERE;
use abi::{CreatePdOp, Sel};
use rt::hw::{self, GuestPorts};
use rt::vm::PioSpace;

/// A guest space with code in it.
fn with_code(code: &[u8], perms: perm::Mem) -> Result<GuestSpace, String> {
    let space = done("guest space", GuestSpace::new())?;
    let ram = memory(RAM, RAM);
    for (i, b) in code.iter().enumerate() {
        // SAFETY: inside the new memory, to which there are no references.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>((ram + CODE) as usize + i).write_volatile(*b) };
    }
    let host = std::ptr::with_exposed_provenance::<u8>(ram as usize);
    // SAFETY: the memory is never given back, and only accessed volatile.
    done("guest memory", unsafe { space.map(0, host, RAM as u64, perms) })?;
    Ok(space)
}

/// `cpuid; out 0x84, al; mov al, VALUE; cpuid; hlt`: at CPUID the VMM may exchange spaces.
fn code(value: u8) -> [u8; 9] {
    [0x0f, 0xa2, 0xe6, 0x84, 0xb0, value, 0x0f, 0xa2, 0xf4]
}

/// What a reply to the first CPUID assigns: guest, PIO and MSR space.
type Assigned = [Sel; 3];

/// Runs such a guest; events, and AL at the end.
fn run(mut first: Option<Assigned>, pio: Sel) -> Result<(Vec<u64>, u64), String> {
    let al = Arc::new(AtomicU64::new(0));
    let last = al.clone();
    let mut g = Guest::new(
        &code(1),
        move |s| s.sel_pio = pio,
        move |n, s| match n {
            event::GST_STARTUP => Some(Mtd::empty()),
            reason::CPUID => {
                last.store(s.gpr[RAX] & 0xff, SeqCst);
                let Some(sel) = first.take() else { return Some(skip(s)) };
                [s.sel_gst, s.sel_pio, s.sel_msr] = sel;
                Some(skip(s) | Mtd::SPACES)
            }
            reason::IO => Some(skip(s)),
            _ => None,
        },
    )?;
    g.run()?;
    Ok((g.numbers(), al.load(SeqCst)))
}

/// A PIO space with our port 0x84, for as long as the first value is there. Not where we have none, as the configuration says then.
fn port_84() -> Result<(GuestPorts, PioSpace), String> {
    if rt::rom(parent::CONFIG_ROM).is_some_and(|c| String::from_utf8_lossy(c).contains("ports = false")) {
        return Err(format!("{NOT_HERE}the component has no I/O ports"));
    }
    let pio = done("PIO space", PioSpace::new())?;
    // By a thread that has a window: checks of `items` have taken that of this one.
    let opened = std::thread::scope(|s| s.spawn(|| hw::guest_ports(0x84, 0x84, &pio)).join());
    let port = opened.map_err(|_| "a panic")?.map_err(|e| format!("port: {e}"))?;
    Ok((port, pio))
}

const START: u64 = event::GST_STARTUP;

pub fn exchange() -> Outcome {
    let (other, (port, pio)) = (with_code(&code(2), perm::Mem::all())?, port_84()?);
    let free = Slot::new();
    let null = free.0;
    let exits = vec![START, reason::CPUID, reason::IO, reason::CPUID, reason::HLT];
    equal("nothing exchanged", run(None, null)?, (exits.clone(), 1))?;
    equal("another guest space", run(Some([other.sel(), null, null]), null)?, (exits.clone(), 2))?;
    let quiet = vec![START, reason::CPUID, reason::CPUID, reason::HLT];
    equal("a PIO space with the port", run(Some([null, pio.sel(), null]), null)?, (quiet.clone(), 1))?;
    equal("that from the start", run(None, pio.sel())?, (quiet, 1))?;
    drop(port);
    equal("the port is given back", run(None, pio.sel())?, (exits, 1))
}

pub fn unsuitable() -> Outcome {
    let (other, (_port, pio)) = (with_code(&code(2), perm::Mem::all())?, port_84()?);
    let weak_gst = Slot::masked(other.sel(), perm::ALL & !perm::Space::ASSIGN.bits())?;
    let empty = Slot::pd(CreatePdOp::Pio, Slot::pd(CreatePdOp::Pd, sel::PD)?.0)?;
    let weak_pio = Slot::masked(empty.0, perm::ALL & !perm::Space::ASSIGN.bits())?;
    let (null, sm) = (Slot::new(), Slot::sm(0)?);
    let quiet = vec![START, reason::CPUID, reason::CPUID, reason::HLT];
    for (what, gst, pio_sel) in [
        ("null", null.0, null.0),
        ("beyond SEL_NUM", abi::SEL_NUM, abi::SEL_NUM),
        ("no space", sm.0, sel::PD),
        ("of another kind", pio.sel(), other.sel()),
        ("a host and an object space", sel::HST, sel::OBJ),
        ("no ASSIGN", weak_gst.0, weak_pio.0),
    ] {
        let r = run(Some([gst, pio_sel, sm.0]), pio.sel())?;
        equal(what, r, (quiet.clone(), 1))?;
    }
    // With ASSIGN it is another.
    let exits = vec![START, reason::CPUID, reason::IO, reason::CPUID, reason::HLT];
    equal("an empty PIO space", run(Some([null.0, empty.0, null.0]), pio.sel())?, (exits, 1))
}

pub fn execute() -> Outcome {
    let none = perm::Mem::R | perm::Mem::W;
    for (what, perms, last) in [
        ("XS", none | perm::Mem::XS, reason::HLT),
        ("neither", none, reason::EPT_VIOLATION),
        ("XU, which the memory does not have", none | perm::Mem::XU, reason::EPT_VIOLATION),
    ] {
        let space = with_code(&[0xf4], perms)?;
        let gst = space.sel();
        let mut g =
            Guest::new(&[0xf4], move |s| s.sel_gst = gst, |n, _| (n == event::GST_STARTUP).then_some(Mtd::empty()))?;
        g.run()?;
        equal(what, g.numbers(), vec![START, last])?;
    }
    Ok(())
}
