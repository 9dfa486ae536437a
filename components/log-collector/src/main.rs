//! Wiring of the log collector: the rings of its clients, and its own log.
//!
//! It may have to wait for who reads its own log, and then its clients have to wait for it.

use log_collector_logic::{ClientId, Collector, Config, LINE_MAX, Line};
use parent::SERVICE_LOG;
use rt::Semaphore;
use rt::channel::Reader;
use std::error::Error;

/// How often is looked for what was dropped of clients that are silent since, in ns.
const SETTLE_NS: u64 = 1_000_000_000;

/// A client that has a channel.
struct Stream {
    id: ClientId,
    reader: Reader,
    gone: bool,
}

/// All of them.
struct State {
    collector: Collector,
    streams: Vec<Stream>,
    forward: bool,
}

/// Time since the TSC was 0.
fn now_us() -> u64 {
    rt::time::ns_from_tsc(rt::time::tsc()) / 1000
}

impl State {
    /// Takes from each client what it has written, up to a line's length, and says whether there may be more.
    fn pump(&mut self) -> bool {
        let mut more = false;
        for stream in self.streams.iter_mut().filter(|s| !s.gone) {
            let mut buf = [0; LINE_MAX];
            let count = stream.reader.read(&mut buf);
            more |= count == buf.len();
            let mut lines = self.collector.write(stream.id, &buf[..count], now_us());
            if count == 0 && stream.reader.is_broken() {
                stream.gone = true;
                lines.extend(self.collector.close(stream.id, now_us()));
            }
            forward(self.forward, &lines);
        }
        more
    }

    fn settle(&mut self) {
        let lines = self.collector.settle(now_us());
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
    let mut collector =
        collector.map_err(|e| format!("not enough memory for `kept_kib`: {e}; more `ram` is needed"))?;
    let mut streams = Vec::new();
    for channel in rt::channel::servers(SERVICE_LOG) {
        let id = collector.open(channel.peer(), now_us())?;
        streams.push(Stream { id, reader: channel.split().0, gone: false });
    }
    let first = streams.first().ok_or("no component has its log routed here: nothing to do")?;
    let changed = Semaphore::from_sel(first.reader.wait_sel());
    let mut state = State { collector, streams, forward: config.forward };
    loop {
        while state.pump() {}
        state.settle();
        changed.down_until(rt::time::tsc() + rt::time::tsc_from_ns(SETTLE_NS));
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
