//! From a client's method to its message, and from a message to the method of an object. What the macro writes is in
//! terms of these.
//!
//! Key types: [`Port`], how a client sends; [`Object`] and [`Frame`], how a server receives.

use crate::{Bad, Error, Interface, Reader, Refusal, Table, Value, Writer};
use abi::REGISTER_WORDS;

/// Words of a message in registers.
pub const REGISTERS: usize = REGISTER_WORDS;

/// A way to an object.
pub trait Port {
    /// Sends these words in registers; the answer is in registers, too.
    fn registers(&self, words: [u64; REGISTERS]) -> Result<[u64; REGISTERS], Error>;

    /// Sends what `put` writes, by the UTCB, and reads the answer with `take`. `items`: capabilities are expected with it.
    fn message<R>(
        &self,
        items: usize,
        put: impl FnOnce(&mut Writer<'_>),
        take: impl FnOnce(&mut Reader<'_>) -> Result<R, Error>,
    ) -> Result<R, Error>;
}

/// A client's call of a method.
#[inline(always)]
pub fn call<P: Port, R: Value>(
    port: &P,
    table: &'static Table,
    method: u16,
    short: bool,
    put: impl FnOnce(&mut Writer<'_>),
) -> Result<R, Error> {
    let take = |from: &mut Reader<'_>| {
        let wrong = |bad| Error::Answer(Refusal { table, method, argument: 0, bad });
        match Refusal::from_word(from.word().map_err(wrong)?, table, method) {
            None => R::take(from).map_err(wrong),
            Some(e) => Err(e),
        }
    };
    if short {
        let mut words = [0; REGISTERS];
        let mut to = Writer::new(&mut words);
        to.word(method.into());
        put(&mut to);
        return take(&mut Reader::new(&port.registers(words)?));
    }
    let all = |to: &mut Writer<'_>| {
        to.word(method.into());
        put(to);
    };
    port.message(R::ITEMS, all, take)
}

/// How much an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Words.
    pub words: usize,
    /// Capabilities.
    pub items: usize,
}

/// Where a message has arrived, and its answer goes. Nothing of it is borrowed while a method runs, which may make calls of
/// its own.
pub trait Frame {
    /// The message.
    fn reader(&self) -> Reader<'_>;
    /// The answer, in the place of the message.
    fn writer(&mut self) -> Writer<'_>;
}

impl Frame for [u64; REGISTERS] {
    #[inline]
    fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }
    #[inline]
    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self)
    }
}

/// Something that handles messages.
pub trait Object {
    /// Handles one in registers: only methods are called whose answers go there as well.
    fn registers(&mut self, words: &mut [u64; REGISTERS]);
    /// Handles one of any length.
    fn message(&mut self, frame: &mut dyn Frame) -> Sent;
}

/// An object of an interface.
pub trait Serves: Object {
    /// The interface.
    type Interface: Interface + ?Sized;
}

/// Answers with a value.
#[inline]
pub fn answer<F: Frame + ?Sized>(frame: &mut F, value: &impl Value) -> Sent {
    let mut to = frame.writer();
    to.word(0);
    value.put(&mut to);
    let (words, items) = to.written();
    Sent { words, items }
}

/// Refuses a message.
#[cold]
pub fn refuse<F: Frame + ?Sized>(frame: &mut F, argument: u8, bad: Bad) -> Sent {
    frame.writer().word(Refusal::word(argument, bad));
    Sent { words: 1, items: 0 }
}
