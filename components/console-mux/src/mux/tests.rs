//! The multiplexer among streams that are bounded and signal only when they must.

use proptest::prelude::*;

use super::*;
use crate::client::LINE_MAX;
use crate::screen::OUT_MAX;
use crate::terminal::KEYS_MAX;

/// A bounded stream that, like a ring, signals only when the other side may be waiting for it.
#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    len: usize,
    /// The reader saw it empty, or the writer saw it full.
    waited_for: bool,
}

impl Pipe {
    fn new(len: usize) -> Pipe {
        Pipe { len, ..Pipe::default() }
    }

    fn read(&mut self, buf: &mut [u8]) -> usize {
        let n = buf.len().min(self.bytes.len());
        buf.iter_mut().zip(self.bytes.drain(..n)).for_each(|(to, from)| *to = from);
        self.waited_for |= n < buf.len();
        n
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.len - self.bytes.len());
        self.bytes.extend(&bytes[..n]);
        self.waited_for |= n < bytes.len();
        n
    }
}

struct Pipes {
    from: Vec<Pipe>,
    to: Vec<Pipe>,
    keys: Pipe,
    out: Pipe,
}

impl Streams for Pipes {
    fn read_client(&mut self, client: u64, buf: &mut [u8]) -> usize {
        self.from[client as usize].read(buf)
    }
    fn write_client(&mut self, client: u64, bytes: &[u8]) -> usize {
        self.to[client as usize].write(bytes)
    }
    fn read_keys(&mut self, buf: &mut [u8]) -> usize {
        self.keys.read(buf)
    }
    fn write_out(&mut self, bytes: &[u8]) -> usize {
        self.out.write(bytes)
    }
}

struct Rig {
    mux: Mux,
    pipes: Pipes,
    screen: Vec<u8>,
}

impl Rig {
    fn new(kinds: &[(Kind, &str)], pipe_len: usize) -> Rig {
        Rig::with(&Config::default(), kinds, pipe_len)
    }

    fn with(config: &Config, kinds: &[(Kind, &str)], pipe_len: usize) -> Rig {
        let mut mux = Mux::new("console", config).unwrap();
        for (id, (kind, name)) in kinds.iter().enumerate() {
            assert!(mux.open(*kind, id as u64, name));
        }
        let pipes = |_| (0..kinds.len()).map(|_| Pipe::new(pipe_len)).collect();
        let pipes = Pipes { from: pipes(0), to: pipes(1), keys: Pipe::new(pipe_len), out: Pipe::new(pipe_len) };
        let mut rig = Rig { mux, pipes, screen: Vec::new() };
        rig.pump();
        rig
    }

    fn pump(&mut self) {
        while self.mux.pump(&mut self.pipes) {}
    }

    /// Types keys, all of which fit, and looks.
    fn types(&mut self, keys: &[u8]) {
        assert_eq!(self.pipes.keys.write(keys), keys.len());
        self.pump();
    }

    /// What came on the screen since the last call.
    fn shown(&mut self) -> String {
        self.drain();
        String::from_utf8(std::mem::take(&mut self.screen)).unwrap()
    }

    /// All that the client was given.
    fn given(&mut self, client: usize) -> Vec<u8> {
        self.pipes.to[client].bytes.drain(..).collect()
    }

    /// A client writes, all of what fits, and signals if the multiplexer may be asleep; returns what fitted.
    fn client_writes(&mut self, client: usize, bytes: &[u8]) -> usize {
        let pipe = &mut self.pipes.from[client];
        let signal = std::mem::take(&mut pipe.waited_for);
        let n = pipe.write(bytes);
        pipe.waited_for = false;
        if signal && n > 0 {
            self.pump();
        }
        n
    }

    /// The terminal below takes up to `count` bytes, and signals when it has room again.
    fn take_output(&mut self, count: usize) -> bool {
        let out = &mut self.pipes.out;
        let (n, half) = (count.min(out.bytes.len()), out.len / 2);
        let signal = out.bytes.len() > half && out.bytes.len() - n <= half;
        self.screen.extend(out.bytes.drain(..n));
        if signal && std::mem::take(&mut out.waited_for) {
            self.pump();
        }
        n > 0
    }

    fn drain(&mut self) -> &str {
        while self.take_output(usize::MAX) {}
        std::str::from_utf8(&self.screen).unwrap()
    }
}

const LOG_A: (Kind, &str) = (Kind::Log, "a");
const LOG_B: (Kind, &str) = (Kind::Log, "b");
const TERMINAL: (Kind, &str) = (Kind::Terminal, "vm");

#[test]
fn logs_are_labelled_and_terminals_raw() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL, LOG_B], 4096);
    rig.client_writes(0, b"one\ntw");
    rig.client_writes(1, b"\x1b[1mhi\x1b[0m\r\n");
    rig.client_writes(2, b"three\n");
    rig.client_writes(0, b"o\n");
    assert_eq!(rig.drain(), "[a] one\r\n\x1b[1mhi\x1b[0m\r\n[b] three\r\n[a] two\r\n");
}

#[test]
fn a_shell_prompt_survives_a_burst_of_log_lines() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL], 4096);
    rig.client_writes(1, b"~ # ec");
    rig.client_writes(0, b"1\n2\n3\n");
    rig.client_writes(1, b"ho");
    assert_eq!(rig.drain(), "~ # ec\r\n[a] 1\r\n[a] 2\r\n[a] 3\r\n~ # echo");
}

#[test]
fn a_log_line_waits_for_the_end_of_a_terminal_line_that_is_at_hand() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL], 2048);
    rig.client_writes(1, b"begin ");
    // Both arrive while the multiplexer is not looking.
    rig.pipes.from[0].write(b"log\n");
    rig.pipes.from[1].write(b"and end\r\n~ # ");
    rig.pump();
    assert_eq!(rig.drain(), "begin and end\r\n[a] log\r\n~ # ");
}

#[test]
fn a_line_without_end_does_not_hold_up_the_log() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL], 1 << 20);
    rig.pipes.from[1].write(&[b'x'; 100_000]);
    rig.pipes.from[0].write(b"log\n");
    rig.pump();
    let at = rig.drain().find("[a] log").unwrap();
    assert!(at < 2 * LINE_MAX, "{at}");
}

#[test]
fn long_log_lines_come_in_pieces() {
    let mut rig = Rig::new(&[LOG_A], 4096);
    let text = "x".repeat(LINE_MAX);
    rig.client_writes(0, format!("{text}yz\n").as_bytes());
    assert_eq!(rig.drain(), format!("[a] {text}\r\n[a] yz\r\n"));
}

#[test]
fn keys_go_to_the_first_terminal() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL, (Kind::Terminal, "vm2")], 4096);
    rig.types(b"ls\r");
    assert_eq!(rig.given(1), b"ls\r");
    assert!(rig.given(0).is_empty() && rig.given(2).is_empty());
}

#[test]
fn keys_wait_for_a_busy_terminal_and_are_not_lost() {
    let mut rig = Rig::new(&[TERMINAL], 32);
    let typed: Vec<u8> = (0..KEYS_MAX).map(|n| b'a' + (n % 26) as u8).collect();
    let mut rest = &typed[..];
    let mut got: Vec<u8> = Vec::new();
    while got.len() < typed.len() {
        rest = &rest[rig.pipes.keys.write(rest)..];
        rig.pump();
        let mut buf = [0; 7];
        let n = rig.pipes.to[0].read(&mut buf);
        got.extend(&buf[..n]);
    }
    assert_eq!(got, typed);
}

#[test]
fn keys_for_nobody_are_dropped() {
    let mut rig = Rig::new(&[LOG_A], 4096);
    rig.types(&[b'k'; 1000]);
    assert!(rig.pipes.keys.bytes.is_empty());
    assert!(rig.mux.typed.is_empty());
}

#[test]
fn a_stopped_terminal_stops_the_clients_in_bounded_memory() {
    let mut rig = Rig::new(&[LOG_A, TERMINAL], 1 << 20);
    rig.pipes.out.len = 0;
    rig.pipes.from[0].write(&b"line\n".repeat(10_000));
    rig.pipes.from[1].write(&[b'x'; 50_000]);
    rig.pump();
    let left: usize = rig.pipes.from.iter().map(|p| p.bytes.len()).sum();
    assert!(left >= 100_000 - OUT_MAX - 2 * LINE_MAX, "{left}");
    rig.pipes.out.len = 1 << 20;
    rig.pump();
    let screen = rig.drain();
    assert_eq!(screen.matches("[a] line\r\n").count(), 10_000);
    assert!(screen.matches('x').count() >= 50_000);
}

#[test]
fn everybody_gets_a_share_of_a_slow_terminal() {
    let mut rig = Rig::new(&[LOG_A, LOG_B, TERMINAL], 1 << 20);
    rig.pipes.out.len = 64;
    rig.pipes.from[0].write(&format!("{}\n", "a".repeat(99)).repeat(1000).into_bytes());
    rig.pipes.from[1].write(&format!("{}\n", "b".repeat(99)).repeat(1000).into_bytes());
    rig.pipes.from[2].write(&b"tttttttttttttt\r\n".repeat(10_000));
    rig.pump();
    while rig.screen.len() < 50_000 {
        assert!(rig.take_output(16));
    }
    let count = |c: u8| rig.screen.iter().filter(|&&b| b == c).count();
    let (a, b, t) = (count(b'a'), count(b'b'), count(b't'));
    assert!(a.abs_diff(b) <= 300, "{a} {b} {t}");
    assert!(a >= 8_000 && t >= 8_000, "{a} {b} {t}");
}

#[derive(Clone, Debug)]
enum Step {
    /// Client, number of bytes of its stream.
    Write(usize, usize),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![(0..3usize, 1..60usize).prop_map(|(c, n)| Step::Write(c, n)), (1..120usize).prop_map(Step::Take)]
}

/// What a client sends: numbered lines; a full stop ends each.
fn text(client: usize, lines: usize) -> String {
    let end = if client == 2 { "\r\n" } else { "\n" };
    (0..lines).map(|n| format!("c{client} n{n} {}.{end}", "x".repeat(n * 7 % 50))).collect()
}

/// The rows on the screen after `bytes`; each \r of the test is at the end of one.
fn rows(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.split('\n').map(|row| row.trim_end_matches('\r').into()).collect()
}

proptest! {
    /// Whatever the timing: each log line is a row of its own, in order; each terminal line too, and what of it was
    /// printed before a log line came in between is repeated. And nobody is forgotten.
    #[test]
    fn rows_are_whole_and_in_order(steps in prop::collection::vec(step(), 1..300), pipe_len in 16..600usize) {
        let mut rig = Rig::new(&[LOG_A, LOG_B, TERMINAL], pipe_len);
        let streams: Vec<String> = (0..3).map(|c| text(c, 100)).collect();
        let mut sent = [0; 3];
        for step in steps {
            match step {
                Step::Write(c, n) => {
                    let rest = &streams[c].as_bytes()[sent[c]..];
                    sent[c] += rig.client_writes(c, &rest[..n.min(rest.len())]);
                }
                Step::Take(n) => { rig.take_output(n); }
            }
        }
        // Everybody finishes, by signals alone.
        while (0..3).any(|c| sent[c] < streams[c].len()) {
            for c in 0..3 {
                sent[c] += rig.client_writes(c, &streams[c].as_bytes()[sent[c]..]);
            }
            rig.take_output(50);
        }
        rig.drain();
        let rows = rows(&rig.screen);
        for (c, label) in [(0, "[a] "), (1, "[b] ")] {
            let logged: String = rows.iter().filter_map(|r| r.strip_prefix(label)).map(|r| format!("{r}\n")).collect();
            prop_assert_eq!(&logged, &streams[c]);
        }
        let terminal: Vec<&String> = rows.iter().filter(|r| !r.starts_with('[') && !r.is_empty()).collect();
        let whole: String = terminal.iter().filter(|r| r.ends_with('.')).map(|r| format!("{r}\r\n")).collect();
        // A line that was broken off between its full stop and its end appears twice.
        let mut lines: Vec<&str> = whole.split_inclusive("\r\n").collect();
        lines.dedup();
        prop_assert_eq!(lines.concat(), &streams[2][..]);
        for pair in terminal.windows(2).filter(|p| !p[0].ends_with('.')) {
            prop_assert!(pair[1].starts_with(pair[0].as_str()), "{:?}", pair);
        }
    }
}

mod views;
