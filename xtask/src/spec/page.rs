//! A page: its tags, its tables, and the statements that have no tag.
//!
//! Key types: [`Page`], [`Table`], [`Block`].

use super::{UNTESTED, layout};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use regex::Regex;
use std::sync::LazyLock;

/// `[create_pd-7]`.
static TAG: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[([a-z_]+-[0-9]+)\]").expect("constant pattern"));

/// A page of docs/spec.
pub struct Page {
    /// Name of its file, in lower case, without the ending.
    pub name: String,
    /// All tags, in their order.
    pub tags: Vec<String>,
    /// What it states, piece by piece.
    pub blocks: Vec<Block>,
    /// Its tables.
    pub tables: Vec<Table>,
}

/// A table, in plain text and without tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// First row.
    pub head: Vec<String>,
    /// All others.
    pub rows: Vec<Vec<String>>,
}

/// A piece of text that states something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A paragraph, or an item of a list.
    Text(String),
    /// A row of the table of that number.
    Row(usize, String),
}

impl Page {
    /// Reads a page.
    pub fn parse(name: &str, text: &str) -> Page {
        let mut p = Page {
            name: name.into(),
            tags: TAG.captures_iter(text).map(|c| c[1].to_string()).collect(),
            blocks: Vec::new(),
            tables: Vec::new(),
        };
        let (mut quotes, mut items, mut cell) = (0, 0, None::<String>);
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            let source = || text[range.clone()].trim().to_string();
            match event {
                Event::Start(Tag::BlockQuote(_)) => quotes += 1,
                Event::End(TagEnd::BlockQuote(_)) => quotes -= 1,
                Event::Start(Tag::Item) => {
                    items += 1;
                    if quotes == 0 {
                        p.blocks.push(Block::Text(source()));
                    }
                }
                Event::End(TagEnd::Item) => items -= 1,
                Event::Start(Tag::Paragraph) if quotes == 0 && items == 0 => p.blocks.push(Block::Text(source())),
                Event::Start(Tag::Table(_)) => p.tables.push(Table::default()),
                Event::Start(Tag::TableRow) => {
                    p.blocks.push(Block::Row(p.tables.len() - 1, source()));
                    p.last().rows.push(Vec::new());
                }
                Event::Start(Tag::TableCell) => cell = Some(String::new()),
                Event::End(TagEnd::TableCell) => {
                    let text = TAG.replace_all(&cell.take().unwrap_or_default(), "").trim().to_string();
                    let t = p.last();
                    t.rows.last_mut().unwrap_or(&mut t.head).push(text);
                }
                Event::Text(s) | Event::Code(s) => {
                    if let Some(c) = &mut cell {
                        c.push_str(&s);
                    }
                }
                _ => {}
            }
        }
        p
    }

    fn last(&mut self) -> &mut Table {
        self.tables.last_mut().expect("rows and cells are inside of tables")
    }
}

/// Statements of a page that have no tag.
pub fn bare(page: &Page) -> Vec<String> {
    // These two are about the pages.
    if page.name == "readme" || page.name == UNTESTED {
        return Vec::new();
    }
    let first = page.blocks.iter().position(|b| matches!(b, Block::Text(_)));
    let states = |(i, b): &(usize, &Block)| match b {
        Block::Text(t) => {
            let heading = t.starts_with("**") && t.find("**\n").or(t.rfind("**")) == Some(t.len() - 2);
            Some(*i) != first && !TAG.is_match(t) && !t.ends_with(':') && t != "No flags." && !heading
        }
        Block::Row(n, t) => !TAG.is_match(t) && !layout::is_compared(&page.tables[*n].head),
    };
    let bare = page.blocks.iter().enumerate().filter(states);
    bare.map(|(_, b)| format!("{}: no tag: {}", page.name, b.text().lines().next().unwrap_or_default())).collect()
}

impl Block {
    fn text(&self) -> &str {
        match self {
            Block::Text(t) | Block::Row(_, t) => t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# x\n\nWhat it is about.\n\n| Flag | |\n|---|---|\n| `G` (bit 0) | one [x-1] |\n| T | two |\n\n\
        **After**\n* it is so [x-2]\n* it is not\n\n**Lists**: they follow:\n\n> Why.\n\nNo flags.\n\nA last one.\n";

    #[test]
    fn tags_and_tables_are_found() {
        let p = Page::parse("x", TEXT);
        assert_eq!(p.tags, ["x-1", "x-2"]);
        assert_eq!(p.tables.len(), 1);
        assert_eq!(p.tables[0].head, ["Flag", ""]);
        assert_eq!(p.tables[0].rows, [["G (bit 0)", "one"], ["T", "two"]]);
    }

    #[test]
    fn statements_without_a_tag_are_named() {
        let want = ["x: no tag: | T | two |", "x: no tag: * it is not", "x: no tag: A last one."];
        assert_eq!(bare(&Page::parse("x", TEXT)), want);
        assert!(bare(&Page::parse("readme", TEXT)).is_empty());
    }

    #[test]
    fn tables_that_are_compared_with_the_code_need_none() {
        let t = "# x\n\nAbout.\n\n| No. | Name | Means |\n|---|---|---|\n| 0x0 | SUCCESS | done |\n";
        assert!(bare(&Page::parse("x", t)).is_empty());
    }
}
