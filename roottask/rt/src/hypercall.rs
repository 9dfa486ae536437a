//! Thin stubs, one for each hypercall, in the order of the specification (5.2 to 5.5, calling convention 8.8).
//!
//! Those with which a domain can pull its own memory away from under Rust are `unsafe`; the others can only fail.

use abi::{
    Attempt, CreatePdOp, ExtOp, Hypercall, IN_REGISTERS, Mad, Mtd, REGISTER_MTD, REGISTER_WORDS, Scd, Sel, Status,
    WITH_ITEMS,
};

/// `asm!` with one or more `syscall` instructions: its operands are given, what a hypercall does not keep is added: RCX, R11,
/// and vector registers, which are dead across calls that pass messages, and are given up for all, since a compiled caller has
/// nothing in them then anyway. A trailing comma is wanted.
#[macro_export]
macro_rules! syscall_asm {
    ($($template_and_operands:tt)*) => {
        ::core::arch::asm!(
            $($template_and_operands)*
            lateout("rcx") _, lateout("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack),
        )
    };
}

/// Registers that come back.
struct Out {
    rdi: u64,
    rsi: u64,
    rdx: u64,
}

/// The `syscall` instruction.
///
/// # Safety
/// The call must not change memory that Rust relies on.
#[inline(always)]
unsafe fn enter(rdi: u64, rsi: u64, rdx: u64, rax: u64, r8: u64) -> Out {
    let mut out = Out { rdi, rsi, rdx };
    // SAFETY: the clobbers are those of 8.8 and more; the kernel does not touch the user stack, so the red zone stays.
    unsafe {
        syscall_asm!(
            "syscall",
            inlateout("rdi") out.rdi, inlateout("rsi") out.rsi, inlateout("rdx") out.rdx,
            in("rax") rax, in("r8") r8,
        );
    }
    out
}

/// Status codes that this edition does not define count as [`Status::BadHyp`].
#[inline(always)]
fn check(out: Out) -> Result<Out, Status> {
    // Success first: two instructions on the way of each call.
    if out.rdi as u8 == Status::Success as u8 { Ok(out) } else { Err(failure(out.rdi)) }
}

#[cold]
fn failure(rdi: u64) -> Status {
    Status::from_register(rdi).unwrap_or(Status::BadHyp)
}

/// A call that failed.
pub(crate) struct Failed {
    rdi: u64,
    rsi: u64,
}

impl Failed {
    /// Why.
    #[cold]
    pub(crate) fn status(&self) -> Status {
        failure(self.rdi)
    }

    /// On which CPU the portal can be called; `None`: that is not why.
    #[cold]
    pub(crate) fn cpu(&self) -> Option<u16> {
        if self.status() == Status::BadCpu { u16::try_from(self.rsi).ok() } else { None }
    }
}

/// The same with what a failed call says beside its status.
#[inline(always)]
fn called(out: Out) -> Result<Out, Failed> {
    if out.rdi as u8 == Status::Success as u8 { Ok(out) } else { Err(Failed { rdi: out.rdi, rsi: out.rsi }) }
}

/// Calls portal `pt` with the message that `mtd` describes; returns the descriptor of the reply.
/// `no_wait`: [`Status::Timeout`] instead of helping a busy callee.
///
/// Overwrites the current thread's UTCB with the reply: take the message out of [`crate::utcb`] afterwards.
#[inline]
pub fn ipc_call(pt: Sel, mtd: u32, no_wait: bool) -> Result<u32, Status> {
    // SAFETY: writes to the UTCB only, to which nobody holds a reference (`UtcbGuard` is not held over a call by
    // contract of `crate::utcb`).
    check(unsafe { enter(Hypercall::IpcCall.identifier(no_wait as u8, pt), mtd.into(), 0, 0, 0) }).map(|o| o.rsi as u32)
}

/// As [`ipc_call`], which waits, with capabilities (X1): as many [`abi::Item`]s as `mtd` says are at the end of the UTCB.
#[inline]
pub fn ipc_call_items(pt: Sel, mtd: u32) -> Result<u32, Status> {
    // SAFETY: as for `ipc_call`.
    check(unsafe { enter(Hypercall::IpcCall.identifier(WITH_ITEMS, pt), mtd.into(), 0, 0, 0) }).map(|o| o.rsi as u32)
}

/// [`ipc_call`], which waits, or [`ipc_call_items`] if `mtd` has some, for which the kernel has a longer way.
#[inline]
pub(crate) fn ipc_call_any(pt: Sel, mtd: u32) -> Result<u32, Failed> {
    let flags = if Mtd::item_count(mtd) > 0 { WITH_ITEMS } else { 0 };
    // SAFETY: as for `ipc_call`.
    called(unsafe { enter(Hypercall::IpcCall.identifier(flags, pt), mtd.into(), 0, 0, 0) }).map(|o| o.rsi as u32)
}

/// What a reply is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// In registers.
    Words([u64; REGISTER_WORDS]),
    /// In the UTCB, with that descriptor.
    Utcb(u32),
}

/// Calls portal `pt` with a message in registers (X4), and waits.
///
/// The UTCB is not read. It is overwritten if the reply is there.
#[inline]
pub fn ipc_call_registers(pt: Sel, words: [u64; REGISTER_WORDS]) -> Result<Reply, Status> {
    try_call_registers(pt, words).map_err(|(f, _)| f.status())
}

/// The same, and where the portal can be called; the message comes back then, as nobody has kept it.
#[inline(always)]
pub(crate) fn try_call_registers(
    pt: Sel,
    words: [u64; REGISTER_WORDS],
) -> Result<Reply, (Failed, [u64; REGISTER_WORDS])> {
    let [mut a, mut b, mut c, mut d, mut e, mut f] = words;
    let (rdi, rsi);
    // SAFETY: as for `ipc_call`; the six registers are the message's.
    unsafe {
        syscall_asm!(
            "syscall",
            inlateout("rdi") Hypercall::IpcCall.identifier(IN_REGISTERS, pt) => rdi, lateout("rsi") rsi,
            inlateout("r8") a, inlateout("r9") b, inlateout("r10") c,
            inlateout("r12") d, inlateout("r13") e, inlateout("r14") f,
        );
    }
    // A call that fails leaves the message's registers as they were.
    let Out { rsi, .. } = called(Out { rdi, rsi, rdx: 0 }).map_err(|failed| (failed, [a, b, c, d, e, f]))?;
    Ok(if rsi == REGISTER_MTD { Reply::Words([a, b, c, d, e, f]) } else { Reply::Utcb(rsi as u32) })
}

/// Sets the selectors at which an EC receives capabilities (X1); `slots` 0: it receives none.
pub fn set_window(ec: Sel, first: Sel, slots: u64) -> Result<(), Status> {
    // SAFETY: changes no memory.
    check(unsafe { enter(ExtOp::SetWindow.identifier(ec), first, slots, 0, 0) }).map(drop)
}

/// Creates a PD or a space of `pd` at `sel`.
pub fn create_pd(op: CreatePdOp, sel: Sel, pd: Sel) -> Result<(), Status> {
    // SAFETY: new objects change no memory.
    check(unsafe { enter(Hypercall::CreatePd.identifier(op as u8, sel), pd, 0, 0, 0) }).map(drop)
}

/// Creates a PD at `sel` with an account of its own, whose frames come from the account of `pd` (X2).
pub fn create_account(sel: Sel, pd: Sel, frames: u64) -> Result<(), Status> {
    // SAFETY: new objects change no memory.
    check(unsafe { enter(Hypercall::CreatePd.identifier(CreatePdOp::Account as u8, sel), pd, frames, 0, 0) }).map(drop)
}

/// Destroys an object (X3): no capability leads to it any more, whoever has one.
///
/// # Safety
/// If it is part of the own domain: nothing may rely on it any more, nor on what it holds.
pub unsafe fn destroy(sel: Sel) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    check(unsafe { enter(ExtOp::Destroy.identifier(sel), 0, 0, 0, 0) }).map(drop)
}

/// Moves unused frames from the account of one PD to that of another (X2).
pub fn move_quota(from: Sel, to: Sel, frames: u64) -> Result<(), Status> {
    // SAFETY: changes no memory.
    check(unsafe { enter(ExtOp::MoveQuota.identifier(from), to, frames, 0, 0) }).map(drop)
}

/// Limit and use of the account of a PD, in frames (X2).
pub fn read_quota(pd: Sel) -> Result<(u64, u64), Status> {
    // SAFETY: reads.
    check(unsafe { enter(ExtOp::ReadQuota.identifier(pd), 0, 0, 0, 0) }).map(|o| (o.rsi, o.rdx))
}

/// Reads groups of the state of an EC on this CPU, not the caller, into the caller's UTCB, which holds no message then (X5).
pub fn get_state(ec: Sel, mtd: Mtd) -> Result<(), Status> {
    // SAFETY: writes to the UTCB only, as `ipc_call`.
    check(unsafe { enter(ExtOp::GetState.identifier(ec), mtd.bits().into(), 0, 0, 0) }).map(drop)
}

/// Writes groups of the state of an EC on this CPU, not the caller, from the caller's UTCB (X5).
///
/// # Safety
/// If it is a thread of the own PD: going on with these registers must be sound.
pub unsafe fn set_state(ec: Sel, mtd: Mtd) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    check(unsafe { enter(ExtOp::SetState.identifier(ec), mtd.bits().into(), 0, 0, 0) }).map(drop)
}

/// Chooses what is traced, bits of [`abi::TraceKinds`] (X6); the root task only.
pub fn ctrl_trace(kinds: u64) -> Result<(), Status> {
    // SAFETY: changes no memory.
    check(unsafe { enter(ExtOp::CtrlTrace.identifier(kinds), 0, 0, 0, 0) }).map(drop)
}

/// The `n`-th allocation of the kernel from now on fails, once; 0: none. Test kernels only.
pub fn inject(n: u64) -> Result<(), Status> {
    // SAFETY: changes no memory.
    check(unsafe { enter(ExtOp::Inject.identifier(n), 0, 0, 0, 0) }).map(drop)
}

/// The kernel tries that, at that address if it is about user memory: vector and error code of what came of it. For
/// [`Attempt::Audit`] what breaks the rules, and leaves in all. Test kernels only.
///
/// # Safety
/// Nothing in Rust refers to what is at the address; if it is executed, it is a RET.
pub unsafe fn attempt(what: Attempt, addr: u64) -> Result<(u64, u64), Status> {
    // SAFETY: passed on.
    check(unsafe { enter(ExtOp::Attempt.identifier(what as u64), addr, 0, 0, 0) }).map(|o| (o.rsi, o.rdx))
}

/// Parameters of [`create_ec`].
#[derive(Clone, Copy, Debug, Default)]
pub struct EcArgs {
    /// Address of the page for the UTCB, or for the vCPU's APIC page.
    pub utcb_page: u64,
    /// CPU number.
    pub cpu: u16,
    /// Initial stack pointer.
    pub sp: u64,
    /// Event selector base.
    pub evt: Sel,
    /// A virtual CPU.
    pub guest: bool,
    /// T: a global thread, or a vCPU with time offsetting.
    pub global_or_offset: bool,
    /// The EC may use the FPU.
    pub fpu: bool,
}

impl EcArgs {
    const GUEST: u8 = 1 << 0;
    const GLOBAL: u8 = 1 << 1;
    const FPU: u8 = 1 << 2;

    /// G, T and F as flags of the hypercall.
    pub const fn flags(&self) -> u8 {
        (self.guest as u8 * Self::GUEST) | (self.global_or_offset as u8 * Self::GLOBAL) | (self.fpu as u8 * Self::FPU)
    }

    /// The arguments with G, T and F from flags of the hypercall.
    pub const fn with_flags(self, flags: u8) -> EcArgs {
        EcArgs {
            guest: flags & Self::GUEST != 0,
            global_or_offset: flags & Self::GLOBAL != 0,
            fpu: flags & Self::FPU != 0,
            ..self
        }
    }
}

/// Creates an EC of `pd` at `sel`.
///
/// # Safety
/// If `pd` is the own PD: `utcb_page` must be a page that nothing else uses, and what runs at the STARTUP event or at
/// portals of the EC with stack pointer `sp` must be sound.
pub unsafe fn create_ec(sel: Sel, pd: Sel, a: EcArgs) -> Result<(), Status> {
    let page_cpu = a.utcb_page & !0xfff | u64::from(a.cpu) & 0xfff;
    // SAFETY: passed on to the caller.
    check(unsafe { enter(Hypercall::CreateEc.identifier(a.flags(), sel), pd, page_cpu, a.sp, a.evt) }).map(drop)
}

/// Creates an SC of `pd` at `sel`, bound to `ec`.
pub fn create_sc(sel: Sel, pd: Sel, ec: Sel, scd: Scd) -> Result<(), Status> {
    // SAFETY: lets an EC run whose creator vouched for what it runs.
    check(unsafe { enter(Hypercall::CreateSc.identifier(0, sel), pd, ec, scd.pack(), 0) }).map(drop)
}

/// Creates a portal of `pd` at `sel`, bound to local thread `ec`, with entry point `ip`.
///
/// # Safety
/// If `ec` is of the own PD: code at `ip` must be sound when entered with that thread's stack pointer.
pub unsafe fn create_pt(sel: Sel, pd: Sel, ec: Sel, ip: u64) -> Result<(), Status> {
    // SAFETY: passed on to the caller.
    check(unsafe { enter(Hypercall::CreatePt.identifier(0, sel), pd, ec, ip, 0) }).map(drop)
}

/// Creates a semaphore of `pd` at `sel`.
pub fn create_sm(sel: Sel, pd: Sel, count: u64) -> Result<(), Status> {
    // SAFETY: new objects change no memory.
    check(unsafe { enter(Hypercall::CreateSm.identifier(0, sel), pd, count, 0, 0) }).map(drop)
}

/// Delegates 2^`ord` capabilities from selector `ssb` of space `src` to `dsb` of space `dst`, masked by `pmm`; mask 0
/// revokes.
///
/// # Safety
/// If `dst` is the own host space: nothing may rely on what is mapped at `dsb`, and what `ssb` names must be memory
/// that may be aliased there.
pub unsafe fn ctrl_pd(src: Sel, dst: Sel, ssb: u64, dsb: u64, ord: u32, pmm: u8, mad: Mad) -> Result<(), Status> {
    let (from, to) = (ssb << 12 | u64::from(ord & 0x1f), dsb << 12 | u64::from(pmm & abi::perm::ALL));
    // SAFETY: passed on to the caller.
    check(unsafe { enter(Hypercall::CtrlPd.identifier(0, src), dst, from, to, mad.0.into()) }).map(drop)
}

/// As [`ctrl_pd`] into a host space; what arrives goes no further (X7).
///
/// # Safety
/// As [`ctrl_pd`].
pub unsafe fn ctrl_pd_bound(src: Sel, dst: Sel, ssb: u64, dsb: u64, ord: u32, pmm: u8, mad: Mad) -> Result<(), Status> {
    let (from, to) = (ssb << 12 | u64::from(ord & 0x1f), dsb << 12 | u64::from(pmm & abi::perm::ALL));
    // SAFETY: passed on to the caller.
    check(unsafe { enter(Hypercall::CtrlPd.identifier(abi::BOUND, src), dst, from, to, mad.0.into()) }).map(drop)
}

/// Recalls an EC. `strong`: returns when it has entered the kernel.
pub fn ctrl_ec(sel: Sel, strong: bool) -> Result<(), Status> {
    // SAFETY: makes an EC take a detour through its event portal.
    check(unsafe { enter(Hypercall::CtrlEc.identifier(strong as u8, sel), 0, 0, 0, 0) }).map(drop)
}

/// Time that an SC has consumed, in TSC ticks.
pub fn ctrl_sc(sel: Sel) -> Result<u64, Status> {
    // SAFETY: reads.
    check(unsafe { enter(Hypercall::CtrlSc.identifier(0, sel), 0, 0, 0, 0) }).map(|o| o.rsi)
}

/// Sets identifier and message transfer descriptor of a portal.
pub fn ctrl_pt(sel: Sel, pid: u64, mtd: u32) -> Result<(), Status> {
    // SAFETY: the values reach handlers as plain numbers.
    check(unsafe { enter(Hypercall::CtrlPt.identifier(0, sel), pid, mtd.into(), 0, 0) }).map(drop)
}

/// As [`ctrl_pt`]; messages in registers arrive as they are (X4).
///
/// # Safety
/// The handler does not rely on the registers of a message being as it left them.
pub unsafe fn ctrl_pt_registers(sel: Sel, pid: u64, mtd: u32) -> Result<(), Status> {
    // SAFETY: by the caller.
    check(unsafe { enter(Hypercall::CtrlPt.identifier(IN_REGISTERS, sel), pid, mtd.into(), 0, 0) }).map(drop)
}

/// Ups a semaphore.
#[inline]
pub fn sm_up(sel: Sel) -> Result<(), Status> {
    // SAFETY: synchronisation only.
    check(unsafe { enter(Hypercall::CtrlSm.identifier(0, sel), 0, 0, 0, 0) }).map(drop)
}

/// Downs a semaphore. `zero`: takes the whole count. With a deadline (absolute TSC): [`Status::Timeout`] when it passes.
#[inline]
pub fn sm_down(sel: Sel, zero: bool, deadline_tsc: Option<u64>) -> Result<(), Status> {
    // 0 means "no deadline" to the kernel; the caller's 0 is a deadline that has passed.
    let stc = deadline_tsc.map_or(0, |d| d.max(1));
    // SAFETY: synchronisation only.
    check(unsafe { enter(Hypercall::CtrlSm.identifier((zero as u8) << 1 | 1, sel), stc, 0, 0, 0) }).map(drop)
}

/// Platform control ([`abi::HwOp`]); the root task only.
pub fn ctrl_hw(op: u8, desc: u64) -> Result<(), Status> {
    // SAFETY: what it does to the machine is outside of what Rust knows.
    check(unsafe { enter(Hypercall::CtrlHw.identifier(op, desc), 0, 0, 0, 0) }).map(drop)
}

/// Flags of [`assign_int`], or-ed.
pub mod int_flags {
    /// M: masked.
    pub const MASKED: u8 = 1 << 0;
    /// T: level-triggered.
    pub const LEVEL: u8 = 1 << 1;
    /// P: active low.
    pub const LOW: u8 = 1 << 2;
    /// G: owned by a guest.
    pub const GUEST: u8 = 1 << 3;
}

/// Configures the interrupt behind semaphore `sm` and routes it to `cpu`. `bdf` is the PCI device that may send it,
/// for message-signalled ones. Returns the message's address and data (0 for pins).
pub fn assign_int(sm: Sel, cpu: u16, bdf: u16, flags: u8) -> Result<(u32, u16), Status> {
    // SAFETY: interrupts arrive as semaphore ups.
    check(unsafe { enter(Hypercall::AssignInt.identifier(flags, sm), cpu.into(), bdf.into(), 0, 0) })
        .map(|o| (o.rsi as u32, o.rdx as u16))
}

/// Assigns a device to a DMA space; the root task only. `unit`: physical address of the IOMMU's registers; `device`: segment
/// in bits 31:16, bus, device and function below.
pub fn assign_dev(dma: Sel, unit: u64, device: u64) -> Result<(), Status> {
    // SAFETY: the device reaches what somebody has delegated to the space, and answers for.
    check(unsafe { enter(Hypercall::AssignDev.identifier(0, dma), unit, device, 0, 0) }).map(drop)
}
