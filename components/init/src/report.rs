//! What an init says of its state: TOML, with as much as its configuration asks for.
//!
//! ```toml
//! [[child]]
//! name = "shell"
//! state = "running"          # or "waits" for its start, or "ended"
//! exit_code = 0              # of who said so itself
//! ```
//!
//! Each word of `show` adds to that: [`Show`].

use crate::house::House;
use init::Show;
use session::{Account, Args, Bank, Cause, Party, Phase, Quota, SessionView, State};
use toml::{Table, Value};

fn number(n: u64) -> Value {
    i64::try_from(n).unwrap_or(i64::MAX).into()
}

fn list<T: Into<Value>>(all: impl IntoIterator<Item = T>) -> Value {
    Value::Array(all.into_iter().map(Into::into).collect())
}

/// One currency of an account.
fn currency(a: &Account, of: fn(Quota) -> u64, peaks: bool) -> Value {
    let mut t = Table::new();
    let mut put = |key: &str, quota| _ = t.insert(key.into(), number(of(quota)));
    put("granted", a.granted);
    put("limit", a.limit);
    put("used", a.used);
    if peaks {
        put("peak", a.peak.used);
        put("enough", a.peak.enough);
    }
    t.into()
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waits",
        Phase::CreateRequested => "requested",
        Phase::Available | Phase::HandedOut | Phase::UpgradeRequested => "open",
        Phase::CloseRequested => "closing",
        Phase::Settling(_) | Phase::Ended(_) => "over",
    }
}

fn hex(args: &Args) -> String {
    args.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl House {
    /// The report that its configuration asks for; `None`: none.
    pub fn report<B: Bank>(&self, bank: &B) -> Option<String> {
        let show = &self.config().report.as_ref()?.show;
        let shows = |what| show.contains(&what);
        let mut all = Table::new();
        let children = self.parent().children().map(|(index, child)| {
            let mut t = Table::new();
            t.insert("name".into(), child.spec.name.as_str().into());
            let state = match child.state {
                State::Running => "running",
                State::Due(_) => "waits",
                State::Ended(_) => "ended",
            };
            t.insert("state".into(), state.into());
            if let State::Ended(Cause::Exit(code)) = child.state {
                t.insert("exit_code".into(), number(code));
            }
            if let Some(version) = self.version(&child.spec.name) {
                t.insert("version".into(), version.into());
            }
            if shows(Show::Identifiers) {
                t.insert("id".into(), number(index as u64));
                t.insert("life".into(), number(child.life));
            }
            if shows(Show::Provided) {
                t.insert("provided".into(), list(child.announced.iter().map(|service| service.as_str())));
            }
            let account = child.account.and_then(|account| bank.account(account).ok());
            if let Some(a) = account.filter(|_| shows(Show::ChildRam)) {
                t.insert("ram".into(), currency(&a, |q| q.ram(), shows(Show::Peaks)));
            }
            if let Some(a) = account.filter(|_| shows(Show::ChildCaps)) {
                t.insert("caps".into(), currency(&a, |q| q.caps(), shows(Show::Peaks)));
            }
            if shows(Show::Requested) {
                let own = self.parent().sessions().filter(|s| s.client == Some(Party::Child(index)));
                t.insert("session".into(), list(own.filter_map(|s| self.session(&s, &shows))));
            }
            t
        });
        all.insert("child".into(), list(children.collect::<Vec<_>>()));
        if let Ok(a) = bank.account(self.account()) {
            if shows(Show::InitRam) {
                all.insert("ram".into(), currency(&a, |q| q.ram(), shows(Show::Peaks)));
            }
            if shows(Show::InitCaps) {
                all.insert("caps".into(), currency(&a, |q| q.caps(), shows(Show::Peaks)));
            }
        }
        toml::to_string(&all).ok()
    }

    fn session(&self, s: &SessionView, shows: &impl Fn(Show) -> bool) -> Option<Table> {
        let request = self.parent().request_of(s.number)?;
        let mut t = Table::new();
        t.insert("service".into(), request.service.as_str().into());
        t.insert("label".into(), request.label.as_str().into());
        t.insert("state".into(), phase(s.phase).into());
        let server = match s.server {
            Some(Party::Child(index)) => self.parent().children().find(|(i, _)| *i == index).map(|(_, c)| c.spec.name),
            _ => None,
        };
        let server = match (server, s.server) {
            (Some(name), _) => Some(name.as_str().to_string()),
            (None, Some(Party::Above)) => Some("parent".into()),
            _ => None,
        };
        if let Some(server) = server {
            t.insert("server".into(), server.into());
        }
        if shows(Show::Identifiers) {
            t.insert("id".into(), number(s.number));
        }
        if shows(Show::Arguments) {
            t.insert("arguments".into(), hex(&request.args).into());
        }
        if shows(Show::ChildRam) {
            t.insert("ram".into(), number(s.donation.ram()));
        }
        if shows(Show::ChildCaps) {
            t.insert("caps".into(), number(s.donation.caps()));
        }
        Some(t)
    }
}
