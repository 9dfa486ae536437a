//! Single-producer single-consumer byte rings: index logic only.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
