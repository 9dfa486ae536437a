//! Portal threads: local ECs that run when one of their portals is called, or an event arrives at it.

use crate::hypercall::{self, EcArgs};
use crate::tcb::{self, Tcb};
use crate::{domain, root, rpc, sel, stack, thread};
use abi::{Hypercall, Sel, Status, Utcb};
use alloc::boxed::Box;
use core::arch::global_asm;
use core::ptr::null_mut;

/// Gets the portal's identifier, the message transfer descriptor of the message in the UTCB, and the UTCB to be filled
/// with the reply; returns the reply's descriptor.
pub type Handler = Box<dyn FnMut(u64, u32, &mut Utcb) -> u32 + Send>;

// Entered by the kernel at each call: RDI = portal identifier, RSI = descriptor, RSP as at the last ipc_reply (at first
// as created): at the top of the stack, where the thread's block is. The dispatcher's return value is the descriptor of
// the reply; the next message enters at the top again.
global_asm!(
    ".section .text.rt_portal_entry, \"ax\", @progbits",
    ".globl rt_portal_entry",
    ".type rt_portal_entry, @function",
    "rt_portal_entry:",
    "mov rax, [rsp]",
    "wrfsbase rax",
    "xor ebp, ebp",
    "call {dispatch}",
    "mov esi, eax",
    "mov edi, {reply}",
    "syscall",
    // Not reached: the kernel goes on at a portal's entry.
    "ud2",
    ".size rt_portal_entry, . - rt_portal_entry",
    ".text",
    dispatch = sym dispatch,
    reply = const Hypercall::IpcReply as u8,
);

unsafe extern "C" {
    fn rt_portal_entry();
}

/// Runs the current portal thread's handler.
extern "C" fn dispatch(pid: u64, mtd: u32) -> u32 {
    let me = tcb::my();
    // SAFETY: the handler is only touched here, and calls to a local thread come one at a time. The UTCB is ours until
    // the reply; the flag keeps `rt::utcb` from giving out a second reference.
    let (handler, utcb) = unsafe { (&mut *me.handler.get(), &mut *me.utcb) };
    me.utcb_taken.set(true);
    // There is a handler since before there was a portal.
    handler.as_mut().map_or(0, |h| h(pid, mtd, utcb))
}

/// A local thread. It serves its portals for as long as the program runs, also when this value is dropped.
#[derive(Debug)]
pub struct PortalThread {
    ec: Sel,
}

impl PortalThread {
    /// A thread on `cpu`, which only threads and vCPUs on the same CPU can call, with a stack of at least `stack_len` bytes. Messages that arrive at its portals go to
    /// `handler`, one at a time, on the time of the caller. The handler may block and print; a panic in it ends the
    /// component. [`Status::BadCpu`]: the component may not use this CPU.
    pub fn new(cpu: u16, stack_len: usize, handler: Handler) -> Result<PortalThread, Status> {
        if domain::is_root() {
            root::serve_own_threads(cpu)?;
        }
        Self::unserved(cpu, stack_len, handler)
    }

    /// The same without looking whether anybody serves its events.
    pub(crate) fn unserved(cpu: u16, stack_len: usize, handler: Handler) -> Result<PortalThread, Status> {
        let t = tcb::create(cpu)?;
        // SAFETY: `t` is new, and on failure nobody has seen it.
        unsafe { Self::build(t, cpu, stack_len, Some(handler), null_mut()).inspect_err(|_| tcb::destroy(t)) }
    }

    /// A thread without a handler, for portals with an entry of their own, which find `own` on the stack behind the thread's
    /// block. Returns its EC.
    pub(crate) fn for_entrypoint(cpu: u16, stack_len: usize, own: *mut u8) -> Result<Sel, Status> {
        if domain::is_root() {
            root::serve_own_threads(cpu)?;
        }
        let t = tcb::create(cpu)?;
        // SAFETY: as above. The thread has no portal yet.
        unsafe {
            let built = Self::build(t, cpu, stack_len, None, own).and_then(|p| rpc::make_room(&*t).map(|()| p.ec));
            built.inspect_err(|_| tcb::destroy(t))
        }
    }

    /// # Safety
    /// `t` is new.
    unsafe fn build(
        t: *mut Tcb,
        cpu: u16,
        stack_len: usize,
        handler: Option<Handler>,
        own: *mut u8,
    ) -> Result<PortalThread, Status> {
        // SAFETY: contract; nothing runs on `t` before there is a portal.
        let t = unsafe { &mut *t };
        t.stack = stack::alloc(stack_len).ok_or(Status::MemObj)?;
        let ec = sel::alloc().ok_or(Status::MemCap)?;
        t.ec = ec;
        let page = tcb::new_utcb_page();
        t.utcb = tcb::utcb_at(page);
        let evt = domain::own().events(cpu);
        // Aligned to 16, so that the entry's call makes a regular frame.
        let sp = t.stack.top() - 16;
        let args = EcArgs { utcb_page: page, cpu, sp, evt, guest: false, global_or_offset: false, fpu: true };
        // SAFETY: the top of the new stack, where the entry looks for the block; page and stack are this thread's alone,
        // and it is only entered at `rt_portal_entry`.
        unsafe {
            (sp as *mut *mut Tcb).write(t);
            (sp as *mut *mut u8).add(1).write(own);
            thread::create_ec(ec, args)?;
        }
        t.handler = handler.into();
        Ok(PortalThread { ec })
    }

    /// Its EC.
    pub const fn sel(&self) -> Sel {
        self.ec
    }

    /// Makes a portal to it at the free selector `sel`, with identifier and descriptor. The descriptor counts for
    /// events only: it says which state the handler sees.
    pub fn portal(&self, sel: Sel, pid: u64, mtd: u32) -> Result<(), Status> {
        let ip = rt_portal_entry as *const () as u64;
        // SAFETY: that entry is what the EC's stack was made for.
        unsafe { hypercall::create_pt(sel, domain::own().pd, self.ec, ip)? };
        hypercall::ctrl_pt(sel, pid, mtd)
    }
}
