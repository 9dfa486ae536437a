//! The vCPU's portal thread: every event of the vCPU comes here, on the vCPU's time.

use std::sync::Arc;

use abi::{ArchState, Mtd, Sel, Utcb};
use vmm_logic::exit::{Action, Event, Stop};
use vmm_logic::report;
use vmm_logic::spec::{FULL, portal_mtd};

use super::shared::Shared;

/// Exit codes of the component.
const ENDED: u64 = 0;
const BROKEN: u64 = 1;

/// Handles the events of one vCPU.
pub struct Handler {
    shared: Arc<Shared>,
    /// Selector of the first portal.
    events: Sel,
}

impl Handler {
    /// For the vCPU whose portals start at `events`; their identifiers are the event numbers.
    pub fn new(shared: Arc<Shared>, events: Sel) -> Handler {
        Handler { shared, events }
    }

    /// The function that the portals call.
    pub fn into_portal_handler(self) -> rt::Handler {
        Box::new(move |number, mtd, utcb: &mut Utcb| {
            let event = Event { number, mtd: Mtd::from_bits_retain(mtd) };
            self.answer(event, utcb.arch_mut()).bits()
        })
    }

    fn answer(&self, event: Event, s: &mut ArchState) -> Mtd {
        let mut action = self.exchange(|m, now| m.handle(event, s, now));
        let reply = loop {
            match action {
                Action::Reply(mtd) => break mtd,
                Action::Widen => {
                    self.set_portal(event.number, FULL);
                    return Mtd::empty();
                }
                Action::Halt => {
                    self.shared.send();
                    self.shared.wait_for_wake();
                    action = self.exchange(|m, now| m.wake(s, now));
                }
                Action::Stop(stop) => self.end(event, s, stop),
            }
        };
        let usual = portal_mtd(event.number);
        if event.mtd == FULL && usual != FULL {
            self.set_portal(event.number, usual);
        }
        reply
    }

    /// Does something with the machine, then what that asks of other threads.
    fn exchange(
        &self,
        f: impl FnOnce(&mut vmm_logic::exit::Machine<vmm_logic::dev::Platform>, u64) -> Action,
    ) -> Action {
        let mut m = self.shared.machine();
        let action = f(&mut m, rt::time::tsc());
        let late = m.timer_is_late();
        let due = m.output_is_due();
        let quiet = m.notes.is_empty();
        drop(m);
        if late {
            self.shared.rearm();
        }
        if due {
            self.shared.send();
        }
        if !quiet {
            self.log_notes();
        }
        action
    }

    #[cold]
    fn log_notes(&self) {
        let notes = std::mem::take(&mut self.shared.machine().notes);
        notes.iter().for_each(|n| println!("vm: {n}"));
    }

    fn set_portal(&self, event: u64, mtd: Mtd) {
        // The portal is ours and alive, and the selector is right: there is nothing that could fail.
        if let Err(e) = rt::hypercall::ctrl_pt(self.events + event, event, mtd.bits()) {
            println!("vm: cannot change the state that event {event:#x} carries: {e:?}");
        }
    }

    /// The VM ends, and the component with it.
    fn end(&self, event: Event, s: &ArchState, stop: Stop) -> ! {
        self.shared.send();
        let m = self.shared.machine();
        let code = match stop {
            Stop::Broken => {
                report::lines(event, &m.cause, s, &m.mem).iter().for_each(|l| println!("vm: {l}"));
                BROKEN
            }
            Stop::PowerOff => say("guest powered off"),
            Stop::Reset => say("guest asked for a reset"),
            Stop::Halted => say("guest halted with interrupts off"),
        };
        report::statistics(&m.counts).iter().for_each(|l| println!("vm: {l}"));
        for (msr, count) in m.vcpu.msrs.unknown_counts() {
            println!("vm: unknown MSR {msr:#x}: {count} accesses");
        }
        let none = m.board.unclaimed();
        println!(
            "vm: accesses without device: {} port reads, {} port writes, {} memory",
            none.pio_reads, none.pio_writes, none.mmio
        );
        rt::exit(code)
    }
}

fn say(what: &str) -> u64 {
    println!("vm: {what}");
    ENDED
}
