//! ROMs by sessions: boot modules, files, reports, whoever serves them. Those that the description of the component names
//! are there from its start on: [`rom`](fn@crate::rom).
//!
//! Key types: [`Rom`]; for who serves ROMs [`Shown`], and [`Donations`].

use crate::dataspace::{AllocError, AttachError, Attached, Ram, attach};
use crate::rpc::{Held, Portal};
use crate::session::{self, Amount, Request, Session};
use abi::PAGE_SIZE;
use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use rpc::{Cap, Interface, Signal};
use services::rm::Attr;
use services::{Dataspace, RomClient};

/// Why there is no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no session, or it cannot be paid.
    Session(session::Error),
    /// The server does not answer.
    Call(rpc::Error),
    /// What it has given cannot be attached.
    Attach(AttachError),
    /// There is something, and it is paid for, but the server does not show it.
    Unreadable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Session(e) => e.fmt(f),
            Error::Call(e) => e.fmt(f),
            Error::Attach(e) => e.fmt(f),
            Error::Unreadable => f.write_str("the server cannot read it"),
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
        let more = pages(size).saturating_sub(self.donated);
        if dataspace.is_none() && more > 0 {
            self.session.upgrade(Amount { ram: more, caps: 0 }).map_err(Error::Session)?;
            self.donated += more;
            dataspace = client.dataspace().map_err(Error::Call)?;
        }
        // If it has changed in the meantime, this is the one that we have.
        let size = client.size().map_err(Error::Call)?;
        let Some(dataspace) = dataspace.map(Held::adopt) else {
            // Changed again, and longer: that has been signalled.
            let paid = pages(size) <= self.donated;
            return if size > 0 && paid { Err(Error::Unreadable) } else { Ok(()) };
        };
        let attached = attach(*dataspace, Attr::READ).map_err(Error::Attach)?;
        self.size = shown(size, &attached);
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
        if let Some(attached) = self.attached.as_ref().filter(|_| same) {
            self.size = shown(self.client().size().map_err(Error::Call)?, attached);
            return Ok(());
        }
        self.attach()
    }
}

/// What a server shows of some content to a session: a copy in RAM of the own quota, once the session has donated so much.
#[derive(Debug)]
pub struct Shown {
    copy: Option<Ram>,
    size: u64,
    /// Bytes, kept up to date by [`Donations`].
    donated: Arc<AtomicU64>,
}

/// What the sessions of a server of ROMs have donated, by their numbers.
#[derive(Debug, Default)]
pub struct Donations(BTreeMap<u64, Arc<AtomicU64>>);

impl Donations {
    /// What is shown to a session that is to be created. If it is not, it is [`closed`](Donations::closed).
    pub fn open(&mut self, request: &Request) -> Shown {
        let donated = Arc::new(AtomicU64::new(request.donation.ram));
        self.0.insert(request.id, Arc::clone(&donated));
        Shown { copy: None, size: 0, donated }
    }

    /// A session has donated so much, all told.
    pub fn upgraded(&mut self, id: u64, donated: Amount) {
        if let Some(known) = self.0.get(&id) {
            known.store(donated.ram, Ordering::Relaxed);
        }
    }

    /// A session is over.
    pub fn closed(&mut self, id: u64) {
        self.0.remove(&id);
    }
}

/// Bytes of a ROM: whatever its server says, no more than there is.
fn shown(size: u64, attached: &Attached) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX).min(attached.size())
}

fn pages(size: u64) -> u64 {
    size.next_multiple_of(PAGE_SIZE as u64)
}

/// Where content goes, piece by piece.
pub struct Sink<'a> {
    words: core::slice::Iter<'a, AtomicU64>,
    word: [u8; 8],
    filled: usize,
}

impl Sink<'_> {
    /// The next piece. What is beyond the size that was told is left out.
    pub fn put(&mut self, piece: &[u8]) {
        for &byte in piece {
            self.word[self.filled] = byte;
            self.filled += 1;
            if self.filled == self.word.len() {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if let Some(to) = self.words.next() {
            to.store(u64::from_ne_bytes(self.word), Ordering::Relaxed);
        }
        (self.word, self.filled) = ([0; 8], 0);
    }

    /// What is not content is zero.
    fn end(mut self) {
        while !self.words.as_slice().is_empty() {
            self.flush();
        }
    }
}

impl Shown {
    /// Length of what is shown, or, if that is nothing yet, of what there is.
    pub fn size(&self, there: u64) -> u64 {
        if self.copy.is_some() { self.size } else { there }
    }

    /// The dataspace of the copy. If there is none yet it is made, of `size` bytes that `fill` hands out, if the session has
    /// donated so much. `fill` says whether it could.
    pub fn dataspace(
        &mut self,
        size: u64,
        fill: impl FnOnce(&mut Sink<'_>) -> bool,
    ) -> Result<Option<Cap<dyn Dataspace>>, AllocError> {
        if self.copy.is_none() && size > 0 && pages(size) <= self.donated.load(Ordering::Relaxed) {
            let copy = Ram::new(pages(size))?;
            if !copied(&copy.attached, fill) {
                return Ok(None);
            }
            (self.copy, self.size) = (Some(copy), size);
        }
        Ok(self.copy.as_ref().map(Ram::cap))
    }

    /// Shows what there is now, in the same dataspace if it is of the right size, which is the answer; else in none, for the
    /// time being.
    pub fn update(&mut self, size: u64, fill: impl FnOnce(&mut Sink<'_>) -> bool) -> bool {
        let fits = |copy: &&Ram| size > 0 && copy.attached.size() as u64 == pages(size);
        let same = self.copy.as_ref().filter(fits).is_some_and(|copy| copied(&copy.attached, fill));
        if same {
            self.size = size;
        } else {
            self.copy = None;
        }
        same
    }
}

fn copied(to: &Attached, fill: impl FnOnce(&mut Sink<'_>) -> bool) -> bool {
    let mut sink = Sink { words: to.words().iter(), word: [0; 8], filled: 0 };
    let filled = fill(&mut sink);
    sink.end();
    filled
}
