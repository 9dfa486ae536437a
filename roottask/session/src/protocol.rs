//! What a component and its parent say to each other.
//!
//! Key types: [`Call`], which the parent answers at once, and [`Notice`], which the component fetches with
//! [`Call::Next`] when it is signalled. Where several things have happened to a session it is told the last one, so
//! neither side has to keep a queue.

use crate::args::Args;
use crate::label::Label;
use crate::quota::{Quota, Shortage};
use parent::Name;
use thiserror::Error;

/// Names a session between a component and its parent. The client chooses it for its own sessions, the parent for those
/// that it has the component serve.
pub type SessionId = u64;

/// A capability to the session's object at its server, in whatever way the caller of this crate names capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap(pub u64);

/// What a component asks of its parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// It can serve this from now on.
    Announce(Name),
    /// It wants a session. Ends in a [`Notice::Session`], if it is not refused at once.
    Request(Request),
    /// It donates more to a session that it has.
    Upgrade {
        /// Its session.
        id: SessionId,
        /// How much more.
        more: Quota,
    },
    /// It does not want a session any more.
    Close(SessionId),
    /// What it has done as a server.
    Respond(SessionId, Response),
    /// It has ended.
    Exit(u64),
    /// It needs more quota. Ends in a [`Notice::Granted`], perhaps never.
    Want(Quota),
    /// It has freed what it could after a [`Notice::Yield`].
    Yielded,
    /// It lives: the answer to a [`Notice::Heartbeat`].
    Alive,
    /// What is new? The only call that is answered with a notice.
    Next,
}

/// A request for a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What the client calls it; at the server, what the parent does.
    pub id: SessionId,
    /// The service.
    pub service: Name,
    /// What the client asks for; at the server, with the names of all parents' children in front.
    pub label: Label,
    /// The arguments.
    pub args: Args,
    /// What the server may use for it.
    pub donation: Quota,
}

/// What a server has done about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// It is created, and this is handed over for the client.
    Ready(Cap),
    /// It is not created.
    Denied,
    /// It is not created for so little.
    Short(Shortage),
    /// It is not created, as the client was built against another version; the server has this one, as a number.
    Incompatible(u32),
    /// An upgrade has been taken note of.
    Upgraded,
    /// An upgrade did not reach it.
    NotUpgraded,
    /// It is closed, or the server has never known it.
    Closed,
    /// It cannot be used any more, as who is behind it has died.
    Gone,
}

/// How a session is over. Everything that was donated is the client's again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server did not want it, or none is left that could.
    Denied,
    /// The donation was too small.
    Short(Shortage),
    /// The client was built against another version than the server's, which is this, as a number.
    Incompatible(u32),
    /// The server has died.
    Gone,
    /// The client closed it.
    Closed,
}

/// How a session of a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It can be used.
    Ready(Cap),
    /// The server has taken note of more quota.
    Upgraded,
    /// The server did not get more quota; that is the client's again.
    NotUpgraded,
    /// It is over, and its name is free.
    Ended(End),
}

/// What a parent says as a server of what it has learned as a client.
impl From<News> for Response {
    fn from(news: News) -> Response {
        match news {
            News::Ready(cap) => Response::Ready(cap),
            News::Upgraded => Response::Upgraded,
            News::NotUpgraded => Response::NotUpgraded,
            News::Ended(End::Denied) => Response::Denied,
            News::Ended(End::Short(shortage)) => Response::Short(shortage),
            News::Ended(End::Incompatible(version)) => Response::Incompatible(version),
            News::Ended(End::Gone) => Response::Gone,
            News::Ended(End::Closed) => Response::Closed,
        }
    }
}

/// What a parent tells a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// News of a session of which it is the client.
    Session(SessionId, News),
    /// It is to create a session.
    Create(Request),
    /// A session that it serves has so much now, all told.
    Upgrade(SessionId, Quota),
    /// It is to close a session. If it knows none of that name, that is closed, too.
    Close(SessionId),
    /// It has more quota.
    Granted,
    /// It is asked to free so much and to say when it has.
    Yield(Quota),
    /// It is asked whether it lives.
    Heartbeat,
}

/// Why a call has no effect.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Refusal {
    /// The component has ended, or never was.
    #[error("it does not run")]
    Dead,
    /// It is not to serve this.
    #[error("it announces a service that it is not to provide")]
    NotProvided,
    /// It has a session of that name, or one of which it has not fetched the end.
    #[error("it uses the name of a session twice")]
    Twice,
    /// It has no such session.
    #[error("it names a session that it does not have")]
    Unknown,
    /// The session is not in a state for that.
    #[error("it does with a session what cannot be done now")]
    Phase,
    /// It has as many sessions as it may have, or as many that are not answered.
    #[error("it has as many sessions as it may")]
    TooMany,
    /// No route leads there, or to nobody who could serve.
    #[error("there is no route")]
    Denied,
    /// It has less than it wants to donate, or donates less than the parent takes for its own books.
    #[error("it has too little quota")]
    Short(Shortage),
}
