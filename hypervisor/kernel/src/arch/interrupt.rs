//! Interrupt controllers: the local APIC, the IOAPICs, and which semaphore a pin belongs to.

use super::cpu::{cpu, cpuid};
use super::{paging, time};
use crate::iommu::{self, Machine};
use crate::object::ec::Ec;
use crate::object::sm::{self, Sm};
use crate::{remote, schedule, trace};
use ::iommu::{Requester, Target, plain_message, vtd::redirection};
use abi::Status;
use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU16, Ordering::Relaxed};
use spin::{Mutex, Once};
use switches::Switches;
use x2apic::ioapic::{IoApic, IrqFlags, IrqMode, RedirectionTableEntry};
use x2apic::lapic::{LocalApic, LocalApicBuilder, TimerDivide, TimerMode};

/// Vectors of pins start here.
const PIN_VECTORS: u8 = 0x30;
/// Most pins.
pub const MAX_PINS: usize = 144;
/// Vector of the local APIC's timer.
const TIMER: u8 = 0xe0;
const ERROR: u8 = 0xe1;
/// There is something in this CPU's mailbox.
const MAIL: u8 = 0xe2;
/// An IOMMU has blocked a device.
const FAULT: u8 = 0xe3;
const SPURIOUS: u8 = 0xff;
/// Message-signalled interrupts. Their numbers, and so their vectors, follow those of pins.
pub const MESSAGES: u16 = 32;
/// Number of the first.
pub const FIRST_MESSAGE: u16 = MAX_PINS as u16;
/// Pins and message-signalled interrupts.
pub const LINES: usize = MAX_PINS + MESSAGES as usize;
const _: () = assert!(PIN_VECTORS as usize + LINES <= TIMER as usize);
const MAX_IOAPICS: usize = 8;

struct Controller {
    id: u8,
    base: u64,
    first: u16,
    pins: u16,
    chip: IoApic,
}

static CONTROLLERS: Mutex<[Option<Controller>; MAX_IOAPICS]> = Mutex::new([const { None }; MAX_IOAPICS]);
static PIN_COUNT: AtomicU16 = AtomicU16::new(0);
static XAPIC: Once<u64> = Once::new();
static X2APIC: Once<bool> = Once::new();

/// What is known of a pin or a message-signalled interrupt.
struct Pin {
    sm: Once<&'static Sm>,
    cpu: AtomicU16,
    assigned: AtomicBool,
    /// A message that comes is ignored: without an IOMMU it cannot be stopped.
    ignored: AtomicBool,
    /// Set by user land; changed with the pin's entry, under the lock of [`CONTROLLERS`].
    level: AtomicBool,
    /// Masked by the kernel until its semaphore is downed; likewise.
    held: AtomicBool,
}

static PINS: [Pin; LINES] = [const {
    Pin {
        sm: Once::new(),
        cpu: AtomicU16::new(0),
        assigned: AtomicBool::new(false),
        ignored: AtomicBool::new(false),
        level: AtomicBool::new(false),
        held: AtomicBool::new(false),
    }
}; LINES];

/// Notes where the local APICs' registers are, for CPUs without x2APIC.
pub fn set_local_apic_address(phys: u64) {
    XAPIC.call_once(|| paging::map_device(phys));
}

/// Adds the IOAPIC with that identifier whose first pin is global interrupt `first`; all its pins are masked. `false`: not used.
pub fn add_ioapic(id: u8, phys: u64, first: u32) -> bool {
    let mut list = CONTROLLERS.lock();
    let Some(slot) = list.iter_mut().find(|c| c.is_none()).filter(|_| first < MAX_PINS as u32) else { return false };
    let base = paging::map_device(phys);
    // SAFETY: the firmware's MADT names this address as an IOAPIC; it is mapped uncacheable.
    let mut chip = unsafe { IoApic::new(base) };
    // SAFETY: as above.
    let pins = unsafe { chip.max_table_entry() } as u16 + 1;
    for p in 0..pins {
        // SAFETY: the pin exists.
        unsafe { chip.disable_irq(p as u8) };
    }
    PIN_COUNT.fetch_max((first as u16 + pins).min(MAX_PINS as u16), Relaxed);
    *slot = Some(Controller { id, base, first: first as u16, pins, chip });
    true
}

/// Number of pins that interrupt semaphores exist for.
pub fn pin_count() -> u16 {
    PIN_COUNT.load(Relaxed)
}

/// Binds a pin or message-signalled interrupt to its semaphore.
pub fn bind(gsi: u16, sm: &'static Sm) {
    PINS[gsi as usize].sm.call_once(|| sm);
}

/// Moves the vectors of the two 8259A out of the way of exceptions and masks all their inputs.
fn disable_legacy() {
    /// ICW1 (initialise, ICW4 follows), ICW2 (vectors), ICW3 (cascade on input 2), ICW4 (8086 mode), then the mask.
    const WORDS: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0xf0),
        (0xa1, 0xf8),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, v) in WORDS {
        // SAFETY: the ports of the interrupt controllers, which nobody else uses.
        unsafe { x86::io::outb(port, v) };
    }
}

fn lapic() -> &'static mut LocalApic {
    // SAFETY: initialised by `init_local` on this CPU; kernel code is not preempted and keeps no two borrows.
    unsafe { (*cpu().lapic.get()).as_mut().expect("local APIC") }
}

/// Sets up this CPU's local APIC, in x2APIC mode where there is one.
pub fn init_local() {
    X2APIC.call_once(|| {
        disable_legacy();
        cpuid().get_feature_info().is_some_and(|f| f.has_x2apic())
    });
    let mut b = LocalApicBuilder::new();
    b.timer_vector(TIMER as usize).error_vector(ERROR as usize).spurious_vector(SPURIOUS as usize);
    b.timer_mode(if cpu().uses(Switches::TSC_DEADLINE) { TimerMode::TscDeadline } else { TimerMode::Periodic });
    b.timer_divide(TimerDivide::Div1).timer_initial(0);
    if let Some(base) = XAPIC.get() {
        b.set_xapic_base(*base);
    }
    let mut chip = b.build().unwrap_or_else(|e| panic!("local APIC: {e}"));
    // SAFETY: the vectors have handlers; in xAPIC mode the registers are mapped.
    unsafe {
        chip.enable();
        // Once more: while an APIC is disabled by software, its local vectors stay masked (Intel SDM vol. 3, 12.4.7.2).
        chip.enable_timer();
        *cpu().lapic.get() = Some(chip);
    }
}

/// Starts the local APIC's timer with that period, or stops it with 0.
pub fn set_local_timer(count: u32) {
    // SAFETY: the timer's vector has a handler.
    unsafe { lapic().set_timer_initial(count) };
}

/// Current count of the local APIC's timer.
pub fn local_timer() -> u32 {
    // SAFETY: reading has no effect.
    unsafe { lapic().timer_current() }
}

fn end_of_interrupt() {
    // SAFETY: called once for each interrupt that was accepted.
    unsafe { lapic().end_of_interrupt() };
}

fn x2apic() -> bool {
    X2APIC.get().is_some_and(|x| *x)
}

/// Whether an interrupt can be sent to that local APIC.
pub fn can_reach(apic: u32) -> bool {
    x2apic() || apic < 0xff
}

/// Waits until an interrupt can be sent, and returns the destination field.
fn destination(apic: u32) -> u32 {
    if x2apic() {
        // Writing the register orders nothing (Intel SDM vol. 3, 12.12.3): what the other CPU is to see comes first.
        // SAFETY: fences have no other effect.
        unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
        return apic;
    }
    // SAFETY: reading has no effect.
    while unsafe { lapic().get_ipi_delivery_status() } {}
    apic << 24
}

/// Address and data of the message with which an IOMMU tells this CPU of faults (VT-d 11.4.7.3 to 11.4.7.5).
pub fn fault_message() -> (u64, u32) {
    let apic = u64::from(apic_id());
    (apic >> 8 << 40 | u64::from(::iommu::MESSAGES) | (apic & 0xff) << 12, FAULT.into())
}

/// Tells a CPU that there is mail.
pub fn notify(apic: u32) {
    trace!(IPI, None, apic.into(), 0);
    let d = destination(apic);
    // SAFETY: the vector has a handler.
    unsafe { lapic().send_ipi(MAIL, d) };
}

/// Interrupts a CPU that cannot be interrupted.
pub fn send_nmi(apic: u32) {
    let d = destination(apic);
    // SAFETY: it has a handler.
    unsafe { lapic().send_nmi(d) };
}

/// Resets a processor, so that it waits for [`send_sipi`].
pub fn send_init(apic: u32) {
    let d = destination(apic);
    // SAFETY: the processor does not run the kernel.
    unsafe { lapic().send_init_ipi(d) };
}

/// Starts a processor in real mode at that page.
pub fn send_sipi(apic: u32, page: u8) {
    let d = destination(apic);
    // SAFETY: as above, and there is code at the page.
    unsafe { lapic().send_sipi(page, d) };
}

fn with_controller(gsi: u16, f: impl FnOnce(&mut Controller, u8)) {
    let mut list = CONTROLLERS.lock();
    if let Some(c) = list.iter_mut().flatten().find(|c| (c.first..c.first + c.pins).contains(&gsi)) {
        let pin = (gsi - c.first) as u8;
        f(c, pin);
    }
}

fn with_chip(gsi: u16, f: impl FnOnce(&mut IoApic, u8)) {
    with_controller(gsi, |c, p| f(&mut c.chip, p));
}

/// Identifier of the IOAPIC that a pin belongs to.
fn controller_id(gsi: u16) -> Option<u8> {
    let mut id = None;
    with_controller(gsi, |c, _| id = Some(c.id));
    id
}

/// How `assign_int` wants a pin.
pub struct Routing {
    /// Target CPU.
    pub cpu: u16,
    /// Masked.
    pub masked: bool,
    /// Level-triggered.
    pub level: bool,
    /// Active low.
    pub low: bool,
    /// The only device that may raise it, if it is message-signalled.
    pub device: Requester,
}

/// Why an interrupt was not routed.
pub enum Unroutable {
    /// There is no way to name the CPU's local APIC.
    Far,
    /// An IOMMU does not answer. The interrupt is blocked.
    NoAnswer,
}

/// Whether that holds for the identifiers of all IOAPICs.
pub fn all_ioapics(f: impl Fn(u8) -> bool) -> bool {
    CONTROLLERS.lock().iter().flatten().all(|c| f(c.id))
}

/// An entry of the IOMMUs for an interrupt. `None`: they do not remap it.
fn remap(n: u16, r: &Routing, level: bool, source: Option<Requester>) -> Result<Option<&'static Machine>, Unroutable> {
    let Some(m) = iommu::machine().filter(|m| m.remaps(n)) else { return Ok(None) };
    let (apic, vector) = (remote::apic_of(r.cpu), PIN_VECTORS + n as u8);
    if apic >= 0xff && !m.wide {
        return Err(Unroutable::Far);
    }
    let target = (!r.masked).then_some(Target { apic, vector, level });
    if m.units.set_interrupt(n, target, source) { Ok(Some(m)) } else { Err(Unroutable::NoAnswer) }
}

/// Configures a message-signalled interrupt, and returns address and data of the message.
pub fn route_message(n: u16, r: &Routing) -> Result<(u32, u32), Unroutable> {
    let pin = &PINS[n as usize];
    let apic = remote::apic_of(r.cpu);
    let message = match remap(n, r, false, Some(r.device))? {
        Some(m) => m.units.message(n),
        None => plain_message(Target { apic, vector: PIN_VECTORS + n as u8, level: false }).ok_or(Unroutable::Far)?,
    };
    pin.ignored.store(r.masked, Relaxed);
    pin.cpu.store(r.cpu, Relaxed);
    pin.assigned.store(true, Relaxed);
    Ok(message)
}

/// Writes a redirection entry. The crate's type has no room for the index of a remapping entry.
fn write_redirection(c: &Controller, pin: u8, entry: u64) {
    /// Index register, data register, first register of the redirection table (82093AA, 3.1, 3.2.4).
    const SELECT: u64 = 0;
    const DATA: u64 = 0x10;
    const TABLE: u32 = 0x10;
    for (i, half) in [(1, (entry >> 32) as u32), (0, entry as u32)] {
        // SAFETY: registers of the IOAPIC, whose lock the caller holds. The half with the mask comes last.
        unsafe {
            ((c.base + SELECT) as *mut u32).write_volatile(TABLE + 2 * u32::from(pin) + i);
            ((c.base + DATA) as *mut u32).write_volatile(half);
        }
    }
}

/// Configures a pin.
pub fn route(gsi: u16, r: &Routing) -> Result<(), Unroutable> {
    let pin = &PINS[gsi as usize];
    let source = controller_id(gsi).and_then(iommu::ioapic);
    let remapped = remap(gsi, r, r.level, source)?.is_some();
    if !remapped && remote::apic_of(r.cpu) >= 0xff {
        // Pins name their target in 8 bits, all ones are all CPUs.
        return Err(Unroutable::Far);
    }
    let mut flags = IrqFlags::empty();
    flags.set(IrqFlags::MASKED, r.masked);
    flags.set(IrqFlags::LEVEL_TRIGGERED, r.level);
    flags.set(IrqFlags::LOW_ACTIVE, r.low);
    let mut e = RedirectionTableEntry::default();
    e.set_vector(PIN_VECTORS + gsi as u8);
    e.set_mode(IrqMode::Fixed);
    e.set_flags(flags);
    e.set_dest(remote::apic_of(r.cpu) as u8);
    with_controller(gsi, |c, p| {
        pin.cpu.store(r.cpu, Relaxed);
        pin.assigned.store(true, Relaxed);
        // A masked pin is not delivered, so it need not be held.
        pin.level.store(r.level && !r.masked, Relaxed);
        pin.held.store(false, Relaxed);
        if remapped {
            let mode = u64::from(flags.bits()) | u64::from(PIN_VECTORS + gsi as u8);
            return write_redirection(c, p, redirection(gsi) | mode);
        }
        // SAFETY: the pin exists, its vector has a handler.
        unsafe { c.chip.set_table_entry(p, e) };
    });
    Ok(())
}

/// Whether local APICs have identifiers of 32 bits.
pub fn wide_apics() -> bool {
    x2apic()
}

/// Identifier of this CPU's local APIC.
pub fn apic_id() -> u32 {
    // SAFETY: reading has no effect. In xAPIC mode the identifier is in the upper byte.
    let id = unsafe { lapic().id() };
    if x2apic() { id } else { id >> 24 }
}

/// The CPU that an interrupt is routed to; `None` before `assign_int`.
pub fn routed_to(gsi: u16) -> Option<u16> {
    let p = &PINS[gsi as usize];
    p.assigned.load(Relaxed).then(|| p.cpu.load(Relaxed))
}

/// Unmasks a level-triggered pin that was masked when its interrupt was delivered.
pub fn unmask(gsi: u16) {
    let pin = &PINS[gsi as usize];
    if pin.held.load(Relaxed) {
        with_chip(gsi, |c, p| {
            if pin.held.swap(false, Relaxed) {
                // SAFETY: the pin was configured by `route`.
                unsafe { c.enable_irq(p) };
            }
        });
    }
}

/// Handles an interrupt that this CPU has accepted, in user mode of `interrupted` or elsewhere.
#[inline]
pub fn handle(vector: u8, interrupted: Option<&'static Ec>) {
    trace!(INTERRUPT, cpu().ec.get(), vector.into(), 0);
    let pin = vector.wrapping_sub(PIN_VECTORS) as usize;
    if pin < LINES {
        if let Some(ec) = deliver(pin as u16) {
            release(interrupted, ec, Status::Success);
        }
    } else if vector == TIMER {
        end_of_interrupt();
        if let Some(ec) = time::expired() {
            release(interrupted, ec, Status::Timeout);
        }
        time::arm_anew();
    } else {
        handle_rare(vector);
    }
}

/// `ec` is in no queue any more.
#[inline(always)]
fn release(interrupted: Option<&'static Ec>, ec: &'static Ec, s: Status) {
    if let Some(from) = interrupted {
        schedule::run_released(from, ec, s);
    }
    sm::release(ec, s);
}

#[inline(never)]
fn handle_rare(vector: u8) {
    if vector != SPURIOUS {
        end_of_interrupt();
    }
    match vector {
        MAIL => remote::answer(),
        FAULT => iommu::interrupt(),
        _ => {}
    }
}

#[inline(always)]
fn deliver(gsi: u16) -> Option<&'static Ec> {
    let pin = &PINS[gsi as usize];
    if pin.level.load(Relaxed) {
        hold(pin, gsi);
    }
    end_of_interrupt();
    let sm = pin.sm.get().filter(|_| !pin.ignored.load(Relaxed))?;
    // An overflow of the counter loses nothing: interrupts merge.
    sm.up_for().ok()?
}

/// Masks a level-triggered pin until its semaphore is downed.
#[inline(never)]
fn hold(pin: &Pin, gsi: u16) {
    with_chip(gsi, |c, p| {
        if pin.level.load(Relaxed) {
            pin.held.store(true, Relaxed);
            // SAFETY: the pin was configured by `route`.
            unsafe { c.disable_irq(p) };
        }
    });
}
