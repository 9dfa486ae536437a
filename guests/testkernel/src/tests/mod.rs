//! The tests, by subject. Each is one behaviour.

mod control;
mod debug;
mod exceptions;
mod interrupts;
mod modes;
mod timers;
