//! Where the root task puts the capabilities of channels and interrupts in a component's object space. Components do
//! not know these numbers: they find them in their `StartInfo`.

use abi::Sel;
use parent::{MAX_CHANNELS, MAX_IRQS, sel};

/// Semaphore on which a component waits for all clients of its services.
pub const SERVER_WAIT: Sel = 0x40;
/// Semaphores of channel n: what it waits on at `CHANNELS + 2 * n`, what it signals behind that.
const CHANNELS: Sel = 0x80;
/// Interrupt semaphores.
const IRQS: Sel = CHANNELS + 2 * MAX_CHANNELS as Sel;
/// First selector that a component may use freely.
pub const FREE: Sel = sel::END;

const _: () = assert!(SERVER_WAIT < CHANNELS && IRQS + MAX_IRQS as Sel <= sel::events(0));

/// Where a client waits on its channel number `slot`.
pub const fn wait(slot: usize) -> Sel {
    CHANNELS + 2 * slot as Sel
}

/// What either side signals on its channel number `slot`.
pub const fn signal(slot: usize) -> Sel {
    CHANNELS + 2 * slot as Sel + 1
}

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
        let mut all = vec![SERVER_WAIT, FREE];
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
        all.extend((0..MAX_CHANNELS).flat_map(|n| [wait(n), signal(n)]));
        all.extend((0..MAX_IRQS).map(irq));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(all.last(), Some(&FREE), "all above FREE is the component's");
    }
}
