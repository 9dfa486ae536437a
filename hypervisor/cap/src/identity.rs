//! The identity index of an object space: which selector stands for an object.
//!
//! For each object that a space has capabilities to, one slot is its *representative*. Representatives are chained from
//! buckets by a hash of the object's address; all further slots with the same object (duplicates) are chained behind
//! their representative, so that no look-up walks over them. All links are in a companion word a slot. Every operation
//! takes time by the number of different objects in a bucket, removal a constant one.
//!
//! The caller keeps others away meanwhile, and provides the memory: [`Memory`]. Key types: [`Index`], [`Links`].

/// Number of buckets: their heads fill a frame.
pub const BUCKETS: usize = 1024;

/// Where the index is kept. Slots are numbers of selectors; what is not there reads as zero.
pub trait Memory {
    /// Address of the object that the slot's capability refers to. Asked of representatives only.
    fn object(&self, slot: u32) -> u64;
    /// Head of a bucket.
    fn head(&self, bucket: usize) -> u32;
    /// Sets it.
    fn set_head(&mut self, bucket: usize, head: u32);
    /// Companion word of a slot.
    fn links(&self, slot: u32) -> Links;
    /// Sets it.
    fn set_links(&mut self, slot: u32, links: Links);
}

/// Companion word of a slot, all zero while it is not indexed. A link is a slot's number and one, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Links(pub u64);

const LINK_BITS: u32 = 20;
const LINK_MASK: u64 = (1 << LINK_BITS) - 1;
const DUPLICATE: u64 = 1 << 63;
const _: () = assert!(abi::SEL_NUM <= LINK_MASK);

/// Field of a [`Links`].
#[derive(Clone, Copy)]
enum Link {
    /// Of a representative: the next one in its bucket. Of a duplicate: the next one with the same object.
    Next = 0,
    /// The one before it; a first duplicate's is its representative.
    Prev = 1,
    /// Of a representative: the first duplicate.
    Duplicates = 2,
}

impl Links {
    const fn get(self, l: Link) -> Option<u32> {
        match self.0 >> (l as u32 * LINK_BITS) & LINK_MASK {
            0 => None,
            n => Some(n as u32 - 1),
        }
    }

    const fn with(self, l: Link, slot: Option<u32>) -> Links {
        let n = match slot {
            None => 0,
            Some(s) => s as u64 + 1,
        };
        let shift = l as u32 * LINK_BITS;
        Links(self.0 & !(LINK_MASK << shift) | n << shift)
    }

    const fn is_duplicate(self) -> bool {
        self.0 & DUPLICATE != 0
    }
}

/// The operations on a space's index.
pub struct Index<M> {
    memory: M,
    key: u64,
}

impl<M: Memory> Index<M> {
    /// The index in that memory; `key` as for all uses of it. Nobody outside knows the key, so nobody can choose objects
    /// that share a bucket.
    pub fn new(memory: M, key: u64) -> Self {
        Index { memory, key: key | 1 }
    }

    /// Multiplicative hashing by a random odd factor: two objects share a bucket with a probability of 2 in [`BUCKETS`].
    fn bucket(&self, object: u64) -> usize {
        const BITS: u32 = BUCKETS.trailing_zeros();
        ((object / crate::OBJECT_ALIGN).wrapping_mul(self.key) >> (u64::BITS - BITS)) as usize
    }

    fn head(&self, bucket: usize) -> Option<u32> {
        self.memory.head(bucket).checked_sub(1)
    }

    fn set_head(&mut self, bucket: usize, slot: Option<u32>) {
        self.memory.set_head(bucket, slot.map_or(0, |s| s + 1));
    }

    fn link(&mut self, slot: u32, l: Link, to: Option<u32>) {
        let links = self.memory.links(slot).with(l, to);
        self.memory.set_links(slot, links);
    }

    /// The slot that stands for the object: always the same as long as that slot keeps its capability.
    pub fn find(&self, object: u64) -> Option<u32> {
        let mut at = self.head(self.bucket(object));
        while let Some(slot) = at {
            if self.memory.object(slot) == object {
                return at;
            }
            at = self.memory.links(slot).get(Link::Next);
        }
        None
    }

    /// `slot`, which is not in the index, refers to the object from now on.
    pub fn insert(&mut self, slot: u32, object: u64) {
        match self.find(object) {
            Some(representative) => self.insert_duplicate(slot, representative),
            None => self.insert_first(slot, self.bucket(object)),
        }
    }

    fn insert_first(&mut self, slot: u32, bucket: usize) {
        let next = self.head(bucket);
        if let Some(n) = next {
            self.link(n, Link::Prev, Some(slot));
        }
        self.memory.set_links(slot, Links(0).with(Link::Next, next));
        self.set_head(bucket, Some(slot));
    }

    fn insert_duplicate(&mut self, slot: u32, representative: u32) {
        let next = self.memory.links(representative).get(Link::Duplicates);
        if let Some(n) = next {
            self.link(n, Link::Prev, Some(slot));
        }
        let links = Links(DUPLICATE).with(Link::Next, next).with(Link::Prev, Some(representative));
        self.memory.set_links(slot, links);
        self.link(representative, Link::Duplicates, Some(slot));
    }

    /// `slot`, which is in the index, refers to the object no more. If it stood for the object, a duplicate does now.
    pub fn remove(&mut self, slot: u32, object: u64) {
        let links = self.memory.links(slot);
        self.memory.set_links(slot, Links(0));
        if links.is_duplicate() {
            return self.remove_duplicate(links);
        }
        let (next, prev) = (links.get(Link::Next), links.get(Link::Prev));
        let heir = links.get(Link::Duplicates);
        if let Some(h) = heir {
            self.promote(h, links);
        }
        let bucket = self.bucket(object);
        match prev {
            Some(p) => self.link(p, Link::Next, heir.or(next)),
            None => self.set_head(bucket, heir.or(next)),
        }
        if let Some(n) = next {
            self.link(n, Link::Prev, heir.or(prev));
        }
    }

    fn remove_duplicate(&mut self, links: Links) {
        let (next, prev) = (links.get(Link::Next), links.get(Link::Prev));
        if let Some(n) = next {
            self.link(n, Link::Prev, prev);
        }
        if let Some(p) = prev {
            let from = if self.memory.links(p).is_duplicate() { Link::Next } else { Link::Duplicates };
            self.link(p, from, next);
        }
    }

    /// Makes the first duplicate take the place of its representative, whose links these were.
    fn promote(&mut self, heir: u32, gone: Links) {
        let rest = self.memory.links(heir).get(Link::Next);
        self.memory.set_links(heir, gone.with(Link::Duplicates, rest));
        if let Some(r) = rest {
            self.link(r, Link::Prev, Some(heir));
        }
    }
}

#[cfg(test)]
mod tests;
