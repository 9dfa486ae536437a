//! What a parent does when a session is over, and when a client or a server has died: all that was donated goes back.
//!
//! Methods of [`Turn`]; who asked for the end is in `requests` and `lives`.

use crate::bank::Bank;
use crate::protocol::{End, SessionId};
use crate::quota::Quota;
use crate::session::{Event, Party, Phase, Session};
use crate::turn::{Cause, Turn};

impl<B: Bank + ?Sized> Turn<'_, B> {
    /// Takes the donation of a session that is over back from the server, and gives it to the client. If the server has
    /// kept some, that is cut from its own account; what is not free there either it owes, and the session stays so
    /// long.
    pub(crate) fn settle(&mut self, number: SessionId) {
        let own = self.parent.settings.account;
        let Some(session) = self.parent.sessions.get(&number).filter(|s| matches!(s.phase, Phase::Settling(_))) else {
            return;
        };
        let (client, server, donation) = (session.client, session.server, session.asked.donation);
        let mut owed = session.at_server;
        match self.account(server) {
            Some(account) => {
                let free = owed.least(self.bank.free(account));
                if self.bank.transfer(account, own, free).is_ok() {
                    owed = owed.without(free);
                }
            }
            // It is dead, or above, from where the donation is back already.
            None => owed = Quota::NONE,
        }
        self.owes(number, owed);
        if !owed.is_none() {
            return;
        }
        let account = self.account(client);
        if account.is_none_or(|account| self.bank.transfer(own, account, donation).is_ok()) {
            // Cannot fail: it is settling.
            let _ = self.happen(number, Event::Settled);
        }
    }

    fn owes(&mut self, number: SessionId, owed: Quota) {
        let Some(session) = self.parent.sessions.get_mut(&number) else { return };
        session.at_server = owed;
        if let (false, false, Some(Party::Child(index))) = (owed.is_none(), session.blamed, session.server) {
            session.blamed = true;
            let text =
                format!("keeps {owed} of what was donated for `{}`; it is taken as it is freed", session.there.label);
            self.complain(index, text);
        }
    }

    pub(crate) fn settle_all(&mut self) {
        for number in self.numbers(|s| matches!(s.phase, Phase::Settling(_))) {
            self.settle(number);
        }
    }

    /// Ends sessions whose servers do not close them in time.
    pub(crate) fn force_closes(&mut self) {
        let (now, patience) = (self.now, self.parent.settings.patience);
        let late = |s: &Session| s.phase == Phase::CloseRequested && now.saturating_sub(s.since) >= patience;
        // Who is above has a patience of its own.
        for number in self.numbers(|s| late(s) && s.server != Some(Party::Above)) {
            if let Some((Some(Party::Child(index)), label)) =
                self.parent.sessions.get(&number).map(|s| (s.server, s.there.label.clone()))
            {
                self.complain(index, format!("does not close `{label}`; it is closed without it"));
            }
            let _ = self.happen(number, Event::End(End::Closed));
        }
    }

    /// Ends who owes what was donated for too long: then it is back.
    pub(crate) fn stop_debtors(&mut self) {
        let (now, patience) = (self.now, self.parent.settings.patience);
        let late = |s: &Session| matches!(s.phase, Phase::Settling(_)) && now.saturating_sub(s.since) >= patience;
        for number in self.numbers(|s| late(s) && !s.at_server.is_none()) {
            // It may have ended for another session of these.
            if let Some(Some(Party::Child(index))) =
                self.parent.sessions.get(&number).filter(|s| !s.at_server.is_none()).map(|s| s.server)
            {
                let _ = self.end(index, Cause::Owes);
            }
        }
    }

    /// A child is dead and its account closed: what it served is gone, unless it is to be created by its next life.
    pub(crate) fn server_died(&mut self, index: usize, again: bool) {
        for number in self.numbers(|s| s.server == Some(Party::Child(index))) {
            if let Some(session) = self.parent.sessions.get_mut(&number) {
                session.at_server = Quota::NONE;
                if session.phase.over() {
                    self.settle(number);
                } else {
                    let _ = self.happen(number, if again { Event::Lost } else { Event::End(End::Gone) });
                }
            }
        }
    }

    /// A child is dead and its account closed: its sessions are closed for it, and what comes back is this parent's.
    pub(crate) fn client_died(&mut self, index: usize) {
        for number in self.numbers(|s| s.client == Some(Party::Child(index))) {
            if let Some(session) = self.parent.sessions.get_mut(&number) {
                session.client = None;
                session.news = None;
                match session.phase {
                    Phase::Ended(_) => drop(self.parent.sessions.remove(&number)),
                    // Refused if it is closing already.
                    _ => drop(self.happen(number, Event::Close)),
                }
            }
        }
        self.settle_all();
    }
}
