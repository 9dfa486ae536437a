//! Wiring of the log collector: the rings of its clients, its own log, and its readers.
//!
//! It may have to wait for who reads its own log, and then its clients have to wait for it.

mod journal;

use journal::Journals;
use log_collector_logic::{ClientId, Collector, Config, LINE_MAX, Line, MAX_CLIENTS};
use rt::Semaphore;
use rt::channel::{Event, Reader, Server};
use rt::rpc::Entrypoint;
use rt::session;
use std::collections::BTreeMap;
use std::error::Error;

/// How often is looked for what was dropped of clients that are silent since, in ns.
const SETTLE_NS: u64 = 1_000_000_000;
/// Stack of the entry point, in bytes.
const STACK_LEN: usize = 32 << 10;

/// A client.
struct Stream {
    client: ClientId,
    reader: Reader,
}

/// All of them.
struct State {
    journals: Journals,
    server: Server,
    /// By their sessions.
    streams: BTreeMap<u64, Stream>,
    forward: bool,
}

/// Time since the TSC was 0.
fn now_us() -> u64 {
    rt::time::ns_from_tsc(rt::time::tsc()) / 1000
}

impl Stream {
    /// Takes what the client has written, up to a line's length, and says whether there may be more.
    fn pump(&mut self, journals: &Journals, wanted: bool) -> bool {
        let mut buf = [0; LINE_MAX];
        let count = self.reader.read(&mut buf);
        let lines = journals.collector().write(self.client, &buf[..count], now_us());
        forward(wanted, &lines);
        count == buf.len()
    }
}

impl State {
    /// Lets clients in and out.
    fn admit(&mut self) {
        while let Some(event) = self.server.next() {
            match event {
                Event::Opened { id, label, reader, .. } => {
                    // As many sessions are possible as clients; one that is just going may still count.
                    let opened = self.journals.collector().open(&label, now_us());
                    match opened {
                        Ok(client) => _ = self.streams.insert(id, Stream { client, reader }),
                        Err(full) => println!("{label} is not read: {full}"),
                    }
                }
                Event::Closed(id) => {
                    if let Some(mut stream) = self.streams.remove(&id) {
                        while stream.pump(&self.journals, self.forward) {}
                        let lines = self.journals.collector().close(stream.client, now_us());
                        forward(self.forward, &lines);
                    }
                }
            }
        }
    }

    /// Takes from each client in turn, and says whether there may be more.
    fn pump(&mut self) -> bool {
        self.admit();
        let (journals, wanted) = (&self.journals, self.forward);
        self.streams.values_mut().fold(false, |more, stream| stream.pump(journals, wanted) | more)
    }

    fn settle(&mut self) {
        let lines = self.journals.collector().settle(now_us());
        forward(self.forward, &lines);
    }
}

fn forward(wanted: bool, lines: &[Line]) {
    if wanted {
        lines.iter().for_each(|line| println!("{line}"));
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?;
    let collector = Collector::new(config);
    let collector = collector.map_err(|e| format!("not enough memory for `kept_kib`: {e}; more `ram` is needed"))?;
    let server = Server::new()?;
    let (at, journals) = (Entrypoint::new(rt::thread::cpu(), STACK_LEN)?, Journals::new(collector));
    server.serve_log(at, MAX_CLIENTS)?;
    if config.journal {
        session::serve(at, journals.clone())?;
    }
    let changed = Semaphore::from_sel(server.wait_sel());
    let mut state = State { journals, server, streams: BTreeMap::new(), forward: config.forward };
    let mut told = 0;
    loop {
        while state.pump() {}
        state.settle();
        let next = state.journals.collector().next_number();
        if std::mem::replace(&mut told, next) != next {
            state.journals.tell();
        }
        changed.down_until(rt::time::tsc() + rt::time::tsc_from_ns(SETTLE_NS));
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
