//! What sessions of each service needed, measured: so that nobody has to guess donations.
//!
//! Key type: [`Measure`]. `requests` notes each session that came into being.

use crate::quota::Quota;

/// Figures of all sessions of a service, as a parent sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measure {
    /// How many came into being.
    pub sessions: u64,
    /// Most that one was donated, all upgrades included: with so much at first no client would have had to upgrade.
    pub enough: Quota,
    /// How often a client had to upgrade.
    pub upgrades: u64,
    /// How often the server wanted a larger donation.
    pub short: u64,
}

impl Measure {
    pub(crate) fn created(&mut self, donation: Quota) {
        self.sessions = self.sessions.saturating_add(1);
        self.enough = self.enough.most(donation);
    }

    pub(crate) fn upgraded(&mut self, donation: Quota) {
        self.upgrades = self.upgrades.saturating_add(1);
        self.enough = self.enough.most(donation);
    }

    pub(crate) fn refused(&mut self) {
        self.short = self.short.saturating_add(1);
    }
}
