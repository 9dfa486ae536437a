//! What the root task takes from the kernel: ports for console and PCI, device memory, the kernel's log, DMA spaces.

use crate::edu::Edu;
use abi::{CreatePdOp, Features, Hip, Mad, Sel, Status, nova_obj, perm, root_obj};
use rt::{hw::Ports, hypercall as hc};
use std::cell::UnsafeCell;
use std::time::{Duration, Instant};

const COM1: u16 = 0x3f8;
const PCI: u16 = 0xcf8;
/// Where the registers of QEMU's IOMMUs are: what its firmware tables say, too.
const VTD: u64 = 0xfed9_0000;
const AMDVI: u64 = 0xfed8_0000;
/// Class and subclass of a unit of AMD-Vi, which is a device (PCI code and ID assignment).
const IOMMU_CLASS: u32 = 0x0806;
/// Virtual addresses that nothing else uses.
const LOG: u64 = 0x10_0000_0000;
const DEVICES: u64 = 0x11_0000_0000;
const FREE: u64 = 0x13_0000_0000;
/// Memory that nobody uses: neither the kernel nor we, who are small.
pub const FREE_PHYS: u64 = 0x0800_0000;
const PAGE: u64 = abi::PAGE_SIZE as u64;
/// Pages that devices may get.
const PAGES: usize = 4;

#[repr(C, align(4096))]
struct Memory(UnsafeCell<[[u8; abi::PAGE_SIZE]; PAGES]>);
// SAFETY: one thread, and devices; by address only.
unsafe impl Sync for Memory {}
static MEMORY: Memory = Memory(UnsafeCell::new([[0; abi::PAGE_SIZE]; PAGES]));

/// A page of ours that devices may get.
#[derive(Clone, Copy)]
pub struct Shared(pub usize);

impl Shared {
    fn at(self) -> *mut [u8; abi::PAGE_SIZE] {
        // SAFETY: below PAGES.
        unsafe { MEMORY.0.get().cast::<[u8; abi::PAGE_SIZE]>().add(self.0 % PAGES) }
    }

    /// Fills it.
    pub fn fill(self, byte: u8) {
        // SAFETY: ours; nobody holds a reference.
        unsafe { self.at().write_volatile([byte; abi::PAGE_SIZE]) };
    }

    /// Its first byte, if all up to `len` are the same.
    pub fn uniform(self, len: usize) -> Option<u8> {
        // SAFETY: as above.
        let now = unsafe { self.at().read_volatile() };
        now[..len].iter().all(|b| *b == now[0]).then_some(now[0])
    }
}

/// What we have.
pub struct Machine {
    /// Information page.
    pub hip: &'static Hip,
    /// Our own host space.
    pub hst: Sel,
    /// Our own PIO space.
    pub pio: Sel,
    nova_hst: Sel,
    log_at: u32,
    /// The IOMMU is AMD-Vi.
    pub amdvi: bool,
    /// The devices.
    pub edu: Vec<Edu>,
}

fn say(text: &[u8]) {
    let com1 = Ports::new(COM1, 8);
    for b in text {
        while com1.in8(5) & 0x20 == 0 {}
        com1.out8(0, *b);
    }
}

/// A capability of the NOVA object space.
pub fn take(nova: Sel) -> Result<Sel, String> {
    let sel = selector();
    // SAFETY: into the object space, which holds no memory.
    unsafe { hc::ctrl_pd(root_obj::NOVA_OBJ, root_obj::ROOT_OBJ, nova, sel, 0, perm::ALL, Mad::WB) }
        .map_err(|e| format!("taking {nova:#x}: {e:?}"))?;
    Ok(sel)
}

/// A free selector.
pub fn selector() -> Sel {
    rt::sel::alloc().expect("selectors")
}

impl Machine {
    /// Takes what is needed.
    pub fn take() -> Result<Machine, String> {
        let hip = rt::root::boot().ok_or("not the root task")?.hip;
        let (pio, nova_pio) = (take(nova_obj::ROOT_PIO)?, take(nova_obj::NOVA_PIO)?);
        for port in [COM1, PCI] {
            // SAFETY: ports.
            unsafe { hc::ctrl_pd(nova_pio, pio, port.into(), port.into(), 3, perm::ALL, Mad::WB) }
                .map_err(|e| format!("ports {port:#x}: {e:?}"))?;
        }
        rt::root::set_log(say);
        let (hst, nova_hst) = (take(nova_obj::ROOT_HST)?, take(nova_obj::NOVA_HST)?);
        let mut m = Machine { hip, hst, pio, nova_hst, log_at: 0, amdvi: false, edu: vec![] };
        m.map(hip.mbuf_start, LOG, perm::Mem::R, Mad::WB).map_err(|e| format!("the kernel's log: {e:?}"))?;
        // What was blocked before is said now, and how much more there was a second later.
        while m.log().contains("DMA fault") {
            std::thread::sleep(Duration::from_millis(1500));
        }
        m.find_devices()?;
        Ok(m)
    }

    /// Whether the information page says that there is an IOMMU.
    pub fn iommu(&self) -> bool {
        Features::from_bits_truncate(self.hip.features).contains(Features::IOMMU)
    }

    /// The unit's registers.
    pub fn unit(&self) -> u64 {
        if self.amdvi { AMDVI } else { VTD }
    }

    /// A page of physical memory at a virtual address of ours.
    pub fn map(&self, phys: u64, virt: u64, perms: perm::Mem, mad: Mad) -> Result<(), Status> {
        // SAFETY: nothing is at that address.
        unsafe { hc::ctrl_pd(self.nova_hst, self.hst, phys / PAGE, virt / PAGE, 0, perms.bits(), mad) }
    }

    /// Finds the devices on the first bus.
    fn find_devices(&mut self) -> Result<(), String> {
        for device in 0..32u16 {
            let bdf = device << 3;
            self.amdvi |= config(bdf, 8) >> 16 == IOMMU_CLASS;
            if config(bdf, 0) == Edu::ID {
                let (base, virt) = (u64::from(config(bdf, 0x10) & !0xf), DEVICES + (u64::from(device) << 20));
                let all = perm::Mem::R | perm::Mem::W;
                self.map(base, virt, all, Mad::UC).map_err(|e| format!("device memory: {e:?}"))?;
                // Memory space and bus master.
                set_config(bdf, 4, config(bdf, 4) | 6);
                self.edu.push(Edu::new(bdf, virt));
            }
        }
        Ok(())
    }

    /// What the kernel has printed since the last call.
    pub fn log(&mut self) -> String {
        let chars = PAGE as u32 - 8;
        let word = |at: u64| {
            // SAFETY: mapped readable; the kernel writes it.
            unsafe { ((LOG + at) as *const u32).read_volatile() }
        };
        let mut text = vec![];
        while self.log_at != word(4) {
            // SAFETY: as above.
            text.push(unsafe { ((LOG + 8 + u64::from(self.log_at)) as *const u8).read_volatile() });
            self.log_at = (self.log_at + 1) % chars;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().for_each(|l| println!("kernel: {l}"));
        text
    }

    /// The page at [`FREE_PHYS`], filled with a byte.
    pub fn free_page(&self, byte: u8) -> Result<*mut [u8; abi::PAGE_SIZE], String> {
        let all = perm::Mem::R | perm::Mem::W;
        self.map(FREE_PHYS, FREE, all, Mad::WB).map_err(|e| format!("memory of nobody: {e:?}"))?;
        let page = FREE as *mut [u8; abi::PAGE_SIZE];
        // SAFETY: just mapped; nobody else uses it.
        unsafe { page.write_volatile([byte; abi::PAGE_SIZE]) };
        Ok(page)
    }

    /// Whether the emulated unit reports what it blocks: that of AMD-Vi in QEMU 7.2 does not (CAVEATS.md).
    pub fn reports(&self) -> bool {
        !self.amdvi
    }

    /// Waits until the kernel has said that; half a second at most.
    pub fn said(&mut self, what: &str) -> Result<(), String> {
        if !self.reports() {
            return Ok(());
        }
        let (end, mut all) = (Instant::now() + Duration::from_millis(500), String::new());
        while !all.contains(what) {
            if Instant::now() > end {
                return Err(format!("the kernel did not say {what:?} but {all:?}"));
            }
            all += &self.log();
        }
        Ok(())
    }

    /// Nothing was blocked since the last look.
    pub fn no_fault(&mut self) -> Result<(), String> {
        std::thread::sleep(Duration::from_millis(20));
        match self.log() {
            text if text.contains("DMA fault") => Err(format!("unexpected: {text:?}")),
            _ => Ok(()),
        }
    }

    /// Whether the unit does not answer: tried with the host bridge, which does nothing.
    pub fn silent(&self) -> Result<bool, String> {
        let answer = hc::assign_dev(self.space()?, self.unit(), 0);
        Ok(answer == Err(Status::Aborted))
    }

    /// A new DMA space.
    pub fn space(&self) -> Result<Sel, String> {
        let sel = selector();
        hc::create_pd(CreatePdOp::Dma, sel, root_obj::ROOT_PD).map_err(|e| format!("create_pd: {e:?}"))?;
        Ok(sel)
    }

    /// Shows a page of ours to the devices of a space, or takes it away with no permissions.
    pub fn show(&self, space: Sel, page: Shared, address: u64, perms: perm::Mem) -> Result<(), String> {
        let own = page.at() as u64 / PAGE;
        // SAFETY: not our host space. What devices do to the page we expect.
        unsafe { hc::ctrl_pd(self.hst, space, own, address / PAGE, 0, perms.bits(), Mad::WB) }
            .map_err(|e| format!("ctrl_pd: {e:?}"))
    }

    /// Assigns a device.
    pub fn assign(&self, space: Sel, device: usize) -> Result<(), String> {
        hc::assign_dev(space, self.unit(), self.edu[device].bdf.into()).map_err(|e| format!("assign_dev: {e:?}"))
    }
}

/// Reads a register of configuration space.
pub fn config(bdf: u16, register: u32) -> u32 {
    let p = Ports::new(PCI, 8);
    p.out32(0, 1 << 31 | u32::from(bdf) << 8 | register);
    p.in32(4)
}

/// Writes one.
pub fn set_config(bdf: u16, register: u32, value: u32) {
    let p = Ports::new(PCI, 8);
    p.out32(0, 1 << 31 | u32::from(bdf) << 8 | register);
    p.out32(4, value);
}
