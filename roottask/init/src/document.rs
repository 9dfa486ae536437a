//! What a configuration's text says, before anybody asks what it means: a tree of values that know where they are. From
//! TOML with positions, or, by serde, from anything else that has tables, without.
//!
//! Key types: [`Node`], [`At`]. `reader` takes trees apart, `parse` knows what belongs where.

use crate::defect::{Cause, Defect};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// Deepest nesting of tables and lists. Whoever reads or drops a tree does it by recursion, on stacks of 256 KiB.
const DEEPEST: usize = 48;

/// A place in a text: line and column in characters, both from 1; both 0 where there is no text with lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A value and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub at: At,
}

/// A value of a configuration, with all that is in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// What a [`Node`] can be.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Time(Datetime),
    List(Vec<Node>),
    Table(Table),
}

/// A table: keys with their places and values.
pub type Table = BTreeMap<String, (At, Node)>;

impl Node {
    /// Reads TOML. All errors of syntax are told, not the first alone.
    pub fn from_toml(text: &str) -> Result<Node, Vec<Defect>> {
        let lines = Lines::new(text);
        shallow(text).map_err(|offset| vec![too_deep(lines.at(offset))])?;
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let mut defects: Vec<_> = errors.iter().map(|e| syntax(&lines, e)).collect();
            defects.sort_by_key(|d| d.at);
            // What follows in a line is mostly a consequence.
            defects.dedup_by_key(|d| d.at.line);
            return Err(defects);
        }
        let mut defects = Vec::new();
        let span = table.span();
        let node = lines.node(span, DeValue::Table(table.into_inner()), &mut defects);
        if defects.is_empty() { Ok(node) } else { Err(defects) }
    }

    /// The text that a component gets of this table.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(&self.toml())
    }

    fn toml(&self) -> toml::Value {
        match &self.value {
            Value::Bool(b) => (*b).into(),
            Value::Integer(i) => (*i).into(),
            Value::Float(f) => (*f).into(),
            Value::Text(t) => t.as_str().into(),
            Value::Time(d) => toml::Value::Datetime(*d),
            Value::List(l) => l.iter().map(Node::toml).collect::<Vec<_>>().into(),
            Value::Table(t) => toml::Value::Table(t.iter().map(|(k, (_, n))| (k.clone(), n.toml())).collect()),
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Bool(_) => "a truth value",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a point",
            Value::Text(_) => "a string",
            Value::Time(_) => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

fn syntax(lines: &Lines<'_>, e: &toml::de::Error) -> Defect {
    let message = e.message().lines().collect::<Vec<_>>().join(", ");
    Defect { at: lines.at(e.span().map_or(0, |s| s.start)), cause: Cause::Syntax(message) }
}

fn too_deep(at: At) -> Defect {
    Defect { at, cause: Cause::Syntax(format!("nested more than {DEEPEST} deep")) }
}

/// Counts generously how deep the tree of a text can be, and says where it gets too deep: the parser and its trees
/// would exhaust the stack before anything here could look at them.
fn shallow(text: &str) -> Result<(), usize> {
    // Dots of the key that is being read at the end, and before it those outside of each bracket that is open.
    let mut dots = vec![0];
    // Most dots in a table's header, each of which can be a list of tables.
    let mut header = 0;
    for token in Source::new(text).lex() {
        match (token.kind(), dots.as_mut_slice()) {
            (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket, _) => dots.push(0),
            (TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket, [_, .., inside]) => {
                header = header.max(*inside);
                dots.pop();
            }
            (TokenKind::Dot, [.., innermost]) => *innermost += 1,
            (TokenKind::Comma, [.., innermost]) => *innermost = 0,
            (TokenKind::Newline, [outermost]) => *outermost = 0,
            _ => (),
        }
        if 2 * header + dots.len() + dots.iter().sum::<usize>() > DEEPEST {
            return Err(token.span().start());
        }
    }
    Ok(())
}

/// Where the lines of a text start, to turn offsets into places.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        let after = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Lines { text, starts: std::iter::once(0).chain(after).collect() }
    }

    fn at(&self, offset: usize) -> At {
        let line = self.starts.partition_point(|&s| s <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or("");
        At { line, column: before.chars().count() + 1 }
    }

    fn node(&self, span: Range<usize>, value: DeValue<'_>, defects: &mut Vec<Defect>) -> Node {
        let at = self.at(span.start);
        let mut beyond = |what: &str| {
            defects.push(Defect { at, cause: Cause::Syntax(format!("{what} is beyond what can be represented")) });
        };
        let value = match value {
            DeValue::Boolean(b) => Value::Bool(b),
            DeValue::Integer(i) => Value::Integer(i64::from_str_radix(i.as_str(), i.radix()).unwrap_or_else(|_| {
                beyond("the integer");
                0
            })),
            DeValue::Float(f) => Value::Float(f.as_str().parse().unwrap_or_else(|_| {
                beyond("the number");
                0.0
            })),
            DeValue::String(s) => Value::Text(s.into_owned()),
            DeValue::Datetime(d) => Value::Time(d),
            DeValue::Array(a) => Value::List(a.into_iter().map(|v| self.spanned(v, defects)).collect()),
            DeValue::Table(t) => Value::Table(self.table(t, defects)),
        };
        Node { at, value }
    }

    fn spanned(&self, value: Spanned<DeValue<'_>>, defects: &mut Vec<Defect>) -> Node {
        let span = value.span();
        self.node(span, value.into_inner(), defects)
    }

    fn table(&self, table: DeTable<'_>, defects: &mut Vec<Defect>) -> Table {
        let mut entry = |(k, v): (Spanned<Cow<'_, str>>, _)| {
            let at = self.at(k.span().start);
            (k.into_inner().into_owned(), (at, self.spanned(v, defects)))
        };
        table.into_iter().map(&mut entry).collect()
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(Nodes)
    }
}

/// Makes nodes without places of what serde finds. How deep that may go is the format's to say.
struct Nodes;

impl Nodes {
    fn node<E>(value: Value) -> Result<Node, E> {
        Ok(Node { at: At::default(), value })
    }
}

impl<'de> Visitor<'de> for Nodes {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a truth value, a number, a string, a list or a table")
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Node, E> {
        Nodes::node(Value::Bool(b))
    }

    fn visit_i64<E: Error>(self, i: i64) -> Result<Node, E> {
        Nodes::node(Value::Integer(i))
    }

    fn visit_u64<E: Error>(self, u: u64) -> Result<Node, E> {
        Nodes::node(Value::Integer(i64::try_from(u).map_err(|_| E::custom(format!("{u} is too large")))?))
    }

    fn visit_f64<E: Error>(self, f: f64) -> Result<Node, E> {
        Nodes::node(Value::Float(f))
    }

    fn visit_str<E: Error>(self, s: &str) -> Result<Node, E> {
        Nodes::node(Value::Text(s.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = seq.next_element()? {
            list.push(node);
        }
        Nodes::node(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut table = Table::new();
        while let Some((key, node)) = map.next_entry::<String, Node>()? {
            if table.contains_key(&key) {
                return Err(A::Error::custom(format!("key `{key}` is there twice")));
            }
            table.insert(key, (At::default(), node));
        }
        Nodes::node(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: &str = "b = true\nd = 1979-05-27T07:32:00Z\nf = -1.5\ni = 0x10\nl = [1, [2]]\nt = \"ü\"\n\n[u]\na = 1\n";

    fn get<'a>(node: &'a Node, key: &str) -> &'a Node {
        match &node.value {
            Value::Table(t) => &t[key].1,
            _ => panic!("no table"),
        }
    }

    #[test]
    fn values_come_with_their_places_and_go_back_to_text() {
        let node = Node::from_toml(ALL).unwrap();
        let at = |line, column| At { line, column };
        assert_eq!(*get(&node, "i"), Node { at: at(4, 5), value: Value::Integer(16) });
        assert_eq!(get(get(&node, "u"), "a").at, at(9, 5));
        let text = node.to_toml().unwrap();
        assert_eq!(text, ALL.replace("0x10", "16"));
        assert_eq!(toml::from_str::<toml::Table>(&text).unwrap(), toml::from_str(ALL).unwrap());
    }

    #[test]
    fn numbers_beyond_all_bounds_are_no_syntax() {
        let e = Node::from_toml("a = 9223372036854775808\nb = 1\nc = -9223372036854775809\n").unwrap_err();
        assert_eq!(e.len(), 2, "{e:?}");
        assert_eq!(e[1].to_string(), "line 3, column 5: the integer is beyond what can be represented");
    }

    /// Reads the text on a stack as small as a component's first one.
    fn on_a_small_stack(text: String) -> Result<usize, Vec<Defect>> {
        fn depth(n: &Node) -> usize {
            match &n.value {
                Value::List(l) => 1 + l.iter().map(depth).max().unwrap_or(0),
                Value::Table(t) => 1 + t.values().map(|(_, n)| depth(n)).max().unwrap_or(0),
                _ => 0,
            }
        }
        let read = move || Node::from_toml(&text).map(|n| depth(&n));
        std::thread::Builder::new().stack_size(256 << 10).spawn(read).unwrap().join().unwrap()
    }

    #[test]
    fn nesting_has_an_end_before_the_stack_has() {
        let dotted = |n| vec!["a"; n].join(".");
        let inline = |n, key: &str, end: &str| format!("{}{end}{}", format!("{{ {key} = ").repeat(n), " }".repeat(n));
        for (text, depth) in [
            (format!("a = {}", inline(20, "a", "1")), 21),
            (format!("a = {}{}", "[".repeat(20), "]".repeat(20)), 21),
            (format!("{} = 1", dotted(20)), 20),
            (format!("[[{}]]\na = 1", dotted(20)), 22),
        ] {
            assert_eq!(on_a_small_stack(text), Ok(depth));
        }
        for text in [
            format!("a = {}", inline(5000, "a", "1")),
            format!("a = {}", "[".repeat(100_000)),
            format!("{} = 1", dotted(79)),
            format!("[{}]\n{} = {}", dotted(79), dotted(79), inline(79, &dotted(79), "1")),
            format!("[[{0}]]\n[[{0}.{0}]]\na.b.c = 1", dotted(12)),
        ] {
            let e = on_a_small_stack(text).unwrap_err();
            assert!(e[0].to_string().ends_with("nested more than 48 deep"), "{e:?}");
        }
    }

    #[test]
    fn other_formats_are_read_without_places() {
        let json = r#"{ "a": [true, 1, 18446744073709551615, -2, 1.5, "x", {}] }"#;
        let e = serde_json::from_str::<Node>(json).unwrap_err().to_string();
        assert!(e.starts_with("18446744073709551615 is too large"), "{e}");
        let node: Node = serde_json::from_str(&json.replace("18446744073709551615", "7")).unwrap();
        assert_eq!(node.to_toml().unwrap(), "a = [true, 1, 7, -2, 1.5, \"x\", {}]\n");
        assert_eq!(get(&node, "a").at, At::default());
        let twice = serde_json::from_str::<Node>(r#"{ "a": 1, "a": 2 }"#).unwrap_err().to_string();
        assert!(twice.starts_with("key `a` is there twice"), "{twice}");
        let null = serde_json::from_str::<Node>("null").unwrap_err().to_string();
        assert!(null.contains("expected a truth value, a number"), "{null}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in r#"[\[\]{}.=,a1"'\n -]{0,60}"#) {
            let _ = Node::from_toml(&text);
        }

        #[test]
        fn places_are_those_of_the_text(lines in prop::collection::vec("[aü]{0,5}", 1..6), offset in 0usize..60) {
            let text = lines.join("\n");
            let at = Lines::new(&text).at(offset);
            if text.is_char_boundary(offset) {
                let before = &text[..offset];
                let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
                prop_assert_eq!(at, At { line: before.matches('\n').count() + 1, column });
            }
        }
    }
}
