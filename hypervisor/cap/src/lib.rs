//! Capability words and the object-space table.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
