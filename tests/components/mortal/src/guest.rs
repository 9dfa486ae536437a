//! A guest that does nothing but run, without an exit of its own.

use abi::{ArchState, Mtd, Status, Utcb, event, perm};
use rt::PortalThread;
use rt::vm::{GuestSpace, Vcpu};
use std::sync::atomic::{AtomicU64, Ordering};

/// Guest-physical address of its code.
const CODE: u64 = 0x1000;
/// `jmp` to itself.
const PROGRAM: u64 = 0xfeeb;
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;

#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

fn enter(s: &mut ArchState, space: &GuestSpace) -> Mtd {
    (s.sel_gst, s.sel_pio, s.sel_msr) = (space.sel(), 0, 0);
    // Interrupts on: Bochs does not let those of the host out of a guest that has them off.
    s.begin_in_real_mode(CODE, 0x202) | Mtd::SPACES
}

/// Starts it on `cpu`, below all others. [`Status::BadFtr`]: the machine runs no guests.
pub fn spin(cpu: u16) -> Result<(), Status> {
    let space = GuestSpace::new()?;
    let page: &'static Page = Box::leak(Box::new(Page([const { AtomicU64::new(0) }; 512])));
    page.0[0].store(PROGRAM, Ordering::Relaxed);
    // SAFETY: the page is never given back, and is accessed atomically.
    unsafe { space.map(CODE, (&raw const *page).cast(), 4096, perm::Mem::all())? };
    let base = rt::sel::alloc_range(EVENTS, EVENTS.next_power_of_two()).ok_or(Status::MemCap)?;
    let handler = move |n: u64, _, u: &mut Utcb| {
        let first = n == event::GST_STARTUP;
        if first { enter(u.arch_mut(), &space).bits() } else { Mtd::POISON.bits() }
    };
    let thread = PortalThread::new(cpu, 16 << 10, Box::new(handler))?;
    (0..EVENTS).try_for_each(|n| thread.portal(base + n, n, 0))?;
    let mut vcpu = Vcpu::new(cpu, base)?;
    vcpu.start(2)?;
    // As long as we live.
    std::mem::forget(vcpu);
    Ok(())
}
