//! Counts in the source of a crate, by its tokens: what a compiler for the released kernel sees.
//!
//! A code line is one with a token on it. Comments, documentation and what `cfg` leaves out (tests, loom, features) have
//! none.

use crate::tree;
use anyhow::{Context, Result, anyhow};
use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A function longer than this needs a reason (CONTRIBUTING.md, `size-limits`).
pub const LONG: usize = 80;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Code lines.
    pub lines: usize,
    /// Of these, lines of `unsafe { ... }` blocks, their braces included.
    pub unsafe_lines: usize,
    /// Functions over [`LONG`] lines from `fn` to the closing brace, comments included: (place and name, lines).
    pub long: Vec<(String, usize)>,
}

impl Count {
    fn add(&mut self, other: Count) {
        self.lines += other.lines;
        self.unsafe_lines += other.unsafe_lines;
        self.long.extend(other.long);
    }
}

/// A crate: the file `root` and all modules below it.
pub fn krate(root: &Path) -> Result<Count> {
    let mut count = Count::default();
    files(root, |_, seen| count.add(seen.count()))?;
    count.long.sort();
    Ok(count)
}

/// The code lines of a crate, file by file.
pub fn code_lines(root: &Path) -> Result<BTreeMap<PathBuf, BTreeSet<usize>>> {
    let mut lines = BTreeMap::new();
    files(root, |file, seen| _ = lines.insert(file.to_path_buf(), seen.lines))?;
    Ok(lines)
}

fn files(root: &Path, mut each: impl FnMut(&Path, Seen)) -> Result<()> {
    // Where the modules of a file are: beside a root or a `mod.rs`, else in a folder of the file's name.
    let mut files = vec![(root.to_path_buf(), root.parent().context("no folder")?.to_path_buf())];
    while let Some((file, below)) = files.pop() {
        let seen = text(&tree::shown(&file), &tree::read_text(&file)?)?;
        files.extend(seen.modules.iter().map(|m| (module(&below, m), below.join(m))));
        each(&file, seen);
    }
    Ok(())
}

fn module(below: &Path, name: &str) -> PathBuf {
    let beside = below.join(format!("{name}.rs"));
    if beside.is_file() { beside } else { below.join(name).join("mod.rs") }
}

fn text(place: &str, text: &str) -> Result<Seen> {
    let tokens: TokenStream = text.parse().map_err(|e| anyhow!("{place}: {e}"))?;
    let mut seen = Seen { place: place.into(), ..Seen::default() };
    seen.walk(tokens);
    Ok(seen)
}

/// What is in a file.
#[derive(Default)]
struct Seen {
    place: String,
    lines: BTreeSet<usize>,
    unsafe_lines: BTreeSet<usize>,
    long: Vec<(String, usize)>,
    /// Declared without a body.
    modules: Vec<String>,
}

impl Seen {
    fn count(self) -> Count {
        Count { lines: self.lines.len(), unsafe_lines: self.unsafe_lines.len(), long: self.long }
    }

    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut i = 0;
        while let Some(t) = tokens.get(i) {
            if let Some((attribute, len)) = attribute(&tokens[i..]) {
                match words(attribute).first().map(String::as_str) {
                    Some("doc") => i += len,
                    Some("cfg") if !holds(&attribute.stream()) => i += len + item(&tokens[i + len..]),
                    _ => i = self.tokens(&tokens[i..i + len], i),
                }
                continue;
            }
            self.look(&tokens[i..]);
            i = self.tokens(std::slice::from_ref(t), i);
        }
    }

    /// Counts the lines of these tokens, and of what is in them.
    fn tokens(&mut self, tokens: &[TokenTree], at: usize) -> usize {
        for t in tokens {
            if let TokenTree::Group(g) = t {
                self.lines.extend([g.span_open().start().line, g.span_close().end().line]);
                self.walk(g.stream());
            } else {
                self.lines.extend(t.span().start().line..=t.span().end().line);
            }
        }
        at + tokens.len()
    }

    /// What begins here: an unsafe block, a function, a module in a file of its own.
    fn look(&mut self, rest: &[TokenTree]) {
        let word = |i: usize| if let Some(TokenTree::Ident(w)) = rest.get(i) { w.to_string() } else { String::new() };
        match (word(0).as_str(), rest.get(1)) {
            ("unsafe", Some(TokenTree::Group(g))) if g.delimiter() == Delimiter::Brace => {
                let mut block = Seen::default();
                block.tokens(&rest[..2], 0);
                self.unsafe_lines.extend(block.lines);
            }
            ("fn", Some(TokenTree::Ident(name))) => {
                if let Some(TokenTree::Group(body)) = rest[1..].iter().find(|t| is_brace(t) || is(t, ';')) {
                    let first = rest[0].span().start().line;
                    let lines = body.span_close().end().line + 1 - first;
                    if lines > LONG {
                        self.long.push((format!("{}:{first} {name}", self.place), lines));
                    }
                }
            }
            ("mod", Some(TokenTree::Ident(name))) if rest.get(2).is_some_and(|t| is(t, ';')) => {
                self.modules.push(name.to_string());
            }
            _ => {}
        }
    }
}

fn is(t: &TokenTree, c: char) -> bool {
    matches!(t, TokenTree::Punct(p) if p.as_char() == c)
}

fn is_brace(t: &TokenTree) -> bool {
    matches!(t, TokenTree::Group(g) if g.delimiter() == Delimiter::Brace)
}

/// `#[...]` or `#![...]` at the beginning: its brackets, and its tokens.
fn attribute(rest: &[TokenTree]) -> Option<(&Group, usize)> {
    if !is(rest.first()?, '#') {
        return None;
    }
    let at = if is(rest.get(1)?, '!') { 2 } else { 1 };
    match rest.get(at)? {
        TokenTree::Group(g) if g.delimiter() == Delimiter::Bracket => Some((g, at + 1)),
        _ => None,
    }
}

fn words(g: &Group) -> Vec<String> {
    g.stream().into_iter().map(|t| t.to_string()).collect()
}

/// Tokens of the item, statement or arm at the beginning, with the attributes before it: up to a body or `;` or `,`.
fn item(rest: &[TokenTree]) -> usize {
    let (mut i, mut angles) = (0, 0);
    while let Some(t) = rest.get(i) {
        if let Some((_, len)) = attribute(&rest[i..]) {
            i += len;
            continue;
        }
        i += 1;
        match t {
            t if is(t, ';') || (is(t, ',') && angles == 0) => return i,
            t if is_brace(t) => return i + usize::from(rest.get(i).is_some_and(|t| is(t, ';') || is(t, ','))),
            t if is(t, '<') => angles += 1,
            // Not the arrow of `->` or `=>`.
            t if is(t, '>') && !(is(&rest[i - 2], '-') || is(&rest[i - 2], '=')) => angles -= 1,
            _ => {}
        }
    }
    i
}

/// Whether the condition of `cfg(...)` holds in the kernel that is released.
fn holds(cfg: &TokenStream) -> bool {
    let tokens: Vec<_> = cfg.clone().into_iter().collect();
    match &tokens[..] {
        [TokenTree::Ident(w), TokenTree::Group(g)] => {
            let all: Vec<_> = g.stream().into_iter().collect();
            let mut each =
                all.split(|t| is(t, ',')).filter(|p| !p.is_empty()).map(|p| holds(&p.iter().cloned().collect()));
            match w.to_string().as_str() {
                "any" => each.any(|h| h),
                "not" => !each.all(|h| h),
                _ => each.all(|h| h),
            }
        }
        [TokenTree::Ident(w), ..] => !["test", "loom", "feature", "debug_assertions"].contains(&w.to_string().as_str()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(s: &str) -> Count {
        text("f.rs", s).unwrap().count()
    }

    #[test]
    fn comments_documentation_and_blanks_do_not_count() {
        let c = count(
            "//! File.\n\n/// Doc.\n// Why.\n#[inline]\nfn a() /* so */ {\n\n    b(); // c\n    /* d\n    */\n}\n",
        );
        assert_eq!((c.lines, c.unsafe_lines), (4, 0));
        assert_eq!(count("const A: &str = \"x\n\ny\";").lines, 3, "a string's lines are code");
    }

    #[test]
    fn what_the_released_kernel_does_not_hold_does_not_count() {
        let tests = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        assert_eq!(count(tests).lines, 2);
        assert_eq!(count("#[cfg(all(test, not(loom)))]\nuse a::{b, c};\n#[cfg(not(loom))]\nuse d;\n").lines, 2);
        assert_eq!(count("#[cfg(feature = \"inject\")]\nfn a<A, B>() -> C<D> {\n}\nfn b() {}\n").lines, 1);
        assert_eq!(count("match a {\n#[cfg(test)]\nA => b(),\nC => d(),\n}\n").lines, 3);
        assert_eq!(count("#[cfg(any(test, target_arch = \"x86_64\"))]\nfn a() {}\n").lines, 2);
    }

    #[test]
    fn modules_are_followed_but_for_tests() {
        let found = text("f.rs", "mod a;\npub mod b;\n#[cfg(test)]\nmod tests;\nmod c {}\n").unwrap().modules;
        assert_eq!(found, ["a", "b"]);
        let root = tree::root().join("hypervisor/cap/src/lib.rs");
        let alone = text("", &tree::read_text(&root).unwrap()).unwrap().lines;
        assert!(krate(&root).unwrap().lines > alone.len());
        let each = code_lines(&root).unwrap();
        assert_eq!(each[&root], alone);
        assert_eq!(each.values().map(BTreeSet::len).sum::<usize>(), krate(&root).unwrap().lines);
        assert!(krate(Path::new("/no/such/lib.rs")).is_err());
    }

    #[test]
    fn unsafe_blocks_count_once_wherever_they_are() {
        let c = count(
            "fn a() {\n    unsafe {\n        b();\n        unsafe { c() }\n    }\n}\nmacro_rules! m {\n() => { unsafe { d() } }\n}\n",
        );
        assert_eq!((c.lines, c.unsafe_lines), (9, 5));
        assert_eq!(count("unsafe fn a() {\n}\nunsafe impl A for B {\n}\n").unsafe_lines, 0);
    }

    #[test]
    fn long_functions_are_named() {
        let body = |lines: usize| format!("\n\ntype F = fn(u8);\nfn f() {{\n{}}}\n", "// x\n".repeat(lines - 2));
        assert_eq!(count(&body(LONG)).long, []);
        assert_eq!(count(&body(LONG + 1)).long, [("f.rs:4 f".to_owned(), LONG + 1)]);
        assert_eq!(count(&format!("trait T {{\nfn f();\nfn g() {{}}\n{}}}\n", "\n".repeat(99))).long, []);
    }

    #[test]
    fn what_is_no_rust_is_refused() {
        assert!(text("f.rs", "fn a( {").err().unwrap().to_string().contains("f.rs"));
    }
}
