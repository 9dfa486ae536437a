//! Ready queues, wait queues and timeouts.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
