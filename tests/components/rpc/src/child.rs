//! A component of our own: we are its parent. It runs our image, in a domain of its own with memory of its own.
//!
//! Key types: [`Nursery`], which serves the portals of all children; [`Child`].

use abi::{ArchState, CreatePdOp, Mad, Mtd, PAGE_SIZE, Sel, Status, Utcb, event, perm};
use parent::{Call, Name, Refusal, Rom, StartInfo, THREAD_EXIT, layout, sel};
use policy::Image;
use rt::hypercall::{self as hc, EcArgs};
use rt::{PortalThread, Semaphore};
use std::sync::{Arc, Mutex};
use zerocopy::IntoBytes;

const PAGE: u64 = PAGE_SIZE as u64;
/// RAM of a child, beside its first stack.
const RAM: u64 = 4 << 20;
/// Where a child finds the capability to the hub.
pub const HUB: Sel = sel::END;
/// First selector that a child may use freely.
const FREE: Sel = sel::END + 0x40;
/// The portal for calls to the parent; events have lower numbers.
const CALL: u64 = 0xff;

/// What the handlers know of a child.
#[derive(Clone, Copy)]
struct Known {
    pd: Sel,
    obj: Sel,
    entry: u64,
    started: bool,
    /// The one CPU that it may use.
    cpu: u16,
}

/// Serves the portals of children.
pub struct Nursery {
    /// On each CPU.
    threads: Vec<(u16, PortalThread)>,
    children: Arc<Mutex<Vec<Known>>>,
    /// A child has ended by itself.
    pub ended: Arc<Semaphore>,
}

impl Nursery {
    /// One without children.
    pub fn new() -> Result<Nursery, Status> {
        let (children, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let thread = |&cpu: &u16| {
            let mut handler = Handler { children: children.clone(), ended: ended.clone() };
            let handler = Box::new(move |pid, mtd, utcb: &mut Utcb| handler.handle(pid, mtd, utcb));
            Ok((cpu, PortalThread::new(cpu, 64 << 10, handler)?))
        };
        let cpus = rt::start_info().ok_or(Status::BadPar)?.usable_cpus();
        let threads = cpus.iter().map(thread).collect::<Result<_, Status>>()?;
        Ok(Nursery { threads, children, ended })
    }

    /// Starts a child with that name on that CPU, and no other; it has a capability of ours, to the hub.
    pub fn start(&self, name: &str, cpu: u16, hub: Sel) -> Result<Child, Status> {
        let own = rt::start_info().ok_or(Status::BadPar)?;
        let rom = rt::rom("rpc-test").ok_or(Status::BadPar)?;
        let image = Image::parse(rom).map_err(|_| Status::BadPar)?;
        let (pd, obj, hst) = (free()?, free()?, free()?);
        hc::create_pd(CreatePdOp::Pd, pd, sel::PD)?;
        hc::create_pd(CreatePdOp::Obj, obj, pd)?;
        hc::create_pd(CreatePdOp::Hst, hst, pd)?;
        let rw = perm::Mem::R | perm::Mem::W;
        for s in &image.segments {
            let (at, len) = (s.page_start(), s.page_end() - s.page_start());
            if s.perms.contains(perm::Mem::W) {
                let offset = (s.vaddr - at) as usize;
                map(hst, memory(len, offset, &rom[s.file.clone()]), at, len, rw)?;
            } else {
                // What nobody writes to is the same as ours.
                map(hst, at, at, len, s.perms)?;
            }
        }
        map(hst, memory(RAM, 0, &[]), layout::RAM, RAM, rw)?;
        let stack = layout::STACK_TOP - layout::STACK_LEN;
        map(hst, memory(layout::STACK_LEN, 0, &[]), stack, layout::STACK_LEN, rw)?;
        let mut info = StartInfo { ram_len: RAM, sel_free: FREE, ..*own };
        info.name = Name::new(name).ok_or(Status::BadPar)?;
        (info.has_log, info.rom_count, info.usable_count) = (0, 0, 0);
        info.cpu = cpu.into();
        info.push_cpu(cpu);
        info.push_rom(Rom { name: info.name, addr: 0, len: 0 });
        let len = (StartInfo::PAGES * PAGE_SIZE) as u64;
        map(hst, memory(len, 0, info.as_bytes()), layout::START_INFO, len, perm::Mem::R)?;
        self.give(Known { pd, obj, entry: image.entry, started: false, cpu }, hst, hub)?;
        let (ec, sc) = (free()?, free()?);
        let args = EcArgs {
            utcb_page: layout::UTCBS,
            cpu,
            sp: layout::STACK_TOP,
            evt: sel::events(cpu),
            global_or_offset: true,
            fpu: true,
            ..EcArgs::default()
        };
        create_ec(ec, pd, args)?;
        give(obj, ec, sel::EC, perm::Ec::CTRL.bits())?;
        rt::thread::give_sc(ec, sc, 0)?;
        Ok(Child { pd })
    }

    /// What a child has at start.
    fn give(&self, child: Known, hst: Sel, hub: Sel) -> Result<(), Status> {
        let Known { pd, obj, .. } = child;
        let index = {
            let mut all = self.children.lock().map_err(|_| Status::Aborted)?;
            all.push(child);
            all.len() as u64 - 1
        };
        let own = perm::Pd::PD | perm::Pd::PT | perm::Pd::SM;
        let space = perm::Space::TAKE | perm::Space::GRANT;
        give(obj, pd, sel::PD, own.bits())?;
        give(obj, obj, sel::OBJ, space.bits())?;
        give(obj, hst, sel::HST, space.bits())?;
        give(obj, hub, HUB, perm::Pt::CALL.bits())?;
        self.threads.iter().try_for_each(|(cpu, thread)| {
            let portal = |n: u64, to: Sel, mtd: Mtd, perms: perm::Pt| {
                let at = free()?;
                thread.portal(at, index << 8 | n, mtd.bits())?;
                give(obj, at, to, perms.bits())
            };
            for n in 0..event::HST_ARCH + event::HST_NOVA {
                let mtd = Mtd::GPR_0_7 | Mtd::RIP | Mtd::QUAL;
                portal(n, sel::events(*cpu) + n, mtd, perm::Pt::EVENT)?;
            }
            portal(CALL, sel::parent(*cpu), Mtd::empty(), perm::Pt::CALL)
        })
    }
}

/// A child.
#[derive(Clone, Copy)]
pub struct Child {
    pd: Sel,
}

impl Child {
    /// Ends it.
    pub fn kill(self) {
        // SAFETY: not our own domain.
        unsafe { hc::destroy(self.pd) }.expect("destroy a child");
    }
}

struct Handler {
    children: Arc<Mutex<Vec<Known>>>,
    ended: Arc<Semaphore>,
}

impl Handler {
    fn handle(&mut self, pid: u64, mtd: u32, utcb: &mut Utcb) -> u32 {
        let mut children = self.children.lock().expect("no panic in a handler");
        let child = &mut children[(pid >> 8) as usize];
        match pid & 0xff {
            CALL => {
                let done = self.call(*child, mtd, utcb);
                utcb.words[0] = done.map_or_else(|refusal| refusal as u64, |()| 0);
                Mtd::words(1)
            }
            event => self.event(child, event, utcb.arch_mut()).bits(),
        }
    }

    fn event(&self, child: &mut Known, n: u64, state: &mut ArchState) -> Mtd {
        match n {
            event::HST_STARTUP => {
                let first = !std::mem::replace(&mut child.started, true);
                state.rip = child.entry;
                state.gpr[ArchState::RDI] = if first { layout::START_INFO } else { 0 };
                Mtd::GPR_0_7 | Mtd::RIP
            }
            6 if state.gpr[ArchState::RAX] == THREAD_EXIT => Mtd::POISON,
            n => {
                let (address, rip) = (state.qual[1], state.rip);
                println!("test rpc_children_live ... FAILED: exception {n}, address {address:#x}, rip {rip:#x}");
                self.ended.up();
                Mtd::POISON
            }
        }
    }

    fn call(&self, c: Known, mtd: u32, utcb: &Utcb) -> Result<(), Refusal> {
        let refused = |_| Refusal::BadSelector;
        match Call::decode(&utcb.words, Mtd::word_count(mtd))? {
            Call::StartThread { ec, sc, lower } => {
                let (own_ec, own_sc) = (free().map_err(refused)?, free().map_err(refused)?);
                let bind = perm::Ec::BIND_SC.bits();
                // SAFETY: object spaces hold no memory.
                unsafe { hc::ctrl_pd(c.obj, sel::OBJ, ec, own_ec, 0, bind, Mad::WB) }.map_err(refused)?;
                rt::thread::give_sc(own_ec, own_sc, lower).map_err(refused)?;
                give(c.obj, own_sc, sc, perm::Sc::CTRL.bits()).map_err(refused)
            }
            Call::CreateEc { cpu, .. } if cpu != c.cpu => Err(Refusal::NotYourCpu),
            Call::CreateEc { ec, cpu, flags, page, sp, events } => {
                let args = EcArgs { utcb_page: page, cpu, sp, evt: events, ..EcArgs::default() };
                give_ec(c, ec, args.with_flags(flags), perm::Ec::all())
            }
            Call::CreateCourier { ec, cpu, page, sp, events } => {
                let global_or_offset = true;
                let args = EcArgs { utcb_page: page, cpu, sp, evt: events, guest: false, global_or_offset, fpu: true };
                give_ec(c, ec, args, perm::Ec::CTRL | perm::Ec::BIND_SC)
            }
            Call::Exit { code } => {
                println!("a child ended with code {code}");
                self.ended.up();
                Ok(())
            }
            Call::Log { text } => {
                print!("{}", String::from_utf8_lossy(text));
                Ok(())
            }
        }
    }
}

fn free() -> Result<Sel, Status> {
    rt::sel::alloc().ok_or(Status::MemCap)
}

/// A new EC of a child, at its selector.
fn give_ec(c: Known, to: Sel, args: EcArgs, perms: perm::Ec) -> Result<(), Refusal> {
    let made = || {
        let own = free()?;
        create_ec(own, c.pd, args)?;
        give(c.obj, own, to, perms.bits())
    };
    made().map_err(|_: Status| Refusal::BadSelector)
}

/// One of our capabilities into the object space of a child.
fn give(obj: Sel, own: Sel, to: Sel, perms: u8) -> Result<(), Status> {
    // SAFETY: object spaces hold no memory.
    unsafe { hc::ctrl_pd(sel::OBJ, obj, own, to, 0, perms, Mad::WB) }
}

fn create_ec(at: Sel, pd: Sel, args: EcArgs) -> Result<(), Status> {
    assert!(pd != sel::PD);
    // SAFETY: not of our own domain.
    unsafe { hc::create_ec(at, pd, args) }
}

/// New pages with these bytes at an offset, which stay for good, and which nothing of ours refers to: their address.
fn memory(len: u64, offset: usize, bytes: &[u8]) -> u64 {
    let mut pages = vec![Page([0; PAGE_SIZE]); len.div_ceil(PAGE) as usize];
    pages.as_mut_slice().as_mut_bytes()[offset..offset + bytes.len()].copy_from_slice(bytes);
    pages.leak().as_ptr() as u64
}

#[derive(Clone, Copy, zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE_SIZE]);

/// Maps our memory into a child.
fn map(hst: Sel, own: u64, to: u64, len: u64, perms: perm::Mem) -> Result<(), Status> {
    (0..len.div_ceil(PAGE)).try_for_each(|i| {
        // SAFETY: into another domain; what it may write to is nothing that Rust refers to here.
        unsafe { hc::ctrl_pd(sel::HST, hst, own / PAGE + i, to / PAGE + i, 0, perms.bits(), Mad::WB) }
    })
}
