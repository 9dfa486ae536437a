//! Layouts of memory: the UTCB with architectural state and with typed items, the information page.

use super::{cell, number, range, same, upper};
use crate::spec::page::Table;
use abi::{ArchState, Arrival, Hip, Item};
use std::mem::offset_of;

/// Names in the page and offsets in the code.
macro_rules! at {
    ($t:ty: $($name:literal $field:ident),* $(,)?) => { vec![$(($name.to_string(), offset_of!($t, $field) as u64)),*] };
}

/// Fields of a typed item.
pub fn item() -> Vec<(String, String)> {
    let perms = Item::new(0, !0).0;
    let arrival = (0..64).map(|b| 1 << b).filter(|b| Item(*b).arrival() != Some(Arrival::Null)).fold(0, |m, b| m | b);
    let sel = (0..64).map(|b| 1 << b).filter(|b| Item(*b).sel() != 0).fold(0, |m, b| m | b);
    [("sel", sel), ("arrival", arrival), ("perms", perms)].map(|(n, m)| (n.to_string(), range(m))).into()
}

/// What becomes of items.
pub fn arrivals(t: &Table) -> Vec<String> {
    let have: Vec<_> = t.rows.iter().map(|r| (number(cell(r, 0)), cell(r, 1).to_string())).collect();
    same("arrivals", &have, &Arrival::ALL.map(|a| (Some(a as u64), upper(a))))
}

/// All fields of the UTCB in their order.
fn state() -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let gpr = offset_of!(ArchState, gpr) as u64;
    let names = ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI"];
    let indices = [
        ArchState::RAX,
        ArchState::RCX,
        ArchState::RDX,
        ArchState::RBX,
        ArchState::RSP,
        ArchState::RBP,
        ArchState::RSI,
        ArchState::RDI,
    ];
    all.extend(names.iter().zip(indices).map(|(n, i)| (n.to_string(), gpr + 8 * i as u64)));
    all.push(("R8 to R15".into(), gpr + 64));
    all.extend(at!(ArchState: "RFLAGS" rflags, "RIP" rip, "instruction length" inst_len,
        "instruction information" inst_info, "interruptibility" intr_state, "activity" actv_state));
    let qual = offset_of!(ArchState, qual) as u64;
    all.extend([("qualifications 1".into(), qual), ("2".into(), qual + 8), ("3".into(), qual + 16)]);
    all.extend(at!(ArchState: "exception information" exc_info, "exception error code" exc_error));
    let ctrl = offset_of!(ArchState, ctrl) as u64;
    all.extend([("primary".into(), ctrl), ("secondary execution controls".into(), ctrl + 4)]);
    all.extend(at!(ArchState: "tertiary execution controls" ctrl3, "CR0 intercepts" intcpt_cr0,
        "CR4 intercepts" intcpt_cr4, "exception intercepts" intcpt_exc, "#PF error mask" pfe_mask,
        "#PF error match" pfe_match, "TPR threshold" tpr_threshold, "injection information" inj_info,
        "injection error code" inj_error, "IDT-vectoring information" vect_info,
        "IDT-vectoring error code" vect_error, "CS" cs, "SS" ss, "DS" ds, "ES" es, "FS" fs, "GS" gs, "TR" tr,
        "LDTR" ldtr, "GDTR" gdtr, "IDTR" idtr, "PDPTE 0 to 3" pdpte, "CR0" cr0, "CR2" cr2, "CR3" cr3, "CR4" cr4,
        "CR8" cr8, "DR7" dr7, "XCR0" xcr0, "IA32_XSS" xss, "IA32_APIC_BASE" apic_base,
        "IA32_SYSENTER_CS" sysenter_cs, "IA32_SYSENTER_ESP" sysenter_esp, "IA32_SYSENTER_EIP" sysenter_eip,
        "IA32_PAT" pat, "IA32_EFER" efer, "IA32_STAR" star, "IA32_LSTAR" lstar, "IA32_FMASK" fmask,
        "IA32_KERNEL_GS_BASE" kernel_gs_base, "IA32_TSC_AUX" tsc_aux, "SEL_GST" sel_gst, "SEL_PIO" sel_pio,
        "SEL_MSR" sel_msr));
    all
}

/// Rows name their first field's offset; all fields are there, in their order.
pub fn utcb(t: &Table) -> Vec<String> {
    let want = state();
    let mut faults = Vec::new();
    let mut have = Vec::new();
    for r in &t.rows {
        let list = cell(r, 1).split(':').next().unwrap_or_default();
        let names = list.split([',', ';']).map(|n| n.split('(').next().unwrap_or_default().trim().to_string());
        let names: Vec<_> = names.filter(|n| !n.is_empty()).collect();
        let first = names.first().and_then(|n| want.iter().find(|w| w.0 == *n));
        match first {
            Some((name, at)) if number(cell(r, 0)) != Some(*at) => {
                faults.push(format!("UTCB: {name} is at {at:#x}, not at {}", cell(r, 0)));
            }
            None => faults.push(format!("UTCB: the code has no {:?}", names.first())),
            _ => {}
        }
        have.extend(names);
    }
    let want: Vec<_> = want.into_iter().map(|w| w.0).collect();
    faults.extend(same("UTCB", &have, &want));
    faults
}

const fn bits<T, F>(_: fn(&T) -> &F) -> u64 {
    8 * size_of::<F>() as u64
}

/// Name, offset and bits of each field of the information page.
fn hip() -> Vec<(String, u64, u64)> {
    macro_rules! fields {
        ($($f:ident)*) => {
            vec![$((stringify!($f).to_string(), offset_of!(Hip, $f) as u64, bits(|h: &Hip| &h.$f))),*]
        };
    }
    fields!(signature checksum length nova_start nova_end mbuf_start mbuf_end root_start root_end acpi_rsdp uefi_map
        uefi_map_size uefi_desc_size uefi_desc_version stc_freq sel_num sel_hst_arch sel_hst_nova sel_gst_arch
        sel_gst_nova cpu_num cpu_bsp int_pin int_msi mco_obj mco_hst mco_gst mco_dma mco_pio mco_msr kimax features
        log_addr log_size log_offset ext_signature virt_missing kmem_used kmem_total ext_features trace_start trace_end)
}

/// `Offset | Field | Bits`, each a list; one number of bits is for all.
pub fn information_page(t: &Table) -> Vec<String> {
    let mut have = Vec::new();
    for r in &t.rows {
        let list = |i| cell(r, i).split(", ").collect::<Vec<_>>();
        let (offsets, names, bits) = (list(0), list(1), list(2));
        for (i, name) in names.iter().enumerate() {
            let of = |l: &Vec<&str>| l.get(i).and_then(|n| number(n)).unwrap_or(u64::MAX);
            let bits = if bits.len() == 1 { number(bits[0]).unwrap_or(u64::MAX) } else { of(&bits) };
            have.push((name.to_string(), of(&offsets), bits));
        }
    }
    let mut faults = same("information page", &have, &hip());
    // What comes behind the last field is not in the list above.
    let end = have.last().map_or(0, |(_, at, bits)| at.saturating_add(bits / 8));
    if faults.is_empty() && end != size_of::<Hip>() as u64 {
        faults.push(format!("information page: it ends at {:#x}, the page's table at {end:#x}", size_of::<Hip>()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[&[&str]]) -> Table {
        let rows = rows.iter().map(|r| r.iter().map(|c| c.to_string()).collect()).collect();
        Table { head: Vec::new(), rows }
    }

    #[test]
    fn fields_are_in_order_and_without_gaps() {
        assert!(state().is_sorted_by_key(|s| s.1));
        let h = hip();
        assert!(h.windows(2).all(|w| w[0].1 + w[0].2 / 8 == w[1].1), "{h:?}");
    }

    #[test]
    fn wrong_offsets_and_missing_fields_are_found() {
        let f =
            utcb(&table(&[&["0x000", "RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15"], &["0x88", "RFLAGS, RIP"]]));
        assert_eq!(f[0], "UTCB: RFLAGS is at 0x80, not at 0x88");
        assert!(f[1].contains("instruction length"));
        let f = information_page(&table(&[&["0x00", "signature", "32"], &["0x04, 0x06", "checksum, length", "16"]]));
        assert!(f[0].contains("nova_start"), "{f:?}");
        let f = information_page(&table(&[&["0x00", "signature", "64"]]));
        assert!(f[0].contains("64") && f[0].contains("32"), "{f:?}");
    }
}
