//! The tests, by subject. Each is one behaviour.

mod control;
mod debug;
mod devices;
mod exceptions;
mod features;
mod interrupts;
mod modes;
mod pages;
mod several;
mod timers;
