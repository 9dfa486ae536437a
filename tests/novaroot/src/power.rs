//! Off [5.5.1]: what ACPI's tables say, and `ctrl_hw`.

use crate::nova::{Status, call, on};
use crate::world::World;
use crate::{console, events, print};

/// Most of the DSDT that is searched.
const DSDT_MOST: u64 = 1 << 20;

fn byte(w: &World, at: u64) -> Option<u8> {
    w.physical::<1>(at).map(|b| b[0])
}

fn word(w: &World, at: u64) -> Option<u32> {
    w.physical::<4>(at).map(u32::from_le_bytes)
}

/// The FADT, found through the RSDP that the information page names.
fn fadt(w: &World) -> Option<u64> {
    let rsdp = w.hip.field(0x38, 64);
    if rsdp == u64::MAX || w.physical::<8>(rsdp)? != *b"RSD PTR " {
        return None;
    }
    let rsdt = u64::from(word(w, rsdp + 16)?);
    let entries = u64::from(word(w, rsdt + 4)?.saturating_sub(36) / 4);
    (0..entries)
        .filter_map(|i| word(w, rsdt + 36 + i * 4))
        .map(u64::from)
        .find(|table| w.physical::<4>(*table) == Some(*b"FACP"))
}

/// The first two elements of the package `\_S5`, found by its name.
fn s5(w: &World, fadt: u64) -> Option<(u64, u64)> {
    let dsdt = u64::from(word(w, fadt + 40)?);
    let length = u64::from(word(w, dsdt + 4)?).min(DSDT_MOST);
    let at = (36..length).map(|i| dsdt + i).find(|at| w.physical::<4>(*at) == Some(*b"_S5_"))? + 4;
    // PackageOp, its length in one to four bytes, the number of elements.
    if byte(w, at)? != 0x12 {
        return None;
    }
    let mut at = at + 2 + u64::from(byte(w, at + 1)? >> 6) + 1;
    let mut values = [0; 2];
    for value in &mut values {
        // ZeroOp and OneOp stand for themselves, BytePrefix for the byte behind it.
        let first = byte(w, at)?;
        (*value, at) = if first == 0x0a { (byte(w, at + 1)?.into(), at + 2) } else { (first.into(), at + 1) };
    }
    Some((values[0], values[1]))
}

/// Switches the machine off. If that returns, it has failed.
pub fn off(w: &World) -> Status {
    let refused = on(call::CTRL_HW_BAD_OP, 0, [0; 4]).0;
    let Some((fadt, (a, b))) = fadt(w).and_then(|f| s5(w, f).map(|s| (f, s))) else {
        print!("test nova::acpi ... FAILED: no FADT, or no \\_S5\n");
        return Status::Reserved;
    };
    // PM1a, PM1b and PM2 control, SMI command [8.2.2]: taking them gives nothing.
    let gives = |at: u64, i: u64| match u64::from(word(w, fadt + at).unwrap_or(0)) {
        0 => false,
        port => w.ports(port + i, 0, 1) != Status::Success || events::input(port + i).is_ok(),
    };
    let given = [(64, 0), (64, 1), (68, 0), (68, 1), (72, 0), (48, 0)].into_iter().any(|(at, i)| gives(at, i));
    let verdict = if !given && refused == Status::BadPar { "ok" } else { "FAILED: a port, or a bad operation" };
    print!("test nova::platform-protected ... {verdict}\n");
    console::drain();
    on(call::CTRL_HW_SLEEP, 5 | a << 3 | b << 6, [0; 4]).0
}
