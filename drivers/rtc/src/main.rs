//! Wiring of the clock driver: the chip's ports, and the sessions of service `rtc`.

use mc146818::{Cmos, spec};
use rt::rpc::{Entrypoint, Managed};
use rt::session::{self, Refused, Request, Root};
use rtc_logic::Clock;
use services::{Date, Rtc, RtcError, RtcServer};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of the entry point, in bytes: its methods read a few ports.
const STACK: usize = 32 << 10;

struct Ports(rt::hw::OpenPorts);

impl Cmos for Ports {
    fn read(&mut self, register: u8) -> u8 {
        self.0.out8(0, register & spec::INDEX_MASK);
        self.0.in8(1)
    }
}

type Chip = Clock<Ports, fn() -> u64>;

/// Time since the TSC was 0.
fn now_ns() -> u64 {
    rt::time::ns_from_tsc(rt::time::tsc())
}

/// What all sessions show: one clock, so that no two clients differ.
#[derive(Clone)]
struct Shared(Arc<Mutex<Chip>>);

impl Shared {
    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rtc for Shared {
    fn date(&mut self) -> Result<Date, RtcError> {
        self.chip().date()
    }

    fn unix_ns(&mut self) -> Result<u64, RtcError> {
        self.chip().unix_ns()
    }
}

impl Root for Shared {
    type Interface = dyn Rtc;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Rtc>, Refused> {
        at.manage(RtcServer(self.clone())).map_err(|_| Refused::Denied)
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let last = spec::INDEX_PORT + spec::PORT_COUNT - 1;
    let ports = Ports(rt::hw::ports(spec::INDEX_PORT, last).map_err(|e| format!("ports of the clock chip: {e}"))?);
    let shared = Shared(Arc::new(Mutex::new(Clock::new(ports, now_ns))));
    match shared.chip().check() {
        Ok((d, kept)) => {
            let power = if kept { "" } else { "; it has been without power, and may be wrong" };
            let Date { year, month, day, hour, minute, second, .. } = d;
            println!("{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC{power}");
        }
        // It may recover, and clients are told at each call.
        Err(e) => println!("{e}"),
    }
    let at = Entrypoint::new(rt::thread::cpu(), STACK).map_err(|e| format!("the kernel refused a thread: {e:?}"))?;
    session::serve(at, shared)?;
    loop {
        std::thread::park();
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
