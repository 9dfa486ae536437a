//! Guest RAM: memory of this program, seen by `vm-memory`; in the component a dataspace that is attached in the guest, too.
//!
//! UNSAFETY: `attached` takes memory that a guest changes behind the compiler's back. That is sound because all access from
//! here goes through `vm-memory`, which is volatile.
#![cfg_attr(feature = "component", allow(unsafe_code))]

use vm_memory::mmap::FromRangesError;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What [`clear`] writes at once.
const CLEAR_BYTES: usize = 64 << 10;

/// RAM that no guest runs in, as tests need it: `ram` bytes of zeros, at guest-physical 0.
pub fn alone(ram: usize) -> Result<GuestMemoryMmap, FromRangesError> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), ram)])
}

/// RAM that is attached here, at guest-physical 0. It stays as long as the component lives.
#[cfg(feature = "component")]
pub fn attached(ram: rt::dataspace::Attached) -> Result<GuestMemoryMmap, FromRangesError> {
    use vm_memory::GuestRegionMmap;
    use vm_memory::mmap::MmapRegionBuilder;

    let (start, len) = (ram.address() as usize, ram.size());
    std::mem::forget(ram);
    let start = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: attached just now, to be written, and never detached, as nobody has the value that would do it.
    let region = unsafe { MmapRegionBuilder::new(len).with_raw_mmap_pointer(start) }.build()?;
    let region = GuestRegionMmap::new(region, GuestAddress(0)).ok_or(FromRangesError::InvalidGuestRegion)?;
    Ok(GuestMemoryMmap::from_regions(vec![region])?)
}

/// Makes all of `ram` zero again. Nobody may be running in it.
pub fn clear(ram: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    let zeros = vec![0; CLEAR_BYTES];
    for region in ram.iter() {
        let (start, len) = (region.start_addr(), region.len() as usize);
        for at in (0..len).step_by(CLEAR_BYTES) {
            ram.write_slice(&zeros[..CLEAR_BYTES.min(len - at)], start.unchecked_add(at as u64))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_zeroed_and_bounded() {
        let m = alone(16 << 20).unwrap();
        assert_eq!(m.read_obj::<u64>(GuestAddress((16 << 20) - 8)).unwrap(), 0);
        assert!(m.read_obj::<u64>(GuestAddress(16 << 20)).is_err());
        assert_eq!(m.last_addr(), GuestAddress((16 << 20) - 1));
    }

    #[test]
    fn clearing_leaves_nothing() {
        let m = alone(16 << 20).unwrap();
        let places = [0, 0x1234, (8 << 20) - 1, (16 << 20) - 1];
        places.iter().for_each(|at| m.write_obj(0xa5u8, GuestAddress(*at)).unwrap());
        clear(&m).unwrap();
        assert!(places.iter().all(|at| m.read_obj::<u8>(GuestAddress(*at)).unwrap() == 0));
    }
}
