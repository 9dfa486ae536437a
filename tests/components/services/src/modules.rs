//! Readers of boot modules.

use crate::{Outcome, equal, text};
use rpc::Cap;
use rt::dataspace::{AttachError, attach, pd};
use rt::roms::{self, Rom};
use rt::rpc::Held;
use rt::session;
use services::parent::Refusal;
use services::pd::NotYours;
use services::rm::{Attr, NotAttachedReason};
use services::{Dataspace, RomClient};
use std::borrow::Cow;

/// A later version of the interface.
mod newer {
    /// A module.
    #[allow(dead_code, reason = "nobody gets that far")]
    #[rpc::interface(version = "2.0", ram = "0", caps = 2)]
    pub trait Rom {
        /// Its length.
        fn size(&mut self) -> u64;
    }
}

/// A session of one's own, and its dataspace.
type Opened = (session::Session<dyn services::Rom>, Held<Cap<dyn Dataspace>>);

fn dataspace(label: &str) -> Result<Opened, String> {
    let session = session::open::<dyn services::Rom>(label, &[]).map_err(text)?;
    let cap = RomClient::new(session.portal()).dataspace().map_err(text)?.ok_or("no dataspace")?;
    Ok((session, Held::adopt(cap)))
}

/// RAM and capabilities: limits, and what is used.
fn quota() -> Result<[u64; 4], String> {
    let (ram, caps) = (pd().ram().map_err(text)?, pd().caps().map_err(text)?);
    Ok([ram.limit, ram.used, caps.limit, caps.used])
}

/// A boot module by a session is what it is as a ROM of the start, and nobody can do more than read it.
pub fn show() -> Outcome {
    let wanted = rt::rom("services-test").ok_or("no ROM `services-test` from the start")?;
    let before = quota()?;
    for round in 0..20 {
        let mut rom = Rom::open("program").map_err(text)?;
        equal("size", rom.size(), wanted.len())?;
        rom.update().map_err(text)?;
        equal(&format!("the same bytes, round {round}"), &*rom.content() == wanted, true)?;
        equal("where they are", matches!(rom.content(), Cow::Borrowed(_)), true)?;
        let used = quota()?;
        equal("RAM that it costs", (before[0] - used[0], used[1]), (0, before[1]))?;
        equal("capabilities that it costs", (before[2] - used[2], used[3]), (2, before[3]))?;
    }
    let (session, cap) = dataspace("program")?;
    let whole = attach(*cap, Attr::READ).map_err(text)?;
    let behind = whole.bytes().ok_or("no ROM")?.get(wanted.len()..).ok_or("a short dataspace")?;
    equal("bytes behind it that are not 0", behind.iter().filter(|b| **b != 0).count(), 0)?;
    match attach(*cap, Attr::WRITE) {
        Err(AttachError::Refused(e)) => equal("to be written", e.why, NotAttachedReason::ReadOnly)?,
        other => return Err(format!("to be written: {other:?}")),
    }
    equal("free", pd().free(*cap).map_err(text)?, Err(NotYours::NotYours))?;
    equal("withdraw", pd().withdraw(*cap).map_err(text)?, Err(NotYours::NotYours))?;
    drop(session);
    equal("attached it stays", whole.bytes().map(|b| &b[..4]), Some(&wanted[..4]))?;
    // The parent keeps what it has told last until it tells something else. No capability, as that would be in the same place.
    version("program")?;
    equal("after its session nobody attaches it", attach(*cap, Attr::READ).is_err(), true)
}

fn refused(label: &str) -> Result<session::Error, String> {
    match Rom::open(label) {
        Err(roms::Error::Session(e)) => Ok(e),
        other => Err(format!("{label}: {other:?}")),
    }
}

/// What is not there, what is not for us, what is of another version.
pub fn refusals() -> Outcome {
    for _ in 0..4 {
        equal("no such module", refused("realmode")?, session::Error::Denied)?;
    }
    equal("the root task", refused("core")?, session::Error::Denied)?;
    equal("denied by name", refused("system")?, session::Error::Refused(Refusal::Denied))?;
    equal("no rule", refused("program")?, session::Error::Refused(Refusal::Denied))?;
    version("core")
}

fn version(label: &str) -> Outcome {
    match session::open::<dyn newer::Rom>(label, &[]) {
        Err(e @ session::Error::Incompatible { .. }) => {
            equal("both are named", e.to_string(), "Rom: the server has version 1.0, this was built against 2.0".into())
        }
        other => Err(format!("another version: {other:?}")),
    }
}
