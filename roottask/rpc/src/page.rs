//! The reference page of an interface, made from its table.

use crate::{Method, Size, Table};
use alloc::format;
use alloc::string::String;
use core::fmt::Write;

/// The page, in Markdown.
pub fn page(t: &Table) -> String {
    let mut page = format!("# {}\n\n{}\n\n", t.name, t.doc);
    let (ram, caps) = (t.cost.ram, t.cost.caps);
    let _ = writeln!(
        page,
        "Version {}. A session donates at least {ram} bytes of RAM and {caps} capabilities.\n",
        t.built.version
    );
    page.push_str("| No. | Method | Goes |\n|---|---|---|\n");
    for (number, m) in (1..).zip(t.methods) {
        let way = if m.short { "in registers" } else { "in the UTCB" };
        let _ = writeln!(page, "| {number} | [`{0}`](#{0}) | {way} |", m.name);
    }
    t.methods.iter().for_each(|m| method(&mut page, m));
    page
}

fn method(page: &mut String, m: &Method) {
    let _ = writeln!(page, "\n## {}\n\n{}\n", m.name, m.doc);
    page.push_str("| | Type | Words | Capabilities |\n|---|---|---|---|\n");
    let mut row = |what: &str, kind: &str, Size { words, items }| {
        let _ = writeln!(page, "| {what} | `{kind}` | {words} | {items} |");
    };
    m.arguments.iter().for_each(|a| row(&format!("`{}`", a.name), a.kind, a.size));
    row("answer", m.returns, m.answer);
}
