//! A client of the clock driver.

use crate::{Outcome, equal, text};
use rt::session;
use services::{Rtc, RtcClient};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The root task has read the same chip, some time before the driver did.
const APART: Duration = Duration::from_secs(3);

/// The driver's time is that of the root task, its two methods agree, and it goes on and never back.
pub fn check() -> Outcome {
    let session = session::open::<dyn Rtc>("", &[]).map_err(text)?;
    let rtc = RtcClient::new(session.portal());
    let now = || rtc.unix_ns().map_err(text)?.map_err(text).map(Duration::from_nanos);
    let ours = SystemTime::now().duration_since(UNIX_EPOCH).map_err(text)?;
    let first = now()?;
    if first.abs_diff(ours) > APART {
        return Err(format!("the driver says {first:?}, the root task {ours:?} since 1970"));
    }
    let date = rtc.date().map_err(text)?.map_err(text)?;
    let of_day = [date.hour, date.minute, date.second].into_iter().fold(0, |sum, n| sum * 60 + u64::from(n));
    let behind = (of_day + 86_400 - first.as_secs() % 86_400) % 86_400;
    equal("seconds between time and date", behind <= APART.as_secs(), true)?;
    let mut before = first;
    while before.as_secs() < first.as_secs() + 2 {
        let next = now()?;
        if next < before {
            return Err(format!("{next:?} after {before:?}"));
        }
        before = next;
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("{:04}-{:02}-{:02}, and two seconds went by", date.year, date.month, date.day);
    Ok(())
}
