//! ROMs out of a file system image: everything but the wiring.
//!
//! The image is a ROM itself, ext2, ext3 or ext4. A ROM's name is a path in it.
//!
//! Key types: [`Image`], [`Entry`], [`Config`].
#![forbid(unsafe_code)]

mod config;
mod image;

pub use config::{Config, ConfigError};
pub use image::{Entry, FileError, Image, ImageError};
