//! Wiring of the black hole: the rings of its clients.

use black_hole_logic::{Config, Service, Swallowed};
use rt::Semaphore;
use rt::channel::{Event, Reader, Server};
use rt::rpc::Entrypoint;
use std::collections::BTreeMap;
use std::error::Error;

/// Bytes that are taken at once.
const PIECE: usize = 4096;
/// Stack of the entry point, in bytes.
const STACK_LEN: usize = 32 << 10;
/// Most clients of a service.
const CLIENTS: usize = 64;

struct Stream {
    reader: Reader,
    swallowed: Swallowed,
}

impl Stream {
    /// Takes what there is.
    fn drain(&mut self, verbose: bool) {
        let mut buf = [0; PIECE];
        loop {
            let count = self.reader.read(&mut buf);
            if let Some(text) = self.swallowed.add(count).filter(|_| verbose) {
                println!("{text}");
            }
            if count < buf.len() {
                return;
            }
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?;
    let server = Server::new()?;
    let at = Entrypoint::new(rt::thread::cpu(), STACK_LEN)?;
    for service in &config.services {
        match service {
            Service::Log => server.serve_log(at, CLIENTS)?,
            Service::Terminal => server.serve_terminal(at, CLIENTS)?,
        }
    }
    let changed = Semaphore::from_sel(server.wait_sel());
    let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
    loop {
        while let Some(event) = server.next() {
            match event {
                Event::Opened { id, label, reader, writer } => {
                    let service = if writer.is_some() { Service::Terminal } else { Service::Log };
                    streams.insert(id, Stream { reader, swallowed: Swallowed::new(&label, service) });
                }
                Event::Closed(id) => {
                    if let Some(mut stream) = streams.remove(&id) {
                        stream.drain(config.verbose);
                    }
                }
            }
        }
        streams.values_mut().for_each(|s| s.drain(config.verbose));
        changed.down_zero();
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
