//! Who we are: the selectors of the own protection domain and what the parent said at start. The root task and all
//! other components differ here, and nearly nowhere else.

use crate::lock::StartCell;
use crate::root;
use abi::{Sel, root_obj};
use parent::{StartInfo, layout, sel};

/// The own protection domain.
#[derive(Clone, Copy, Debug)]
pub struct Domain {
    /// `None` in the root task.
    pub info: Option<&'static StartInfo>,
    /// Protection domain.
    pub pd: Sel,
    /// Object space.
    pub obj: Sel,
    /// Host space.
    pub hst: Sel,
    /// CPU of the first thread.
    pub cpu: u16,
}

impl Domain {
    /// Event base of the own threads on `cpu`.
    pub fn events(&self, cpu: u16) -> Sel {
        if self.info.is_some() { sel::events(cpu) } else { root::events(cpu) }
    }
}

static DOMAIN: StartCell<Domain> = StartCell::new();

/// The own protection domain.
pub fn own() -> &'static Domain {
    DOMAIN.get()
}

/// # Safety
/// Once, by the first thread, before all else. A component's start information must be mapped.
pub unsafe fn init_component() -> Option<&'static StartInfo> {
    // SAFETY: the parent maps it read-only for the life of the component; any bits are a valid StartInfo.
    let info = unsafe { &*(layout::START_INFO as *const StartInfo) };
    if info.magic != parent::MAGIC || info.version != parent::VERSION {
        return None;
    }
    let cpu = info.cpu as u16;
    let own = Domain { info: Some(info), pd: sel::PD, obj: sel::OBJ, hst: sel::HST, cpu };
    // SAFETY: first thread, first time.
    unsafe { DOMAIN.set(own) };
    Some(info)
}

/// # Safety
/// Once, by the first thread of the root task, before all else.
pub unsafe fn init_root(hst: Sel, cpu: u16) {
    let own = Domain { info: None, pd: root_obj::ROOT_PD, obj: root_obj::ROOT_OBJ, hst, cpu };
    // SAFETY: first thread, first time.
    unsafe { DOMAIN.set(own) };
}

/// Whether this is the root task.
pub fn is_root() -> bool {
    own().info.is_none()
}

/// What the parent said at start; `None` in the root task.
pub fn start_info() -> Option<&'static StartInfo> {
    own().info
}

/// The read-only module of that name that the parent handed over.
pub fn rom(name: &str) -> Option<&'static [u8]> {
    start_info()?.roms().iter().find(|r| r.name.as_str() == name).map(rom_bytes)
}

/// The bytes of a ROM.
pub fn rom_bytes(r: &'static parent::Rom) -> &'static [u8] {
    // SAFETY: the parent maps each ROM read-only for the life of the component and changes it no more.
    unsafe { core::slice::from_raw_parts(r.addr as *const u8, r.len as usize) }
}
