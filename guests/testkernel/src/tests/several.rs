//! Several CPUs: start, IPIs, shared memory, TLB shoot-down, time.

use crate::machine::apic::{self, command};
use crate::machine::cpu::{self, cpuid, cpuid_if_any, rdmsr, rdtsc, wrmsr};
use crate::machine::paging::{self, WINDOW, map, word};
use crate::machine::tables::this_cpu;
use crate::machine::trap::{self, Answer, catch, count, last_cpu, wait_for};
use crate::machine::{apic::read, smp};
use crate::spec::apic as a;
use crate::spec::{msr, pte, vector as v};
use crate::x86;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use testkernel_macros::guest_test;

const IPI: u8 = 0xa0;
const RW: u64 = pte::P | pte::W;

/// CPUs that did what they were told.
static DONE: AtomicUsize = AtomicUsize::new(0);

fn on_all(f: fn()) {
    DONE.store(0, SeqCst);
    smp::start_others(f);
    f();
    smp::join();
}

fn wait_for_ipis(n: usize) {
    wait_for("the interrupts", || count(IPI) as usize >= n);
}

#[guest_test(needs = [Vcpus(2)])]
fn all_announced_cpus_come_up() {
    assert_eq!(smp::online(), smp::expected());
}

#[guest_test(needs = [Vcpus(2)])]
fn each_cpu_has_an_id_of_its_own() {
    for n in 0..smp::online() {
        assert!((0..n).all(|m| smp::apic_id(m) != smp::apic_id(n)), "CPU {n}");
    }
}

#[guest_test(needs = [Vcpus(2)])]
fn each_cpu_finds_its_id_in_cpuid() {
    on_all(|| {
        assert_eq!(cpuid(1, 0).ebx >> 24, apic::id());
        assert!(cpuid(0, 0).eax < 0xb || cpuid_if_any(0xb, 0).ebx == 0 || cpuid(0xb, 0).edx == apic::id());
        DONE.fetch_add(1, SeqCst);
    });
    assert_eq!(DONE.load(SeqCst), smp::online());
}

#[guest_test(needs = [Vcpus(2)])]
fn only_the_first_cpu_is_the_boot_cpu() {
    on_all(|| assert_eq!(rdmsr(msr::APIC_BASE) & a::BASE_BSP != 0, this_cpu() == 0));
}

#[guest_test(needs = [Vcpus(2)])]
fn an_ipi_arrives_where_it_is_sent() {
    for n in 1..smp::online() {
        trap::clear_counts();
        command(a::ASSERT | u32::from(IPI), smp::apic_id(n));
        wait_for_ipis(1);
        assert_eq!(last_cpu(IPI), Some(n));
    }
}

#[guest_test(needs = [Vcpus(2)])]
fn an_ipi_to_all_others_leaves_the_sender_out() {
    static ON_SENDER: AtomicBool = AtomicBool::new(false);
    ON_SENDER.store(false, SeqCst);
    trap::hook(IPI, |_| {
        ON_SENDER.fetch_or(this_cpu() == 0, SeqCst);
        Answer::Pass
    });
    command(a::ASSERT | a::TO_OTHERS | u32::from(IPI), 0);
    wait_for_ipis(smp::online() - 1);
    assert!(!ON_SENDER.load(SeqCst));
}

#[guest_test(needs = [Vcpus(2)])]
fn an_ipi_to_all_includes_the_sender() {
    command(a::ASSERT | a::TO_ALL | u32::from(IPI), 0);
    wait_for_ipis(smp::online());
    assert_eq!(count(IPI) as usize, smp::online());
}

#[guest_test(needs = [Vcpus(2)])]
fn many_ipis_one_after_the_other_all_arrive() {
    for n in 1..=300 {
        let to = 1 + n % (smp::online() - 1);
        command(a::ASSERT | u32::from(IPI), smp::apic_id(to));
        wait_for_ipis(n);
    }
}

#[guest_test(needs = [Vcpus(2)])]
fn ipis_go_round_in_a_ring() {
    static HOPS: AtomicUsize = AtomicUsize::new(0);
    const ROUNDS: usize = 20;
    HOPS.store(0, SeqCst);
    trap::hook(IPI, |_| {
        if HOPS.fetch_add(1, SeqCst) + 1 < ROUNDS * smp::online() {
            command(a::ASSERT | u32::from(IPI), smp::apic_id((this_cpu() + 1) % smp::online()));
        }
        Answer::Pass
    });
    command(a::ASSERT | u32::from(IPI), smp::apic_id(1));
    wait_for("the rounds", || HOPS.load(SeqCst) >= ROUNDS * smp::online());
}

#[guest_test(needs = [Vcpus(2)])]
fn an_nmi_reaches_a_cpu_that_has_interrupts_off() {
    static READY: AtomicBool = AtomicBool::new(false);
    READY.store(false, SeqCst);
    trap::hook(v::NMI, trap::count_and_resume);
    smp::start(1, || {
        cpu::disable_interrupts();
        READY.store(true, SeqCst);
        while count(v::NMI) == 0 {
            cpu::pause();
        }
    });
    wait_for("CPU 1", || READY.load(SeqCst));
    command(a::ASSERT | a::NMI, smp::apic_id(1));
    smp::join();
    assert_eq!(count(v::NMI), 1);
}

#[guest_test(needs = [Vcpus(2)])]
fn an_nmi_wakes_a_cpu_that_halts_with_interrupts_off() {
    static READY: AtomicBool = AtomicBool::new(false);
    READY.store(false, SeqCst);
    trap::hook(v::NMI, trap::count_and_resume);
    smp::start(1, || {
        READY.store(true, SeqCst);
        x86!("cli", "hlt");
    });
    wait_for("CPU 1", || READY.load(SeqCst));
    // It may not have reached HLT yet: until one hits.
    for _ in 0..1000 {
        command(a::ASSERT | a::NMI, smp::apic_id(1));
        (0..1000).for_each(|_| cpu::pause());
        if smp::idle() {
            break;
        }
    }
    smp::join();
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

#[guest_test(needs = [Vcpus(2)])]
fn locked_additions_lose_nothing() {
    COUNTER.store(0, SeqCst);
    on_all(|| (0..20_000).for_each(|_| _ = COUNTER.fetch_add(1, SeqCst)));
    assert_eq!(COUNTER.load(SeqCst), 20_000 * smp::online() as u64);
}

#[guest_test(needs = [Vcpus(2)])]
fn a_lock_excludes() {
    static LOCK: AtomicBool = AtomicBool::new(false);
    COUNTER.store(0, SeqCst);
    on_all(|| {
        for _ in 0..500 {
            while LOCK.swap(true, Acquire) {
                cpu::pause();
            }
            let n = COUNTER.load(Relaxed);
            if n.is_multiple_of(16) {
                cpuid(0, 0); // an exit while others wait
            }
            COUNTER.store(n + 1, Relaxed);
            LOCK.store(false, Release);
        }
    });
    assert_eq!(COUNTER.load(SeqCst), 500 * smp::online() as u64);
}

#[guest_test(needs = [Vcpus(2)])]
fn a_shoot_down_reaches_the_other_tlbs() {
    static STOP: AtomicBool = AtomicBool::new(false);
    STOP.store(false, SeqCst);
    COUNTER.store(0, SeqCst);
    // Each page that gets mapped holds a higher number than the one before.
    word(paging::page(0)).store(0, SeqCst);
    map(WINDOW, paging::page(0), RW);
    trap::hook(IPI, |_| {
        cpu::invlpg(WINDOW);
        DONE.fetch_add(1, SeqCst);
        Answer::Pass
    });
    smp::start_others(|| {
        while !STOP.load(SeqCst) {
            cpu::interrupt_window();
            let complete = COUNTER.load(SeqCst);
            let seen = word(WINDOW).load(SeqCst);
            assert!(seen >= complete, "{seen} seen after the shoot-down of {complete}");
        }
    });
    for n in 1..200 {
        let page = paging::page(n as usize % 4);
        word(page).store(n, SeqCst);
        map(WINDOW, page, RW);
        DONE.store(0, SeqCst);
        command(a::ASSERT | a::TO_OTHERS | u32::from(IPI), 0);
        wait_for("the shoot-down", || DONE.load(SeqCst) == smp::online() - 1);
        COUNTER.store(n, SeqCst);
    }
    STOP.store(true, SeqCst);
    smp::join();
}

#[guest_test(needs = [Vcpus(2), InvariantTsc])]
fn the_time_stamp_counters_run_together() {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.store(0, SeqCst);
    on_all(|| {
        for _ in 0..2000 {
            let before = LAST.load(SeqCst);
            let now = rdtsc();
            assert!(now >= before, "{before:#x} on another CPU, then {now:#x}");
            LAST.fetch_max(now, SeqCst);
        }
    });
}

#[guest_test(needs = [Vcpus(2)])]
fn each_cpu_has_registers_of_its_own() {
    on_all(|| {
        let own = 0x1000 * (this_cpu() as u64 + 1);
        wrmsr(msr::FS_BASE, own);
        wrmsr(msr::KERNEL_GS_BASE, own + 1);
        cpu::write_dr0(own + 2);
        x86!("movq xmm3, {}", in(reg) own);
        for _ in 0..200 {
            cpuid(0, 0);
            let xmm: u64;
            x86!("movq {}, xmm3", out(reg) xmm);
            assert_eq!(
                (rdmsr(msr::FS_BASE), rdmsr(msr::KERNEL_GS_BASE), cpu::read_dr0(), xmm),
                (own, own + 1, own + 2, own)
            );
        }
        cpu::write_dr0(0);
        wrmsr(msr::FS_BASE, 0);
    });
}

#[guest_test(needs = [Vcpus(2)])]
fn exceptions_on_all_cpus_at_once_stay_apart() {
    on_all(|| {
        for n in 0..200 {
            let address = WINDOW + 0x3000_0000 + 0x1_0000 * this_cpu() as u64 + 8 * n;
            let f = catch(|| _ = cpu::load32(address)).expect("a fault");
            assert_eq!((f.vector, f.cr2), (v::PF, address));
        }
    });
}

#[guest_test(needs = [Vcpus(2)])]
fn each_cpu_has_a_timer_of_its_own() {
    static TICKS: [AtomicU32; smp::MAX_CPUS] = [const { AtomicU32::new(0) }; smp::MAX_CPUS];
    TICKS.iter().for_each(|t| t.store(0, SeqCst));
    trap::hook(IPI, |_| {
        TICKS[this_cpu()].fetch_add(1, SeqCst);
        Answer::Pass
    });
    on_all(|| {
        apic::write(a::TIMER_DIVIDE, 0b1011);
        for n in 1..=3 {
            apic::write(a::LVT_TIMER, IPI.into());
            apic::write(a::TIMER_INITIAL, 20_000);
            while TICKS[this_cpu()].load(SeqCst) < n {
                cpu::halt();
            }
        }
    });
    assert!((0..smp::online()).all(|n| TICKS[n].load(SeqCst) == 3));
}

#[guest_test(needs = [Vcpus(2)])]
fn the_ioapic_interrupts_the_cpu_that_the_entry_names() {
    const SERIAL_PIN: u32 = 4;
    for n in 0..smp::online() {
        trap::clear_counts();
        apic::route(SERIAL_PIN, IPI.into(), smp::apic_id(n));
        cpu::out8(crate::spec::port::COM1 + 1, 2);
        wait_for_ipis(1);
        cpu::out8(crate::spec::port::COM1 + 1, 0);
        apic::route(SERIAL_PIN, a::MASKED, 0);
        assert_eq!(last_cpu(IPI), Some(n));
    }
}

#[guest_test(needs = [Vcpus(2)])]
fn a_cpu_can_be_started_again() {
    let last = smp::online() - 1;
    smp::restart(last);
    let seen = smp::at_start(last);
    assert_eq!((seen.cr0 & 1, seen.cs), (0, 0x800), "in real mode");
    smp::start(last, || {
        DONE.store(4711, SeqCst);
        assert_eq!(read(a::TPR), 0);
    });
    smp::join();
    assert_eq!(DONE.load(SeqCst), 4711);
}

#[guest_test(needs = [Vcpus(2)])]
fn init_without_a_start_up_leaves_a_cpu_waiting() {
    let last = smp::online() - 1;
    command(a::INIT | a::ASSERT, smp::apic_id(last));
    command(a::ASSERT | u32::from(IPI), smp::apic_id(last));
    (0..10_000).for_each(|_| cpu::pause());
    assert_eq!(count(IPI), 0, "it takes no interrupts");
    smp::restart(last);
}
