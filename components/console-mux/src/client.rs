//! What clients of both kinds have in common.

/// Longest line of log, in bytes; longer ones come out in pieces. Also the most that is read of a client at once.
pub const LINE_MAX: usize = 1024;
/// Longest label, in bytes.
pub(crate) const LABEL_MAX: usize = 32;

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of text.
    Log,
    /// A raw byte stream; takes the keyboard while it is shown.
    Terminal,
}

/// A label as it is printed: of a longer one the first 32 bytes.
pub(crate) fn label(name: &str) -> String {
    name[..name.floor_char_boundary(LABEL_MAX)].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded() {
        assert_eq!(label("vm"), "vm");
        assert_eq!(label(&"ä".repeat(20)), "ä".repeat(16));
        assert_eq!(label(&format!("x{}", "ä".repeat(20))).len(), 31);
    }
}
