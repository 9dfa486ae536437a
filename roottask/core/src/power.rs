//! Switching the machine off.

use crate::log::Log;
use crate::window::Window;
use abi::{Hip, HwOp};
use core_task_logic::acpi::{AcpiError, Tables};
use core_task_logic::firmware::rsdp;
use std::time::Duration;

/// S value of soft off.
const S5: u8 = 5;

/// Says so, waits until the log is out, and switches off. If the machine does not obey, the log says why, and nothing
/// else happens any more.
pub fn off(log: &Log, window: &Window, hip: &Hip, code: u64) -> ! {
    log.line(format!("system off, exit code {code}"));
    log.drain();
    match sleep_type(window, hip) {
        Ok((a, b)) => {
            if let Err(status) = rt::hypercall::ctrl_hw(HwOp::Sleep as u8, HwOp::sleep_descriptor(S5, a, b)) {
                log.line(format!("the kernel refused to switch the machine off: {status}"));
            }
        }
        Err(e) => log.line(format!("cannot switch the machine off: {e}")),
    }
    log.use_console();
    idle()
}

/// Nothing more to do; other threads go on.
pub fn idle() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn sleep_type(window: &Window, hip: &Hip) -> Result<(u8, u8), AcpiError> {
    Tables::new(window, rsdp(hip).unwrap_or(u64::MAX))?.s5()
}
