//! docs/spec/destroy.md: who may, what becomes of the object and of those who use it, each state of IPC, random moments.

mod domain;
mod kinds;
mod moments;
mod states;

use crate::check::Check;
use abi::{Sel, Status};
use rt::hypercall as hc;

pub const CHECKS: &[Check] = &[
    (
        "destroy-1 destroy-19 destroy-20 destroy-21 destroy-22 destroy-23 destroy-24 destroy-26 destroy-27 destroy-28 destroy-29 destroy-32",
        "BAD_CAP: null, no such selector, each permission that lacks",
        kinds::bad_cap,
    ),
    ("destroy-2 destroy-3 objects-68", "every capability reads as null; slots are free", kinds::null_everywhere),
    ("destroy-25", "memory is free but for a shell while there are capabilities", kinds::memory_returns),
    ("destroy-9", "a semaphore: who waits gets ABORTED", kinds::semaphore),
    ("destroy-4 destroy-5", "a local EC: who is inside, waits, or comes later", kinds::local_ec),
    ("destroy-4", "a thread: runs no more, whatever it did", kinds::threads),
    ("destroy-4 objects-67", "an EC that waits takes no up", kinds::waiting_ec),
    ("destroy-8 destroy-6", "a portal: who is inside gets ABORTED, the handler goes on with the next", kinds::portal),
    ("destroy-8", "portals: only who came by one is concerned, wherever it lies", kinds::portals_place),
    ("destroy-7", "a scheduling context: its EC waits for another", kinds::scheduling_context),
    ("destroy-7 destroy-6", "a scheduling context that is lent: the callee waits, too", kinds::lent),
    ("destroy-10", "an object space: its threads have nothing any more", kinds::object_space),
    ("destroy-11", "a host space: its threads are killed", kinds::host_space),
    ("destroy-12", "a guest space: its virtual CPUs are killed", kinds::guest_space),
    ("destroy-13", "PIO and MSR spaces", kinds::other_spaces),
    ("destroy-14 destroy-15 destroy-16", "a PD: threads and spaces; the rest stays", states::everything),
    ("destroy-14 destroy-4", "PD: running, and recalled", states::running),
    ("destroy-14 destroy-6", "PD: calling", states::calling),
    ("destroy-14 destroy-5", "PD: called", states::called),
    ("destroy-14 destroy-5", "PD: helping and helped", states::helping),
    ("destroy-5", "an EC that waits for another itself: who is inside, and who waits for it", states::relayed),
    ("destroy-14 destroy-4", "PD: waiting", states::waiting),
    ("destroy-14 destroy-4", "PD: a virtual CPU that runs", states::vcpu),
    ("destroy-14 destroy-6", "PD: an event is being handled", states::event),
    ("destroy-17", "who destroys itself, its spaces, its PD", states::oneself),
    ("destroy-18", "another CPU goes on meanwhile, and the caller can be killed", states::large),
    ("destroy-14 destroy-16 objects-63", "PD: at random moments, on all CPUs", moments::random),
];

/// Destroys an object that is none of ours.
fn destroy(s: Sel) -> Result<(), Status> {
    // SAFETY: callers name what they have made for that.
    unsafe { hc::destroy(s) }
}

/// All CPUs that threads of ours may be on.
fn cpus() -> Vec<u16> {
    rt::start_info().map_or(vec![0], |i| i.usable_cpus().to_vec())
}
