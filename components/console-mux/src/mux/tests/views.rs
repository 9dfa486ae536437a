//! Several terminals and logs on one screen.

use super::*;

const VM1: (Kind, &str) = (Kind::Terminal, "vm1");
const VM2: (Kind, &str) = (Kind::Terminal, "vm2");
/// Clients 0 and 1 are logs, 2 and 3 terminals.
const TWO: [(Kind, &str); 4] = [LOG_A, LOG_B, VM1, VM2];

/// Two terminals; the first line is read already.
fn two() -> Rig {
    two_with("", 1 << 20)
}

fn two_with(config: &str, pipe_len: usize) -> Rig {
    let mut rig = Rig::with(&Config::parse(config.as_bytes()).unwrap(), &TWO, pipe_len);
    rig.shown();
    rig
}

#[test]
fn with_a_choice_the_first_line_says_so() {
    assert_eq!(Rig::new(&TWO, 4096).shown(), "[console] vm1 (terminal 1 of 2); Ctrl-A ? lists the keys\r\n");
    assert_eq!(Rig::new(&[LOG_A, VM1], 4096).shown(), "");
    assert_eq!(Rig::new(&[LOG_A], 4096).shown(), "");
}

#[test]
fn only_one_terminal_is_shown_and_the_other_keeps_its_output() {
    let mut rig = two();
    rig.client_writes(2, b"login: ");
    rig.client_writes(3, b"boot\r\nvm2# ");
    assert_eq!(rig.shown(), "login: ");
    rig.types(b"me\x01nyou");
    assert_eq!((rig.given(2), rig.given(3)), (b"me".to_vec(), b"you".to_vec()));
    assert_eq!(rig.shown(), "\r\n\x1b[0m\r[console] vm2 (terminal 2 of 2)\r\nboot\r\nvm2# ");
    rig.client_writes(2, b"me");
    rig.client_writes(3, b"you");
    assert_eq!(rig.shown(), "you");
    rig.types(b"\x011");
    assert_eq!(rig.shown(), "\r\n\x1b[0m\r[console] vm1 (terminal 1 of 2)\r\nlogin: me");
    rig.types(b"\x01n");
    assert_eq!(rig.shown(), "\r\n\x1b[0m\r[console] vm2 (terminal 2 of 2)\r\nvm2# you", "nothing new, but the line");
}

#[test]
fn next_and_previous_go_round() {
    let mut rig = Rig::new(&[VM1, VM2, (Kind::Terminal, "vm3")], 4096);
    let mut focus = |keys: &[u8]| {
        rig.types(keys);
        rig.mux.focus
    };
    assert_eq!([&b"\x01n"[..], b"\x01n", b"\x01n", b"\x01p", b"\x01p"].map(&mut focus), [1, 2, 0, 2, 1]);
    assert_eq!([&b"\x013"[..], b"\x011", b"\x019"].map(&mut focus), [2, 0, 0]);
    assert!(rig.shown().ends_with("[console] there is no terminal 9\r\n"));
}

#[test]
fn a_switch_with_nothing_behind_it_takes_a_line() {
    let mut rig = two();
    rig.client_writes(2, b"hello\r\n");
    rig.shown();
    rig.types(b"\x011");
    assert_eq!(rig.shown(), "\x1b[0m\r[console] vm1 (terminal 1 of 2)\r\n");
    let mut one = Rig::new(&[VM1], 4096);
    one.types(b"\x01n");
    assert_eq!(one.shown(), "\x1b[0m\r[console] vm1 (terminal 1 of 1)\r\n");
}

#[test]
fn of_much_hidden_output_the_end_is_kept_and_the_loss_is_told() {
    let mut rig = two_with("backlog_kib = 2", 1 << 20);
    rig.client_writes(3, "0123456\r\n".repeat(1000).as_bytes());
    assert_eq!(rig.shown(), "");
    rig.types(b"\x01n");
    let shown = rig.shown();
    let (title, rest) = shown.split_once("\r\n").unwrap();
    let lost = title.strip_prefix("\x1b[0m\r[console] vm2 (terminal 2 of 2); ").unwrap();
    let lost: usize = lost.strip_suffix(" bytes that it wrote meanwhile are lost").unwrap().parse().unwrap();
    assert_eq!(lost + rest.len(), 9000);
    assert!(rest.len() > 2000 && rest.starts_with("0123456\r\n"), "{}", rest.len());
}

#[test]
fn after_a_loss_the_old_line_does_not_come_back() {
    let mut rig = two_with("backlog_kib = 2", 1 << 20);
    rig.client_writes(2, b"old line");
    rig.types(b"\x01n");
    rig.client_writes(2, &[b'x'; 5000]);
    rig.shown();
    rig.types(b"\x01n");
    let shown = rig.shown();
    assert!(!shown.contains("old line") && shown.ends_with("x"), "{shown}");
}

#[test]
fn a_hidden_flood_never_waits_and_a_shown_one_does() {
    let mut rig = two_with("", 4096);
    rig.pipes.out.len = 0;
    for _ in 0..1000 {
        assert_eq!(rig.client_writes(3, &[b'y'; 512]), 512);
    }
    let written: usize = (0..1000).map(|_| rig.client_writes(2, &[b'x'; 512])).sum();
    assert!(written <= 4096 + OUT_MAX + 2 * LINE_MAX, "{written}");
}

#[test]
fn a_flood_does_not_hold_up_the_switch_nor_the_other_terminal() {
    let mut rig = two_with("", 1 << 16);
    rig.pipes.out.len = 64;
    let flood = |rig: &mut Rig, client: usize| rig.client_writes(client, &b"y\r\n".repeat(1 << 14)) > 0;
    for _ in 0..100 {
        flood(&mut rig, 2);
        rig.take_output(64);
    }
    let before = rig.screen.len();
    rig.types(b"\x01n");
    let mut asked = false;
    while !String::from_utf8_lossy(&rig.screen[before..]).contains("answer") {
        flood(&mut rig, 2);
        assert!(rig.take_output(64));
        if !asked && String::from_utf8_lossy(&rig.screen[before..]).contains("[console] vm2") {
            rig.client_writes(3, b"answer");
            asked = true;
        }
        // What was on its way, and a line.
        assert!(rig.screen.len() - before < OUT_MAX + 512, "{}", rig.screen.len() - before);
    }
    assert!(flood(&mut rig, 2));
}

/// A client that has always more to say.
struct Endless {
    reads: usize,
    keys: Vec<u8>,
    client: u64,
}

impl Streams for Endless {
    fn read_client(&mut self, client: u64, buf: &mut [u8]) -> usize {
        if client != self.client {
            return 0;
        }
        self.reads += 1;
        buf.fill(b'\n');
        buf.len()
    }
    fn write_client(&mut self, _client: u64, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn read_keys(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.keys.len());
        buf[..n].copy_from_slice(&self.keys[..n]);
        self.keys.drain(..n);
        n
    }
    fn write_out(&mut self, _bytes: &[u8]) -> usize {
        0
    }
}

#[test]
fn a_hidden_client_that_writes_for_ever_leaves_time_to_others() {
    let mux = || {
        let mut mux = Mux::new("console", &Config::default()).unwrap();
        TWO.iter().enumerate().for_each(|(id, (kind, name))| assert!(mux.open(*kind, id as u64, name)));
        mux
    };
    for (client, keys) in [(3, &b""[..]), (0, b"\x01m"), (0, b"\x01l\x01l\x01l")] {
        let mut streams = Endless { reads: 0, keys: keys.into(), client };
        // So that the commands find room on the screen.
        let mut mux = mux();
        mux.screen.flush(|b| b.len());
        for _ in 0..4 {
            mux.pump(&mut streams);
            mux.screen.flush(|b| b.len());
        }
        let before = streams.reads;
        assert!(mux.pump(&mut streams), "there is more");
        assert!(streams.reads - before <= ROUNDS_MAX && streams.reads > before);
    }
    let mut streams = Endless { reads: 0, keys: vec![], client: 2 };
    assert!((0..10).any(|_| !mux().pump(&mut streams)), "what is shown waits for the screen");
}

#[test]
fn log_lines_come_between_those_of_the_terminal_that_is_shown() {
    let mut rig = two();
    rig.client_writes(2, b"vm1# ");
    rig.client_writes(0, b"one\n");
    rig.types(b"\x01n");
    rig.client_writes(3, b"vm2# ");
    rig.client_writes(1, b"two\n");
    let title = "\r\n\x1b[0m\r[console] vm2 (terminal 2 of 2)\r\n";
    assert_eq!(rig.shown(), format!("vm1# \r\n[a] one\r\nvm1# {title}vm2# \r\n[b] two\r\nvm2# "));
}

#[test]
fn the_logs_are_kept_and_shown_by_key() {
    let mut rig = two();
    rig.client_writes(2, b"vm1# ");
    rig.client_writes(0, b"one\n");
    rig.client_writes(1, b"two\n");
    rig.client_writes(0, b"three\n");
    rig.shown();
    rig.types(b"\x01l");
    let all = "[a] one\r\n[b] two\r\n[a] three\r\n";
    assert_eq!(rig.shown(), format!("\r\n\x1b[0m\r[console] log of all components\r\n{all}"));
    rig.client_writes(1, b"four\n");
    rig.client_writes(2, b"hidden");
    assert_eq!(rig.shown(), "[b] four\r\n");
    rig.types(b"\x01l");
    assert_eq!(rig.shown(), "[console] log of a\r\n[a] one\r\n[a] three\r\n");
    rig.client_writes(1, b"five\n");
    rig.client_writes(0, b"six\n");
    assert_eq!(rig.shown(), "[a] six\r\n");
    rig.types(b"\x01l");
    assert_eq!(rig.shown(), "[console] log of b\r\n[b] two\r\n[b] four\r\n[b] five\r\n");
    rig.types(b"\x01h");
    assert_eq!(rig.shown(), "[console] log of b\r\n[b] two\r\n[b] four\r\n[b] five\r\n");
    rig.types(b"\x01l");
    assert!(rig.shown().starts_with("[console] log of all components\r\n[a] one\r\n"));
    rig.types(b"dropped\x01n");
    assert_eq!(rig.shown(), "[console] vm1 (terminal 1 of 2)\r\nvm1# hidden");
    assert!(rig.given(2).is_empty());
}

#[test]
fn of_a_long_log_the_end_is_kept_and_nobody_elses_line_is_lost() {
    let mut rig = two_with("log_kib = 2", 1 << 20);
    rig.client_writes(1, b"rare\n");
    for n in 0..1000 {
        rig.client_writes(0, format!("flood {n}\n").as_bytes());
        rig.shown();
    }
    rig.types(b"\x01l");
    let shown = rig.shown();
    let rows: Vec<&str> = shown.lines().collect();
    let lost: usize = 1000 - (rows.len() - 2);
    assert_eq!(rows[0], format!("\x1b[0m\r[console] log of all components; {lost} older lines are lost"));
    assert_eq!((rows[1], rows[2]), ("[b] rare", format!("[a] flood {lost}").as_str()));
    assert!(lost < 970 && rows.last() == Some(&"[a] flood 999"), "{lost}");
}

#[test]
fn new_lines_wait_for_those_that_are_shown_again() {
    let mut rig = two();
    for n in 0..200 {
        rig.client_writes(0, format!("line {n}\n").as_bytes());
    }
    rig.shown();
    rig.pipes.out.len = 64;
    rig.types(b"\x01l");
    for n in 200..300 {
        rig.client_writes(0, format!("line {n}\n").as_bytes());
        rig.take_output(64);
    }
    let shown = rig.shown();
    let want: String = (0..300).map(|n| format!("[a] line {n}\r\n")).collect();
    assert!(shown.ends_with(&want), "{shown}");
}

#[test]
fn muted_log_lines_are_only_kept() {
    let mut rig = two();
    rig.client_writes(2, b"vm1# ");
    rig.types(b"\x01m");
    rig.client_writes(0, b"one\n");
    assert_eq!(rig.shown(), "vm1# \r\n[console] log lines are shown only by Ctrl-A l\r\nvm1# ");
    rig.types(b"\x01l");
    assert!(rig.shown().ends_with("[a] one\r\n"));
    rig.client_writes(1, b"two\n");
    assert_eq!(rig.shown(), "[b] two\r\n");
    rig.types(b"\x011\x01m");
    rig.client_writes(0, b"three\n");
    let shown = rig.shown();
    assert!(shown.ends_with("between a terminal's lines and by Ctrl-A l\r\nvm1# \r\n[a] three\r\nvm1# "), "{shown}");
}

#[test]
fn what_is_kept_of_a_terminal_is_shown_again() {
    let mut rig = two();
    rig.client_writes(2, b"one\r\ntwo\r\n# ");
    rig.shown();
    rig.types(b"\x01h");
    assert_eq!(rig.shown(), "\r\n\x1b[0m\r[console] the last 12 bytes of vm1:\r\none\r\ntwo\r\n# ");
    rig.client_writes(2, b"ls");
    assert_eq!(rig.shown(), "ls");
}

#[test]
fn the_escape_key_can_be_typed() {
    let mut rig = two();
    rig.types(b"a\x01a\x01\x01b");
    assert_eq!(rig.given(2), b"a\x01\x01b");
    let mut rig = two_with("escape = \"none\"", 4096);
    rig.types(b"\x01n\x01a");
    assert_eq!(rig.given(2), b"\x01n\x01a");
    let mut rig = two_with("escape = \"ctrl-b\"", 4096);
    rig.types(b"\x01n\x02n\x02\x02");
    assert_eq!((rig.given(2), rig.given(3)), (b"\x01n".to_vec(), b"\x02".to_vec()));
}

#[test]
fn lists_and_help_fit_and_unknown_commands_are_told() {
    let mut rig = two();
    rig.client_writes(3, b"hello");
    rig.client_writes(0, b"one\n");
    rig.shown();
    rig.types(b"\x01w");
    assert_eq!(
        rig.shown(),
        "[console] terminal 1: vm1, shown\r\n[console] terminal 2: vm2, 5 new bytes\r\n\
         [console] log: a, 1 lines kept, 0 lost\r\n[console] log: b, 0 lines kept, 0 lost\r\n"
    );
    rig.types(b"\x01?");
    let help = rig.shown();
    assert_eq!(help.lines().count(), crate::keys::HELP.len());
    assert!(help.lines().all(|l| l.len() < 120 && l.starts_with("[console] Ctrl-A ")), "{help}");
    rig.types(b"\x01\x1b");
    assert_eq!(rig.shown(), "[console] Ctrl-A \\x1b does nothing; Ctrl-A ? lists what does\r\n");
}

#[test]
fn a_terminal_that_does_not_read_does_not_keep_the_keys_of_the_other() {
    let mut rig = two_with("", 64);
    rig.pipes.keys.len = 1 << 20;
    rig.pipes.to[3].len = 1 << 20;
    rig.types(&[b'x'; 100_000]);
    rig.types(b"\x01nls\r");
    assert_eq!(rig.given(3), b"ls\r");
    let dropped = "[console] vm1 does not read what is typed: it is dropped\r\n";
    assert_eq!(rig.shown(), format!("{dropped}\x1b[0m\r[console] vm2 (terminal 2 of 2)\r\n"));
    // What had room arrives when it reads again.
    let mut got = rig.given(2);
    for _ in 0..KEYS_MAX {
        rig.pump();
        got.extend(rig.given(2));
    }
    assert_eq!(got, vec![b'x'; KEYS_MAX + 64]);
}

#[test]
fn commands_wait_for_a_stopped_screen_and_are_not_lost() {
    let mut rig = two();
    rig.pipes.out.len = 0;
    rig.pipes.from[2].write(&[b'x'; 50_000]);
    rig.pump();
    rig.types(&b"\x01?\x01w\x01n\x01p\x01lq".repeat(20));
    assert!(rig.mux.notices.len() < 30);
    rig.pipes.out.len = 1 << 20;
    rig.pump();
    let shown = rig.shown();
    assert_eq!(shown.matches("[console] log of all components").count(), 20);
    assert_eq!(shown.matches("(terminal ").count(), 40);
    assert!(rig.given(2).is_empty() && rig.given(3).is_empty());
}

#[test]
fn without_terminals_the_log_is_shown() {
    let mut rig = Rig::new(&[LOG_A, LOG_B], 4096);
    rig.types(b"keys\x01n");
    rig.client_writes(0, b"one\n");
    assert_eq!(rig.shown(), "[console] there is no terminal 1\r\n[a] one\r\n");
    rig.types(b"\x01l");
    assert_eq!(rig.shown(), "[console] log of a\r\n[a] one\r\n");
}

#[test]
fn without_logs_the_log_is_empty() {
    let mut rig = Rig::new(&[VM1], 4096);
    rig.types(b"\x01l\x01l\x01h\x01n");
    assert_eq!(rig.shown().matches("log of all components\r\n").count(), 3);
    assert_eq!(rig.mux.view, View::Terminal(0));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Take(usize),
    Key(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4usize, 1..400usize).prop_map(|(c, n)| Step::Write(c, n)),
        (1..600usize).prop_map(Step::Take),
        prop::sample::select(&b"np12lhmw?a\x01z"[..]).prop_map(Step::Key),
    ]
}

proptest! {
    /// Whatever is switched when: rows are whole, each client's lines come in order, and in the end each terminal's
    /// last line is there.
    #[test]
    fn rows_are_whole_whatever_is_shown(steps in prop::collection::vec(step(), 1..200), pipe_len in 16..600usize) {
        let mut rig = Rig::with(&Config::default(), &TWO, pipe_len);
        let mut count = [0; 4];
        let mut lines = Vec::new();
        let mut typed = 0;
        for step in steps {
            match step {
                Step::Write(c, n) => {
                    let line = format!("c{c} n{} {}.\r\n", count[c], "x".repeat(n % 50));
                    if rig.pipes.from[c].len - rig.pipes.from[c].bytes.len() >= line.len() {
                        prop_assert_eq!(rig.client_writes(c, line.as_bytes()), line.len());
                        count[c] += 1;
                        lines.push(line);
                    }
                }
                Step::Take(n) => { rig.take_output(n); }
                Step::Key(key) => {
                    if rig.pipes.keys.len - rig.pipes.keys.bytes.len() >= 2 {
                        rig.types(&[1, key]);
                        typed += 1;
                    }
                }
            }
        }
        rig.drain();
        rig.pipes.keys.len = 1 << 20;
        rig.drain();
        for key in [b"\x01\x01", b"\x011", b"\x012"] {
            rig.types(key);
            rig.drain();
        }
        let shown = rig.shown();
        let rows = rows(shown.as_bytes());
        for row in rows.iter().filter(|r| !r.is_empty()) {
            let whole = row.rsplit('\r').next().unwrap();
            // A switch breaks a terminal's line off; it is printed again when the terminal is shown again.
            let broken_off = lines.iter().any(|l| l.starts_with(whole));
            let known = whole.starts_with("[console] ") || (whole.starts_with('[') && whole.ends_with('.')) || broken_off;
            prop_assert!(known, "{row:?}");
        }
        for c in 2..4 {
            let last = format!("c{c} n{} ", count[c].max(1) - 1);
            prop_assert!(count[c] == 0 || shown.contains(&last), "{last:?} of {count:?}");
        }
        let escapes = rig.pipes.to.iter().flat_map(|p| &p.bytes).filter(|&&b| b == 1).count();
        prop_assert!(escapes <= typed + 1);
        prop_assert_eq!(rig.mux.view, View::Terminal(1));
    }
}

/// The other clients' pipes stay where they are.
fn leaves(rig: &mut Rig, client: usize) {
    let rest: Vec<u8> = rig.pipes.from[client].bytes.drain(..).collect();
    rig.mux.close(client as u64, &rest);
    rig.pump();
}

#[test]
fn who_comes_back_has_its_number_and_its_output() {
    let mut rig = two();
    rig.client_writes(2, b"one\r\n");
    rig.client_writes(3, b"boot\r\n");
    rig.pipes.from[3].write(b"bye\r\n");
    leaves(&mut rig, 3);
    leaves(&mut rig, 2);
    rig.types(b"lost");
    assert_eq!(rig.given(2), b"");
    rig.types(b"\x01w");
    let list = rig.shown();
    assert!(
        list.contains("terminal 1: vm1, shown, gone") && list.contains("terminal 2: vm2, 11 new bytes, gone"),
        "{list}"
    );
    rig.types(b"\x012");
    assert_eq!(rig.shown(), "\x1b[0m\r[console] vm2 (terminal 2 of 2); it has gone\r\nboot\r\nbye\r\n");
    leaves(&mut rig, 0);
    assert!(rig.mux.open(Kind::Terminal, 0, "vm2"));
    rig.pipes.from[0].write(b"boot 2\r\n");
    rig.pump();
    rig.types(b"x");
    assert_eq!((rig.shown().as_str(), rig.given(0)), ("boot 2\r\n", b"x".to_vec()));
    assert_eq!(rig.mux.terminals.len(), 2);
}

#[test]
fn the_first_terminal_that_comes_is_shown_and_the_choice_is_told_once() {
    let mut rig = Rig::new(&[LOG_A, LOG_B, VM1], 4096);
    assert_eq!(rig.shown(), "");
    rig.client_writes(2, b"vm1# ");
    assert!(rig.mux.open(Kind::Terminal, 1, "vm2"));
    rig.pump();
    assert_eq!(rig.shown(), "vm1# \r\n[console] vm1 (terminal 1 of 2); Ctrl-A ? lists the keys\r\nvm1# ");
    leaves(&mut rig, 1);
    assert!(rig.mux.open(Kind::Terminal, 1, "vm3"));
    rig.pump();
    assert_eq!(rig.shown(), "");
    assert_eq!(rig.mux.terminals.len(), 3);
}

#[test]
fn named_terminals_have_their_numbers_whenever_they_come() {
    let config = Config::parse(b"terminals = [\"vm1\", \"vm2\"]").unwrap();
    let mut rig = Rig::with(&config, &[LOG_A, (Kind::Terminal, "other"), VM2, VM1], 4096);
    assert_eq!(rig.shown(), "[console] vm1 (terminal 1 of 3); Ctrl-A ? lists the keys\r\n");
    rig.types(b"a\x012b\x013c");
    assert_eq!([3, 2, 1].map(|client| rig.given(client)), [b"a", b"b", b"c"]);
}

#[test]
fn lines_of_who_has_gone_are_all_there() {
    let mut rig = Rig::new(&[LOG_A, LOG_B], 1 << 16);
    rig.pipes.out.len = 64;
    let text: String = (0..500).map(|n| format!("line {n}\n")).collect();
    rig.pipes.from[0].write(text.as_bytes());
    rig.pipes.from[0].write(b"and the end");
    leaves(&mut rig, 0);
    assert!(rig.mux.open(Kind::Log, 0, "a"));
    rig.pipes.from[0].write(b"again\n");
    rig.pump();
    let want: String = text.lines().chain(["and the end", "again"]).map(|l| format!("[a] {l}\r\n")).collect();
    assert_eq!(rig.shown(), want);
    assert_eq!(rig.mux.logs.len(), 2);
}

#[test]
fn who_has_gone_makes_room() {
    let mut mux = Mux::new("console", &Config::default()).unwrap();
    let mut id = 0;
    for kind in [Kind::Log, Kind::Terminal] {
        for n in 0..3 * CLIENTS_MAX {
            id += 1;
            assert!(mux.open(kind, id, &format!("c{n}")), "{n}");
            mux.close(id, b"");
        }
        let living: Vec<bool> =
            (0..CLIENTS_MAX + 1).map(|n| mux.open(kind, 1000 * id + n as u64, &format!("d{n}"))).collect();
        assert!(living.iter().filter(|opened| !**opened).count() <= 2 && !living[CLIENTS_MAX], "{living:?}");
    }
    assert_eq!((mux.logs.len(), mux.terminals.len()), (CLIENTS_MAX, CLIENTS_MAX));
    assert!(mux.notices.iter().all(|n| n.contains("no room for d")));
}
