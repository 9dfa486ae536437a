//! The parts of the std layer (`rt`) that are pure logic, so that they are tested on the host.
//!
//! Key types: [`Ranges`] (which pages or selectors are taken), [`orders`] (how a range becomes `ctrl_pd` calls),
//! [`Scale`] (TSC ticks and nanoseconds), [`LineBuffer`], [`printable`], [`Mixer`]. The neighbour `rt` supplies memory and locks.
#![no_std]
#![forbid(unsafe_code)]

pub mod bits;
mod line_buffer;
mod mixer;
mod orders;
mod printable;
mod ranges;
mod scale;

pub use line_buffer::LineBuffer;
pub use mixer::Mixer;
pub use orders::{MAX_ORDER, Piece, orders};
pub use printable::printable;
pub use ranges::{End, NotTaken, Ranges};
pub use scale::Scale;

#[cfg(test)]
extern crate std;
