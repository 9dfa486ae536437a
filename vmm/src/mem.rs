//! Guest RAM: one range of the component's own memory, seen by `vm-memory` and delegated to the guest space.
//!
//! UNSAFETY: `delegate` hands memory of this address space to a guest, which then changes it behind the compiler's
//! back. That is sound because all access from here goes through `vm-memory`, which is volatile.
#![cfg_attr(feature = "component", allow(unsafe_code))]

use thiserror::Error;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// What [`clear`] writes at once.
const CLEAR_BYTES: usize = 64 << 10;

/// Guest RAM cannot be had.
#[derive(Debug, Error)]
#[error(
    "config: ram = {} MiB: more than this component's free RAM ({} MiB in all); raise `ram` of the component in the \
     system file ({cause})",
    asked >> 20,
    have >> 20
)]
pub struct RamError {
    asked: u64,
    have: u64,
    cause: String,
}

/// Takes `ram` bytes from the component's RAM of `have` bytes; zeroed, at guest-physical 0.
pub fn allocate(ram: u64, have: u64) -> Result<GuestMemoryMmap, RamError> {
    let fail = |cause: String| RamError { asked: ram, have, cause };
    if ram >= have {
        return Err(fail("it cannot be as large as the component's RAM".into()));
    }
    let len = usize::try_from(ram).map_err(|e| fail(e.to_string()))?;
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), len)]).map_err(|e| fail(e.to_string()))
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

/// Makes all of `ram` readable, writable and executable in the guest space, at the same guest-physical addresses.
#[cfg(feature = "component")]
pub fn delegate(ram: &GuestMemoryMmap, space: &rt::vm::GuestSpace) -> Result<(), abi::Status> {
    for region in ram.iter() {
        let start = region.start_addr();
        let host = ram.get_host_address(start).map_err(|_| abi::Status::BadPar)?;
        // SAFETY: the range is a private mapping of this component, owned by `ram`, which lives as long as the VM; it
        // is only accessed through `vm-memory`'s volatile accessors.
        unsafe { space.map(start.raw_value(), host, region.len(), abi::perm::Mem::all()) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_zeroed_and_bounded() {
        let m = allocate(16 << 20, 64 << 20).unwrap();
        assert_eq!(m.read_obj::<u64>(GuestAddress((16 << 20) - 8)).unwrap(), 0);
        assert!(m.read_obj::<u64>(GuestAddress(16 << 20)).is_err());
        assert_eq!(m.last_addr(), GuestAddress((16 << 20) - 1));
    }

    #[test]
    fn clearing_leaves_nothing() {
        let m = allocate(16 << 20, 64 << 20).unwrap();
        let places = [0, 0x1234, (8 << 20) - 1, (16 << 20) - 1];
        places.iter().for_each(|at| m.write_obj(0xa5u8, GuestAddress(*at)).unwrap());
        clear(&m).unwrap();
        assert!(places.iter().all(|at| m.read_obj::<u8>(GuestAddress(*at)).unwrap() == 0));
    }

    #[test]
    fn more_than_the_component_has_is_refused() {
        let e = allocate(512 << 20, 264 << 20).unwrap_err().to_string();
        assert!(e.contains("ram = 512 MiB") && e.contains("264 MiB in all"), "{e}");
    }
}
