//! Tables of the pages against the crate `abi`: numbers, offsets, bits, registers.
//!
//! A table is known by the first cells of its head ([`KINDS`]). `fields` has the layouts of memory.

mod fields;

use super::handlers::snake;
use super::page::{Page, Table};
use abi::{
    CreatePdOp, ExtFeatures, Features, HwOp, Hypercall, Mad, Mtd, Scd, Status, TraceKinds, VirtMissing, event, perm,
};
use abi::{nova_obj, root_obj};

/// Compares a table of a page; all pages are there for tables that belong together.
type Compare = fn(&Page, &Table, &[Page]) -> Vec<String>;

/// First cell of the head, second, whether its rows need no tag, comparison.
const KINDS: &[(&str, &str, bool, Compare)] = &[
    ("Parameter", "Register", true, parameters),
    ("Call", "RDI[63:8]", true, |_, t, _| calls(t)),
    ("No.", "Call", true, |_, t, _| numbers(t)),
    ("No.", "Name", true, |_, t, _| statuses(t)),
    ("Status", "Cause", false, |_, t, _| causes(t)),
    ("Offset", "Content (64-bit words, or halves low, high)", true, |_, t, _| fields::utcb(t)),
    ("Offset", "Field", false, |_, t, _| fields::information_page(t)),
    ("Bit", "Name", false, |_, t, _| bits(t, &names_of_mtd())),
    ("Bit of features", "Name", true, |_, t, _| bits(t, &flags!(Features))),
    ("Bit of virt_missing", "Name", true, |_, t, _| bits(t, &flags!(VirtMissing))),
    ("Bit of ext_features", "Name", true, |_, t, _| bits(t, &flags!(ExtFeatures))),
    ("Bit of kinds", "Name", true, |_, t, _| bits(t, &flags!(TraceKinds))),
    ("SCD field", "Bits", true, |_, t, _| packed(t, &scd())),
    ("MAD field", "Bits", true, |_, t, _| packed(t, &mad())),
    ("Item field", "Bits", true, |_, t, _| packed(t, &fields::item())),
    ("Arrival", "Name", true, |_, t, _| fields::arrivals(t)),
    ("DAD field", "Bits", true, |_, _, _| Vec::new()),
    ("Capability to", "bit 0", false, |_, t, _| permissions(t)),
    ("Selector", "Capability", false, |p, t, _| selectors(t, &p.name)),
    ("", "Threads", false, |_, t, _| events(t)),
    ("Flags (bits 3:0): OP", "Creates", false, |_, t, _| created(t)),
    ("Flags (bits 3:0): OP", "Descriptor", false, |_, t, _| platform(t)),
];

macro_rules! flags {
    ($t:ty) => {
        <$t>::all().iter_names().map(|(n, f)| (n.to_string(), f.bits().trailing_zeros())).collect::<Vec<_>>()
    };
}
use flags;

fn kind(head: &[String]) -> Option<(bool, Compare)> {
    let (first, second) = (head.first()?, head.get(1)?);
    KINDS.iter().find(|k| k.0 == first && k.1 == second).map(|k| (k.2, k.3))
}

/// Whether the rows of such a table are compared whole, so that they need no tag.
pub fn is_compared(head: &[String]) -> bool {
    kind(head).is_some_and(|k| k.0)
}

/// What is wrong in any table.
pub fn check(pages: &[Page]) -> Vec<String> {
    let mut faults = Vec::new();
    for p in pages {
        for t in &p.tables {
            if let Some((_, compare)) = kind(&t.head) {
                faults.extend(compare(p, t, pages).into_iter().map(|f| format!("{}: {f}", p.name)));
            }
        }
    }
    for (first, second, ..) in KINDS {
        let is_there = pages
            .iter()
            .flat_map(|p| &p.tables)
            .any(|t| t.head.len() > 1 && t.head[0] == *first && t.head[1] == *second);
        if !is_there {
            faults.push(format!("no page has the table with the head `{first} | {second}`"));
        }
    }
    faults
}

fn cell(row: &[String], i: usize) -> &str {
    row.get(i).map_or("", |c| c.trim())
}

/// `0x1f` or `31`.
fn number(text: &str) -> Option<u64> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |h| u64::from_str_radix(h, 16).ok())
}

/// The first list has all that the second has, in the same order.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, have: &[T], want: &[T]) -> Vec<String> {
    let first = have.iter().zip(want).find(|(a, b)| a != b);
    match first {
        Some((a, b)) => vec![format!("{what}: the page has {a:?} where the code has {b:?}")],
        None if have.len() != want.len() => {
            let n = have.len().min(want.len());
            vec![format!("{what}: the page has {:?} where the code has {:?}", &have[n..], &want[n..])]
        }
        None => Vec::new(),
    }
}

/// Names of the specification: `BAD_CAP`.
fn upper<T: std::fmt::Debug>(v: T) -> String {
    snake(&format!("{v:?}")).to_uppercase()
}

fn calls(t: &Table) -> Vec<String> {
    let have: Vec<_> = t.rows.iter().map(|r| cell(r, 0).to_string()).collect();
    same("calls", &have, &Hypercall::ALL.map(|h| snake(&format!("{h:?}"))))
}

fn numbers(t: &Table) -> Vec<String> {
    let have: Vec<_> = t.rows.iter().map(|r| (number(cell(r, 0)), cell(r, 1).to_string())).collect();
    let want = Hypercall::ALL.map(|h| (Some(h as u64), snake(&format!("{h:?}"))));
    same("hypercalls", &have[..have.len().min(want.len())], &want)
}

fn all_statuses() -> Vec<(Option<u64>, String)> {
    (0..256).map_while(|n| Some((Some(n), upper(Status::from_register(n)?)))).collect()
}

fn statuses(t: &Table) -> Vec<String> {
    let have: Vec<_> = t.rows.iter().map(|r| (number(cell(r, 0)), cell(r, 1).to_string())).collect();
    same("status codes", &have, &all_statuses())
}

fn causes(t: &Table) -> Vec<String> {
    let all = all_statuses();
    let strange = t.rows.iter().map(|r| cell(r, 0)).filter(|n| all.iter().all(|(_, s)| s != n));
    strange.map(|n| format!("there is no status {n}")).collect()
}

/// Parameter and register of a page, such as `cpu`, `RDX[11:0]`, against the calling convention.
fn parameters(p: &Page, t: &Table, pages: &[Page]) -> Vec<String> {
    let Some(n) = Hypercall::ALL.iter().position(|h| snake(&format!("{h:?}")) == p.name) else {
        return Vec::new();
    };
    let conventions =
        pages.iter().flat_map(|p| &p.tables).find(|t| kind(&t.head).is_some() && cell(&t.head, 0) == "Call");
    let Some(row) = conventions.and_then(|c| Some((c, c.rows.get(n)?))) else {
        return vec!["there is no table of registers".into()];
    };
    let (convention, row) = row;
    let place = |register: &str, operand: &str| match operand.split_once('[') {
        Some((name, bits)) => (name.to_string(), format!("{register}[{bits}")),
        None => (operand.to_string(), register.to_string()),
    };
    let mut want = Vec::new();
    for (register, operands) in convention.head.iter().zip(row).skip(1).take(5) {
        want.extend(operands.split(", ").filter(|o| !o.is_empty()).map(|o| place(register, o)));
    }
    let results: Vec<_> =
        cell(row, 7).split(", ").filter_map(|r| r.split_once(' ')).map(|(r, o)| place(r, o)).collect();
    let mut have = Vec::new();
    let mut faults = Vec::new();
    for r in &t.rows {
        let (name, register) = (cell(r, 0).to_string(), cell(r, 1));
        let place = register.split(',').next().unwrap_or_default().to_string();
        if register.contains("out") && !results.iter().any(|(n, p)| *n == name && place.starts_with(p.as_str())) {
            faults.push(format!("{name}: {register} is no result in the table of registers"));
        }
        if !register.ends_with(", out") {
            have.push((name, place));
        }
    }
    faults.extend(same("parameters", &have, &want));
    faults
}

fn names_of_mtd() -> Vec<(String, u32)> {
    flags!(Mtd)
}

/// `Bit | Name`, in the order of the bits.
fn bits(t: &Table, want: &[(String, u32)]) -> Vec<String> {
    let bit = |r: &Vec<String>| number(cell(r, 0)).unwrap_or(u64::MAX) as u32;
    let have: Vec<_> = t.rows.iter().map(|r| (cell(r, 1).to_string(), bit(r))).collect();
    same(cell(&t.head, 0), &have, want)
}

/// The bits that a mask has, as `22:16`.
fn range(mask: u64) -> String {
    format!("{}:{}", 63 - mask.leading_zeros(), mask.trailing_zeros())
}

fn scd() -> Vec<(String, String)> {
    let none = Scd { cos: 0, prio: 0, budget_ms: 0 };
    let masks = [
        ("budget_ms", Scd { budget_ms: !0, ..none }),
        ("prio", Scd { prio: 0x7f, ..none }),
        ("cos", Scd { cos: !0, ..none }),
    ];
    masks.map(|(n, d)| (n.to_string(), range(d.pack()))).into()
}

fn mad() -> Vec<(String, String)> {
    let mask = |f: fn(Mad) -> u32| (0..32).filter(|b| f(Mad(1 << b)) != 0).fold(0, |m, b| m | 1 << b);
    [("cacheability", mask(Mad::cacheability)), ("key", mask(Mad::key))].map(|(n, m)| (n.to_string(), range(m))).into()
}

fn packed(t: &Table, want: &[(String, String)]) -> Vec<String> {
    let have: Vec<_> = t.rows.iter().map(|r| (cell(r, 0).to_string(), cell(r, 1).to_string())).collect();
    same(cell(&t.head, 0), &have, want)
}

/// Rows by what the capability refers to, columns by bit.
fn permissions(t: &Table) -> Vec<String> {
    let space: Vec<(String, u32)> = flags!(perm::Space);
    let only = |names: &[&str]| space.iter().filter(|(n, _)| names.contains(&n.as_str())).cloned().collect::<Vec<_>>();
    let want = [
        ("object or host space", only(&["TAKE", "GRANT"])),
        ("guest space", only(&["GRANT", "ASSIGN"])),
        ("PIO or MSR space", only(&["TAKE", "GRANT", "ASSIGN"])),
        ("PD", flags!(perm::Pd)),
        ("EC", flags!(perm::Ec)),
        ("SC", flags!(perm::Sc)),
        ("PT", flags!(perm::Pt)),
        ("SM", flags!(perm::Sm)),
        ("page frame", flags!(perm::Mem)),
        ("I/O port", flags!(perm::Pio)),
        ("MSR", flags!(perm::Msr)),
    ];
    let mut faults = Vec::new();
    for (what, want) in want {
        // Kinds of spaces come and go with the implementation; a row may name several.
        let Some(row) = t.rows.iter().find(|r| cell(r, 0) == what) else {
            faults.push(format!("permissions: there is no row `{what}`"));
            continue;
        };
        let word = |c: &str| c.split_whitespace().next().unwrap_or_default().to_string();
        let cells = row.iter().skip(1).enumerate().map(|(bit, c)| (word(c), bit as u32));
        let have: Vec<_> = cells.filter(|(n, _)| !n.is_empty()).collect();
        faults.extend(same(what, &have, &want));
    }
    faults
}

/// What the boot state has at which selector.
fn selectors(t: &Table, page: &str) -> Vec<String> {
    let nova = [
        ("console semaphore", nova_obj::CONSOLE_SM),
        ("NOVA object space", nova_obj::NOVA_OBJ),
        ("NOVA host space", nova_obj::NOVA_HST),
        ("NOVA PIO space", nova_obj::NOVA_PIO),
        ("NOVA MSR space", nova_obj::NOVA_MSR),
        ("root task's object space", nova_obj::ROOT_OBJ),
        ("root task's host space", nova_obj::ROOT_HST),
        ("root task's PIO space", nova_obj::ROOT_PIO),
    ];
    let root = [
        ("NOVA object space", root_obj::NOVA_OBJ),
        ("root object space", root_obj::ROOT_OBJ),
        ("root PD", root_obj::ROOT_PD),
        ("root EC", root_obj::ROOT_EC),
        ("root SC", root_obj::ROOT_SC),
    ];
    let want = if page == "boot" { &root[..] } else { &nova[..] };
    let below = |r: &Vec<String>| Some(abi::SEL_NUM - number(cell(r, 0).strip_prefix("SEL_NUM - ")?)?);
    let have: Vec<_> = t.rows.iter().filter_map(|r| Some((cell(r, 1), below(r)?))).collect();
    let mut faults = same("selectors", &have, want);
    let first = format!("2^{} + n", nova_obj::INT_BASE.trailing_zeros());
    if page != "boot" && !t.rows.iter().any(|r| cell(r, 0) == first) {
        faults.push(format!("selectors: interrupt semaphores begin at {first}"));
    }
    faults
}

fn events(t: &Table) -> Vec<String> {
    let want = [
        (0, format!("n = {}", event::HST_ARCH), format!("n = {:#x}", event::GST_ARCH)),
        (1, format!("({:#x})", event::HST_STARTUP), format!("({:#x})", event::GST_STARTUP)),
        (2, format!("({:#x})", event::HST_RECALL), format!("({:#x})", event::GST_RECALL)),
    ];
    let wrong = want.iter().filter(|(i, host, guest)| {
        let row = t.rows.get(*i).map_or(&[][..], |r| r);
        !cell(row, 1).contains(host) || !cell(row, 2).contains(guest)
    });
    wrong.map(|(i, host, guest)| format!("events, row {}: the code has {host} and {guest}", i + 1)).collect()
}

fn created(t: &Table) -> Vec<String> {
    use CreatePdOp::*;
    let names = [
        (Pd, "PD"),
        (Obj, "object space"),
        (Hst, "host space"),
        (Gst, "guest space"),
        (Dma, "DMA space"),
        (Pio, "PIO space"),
        (Msr, "MSR space"),
    ];
    let mut faults = Vec::new();
    let have: Vec<_> = t.rows.iter().map(|r| number(cell(r, 0))).collect();
    let want: Vec<_> = (0..16).filter(|n| CreatePdOp::from_flags(*n).is_some()).map(|n| Some(u64::from(n))).collect();
    faults.extend(same("OP", &have, &want));
    for (op, name) in names {
        if !t.rows.iter().any(|r| number(cell(r, 0)) == Some(op as u64) && cell(r, 1).contains(name)) {
            faults.push(format!("OP {} creates a {name}", op as u8));
        }
    }
    faults
}

fn platform(t: &Table) -> Vec<String> {
    let ops = [HwOp::Sleep, HwOp::Qos, HwOp::L3Mask, HwOp::L2Mask, HwOp::MbaDelay].map(|o| o as u64);
    let split = |r: &Vec<String>| {
        let words: Vec<u64> = cell(r, 0).split([',', ' ']).filter_map(number).collect();
        words
    };
    same("OP", &t.rows.iter().flat_map(split).collect::<Vec<_>>(), &ops)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Page {
        Page::parse("create_ec", text)
    }

    fn faults(head: &str, rows: &[&str]) -> Vec<String> {
        let rule = "|---".repeat(head.matches('|').count() - 1) + "|";
        let p = page(&format!("{head}\n{rule}\n{}\n", rows.join("\n")));
        let (_, compare) = kind(&p.tables[0].head).expect("a known table");
        compare(&p, &p.tables[0], &[])
    }

    #[test]
    fn wrong_bits_are_found() {
        let f = |rows: &[&str]| faults("| Bit of `features` | Name | Enabled |", rows);
        assert!(f(&["| 0 | IOMMU | |", "| 1 | VMX | |", "| 2 | SVM | |"]).is_empty());
        assert_eq!(f(&["| 0 | IOMMU | |", "| 2 | VMX | |", "| 1 | SVM | |"]).len(), 1);
        assert!(f(&["| 0 | IOMMU | |", "| 1 | VMX | |"])[0].contains("SVM"));
    }

    #[test]
    fn wrong_packing_is_found() {
        let f = |rows: &[&str]| faults("| SCD field | Bits | |", rows);
        let good = ["| budget_ms | 15:0 | |", "| prio | 22:16 | |", "| cos | 38:23 | |"];
        assert!(f(&good).is_empty());
        assert_eq!(f(&[good[0], "| prio | 23:16 | |", good[2]]).len(), 1);
        let f = |rows: &[&str]| faults("| MAD field | Bits | |", rows);
        assert!(f(&["| cacheability | 2:0 | |", "| key | 17:3 | |"]).is_empty());
        assert_eq!(f(&["| cacheability | 2:0 | |", "| key | 18:3 | |"]).len(), 1);
        let f = |rows: &[&str]| faults("| Item field | Bits | |", rows);
        assert!(f(&["| sel | 63:12 | |", "| arrival | 10:8 | |", "| perms | 4:0 | |"]).is_empty());
        assert_eq!(f(&["| sel | 63:12 | |", "| arrival | 11:8 | |", "| perms | 4:0 | |"]).len(), 1);
        let f = |rows: &[&str]| faults("| Arrival | Name | |", rows);
        let good = ["| 0 | NULL | |", "| 1 | KNOWN | |", "| 2 | NEW | |", "| 3 | FULL | |"];
        assert!(f(&good).is_empty());
        assert_eq!(f(&[good[0], good[2], good[1], good[3]]).len(), 1);
    }

    #[test]
    fn status_names_and_numbers_are_compared() {
        assert!(faults("| Status | Cause |", &["| SUCCESS | x |", "| BAD_CAP | y |"]).is_empty());
        assert_eq!(faults("| Status | Cause |", &["| BAD_CUP | y |"]), ["there is no status BAD_CUP"]);
        assert_eq!(faults("| No. | Name | Means |", &["| 0x0 | SUCCESS | |", "| 0x2 | TIMEOUT | |"]).len(), 1);
    }

    #[test]
    fn registers_of_a_page_are_those_of_the_convention() {
        let convention = "| Call | RDI[63:8] | RSI | RDX | RAX | R8 | Flags | Results |\n|---|---|---|---|---|---|---|---|\n\
            | a | | | | | | | |\n| b | | | | | | | |\n| c | | | | | | | |\n\
            | create_ec | sel | pd | hvp[63:12], cpu[11:0] | | | | RSI out[31:0] |\n";
        let check = |rows: &str| {
            let p = page(&format!("| Parameter | Register | |\n|---|---|---|\n{rows}"));
            let abi = Page::parse("abi", convention);
            parameters(&p, &p.tables[0], &[abi])
        };
        let good = "| sel | RDI[63:8] | x |\n| pd | RSI | x |\n| hvp | RDX[63:12] | |\n| cpu | RDX[11:0] | |\n";
        assert!(check(good).is_empty());
        assert!(check(&format!("{good}| out | RSI[31:0], out | |\n")).is_empty());
        assert_eq!(check(&good.replace("11:0", "10:0")).len(), 1);
        assert_eq!(check(&good.replace("| pd | RSI", "| pd | RDX")).len(), 1);
        assert_eq!(check(&format!("{good}| out | RDX[31:0], out | |\n")).len(), 1);
    }

    #[test]
    fn permissions_are_compared_bit_by_bit() {
        let head = "| Capability to | bit 0 | bit 1 | bit 2 | bit 3 | bit 4 |";
        let f = faults(head, &["| SM | CTRL_UP | CTRL_DN | ASSIGN (some) | | |"]);
        assert!(f.iter().all(|f| f.contains("there is no row")) && f.len() == 10);
        let f = faults(head, &["| SM | CTRL_DN | CTRL_UP | ASSIGN | | |"]);
        assert_eq!(f.len(), 11);
    }

    #[test]
    fn missing_tables_are_missed() {
        assert_eq!(check(&[]).len(), KINDS.len());
    }
}
