//! Driver for 16550-compatible UARTs.
#![forbid(unsafe_code)]
