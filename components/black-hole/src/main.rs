//! Wiring of the black hole: the rings of its clients.

use black_hole_logic::{Config, Swallowed};
use rt::channel::Reader;
use std::error::Error;

/// Bytes that are taken at once.
const PIECE: usize = 4096;

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
    let of = |service: &black_hole_logic::Service| {
        let service = *service;
        rt::channel::servers(service.name()).into_iter().map(move |channel| {
            let swallowed = Swallowed::new(channel.peer(), service);
            Stream { reader: channel.split().0, swallowed }
        })
    };
    let mut streams: Vec<Stream> = config.services.iter().flat_map(of).collect();
    if streams.is_empty() {
        return Err("no component has a service routed here that `services` names: nothing to do".into());
    }
    loop {
        streams.iter_mut().for_each(|s| s.drain(config.verbose));
        streams[0].reader.wait();
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
