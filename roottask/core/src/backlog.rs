//! Lines of log that nobody has taken yet: bounded, and honest about what was lost.
//!
//! Key types: [`Backlog`], [`Line`].

use std::collections::VecDeque;

/// A line of log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Who says it: "core", "kernel", or the component.
    pub label: String,
    /// What; no line feed.
    pub text: String,
}

impl Line {
    /// As it is shown on a console that the root task writes to itself.
    pub fn on_console(&self) -> String {
        format!("[{}] {}\r\n", self.label, self.text)
    }

    /// As it is sent in a session that belongs to `owner`, whose label the other end puts in front.
    pub fn in_session(&self, owner: &str) -> String {
        if self.label == owner { format!("{}\n", self.text) } else { format!("{}: {}\n", self.label, self.text) }
    }
}

/// A queue of lines of a bounded size. When it is full the oldest lines go, and a line says so.
#[derive(Debug)]
pub struct Backlog {
    lines: VecDeque<Line>,
    bytes: usize,
    max_bytes: usize,
    lost: usize,
}

impl Backlog {
    /// Room for `max_bytes` of text.
    pub fn new(max_bytes: usize) -> Backlog {
        Backlog { lines: VecDeque::new(), bytes: 0, max_bytes, lost: 0 }
    }

    /// Appends each line of `text`; control characters become spaces, so that no component can forge a line.
    pub fn push(&mut self, label: &str, text: &str) {
        for text in text.lines() {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            self.append(Line { label: label.into(), text });
        }
    }

    fn append(&mut self, line: Line) {
        self.bytes += cost(&line);
        self.lines.push_back(line);
        while self.bytes > self.max_bytes {
            let Some(old) = self.lines.pop_front() else { break };
            self.bytes -= cost(&old);
            self.lost += 1;
        }
    }

    /// Takes the oldest line.
    pub fn pop(&mut self) -> Option<Line> {
        if self.lost > 0 {
            let text = format!("{} lines of log lost", std::mem::take(&mut self.lost));
            return Some(Line { label: "core".into(), text });
        }
        let line = self.lines.pop_front()?;
        self.bytes -= cost(&line);
        Some(line)
    }
}

fn cost(line: &Line) -> usize {
    line.label.len() + line.text.len() + size_of::<Line>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(b: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| b.pop()).map(|l| l.text).collect()
    }

    #[test]
    fn lines_come_out_in_order() {
        let mut b = Backlog::new(1000);
        b.push("core", "one\ntwo\r\n");
        b.push("uart", "three");
        assert_eq!(texts(&mut b), ["one", "two", "three"]);
        assert_eq!(b.pop(), None);
    }

    #[test]
    fn a_component_cannot_forge_lines() {
        let mut b = Backlog::new(1000);
        b.push("uart", "a\r[core] b\x1b[2Jc");
        assert_eq!(texts(&mut b), ["a [core] b [2Jc"]);
    }

    #[test]
    fn the_newest_lines_stay_and_the_loss_is_told() {
        let one = cost(&Line { label: "x".into(), text: "1".into() });
        let mut b = Backlog::new(3 * one);
        (0..5).for_each(|i| b.push("x", &i.to_string()));
        assert_eq!(texts(&mut b), ["2 lines of log lost", "2", "3", "4"]);
        b.push("x", &"y".repeat(4 * one));
        assert_eq!(texts(&mut b), ["1 lines of log lost"], "a line that never fits");
        b.push("x", "5");
        assert_eq!(texts(&mut b), ["5"], "the loss is told once");
    }

    #[test]
    fn lines_on_console_and_in_a_session() {
        let line = |label: &str| Line { label: label.into(), text: "hi".into() };
        assert_eq!(line("core").on_console(), "[core] hi\r\n");
        assert_eq!(line("core").in_session("core"), "hi\n");
        assert_eq!(line("kernel").in_session("core"), "kernel: hi\n");
    }
}
