//! What all tests stand on: the root task's selectors, memory, and threads that answer.

use crate::nova::{Hip, Status, call, mtd, nova_obj, on, root, utcb};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Bytes of a stack.
pub const STACK: usize = 8192;

/// A stack.
#[repr(C, align(4096))]
pub struct Stack(pub [u8; STACK]);

/// That of the root EC.
pub static mut ROOT_STACK: Stack = Stack([0; STACK]);

/// Addresses where nothing else is.
pub mod place {
    /// UTCBs of threads: a page for each `slot`.
    pub const UTCBS: u64 = 0x2000_0000;
    /// Physical memory that a test looks at.
    pub const WINDOW: u64 = 0x3000_0000;
    /// Free pages.
    pub const FREE: u64 = 0x4000_0000;
}

/// Selectors of the root object space that tests use. Events of the root EC are at 0 [6.2].
pub mod sel {
    #![allow(missing_docs, reason = "named as in the NOVA object space")]
    pub const NOVA_HST: u64 = 0x100;
    pub const NOVA_PIO: u64 = 0x101;
    pub const NOVA_MSR: u64 = 0x102;
    pub const ROOT_HST: u64 = 0x103;
    pub const ROOT_PIO: u64 = 0x104;
    /// Free for a test, which empties what it has used: 64 from here.
    pub const FREE: u64 = 0x140;
    /// A semaphore that nobody ups.
    pub const PARK: u64 = 0x180;
    /// Handlers of events by CPU.
    pub const HANDLERS: u64 = 0x200;
    /// Events of threads on other CPUs than the first: 64 for each CPU.
    pub const EVENTS: u64 = 0x1000;
    /// Events of the virtual CPU.
    pub const GUEST_EVENTS: u64 = 0x8000;
}

/// The page of physical memory at [`place::WINDOW`].
static MAPPED: AtomicU64 = AtomicU64::new(u64::MAX);

/// The root task's situation.
pub struct World {
    /// EAX and EBX as the boot loader left them.
    pub boot: [u64; 2],
    /// The information page.
    pub hip: Hip,
}

impl World {
    /// From the registers at the start.
    pub fn new(eax: u64, ebx: u64, hip: Hip) -> World {
        World { boot: [eax, ebx], hip }
    }

    /// One of [`root`].
    pub fn root(&self, below: u64) -> u64 {
        self.hip.sel_num() - below
    }

    /// Copies 2^`order` capabilities.
    pub fn delegate(&self, from: (u64, u64), to: (u64, u64), order: u64, mask: u64) -> Status {
        on(call::CTRL_PD, from.0, [to.0, from.1 << 12 | order, to.1 << 12 | mask, 0]).0
    }

    /// Copies one out of the NOVA object space.
    pub fn take(&self, from: u64, to: u64) -> Status {
        let (nova, own) = (self.root(root::NOVA_OBJ), self.root(root::OBJ));
        self.delegate((nova, from), (own, to), 0, 0x1f)
    }

    /// Takes COM1 and what else the tests use of the NOVA spaces.
    pub fn open_console(&self) -> bool {
        let found = [
            (nova_obj::HST, sel::NOVA_HST),
            (nova_obj::PIO, sel::NOVA_PIO),
            (nova_obj::MSR, sel::NOVA_MSR),
            (nova_obj::ROOT_HST, sel::ROOT_HST),
            (nova_obj::ROOT_PIO, sel::ROOT_PIO),
        ];
        let taken = found.iter().all(|(from, to)| self.take(self.hip.sel_num() - from, *to) == Status::Success);
        taken && self.ports(crate::console::COM1.into(), 3, 1) == Status::Success
    }

    /// Takes, or gives back, 2^`order` ports.
    pub fn ports(&self, first: u64, order: u64, mask: u64) -> Status {
        self.delegate((sel::NOVA_PIO, first), (sel::ROOT_PIO, first), order, mask)
    }

    /// Maps a page of physical memory, with read and write.
    pub fn map(&self, address: u64, physical: u64, mask: u64) -> Status {
        self.delegate((sel::NOVA_HST, physical >> 12), (sel::ROOT_HST, address >> 12), 0, mask)
    }

    /// Empties the slots of the root object space from `first` on, 2^`order` of them.
    pub fn empty(&self, first: u64, order: u64) {
        let own = self.root(root::OBJ);
        let _ = self.delegate((own, first), (own, first), order, 0);
    }

    /// Reads physical memory.
    pub fn physical<const N: usize>(&self, physical: u64) -> Option<[u8; N]> {
        if MAPPED.swap(physical >> 12, SeqCst) != physical >> 12 {
            for page in 0..2 {
                let status = self.map(place::WINDOW + page * 0x1000, physical + page * 0x1000, 1);
                if status != Status::Success {
                    return None;
                }
            }
        }
        let at = (place::WINDOW + physical % 0x1000) as *const u8;
        // SAFETY: two pages are mapped, N is less than one; a page that NOVA protects would be an exception.
        Some(core::array::from_fn(|i| unsafe { at.add(i).read_volatile() }))
    }

    /// A local thread in `slot` of CPU `cpu` at selector `to`.
    pub fn local(&self, to: u64, cpu: u64, slot: usize) -> Status {
        let page = UTCB_PAGES + slot as u64;
        on(call::EC_LOCAL, to, [self.root(root::PD), page << 12 | cpu, stack(slot), 0]).0
    }

    /// A portal to the local thread `ec`, which calls `handler`.
    pub fn portal(&self, to: u64, ec: u64, handler: Handler, groups: u64) -> Status {
        let (status, _) = on(call::CREATE_PT, to, [self.root(root::PD), ec, entry(), 0]);
        if status != Status::Success {
            status
        } else {
            on(call::CTRL_PT, to, [handler as usize as u64, groups, 0, 0]).0
        }
    }

    /// A global thread in `slot` that runs `body` at priority `priority`, once STARTUP is answered.
    pub fn global(&self, to: u64, cpu: u64, slot: usize, body: extern "C" fn() -> !, priority: u64) -> Status {
        // STARTUP reads the address from the top of the stack.
        let sp = stack(slot) - 16;
        // SAFETY: a stack that no thread uses yet.
        unsafe { (sp as *mut u64).write(body as usize as u64) };
        let (page, events) = (UTCB_PAGES + slot as u64, self.events(cpu));
        let (status, _) = on(call::EC_GLOBAL, to, [self.root(root::PD), page << 12 | cpu, sp, events]);
        if status != Status::Success {
            return status;
        }
        on(call::CREATE_SC, to + 1, [self.root(root::PD), to, priority << 16 | 10, 0]).0
    }

    /// CPUs that tests use.
    pub fn cpus(&self) -> u64 {
        self.hip.cpu_num().min(8)
    }

    /// On each CPU a local thread that answers STARTUP, in the slot of the CPU's number.
    pub fn handlers(&self) -> bool {
        let (park, _) = on(call::CREATE_SM, sel::PARK, [self.root(root::PD), 0, 0, 0]);
        park == Status::Success
            && (0..self.cpus()).all(|cpu| {
                let (ec, startup) = (sel::HANDLERS + cpu, self.events(cpu) + self.hip.field(0x60, 16));
                self.local(ec, cpu, cpu as usize) == Status::Success
                    && self.portal(startup, ec, started, mtd::GPR_0_7 | mtd::RIP) == Status::Success
            })
    }

    /// Event base of threads of a CPU.
    pub fn events(&self, cpu: u64) -> u64 {
        if cpu == self.hip.cpu_bsp() { 0 } else { sel::EVENTS + cpu * 64 }
    }
}

const UTCB_PAGES: u64 = place::UTCBS >> 12;

/// What a portal calls: its thread's UTCB and the message's descriptor; returns the reply's descriptor.
pub type Handler = extern "C" fn(&mut [u64; utcb::WORDS], u64) -> u64;

/// Slots of threads: first the handlers of each CPU, then two for each test group.
pub const SLOTS: usize = 24;
static mut STACKS: [Stack; SLOTS] = [const { Stack([0; STACK]) }; SLOTS];

/// Initial stack pointer of a slot. Its UTCB's address lies on top.
pub fn stack(slot: usize) -> u64 {
    let top = &raw const STACKS as u64 + ((slot + 1) * STACK) as u64 - 16;
    // SAFETY: in the slot's stack, which is written only while no thread of it exists.
    unsafe { (top as *mut u64).write(place::UTCBS + slot as u64 * 0x1000) };
    top
}

/// The message words of a slot's thread.
pub fn utcb_of(slot: usize) -> *mut u64 {
    (place::UTCBS + slot as u64 * 0x1000) as *mut u64
}

// Entered with RDI = portal identifier, RSI = descriptor [8.8], RSP as at the thread's last reply [5.3.2]: at the address of
// its UTCB. The identifier is a handler's address.
global_asm!("portal_entry:", "mov rax, rdi", "mov rdi, [rsp]", "call rax", "mov rsi, rax", "mov edi, 1", "syscall",);

unsafe extern "C" {
    fn portal_entry();
}

/// Instruction pointer of all portals.
pub fn entry() -> u64 {
    portal_entry as *const () as u64
}

/// Answers STARTUP: the thread's body is on top of its stack.
pub extern "C" fn started(utcb: &mut [u64; utcb::WORDS], _: u64) -> u64 {
    let sp = utcb[utcb::RSP];
    // SAFETY: written by `global`.
    utcb[utcb::RIP] = unsafe { (sp as *const u64).read() };
    // As a call would have left it.
    utcb[utcb::RSP] = sp - 8;
    mtd::RIP | mtd::GPR_0_7
}

/// Ends a thread: it waits for ever.
pub fn park() -> ! {
    loop {
        let _ = on(call::SM_DOWN, sel::PARK, [0; 4]);
    }
}
