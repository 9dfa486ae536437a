//! Who reads what a log collector keeps.

use crate::{Outcome, equal, text};
use rt::Semaphore;
use rt::rpc::Entrypoint;
use rt::session;
use services::{Journal, JournalClient};
use std::sync::Arc;

/// How many lines are waited for.
const LINES: u64 = 5;

/// Each line comes once, in order, with its number, label and time; of new ones a signal tells; a second session reads the same.
pub fn read() -> Outcome {
    let told = Arc::new(Semaphore::new(0));
    let raised = Arc::clone(&told);
    let at = Entrypoint::new(rt::thread::cpu(), 16 << 10).map_err(text)?;
    let context = at.context(move || raised.up()).map_err(text)?;
    let session = session::open::<dyn Journal>("", &[]).map_err(text)?;
    let journal = JournalClient::new(session.portal());
    journal.heed(context.signal()).map_err(text)?;
    let (mut number, mut time, mut signals) = (0, 0, 0);
    while number < LINES {
        let Some(line) = journal.line(number).map_err(text)? else {
            equal("the number to come", journal.next().map_err(text)? >= number, true)?;
            told.down_zero();
            signals += 1;
            continue;
        };
        equal("number", line.number, number)?;
        equal("label", line.label.as_str(), "witness")?;
        equal("text", line.text.as_str(), format!("tick {}", number + 1).as_str())?;
        equal("time does not go back", line.us >= time, true)?;
        (number, time) = (number + 1, line.us);
    }
    equal("told of new lines", signals > 0, true)?;
    let second = session::open::<dyn Journal>("", &[]).map_err(text)?;
    let first = JournalClient::new(second.portal()).line(0).map_err(text)?;
    equal("the first line, read by another session", first.map(|l| l.text.as_str() == "tick 1"), Some(true))
}
