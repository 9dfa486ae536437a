//! A reader of files out of an image.

use crate::{Outcome, equal, text};
use rt::dataspace::pd;
use rt::roms::{self, Rom};
use rt::session;
use std::borrow::Cow;

/// The content of `long` in the image.
fn long() -> Vec<u8> {
    (0..100_000u32).map(|n| (n / 7) as u8).collect()
}

fn limit() -> Result<u64, String> {
    Ok(pd().ram().map_err(text)?.limit)
}

/// Files are copies that the reader pays for, and that are paid back; what is none is denied.
pub fn read() -> Outcome {
    let before = limit()?;
    for round in 0..3 {
        let mut hello = Rom::open("boot/hello").map_err(text)?;
        equal("short", &*hello.content(), b"hello\n")?;
        hello.update().map_err(text)?;
        equal("short, updated", &*hello.content(), b"hello\n")?;
        let file = Rom::open("link").map_err(text)?;
        equal(&format!("long, by a link, round {round}"), file.content() == Cow::<[u8]>::Owned(long()), true)?;
        equal("what both cost", before - limit()?, 4096 + 100_000u64.next_multiple_of(4096))?;
        equal("nothing", Rom::open("nothing").map_err(text)?.content().len(), 0)?;
        drop((hello, file));
        // What was donated is back when the server has closed them.
        let back = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            limit() == Ok(before)
        });
        equal("all is back", back, true)?;
    }
    for name in ["boot", "boot/bye", "../long", ""] {
        let denied = Rom::open(name).map(drop);
        equal(name, denied, Err(roms::Error::Session(session::Error::Denied)))?;
    }
    Ok(())
}

/// There is nobody who could serve.
pub fn broken() -> Outcome {
    match Rom::open("boot/hello") {
        Err(roms::Error::Session(session::Error::Denied | session::Error::Refused(_))) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
