//! Exit policy: what follows from the end of a component.
//!
//! Key type: [`Lifecycle`]. The root task tells it of every end and does what the [`Action`] says.

/// Exit code of a component that faulted; what a shell shows for a segmentation fault.
pub const FAULT_CODE: u64 = 139;

/// How a component ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It asked to end, with this code.
    Exit(u64),
    /// It was stopped because of an exception.
    Fault,
}

impl End {
    /// The exit code.
    pub const fn code(self) -> u64 {
        match self {
            End::Exit(code) => code,
            End::Fault => FAULT_CODE,
        }
    }
}

/// What the root task does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on; the other components are not affected.
    Continue,
    /// Start it again.
    Restart,
    /// Switch the machine off.
    PowerOff {
        /// Exit code of the system.
        code: u64,
    },
}

/// Which components run, and whose end is the system's.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    running: Vec<bool>,
    /// By index, how often the component is started again.
    restarts: Vec<u32>,
    shutdown_after: Vec<usize>,
    /// Exit code of the first component of `shutdown_after` that failed.
    failure: Option<u64>,
}

impl Lifecycle {
    /// By index, whether the component started, and how often it is to be started again.
    pub fn new(running: Vec<bool>, restarts: Vec<u32>, shutdown_after: Vec<usize>) -> Lifecycle {
        Lifecycle { running, restarts, shutdown_after, failure: None }
    }

    /// Whether component `index` runs.
    pub fn runs(&self, index: usize) -> bool {
        self.running.get(index).copied().unwrap_or(false)
    }

    /// Component `index` ended. The system ends when all components of `shutdown_after` that started have ended, or with
    /// the last one. A second report about the same component changes nothing. A component that is started again counts as
    /// running, and only its last end counts.
    pub fn ended(&mut self, index: usize, end: End) -> Action {
        let runs = self.runs(index);
        if let Some(left) = self.restarts.get_mut(index).filter(|left| runs && **left > 0) {
            *left -= 1;
            return Action::Restart;
        }
        match self.running.get_mut(index) {
            Some(r) if *r => *r = false,
            _ => return Action::Continue,
        }
        let named = self.shutdown_after.contains(&index);
        if named && end.code() != 0 {
            self.failure.get_or_insert(end.code());
        }
        if named && !self.shutdown_after.iter().any(|&i| self.runs(i)) {
            Action::PowerOff { code: self.failure.unwrap_or(0) }
        } else if !self.running.contains(&true) {
            Action::PowerOff { code: self.failure.unwrap_or(end.code()) }
        } else {
            Action::Continue
        }
    }

    /// Component `index` ended like that and could not be started again.
    pub fn gave_up(&mut self, index: usize, end: End) -> Action {
        if let Some(left) = self.restarts.get_mut(index) {
            *left = 0;
        }
        self.ended(index, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_ends_with_the_named_component() {
        let mut l = Lifecycle::new(vec![true, true, true], vec![], vec![2]);
        assert_eq!(l.ended(0, End::Exit(1)), Action::Continue);
        assert!(!l.runs(0) && l.runs(1));
        assert_eq!(l.ended(2, End::Exit(7)), Action::PowerOff { code: 7 });
    }

    #[test]
    fn a_fault_of_the_named_component_is_a_failure() {
        let mut l = Lifecycle::new(vec![true, true], vec![], vec![1]);
        assert_eq!(l.ended(1, End::Fault), Action::PowerOff { code: FAULT_CODE });
        assert_ne!(FAULT_CODE, 0);
    }

    #[test]
    fn of_several_named_components_the_last_ends_the_system_and_the_first_failure_is_its_code() {
        for (ends, code) in [([0, 0], 0), ([3, 0], 3), ([0, 4], 4), ([3, 4], 3)] {
            let mut l = Lifecycle::new(vec![true, true, true], vec![], vec![1, 2]);
            assert_eq!(l.ended(2, End::Exit(ends[0])), Action::Continue);
            assert_eq!(l.ended(2, End::Exit(9)), Action::Continue, "it has ended already");
            assert_eq!(l.ended(1, End::Exit(ends[1])), Action::PowerOff { code });
        }
    }

    #[test]
    fn named_components_that_did_not_start_are_not_waited_for() {
        let mut l = Lifecycle::new(vec![true, false, true], vec![], vec![1, 2]);
        assert_eq!(l.ended(2, End::Exit(0)), Action::PowerOff { code: 0 });
        let mut l = Lifecycle::new(vec![true, false, true], vec![], vec![1]);
        assert_eq!(l.ended(0, End::Exit(0)), Action::Continue, "the named one does not run, but it did not end either");
        assert_eq!(l.ended(2, End::Exit(7)), Action::PowerOff { code: 7 });
    }

    #[test]
    fn the_system_ends_with_the_last_component() {
        let mut l = Lifecycle::new(vec![true, false, true], vec![], vec![]);
        assert_eq!(l.ended(0, End::Fault), Action::Continue);
        assert_eq!(l.ended(1, End::Exit(3)), Action::Continue, "it never ran");
        assert_eq!(l.ended(2, End::Exit(0)), Action::PowerOff { code: 0 });
    }

    #[test]
    fn repeated_and_wild_reports_change_nothing() {
        let mut l = Lifecycle::new(vec![true, true], vec![], vec![]);
        assert_eq!(l.ended(0, End::Exit(0)), Action::Continue);
        assert_eq!(l.ended(0, End::Exit(0)), Action::Continue);
        assert_eq!(l.ended(99, End::Exit(0)), Action::Continue);
        assert!(l.runs(1) && !l.runs(99));
    }

    #[test]
    fn a_component_that_is_started_again_ends_with_its_last_life() {
        let mut l = Lifecycle::new(vec![true, true], vec![2, 0], vec![0]);
        assert_eq!(l.ended(0, End::Fault), Action::Restart);
        assert_eq!(l.ended(0, End::Exit(3)), Action::Restart);
        assert!(l.runs(0));
        assert_eq!(l.ended(0, End::Exit(0)), Action::PowerOff { code: 0 }, "the ends before do not count");
        assert_eq!(l.ended(0, End::Exit(0)), Action::Continue);
    }

    #[test]
    fn a_component_that_cannot_be_started_again_has_ended() {
        let mut l = Lifecycle::new(vec![true, true], vec![2], vec![0]);
        assert_eq!(l.ended(0, End::Fault), Action::Restart);
        assert_eq!(l.gave_up(0, End::Fault), Action::PowerOff { code: FAULT_CODE });
        let mut l = Lifecycle::new(vec![false, true], vec![2], vec![]);
        assert_eq!(l.ended(0, End::Fault), Action::Continue, "it never ran");
        assert_eq!(l.gave_up(9, End::Fault), Action::Continue);
    }
}
