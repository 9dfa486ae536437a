//! The NOVA spaces and the root protection domain (spec 6.1.3, 6.2).

use super::{ROOT_OBJ, acpi, memory, multiboot::Info};
use crate::arch::{cpu, guest, interrupt, time};
use crate::console;
use crate::mem::refs::Ref;
use crate::mem::{layout, pool, window};
use crate::object::account::{KERNEL, ROOT};
use crate::object::ec::{Cont, Ec, EcKind, NewEc};
use crate::object::{hst::HstSpace, msr::MsrSpace, obj, obj::ObjSpace, pd::Pd, pio::PioSpace, sc::Sc, sm::Sm};
use crate::{iommu, remote, trace};
use abi::{EXT_SIGNATURE, HIP_SIGNATURE, Hip, Mad, PAGE_SIZE, SEL_NUM, event, nova_obj, perm, root_obj};
use core::sync::atomic::Ordering::Relaxed;
use ptab::Leaf;

/// Virtual address of the information page: the last page of user memory.
const HIP_ADDR: u64 = layout::USER_END - PAGE_SIZE as u64;
/// Priority and budget of the root SC.
const ROOT_PRIO: u8 = 127;
const ROOT_BUDGET_MS: u64 = 1000;

/// Something is wrong with the boot module.
pub type Refused = &'static str;

struct Spaces {
    nova: Ref<ObjSpace>,
    obj: Ref<ObjSpace>,
    hst: Ref<HstSpace>,
    pio: Ref<PioSpace>,
}

fn put<T: crate::mem::refs::Object>(space: &ObjSpace, sel: u64, o: &Ref<T>, perms: u8) -> Result<(), Refused> {
    let room = space.reserve(sel).map_err(|_| "no memory for capabilities")?;
    if space.put(sel, room, o.clone(), perms) { Ok(()) } else { Err("two objects at one selector") }
}

const NO_MEMORY: Refused = "no memory for kernel objects";
const TAKE: u8 = perm::Space::TAKE.bits();
const TAKE_GRANT: u8 = perm::Space::TAKE.bits() | perm::Space::GRANT.bits();

/// Creates everything and makes the root SC ready.
pub fn create(info: &Info, magic: u32, mbi: u32) -> Result<(), Refused> {
    KERNEL.transfer_all(&ROOT);
    obj::set_key(cpu::random());
    let pd = Pd::create(&ROOT, ROOT.hold(), true).ok_or(NO_MEMORY)?;
    let s = spaces(&pd)?;
    fill_nova(&s)?;
    let (entry, hip) = (load_image(info, &s.hst)?, information(info)?);
    map(&s.hst, HIP_ADDR >> 12, hip, perm::Mem::R)?;
    let ec = Ec::create(
        &ROOT,
        NewEc {
            kind: EcKind::Global,
            cpu: 0,
            obj: s.obj.clone(),
            hst: s.hst.clone(),
            pio: Some(s.pio.clone()),
            page: (HIP_ADDR >> 12) - 1,
            sp: HIP_ADDR,
            evt: 0,
            fpu: true,
        },
    )
    .ok_or(NO_MEMORY)?;
    let f = ec.regs();
    f.set_rip(entry);
    f.set_rdi(magic.into());
    f.set_rsi(mbi.into());
    ec.ipc.cont.set(Cont::Iret);
    let sc = Sc::create(&ROOT, ec.clone(), ROOT_PRIO, time::frequency() / 1000 * ROOT_BUDGET_MS).ok_or(NO_MEMORY)?;
    ec.bound.store(true, Relaxed);
    pd.members.add(pd.found(), &ec);
    put(&s.obj, root_obj::NOVA_OBJ, &s.nova, TAKE)?;
    put(&s.obj, root_obj::ROOT_OBJ, &s.obj, TAKE_GRANT)?;
    put(&s.obj, root_obj::ROOT_PD, &pd, perm::Pd::all().bits())?;
    put(&s.obj, root_obj::ROOT_EC, &ec, perm::Ec::all().bits())?;
    put(&s.obj, root_obj::ROOT_SC, &sc, perm::Sc::all().bits())?;
    ROOT_OBJ.store(s.obj.found() as *const _ as u64, Relaxed);
    ipc::start(sc.found());
    Ok(())
}

fn spaces(pd: &Ref<Pd>) -> Result<Spaces, Refused> {
    let s = Spaces {
        nova: ObjSpace::create(&ROOT).ok_or(NO_MEMORY)?,
        obj: ObjSpace::create(&ROOT).ok_or(NO_MEMORY)?,
        hst: HstSpace::create(&ROOT, false).ok_or(NO_MEMORY)?,
        pio: PioSpace::create(&ROOT, false).ok_or(NO_MEMORY)?,
    };
    pd.obj.set(&s.obj);
    pd.hst.set(&s.hst);
    pd.pio.set(&s.pio);
    pd.members.add(pd.found(), &s.obj);
    pd.members.add(pd.found(), &s.hst);
    pd.members.add(pd.found(), &s.pio);
    Ok(s)
}

/// The NOVA object space (6.1.3.1).
fn fill_nova(s: &Spaces) -> Result<(), Refused> {
    let nova = &s.nova;
    let console = Sm::create(&ROOT, 0, None).ok_or(NO_MEMORY)?;
    put(nova, nova_obj::CONSOLE_SM, &console, (perm::Sm::CTRL_UP | perm::Sm::CTRL_DN).bits())?;
    console::set_signal(console.found());
    // The object stays: the NOVA object space counts on it, and is never destroyed.
    put(nova, nova_obj::NOVA_OBJ, nova, TAKE)?;
    put(nova, nova_obj::NOVA_HST, &HstSpace::create(&ROOT, true).ok_or(NO_MEMORY)?, TAKE)?;
    put(nova, nova_obj::NOVA_PIO, &nova_pio()?, TAKE)?;
    put(nova, nova_obj::NOVA_MSR, &nova_msr()?, TAKE)?;
    put(nova, nova_obj::ROOT_OBJ, &s.obj, TAKE_GRANT)?;
    put(nova, nova_obj::ROOT_HST, &s.hst, TAKE_GRANT)?;
    put(nova, nova_obj::ROOT_PIO, &s.pio, perm::Space::all().bits())?;
    let messages = (0..interrupt::MESSAGES).map(|m| interrupt::FIRST_MESSAGE + m);
    for (i, n) in (0..interrupt::pin_count()).chain(messages).enumerate() {
        let sm = Sm::create(&ROOT, 0, Some(n)).ok_or(NO_MEMORY)?;
        interrupt::bind(n, sm.found());
        put(nova, nova_obj::INT_BASE + i as u64, &sm, (perm::Sm::ASSIGN | perm::Sm::CTRL_DN).bits())?;
    }
    (0..super::cpus_online()).try_for_each(|c| idle_sc(s, c))
}

/// The idle SC: never runs, but knows how long the CPU had nothing to do.
fn idle_sc(s: &Spaces, cpu: u16) -> Result<(), Refused> {
    let ec = Ec::create(
        &ROOT,
        NewEc {
            kind: EcKind::Idle,
            cpu,
            obj: s.obj.clone(),
            hst: s.hst.clone(),
            pio: None,
            page: 0,
            sp: 0,
            evt: 0,
            fpu: false,
        },
    )
    .ok_or(NO_MEMORY)?;
    let sc = Sc::create(&ROOT, ec, 0, u64::MAX).ok_or(NO_MEMORY)?;
    remote::set_idle(cpu, sc.found());
    put(&s.nova, cpu.into(), &sc, perm::Sc::CTRL.bits())
}

fn nova_pio() -> Result<Ref<PioSpace>, Refused> {
    let p = PioSpace::create(&ROOT, true).ok_or(NO_MEMORY)?;
    for (port, len) in acpi::protected_ports().into_iter().filter(|(p, _)| *p != 0) {
        for i in 0..len {
            p.set(port as u64 + i, false);
        }
    }
    Ok(p)
}

/// MSRs that may be delegated (8.2.3).
fn nova_msr() -> Result<Ref<MsrSpace>, Refused> {
    use perm::Msr;
    let m = MsrSpace::create(&ROOT).ok_or(NO_MEMORY)?;
    let rw = [0x174, 0x175, 0x176, 0x277, 0xc000_0080, 0xc000_0100, 0xc000_0101, 0xc000_0102];
    let w = [0x49, 0x10b];
    let r = [
        0x10,
        0x17,
        0x8b,
        0xcf,
        0xe7,
        0xe8,
        0xfe,
        0x10a,
        0x123,
        0x195,
        0x198,
        0x19c,
        0x1b1,
        0xda0,
        0xc000_0081,
        0xc000_0082,
        0xc000_0084,
        0xc000_0103,
    ];
    for (list, p) in [(&rw[..], Msr::R | Msr::W), (&w[..], Msr::W), (&r[..], Msr::R)] {
        for i in list {
            m.set(*i, p);
        }
    }
    Ok(m)
}

fn map(hst: &HstSpace, page: u64, phys: u64, perms: perm::Mem) -> Result<(), Refused> {
    let leaf = Leaf { phys, order: 0, perms, mad: Mad::WB };
    hst.update(page, 0, leaf).map_err(|_| "no memory for page tables")
}

/// ELF64 header and program header fields (ELF-64 object file format, figures 2 and 6).
mod elf {
    pub const ENTRY: usize = 24;
    pub const PHOFF: usize = 32;
    pub const PHNUM: usize = 56;
    pub const PH_LEN: usize = 56;
    pub const LOAD: u32 = 1;
    /// ELF, 64-bit, little endian, version 1.
    pub const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
    /// ET_EXEC, EM_X86_64.
    pub const KIND: [u8; 4] = [2, 0, 62, 0];
}

fn word(b: &[u8], at: usize) -> Result<u64, Refused> {
    let w = b.get(at..at + 8).ok_or("root task: ELF headers beyond the module")?;
    Ok(u64::from_le_bytes(w.try_into().unwrap_or_default()))
}

/// Maps the root task's segments in place (6.2.1) and returns its entry point.
fn load_image(info: &Info, hst: &HstSpace) -> Result<u64, Refused> {
    let (start, end) = info.root;
    // SAFETY: the loader's module; the root task does not run yet.
    let b = unsafe { window::bytes(start, end - start) }.ok_or("root task: too large to map")?;
    if !b.starts_with(&elf::IDENT) || b.get(16..20) != Some(&elf::KIND) {
        return Err("root task: not an x86-64 ELF executable");
    }
    let (phoff, phnum) = (word(b, elf::PHOFF)? as usize, word(b, elf::PHNUM)? as u16 as usize);
    for i in 0..phnum {
        let at = phoff.checked_add(i * elf::PH_LEN).ok_or("root task: damaged ELF headers")?;
        if word(b, at)? as u32 == elf::LOAD {
            load_segment(b, at, start, hst)?;
        }
    }
    word(b, elf::ENTRY)
}

fn load_segment(b: &[u8], at: usize, module: u64, hst: &HstSpace) -> Result<(), Refused> {
    let flags = word(b, at)? >> 32;
    let (offset, vaddr) = (word(b, at + 8)?, word(b, at + 16)?);
    let (filesz, memsz) = (word(b, at + 32)?, word(b, at + 40)?);
    if memsz == 0 {
        return Ok(());
    }
    if filesz != memsz || offset.checked_add(filesz).is_none_or(|e| e > b.len() as u64) {
        return Err("root task: a segment is not all in the file (p_filesz must be p_memsz)");
    }
    if (vaddr ^ (module + offset)) & 0xfff != 0 || vaddr.checked_add(memsz).is_none_or(|e| e > HIP_ADDR - 0x2000) {
        return Err("root task: a segment is not page-aligned with its module, or out of range");
    }
    let mut p = perm::Mem::empty();
    p.set(perm::Mem::R, flags & 4 != 0);
    p.set(perm::Mem::W, flags & 2 != 0);
    p.set(perm::Mem::XU, flags & 1 != 0);
    let first = vaddr >> 12;
    for page in first..(vaddr + memsz).div_ceil(PAGE_SIZE as u64) {
        map(hst, page, ((module + offset) & !0xfff) + ((page - first) << 12), p)?;
    }
    Ok(())
}

/// The information page (6.3).
fn information(info: &Info) -> Result<u64, Refused> {
    let frame = pool::alloc(&ROOT).ok_or(NO_MEMORY)?;
    let (mbuf_start, mbuf_end) = console::ring_range();
    let (kmem_used, kmem_total) = pool::usage();
    let (trace_start, trace_end) = trace::range();
    let mut h = Hip {
        signature: HIP_SIGNATURE,
        length: size_of::<Hip>() as u16,
        nova_start: layout::phys(layout::image_start()),
        nova_end: layout::phys(layout::pool_end()),
        mbuf_start,
        mbuf_end,
        root_start: info.root.0,
        root_end: info.root.1,
        acpi_rsdp: acpi::rsdp(info.rsdp),
        uefi_map: u64::MAX,
        stc_freq: time::frequency(),
        sel_num: SEL_NUM,
        sel_hst_arch: event::HST_ARCH as u16,
        sel_hst_nova: event::HST_NOVA as u16,
        sel_gst_arch: event::GST_ARCH as u16,
        sel_gst_nova: event::GST_NOVA as u16,
        cpu_num: super::cpus_online(),
        int_pin: interrupt::pin_count(),
        int_msi: interrupt::MESSAGES,
        mco_obj: cap::LEAF_ORDER as u8,
        mco_hst: 9,
        mco_gst: 9,
        mco_dma: if iommu::machine().is_some() { 9 } else { 0 },
        mco_pio: 16,
        mco_msr: 16,
        features: (guest::features() | iommu::features()).bits(),
        ext_signature: EXT_SIGNATURE,
        virt_missing: guest::missing().bits(),
        kmem_used,
        kmem_total,
        ext_features: crate::call::ext::FEATURES.bits(),
        trace_start,
        trace_end,
        // Zero: boot processor, key identifiers, UEFI map and log that there are none of.
        ..Hip::default()
    };
    h.checksum = h.compute_checksum();
    // SAFETY: a frame of our own.
    unsafe { frame.cast().write(h) };
    Ok(pool::phys(frame))
}

/// Protects image and pool, all but the memory-buffer console.
pub fn protect_kernel() {
    memory::protect(layout::phys(layout::image_start()), layout::phys(layout::pool_end()));
    memory::open(console::ring_range(), perm::Mem::all());
}
