//! The machine that the vCPUs share: devices, the life of each vCPU, console output that is due, reset.
//!
//! All of it changes under one lock, for the time of one exit. What is a vCPU's own is in [`crate::exit::Vcpu`]. Key
//! types: [`Machine`], [`Kicks`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::board::Board;
use crate::dev::{IpiEvent, IpiKind, NEVER, Pending, VcpuSet};
use crate::exit::Stop;
use crate::layout;
use crate::run::{Kick, Next, Run};
use crate::spec::EVENTS;
use crate::vcpu::Start;

/// The bootstrap processor.
pub const BSP: usize = 0;
/// Console output is sent in lines; a line that has grown to so many bytes is not waited for.
const OUTPUT_BATCH: u32 = 256;
/// Unknown MSRs that are remembered one by one. A guest is not to fill the log, nor the monitor's memory.
const UNKNOWN_MSRS: usize = 64;
/// Bytes on the marker port that are logged.
const MARKERS: u64 = 1000;

/// How many events of each number a vCPU had. Its handler counts, everybody may look.
#[derive(Debug)]
pub struct Counts([AtomicU64; EVENTS as usize]);

impl Counts {
    /// All zero.
    pub fn new() -> Counts {
        Counts([const { AtomicU64::new(0) }; EVENTS as usize])
    }

    /// One more; only the vCPU's handler does that, so no atomic increment is needed.
    pub fn count(&self, event: u64) {
        if let Some(n) = self.0.get(event as usize) {
            n.store(n.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::new()
    }
}

/// Whom a thread has to tell about what it changed, once it has let go of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicks {
    /// Handlers whose semaphore is to be upped.
    pub wake: VcpuSet,
    /// vCPUs to be recalled.
    pub recall: VcpuSet,
}

/// A virtual machine, as far as it is shared by its vCPUs.
pub struct Machine<B> {
    /// Device models.
    pub board: B,
    /// TSC at the guest's entry.
    pub entered: u64,
    /// TSC value for which the timer thread is armed.
    pub armed: u64,
    start: Start,
    runs: Vec<Run>,
    counts: Vec<Arc<Counts>>,
    /// vCPUs whose life somebody else changed, since that was last looked at.
    told: VcpuSet,
    resetting: bool,
    devices_touched: bool,
    /// Bytes of console output that nobody was told about; [`OUTPUT_BATCH`] or more: it is due.
    unsent: u32,
    /// MSRs that do not exist and were accessed, and how often.
    unknown_msrs: Vec<(u32, u64)>,
    /// Accesses to further ones.
    other_msrs: u64,
    markers: u64,
}

impl<B: Board> Machine<B> {
    /// A machine at reset with `vcpus` virtual CPUs, the first of which starts at `start`.
    pub fn new(board: B, vcpus: usize, start: Start) -> Machine<B> {
        Machine {
            board,
            entered: 0,
            armed: NEVER,
            start,
            runs: (0..vcpus).map(|vcpu| Run::new(vcpu == BSP)).collect(),
            counts: (0..vcpus).map(|_| Arc::default()).collect(),
            told: VcpuSet::default(),
            resetting: false,
            devices_touched: false,
            unsent: 0,
            unknown_msrs: Vec::new(),
            other_msrs: 0,
            markers: 0,
        }
    }

    /// Where the bootstrap processor starts.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// The counters of a vCPU.
    pub fn counts_of(&self, vcpu: usize) -> Arc<Counts> {
        self.counts[vcpu].clone()
    }

    /// Events of all vCPUs so far, by number.
    pub fn counts(&self) -> [u64; EVENTS as usize] {
        std::array::from_fn(|event| self.counts.iter().map(|c| c.0[event].load(Ordering::Relaxed)).sum())
    }

    /// The life of a vCPU.
    pub fn run(&mut self, vcpu: usize) -> &mut Run {
        &mut self.runs[vcpu]
    }

    /// The handler of a vCPU asks what to do.
    pub fn next(&mut self, vcpu: usize) -> Next {
        let pending = self.pending(vcpu);
        self.runs[vcpu].next(pending)
    }

    /// Whether all vCPUs have stopped to be reset. Then the caller, a vCPU that has just been told to block, has to see
    /// to it.
    pub fn is_ready_for_reset(&mut self, vcpu: usize) -> bool {
        let ready = self.resetting && self.runs.iter().all(Run::is_parked);
        if ready {
            self.runs[vcpu].stay_awake();
        }
        ready
    }

    /// Whether no vCPU runs, and none ever will: no interrupt can wake one.
    pub fn is_dead(&self) -> bool {
        !self.resetting && self.runs.iter().enumerate().all(|(vcpu, run)| run.is_stuck(self.pending(vcpu)))
    }

    /// What a vCPU has pending that is of interest to it.
    fn pending(&self, vcpu: usize) -> Option<Pending> {
        let interrupt = if self.runs[vcpu].minds_nmis() { None } else { self.board.pending(vcpu, true) };
        interrupt.or_else(|| self.board.pending(vcpu, false))
    }

    /// Stops all vCPUs, each at its next opportunity, so that the machine can be reset.
    pub fn begin_reset(&mut self) {
        self.resetting = true;
        for (vcpu, run) in self.runs.iter_mut().enumerate() {
            run.park();
            self.told.insert(vcpu);
        }
    }

    /// The machine is reset: `board` is new, the guest in memory is, and it starts at `start`.
    pub fn reset(&mut self, board: B, start: Start) {
        (self.board, self.start) = (board, start);
        self.resetting = false;
        self.devices_touched = true;
        self.unsent = 0;
        self.runs.iter_mut().enumerate().for_each(|(vcpu, run)| run.reset(vcpu == BSP));
        self.told.insert(BSP);
    }

    /// An INIT or a start-up IPI changes the life of vCPUs. An INIT of the bootstrap processor makes it start at the
    /// firmware's entry, as a reset does.
    pub fn ipi(&mut self, ipi: IpiEvent) -> Option<Stop> {
        for vcpu in ipi.targets.iter() {
            match (ipi.kind, self.runs.get_mut(vcpu)) {
                (IpiKind::Init, Some(_)) if vcpu == BSP => return Some(Stop::Reset),
                (IpiKind::Init, Some(run)) => run.init(),
                (IpiKind::Startup(page), Some(run)) => run.startup(page),
                (_, None) => {}
            }
            self.told.insert(vcpu);
        }
        None
    }

    /// Whom to tell about what changed since this was last asked. To be asked before the machine is let go of, and to
    /// be carried out after that. What a vCPU has taken, or asked for a window for, in the meantime, is no news to it.
    #[inline]
    pub fn kicks(&mut self) -> Kicks {
        let news = self.board.take_woken().union(std::mem::take(&mut self.told));
        if news.is_empty() { Kicks::default() } else { self.decide_kicks(news) }
    }

    fn decide_kicks(&mut self, news: VcpuSet) -> Kicks {
        let mut kicks = Kicks::default();
        for vcpu in news.iter() {
            if vcpu >= self.runs.len() {
                break;
            }
            let pending = self.pending(vcpu);
            match self.runs[vcpu].kick(pending) {
                Kick::None => {}
                Kick::Wake => kicks.wake.insert(vcpu),
                Kick::Recall => kicks.recall.insert(vcpu),
            }
        }
        kicks
    }

    /// The guest may have changed the devices' deadline.
    pub fn touch_devices(&mut self) {
        self.devices_touched = true;
    }

    /// Whether the devices now want to be advanced before the time for which the timer thread is armed.
    pub fn timer_is_late(&mut self) -> bool {
        std::mem::take(&mut self.devices_touched) && self.board.next_deadline() < self.armed
    }

    /// Whether there is console output worth sending: a line, or a lot.
    pub fn output_is_due(&mut self) -> bool {
        let due = self.unsent >= OUTPUT_BATCH;
        if due {
            self.unsent = 0;
        }
        due
    }

    /// The guest writes to a port.
    pub fn count_output(&mut self, port: u16, value: u32) {
        if port == layout::COM1 {
            self.unsent += if value == u32::from(b'\n') { OUTPUT_BATCH } else { 1 };
        }
    }

    /// A string instruction went to a port: what it wrote to the console, if that was it, is due at once.
    pub fn count_string_output(&mut self) {
        if self.board.has_output() {
            self.unsent = OUTPUT_BATCH;
        }
    }

    /// An MSR that does not exist was accessed; whether that is worth a line in the log: the first time, and not if
    /// the guest tries them all.
    pub fn unknown_msr(&mut self, msr: u32) -> bool {
        if let Some((_, count)) = self.unknown_msrs.iter_mut().find(|(n, _)| *n == msr) {
            *count += 1;
            return false;
        }
        let room = self.unknown_msrs.len() < UNKNOWN_MSRS;
        if room {
            self.unknown_msrs.push((msr, 1));
        } else {
            self.other_msrs += 1;
        }
        room
    }

    /// MSRs that do not exist and were accessed, with counts, and accesses to others beyond these.
    pub fn unknown_msrs(&self) -> (&[(u32, u64)], u64) {
        (&self.unknown_msrs, self.other_msrs)
    }

    /// A byte came to the marker port; whether it is worth a line in the log.
    pub fn marker(&mut self) -> bool {
        self.markers += 1;
        self.markers <= MARKERS
    }
}
