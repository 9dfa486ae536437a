//! A virtual-machine monitor for Linux guests.
#![forbid(unsafe_code)]
