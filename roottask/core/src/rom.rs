//! The ROM service: boot modules. The last element of a session's label says which.
//!
//! Who may read what, routes decide: what comes here is served. Key types: [`Modules`], [`Session`].

use crate::dataspaces::{Failed, Memory, Shown};
use crate::hub::Member;
use init::Hint;
use policy::{Module, PhysRange};
use rpc::{Cap, Signal};
use rt::rpc::Entrypoint;
use services::{Dataspace, Rom};
use session::Label;
use thiserror::Error;

/// The boot modules.
pub struct Modules(Vec<(String, PhysRange)>);

/// Why there is no session.
#[derive(Debug, Error)]
pub enum NoRom {
    /// No such module.
    #[error("there is no boot module `{0}`{1}")]
    NoModule(String, Hint),
    /// Core has no memory for its books, or the client has ended.
    #[error("boot module `{0}` cannot be shown: {1:?}")]
    Failed(String, Failed),
}

impl Modules {
    /// Those that the boot loader left.
    pub fn new(all: &[Module<'_>]) -> Modules {
        Modules(all.iter().map(|m| (m.name.clone(), m.phys)).collect())
    }

    /// A session of that life.
    pub fn open(
        &self,
        label: &Label,
        memory: &'static Memory,
        life: &Member,
        point: Entrypoint,
    ) -> Result<Session, NoRom> {
        let name = label.last();
        let found = self.0.iter().find(|(module, _)| module == name);
        let no_module = || NoRom::NoModule(name.into(), Hint::new(name, self.0.iter().map(|(name, _)| name.as_str())));
        let phys = found.ok_or_else(no_module)?.1;
        let show = || memory.rom(life, phys, point).map_err(|why| NoRom::Failed(name.into(), why));
        let shown = (!phys.is_empty()).then(show).transpose()?;
        Ok(Session { shown, size: phys.len() })
    }
}

/// A session.
pub struct Session {
    /// An empty module has no dataspace.
    shown: Option<Shown>,
    size: u64,
}

impl Rom for Session {
    fn dataspace(&mut self) -> Option<Cap<dyn Dataspace>> {
        self.shown.as_ref().map(|shown| shown.cap)
    }

    fn size(&mut self) -> u64 {
        self.size
    }

    // It never changes.
    fn sigh(&mut self, _: Signal) {}

    fn update(&mut self) -> bool {
        true
    }
}
