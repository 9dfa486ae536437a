//! Labels of sessions, "child -> grandchild -> what it asked for", and rules that match them.
//!
//! Key types: [`Label`], [`Labels`]. Used by `route`.

use parent::Name;
use std::fmt;
use thiserror::Error;

/// Longest label in bytes.
pub const MAX_LABEL: usize = 255;
/// What stands between the elements of a label.
pub const ARROW: &str = " -> ";

/// Why a text is no label.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum LabelError {
    /// More than [`MAX_LABEL`] bytes.
    #[error("a label of {0} bytes is too long; {MAX_LABEL} are possible")]
    Long(usize),
    /// A control character: it could fake lines of a log.
    #[error("a label has a control character")]
    Control,
}

/// The label of a session: at most [`MAX_LABEL`] bytes without control characters. Empty if nothing was asked for.
///
/// A client chooses the end of it; the parents put their children's names in front, so nobody can claim the label of
/// another. It is never cut: a request whose label becomes too long on its way is denied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Label(String);

impl Label {
    /// Checks a text.
    pub fn new(text: &str) -> Result<Label, LabelError> {
        if text.len() > MAX_LABEL {
            return Err(LabelError::Long(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(LabelError::Control);
        }
        Ok(Label(text.into()))
    }

    /// The label with a child's name in front: what its parent makes of what it asked for.
    pub fn below(&self, child: &Name) -> Result<Label, LabelError> {
        if self.0.is_empty() {
            return Label::new(child.as_str());
        }
        Label::new(&format!("{child}{ARROW}{self}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is behind the last arrow, or all of it.
    pub fn last(&self) -> &str {
        self.0.rsplit_once(ARROW).map_or(&*self.0, |(_, last)| last)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Which labels a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// All.
    Any,
    /// This one.
    Exact(String),
    /// Those that begin so, character by character: `shell` is a prefix of `shell2`, `shell -> ` is not.
    Prefix(String),
    /// Those that end so.
    Suffix(String),
    /// Those with this last element.
    Last(String),
}

impl Labels {
    /// Whether `label` is one of them.
    pub fn contain(&self, label: &Label) -> bool {
        match self {
            Labels::Any => true,
            Labels::Exact(text) => label.as_str() == text,
            Labels::Prefix(text) => label.as_str().starts_with(text.as_str()),
            Labels::Suffix(text) => label.as_str().ends_with(text.as_str()),
            Labels::Last(text) => label.last() == text,
        }
    }

    /// Whether all that `other` contains is sure to be in these: a rule behind one that covers it is never reached.
    pub fn cover(&self, other: &Labels) -> bool {
        match (self, other) {
            (Labels::Any, _) => true,
            (_, Labels::Exact(text)) => Label::new(text).is_ok_and(|label| self.contain(&label)),
            (Labels::Prefix(ours), Labels::Prefix(theirs)) => theirs.starts_with(ours.as_str()),
            (Labels::Suffix(ours), Labels::Suffix(theirs) | Labels::Last(theirs)) => theirs.ends_with(ours.as_str()),
            (Labels::Last(ours), Labels::Last(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(text: &str) -> Label {
        Label::new(text).expect(text)
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect(text)
    }

    #[test]
    fn parents_put_names_in_front() {
        let asked = label("log");
        let at_shells_parent = asked.below(&name("shell")).unwrap();
        assert_eq!(at_shells_parent.below(&name("init")).unwrap().as_str(), "init -> shell -> log");
        assert_eq!(label("").below(&name("shell")).unwrap().as_str(), "shell");
        assert_eq!(Label::default(), label(""));
    }

    #[test]
    fn what_is_no_label() {
        assert_eq!(Label::new(&"x".repeat(255)).map(|l| l.as_str().len()), Ok(255));
        assert_eq!(Label::new(&"x".repeat(256)), Err(LabelError::Long(256)));
        for text in ["a\nb", "\u{1b}[2J", "\0", "a\u{85}b"] {
            assert_eq!(Label::new(text), Err(LabelError::Control), "{text:?}");
        }
        assert_eq!(label(&"x".repeat(250)).below(&name("ab")), Err(LabelError::Long(256)), "never cut");
    }

    #[test]
    fn the_last_element() {
        for (text, last) in
            [("", ""), ("log", "log"), ("a -> log", "log"), ("a -> b -> c", "c"), ("a -> ", ""), ("a->b", "a->b")]
        {
            assert_eq!(label(text).last(), last);
        }
    }

    #[test]
    fn each_rule_contains_what_it_says() {
        let text = |t: &str| t.to_string();
        for (rule, inside, outside) in [
            (Labels::Any, "", None),
            (Labels::Exact(text("a -> b")), "a -> b", Some("a -> b -> c")),
            (Labels::Prefix(text("shell -> ")), "shell -> log", Some("shell2 -> log")),
            (Labels::Suffix(text(".img")), "disk.img", Some("disk.img.bak")),
            (Labels::Last(text("log")), "a -> log", Some("a -> catalog")),
        ] {
            assert!(rule.contain(&label(inside)), "{rule:?}");
            assert!(outside.is_none_or(|o| !rule.contain(&label(o))), "{rule:?}");
        }
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let text = "(a|b| -> ){0,3}";
        prop_oneof![
            Just(Labels::Any),
            text.prop_map(Labels::Exact),
            text.prop_map(Labels::Prefix),
            text.prop_map(Labels::Suffix),
            text.prop_map(Labels::Last),
        ]
    }

    proptest! {
        #[test]
        fn what_is_covered_is_contained(ours in labels(), theirs in labels(), text in "(a|b| -> ){0,4}") {
            let label = label(&text);
            prop_assert!(!(ours.cover(&theirs) && theirs.contain(&label)) || ours.contain(&label));
            prop_assert!(ours.cover(&ours));
        }

        #[test]
        fn a_child_cannot_claim_the_label_of_another(asked in ".{0,40}", a in "[a-z]{1,8}", b in "[a-z]{1,8}") {
            prop_assume!(a != b);
            if let Ok(asked) = Label::new(&asked) {
                let made = asked.below(&name(&a)).unwrap();
                let below_b = format!("{b}{ARROW}");
                prop_assert!(made.as_str() != b && !made.as_str().starts_with(&below_b));
            }
        }
    }
}
