//! A root task as somebody else would write it: from the *NOVA Microhypervisor Interface Specification* and nothing of this
//! repository. It checks what it finds, says so on COM1, and switches the machine off.
//!
//! UNSAFETY: it is the first program on the machine and has no other layer below it: hypercalls, memory by address, ports.
//!
//! Start at [`main`]. [`nova`] has the numbers, [`console`] the serial line, [`world`] selectors and memory; each other
//! module is a group of tests.
#![no_std]
#![no_main]

mod boot;
mod console;
mod events;
mod interrupts;
mod ipc;
mod memory;
mod nova;
mod objects;
mod power;
mod semaphores;
mod spaces;
mod vcpu;
mod world;

use core::arch::global_asm;
use world::World;

/// What a test found: nothing wrong, something wrong, or nothing to test on this machine.
pub enum Verdict {
    /// As specified.
    Ok,
    /// Not so.
    Failed(&'static str, u64),
    /// The machine lacks it.
    NotHere(&'static str),
}

/// Fails the test that it stands in if the condition does not hold. The number says what was there instead.
#[macro_export]
macro_rules! check {
    ($holds:expr) => {
        $crate::check!($holds, 0)
    };
    ($holds:expr, $found:expr) => {
        if !$holds {
            return $crate::Verdict::Failed(stringify!($holds), $found as u64);
        }
    };
}

// RSP is no stack at first: it is the address of the information page [6.3].
global_asm!(
    ".globl start",
    "start:",
    "mov rdx, rsp",
    "lea rsp, [{stack} + {size}]",
    "xor ebp, ebp",
    "call {main}",
    "ud2",
    stack = sym world::ROOT_STACK,
    size = const world::STACK,
    main = sym main,
);

/// Name, tags of docs/spec, and the test itself.
type Test = (&'static str, &'static str, fn(&World) -> Verdict);

/// The tests, in order: each uses what those before it have shown.
const TESTS: [Test; 23] = [
    ("nova::start-registers", "boot-28", boot::registers),
    ("nova::hip", "abi-100 abi-101 abi-102", boot::hip),
    ("nova::root-object-space", "boot-33 abi-109", boot::root_object_space),
    ("nova::root-utcb", "boot-37", boot::root_utcb),
    ("nova::calling-convention", "abi-3", objects::calling_convention),
    ("nova::create-status", "boot-31", objects::create_status),
    ("nova::threads-status", "create_sc-8 create_sc-10 create_sc-11 create_sc-12", objects::threads_status),
    ("nova::call-and-reply", "boot-25", ipc::call_and_reply),
    ("nova::call-other-domain", "spaces-43", ipc::other_domain),
    ("nova::call-dead-end", "ipc_call-4 ipc_call-12 create_ec-8", ipc::dead_ends),
    ("nova::exceptions", "boot-26 boot-36", events::exceptions),
    ("nova::startup", "create_sc-4", events::startup),
    ("nova::recall", "abi-89", events::recall),
    ("nova::take-grant-objects", "boot-29 boot-30 spaces-36 spaces-46", spaces::objects),
    ("nova::take-grant-memory", "spaces-39 spaces-48 spaces-49 ctrl_pd-9 ctrl_pd-13 ctrl_pd-21", spaces::memory),
    ("nova::take-grant-ports", "spaces-40 spaces-41 spaces-52", spaces::ports),
    ("nova::boot-information", "boot-2 boot-40 abi-105", spaces::boot_information),
    ("nova::semaphores", "ctrl_sm-9", semaphores::counter),
    ("nova::timeouts", "ctrl_sm-11", semaphores::timeouts),
    ("nova::all-cpus", "abi-111", semaphores::all_cpus),
    (
        "nova::interrupt-pin",
        "assign_int-1 assign_int-6 assign_int-7 assign_int-8 assign_int-9 assign_int-10 ctrl_sm-18 spaces-45 objects-44 objects-46",
        interrupts::pin,
    ),
    ("nova::consumed-time", "ctrl_sc-3 objects-39", semaphores::consumed_time),
    ("nova::virtual-cpu", "abi-51 abi-115", vcpu::run),
];

extern "C" fn main(eax: u64, ebx: u64, hip: u64) -> ! {
    let world = World::new(eax, ebx, nova::Hip(hip));
    if world.open_console() {
        console::init();
    }
    let mut failed = u32::from(!world.handlers());
    for (name, _, test) in TESTS {
        print!("test {name} ... ");
        match test(&world) {
            Verdict::Ok => print!("ok\n"),
            Verdict::Failed(what, found) => {
                failed += 1;
                print!("FAILED: {what}, found {found:#x}\n");
            }
            Verdict::NotHere(why) => print!("not here: {why}\n"),
        }
    }
    print!("novaroot: {failed} failed\n");
    let status = power::off(&world);
    print!("test nova::power-off ... FAILED: {status:?}\n");
    stop()
}

fn stop() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    print!("novaroot panicked: {info}\n");
    stop()
}
