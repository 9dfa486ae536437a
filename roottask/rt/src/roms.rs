//! ROMs by sessions: boot modules, files, reports, whoever serves them. Those that the description of the component names
//! are there from its start on: [`rom`](fn@crate::rom).
//!
//! Key type: [`Rom`].

use crate::dataspace::{AttachError, Attached, attach};
use crate::rpc::{Held, Portal};
use crate::session::{self, Amount, Session};
use abi::PAGE_SIZE;
use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::Ordering;
use rpc::{Interface, Signal};
use services::RomClient;
use services::rm::Attr;

/// Why there is no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no session, or it cannot be paid.
    Session(session::Error),
    /// The server does not answer.
    Call(rpc::Error),
    /// What it has given cannot be attached.
    Attach(AttachError),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Session(e) => e.fmt(f),
            Error::Call(e) => e.fmt(f),
            Error::Attach(e) => e.fmt(f),
        }
    }
}

impl core::error::Error for Error {}

/// A ROM, as it was when it was opened or updated last.
#[derive(Debug)]
pub struct Rom {
    // First, so that it is detached before the session is closed.
    attached: Option<Attached>,
    size: usize,
    session: Session<dyn services::Rom>,
    /// RAM that was donated, in bytes.
    donated: u64,
}

impl Rom {
    /// Opens the ROM of that label, and attaches what is in it. What the server keeps of it for us is donated.
    pub fn open(label: &str) -> Result<Rom, Error> {
        let session = session::open::<dyn services::Rom>(label, &[]).map_err(Error::Session)?;
        let donated = <dyn services::Rom>::TABLE.cost.ram;
        let mut rom = Rom { attached: None, size: 0, session, donated };
        rom.attach()?;
        Ok(rom)
    }

    fn client(&self) -> RomClient<Portal> {
        RomClient::new(self.session.portal())
    }

    /// Attaches the dataspace that there is now.
    fn attach(&mut self) -> Result<(), Error> {
        // In this order: nobody shows two.
        self.attached = None;
        self.size = 0;
        let client = self.client();
        let size = client.size().map_err(Error::Call)?;
        if size == 0 {
            return Ok(());
        }
        let mut dataspace = client.dataspace().map_err(Error::Call)?;
        let more = size.next_multiple_of(PAGE_SIZE as u64).saturating_sub(self.donated);
        if dataspace.is_none() && more > 0 {
            self.session.upgrade(Amount { ram: more, caps: 0 }).map_err(Error::Session)?;
            self.donated += more;
            dataspace = client.dataspace().map_err(Error::Call)?;
        }
        let Some(dataspace) = dataspace.map(Held::adopt) else { return Ok(()) };
        let attached = attach(*dataspace, Attr::READ).map_err(Error::Attach)?;
        // Whatever it says, no more than there is.
        self.size = usize::try_from(size).unwrap_or(usize::MAX).min(attached.size());
        self.attached = Some(attached);
        Ok(())
    }

    /// Bytes of the content; 0: there is none yet, or no more.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The content: where it is, if it is a boot module, else a copy of what its server may write.
    pub fn content(&self) -> Cow<'_, [u8]> {
        let Some(attached) = &self.attached else { return Cow::Borrowed(&[]) };
        match attached.bytes() {
            Some(bytes) => Cow::Borrowed(&bytes[..self.size]),
            None => {
                let words = attached.words().iter().take(self.size.div_ceil(8));
                let mut copy: Vec<u8> = words.flat_map(|w| w.load(Ordering::Relaxed).to_ne_bytes()).collect();
                copy.truncate(self.size);
                Cow::Owned(copy)
            }
        }
    }

    /// Has a signal raised when there is something new.
    pub fn sigh(&self, signal: Signal) -> Result<(), Error> {
        self.client().sigh(signal).map_err(Error::Call)
    }

    /// Takes what is new.
    pub fn update(&mut self) -> Result<(), Error> {
        let same = self.client().update().map_err(Error::Call)?;
        if same && self.attached.is_some() {
            let size = self.client().size().map_err(Error::Call)?;
            self.size =
                usize::try_from(size).unwrap_or(usize::MAX).min(self.attached.as_ref().map_or(0, Attached::size));
            return Ok(());
        }
        self.attach()
    }
}
