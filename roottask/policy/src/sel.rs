//! Which selectors of a component's object space are taken at its start.

use abi::Sel;
use parent::sel;

/// First selector that a component may use freely.
pub const FREE: Sel = sel::END;

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
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(all.last(), Some(&FREE), "all above FREE is the component's");
    }
}
