//! Wiring of the UART driver: ports, interrupt, and the rings of the one client of service "terminal".
//!
//! Two threads share the device: one waits for the interrupt, one for the client. The main thread writes the log: it
//! may wait for the log's reader, whose output comes through here, so no other thread may log.

use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use parent::SERVICE_TERMINAL;
use rt::Semaphore;
use rt::channel::{Channel, Reader, Writer};
use uart16550_logic::{Config, Ports, Uart, spec};

/// Stack of each thread, in bytes; the threads call little.
const STACK_LEN: usize = 64 << 10;

struct HardwarePorts(rt::hw::Ports);

impl Ports for HardwarePorts {
    fn in8(&mut self, reg: u16) -> u8 {
        self.0.in8(reg)
    }
    fn out8(&mut self, reg: u16, value: u8) {
        self.0.out8(reg, value);
    }
}

/// What both threads work on.
struct Line {
    uart: Uart<HardwarePorts>,
    from_client: Reader,
    to_client: Writer,
    reports: Sender<String>,
}

impl Line {
    fn on_interrupt(&mut self) {
        let Line { uart, from_client, to_client, .. } = self;
        uart.service(&mut |bytes| to_client.write(bytes), &mut |buf| from_client.read(buf));
        self.report();
    }

    fn on_client(&mut self) {
        let Line { uart, from_client, to_client, .. } = self;
        uart.kick(&mut |bytes| to_client.write(bytes), &mut |buf| from_client.read(buf));
    }

    fn report(&mut self) {
        if let Some(errors) = self.uart.error_report() {
            // Fails only if the main thread is gone, and the component with it.
            let _ = self.reports.send(errors.to_string());
        }
    }
}

/// The one client.
fn only_client() -> Result<Channel, String> {
    let mut clients = rt::channel::servers(SERVICE_TERMINAL);
    match (clients.pop(), clients.as_slice()) {
        (None, _) => Err("no component has its terminal routed here: nothing to do".into()),
        (Some(client), []) => Ok(client),
        (Some(last), others) => {
            let names: Vec<&str> = others.iter().chain([&last]).map(Channel::peer).collect();
            let names = names.join(", ");
            Err(format!(
                "a UART is one terminal, but several components have theirs routed here: {names}; use console-mux"
            ))
        }
    }
}

fn config() -> Result<Config, Box<dyn Error>> {
    Ok(rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?)
}

/// Starts everything; returns the first line of the log and where the others come from.
fn start() -> Result<(String, Receiver<String>), Box<dyn Error>> {
    let config = config()?;
    let client = only_client()?;
    let irq = rt::start_info().and_then(|info| info.irqs().first()).ok_or("no interrupt granted: irqs = [4]?")?;
    let ports = HardwarePorts(rt::hw::Ports::new(config.port, spec::PORT_COUNT));
    let uart = Uart::open(ports, config.baud).map_err(|e| format!("port {:#x}: {e}", config.port))?;

    let (port, rate, depth, peer) = (config.port, config.baud.rate(), uart.depth(), client.peer().to_string());
    let hello = format!("UART at {port:#x}, interrupt {}, {rate} baud, FIFO of {depth}, serves {peer}", irq.gsi);
    let (from_client, to_client) = client.split();
    let client_changed = Semaphore::from_sel(from_client.wait_sel());
    let interrupt = Semaphore::from_sel(irq.sel);
    let (reports, log) = channel();
    let line = Arc::new(Mutex::new(Line { uart, from_client, to_client, reports }));
    spawn("client", client_changed, line.clone(), Line::on_client)?;
    spawn("interrupt", interrupt, line, Line::on_interrupt)?;
    Ok((hello, log))
}

/// A thread that calls `f` at the start and then whenever `semaphore` is upped.
fn spawn(name: &str, semaphore: Semaphore, line: Arc<Mutex<Line>>, f: fn(&mut Line)) -> std::io::Result<()> {
    let body = move || {
        loop {
            f(&mut line.lock().expect("a panic ends the component"));
            semaphore.down_zero();
        }
    };
    thread::Builder::new().name(name.into()).stack_size(STACK_LEN).spawn(body).map(drop)
}

fn main() {
    match start() {
        Ok((hello, log)) => {
            println!("{hello}");
            log.iter().for_each(|line| println!("{line}"));
        }
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(1);
        }
    }
}
