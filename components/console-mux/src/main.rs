//! Wiring of the console multiplexer: the rings of its clients and of the terminal below.
//!
//! One thread does all there is to do, whenever a client or the terminal below has changed a ring; sessions are made at an
//! entry point. Nothing here writes a log after the start, but for the last words: it would wait for itself.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::thread;
use std::time::Duration;

use console_mux_logic::{CLIENTS_MAX, Config, Kind, Mux, Streams};
use rt::Semaphore;
use rt::channel::{self, Event, Reader, Server, Writer};
use rt::rpc::Entrypoint;

/// Stack of the entry point, in bytes.
const STACK_LEN: usize = 32 << 10;
/// How long others run before more is read of a client that writes as fast as it can.
const PAUSE: Duration = Duration::from_millis(2);
/// Label of our own lines if we have no name.
const NAME: &str = "console";
/// Bytes of what a client has left that are read at once.
const PIECE: usize = 1024;

/// The rings.
struct Rings {
    clients: BTreeMap<u64, (Reader, Option<Writer>)>,
    keys: Reader,
    out: Writer,
}

impl Streams for Rings {
    fn read_client(&mut self, client: u64, buf: &mut [u8]) -> usize {
        self.clients.get_mut(&client).map_or(0, |(reader, _)| reader.read(buf))
    }
    fn write_client(&mut self, client: u64, bytes: &[u8]) -> usize {
        match self.clients.get_mut(&client) {
            Some((_, Some(writer))) => writer.write(bytes),
            // Whoever is gone has no keys to wait for.
            _ => bytes.len(),
        }
    }
    fn read_keys(&mut self, buf: &mut [u8]) -> usize {
        self.keys.read(buf)
    }
    fn write_out(&mut self, bytes: &[u8]) -> usize {
        self.out.write(bytes)
    }
}

/// Lets clients in and out.
fn admit(server: &Server, mux: &mut Mux, rings: &mut Rings) {
    while let Some(event) = server.next() {
        match event {
            Event::Opened { id, label, reader, writer } => {
                let kind = if writer.is_some() { Kind::Terminal } else { Kind::Log };
                mux.open(kind, id, &label);
                rings.clients.insert(id, (reader, writer));
            }
            Event::Closed(id) => {
                if let Some((mut reader, _)) = rings.clients.remove(&id) {
                    mux.close(id, &rest(&mut reader));
                }
            }
        }
    }
}

/// What is still in a ring, which is at most as much as fits there.
fn rest(reader: &mut Reader) -> Vec<u8> {
    let (mut rest, mut buf) = (Vec::new(), [0; PIECE]);
    loop {
        let count = reader.read(&mut buf);
        rest.extend(&buf[..count]);
        if count < buf.len() || rest.len() >= services::stream::RING_LEN as usize {
            return rest;
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?;
    let name = rt::start_info().map_or(NAME, |info| info.name.as_str());
    let mut mux = Mux::new(name, &config).map_err(|e| format!("not enough memory: {e}; more `ram` is needed"))?;
    let server = Server::new()?;
    let at = Entrypoint::new(rt::thread::cpu(), STACK_LEN)?;
    // First, as whoever is below us may write a log.
    server.serve_log(at, CLIENTS_MAX)?;
    server.serve_terminal(at, CLIENTS_MAX)?;
    let below = || channel::terminal_at(&server);
    let (keys, out) = below().map_err(|e| format!("no terminal to print on: {e}"))?;
    let mut rings = Rings { clients: BTreeMap::new(), keys, out };
    let changed = Semaphore::from_sel(server.wait_sel());
    loop {
        admit(&server, &mut mux, &mut rings);
        while mux.pump(&mut rings) {
            thread::sleep(PAUSE);
            admit(&server, &mut mux, &mut rings);
        }
        if rings.out.is_broken() {
            match below() {
                Ok(terminal) => (rings.keys, rings.out) = terminal,
                // Without us our clients' lines go to the root task, which reads the rings when we have ended.
                Err(_) => fail("the terminal below is gone"),
            }
            continue;
        }
        changed.down_zero();
    }
}

fn fail(why: impl Display) -> ! {
    eprintln!("{why}");
    std::process::exit(1)
}

fn main() {
    if let Err(e) = run() {
        fail(e);
    }
}
