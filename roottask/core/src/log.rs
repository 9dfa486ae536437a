//! The root task's log: a bounded backlog, and the one place where its lines go.
//!
//! While no component owns COM1 this is the [`Console`]; then it is a channel to the first provider of `log`, where a
//! thread of its own waits for space, so that nobody who logs ever waits for a component. In between, and when there
//! is no provider, lines stay in the backlog. What goes to COM1 is shown on the screen, too, if the machine has one with text.
//!
//! Key type: [`Log`].

use crate::console::Console;
use crate::link::LogLink;
use crate::space::Nova;
use core_task_logic::backlog::Backlog;
use core_task_logic::screen::Screen;
use policy::LOG_LABEL;
use rt::Semaphore;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Text that waits for a reader.
const BACKLOG_LEN: usize = 64 << 10;
/// How long the end of the system waits for its last lines.
const DRAIN: Duration = Duration::from_secs(2);
/// How often it looks.
const DRAIN_STEP: Duration = Duration::from_millis(10);
/// How long it waits for what has left the channel: the lines of others in their rings and the buffers of console and
/// UART, some 20 KiB, take that long at 115200 baud.
const SETTLE: Duration = Duration::from_millis(2000);

enum Sink {
    /// Nobody yet, or nobody any more.
    None,
    Console(Console),
    Channel(LogLink),
}

struct State {
    backlog: Backlog,
    sink: Sink,
    /// Shows what goes to COM1.
    screen: Option<(Screen, &'static [AtomicU16])>,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    nova: Nova,
    state: Arc<Mutex<State>>,
    /// Upped for new lines and, by the other end of the channel, for new space.
    wake: Arc<Semaphore>,
}

impl Log {
    /// A log on COM1.
    pub fn new(nova: Nova) -> Log {
        let sink = Console::open(nova).map_or(Sink::None, Sink::Console);
        let state = Arc::new(Mutex::new(State { backlog: Backlog::new(BACKLOG_LEN), sink, screen: None }));
        Log { nova, state, wake: Arc::new(Semaphore::new(0)) }
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
            Sink::Channel(_) => self.wake.up(),
        }
    }

    /// For text that std prints, which may be a panic of a thread that is in here already: past the lock if it is
    /// held, and then to COM1 whoever owns it.
    fn last_words(&self, text: &str) {
        match self.state.try_lock() {
            Ok(mut state) => {
                state.backlog.push(LOG_LABEL, text);
                match state.sink {
                    Sink::Channel(_) => self.wake.up(),
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

    /// Leaves COM1 alone from now on.
    pub fn release_console(&self) {
        self.state().sink = Sink::None;
    }

    /// Writes to a channel from now on.
    pub fn use_link(&self, link: LogLink) {
        self.state().sink = Sink::Channel(link);
        self.wake.up();
    }

    /// Writes to COM1 from now on, whoever had it; first what the channel's other end did not take.
    pub fn use_console(&self) {
        let mut state = self.state();
        if matches!(state.sink, Sink::Console(_)) {
            return;
        }
        let Some(mut console) = Console::open(self.nova) else { return };
        if let Sink::Channel(link) = std::mem::replace(&mut state.sink, Sink::None) {
            link.into_unread().lines().for_each(|l| console.write(&format!("[{LOG_LABEL}] {l}\r\n")));
        }
        state.sink = Sink::Console(console);
        state.pump();
    }

    /// The semaphore on which we wait as a client of the log channel.
    pub fn wake_selector(&self) -> abi::Sel {
        self.wake.sel()
    }

    /// Starts the thread that feeds the channel.
    pub fn start(&self) -> std::io::Result<()> {
        let log = self.clone();
        let feed = move || {
            loop {
                log.wake.down_zero();
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
    /// Moves as many lines as fit.
    fn pump(&mut self) {
        loop {
            match &mut self.sink {
                Sink::None => return,
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
                Sink::Channel(link) => {
                    if !link.flush() {
                        return;
                    }
                    match self.backlog.pop() {
                        Some(line) => link.put(&line.on_channel(LOG_LABEL)),
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
            Sink::Channel(link) => link.drained(),
        }
    }
}
