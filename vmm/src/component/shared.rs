//! What the threads of the VMM share, and the two that are not the vCPU's: time and terminal input.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rt::Semaphore;
use rt::channel::{Reader, Writer};
use rt::vm::Recaller;
use vmm_logic::board::Board;
use vmm_logic::dev::{NEVER, Platform};
use vmm_logic::exit::{Kick, Machine};

/// How long to wait before typed bytes are offered to a guest again that had no room for them.
const RETRY: Duration = Duration::from_millis(2);

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
        match &mut self.writer {
            Some(w) => {
                let n = w.write(&self.waiting);
                self.waiting.drain(..n);
            }
            None => self.waiting.clear(),
        }
    }
}

/// One VM.
pub struct Shared {
    machine: Mutex<Machine<Platform>>,
    output: Mutex<Output>,
    vcpu: Recaller,
    /// Upped when the halted vCPU has something to do.
    wake: Semaphore,
    /// Upped when the timer thread has to look at the devices' deadline again.
    timer: Semaphore,
}

impl Shared {
    /// A VM that does not run yet.
    pub fn new(machine: Machine<Platform>, output: Output, vcpu: Recaller) -> Shared {
        let (wake, timer) = (Semaphore::new(0), Semaphore::new(0));
        Shared { machine: Mutex::new(machine), output: Mutex::new(output), vcpu, wake, timer }
    }

    /// The machine. A panic ends the component, so the lock is never poisoned.
    pub fn machine(&self) -> MutexGuard<'_, Machine<Platform>> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the halted vCPU has something to do.
    pub fn wait_for_wake(&self) {
        self.wake.down();
    }

    /// Has the timer thread look at the deadline.
    pub fn rearm(&self) {
        self.timer.up();
    }

    /// Sends what the guest wrote to the terminal and waits until it is there.
    pub fn send(&self) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        self.machine().board.take_output(&mut output.waiting);
        output.flush();
    }

    fn kick(&self, kick: Kick) {
        match kick {
            Kick::None => (),
            Kick::Wake => self.wake.up(),
            // Fails only if the vCPU is gone; then the VM is ending.
            Kick::Recall => drop(self.vcpu.recall()),
        }
    }

    /// The timer thread: lets the devices' time pass when it is due.
    pub fn keep_time(&self) {
        loop {
            let (deadline, kick) = {
                let mut m = self.machine();
                m.board.advance(rt::time::tsc());
                m.armed = Board::next_deadline(&m.board);
                (m.armed, m.kick())
            };
            self.kick(kick);
            self.try_send();
            if deadline == NEVER {
                self.timer.down();
            } else {
                self.timer.down_until(deadline);
            }
        }
    }

    /// Sends what waits for the end of its line, as far as there is room, unless somebody else is sending.
    fn try_send(&self) {
        let mut output = match self.output.try_lock() {
            Ok(output) => output,
            Err(TryLockError::Poisoned(e)) => e.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.machine().board.take_output(&mut output.waiting);
        output.try_flush();
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
        while !bytes.is_empty() {
            let (taken, kick) = {
                let mut m = self.machine();
                (m.board.input(bytes), m.kick())
            };
            self.kick(kick);
            bytes = &bytes[taken..];
            if taken == 0 {
                std::thread::sleep(RETRY);
            }
        }
    }
}
