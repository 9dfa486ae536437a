//! Sets of labels that a request can have on its way, as far as a configuration tells, and what rules do to them.
//!
//! Key types: [`Pattern`], [`Match`]. Where it is not decided what a rule does, it may do either: `check` then follows
//! both ways.

use parent::Name;
use session::{ARROW, Label, Labels};
use std::fmt;

/// Labels: names of components from the outermost on, and behind them whatever is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    names: Vec<Name>,
    rest: Labels,
}

/// What a rule's selector has to do with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// Each label is selected.
    Always,
    /// Some may be: at most these.
    Maybe(Pattern),
    /// None is.
    Never,
}

impl Pattern {
    /// The labels that a component asks for.
    pub(crate) fn asked(labels: &Labels) -> Pattern {
        Pattern { names: Vec::new(), rest: labels.clone() }
    }

    /// This label.
    pub(crate) fn exactly(label: &Label) -> Pattern {
        Pattern::asked(&Labels::Exact(label.as_str().into()))
    }

    /// What a parent makes of them.
    pub(crate) fn below(mut self, child: Name) -> Pattern {
        self.names.insert(0, child);
        self
    }

    fn base(&self) -> String {
        self.names.iter().map(Name::as_str).collect::<Vec<_>>().join(ARROW)
    }

    /// The only label, if there is only one. One that gets too long has no rule that selects it.
    fn only(&self) -> Option<Result<Label, session::LabelError>> {
        let Labels::Exact(text) = &self.rest else { return None };
        let below = |label: Label, name: &Name| label.below(name);
        Some(Label::new(text).and_then(|l| self.names.iter().rev().try_fold(l, below)))
    }

    /// The last element of all of them, if they have the same.
    pub(crate) fn last(&self) -> Option<String> {
        match &self.rest {
            Labels::Last(text) if !text.is_empty() => Some(text.clone()),
            _ => Some(self.only()?.ok()?.last().into()),
        }
    }

    /// What is behind the names of `label`, if it is one of these.
    fn behind(&self, label: &str) -> Option<Label> {
        let rest = match self.base() {
            base if base.is_empty() => label,
            base if base == label => "",
            base => label.strip_prefix(&base)?.strip_prefix(ARROW)?,
        };
        Label::new(rest).ok().filter(|l| self.rest.contain(l))
    }

    /// What a selector takes of them.
    pub(crate) fn select(&self, labels: &Labels) -> Match {
        if let Some(only) = self.only() {
            return if only.is_ok_and(|l| labels.contain(&l)) { Match::Always } else { Match::Never };
        }
        match labels {
            Labels::Any => Match::Always,
            Labels::Exact(text) => match self.behind(text) {
                Some(rest) => self.maybe(Labels::Exact(rest.as_str().into())),
                None => Match::Never,
            },
            Labels::Prefix(text) => self.prefix(text, labels),
            Labels::Suffix(text) => self.suffix(text, labels),
            Labels::Last(text) => match &self.rest {
                Labels::Last(ours) if !ours.is_empty() => self.decided(ours == text),
                _ => self.narrowed(labels),
            },
        }
    }

    fn decided(&self, always: bool) -> Match {
        if always { Match::Always } else { Match::Never }
    }

    fn maybe(&self, rest: Labels) -> Match {
        Match::Maybe(Pattern { names: self.names.clone(), rest })
    }

    /// Of all labels a selector leaves its own; else it may leave all.
    fn narrowed(&self, labels: &Labels) -> Match {
        match self.names.is_empty() && self.rest == Labels::Any {
            true => self.maybe(labels.clone()),
            false => self.maybe(self.rest.clone()),
        }
    }

    fn prefix(&self, text: &str, labels: &Labels) -> Match {
        let base = self.base();
        let arrow = if base.is_empty() { "" } else { ARROW };
        // How all begin, and how the longer ones do.
        let (all, long) = match &self.rest {
            Labels::Prefix(p) if !p.is_empty() => (format!("{base}{arrow}{p}"), format!("{base}{arrow}{p}")),
            _ => (base.clone(), format!("{base}{arrow}")),
        };
        match () {
            _ if all.starts_with(text) => Match::Always,
            _ if long.starts_with(text) || text.starts_with(&long) => self.narrowed(labels),
            _ => Match::Never,
        }
    }

    fn suffix(&self, text: &str, labels: &Labels) -> Match {
        let end = match &self.rest {
            Labels::Suffix(s) | Labels::Last(s) => s.as_str(),
            _ => "",
        };
        match () {
            _ if end.ends_with(text) => Match::Always,
            _ if text.ends_with(end) => self.narrowed(labels),
            _ => Match::Never,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = match &self.rest {
            Labels::Any => "*".to_string(),
            Labels::Exact(text) => text.clone(),
            Labels::Prefix(text) => format!("{text}*"),
            Labels::Suffix(text) => format!("*{text}"),
            Labels::Last(text) => format!("*{ARROW}{text}"),
        };
        let mut elements: Vec<&str> = self.names.iter().map(Name::as_str).collect();
        elements.extend((!rest.is_empty()).then_some(rest.as_str()));
        f.pad(&elements.join(ARROW))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect(text)
    }

    fn labels() -> impl Strategy<Value = Labels> {
        let text = "(a|b|ab| -> ){0,3}";
        prop_oneof![
            Just(Labels::Any),
            text.prop_map(Labels::Exact),
            text.prop_map(Labels::Prefix),
            text.prop_map(Labels::Suffix),
            text.prop_map(Labels::Last),
        ]
    }

    #[test]
    fn selectors_of_parents_see_the_names_of_children() {
        let shell = Pattern::asked(&Labels::Any).below(name("shell"));
        let maybe = |rest: &str| Match::Maybe(Pattern::exactly(&Label::new(rest).unwrap()).below(name("shell")));
        for (selector, want) in [
            (Labels::Prefix("she".into()), Match::Always),
            (Labels::Prefix("shell2".into()), Match::Never),
            (Labels::Prefix("vault".into()), Match::Never),
            (Labels::Exact("shell -> x".into()), maybe("x")),
            (Labels::Exact("shell".into()), maybe("")),
            (Labels::Exact("x".into()), Match::Never),
            (Labels::Prefix("shell -> ".into()), Match::Maybe(shell.clone())),
            (Labels::Last("x".into()), Match::Maybe(shell.clone())),
        ] {
            assert_eq!(shell.select(&selector), want, "{selector:?}");
        }
        let last = Pattern::asked(&Labels::Last("x".into())).below(name("shell"));
        assert_eq!(last.select(&Labels::Last("x".into())), Match::Always);
        assert_eq!(last.select(&Labels::Suffix("y".into())), Match::Never);
    }

    #[test]
    fn what_is_asked_for_narrows_to_the_selector() {
        let any = Pattern::asked(&Labels::Any);
        assert_eq!(any.select(&Labels::Prefix("x".into())), Match::Maybe(Pattern::asked(&Labels::Prefix("x".into()))));
    }

    #[test]
    fn patterns_are_printed_as_people_write_them() {
        for (rest, want) in [
            (Labels::Any, "init -> shell -> *"),
            (Labels::Exact("".into()), "init -> shell"),
            (Labels::Exact("x".into()), "init -> shell -> x"),
            (Labels::Prefix("x".into()), "init -> shell -> x*"),
            (Labels::Suffix(".img".into()), "init -> shell -> *.img"),
            (Labels::Last("x".into()), "init -> shell -> * -> x"),
        ] {
            assert_eq!(Pattern::asked(&rest).below(name("shell")).below(name("init")).to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn what_is_said_of_a_pattern_holds_for_each_label(
            rest in labels(), selector in labels(), names in prop::collection::vec("a|b|ab", 0..3),
            text in "(a|b|ab| -> ){0,4}",
        ) {
            let asked = Label::new(&text).unwrap();
            prop_assume!(rest.contain(&asked));
            let mut pattern = Pattern::asked(&rest);
            let mut label = asked;
            for n in &names {
                pattern = pattern.below(name(n));
                label = label.below(&name(n)).unwrap();
            }
            prop_assert!(pattern.behind(label.as_str()).is_some());
            match pattern.select(&selector) {
                Match::Always => prop_assert!(selector.contain(&label)),
                Match::Never => prop_assert!(!selector.contain(&label)),
                Match::Maybe(less) => {
                    prop_assert!(!selector.contain(&label) || less.behind(label.as_str()).is_some(), "{less}");
                }
            }
        }
    }
}
