//! For inits whose configuration changes: who serves it, and components that say what they notice of it. And a parent that lies.
#![forbid(unsafe_code)]
extern crate rt;

mod liar;

use rpc::{Bytes, Cap, Signal};
use rt::dataspace::{Attached, attach, pd};
use rt::rpc::{Entrypoint, Held, Managed, raise};
use rt::session::{self, Refused, Request, Root};
use serde::Deserialize;
use services::report::{PART, ReportError};
use services::rm::Attr;
use services::{Dataspace, Report, ReportServer, Rom, RomClient, RomServer};
use std::error::Error;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often who notices something looks.
const LOOK: Duration = Duration::from_millis(20);
/// Stack of the entry point, in bytes.
const STACK: usize = 64 << 10;

/// What to be.
#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case", deny_unknown_fields)]
enum Config {
    /// Serves these texts, one after the other.
    Rom { texts: Vec<String>, every_ms: u64 },
    /// Serves an empty ROM of that size, by which it is known.
    Server { size: u64 },
    /// Says how much RAM it may use, and what else it was told, when that changes.
    Watch { word: String },
    /// Says by whom it is served.
    Client,
    /// Takes an init's reports, and says who is in them.
    Reports,
    /// Has children itself, and asks for them what it may not.
    Parent,
}

/// What of a report is looked at.
#[derive(Deserialize)]
struct State {
    child: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    name: String,
    state: String,
}

#[derive(Default)]
struct Reader {
    text: Vec<u8>,
    last: String,
}

impl Report for Reader {
    fn append(&mut self, part: Bytes<PART>) -> Result<(), ReportError> {
        self.text.extend_from_slice(part.as_slice());
        Ok(())
    }

    fn submit(&mut self) {
        let said = match settings::read::<State>(&std::mem::take(&mut self.text)) {
            Ok(state) => state.child.iter().map(|c| format!("{} {}", c.name, c.state)).collect::<Vec<_>>().join(", "),
            Err(e) => format!("FAILED: {e}"),
        };
        if said != self.last {
            println!("{said}");
            self.last = said;
        }
    }

    fn discard(&mut self) {
        self.text.clear();
    }
}

struct Readers;

impl Root for Readers {
    type Interface = dyn Report;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Report>, Refused> {
        println!("reports of {}", request.label.as_str());
        at.manage(ReportServer(Reader::default())).map_err(|_| Refused::Denied)
    }
}

/// What is served, for all sessions.
#[derive(Default)]
struct Content {
    text: Vec<u8>,
    size: u64,
    version: u64,
    signals: Vec<Held<Signal>>,
}

type Shared = Arc<Mutex<Content>>;

struct Session {
    content: Shared,
    /// What the client has, and of which version.
    given: Option<(Cap<dyn Dataspace>, u64)>,
    len: u64,
}

impl Session {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rom for Session {
    fn dataspace(&mut self) -> Option<Cap<dyn Dataspace>> {
        let (text, version) = {
            let content = self.content();
            (content.text.clone(), content.version)
        };
        let size = (text.len().max(1) as u64).next_multiple_of(4096);
        let cap = pd().alloc(size).ok()?.ok()?;
        put(&attach(cap, Attr::WRITE).ok()?, &text);
        if let Some((old, _)) = self.given.replace((cap, version)) {
            let _ = pd().free(old);
        }
        self.len = text.len() as u64;
        Some(cap)
    }

    fn size(&mut self) -> u64 {
        let size = self.content().size;
        if size != 0 { size } else { self.len }
    }

    fn sigh(&mut self, signal: Signal) {
        let held = Held::keep(signal);
        let _ = raise(signal);
        self.content().signals.push(held);
    }

    fn update(&mut self) -> bool {
        let version = self.content().version;
        self.given.is_some_and(|(_, given)| given == version)
    }
}

fn put(attached: &Attached, text: &[u8]) {
    for (word, bytes) in attached.words().iter().zip(text.chunks(8)) {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_le_bytes(all), Ordering::Relaxed);
    }
}

struct Roms(Shared);

impl Root for Roms {
    type Interface = dyn Rom;

    fn create(&mut self, at: Entrypoint, _: &Request) -> Result<Managed<dyn Rom>, Refused> {
        let session = Session { content: Arc::clone(&self.0), given: None, len: 0 };
        at.manage(RomServer(session)).map_err(|_| Refused::Denied)
    }
}

fn serve(content: Content) -> Result<Shared, Box<dyn Error>> {
    let content = Arc::new(Mutex::new(content));
    session::serve(entry_point()?, Roms(Arc::clone(&content)))?;
    Ok(content)
}

fn entry_point() -> Result<Entrypoint, String> {
    Entrypoint::new(rt::thread::cpu(), STACK).map_err(|e| format!("an entry point: {e:?}"))
}

fn change(content: &Shared, text: String) {
    let mut content = content.lock().unwrap_or_else(PoisonError::into_inner);
    content.text = text.into_bytes();
    content.version += 1;
    content.signals.iter().for_each(|signal| _ = raise(**signal));
}

fn rom(texts: Vec<String>, every: Duration) -> Result<(), Box<dyn Error>> {
    let mut texts = texts.into_iter().enumerate();
    let first = texts.next().map(|(_, text)| text.into_bytes()).unwrap_or_default();
    let content = serve(Content { text: first, ..Content::default() })?;
    for (number, text) in texts {
        std::thread::sleep(every);
        println!("version {number}");
        change(&content, text);
    }
    loop {
        std::thread::park();
    }
}

fn watch(word: &str) -> Result<(), Box<dyn Error>> {
    let mut before = 0;
    loop {
        let limit = pd().ram()?.limit >> 10;
        if limit != before {
            println!("{word}: {limit} KiB");
            before = limit;
        }
        std::thread::sleep(LOOK);
    }
}

fn client() -> Result<(), Box<dyn Error>> {
    loop {
        let session = session::open::<dyn Rom>("who", &[])?;
        let rom = RomClient::new(session.portal());
        println!("served by {}", rom.size()?);
        while rom.size().is_ok() {
            std::thread::sleep(LOOK);
        }
        println!("the server is gone");
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    match settings::read(rt::rom(parent::CONFIG_ROM).unwrap_or_default())? {
        Config::Rom { texts, every_ms } => rom(texts, Duration::from_millis(every_ms)),
        Config::Watch { word } => watch(&word),
        Config::Client => client(),
        Config::Parent => Ok(liar::main()?),
        Config::Reports => {
            session::serve(entry_point()?, Readers)?;
            loop {
                std::thread::park();
            }
        }
        Config::Server { size } => {
            let _content = serve(Content { size, ..Content::default() })?;
            loop {
                std::thread::park();
            }
        }
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("FAILED: {e}");
            ExitCode::FAILURE
        }
    }
}
