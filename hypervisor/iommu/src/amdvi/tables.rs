//! Interrupt tables, one for each device that has interrupts. There are as many tables as interrupts, so there is always one
//! left: a device that has lost its last interrupt loses its table when another one needs it.

use super::INTERRUPTS;
use crate::Requester;

/// Who has which interrupt, and which table.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    sources: [Option<Requester>; INTERRUPTS],
    owners: [Option<Requester>; INTERRUPTS],
}

/// What has to be done so that a device has an interrupt: in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moves {
    /// The device that has had it, and in which table; it is blocked there.
    pub former: Option<(Requester, usize)>,
    /// The device that loses the table. It has no interrupts.
    pub evicted: Option<Requester>,
    /// The table of the device, where the interrupt's entry is written.
    pub table: usize,
}

impl Tables {
    fn table_of(&self, device: Requester) -> Option<usize> {
        self.owners.iter().position(|o| *o == Some(device))
    }

    /// An interrupt is a device's from now on, and nobody else's.
    pub fn assign(&mut self, interrupt: usize, device: Requester) -> Moves {
        let former = self.sources[interrupt].filter(|s| *s != device).and_then(|s| Some((s, self.table_of(s)?)));
        self.sources[interrupt] = Some(device);
        let unused = |o: &Option<Requester>| o.is_none() || !self.sources.contains(o);
        let table = self.table_of(device).or_else(|| self.owners.iter().position(unused)).unwrap_or(interrupt);
        let evicted = self.owners[table].replace(device).filter(|e| *e != device);
        Moves { former, evicted, table }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_device_has_one_table_for_all_its_interrupts() {
        let mut t = Tables::default();
        let first = t.assign(3, Requester(8));
        assert_eq!(first, Moves { former: None, evicted: None, table: 0 });
        assert_eq!(t.assign(9, Requester(8)), first);
        assert_eq!(t.assign(3, Requester(8)), first, "as before");
        assert_eq!(t.assign(4, Requester(16)).table, 1);
    }

    #[test]
    fn an_interrupt_that_moves_is_blocked_where_it_was() {
        let mut t = Tables::default();
        t.assign(3, Requester(8));
        assert_eq!(
            t.assign(3, Requester(16)),
            Moves { former: Some((Requester(8), 0)), evicted: Some(Requester(8)), table: 0 }
        );
        t.assign(5, Requester(16));
        assert_eq!(t.assign(5, Requester(8)), Moves { former: Some((Requester(16), 0)), evicted: None, table: 1 });
    }

    /// Devices' tables as hardware sees them: which interrupts each device can raise.
    #[derive(Default)]
    struct Hardware {
        points: std::collections::BTreeMap<u16, usize>,
        entries: [[bool; INTERRUPTS]; INTERRUPTS],
    }

    impl Hardware {
        fn raised_by(&self, d: u16) -> Vec<usize> {
            let table = self.points.get(&d).map(|t| self.entries[*t]);
            (0..INTERRUPTS).filter(|i| table.is_some_and(|t| t[*i])).collect()
        }

        fn follow(&mut self, interrupt: usize, d: u16, m: Moves) {
            if let Some((_, table)) = m.former {
                self.entries[table][interrupt] = false;
            }
            if let Some(e) = m.evicted {
                assert_eq!(self.raised_by(e.0), [] as [usize; 0]);
                self.points.remove(&e.0);
            }
            self.entries[m.table][interrupt] = true;
            self.points.insert(d, m.table);
        }
    }

    proptest! {
        #[test]
        fn each_device_raises_its_own_and_nothing_else(
            moves in prop::collection::vec((0..INTERRUPTS, 0u16..80), 0..300)
        ) {
            let (mut tables, mut hardware, mut have) = (Tables::default(), Hardware::default(), [None; INTERRUPTS]);
            for (interrupt, d) in moves {
                let m = tables.assign(interrupt, Requester(d));
                hardware.follow(interrupt, d, m);
                have[interrupt] = Some(d);
                for d in 0..80 {
                    let own: Vec<usize> = (0..INTERRUPTS).filter(|i| have[*i] == Some(d)).collect();
                    prop_assert_eq!(hardware.raised_by(d), own);
                }
            }
        }
    }
}
