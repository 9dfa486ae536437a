//! What it takes to create and to destroy each kind of object, and what each costs of kernel memory.

use crate::clock::{LONG_OVERHEAD, Registers, SAMPLES, WARM_UP, figure, missing, report, ticks};
use crate::threads::{Code, Place, R13, Thread, down, registers};
use abi::{CreatePdOp, ExtOp, Hypercall, PAGE_SIZE, Sel, Status};
use bare::{Slot, done};
use parent::sel;
use rt::hypercall::{self as hc, EcArgs};

/// Frames of the account that pays for what is counted.
const FRAMES: u64 = 700;
/// Where UTCBs are in domains that nobody runs in.
const UTCB_PAGE: u64 = 1;

/// An object to create: the hypercall, its operation or flags, and how many are counted.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    call: Hypercall,
    flags: u8,
    count: u64,
}

const fn space(name: &'static str, op: CreatePdOp, count: u64) -> Kind {
    Kind { name, call: Hypercall::CreatePd, flags: op as u8, count }
}

/// Flags of `create_ec`.
const GUEST: u8 = 1 << 0;
const GLOBAL: u8 = 1 << 1;
const FPU: u8 = 1 << 2;

const KINDS: &[Kind] = &[
    space("pd", CreatePdOp::Pd, 256),
    space("object_space", CreatePdOp::Obj, 64),
    space("host_space", CreatePdOp::Hst, 64),
    space("guest_space", CreatePdOp::Gst, 64),
    space("dma_space", CreatePdOp::Dma, 64),
    space("pio_space", CreatePdOp::Pio, 32),
    space("msr_space", CreatePdOp::Msr, 32),
    Kind { name: "local_thread", call: Hypercall::CreateEc, flags: FPU, count: 64 },
    Kind { name: "global_thread", call: Hypercall::CreateEc, flags: FPU | GLOBAL, count: 64 },
    Kind { name: "global_thread_without_fpu", call: Hypercall::CreateEc, flags: GLOBAL, count: 64 },
    Kind { name: "virtual_cpu", call: Hypercall::CreateEc, flags: FPU | GUEST, count: 16 },
    Kind { name: "portal", call: Hypercall::CreatePt, flags: 0, count: 512 },
    Kind { name: "semaphore", call: Hypercall::CreateSm, flags: 0, count: 512 },
];

/// What objects are made for: a domain of the account, its spaces, a local thread in it.
struct Ground {
    pd: Slot,
    server: Slot,
    _spaces: [Slot; 2],
    cpu: u16,
}

impl Ground {
    fn new(cpu: u16) -> Result<Ground, String> {
        let (pd, server) = (Slot::new(), Slot::new());
        done("create_pd", hc::create_account(pd.0, sel::PD, FRAMES))?;
        let spaces = [Slot::pd(CreatePdOp::Obj, pd.0)?, Slot::pd(CreatePdOp::Hst, pd.0)?];
        let args = EcArgs { utcb_page: UTCB_PAGE << 12, cpu, ..EcArgs::default() };
        // SAFETY: not of our own domain.
        done("create_ec", unsafe { hc::create_ec(server.0, pd.0, args) })?;
        Ok(Ground { pd, server, _spaces: spaces, cpu })
    }

    /// A space of which a domain has one needs a domain of its own.
    fn owner(&self, kind: Kind) -> Result<Option<Slot>, String> {
        let one = [CreatePdOp::Obj as u8, CreatePdOp::Hst as u8].contains(&kind.flags);
        if kind.call == Hypercall::CreatePd && one { Slot::pd(CreatePdOp::Pd, self.pd.0).map(Some) } else { Ok(None) }
    }

    /// The hypercall that creates one at `at`, the `n`-th.
    fn create(&self, kind: Kind, at: Sel, pd: Sel, n: u64) -> Registers {
        let r = Registers { rdi: kind.call.identifier(kind.flags, at), rsi: pd, ..Registers::default() };
        match kind.call {
            Hypercall::CreateEc => Registers { rdx: (UTCB_PAGE + 1 + n) << 12 | u64::from(self.cpu), ..r },
            Hypercall::CreatePt => Registers { rdx: self.server.0, ..r },
            _ => r,
        }
    }

    fn used(&self) -> Result<u64, String> {
        done("read_quota", hc::read_quota(self.pd.0)).map(|(_, used)| used)
    }
}

/// Why an object cannot be made here.
fn why(r: &Registers) -> Option<String> {
    // SAFETY: it creates an object in a domain that nobody runs in.
    let (_, status) = unsafe { crate::clock::long_hypercall(*r) };
    match Status::from_register(status) {
        Some(Status::Success) => None,
        Some(Status::BadFtr) => Some("the machine has none of what it is for".into()),
        other => Some(format!("{other:?}")),
    }
}

/// Creates and destroys one again and again.
fn times(ground: &Ground, kind: Kind) -> Result<[Vec<u32>; 2], String> {
    let mut samples = [vec![], vec![]];
    let at = Slot::new();
    for i in 0..WARM_UP + SAMPLES {
        let owner = ground.owner(kind)?;
        let create = ground.create(kind, at.0, owner.as_ref().map_or(ground.pd.0, |o| o.0), 0);
        let destroy = Registers { rdi: ExtOp::Destroy.identifier(at.0), ..Registers::default() };
        // SAFETY: an object that nothing relies on.
        let pair = unsafe { [ticks("create", create)?, ticks("destroy", destroy)?] };
        if i >= WARM_UP {
            samples.iter_mut().zip(pair).for_each(|(s, t)| s.push(t));
        }
    }
    Ok(samples)
}

/// Bytes of kernel memory for one of many: whole frames, so a little more than the object itself.
fn bytes(ground: &Ground, kind: Kind) -> Result<u64, String> {
    let owners: Vec<_> = (0..kind.count).map(|_| ground.owner(kind)).collect::<Result<_, _>>()?;
    let before = ground.used()?;
    let mut all = Vec::new();
    for (n, owner) in (0..).zip(&owners) {
        let at = Slot::new();
        let create = ground.create(kind, at.0, owner.as_ref().map_or(ground.pd.0, |o| o.0), n);
        // SAFETY: an object in a domain that nobody runs in.
        unsafe { ticks(kind.name, create)? };
        all.push(at);
    }
    Ok(((ground.used()? - before) * PAGE_SIZE as u64).div_ceil(kind.count))
}

/// The same of scheduling contexts, which our parent makes for us: the account is our own.
fn bytes_of_scheduling_context(cpu: u16) -> Result<u64, String> {
    const COUNT: u64 = 64;
    let (never, used) = (Slot::sm(0)?, || done("read_quota", hc::read_quota(sel::PD)).map(|(_, used)| used));
    let place = Place { cpu, lower: 1, fpu: false };
    let wait = registers(&[(R13, down(never.0))]);
    let threads: Vec<_> = (0..COUNT).map(|_| Thread::asleep(place, Code::Pong, wait)).collect::<Result<_, _>>()?;
    let before = used()?;
    threads.iter().try_for_each(|t| t.start(place.lower))?;
    Ok(((used()? - before) * PAGE_SIZE as u64).div_ceil(COUNT))
}

/// A thread's scheduling context, again and again: the call to our parent, who makes it, with all that the parent does; and
/// `destroy`.
fn times_of_scheduling_context(cpu: u16) -> Result<[Vec<u32>; 2], String> {
    let (never, at, place) = (Slot::sm(0)?, Slot::new(), Place { cpu, lower: 1, fpu: false });
    let thread = Thread::asleep(place, Code::Pong, registers(&[(R13, down(never.0))]))?;
    let destroy = Registers { rdi: ExtOp::Destroy.identifier(at.0), ..Registers::default() };
    let mut samples = [vec![], vec![]];
    for i in 0..WARM_UP + SAMPLES {
        let since = rt::time::tsc();
        done("scheduling context", rt::thread::give_sc(thread.ec(), at.0, place.lower))?;
        let created = (rt::time::tsc() - since) as u32;
        // SAFETY: the thread does nothing that matters.
        let destroyed = unsafe { ticks("destroy", destroy)? };
        if i >= WARM_UP {
            samples.iter_mut().zip([created, destroyed]).for_each(|(s, t)| s.push(t));
        }
    }
    Ok(samples)
}

fn rows(ground: &Ground, kind: Kind) -> Result<(), String> {
    let name = kind.name;
    let [create, destroy, memory] = ["create", "destroy", "memory_of"].map(|what| format!("{what}_{name}"));
    let owner = ground.owner(kind)?;
    let first = Slot::new();
    if let Some(why) = why(&ground.create(kind, first.0, owner.as_ref().map_or(ground.pd.0, |o| o.0), 0)) {
        [create, destroy, memory].iter().for_each(|n| missing(n, &why));
        return Ok(());
    }
    drop(first);
    let [created, destroyed] = times(ground, kind)?;
    report(&create, Ok(created), LONG_OVERHEAD);
    report(&destroy, Ok(destroyed), LONG_OVERHEAD);
    figure(&memory, bytes(ground, kind)?, "bytes");
    Ok(())
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    for kind in KINDS {
        let ground = Ground::new(cpu)?;
        if let Err(why) = rows(&ground, *kind) {
            println!("perf: stopped: {}: {why}", kind.name);
        }
        // SAFETY: nobody runs in it.
        done("destroy", unsafe { hc::destroy(ground.pd.0) })?;
    }
    let [created, destroyed] = times_of_scheduling_context(cpu)?;
    report("create_scheduling_context_by_parent", Ok(created), 0);
    report("destroy_scheduling_context", Ok(destroyed), LONG_OVERHEAD);
    figure("memory_of_scheduling_context", bytes_of_scheduling_context(cpu)?, "bytes");
    Ok(())
}
