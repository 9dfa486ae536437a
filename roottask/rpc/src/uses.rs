//! How often capabilities that have arrived are in use, by selector.
//!
//! Key type: [`Uses`].

use abi::Sel;
use alloc::collections::BTreeMap;

/// The books. Selectors that are not in them came another way, and are not ours to give back.
#[derive(Debug, Default)]
pub struct Uses(BTreeMap<Sel, u32>);

impl Uses {
    /// Nothing has arrived.
    pub const fn new() -> Uses {
        Uses(BTreeMap::new())
    }

    /// One has arrived. Not the first use, if another thread has found it there, and was here before.
    pub fn arrived(&mut self, sel: Sel) {
        *self.0.entry(sel).or_insert(0) += 1;
    }

    /// One more use; `false`: it is not in the books.
    pub fn more(&mut self, sel: Sel) -> bool {
        match self.0.get_mut(&sel) {
            Some(n) => {
                *n += 1;
                true
            }
            None => false,
        }
    }

    /// One use less; `true`: that was the last one, and the capability is to be given back.
    pub fn less(&mut self, sel: Sel) -> bool {
        match self.0.get_mut(&sel) {
            Some(1) => self.0.remove(&sel).is_some(),
            Some(n) => {
                *n -= 1;
                false
            }
            None => false,
        }
    }

    /// Whether it is in use.
    pub fn has(&self, sel: Sel) -> bool {
        self.0.contains_key(&sel)
    }
}
