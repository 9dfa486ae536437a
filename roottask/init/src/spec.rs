//! What a parent is told about a component: from its description to `session::Spec`.

use crate::config::{Component, Heartbeat};
use crate::quantity::Period;
use session::{Limits, Quota, Restart, Routes, Spec, Time};

/// Sessions of a component, and those that are not answered yet.
const LIMITS: Limits = Limits { sessions: 64, pending: 16 };
const MS: Time = 1_000_000;

impl Component {
    /// What it starts with: its RAM and its capabilities.
    pub fn quota(&self) -> Quota {
        Quota::new(self.ram.value.bytes(), self.capabilities().into()).unwrap_or_default()
    }

    /// What of that is in use as soon as it has started: the RAM that is mapped.
    pub fn mapped(&self) -> Quota {
        Quota::new(self.ram.value.bytes().saturating_sub(self.spare_bytes()), 0).unwrap_or_default()
    }

    /// What its parent is to know of it.
    pub fn spec(&self) -> Spec {
        let heartbeat = |h: Heartbeat| session::Heartbeat {
            every: h.every.ms().saturating_mul(MS),
            // Without a limit it is only asked.
            missed: h.restart_after.unwrap_or(u32::MAX),
        };
        let (restart, ns) = (self.restart.value, |period: Period| period.ms().saturating_mul(MS));
        Spec {
            name: self.name,
            quota: self.quota(),
            most: Quota::new(self.most().ram, self.most().caps.into()).unwrap_or_default(),
            provides: self.provides.iter().map(|p| p.value).collect(),
            routes: Routes(self.routes.iter().map(|r| r.rule.clone()).collect()),
            limits: LIMITS,
            heartbeat: self.heartbeat.map(|h| heartbeat(h.value)),
            restart: Restart {
                tries: restart.limit,
                first: restart.delay.map_or(0, ns),
                longest: ns(restart.longest_delay),
                calm: restart.within.map_or(Time::MAX, ns),
                after_exit: true,
            },
        }
    }
}
