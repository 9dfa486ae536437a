//! Pictures on a terminal: only lines that have changed are written.

use std::fmt::Write;

/// The rest of the line is empty.
const END_OF_LINE: &str = "\x1b[K";
/// All below is empty.
const BELOW: &str = "\x1b[J";
/// Normal colours.
const LEAVE: &str = "\x1b[0m\r\n";

/// What the terminal shows; nothing is known of it at first.
#[derive(Debug, Default)]
pub struct Screen {
    lines: Option<Vec<String>>,
}

impl Screen {
    /// What is to be written to show these lines, from the top; nothing if they are there. The cursor is below them then,
    /// where what others print does the least harm. Lines must have no control characters.
    pub fn show(&mut self, lines: Vec<String>) -> String {
        let mut out = String::new();
        let old = self.lines.take().unwrap_or_else(|| {
            go_to(&mut out, 0, BELOW);
            Vec::new()
        });
        for (at, line) in lines.iter().enumerate().filter(|(at, line)| old.get(*at) != Some(line)) {
            go_to(&mut out, at, line);
            out.push_str(END_OF_LINE);
        }
        if lines.len() < old.len() {
            go_to(&mut out, lines.len(), BELOW);
        }
        if !out.is_empty() {
            go_to(&mut out, lines.len(), "");
        }
        self.lines = Some(lines);
        out
    }

    /// All is to be written anew, whatever the terminal shows now.
    pub fn forget(&mut self) {
        self.lines = None;
    }

    /// What is to be written at the end.
    pub fn leave(&self) -> &'static str {
        LEAVE
    }
}

fn go_to(out: &mut String, row: usize, then: &str) {
    let _ = write!(out, "\x1b[{};1H{then}", row + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a terminal shows that knows what [`Screen`] writes.
    #[derive(Default)]
    struct Terminal {
        lines: Vec<String>,
        row: usize,
        written: bool,
    }

    impl Terminal {
        fn write(&mut self, out: &str) {
            for piece in out.split("\x1b[").skip(1) {
                match piece.split_at(piece.find(|c: char| c.is_ascii_alphabetic()).unwrap() + 1) {
                    ("K", "") if !self.written => self.put(""),
                    ("K", "") => {}
                    ("J", "") => self.lines.truncate(self.row),
                    (place, text) => {
                        self.row = place.strip_suffix(";1H").unwrap().parse::<usize>().unwrap() - 1;
                        self.written = !text.is_empty();
                        if self.written {
                            self.put(text);
                        }
                    }
                }
            }
        }

        fn put(&mut self, text: &str) {
            self.lines.resize(self.lines.len().max(self.row + 1), "?".into());
            self.lines[self.row] = text.into();
        }
    }

    #[test]
    fn what_has_not_changed_is_not_written() {
        let mut s = Screen::default();
        let lines = || vec!["a".to_string(), "b".into()];
        assert_eq!(s.show(lines()), "\x1b[1;1H\x1b[J\x1b[1;1Ha\x1b[K\x1b[2;1Hb\x1b[K\x1b[3;1H");
        assert_eq!(s.show(lines()), "");
        assert_eq!(s.show(vec!["a".into(), "c".into()]), "\x1b[2;1Hc\x1b[K\x1b[3;1H");
        s.forget();
        assert!(s.show(lines()).contains('a'));
        assert_eq!(s.leave(), LEAVE);
    }

    proptest! {
        #[test]
        fn the_terminal_shows_each_picture(
            pictures in prop::collection::vec(prop::collection::vec("[a-z ]{0,3}", 0..5), 1..10),
            forget: bool,
        ) {
            let (mut s, mut t) = (Screen::default(), Terminal { lines: vec!["junk".into(); 9], ..Terminal::default() });
            for p in pictures {
                t.write(&s.show(p.clone()));
                prop_assert_eq!(&t.lines, &p);
                if forget {
                    s.forget();
                }
            }
        }
    }
}
