//! A processor: its features, its control registers, and the data that only it touches.

use super::{fast, paging, tables};
use crate::mem::{layout, pool, refs};
use crate::object::account::KERNEL;
use crate::object::ec::{Cont, Ec, Expect};
use crate::{remote, say};
use abi::PAGE_SIZE;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicU16, Ordering::Relaxed};
use raw_cpuid::{CpuId, CpuIdReaderNative};
use sched::Timeouts;
use spin::Once;
use switches::{CommandLine, Switches};
use x2apic::lapic::LocalApic;
use x86::controlregs::{Cr0, Cr4, cr0, cr0_write, cr4, cr4_write};
use x86::msr;

/// Data of one CPU, at [`layout::CPU`] in every address space of that CPU.
#[repr(C, align(4096))]
pub struct Cpu {
    /// Physical address of the host's VMCB, for the state that VMSAVE and VMLOAD move.
    pub host_vmcb: Cell<u64>,
    /// Why the fast path is not used: bits of [`super::fast::slow`].
    pub slow: Cell<u32>,
    /// Vector of an interrupt that came between a VM exit and what the exit should have waited for (SVM); 0: none did.
    pub early: Cell<u32>,
    /// What the state of an EC reads as that can be called at once, and of one that can be replied to at once.
    pub receives: Cell<u64>,
    /// See there.
    pub waits: Cell<u64>,
    /// And of a vCPU whose exit can be replied to at once.
    pub guest_waits: Cell<u64>,
    /// And of an EC whose exception can be replied to at once.
    pub fault_waits: Cell<u64>,
    /// Of one that can go on at once after its hypercall.
    pub runs: Cell<u64>,
    /// The same, for a reply in registers.
    pub waits_for_registers: Cell<u64>,
    /// Of one that is blocked and can go on at once when it is released.
    pub blocked: Cell<u64>,
    /// Which page table this CPU uses, for others to look at.
    pub presence: Cell<*const smp::Presence>,
    /// IA32_TSC_AUX as it is.
    pub tsc_aux: Cell<u64>,
    /// Number, 0 for the boot processor.
    pub id: Cell<u16>,
    /// Root of the kernel half.
    pub pdpt: Cell<u64>,
    /// A root without user half.
    pub bare_root: Cell<u64>,
    /// The EC that runs or ran last.
    pub ec: Cell<Option<&'static Ec>>,
    /// Who pays, and who is ready.
    pub ipc: ipc::Cpu<Ec>,
    /// TSC when the SC that pays began to.
    pub since: Cell<u64>,
    /// Since then nobody has.
    pub idles: Cell<bool>,
    /// TSC when its turn is over.
    pub slice_end: Cell<u64>,
    /// Blocked ECs with timeouts.
    pub timeouts: Timeouts<Ec>,
    /// When the timer will fire; `u64::MAX`: not armed.
    pub timer: Cell<u64>,
    /// From when on it counts as due.
    pub timer_near: Cell<u64>,
    /// When IOMMUs are to be looked at without an interrupt of theirs; `u64::MAX`: never.
    pub look_at_iommus: Cell<u64>,
    /// Objects that nothing counts on any more.
    pub reclaim: refs::Reclaim,
    /// Whose vector state is in the registers.
    pub fpu_owner: Cell<Option<&'static Ec>>,
    /// CR0.TS as it is.
    pub ts: Cell<bool>,
    /// XCR0 as it is.
    pub xcr0: Cell<u64>,
    /// CR3 as it is.
    pub cr3: Cell<u64>,
    /// Physical address of the first frame of the I/O bitmap shown; 0: none.
    pub io_bitmap: Cell<u64>,
    /// The current VMCS; 0: none.
    pub vmcs: Cell<u64>,
    /// TLB tags of virtual CPUs (SVM).
    pub asids: svm::Asids,
    /// Features.
    pub features: Cell<Features>,
    /// The task register was cut short by a VM exit.
    pub tr_stale: Cell<bool>,
    /// Physical address of the host values of the MSRs that VM exits load.
    pub host_msrs: Cell<u64>,
    /// Local APIC.
    pub lapic: UnsafeCell<Option<LocalApic>>,
    /// Vector registers hold nothing of anybody.
    pub fpu_clean: Cell<bool>,
    /// The vCPU whose debug registers are in the CPU.
    pub debug_owner: Cell<Option<&'static Ec>>,
    /// NMIs that came while the kernel ran.
    pub nmis: Cell<u32>,
    /// Descriptor table; the last field, see [`layout::TSS`].
    pub gdt: Cell<[u64; 8]>,
}

const BEHIND_GDT: u64 = layout::CPU + size_of::<Cpu>() as u64 + 0x1_0000;
const _: () = assert!(layout::IST_STACKS >= BEHIND_GDT && layout::TSS >= BEHIND_GDT);

/// What this CPU can do, as far as the kernel cares.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// What is in use of that which can be turned off, but for guests.
    pub in_use: Switches,
    /// All user-state components: XCR0 for host ECs.
    pub xcr0: u64,
    /// What is done about speculation.
    pub speculation: speculation::Plan,
}

impl Cpu {
    /// Whether it is in use.
    pub fn uses(&self, s: Switches) -> bool {
        self.features.get().in_use.contains(s)
    }
}

/// This CPU.
pub fn cpu() -> &'static Cpu {
    // SAFETY: mapped by `init` on each CPU before anything else runs there; its cells are touched by this CPU only,
    // and kernel code is not preempted.
    unsafe { &*(layout::CPU as *const Cpu) }
}

/// CPUID.
pub fn cpuid() -> CpuId<CpuIdReaderNative> {
    CpuId::new()
}

/// A number that nobody outside can know, as far as this CPU has one.
pub fn random() -> u64 {
    let mut n = 0;
    if cpuid().get_feature_info().is_some_and(|f| f.has_rdrand()) {
        // SAFETY: the CPU has the instruction. Without success n stays 0.
        unsafe { core::arch::x86_64::_rdrand64_step(&mut n) };
    }
    n ^ super::time::now()
}

/// What a CPU is made of before it runs.
pub struct Part {
    id: u16,
    pdpt: u64,
    root: u64,
}

impl Part {
    /// The part of CPU `id`. `None`: no memory.
    pub fn new(id: u16) -> Option<Part> {
        let mut frames = [pool::Frame::dangling(); size_of::<Cpu>() / PAGE_SIZE];
        for f in &mut frames {
            *f = pool::alloc(&KERNEL)?;
        }
        let pdpt = paging::build_cpu_part(&frames)?;
        Some(Part { id, pdpt, root: paging::new_root(&KERNEL, pdpt)?.into_phys() })
    }
}

static OFF: AtomicU16 = AtomicU16::new(0);

/// What the command line has turned off.
pub fn off() -> Switches {
    Switches::from_bits_retain(OFF.load(Relaxed))
}

/// Turns off what the command line says. Before [`init_controls`].
pub fn turn_off(line: CommandLine) {
    if let Some(off) = line.off() {
        OFF.store(off.bits(), Relaxed);
        say!("{line}");
    }
}

static BOOT_FEATURES: Once<Features> = Once::new();

/// Whether this CPU has what the boot processor has: spaces are made for one kind of CPU.
pub fn same_features() -> bool {
    BOOT_FEATURES.get().is_some_and(|f| *f == cpu().features.get())
}

/// Switches this CPU to its part. The caller goes on, still on the boot stack.
pub fn init(Part { id, pdpt, root }: Part) {
    // SAFETY: the new root maps the image, where this code and the boot stack are.
    unsafe { paging::set_cr3(root) };
    let c = cpu();
    // SAFETY: zeroed so far; every other field is valid as zero.
    unsafe { c.lapic.get().write(None) };
    c.id.set(id);
    c.pdpt.set(pdpt);
    c.bare_root.set(root);
    c.cr3.set(root);
    c.receives.set(fast::word(Cont::Receive, Expect::Words, id));
    c.waits.set(fast::word(Cont::Reply, Expect::Words, id));
    c.guest_waits.set(fast::word(Cont::Reply, Expect::State(Cont::Guest), id));
    c.fault_waits.set(fast::word(Cont::Reply, Expect::State(Cont::Iret), id));
    c.runs.set(fast::word(Cont::Sysret, Expect::Words, id) & !fast::EXPECT);
    c.waits_for_registers.set(fast::word(Cont::Reply, Expect::Registers, id));
    c.blocked.set(fast::blocked_word(id));
    c.presence.set(remote::presence());
    c.set_timer(u64::MAX);
    c.look_at_iommus.set(u64::MAX);
    c.since.set(super::time::now());
    tables::load();
}

/// Why this CPU cannot run the kernel at all.
pub fn check() -> Result<(), &'static str> {
    let id = cpuid();
    let ext = id.get_extended_feature_info();
    let x = id.get_extended_processor_and_feature_identifiers();
    let f = id.get_feature_info();
    if !f.as_ref().is_some_and(|f| f.has_xsave()) {
        return Err("XSAVE");
    }
    if !ext.is_some_and(|e| e.has_fsgsbase()) {
        return Err("FSGSBASE");
    }
    if !x.is_some_and(|x| x.has_syscall_sysret() && x.has_execute_disable()) {
        return Err("SYSCALL or NX");
    }
    Ok(())
}

/// Turns on what this CPU has, but for what is [`off`].
pub fn init_controls() {
    let (id, c) = (cpuid(), cpu());
    let (ext, basic) = (id.get_extended_feature_info(), id.get_feature_info());
    let extended = id.get_extended_processor_and_feature_identifiers();
    let speculation = super::speculation::init();
    let mut in_use = Switches::empty();
    in_use.set(Switches::PCID, basic.as_ref().is_some_and(|f| f.has_pcid()));
    in_use.set(Switches::TSC_DEADLINE, basic.as_ref().is_some_and(|f| f.has_tsc_deadline()));
    in_use.set(Switches::GIANT_PAGES, extended.is_some_and(|x| x.has_1gib_pages()));
    in_use.set(Switches::FAST_PATH, !speculation.clear_buffers);
    let has = |f: fn(&raw_cpuid::ExtendedFeatures) -> bool| ext.as_ref().is_some_and(f);
    let mut r4 = Cr4::CR4_ENABLE_PAE
        | Cr4::CR4_ENABLE_GLOBAL_PAGES
        | Cr4::CR4_ENABLE_SSE
        | Cr4::CR4_UNMASKED_SSE
        | Cr4::CR4_ENABLE_OS_XSAVE
        | Cr4::CR4_ENABLE_FSGSBASE
        | Cr4::CR4_ENABLE_MACHINE_CHECK;
    r4.set(Cr4::CR4_ENABLE_PCID, in_use.contains(Switches::PCID));
    r4.set(Cr4::CR4_ENABLE_SMEP, has(|e| e.has_smep()));
    r4.set(Cr4::CR4_ENABLE_SMAP, has(|e| e.has_smap()));
    r4.set(Cr4::CR4_ENABLE_UMIP, has(|e| e.has_umip()));
    // SAFETY: only bits whose features are there; the kernel touches no user memory (SMAP), no FPU.
    unsafe {
        cr0_write(
            (cr0() | Cr0::CR0_WRITE_PROTECT | Cr0::CR0_NUMERIC_ERROR | Cr0::CR0_MONITOR_COPROCESSOR)
                & !Cr0::CR0_EMULATE_COPROCESSOR
                & !Cr0::CR0_TASK_SWITCHED,
        );
        cr4_write((cr4() & Cr4::CR4_ENABLE_VMX) | r4);
    }
    let (xcr0, xsaveopt) = super::fpu::init();
    in_use.set(Switches::XSAVEOPT, xsaveopt);
    c.features.set(Features { in_use: in_use - off(), xcr0, speculation });
    c.slow.set(if c.uses(Switches::FAST_PATH) { 0 } else { fast::slow::OFF });
    BOOT_FEATURES.call_once(|| c.features.get());
    init_syscall();
}

fn init_syscall() {
    // SAFETY: the selectors are those of the GDT (tables.rs), the entry point is in the image. The PAT is the one
    // that page-table formats assume.
    unsafe {
        msr::wrmsr(msr::IA32_STAR, (tables::KERNEL_CS as u64) << 32 | (tables::KERNEL_SS as u64) << 48);
        msr::wrmsr(msr::IA32_LSTAR, super::syscall_entry as *const () as u64);
        msr::wrmsr(msr::IA32_FMASK, SYSCALL_FLAG_MASK);
        msr::wrmsr(msr::IA32_EFER, msr::rdmsr(msr::IA32_EFER) | 0x801);
        msr::wrmsr(msr::IA32_PAT, ptab::IA32_PAT);
        // SYSENTER is not an entry: with a null code segment it is #GP.
        for m in [msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_ESP, msr::IA32_SYSENTER_EIP] {
            msr::wrmsr(m, 0);
        }
    }
}

/// Flags cleared on hypercall entry: all status flags, TF, IF, DF, IOPL, NT, RF, AC.
pub const SYSCALL_FLAG_MASK: u64 = 0x5_7fd5;
