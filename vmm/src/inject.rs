//! Injection of events: what goes into the interruption information of a reply (SDM volume 3, 27.6; UTCB encoding: 8.7.3.2).
//!
//! Rules: an exception caused by the emulated instruction goes first; an event whose delivery was interrupted by the exit is
//! there already (the kernel puts it into `inj_info`) and is kept; then an external interrupt if IF is set and nothing shadows it.
//! What cannot be injected yet asks for an interrupt window.

use abi::ArchState;

use crate::board::Board;
use crate::spec::bits::{RFLAGS_IF, SHADOW};
use crate::spec::vector;

/// Type of an event: external interrupt, hardware exception.
const EXTERNAL: u32 = 0;
const EXCEPTION: u32 = 3;

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

/// Whether an external interrupt could be delivered now.
pub fn open(s: &ArchState) -> bool {
    s.rflags & RFLAGS_IF != 0 && s.intr_state & SHADOW == 0
}

/// Puts an exception into the reply. An exit with an event under delivery never comes here but for page faults of the emulator,
/// where the guest's handler returns to the instruction whose event was lost; the CPU would have made it a double fault.
pub fn exception(s: &mut ArchState, e: Exception) {
    let kept = s.inj_info & ArchState::INJ_IRQ_WINDOW;
    s.inj_info = ArchState::INJ_VALID | EXCEPTION << ArchState::INJ_TYPE_SHIFT | u32::from(e.vector) | kept;
    if let Some(code) = e.code {
        s.inj_info |= ArchState::INJ_ERROR;
        s.inj_error = code;
    }
    if let Some(address) = e.address {
        s.cr2 = address;
    }
}

/// Injects the pending interrupt if possible, asks for a window if one stays pending. `window` says whether the kernel
/// has such a request already. Returns whether the interruption information has to be written.
///
/// `s` must carry RFLAGS, interruptibility and interruption information.
pub fn interrupts(s: &mut ArchState, board: &mut impl Board, window: &mut bool) -> bool {
    let mut changed = false;
    if s.inj_info & ArchState::INJ_VALID == 0
        && open(s)
        && board.pending()
        && let Some(vector) = board.acknowledge()
    {
        s.inj_info = ArchState::INJ_VALID | EXTERNAL << ArchState::INJ_TYPE_SHIFT | u32::from(vector);
        changed = true;
    }
    let want = board.pending();
    let bit = if want { ArchState::INJ_IRQ_WINDOW } else { 0 };
    s.inj_info = s.inj_info & !ArchState::INJ_IRQ_WINDOW | bit;
    changed |= want != *window;
    *window = want;
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

    #[test]
    fn what_is_injected() {
        let shadow = |n| ArchState { intr_state: n, ..ready() };
        for (name, state, pending, window, info, write, window_after) in [
            ("nothing to do", ready(), &[][..], false, 0, false, false),
            ("one interrupt", ready(), &[0x30], false, VALID | 0x30, true, false),
            ("highest first, then a window", ready(), &[0x30, 0x40], false, VALID | 0x40 | WINDOW, true, true),
            ("interrupts off", ArchState { rflags: 2, ..ready() }, &[0x30], false, WINDOW, true, true),
            ("window already asked for", ArchState { rflags: 2, ..ready() }, &[0x30], true, WINDOW, false, true),
            ("shadow of STI", shadow(1), &[0x30], false, WINDOW, true, true),
            ("shadow of MOV SS", shadow(2), &[0x30], false, WINDOW, true, true),
            ("blocked by NMI does not matter", shadow(8), &[0x30], false, VALID | 0x30, true, false),
            ("window no longer wanted", ready(), &[], true, 0, true, false),
            (
                "event under delivery is kept",
                ArchState { inj_info: VALID | 0x20, ..ready() },
                &[0x30],
                false,
                VALID | 0x20 | WINDOW,
                true,
                true,
            ),
            ("and left alone", ArchState { inj_info: VALID | 0x20, ..ready() }, &[], false, VALID | 0x20, false, false),
        ] {
            let (mut s, mut w) = (state, window);
            let mut board = Fake::with_pending(pending);
            assert_eq!(interrupts(&mut s, &mut board, &mut w), write, "{name}: written");
            assert_eq!((s.inj_info, w), (info, window_after), "{name}");
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
        let (mut s, mut w) = (ready(), false);
        exception(&mut s, Exception::GP);
        let mut board = Fake::with_pending(&[0x30]);
        assert!(interrupts(&mut s, &mut board, &mut w));
        assert_eq!(s.inj_info, VALID | WINDOW | 1 << 11 | 3 << 8 | 13);
        assert!(board.pending());
    }
}
