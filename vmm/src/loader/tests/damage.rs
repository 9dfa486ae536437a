//! Damaged images: whatever is in them, loading ends with an error or a start within RAM, and never writes where
//! something else is.

use proptest::prelude::*;

use super::*;

/// Words that no loader may write: between low and high RAM, where ACPI tables and BIOS would be.
const UNTOUCHED: [u64; 4] = [layout::EBDA, layout::LOW_RAM_END, layout::ACPI, layout::HIGH_RAM - 8];
/// A word that every loader writes.
const BIOS_DATA: u64 = 0x413;

fn kinds() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(make::bzimage(4096, |_| ())),
        Just(make::pvh()),
        Just(make::multiboot_elf(0)),
        Just(make::multiboot_flat(1 << 16, |_| ())),
    ]
}

fn protocols() -> impl Strategy<Value = Option<Protocol>> {
    let forced = [Protocol::Bzimage, Protocol::Pvh, Protocol::Multiboot, Protocol::Flat].map(Some);
    prop_oneof![2 => Just(None), 1 => prop::sample::select(forced.to_vec())]
}

/// Values that break arithmetic, and ordinary ones.
fn values() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), Just(0x8000_0000), Just(0x7000), 0u32..0x2000, any::<u32>()]
}

fn check(kernel: &[u8], protocol: Option<Protocol>) -> Result<(), TestCaseError> {
    let m = memory();
    m.write_obj(0x5a5a_u16, GuestAddress(BIOS_DATA)).unwrap();
    for at in UNTOUCHED {
        m.write_obj(0x5a5a_5a5a_5a5a_5a5a_u64, GuestAddress(at)).unwrap();
    }
    let cmdline = if protocol == Some(Protocol::Flat) { "" } else { "quiet" };
    let result = load(&m, RAM, &Images { protocol, cmdline, ..images(kernel) });
    match result {
        Err(e) => {
            prop_assert!(!e.to_string().contains("cannot be written"), "found while writing: {e}");
            prop_assert_eq!(read::<u16>(&m, BIOS_DATA), 0x5a5a, "written before it was refused");
        }
        Ok(boot) => {
            let entry = match boot.start {
                Start::Long { rip, .. } => rip,
                Start::Protected { eip, .. } => eip.into(),
                Start::Real { cs, ip } => u64::from(cs) * 16 + u64::from(ip),
            };
            prop_assert!(boot.kernel <= entry && entry < RAM, "{boot:?}");
        }
    }
    for at in UNTOUCHED {
        prop_assert_eq!(read::<u64>(&m, at), 0x5a5a_5a5a_5a5a_5a5a, "written at {:#x}", at);
    }
    Ok(())
}

proptest! {
    #[test]
    fn changed_words(
        mut file in kinds(),
        changes in prop::collection::vec((0usize..0x280, values()), 1..4),
        protocol in protocols(),
    ) {
        for (at, value) in changes {
            if let Some(word) = file.get_mut(at..at + 4) {
                word.copy_from_slice(&value.to_le_bytes());
            }
        }
        check(&file, protocol)?;
    }

    #[test]
    fn cut_off(file in kinds(), keep in 0usize..5200, protocol in protocols()) {
        check(&file[..keep.min(file.len())], protocol)?;
    }

    #[test]
    fn garbage(file in prop::collection::vec(any::<u8>(), 0..600), protocol in protocols()) {
        check(&file, protocol)?;
    }
}
