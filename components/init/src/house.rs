//! The children of an init, and what follows from its configuration and from a change of it.
//!
//! Key type: [`House`].

use init::{Action, Born, Child, Component, Config, Exit, Quota, Running, diff};
use parent::Name;
use session::{
    AccountId, Bank, Cause, Effect, Limits, Parent, Rewrite, Routes, Rule, Settings, Spec, State, Target, Time, Turn,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long a server may take to close a session, and may owe a donation, in ns.
const PATIENCE: Time = 2_000_000_000;
/// Sessions from above.
const ABOVE: Limits = Limits { sessions: 256, pending: 64 };
/// Exit code of a child that was stopped; what a shell shows for a segmentation fault.
const STOPPED: u64 = 139;
/// The service that binaries and other ROMs come by.
const ROM: &str = "rom";

/// An init's children, its sessions, and its configuration.
pub struct House {
    parent: Parent,
    account: AccountId,
    config: Config,
    /// What each child is, or was, started with.
    born: BTreeMap<Name, Component>,
    /// Those of which the log has it that they cannot be paid.
    unpaid: BTreeSet<Name>,
}

impl House {
    /// Without children, on that account.
    pub fn new(account: AccountId) -> House {
        let settings = Settings {
            account,
            cost: session::Quota::NONE,
            patience: PATIENCE,
            own: Vec::new(),
            exports: Routes::default(),
            above: ABOVE,
        };
        let (config, born, unpaid) = Default::default();
        House { parent: Parent::new(settings), account, config, born, unpaid }
    }

    /// Something has happened at that time.
    pub fn turn<B: Bank, R>(
        &mut self,
        now: Time,
        bank: &mut B,
        f: impl FnOnce(&mut Turn<'_, B>) -> R,
    ) -> (R, Vec<Effect>) {
        let mut turn = self.parent.turn(now, bank);
        let result = f(&mut turn);
        (result, turn.effects())
    }

    /// Its children and sessions.
    pub fn parent(&self) -> &Parent {
        &self.parent
    }

    /// Its account.
    pub fn account(&self) -> AccountId {
        self.account
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The version of a child, by what it was started with.
    pub fn version(&self, child: &Name) -> Option<&str> {
        self.born.get(child)?.version.as_deref()
    }

    /// Another configuration: as little is done as can be.
    pub fn configure<B: Bank>(&mut self, config: Config, now: Time, bank: &mut B) -> Vec<Effect> {
        self.config = config;
        let exports = Routes(self.config.services.iter().map(|service| service.rule.clone()).collect());
        let mut effects = self.turn(now, bank, |turn| turn.export(exports)).1;
        effects.extend(self.follow(now, bank));
        effects
    }

    /// Does of the configuration what is not done yet, as far as it is possible now.
    pub fn follow<B: Bank>(&mut self, now: Time, bank: &mut B) -> Vec<Effect> {
        let mut effects = Vec::new();
        let mut fresh = BTreeSet::new();
        for action in diff(&self.config, &self.running(bank)) {
            let (name, again) = match action {
                Action::Stop(name) => {
                    effects.extend(self.remove(&name, now, bank));
                    continue;
                }
                Action::Start(name) => (name, false),
                // A configuration is handed over at the start.
                Action::Restart(name) | Action::Configure(name) => (name, true),
                // What a child can go on with is revised below.
                _ => continue,
            };
            let Some(component) = self.config.component(&name).cloned() else { continue };
            if !fresh.insert(name) {
                continue;
            }
            let spec = self.spec(&component);
            self.born.insert(name, component);
            match self.parent.child(&name).map(|(index, _)| index).filter(|_| again) {
                Some(index) => effects.extend(self.turn(now, bank, |turn| turn.replace(index, spec)).1),
                None => {
                    effects.extend(self.drop_child(&name, now, bank));
                    effects.extend(self.turn(now, bank, |turn| turn.add(spec)).1);
                }
            }
        }
        let goes_on = |name: &Name| !fresh.contains(name);
        let revised: Vec<Component> = self.config.components().filter(|c| goes_on(&c.name)).cloned().collect();
        for component in revised {
            let spec = self.spec(&component);
            let Some((index, child)) = self.parent.child(&component.name) else { continue };
            if child.spec != spec && matches!(child.state, State::Running | State::Due(_)) {
                self.born.insert(component.name, component);
                effects.extend(self.turn(now, bank, |turn| turn.revise(index, spec)).1);
            }
        }
        effects.extend(self.unpaid(bank));
        effects
    }

    /// Says, once, who is described and cannot be paid.
    fn unpaid<B: Bank>(&mut self, bank: &B) -> Vec<Effect> {
        let free = bank.free(self.account);
        let missing = self.config.components().filter(|c| self.parent.child(&c.name).is_none());
        let missing: Vec<(Name, session::Quota)> = missing.map(|c| (c.name, c.quota())).collect();
        self.unpaid.retain(|name| missing.iter().any(|(other, _)| other == name));
        let new = missing.into_iter().filter(|(name, _)| self.unpaid.insert(*name));
        new.map(|(name, quota)| Effect::Log(name, format!("cannot start: it is to have {quota}, and {free} are left")))
            .collect()
    }

    fn drop_child<B: Bank>(&mut self, name: &Name, now: Time, bank: &mut B) -> Vec<Effect> {
        let Some((index, _)) = self.parent.child(name) else { return Vec::new() };
        self.turn(now, bank, |turn| turn.remove(index)).1
    }

    fn remove<B: Bank>(&mut self, name: &Name, now: Time, bank: &mut B) -> Vec<Effect> {
        self.born.remove(name);
        self.drop_child(name, now, bank)
    }

    /// The text that core starts a child from.
    pub fn describe(&self, child: usize) -> Result<String, String> {
        let name = self.parent.children().find(|(index, _)| *index == child).map(|(_, c)| c.spec.name);
        let component = name.and_then(|name| self.born.get(&name)).ok_or("there is no such child")?;
        for (module, key) in std::iter::once((component.binary.value.as_str(), "binary"))
            .chain(component.roms.iter().map(|rom| (rom.value.as_str(), "roms")))
        {
            if !self.by_parent(component, module) {
                return Err(format!(
                    "key `{key}`: no route leads `{module}` to the parent, and only there are boot modules"
                ));
            }
        }
        component.describe().map_err(|e| e.to_string())
    }

    fn by_parent(&self, component: &Component, module: &str) -> bool {
        let (Some(rom), Ok(label)) = (Name::new(ROM), session::Label::new(module)) else { return false };
        self.spec(component).routes.find(&rom, &label).is_some_and(|rule| rule.target == Target::Parent)
    }

    /// The code with which init ends, if the end of a child is its own.
    pub fn leaves(&self) -> Option<u64> {
        self.parent.children().find_map(|(_, child)| {
            let component = self.born.get(&child.spec.name)?;
            match child.state {
                _ if component.exit.value == Exit::Stay => None,
                State::Ended(Cause::Exit(code)) => Some(code),
                State::Ended(_) => Some(STOPPED),
                _ => None,
            }
        })
    }

    /// What a child's parent is to know of it, by this configuration.
    fn spec(&self, component: &Component) -> Spec {
        let spec = component.spec();
        let offered = self.config.parent_provides.as_deref();
        let mut routes: Vec<Rule> = spec.routes.0.iter().flat_map(|rule| within(rule, offered)).collect();
        // ROMs are the parent's where nothing else is said.
        routes.extend(Name::new(ROM).map(|rom| Rule::to(rom, Target::Parent)));
        Spec { routes: Routes(routes), ..spec }
    }

    fn running<B: Bank>(&self, bank: &B) -> Running {
        let plain = |q: session::Quota| Quota { ram: q.ram(), caps: u32::try_from(q.caps()).unwrap_or(u32::MAX) };
        let child = |child: &session::Child| {
            let component = self.born.get(&child.spec.name)?;
            let account = child.account.and_then(|account| bank.account(account).ok());
            let running = Child {
                born: Born::of(component),
                config: component.config.clone(),
                heartbeat: component.heartbeat.map(|h| h.value),
                announced: child.announced.clone(),
                // One that waits to be started waits for what it is to have.
                quota: plain(account.map_or(child.spec.quota, |a| a.granted)),
                used: plain(account.map_or(session::Quota::NONE, |a| a.used)),
                yielding: (!child.yields.is_none()).then(|| plain(child.spec.quota)),
                ended: matches!(child.state, State::Ended(_)),
            };
            Some((child.spec.name.to_string(), running))
        };
        Running {
            children: self.parent.children().filter_map(|(_, c)| child(c)).collect(),
            // Those that lead elsewhere are closed as the child is revised.
            sessions: Vec::new(),
            offered: self.config.services.iter().map(|s| s.name).collect(),
            report: self.config.report.clone(),
            free: plain(bank.free(self.account)),
        }
    }
}

/// A rule, as far as it leads only to services of the parent that may be reached.
fn within(rule: &Rule, offered: Option<&[init::Placed<Name>]>) -> Vec<Rule> {
    let (Target::Parent, Some(offered)) = (rule.target, offered) else { return vec![rule.clone()] };
    let names = offered.iter().map(|name| name.value);
    match rule.service {
        Some(service) if names.clone().any(|name| name == service) => vec![rule.clone()],
        Some(_) => vec![Rule { target: Target::Deny, ..rule.clone() }],
        None => {
            let mut all: Vec<Rule> = names.map(|name| Rule { service: Some(name), ..rule.clone() }).collect();
            let (labels, rewrite) = (rule.labels.clone(), Rewrite::default());
            all.push(Rule { service: None, labels, target: Target::Deny, rewrite });
            all
        }
    }
}

#[cfg(test)]
#[path = "house_tests.rs"]
mod tests;
