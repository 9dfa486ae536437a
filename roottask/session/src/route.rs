//! Routes: where a child's request for a session goes, and what it looks like there.
//!
//! Key types: [`Routes`], [`Rule`], [`Target`]. `init`'s configuration is turned into these; its offline check asks
//! them as a running parent does.

use crate::args::{Args, ArgsError};
use crate::label::{Label, LabelError, Labels};
use parent::Name;
use thiserror::Error;

/// Who serves a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Nobody.
    Deny,
    /// The parent that decides, itself.
    Own,
    /// The parent of the parent that decides.
    Parent,
    /// The child of this name.
    Child(Name),
    /// The first child, in their order, that provides the service.
    AnyChild,
}

/// Changes of some bytes of arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Version of the arguments for which it was made. A request with another version is denied.
    pub version: u32,
    /// Where, in bytes.
    pub offset: usize,
    /// What is there then.
    pub bytes: Vec<u8>,
}

/// How a request is changed on its way to the target.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The label in place of the one that the child asked for; its name is still put in front.
    pub label: Option<Label>,
    /// Changes of the arguments.
    pub args: Option<Patch>,
}

/// A rule: which requests, and where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The service; all if `None`.
    pub service: Option<Name>,
    /// Labels as the child asks for them, without its name.
    pub labels: Labels,
    /// Who serves them.
    pub target: Target,
    /// What is changed.
    pub rewrite: Rewrite,
}

/// Why a request cannot go where its rule says.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum RouteError {
    /// Its label is too long with the child's name.
    #[error(transparent)]
    Label(#[from] LabelError),
    /// Its arguments are not what the rule was made for.
    #[error(transparent)]
    Args(#[from] ArgsError),
}

impl Rule {
    /// All requests for `service` go to `target` as they are.
    pub fn to(service: Name, target: Target) -> Rule {
        Rule { service: Some(service), labels: Labels::Any, target, rewrite: Rewrite::default() }
    }

    /// Whether it is about this request.
    pub fn matches(&self, service: &Name, label: &Label) -> bool {
        self.service.is_none_or(|s| s == *service) && self.labels.contain(label)
    }

    /// Whether it is sure to match all that `other` does.
    pub fn covers(&self, other: &Rule) -> bool {
        (self.service.is_none() || self.service == other.service) && self.labels.cover(&other.labels)
    }

    /// Label and arguments at the target of what `child` asked for.
    pub fn rewrite(&self, child: &Name, label: &Label, args: &Args) -> Result<(Label, Args), RouteError> {
        let (label, args) = self.export(label, args)?;
        Ok((label.below(child)?, args))
    }

    /// The same of a request from above, in whose label the names of clients are already.
    pub fn export(&self, label: &Label, args: &Args) -> Result<(Label, Args), RouteError> {
        let label = self.rewrite.label.as_ref().unwrap_or(label).clone();
        let args = match &self.rewrite.args {
            Some(patch) => args.patched(patch.version, patch.offset, &patch.bytes)?,
            None => args.clone(),
        };
        Ok((label, args))
    }
}

/// The rules of a child, the first that matches wins. What none matches is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes(pub Vec<Rule>);

impl Routes {
    /// The rule for a request.
    pub fn find(&self, service: &Name, label: &Label) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.matches(service, label))
    }

    /// Rules that are never reached: each with the one before it that takes all its requests, as indices.
    pub fn unreachable(&self) -> Vec<(usize, usize)> {
        let behind = |i: usize| Some((i, self.0[..i].iter().position(|before| before.covers(&self.0[i]))?));
        (0..self.0.len()).filter_map(behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect(text)
    }

    fn label(text: &str) -> Label {
        Label::new(text).expect(text)
    }

    fn rule(service: Option<&str>, labels: Labels, target: Target) -> Rule {
        Rule { service: service.map(name), labels, target, rewrite: Rewrite::default() }
    }

    fn shell() -> Routes {
        Routes(vec![
            rule(Some("log"), Labels::Exact("audit".into()), Target::Child(name("vault"))),
            rule(Some("log"), Labels::Any, Target::Child(name("console"))),
            rule(None, Labels::Last("config".into()), Target::Own),
            rule(Some("timer"), Labels::Any, Target::Parent),
            rule(None, Labels::Suffix(".img".into()), Target::AnyChild),
            rule(Some("block"), Labels::Prefix("raw".into()), Target::Deny),
        ])
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let routes = shell();
        for (service, text, target) in [
            ("log", "audit", Some(Target::Child(name("vault")))),
            ("log", "audit2", Some(Target::Child(name("console")))),
            ("rom", "a -> config", Some(Target::Own)),
            ("timer", "", Some(Target::Parent)),
            ("block", "raw.img", Some(Target::AnyChild)),
            ("block", "raw", Some(Target::Deny)),
            ("block", "cooked", None),
            ("gpu", "", None),
        ] {
            assert_eq!(routes.find(&name(service), &label(text)).map(|r| r.target), target, "{service} {text}");
        }
        assert_eq!(Routes::default().find(&name("log"), &label("")), None);
    }

    #[test]
    fn a_request_is_rewritten_for_its_target() {
        let args = Args::new(2, &[1, 2, 3, 4]).unwrap();
        let plain = Rule::to(name("rom"), Target::Parent);
        let (at, same) = plain.rewrite(&name("shell"), &label("x"), &args).unwrap();
        assert_eq!((at.as_str(), &same), ("shell -> x", &args));

        let patch = |version| Some(Patch { version, offset: 1, bytes: vec![9, 9] });
        let rewrite = |version| Rewrite { label: Some(label("vim.config")), args: patch(version) };
        let changed = Rule { rewrite: rewrite(2), ..plain.clone() };
        let (at, args_there) = changed.rewrite(&name("shell"), &label("x"), &args).unwrap();
        assert_eq!((at.as_str(), args_there.bytes()), ("shell -> vim.config", &[1, 9, 9, 4][..]));

        let stale = Rule { rewrite: rewrite(1), ..plain.clone() };
        let error = stale.rewrite(&name("shell"), &label("x"), &args).unwrap_err();
        assert_eq!(error, RouteError::Args(ArgsError::Version { found: 2, wanted: 1 }));
        let error = plain.rewrite(&name("shell"), &label(&"x".repeat(255)), &args).unwrap_err();
        assert_eq!(error, RouteError::Label(LabelError::Long(264)));
        assert_eq!(error.to_string(), "a label of 264 bytes is too long; 255 are possible");
    }

    #[test]
    fn rules_behind_a_wider_one_are_named() {
        let mut routes = shell();
        assert_eq!(routes.unreachable(), []);
        routes.0.push(rule(Some("log"), Labels::Last("x".into()), Target::Parent));
        routes.0.push(rule(None, Labels::Any, Target::Parent));
        routes.0.push(rule(Some("gpu"), Labels::Any, Target::Deny));
        assert_eq!(routes.unreachable(), [(6, 1), (8, 7)]);
    }

    fn rules() -> impl Strategy<Value = Rule> {
        let service = prop_oneof![Just(None), Just(Some("a")), Just(Some("b"))];
        let labels = prop_oneof![
            Just(Labels::Any),
            "[xy]{0,2}".prop_map(Labels::Exact),
            "[xy]{0,2}".prop_map(Labels::Prefix),
            "[xy]{0,2}".prop_map(Labels::Suffix),
        ];
        (service, labels).prop_map(|(service, labels)| rule(service, labels, Target::Deny))
    }

    proptest! {
        #[test]
        fn an_unreachable_rule_is_never_found(rules in prop::collection::vec(rules(), 0..8), text in "[xy]{0,3}") {
            let routes = Routes(rules);
            for service in ["a", "b", "c"] {
                if let Some(found) = routes.find(&name(service), &label(&text)) {
                    let index = routes.0.iter().position(|r| std::ptr::eq(r, found)).unwrap();
                    prop_assert!(routes.unreachable().iter().all(|&(never, _)| never != index));
                }
            }
        }
    }
}
