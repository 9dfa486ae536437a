//! Wiring of the ROMs out of an image: the ROM with the image, and the sessions of service `rom`.

use ::session::Label;
use fs_rom_logic::{Config, Entry, FileError, Image};
use rpc::{Cap, Signal};
use rt::roms::{self, Donations, Shown, Sink};
use rt::rpc::{Entrypoint, Managed};
use rt::session::{self, Amount, Refused, Request, Root};
use services::{Dataspace, Rom, RomServer};
use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;

/// Stack of the entry point, in bytes: `ext4-view` has blocks on its own.
const STACK: usize = 256 << 10;

thread_local! {
    /// The image as the entry point's thread has it: it is for one thread alone.
    static IMAGE: Cell<Option<&'static Image>> = const { Cell::new(None) };
}

/// The image, and how much of it may be one ROM.
#[derive(Clone, Copy)]
struct Disk {
    bytes: &'static [u8],
    max: u64,
}

impl Disk {
    /// At the entry point. The image was opened once, so it can be.
    fn file(self, path: &str) -> Result<Entry, FileError> {
        let image = IMAGE.get().or_else(|| Some(&*Box::leak(Box::new(Image::open(self.bytes).ok()?))));
        IMAGE.set(image);
        image.ok_or_else(|| FileError::NoFile(path.into()))?.file(path, self.max)
    }

    /// Hands a file out; `false`: it cannot be read.
    fn read(self, path: &str, to: &mut Sink<'_>) -> bool {
        let read = self.file(path).and_then(|mut entry| entry.read(|piece| to.put(piece)));
        read.inspect_err(|e| println!("{e}")).is_ok()
    }
}

/// A session.
struct File {
    disk: Disk,
    path: String,
    len: u64,
    shown: Shown,
}

impl Rom for File {
    fn dataspace(&mut self) -> Option<Cap<dyn Dataspace>> {
        let File { disk, path, len, shown } = self;
        let dataspace = shown.dataspace(*len, |to| disk.read(path, to));
        dataspace.inspect_err(|e| println!("{path:?}: {e}")).ok()?
    }

    fn size(&mut self) -> u64 {
        self.shown.size(self.len)
    }

    // The image never changes.
    fn sigh(&mut self, _: Signal) {}

    fn update(&mut self) -> bool {
        true
    }
}

/// Makes sessions.
struct Files {
    disk: Disk,
    donations: Donations,
}

impl Root for Files {
    type Interface = dyn Rom;

    fn create(&mut self, at: Entrypoint, request: &Request) -> Result<Managed<dyn Rom>, Refused> {
        let denied = |why: &dyn std::fmt::Display| {
            println!("{} is denied: {why}", request.label.as_str());
            Refused::Denied
        };
        let label = Label::new(request.label.as_str()).map_err(|e| denied(&e))?;
        let entry = self.disk.file(label.last()).map_err(|e| denied(&e))?;
        let (path, shown) = (label.last().into(), self.donations.open(request));
        let file = File { disk: self.disk, path, len: entry.len(), shown };
        at.manage(RomServer(file)).map_err(|_| {
            self.donations.closed(request.id);
            denied(&"there is no room for more sessions")
        })
    }

    fn upgraded(&mut self, id: u64, donated: Amount) {
        self.donations.upgraded(id, donated);
    }

    fn closed(&mut self, id: u64) {
        self.donations.closed(id);
    }
}

/// The content of a ROM, for good.
fn whole(rom: &'static roms::Rom) -> &'static [u8] {
    match rom.content() {
        Cow::Borrowed(bytes) => bytes,
        Cow::Owned(bytes) => bytes.leak(),
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let config = Config::parse(rt::rom(parent::CONFIG_ROM).ok_or("there is no configuration: `image` is missing")?)?;
    let name = &config.image;
    let rom = roms::Rom::open(name).map_err(|e| format!("no ROM `{name}` with the image: {e}"))?;
    let bytes = whole(Box::leak(Box::new(rom)));
    Image::open(bytes).map_err(|e| format!("ROM `{name}`: {e}"))?;
    println!("files of `{name}`, {} KiB", bytes.len() >> 10);
    let at = Entrypoint::new(rt::thread::cpu(), STACK).map_err(|e| format!("the kernel refused a thread: {e:?}"))?;
    session::serve(at, Files { disk: Disk { bytes, max: config.max_len() }, donations: Donations::default() })?;
    loop {
        std::thread::park();
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        std::process::exit(1);
    }
}
