//! Frames cut into cells of one size: which sizes there are, and which cells of a frame are free.

/// Bytes of a frame, and of its head, behind which the cells begin.
pub const FRAME_BYTES: usize = 4096;
/// See [`FRAME_BYTES`].
pub const HEAD_BYTES: usize = 64;

/// Bytes of a cell by class: multiples of a cache line, each with what it leaves of a frame.
const SIZES: [u16; CLASSES] = [64, 128, 192, 256, 384, 576, 768, 1344];
/// Number of classes.
pub const CLASSES: usize = 8;

/// A size of cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    /// The class for objects of that size; `None`: none is large enough.
    pub const fn of(bytes: usize) -> Option<Class> {
        let mut i = 0;
        while i < CLASSES {
            if bytes <= SIZES[i] as usize {
                return Some(Class(i as u8));
            }
            i += 1;
        }
        None
    }

    /// Its number, below [`CLASSES`].
    pub const fn index(self) -> usize {
        self.0 as usize % CLASSES
    }

    /// Bytes of a cell.
    pub const fn bytes(self) -> usize {
        SIZES[self.index()] as usize
    }

    /// Cells of a frame.
    pub const fn count(self) -> u32 {
        ((FRAME_BYTES - HEAD_BYTES) / self.bytes()) as u32
    }

    /// All cells of a frame.
    const fn all(self) -> u64 {
        (1 << self.count()) - 1
    }

    /// Where a cell begins in its frame.
    pub const fn offset(self, cell: u32) -> usize {
        HEAD_BYTES + cell as usize * self.bytes()
    }

    /// The cell that begins at an offset in its frame.
    pub const fn cell(self, offset: usize) -> u32 {
        (offset.saturating_sub(HEAD_BYTES) / self.bytes()) as u32
    }
}

/// The cells of one frame: a set bit is a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells(u64);

impl Cells {
    /// All free.
    pub const fn new(class: Class) -> Cells {
        Cells(class.all())
    }

    /// Takes a free cell.
    pub fn take(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let cell = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(cell)
    }

    /// Gives a cell back that was taken.
    pub fn give(&mut self, cell: u32) {
        self.0 |= 1 << (cell % u64::BITS);
    }

    /// Whether none is free.
    pub const fn full(self) -> bool {
        self.0 == 0
    }

    /// Whether all are free.
    pub const fn empty(self, class: Class) -> bool {
        self.0 == class.all()
    }
}
