//! Capabilities as values.
//!
//! Key types: [`Cap`], [`Signal`], [`Space`].

use crate::{Bad, Interface, Reader, Value, Writer};
use abi::{Sel, perm};
use core::fmt;
use core::marker::PhantomData;

/// A capability to an object that serves interface `I`, such as `dyn Timer`: a selector of one's own object space.
///
/// It is a name and keeps nothing alive; see `rt::rpc::Held`. That the object serves `I` is what its sender says: calls of
/// something else are refused there, or [`Gone`](crate::Error::Gone).
pub struct Cap<I: ?Sized>(Sel, PhantomData<fn(&I)>);

impl<I: Interface + ?Sized> Cap<I> {
    /// The one at that selector.
    pub const fn from_sel(sel: Sel) -> Self {
        Cap(sel, PhantomData)
    }

    /// Its selector.
    pub const fn sel(self) -> Sel {
        self.0
    }
}

impl<I: ?Sized> Clone for Cap<I> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<I: ?Sized> Copy for Cap<I> {}

/// Capabilities to the same object have the same selector, if both came in messages.
impl<I: ?Sized> PartialEq for Cap<I> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<I: ?Sized> Eq for Cap<I> {}

impl<I: Interface + ?Sized> fmt::Debug for Cap<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cap<{}>({:#x})", I::TABLE.name, self.0)
    }
}

impl<I: Interface + ?Sized> Value for Cap<I> {
    const WORDS: usize = 0;
    const ITEMS: usize = 1;
    fn put(&self, to: &mut Writer<'_>) {
        to.item(self.0, perm::Pt::CALL.bits());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.item().map(Self::from_sel)
    }
}

/// What raises a signal: the semaphores of its context, and of the bell of the entry point that the context is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Counts what was raised since the handler ran.
    pub context: Sel,
    /// Wakes the entry point.
    pub bell: Sel,
}

impl Value for Signal {
    const WORDS: usize = 0;
    const ITEMS: usize = 2;
    fn put(&self, to: &mut Writer<'_>) {
        to.item(self.context, perm::Sm::CTRL_UP.bits());
        to.item(self.bell, perm::Sm::CTRL_UP.bits());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Signal { context: from.item()?, bell: from.item()? })
    }
}

/// A space that something can be delegated to, such as a guest's ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space(pub Sel);

impl Value for Space {
    const WORDS: usize = 0;
    const ITEMS: usize = 1;
    fn put(&self, to: &mut Writer<'_>) {
        to.item(self.0, perm::Space::GRANT.bits());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, Bad> {
        from.item().map(Space)
    }
}
