//! The supervisor: creates and starts what the plan says, takes back what ended had, and ends the system.
//!
//! Key type: [`Supervisor`].

use crate::console;
use crate::create::{Creator, Wires};
use crate::end::end_domain;
use crate::kernel_trace;
use crate::link::LogLink;
use crate::log::Log;
use crate::power;
use crate::sever::sever;
use crate::shared::{Ended, Shared};
use crate::space::SpaceError;
use abi::{Sel, root_obj};
use core_task_logic::fault::Fault;
use init::Config;
use policy::{Action, Book, Client, ComponentError, ComponentPlan, End, Level, Lifecycle, Plan, Sm};
use rt::hypercall;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs a plan.
pub struct Supervisor<'a> {
    /// What is wanted.
    file: Config,
    /// What is to be run.
    plan: Plan,
    /// Free memory.
    book: Book,
    /// Creates components.
    creator: Creator<'a>,
    /// Shared with the portal handler.
    shared: Arc<Shared>,
    /// The log.
    log: Log,
    /// Semaphores of the channels.
    wires: Wires,
    /// What wakes the provider of our log.
    log_server: Option<Sel>,
    /// By index, what was left after the first end of a component that is started again.
    levels: BTreeMap<usize, Level>,
}

impl<'a> Supervisor<'a> {
    /// One that has done nothing yet.
    pub fn new(
        file: Config,
        plan: Plan,
        book: Book,
        creator: Creator<'a>,
        shared: Arc<Shared>,
        log: Log,
    ) -> Supervisor<'a> {
        let (wires, levels) = (Wires::default(), BTreeMap::new());
        Supervisor { file, plan, book, creator, shared, log, wires, log_server: None, levels }
    }

    /// Creates and starts all components, then waits for their ends; does not come back.
    pub fn run(mut self) -> ! {
        self.create_all();
        self.report_failures();
        let started: Vec<bool> = (0..self.plan.components.len()).map(|i| self.start_or_stop(i)).collect();
        if !started.contains(&true) {
            self.log.line("no component could be started");
            power::idle();
        }
        let named = &self.plan.shutdown_after;
        if !named.is_empty() && !named.iter().any(|&i| started[i]) {
            self.log.line("no component named by shutdown_after started: the system stays on for the others");
        }
        let restarts = (0..started.len()).map(|i| self.restarts(i)).collect();
        let mut lifecycle = Lifecycle::new(started, restarts, named.clone());
        loop {
            let Ended { index, end, fault } = self.shared.next_end();
            // First of all it must not run any more; that the log takes a line can depend on others.
            self.stop(index);
            self.report_end(index, end, fault);
            if self.restarts(index) > 0 {
                self.compare_level(index);
            }
            let mut action = lifecycle.ended(index, end);
            if action == Action::Restart && !self.start_again(index) {
                action = lifecycle.gave_up(index, end);
            }
            if let Action::PowerOff { code } = action {
                self.power_off(code);
            }
        }
    }

    fn restarts(&self, index: usize) -> u32 {
        self.file.entries[index].result.as_ref().map_or(0, |c| c.restart.value.limit)
    }

    /// If one cannot be created, all are created anew without it: others may have its channels, and none runs yet.
    fn create_all(&mut self) {
        while let Err((failed, error)) = self.try_create_all() {
            for index in 0..self.plan.components.len() {
                if let Some(c) = self.shared.take(index) {
                    let _ = end_domain(&c.objects, self.creator.portals);
                }
            }
            self.wires = Wires::default();
            self.plan.fail(failed, kernel_error(&self.plan, failed, error), &mut self.book);
        }
    }

    fn try_create_all(&mut self) -> Result<(), (usize, SpaceError)> {
        let mut wires = Wires::default();
        self.wire_log(&mut wires);
        for index in 0..self.plan.components.len() {
            if self.plan.component(index).is_some() {
                let created = self.creator.create(&self.plan, index, &mut wires).map_err(|e| (index, e))?;
                self.shared.put(index, created);
            }
        }
        let server = self.plan.channels.iter().find(|c| c.client == Client::Root).map(|c| c.server);
        self.log_server = server.and_then(|s| wires.selector(Sm::Server(s)).ok());
        self.wires = wires;
        Ok(())
    }

    /// The client's semaphore of our own channel is the one on which the log waits anyway.
    fn wire_log(&self, wires: &mut Wires) {
        if let Some(channel) = self.plan.channels.iter().find(|c| c.client == Client::Root) {
            wires.set_client(channel.id, self.log.wake_selector());
        }
    }

    fn report_failures(&self) {
        self.plan.notes.iter().for_each(|n| self.log.line(n));
        for e in self.plan.components.iter().filter_map(|c| c.as_ref().err()) {
            self.log.line(e.to_string());
        }
    }
}

impl Supervisor<'_> {
    /// Starts component `index` and says so. A component that drives COM1 gets it to itself.
    fn start(&mut self, index: usize) -> bool {
        let (Some(plan), Some(running)) = (self.plan.component(index), self.shared.component(index)) else {
            return false;
        };
        self.log.line(describe(plan));
        let drives_console = plan.io_ports.iter().any(|r| r.overlaps(console::PORTS));
        if drives_console {
            self.log.release_console();
            self.open_link();
        }
        match self.creator.start(&running) {
            Ok(()) => true,
            Err(e) => {
                if drives_console {
                    self.log.use_console();
                }
                self.log.line(kernel_error(&self.plan, index, e).to_string());
                false
            }
        }
    }

    /// From now on our lines go to the first provider of the log, if one starts.
    fn open_link(&self) {
        let Some(channel) = self.plan.channels.iter().find(|c| c.client == Client::Root) else { return };
        if let Some(link) = self.log_server.and_then(|s| LogLink::new(self.creator.window, channel.memory, s)) {
            self.log.use_link(link);
        }
    }

    fn report_end(&self, index: usize, end: End, fault: Option<Fault>) {
        let label = &self.plan.labels[index];
        self.log.line(match (end, fault) {
            (End::Exit(code), _) => format!("component `{label}`: exit code {code}"),
            (End::Fault, Some(fault)) => format!("component `{label}`: stopped: {fault}"),
            (End::Fault, None) => format!("component `{label}`: stopped"),
        });
    }

    /// Creates and starts a component anew that has ended; says why not.
    fn start_again(&mut self, index: usize) -> bool {
        if self.plan.component(index).is_some() {
            // The kernel did not take it apart, and `stop` has said so.
            return false;
        }
        let Creator { modules, machine, .. } = &self.creator;
        let created = self.plan.again(index, &self.file, modules, machine, &mut self.book).and_then(|()| {
            let created = self.creator.create(&self.plan, index, &mut self.wires);
            created.map_err(|e| kernel_error(&self.plan, index, e))
        });
        match created {
            Ok(running) => self.shared.put(index, running),
            Err(e) => self.log.line(e.to_string()),
        }
        self.start_or_stop(index)
    }

    /// Of a component that cannot be started nothing is to be left.
    fn start_or_stop(&mut self, index: usize) -> bool {
        let started = self.start(index);
        if !started {
            self.stop(index);
        }
        started
    }

    /// Ends all that component `index` can do, then takes back what it had.
    fn stop(&mut self, index: usize) {
        let gone = self.shared.take(index).map_or(Ok(()), |c| end_domain(&c.objects, self.creator.portals));
        let Some(plan) = self.plan.component(index) else { return };
        let provides_our_log = self.plan.channels.iter().any(|c| c.client == Client::Root && c.server == index);
        if provides_our_log || plan.io_ports.iter().any(|r| r.overlaps(console::PORTS)) {
            self.log.use_console();
        }
        if let Err(e) = gone {
            let label = &self.plan.labels[index];
            return self.log.line(format!("component `{label}`: {e}; its memory is not used again"));
        }
        sever(index, &self.plan, self.creator.window, &self.wires, &self.log);
        for sm in self.plan.reclaim(index, &mut self.book) {
            self.wires.remove(sm);
        }
    }

    /// Whatever a component was at when it ended, afterwards as much is there as after its first end.
    fn compare_level(&mut self, index: usize) {
        let Ok((limit, used)) = hypercall::read_quota(root_obj::ROOT_PD) else { return };
        let now = Level {
            ram: self.book.free_bytes(),
            kmem_frames: limit.saturating_sub(used),
            selectors: rt::sel::free_count(),
        };
        let first = *self.levels.entry(index).or_insert(now);
        self.log.line(format!("component `{}`: since its first end: {}", self.plan.labels[index], now.since(first)));
    }

    fn power_off(&self, code: u64) -> ! {
        if !self.file.trace.is_empty() {
            kernel_trace::end(self.creator.window, self.creator.hip, &self.log);
        }
        power::off(&self.log, self.creator.window, self.creator.hip, code)
    }
}

fn kernel_error(plan: &Plan, index: usize, e: SpaceError) -> ComponentError {
    let component = plan.labels[index].clone();
    ComponentError::Kernel { component, what: e.what, status: format!("{:?}", e.status) }
}

/// A line of the table of components.
fn describe(c: &ComponentPlan) -> String {
    let list = |name: &str, items: Vec<String>| match items.as_slice() {
        [] => String::new(),
        items => format!(", {name} {}", items.join(" ")),
    };
    let ports = list("ports", c.io_ports.iter().map(ToString::to_string).collect());
    let irqs = list("irqs", c.irqs.iter().map(ToString::to_string).collect());
    let provides = list("serves", c.provides.iter().map(ToString::to_string).collect());
    let memory = c.frames.iter().map(|f| f.len()).sum::<u64>() >> 10;
    format!(
        "starting {:<12} {:<12} {memory:>7} KiB, priority {:>3}{ports}{irqs}{provides}",
        c.name, c.binary, c.priority
    )
}
