//! Each hypercall, and each operation of an extension that is there, has a page and a function of its name.

use super::page::{Block, Page};
use abi::{ExtOp, Hypercall};
use regex::Regex;

/// `IpcCall` as `ipc_call`.
pub fn snake(name: &str) -> String {
    let mut s = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !s.is_empty() {
            s.push('_');
        }
        s.push(c.to_ascii_lowercase());
    }
    s
}

/// Faults. `calls`: the source of the kernel's hypercalls.
pub fn check(pages: &[Page], calls: &str) -> Vec<String> {
    let base = Hypercall::ALL.iter().map(|h| (snake(&format!("{h:?}")), format!("{:#x}", *h as u8)));
    let there = ExtOp::ALL.iter().filter(|o| has(calls, **o));
    let ext = there.map(|o| (snake(&format!("{o:?}")), format!("{:#x}.{}", abi::EXT_NUMBER, *o as u8)));
    base.chain(ext).flat_map(|(name, number)| one(pages, calls, &name, &number)).collect()
}

/// Whether the kernel says that it has the operation: its feature is part of `FEATURES`.
fn has(calls: &str, op: ExtOp) -> bool {
    let features = calls.split_once("const FEATURES").and_then(|(_, r)| r.split_once(';')).map_or("", |(f, _)| f);
    let names = op.feature().iter_names().map(|(n, _)| n).collect::<Vec<_>>();
    names.iter().any(|n| Regex::new(&format!(r"\b{n}\b")).is_ok_and(|r| r.is_match(features)))
}

fn one(pages: &[Page], calls: &str, name: &str, number: &str) -> Vec<String> {
    let mut faults = Vec::new();
    match pages.iter().find(|p| p.name == name) {
        None => faults.push(format!("{name}: it has no page")),
        Some(p) => {
            let first = p.blocks.iter().find_map(|b| if let Block::Text(t) = b { Some(t.as_str()) } else { None });
            let numbered = first.is_some_and(|t| t.contains(&format!("No. {number}.")));
            if !numbered {
                faults.push(format!("{name}: the page does not begin with what it does and `No. {number}.`"));
            }
            if p.tags.is_empty() {
                faults.push(format!("{name}: the page states nothing"));
            }
        }
    }
    if !Regex::new(&format!(r"\bfn {name}\(")).is_ok_and(|r| r.is_match(calls)) {
        faults.push(format!("{name}: the kernel has no function of this name"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(name: &str, text: &str) -> Page {
        Page::parse(name, text)
    }

    #[test]
    fn names_are_those_of_the_pages() {
        assert_eq!(snake("IpcCall"), "ipc_call");
        assert_eq!(snake("Destroy"), "destroy");
    }

    #[test]
    fn a_call_needs_page_number_and_function() {
        let good = [page("ctrl_sm", "# ctrl_sm\n\nUp. No. 0xb.\n\n* it does [ctrl_sm-1]\n")];
        assert!(one(&good, "pub fn ctrl_sm(ec: Ec)", "ctrl_sm", "0xb").is_empty());
        assert_eq!(
            one(&good, "fn ctrl_sm_x()", "ctrl_sm", "0xb"),
            ["ctrl_sm: the kernel has no function of this name"]
        );
        assert_eq!(one(&good, "fn ctrl_sm(", "ctrl_sm", "0xa").len(), 1);
        assert_eq!(one(&[], "fn ctrl_sm(", "ctrl_sm", "0xb"), ["ctrl_sm: it has no page"]);
    }

    #[test]
    fn all_base_calls_are_wanted_and_extensions_that_are_there() {
        let without = check(&[], "pub const FEATURES: ExtFeatures = ExtFeatures::empty();");
        assert_eq!(without.len(), 2 * Hypercall::ALL.len());
        let with = check(&[], "pub const FEATURES: ExtFeatures = ExtFeatures::QUOTA.union(ExtFeatures::TRACE);");
        assert_eq!(with.len(), without.len() + 6);
        assert!(with.contains(&"move_quota: it has no page".to_string()));
    }
}
