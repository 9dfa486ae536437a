//! What is wrong with a configuration, where, and what was probably meant.
//!
//! Key types: [`Defect`], [`Cause`]; [`nearest`] finds the choice that a misspelt word is nearest to.

use crate::document::At;
use std::fmt;
use thiserror::Error;

/// Something wrong, and where.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub struct Defect {
    /// The place; [`At::default`] if the configuration has no lines.
    pub at: At,
    /// What is wrong.
    pub cause: Cause,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at == At::default() {
            true => self.cause.fmt(f),
            false => write!(f, "{}: {}", self.at, self.cause),
        }
    }
}

/// What is wrong.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum Cause {
    #[error("{0}")]
    Syntax(String),
    #[error("unknown key `{key}` in {place}{hint}")]
    UnknownKey { key: String, place: String, hint: Hint },
    #[error("key `{key}` is missing in {place}")]
    MissingKey { key: &'static str, place: String },
    #[error("{place}, key `{key}`: {reason}")]
    Value { place: String, key: &'static str, reason: String },
    #[error("component `{0}` is named twice; the first one counts")]
    Twice(String),
    #[error("{key}: there is no component `{name}`{hint}")]
    NoComponent { key: &'static str, name: String, hint: Hint },
    #[error("there is no [[component]]")]
    Empty,
}

/// The end of a message about a word that is none of the choices: the one that was probably meant, or all of them.
#[derive(Debug, PartialEq, Eq, Clone, Default)]
pub struct Hint(String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Words that begin alike are near from here on, of 0 to 1.
const NEAR: f64 = 0.85;
/// So many choices are listed at most.
const LISTED: usize = 12;

impl Hint {
    /// What to say when `word` is none of `choices`.
    pub fn new<'a>(word: &str, choices: impl IntoIterator<Item = &'a str>) -> Hint {
        let choices: Vec<&str> = choices.into_iter().collect();
        Hint(match (nearest(word, &choices), choices.as_slice()) {
            (Some(n), _) => format!("; did you mean `{n}`?"),
            (None, []) => String::new(),
            (None, [one]) => format!("; there is only `{one}`"),
            (None, list) if list.len() <= LISTED => format!("; there are `{}`", list.join("`, `")),
            _ => String::new(),
        })
    }
}

/// The choice that `word` is probably a misspelling of: a third of its letters may be wrong, or its end missing.
pub fn nearest<'a>(word: &str, choices: &[&'a str]) -> Option<&'a str> {
    // Whoever wrote more than this did not misspell a name, and distances take time.
    if word.len() > 4 * parent::NAME_LEN {
        return None;
    }
    let word = word.to_lowercase();
    let measured = choices.iter().map(|choice| {
        let lower = choice.to_lowercase();
        (strsim::damerau_levenshtein(&word, &lower), strsim::jaro_winkler(&word, &lower), *choice)
    });
    let near = measured.filter(|(wrong, alike, _)| *wrong <= word.len() / 3 || *alike >= NEAR);
    near.min_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1))).map(|(_, _, choice)| choice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_gets_the_nearest_choice() {
        let keys = ["name", "binary", "ram", "kmem", "priority", "provides", "routes", "route", "roms", "restart"];
        for (word, want) in [
            ("rma", "ram"),
            ("Ram", "ram"),
            ("bianry", "binary"),
            ("priorty", "priority"),
            ("provide", "provides"),
            ("rotues", "routes"),
            ("rom", "roms"),
            ("restart_after", "restart"),
        ] {
            assert_eq!(nearest(word, &keys), Some(want), "{word}");
        }
        for word in ["", "colour", "x", &"ram".repeat(1000)] {
            assert_eq!(nearest(word, &keys), None, "{word}");
        }
        assert_eq!(nearest("ram", &[]), None);
    }

    #[test]
    fn hints_name_the_nearest_or_all() {
        assert_eq!(Hint::new("consloe", ["uart", "console"]).to_string(), "; did you mean `console`?");
        assert_eq!(Hint::new("x", ["uart", "console"]).to_string(), "; there are `uart`, `console`");
        assert_eq!(Hint::new("x", ["uart"]).to_string(), "; there is only `uart`");
        assert_eq!(Hint::new("x", []).to_string(), "");
        let many: Vec<String> = (0..13).map(|i| format!("name{i}")).collect();
        assert_eq!(Hint::new("x", many.iter().map(String::as_str)).to_string(), "");
    }

    #[test]
    fn without_lines_the_cause_stands_alone() {
        let cause = Cause::Empty;
        let d = |at| Defect { at, cause: cause.clone() }.to_string();
        assert_eq!(d(At::default()), "there is no [[component]]");
        assert_eq!(d(At { line: 2, column: 1 }), "line 2, column 1: there is no [[component]]");
    }
}
