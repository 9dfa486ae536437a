//! Injection of events: what goes into the interruption information of a reply (SDM volume 3, 27.6; UTCB encoding:
//! 8.7.3.2).
//!
//! Rules: an exception caused by the emulated instruction goes first; an event whose delivery was interrupted by the
//! exit is there already (the kernel puts it into `inj_info`) and is kept; then an NMI if NMIs are not blocked, or an
//! external interrupt if IF is set, and nothing shadows it. What cannot be injected yet asks for a window.

use abi::ArchState;

use crate::board::Board;
use crate::dev::Pending;
use crate::spec::bits::{BLOCKED_BY_NMI, RFLAGS_IF, SHADOW};
use crate::spec::vector;

/// Types of events.
const EXTERNAL: u32 = 0;
const NMI: u32 = 2;
const EXCEPTION: u32 = 3;
/// Request for an interrupt window.
pub const INTERRUPT_WINDOW: u32 = ArchState::INJ_IRQ_WINDOW;
/// Request for an NMI window.
pub const NMI_WINDOW: u32 = ArchState::INJ_NMI_WINDOW;
/// Both window requests.
pub const WINDOWS: u32 = INTERRUPT_WINDOW | NMI_WINDOW;

/// An exception for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector.
    pub vector: u8,
    /// Error code, for those that have one.
    pub code: Option<u32>,
    /// New CR2, for page faults.
    pub address: Option<u64>,
}

impl Exception {
    /// #UD.
    pub const UD: Exception = Exception { vector: vector::UD, code: None, address: None };
    /// #GP(0).
    pub const GP: Exception = Exception { vector: vector::GP, code: Some(0), address: None };
}

/// Whether a pending event could be delivered now.
fn open(s: &ArchState, p: Pending) -> bool {
    s.intr_state & SHADOW == 0
        && match p {
            Pending::Nmi => s.intr_state & BLOCKED_BY_NMI == 0,
            Pending::Interrupt(_) => s.rflags & RFLAGS_IF != 0,
        }
}

/// Information of an event without error code.
fn event(kind: u32, vector: u8) -> u32 {
    ArchState::INJ_VALID | kind << ArchState::INJ_TYPE_SHIFT | u32::from(vector)
}

/// Puts an exception into the reply, and keeps window requests.
pub fn exception(s: &mut ArchState, e: Exception) {
    s.inj_info = s.inj_info & WINDOWS | event(EXCEPTION, e.vector);
    if let Some(code) = e.code {
        s.inj_info |= ArchState::INJ_ERROR;
        s.inj_error = code;
    }
    if let Some(address) = e.address {
        s.cr2 = address;
    }
}

/// Injects what is pending if possible, asks for a window for what stays pending. `windows` are the requests that the
/// kernel has already. Returns whether the interruption information has to be written.
///
/// `s` must carry RFLAGS, interruptibility and interruption information.
pub fn interrupts(s: &mut ArchState, board: &mut impl Board, vcpu: usize, windows: &mut u32) -> bool {
    let mut changed = false;
    let valid = s.inj_info & ArchState::INJ_VALID != 0;
    // A blocked NMI must not keep interrupts away.
    let nmis_blocked = s.intr_state & BLOCKED_BY_NMI != 0;
    if !valid
        && board.pending(vcpu, nmis_blocked).is_some_and(|p| open(s, p))
        && let Some(taken) = board.acknowledge(vcpu, nmis_blocked)
    {
        s.inj_info = match taken {
            Pending::Nmi => event(NMI, vector::NMI),
            Pending::Interrupt(v) => event(EXTERNAL, v),
        };
        changed = true;
    }
    let mut want = if board.pending(vcpu, true).is_some() { INTERRUPT_WINDOW } else { 0 };
    if board.pending(vcpu, false) == Some(Pending::Nmi) {
        want |= NMI_WINDOW;
    }
    s.inj_info = s.inj_info & !WINDOWS | want;
    changed |= want != *windows;
    *windows = want;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::fake::Fake;

    fn ready() -> ArchState {
        ArchState { rflags: RFLAGS_IF | 2, ..Default::default() }
    }

    const VALID: u32 = ArchState::INJ_VALID;
    const WINDOW: u32 = ArchState::INJ_IRQ_WINDOW;
    const NMI_WINDOW: u32 = ArchState::INJ_NMI_WINDOW;

    #[test]
    fn what_is_injected() {
        let shadow = |n| ArchState { intr_state: n, ..ready() };
        for (name, state, pending, windows, info, write) in [
            ("nothing to do", ready(), &[][..], 0, 0, false),
            ("one interrupt", ready(), &[0x30], 0, VALID | 0x30, true),
            ("highest first, then a window", ready(), &[0x30, 0x40], 0, VALID | 0x40 | WINDOW, true),
            ("interrupts off", ArchState { rflags: 2, ..ready() }, &[0x30], 0, WINDOW, true),
            ("window already asked for", ArchState { rflags: 2, ..ready() }, &[0x30], WINDOW, WINDOW, false),
            ("shadow of STI", shadow(1), &[0x30], 0, WINDOW, true),
            ("shadow of MOV SS", shadow(2), &[0x30], 0, WINDOW, true),
            ("blocking by NMI does not matter", shadow(8), &[0x30], 0, VALID | 0x30, true),
            ("window no longer wanted", ready(), &[], WINDOW, 0, true),
            ("kept event", ArchState { inj_info: VALID | 0x20, ..ready() }, &[0x30], 0, VALID | 0x20 | WINDOW, true),
            ("left alone", ArchState { inj_info: VALID | 0x20, ..ready() }, &[], 0, VALID | 0x20, false),
        ] {
            let (mut s, mut w) = (state, windows);
            let mut board = Fake::with_pending(pending);
            assert_eq!(interrupts(&mut s, &mut board, 0, &mut w), write, "{name}: written");
            assert_eq!((s.inj_info, w), (info, info & WINDOWS), "{name}");
        }
    }

    #[test]
    fn non_maskable_interrupts_ignore_the_interrupt_flag() {
        for (state, info) in [
            (ArchState { rflags: 2, ..ready() }, VALID | 2 << 8 | 2 | WINDOW),
            (ArchState { intr_state: 8, rflags: 2, ..ready() }, WINDOWS),
            (ArchState { intr_state: 8, ..ready() }, VALID | 0x30 | NMI_WINDOW),
            (ArchState { intr_state: 1, ..ready() }, WINDOWS),
        ] {
            let (mut s, mut w) = (state, 0);
            let mut board = Fake { nmi: true, ..Fake::with_pending(&[0x30]) };
            assert!(interrupts(&mut s, &mut board, 0, &mut w));
            assert_eq!(s.inj_info, info);
        }
    }

    #[test]
    fn exceptions_carry_code_and_address() {
        let mut s = ArchState { inj_info: WINDOW, ..ready() };
        exception(&mut s, Exception { vector: 14, code: Some(2), address: Some(0x1234) });
        assert_eq!((s.inj_info, s.inj_error, s.cr2), (VALID | WINDOW | 1 << 11 | 3 << 8 | 14, 2, 0x1234));
        exception(&mut s, Exception::UD);
        assert_eq!(s.inj_info, VALID | WINDOW | 3 << 8 | 6, "no error code");
    }

    #[test]
    fn an_exception_goes_before_an_interrupt() {
        let (mut s, mut w) = (ready(), 0);
        exception(&mut s, Exception::GP);
        let mut board = Fake::with_pending(&[0x30]);
        assert!(interrupts(&mut s, &mut board, 0, &mut w));
        assert_eq!(s.inj_info, VALID | WINDOW | 1 << 11 | 3 << 8 | 13);
        assert!(board.pending(0, false).is_some());
    }
}
