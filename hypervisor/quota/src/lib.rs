//! Books of kernel memory (docs/design/0010, X2): how many frames an account may use and uses, and how frames are cut
//! into cells for objects. What a frame is and where the books are kept is the kernel's business.
//!
//! Key types: [`Books`], [`Cells`], [`Class`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod books;
mod cells;

pub use books::{Books, Edge, Word};
pub use cells::{CLASSES, Cells, Class, FRAME_BYTES, HEAD_BYTES};
