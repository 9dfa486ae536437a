//! The exit handler together with the real device models, as Linux uses them: serial output, the TSC-deadline timer
//! through x2APIC, HLT, an interrupt through the IOAPIC, power-off.

use std::sync::Arc;

use abi::{ArchState, Mtd};
use vmm_logic::board::Board;
use vmm_logic::cpuid::Policy;
use vmm_logic::dev::VcpuSet;
use vmm_logic::dev::{Platform, PlatformConfig};
use vmm_logic::exit::{Action, Environment, Event, Stop, Vcpu};
use vmm_logic::machine::{Kicks, Machine};
use vmm_logic::pvclock::PvClock;
use vmm_logic::spec::{portal_mtd, reason};
use vmm_logic::vcpu::Start;
use vmm_logic::{layout, mem};

const VALID: u32 = ArchState::INJ_VALID;
const WINDOW: u32 = ArchState::INJ_IRQ_WINDOW;
const IF: u64 = 1 << 9;

fn wake() -> Kicks {
    Kicks { wake: VcpuSet::from_iter([0]), ..Default::default() }
}

fn recall() -> Kicks {
    Kicks { recall: VcpuSet::from_iter([0]), ..Default::default() }
}

struct Guest {
    machine: Machine<Platform>,
    vcpu: Vcpu,
    s: ArchState,
    now: u64,
}

impl Guest {
    fn new() -> Guest {
        let mem = mem::alone(16 << 20).unwrap();
        let board = Platform::new(&PlatformConfig { tsc_hz: 1_000_000, lapic_hz: 1_000_000, ..Default::default() });
        let cpuid = Policy::new(|_, _| [0; 4], 1, 1_000_000, &[]);
        let start = Start::Long { rip: 0x10_0200, boot_params: 0x7000 };
        let clock = PvClock { tsc_hz: 1_000_000, tsc: 0, wall_ns: 0 };
        let env = Arc::new(Environment { mem, cpuid, clock, spaces: [1, 2, 3] });
        let mut machine = Machine::new(board, 1, start);
        let mut vcpu = Vcpu::new(0, env, &machine);
        let startup = Event { number: reason::STARTUP, mtd: portal_mtd(reason::STARTUP) };
        assert!(matches!(vcpu.handle(&mut machine, startup, &mut ArchState::default(), 0), Action::Reply(_)));
        Guest { machine, vcpu, s: ArchState { inst_len: 2, rflags: 2, ..Default::default() }, now: 0 }
    }

    fn exit(&mut self, number: u64) -> Action {
        self.now += 1;
        self.s.inj_info &= WINDOW; // what was injected has been delivered
        let (event, s) = (Event { number, mtd: portal_mtd(number) }, &mut self.s);
        match self.vcpu.alone(event, s, self.now) {
            Some(action) => action,
            None => self.vcpu.handle(&mut self.machine, event, s, self.now),
        }
    }

    fn wake(&mut self, now: u64) -> Action {
        self.vcpu.proceed(&mut self.machine, &mut self.s, now)
    }

    fn out(&mut self, port: u16, size: u64, value: u64) -> Action {
        self.s.qual[0] = u64::from(port) << 16 | (size - 1);
        self.s.gpr[ArchState::RAX] = value;
        self.exit(reason::IO)
    }

    fn wrmsr(&mut self, msr: u32, value: u64) -> Action {
        self.s.gpr[ArchState::RCX] = msr.into();
        self.s.gpr[ArchState::RAX] = value & 0xffff_ffff;
        self.s.gpr[ArchState::RDX] = value >> 32;
        self.exit(reason::WRMSR)
    }

    fn rdmsr(&mut self, msr: u32) -> u64 {
        self.s.gpr[ArchState::RCX] = msr.into();
        assert_eq!(self.exit(reason::RDMSR), Action::Reply(Mtd::GPR_0_7 | Mtd::RIP), "{msr:#x}");
        self.s.gpr[ArchState::RDX] << 32 | self.s.gpr[ArchState::RAX]
    }

    /// x2APIC mode, software-enabled.
    fn enable_apic(&mut self) {
        let base = self.rdmsr(0x1b);
        assert_eq!(self.wrmsr(0x1b, base | 3 << 10), Action::Reply(Mtd::RIP));
        self.wrmsr(0x80f, 0x1ff);
    }
}

#[test]
fn serial_output_comes_out() {
    let mut g = Guest::new();
    for b in b"Linux\n" {
        assert_eq!(g.out(layout::COM1, 1, u64::from(*b)), Action::Reply(Mtd::RIP));
    }
    let mut out = Vec::new();
    g.machine.board.take_output(&mut out);
    assert_eq!(out, b"Linux\n");
}

#[test]
fn a_deadline_timer_wakes_the_halted_guest() {
    let mut g = Guest::new();
    g.enable_apic();
    g.wrmsr(0x832, 0xec | 2 << 17);
    assert_eq!(g.wrmsr(0x6e0, 5000), Action::Reply(Mtd::RIP));
    assert!(g.machine.timer_is_late());
    g.machine.armed = Board::next_deadline(&g.machine.board);
    assert_eq!(g.machine.armed, 5000);
    g.s.rflags |= IF;
    assert_eq!(g.exit(reason::HLT), Action::Wait);
    g.machine.board.advance(5000);
    assert_eq!(g.machine.kicks(), wake());
    assert_eq!(g.wake(5001), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(g.s.inj_info, VALID | 0xec);
    // In service: another timer interrupt has to wait for the end of this one.
    g.wrmsr(0x6e0, 1);
    assert_eq!(g.s.inj_info & VALID, 0);
    assert_eq!(g.wrmsr(0x80b, 0), Action::Reply(Mtd::RIP | Mtd::INJ));
    assert_eq!(g.s.inj_info, VALID | 0xec);
}

#[test]
fn an_expired_timer_recalls_the_running_guest_and_waits_for_its_window() {
    let mut g = Guest::new();
    g.enable_apic();
    g.wrmsr(0x832, 0xec | 2 << 17);
    g.wrmsr(0x6e0, 5000);
    g.now = 6000;
    g.machine.board.advance(6000);
    assert_eq!((g.machine.kicks(), g.machine.kicks()), (recall(), Kicks::default()));
    assert_eq!(g.exit(reason::RECALL), Action::Reply(Mtd::INJ));
    assert_eq!(g.s.inj_info, WINDOW, "interrupts are off");
    g.s.rflags |= IF;
    assert_eq!(g.exit(reason::INTERRUPT_WINDOW), Action::Reply(Mtd::INJ));
    assert_eq!(g.s.inj_info, VALID | 0xec);
}

#[test]
fn typed_input_interrupts_through_the_ioapic() {
    let mut g = Guest::new();
    g.enable_apic();
    let board = &mut g.machine.board;
    let ioapic = |board: &mut Platform, index: u64, value: u64| {
        let _ = Board::mmio_write(board, 0, layout::IOAPIC, 4, index, 1);
        let _ = Board::mmio_write(board, 0, layout::IOAPIC + 0x10, 4, value, 1);
    };
    ioapic(board, 0x10 + 2 * u64::from(layout::COM1_IRQ) + 1, 0);
    ioapic(board, 0x10 + 2 * u64::from(layout::COM1_IRQ), 0x24);
    g.out(layout::COM1 + 4, 1, 0xb);
    g.out(layout::COM1 + 1, 1, 1);
    g.s.rflags |= IF;
    assert_eq!(g.exit(reason::HLT), Action::Wait);
    assert_eq!(g.machine.board.input(b"ls\n"), 3);
    assert_eq!(g.machine.kicks(), wake());
    let now = g.now;
    assert_eq!(g.wake(now), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(g.s.inj_info, VALID | 0x24);
    let mut typed = Vec::new();
    for _ in 0..3 {
        g.s.qual[0] = u64::from(layout::COM1) << 16 | 1 << 3;
        g.exit(reason::IO);
        typed.push(g.s.gpr[ArchState::RAX] as u8);
    }
    assert_eq!(typed, b"ls\n");
}

#[test]
fn acpi_switches_off_and_resets() {
    let mut g = Guest::new();
    let sleep = u64::from(layout::SLP_TYP_S5) << 10 | 1 << 13;
    assert_eq!(g.out(layout::PM1A_CNT, 2, sleep), Action::Stop(Stop::PowerOff));
    assert_eq!(g.out(layout::RESET, 1, layout::RESET_VALUE.into()), Action::Stop(Stop::Reset));
    assert_eq!(g.out(0x8900, 1, 0x44), Action::Reply(Mtd::RIP));
    assert_eq!(g.vcpu.notes, ["marker 0x44 at TSC 3, since entry 3, exits 3"]);
}

#[test]
fn apic_registers_that_do_not_exist_fault() {
    let mut g = Guest::new();
    g.enable_apic();
    g.s.gpr[ArchState::RCX] = 0x8ff;
    assert_eq!(g.exit(reason::RDMSR), Action::Reply(Mtd::INJ));
    assert_eq!(g.s.inj_info, VALID | 1 << 11 | 3 << 8 | 13);
    assert!(g.vcpu.notes.is_empty(), "known to the policy, so not worth a line");
}
