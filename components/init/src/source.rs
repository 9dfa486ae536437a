//! A configuration that is a ROM, and changes.

use crate::{AGAIN, Init, kernel, now};
use rt::Semaphore;
use rt::dataspace::attach;
use rt::rpc::{Held, Portal};
use rt::session::{self, Session};
use services::rm::Attr;
use services::{Rom, RomClient};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Longest configuration in bytes.
const LONGEST: usize = 256 << 10;

/// The configuration where it comes as a ROM, as it is now; nothing as long as there is none.
fn read(rom: &RomClient<Portal>) -> Result<Option<String>, Box<dyn Error>> {
    let Some(cap) = rom.dataspace()? else { return Ok(None) };
    let held = Held::adopt(cap);
    let attached = attach(*held, Attr::READ).map_err(|e| e.to_string())?;
    let size = usize::try_from(rom.size()?).unwrap_or(usize::MAX);
    if size > LONGEST {
        return Err(format!("config: {size} bytes are more than {LONGEST}").into());
    }
    let mut bytes: Vec<u8> =
        attached.words().iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(size);
    Ok(Some(String::from_utf8(bytes).map_err(|_| "config: not UTF-8")?))
}

/// Follows a ROM that changes, through all lives of its server.
pub fn follow(init: &'static Init, mut rom: Session<dyn Rom>) -> Result<(), Box<dyn Error>> {
    let changed = Arc::new(Semaphore::new(0));
    let raised = Arc::clone(&changed);
    let context = init.at.context(move || raised.up()).map_err(kernel)?;
    loop {
        let client = RomClient::new(rom.portal());
        client.sigh(context.signal())?;
        let mut there = true;
        while there {
            match read(&client) {
                Ok(Some(text)) => init.renew(&text)?,
                Ok(None) => {}
                Err(e) => println!("{e}"),
            }
            // That its server has died nobody is told who does not call it.
            while there && !changed.down_until(rt::time::tsc_from_ns(now().saturating_add(AGAIN))) {
                there = client.size().is_ok();
            }
            there = there && client.update().is_ok();
        }
        rom = session::open::<dyn Rom>(parent::CONFIG_ROM, &[])?;
    }
}
