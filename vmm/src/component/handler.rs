//! A vCPU's portal thread: every event of the vCPU comes here, on the vCPU's CPU and time.

use std::sync::Arc;

use abi::{ArchState, Mtd, Sel, Utcb};
use vmm_logic::config::OnReset;
use vmm_logic::dev::Platform;
use vmm_logic::exit::{Action, Event, Stop, Vcpu};
use vmm_logic::machine::Machine;
use vmm_logic::report;
use vmm_logic::spec::{FULL, portal_mtd};

use super::shared::Shared;

/// Exit codes of the component.
const ENDED: u64 = 0;
const BROKEN: u64 = 1;

/// Handles the events of one vCPU.
pub struct Handler {
    vcpu: Vcpu,
    shared: Arc<Shared>,
    /// Selector of the first portal.
    events: Sel,
}

impl Handler {
    /// For the vCPU whose portals start at `events`; their identifiers are the event numbers.
    pub fn new(vcpu: Vcpu, shared: Arc<Shared>, events: Sel) -> Handler {
        Handler { vcpu, shared, events }
    }

    /// The function that the portals call.
    pub fn into_portal_handler(mut self) -> rt::Handler {
        Box::new(move |number, mtd, utcb: &mut Utcb| {
            let event = Event { number, mtd: Mtd::from_bits_retain(mtd) };
            self.answer(event, utcb.arch_mut()).bits()
        })
    }

    fn answer(&mut self, event: Event, s: &mut ArchState) -> Mtd {
        let mut action = match self.vcpu.alone(event, s, rt::time::tsc()) {
            Some(action) => action,
            None => self.exchange(|vcpu, m, now| vcpu.handle(m, event, s, now)),
        };
        let reply = loop {
            match action {
                Action::Reply(mtd) => break mtd,
                Action::Widen => {
                    self.set_portal(event.number, FULL);
                    return Mtd::empty();
                }
                Action::Wait => {
                    self.shared.send_unless_sending();
                    self.shared.wait_for_wake(self.vcpu.id());
                }
                Action::Reload => self.shared.reload(),
                Action::Stop(Stop::Reset) if self.shared.on_reset() == OnReset::Restart => {
                    println!("guest asked for a reset: it starts again");
                    self.exchange(|_, m, _| {
                        m.begin_reset();
                        Action::Wait
                    });
                }
                Action::Stop(stop) => self.end(event, s, stop),
            }
            action = self.exchange(|vcpu, m, now| vcpu.proceed(m, s, now));
        };
        let usual = portal_mtd(event.number);
        if event.mtd == FULL && usual != FULL {
            self.set_portal(event.number, usual);
        }
        reply
    }

    /// Does something with the machine, then what that asks of other threads.
    fn exchange(&mut self, f: impl FnOnce(&mut Vcpu, &mut Machine<Platform>, u64) -> Action) -> Action {
        let mut m = self.shared.machine();
        let action = f(&mut self.vcpu, &mut m, rt::time::tsc());
        let kicks = m.kicks();
        let late = m.timer_is_late();
        let due = m.output_is_due();
        drop(m);
        self.shared.kick(kicks);
        if late {
            self.shared.rearm();
        }
        if due {
            self.shared.send();
        }
        if !self.vcpu.notes.is_empty() {
            self.log_notes();
        }
        action
    }

    #[cold]
    fn log_notes(&mut self) {
        self.vcpu.notes.drain(..).for_each(|n| println!("{n}"));
    }

    fn set_portal(&self, event: u64, mtd: Mtd) {
        // The portal is ours and alive, and the selector is right: there is nothing that could fail.
        if let Err(e) = rt::hypercall::ctrl_pt(self.events + event, event, mtd.bits()) {
            println!("cannot change the state that event {event:#x} carries: {e:?}");
        }
    }

    /// The VM ends, and the component with it. The machine stays locked, and the other vCPUs are recalled, so
    /// that they come to a halt.
    fn end(&self, event: Event, s: &ArchState, stop: Stop) -> ! {
        self.shared.send();
        let m = self.shared.machine();
        self.shared.recall_others(self.vcpu.id());
        let code = match stop {
            Stop::Broken => {
                let (id, cause) = (self.vcpu.id(), &self.vcpu.cause);
                report::lines(id, event, cause, s, self.vcpu.mem()).iter().for_each(|l| println!("{l}"));
                BROKEN
            }
            Stop::PowerOff => say("guest powered off"),
            Stop::Reset => say("guest asked for a reset"),
            Stop::Halted => say("guest halted with interrupts off"),
        };
        report::statistics(&m.counts()).iter().for_each(|l| println!("{l}"));
        let (unknown, others) = m.unknown_msrs();
        unknown.iter().for_each(|(msr, count)| println!("unknown MSR {msr:#x}: {count} accesses"));
        if others != 0 {
            println!("unknown MSRs, further ones: {others} accesses");
        }
        let none = m.board.unclaimed();
        println!(
            "accesses without device: {} port reads, {} port writes, {} memory",
            none.pio_reads, none.pio_writes, none.mmio
        );
        // The kernel tells everyone of the account of its own domain.
        let (most, used) = rt::hypercall::read_quota(parent::sel::PD).unwrap_or_default();
        let (own, kib) = (rt::memory_in_use() >> 10, |frames| (frames * abi::PAGE_SIZE as u64) >> 10);
        println!(
            "memory: {own} KiB beside the guest's RAM and the image; of the kernel {} of {} KiB",
            kib(used),
            kib(most)
        );
        rt::exit(code)
    }
}

fn say(what: &str) -> u64 {
    println!("{what}");
    ENDED
}
