//! A guest that checks, from inside, what a virtual machine does; or does its worst (`hostile`).
//!
//! Started by a Multiboot 1 loader; the command line says what to do: see README.md.
//!
//! UNSAFETY: a bare-metal kernel that provokes the CPU on purpose; privileged instructions go through `x86!`.
#![no_std]
#![no_main]

mod cmdline;
mod harness;
mod hostile;
mod machine;
mod spec;
mod tests;

use core::panic::PanicInfo;
use machine::{serial, smp, tables, trap};

/// From boot.S.
#[unsafe(no_mangle)]
extern "C" fn kernel_main() -> ! {
    let options = cmdline::read();
    smp::expect(options.cpus.unwrap_or_else(smp::count_by_cpuid));
    machine::init();
    match options.mode {
        "test" => harness::run_all(options.run, options.skip, options.gaps),
        mode => hostile::run(mode, &options),
    }
    machine::power_off()
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let place = info.location().map_or(("?", 0), |l| (l.file(), l.line()));
    match tables::this_cpu() {
        0 => println!("FAILED: {} ({}:{})", OneLine(info.message()), place.0, place.1),
        // The boot CPU waits for this one, and fails then.
        n => print!("(CPU {n}: {} ({}:{})) ", OneLine(info.message()), place.0, place.1),
    }
    serial::flush();
    trap::abandon()
}

/// A message without line ends: reports have one line for each test.
struct OneLine<'a>(core::panic::PanicMessage<'a>);

impl core::fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter) -> core::fmt::Result {
        use core::fmt::Write;
        struct Filter<'a, 'b>(&'a mut core::fmt::Formatter<'b>);
        impl Write for Filter<'_, '_> {
            fn write_str(&mut self, s: &str) -> core::fmt::Result {
                s.split_inclusive('\n').try_for_each(|part| {
                    let end = if part.ends_with('\n') { ";" } else { "" };
                    self.0.write_str(part.trim_end_matches('\n'))?;
                    self.0.write_str(end)
                })
            }
        }
        write!(Filter(f), "{}", self.0)
    }
}
