//! Who reports to a report store, and who reads that as a ROM.

use crate::{Outcome, equal, text};
use rpc::Bytes;
use rt::Semaphore;
use rt::roms::{self, Rom};
use rt::rpc::{Entrypoint, Portal};
use rt::session::{self, Amount};
use services::report::{PART, ReportError};
use services::{Report, ReportClient};
use std::sync::Arc;
use std::time::Duration;

/// How many states are reported.
const STATES: u32 = 5;

fn append(report: &ReportClient<Portal>, part: &[u8]) -> Result<Result<(), ReportError>, String> {
    report.append(Bytes::new(part).ok_or("a part is too long")?).map_err(text)
}

fn say(report: &ReportClient<Portal>, what: &str) -> Outcome {
    for part in what.as_bytes().chunks(PART) {
        append(report, part)?.map_err(text)?;
    }
    report.submit().map_err(text)
}

/// More than was paid for is refused, more than the store takes, too, and nothing of it is left; then come states.
pub fn report() -> Outcome {
    let session = session::open::<dyn Report>("devices", &[]).map_err(text)?;
    let report = ReportClient::new(session.portal());
    let part = [b'x'; PART];
    // Of 16 KiB a half of what is left without 4.
    let fit = (0..).find_map(|n| append(&report, &part).map(|r| r.err().map(|e| (n, e))).transpose());
    equal("parts that were paid for", fit.transpose()?, Some((3, ReportError::Unpaid)))?;
    session.upgrade(Amount { ram: 16 << 10, caps: 0 }).map_err(text)?;
    let fit = (0..).find_map(|n| append(&report, &part).map(|r| r.err().map(|e| (n, e))).transpose());
    equal("parts that the store takes", fit.transpose()?, Some((4, ReportError::TooLong)))?;
    let second = session::open::<dyn Report>("devices", &[]).map(drop);
    equal("the same label once more", second, Err(session::Error::Denied))?;
    for state in 1..=STATES {
        // A part of it is no report.
        append(&report, b"sta")?.map_err(text)?;
        std::thread::sleep(Duration::from_millis(100));
        say(&report, &format!("te {state}{}", "x".repeat(4096 * (state as usize % 2))))?;
    }
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Sees each state whole, none twice, the last one, and that nothing is there when who reported has gone.
pub fn watch() -> Outcome {
    let denied = Rom::open("nothing").map(drop);
    equal("without a rule", denied, Err(roms::Error::Session(session::Error::Denied)))?;
    let told = Arc::new(Semaphore::new(0));
    let raised = Arc::clone(&told);
    let at = Entrypoint::new(rt::thread::cpu(), 16 << 10).map_err(text)?;
    let context = at.context(move || raised.up()).map_err(text)?;
    let mut rom = Rom::open("devices").map_err(text)?;
    rom.sigh(context.signal()).map_err(text)?;
    let (mut before, mut seen) = (0, Vec::new());
    loop {
        rom.update().map_err(text)?;
        let content = rom.content().into_owned();
        let words = String::from_utf8(content).map_err(text)?;
        if let Some(rest) = words.strip_prefix("state ") {
            let state: u32 = rest.trim_end_matches('x').parse().map_err(text)?;
            let wanted = format!("{state}{}", "x".repeat(4096 * (state as usize % 2)));
            equal(&format!("all of state {state}"), rest == wanted, true)?;
            // It is told of changes, so there are some.
            equal(&format!("state {state} after {before}"), state >= before, true)?;
            before = state;
            seen.push(state);
        } else if before == STATES {
            equal("after the last one", words.as_str(), "")?;
            break;
        } else {
            equal("before the first one", (words.as_str(), before), ("", 0))?;
        }
        told.down_zero();
    }
    println!("saw {seen:?}, then nothing");
    Ok(())
}
