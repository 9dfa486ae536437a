//! Where the root task puts the capabilities of interrupts in a component's object space. Components do not know these
//! numbers: they find them in their `StartInfo`.

use abi::Sel;
use parent::{MAX_IRQS, sel};

/// Interrupt semaphores.
const IRQS: Sel = 0x80;
/// First selector that a component may use freely.
pub const FREE: Sel = sel::END;

const _: () = assert!(IRQS > sel::RM_SESSION && IRQS + MAX_IRQS as Sel <= sel::events(0));

/// Interrupt semaphore number `slot`.
pub const fn irq(slot: usize) -> Sel {
    IRQS + slot as Sel
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::event;

    #[test]
    fn no_selector_is_used_twice() {
        let mut all = vec![FREE];
        all.extend([
            sel::PD,
            sel::OBJ,
            sel::HST,
            sel::EC,
            sel::SC,
            sel::PD_SESSION,
            sel::RM_SESSION,
            sel::CHILDREN_SESSION,
        ]);
        all.extend((0..parent::MAX_CPUS as u16).map(sel::parent));
        let events = |cpu| (0..event::HST_ARCH + event::HST_NOVA).map(move |e| sel::events(cpu) + e);
        all.extend((0..parent::MAX_CPUS as u16).flat_map(events));
        all.extend((0..MAX_IRQS).map(irq));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(all.last(), Some(&FREE), "all above FREE is the component's");
    }
}
