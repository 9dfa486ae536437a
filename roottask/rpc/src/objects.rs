//! The objects of an entry point, by the index that is the identifier of their portals.
//!
//! Key type: [`Objects`].

use alloc::vec::Vec;

/// At most so many objects.
#[derive(Debug)]
pub struct Objects<T> {
    slots: Vec<Option<T>>,
    limit: usize,
}

impl<T> Objects<T> {
    /// None yet.
    pub const fn new(limit: usize) -> Objects<T> {
        Objects { slots: Vec::new(), limit }
    }

    /// Adds one, at the lowest free index. `Err`: it is too many.
    pub fn insert(&mut self, object: T) -> Result<usize, T> {
        let free = self.slots.iter().position(Option::is_none);
        match free {
            Some(i) => self.slots[i] = Some(object),
            None if self.slots.len() < self.limit => self.slots.push(Some(object)),
            None => return Err(object),
        }
        Ok(free.unwrap_or(self.slots.len() - 1))
    }

    /// The one at an index.
    #[inline]
    pub fn get(&self, index: u64) -> Option<&T> {
        self.slots.get(usize::try_from(index).ok()?)?.as_ref()
    }

    /// Takes it away.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        self.slots.get_mut(index)?.take()
    }

    /// All there are, with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, o)| Some((i, o.as_ref()?)))
    }
}
