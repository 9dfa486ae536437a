//! VT-x without the instructions: controls, state transfer, exits.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
