//! The console multiplexer: logs and terminals on one byte stream.
#![forbid(unsafe_code)]
