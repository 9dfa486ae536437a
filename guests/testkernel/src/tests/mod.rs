//! The tests, by subject. Each is one behaviour.

mod control;
mod exceptions;
mod modes;
