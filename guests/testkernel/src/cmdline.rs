//! The command line that the loader hands over: words of the form `key=value`.
//!
//! `run=TEXT` selects tests by name, `skip=NAME,NAME` leaves some out, `gaps=run` takes in those that the
//! emulator is known to fail, `mode=` chooses another behaviour than testing,
//! `seed=N` and `rounds=N` go with it, `cpus=N` overrides CPUID.

/// Multiboot 1 (0.6.96, 3.3): magic in EAX; flags of the information, where the command line is.
const MAGIC: u32 = 0x2bad_b002;
const HAS_CMDLINE: u32 = 1 << 2;
const CMDLINE_WORD: usize = 4;
const LONGEST: usize = 4096;

/// What it says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What to do.
    pub mode: &'static str,
    /// Part of the names of tests.
    pub run: &'static str,
    /// Tests not to run.
    pub skip: &'static str,
    /// Run tests that the emulator is known to fail.
    pub gaps: bool,
    /// Seed of random behaviour.
    pub seed: u64,
    /// How long.
    pub rounds: u64,
    /// Number of CPUs.
    pub cpus: Option<usize>,
}

unsafe extern "C" {
    static boot_magic: u32;
    static boot_info: u32;
}

fn text() -> &'static str {
    // SAFETY: boot.S stored what the loader passed; the loader's memory is mapped and nobody writes to it.
    let bytes = unsafe {
        let info = boot_info as usize as *const u32;
        if boot_magic != MAGIC || info.read() & HAS_CMDLINE == 0 {
            return "";
        }
        let start = info.add(CMDLINE_WORD).read() as usize as *const u8;
        let length = (0..LONGEST).take_while(|n| start.add(*n).read() != 0).count();
        core::slice::from_raw_parts(start, length)
    };
    core::str::from_utf8(bytes).unwrap_or("")
}

/// Reads it; what it does not know it ignores, as loaders put a file name in front.
pub fn read() -> Options {
    let mut o = Options { mode: "test", run: "", skip: "", gaps: false, seed: 1, rounds: 1000, cpus: None };
    for word in text().split_ascii_whitespace() {
        let Some((key, value)) = word.split_once('=') else { continue };
        match key {
            "mode" => o.mode = value,
            "run" => o.run = value,
            "skip" => o.skip = value,
            "gaps" => o.gaps = value == "run",
            "seed" => o.seed = value.parse().unwrap_or(o.seed),
            "rounds" => o.rounds = value.parse().unwrap_or(o.rounds),
            "cpus" => o.cpus = value.parse().ok(),
            _ => {}
        }
    }
    o
}
