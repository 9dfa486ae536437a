//! The root task: all resources, one parent.
#![forbid(unsafe_code)]
