//! What the ends of components mean for the system: when it ends, and with which code.
//!
//! Key type: [`Shutdown`]. Who is started again is not decided here but by `session::Parent`; the root task tells of those
//! ends only that are for good.

use session::Cause;

/// Exit code of a component that was stopped; what a shell shows for a segmentation fault.
pub const FAULT_CODE: u64 = 139;

/// How a component ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It asked to end, with this code.
    Exit(u64),
    /// It was stopped because of an exception.
    Fault,
}

impl From<End> for Cause {
    fn from(end: End) -> Cause {
        match end {
            End::Exit(code) => Cause::Exit(code),
            End::Fault => Cause::Fault,
        }
    }
}

/// The exit code of an end.
pub fn exit_code(cause: Cause) -> u64 {
    match cause {
        Cause::Exit(code) => code,
        Cause::Asked => 0,
        Cause::Fault | Cause::Heartbeat | Cause::Owes | Cause::NotStarted => FAULT_CODE,
    }
}

/// Which components run, and whose end is the system's.
#[derive(Clone, Debug)]
pub struct Shutdown {
    running: Vec<bool>,
    after: Vec<usize>,
    /// Exit code of the first component of `after` that failed.
    failure: Option<u64>,
}

impl Shutdown {
    /// By index, whether the component started; and whose ends are the system's.
    pub fn new(running: Vec<bool>, after: Vec<usize>) -> Shutdown {
        Shutdown { running, after, failure: None }
    }

    /// Whether component `index` runs, or will again.
    pub fn runs(&self, index: usize) -> bool {
        self.running.get(index).copied().unwrap_or(false)
    }

    /// Component `index` ended for good. The system ends when all components of `shutdown_after` that started have
    /// ended, or with the last one; then this is its exit code. A second report about the same component changes nothing.
    pub fn ended(&mut self, index: usize, code: u64) -> Option<u64> {
        match self.running.get_mut(index) {
            Some(r) if *r => *r = false,
            _ => return None,
        }
        let named = self.after.contains(&index);
        if named && code != 0 {
            self.failure.get_or_insert(code);
        }
        if named && !self.after.iter().any(|&i| self.runs(i)) {
            Some(self.failure.unwrap_or(0))
        } else if !self.running.contains(&true) {
            Some(self.failure.unwrap_or(code))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(after: &[usize]) -> Shutdown {
        Shutdown::new(vec![true; 3], after.to_vec())
    }

    #[test]
    fn the_system_ends_with_the_named_component() {
        let mut s = all(&[2]);
        assert_eq!(s.ended(0, 1), None);
        assert!(!s.runs(0) && s.runs(1));
        assert_eq!(s.ended(2, 7), Some(7));
    }

    #[test]
    fn each_cause_has_a_code() {
        assert_eq!(exit_code(End::Exit(3).into()), 3);
        for cause in [End::Fault.into(), Cause::Heartbeat, Cause::Owes, Cause::NotStarted] {
            assert_eq!(exit_code(cause), FAULT_CODE);
        }
        assert_eq!((exit_code(Cause::Asked), exit_code(Cause::Exit(0))), (0, 0));
    }

    #[test]
    fn of_several_named_components_the_last_ends_the_system_and_the_first_failure_is_its_code() {
        for (ends, code) in [([0, 0], 0), ([3, 0], 3), ([0, 4], 4), ([3, 4], 3)] {
            let mut s = all(&[1, 2]);
            assert_eq!(s.ended(2, ends[0]), None);
            assert_eq!(s.ended(2, 9), None, "it has ended already");
            assert_eq!(s.ended(1, ends[1]), Some(code));
        }
    }

    #[test]
    fn named_components_that_did_not_start_are_not_waited_for() {
        let mut s = Shutdown::new(vec![true, false, true], vec![1, 2]);
        assert_eq!(s.ended(2, 0), Some(0));
        let mut s = Shutdown::new(vec![true, false, true], vec![1]);
        assert_eq!(s.ended(0, 0), None, "the named one does not run, but it did not end either");
        assert_eq!(s.ended(2, 7), Some(7));
    }

    #[test]
    fn the_system_ends_with_the_last_component() {
        let mut s = Shutdown::new(vec![true, false, true], vec![]);
        assert_eq!(s.ended(0, FAULT_CODE), None);
        assert_eq!(s.ended(1, 3), None, "it never ran");
        assert_eq!(s.ended(2, 0), Some(0));
    }

    #[test]
    fn wild_reports_change_nothing() {
        let mut s = all(&[]);
        assert_eq!((s.ended(0, 0), s.ended(0, 0), s.ended(99, 0)), (None, None, None));
        assert!(s.runs(1) && !s.runs(99));
    }
}
