//! The root task's log: a bounded backlog, and the one place where its lines go.
//!
//! While no component has COM1 open this is the [`Console`]; then it is a session with the first provider of `log`, which a
//! thread of its own connects, and where it waits for space, so that nobody who logs ever waits for a component. In between,
//! and when there is no provider, lines stay in the backlog. What goes to COM1 is shown on the screen, too, if the machine
//! has one with text.
//!
//! Key type: [`Log`].

use crate::console::Console;
use crate::dataspaces::Memory;
use crate::link::LogLink;
use crate::own::Kept;
use crate::space::Nova;
use crate::window::Window;
use core_task_logic::backlog::Backlog;
use core_task_logic::screen::Screen;
use rpc::{Cap, Signal};
use rt::Semaphore;
use rt::rpc::{Held, Portal};
use services::{Log as Service, LogClient};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Label of the root task's own lines.
pub const LOG_LABEL: &str = "core";
/// Text that waits for a reader.
const BACKLOG_LEN: usize = 64 << 10;
/// How long the end of the system waits for its last lines.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it looks.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long it waits for what has left the session: the lines of others in their rings and the buffers of console and
/// UART, some 20 KiB, take that long at 115200 baud.
const SETTLE: Duration = Duration::from_millis(2000);

enum Sink {
    /// Nobody yet, or nobody any more.
    None,
    Console(Console),
    Session(LogLink),
}

struct State {
    backlog: Backlog,
    sink: Sink,
    /// A session that is to be connected.
    provider: Option<Arc<Kept>>,
    /// What the provider of a session that is over had not taken.
    unread: String,
    /// Shows what goes to COM1.
    screen: Option<(Screen, &'static [AtomicU16])>,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    nova: Nova,
    state: Arc<Mutex<State>>,
    /// Upped for new lines and sessions and, by the provider, for new space.
    wake: Arc<Semaphore>,
    reach: Arc<OnceLock<(&'static Memory, &'static Window)>>,
}

impl Log {
    /// A log on COM1.
    pub fn new(nova: Nova) -> Log {
        let sink = Console::open(nova).map_or(Sink::None, Sink::Console);
        let state =
            State { backlog: Backlog::new(BACKLOG_LEN), sink, provider: None, unread: String::new(), screen: None };
        Log { nova, state: Arc::new(Mutex::new(state)), wake: Arc::new(Semaphore::new(0)), reach: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs for the root task.
    pub fn line(&self, text: impl AsRef<str>) {
        self.line_of(LOG_LABEL, text.as_ref());
    }

    /// Logs for somebody else.
    pub fn line_of(&self, label: &str, text: &str) {
        let mut state = self.state();
        state.backlog.push(label, text);
        match state.sink {
            Sink::None => {}
            Sink::Console(_) => state.pump(),
            // Never from here: what the peer makes of the ring is nothing for callers, which may be components.
            Sink::Session(_) => self.wake.up(),
        }
    }

    /// The same for several lines.
    pub fn lines_of(&self, label: &str, text: &str) {
        text.lines().for_each(|line| self.line_of(label, line));
    }

    /// For text that std prints, which may be a panic of a thread that is in here already: past the lock if it is
    /// held, and then to COM1 whoever owns it.
    fn last_words(&self, text: &str) {
        match self.state.try_lock() {
            Ok(mut state) => {
                state.backlog.push(LOG_LABEL, text);
                match state.sink {
                    Sink::Session(_) => self.wake.up(),
                    _ => state.pump(),
                }
            }
            Err(_) => {
                if let Some(mut console) = Console::open(self.nova) {
                    console.write(&format!("[{LOG_LABEL}] {text}\r\n"));
                }
            }
        }
    }

    /// Has stdout and stderr, and with them panics, end up here.
    pub fn take_output(&self) {
        static LOG: OnceLock<Log> = OnceLock::new();
        if LOG.set(self.clone()).is_ok() {
            rt::root::set_log(|text| {
                if let Some(log) = LOG.get() {
                    log.last_words(&String::from_utf8_lossy(text));
                }
            });
        }
    }

    /// Shows what goes to COM1 on the screen with these cells, too.
    pub fn use_screen(&self, cells: &'static [AtomicU16]) {
        let mut screen = Screen::new();
        screen.clear(&mut |i, c| put(cells, i, c));
        self.state().screen = Some((screen, cells));
    }

    /// Where the rings of sessions are.
    pub fn reach(&self, memory: &'static Memory, window: &'static Window) {
        let _ = self.reach.set((memory, window));
    }

    /// Leaves COM1 alone from now on; `false`: it does so already.
    pub fn release_console(&self) -> bool {
        let mut state = self.state();
        let had = matches!(state.sink, Sink::Console(_));
        if had {
            state.sink = Sink::None;
        }
        had
    }

    /// There is a session with a provider of the log: lines go there as soon as it is connected.
    pub fn provider(&self, kept: Arc<Kept>) {
        self.state().provider = Some(kept);
        self.wake.up();
    }

    /// Whether there is a session with a provider.
    pub fn has_provider(&self) -> bool {
        let state = self.state();
        state.provider.is_some() || matches!(state.sink, Sink::Session(_))
    }

    /// The session is over, and nobody takes anything out of its ring any more: what is left there is said again.
    pub fn provider_gone(&self) {
        let mut state = self.state();
        state.provider = None;
        state.end_session();
    }

    /// Writes to COM1 from now on, whoever had it; first what the provider did not take.
    pub fn use_console(&self) {
        let mut state = self.state();
        if matches!(state.sink, Sink::Console(_)) {
            return;
        }
        let Some(console) = Console::open(self.nova) else { return };
        state.provider = None;
        state.end_session();
        state.sink = Sink::Console(console);
        state.pump();
    }

    /// Connects a session. In the thread of the log, as the provider may take its time.
    fn connect(&self) {
        let Some(kept) = self.state().provider.clone() else { return };
        let Some(link) = self.link(&kept) else { return };
        let mut state = self.state();
        // It may be over already, or another one.
        if state.provider.take_if(|p| Arc::ptr_eq(p, &kept)).is_some() && !matches!(state.sink, Sink::Console(_)) {
            state.sink = Sink::Session(link);
        }
    }

    fn link(&self, kept: &Kept) -> Option<LogLink> {
        let (memory, window) = self.reach.get()?;
        let client = LogClient::new(Portal::to(Cap::<dyn Service>::from_sel(kept.cap().sel())));
        let wake = self.wake.sel();
        let (rings, theirs) = client.connect(Signal { context: wake, bell: wake }).ok()?.ok()?;
        LogLink::new(window, memory.pin(*Held::adopt(rings))?, Held::adopt(theirs))
    }

    /// Starts the thread that feeds the session.
    pub fn start(&self) -> std::io::Result<()> {
        let log = self.clone();
        let feed = move || {
            loop {
                log.wake.down_zero();
                log.connect();
                log.state().pump();
            }
        };
        std::thread::Builder::new().name("log".into()).spawn(feed).map(drop)
    }

    /// Waits until all is on its way out, for a bounded time; what is left then goes to COM1.
    pub fn drain(&self) {
        let end = Instant::now() + DRAIN;
        while !self.state().drained() && Instant::now() < end {
            std::thread::sleep(DRAIN_STEP);
        }
        if self.state().drained() {
            std::thread::sleep(SETTLE);
        } else {
            self.use_console();
        }
    }
}

fn put(cells: &[AtomicU16], i: usize, c: u16) {
    if let Some(cell) = cells.get(i) {
        cell.store(c, Ordering::Relaxed);
    }
}

impl State {
    /// What is left of a session goes in front of all other lines.
    fn end_session(&mut self) {
        match std::mem::replace(&mut self.sink, Sink::None) {
            Sink::Session(link) => self.unread.push_str(&link.into_unread()),
            other => self.sink = other,
        }
    }

    /// Moves as many lines as fit.
    fn pump(&mut self) {
        loop {
            match &mut self.sink {
                Sink::None => return,
                Sink::Console(console) if !self.unread.is_empty() => {
                    let unread = std::mem::take(&mut self.unread);
                    unread.lines().for_each(|l| console.write(&format!("[{LOG_LABEL}] {l}\r\n")));
                }
                Sink::Console(console) => match self.backlog.pop() {
                    Some(line) => {
                        let text = line.on_console();
                        console.write(&text);
                        if let Some((screen, cells)) = &mut self.screen {
                            screen.write(&text, &mut |i, c| put(cells, i, c));
                        }
                    }
                    None => return,
                },
                Sink::Session(link) => {
                    if !self.unread.is_empty() {
                        link.put(&std::mem::take(&mut self.unread));
                    }
                    if !link.flush() {
                        return;
                    }
                    match self.backlog.pop() {
                        Some(line) => link.put(&line.in_session(LOG_LABEL)),
                        None => return,
                    }
                }
            }
        }
    }

    fn drained(&mut self) -> bool {
        self.pump();
        match &mut self.sink {
            Sink::None => false,
            Sink::Console(_) => true,
            Sink::Session(link) => link.drained(),
        }
    }
}
