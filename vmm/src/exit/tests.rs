//! Conversations with the exit handler: events in, replies out, on a machine with [`Fake`] devices.

mod smp;

use super::fake::{Fake, Io};
use super::*;
use crate::dev::VcpuSet;
use crate::machine::Kicks;
use crate::mem;
use crate::spec::bits::*;
use crate::spec::{FULL, msr, portal_mtd};
use crate::vcpu::Start;

const START: Start = Start::Long { rip: 0x100_0200, boot_params: 0x7000 };
const VALID: u32 = ArchState::INJ_VALID;
const WINDOW: u32 = ArchState::INJ_IRQ_WINDOW;
const GP: u32 = VALID | 1 << 11 | 3 << 8 | 13;
const UD: u32 = VALID | 3 << 8 | 6;

fn host(leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf {
        0xd if subleaf == 2 => [256, 576, 0, 0],
        0 => [0x16, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
        0xd => [7, 832, 832, 0],
        0x8000_0000 => [0x8000_0008, 0, 0, 0],
        0x8000_0008 => [40, 0, 0, 0],
        _ => [u32::MAX; 4],
    }
}

/// A machine with its vCPUs.
struct Rig {
    m: Machine<Fake>,
    vcpus: Vec<Vcpu>,
}

impl Rig {
    fn new(vcpus: usize) -> Rig {
        Rig::on(host, vcpus)
    }

    /// On a host with this CPUID.
    fn on(host: fn(u32, u32) -> [u32; 4], vcpus: usize) -> Rig {
        let mem = mem::alone(16 << 20).unwrap();
        let cpuid = Policy::new(host, vcpus as u32, 50_000_000, &[]);
        let clock = PvClock { tsc_hz: 50_000_000, tsc: 0, wall_ns: 0 };
        let env = Arc::new(Environment { mem, cpuid, clock, spaces: [11, 12, 13] });
        let m = Machine::new(Fake::default(), vcpus, START);
        let vcpus = (0..vcpus).map(|id| Vcpu::new(id, env.clone(), &m)).collect();
        Rig { m, vcpus }
    }

    /// An event of vCPU 0.
    fn handle(&mut self, event: Event, s: &mut ArchState, now: u64) -> Action {
        self.handle_on(0, event, s, now)
    }

    fn handle_on(&mut self, vcpu: usize, event: Event, s: &mut ArchState, now: u64) -> Action {
        let v = &mut self.vcpus[vcpu];
        v.alone(event, s, now).unwrap_or_else(|| v.handle(&mut self.m, event, s, now))
    }

    fn wake(&mut self, s: &mut ArchState, now: u64) -> Action {
        self.vcpus[0].proceed(&mut self.m, s, now)
    }

    fn mem(&self) -> &GuestMemoryMmap {
        self.vcpus[0].mem()
    }
}

/// One vCPU that runs.
fn machine() -> Rig {
    let mut rig = Rig::new(1);
    assert_eq!(rig.m.next(0), Next::Enter(Entry::Boot, true));
    rig
}

fn set(vcpus: &[usize]) -> VcpuSet {
    vcpus.iter().copied().collect()
}

const NOBODY: Kicks = Kicks { wake: VcpuSet::NONE, recall: VcpuSet::NONE };

fn wake(vcpus: &[usize]) -> Kicks {
    Kicks { wake: set(vcpus), ..NOBODY }
}

fn recall(vcpus: &[usize]) -> Kicks {
    Kicks { recall: set(vcpus), ..NOBODY }
}

/// State of a vCPU at a 2-byte instruction at 0x1000 with interrupts on.
fn state() -> ArchState {
    ArchState { rip: 0x1000, inst_len: 2, rflags: 2 | RFLAGS_IF, ..Default::default() }
}

fn event(number: u64) -> Event {
    Event { number, mtd: portal_mtd(number) }
}

fn regs(ax: u64, cx: u64, dx: u64) -> ArchState {
    let mut s = state();
    s.gpr[..3].copy_from_slice(&[ax, cx, dx]);
    s
}

fn io(port: u64, size: u64, flags: u64, ax: u64) -> ArchState {
    ArchState { qual: [port << 16 | flags | (size - 1), 0, 0], ..regs(ax, 0, 0) }
}

#[test]
fn startup_sets_everything() {
    let mut m = Rig::new(1);
    let mut s = ArchState::default();
    assert_eq!(m.handle(event(reason::STARTUP), &mut s, 99), Action::Reply(vcpu::STARTUP));
    assert_eq!((s.rip, s.sel_gst, s.sel_pio, s.sel_msr), (0x100_0200, 11, 12, 13));
    assert_eq!(m.m.entered, 99);
}

#[test]
fn cpuid_writes_only_what_it_must() {
    let mut m = machine();
    let mut s = regs(0x4000_0000, 0, 0);
    assert_eq!(m.handle(event(reason::CPUID), &mut s, 0), Action::Reply(Mtd::GPR_0_7 | Mtd::RIP));
    assert_eq!((s.gpr[0], s.rip), (0x4000_0001, 0x1002));
    let mut s = ArchState { intr_state: 1, cr4: CR4_OSXSAVE, ..regs(1, 0, 0) };
    let want = Mtd::GPR_0_7 | Mtd::RIP | Mtd::STA;
    assert_eq!(m.handle(event(reason::CPUID), &mut s, 0), Action::Reply(want), "after STI");
    assert_eq!((s.intr_state, s.gpr[ArchState::RCX] >> 27 & 1), (0, 1));
}

#[test]
fn port_accesses_have_the_width_of_the_instruction() {
    for (size, ax) in [(1, 0x1111_1111_1111_11ef), (2, 0x1111_1111_1111_beef), (4, 0xdead_beef)] {
        let mut m = machine();
        m.m.board.device = 0xdead_beef;
        let mut s = io(0x70, size, IO_IN, 0x1111_1111_1111_1111);
        assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Reply(Mtd::GPR_0_7 | Mtd::RIP));
        assert_eq!((s.gpr[0], &m.m.board.io[..]), (ax, &[Io::In(0x70, size as usize)][..]));
    }
    for (size, out) in [(1, 0x88), (2, 0x7788), (4, 0x5566_7788)] {
        let mut m = machine();
        let mut s = io(0x3f8, size, 0, 0x1122_3344_5566_7788);
        assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Reply(Mtd::RIP));
        assert_eq!(m.m.board.io, [Io::Out(0x3f8, size as usize, out)]);
    }
}

#[test]
fn an_interrupt_raised_by_out_is_injected_at_once_or_waits_for_its_window() {
    let mut m = machine();
    m.m.board.pending = vec![0x30];
    let mut s = io(0x3f9, 1, 0, 2);
    assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 0x30);

    m.m.board.pending = vec![0x31];
    let mut s = ArchState { rflags: 2, ..io(0x3f9, 1, 0, 2) };
    assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::INJ));
    assert_eq!(s.inj_info, WINDOW);
    // Asked once is enough; another thread need not recall either.
    let mut s = ArchState { rflags: 2, inj_info: WINDOW, ..io(0x3f9, 1, 0, 2) };
    assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Reply(Mtd::RIP));
    m.m.board.woken.insert(0);
    assert_eq!(m.m.kicks(), NOBODY);
    // But for an NMI, which does not wait for interrupts to be on.
    (m.m.board.nmi, m.m.board.woken) = (true, set(&[0]));
    assert_eq!(m.m.kicks(), recall(&[0]));
    m.m.board.nmi = false;
    let mut s = ArchState { inj_info: WINDOW, ..state() };
    assert_eq!(m.handle(event(reason::INTERRUPT_WINDOW), &mut s, 0), Action::Reply(Mtd::INJ));
    assert_eq!((s.inj_info, s.rip), (VALID | 0x31, 0x1000));
}

#[test]
fn string_io_asks_for_all_state_and_is_emulated() {
    use vm_memory::Bytes;
    let mut m = machine();
    let mut s = io(0x3f8, 1, IO_STRING, 0);
    assert_eq!(m.handle(event(reason::IO), &mut s, 0), Action::Widen);
    assert_eq!(s.rip, 0x1000);
    m.mem().write_slice(&[0x6e], GuestAddress(0x1000)).unwrap();
    m.mem().write_slice(b"A", GuestAddress(0x2000)).unwrap();
    (s.gpr[ArchState::RSI], s.gpr[ArchState::RDX]) = (0x2000, 0x3f8);
    let Action::Reply(mtd) = m.handle(Event { number: reason::IO, mtd: FULL }, &mut s, 0) else { panic!() };
    assert!(mtd.contains(Mtd::GPR_0_7 | Mtd::RIP));
    assert_eq!((s.rip, &m.m.board.io[..]), (0x1001, &[Io::Out(0x3f8, 1, 0x41)][..]));
    assert!(m.m.output_is_due(), "a string goes to the terminal at once");
}

#[test]
fn console_output_is_due_in_lines_or_batches() {
    let mut m = machine();
    let mut put = |byte: u8| {
        m.handle(event(reason::IO), &mut io(0x3f8, 1, 0, byte.into()), 0);
        m.m.output_is_due()
    };
    assert!(!put(b'o') && !put(b'k') && put(b'\n') && !put(b'x'));
    let due = (0..600).filter(|_| put(b'.')).count();
    assert_eq!(due, 2);
    assert_eq!(size_of::<Action>(), 8, "fits in a register");
}

#[test]
fn effects_of_devices_end_the_vm_or_are_noted() {
    let mut m = machine();
    for (effect, want) in [(Effect::PowerOff, Stop::PowerOff), (Effect::Reset, Stop::Reset)] {
        m.m.board.effect = Some(effect);
        assert_eq!(m.handle(event(reason::IO), &mut io(0x604, 2, 0, 0), 0), Action::Stop(want));
    }
    m.m.entered = 100;
    m.m.board.effect = Some(Effect::Marker(0x42));
    assert_eq!(m.handle(event(reason::IO), &mut io(0xe9, 1, 0, 0x42), 350), Action::Reply(Mtd::RIP));
    assert_eq!(m.vcpus[0].notes, ["marker 0x42 at TSC 350, since entry 250, exits 3"]);
}

#[test]
fn msrs_of_the_machine_of_the_vcpu_and_of_the_devices() {
    let mut m = machine();
    let mut s = regs(0, 0xfe, 0);
    assert_eq!(m.handle(event(reason::RDMSR), &mut s, 0), Action::Reply(Mtd::GPR_0_7 | Mtd::RIP));
    assert_eq!((s.gpr[ArchState::RAX], s.gpr[ArchState::RDX]), (0x508, 0));

    let mut s = regs(0x8100_0000, msr::LSTAR.into(), 0xffff_ffff);
    assert_eq!(m.handle(event(reason::WRMSR), &mut s, 0), Action::Widen);
    let all = Event { number: reason::WRMSR, mtd: FULL };
    assert_eq!(m.handle(all, &mut s, 0), Action::Reply(Mtd::RIP | Mtd::SYSCALL));
    assert_eq!((s.lstar, s.rip), (0xffff_ffff_8100_0000, 0x1002));

    m.m.board.device = 0x1234_5678_9abc;
    let mut s = regs(0, 0x802, 0);
    assert_eq!(m.handle(event(reason::RDMSR), &mut s, 0), Action::Reply(Mtd::GPR_0_7 | Mtd::RIP));
    assert_eq!((s.gpr[ArchState::RAX], s.gpr[ArchState::RDX]), (0x5678_9abc, 0x1234));
    let mut s = regs(7, 0x6e0, 1);
    assert_eq!(m.handle(event(reason::WRMSR), &mut s, 0), Action::Reply(Mtd::RIP));
    assert_eq!(m.m.board.io, [Io::Rdmsr(0x802), Io::Wrmsr(0x6e0, 0x1_0000_0007)]);
}

#[test]
fn self_ipi_by_wrmsr_is_injected() {
    let mut m = machine();
    m.m.board.raises = Some(0xfd);
    let mut s = regs(0xfd, 0x83f, 0);
    assert_eq!(m.handle(event(reason::WRMSR), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 0xfd);
}

#[test]
fn the_clock_of_kvm_is_there_where_cpuid_says_so() {
    use vm_memory::Bytes;
    let amd = |leaf, subleaf| if leaf == 0 { [0x16, 0x6874_7541, 0, 0] } else { host(leaf, subleaf) };
    let mut m = Rig::on(amd, 1);
    assert_eq!(m.m.next(0), Next::Enter(Entry::Boot, true));
    let set = || regs(0x2001, 0x4b56_4d01, 0);
    assert_eq!(m.handle(event(reason::WRMSR), &mut set(), 0), Action::Reply(Mtd::RIP));
    assert_eq!(m.mem().read_obj::<u32>(GuestAddress(0x2000)).unwrap(), 2);
    let mut m = machine();
    assert_eq!(m.handle(event(reason::WRMSR), &mut set(), 0), Action::Reply(Mtd::INJ));
    assert_eq!(m.mem().read_obj::<u32>(GuestAddress(0x2000)).unwrap(), 0);
}

#[test]
fn msrs_that_do_not_exist_fault_and_are_noted_once() {
    let mut m = machine();
    for number in [reason::RDMSR, reason::WRMSR, reason::RDMSR] {
        let mut s = ArchState { inj_info: 0x55, ..regs(0, 0x606, 0) };
        if number == reason::WRMSR {
            s.inj_info = 0;
        }
        assert_eq!(m.handle(event(number), &mut s, 0), Action::Reply(Mtd::INJ));
        assert_eq!((s.inj_info, s.inj_error, s.rip), (GP, 0, 0x1000));
    }
    assert_eq!(m.vcpus[0].notes, ["unknown MSR 0x606 read: #GP"]);
    assert_eq!(m.m.unknown_msrs(), (&[(0x606, 3)][..], 0));
    let mut s = regs(0, 0x8ff, 0);
    m.handle(event(reason::RDMSR), &mut s, 0);
    assert_eq!(s.inj_info, GP, "the devices refused");
}

#[test]
fn a_guest_that_tries_all_registers_fills_neither_log_nor_memory() {
    let mut m = machine();
    for msr in 0x10_0000..0x10_1000 {
        m.handle(event(reason::WRMSR), &mut regs(0, msr, 0), 0);
        m.handle(event(reason::RDMSR), &mut regs(0, msr, 0), 0);
    }
    let (unknown, others) = m.m.unknown_msrs();
    assert_eq!((m.vcpus[0].notes.len(), unknown.len(), others), (64, 64, 2 * (0x1000 - 64)));
    assert_eq!(unknown[63], (0x10_003f, 2));
    m.m.board.effect = Some(Effect::Marker(1));
    (0..2000).for_each(|_| _ = m.handle(event(reason::IO), &mut io(0x8900, 1, 0, 1), 0));
    assert_eq!(m.vcpus[0].notes.len(), 64 + 1000);
}

#[test]
fn exceptions_keep_a_requested_window() {
    let mut m = machine();
    m.m.board.pending = vec![0x30];
    let mut s = ArchState { rflags: 2, ..state() };
    assert_eq!(m.handle(event(reason::RECALL), &mut s, 0), Action::Reply(Mtd::INJ));
    // The RDMSR portal brings no injection information: what is in the UTCB is old.
    let mut s = ArchState { inj_info: 0xdead, ..regs(0, 0x606, 0) };
    m.handle(event(reason::RDMSR), &mut s, 0);
    assert_eq!(s.inj_info, GP | WINDOW);
}

#[test]
fn halt_sleeps_until_the_timer_fires() {
    let mut m = machine();
    (m.m.board.deadline, m.m.board.raises) = (Some(500), Some(0xec));
    let mut s = ArchState { inst_len: 1, intr_state: 1, ..state() };
    assert_eq!(m.handle(event(reason::HLT), &mut s, 100), Action::Wait);
    assert_eq!((s.rip, s.intr_state), (0x1001, 0));
    assert_eq!(m.wake(&mut s, 499), Action::Wait, "woken for nothing");
    assert_eq!(m.m.kicks(), NOBODY);
    m.m.board.advance(500);
    assert_eq!(m.m.kicks(), wake(&[0]));
    assert_eq!(m.wake(&mut s, 501), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 0xec);
    assert_eq!(m.m.kicks(), NOBODY);
}

#[test]
fn halt_with_an_interrupt_pending_does_not_sleep() {
    let mut m = machine();
    m.m.board.pending = vec![0x30, 0x31];
    let mut s = state();
    assert_eq!(m.handle(event(reason::HLT), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::STA | Mtd::INJ));
    assert_eq!(s.inj_info, VALID | WINDOW | 0x31);
}

#[test]
fn halt_with_interrupts_off_is_the_end() {
    let mut s = ArchState { rflags: 2, ..state() };
    assert_eq!(machine().handle(event(reason::HLT), &mut s, 0), Action::Stop(Stop::Halted));
}

#[test]
fn one_recall_is_enough() {
    let mut m = machine();
    assert_eq!(m.m.kicks(), NOBODY);
    m.m.board.raise(0x30);
    assert_eq!((m.m.kicks(), m.m.kicks()), (recall(&[0]), NOBODY));
    m.m.board.woken.insert(0);
    assert_eq!(m.m.kicks(), NOBODY, "it is on its way");
    let mut s = state();
    assert_eq!(m.handle(event(reason::RECALL), &mut s, 0), Action::Reply(Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 0x30);
    // A recall that comes too late finds nothing to do.
    let mut s = state();
    assert_eq!(m.handle(event(reason::RECALL), &mut s, 0), Action::Reply(Mtd::empty()));
    m.m.board.raise(0x30);
    assert_eq!(m.m.kicks(), recall(&[0]));
}

#[test]
fn an_interrupted_delivery_is_not_overwritten() {
    let mut m = machine();
    m.m.board.pending = vec![0x40];
    let mut s = ArchState { inj_info: VALID | 3 << 8 | 14 | 1 << 11, ..state() };
    assert_eq!(m.handle(event(reason::RECALL), &mut s, 0), Action::Reply(Mtd::INJ));
    assert_eq!(s.inj_info, VALID | 3 << 8 | 14 | 1 << 11 | WINDOW);
}

#[test]
fn the_timer_is_rearmed_when_a_device_needs_it_earlier() {
    let mut m = machine();
    m.m.board.deadline = Some(1000);
    assert!(!m.m.timer_is_late(), "no device was touched");
    m.handle(event(reason::WRMSR), &mut regs(7, 0x6e0, 0), 0);
    assert!(m.m.timer_is_late());
    m.m.armed = 1000;
    m.handle(event(reason::WRMSR), &mut regs(7, 0x6e0, 0), 0);
    assert!(!m.m.timer_is_late());
}

#[test]
fn device_memory_is_emulated() {
    use vm_memory::Bytes;
    let mut m = machine();
    vcpu::prepare(m.mem(), &START).unwrap();
    m.mem().write_slice(&[0x89, 0x07], GuestAddress(0x100_0200 - 0x80_0000)).unwrap();
    let mut s = vcpu::initial(&START);
    s.rip -= 0x80_0000;
    s.gpr[ArchState::RDI] = 0xfec0_0000;
    s.gpr[ArchState::RAX] = 0x17;
    s.qual = [2, 0xfec0_0000, 0xfec0_0000];
    let Action::Reply(mtd) = m.handle(event(reason::EPT_VIOLATION), &mut s, 0) else { panic!() };
    assert_eq!(mtd, GPR | Mtd::RIP | Mtd::RFLAGS | Mtd::STA);
    assert_eq!(m.m.board.io, [Io::Store(0xfec0_0000, 4, 0x17)]);
    // The same instruction, but its operand is not mapped: the guest's page fault.
    s.rip -= 2;
    s.gpr[ArchState::RDI] = 1 << 40;
    assert_eq!(m.handle(event(reason::EPT_VIOLATION), &mut s, 0), Action::Reply(GPR | Mtd::CR | Mtd::INJ));
    assert_eq!((s.inj_info, s.inj_error, s.cr2), (VALID | 1 << 11 | 3 << 8 | 14, 2, 1 << 40));
}

#[test]
fn ept_violations_without_an_answer() {
    let mut m = machine();
    for (qual, inj_info, want) in [
        ([1, 0, 0x1000], 0, "EPT violation inside of guest RAM at guest-physical 0x1000"),
        ([4, 0, 0xd000_0000], 0, "instruction fetch outside of guest RAM at guest-physical 0xd0000000"),
        ([1, 0, 0xd000_0000], VALID, "event delivery touches device memory at guest-physical 0xd0000000"),
    ] {
        let mut s = ArchState { qual, inj_info, ..state() };
        assert_eq!(m.handle(event(reason::EPT_VIOLATION), &mut s, 0), Action::Stop(Stop::Broken));
        assert_eq!(m.vcpus[0].cause, want);
    }
    // Sixteen bytes of zeros are `add [rax], al`: known. 0xff ff is not an instruction.
    vm_memory::Bytes::write_slice(m.mem(), &[0xff; 16], GuestAddress(0x1000)).unwrap();
    let mut s = ArchState { qual: [1, 0, 0xd000_0000], ..state() };
    assert_eq!(m.handle(event(reason::EPT_VIOLATION), &mut s, 0), Action::Stop(Stop::Broken));
    assert!(m.vcpus[0].cause.contains("does not know touched guest-physical 0xd0000000"), "{}", m.vcpus[0].cause);
}

#[test]
fn xcr0_is_checked_against_cpuid() {
    for (cx, value, ok) in
        [(0, 1, true), (0, 3, true), (0, 7, true), (0, 5, false), (0, 0, false), (0, 0xe7, false), (1, 1, false)]
    {
        let mut m = machine();
        let mut s = ArchState { xcr0: 99, ..regs(value, cx, 0) };
        let want = if ok { Mtd::RIP | Mtd::XSAVE } else { Mtd::INJ };
        assert_eq!(m.handle(event(reason::XSETBV), &mut s, 0), Action::Reply(want), "{cx} {value:#x}");
        assert_eq!((s.xcr0, s.inj_info == GP), (if ok { value } else { 99 }, !ok));
    }
}

#[test]
fn instructions_that_are_skipped_or_undefined() {
    for number in [reason::INVD, reason::WBINVD, reason::PAUSE] {
        let mut s = state();
        assert_eq!(machine().handle(event(number), &mut s, 0), Action::Reply(Mtd::RIP));
        assert_eq!(s.rip, 0x1002);
    }
    let mut s = state();
    assert_eq!(machine().handle(event(reason::VMCALL), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::GPR_0_7));
    assert_eq!(s.gpr[0] as i64, -1000);
    for number in [reason::GETSEC, reason::MWAIT, reason::MONITOR, reason::VMFUNC, reason::INVEPT, reason::INVVPID]
        .into_iter()
        .chain(reason::VMCLEAR..=reason::VMXON)
    {
        let mut s = state();
        assert_eq!(machine().handle(event(number), &mut s, 0), Action::Reply(Mtd::INJ), "{number:#x}");
        assert_eq!((s.inj_info, s.rip), (UD, 0x1000));
    }
    let mut s = state();
    machine().handle(event(reason::RDPMC), &mut s, 0);
    assert_eq!(s.inj_info, GP);
}

#[test]
fn everything_else_ends_the_vm_with_its_name() {
    let mut m = machine();
    for (number, want) in [
        (reason::TRIPLE_FAULT, "unexpected event 0x2 (triple fault)"),
        (reason::ENTRY_FAILURE, "unexpected event 0x21 (VM-entry failure (guest state))"),
        (9, "unexpected event 0x9 (task switch)"),
        (0x5f, "unexpected event 0x5f (reserved)"),
        (7777, "unexpected event 0x1e61 (reserved)"),
    ] {
        assert_eq!(m.handle(event(number), &mut state(), 0), Action::Stop(Stop::Broken));
        assert_eq!(m.vcpus[0].cause, want);
    }
    assert_eq!(m.m.counts().iter().sum::<u64>(), 4, "counted, as far as they have a number");
}

#[test]
fn control_register_writes() {
    let mut m = machine();
    let value = CR0_PE | CR0_NE | CR0_CD;
    let mut s = ArchState { qual: [1 << 8, 0, 0], ..regs(0, value, 0) };
    assert_eq!(m.handle(event(reason::CR_ACCESS), &mut s, 0), Action::Reply(Mtd::RIP | Mtd::CR | Mtd::TLB));
    assert_eq!((s.cr0, s.rip), (value | CR0_ET, 0x1002));
    let mut s = ArchState { qual: [4 | 1 << 8, 0, 0], ..regs(0, CR4_VMXE, 0) };
    assert_eq!(m.handle(event(reason::CR_ACCESS), &mut s, 0), Action::Reply(Mtd::INJ));
    assert_eq!((s.inj_info, s.rip), (GP, 0x1000));
    let mut s = ArchState { qual: [3, 0, 0], ..state() };
    assert_eq!(m.handle(event(reason::CR_ACCESS), &mut s, 0), Action::Stop(Stop::Broken));
}

#[test]
fn accesses_to_cr8_are_emulated() {
    let mut m = machine();
    vcpu::prepare(m.mem(), &START).unwrap();
    let mut s = vcpu::initial(&START);
    s.rip = 0x80_0000;
    // mov cr8, rax
    vm_memory::Bytes::write_slice(m.mem(), &[0x44, 0x0f, 0x22, 0xc0], GuestAddress(s.rip)).unwrap();
    s.gpr[ArchState::RAX] = 5;
    s.qual = [8, 0, 0];
    let Action::Reply(mtd) = m.handle(event(reason::CR_ACCESS), &mut s, 0) else { panic!() };
    assert!(mtd.contains(Mtd::RIP | Mtd::STA));
    assert_eq!((m.m.board.device, s.rip), (5, 0x80_0004));
}
