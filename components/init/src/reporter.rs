//! Who reports the state.

use crate::{AGAIN, Init, lock, now};
use ::session::Time;
use rpc::Bytes;
use rt::session::{self, Session};
use services::{Report, ReportClient};
use std::time::Duration;

/// How long who takes reports may let us wait for a session, in ns.
const PATIENCE: Time = 5_000_000_000;

/// Reports the state when it has changed, for as long as the program runs. Why that is not so is said once.
pub fn report(init: &'static Init) {
    let mut said = String::new();
    loop {
        let late = rt::time::tsc_from_ns(now().saturating_add(PATIENCE));
        let session = session::open_until::<dyn Report>("state", &[], late).map_err(|e| e.to_string());
        if session.is_ok() {
            said.clear();
        }
        if let Err(e) = session.and_then(|s| reports(init, &s))
            && e != said
        {
            println!("no report of the state: {e}");
            said = e;
        }
        std::thread::sleep(Duration::from_nanos(AGAIN));
    }
}

/// Until the session is gone.
fn reports(init: &'static Init, session: &Session<dyn Report>) -> Result<(), String> {
    let client = ReportClient::new(session.portal());
    let mut last = String::new();
    loop {
        let (text, report) = {
            let state = lock(&init.state);
            (state.house.report(&state.bank), state.house.config().report.clone())
        };
        let period = report.as_ref().map_or(0, |r| r.every.ms());
        let fits = report.is_some_and(|r| r.buffer.bytes() >= text.as_ref().map_or(0, String::len) as u64);
        if let Some(text) = text.filter(|text| fits && *text != last) {
            for part in text.as_bytes().chunks(services::report::PART) {
                let part = Bytes::new(part).ok_or("a part too long")?;
                client.append(part).map_err(|e| e.to_string())?.map_err(|e| format!("{e:?}"))?;
            }
            client.submit().map_err(|e| e.to_string())?;
            last = text;
        }
        std::thread::sleep(Duration::from_millis(period.max(1)));
        init.changed.down_until(rt::time::tsc_from_ns(now().saturating_add(AGAIN)));
    }
}
