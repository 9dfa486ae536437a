//! Five ticks, a second apart: the smallest client of a session. It is nothing but wiring, so it has no library.
extern crate rt;

use rt::Semaphore;
use rt::rpc::Entrypoint;
use rt::session;
use services::{Timer, TimerClient};
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

/// Stack of the entry point, in bytes: its one handler ups a semaphore.
const STACK: usize = 16 << 10;
const TICKS: u32 = 5;
const SECOND_US: u64 = 1_000_000;

fn tick() -> Result<(), Box<dyn Error>> {
    let session = session::open::<dyn Timer>("", &[])?;
    let timer = TimerClient::new(session.portal());
    let ticked = Arc::new(Semaphore::new(0));
    let raised = Arc::clone(&ticked);
    let at = Entrypoint::new(rt::thread::cpu(), STACK)?;
    let context = at.context(move || raised.up())?;
    timer.heed(context.signal())?;
    timer.every(SECOND_US)?;
    for n in 1..=TICKS {
        ticked.down();
        println!("timer tick {n}");
    }
    Ok(())
}

fn main() -> ExitCode {
    match tick() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("no timer: {e}");
            ExitCode::FAILURE
        }
    }
}
