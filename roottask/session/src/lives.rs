//! What a parent does about starts and ends of its children: heartbeats, restarts with growing delays, crash loops.
//!
//! Methods of [`Turn`].

use crate::Time;
use crate::bank::Bank;
use crate::protocol::Refusal;
use crate::route::Routes;
use crate::spec::Spec;
use crate::turn::{Cause, Child, Effect, Life, State, Turn};

/// So many heartbeats that are not answered are worth a line, of a child that is not stopped before.
const SILENT: u32 = 3;
/// First and longest delay after a start that failed, where no longer one is asked for: what is missing is so for a moment, or for
/// long, and never comes at once.
const PAUSE: (Time, Time) = (100_000_000, 10_000_000_000);

impl<B: Bank + ?Sized> Turn<'_, B> {
    /// A new child, which starts as soon as there is quota for it. Returns its number, which is never another's; `None`
    /// if there is one of that name.
    pub fn add(&mut self, spec: Spec) -> Option<usize> {
        if self.parent.child(&spec.name).is_some() {
            return None;
        }
        let index = self.parent.number() as usize;
        self.parent.children.insert(index, Child::new(spec, State::Due(self.now)));
        self.start(index);
        Some(index)
    }

    /// Ends a child for good; it is forgotten.
    pub fn remove(&mut self, index: usize) {
        self.stop(index, Cause::Asked, State::Ended(Cause::Asked));
        self.parent.children.remove(&index);
        self.find_servers();
    }

    /// Another description of a child, which is started anew with it. It keeps its place and its name.
    pub fn replace(&mut self, index: usize, spec: Spec) {
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        child.spec = Spec { name: child.spec.name, ..spec };
        self.restart(index);
    }

    /// Ends a child if it runs, and starts it at once; a crash loop is forgotten.
    pub fn restart(&mut self, index: usize) {
        let due = State::Due(self.now);
        self.stop(index, Cause::Asked, due);
        if let Some(child) = self.parent.children.get_mut(&index) {
            child.failures = 0;
            child.state = due;
        }
        self.find_servers();
        self.start(index);
    }

    /// Other routes for a child. Requests that wait follow them; open sessions that are elsewhere by them are closed: to
    /// their client they are gone.
    pub fn reroute(&mut self, index: usize, routes: Routes) {
        if let Some(child) = self.parent.children.get(&index) {
            let spec = Spec { routes, ..child.spec.clone() };
            self.revise(index, spec);
        }
    }

    /// Another description of a child that goes on as it is, under its name. As [`reroute`](Self::reroute), also for sessions of
    /// services that it is not to provide any more; its quota as [`set_quota`](Self::set_quota) if that is another one.
    pub fn revise(&mut self, index: usize, spec: Spec) {
        let now = self.now;
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        let Spec { name, quota: had, heartbeat, .. } = child.spec;
        let quota = spec.quota;
        child.announced.retain(|service| spec.provides.contains(service));
        if spec.heartbeat != heartbeat {
            child.unanswered = 0;
            child.beat_at = now.saturating_add(spec.heartbeat.map_or(0, |heartbeat| heartbeat.every));
        }
        child.spec = Spec { name, quota: had, ..spec };
        self.close_astray();
        self.find_servers();
        if quota != had {
            self.set_quota(index, quota);
        }
    }

    /// A child has ended, or has to.
    pub(crate) fn end(&mut self, index: usize, cause: Cause) -> Result<(), Refusal> {
        let now = self.now;
        let child = self.parent.children.get_mut(&index).ok_or(Refusal::Dead)?;
        let restart = child.spec.restart;
        if now.saturating_sub(child.started_at) >= restart.calm {
            child.failures = 0;
        }
        let stays = cause == Cause::Exit(0) && !restart.after_exit || child.failures >= restart.tries;
        let next = if stays { State::Ended(cause) } else { State::Due(now.saturating_add(delay(child, cause))) };
        let looped = stays && child.failures > 0 && cause != Cause::Exit(0);
        child.failures += u32::from(!stays);
        let fate = match next {
            State::Due(at) => format!("is started again in {} ms", at.saturating_sub(now) / 1_000_000),
            _ if looped => format!("stays down after {} tries in a row", child.failures),
            _ => "stays down".into(),
        };
        self.log(index, format!("{}, {fate}", describe(cause)));
        self.stop(index, cause, next);
        self.find_servers();
        self.start_due();
        self.grant_all();
        Ok(())
    }

    /// Ends a life. All that the child has is this parent's again.
    fn stop(&mut self, index: usize, cause: Cause, next: State) {
        let Some(child) = self.parent.children.get_mut(&index).filter(|child| child.runs()) else { return };
        let life = Life { child: index, number: child.life };
        child.state = next;
        child.announced.clear();
        child.want = None;
        if let Some(closed) = child.account.take().and_then(|account| self.bank.close(account).ok()) {
            child.peak = child.peak.with(closed.peak);
        }
        self.push(Effect::Stop(life, cause));
        self.server_died(index, matches!(next, State::Due(_)));
        self.client_died(index);
    }

    pub(crate) fn start_due(&mut self) {
        let due: Vec<usize> = self.parent.children.keys().copied().collect();
        due.into_iter().for_each(|index| self.start(index));
    }

    /// Starts a child if it is due and there is quota for it.
    pub(crate) fn start(&mut self, index: usize) {
        let (now, own, spare) = (self.now, self.parent.settings.account, self.spare());
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        if !matches!(child.state, State::Due(at) if at <= now) {
            return;
        }
        let quota = child.spec.quota;
        let opened = if spare.lacks(quota).is_none() { self.bank.open(own, quota).ok() } else { None };
        let Some(account) = opened else {
            if !std::mem::replace(&mut child.said, true) {
                self.log(index, format!("cannot start: it is to have {quota}, and {spare} are left"));
            }
            return;
        };
        let number = self.parent.number();
        let Some(child) = self.parent.children.get_mut(&index) else { return };
        let heartbeat = child.spec.heartbeat.map_or(0, |heartbeat| heartbeat.every);
        let (spec, peak, failures) = (child.spec.clone(), child.peak, child.failures);
        *child = Child {
            life: number,
            account: Some(account),
            peak,
            failures,
            started_at: now,
            beat_at: now.saturating_add(heartbeat),
            ..Child::new(spec, State::Running)
        };
        self.push(Effect::Start(Life { child: index, number }, account));
    }

    pub(crate) fn alive(&mut self, index: usize) -> Result<(), Refusal> {
        let child = self.parent.children.get_mut(&index).ok_or(Refusal::Dead)?;
        let missed = std::mem::take(&mut child.unanswered).saturating_sub(1);
        if missed >= SILENT {
            self.log(index, format!("answers again, {missed} heartbeats late"));
        }
        Ok(())
    }

    /// Asks who is to be asked, and ends who did not answer.
    pub(crate) fn beat(&mut self) {
        let now = self.now;
        let due = |child: &Child| child.runs() && child.spec.heartbeat.is_some() && child.beat_at <= now;
        let due: Vec<usize> = self.parent.children().filter(|(_, child)| due(child)).map(|(index, _)| index).collect();
        for index in due {
            let Some(child) = self.parent.children.get_mut(&index) else { continue };
            let Some(heartbeat) = child.spec.heartbeat else { continue };
            if child.unanswered > heartbeat.missed {
                let _ = self.end(index, Cause::Heartbeat);
                continue;
            }
            let missed = child.unanswered;
            child.unanswered = missed.saturating_add(1);
            child.tell_beat = true;
            child.beat_at = now.saturating_add(heartbeat.every);
            if missed == SILENT {
                self.log(index, format!("has not answered {missed} heartbeats"));
            }
            self.signal(index);
        }
    }
}

/// How long to wait before a child is started again: twice as long after each failure.
fn delay(child: &Child, cause: Cause) -> Time {
    let restart = child.spec.restart;
    let (first, longest) = match cause {
        Cause::NotStarted if restart.first < PAUSE.0 => PAUSE,
        _ => (restart.first, restart.longest),
    };
    // More doublings than a time has bits are too many, but for no delay at all.
    let times = 1u64.checked_shl(child.failures).unwrap_or(u64::MAX);
    first.saturating_mul(times).min(longest)
}

fn describe(cause: Cause) -> String {
    match cause {
        Cause::Exit(code) => format!("exit code {code}"),
        Cause::Fault => "stopped after a fault".into(),
        Cause::Heartbeat => "stopped, as it did not answer heartbeats".into(),
        Cause::Owes => "stopped, as it kept what others had donated".into(),
        Cause::NotStarted => "could not be started".into(),
        Cause::Asked => "stopped".into(),
    }
}
