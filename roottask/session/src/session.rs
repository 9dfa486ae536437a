//! A session as the parent of its client, or of its server, keeps it.
//!
//! Key types: [`Phase`], with all that can happen to a session in one table, and `Session`. `requests` drives it.

use crate::Time;
use crate::protocol::{Cap, End, News, Request, SessionId};
use crate::quota::Quota;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Who could serve it has not announced that yet.
    Waiting,
    /// The server is to create it.
    CreateRequested,
    /// It is created; the client has not fetched that.
    Available,
    /// The client has its capability.
    HandedOut,
    /// The server is to take note of an upgrade.
    UpgradeRequested,
    /// The server is to close it.
    CloseRequested,
    /// It is over, but not all that was donated is back yet.
    Settling(End),
    /// It is over; the client has not fetched that.
    Ended(End),
}

/// What can happen to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A server was found and asked.
    Sent,
    /// The server has created it.
    Ready,
    /// The client has fetched that.
    Taken,
    /// The client donates more.
    Upgrade,
    /// The server has taken note.
    Upgraded,
    /// It did not reach the server.
    NotUpgraded,
    /// The client closes it, or has died.
    Close,
    /// The server has died and will be started again.
    Lost,
    /// The server, or its death, has ended it, or none was found.
    End(End),
    /// All that was donated is back.
    Settled,
}

impl Phase {
    /// The phase after an event; `None` if that cannot happen now: somebody lies.
    pub fn after(self, event: Event) -> Option<Phase> {
        use Event as E;
        use Phase::*;
        Some(match (self, event) {
            (Waiting, E::Sent) => CreateRequested,
            (CreateRequested, E::Lost) => Waiting,
            (CreateRequested, E::Ready) => Available,
            (Available, E::Taken) => HandedOut,
            (HandedOut, E::Upgrade) => UpgradeRequested,
            (UpgradeRequested, E::Upgraded | E::NotUpgraded) => HandedOut,
            (Waiting, E::Close) => Settling(End::Closed),
            (CreateRequested | Available | HandedOut | UpgradeRequested, E::Close) => CloseRequested,
            // What the server said before it knew that it is to be closed.
            (CloseRequested, E::Ready | E::Upgraded | E::NotUpgraded) => CloseRequested,
            (CloseRequested, E::End(_) | E::Lost) => Settling(End::Closed),
            (Waiting | CreateRequested, E::End(end @ (End::Denied | End::Short(_) | End::Incompatible(_)))) => {
                Settling(end)
            }
            (CreateRequested | Available | HandedOut | UpgradeRequested, E::End(End::Gone)) => Settling(End::Gone),
            (Available | HandedOut | UpgradeRequested, E::Lost) => Settling(End::Gone),
            (Settling(end), E::Settled) => Ended(end),
            _ => return None,
        })
    }

    /// Whether a server has been asked and nothing has come of it yet, or none has been asked.
    pub fn pending(self) -> bool {
        matches!(self, Phase::Waiting | Phase::CreateRequested)
    }

    /// Whether it is over.
    pub fn over(self) -> bool {
        matches!(self, Phase::Settling(_) | Phase::Ended(_))
    }
}

/// A client or a server, as seen by a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The parent's parent, for whoever is behind it.
    Above,
    /// The parent itself.
    Own,
    /// A child.
    Child(usize),
}

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// `None` when the client has died.
    pub client: Option<Party>,
    /// What the client calls it.
    pub name: SessionId,
    /// What the client asked for; the donation grows with upgrades.
    pub asked: Request,
    /// The same as the server sees it; its donation is what the server may use.
    pub there: Request,
    pub phase: Phase,
    /// Known from the moment on that it was asked.
    pub server: Option<Party>,
    /// How much of the donation is on the server's account.
    pub at_server: Quota,
    /// An upgrade that the server does not know of yet.
    pub more: Quota,
    pub cap: Option<Cap>,
    /// What the client has not fetched.
    pub news: Option<News>,
    /// Whether the server has not fetched the phase.
    pub tell_server: bool,
    /// When the phase began, if it is one of those that do not last for ever.
    pub since: Time,
    /// Whether the log has it that the server keeps the donation.
    pub blamed: bool,
    /// It is closed as it may not be any more: to the client it is gone.
    pub revoked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Shortage;

    const ENDS: [End; 5] =
        [End::Denied, End::Short(Shortage::Caps), End::Incompatible(1 << 16), End::Gone, End::Closed];

    fn phases() -> Vec<Phase> {
        use Phase::*;
        let open = [Waiting, CreateRequested, Available, HandedOut, UpgradeRequested, CloseRequested];
        open.into_iter().chain(ENDS.map(Settling)).chain(ENDS.map(Ended)).collect()
    }

    fn events() -> Vec<Event> {
        use Event::*;
        let plain = [Sent, Ready, Taken, Upgrade, Upgraded, NotUpgraded, Close, Lost, Settled];
        plain.into_iter().chain(ENDS.map(End)).collect()
    }

    #[test]
    fn the_life_of_a_session() {
        use Event as E;
        use Phase::*;
        let mut phase = Waiting;
        for (event, next) in [
            (E::Sent, CreateRequested),
            (E::Lost, Waiting),
            (E::Sent, CreateRequested),
            (E::Ready, Available),
            (E::Taken, HandedOut),
            (E::Upgrade, UpgradeRequested),
            (E::Upgraded, HandedOut),
            (E::Close, CloseRequested),
            (E::End(End::Closed), Settling(End::Closed)),
            (E::Settled, Ended(End::Closed)),
        ] {
            phase = phase.after(event).unwrap();
            assert_eq!(phase, next, "{event:?}");
        }
    }

    #[test]
    fn what_is_over_stays_over() {
        for phase in phases().into_iter().filter(|phase| phase.over()) {
            for event in events() {
                match (phase, phase.after(event)) {
                    (Phase::Settling(end), Some(next)) => assert_eq!(next, Phase::Ended(end), "{event:?}"),
                    (_, next) => assert_eq!(next, None, "{phase:?} {event:?}"),
                }
            }
        }
    }

    #[test]
    fn a_client_can_close_and_a_server_can_die_at_any_time() {
        for phase in phases().into_iter().filter(|phase| !phase.over()) {
            let closed = phase.after(Event::Close);
            assert_eq!(closed.is_none(), phase == Phase::CloseRequested, "{phase:?}, once");
            let lost = phase.after(Event::Lost);
            assert_eq!(lost.is_none(), phase == Phase::Waiting, "{phase:?}");
            assert_eq!(phase.after(Event::End(End::Gone)).is_none(), phase == Phase::Waiting, "{phase:?}");
        }
    }

    #[test]
    fn a_server_ends_no_session_that_a_client_uses() {
        for phase in [Phase::Available, Phase::HandedOut, Phase::UpgradeRequested] {
            for end in [End::Denied, End::Closed, End::Short(Shortage::Ram), End::Incompatible(0)] {
                assert_eq!(phase.after(Event::End(end)), None, "{phase:?} {end:?}");
            }
            assert_eq!(phase.after(Event::Ready), None, "twice");
        }
        assert!(Phase::Waiting.pending() && Phase::CreateRequested.pending() && !Phase::Available.pending());
    }
}
