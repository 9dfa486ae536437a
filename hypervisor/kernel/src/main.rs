//! The microhypervisor: protection domains, execution contexts, portals, semaphores, virtual CPUs, and nothing more.
//!
//! Boot order below; then every entry is a hypercall ([`call`]), a trap ([`arch::trap`]) or a VM exit ([`arch::vmx`]),
//! and every exit goes through [`schedule::go`].
//!
//! UNSAFETY: the only privileged binary. Pure logic is in the crates next door, which forbid unsafe code.
#![no_std]
#![no_main]

mod arch;
mod boot;
mod call;
mod console;
mod event;
mod iommu;
mod mem;
mod object;
mod remote;
mod schedule;
mod trace;

use arch::{cpu, guest, interrupt, paging, time};
use mem::{layout, pool, window};
use object::account::KERNEL;

/// Start in long mode, on the boot stack, with the boot page tables. Interrupts are off and stay off.
#[unsafe(no_mangle)]
extern "C" fn kernel_main(magic: u32, mbi: u32, displacement: u64) -> ! {
    layout::set_displacement(displacement);
    console::init_serial();
    if let Err(what) = cpu::check() {
        give_up(format_args!("this CPU lacks {what}"));
    }
    KERNEL.endow(pool::init());
    console::init_ring();
    paging::init_shared();
    cpu::init(cpu::Part::new(0).unwrap_or_else(|| give_up(format_args!("the pool is too small"))));
    say!("Ferronova microhypervisor, {} MiB pool", (layout::pool_end() - layout::pool_start()) >> 20);
    let info = boot::multiboot::read(magic, mbi).unwrap_or_else(|e| give_up(format_args!("{e}")));
    cpu::init_controls();
    boot::memory::protect_fixed();
    boot::root::protect_kernel();
    boot::acpi::init(info.rsdp);
    interrupt::init_local();
    time::calibrate();
    iommu::init();
    guest::init();
    announce();
    boot::smp::start_all(info.low_page);
    trace::init(boot::cpus_online()).unwrap_or_else(|| give_up(format_args!("the pool is too small")));
    if let Err(e) = boot::root::create(&info, magic, mbi) {
        give_up(format_args!("{e}"));
    }
    window::close();
    console::hand_over();
    schedule::go(schedule::Next::Resched)
}

fn announce() {
    let mhz = time::frequency() / 1_000_000;
    let x2apic = cpu::cpuid().get_feature_info().is_some_and(|f| f.has_x2apic());
    let (apic, microcode) = (if x2apic { "x2APIC" } else { "xAPIC" }, arch::speculation::microcode());
    say!("TSC {mhz} MHz, {apic}, {} interrupt pins, microcode {microcode:#x}", interrupt::pin_count());
    match guest::features() {
        f if f.contains(abi::Features::VMX) => say!("VT-x with EPT, VPID, unrestricted guest"),
        f if f.contains(abi::Features::SVM) => say!("SVM with nested paging and ASIDs"),
        _ => {}
    }
    say!("uses:{}", cpu::cpu().features.get().in_use | guest::in_use());
    let open = arch::speculation::plan().open;
    if !open.is_empty() {
        say!("speculation: this CPU is open to {open}");
    }
    for name in guest::missing().names() {
        say!("no guests on this machine: missing {name}");
    }
}

fn give_up(why: core::fmt::Arguments) -> ! {
    console::last_words();
    say!("Ferronova: cannot start: {why}");
    halt()
}

fn halt() -> ! {
    loop {
        // SAFETY: interrupts are off; nothing more is done on this CPU.
        unsafe { x86::halt() };
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    console::last_words();
    remote::stop_others();
    say!("kernel panic on CPU {}: {info}", cpu::cpu().id.get());
    if let Some(ec) = cpu::cpu().ec.get() {
        // What a fuzzer did last.
        let r = ec.regs();
        say!(
            "last entry: {:#x} {:#x} {:#x} {:#x} {:#x} at {:#x}",
            r.rdi(),
            r.rsi(),
            r.rdx(),
            r.rax(),
            r.r8(),
            r.regs.rip
        );
    }
    halt()
}
