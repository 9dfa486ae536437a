//! ACPI tables: interrupt controllers, CPUs, and the registers that put the machine to sleep.

use super::{memory, smp};
use crate::arch::{interrupt, time};
use crate::call::Outcome;
use crate::mem::window;
use crate::{iommu, say};
use ::iommu::Damage;
use abi::{HwOp, Status};
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::sdt::{SdtHeader, Signature};
use acpi::{AcpiHandler, AcpiResult, AcpiTable, AcpiTables, PhysicalMapping};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering::Relaxed};
use x86::io::{inw, outb, outw};

/// Bytes of a table, at most.
const LONGEST: usize = 16 << 20;

/// Maps tables through the boot window.
#[derive(Clone, Copy)]
struct Window;

impl AcpiHandler for Window {
    unsafe fn map_physical_region<T>(&self, address: usize, size: usize) -> PhysicalMapping<Self, T> {
        // None is longer, but some say so: what is cut off does not add up.
        let size = size.min(LONGEST);
        let p = window::map(address as u64, size as u64).expect("boot window used up by ACPI tables");
        let p = NonNull::new(p as *mut T).expect("window at address 0");
        // SAFETY: mapped for `size` bytes until the window closes, when nothing of `acpi` is in use any more.
        unsafe { PhysicalMapping::new(address, p, size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

static PM1A: AtomicU16 = AtomicU16::new(0);
static PM1B: AtomicU16 = AtomicU16::new(0);
static PM2: AtomicU16 = AtomicU16::new(0);
static SMI_CMD: AtomicU16 = AtomicU16::new(0);
static RESET: AtomicU16 = AtomicU16::new(0);
static RESET_VALUE: AtomicU16 = AtomicU16::new(0);

/// SLP_TYPx in bits 12:10, SLP_EN in bit 13 of PM1 control (ACPI 4.8.3.2.1).
const SLP_TYP: u16 = 7 << 10;
const SLP_EN: u16 = 1 << 13;

/// Where the RSDP is: the loader's copy, or what a search of the BIOS area finds.
fn tables(rsdp: Option<u64>) -> Option<AcpiTables<Window>> {
    // SAFETY: firmware tables are where firmware says, and do not change during boot.
    let t = unsafe {
        match rsdp {
            Some(a) => AcpiTables::from_rsdp(Window, a as usize),
            None => AcpiTables::search_for_rsdp_bios(Window),
        }
    };
    t.map_err(|e| say!("ACPI: {e:?}")).ok()
}

/// Physical address of the RSDP, for the information page.
pub fn rsdp(copy: Option<u64>) -> u64 {
    copy.or_else(search).unwrap_or(u64::MAX)
}

/// The BIOS area, 16-byte steps (ACPI 5.2.5.1).
fn search() -> Option<u64> {
    let (base, len) = (0xe0000, 0x20000);
    // SAFETY: ROM.
    let area = unsafe { window::bytes(base, len) }?;
    area.chunks_exact(16).position(|c| c.starts_with(b"RSD PTR ")).map(|i| base + 16 * i as u64)
}

/// Reads what the kernel needs: IOAPICs, local APIC address, power registers.
pub fn init(rsdp: Option<u64>) {
    let Some(t) = tables(rsdp) else { return };
    match t.find_table::<Madt>() {
        Ok(m) => madt(&m),
        Err(e) => say!("ACPI: no MADT: {e:?}"),
    }
    iommus::<false>(&t, iommu::found_vtd);
    iommus::<true>(&t, iommu::found_amdvi);
    if let Ok(f) = t.find_table::<Fadt>() {
        fadt(&f);
    }
}

/// IVRS or DMAR, which the crate does not know: the header that all tables have. `iommu` checks the rest, so that there is a
/// line if it is damaged.
#[repr(transparent)]
struct Iommus<const AMD: bool>(SdtHeader);

// SAFETY: tables of these signatures begin with the header.
unsafe impl<const AMD: bool> AcpiTable for Iommus<AMD> {
    const SIGNATURE: Signature = if AMD { Signature::IVRS } else { Signature::DMAR };

    fn header(&self) -> &SdtHeader {
        &self.0
    }

    fn validate(&self) -> AcpiResult<()> {
        Ok(())
    }
}

fn iommus<const AMD: bool>(t: &AcpiTables<Window>, note: fn(&[u8]) -> Result<(), Damage>) {
    if let Ok(m) = t.find_table::<Iommus<AMD>>()
        && let Err(why) = note(bytes(&m))
    {
        say!("ACPI: {} has {why}: its IOMMUs are not used", Iommus::<AMD>::SIGNATURE);
    }
}

/// A whole table.
fn bytes<T>(m: &PhysicalMapping<Window, T>) -> &[u8] {
    // SAFETY: the mapping covers the whole table.
    unsafe { core::slice::from_raw_parts(m.virtual_start().as_ptr().cast::<u8>(), m.region_length()) }
}

fn madt(m: &PhysicalMapping<Window, Madt>) {
    let local = m.get().local_apic_address as u64;
    interrupt::set_local_apic_address(local);
    memory::protect(local, local + 0x1000);
    if !well_formed(m) {
        return say!("ACPI: damaged MADT: no interrupt pins");
    }
    for e in m.get().entries() {
        match e {
            MadtEntry::IoApic(i) => {
                let a = i.io_apic_address as u64;
                if interrupt::add_ioapic(i.io_apic_id, a, i.global_system_interrupt_base) {
                    memory::protect(a, a + 0x1000);
                }
            }
            MadtEntry::LocalApic(l) if l.flags & 1 != 0 => smp::found(l.apic_id.into()),
            MadtEntry::LocalX2Apic(l) if l.flags & 1 != 0 => smp::found(l.x2apic_id),
            _ => {}
        }
    }
}

/// Whether the entries fill the table exactly: the crate's iterator believes their lengths.
fn well_formed(m: &PhysicalMapping<Window, Madt>) -> bool {
    let mut rest = bytes(m).get(size_of::<Madt>()..).unwrap_or_default();
    while let [_, len, ..] = *rest {
        match rest.get(len as usize..).filter(|_| len >= 2) {
            Some(next) => rest = next,
            None => return false,
        }
    }
    rest.is_empty()
}

fn port(a: GenericAddress) -> u16 {
    if matches!(a.address_space, AddressSpace::SystemIo) { a.address as u16 } else { 0 }
}

fn fadt(f: &PhysicalMapping<Window, Fadt>) {
    PM1A.store(f.pm1a_control_block().map_or(0, port), Relaxed);
    PM1B.store(f.pm1b_control_block().ok().flatten().map_or(0, port), Relaxed);
    PM2.store(f.pm2_control_block().ok().flatten().map_or(0, port), Relaxed);
    SMI_CMD.store(f.smi_cmd_port as u16, Relaxed);
    // The register and its value exist from revision 2 on, if a flag says so.
    let flags = f.flags;
    if AcpiTable::header(f.get().get_ref()).revision >= 2 && flags.supports_system_reset_via_fadt() {
        RESET.store(f.reset_register().map_or(0, port), Relaxed);
        RESET_VALUE.store(f.reset_value as u16, Relaxed);
    }
}

/// Ports that user land must not reach, with their number: PM1 and PM2 control, SMI command (8.2.2).
pub fn protected_ports() -> [(u16, u64); 4] {
    [(PM1A.load(Relaxed), 2), (PM1B.load(Relaxed), 2), (PM2.load(Relaxed), 1), (SMI_CMD.load(Relaxed), 1)]
}

/// Enters a sleep state or resets the platform (5.5.1). Only soft off and reset are there.
pub fn sleep(state: u8, a: u8, b: u8) -> Outcome {
    match state {
        5 => soft_off(a, b),
        s if s == HwOp::RESET => reset(),
        1..=4 => Err(Status::BadFtr),
        _ => Err(Status::BadPar),
    }
}

fn soft_off(a: u8, b: u8) -> Outcome {
    let set = |p: u16, typ: u8| {
        if p != 0 {
            // SAFETY: the PM1 control port of the FADT; the machine goes off.
            unsafe { outw(p, inw(p) & !SLP_TYP | (typ as u16) << 10 | SLP_EN) };
        }
    };
    if PM1A.load(Relaxed) == 0 {
        return Err(Status::BadFtr);
    }
    set(PM1A.load(Relaxed), a);
    set(PM1B.load(Relaxed), b);
    no_reaction()
}

/// Gives the machine a second to go away.
fn no_reaction() -> Outcome {
    let end = time::now() + time::frequency();
    while time::now() < end {}
    Err(Status::Aborted)
}

fn reset() -> Outcome {
    let p = RESET.load(Relaxed);
    // SAFETY: the FADT's reset register, then the chipset's.
    unsafe {
        if p != 0 {
            outb(p, RESET_VALUE.load(Relaxed) as u8);
        }
        outb(0xcf9, 2);
        outb(0xcf9, 6);
    }
    no_reaction()
}
