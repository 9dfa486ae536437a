//! The supervisor: creates and starts what the plan says, stops what ended, and ends the system.
//!
//! Key type: [`Supervisor`].

use crate::console;
use crate::create::{Creator, Wires};
use crate::kernel_trace;
use crate::link::LogLink;
use crate::log::Log;
use crate::power;
use crate::sever::sever;
use crate::shared::{Ended, Shared};
use crate::space::{self, SpaceError};
use abi::Sel;
use core_task_logic::fault::Fault;
use policy::{Action, Book, Client, ComponentError, ComponentPlan, End, Lifecycle, Plan, Sm};
use rt::hypercall::{self, int_flags};
use std::sync::Arc;

/// Runs a plan.
pub struct Supervisor<'a> {
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
    /// The kernel traces.
    traced: bool,
}

impl<'a> Supervisor<'a> {
    /// One that has done nothing yet.
    pub fn new(
        plan: Plan,
        book: Book,
        creator: Creator<'a>,
        shared: Arc<Shared>,
        log: Log,
        traced: bool,
    ) -> Supervisor<'a> {
        Supervisor { plan, book, creator, shared, log, wires: Wires::default(), log_server: None, traced }
    }

    /// Creates and starts all components, then waits for their ends; does not come back.
    pub fn run(mut self) -> ! {
        self.create_all();
        self.report_failures();
        let started: Vec<bool> = (0..self.plan.components.len()).map(|i| self.start(i)).collect();
        if !started.contains(&true) {
            self.log.line("no component could be started");
            power::idle();
        }
        let named = &self.plan.shutdown_after;
        if !named.is_empty() && !named.iter().any(|&i| started[i]) {
            self.log.line("no component named by shutdown_after started: the system stays on for the others");
        }
        let mut lifecycle = Lifecycle::new(started, named.clone());
        loop {
            let Ended { index, end, fault } = self.shared.next_end();
            // First of all it must not run any more; that the log takes a line can depend on others.
            self.stop(index);
            self.report_end(index, end, fault);
            if let Action::PowerOff { code } = lifecycle.ended(index, end) {
                self.power_off(code);
            }
        }
    }

    fn create_all(&mut self) {
        let mut wires = Wires::default();
        self.wire_log(&mut wires);
        for index in 0..self.plan.components.len() {
            if self.plan.component(index).is_none() {
                continue;
            }
            match self.creator.create(&self.plan, index, &mut wires) {
                Ok(running) => drop(self.shared.components[index].set(running)),
                Err(e) => drop(self.plan.fail(index, kernel_error(&self.plan, index, e), &mut self.book)),
            }
        }
        let server = self.plan.channels.iter().find(|c| c.client == Client::Root).map(|c| c.server);
        self.log_server = server.and_then(|s| wires.selector(Sm::Server(s)).ok());
        self.wires = wires;
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
        match self.creator.start(running) {
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

    /// Takes everything away from a component that its threads need to run, and its devices. The frames are not used
    /// again: the component may have mapped them where we do not look, into a guest for instance.
    fn stop(&self, index: usize) {
        let (Some(plan), Some(c)) = (self.plan.component(index), self.shared.component(index)) else { return };
        let nova = &self.creator.nova;
        // Its threads end at their next instruction, which is not mapped any more; its vCPUs at their next exit, for
        // which there is no portal any more, and a recall is one.
        let _ = space::revoke_all(c.obj, &c.cpus, self.creator.machine.sel_end);
        for vcpu in c.vcpus().drain(..) {
            let _ = hypercall::ctrl_ec(vcpu, false);
            rt::sel::free(vcpu);
        }
        for m in plan.mappings.iter().chain(&self.plan.channel_mappings(index)) {
            let _ = nova.unmap(c.hst, m.virt, m.phys, m.len);
        }
        for r in &plan.io_ports {
            let _ = nova.take_ports(c.pio, r.first, r.count());
        }
        for &irq in &c.irqs {
            let _ = hypercall::assign_int(irq, plan.first_cpu(), 0, int_flags::MASKED);
        }
        let provides_our_log = self.plan.channels.iter().any(|c| c.client == Client::Root && c.server == index);
        if provides_our_log || plan.io_ports.iter().any(|r| r.overlaps(console::PORTS)) {
            self.log.use_console();
        }
        sever(index, &self.plan, self.creator.window, &self.wires, &self.log);
    }

    fn power_off(&self, code: u64) -> ! {
        if self.traced {
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
