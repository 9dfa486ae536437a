//! The supervisor: creates and starts what the plan says, takes back what ended had, and ends the system.
//!
//! Key type: [`Supervisor`].

use crate::console;
use crate::create::Creator;
use crate::end::{account, end_domain};
use crate::kernel_trace;
use crate::log::Log;
use crate::offspring::{Means, Offspring};
use crate::power;
use crate::shared::{Order, Running, Shared};
use crate::space::SpaceError;
use abi::root_obj;
use core_task_logic::fault::stopped;
use init::Config;
use policy::{Book, ComponentError, ComponentPlan, Level, Plan, Shutdown, children, exit_code};
use rt::hypercall;
use session::{Cause, End, Life, State};
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
    /// By index, what was left after the first end of a component that is started again.
    levels: BTreeMap<usize, Level>,
    /// By the number that its parent knows it by, the index of each child.
    children: BTreeMap<usize, usize>,
    /// By index, how the last life ended that there was.
    causes: BTreeMap<usize, Cause>,
    /// Whose ends are the system's.
    shutdown: Shutdown,
    /// Children of components.
    offspring: Offspring,
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
        let (levels, children, causes, offspring) = Default::default();
        let shutdown = Shutdown::new(Vec::new(), Vec::new());
        Supervisor { file, plan, book, creator, shared, log, levels, children, causes, shutdown, offspring }
    }

    /// Creates and starts all components, then does what it is told; does not come back.
    pub fn run(mut self) -> ! {
        let lives = self.create_all();
        self.report_failures();
        let started: Vec<bool> =
            lives.iter().enumerate().map(|(i, life)| life.is_some_and(|life| self.start_or_stop(i, life))).collect();
        if !started.contains(&true) {
            self.log.line("no component could be started");
            power::idle();
        }
        let named = &self.plan.shutdown_after;
        if !named.is_empty() && !named.iter().any(|&i| started[i]) {
            self.log.line("no component named by shutdown_after started: the system stays on for the others");
        }
        self.shutdown = Shutdown::new(started, named.clone());
        let hub = self.creator.portals.hub;
        loop {
            // Before each order, so that whoever has us do something all the time keeps nobody's heartbeats from being missed.
            let next = hub.next_tick();
            if next.is_some_and(|next| next <= crate::timer::now()) {
                hub.tick();
            }
            match self.shared.next() {
                Some(order) => self.carry_out(order),
                None => self.shared.wait(hub.next_tick()),
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        let hub = self.creator.portals.hub;
        match order {
            Order::Ended(life, end, fault) => {
                hub.turn(|turn| turn.died(life, end.into()));
                if let (Some(&index), Some(fault)) = (self.children.get(&life.child), fault) {
                    let label = &self.plan.labels[index];
                    let account = self.shared.component(index).and_then(|c| account(&c.objects));
                    self.shared.order(vec![Order::Line(stopped(label, fault, account))]);
                }
            }
            Order::Stop(life, cause) => {
                hub.close(life);
                let Some(&index) = self.children.get(&life.child) else { return };
                self.stop(index);
                if self.restarts(index) > 0 {
                    self.compare_level(index);
                }
                let cause = self.last_cause(index, cause);
                if matches!(hub.state(life.child), None | Some(State::Ended(_))) {
                    self.ended(index, cause);
                }
            }
            Order::Line(line) => self.log.line(line),
            Order::Unread(label, text) => self.log.lines_of(&label, &text),
            Order::Launch(launch) => self.of_children(|all, means| all.launch(launch, means)),
            Order::Left(index, end, fault) => self.of_children(|all, means| all.left(index, end, fault, means)),
            Order::Dismiss(index) => self.of_children(|all, means| all.dismiss(index, means)),
            Order::Start(life) => {
                let Some(&index) = self.children.get(&life.child) else { return };
                if self.plan.component(index).is_some() {
                    // The kernel did not take it apart, and `stop` has said so.
                    hub.turn(|turn| turn.remove(life.child));
                } else if self.start_again(index, life) {
                    return;
                }
                self.watch_console();
            }
            // Without a provider our lines wait for COM1 to be free again.
            Order::AskLog => _ = hub.ask_log(),
            Order::ConsoleFree => self.watch_console(),
            Order::Log(session) => self.log.provider(session),
            Order::NoLog(end) => {
                self.log.provider_gone();
                // Who has died may be started again, or somebody else be there.
                if end != End::Gone || !hub.ask_log() {
                    self.log.use_console();
                }
            }
        }
    }

    fn of_children(&mut self, f: impl FnOnce(&mut Offspring, &Means<'_, '_>)) {
        let Supervisor { offspring, creator, shared, log, .. } = self;
        f(offspring, &Means { creator, shared, log });
    }

    /// Component `index` has ended for good.
    fn ended(&mut self, index: usize, cause: Cause) {
        if let Some(code) = self.shutdown.ended(index, exit_code(cause)) {
            // What is still to be said of it.
            while let Some(order) = self.shared.next() {
                match order {
                    Order::Line(line) => self.log.line(line),
                    Order::Unread(label, text) => self.log.lines_of(&label, &text),
                    _ => {}
                }
            }
            self.power_off(code);
        }
    }

    /// What counts as the end of component `index`: that of its last life, if it could not be started again after that.
    fn last_cause(&mut self, index: usize, cause: Cause) -> Cause {
        match cause {
            Cause::Asked | Cause::NotStarted => *self.causes.entry(index).or_insert(cause),
            cause => *self.causes.entry(index).insert_entry(cause).get(),
        }
    }

    fn restarts(&self, index: usize) -> u32 {
        self.file.entries[index].result.as_ref().map_or(0, |c| c.restart.value.limit)
    }

    /// Makes all components that are planned its children. By index, the life that each begins.
    fn adopt_all(&mut self) -> Vec<Option<Life>> {
        let hub = self.creator.portals.hub;
        for (index, entry) in self.file.entries.iter().enumerate() {
            if let (Ok(component), Some(_)) = (&entry.result, self.plan.component(index))
                && let Some(child) = hub.add(children::spec(component))
            {
                self.children.insert(child, index);
            }
        }
        let mut lives = vec![None; self.file.entries.len()];
        while let Some(order) = self.shared.next() {
            match order {
                Order::Start(life) => {
                    if let Some(&index) = self.children.get(&life.child) {
                        lives[index] = Some(life);
                    }
                }
                Order::Line(line) => self.log.line(line),
                _ => {}
            }
        }
        lives
    }

    /// Creates all that are planned; none runs yet. Who cannot be created takes nobody along.
    fn create_all(&mut self) -> Vec<Option<Life>> {
        let mut lives = self.adopt_all();
        for (index, slot) in lives.iter_mut().enumerate() {
            let Some(life) = *slot else { continue };
            match self.create(index, life) {
                Ok(created) => self.shared.put(created),
                Err(error) => {
                    let error = kernel_error(&self.plan, index, error);
                    self.plan.fail(index, error, &mut self.book);
                    self.creator.portals.hub.turn(|turn| turn.remove(life.child));
                    *slot = None;
                }
            }
        }
        lives
    }

    /// Creates component `index`, with its parent and its account.
    fn create(&self, index: usize, life: Life) -> Result<Running, SpaceError> {
        let hub = self.creator.portals.hub;
        let cpu = self.plan.component(index).map_or(0, ComponentPlan::first_cpu);
        let mapped = self.file.entries[index].result.as_ref().map(children::mapped).unwrap_or_default();
        let member = hub.open(life, index, cpu, mapped);
        let label = &self.plan.labels[index];
        self.creator.create(&self.plan, index, label, &member).inspect_err(|_| hub.close(life))
    }

    fn report_failures(&self) {
        self.plan.notes.iter().for_each(|n| self.log.line(n));
        for e in self.plan.components.iter().filter_map(|c| c.as_ref().err()) {
            self.log.line(e.to_string());
        }
    }
}

impl Supervisor<'_> {
    /// Starts component `index` and says so.
    fn start(&mut self, index: usize) -> bool {
        let (Some(plan), Some(running)) = (self.plan.component(index), self.shared.component(index)) else {
            return false;
        };
        self.log.line(describe(plan.name.as_str(), plan));
        if let Some(Ok(component)) = self.file.entries.get(index).map(|e| &e.result) {
            self.offspring.found(index, component, plan);
        }
        match self.creator.start(&running) {
            Ok(()) => true,
            Err(e) => {
                self.log.line(kernel_error(&self.plan, index, e).to_string());
                false
            }
        }
    }

    /// Where nobody has COM1 our lines go there, as far as nobody is going to.
    fn watch_console(&self) {
        self.creator.portals.devices.watch_console(self.await_console());
    }

    /// Whether somebody may open COM1 who runs, or is to be started again.
    fn await_console(&self) -> bool {
        let may = |child: &usize| {
            let component = self.children.get(child).and_then(|&i| self.file.entries[i].result.as_ref().ok());
            component.is_some_and(|c| c.io_ports.iter().any(|p| p.value.overlaps(console::PORTS)))
        };
        let lives =
            |child: &usize| matches!(self.creator.portals.hub.state(*child), Some(State::Running | State::Due(_)));
        self.children.keys().any(|child| may(child) && lives(child))
    }

    /// Creates and starts a component anew that has ended; says why not. Then nothing is left of it.
    fn start_again(&mut self, index: usize, life: Life) -> bool {
        let Creator { modules, machine, .. } = &self.creator;
        let created = self.plan.again(index, &self.file, modules, machine, &mut self.book).and_then(|()| {
            let created = self.create(index, life);
            created.map_err(|e| kernel_error(&self.plan, index, e))
        });
        match created {
            Ok(running) => self.shared.put(running),
            Err(e) => self.log.line(e.to_string()),
        }
        self.start_or_stop(index, life)
    }

    /// Starts a component whose life has begun. Of one that cannot be started nothing is to be left, and that life is over: often
    /// it is for a moment only, so it is tried again as after any end.
    fn start_or_stop(&mut self, index: usize, life: Life) -> bool {
        let started = self.start(index);
        if !started {
            self.stop(index);
            self.creator.portals.hub.turn(|turn| turn.died(life, Cause::NotStarted));
        }
        started
    }

    /// Ends all that component `index` can do, then takes back what it had.
    fn stop(&mut self, index: usize) {
        self.of_children(|all, means| all.end_children(index, means));
        let gone = self.shared.take(index).map_or(Ok(()), |c| {
            let gone = end_domain(index, &c.objects, self.creator.portals);
            c.forget_threads();
            gone
        });
        if self.plan.component(index).is_none() {
            return;
        }
        self.watch_console();
        if let Err(e) = gone {
            let label = &self.plan.labels[index];
            return self.log.line(format!("component `{label}`: {e}; its memory is not used again"));
        }
        self.plan.reclaim(index, &mut self.book);
    }

    /// Whatever a component was at when it ended, afterwards as much is there as after its first end.
    fn compare_level(&mut self, index: usize) {
        let Ok((limit, used)) = hypercall::read_quota(root_obj::ROOT_PD) else { return };
        let now = Level {
            ram: self.book.free_bytes() + self.creator.portals.memory.free_bytes(),
            kmem_frames: limit.saturating_sub(used),
            selectors: rt::sel::free_count(),
            blocks: rt::heap_blocks_in_use(),
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
    ComponentError::Kernel { component, what: e.what, status: e.status.to_string() }
}

/// A line of the table of components.
pub fn describe(label: &str, c: &ComponentPlan) -> String {
    let list = |name: &str, items: Vec<String>| match items.as_slice() {
        [] => String::new(),
        items => format!(", {name} {}", items.join(" ")),
    };
    let ports = list("ports", c.io_ports.iter().map(ToString::to_string).collect());
    let irqs = list("irqs", c.irqs.iter().map(ToString::to_string).collect());
    let provides = list("serves", c.provides.iter().map(ToString::to_string).collect());
    let memory = c.frames.iter().map(|f| f.len()).sum::<u64>() >> 10;
    format!("starting {label:<12} {:<12} {memory:>7} KiB, priority {:>3}{ports}{irqs}{provides}", c.binary, c.priority)
}
