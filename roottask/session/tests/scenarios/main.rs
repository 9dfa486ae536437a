//! What a parent decides, step by step: one test for each thing that can happen.

mod house;
mod lives;
mod sessions;
mod upwards;
