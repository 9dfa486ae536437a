//! Which state of the source tree was measured.
//!
//! Key type: [`Revision`].

use crate::exec;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A commit, and whether the tree differs from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    pub commit: String,
    /// First line of its message.
    pub subject: String,
    /// Files that git knows have changed since.
    pub dirty: bool,
}

impl Revision {
    /// Of the tree there; `None` if it is not under git, or git is not there.
    pub fn of(tree: &Path) -> Option<Revision> {
        let git = |args: &[&str]| exec::query(exec::command("git").arg("-C").arg(tree).args(args)).ok();
        let line = |args: &[&str]| git(args).map(|t| t.trim().to_owned());
        Some(Revision {
            commit: line(&["rev-parse", "HEAD"])?,
            subject: line(&["log", "-1", "--format=%s"])?,
            dirty: !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty(),
        })
    }

    /// For people.
    pub fn show(&self) -> String {
        let dirty = if self.dirty { ", and changes not committed" } else { "" };
        format!("{} ({}){dirty}", &self.commit[..self.commit.len().min(12)], self.subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_without_git_has_none() {
        assert_eq!(Revision::of(Path::new("/proc")), None);
        let r = Revision { commit: "0123456789abcdef".into(), subject: "why".into(), dirty: true };
        assert_eq!(r.show(), "0123456789ab (why), and changes not committed");
    }
}
