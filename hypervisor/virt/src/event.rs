//! Interruption information: the layout that VMCS (SDM vol. 3, 25.8.3, 25.9.2), VMCB (APM vol. 2, 15.20) and UTCB
//! (NOVA 8.7.3.2) share, but for the window requests that the UTCB adds in bits 12 and 13.

/// #DB and #AC, which exit whatever the VMM wants: a guest whose handler raises them again at its first push would never
/// be left (CVE-2015-8104, CVE-2015-5307).
pub const ENDLESS_EXCEPTIONS: u32 = 1 << 1 | 1 << 17;

/// Bits of an interruption-information word.
pub mod info {
    /// Vector.
    pub const VECTOR: u32 = 0xff;
    /// Type.
    pub const TYPE: u32 = 7 << TYPE_SHIFT;
    /// Lowest bit of the type.
    pub const TYPE_SHIFT: u32 = abi::ArchState::INJ_TYPE_SHIFT;
    /// An error code is delivered.
    pub const ERROR: u32 = abi::ArchState::INJ_ERROR;
    /// The word is valid.
    pub const VALID: u32 = abi::ArchState::INJ_VALID;
    /// All of the above.
    pub const ALL: u32 = VECTOR | TYPE | ERROR | VALID;
}

/// Kind of an event, by its type number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// External interrupt.
    ExternalInterrupt = 0,
    /// Non-maskable interrupt.
    Nmi = 2,
    /// Hardware exception.
    Exception = 3,
    /// Software interrupt (INT n).
    SoftwareInterrupt = 4,
    /// Privileged software exception (INT1).
    PrivilegedException = 5,
    /// Software exception (INT3, INTO).
    SoftwareException = 6,
    /// Other event, not delivered through the IDT.
    Other = 7,
}

impl EventKind {
    /// The kind of an information word. `None`: type 1, which is reserved.
    #[inline]
    pub const fn of(word: u32) -> Option<EventKind> {
        Some(match (word & info::TYPE) >> info::TYPE_SHIFT {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::Exception,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedException,
            6 => EventKind::SoftwareException,
            7 => EventKind::Other,
            _ => return None,
        })
    }

    /// Whether an instruction raised the event, so that delivery skips it and needs its length.
    #[inline]
    pub const fn is_soft(self) -> bool {
        matches!(self, EventKind::SoftwareInterrupt | EventKind::PrivilegedException | EventKind::SoftwareException)
    }
}

/// An event that is delivered, or was being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its kind.
    pub kind: EventKind,
    /// Vector.
    pub vector: u8,
    /// Whether an error code comes with it.
    pub has_error: bool,
}

impl Event {
    /// The information word, valid.
    #[inline]
    pub const fn encode(self) -> u32 {
        let error = if self.has_error { info::ERROR } else { 0 };
        info::VALID | error | (self.kind as u32) << info::TYPE_SHIFT | self.vector as u32
    }

    /// The event of an information word. `None`: the word is not valid, or its type is reserved.
    #[inline]
    pub const fn decode(word: u32) -> Option<Event> {
        if word & info::VALID == 0 {
            return None;
        }
        match EventKind::of(word) {
            Some(kind) => Some(Event { kind, vector: word as u8, has_error: word & info::ERROR != 0 }),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_round_trips() {
        for kind in [0, 2, 3, 4, 5, 6, 7] {
            for vector in 0..=255u32 {
                for error in [0, info::ERROR] {
                    let word = info::VALID | error | kind << 8 | vector;
                    let event = Event::decode(word).expect("a defined type");
                    assert_eq!(event.kind as u32, kind);
                    assert_eq!(u32::from(event.vector), vector);
                    assert_eq!(event.encode(), word);
                }
            }
        }
    }

    #[test]
    fn invalid_and_reserved_words_are_no_event() {
        assert_eq!(Event::decode(0x030e), None);
        assert_eq!(Event::decode(info::VALID | 1 << 8 | 0x20), None);
    }

    #[test]
    fn bits_outside_the_shared_layout_are_ignored() {
        let windows = abi::ArchState::INJ_IRQ_WINDOW | abi::ArchState::INJ_NMI_WINDOW;
        let gp = Event { kind: EventKind::Exception, vector: 13, has_error: true };
        assert_eq!(Event::decode(0x8000_0b0d | windows | 1 << 30), Some(gp));
        assert_eq!(info::ALL & windows, 0);
    }

    #[test]
    fn only_events_of_instructions_are_soft() {
        let soft: Vec<u32> = (0..8).filter(|t| EventKind::of(t << 8).is_some_and(EventKind::is_soft)).collect();
        assert_eq!(soft, [4, 5, 6]);
    }
}
