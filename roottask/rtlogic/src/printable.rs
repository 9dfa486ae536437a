//! Text as it may be printed for somebody who is not trusted.

/// The text without anything that could move the cursor or change the terminal, so that nobody can fake another's lines:
/// control characters but tabs, and what is not UTF-8, are `?`. Never more bytes than `text`.
pub fn printable(text: &[u8]) -> impl Iterator<Item = char> {
    text.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c });
        valid.chain((!chunk.invalid().is_empty()).then_some('?'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::String;

    fn text(bytes: &[u8]) -> String {
        printable(bytes).collect()
    }

    #[test]
    fn what_could_control_the_terminal_is_replaced() {
        assert_eq!(text(b"a\x1b[2Jb\rc\x08\x7f\td"), "a?[2Jb?c??\td");
        assert_eq!(text("schön \u{9b}2J".as_bytes()), "schön ?2J");
        assert_eq!(text(b"\xff\xfe \xc3"), "?? ?");
    }

    proptest! {
        #[test]
        fn nothing_gets_longer_and_nothing_controls(bytes: std::vec::Vec<u8>) {
            let s = text(&bytes);
            prop_assert!(s.len() <= bytes.len());
            prop_assert!(s.chars().all(|c| c == '\t' || !c.is_control()));
            prop_assert_eq!(text(s.as_bytes()), s);
        }
    }
}
