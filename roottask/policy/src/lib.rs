//! System files, resource books and start plans of the root task.
#![forbid(unsafe_code)]
