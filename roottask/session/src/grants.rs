//! What a parent does about quota that a child asks for, or is to give back.
//!
//! Methods of [`Turn`].

use crate::bank::Bank;
use crate::protocol::Refusal;
use crate::quota::Quota;
use crate::turn::{State, Turn};

impl<B: Bank + ?Sized> Turn<'_, B> {
    /// Another quota for a child. What it has too much of is taken if it is free; for the rest it is asked.
    pub fn set_quota(&mut self, index: usize, quota: Quota) {
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        child.spec.quota = quota;
        child.spec.most = child.spec.most.most(quota);
        let Some(account) = child.account else { return self.start(index) };
        let granted = self.bank.account(account).map_or(quota, |account| account.granted);
        (child.yields, child.lent) = (granted.without(quota), Quota::NONE);
        let more = quota.without(granted);
        if !more.is_none() {
            child.want = Some(more);
            child.said = false;
            self.grant(index);
        }
        self.reclaim(index);
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        if !child.yields.is_none() {
            child.tell_yield = true;
            self.signal(index);
        }
    }

    pub(crate) fn want(&mut self, index: usize, quota: Quota) -> Result<(), Refusal> {
        let child = self.parent.children.get_mut(&index).ok_or(Refusal::Dead)?;
        child.want = Some(quota);
        self.grant(index);
        Ok(())
    }

    pub(crate) fn yielded(&mut self, index: usize) -> Result<(), Refusal> {
        self.reclaim(index);
        self.grant_all();
        Ok(())
    }

    pub(crate) fn grant_all(&mut self) {
        self.recall();
        let all: Vec<usize> = self.parent.children.keys().copied().collect();
        for index in all {
            self.reclaim(index);
            self.grant(index);
        }
    }

    /// What nobody waits for any more is not to be given back for it.
    fn recall(&mut self) {
        if self.parent.children.values().any(|child| child.want.is_some()) {
            return;
        }
        for child in self.parent.children.values_mut() {
            child.yields = child.yields.without(std::mem::take(&mut child.lent));
            child.tell_yield &= !child.yields.is_none();
        }
    }

    /// Has the siblings of a child that asks for quota give back what they were granted beyond what they start with, as far as
    /// that is lacking: at once what is free of it, and for the rest they are asked.
    fn call_in(&mut self, index: usize, mut lacking: Quota) {
        let others: Vec<usize> = self.parent.children.keys().copied().filter(|&other| other != index).collect();
        for other in others {
            let Some(child) = self.parent.children.get_mut(&other) else { continue };
            let Some(account) = child.account else { continue };
            let granted = self.bank.account(account).map_or(Quota::NONE, |account| account.granted);
            let part = granted.without(child.spec.quota).least(lacking);
            let more = part.without(child.yields);
            lacking = lacking.without(part);
            if more.is_none() {
                continue;
            }
            child.yields = child.yields.plus(more).unwrap_or(child.yields);
            child.lent = child.lent.plus(more).unwrap_or(child.lent);
            self.reclaim(other);
            let Some(child) = self.parent.children.get_mut(&other) else { continue };
            if !child.yields.is_none() {
                child.tell_yield = true;
                self.signal(other);
            }
        }
    }

    /// What is there for who asks: not what children that are to be started again will start with.
    fn to_grant(&self) -> Quota {
        let due = self.parent.children.values().filter(|child| matches!(child.state, State::Due(_)));
        due.fold(self.spare(), |left, child| left.without(child.spec.quota))
    }

    /// Gives a child what it asked for, or says why not.
    fn grant(&mut self, index: usize) {
        let Some(child) = self.parent.children.get(&index) else { return };
        let (Some(want), Some(account)) = (child.want, child.account) else { return };
        let granted = self.bank.account(account).map_or(Quota::NONE, |account| account.granted);
        let allowed = granted.plus(want).is_some_and(|sum| child.spec.most.lacks(sum).is_none());
        let lacking = want.without(self.to_grant());
        if allowed && !lacking.is_none() {
            self.call_in(index, lacking);
        }
        let spare = self.to_grant();
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        if allowed && spare.lacks(want).is_none() && self.bank.grant(account, want).is_ok() {
            (child.want, child.said, child.tell_granted) = (None, false, true);
            self.signal(index);
            self.log(index, format!("got {want} more"));
        } else if !std::mem::replace(&mut child.said, true) {
            let why = match allowed {
                true => format!("{spare} are left"),
                false => format!("has {granted}, and may have {}", child.spec.most),
            };
            self.log(index, format!("stalls: it asks for {want} more; {why}"));
        }
    }

    /// Takes what a child is to give back, as far as it is free.
    fn reclaim(&mut self, index: usize) {
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        let Some(account) = child.account.filter(|_| !child.yields.is_none()) else { return };
        let free = child.yields.least(self.bank.free(account));
        if self.bank.reclaim(account, free).is_ok() {
            (child.yields, child.lent) = (child.yields.without(free), child.lent.without(free));
        }
    }

    /// Says who runs low, once until it does not any more, and with how much at its start it would not have.
    pub(crate) fn warn_all(&mut self) {
        let bank = &*self.bank;
        let mut lines = Vec::new();
        for (&index, child) in &mut self.parent.children {
            let Some(account) = child.account.and_then(|account| bank.account(account).ok()) else { continue };
            let warned = std::mem::replace(&mut child.warned, account.low());
            if child.warned && !warned {
                let (free, limit, enough) = (account.free(), account.limit, account.peak.enough);
                lines.push((index, format!("runs low: {free} of {limit} are free; it has come to need {enough}")));
            }
        }
        lines.into_iter().for_each(|(index, line)| self.log(index, line));
    }
}
