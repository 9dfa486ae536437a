//! What a parent of components decides, without anything it does: who serves a session, whose quota pays for it, and
//! who is started again. Core, `init` and every other parent ask here and then act (docs/design/0019).
//!
//! [`Routes`] say where a request goes, and under which [`Label`] and [`Args`] it arrives there.
//! [`Books`] say who has how much [`Quota`]; through a [`Bank`] a parent moves it between itself and its children.
//! A [`Parent`] has children, sessions and an account; a [`Turn`] is what it does about one thing that happened to it.
//!
//! Nothing here panics on any input, and nothing here touches hardware or knows the time.
#![forbid(unsafe_code)]

mod args;
mod bank;
mod books;
mod desk;
mod grants;
mod label;
mod lives;
mod measure;
mod protocol;
mod quota;
mod requests;
mod route;
mod servers;
mod session;
mod settle;
mod spec;
mod turn;
pub mod wire;

/// Nanoseconds since some moment. Always an argument: nothing here reads a clock.
pub type Time = u64;

pub use args::{Args, ArgsError, MAX_ARGS};
pub use bank::{Bank, Guarded};
pub use books::{Account, AccountId, BookError, Books, Closed, Peak};
pub use desk::{Desk, Keeper, Keeps};
pub use label::{ARROW, Label, LabelError, Labels, MAX_LABEL};
pub use measure::Measure;
pub use parent::Name;
pub use protocol::{Call, Cap, End, News, Notice, Refusal, Request, Response, SessionId};
pub use quota::{Quota, Shortage};
pub use route::{Patch, Rewrite, RouteError, Routes, Rule, Target};
pub use session::{Event, Party, Phase};
pub use spec::{Heartbeat, Limits, Restart, Settings, Spec};
pub use turn::{Cause, Child, Effect, Life, Parent, SessionView, State, Turn};
