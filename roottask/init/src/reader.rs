//! Takes tables apart key by key, and notes all that is wrong on the way.
//!
//! Key type: [`Reader`]. What is read and is not what it should be is a [`Defect`] and then `None`; reading goes on.

use crate::defect::{Cause, Defect, Hint};
use crate::document::{At, Node, Placed, Table, Value};
use parent::{NAME_LEN, Name};

/// Reads one table.
pub(crate) struct Reader<'a> {
    /// What the table is, for messages: "component `uart`".
    pub place: String,
    /// Where it is.
    pub at: At,
    table: Option<&'a Table>,
    known: Vec<&'static str>,
    /// What was found wrong.
    pub defects: Vec<Defect>,
}

impl<'a> Reader<'a> {
    /// Begins with a table. What is none has no keys, and is a defect.
    pub fn new(place: String, node: &'a Node) -> Reader<'a> {
        let mut r = Reader { place, at: node.at, table: None, known: Vec::new(), defects: Vec::new() };
        match &node.value {
            Value::Table(t) => r.table = Some(t),
            _ => {
                let message = format!("{}: a table is expected, found {}", r.place, node.kind());
                r.defects.push(Defect { at: node.at, cause: Cause::Syntax(message) });
            }
        }
        r
    }

    /// The value of a key that may be there.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        self.table?.get(key).map(|(_, n)| n)
    }

    /// The value of a key that must be there.
    pub fn need(&mut self, key: &'static str) -> Option<&'a Node> {
        let node = self.get(key);
        if node.is_none() && self.table.is_some() {
            self.missing(key);
        }
        node
    }

    /// Notes that a key is missing.
    pub fn missing(&mut self, key: &'static str) {
        let cause = Cause::MissingKey { key, place: self.place.clone() };
        self.defects.push(Defect { at: self.at, cause });
    }

    /// Notes what is wrong with the value of a key.
    pub fn wrong(&mut self, at: At, key: &'static str, reason: impl ToString) {
        let cause = Cause::Value { place: self.place.clone(), key, reason: reason.to_string() };
        self.defects.push(Defect { at, cause });
    }

    /// The value, or a defect that tells its error.
    pub fn check<T>(&mut self, at: At, key: &'static str, value: Result<T, impl ToString>) -> Option<T> {
        value.map_err(|e| self.wrong(at, key, e)).ok()
    }

    /// Notes the keys that nobody asked for, and gives back what was wrong.
    pub fn finish(mut self) -> Vec<Defect> {
        for (key, (at, _)) in self.table.into_iter().flatten() {
            if !self.known.contains(&key.as_str()) {
                let hint = Hint::new(key, self.known.iter().copied());
                let cause = Cause::UnknownKey { key: key.clone(), place: self.place.clone(), hint };
                self.defects.push(Defect { at: *at, cause });
            }
        }
        self.defects
    }

    fn type_error<T>(&mut self, node: &Node, key: &'static str, expected: &str) -> Option<T> {
        self.wrong(node.at, key, format!("{expected} is expected, found {}", node.kind()));
        None
    }

    /// A string.
    pub fn text(&mut self, key: &'static str, node: &'a Node) -> Option<&'a str> {
        match &node.value {
            Value::Text(t) => Some(t),
            _ => self.type_error(node, key, "a string"),
        }
    }

    /// An integer.
    pub fn integer(&mut self, key: &'static str, node: &Node) -> Option<i64> {
        match node.value {
            Value::Integer(i) => Some(i),
            _ => self.type_error(node, key, "an integer"),
        }
    }

    /// An integer of a range.
    pub fn within<T: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        node: &Node,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<T> {
        let n = self.integer(key, node)?;
        let value = range.contains(&n).then(|| T::try_from(n).ok()).flatten();
        if value.is_none() {
            self.wrong(node.at, key, format!("{n} is not in {} to {}", range.start(), range.end()));
        }
        value
    }

    /// A list.
    pub fn list(&mut self, key: &'static str, node: &'a Node) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(l) => Some(l),
            _ => self.type_error(node, key, "a list"),
        }
    }

    /// The value of an optional key, read by `one`; a value that cannot be read is told and then as if not there.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        one: impl FnOnce(&mut Self, &'static str, &'a Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.get(key)?;
        one(self, key, node)
    }

    /// The list behind an optional key, each element read by `one`; an element that cannot be read is told and left
    /// out.
    pub fn each<T>(
        &mut self,
        key: &'static str,
        mut one: impl FnMut(&mut Self, &'static str, &'a Node) -> Option<T>,
    ) -> Vec<T> {
        let list = self.optional(key, Self::list).unwrap_or_default();
        list.iter().filter_map(|n| one(self, key, n)).collect()
    }

    /// A string, or a list of them.
    pub fn texts(&mut self, key: &'static str) -> Vec<Placed<&'a str>> {
        let placed = |r: &mut Self, n: &'a Node| Some(Placed { value: r.text(key, n)?, at: n.at });
        match self.get(key) {
            None => Vec::new(),
            Some(n) => match &n.value {
                Value::List(l) => l.iter().filter_map(|n| placed(self, n)).collect(),
                Value::Text(_) => placed(self, n).into_iter().collect(),
                _ => self.type_error(n, key, "a string or a list of them").unwrap_or_default(),
            },
        }
    }

    /// A word of those that there are.
    pub fn word<T: Copy>(&mut self, key: &'static str, node: &'a Node, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key, node)?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let hint = Hint::new(text, choices.iter().map(|(word, _)| *word));
            self.wrong(node.at, key, format!("`{text}` is not possible{hint}"));
        }
        found
    }

    /// A name.
    pub fn name(&mut self, key: &'static str, node: &'a Node) -> Option<Placed<Name>> {
        let text = self.text(key, node)?;
        self.as_name(key, text, node.at)
    }

    /// The same of a text that was found elsewhere.
    pub fn as_name(&mut self, key: &'static str, text: &str, at: At) -> Option<Placed<Name>> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            self.wrong(at, key, format!("{text:?} is no name: visible ASCII characters are expected"));
            return None;
        }
        let name = Name::new(text).ok_or_else(|| format!("`{text}` is longer than {NAME_LEN} bytes"));
        self.check(at, key, name).map(|value| Placed { value, at })
    }

    /// A list of names, each once.
    pub fn names(&mut self, key: &'static str) -> Vec<Placed<Name>> {
        let all = self.each(key, Self::name);
        self.once(key, all, |a, b| a.value == b.value, |n| format!("`{}`", n.value))
    }

    /// Notes and leaves out what is there twice.
    pub fn once<T>(
        &mut self,
        key: &'static str,
        all: Vec<Placed<T>>,
        same: impl Fn(&Placed<T>, &Placed<T>) -> bool,
        shown: impl Fn(&Placed<T>) -> String,
    ) -> Vec<Placed<T>> {
        let mut kept: Vec<Placed<T>> = Vec::new();
        for one in all {
            match kept.iter().any(|k| same(k, &one)) {
                true => self.wrong(one.at, key, format!("{} is there twice", shown(&one))),
                false => kept.push(one),
            }
        }
        kept
    }
}

/// Reads the tables of a list, each under its number, from 1.
pub(crate) fn numbered<'a, T>(
    r: &mut Reader<'a>,
    key: &'static str,
    mut one: impl FnMut(&mut Reader<'a>, At) -> Option<T>,
) -> Vec<T> {
    let mut number = 0;
    r.each(key, |r, key, node| {
        number += 1;
        inner(r, format!("{}, {key} {number}", r.place), node, |r| one(r, node.at))
    })
}

/// Reads a table in a table.
pub(crate) fn inner<'a, T>(
    r: &mut Reader<'a>,
    place: String,
    node: &'a Node,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Option<T> {
    let mut inner = Reader::new(place, node);
    let value = read(&mut inner);
    let defects = inner.finish();
    let value = value.filter(|_| defects.is_empty());
    r.defects.extend(defects);
    value
}
