//! Reports, who writes them and who reads them.
//!
//! Key types: [`Store`]; [`Changed`], whom to tell.

use crate::config::Config;
use session::Label;
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// Bytes of a session's donation that are for its books and objects.
const OVERHEAD: u64 = 4 << 10;

/// Names a session of a component that reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriterId(u64);

/// Names a session of a component that reads a ROM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReaderId(u64);

/// Who is to be told that a ROM has changed.
pub type Changed = Vec<ReaderId>;

/// Why something has no effect.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum StoreError {
    /// The rules do not have it.
    #[error("no [[rom]] rule is for a ROM with the label {0:?}")]
    NoRule(String),
    /// Two sessions have the same label.
    #[error("{0:?} is reported by another session already")]
    Taken(String),
    /// As many sessions as there may be.
    #[error("there are {0} sessions already, as many as the configuration allows")]
    Full(usize),
    /// Longer than what was donated allows, or the configuration.
    #[error("{label:?}: a report of {len} bytes is too long; {max} are possible, by {limit}")]
    Long {
        /// Whose.
        label: String,
        /// How long it would be.
        len: usize,
        /// How long it may be.
        max: usize,
        /// What says so.
        limit: Limit,
    },
    /// There is no such session.
    #[error("there is no such session")]
    Unknown,
}

/// What limits the length of a report.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum Limit {
    /// `max_kib`.
    #[error("the store's configuration")]
    Configuration,
    /// What its session has donated.
    #[error("what its session has donated")]
    Donation,
    /// What the store has.
    #[error("the store's memory")]
    Memory,
}

/// RAM in bytes that a session has to donate for reports of `len` bytes: the one that is there and the one that is written.
pub fn cost(len: usize) -> u64 {
    OVERHEAD + 2 * len as u64
}

struct Writer<B> {
    label: Label,
    /// Longest report that was paid for.
    paid: usize,
    /// Longest report that there is room for.
    room: usize,
    /// Twice that: the report, and what is written.
    halves: Option<B>,
    /// The report is in the second half.
    second: bool,
    /// Bytes that were written since the last report.
    pending: usize,
    /// Bytes of the report.
    content: Option<usize>,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Writer<B> {
    fn half(&self, second: bool) -> &[u8] {
        let all = self.halves.as_ref().map_or(&[][..], B::as_ref);
        let start = if second { self.room } else { 0 };
        all.get(start..start + self.room).unwrap_or_default()
    }

    fn content(&self) -> Option<&[u8]> {
        self.half(self.second).get(..self.content?)
    }

    fn pending(&self) -> &[u8] {
        self.half(!self.second).get(..self.pending).unwrap_or_default()
    }

    /// Adds to what is written, if there is room.
    fn append(&mut self, part: &[u8]) {
        let start = self.pending + if self.second { 0 } else { self.room };
        let all = self.halves.as_mut().map_or(&mut [][..], B::as_mut);
        if let Some(to) = all.get_mut(start..start + part.len()) {
            to.copy_from_slice(part);
            self.pending += part.len();
        }
    }

    /// Other memory, with more room.
    fn move_to(&mut self, mut halves: B, room: usize) {
        for (start, bytes) in [(0, self.content().unwrap_or_default()), (room, self.pending())] {
            if let Some(to) = halves.as_mut().get_mut(start..start + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        }
        (self.halves, self.room, self.second) = (Some(halves), room, false);
    }
}

/// Where so many bytes come from; `None`: there is no memory.
type Memory<B> = Box<dyn FnMut(usize) -> Option<B> + Send>;

/// See above. Reports are in memory of type `B`, taken when it has been paid for.
pub struct Store<B> {
    config: Config,
    memory: Memory<B>,
    writers: BTreeMap<WriterId, Writer<B>>,
    /// By label, who writes it.
    labels: BTreeMap<Label, WriterId>,
    /// Label of the report that each of them reads.
    readers: BTreeMap<ReaderId, Label>,
    next: u64,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Store<B> {
    /// One without sessions, which takes at least as many bytes as it asks for from `memory`.
    pub fn new(config: Config, memory: impl FnMut(usize) -> Option<B> + Send + 'static) -> Store<B> {
        let (writers, labels, readers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Store { config, memory: Box::new(memory), writers, labels, readers, next: 0 }
    }

    fn next(&mut self) -> Result<u64, StoreError> {
        let max = self.config.sessions;
        if self.writers.len() + self.readers.len() >= max {
            return Err(StoreError::Full(max));
        }
        self.next += 1;
        Ok(self.next)
    }

    /// A component wants to report; its session has that label and has donated so many bytes. That no rule has it is no
    /// error: who reports does not depend on being heard.
    pub fn open_report(&mut self, label: &Label, ram: u64) -> Result<WriterId, StoreError> {
        if self.labels.contains_key(label) {
            return Err(StoreError::Taken(label.to_string()));
        }
        let id = WriterId(self.next()?);
        self.labels.insert(label.clone(), id);
        let (label, halves, content) = (label.clone(), None, None);
        let writer = Writer { label, paid: 0, room: 0, halves, second: false, pending: 0, content };
        self.writers.insert(id, writer);
        self.pay(id, ram)?;
        Ok(id)
    }

    /// The session has donated so many bytes, all told. Without memory for them its reports are as long as before.
    pub fn pay(&mut self, id: WriterId, ram: u64) -> Result<(), StoreError> {
        let writer = self.writers.get_mut(&id).ok_or(StoreError::Unknown)?;
        writer.paid = usize::try_from(ram.saturating_sub(OVERHEAD) / 2).unwrap_or(usize::MAX);
        let room = writer.paid.min(self.config.max_len());
        if room > writer.room
            && let Some(halves) = (self.memory)(2 * room)
        {
            writer.move_to(halves, room);
        }
        Ok(())
    }

    /// Adds to what is written. If it becomes too long, nothing of it is left.
    pub fn append(&mut self, id: WriterId, part: &[u8]) -> Result<(), StoreError> {
        let configured = self.config.max_len();
        let writer = self.writers.get_mut(&id).ok_or(StoreError::Unknown)?;
        let (max, limit) = match (writer.room, writer.paid) {
            (room, paid) if room < paid.min(configured) => (room, Limit::Memory),
            (_, paid) if paid < configured => (paid, Limit::Donation),
            _ => (configured, Limit::Configuration),
        };
        let len = writer.pending + part.len();
        if len > max {
            writer.pending = 0;
            return Err(StoreError::Long { label: writer.label.to_string(), len, max, limit });
        }
        writer.append(part);
        Ok(())
    }

    /// What was written is the report from now on. Returns whom to tell: nobody, if it is what it was.
    pub fn submit(&mut self, id: WriterId) -> Result<Changed, StoreError> {
        let writer = self.writers.get_mut(&id).ok_or(StoreError::Unknown)?;
        if writer.content() == Some(writer.pending()) {
            writer.pending = 0;
            return Ok(Vec::new());
        }
        writer.content = Some(std::mem::take(&mut writer.pending));
        writer.second = !writer.second;
        let label = writer.label.clone();
        Ok(self.readers_of(&label))
    }

    /// What was written since the last report is forgotten.
    pub fn discard(&mut self, id: WriterId) -> Result<(), StoreError> {
        self.writers.get_mut(&id).ok_or(StoreError::Unknown)?.pending = 0;
        Ok(())
    }

    /// A component does not report any more: its ROMs are empty.
    pub fn close_report(&mut self, id: WriterId) -> Changed {
        let Some(writer) = self.writers.remove(&id) else { return Vec::new() };
        self.labels.remove(&writer.label);
        if writer.content.is_none() { Vec::new() } else { self.readers_of(&writer.label) }
    }

    fn readers_of(&self, label: &Label) -> Changed {
        self.readers.iter().filter(|(_, l)| *l == label).map(|(&id, _)| id).collect()
    }

    /// A component wants to read; its session has that label.
    pub fn open_rom(&mut self, label: &Label) -> Result<ReaderId, StoreError> {
        let report = self.config.rules.report_of(label).cloned();
        let report = report.ok_or_else(|| StoreError::NoRule(label.to_string()))?;
        let id = ReaderId(self.next()?);
        self.readers.insert(id, report);
        Ok(id)
    }

    /// What it reads now; empty as long as nobody has reported.
    pub fn content(&self, id: ReaderId) -> Result<&[u8], StoreError> {
        let label = self.readers.get(&id).ok_or(StoreError::Unknown)?;
        let writer = self.labels.get(label).and_then(|id| self.writers.get(id));
        Ok(writer.and_then(Writer::content).unwrap_or_default())
    }

    /// A component does not read any more.
    pub fn close_rom(&mut self, id: ReaderId) {
        self.readers.remove(&id);
    }

    /// Labels of what is reported and what no rule has.
    pub fn unheard(&self) -> BTreeSet<&Label> {
        self.labels.keys().filter(|l| !self.config.rules.name(l)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::label;
    use proptest::prelude::*;

    fn store(config: &str) -> Store<Vec<u8>> {
        let rules = "\n[[rom]]\nlabel_last = 'devices'\nreport = 'bus -> devices'\n\
                     [[rom]]\nlabel_last = 'leases'\nreport = 'router -> leases'\n";
        // More than was asked for, as whole pages are.
        Store::new(Config::parse(format!("{config}{rules}").as_bytes()).unwrap(), |len| Some(vec![0; len + 5]))
    }

    const MUCH: u64 = 1 << 20;

    #[test]
    fn what_is_reported_is_read_all_at_once() {
        let mut s = store("");
        let rom = s.open_rom(&label("wm -> devices")).unwrap();
        let other = s.open_rom(&label("wm -> leases")).unwrap();
        assert_eq!(s.content(rom), Ok(&b""[..]), "there is no report yet");
        let bus = s.open_report(&label("bus -> devices"), MUCH).unwrap();
        s.append(bus, b"disk ").unwrap();
        s.append(bus, b"net").unwrap();
        assert_eq!(s.content(rom), Ok(&b""[..]), "it is not complete");
        assert_eq!(s.submit(bus), Ok(vec![rom]));
        assert_eq!((s.content(rom), s.content(other)), (Ok(&b"disk net"[..]), Ok(&b""[..])));
        let late = s.open_rom(&label("devices")).unwrap();
        assert_eq!(s.content(late), Ok(&b"disk net"[..]));
        s.append(bus, b"disk").unwrap();
        assert_eq!(s.submit(bus), Ok(vec![rom, late]));
        assert_eq!(s.content(late), Ok(&b"disk"[..]));
        s.close_rom(late);
        assert_eq!(s.content(late), Err(StoreError::Unknown));
        assert_eq!((s.submit(bus), s.submit(bus)), (Ok(vec![rom]), Ok(vec![])), "empty is a change, once");
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut s = store("");
        let bus = s.open_report(&label("bus -> devices"), MUCH).unwrap();
        let rom = s.open_rom(&label("devices")).unwrap();
        s.append(bus, b"disk").unwrap();
        assert_eq!(s.submit(bus), Ok(vec![rom]));
        s.append(bus, b"disk").unwrap();
        assert_eq!(s.submit(bus), Ok(vec![]));
        s.append(bus, b"half").unwrap();
        s.discard(bus).unwrap();
        s.append(bus, b"disk").unwrap();
        assert_eq!(s.submit(bus), Ok(vec![]));
    }

    #[test]
    fn a_report_ends_with_who_reported() {
        let mut s = store("");
        let bus = s.open_report(&label("bus -> devices"), MUCH).unwrap();
        let rom = s.open_rom(&label("devices")).unwrap();
        assert_eq!(s.open_report(&label("bus -> devices"), MUCH), Err(StoreError::Taken("bus -> devices".into())));
        s.append(bus, b"disk").unwrap();
        s.submit(bus).unwrap();
        assert_eq!((s.close_report(bus), s.close_report(bus)), (vec![rom], vec![]));
        assert_eq!(s.content(rom), Ok(&b""[..]));
        assert_eq!(s.append(bus, b"x"), Err(StoreError::Unknown));
        let bus = s.open_report(&label("bus -> devices"), MUCH).unwrap();
        assert_eq!(s.close_report(bus), vec![], "it never reported");
    }

    #[test]
    fn reports_are_as_long_as_they_are_paid_for() {
        let mut s = store("max_kib = 1");
        let bus = s.open_report(&label("bus -> devices"), cost(100)).unwrap();
        assert_eq!(s.append(bus, &[0; 100]), Ok(()));
        let e = s.append(bus, &[0]).unwrap_err();
        assert_eq!(
            e.to_string(),
            "\"bus -> devices\": a report of 101 bytes is too long; 100 are possible, by what its session has donated"
        );
        assert_eq!(s.append(bus, &[0; 100]), Ok(()), "of the other nothing is left");
        s.pay(bus, MUCH).unwrap();
        assert_eq!(s.append(bus, &[0; 924]), Ok(()));
        let e = s.append(bus, &[0]).unwrap_err().to_string();
        assert!(e.ends_with("1024 are possible, by the store's configuration"), "{e}");
        let poor = s.open_report(&label("router -> leases"), 0).unwrap();
        assert!(s.append(poor, b"x").is_err() && s.append(poor, b"").is_ok());
    }

    #[test]
    fn without_memory_nothing_that_was_there_is_lost() {
        let rules = "[[rom]]\nlabel = 'r'\nreport = 'w'\n";
        let mut left = 300usize;
        let take = move |len| {
            left = left.checked_sub(len)?;
            Some(vec![0; len])
        };
        let mut s = Store::new(Config::parse(rules.as_bytes()).unwrap(), take);
        let (w, r) = (s.open_report(&label("w"), cost(10)).unwrap(), s.open_rom(&label("r")).unwrap());
        s.append(w, b"0123456789").unwrap();
        s.submit(w).unwrap();
        s.append(w, b"half").unwrap();
        s.pay(w, cost(100)).unwrap();
        assert_eq!(s.content(r), Ok(&b"0123456789"[..]), "in the new memory");
        s.append(w, &[b'x'; 96]).unwrap();
        s.submit(w).unwrap();
        assert_eq!(s.content(r).map(|c| (&c[..5], c.len())), Ok((&b"halfx"[..], 100)));
        s.pay(w, cost(1000)).unwrap();
        let e = s.append(w, &[0; 101]).unwrap_err().to_string();
        assert!(e.ends_with("100 are possible, by the store's memory"), "{e}");
        assert_eq!(s.content(r).map(<[u8]>::len), Ok(100));
    }

    #[test]
    fn refusals_say_why() {
        let mut s = store("sessions = 2");
        assert_eq!(s.open_rom(&label("wm -> x")), Err(StoreError::NoRule("wm -> x".into())));
        s.open_report(&label("nobody -> cares"), MUCH).unwrap();
        assert_eq!(s.unheard(), BTreeSet::from([&label("nobody -> cares")]));
        let rom = s.open_rom(&label("devices")).unwrap();
        assert_eq!(s.open_rom(&label("devices")), Err(StoreError::Full(2)));
        assert_eq!(s.open_report(&label("bus -> devices"), MUCH), Err(StoreError::Full(2)));
        s.close_rom(rom);
        s.open_report(&label("bus -> devices"), MUCH).unwrap();
        assert_eq!(s.unheard().len(), 1);
    }

    proptest! {
        #[test]
        fn readers_see_the_last_report_and_learn_of_each_change(
            steps in prop::collection::vec((0u8..4, "[ab]{0,3}"), 1..60),
        ) {
            let mut s = store("");
            let rom = s.open_rom(&label("devices")).unwrap();
            let (mut writer, mut pending, mut seen) = (None, String::new(), String::new());
            for (step, text) in steps {
                let before = String::from_utf8(s.content(rom).unwrap().into()).unwrap();
                let mut told = false;
                match (step, writer) {
                    (0, None) => writer = Some(s.open_report(&label("bus -> devices"), MUCH).unwrap()),
                    (0, Some(w)) => {
                        told = !s.close_report(w).is_empty();
                        (writer, pending, seen) = (None, String::new(), String::new());
                    }
                    (1, Some(w)) => {
                        s.append(w, text.as_bytes()).unwrap();
                        pending.push_str(&text);
                    }
                    (2, Some(w)) => {
                        s.discard(w).unwrap();
                        pending.clear();
                    }
                    (3, Some(w)) => {
                        told = !s.submit(w).unwrap().is_empty();
                        seen = std::mem::take(&mut pending);
                    }
                    _ => {}
                }
                let now = String::from_utf8(s.content(rom).unwrap().into()).unwrap();
                prop_assert_eq!(&now, &seen);
                prop_assert!(told || now == before);
            }
        }
    }
}
