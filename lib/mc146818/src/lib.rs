//! The PC's clock chip, Motorola's MC146818A and its successors: registers, calendar, and how its time is read.
//!
//! Key types: [`Civil`], a moment in civil time; [`Cmos`], how the chip's registers are reached; [`read`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod calendar;
mod chip;
pub mod spec;

pub use calendar::{Civil, DAY_S};
pub use chip::{ChipError, Cmos, keeps_time, read};
