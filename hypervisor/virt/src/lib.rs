//! What VT-x and SVM have in common: state groups, events, features.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
