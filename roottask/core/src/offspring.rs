//! Children of components, started and ended: what [`crate::office`] was asked for. Each has a plan of its own, made as those
//! of the system file are, out of what its parent has.
//!
//! Key types: [`Offspring`], all of them; [`Launch`], one that is to be started.

use crate::create::Creator;
use crate::end::{account, end_domain};
use crate::hub::{Kin, Member};
use crate::log::Log;
use crate::shared::Shared;
use crate::supervisor::describe;
use core_task_logic::fault::{Fault, stopped};
use init::{ARROW, Component, Config, Name, Placed, within};
use policy::{Book, ComponentError, ComponentPlan, End, Machine, Plan, children};
use rpc::Cap;
use rt::rpc::Held;
use services::Parent;
use services::children::How;
use session::{AccountId, Label, Quota, Target};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The service that binaries come by.
const ROM: &str = "rom";

/// A child that is to be started.
pub struct Launch {
    /// Its number.
    pub index: usize,
    /// Its parent.
    pub of: Arc<Member>,
    /// Its account.
    pub account: AccountId,
    /// What it is to have as its parent.
    pub parent: Held<Cap<dyn Parent>>,
    /// Its description.
    pub text: String,
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch").field("index", &self.index).field("account", &self.account).finish_non_exhaustive()
    }
}

/// What a component has for its children.
struct Estate {
    /// Its description, with its CPUs.
    component: Component,
    label: String,
    /// Kernel memory in bytes that no child has.
    kmem: u64,
    /// The component of the system file that it descends from: its routes say which boot modules it may use.
    root: Arc<Component>,
}

/// A child that was started.
struct Child {
    of: Arc<Member>,
    plan: Plan,
    /// What its account has paid of it.
    mapped: Quota,
    /// What its parent pays for it beside that.
    beside: Quota,
    kmem: u64,
}

/// All children of components.
#[derive(Default)]
pub struct Offspring {
    /// By number.
    all: BTreeMap<usize, Child>,
    /// Of those that may have children, by number.
    estates: BTreeMap<usize, Estate>,
}

fn frames(c: &ComponentPlan) -> u64 {
    c.frames.iter().map(|f| f.len()).sum()
}

/// Whether it may use a boot module, as its binary or a ROM.
fn may_use(root: &Component, module: &str) -> bool {
    let (Some(rom), Ok(label)) = (Name::new(ROM), Label::new(module)) else { return false };
    let rule = root.routes.iter().find(|r| r.rule.matches(&rom, &label));
    rule.is_none_or(|r| r.rule.target == Target::Parent)
}

impl Estate {
    fn new(component: &Component, label: &str, plan: &ComponentPlan, root: Arc<Component>) -> Option<Estate> {
        let cpus = plan.cpus.iter().map(|&value| Placed { value, at: component.at }).collect();
        let component = Component { cpus: Some(cpus), ..component.clone() };
        Some(Estate { component, label: label.into(), kmem: plan.kmem_of_children?, root })
    }

    /// Reads the description of a child, and whether it may be so.
    fn read(&self, text: &str) -> Result<Config, Vec<String>> {
        let of = &self.label;
        let line = |d: &init::Defect| format!("description of a child of `{of}`: {d}");
        let lines = |defects: Vec<init::Defect>| defects.iter().map(line).collect::<Vec<_>>();
        let mut config = Config::of_child(text, &self.label).map_err(lines)?;
        let mut found = Vec::new();
        if let Some(Ok(child)) = config.entries.first_mut().map(|e| e.result.as_mut()) {
            found.extend(within(&self.component, &self.label, child).into_iter().map(|f| f.text));
            let modules =
                std::iter::once(child.binary.value.as_str()).chain(child.roms.iter().map(|r| r.value.as_str()));
            let refused = modules.filter(|module| !may_use(&self.root, module));
            let name = &child.name;
            let refused =
                refused.map(|m| format!("`{}{ARROW}{name}`: no route leads to boot module `{m}`", self.label));
            found.extend(refused);
            if !self.component.may_have_guests() {
                child.deny_guests();
            }
            if child.cpus.is_none() {
                child.cpus.clone_from(&self.component.cpus);
            }
        }
        if found.is_empty() { Ok(config) } else { Err(found) }
    }
}

/// Everything that acts.
pub struct Means<'a, 'b> {
    /// Creates components.
    pub creator: &'a Creator<'b>,
    /// Who runs.
    pub shared: &'a Shared,
    /// The log.
    pub log: &'a Log,
}

impl Offspring {
    /// A component of the system file is about to be started.
    pub fn found(&mut self, index: usize, component: &Component, plan: &ComponentPlan) {
        let root = Arc::new(component.clone());
        if let Some(estate) = Estate::new(component, component.name.as_str(), plan, root) {
            self.estates.insert(index, estate);
        }
    }

    /// Starts a child, or tells its parent that it could not be.
    pub fn launch(&mut self, launch: Launch, means: &Means<'_, '_>) {
        let (index, of) = (launch.index, Arc::clone(&launch.of));
        let alive = means.shared.component(of.index).is_some_and(|c| Arc::ptr_eq(&c.member, &of));
        if !alive || !of.brood.wants(index) {
            return of.brood.stopped(index);
        }
        if let Err(lines) = self.try_launch(launch, means) {
            lines.into_iter().for_each(|line| means.log.line(line));
            self.end(index, means);
            of.brood.ended(index, How::NotStarted, 0);
        }
    }

    fn try_launch(&mut self, launch: Launch, means: &Means<'_, '_>) -> Result<(), Vec<String>> {
        let Launch { index, of, account, parent, text } = launch;
        let estate = self.estates.get_mut(&of.index).ok_or_else(|| vec!["a child of who may have none".into()])?;
        let config = estate.read(&text)?;
        let component = config.components().next().ok_or_else(Vec::new)?;
        let label = format!("{}{ARROW}{}", estate.label, component.name);
        let told =
            |e: ComponentError| vec![e.to_string().replace(&format!("`{}`", component.name), &format!("`{label}`"))];
        let Creator { modules, machine, portals, .. } = means.creator;
        let machine = Machine { kmem: estate.kmem, ..*machine };
        let plan = portals.memory.plan(|book| Plan::new(&config, modules, &machine, book));
        let planned = plan.component(0).ok_or_else(|| {
            let failed = plan.components.iter().filter_map(|c| c.as_ref().err());
            failed.cloned().flat_map(told).collect::<Vec<_>>()
        })?;
        let (mapped, kmem, cpu) = (children::mapped(component), planned.kmem(), planned.first_cpu());
        let beside = Quota::new(frames(planned).saturating_sub(mapped.ram()), 0).unwrap_or_default();
        let member = Member::new(Kin::Other { of: of.traced(), account, parent }, index, cpu);
        // From here on it is taken back by its end.
        estate.kmem = estate.kmem.saturating_sub(kmem);
        let root = Arc::clone(&estate.root);
        let own = Estate::new(component, &label, planned, root);
        let child = Child { of: Arc::clone(&of), plan, mapped: Quota::NONE, beside: Quota::NONE, kmem };
        let child = self.all.entry(index).or_insert(child);
        let short = |who: &str, what: Quota| {
            let line = format!("component `{label}`: {what} for it are not free on {who}");
            move |_| vec![line]
        };
        let hub = portals.hub;
        hub.spend(&of, beside).map_err(short("its parent's account", beside))?;
        child.beside = beside;
        hub.fix(&member, mapped).map_err(short("its account", mapped))?;
        child.mapped = mapped;
        let created = means.creator.create(&child.plan, 0, &label, &member);
        let running = created.map_err(|e| {
            member.part();
            vec![format!("component `{label}`: the kernel refused to {e}")]
        })?;
        if let Some(planned) = child.plan.component(0) {
            means.log.line(describe(&label, planned));
        }
        let start = means.creator.start(&running);
        if let Some(estate) = own {
            self.estates.insert(index, estate);
        }
        means.shared.put(running);
        start.map_err(|e| vec![format!("component `{label}`: the kernel refused to {e}")])
    }

    /// A child has ended by itself.
    pub fn left(&mut self, index: usize, end: End, fault: Option<Fault>, means: &Means<'_, '_>) {
        let Some(child) = self.all.get(&index) else { return };
        let of = Arc::clone(&child.of);
        if let (Some(fault), Some(running)) = (fault, means.shared.component(index)) {
            means.log.line(stopped(&running.label, fault, account(&running.objects)));
        }
        self.end(index, means);
        match end {
            End::Exit(code) => of.brood.ended(index, How::Exit, code),
            End::Fault => of.brood.ended(index, How::Fault, 0),
        }
    }

    /// A child is not to run any more.
    pub fn dismiss(&mut self, index: usize, means: &Means<'_, '_>) {
        let of = self.all.get(&index).map(|child| Arc::clone(&child.of));
        self.end(index, means);
        if let Some(of) = of {
            of.brood.stopped(index);
        }
    }

    /// Ends all children of component `index`, and theirs before them.
    pub fn end_children(&mut self, index: usize, means: &Means<'_, '_>) {
        let children: Vec<usize> = self.all.iter().filter(|(_, c)| c.of.index == index).map(|(&i, _)| i).collect();
        children.into_iter().for_each(|child| self.end(child, means));
        self.estates.remove(&index);
    }

    /// Ends a child; all that it had goes back.
    fn end(&mut self, index: usize, means: &Means<'_, '_>) {
        self.end_children(index, means);
        let Some(Child { of, mut plan, mapped, beside, kmem }) = self.all.remove(&index) else { return };
        let portals = means.creator.portals;
        if let Some(running) = means.shared.take(index) {
            running.member.part();
            let gone = end_domain(index, &running.objects, portals);
            running.forget_threads();
            if let Err(e) = gone {
                // Its memory and what is paid for it stay: nothing is known of them.
                return means.log.line(format!("component `{}`: {e}; its memory is not used again", running.label));
            }
            // If its parent has not closed it.
            portals.hub.release(&running.member, mapped);
        }
        portals.memory.plan(|book: &mut Book| plan.reclaim(0, book));
        if let Some(estate) = self.estates.get_mut(&of.index) {
            estate.kmem += kmem;
        }
        portals.hub.release(&of, beside);
    }
}
