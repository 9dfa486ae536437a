//! A text screen as the VGA has it: what is in which cell after some text. No colours, no cursor, no keys.
//!
//! Key type: [`Screen`].

/// Characters of a line, and lines.
pub const COLUMNS: usize = 80;
/// See [`COLUMNS`].
pub const ROWS: usize = 25;
/// Grey on black, in the upper byte of a cell (IBM VGA XGA Technical Reference, text modes).
const ATTRIBUTE: u16 = 0x0700;

/// What is on the screen.
#[derive(Debug)]
pub struct Screen {
    cells: [u8; COLUMNS * ROWS],
    row: usize,
    column: usize,
}

impl Screen {
    /// An empty one, if [`Screen::clear`] was called.
    pub const fn new() -> Screen {
        Screen { cells: [b' '; COLUMNS * ROWS], row: 0, column: 0 }
    }

    /// Puts a blank in each cell.
    pub fn clear(&mut self, put: &mut dyn FnMut(usize, u16)) {
        *self = Screen::new();
        (0..COLUMNS * ROWS).for_each(|i| put(i, ATTRIBUTE | u16::from(b' ')));
    }

    /// Writes text: `put` gets each cell that changes, by its number, and what is to be in it.
    pub fn write(&mut self, text: &str, put: &mut dyn FnMut(usize, u16)) {
        for c in text.chars() {
            match c {
                '\r' => self.column = 0,
                '\n' => self.new_line(put),
                ' '..='~' => self.character(c as u8, put),
                _ => self.character(b'?', put),
            }
        }
    }

    fn character(&mut self, c: u8, put: &mut dyn FnMut(usize, u16)) {
        if self.column == COLUMNS {
            self.new_line(put);
        }
        self.set(self.row * COLUMNS + self.column, c, put);
        self.column += 1;
    }

    fn new_line(&mut self, put: &mut dyn FnMut(usize, u16)) {
        self.column = 0;
        if self.row + 1 < ROWS {
            self.row += 1;
            return;
        }
        for i in 0..COLUMNS * ROWS {
            let below = self.cells.get(i + COLUMNS).copied().unwrap_or(b' ');
            self.set(i, below, put);
        }
    }

    fn set(&mut self, i: usize, c: u8, put: &mut dyn FnMut(usize, u16)) {
        if self.cells[i] != c {
            self.cells[i] = c;
            put(i, ATTRIBUTE | u16::from(c));
        }
    }
}

impl Default for Screen {
    fn default() -> Screen {
        Screen::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown after that, line by line, and how many cells were written.
    fn shown(texts: &[&str]) -> (Vec<String>, usize) {
        let (mut screen, mut cells, mut puts) = (Screen::new(), vec![0u16; COLUMNS * ROWS], 0);
        screen.clear(&mut |i, c| cells[i] = c);
        for t in texts {
            screen.write(t, &mut |i, c| {
                cells[i] = c;
                puts += 1;
            });
        }
        assert!(cells.iter().all(|c| c & 0xff00 == ATTRIBUTE));
        let line = |l: &[u16]| l.iter().map(|c| char::from(*c as u8)).collect::<String>().trim_end().to_string();
        (cells.chunks(COLUMNS).map(line).collect(), puts)
    }

    #[test]
    fn lines_go_below_each_other_and_long_ones_go_on() {
        let (lines, puts) = shown(&["one\r\n", "two\r\n", &"x".repeat(COLUMNS + 2)]);
        assert_eq!(lines[..3], ["one".to_string(), "two".into(), "x".repeat(COLUMNS)]);
        assert_eq!((&*lines[3], puts), ("xx", 3 + 3 + COLUMNS + 2));
        assert_eq!(shown(&["\u{e4}\u{7}"]).0[0], "??", "what the screen cannot show is seen");
        assert_eq!(shown(&["abc\rx"]).0[0], "xbc");
    }

    #[test]
    fn a_full_screen_moves_up_and_writes_only_what_changes() {
        let all: Vec<String> = (0..30).map(|n| format!("line {n}\r\n")).collect();
        let (lines, puts) = shown(&all.iter().map(|s| &**s).collect::<Vec<_>>());
        assert_eq!((&*lines[0], &*lines[ROWS - 2], &*lines[ROWS - 1]), ("line 6", "line 29", ""));
        assert!(puts < 6 * 40 + 30 * 10, "{puts}");
    }
}
