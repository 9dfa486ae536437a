//! Numbers that can be repeated, and the values at which kernels break.

use rtlogic::Mixer;

/// A sequence that its seed determines.
#[derive(Clone, Debug)]
pub struct Random(Mixer);

/// User addresses end here.
pub const USER_END: u64 = 1 << 47;

impl Random {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Random {
        Random(Mixer::new(seed))
    }

    /// The next number.
    pub fn word(&mut self) -> u64 {
        self.0.next()
    }

    /// The next number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// Once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len() as u64) as usize]
    }

    /// A number of any size: small, near a power of two, all ones, or anything.
    pub fn any(&mut self) -> u64 {
        let bit = self.below(64);
        match self.below(8) {
            0 => self.below(16),
            1 => 1 << bit,
            2 => (1 << bit) - 1,
            3 => (1u64 << bit).wrapping_neg(),
            4 => u64::MAX - self.below(4096),
            5 => self.word() >> bit,
            6 => self.below(1 << 20),
            _ => self.word(),
        }
    }

    /// An address where something is special: around 0, the end of user memory, the non-canonical hole, the kernel's
    /// half and its end; aligned or not.
    pub fn boundary(&mut self) -> u64 {
        let edge = match self.below(7) {
            0 => 0,
            1 => USER_END,
            2 => USER_END.wrapping_neg(),
            3 => 0xffff_ffff_8000_0000,
            4 => 0xffff_ffff_ffe2_0000,
            5 => 1 << 48,
            _ => 1 << self.below(64),
        };
        let distance = match self.below(4) {
            0 => 0,
            1 => self.below(16),
            2 => self.below(16) << 12,
            _ => self.below(1 << 22),
        };
        if self.one_in(2) { edge.wrapping_add(distance) } else { edge.wrapping_sub(distance) }
    }
}
