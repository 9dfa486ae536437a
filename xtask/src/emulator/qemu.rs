//! QEMU: with TCG (SVM, no VT-x) or with KVM (what the host has).

use super::{Debugger, End, Machine};
use crate::platform::{Accel, Firmware};
use crate::tree;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// OVMF's code, and the variables that a machine starts with.
const UEFI_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const UEFI_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Each machine has variables of its own, in its directory.
const OWN_VARIABLES: &str = "uefi-variables";

/// Writes the firmware's variables, and completes the command.
pub fn prepare(m: &Machine, c: &mut Command) -> Result<()> {
    if m.platform.firmware == Firmware::Uefi {
        std::fs::write(m.dir.join(OWN_VARIABLES), tree::read_bytes(Path::new(UEFI_VARIABLES))?)?;
    }
    c.arg("qemu-system-x86_64").args(arguments(m));
    Ok(())
}

fn firmware(f: Firmware) -> Vec<String> {
    match f {
        Firmware::Bios => vec![],
        Firmware::Uefi => [
            "-drive".into(),
            format!("if=pflash,unit=0,format=raw,readonly=on,file={UEFI_CODE}"),
            "-drive".into(),
            format!("if=pflash,unit=1,format=raw,file={OWN_VARIABLES}"),
        ]
        .into(),
    }
}

fn arguments(m: &Machine) -> Vec<String> {
    let accel = match m.platform.accel {
        Accel::Tcg => "tcg",
        Accel::Kvm => "kvm",
    };
    let args = [
        "-accel",
        accel,
        "-machine",
        &m.platform.machine,
        "-nodefaults -vga std -display none -boot d -cpu",
        &m.platform.model,
        "-smp",
        &m.platform.cpus.to_string(),
        "-m",
        &m.platform.memory_mib.to_string(),
        &format!("-serial tcp:127.0.0.1:{},server=on,wait=on -cdrom", m.port),
    ]
    .join(" ");
    let words = args.split(' ').map(str::to_owned);
    let gdb = match m.debugger {
        Debugger::Gdb(port) => vec!["-S".into(), "-gdb".into(), format!("tcp:127.0.0.1:{port}")],
        _ => vec![],
    };
    let monitor = match m.debugger {
        Debugger::Monitor(port) => format!("tcp:127.0.0.1:{port},server=on,wait=off"),
        _ => "none".into(),
    };
    words
        .chain([m.iso.display().to_string()])
        .chain(gdb)
        .chain(["-monitor".into(), monitor])
        .chain(firmware(m.platform.firmware))
        .chain(m.platform.args.clone())
        .collect()
}

/// QEMU ends by itself only when the machine is switched off, or on a mistake in its arguments.
pub fn end(code: Option<i32>, stderr: &str) -> End {
    match code {
        Some(0) => End::PowerOff,
        Some(n) => End::Died(format!("QEMU ended with code {n}: {}", stderr.trim())),
        None => End::Died("QEMU was killed".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    #[test]
    fn arguments_have_what_the_platform_says() {
        let m = Machine {
            platform: Platform { memory_mib: 300, cpus: 4, ..Platform::load("qemu").unwrap() },
            iso: "/a b.iso".into(),
            dir: "/tmp".into(),
            port: 99,
            debugger: Debugger::Gdb(1234),
        };
        let args = arguments(&m);
        let kvm = Machine { platform: Platform { accel: Accel::Kvm, ..m.platform.clone() }, ..m };
        assert!(arguments(&kvm).starts_with(&["-accel".into(), "kvm".into()]));
        let m = &kvm;
        let after = |key: &str| &args[args.iter().position(|a| a == key).unwrap() + 1];
        assert_eq!(after("-m"), "300");
        assert_eq!(after("-smp"), "4");
        assert_eq!(after("-gdb"), "tcp:127.0.0.1:1234");
        assert!(args.contains(&"-S".to_owned()));
        assert_eq!(after("-cdrom"), "/a b.iso");
        assert_eq!(after("-monitor"), "none");
        assert_eq!(after("-cpu"), &m.platform.model);
        assert_eq!(after("-serial"), "tcp:127.0.0.1:99,server=on,wait=on");
    }

    #[test]
    fn uefi_is_two_flash_chips() {
        assert_eq!(firmware(Firmware::Bios), Vec::<String>::new());
        let args = firmware(Firmware::Uefi);
        assert!(args[1].contains("unit=0") && args[1].contains("readonly=on"), "the code is not ours to change");
        assert!(args[3].ends_with("file=uefi-variables") && !args[3].contains("readonly"));
    }

    #[test]
    fn power_off_is_the_only_good_end() {
        assert_eq!(end(Some(0), ""), End::PowerOff);
        assert_eq!(end(Some(1), "no such device\n"), End::Died("QEMU ended with code 1: no such device".into()));
    }
}
