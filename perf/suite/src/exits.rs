//! VM exits: from one run of the handler to the next. In between are reply, VM entry, one or two instructions of the
//! guest, exit, and the event's message; and the handler's own 11 instructions.

use crate::clock::{SAMPLES, WARM_UP, missing, report, samples_at};
use crate::servers::{Code, Domain, selector};
use abi::{ArchState, Hypercall, Mtd, event, perm};
use bare::{done, memory, poke};
use rt::hypercall as hc;
use rt::vm::{GuestSpace, Vcpu};
use rt::{PortalThread, Semaphore};

const RAM: usize = 64 << 10;
const CODE: u64 = 0x1000;
const EVENTS: u64 = event::GST_ARCH + event::GST_NOVA;
/// Longest wait for the end of a guest, in milliseconds.
const PATIENCE: u64 = 20_000;

const GPR_RIP: Mtd = Mtd::GPR_0_7.union(Mtd::RIP);

/// What a guest does again and again: name, basic exit reason (Intel SDM vol. 3, appendix C), code, length, descriptor.
struct Exit {
    name: &'static str,
    reason: u64,
    /// Where the vendors' instructions differ: that of SVM.
    code: [&'static [u8]; 2],
    mtd: Mtd,
}

const EXITS: &[Exit] = &[
    Exit { name: "exit_cpuid_rip", reason: 10, code: [&[0x0f, 0xa2]; 2], mtd: Mtd::RIP },
    Exit { name: "exit_cpuid_gpr_rip", reason: 10, code: [&[0x0f, 0xa2]; 2], mtd: GPR_RIP },
    Exit { name: "exit_hlt_rip_sta", reason: 12, code: [&[0xf4]; 2], mtd: Mtd::RIP.union(Mtd::STA) },
    Exit { name: "exit_out_gpr_rip_qual", reason: 30, code: [&[0xe6, 0x80]; 2], mtd: GPR_RIP.union(Mtd::QUAL) },
    Exit { name: "exit_vmcall_gpr_rip", reason: 18, code: [&[0x0f, 0x01, 0xc1], &[0x0f, 0x01, 0xd9]], mtd: GPR_RIP },
    Exit { name: "exit_rdmsr_gpr_rip", reason: 31, code: [&[0x0f, 0x32]; 2], mtd: GPR_RIP },
];

/// Answers STARTUP: real mode, at [`CODE`].
fn begin(u: &mut abi::Utcb, gst: u64) -> Mtd {
    let s = u.arch_mut();
    *s = ArchState::default();
    let begun = s.begin_in_real_mode(CODE, 2);
    // RDMSR asks for one that no guest may read, so that it exits.
    s.gpr[ArchState::RCX] = 0xc001_1234;
    s.sel_gst = gst;
    begun | Mtd::GPR_0_7 | Mtd::SPACES
}

fn fill(ram: u64, code: &[u8], times: usize) {
    let at = |i: usize| std::ptr::with_exposed_provenance_mut::<u8>((ram + CODE) as usize + i);
    for i in 0..code.len() * times {
        // SAFETY: inside the new memory, to which there are no references.
        unsafe { at(i).write_volatile(code[i % code.len()]) };
    }
}

fn measure(cpu: u16, exit: &Exit, svm: bool) -> Result<Vec<u32>, String> {
    let (code, count) = (exit.code[svm as usize], WARM_UP + SAMPLES);
    let (space, ram) = (done("guest space", GuestSpace::new())?, memory(RAM, RAM));
    fill(ram, code, count + 1);
    let host = std::ptr::with_exposed_provenance::<u8>(ram as usize);
    // SAFETY: the memory is never given back, and only accessed volatile.
    done("guest memory", unsafe { space.map(0, host, RAM as u64, perm::Mem::all()) })?;
    let end = Semaphore::new(0);
    let buffer = memory(4 * count, 64);
    let stop = Hypercall::CtrlSm.identifier(0, end.sel());
    let handler = Domain::own().server(cpu, true)?;
    // The stack's words are set when the UTCB's address is known.
    let words = [buffer, count as u64, handler.utcb, code.len() as u64, exit.mtd.bits().into(), stop];
    for (i, w) in words.into_iter().enumerate() {
        poke(handler.sp + 8 * i as u64, w);
    }
    let load = selector()?;
    handler.portal(load, Code::Load, 0)?;
    done("load", hc::ipc_call(load, 0, false))?;
    let base = rt::sel::alloc_range(EVENTS, 1).ok_or("no selectors")?;
    let gst = space.sel();
    let starter = done("starter", PortalThread::new(cpu, 32 << 10, Box::new(move |_, _, u| begin(u, gst).bits())))?;
    done("portal", starter.portal(base + event::GST_STARTUP, 0, 0))?;
    handler.portal(base + exit.reason, Code::Exit, exit.mtd.bits())?;
    let mut vcpu = done("vCPU", Vcpu::new(cpu, base))?;
    done("start", vcpu.start(1))?;
    if !end.down_until(rt::time::tsc() + rt::time::tsc_hz() / 1000 * PATIENCE) {
        return Err("the guest did not come to its end".into());
    }
    // The handler is below us, and still has to kill the virtual CPU.
    Semaphore::new(0).down_until(rt::time::tsc() + rt::time::tsc_hz() / 1000);
    Ok(samples_at(buffer))
}

/// All rows of this file.
pub fn run(cpu: u16) -> Result<(), String> {
    let features = rt::start_info().map_or(0, |i| i.features);
    let has = |f: abi::Features| features & f.bits() != 0;
    if !has(abi::Features::VMX | abi::Features::SVM) {
        EXITS.iter().for_each(|e| missing(e.name, "the machine runs no guests"));
        return Ok(());
    }
    for e in EXITS {
        report(e.name, measure(cpu, e, has(abi::Features::SVM)), 0);
    }
    Ok(())
}
