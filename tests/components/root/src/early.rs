//! The first look at what the kernel left, before the runtime has changed anything.

use abi::{CreatePdOp, Hip, Mad, PAGE_SIZE, SEL_NUM, Sel, nova_obj, perm, root_obj};
use rt::hypercall as hc;
use std::arch::global_asm;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

const STACK_LEN: usize = 32 << 10;

#[repr(C, align(4096))]
struct Stack([AtomicU64; STACK_LEN / 8]);

static STACK: Stack = Stack([const { AtomicU64::new(0) }; STACK_LEN / 8]);
/// RDI, RSI, RSP at the entry.
static ENTRY: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

// Where the kernel enters; goes on where the runtime begins, with the same registers.
global_asm!(
    ".section .text.root_probe_start, \"ax\", @progbits",
    ".globl root_probe_start",
    ".type root_probe_start, @function",
    "root_probe_start:",
    "mov [rip + {entry}], rdi",
    "mov [rip + {entry} + 8], rsi",
    "mov [rip + {entry} + 16], rsp",
    "mov rdi, rsp",
    "lea rsp, [rip + {stack} + {len}]",
    "xor ebp, ebp",
    "call {look}",
    "mov rdi, [rip + {entry}]",
    "mov rsi, [rip + {entry} + 8]",
    "mov rsp, [rip + {entry} + 16]",
    "jmp _start_root",
    ".size root_probe_start, . - root_probe_start",
    ".text",
    entry = sym ENTRY,
    stack = sym STACK,
    len = const STACK_LEN,
    look = sym look,
);

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// RDI, RSI, RSP at the entry.
    pub entry: [u64; 3],
    /// Words of the UTCB that were not zero.
    pub utcb_words: u64,
    /// Slots that were not null, of the first and the last 512.
    pub slots: [u64; 2],
    /// Frames that a copy of the first slots of the object space needed, and of all the rest.
    pub tables: [u64; 2],
    /// Frames that copies of mappings needed: of the image, and of all the rest.
    pub mapped: [u64; 2],
    /// Read and write index of the memory-buffer console.
    pub console: [u64; 2],
}

static FOUND: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];

/// What was found; all ones: the kernel refused something.
pub fn found() -> Found {
    let at = |i: usize| FOUND[i].load(Relaxed);
    Found {
        entry: [0, 1, 2].map(|i: usize| ENTRY[i].load(Relaxed)),
        utcb_words: at(0),
        slots: [at(1), at(2)],
        tables: [at(3), at(4)],
        mapped: [at(5), at(6)],
        console: [at(7), at(8)],
    }
}

extern "C" fn look(hip: *const Hip) {
    // SAFETY: the page is there, and the UTCB below it.
    let (hip, utcb) = unsafe { (&*hip, &*hip.byte_sub(PAGE_SIZE).cast::<[u64; 512]>()) };
    let put = |i: usize, v: Option<u64>| FOUND[i].store(v.unwrap_or(u64::MAX), Relaxed);
    put(0, Some(utcb.iter().filter(|w| **w != 0).count() as u64));
    // The fewest null slots that can be: none is in use yet.
    put(1, Some((0..512).filter(|s| !is_null(*s)).count() as u64));
    put(2, Some((SEL_NUM - 512..SEL_NUM).filter(|s| !is_null(*s)).count() as u64));
    let tables = object_tables();
    put(3, tables.map(|t| t[0]));
    put(4, tables.map(|t| t[1]));
    let image = (image_start() >> 12 & !0x1ff, image_end().div_ceil(2 << 20) << 9);
    put(5, mapped(&[image]));
    put(6, mapped(&[(0, image.0), (image.1, (1 << 35) - 1)]));
    for (i, w) in console(hip).into_iter().enumerate() {
        put(7 + i, w);
    }
}

unsafe extern "C" {
    static __ehdr_start: u8;
    static _end: u8;
}

/// First address of the image.
pub fn image_start() -> u64 {
    (&raw const __ehdr_start).addr() as u64
}

/// First address behind it.
pub fn image_end() -> u64 {
    (&raw const _end).addr() as u64
}

fn copy(src: Sel, dst: Sel, from: u64, to: u64, ord: u32, perms: u8) -> Option<()> {
    // SAFETY: into an object space, into a host space that nobody runs in, or to where nothing is.
    unsafe { hc::ctrl_pd(src, dst, from, to, ord, perms, Mad::WB) }.ok()
}

/// Whether a new object fits there; it is taken out again.
fn is_null(s: Sel) -> bool {
    let null = hc::create_sm(s, root_obj::ROOT_PD, 0).is_ok();
    if null {
        let _ = copy(root_obj::ROOT_OBJ, root_obj::ROOT_OBJ, s, s, 0, 0);
    }
    null
}

fn used() -> Option<u64> {
    hc::read_quota(root_obj::ROOT_PD).ok().map(|(_, used)| used)
}

/// Selectors of what is made here.
const PD: Sel = 0;
const SPACE: Sel = 1;
const HST: Sel = 2;

/// What a copy of the first slots of our object space needs, where there are the capabilities for this, and what all the
/// rest needs.
fn object_tables() -> Option<[u64; 2]> {
    let own = root_obj::ROOT_OBJ;
    hc::create_pd(CreatePdOp::Pd, PD, root_obj::ROOT_PD).ok()?;
    hc::create_pd(CreatePdOp::Obj, SPACE, PD).ok()?;
    let before = used()?;
    copy(own, SPACE, 0, 0, 9, perm::ALL)?;
    let first = used()?;
    copy(own, SPACE, 0, 0, 18, perm::ALL)?;
    let rest = used()? - first;
    // It has a capability to itself now.
    copy(own, SPACE, 0, 0, 18, 0)?;
    copy(own, own, PD, PD, 1, 0)?;
    Some([first - before, rest])
}

/// Frames that a copy of what is mapped in these ranges of pages needs.
fn mapped(ranges: &[(u64, u64)]) -> Option<u64> {
    let own = root_obj::ROOT_OBJ;
    hc::create_pd(CreatePdOp::Pd, PD, root_obj::ROOT_PD).ok()?;
    hc::create_pd(CreatePdOp::Hst, SPACE, PD).ok()?;
    copy(root_obj::NOVA_OBJ, own, nova_obj::ROOT_HST, HST, 0, perm::ALL)?;
    let before = used()?;
    for &(mut page, end) in ranges {
        while page < end {
            let order = (page | 1 << 18).trailing_zeros().min((end - page).ilog2());
            copy(HST, SPACE, page, page, order, perm::ALL)?;
            page += 1 << order;
        }
    }
    let frames = used()? - before;
    copy(own, own, PD, PD, 2, 0)?;
    Some(frames)
}

/// Where the memory-buffer console is looked at.
const WINDOW: u64 = 0x7000_0000_0000;

fn console(hip: &Hip) -> [Option<u64>; 2] {
    let own = root_obj::ROOT_OBJ;
    let shown = copy(root_obj::NOVA_OBJ, own, nova_obj::ROOT_HST, HST, 0, perm::ALL)
        .and_then(|()| copy(root_obj::NOVA_OBJ, own, nova_obj::NOVA_HST, PD, 0, perm::ALL))
        .and_then(|()| copy(PD, HST, hip.mbuf_start >> 12, WINDOW >> 12, 0, perm::Mem::R.bits()));
    // SAFETY: mapped just now.
    let words = shown.map(|()| unsafe { *std::ptr::with_exposed_provenance::<[u32; 2]>(WINDOW as usize) });
    let _ = copy(HST, HST, WINDOW >> 12, WINDOW >> 12, 0, 0);
    let _ = copy(own, own, PD, PD, 2, 0);
    [0, 1].map(|i| words.map(|w| w[i].into()))
}
