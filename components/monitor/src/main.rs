//! Wiring of the monitor: its session with service `trace`, and the terminal, or the log where it has none.

use monitor_logic::{Command, Config, Keys, Sample, Screen, Show, View};
use rt::Semaphore;
use rt::channel::{Reader, Writer};
use rt::session;
use services::{Trace, TraceClient};
use std::error::Error;

/// How long who serves `trace` may take to answer, in ns.
const PATIENCE: u64 = 5_000_000_000;

/// Where pictures go.
enum Out {
    Terminal { keys: Reader, writer: Writer, screen: Screen },
    Log,
}

impl Out {
    fn open() -> Out {
        rt::channel::terminal().map_or(Out::Log, |(keys, writer)| Out::Terminal {
            keys,
            writer,
            screen: Screen::default(),
        })
    }

    /// `false`: there is nobody to see it any more.
    fn show(&mut self, lines: Vec<String>) -> bool {
        match self {
            Out::Terminal { writer, screen, .. } => writer.write_all(screen.show(lines).as_bytes()),
            Out::Log => {
                lines.iter().for_each(|line| println!("{line}"));
                true
            }
        }
    }

    /// Waits for a key that asks for something, or until that time.
    fn wait(&mut self, until: u64, how: &mut Keys) -> Option<Command> {
        let Out::Terminal { keys, screen, .. } = self else {
            let left = until.saturating_sub(rt::time::tsc());
            std::thread::sleep(std::time::Duration::from_nanos(rt::time::ns_from_tsc(left)));
            return None;
        };
        let changed = Semaphore::from_sel(keys.wait_sel());
        loop {
            let mut buf = [0; 64];
            let count = keys.read(&mut buf);
            let command = buf[..count].iter().filter_map(|&key| how.typed(key)).last();
            if command.is_some() {
                // Whoever types may have another terminal in front of him than the one we drew on.
                screen.forget();
                return command;
            }
            if count == 0 && !changed.down_until(until) {
                return None;
            }
        }
    }

    fn leave(&mut self) {
        if let Out::Terminal { writer, screen, .. } = self {
            writer.write_all(screen.leave().as_bytes());
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?;
    let session =
        session::open_until::<dyn Trace>("", &[], rt::time::tsc().saturating_add(rt::time::tsc_from_ns(PATIENCE)))
            .map_err(|e| format!("no session with service `trace`: {e}"))?;
    let trace = TraceClient::new(session.portal());
    let (mut out, mut keys) = (Out::open(), Keys::default());
    let period = rt::time::tsc_from_ns(u64::try_from(config.every().as_nanos()).unwrap_or(u64::MAX));
    let mut before = Sample::take(&trace, false)?;
    let (mut next, mut shown) = (rt::time::tsc(), 0);
    loop {
        next = next.saturating_add(period).max(rt::time::tsc());
        let command = out.wait(next, &mut keys);
        if command == Some(Command::Quit) {
            break;
        }
        let now = Sample::take(&trace, keys.show == Show::Sessions)?;
        let lines = View { before: &before, now: &now, keys }.lines(config.width, config.height);
        shown += 1;
        if !out.show(lines) || shown == config.pictures {
            break;
        }
        before = now;
    }
    out.leave();
    Ok(())
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
