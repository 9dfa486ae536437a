//! What should be: who serves whom and who wants whom, as the specification says it. Everything else is worked out by
//! walking: no links, no counts, no queues.

use std::collections::BTreeSet;

/// An EC by its number.
pub type Id = usize;

/// What an EC does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Receives,
    /// Runs whenever somebody pays.
    Works,
    /// Has found the EC behind a portal busy; an event, or a call.
    Wants {
        portal: usize,
        event: bool,
    },
    /// Waits for a reply.
    Waits {
        event: bool,
    },
    Dead,
}

/// An EC.
#[derive(Clone, Debug)]
pub struct Ec {
    pub doing: Doing,
    pub serves: Option<Id>,
    /// The portal that whom it serves has come by. Numbers of portals are not used again.
    pub by: usize,
    pub blocked: bool,
    pub aborted: u32,
}

/// An SC.
#[derive(Clone, Debug)]
pub struct Sc {
    pub owner: Id,
    /// Who works on with it when its owner is dead.
    pub heir: Option<Id>,
    pub alive: bool,
}

/// A portal.
#[derive(Clone, Debug)]
pub struct Portal {
    pub ec: Id,
    pub alive: bool,
}

/// How a call comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Entered,
    /// Busy: whoever calls has this one run.
    Helps(Id),
    /// `ABORTED`, or the end for an event.
    Aborted,
    /// There is no such portal: `BAD_CAP`, or the end for an event.
    NoPortal,
}

/// Where an SC stands.
#[derive(Debug, PartialEq, Eq)]
pub enum Stand {
    /// It runs this EC.
    Runs(Id),
    /// Whom it would run is blocked.
    Blocked(Id),
    /// Whom it would run would try a call again, which would not be in vain.
    Retries(Id),
    /// The same, and the portal is gone since. Nobody has been told.
    InVain,
    /// It helps somebody who helps it.
    Circle,
}

#[derive(Default)]
pub struct Model {
    pub ecs: Vec<Ec>,
    pub scs: Vec<Sc>,
    pub portals: Vec<Portal>,
}

impl Model {
    /// Who serves `ec`.
    pub fn server(&self, ec: Id) -> Option<Id> {
        self.ecs.iter().position(|e| e.serves == Some(ec))
    }

    /// The end of the chain that `ec` is part of.
    pub fn end_of(&self, ec: Id) -> Id {
        self.server(ec).map_or(ec, |next| self.end_of(next))
    }

    /// Where the chain of an SC begins; `None`: it runs nobody any more.
    fn beginning(&self, sc: &Sc) -> Option<Id> {
        if !sc.alive {
            return None;
        }
        sc.heir.or(Some(sc.owner)).filter(|e| self.ecs[*e].doing != Doing::Dead)
    }

    /// Whom an SC's chain leads to.
    pub fn leaf(&self, sc: usize) -> Option<Id> {
        self.beginning(&self.scs[sc]).map(|e| self.end_of(e))
    }

    /// Who pays for `ec`.
    pub fn payer(&self, ec: Id) -> Option<usize> {
        let mut first = ec;
        while let Some(caller) = self.ecs[first].serves {
            first = caller;
        }
        (0..self.scs.len()).find(|s| self.beginning(&self.scs[*s]) == Some(first))
    }

    /// What comes of it when an SC gets its turn.
    pub fn stand(&self, sc: usize) -> Option<Stand> {
        let mut at = self.leaf(sc)?;
        let mut seen = BTreeSet::new();
        while seen.insert(at) {
            let e = &self.ecs[at];
            match e.doing {
                _ if e.blocked => return Some(Stand::Blocked(at)),
                Doing::Wants { portal, .. } => match self.outcome(at, portal) {
                    Outcome::Helps(end) => at = end,
                    Outcome::NoPortal => return Some(Stand::InVain),
                    _ => return Some(Stand::Retries(at)),
                },
                _ => return Some(Stand::Runs(at)),
            }
        }
        Some(Stand::Circle)
    }

    fn outcome(&self, ec: Id, portal: usize) -> Outcome {
        let p = &self.portals[portal];
        match self.ecs[p.ec].doing {
            _ if !p.alive => Outcome::NoPortal,
            Doing::Receives => Outcome::Entered,
            Doing::Dead => Outcome::Aborted,
            _ if self.end_of(p.ec) == ec => Outcome::Aborted,
            _ => Outcome::Helps(self.end_of(p.ec)),
        }
    }

    /// `ec` calls a portal, for the first time or again.
    pub fn call(&mut self, ec: Id, portal: usize, event: bool) -> Outcome {
        let outcome = self.outcome(ec, portal);
        match outcome {
            Outcome::Entered => {
                let callee = self.portals[portal].ec;
                self.ecs[ec].doing = Doing::Waits { event };
                let c = &mut self.ecs[callee];
                (c.doing, c.serves, c.by) = (Doing::Works, Some(ec), portal);
            }
            Outcome::Helps(_) => self.ecs[ec].doing = Doing::Wants { portal, event },
            Outcome::Aborted | Outcome::NoPortal if event => self.end(ec),
            Outcome::Aborted => self.abort(ec),
            Outcome::NoPortal => self.ecs[ec].doing = Doing::Works,
        }
        outcome
    }

    fn abort(&mut self, ec: Id) {
        self.ecs[ec].doing = Doing::Works;
        self.ecs[ec].aborted += 1;
    }

    pub fn reply(&mut self, ec: Id) {
        self.ecs[ec].doing = Doing::Receives;
        match self.ecs[ec].serves.take() {
            Some(caller) => self.ecs[caller].doing = Doing::Works,
            None => self.scs.iter_mut().filter(|s| s.heir == Some(ec)).for_each(|s| s.alive = false),
        }
    }

    /// Whether who waits for the reply of `ec` has raised an event.
    pub fn serves_event(&self, ec: Id) -> bool {
        self.ecs[ec].serves.is_some_and(|c| self.ecs[c].doing == Doing::Waits { event: true })
    }

    /// `ec` dies. Who waits for its reply is aborted, or dies.
    pub fn end(&mut self, ec: Id) {
        if self.ecs[ec].doing == Doing::Dead {
            return;
        }
        let server = self.server(ec);
        if let Some(s) = server {
            self.ecs[s].serves = None;
        }
        for sc in self.scs.iter_mut().filter(|s| s.alive) {
            if sc.heir.unwrap_or(sc.owner) == ec {
                sc.heir = server;
                sc.alive = server.is_some();
            }
        }
        self.ecs[ec].doing = Doing::Dead;
        self.ecs[ec].blocked = false;
        if let Some(caller) = self.ecs[ec].serves.take() {
            self.disappoint(caller);
        }
    }

    fn disappoint(&mut self, caller: Id) {
        match self.ecs[caller].doing {
            Doing::Waits { event: true } => self.end(caller),
            _ => self.abort(caller),
        }
    }

    /// A portal goes because nobody can call it any more: who is inside stays.
    pub fn drop_portal(&mut self, portal: usize) {
        self.portals[portal].alive = false;
    }

    /// A portal is destroyed: who is inside is aborted, or dies.
    pub fn end_portal(&mut self, portal: usize) {
        self.portals[portal].alive = false;
        let handler = self.portals[portal].ec;
        if self.ecs[handler].by == portal
            && let Some(caller) = self.ecs[handler].serves.take()
        {
            self.disappoint(caller);
        }
    }

    /// An SC is destroyed.
    pub fn end_sc(&mut self, sc: usize) {
        self.scs[sc].alive = false;
    }
}
