//! The root task: holds all resources and starts everything else, as the system file says.
//!
//! What it decides is in the packages `policy` and `core_task_logic`; the modules here act:
//!
//! * [`boot`], [`window`], [`space`], [`clock`]: what the kernel and the boot loader hand over;
//! * [`create`], [`portals`], [`handler`], [`helpers`], [`supervisor`], [`end`]: components, from their plan to their end;
//! * [`hub`], [`own`], [`rom`], [`timer`], [`watch`]: sessions, and the root task's own services;
//! * [`office`], [`offspring`]: children of components;
//! * [`dataspaces`], [`memory`], [`pager`]: memory that components share;
//! * [`devices`]: ports, interrupts, and memory of devices;
//! * [`log`], [`console`], [`link`], [`kernel_log`], [`kernel_trace`], [`power`]: what the user sees.
#![deny(unsafe_code)]

mod boot;
mod clock;
mod console;
mod create;
mod dataspaces;
mod devices;
mod end;
mod handler;
mod helpers;
mod hub;
mod kernel_log;
mod kernel_trace;
mod link;
mod log;
mod memory;
mod office;
mod offspring;
mod own;
mod pager;
mod portals;
mod power;
mod rom;
mod shared;
mod space;
mod supervisor;
mod timer;
mod watch;
mod window;

use abi::{Hip, VirtMissing};
use boot::Boot;
use core_task_logic::acpi::Tables;
use core_task_logic::claims::kept;
use core_task_logic::firmware::rsdp;
use create::Creator;
use dataspaces::Memory;
use devices::Devices;
use hub::Hub;
use init::{Component, Config};
use log::Log;
use policy::{Book, Machine, Plan, children};
use portals::Portals;
use rt::hypercall;
use session::Quota;
use shared::Shared;
use space::Nova;
use std::sync::Arc;
use supervisor::Supervisor;
use window::Window;

/// What the root task keeps of the kernel's memory for its own threads and page tables, and for the portals of components.
const OWN_KMEM: u64 = 2 << 20;
/// And for each CPU, for the thread that helps the handler there.
const OWN_KMEM_PER_CPU: u64 = 16 << 10;
/// Boot module with the system file.
const SYSTEM: &str = "system";

fn main() {
    let Some(start) = rt::root::boot() else { return eprintln!("core-task is the root task, and no component") };
    let nova = match Nova::take() {
        Ok(nova) => nova,
        Err(e) => return eprintln!("core: the kernel refused to {e}"),
    };
    let log = Log::new(nova);
    log.take_output();
    let window: &'static Window = Box::leak(Box::new(Window::new(nova, start.hip)));
    let boot = match Boot::read(window, start.hip, start.mb_magic, start.mbi_phys) {
        Ok(boot) => boot,
        Err(e) => {
            log.line(e.to_string());
            power::idle()
        }
    };
    if let Some(cells) = boot.screen.and_then(|s| window.screen(s)) {
        log.use_screen(cells);
    }
    let machine = machine(&nova, start.hip, &log);
    banner(start.hip, &boot, &log);
    if let Err(e) = log.start() {
        log.line(format!("no thread for the log: {e}"));
    }
    if let Err(e) = kernel_log::start(window, start.hip, &log) {
        log.line(format!("no messages of the kernel: it refused to {e}"));
    }
    run(nova, start.hip, window, boot, machine, log)
}

/// From the system file to the end of the system.
fn run(nova: Nova, hip: &'static Hip, window: &'static Window, mut boot: Boot, machine: Machine, log: Log) -> ! {
    let file = match system_file(&boot) {
        Ok(file) => file,
        Err(messages) => {
            messages.into_iter().for_each(|m| log.line(m));
            power::idle()
        }
    };
    rt::root::set_contended(helpers::ask_all);
    let shared = Shared::new(file.entries.len(), children::watched(&file));
    let tables = rsdp(hip).and_then(|at| Tables::new(window, at).ok());
    let overrides = tables.as_ref().map(Tables::overrides).unwrap_or_default();
    let kept = kept(&tables.map(|t| t.io_apics()).unwrap_or_default(), &boot.memory, boot.screen);
    kernel_trace::start(hip, file.trace, &log);
    let plan = Plan::new(&file, &boot.modules, &machine, &mut boot.book);
    let own = own::Own::start(machine.cpus, &boot.modules).unwrap_or_else(|e| {
        log.line(format!("no thread for the timer: {e}"));
        power::idle()
    });
    let hub = Hub::new(total(&file, &plan, &boot), own, Arc::clone(&shared));
    let memory = Memory::new(nova, window, hub, set_apart(&file, &plan, &mut boot));
    let devices = Devices::new(nova, overrides, kept, memory, (log.clone(), Arc::clone(&shared)));
    hub.own().reach(memory, devices);
    log.reach(memory, window);
    let portals = Portals::new(Arc::clone(&shared), log.clone(), hub, memory, devices);
    let creator = Creator { nova, window, modules: &boot.modules, hip, machine, portals };
    Supervisor::new(file, plan, boot.book, creator, shared, log).run()
}

/// All that components, and the root task for them, can have: RAM that they start with, and what is free.
fn total(file: &Config, plan: &Plan, boot: &Boot) -> Quota {
    let started = plan.components.iter().zip(&file.entries).filter(|(c, _)| c.is_ok());
    let mapped = started.filter_map(|(_, e)| e.result.as_ref().ok()).map(|c| children::mapped(c).ram()).sum::<u64>();
    let ram = (mapped + boot.book.free_bytes()) & !(abi::PAGE_SIZE as u64 - 1);
    Quota::new(ram, init::CORE_CAPS.into()).unwrap_or_default()
}

/// Frames for the dataspaces of all components that start, as far as there are some.
fn set_apart(file: &Config, plan: &Plan, boot: &mut Boot) -> Book {
    let started = file.entries.iter().zip(&plan.components).filter(|(_, planned)| planned.is_ok());
    let started: Vec<&Component> = started.filter_map(|(entry, _)| entry.result.as_ref().ok()).collect();
    let mut frames = Book::default();
    let mut take = |bytes: u64| {
        let range = Some(bytes).filter(|&bytes| bytes > 0).and_then(|bytes| boot.book.take(bytes).ok());
        range.into_iter().for_each(|range| frames.give_back(range));
    };
    started.iter().for_each(|c| take(c.spare_bytes()));
    // Behind what they start with, what they may ask for.
    started.iter().for_each(|c| take(c.most().ram - c.ram.value.bytes()));
    frames
}

/// What is wrong with it is a line each.
fn system_file(boot: &Boot) -> Result<Config, Vec<String>> {
    let bytes =
        boot.module(SYSTEM).ok_or_else(|| vec![format!("there is no boot module `{SYSTEM}` with the system file")])?;
    let text = std::str::from_utf8(bytes).map_err(|e| vec![format!("{SYSTEM}: not UTF-8: {e}")])?;
    policy::system_file(text).map_err(|all| all.iter().map(|d| format!("{SYSTEM}: {d}")).collect())
}

fn machine(nova: &Nova, hip: &Hip, log: &Log) -> Machine {
    let wall_base_ns = clock::wall_base_ns(nova).unwrap_or_else(|e| {
        log.line(format!("it is 1970: {e}"));
        0
    });
    rt::root::set_wall_base(wall_base_ns);
    let (limit, used) = hypercall::read_quota(abi::root_obj::ROOT_PD).unwrap_or_else(|e| {
        log.line(format!("the kernel does not tell how much memory it has: {e:?}"));
        (0, 0)
    });
    let kmem = limit.saturating_sub(used) << abi::PAGE_BITS;
    Machine {
        tsc_hz: hip.stc_freq,
        wall_base_ns,
        cpus: hip.cpu_num.min(parent::MAX_CPUS as u16),
        pins: hip.int_pin.into(),
        features: hip.features,
        virt_missing: hip.virt_missing,
        kmem: kmem.saturating_sub(OWN_KMEM + u64::from(hip.cpu_num) * OWN_KMEM_PER_CPU),
        sel_end: hip.sel_num,
    }
}

fn banner(hip: &Hip, boot: &Boot, log: &Log) {
    let guests = match (hip.guests(), VirtMissing::from_bits_truncate(hip.virt_missing)) {
        (true, _) => "guests can run".to_string(),
        (false, missing) => format!("no guests: missing {}", missing.names().collect::<Vec<_>>().join(", ")),
    };
    log.line(format!(
        "Ferronova {}: {} CPU{} at {} MHz, {} MiB free, kernel uses {} of {} KiB, {guests}",
        env!("CARGO_PKG_VERSION"),
        hip.cpu_num,
        if hip.cpu_num == 1 { "" } else { "s" },
        hip.stc_freq / 1_000_000,
        boot.book.free_bytes() >> 20,
        hip.kmem_used >> 10,
        hip.kmem_total >> 10,
    ));
}
