//! Page tables for host (HPT) and guest (EPT) spaces over an abstract memory.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
