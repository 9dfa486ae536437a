//! Random exits of three vCPUs on the real device models: nothing panics, nobody is woken twice, nobody sleeps with
//! something to do, and a reset always comes to its end.

use std::sync::Arc;

use abi::{ArchState, Mtd, Segment};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};
use vmm_logic::board::Board;
use vmm_logic::cpuid::Policy;
use vmm_logic::dev::{Platform, PlatformConfig};
use vmm_logic::exit::{Action, Environment, Event, Stop, Vcpu};
use vmm_logic::machine::Machine;
use vmm_logic::pvclock::PvClock;
use vmm_logic::spec::{EVENTS, FULL, portal_mtd, reason};
use vmm_logic::vcpu::Start;
use vmm_logic::{layout, mem};

const VCPUS: usize = 3;
const START: Start = Start::Long { rip: 0x10_0200, boot_params: 0x7000 };
const IF: u64 = 1 << 9;

/// Something that happens to one vCPU, or to the devices.
#[derive(Clone, Debug)]
enum Step {
    Exit {
        vcpu: usize,
        event: u64,
        full: bool,
        state: Box<ArchState>,
    },
    /// The first vCPU writes this to its interrupt command register.
    Ipi(u64),
    Time(u64),
    Typed(u8),
}

fn word() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0u64..0x1000, (0u32..64).prop_map(|bit| 1 << bit), Just(0x10_0000)]
}

/// Qualifications: of I/O on ports that exist, of accesses to control registers, any.
fn qualification() -> impl Strategy<Value = u64> {
    let ports = prop::sample::select(vec![layout::COM1, 0x20, 0x40, 0x43, 0x61, 0x70, layout::PM1A_CNT, 0xcf9, 0x64]);
    prop_oneof![
        (ports, prop::sample::select(vec![0u64, 1, 3]), 0u64..4)
            .prop_map(|(port, size, flags)| u64::from(port) << 16 | flags << 3 | size),
        0u64..0x1000,
    ]
}

/// MSRs: ICR and other registers of the local APIC, those that are stored, those that do not exist.
fn msr() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0x830u64), 2 => 0x800u64..0x840, 1 => 0x200u64..0x300, 2 => Just(0x1b), 1 => any::<u32>().prop_map(u64::from)]
}

/// What goes into EAX: interprocessor interrupts of all kinds among it.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        prop::sample::select(vec![
            0xc_4500u64,
            0xc_4610,
            0x8_4400,
            0x8_40fd,
            0xc_40fd,
            0x4_40fd,
            0x1ff,
            0xfee0_0d00,
            6
        ]),
        word(),
    ]
}

fn state() -> impl Strategy<Value = Box<ArchState>> {
    let gpa = prop_oneof![0xfee0_0000u64..0xfee0_0400, 0xfec0_0000u64..0xfec0_0020, any::<u64>()];
    (value(), msr(), word(), qualification(), gpa, any::<bool>(), 0u32..16, 0u64..0x400).prop_map(
        |(ax, cx, dx, qual, gpa, interrupts, shadow, at)| {
            let mut s = ArchState {
                rip: 0x1000 + at,
                inst_len: 2,
                rflags: 2 | if interrupts { IF } else { 0 },
                intr_state: shadow,
                qual: [qual, gpa, gpa],
                cr0: 0x11,
                cs: Segment { ar: 0xc9b, limit: u32::MAX, ..Default::default() },
                ..Default::default()
            };
            s.gpr[..3].copy_from_slice(&[ax, cx, dx]);
            s.gpr[ArchState::RDI] = gpa;
            Box::new(s)
        },
    )
}

fn event() -> impl Strategy<Value = u64> {
    let usual = vec![
        reason::IO,
        reason::IO,
        reason::WRMSR,
        reason::WRMSR,
        reason::WRMSR,
        reason::RDMSR,
        reason::HLT,
        reason::HLT,
        reason::CPUID,
        reason::EPT_VIOLATION,
        reason::CR_ACCESS,
        reason::INTERRUPT_WINDOW,
    ];
    prop_oneof![100 => prop::sample::select(usual), 1 => 0..reason::STARTUP]
}

fn step() -> impl Strategy<Value = Step> {
    let exit = (0..VCPUS, event(), any::<bool>(), state()).prop_map(|(vcpu, event, full, state)| Step::Exit {
        vcpu,
        event,
        full,
        state,
    });
    let commands = vec![0xc_4500, 0xc_4610, 1 << 32 | 0x4611, 2 << 32 | 0x4500, 0xc_40fd, 1 << 32 | 0x4400];
    let ipi = prop::sample::select(commands).prop_map(Step::Ipi);
    prop_oneof![8 => exit, 3 => ipi, 2 => (0u64..10_000_000).prop_map(Step::Time), 1 => any::<u8>().prop_map(Step::Typed)]
}

/// The machine, and what its threads would know.
struct Vm {
    machine: Machine<Platform>,
    vcpus: Vec<Vcpu>,
    blocked: [bool; VCPUS],
    now: u64,
    resets: u32,
    ended: bool,
}

impl Vm {
    fn new() -> Vm {
        let ram = mem::alone(16 << 20).unwrap();
        // Instructions for the emulator: stores, loads, string instructions, garbage.
        let code: Vec<u8> =
            (0..0x800u32).map(|i| [0x89, 0x07, 0xaa, 0xf3, 0x6c, 0x8b, 0x0f, 0xa5][i as usize % 8]).collect();
        ram.write_slice(&code, GuestAddress(0x1000)).unwrap();
        let cpuid = Policy::new(|_, _| [0x7fff_ffff; 4], VCPUS as u32, 1_000_000, &[]);
        let clock = PvClock { tsc_hz: 1_000_000, tsc: 0, wall_ns: 0 };
        let env = Arc::new(Environment { mem: ram, cpuid, clock, spaces: [1, 2, 3] });
        let machine = Machine::new(platform(), VCPUS, START);
        let vcpus = (0..VCPUS).map(|id| Vcpu::new(id, env.clone(), &machine)).collect();
        let mut vm = Vm { machine, vcpus, blocked: [false; VCPUS], now: 1, resets: 0, ended: false };
        for vcpu in 0..VCPUS {
            vm.exit(vcpu, reason::STARTUP, false, &mut ArchState::default());
        }
        // The first vCPU in x2APIC mode, so that it can reach the others.
        vm.wrmsr(0x1b, 0xfee0_0d00);
        vm.wrmsr(0x80f, 0x1ff);
        vm
    }

    /// The first vCPU writes an MSR.
    fn wrmsr(&mut self, msr: u64, value: u64) {
        let mut s = ArchState { rflags: 2, inst_len: 2, ..Default::default() };
        s.gpr[..3].copy_from_slice(&[value & 0xffff_ffff, msr, value >> 32]);
        self.exit(0, reason::WRMSR, false, &mut s);
        self.kick();
    }

    fn exit(&mut self, vcpu: usize, number: u64, full: bool, s: &mut ArchState) {
        let event = Event { number, mtd: if full { FULL } else { portal_mtd(number) } };
        let (v, m) = (&mut self.vcpus[vcpu], &mut self.machine);
        let action = v.alone(event, s, self.now).unwrap_or_else(|| v.handle(m, event, s, self.now));
        self.act(vcpu, action);
    }

    fn act(&mut self, vcpu: usize, action: Action) {
        match action {
            Action::Reply(mtd) => assert!(!mtd.contains(Mtd::POISON)),
            Action::Widen => {}
            Action::Wait => self.blocked[vcpu] = true,
            Action::Stop(Stop::Reset) => {
                self.machine.begin_reset();
                self.proceed(vcpu);
            }
            Action::Stop(_) => self.ended = true,
            Action::Reload => {
                self.resets += 1;
                self.machine.reset(platform(), START);
                self.proceed(vcpu);
            }
        }
    }

    fn proceed(&mut self, vcpu: usize) {
        let action = self.vcpus[vcpu].proceed(&mut self.machine, &mut ArchState::default(), self.now);
        self.act(vcpu, action);
    }

    /// Carries out the kicks, until there are no more.
    fn kick(&mut self) {
        loop {
            let kicks = self.machine.kicks();
            if self.ended || kicks == Default::default() {
                return;
            }
            for vcpu in kicks.wake.iter() {
                assert!(std::mem::take(&mut self.blocked[vcpu]), "vCPU {vcpu} is awake");
                self.proceed(vcpu);
            }
            for vcpu in kicks.recall.iter() {
                assert!(!self.blocked[vcpu], "a recall does not reach the blocked vCPU {vcpu}");
                self.exit(vcpu, reason::RECALL, false, &mut ArchState { rflags: IF, ..Default::default() });
            }
        }
    }

    fn step(&mut self, step: Step) {
        self.now += 1;
        match step {
            // What is blocked causes no exits.
            Step::Exit { vcpu, .. } if self.blocked[vcpu] => {}
            Step::Exit { vcpu, event, full, mut state } => self.exit(vcpu, event, full, &mut state),
            Step::Ipi(_) if self.blocked[0] => {}
            Step::Ipi(command) => self.wrmsr(0x830, command),
            Step::Time(ticks) => {
                self.now += ticks;
                Board::advance(&mut self.machine.board, self.now);
            }
            Step::Typed(byte) => _ = self.machine.board.input(&[byte]),
        }
        self.kick();
        assert!(self.ended || self.blocked != [true; VCPUS] || !self.machine.is_dead(), "dead, and nobody says so");
    }
}

fn platform() -> Platform {
    let hz = 1_000_000;
    Platform::new(&PlatformConfig { vcpus: VCPUS, tsc_hz: hz, lapic_hz: hz, ..Default::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn exits(steps in prop::collection::vec(step(), 1..120)) {
        let mut vm = Vm::new();
        for step in steps {
            vm.step(step);
            if vm.ended {
                break;
            }
        }
    }

    /// A reset at any time: all others stop at their next exit, and the guest starts again.
    #[test]
    fn resets(steps in prop::collection::vec(step(), 0..60), by in 0..VCPUS) {
        let mut vm = Vm::new();
        for step in steps {
            vm.step(step);
            if vm.ended {
                return Ok(());
            }
        }
        prop_assume!(!vm.blocked[by]);
        let before = vm.resets;
        vm.act(by, Action::Stop(Stop::Reset));
        vm.kick();
        prop_assert_eq!(vm.resets, before + 1);
        prop_assert_eq!(vm.blocked, [false, true, true], "the first one runs");
        prop_assert!(vm.machine.run(0).is_undisturbed());
    }
}

/// The property above is about something: interrupts do come, and wake.
#[test]
fn a_sleeper_is_woken() {
    let mut vm = Vm::new();
    vm.wrmsr(0x832, 2 << 17 | 0xec);
    vm.wrmsr(0x6e0, 5000);
    vm.exit(0, reason::HLT, false, &mut ArchState { rflags: IF, ..Default::default() });
    assert_eq!(vm.blocked, [true; VCPUS]);
    assert_eq!(vm.machine.board.pending(0), None);
    vm.step(Step::Time(10_000));
    assert_eq!(vm.blocked, [false, true, true]);
    assert!(vm.machine.counts()[reason::WRMSR as usize] == 4 && vm.machine.counts().len() == EVENTS as usize);
}
