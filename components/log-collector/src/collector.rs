//! Clients, their lines, and what becomes of them.
//!
//! Key type: [`Collector`].

use crate::bucket::Bucket;
use crate::config::Config;
use crate::kept::{Kept, Line};
use rtlogic::{LineBuffer, printable};
use std::collections::{BTreeMap, TryReserveError};
use thiserror::Error;

/// Longest line in bytes; longer ones come in pieces.
pub const LINE_MAX: usize = 1024;
/// Most clients.
pub const MAX_CLIENTS: usize = 64;

/// Who has dropped no line for so long is silent. Otherwise the next line that is not dropped says how many were.
const SILENT_US: u64 = 1_000_000;

/// Names a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientId(u64);

/// There are as many clients as there may be.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
#[error("there are {MAX_CLIENTS} clients already")]
pub struct Full;

struct Client {
    label: String,
    line: LineBuffer<LINE_MAX>,
    /// The last piece was of a line that goes on.
    cut: bool,
    bucket: Bucket,
    /// Lines that were dropped since the log had one of it.
    dropped: u64,
    /// When the last one was.
    dropped_us: u64,
}

/// See above. What it is to forward comes out of each call, in order.
pub struct Collector {
    config: Config,
    clients: BTreeMap<ClientId, Client>,
    next_client: u64,
    kept: Kept,
}

impl Collector {
    /// One without clients. It takes the memory for the lines that are kept.
    pub fn new(config: Config) -> Result<Collector, TryReserveError> {
        let kept = Kept::new(config.kept_len())?;
        Ok(Collector { config, clients: BTreeMap::new(), next_client: 0, kept })
    }

    /// A new client, whose lines have that label.
    pub fn open(&mut self, label: &str, now_us: u64) -> Result<ClientId, Full> {
        if self.clients.len() == MAX_CLIENTS {
            return Err(Full);
        }
        let id = ClientId(self.next_client);
        self.next_client += 1;
        let label = printable(label.as_bytes()).collect();
        let bucket = Bucket::new(self.config.burst, now_us);
        self.clients
            .insert(id, Client { label, line: LineBuffer::new(), cut: false, bucket, dropped: 0, dropped_us: 0 });
        Ok(id)
    }

    /// A client writes. Lines that are complete are numbered, kept and returned. A client that there is not writes nothing.
    pub fn write(&mut self, id: ClientId, text: &[u8], now_us: u64) -> Vec<Line> {
        let Some(client) = self.clients.get_mut(&id) else { return Vec::new() };
        let mut pieces = Vec::new();
        client.line.push(text, &mut |piece| pieces.push(piece.to_vec()));
        let mut out = Vec::new();
        for piece in &pieces {
            let rest = client.uncut(piece);
            out.extend(lines(rest).flat_map(|line| client.line(&self.config, &mut self.kept, line, now_us)));
        }
        out
    }

    /// Says of clients whose lines were dropped, and that are silent since, how many: to be called now and then.
    pub fn settle(&mut self, now_us: u64) -> Vec<Line> {
        let Collector { config, clients, kept, .. } = self;
        let silent = |c: &&mut Client| c.dropped > 0 && now_us.saturating_sub(c.dropped_us) >= SILENT_US;
        clients
            .values_mut()
            .filter(silent)
            .filter_map(|c| c.bucket.take(config.burst, config.rate, now_us).then(|| c.confess(kept, now_us)))
            .collect()
    }

    /// A client is gone: what it had begun is a line, and what was dropped is told.
    pub fn close(&mut self, id: ClientId, now_us: u64) -> Vec<Line> {
        let Some(mut client) = self.clients.remove(&id) else { return Vec::new() };
        let mut rest = Vec::new();
        client.line.flush(&mut |piece| rest.extend_from_slice(piece));
        let line = (!rest.is_empty()).then(|| client.line(&self.config, &mut self.kept, &rest, now_us));
        let mut out: Vec<Line> = line.into_iter().flatten().collect();
        out.extend((client.dropped > 0).then(|| client.confess(&mut self.kept, now_us)));
        out
    }

    /// The first line that is kept with that number or a higher one.
    pub fn line_from(&self, number: u64) -> Option<Line> {
        self.kept.line_from(number)
    }

    /// Number of the line that comes next.
    pub fn next_number(&self) -> u64 {
        self.kept.next()
    }
}

impl Client {
    /// A piece without the end of a line that came in pieces: all of its text has been a line.
    fn uncut<'a>(&mut self, piece: &'a [u8]) -> &'a [u8] {
        let goes_on = std::mem::replace(&mut self.cut, !piece.ends_with(b"\n"));
        piece.strip_prefix(b"\n").filter(|_| goes_on).unwrap_or(piece)
    }

    /// A line, with what is to be said before it; or nothing, if it is dropped.
    fn line(&mut self, config: &Config, kept: &mut Kept, text: &[u8], now_us: u64) -> Vec<Line> {
        if config.rate > 0 && !self.bucket.take(config.burst, config.rate, now_us) {
            self.dropped += 1;
            self.dropped_us = now_us;
            return Vec::new();
        }
        let confession = (self.dropped > 0).then(|| self.confess(kept, now_us));
        let line = kept.push(now_us, &self.label, printable(text).collect());
        confession.into_iter().chain([line]).collect()
    }

    fn confess(&mut self, kept: &mut Kept, now_us: u64) -> Line {
        let count = std::mem::take(&mut self.dropped);
        let text = format!("({count} line{} dropped: more than its share)", if count == 1 { "" } else { "s" });
        kept.push(now_us, &self.label, text)
    }
}

/// The lines in a piece, without their ends; none in an empty one.
fn lines(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let some = (!piece.is_empty()).then_some(piece);
    some.into_iter().flat_map(lines_of)
}

fn lines_of(piece: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = piece.strip_suffix(b"\n").unwrap_or(piece);
    // A piece may have many lines, or be one that is too long.
    whole.split(|&b| b == b'\n').flat_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let empty = line.is_empty().then_some(line);
        empty.into_iter().chain(line.chunks(LINE_MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn collector(config: &str) -> Collector {
        Collector::new(Config::parse(config.as_bytes()).unwrap()).unwrap()
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|l| format!("{} {}: {}", l.number, l.label, l.text)).collect()
    }

    #[test]
    fn lines_get_number_label_and_time() {
        let mut c = collector("");
        let (vm, uart) = (c.open("vm", 0).unwrap(), c.open("init -> uart", 0).unwrap());
        assert_eq!(texts(c.write(vm, b"one\r\n\ntwo", 7)), ["0 vm: one", "1 vm: "]);
        assert_eq!(texts(c.write(uart, b"\x1b[2Jx\n", 8)), ["2 init -> uart: ?[2Jx"]);
        assert_eq!(texts(c.write(vm, b" three\n", 9)), ["3 vm: two three"]);
        assert_eq!(c.line_from(3).unwrap().us, 9, "when it ended");
        assert_eq!(c.next_number(), 4);
        assert_eq!(texts(c.write(ClientId(99), b"x\n", 9)), [""; 0]);
    }

    #[test]
    fn who_goes_leaves_the_line_that_it_had_begun() {
        let mut c = collector("");
        let vm = c.open("vm", 0).unwrap();
        c.write(vm, b"begun", 1);
        assert_eq!(texts(c.close(vm, 2)), ["0 vm: begun"]);
        assert_eq!((texts(c.close(vm, 3)), texts(c.write(vm, b"x\n", 3))), (vec![], vec![]));
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let mut c = collector("");
        let vm = c.open("vm", 0).unwrap();
        let mut long = vec![b'x'; 2 * LINE_MAX + 1];
        long.push(b'\n');
        let lengths: Vec<_> = c.write(vm, &long, 0).iter().map(|l| l.text.len()).collect();
        assert_eq!(lengths, [LINE_MAX, LINE_MAX, 1]);
        let mut write = |text: &[u8]| c.write(vm, text, 0).iter().map(|l| l.text.len()).collect::<Vec<_>>();
        assert_eq!(write(&[b'x'; LINE_MAX]), [0; 0], "there may be no more of it");
        assert_eq!(write(b"\n\n"), [LINE_MAX, 0]);
        assert_eq!(write(&[b'x'; LINE_MAX + 1]), [LINE_MAX]);
        assert_eq!(write(b"\n"), [1]);
        assert_eq!(write(&[b'x'; 2 * LINE_MAX + 1]), [LINE_MAX, LINE_MAX]);
        assert_eq!(write(&[b'x'; LINE_MAX - 1]), [0; 0]);
        assert_eq!(write(b"x\n"), [LINE_MAX, 1]);
    }

    #[test]
    fn who_writes_too_much_loses_lines_and_only_he() {
        let mut c = collector("burst = 2\nrate = 10");
        let (loud, calm) = (c.open("loud", 0).unwrap(), c.open("calm", 0).unwrap());
        assert_eq!(texts(c.write(loud, b"1\n2\n3\n4\n", 0)), ["0 loud: 1", "1 loud: 2"]);
        assert_eq!(texts(c.write(calm, b"here\n", 0)), ["2 calm: here"]);
        assert_eq!(texts(c.settle(99_999)), [""; 0]);
        let told = "loud: (2 lines dropped: more than its share)";
        assert_eq!(texts(c.write(loud, b"5\n", 100_000)), [format!("3 {told}"), "4 loud: 5".into()]);
        c.write(loud, b"6\n", 100_000);
        assert_eq!(texts(c.settle(1_099_999)), [""; 0], "it may go on");
        assert_eq!(texts(c.settle(1_100_000)), ["5 loud: (1 line dropped: more than its share)"]);
        assert_eq!(texts(c.settle(9_000_000)), [""; 0]);
        c.write(loud, b"7\n8\n9\n", 9_000_000);
        assert_eq!(texts(c.close(loud, 9_000_000)), ["8 loud: (1 line dropped: more than its share)"]);
    }

    #[test]
    fn without_a_rate_nothing_is_dropped() {
        let mut c = collector("burst = 1\nrate = 0");
        let vm = c.open("vm", 0).unwrap();
        assert_eq!(c.write(vm, &b"x\n".repeat(500), 0).len(), 500);
    }

    #[test]
    fn clients_are_bounded() {
        let mut c = collector("");
        let ids: Vec<_> = (0..MAX_CLIENTS).map(|n| c.open(&n.to_string(), 0).unwrap()).collect();
        assert_eq!(c.open("one more", 0), Err(Full));
        c.close(ids[3], 0);
        assert!(c.open("one more", 0).is_ok());
    }

    proptest! {
        #[test]
        fn each_line_is_in_the_log_or_counted(
            writes in prop::collection::vec((0usize..3, "[ab\n]{0,20}", 0u64..300_000), 0..60),
        ) {
            let mut c = collector("burst = 3\nrate = 5");
            let ids = ["a", "b", "c"].map(|l| c.open(l, 0).unwrap());
            let (mut now, mut sent, mut out) = (0, String::new(), Vec::new());
            for (who, text, wait) in writes {
                now += wait;
                out.extend(c.write(ids[who], text.as_bytes(), now));
                sent.push_str(&text);
            }
            let mut open = 0;
            for id in ids {
                open += usize::from(c.clients[&id].line.is_open());
                out.extend(c.close(id, now));
            }
            let (told, plain): (Vec<_>, Vec<_>) = out.iter().partition(|l| l.text.starts_with('('));
            let dropped: usize = told.iter().map(|l| l.text[1..].split(' ').next().unwrap().parse::<usize>().unwrap()).sum();
            prop_assert_eq!(plain.len() + dropped, sent.matches('\n').count() + open);
            prop_assert!(out.iter().enumerate().all(|(n, l)| l.number == n as u64));
        }
    }
}
