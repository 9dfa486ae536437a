//! The tests, by subject. Each is one behaviour.

mod exceptions;
mod modes;
