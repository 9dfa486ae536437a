//! The objects of an entry point, by the index that is the identifier of their portals.
//!
//! Key types: [`Objects`]; [`Indices`], for those that are given out before there is an object.

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

    /// Puts one at an index. `Err`: there is one, or it is too many.
    pub fn put(&mut self, index: usize, object: T) -> Result<(), T> {
        if index >= self.limit || self.slots.get(index).is_some_and(Option::is_some) {
            return Err(object);
        }
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(object);
        Ok(())
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

/// Which of the indices below a limit are taken.
#[derive(Debug)]
pub struct Indices {
    taken: Vec<bool>,
    /// All below are taken.
    low: usize,
    limit: usize,
}

impl Indices {
    /// None yet.
    pub const fn new(limit: usize) -> Indices {
        Indices { taken: Vec::new(), low: 0, limit }
    }

    /// The lowest that is free; `None`: all are taken.
    pub fn take(&mut self) -> Option<usize> {
        let above = self.taken.get(self.low..).unwrap_or_default();
        let free = self.low + above.iter().position(|t| !t).unwrap_or(above.len());
        match self.taken.get_mut(free) {
            Some(t) => *t = true,
            None if free < self.limit => self.taken.push(true),
            None => return None,
        }
        self.low = free + 1;
        Some(free)
    }

    /// It is free again.
    pub fn give(&mut self, index: usize) {
        if let Some(t) = self.taken.get_mut(index) {
            *t = false;
            self.low = self.low.min(index);
        }
    }
}
