//! A guest whose memory is mapped anew while it reads it.

use crate::work::{Frame, NOT_HERE, Outcome, PAGE, Setting, done, in_us};
use abi::{ArchState, Mtd, Status, Utcb, event, perm};
use rt::vm::{GuestSpace, Vcpu};
use rt::{PortalThread, Semaphore};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Guest-physical addresses: code, words that we share, and the page that moves.
const CODE: u64 = 0x1000;
const SHARED: u64 = 0x2000;
const MOVING: u64 = 0x3000;
/// Words of the shared page: number of the page that is mapped, reads of the guest, and whether it may stop.
const MAPPED: usize = 0;
const READS: usize = 1;
const STOP: usize = 2;
/// Number of pages that take turns.
const FRAMES: u64 = 64;
/// Basic exit reason of HLT (Intel SDM vol. 3, appendix C).
const HLT: u64 = 12;
/// EBX of the guest at its end: all was right.
const FINE: u64 = 0x600d;

/// Real mode, at 0000:1000:
/// ```text
/// 1000  mov eax, [0x2000]     what is mapped
/// 1004  mov ebx, [0x3000]     what is seen
/// 1009  cmp ebx, eax
/// 100c  jb  101f              older: a stale translation
/// 100e  inc dword [0x2008]
/// 1013  cmp word [0x2010], 0
/// 1018  je  1000
/// 101a  mov bx, 0x600d
/// 101d  xor ax, ax
/// 101f  hlt
/// ```
const PROGRAM: &[u8] = &[
    0x66, 0xa1, 0x00, 0x20, // mov eax, [0x2000]
    0x66, 0x8b, 0x1e, 0x00, 0x30, // mov ebx, [0x3000]
    0x66, 0x39, 0xc3, // cmp ebx, eax
    0x72, 0x11, // jb 0x101f
    0x66, 0xff, 0x06, 0x08, 0x20, // inc dword [0x2008]
    0x83, 0x3e, 0x10, 0x20, 0x00, // cmp word [0x2010], 0
    0x74, 0xe6, // je 0x1000
    0xbb, 0x0d, 0x60, // mov bx, 0x600d
    0x31, 0xc0, // xor ax, ax
    0xf4, // hlt
];

const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
const SEEN: Mtd = Mtd::GPR_0_7.union(Mtd::RIP).union(Mtd::QUAL);

/// How a guest ended: event, EAX, EBX, RIP.
type End = Arc<[AtomicU64; 4]>;

struct Guest {
    vcpu: Vcpu,
    shared: Frame,
    frames: Frame,
    space: Arc<GuestSpace>,
    end: End,
    ended: Arc<Semaphore>,
}

fn enter(s: &mut ArchState, space: &GuestSpace) -> Mtd {
    (s.sel_gst, s.sel_pio, s.sel_msr) = (space.sel(), 0, 0);
    // Interrupts on: in Bochs those of the host wait for the end of its turn if it has them off (CAVEATS.md).
    s.begin_in_real_mode(CODE, 0x202) | Mtd::SPACES
}

impl Guest {
    /// A guest on `cpu`. It runs from the start.
    fn new(cpu: u16) -> Result<Guest, Status> {
        let space = Arc::new(GuestSpace::new()?);
        let (code, shared, frames) = (Frame::new(), Frame::new(), Frame::block(FRAMES as usize));
        for (i, bytes) in PROGRAM.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            code.word(i).store(u64::from_le_bytes(word), SeqCst);
        }
        for (gpa, frame) in [(CODE, code), (SHARED, shared), (MOVING, frames)] {
            show(&space, gpa, frame)?;
        }
        let (end, ended) = (End::default(), Arc::new(Semaphore::new(0)));
        let base = rt::sel::alloc_range(EVENTS, EVENTS.next_power_of_two()).ok_or(Status::MemCap)?;
        let handler = {
            let (space, end, ended) = (space.clone(), end.clone(), ended.clone());
            move |n: u64, _, u: &mut Utcb| {
                let s = u.arch_mut();
                if n == event::GST_STARTUP {
                    return enter(s, &space).bits();
                }
                let (a, b) = (s.gpr[ArchState::RAX], s.gpr[ArchState::RBX]);
                [n, a, b, s.rip].into_iter().zip(end.iter()).for_each(|(v, slot)| slot.store(v, SeqCst));
                ended.up();
                Mtd::POISON.bits()
            }
        };
        let thread = PortalThread::new(cpu, 16 << 10, Box::new(handler))?;
        (0..EVENTS).try_for_each(|n| thread.portal(base + n, n, SEEN.bits()))?;
        let mut vcpu = Vcpu::new(cpu, base)?;
        vcpu.start(0)?;
        Ok(Guest { vcpu, shared, frames, space, end, ended })
    }

    /// Maps the next pages until `rounds` are over and the guest has looked often enough, then tells it to stop.
    fn remap(&self, rounds: u64) -> Result<(), String> {
        for round in 1..=rounds {
            let frame = self.frames.page(round % FRAMES);
            frame.word(0).store(round, SeqCst);
            done("map", show(&self.space, MOVING, frame))?;
            self.shared.word(MAPPED).store(round, SeqCst);
        }
        Ok(())
    }

    /// How it ended.
    fn result(&self) -> Result<u64, String> {
        self.shared.word(STOP).store(1, SeqCst);
        if !self.ended.down_until(in_us(10_000_000)) {
            return Err(format!("the guest did not stop within 10 s; {} reads", self.shared.word(READS).load(SeqCst)));
        }
        let [event, eax, ebx, rip] = [0, 1, 2, 3].map(|i| self.end[i].load(SeqCst));
        match event {
            HLT if ebx & 0xffff == FINE && eax & 0xffff == 0 => Ok(self.shared.word(READS).load(SeqCst)),
            HLT => Err(format!("the guest saw page {ebx} when {eax} was mapped already")),
            _ => Err(format!("the guest ended with event {event:#x}, rip {rip:#x}")),
        }
    }
}

fn show(space: &GuestSpace, gpa: u64, frame: Frame) -> Result<(), Status> {
    let host = std::ptr::with_exposed_provenance(frame.0 as usize);
    // SAFETY: a frame is never given back, and is accessed atomically.
    unsafe { space.map(gpa, host, PAGE, perm::Mem::all()) }
}

/// A guest on each CPU reads all the time, while a worker on the next CPU moves its page.
pub fn remapped(s: &Setting) -> Outcome {
    let (count, rounds) = (s.cpus.len().min(8), s.part(1));
    let guests: Result<Vec<_>, _> = (0..count).map(|i| Guest::new(s.cpu(i + 1))).collect();
    let guests = match guests {
        Err(Status::BadFtr) => return Ok(format!("{NOT_HERE}the machine runs no guests")),
        other => done("guest", other)?,
    };
    s.all_pass(count, |i| guests[i].remap(rounds))?;
    let reads = guests.iter().map(Guest::result).collect::<Result<Vec<_>, _>>()?;
    drop(guests.into_iter().map(|g| g.vcpu).collect::<Vec<_>>());
    Ok(format!("{rounds} pages for each of {count} guests, which read {reads:?} times"))
}
