//! docs/spec/abi.md: the memory-buffer console.

use crate::check::{Check, Outcome, done, equal, holds, refused};
use crate::early::found;
use crate::firmware::{self, hip, take};
use crate::scene::{Local, PAGE, in_ms, window};
use abi::{Mad, Status, nova_obj, perm};
use rt::hypercall as hc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::SeqCst};

pub const CHECKS: &[Check] = &[
    ("abi-127 boot-17", "what the kernel has written to COM1 before counts as read", begin),
    ("abi-124 abi-128 spaces-37 objects-16", "a line: characters, write index, an up of the semaphore", a_line),
    ("abi-125 abi-126", "indices wrap; where the ring is full the oldest character is lost", full),
    ("abi-129 spaces-35", "the ring is one page, and can be mapped", one_page),
    ("spaces-37", "console semaphore: CTRL_UP, CTRL_DN, and no more", semaphore),
];

/// Characters of the ring.
const CHARS: u32 = 4096 - 8;

struct Ring {
    indices: &'static [AtomicU32; 2],
    chars: &'static [AtomicU8; CHARS as usize],
}

fn ring() -> Result<&'static Ring, String> {
    static RING: OnceLock<Result<Ring, String>> = OnceLock::new();
    let map = || {
        let w = window();
        done("map", firmware::map(hip().mbuf_start, w, perm::Mem::R | perm::Mem::W, Mad::WB))?;
        // SAFETY: mapped just now, for good, and accessed through atomics only.
        Ok(unsafe {
            Ring {
                indices: &*std::ptr::with_exposed_provenance(w as usize),
                chars: &*std::ptr::with_exposed_provenance(w as usize + 8),
            }
        })
    };
    RING.get_or_init(map).as_ref().map_err(String::clone)
}

impl Ring {
    fn read(&self) -> u32 {
        self.indices[0].load(SeqCst)
    }

    fn write(&self) -> u32 {
        self.indices[1].load(SeqCst)
    }

    /// What is between two indices.
    fn text(&self, from: u32, to: u32) -> String {
        let n = (to + CHARS - from) % CHARS;
        (0..n).map(|i| char::from(self.chars[((from + i) % CHARS) as usize].load(SeqCst))).collect()
    }

    /// Has read everything, with the next character to be written at an index.
    fn set(&self, read: u32, write: u32) {
        self.indices[0].store(read, SeqCst);
        self.indices[1].store(write, SeqCst);
    }
}

fn begin() -> Outcome {
    let [read, write] = found().console;
    equal("read index, as the write index", read, write)?;
    holds("something was written", write > 40)?;
    let first = ring()?.text(0, write as u32);
    holds("the first line", first.starts_with("Ferronova microhypervisor"))
}

extern "C" fn dies(_: u64, _: u64, _: *mut u64) -> u64 {
    // SAFETY: an exception without a handler, which kills this thread.
    unsafe { std::arch::asm!("ud2", options(noreturn)) }
}

/// Has the kernel write a line: a thread without handlers breaks. Lines of this kind are limited, so not too fast.
fn provoke() -> Outcome {
    rt::Semaphore::new(0).down_until(in_ms(150));
    let l = Local::new(dies, None)?;
    refused("call", l.call(&[0]), Status::Aborted)
}

fn a_line() -> Outcome {
    let (r, sm) = (ring()?, take(nova_obj::CONSOLE_SM, perm::ALL)?);
    let _ = hc::sm_down(sm.0, true, Some(1));
    r.indices[0].store(r.write(), SeqCst);
    let from = r.write();
    provoke()?;
    let text = r.text(from, r.write());
    holds(&format!("a line about the thread: {text:?}"), text.contains("killed") && text.ends_with('\n'))?;
    equal("lines", text.matches('\n').count(), 1)?;
    equal("read index", r.read(), from)?;
    equal("down", hc::sm_down(sm.0, false, Some(1)), Ok(()))?;
    refused("a second down", hc::sm_down(sm.0, false, Some(1)), Status::Timeout)
}

fn full() -> Outcome {
    let r = ring()?;
    // Empty, at the end of the ring.
    r.set(CHARS - 10, CHARS - 10);
    provoke()?;
    let n = (r.write() + CHARS - (CHARS - 10)) % CHARS;
    holds(&format!("it went on at the beginning: {}", r.write()), r.write() < CHARS - 10 && n > 10)?;
    equal("read index", r.read(), CHARS - 10)?;
    holds("a line", r.text(CHARS - 10, r.write()).ends_with('\n'))?;
    // Two more characters fit.
    r.set(203, 200);
    provoke()?;
    equal("after a line in a full ring the read index is the next", r.read(), r.write() + 1)?;
    holds("the line", r.text(200, r.write()).contains("killed"))?;
    r.set(r.write(), r.write());
    Ok(())
}

fn one_page() -> Outcome {
    equal("length", hip().mbuf_end - hip().mbuf_start, PAGE)?;
    let w = window();
    for (what, at) in [("before", hip().mbuf_start - PAGE), ("behind", hip().mbuf_end)] {
        done("map", firmware::map(at, w, perm::Mem::R, Mad::WB))?;
        let there = crate::scene::touch(w, crate::scene::Touch::Read)?.is_none();
        equal(what, there, crate::nova::is_open(at))?;
    }
    Ok(())
}

fn semaphore() -> Outcome {
    let sm = take(nova_obj::CONSOLE_SM, perm::ALL)?;
    done("up", hc::sm_up(sm.0))?;
    done("down", hc::sm_down(sm.0, true, Some(1)))?;
    // ASSIGN is not there, and it is no interrupt's.
    refused("assign_int", hc::assign_int(sm.0, 0, 0, 1), Status::BadCap)
}
