//! stdout and stderr: whole lines to a session with service `log`, or to the parent where there is none.
//!
//! Each of the two has a line buffer, so that a line that is written in parts (std does not buffer stderr) arrives in
//! one piece. The first line opens the session and waits for it, if a route leads there; writing waits for a full ring.
//! Nothing is dropped. When the server has died, core prints what it had not taken, and the next line opens another session;
//! where that is denied, lines go to the parent from then on. A thread that comes back here while it is writing (a panic in the
//! code of sessions) is sent to the parent directly.

use crate::channel::{self, Writer};
use crate::lock::{Gate, Lock};
use crate::{domain, ipc, root, tcb};
use rtlogic::LineBuffer;

/// Longer lines arrive in parts.
const LINE: usize = 512;

enum Sink {
    /// Nothing was written yet, or the server has died.
    Unopened,
    Session(Writer),
    /// The parent's log; in the root task, its own.
    Direct,
}

struct Output {
    out: LineBuffer<LINE>,
    err: LineBuffer<LINE>,
    sink: Sink,
}

static OUTPUT: Lock<Output> =
    Lock::new(Output { out: LineBuffer::new(), err: LineBuffer::new(), sink: Sink::Unopened });

pub fn gate() -> &'static Gate {
    OUTPUT.gate()
}

/// Past all buffers and locks.
pub fn direct(text: &[u8]) {
    if domain::is_root() { root::log(text) } else { ipc::log(text) }
}

impl Sink {
    fn open() -> Sink {
        let routed = domain::start_info().is_some_and(|info| info.has_log == 1);
        match if routed { channel::log().ok() } else { None } {
            Some(writer) => Sink::Session(writer),
            None => Sink::Direct,
        }
    }

    fn put(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            match self {
                Sink::Unopened => *self = ipc::aside(Sink::open),
                Sink::Session(writer) => {
                    text = &text[writer.write_some(text)..];
                    if writer.is_broken() {
                        ipc::aside(|| *self = Sink::Unopened);
                    }
                }
                Sink::Direct => return direct(text),
            }
        }
    }
}

impl Output {
    fn push(&mut self, is_err: bool, text: &[u8]) {
        let Output { out, err, sink } = self;
        let buffer = if is_err { err } else { out };
        buffer.push(text, &mut |t| sink.put(t));
    }

    /// Ends lines that have begun.
    fn flush(&mut self) {
        for is_err in [false, true] {
            let open = if is_err { self.err.is_open() } else { self.out.is_open() };
            if open {
                self.push(is_err, b"\n");
            }
        }
    }
}

/// Runs `f` marked as writing.
fn marked(f: impl FnOnce()) {
    let me = tcb::my();
    me.in_output.set(true);
    f();
    me.in_output.set(false);
}

/// Writes to stdout (or stderr).
pub fn write(is_err: bool, text: &[u8]) {
    if tcb::my().in_output.get() {
        return direct(text);
    }
    marked(|| OUTPUT.with(|o| o.push(is_err, text)));
}

/// Hands out all that is buffered, at the end of the program.
pub fn flush() {
    if !tcb::my().in_output.get() {
        marked(|| OUTPUT.with(Output::flush));
    }
}

/// The same without waiting for another thread: for `abort`.
pub fn try_flush() {
    if !tcb::my().in_output.get() {
        marked(|| _ = OUTPUT.try_with(Output::flush));
    }
}
