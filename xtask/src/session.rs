//! A running emulator: its process group, and the serial line as text to search and to write to.
//!
//! Whatever happens, no emulator is left behind: dropping a [`Session`] kills it, SIGINT, SIGTERM and SIGHUP kill all of
//! them (and remove their files), and the kernel kills them when we die. While gdb has the terminal, SIGINT is for gdb.
//!
//! Key types: [`Session`], [`Fault`].

use crate::emulator::{Debugger, End, Machine};
use crate::{terminal, tree};
use anyhow::{Context, Result, bail};
use regex::bytes::Regex;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an emulator may take to offer its serial line.
const CONNECT: Duration = Duration::from_secs(30);
/// How often we look whether the emulator has ended.
const POLL: Duration = Duration::from_millis(20);
/// How long the rest of the serial line may take to arrive after the emulator's end.
const DRAIN: Duration = Duration::from_secs(2);

/// Why an expectation was not met.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The text did not come in time.
    #[error("{0} s passed without it")]
    Timeout(u64),
    /// It was on all the time.
    #[error("the machine was not switched off within {0} s")]
    StillOn(u64),
    /// The serial line was closed before.
    #[error("the machine ended before it")]
    Ended,
    /// What must not come came first.
    #[error("{0:?} came, which must not")]
    Unwanted(String),
}

/// A TCP port that is free now. The emulator cannot choose one itself.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

#[derive(Default)]
struct Serial {
    text: Vec<u8>,
    closed: bool,
}

/// What the reader thread and the session share.
#[derive(Default)]
struct Shared {
    serial: Mutex<Serial>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Serial> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, bytes: &[u8]) {
        self.lock().text.extend_from_slice(bytes);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }
}

/// A running emulator.
pub struct Session {
    machine: Machine,
    child: Child,
    socket: TcpStream,
    shared: Arc<Shared>,
    /// Where in the serial text the next expectation begins.
    cursor: usize,
    /// CPU time of the emulator when we last looked.
    cpu: Duration,
    /// The serial text, as a file.
    pub log: PathBuf,
}

impl Session {
    /// Starts the machine. Serial output goes to `serial.log` in the machine's directory, and to `copy`.
    pub fn start(machine: Machine, copy: impl Write + Send + 'static) -> Result<Session> {
        groups::kill_all_on_signals();
        let out = |name: &str| File::create(machine.dir.join(name)).with_context(|| format!("creating {name}"));
        let mut command = machine.command()?;
        command.stdout(out("emulator.out")?).stderr(out("emulator.err")?).process_group(0);
        if machine.debugger == Debugger::Prompt {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        }
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        groups::add(child.id());
        let mut guard = Unconnected(Some(child));
        let socket = connect(&machine, guard.0.as_mut().context("no child")?)?;
        machine.started(&said(&machine));
        let child = guard.0.take().context("no child")?;
        let log = machine.dir.join("serial.log");
        let shared = Arc::new(Shared::default());
        spawn_reader(socket.try_clone()?, shared.clone(), File::create(&log)?, copy);
        Ok(Session { machine, child, socket, shared, cursor: 0, log, cpu: Duration::ZERO })
    }

    /// Waits until the text after the last match matches; returns the match.
    pub fn expect(&mut self, pattern: &Regex, deadline: Instant) -> Result<String, Fault> {
        self.expect_before(pattern, &[], deadline)
    }

    /// The same, but gives up as soon as a line after the last match has what must `never` come. A line that is not
    /// complete is looked at when no more comes: what is in it may be only a part of something else.
    pub fn expect_before(&mut self, pattern: &Regex, never: &[&Regex], deadline: Instant) -> Result<String, Fault> {
        let began = Instant::now();
        let mut serial = self.shared.lock();
        // Where the first line begins that was not complete.
        let mut looked_at = 0;
        loop {
            let text = &serial.text[self.cursor..];
            let left = deadline.saturating_duration_since(Instant::now());
            let found = pattern.find(text);
            let before = match found {
                Some(m) => m.start(),
                None if serial.closed || left.is_zero() => text.len(),
                None => text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1),
            };
            let new = &text[looked_at.min(before)..before];
            if let Some(m) = never.iter().find_map(|n| n.find(new)) {
                return Err(Fault::Unwanted(String::from_utf8_lossy(m.as_bytes()).into_owned()));
            }
            looked_at = before;
            if let Some(m) = found {
                let text = String::from_utf8_lossy(m.as_bytes()).into_owned();
                self.cursor += m.end();
                return Ok(text);
            }
            if serial.closed {
                return Err(Fault::Ended);
            }
            if left.is_zero() {
                return Err(Fault::Timeout(began.elapsed().as_secs()));
            }
            serial = self.shared.changed.wait_timeout(serial, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types text.
    pub fn send(&mut self, text: &[u8]) -> Result<()> {
        self.socket.write_all(text).context("writing to the serial line")
    }

    /// A second handle to type with.
    pub fn keyboard(&self) -> Result<TcpStream> {
        Ok(self.socket.try_clone()?)
    }

    /// All serial text so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().text).into_owned()
    }

    /// Waits for the emulator to end by itself; `None` if it has not by the deadline.
    pub fn wait(&mut self, deadline: Option<Instant>) -> Result<Option<End>> {
        loop {
            self.sample();
            if let Some(status) = self.child.try_wait()? {
                groups::remove(self.child.id());
                self.drain();
                return Ok(Some(self.machine.end(status, &said(&self.machine))));
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Both ends of its debugger, once, if that waits for commands.
    pub fn prompt(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// What the emulator printed on its standard output: the debugger's answers.
    pub fn output(&self) -> Result<String> {
        tree::read_text(&self.machine.dir.join("emulator.out"))
    }

    /// CPU time that the emulator has used.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = tree::read_text(Path::new(&format!("/proc/{}/stat", self.child.id())))?;
        cpu_time(&stat).context("the emulator's line in /proc is not understood")
    }

    /// The same when we last looked: of an emulator that has ended.
    pub fn cpu_used(&self) -> Duration {
        self.cpu
    }

    fn sample(&mut self) {
        self.cpu = self.cpu_time().unwrap_or(self.cpu);
    }

    /// Ends the emulator now.
    pub fn kill(&mut self) {
        self.sample();
        kill_and_reap(&mut self.child);
    }

    fn drain(&self) {
        let serial = self.shared.lock();
        let _ = self.shared.changed.wait_timeout_while(serial, DRAIN, |s| !s.closed);
    }
}

/// utime and stime of /proc/PID/stat (proc(5)): the 14th and 15th word, in clock ticks. The second word is the program's
/// name in parentheses, and may hold anything.
fn cpu_time(stat: &str) -> Option<Duration> {
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = words.get(11)?.parse::<u64>().ok()? + words.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

impl Drop for Session {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A child that dies with it, until someone takes it out.
struct Unconnected(Option<Child>);

impl Drop for Unconnected {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            kill_and_reap(child);
        }
    }
}

fn kill_and_reap(child: &mut Child) {
    if groups::remove(child.id()) {
        groups::kill(child.id());
        let _ = child.wait();
    }
}

/// What the emulator has written to its standard error.
fn said(machine: &Machine) -> String {
    let bytes = std::fs::read(machine.dir.join("emulator.err")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn connect(machine: &Machine, child: &mut Child) -> Result<TcpStream> {
    let deadline = Instant::now() + CONNECT;
    loop {
        if let Ok(s) = TcpStream::connect((Ipv4Addr::LOCALHOST, machine.port)) {
            s.set_nodelay(true)?;
            return Ok(s);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the emulator did not start ({status}): {}", said(machine).trim());
        }
        if Instant::now() >= deadline {
            bail!("the emulator offered no serial line within {} s", CONNECT.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

fn spawn_reader(mut socket: TcpStream, shared: Arc<Shared>, mut log: File, mut copy: impl Write + Send + 'static) {
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = socket.read(&mut buf) {
            // A full disk or a closed terminal must not end the test.
            let _ = log.write_all(&buf[..n]);
            let _ = copy.write_all(&buf[..n]).and_then(|()| copy.flush());
            shared.put(&buf[..n]);
        }
        shared.close();
    });
}

/// From now on Ctrl-C is gdb's, which shares our terminal.
pub fn leave_interrupts_to_gdb() {
    groups::INTERRUPTS_ARE_GDBS.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Process groups of the running emulators.
mod groups {
    use super::*;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, Ordering};

    static ALL: Mutex<Vec<u32>> = Mutex::new(Vec::new());

    fn all() -> MutexGuard<'static, Vec<u32>> {
        ALL.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(pid: u32) {
        all().push(pid);
    }

    /// Whether it was there: a process that was waited for must not be killed, its number may be another's now.
    pub fn remove(pid: u32) -> bool {
        let mut list = all();
        let before = list.len();
        list.retain(|&p| p != pid);
        list.len() < before
    }

    pub fn kill(pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// Whether SIGINT is not for us.
    pub static INTERRUPTS_ARE_GDBS: AtomicBool = AtomicBool::new(false);

    fn end(signal: i32) {
        if signal == SIGINT && INTERRUPTS_ARE_GDBS.load(Ordering::Relaxed) {
            return;
        }
        all().iter().for_each(|&p| kill(p));
        terminal::restore();
        tree::remove_run_dirs();
        // As shells have it.
        std::process::exit(128 + signal);
    }

    pub fn kill_all_on_signals() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // It fails only for signals that cannot be caught.
            let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
            std::thread::spawn(move || signals.forever().for_each(end));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let (a, b) = (free_port().unwrap(), free_port().unwrap());
        assert_ne!(a, b);
        assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, a)).is_ok());
    }

    #[test]
    fn cpu_time_is_the_14th_and_15th_word() {
        let stat = "17 (a) b) S 1 17 17 0 -1 4194304 141 0 0 0 250 150 0 0 20 0 1 0 100";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(400_000 / rustix::param::clock_ticks_per_second())));
        assert_eq!(cpu_time("17 (sh) S 1"), None);
        assert!(cpu_time(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some());
    }

    #[test]
    fn groups_are_removed_once() {
        groups::add(u32::MAX);
        assert!(groups::remove(u32::MAX));
        assert!(!groups::remove(u32::MAX));
    }

    /// A session on a shell instead of an emulator: the other end of the socket is ours.
    fn session() -> (Session, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = listener.accept().unwrap().0;
        let child = crate::exec::command("sleep").arg("60").process_group(0).spawn().unwrap();
        groups::add(child.id());
        let shared = Arc::new(Shared::default());
        let machine = Machine {
            platform: crate::platform::Platform::load("bochs").unwrap(),
            iso: PathBuf::new(),
            dir: std::env::temp_dir(),
            port: 0,
            debugger: Debugger::Off,
        };
        let log = tree::build_dir("unit-tests").unwrap().join(format!("serial-{}.log", child.id()));
        spawn_reader(socket.try_clone().unwrap(), shared.clone(), File::create(&log).unwrap(), std::io::sink());
        (Session { machine, child, socket, shared, cursor: 0, cpu: Duration::ZERO, log }, peer)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn expectations_go_forward_through_the_text() {
        let (mut s, mut peer) = session();
        peer.write_all(b"one two one three").unwrap();
        let re = |t: &str| Regex::new(t).unwrap();
        assert_eq!(s.expect(&re("t.o"), soon()).unwrap(), "two");
        assert_eq!(s.expect(&re("one"), soon()).unwrap(), "one");
        let now = Instant::now() + Duration::from_millis(50);
        assert!(matches!(s.expect(&re("one"), now), Err(Fault::Timeout(0))), "the second one is behind us");
        assert_eq!(s.text(), "one two one three");
        assert_eq!(s.expect_before(&re("th"), &[&re("re")], soon()).unwrap(), "th", "it came first");
        let now = Instant::now() + Duration::from_millis(50);
        let unwanted = |s: &mut Session, never: &str, deadline| {
            let never = [&re("five"), &re(never)];
            matches!(s.expect_before(&re("four"), &never, deadline), Err(Fault::Unwanted(_)))
        };
        assert!(unwanted(&mut s, "re.", now), "at the end of a line that is not complete");
        peer.write_all(b"n\r\nrest").unwrap();
        assert!(unwanted(&mut s, "een", soon()), "at once");
        let now = Instant::now() + Duration::from_millis(50);
        assert!(!unwanted(&mut s, "re$", now), "there was more in that line");
        drop(peer);
        assert!(matches!(s.expect(&re("never"), soon()), Err(Fault::Ended)));
        std::fs::remove_file(&s.log).unwrap();
    }

    #[test]
    fn text_is_typed_and_an_emulator_is_killed_when_dropped() {
        let (mut s, mut peer) = session();
        s.send(b"ls\n").unwrap();
        let mut buf = [0; 3];
        peer.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"ls\n");
        assert_eq!(s.wait(Some(Instant::now())).unwrap(), None);
        let pid = Pid::from_raw(i32::try_from(s.child.id()).unwrap()).unwrap();
        std::fs::remove_file(&s.log).unwrap();
        drop(s);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
