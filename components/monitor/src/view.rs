//! A picture of two samples, in lines of text.
//!
//! Key type: [`View`].

use crate::figures::{bytes, percent, time};
use crate::keys::{Keys, Order, Show};
use crate::sample::Sample;
use rtlogic::printable;
use services::pd::Account;
use services::trace::{Component, NO_PARENT, State};
use std::cmp::Reverse;
use std::iter;

/// Width of the column of names.
const NAME: usize = 24;
/// Who serves what no component serves.
const ROOT: &str = "core";

/// The keys.
const HELP: [&str; 9] = [
    "t        components below their parents",
    "c        components by CPU time",
    "r        components by RAM",
    "s        sessions",
    "j, k     down, up",
    "space    anew, at once",
    "h, ?     this list",
    "q        the end",
    "CPU% is of one CPU, since the last picture; what servers do for a component counts there.",
];

/// See above.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The sample before; the same one if there is none.
    pub before: &'a Sample,
    /// What is shown.
    pub now: &'a Sample,
    /// How it is shown.
    pub keys: Keys,
}

impl View<'_> {
    /// The picture: at most `height` lines, at least the summary, of at most `width` characters.
    pub fn lines(&self, width: usize, height: usize) -> Vec<String> {
        let (head, rows) = match self.keys.show {
            Show::Components => self.components(),
            Show::Sessions => self.sessions(),
            Show::Help => (None, HELP.map(String::from).into()),
        };
        let mut lines: Vec<String> = [self.summary(), String::new()].into_iter().chain(head).collect();
        let room = height.saturating_sub(lines.len());
        // The last page is as full as the others.
        let first = self.keys.first.min(rows.len().saturating_sub(room));
        lines.extend(rows.into_iter().skip(first).take(room));
        lines.truncate(height.max(1));
        lines.iter().map(|l| l.chars().take(width).collect::<String>().trim_end().to_string()).collect()
    }

    fn summary(&self) -> String {
        let now = self.now;
        let cpus = 0..now.idle_ns.len();
        let busy: Vec<String> = cpus.map(|cpu| percent(now.busy_per_mille(self.before, cpu))).collect();
        let running = now.components.values().filter(|c| c.state == State::Running).count();
        let cut = if now.cut { ", and more than can be shown" } else { "" };
        let (up, all, busy) = (time(now.at_ns), now.components.len(), busy.join(" "));
        format!("up {up}, {running} of {all} components run{cut}; CPU% {busy}")
    }

    fn components(&self) -> (Option<String>, Vec<String>) {
        let head = format!(
            "{:NAME$} {:>6} {:>8} {:>5} {:>5} {:>5} {:>9} {:>11} {:>4}",
            "COMPONENT", "CPU%", "TIME", "RAM", "USED", "PEAK", "CAPS", "KMEM", "SESS"
        );
        (Some(head), self.ordered().into_iter().map(|(depth, c)| self.row(depth, c)).collect())
    }

    fn ordered(&self) -> Vec<(usize, &Component)> {
        let mut all = self.now.tree();
        if self.keys.order != Order::Tree {
            all.iter_mut().for_each(|(depth, _)| *depth = 0);
        }
        match self.keys.order {
            Order::Tree => {}
            Order::Cpu => all.sort_by_key(|(_, c)| Reverse(self.now.per_mille(self.before, c.id))),
            Order::Ram => all.sort_by_key(|(_, c)| Reverse(c.ram.used)),
        }
        all
    }

    fn row(&self, depth: usize, c: &Component) -> String {
        let indent = iter::repeat_n(' ', (2 * depth).min(NAME / 2));
        let name: String = indent.chain(text(c.name.as_str()).chars()).take(NAME).collect();
        let cpu = match c.state {
            State::Running => percent(self.now.per_mille(self.before, c.id)),
            State::Ended => "ended".into(),
            State::Down => "down".into(),
        };
        format!(
            "{name:NAME$} {cpu:>6} {:>8} {:>5} {:>5} {:>5} {:>9} {:>11} {:>4}",
            time(c.cpu_ns),
            bytes(c.ram.limit),
            bytes(c.ram.used),
            bytes(c.ram.peak),
            used(c.caps, |n| n.to_string()),
            used(c.kmem, bytes),
            c.sessions
        )
    }

    fn sessions(&self) -> (Option<String>, Vec<String>) {
        let head = format!("{:16} {:12} {:16} {:>5} {:>4}  LABEL", "CLIENT", "SERVICE", "SERVER", "RAM", "CAPS");
        let row = |(&(client, _), s): (&(u32, u64), &services::trace::Client)| {
            let (client, server) = (self.name(client), self.name(s.server));
            let (service, label) = (text(s.service.as_str()), text(s.label.as_str()));
            format!("{client:16.16} {service:12.12} {server:16.16} {:>5} {:>4}  {label}", bytes(s.ram), s.caps)
        };
        (Some(head), self.now.sessions.iter().map(row).collect())
    }

    fn name(&self, id: u32) -> String {
        match self.now.components.get(&id) {
            Some(c) => text(c.name.as_str()),
            None if id == NO_PARENT => ROOT.into(),
            None => format!("number {id}"),
        }
    }
}

fn text(from: &str) -> String {
    printable(from.as_bytes()).collect()
}

/// What is used of a limit.
fn used(u: Account, figure: impl Fn(u64) -> String) -> String {
    format!("{}/{}", figure(u.used), figure(u.limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::{component, sample};
    use proptest::prelude::*;
    use rpc::Text;
    use services::trace::Client;

    /// A small system, after one and two seconds.
    fn system() -> (Sample, Sample) {
        let make = |at: u64| {
            let mut all = [
                component(0, NO_PARENT, "core", 300 * at),
                component(1, 0, "uart", 20 * at),
                component(2, 0, "init", 5),
                component(3, 2, "shell", 500 * at),
                component(4, 0, "vm", 1400 * at),
                component(5, 0, "old", 70_000),
            ];
            all[3].ram = Account { limit: 3 << 19, used: 1 << 20, peak: 1 << 20 };
            all[4].ram = Account { limit: 262 << 20, used: 257 << 20, peak: 260 << 20 };
            all[4].sessions = 2;
            all[2].ram.used = 5 << 20;
            all[5].state = State::Ended;
            sample(1000 * at, &[600 * at, 100 * at], &all)
        };
        (make(1), make(2))
    }

    fn picture(keys: Keys, width: usize, height: usize) -> String {
        let (before, mut now) = system();
        for (id, service, server, label) in
            [(0, "log", 1, "vm"), (1, "timer", NO_PARENT, "vm -> tick\u{1b}[2J"), (2, "rtc", 99, "vm")]
        {
            let (service, label) = (Text::new(service).unwrap(), Text::new(label).unwrap());
            now.sessions.insert((4, id), Client { id, service, label, server, ram: 4096, caps: 3 });
        }
        View { before: &before, now: &now, keys }.lines(width, height).join("\n")
    }

    #[test]
    fn components_in_their_tree() {
        assert_eq!(
            picture(Keys::default(), 100, 24),
            "\
up 2.000, 5 of 6 components run; CPU% 40.0 90.0

COMPONENT                  CPU%     TIME   RAM  USED  PEAK      CAPS        KMEM SESS
core                       30.0    0.600    1M  900K 1000K    20/100      40K/1M    0
  uart                      2.0    0.040    1M  900K 1000K    20/100      40K/1M    0
  init                      0.0    0.005    1M    5M 1000K    20/100      40K/1M    0
    shell                  50.0    1.000  1.5M    1M    1M    20/100      40K/1M    0
  vm                      140.0    2.800  262M  257M  260M    20/100      40K/1M    2
  old                     ended   1:10.0    1M  900K 1000K    20/100      40K/1M    0"
        );
    }

    #[test]
    fn components_by_what_they_use() {
        let names = |order| {
            let text = picture(Keys { order, ..Keys::default() }, 100, 24);
            text.lines().skip(3).map(|l| l.split(' ').next().unwrap().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(Order::Cpu), ["vm", "shell", "core", "uart", "init", "old"]);
        assert_eq!(names(Order::Ram), ["vm", "init", "shell", "core", "uart", "old"]);
    }

    #[test]
    fn sessions_with_both_ends() {
        assert_eq!(
            picture(Keys { show: Show::Sessions, ..Keys::default() }, 100, 24),
            "\
up 2.000, 5 of 6 components run; CPU% 40.0 90.0

CLIENT           SERVICE      SERVER             RAM CAPS  LABEL
vm               log          uart                4K    3  vm
vm               timer        core                4K    3  vm -> tick?[2J
vm               rtc          number 99           4K    3  vm"
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_can_be_scrolled() {
        let keys = |first| Keys { first, ..Keys::default() };
        assert_eq!(picture(keys(0), 20, 5), "up 2.000, 5 of 6 com\n\nCOMPONENT\ncore\n  uart");
        assert_eq!(picture(keys(usize::MAX), 20, 5), "up 2.000, 5 of 6 com\n\nCOMPONENT\n  vm\n  old");
        assert_eq!(picture(keys(0), 9, 0), "up 2.000,");
    }

    #[test]
    fn help_lists_the_keys() {
        let text = picture(Keys { show: Show::Help, ..Keys::default() }, 100, 24);
        assert!(HELP.iter().all(|l| text.contains(l)));
        for key in "tcrsjkh?q".chars() {
            assert!(HELP.iter().any(|l| l.split("   ").next().unwrap().contains(key)), "{key}");
        }
    }

    #[test]
    fn that_there_is_more_is_said() {
        let (before, mut now) = system();
        now.cut = true;
        let lines = View { before: &before, now: &now, keys: Keys::default() }.lines(100, 1);
        assert_eq!(lines, ["up 2.000, 5 of 6 components run, and more than can be shown; CPU% 40.0 90.0"]);
    }

    proptest! {
        #[test]
        fn no_picture_is_too_large(
            width in 0usize..120,
            height in 0usize..40,
            first: usize,
            show in prop::sample::select(&[Show::Components, Show::Sessions, Show::Help][..]),
            order in prop::sample::select(&[Order::Tree, Order::Cpu, Order::Ram][..]),
        ) {
            let text = picture(Keys { show, order, first }, width, height);
            prop_assert!(text.split('\n').count() <= height.max(1));
            prop_assert!(text.split('\n').all(|l| l.chars().count() <= width && !l.chars().any(char::is_control)));
        }
    }
}
