//! Whose ROM is whose report.
//!
//! Key type: [`Rules`].

use serde::Deserialize;
use session::{Label, Labels};
use thiserror::Error;

/// What is wrong with a rule.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// None of the keys that say for which ROMs it is, or several.
    #[error("a [[rom]] rule has exactly one of label, label_prefix, label_suffix and label_last; number {0} has {1}")]
    Selectors(usize, usize),
    /// No label of a report.
    #[error("number {0} of the [[rom]] rules: {1:?} is no label of a report: {2}")]
    Report(usize, String, session::LabelError),
    /// A rule before it takes all that it is for.
    #[error("number {0} of the [[rom]] rules is never reached, as number {1} is for all its labels")]
    Unreached(usize, usize),
}

/// A rule as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    label: Option<String>,
    label_prefix: Option<String>,
    label_suffix: Option<String>,
    label_last: Option<String>,
    report: String,
}

/// The rules; the first that matches a ROM's label says whose report is its content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules(Vec<(Labels, Label)>);

impl Rules {
    /// Checks rules; they are numbered from 1.
    pub(crate) fn new(written: Vec<Written>) -> Result<Rules, RuleError> {
        let mut rules: Vec<(Labels, Label)> = Vec::new();
        for (number, rule) in (1..).zip(written) {
            let (labels, report) = rule.read(number)?;
            if let Some(before) = rules.iter().position(|(other, _)| other.cover(&labels)) {
                return Err(RuleError::Unreached(number, before + 1));
            }
            rules.push((labels, report));
        }
        Ok(Rules(rules))
    }

    /// Label of the report that is the content of the ROM with that label.
    pub fn report_of(&self, rom: &Label) -> Option<&Label> {
        self.0.iter().find(|(labels, _)| labels.contain(rom)).map(|(_, report)| report)
    }

    /// Whether any ROM can be that report.
    pub fn name(&self, report: &Label) -> bool {
        self.0.iter().any(|(_, r)| r == report)
    }
}

impl Written {
    fn read(self, number: usize) -> Result<(Labels, Label), RuleError> {
        let selectors = [
            self.label.map(Labels::Exact),
            self.label_prefix.map(Labels::Prefix),
            self.label_suffix.map(Labels::Suffix),
            self.label_last.map(Labels::Last),
        ];
        let mut given: Vec<Labels> = selectors.into_iter().flatten().collect();
        let report = Label::new(&self.report).map_err(|e| RuleError::Report(number, self.report, e))?;
        match (given.pop(), given.len()) {
            (Some(labels), 0) => Ok((labels, report)),
            (None, _) => Err(RuleError::Selectors(number, 0)),
            (_, others) => Err(RuleError::Selectors(number, others + 1)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn rules(text: &str) -> Result<Rules, RuleError> {
        #[derive(Deserialize)]
        struct File {
            rom: Vec<Written>,
        }
        Rules::new(toml::from_str::<File>(text).unwrap().rom)
    }

    pub(crate) fn label(text: &str) -> Label {
        Label::new(text).unwrap()
    }

    #[test]
    fn the_first_rule_counts() {
        let r = rules(
            "[[rom]]\nlabel = 'wm -> pointer'\nreport = 'mouse -> shape'\n\
             [[rom]]\nlabel_prefix = 'wm -> '\nreport = 'mouse -> state'\n\
             [[rom]]\nlabel_last = 'leases'\nreport = 'router -> leases'\n\
             [[rom]]\nlabel_suffix = 'config'\nreport = 'manager -> init'\n",
        )
        .unwrap();
        for (rom, report) in [
            ("wm -> pointer", Some("mouse -> shape")),
            ("wm -> clicks", Some("mouse -> state")),
            ("a -> leases", Some("router -> leases")),
            ("init -> config", Some("manager -> init")),
            ("wm", None),
            ("", None),
        ] {
            assert_eq!(r.report_of(&label(rom)).map(Label::as_str), report, "{rom}");
        }
        assert!(r.name(&label("mouse -> state")) && !r.name(&label("mouse")));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_number() {
        let two = "[[rom]]\nlabel_last='a'\nreport='x'\n[[rom]]\n";
        for (text, want) in [
            ("report='x'", "number 2 has 0"),
            ("report='x'\nlabel='a'\nlabel_last='b'", "number 2 has 2"),
            ("report='x\\u0007'\nlabel='b'", "number 2 of the [[rom]] rules: \"x\\u{7}\" is no label"),
            ("report='y'\nlabel='q -> a'", "number 2 of the [[rom]] rules is never reached, as number 1"),
        ] {
            let text = format!("{two}{}", text.replace("'x\\u0007'", "\"x\\u0007\""));
            let e = rules(&text).unwrap_err().to_string();
            assert!(e.contains(want), "{text}: {e}");
        }
    }
}
