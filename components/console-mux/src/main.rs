//! Wiring of the console multiplexer: the rings of its clients and of the terminal below.
//!
//! The clients' rings share one semaphore, the terminal below has another; a thread waits for each, and either does
//! all there is to do. Nothing here writes a log after the start, but for the last words: it would wait for itself.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use console_mux_logic::{Config, Kind, Mux, Streams};
use parent::{SERVICE_LOG, SERVICE_TERMINAL};
use rt::Semaphore;
use rt::channel::{Channel, Reader, Writer};

/// Stack of the second thread, in bytes.
const STACK_LEN: usize = 64 << 10;
/// How long others run before more is read of a client that writes as fast as it can.
const PAUSE: Duration = Duration::from_millis(2);
/// Label of our own lines if we have no name.
const NAME: &str = "console";

/// The rings. The clients are in the multiplexer's order.
struct Rings {
    clients: Vec<(Reader, Writer)>,
    keys: Reader,
    out: Writer,
}

impl Streams for Rings {
    fn read_client(&mut self, client: u64, buf: &mut [u8]) -> usize {
        self.clients[client as usize].0.read(buf)
    }
    fn write_client(&mut self, client: u64, bytes: &[u8]) -> usize {
        self.clients[client as usize].1.write(bytes)
    }
    fn read_keys(&mut self, buf: &mut [u8]) -> usize {
        self.keys.read(buf)
    }
    fn write_out(&mut self, bytes: &[u8]) -> usize {
        self.out.write(bytes)
    }
}

/// What both threads work on.
struct Console {
    mux: Mux,
    rings: Rings,
}

/// All clients with their kinds.
fn clients() -> impl Iterator<Item = (Kind, Channel)> {
    let of = |kind, service| rt::channel::servers(service).into_iter().map(move |c| (kind, c));
    of(Kind::Log, SERVICE_LOG).chain(of(Kind::Terminal, SERVICE_TERMINAL))
}

fn serve(changed: &Semaphore, console: &Mutex<Console>) -> ! {
    loop {
        while pump(console) {
            thread::sleep(PAUSE);
        }
        if console.lock().expect("a panic ends the component").rings.out.is_broken() {
            // The parent broke it. Without us our clients' lines go to the root task.
            eprintln!("the terminal below is gone");
            std::process::exit(1);
        }
        changed.down_zero();
    }
}

/// Does what there is to do; says whether there is more.
fn pump(console: &Mutex<Console>) -> bool {
    let mut console = console.lock().expect("a panic ends the component");
    let Console { mux, rings } = &mut *console;
    mux.pump(rings)
}

/// The multiplexer for these clients, in their order.
fn mux(config: &Config, clients: &[(Kind, Channel)]) -> Result<Mux, String> {
    let name = rt::start_info().map_or(NAME, |info| info.name.as_str());
    let mut mux = Mux::new(name, config).map_err(|e| format!("not enough memory: {e}; more `ram` is needed"))?;
    for (id, (kind, channel)) in clients.iter().enumerate() {
        mux.open(*kind, id as u64, channel.peer());
    }
    Ok(mux)
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?;
    let below = rt::channel::client(SERVICE_TERMINAL).ok_or("no terminal to print on: routes.terminal is missing")?;
    let clients: Vec<(Kind, Channel)> = clients().collect();
    let mux = mux(&config, &clients)?;
    let rings: Vec<(Reader, Writer)> = clients.into_iter().map(|(_, channel)| channel.split()).collect();
    let client_changed = rings.first().map(|(reader, _)| Semaphore::from_sel(reader.wait_sel()));
    let client_changed = client_changed.ok_or("no component has its log or terminal routed here: nothing to do")?;
    let (keys, out) = below.split();
    let below_changed = Semaphore::from_sel(keys.wait_sel());
    let console = Console { mux, rings: Rings { clients: rings, keys, out } };
    let console = Arc::new(Mutex::new(console));
    let shared = console.clone();
    thread::Builder::new()
        .name("terminal".into())
        .stack_size(STACK_LEN)
        .spawn(move || serve(&below_changed, &shared))?;
    serve(&client_changed, &console)
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
