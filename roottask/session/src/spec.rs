//! What a parent is told about itself and about each of its children.
//!
//! Key types: [`Settings`], [`Spec`]. `init`'s configuration becomes these.

use crate::Time;
use crate::books::AccountId;
use crate::quota::Quota;
use crate::route::Routes;
use parent::Name;

/// How many sessions a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All, those included whose end it has not fetched.
    pub sessions: usize,
    /// Those that no server has answered.
    pub pending: usize,
}

/// When a child is asked whether it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// How often.
    pub every: Time,
    /// How many may go without an answer.
    pub missed: u32,
}

/// When and how often a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// How often without a calm life in between. After that it is a crash loop, and the child stays down.
    pub tries: u32,
    /// Delay before the first; doubled for each that follows.
    pub first: Time,
    /// The longest delay.
    pub longest: Time,
    /// A life of this length is a calm one.
    pub calm: Time,
    /// Also after an exit with code 0.
    pub after_exit: bool,
}

/// A child as its parent is told to keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, unique among its siblings.
    pub name: Name,
    /// What it starts with.
    pub quota: Quota,
    /// What it may have when it asks for more.
    pub most: Quota,
    /// Services that it may announce.
    pub provides: Vec<Name>,
    /// Where its requests go.
    pub routes: Routes,
    /// Bounds of what it has its parent keep.
    pub limits: Limits,
    /// `None`: it is not asked.
    pub heartbeat: Option<Heartbeat>,
    /// What follows from its end.
    pub restart: Restart,
}

/// What a parent is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its own account. Whoever starts it has granted it.
    pub account: AccountId,
    /// What it keeps of each donation while the session lasts: for its own books.
    pub cost: Quota,
    /// How long a server may take to close a session before its donation is taken back without it, and how long it may
    /// owe what it has kept of that before it is stopped.
    pub patience: Time,
    /// Services of its own.
    pub own: Vec<Name>,
    /// Where requests from above go.
    pub exports: Routes,
    /// Bounds of what comes from above.
    pub above: Limits,
}
