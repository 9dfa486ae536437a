//! The contract between a parent and its children: where things are, what a component holds at start, and what it
//! can ask of its parent.
//!
//! A component starts with exactly what [`StartInfo`] lists, in its own protection domain, and with its parent, of which it
//! asks sessions (`services::Parent`, at [`sel::sessions`]); what is not listed does not exist for it.
//!
//! Start of a thread: the kernel raises a STARTUP event, the parent answers it with RIP := ELF entry, RDI :=
//! [`layout::START_INFO`] for the first thread and 0 for all others; RSP is what `create_ec` was given.
//!
//! Key types: [`StartInfo`], [`Call`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Virtual addresses in a component.
pub mod layout {
    /// Start of the ELF image.
    pub const IMAGE: u64 = 0x40_0000;
    /// Page-aligned [`super::StartInfo`], read-only.
    pub const START_INFO: u64 = 0x1000_0000;
    /// ROM modules, each page-aligned, read-only.
    pub const ROMS: u64 = 0x20_0000_0000;
    /// UTCBs: page n is the UTCB of the n-th EC that the component creates; page 0 that of the first thread.
    pub const UTCBS: u64 = 0x40_0000_0000;
    /// Views of RAM with unmapped pages between them: stacks. The first thread's stack ends at [`STACK_TOP`].
    pub const STACKS: u64 = 0x50_0000_0000;
    /// End of the first thread's stack; below it nothing is mapped.
    pub const STACK_TOP: u64 = 0x4f_ffff_f000;
    /// Length of the first thread's stack in bytes, if the system file says nothing; paid from the component's RAM.
    pub const STACK_LEN: u64 = 256 << 10;
    /// What the component attaches in its address space (`services::Rm`); nothing at the start.
    pub const DATASPACES: u64 = 0x60_0000_0000;
    /// How many bytes there are.
    pub const DATASPACES_LEN: u64 = 0x10_0000_0000;
    /// Whether an address is there.
    pub const fn in_dataspaces(address: u64) -> bool {
        address >= DATASPACES && address < DATASPACES + DATASPACES_LEN
    }
    /// From here to [`RAM`] nobody but the component itself maps anything.
    pub const UNUSED: u64 = DATASPACES + DATASPACES_LEN;
    /// The component's RAM, readable and writable, zeroed, contiguous here, aligned to 2 MiB here and in physical
    /// memory as far as its length allows.
    pub const RAM: u64 = 0x80_0000_0000;
}

/// Selectors in a component's object space at start.
pub mod sel {
    use abi::Sel;
    /// Own protection domain: PD, EC, PT, SM; scheduling contexts come from the parent.
    pub const PD: Sel = 1;
    /// Own object space: TAKE, GRANT.
    pub const OBJ: Sel = 2;
    /// Own host space: TAKE, GRANT.
    pub const HST: Sel = 3;
    /// The first thread's EC.
    pub const EC: Sel = 6;
    /// The first thread's SC: CTRL.
    pub const SC: Sel = 7;
    /// The own protection domain as an object, `services::Pd`, for threads on the first CPU: CALL.
    pub const PD_SESSION: Sel = 8;
    /// The own address space as an object, `services::Rm`, for threads on the first CPU: CALL.
    pub const RM_SESSION: Sel = 9;
    /// What a component that may have children has for them, `services::Children`, for threads on the first CPU: CALL.
    pub const CHILDREN_SESSION: Sel = 10;
    /// What a component has for each CPU, CPU 0 first: portals can only be used on the CPU of the thread behind them.
    const CPUS: Sel = 0x100;
    /// Selectors for each CPU.
    const PER_CPU: Sel = 64;
    /// First selector behind those of the last CPU.
    pub const END: Sel = CPUS + super::MAX_CPUS as Sel * PER_CPU;

    /// Event base of every thread on `cpu`: 32 exceptions, startup, recall. Portals of the parent, EVENT only. They are
    /// there from the first EC on that [`super::Call::CreateEc`] makes there.
    pub const fn events(cpu: u16) -> Sel {
        CPUS + cpu as Sel * PER_CPU
    }

    /// Portal to the parent for threads on `cpu`: CALL. See [`super::Call`]; there when [`events`] are.
    pub const fn parent(cpu: u16) -> Sel {
        events(cpu) + PER_CPU - 1
    }

    /// The parent as an object, `services::Parent`, for threads on `cpu`: CALL. There when [`events`] are.
    pub const fn sessions(cpu: u16) -> Sel {
        events(cpu) + PER_CPU - 2
    }

    const _: () = assert!(abi::event::HST_ARCH + abi::event::HST_NOVA < PER_CPU - 1);
}

/// Most CPUs of a machine.
pub const MAX_CPUS: usize = 128;

/// "FSTI", little endian.
pub const MAGIC: u32 = 0x4954_5346;
/// Version of this contract.
pub const VERSION: u32 = 6;
/// Longest name or label, in bytes.
pub const NAME_LEN: usize = 32;
/// Most ROMs of a component.
pub const MAX_ROMS: usize = 16;
/// Name of the ROM that holds the component's configuration (TOML), if the system file gives one.
pub const CONFIG_ROM: &str = "config";
/// Name of the ROM that holds the arguments of the component's program, if the system file gives any: each with a zero
/// behind it. The component's label comes before them.
pub const ARGS_ROM: &str = "args";
/// Most arguments.
pub const MAX_ARGS: usize = 64;
/// Value of RAX with which a thread executes `ud2` to end itself: the parent answers the #UD event with POISON.
pub const THREAD_EXIT: u64 = 0x7469_7865_6572_6874;
/// Name of the service that takes lines of log text.
pub const SERVICE_LOG: &str = "log";

/// A name, zero-padded UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Name([u8; NAME_LEN]);

impl Name {
    /// `None` if it is longer than [`NAME_LEN`] bytes or contains a zero byte.
    pub fn new(s: &str) -> Option<Name> {
        let mut n = [0; NAME_LEN];
        if s.len() > NAME_LEN || s.contains('\0') {
            return None;
        }
        n[..s.len()].copy_from_slice(s.as_bytes());
        Some(Name(n))
    }

    /// The name; "?" if it is not UTF-8.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(NAME_LEN);
        core::str::from_utf8(&self.0[..len]).unwrap_or("?")
    }
}

impl core::fmt::Debug for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A read-only module.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Rom {
    /// Name in the system file.
    pub name: Name,
    /// Address.
    pub addr: u64,
    /// Length in bytes.
    pub len: u64,
}

/// What a component finds at [`layout::START_INFO`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// The component's label.
    pub name: Name,
    /// Frequency of the TSC in Hz.
    pub tsc_hz: u64,
    /// Wall-clock time in ns since 1970 when the TSC was 0.
    pub wall_base_ns: u64,
    /// Length of the RAM at [`layout::RAM`] in bytes.
    pub ram_len: u64,
    /// First selector that the component may use freely; all above it are free, up to `sel_end`.
    pub sel_free: u64,
    /// End of the free selectors, exclusive.
    pub sel_end: u64,
    /// CPUs of the machine.
    pub cpus: u32,
    /// CPU of the first thread.
    pub cpu: u32,
    /// Platform features: [`abi::Features`] bits.
    pub features: u64,
    /// Why no guests can run: [`abi::VirtMissing`] bits.
    pub virt_missing: u32,
    /// 1: a route leads the component's log somewhere; otherwise its lines are for its parent ([`Call::Log`]).
    pub has_log: u32,
    /// Valid entries of `roms`.
    pub rom_count: u32,
    /// Valid entries of `usable_cpus`.
    pub usable_count: u32,
    /// Length of the first thread's stack in bytes, whole pages.
    pub stack_len: u64,
    /// CPUs on which this component may have threads and vCPUs, that of the first thread first.
    pub usable_cpus: [u16; MAX_CPUS],
    /// ROMs.
    pub roms: [Rom; MAX_ROMS],
}

impl StartInfo {
    /// An empty one, with magic and version.
    pub fn new(name: Name) -> StartInfo {
        StartInfo { magic: MAGIC, version: VERSION, name, stack_len: layout::STACK_LEN, ..StartInfo::new_zeroed() }
    }

    /// Bytes it takes in memory, whole pages.
    pub const PAGES: usize = size_of::<StartInfo>().div_ceil(abi::PAGE_SIZE);

    /// CPUs on which this component may have threads and vCPUs, that of the first thread first.
    pub fn usable_cpus(&self) -> &[u16] {
        &self.usable_cpus[..(self.usable_count as usize).min(MAX_CPUS)]
    }

    /// The ROMs.
    pub fn roms(&self) -> &[Rom] {
        &self.roms[..(self.rom_count as usize).min(MAX_ROMS)]
    }

    /// Adds a usable CPU; `false` when there is no room.
    pub fn push_cpu(&mut self, cpu: u16) -> bool {
        push(&mut self.usable_cpus, &mut self.usable_count, cpu)
    }

    /// Adds a ROM; `false` when there is no room.
    pub fn push_rom(&mut self, r: Rom) -> bool {
        push(&mut self.roms, &mut self.rom_count, r)
    }
}

fn push<T>(list: &mut [T], count: &mut u32, item: T) -> bool {
    let Some(slot) = list.get_mut(*count as usize) else { return false };
    *slot = item;
    *count += 1;
    true
}

/// Operation codes of calls to the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, TryFromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(u64)]
pub enum Op {
    /// See [`Call::StartThread`].
    StartThread = 1,
    /// See [`Call::Exit`].
    Exit = 2,
    /// See [`Call::Log`].
    Log = 3,
    /// See [`Call::CreateEc`].
    CreateEc = 4,
    /// See [`Call::CreateCourier`].
    CreateCourier = 5,
}

/// Most [couriers](Call::CreateCourier) of a component on a CPU.
pub const MAX_COURIERS: usize = 8;
/// Longest text of one [`Call::Log`], in bytes.
pub const LOG_MAX: usize = 400;

/// A call to the parent: message word 0 is the [`Op`], the arguments follow; the reply's word 0 is 0 for success or
/// a [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call<'a> {
    /// Gives the EC behind `ec`, a thread or a vCPU, a scheduling context, `lower` priorities below the component's own, and puts its
    /// capability at `sc`, which must be a free selector.
    StartThread {
        /// Selector of the EC in the caller's object space.
        ec: u64,
        /// Free selector in the caller's object space.
        sc: u64,
        /// How far below the component's priority; clamped to the lowest.
        lower: u64,
    },
    /// Ends the component. There is no reply.
    Exit {
        /// 0: success.
        code: u64,
    },
    /// Has the parent log a line on the component's behalf, for components that have no log and for last words.
    Log {
        /// UTF-8, at most [`LOG_MAX`] bytes.
        text: &'a [u8],
    },
    /// Creates an EC of the component and puts its capability, with all permissions, at `ec`; sees to it that the
    /// component has its portals on that CPU. See `create_ec` in the specification for what the fields mean.
    CreateEc {
        /// Free selector in the caller's object space.
        ec: u64,
        /// CPU: one of [`StartInfo::usable_cpus`].
        cpu: u16,
        /// Flags of `create_ec`.
        flags: u8,
        /// Address of the page for the UTCB or the virtual APIC.
        page: u64,
        /// Initial stack pointer.
        sp: u64,
        /// Event base.
        events: u64,
    },
    /// Creates the EC of a courier: a thread of the component that calls portals on a CPU for its threads on others. The CPU need not be
    /// one of [`StartInfo::usable_cpus`], but then there are at most [`MAX_COURIERS`]. Otherwise as [`Call::CreateEc`] for
    /// a global thread; the capability has CTRL and BIND_SC.
    CreateCourier {
        /// Free selector in the caller's object space.
        ec: u64,
        /// CPU.
        cpu: u16,
        /// Address of the page for the UTCB.
        page: u64,
        /// Initial stack pointer.
        sp: u64,
        /// Event base.
        events: u64,
    },
}

/// Why the parent refused a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Refusal {
    /// Unknown operation or malformed arguments.
    BadCall = 1,
    /// The selector does not name an EC that can get a scheduling context, or the target selector is in use.
    BadSelector = 2,
    /// The kernel or the parent has no memory for it.
    NoMemory = 3,
    /// The component may not use this CPU: [`StartInfo::usable_cpus`] says which. Or it has all couriers there that it can
    /// have.
    NotYourCpu = 4,
    /// The machine runs no guests, so there are no vCPUs.
    NoGuests = 5,
    /// The component has no route for guests, so it has no vCPUs.
    NoRoute = 6,
}

impl Refusal {
    const ALL: [Refusal; 6] = [
        Refusal::BadCall,
        Refusal::BadSelector,
        Refusal::NoMemory,
        Refusal::NotYourCpu,
        Refusal::NoGuests,
        Refusal::NoRoute,
    ];

    /// The refusal in a reply's first word; `None` for success. Numbers that this version does not know are
    /// [`Refusal::BadCall`].
    pub fn from_word(word: u64) -> Option<Refusal> {
        match word {
            0 => None,
            w => Some(Refusal::ALL.into_iter().find(|r| *r as u64 == w).unwrap_or(Refusal::BadCall)),
        }
    }
}

impl Call<'_> {
    /// Writes the call into message words; returns how many.
    pub fn encode(&self, w: &mut [u64; abi::UTCB_WORDS]) -> usize {
        match *self {
            Call::StartThread { ec, sc, lower } => {
                w[..4].copy_from_slice(&[Op::StartThread as u64, ec, sc, lower]);
                4
            }
            Call::Exit { code } => {
                w[..2].copy_from_slice(&[Op::Exit as u64, code]);
                2
            }
            Call::Log { text } => {
                let text = &text[..text.len().min(LOG_MAX)];
                w[..2].copy_from_slice(&[Op::Log as u64, text.len() as u64]);
                w[2..].as_mut_bytes()[..text.len()].copy_from_slice(text);
                2 + text.len().div_ceil(8)
            }
            Call::CreateEc { ec, cpu, flags, page, sp, events } => {
                w[..7].copy_from_slice(&[Op::CreateEc as u64, ec, cpu.into(), flags.into(), page, sp, events]);
                7
            }
            Call::CreateCourier { ec, cpu, page, sp, events } => {
                w[..6].copy_from_slice(&[Op::CreateCourier as u64, ec, cpu.into(), page, sp, events]);
                6
            }
        }
    }

    /// Reads a call from the first `count` message words.
    pub fn decode(w: &[u64; abi::UTCB_WORDS], count: usize) -> Result<Call<'_>, Refusal> {
        let w = &w[..count.min(abi::UTCB_WORDS)];
        match *w {
            [op, ec, sc, lower, ..] if op == Op::StartThread as u64 => Ok(Call::StartThread { ec, sc, lower }),
            [op, code, ..] if op == Op::Exit as u64 => Ok(Call::Exit { code }),
            [op, len, ref text @ ..] if op == Op::Log as u64 => {
                let len = usize::try_from(len).map_err(|_| Refusal::BadCall)?;
                let text = text.as_bytes().get(..len).filter(|_| len <= LOG_MAX).ok_or(Refusal::BadCall)?;
                Ok(Call::Log { text })
            }
            [op, ec, cpu, flags, page, sp, events, ..] if op == Op::CreateEc as u64 => {
                let cpu = u16::try_from(cpu).map_err(|_| Refusal::NotYourCpu)?;
                let flags = u8::try_from(flags).map_err(|_| Refusal::BadCall)?;
                Ok(Call::CreateEc { ec, cpu, flags, page, sp, events })
            }
            [op, ec, cpu, page, sp, events, ..] if op == Op::CreateCourier as u64 => {
                let cpu = u16::try_from(cpu).map_err(|_| Refusal::NotYourCpu)?;
                Ok(Call::CreateCourier { ec, cpu, page, sp, events })
            }
            _ => Err(Refusal::BadCall),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_survive_encoding() {
        for c in [
            Call::StartThread { ec: 1, sc: 2, lower: 3 },
            Call::Exit { code: 7 },
            Call::Log { text: b"hello" },
            Call::Log { text: b"" },
            Call::CreateEc { ec: 1, cpu: 127, flags: 7, page: 2 << 12, sp: 3, events: u64::MAX },
            Call::CreateCourier { ec: 1, cpu: u16::MAX, page: 2 << 12, sp: 3, events: u64::MAX },
        ] {
            let mut w = [0; abi::UTCB_WORDS];
            let n = c.encode(&mut w);
            assert_eq!(Call::decode(&w, n), Ok(c));
        }
    }

    #[test]
    fn malformed_calls_are_refused() {
        let mut w = [0; abi::UTCB_WORDS];
        assert_eq!(Call::decode(&w, 1), Err(Refusal::BadCall));
        w[0] = Op::StartThread as u64;
        assert_eq!(Call::decode(&w, 3), Err(Refusal::BadCall));
        w[..2].copy_from_slice(&[Op::Log as u64, 17]);
        assert_eq!(Call::decode(&w, 4), Err(Refusal::BadCall), "text longer than the message");
        w[1] = u64::MAX;
        assert_eq!(Call::decode(&w, 512), Err(Refusal::BadCall));
        w[..4].copy_from_slice(&[Op::CreateEc as u64, 1, 0x1_0000, 0]);
        assert_eq!(Call::decode(&w, 6), Err(Refusal::BadCall), "a word is missing");
        assert_eq!(Call::decode(&w, 7), Err(Refusal::NotYourCpu), "not cut to a number that exists");
        w[2..4].copy_from_slice(&[1, 256]);
        assert_eq!(Call::decode(&w, 7), Err(Refusal::BadCall));
        w[..3].copy_from_slice(&[Op::CreateCourier as u64, 1, 0x1_0000]);
        assert_eq!(Call::decode(&w, 5), Err(Refusal::BadCall), "a word is missing");
        assert_eq!(Call::decode(&w, 6), Err(Refusal::NotYourCpu));
    }

    #[test]
    fn refusals_survive_their_word() {
        assert_eq!(Refusal::from_word(0), None);
        for r in Refusal::ALL {
            assert_eq!(Refusal::from_word(r as u64), Some(r));
        }
        assert_eq!(Refusal::from_word(u64::MAX), Some(Refusal::BadCall));
    }

    #[test]
    fn selectors_of_cpus_do_not_overlap() {
        for cpu in 0..MAX_CPUS as u16 {
            assert!(sel::events(cpu) + abi::event::HST_ARCH + abi::event::HST_NOVA <= sel::parent(cpu));
            assert!(sel::parent(cpu) < sel::events(cpu + 1));
        }
        assert_eq!(sel::events(MAX_CPUS as u16), sel::END);
    }

    #[test]
    fn names_are_bounded_text() {
        assert_eq!(Name::new("uart").unwrap().as_str(), "uart");
        assert!(Name::new(&"x".repeat(33)).is_none());
        assert_eq!(Name::new(&"x".repeat(32)).unwrap().as_str().len(), 32);
        assert!(Name::new("a\0b").is_none());
        assert_eq!(Name([0xff; NAME_LEN]).as_str(), "?");
    }

    #[test]
    fn lists_refuse_what_does_not_fit_and_ignore_wild_counts() {
        let mut s = StartInfo::new(Name::new("x").unwrap());
        let r = Rom { name: s.name, addr: 0, len: 9 };
        for _ in 0..MAX_ROMS {
            assert!(s.push_rom(r));
        }
        assert!(!s.push_rom(r));
        s.rom_count = u32::MAX;
        assert_eq!(s.roms().len(), MAX_ROMS);
        assert!((0..MAX_CPUS as u16).all(|c| s.push_cpu(c)) && !s.push_cpu(0));
        assert_eq!(s.usable_cpus()[127], 127);
        const { assert!(StartInfo::PAGES == 1) };
    }
}
