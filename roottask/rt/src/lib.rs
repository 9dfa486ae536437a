//! The std layer: C-ABI runtime and hypercalls under the precompiled std.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
