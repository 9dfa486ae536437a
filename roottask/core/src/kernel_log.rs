//! Reads the microhypervisor's memory-buffer console (specification, C.1) and logs its lines as "kernel".

use crate::log::Log;
use crate::space::{self, SpaceError, Tried};
use crate::window::Window;
use abi::perm::Sm;
use abi::{Hip, Status, nova_obj};
use core_task_logic::mbuf::{HEADER_LEN, Lines, spans};
use policy::PhysRange;
use rt::Semaphore;
use std::sync::atomic::{AtomicU32, Ordering};

/// Label of the lines.
const LABEL: &str = "kernel";
/// Indices of the header, in 32-bit words.
const RD_IDX: usize = 0;
const WR_IDX: usize = 1;

/// The console in memory.
struct Buffer {
    words: &'static [AtomicU32],
    /// Characters behind the header.
    len: u32,
}

impl Buffer {
    fn char_at(&self, i: u32) -> u8 {
        let at = HEADER_LEN as usize + i as usize;
        self.words[at / 4].load(Ordering::Relaxed).to_le_bytes()[at % 4]
    }

    /// Takes all characters that are there.
    fn drain(&self, mut each: impl FnMut(u8)) {
        // The kernel writes characters first, then the index.
        let wr = self.words[WR_IDX].load(Ordering::Acquire);
        let rd = self.words[RD_IDX].load(Ordering::Acquire);
        let [old, new] = spans(rd, wr, self.len);
        old.chain(new).for_each(|i| each(self.char_at(i)));
        if wr < self.len {
            self.words[RD_IDX].store(wr, Ordering::Release);
        }
    }
}

/// Starts the thread that reads it, if there is one.
pub fn start(window: &'static Window, hip: &Hip, log: &Log) -> Result<(), SpaceError> {
    let range = PhysRange { start: hip.mbuf_start, end: hip.mbuf_end };
    if range.len() <= HEADER_LEN {
        return Ok(());
    }
    let what = "give its console";
    let signal = space::take(nova_obj::CONSOLE_SM, Sm::CTRL_DN.bits()).tried(what)?;
    let words = window.shared_words(range).ok_or(Status::BadPar).tried(what)?;
    let buffer = Buffer { words, len: (words.len() as u64 * 4 - HEADER_LEN) as u32 };
    let log = log.clone();
    let read = move || {
        let signal = Semaphore::from_sel(signal);
        let mut lines = Lines::default();
        loop {
            buffer.drain(|byte| {
                if let Some(line) = lines.push(byte) {
                    log.line_of(LABEL, &line);
                }
            });
            signal.down_zero();
        }
    };
    std::thread::Builder::new().name("kernel-log".into()).spawn(read).map(drop).map_err(|_| Status::MemObj).tried(what)
}
