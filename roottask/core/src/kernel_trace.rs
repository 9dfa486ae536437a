//! The kernel's trace (key `trace` of the system file): on from the start of the components, in the log at the end.

use crate::log::Log;
use crate::window::Window;
use abi::trace::RING_BYTES;
use abi::{ExtFeatures, Hip, Status, TraceKinds};
use core_task_logic::trace::{head, lines};
use tracering::Reader;

/// Starts it if something is to be traced.
pub fn start(hip: &Hip, kinds: TraceKinds, log: &Log) {
    if kinds.is_empty() {
        return;
    }
    let there = hip.ext_features & ExtFeatures::TRACE.bits() != 0;
    let done = if there { rt::hypercall::ctrl_trace(kinds.bits().into()) } else { Err(Status::BadFtr) };
    log.line(match done {
        Ok(()) => {
            format!("tracing {}", kinds.iter_names().map(|(n, _)| n.to_lowercase()).collect::<Vec<_>>().join(", "))
        }
        Err(e) => format!("the kernel does not trace: {e:?}"),
    });
}

/// Stops it and logs what the rings hold. Afterwards COM1 is the log's: this is more than a backlog takes.
pub fn end(window: &Window, hip: &Hip, log: &Log) {
    let Some(words) = rt::hypercall::ctrl_trace(0).ok().and_then(|()| window.trace()) else {
        return log.line("the kernel does not show its trace");
    };
    log.drain();
    log.use_console();
    log.line(head(hip.cpu_num, hip.stc_freq));
    for (cpu, ring) in words.chunks_exact(RING_BYTES / 8).enumerate() {
        let mut reader = Reader::default();
        lines(cpu as u16, std::iter::from_fn(|| reader.next(ring))).iter().for_each(|l| log.line(l));
    }
    log.line("end of the trace");
}
