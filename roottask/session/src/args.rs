//! Arguments of sessions: a plain structure and the version of it, which only client and server interpret.
//!
//! Key type: [`Args`]. Parents pass them on, or change some of their bytes (`route`).

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Longest arguments in bytes.
pub const MAX_ARGS: usize = 128;

/// Why arguments cannot be used.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum ArgsError {
    /// More than [`MAX_ARGS`] bytes.
    #[error("session arguments of {0} bytes are too long; {MAX_ARGS} are possible")]
    Long(usize),
    /// Another version than the one that is understood.
    #[error("session arguments have version {found}, and {wanted} is understood")]
    Version {
        /// What they have.
        found: u32,
        /// What the reader was built for.
        wanted: u32,
    },
    /// Not as long as the structure, or too short for what is to be changed.
    #[error("session arguments of version {version} have {found} bytes, not {wanted}")]
    Length {
        /// Their version.
        version: u32,
        /// How many they have.
        found: usize,
        /// How many they should have, or should have at least.
        wanted: usize,
    },
}

/// The arguments of a session request: at most [`MAX_ARGS`] bytes, and the version of the interface that says what they
/// mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args {
    version: u32,
    bytes: Vec<u8>,
}

impl Args {
    /// Arguments as they come in a message.
    pub fn new(version: u32, bytes: &[u8]) -> Result<Args, ArgsError> {
        if bytes.len() > MAX_ARGS {
            return Err(ArgsError::Long(bytes.len()));
        }
        Ok(Args { version, bytes: bytes.into() })
    }

    /// The bytes of `value`.
    pub fn of<T: IntoBytes + Immutable>(version: u32, value: &T) -> Result<Args, ArgsError> {
        Args::new(version, value.as_bytes())
    }

    /// The structure, for a reader that was built for `version` of it.
    pub fn read<T: FromBytes>(&self, version: u32) -> Result<T, ArgsError> {
        self.expect(version)?;
        let (found, wanted) = (self.bytes.len(), size_of::<T>());
        T::read_from_bytes(&self.bytes).map_err(|_| ArgsError::Length { version, found, wanted })
    }

    /// The version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// With `bytes` at `offset`, if these arguments have `version` and reach so far.
    pub(crate) fn patched(&self, version: u32, offset: usize, bytes: &[u8]) -> Result<Args, ArgsError> {
        self.expect(version)?;
        let (found, wanted) = (self.bytes.len(), offset.saturating_add(bytes.len()));
        let mut args = self.clone();
        let place = args.bytes.get_mut(offset..wanted).ok_or(ArgsError::Length { version, found, wanted })?;
        place.copy_from_slice(bytes);
        Ok(args)
    }

    fn expect(&self, wanted: u32) -> Result<(), ArgsError> {
        if self.version == wanted { Ok(()) } else { Err(ArgsError::Version { found: self.version, wanted }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::KnownLayout;

    #[derive(Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
    #[repr(C)]
    struct Block {
        first: u64,
        count: u32,
        writable: u32,
    }

    const DISK: Block = Block { first: 2048, count: 16, writable: 1 };

    #[test]
    fn a_structure_arrives_as_it_was_sent() {
        let args = Args::of(3, &DISK).unwrap();
        assert_eq!((args.version(), args.bytes().len()), (3, 16));
        assert_eq!(args.read::<Block>(3), Ok(DISK));
    }

    #[test]
    fn another_version_is_refused_and_both_are_named() {
        let e = Args::of(3, &DISK).unwrap().read::<Block>(4).unwrap_err();
        assert_eq!(e, ArgsError::Version { found: 3, wanted: 4 });
        assert_eq!(e.to_string(), "session arguments have version 3, and 4 is understood");
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(Args::new(1, &[0; 129]), Err(ArgsError::Long(129)));
        assert!(Args::new(1, &[0; 128]).is_ok());
        let short = Args::new(1, &[0; 15]).unwrap();
        assert_eq!(short.read::<Block>(1), Err(ArgsError::Length { version: 1, found: 15, wanted: 16 }));
    }

    proptest! {
        #[test]
        fn a_patch_changes_its_bytes_only(
            bytes in prop::collection::vec(any::<u8>(), 0..=MAX_ARGS),
            patch in prop::collection::vec(any::<u8>(), 0..20),
            offset in prop_oneof![0usize..140, Just(usize::MAX)],
        ) {
            let args = Args::new(1, &bytes).unwrap();
            prop_assert_eq!(args.patched(2, offset, &patch), Err(ArgsError::Version { found: 1, wanted: 2 }));
            match args.patched(1, offset, &patch) {
                Ok(new) => {
                    prop_assert_eq!(&new.bytes()[offset..offset + patch.len()], &patch[..]);
                    prop_assert_eq!(&new.bytes()[..offset], &bytes[..offset]);
                    prop_assert_eq!(&new.bytes()[offset + patch.len()..], &bytes[offset + patch.len()..]);
                }
                Err(e) => {
                    prop_assert!(offset.saturating_add(patch.len()) > bytes.len(), "{}", e);
                }
            }
        }
    }
}
