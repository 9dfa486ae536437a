//! What the boot loader says: names of modules, and which memory must not be given away.
//!
//! Key function: [`reserved`]. The boot information itself is read with the crate `multiboot2` in `boot`.

use abi::Hip;
use policy::PhysRange;

/// Real-mode memory: firmware data and its own code for starting processors.
const LOW_MEMORY: PhysRange = PhysRange::new(0, 1 << 20);
/// "There is none" in addresses of the hypervisor information page.
const NONE: u64 = u64::MAX;

/// The name of a module: the first word of its command line, without a path.
pub fn module_name(command_line: &str) -> &str {
    let word = command_line.split_whitespace().next().unwrap_or("");
    word.rsplit('/').next().unwrap_or(word)
}

/// Memory that is in use although the firmware calls it available. `boot_information` is where the boot loader put
/// its information.
pub fn reserved(hip: &Hip, boot_information: PhysRange, modules: &[PhysRange]) -> Vec<PhysRange> {
    let range = |start, end| PhysRange { start, end };
    let mut list = vec![
        LOW_MEMORY,
        range(hip.nova_start, hip.nova_end),
        range(hip.mbuf_start, hip.mbuf_end),
        range(hip.root_start, hip.root_end),
        boot_information,
    ];
    if hip.uefi_map != NONE {
        list.push(PhysRange::new(hip.uefi_map, hip.uefi_map_size.into()));
    }
    list.extend_from_slice(modules);
    list
}

/// Which of the modules that the boot loader left are to be seen: not the root task itself, which changes as it runs.
pub fn is_ours(hip: &Hip, module: PhysRange) -> bool {
    overlap(module, PhysRange { start: hip.root_start, end: hip.root_end })
}

/// Whether nothing else that is in use is on the pages of module `index`, so that they can be shown to others.
pub fn is_apart(hip: &Hip, boot_information: PhysRange, modules: &[PhysRange], index: usize) -> bool {
    let Some(module) = modules.get(index) else { return false };
    let others: Vec<PhysRange> = modules.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, m)| *m).collect();
    let pages = module.outward();
    pages.start == module.start && !reserved(hip, boot_information, &others).into_iter().any(|r| overlap(r, pages))
}

fn overlap(a: PhysRange, b: PhysRange) -> bool {
    !a.is_empty() && !b.is_empty() && a.start < b.end && b.start < a.end
}

/// The RSDP, if there is one.
pub fn rsdp(hip: &Hip) -> Option<u64> {
    (hip.acpi_rsdp != NONE).then_some(hip.acpi_rsdp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Book;
    use zerocopy::FromZeros;

    #[test]
    fn names_of_modules() {
        for (line, name) in [
            ("vmm", "vmm"),
            ("/boot/vmm", "vmm"),
            ("vmm --fast /x", "vmm"),
            ("  vmm ", "vmm"),
            ("", ""),
            ("/boot/", ""),
        ] {
            assert_eq!(module_name(line), name, "{line:?}");
        }
    }

    #[test]
    fn what_is_in_use_is_not_free() {
        let mut hip = Hip::new_zeroed();
        (hip.nova_start, hip.nova_end) = (0x20_0000, 0x40_0000);
        (hip.root_start, hip.root_end) = (0x50_0000, 0x50_1001);
        (hip.mbuf_start, hip.mbuf_end) = (0x60_0000, 0x60_1000);
        (hip.uefi_map, hip.uefi_map_size) = (0x70_0000, 48);
        let modules = [PhysRange::new(0x80_0000, 10)];
        let book = |hip: &Hip| {
            let used = reserved(hip, PhysRange::new(0x90_0000, 8), &modules);
            Book::new([PhysRange::new(0, 0xa0_0000)], used)
        };
        let taken = |b: &Book| 0xa0_0000 - b.free_bytes();
        assert_eq!(taken(&book(&hip)), 0x10_0000 + 0x20_0000 + 0x2000 + 4 * 0x1000);
        hip.uefi_map = NONE;
        assert_eq!(taken(&book(&hip)), 0x10_0000 + 0x20_0000 + 0x2000 + 3 * 0x1000);
    }

    #[test]
    fn a_module_is_apart_if_nothing_else_is_on_its_pages() {
        let mut hip = Hip::new_zeroed();
        hip.uefi_map = NONE;
        (hip.root_start, hip.root_end) = (0x50_0000, 0x50_1001);
        let info = PhysRange::new(0x90_0ff0, 64);
        let apart = |modules: &[PhysRange]| (0..modules.len()).all(|i| is_apart(&hip, info, modules, i));
        let module = PhysRange::new;
        assert!(apart(&[module(0x80_0000, 0x1001), module(0x80_2000, 1), module(0x90_2000, 0x1000)]));
        assert!(apart(&[module(0x80_0000, 0)]));
        for shared in [
            &[module(0x80_0010, 10)][..],
            &[module(0x80_0000, 0x1001), module(0x80_1800, 1)],
            &[module(0x90_0000, 16)],
            &[module(0x50_1000, 4)],
            &[module(0x8_0000, 4)],
        ] {
            assert!(!apart(shared), "{shared:?}");
        }
        assert!(!is_apart(&hip, info, &[], 0));
    }

    #[test]
    fn the_root_task_is_no_module_for_others() {
        let mut hip = Hip::new_zeroed();
        (hip.root_start, hip.root_end) = (0x50_0000, 0x50_1001);
        assert!(is_ours(&hip, PhysRange::new(0x50_0000, 0x1000)) && is_ours(&hip, PhysRange::new(0x50_1000, 1)));
        assert!(!is_ours(&hip, PhysRange::new(0x50_2000, 0x1000)) && !is_ours(&hip, PhysRange::new(0x4f_f000, 0x1000)));
    }

    #[test]
    fn all_ones_is_no_rsdp() {
        let mut hip = Hip::new_zeroed();
        hip.acpi_rsdp = 0xf_5000;
        assert_eq!(rsdp(&hip), Some(0xf_5000));
        hip.acpi_rsdp = NONE;
        assert_eq!(rsdp(&hip), None);
    }
}
