//! Wiring of the UART driver: ports, interrupt, and the rings of the one client of service "terminal".
//!
//! Two threads share the device: one waits for the interrupt, one for the client. The main thread writes the log: it
//! may wait for the log's reader, whose output comes through here, so no other thread may log.

use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use rt::Semaphore;
use rt::channel::{Event, Reader, Server, Writer};
use rt::hw::{self, OpenPorts};
use rt::rpc::Entrypoint;
use uart16550_logic::{Config, Ports, Uart, spec};

/// Stack of each thread, in bytes; the threads call little.
const STACK_LEN: usize = 64 << 10;

struct HardwarePorts(OpenPorts);

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
    server: Server,
    /// Session of who has the terminal.
    client: Option<u64>,
    /// What it sends. It may have gone; when all of that is sent, another one may come.
    from: Option<Reader>,
    /// What is typed. `None`: it has gone.
    to: Option<Writer>,
    reports: Sender<String>,
}

impl Line {
    fn on_interrupt(&mut self) {
        let Line { uart, from, to, .. } = self;
        let gone = to.is_none();
        uart.service(&mut |bytes| give(to, bytes), &mut |buf| take(from, gone, buf));
        self.report();
        if self.client.is_some() && self.from.is_none() {
            self.on_client();
        }
    }

    /// Clients come and go, or the one that is here has written something.
    fn on_client(&mut self) {
        loop {
            while self.client.is_none() || self.to.is_some() {
                let Some(event) = self.server.next() else { break };
                self.admit(event);
            }
            let Line { uart, from, to, .. } = self;
            let gone = to.is_none();
            uart.kick(&mut |bytes| give(to, bytes), &mut |buf| take(from, gone, buf));
            if self.client.is_none() || self.from.is_some() {
                return;
            }
            self.client = None;
        }
    }

    fn admit(&mut self, event: Event) {
        match event {
            Event::Opened { id, label, reader, writer } => {
                // Fails only if the main thread is gone, and the component with it.
                let _ = self.reports.send(format!("serves {label}"));
                (self.client, self.from, self.to) = (Some(id), Some(reader), writer);
            }
            Event::Closed(id) if self.client == Some(id) => self.to = None,
            Event::Closed(_) => {}
        }
    }

    fn report(&mut self) {
        if let Some(errors) = self.uart.error_report() {
            // As above.
            let _ = self.reports.send(errors.to_string());
        }
    }
}

/// What was typed; without a client it is lost.
fn give(to: &mut Option<Writer>, bytes: &[u8]) -> usize {
    to.as_mut().map_or(bytes.len(), |to| to.write(bytes))
}

/// What is to be sent; of a client that has `gone` until there is no more.
fn take(from: &mut Option<Reader>, gone: bool, buf: &mut [u8]) -> usize {
    let count = from.as_mut().map_or(0, |from| from.read(buf));
    if gone && count == 0 {
        *from = None;
    }
    count
}

fn config() -> Result<Config, Box<dyn Error>> {
    Ok(rt::rom(parent::CONFIG_ROM).map_or(Ok(Config::default()), Config::parse)?)
}

/// Starts everything; returns the first line of the log and where the others come from.
fn start() -> Result<(String, Receiver<String>), Box<dyn Error>> {
    let config = config()?;
    let (port, irq) = (config.port, config.irq);
    let last = port.checked_add(spec::PORT_COUNT - 1).ok_or_else(|| format!("port {port:#x}: the last is 0xffff"))?;
    let ports = hw::ports(port, last).map_err(|e| format!("ports {port:#x}-{last:#x}: {e}"))?;
    let interrupt = hw::interrupt(irq).map_err(|e| format!("interrupt {irq}: {e}"))?;
    let uart = Uart::open(HardwarePorts(ports), config.baud).map_err(|e| format!("port {port:#x}: {e}"))?;

    let (rate, depth) = (config.baud.rate(), uart.depth());
    let hello = format!("UART at {port:#x}, interrupt {irq}, {rate} baud, FIFO of {depth}");
    let server = Server::new()?;
    let client_changed = Semaphore::from_sel(server.wait_sel());
    let (reports, log) = channel();
    let line = Arc::new(Mutex::new(Line { uart, server: server.clone(), client: None, from: None, to: None, reports }));
    spawn("client", line.clone(), Line::on_client, move || client_changed.down_zero())?;
    spawn("interrupt", line, Line::on_interrupt, move || interrupt.down_zero())?;
    // A UART is one terminal. Who wants it for several has a multiplexer in between.
    server.serve_terminal(Entrypoint::new(rt::thread::cpu(), STACK_LEN)?, 1)?;
    Ok((hello, log))
}

/// A thread that calls `f` at the start and then whenever it has waited.
fn spawn(
    name: &str,
    line: Arc<Mutex<Line>>,
    f: fn(&mut Line),
    wait: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let body = move || {
        loop {
            f(&mut line.lock().expect("a panic ends the component"));
            wait();
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
