//! The I/O permission map: AMD APM vol. 2, 15.10. One bit for each port, set to exit.
//!
//! 12 KiB in three frames that are **contiguous in physical memory**: the first two are what VMX calls I/O bitmaps A
//! and B, the third has bits for accesses that reach beyond port ffff.

/// Size in bytes.
pub const SIZE: usize = 3 * HALF;
/// Size of a VMX I/O bitmap in bytes.
pub const HALF: usize = 0x1000;

/// Byte of the map and bit in it.
pub const fn position(port: u16) -> (usize, u8) {
    (port as usize / 8, 1 << (port % 8))
}

/// The whole map for I/O bitmaps A (ports 0 to 7fff) and B. Accesses beyond port ffff exit, as on VMX.
pub fn convert(a: &[u8; HALF], b: &[u8; HALF], map: &mut [u8; SIZE]) {
    map[..HALF].copy_from_slice(a);
    map[HALF..2 * HALF].copy_from_slice(b);
    map[2 * HALF..].fill(0xff);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_and_the_end_are_in_place() {
        let (mut a, mut b, mut map) = ([0; HALF], [0; HALF], [0; SIZE]);
        a[0x3f8 / 8] = 1;
        b[0xfff] = 0x80;
        convert(&a, &b, &mut map);
        let set: Vec<_> = (0..=u16::MAX)
            .filter(|p| {
                let (byte, bit) = position(*p);
                map[byte] & bit != 0
            })
            .collect();
        assert_eq!(set, [0x3f8, 0xffff]);
        // A four-byte access at ffff tests three bits of the third frame.
        assert_eq!(map[2 * HALF] & 7, 7);
    }
}
