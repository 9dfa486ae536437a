//! What a check is, and how it says what it found.

use abi::Status;
pub use bare::done;
use std::fmt::Debug;

/// `Err`: what was expected and what came.
pub type Outcome = Result<(), String>;
/// Begins an `Err` that is none: this machine cannot show it, for the reason that follows.
pub const NOT_HERE: &str = "not here: ";
/// Tags of what it shows (docs/spec/README.md), name, function.
pub type Check = (&'static str, &'static str, fn() -> Outcome);

/// The two are the same.
pub fn equal<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Outcome {
    if got == want { Ok(()) } else { Err(format!("{what}: expected {want:x?}, got {got:x?}")) }
}

/// It holds.
pub fn holds(what: &str, yes: bool) -> Outcome {
    if yes { Ok(()) } else { Err(format!("does not hold: {what}")) }
}

/// The call was refused with that status.
pub fn refused<T: Debug>(what: &str, got: Result<T, Status>, want: Status) -> Outcome {
    match got {
        Err(s) if s == want => Ok(()),
        other => Err(format!("{what}: expected {want:?}, got {other:?}")),
    }
}
