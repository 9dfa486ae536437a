//! What the threads of the VMM share, and the two that are not vCPUs': time and terminal input.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rt::Semaphore;
use rt::channel::{Reader, Writer};
use rt::vm::Recaller;
use vmm_logic::board::Board;
use vmm_logic::config::OnReset;
use vmm_logic::dev::{NEVER, Platform};
use vmm_logic::machine::{Kicks, Machine};

use super::load::Loader;

/// How long to wait before typed bytes are offered to a guest again that had no room for them: at first, and if it does
/// not read any.
const RETRY: Duration = Duration::from_millis(2);
const RETRY_MOST: Duration = Duration::from_millis(128);

/// When to look again at output for which there was no room.
const RESEND_US: u64 = 10_000;
/// Least time between two rounds of the timer thread.
const TIMER_PAUSE_US: u64 = 100;

/// A time from now, as a value of the TSC.
fn from_now(us: u64) -> u64 {
    let hz = rt::start_info().map_or(0, |info| info.tsc_hz);
    rt::time::tsc().saturating_add(hz / 1000 * us / 1000)
}

/// The guest's console output on its way from the serial line to the terminal.
pub struct Output {
    writer: Option<Writer>,
    waiting: Vec<u8>,
}

impl Output {
    /// Output to `writer`; without one it is dropped.
    pub fn new(writer: Option<Writer>) -> Output {
        Output { writer, waiting: Vec::new() }
    }

    /// Sends everything, waiting for room.
    fn flush(&mut self) {
        if let Some(w) = &mut self.writer
            && !self.waiting.is_empty()
        {
            // A broken ring means that there is no terminal any more.
            if !w.write_all(&self.waiting) {
                self.writer = None;
            }
        }
        self.waiting.clear();
    }

    /// Sends what there is room for.
    fn try_flush(&mut self) {
        if self.writer.as_ref().is_some_and(Writer::is_broken) {
            self.writer = None;
        }
        match &mut self.writer {
            Some(w) => {
                let n = w.write(&self.waiting);
                self.waiting.drain(..n);
            }
            None => self.waiting.clear(),
        }
    }
}

/// How others reach a vCPU and its handler.
pub struct Seat {
    /// Recalls the vCPU.
    pub vcpu: Recaller,
    /// Upped when the blocked handler has something to do.
    pub wake: Semaphore,
}

/// One VM.
pub struct Shared {
    machine: Mutex<Machine<Platform>>,
    output: Mutex<Output>,
    seats: Vec<Seat>,
    /// Upped when the timer thread has to look at the devices' deadline again, and has not been told so yet.
    timer: Semaphore,
    timer_told: AtomicBool,
    on_reset: OnReset,
    loader: Loader,
}

impl Shared {
    /// A VM that does not run yet.
    pub fn new(
        machine: Machine<Platform>,
        output: Output,
        seats: Vec<Seat>,
        on_reset: OnReset,
        loader: Loader,
    ) -> Shared {
        let (machine, output) = (Mutex::new(machine), Mutex::new(output));
        let (timer, timer_told) = (Semaphore::new(0), AtomicBool::new(false));
        Shared { machine, output, seats, timer, timer_told, on_reset, loader }
    }

    /// The machine. A panic ends the component, so the lock is never poisoned.
    pub fn machine(&self) -> MutexGuard<'_, Machine<Platform>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reset that the guest asks for means.
    pub fn on_reset(&self) -> OnReset {
        self.on_reset
    }

    /// Waits until a handler that was told to block has something to do.
    pub fn wait_for_wake(&self, vcpu: usize) {
        self.seats[vcpu].wake.down();
    }

    /// Has the timer thread look at the deadline, which has changed. If it was told so and has not looked yet, it will
    /// see this change too.
    pub fn rearm(&self) {
        if !self.timer_told.swap(true, Ordering::SeqCst) {
            self.timer.up();
        }
    }

    /// All vCPUs have stopped: loads the guest anew and resets the machine.
    pub fn reload(&self) {
        self.send();
        match self.loader.load_again() {
            Ok((start, board)) => self.machine().reset(board, start),
            Err(e) => {
                println!("cannot start the guest again: {e}");
                rt::exit(1);
            }
        }
    }

    /// Sends what the guest wrote to the terminal and waits until it is there.
    pub fn send(&self) {
        loop {
            self.flush(&mut self.output.lock().unwrap_or_else(PoisonError::into_inner));
            if !self.machine().board.has_output() {
                return;
            }
        }
    }

    /// The same, unless another thread is at it: that one sends this output too, as it looks again when it is done.
    pub fn send_unless_sending(&self) {
        loop {
            match self.output.try_lock() {
                Ok(mut output) => self.flush(&mut output),
                Err(TryLockError::Poisoned(e)) => self.flush(&mut e.into_inner()),
                Err(TryLockError::WouldBlock) => return,
            }
            if !self.machine().board.has_output() {
                return;
            }
        }
    }

    fn flush(&self, output: &mut Output) {
        self.take_output(output);
        output.flush();
    }

    /// Takes the output from the serial line, which may interrupt the guest for more.
    fn take_output(&self, output: &mut Output) {
        let kicks = {
            let mut m = self.machine();
            m.board.take_output(&mut output.waiting);
            m.kicks()
        };
        self.kick(kicks);
    }

    /// Tells those who have to know what changed. Called without the machine's lock.
    #[inline]
    pub fn kick(&self, kicks: Kicks) {
        if kicks != Kicks::default() {
            self.carry_out(kicks);
        }
    }

    fn carry_out(&self, kicks: Kicks) {
        kicks.wake.iter().for_each(|vcpu| self.seats[vcpu].wake.up());
        for vcpu in kicks.recall.iter() {
            // Fails only if the vCPU is gone; then the VM is ending.
            let _ = self.seats[vcpu].vcpu.recall();
        }
    }

    /// Recalls all vCPUs but this one, as the VM ends: also one that has no reason to exit comes to the machine's lock.
    pub fn recall_others(&self, vcpu: usize) {
        for (_, seat) in self.seats.iter().enumerate().filter(|(n, _)| *n != vcpu) {
            // Fails only if the vCPU is gone, or has not started.
            let _ = seat.vcpu.recall();
        }
    }

    /// The timer thread: lets the devices' time pass when it is due.
    ///
    /// It runs above all guests, and what it does is for one guest to choose: so not more often than every
    /// [`TIMER_PAUSE_US`].
    pub fn keep_time(&self) {
        let pause = Semaphore::new(0);
        loop {
            let earliest = from_now(TIMER_PAUSE_US);
            self.timer_told.store(false, Ordering::SeqCst);
            let (deadline, kicks) = {
                let mut m = self.machine();
                m.board.advance(rt::time::tsc());
                m.armed = Board::next_deadline(&m.board);
                (m.armed, m.kicks())
            };
            self.kick(kicks);
            match if self.try_send() { deadline } else { deadline.min(from_now(RESEND_US)) } {
                NEVER => self.timer.down(),
                tsc => _ = self.timer.down_until(tsc),
            }
            if rt::time::tsc() < earliest {
                // Nobody ups it: a sleep.
                pause.down_until(earliest);
            }
        }
    }

    /// Sends what waits for the end of its line, as far as there is room, unless somebody else is sending. Whether
    /// nothing is left that nobody takes care of.
    fn try_send(&self) -> bool {
        let mut output = match self.output.try_lock() {
            Ok(output) => output,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return true,
        };
        // The guest's output waits in the serial line, which then stops the guest, and not here.
        if output.waiting.is_empty() {
            self.take_output(&mut output);
        }
        output.try_flush();
        let all = output.waiting.is_empty();
        drop(output);
        all && !self.machine().board.has_output()
    }

    /// The main thread: carries what is typed at the terminal to the guest's serial line.
    pub fn carry_input(&self, mut reader: Reader) -> ! {
        let mut buffer = [0; 256];
        loop {
            match reader.read(&mut buffer) {
                0 => reader.wait(),
                n => self.type_in(&buffer[..n]),
            }
        }
    }

    fn type_in(&self, mut bytes: &[u8]) {
        let mut retry = RETRY;
        while !bytes.is_empty() {
            let (taken, kicks) = {
                let mut m = self.machine();
                (m.board.input(bytes), m.kicks())
            };
            self.kick(kicks);
            bytes = &bytes[taken..];
            if taken == 0 {
                std::thread::sleep(retry);
                retry = (retry * 2).min(RETRY_MOST);
            } else {
                retry = RETRY;
            }
        }
    }
}
