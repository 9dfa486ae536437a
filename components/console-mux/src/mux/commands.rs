//! What keys do: they go to the terminal that is shown, or change what is shown.

use super::{Mux, Streams, TYPED_MAX, View};
use crate::keys::{Command, HELP, Key};
use crate::terminal::Typed;

impl Mux {
    /// Keys go to the terminal that is shown, or nowhere if none is; says whether any moved.
    pub(super) fn move_keys(&mut self, streams: &mut impl Streams) -> bool {
        let mut buf = [0; TYPED_MAX];
        let room = TYPED_MAX - self.typed.len();
        let mut moved = false;
        if room > 0 {
            let got = streams.read_keys(&mut buf[..room]).min(room);
            self.typed.extend(&buf[..got]);
            moved = got > 0;
        }
        moved |= self.look_at_keys();
        for t in &mut self.terminals {
            moved |= t.give_keys(|stream, keys| streams.write_client(stream, keys));
        }
        moved
    }

    /// Says whether there were any. Commands wait for the screen, and until what the last one had to say was said.
    fn look_at_keys(&mut self) -> bool {
        let before = self.typed.len();
        while !self.typed.is_empty()
            && (!self.keys.is_escaped() || (self.notices.is_empty() && self.screen.has_room()))
            && let Some(byte) = self.typed.pop_front()
        {
            match self.keys.take(byte) {
                Some(Key::Text(byte)) => self.type_in(byte),
                Some(Key::Command(command)) => self.obey(command),
                None => {}
            }
        }
        self.typed.len() < before
    }

    fn type_in(&mut self, key: u8) {
        let View::Terminal(n) = self.view else { return };
        if self.terminals[n].source.stream().is_none() {
            return;
        }
        if self.terminals[n].type_in(key) == (Typed::Dropped { first: true }) {
            self.notice(format!("{} does not read what is typed: it is dropped", self.terminals[n].label));
        }
    }

    fn obey(&mut self, command: Command) {
        let (count, shown) = (self.terminals.len(), matches!(self.view, View::Terminal(_)));
        match command {
            // From a log, back to the terminal.
            Command::Next | Command::Previous if !shown => self.select(self.focus),
            Command::Next => self.select((self.focus + 1) % count.max(1)),
            Command::Previous => self.select((self.focus + count.saturating_sub(1)) % count.max(1)),
            Command::Select(n) => self.select(n),
            Command::Log => self.show_log(),
            Command::Again => self.show_again(),
            Command::Mute => self.mute(),
            Command::List => self.list(),
            Command::Help => self.help(),
            Command::Unknown(key) => {
                let (escape, key) = (self.escape, key.escape_ascii());
                self.notice(format!("{escape} {key} does nothing; {escape} ? lists what does"));
            }
        }
    }

    fn notice(&mut self, text: impl Into<String>) {
        self.notices.push_back(text.into());
    }

    /// A line as soon as there is a choice.
    pub(super) fn greet(&mut self) {
        if self.terminals.len() > 1 && !std::mem::replace(&mut self.greeted, true) {
            self.notice(format!("{}; {} ? lists the keys", self.title(self.focus), self.escape));
        }
    }

    fn title(&self, terminal: usize) -> String {
        format!("{} (terminal {} of {})", self.terminals[terminal].label, terminal + 1, self.terminals.len())
    }

    /// Shows a terminal: what it wrote meanwhile, and its unfinished line.
    fn select(&mut self, n: usize) {
        let Some(terminal) = self.terminals.get_mut(n) else {
            return self.notice(format!("there is no terminal {}", n + 1));
        };
        let lost = terminal.backlog.resume();
        (self.view, self.focus, self.replay) = (View::Terminal(n), n, None);
        self.screen.give_to(Some(n));
        let mut title = self.title(n);
        if self.terminals[n].source.has_gone() {
            title += "; it has gone";
        }
        if lost > 0 {
            self.screen.forget_line(n);
            title += &format!("; {lost} bytes that it wrote meanwhile are lost");
        }
        self.notice(title);
    }

    /// Shows the log of all, then of one after the other.
    fn show_log(&mut self) {
        self.view = match self.view {
            View::Terminal(_) => View::AllLogs,
            View::AllLogs if self.logs.is_empty() => View::AllLogs,
            View::AllLogs => View::Log(0),
            View::Log(n) if n + 1 < self.logs.len() => View::Log(n + 1),
            View::Log(_) => View::AllLogs,
        };
        self.screen.give_to(None);
        self.replay_log();
    }

    fn replay_log(&mut self) {
        self.replay = Some(0);
        let (whose, lost) = match self.view {
            View::Log(n) => (self.logs[n].label.as_str(), self.logs[n].history.lost()),
            _ => ("all components", self.logs.iter().map(|l| l.history.lost()).sum()),
        };
        let older = if lost > 0 { format!("; {lost} older lines are lost") } else { String::new() };
        self.notice(format!("log of {whose}{older}"));
    }

    fn show_again(&mut self) {
        let View::Terminal(n) = self.view else { return self.replay_log() };
        self.screen.give_to(Some(n));
        self.screen.forget_line(n);
        let count = self.terminals[n].backlog.rewind();
        self.notice(format!("the last {count} bytes of {}:", self.terminals[n].label));
    }

    fn mute(&mut self) {
        self.muted = !self.muted;
        let when = if self.muted { "only by" } else { "between a terminal's lines and by" };
        self.notice(format!("log lines are shown {when} {} l", self.escape));
    }

    fn list(&mut self) {
        for n in 0..self.terminals.len() {
            let mut state = match (self.view, self.terminals[n].backlog.unseen()) {
                (View::Terminal(shown), _) if shown == n => "shown".into(),
                (_, unseen) => format!("{unseen} new bytes"),
            };
            if self.terminals[n].source.has_gone() {
                state += ", gone";
            }
            self.notice(format!("terminal {}: {}, {state}", n + 1, self.terminals[n].label));
        }
        for n in 0..self.logs.len() {
            let (log, kept) = (&self.logs[n], self.logs[n].history.len());
            self.notice(format!("log: {}, {kept} lines kept, {} lost", log.label, log.history.lost()));
        }
    }

    fn help(&mut self) {
        for (key, what) in HELP {
            self.notice(format!("{} {key}: {what}", self.escape));
        }
    }
}
