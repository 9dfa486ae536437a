//! What tests are made of: the machine, a guest on it, and how a test ends.

use crate::facts::{Emulator, Facts, Vendor};
use crate::reason::info;
use abi::{ArchState, Mtd, event};
use std::fmt::{Debug, LowerHex};

/// Bytes of a guest's memory, from address 0.
pub const RAM: u64 = 256 << 10;
/// Where code is.
pub const CODE: u64 = 0x1000;
/// Handlers, one for each vector, [`HANDLER_SIZE`] apart.
pub const HANDLERS: u64 = 0x4000;
/// Bytes of a handler.
pub const HANDLER_SIZE: u64 = 16;
/// A page of data.
pub const DATA: u64 = 0x6000;
/// The stack ends here.
pub const STACK: u64 = 0x8000;

/// What a guest may do with a page of its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Access {
    Nothing,
    Read,
    ReadWrite,
    All,
}

/// A machine that runs virtual CPUs.
pub trait Machine {
    /// What it says of itself.
    fn facts(&self) -> Facts;

    /// A new guest with [`RAM`] bytes of zeros and a virtual CPU that has not run yet; its time begins now, if it has one of
    /// its own.
    fn vm(&self, own_time: bool) -> Result<Box<dyn Vm>, String>;
}

/// A guest with one virtual CPU.
pub trait Vm {
    /// Answers the event that the virtual CPU waits in, and returns the next one with its state. The first call, which
    /// answers nothing, returns STARTUP.
    fn run(&mut self, reply: Mtd, state: &mut ArchState) -> Result<u64, String>;

    /// RECALL.
    fn recall(&mut self) -> Result<(), String>;

    /// Reads these groups of the stopped virtual CPU's state.
    fn get(&mut self, mtd: Mtd, state: &mut ArchState) -> Outcome;

    /// Writes them.
    fn set(&mut self, mtd: Mtd, state: &ArchState) -> Outcome;

    /// Writes to its memory.
    fn write(&mut self, gpa: u64, bytes: &[u8]);

    /// Reads its memory.
    fn read(&self, gpa: u64, bytes: &mut [u8]);

    /// Changes what it may do with a page.
    fn page(&mut self, gpa: u64, access: Access) -> Result<(), String>;

    /// Lets it use a port. `Err`: why that cannot be.
    fn grant_port(&mut self, port: u16) -> Result<(), String>;

    /// Lets it read an MSR. `Err`: why that cannot be.
    fn grant_msr(&mut self, msr: u32) -> Result<(), String>;
}

/// Why a test did not pass.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// Expected and found.
    Failed(String),
    /// The machine cannot show it.
    NotHere(String),
}

impl From<String> for Why {
    fn from(s: String) -> Why {
        Why::Failed(s)
    }
}

/// Of a test.
pub type Outcome = Result<(), Why>;

/// A test.
pub struct Test {
    /// Name of its function.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// It.
    pub run: fn(&dyn Machine) -> Outcome,
}

/// The tests of a module: function, what it shows, and which statements of docs/spec (tags; `cargo xtask spec` reads them).
macro_rules! tests {
    ($($name:ident: $about:literal $(, $tags:literal)?;)*) => {
        /// The tests of this module.
        pub const TESTS: &[crate::guest::Test] =
            &[$(crate::guest::Test { name: stringify!($name), about: $about, run: $name }),*];
    };
}

/// The two are the same.
pub fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want { Ok(()) } else { Err(Why::Failed(format!("{what}: expected {want:x?}, got {got:x?}"))) }
}

/// All bits of `want` in `mask`.
pub fn bits<T: Copy + PartialEq + LowerHex + std::ops::BitAnd<Output = T>>(
    what: &str,
    got: T,
    mask: T,
    want: T,
) -> Outcome {
    if got & mask == want {
        return Ok(());
    }
    Err(Why::Failed(format!("{what}: expected {want:#x} in the bits {mask:#x}, got {got:#x}")))
}

/// It holds.
pub fn holds(what: &str, yes: bool) -> Outcome {
    if yes { Ok(()) } else { Err(Why::Failed(format!("does not hold: {what}"))) }
}

/// Needs a feature.
pub fn needs(what: &str, have: bool) -> Outcome {
    if have { Ok(()) } else { Err(Why::NotHere(format!("the CPU has no {what}"))) }
}

/// A guest: its last event, the state that came with it, and what of it the reply will write.
pub struct Guest {
    /// The machine.
    pub facts: Facts,
    /// Its memory and spaces.
    pub vm: Box<dyn Vm>,
    /// State: read, change, name the group in [`Guest::write`].
    pub s: ArchState,
    /// Number of the last event.
    pub event: u64,
    dirty: Mtd,
}

impl Guest {
    /// With code at [`CODE`], about to run it in real mode with interrupts off, stopped in STARTUP.
    pub fn new(m: &dyn Machine, code: &[u8]) -> Result<Guest, Why> {
        Guest::with_time(m, code, false)
    }

    /// As [`Guest::new`], with a time of its own or without.
    pub fn with_time(m: &dyn Machine, code: &[u8], own_time: bool) -> Result<Guest, Why> {
        let mut g =
            Guest { facts: m.facts(), vm: m.vm(own_time)?, s: ArchState::ZERO, event: u64::MAX, dirty: Mtd::empty() };
        g.vm.write(CODE, code);
        g.event = g.vm.run(Mtd::empty(), &mut g.s)?;
        equal("first event", g.event, event::GST_STARTUP)?;
        g.real_mode();
        Ok(g)
    }

    /// Real mode at [`CODE`].
    pub fn real_mode(&mut self) {
        let s = &mut self.s;
        let begun = s.begin_in_real_mode(CODE, 2);
        let data = s.ss;
        (s.ds, s.es, s.fs, s.gs) = (data, data, data, data);
        s.gpr[ArchState::RSP] = STACK;
        self.write(begun | Mtd::DS_ES | Mtd::FS_GS | Mtd::GPR_0_7);
    }

    /// The next reply writes these groups.
    pub fn write(&mut self, mtd: Mtd) {
        self.dirty |= mtd;
    }

    /// Runs to the next event.
    pub fn run(&mut self) -> Result<u64, Why> {
        self.event = self.vm.run(std::mem::take(&mut self.dirty), &mut self.s)?;
        Ok(self.event)
    }

    /// Runs to the next event, which must be this one.
    pub fn until(&mut self, event: u64) -> Outcome {
        self.run()?;
        self.at(event)
    }

    /// The last event was this one.
    pub fn at(&self, event: u64) -> Outcome {
        if self.event == event {
            return Ok(());
        }
        let s = &self.s;
        Err(Why::Failed(format!(
            "expected event {event}, got {} at RIP {:#x}, CR2 {:#x}, qualification {:x?}, exception {:#x} ({:#x})",
            self.event, s.rip, s.cr2, s.qual, s.exc_info, s.exc_error
        )))
    }

    /// As [`Guest::until`]; another event is excused on an emulator of which it is known.
    pub fn until_or_gap(&mut self, event: u64, who: Emulator, vendor: Vendor, gap: &str) -> Outcome {
        self.run()?;
        match self.at(event) {
            Err(_) if self.is(who, vendor) => Err(Why::NotHere(gap.into())),
            other => other,
        }
    }

    /// Whether it is that emulator of that vendor's virtualisation.
    pub fn is(&self, who: Emulator, vendor: Vendor) -> bool {
        self.facts.emulator == who && self.facts.vendor == vendor
    }

    /// Whether it is SVM.
    pub fn svm(&self) -> bool {
        self.facts.vendor == Vendor::Svm
    }

    /// Goes on behind an instruction of that length.
    pub fn skip(&mut self, len: u32) -> Outcome {
        if self.s.inst_len != 0 || self.facts.lengths {
            equal("length of the instruction", self.s.inst_len, len)?;
        }
        self.s.rip += u64::from(len);
        self.s.intr_state &= !3;
        self.write(Mtd::RIP | Mtd::STA);
        Ok(())
    }

    /// The next entry injects this, with [`info`]'s bits but VALID, and requests these windows.
    pub fn inject(&mut self, event: u32, error: u32) {
        (self.s.inj_info, self.s.inj_error) = (event | info::VALID, error);
        self.write(Mtd::INJ);
    }

    /// The next entry requests these windows and injects nothing.
    pub fn request(&mut self, windows: u32) {
        self.s.inj_info = windows;
        self.write(Mtd::INJ);
    }

    /// What shall exit besides: primary and secondary controls, bits of CR0 and CR4, exceptions.
    pub fn intercept(&mut self, ctrl: [u32; 2], cr: [u64; 2], exceptions: u32) {
        let s = &mut self.s;
        (s.ctrl, s.ctrl3) = (ctrl, 0);
        [s.intcpt_cr0, s.intcpt_cr4] = cr;
        (s.intcpt_exc, s.pfe_mask, s.pfe_match) = (exceptions, 0, 0);
        self.write(Mtd::CTRL);
    }

    /// The handler of a vector: code and where it is. In real mode the vector table points there.
    pub fn handler(&mut self, vector: u8, code: &[u8]) -> u64 {
        assert!(code.len() <= HANDLER_SIZE as usize, "handlers have {HANDLER_SIZE} bytes");
        let at = HANDLERS + u64::from(vector) * HANDLER_SIZE;
        self.vm.write(at, code);
        self.vm.write(u64::from(vector) * 4, &(at as u32).to_le_bytes());
        at
    }

    /// The word at an address.
    pub fn peek(&self, gpa: u64) -> u64 {
        let mut b = [0; 8];
        self.vm.read(gpa, &mut b);
        u64::from_le_bytes(b)
    }

    /// Half a word.
    pub fn peek32(&self, gpa: u64) -> u32 {
        self.peek(gpa) as u32
    }

    /// A quarter.
    pub fn peek16(&self, gpa: u64) -> u16 {
        self.peek(gpa) as u16
    }

    /// Sets a word.
    pub fn poke(&mut self, gpa: u64, v: u64) {
        self.vm.write(gpa, &v.to_le_bytes());
    }

    /// RSP.
    pub fn rsp(&self) -> u64 {
        self.s.gpr[ArchState::RSP]
    }

    /// RAX.
    pub fn rax(&self) -> u64 {
        self.s.gpr[ArchState::RAX]
    }

    /// Sets a register.
    pub fn set_gpr(&mut self, index: usize, v: u64) {
        self.s.gpr[index] = v;
        self.write(if index < 8 { Mtd::GPR_0_7 } else { Mtd::GPR_8_15 });
    }
}
