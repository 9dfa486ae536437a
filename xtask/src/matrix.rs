//! The matrix test x platform at the end of `cargo xtask test`: what ran where and how it went, and for each cell that
//! did not run, why.
//!
//! Key types: [`Matrix`], [`Cell`], [`Inner`]. [`crate::test`] fills it.

use crate::platform::{Platform, Presence};
use crate::scenario::Scenario;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

/// What came of a test on a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It did not run; why.
    Not(String),
}

/// A test inside a machine, as it reports itself on the serial line: `test NAME ... ok`, `... FAILED: why`,
/// `... not here: why`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    name: String,
    cell: Cell,
}

/// A line may carry the label of the component that it came from, or follow one that was not ended.
static INNER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?m)^(?:\[[^\]\n]*\] )*test (\S+) \.\.\. (ok|FAILED|not here)(?:: ([^\r\n]*))?\r*$")
        .expect("constant pattern")
});

/// The tests that a machine reported.
pub fn inner(serial: &str) -> Vec<Inner> {
    let one = |c: regex::Captures<'_>| {
        let why = c.get(3).map_or("no reason given", |m| m.as_str()).to_owned();
        let cell = match &c[2] {
            "ok" => Cell::Passed,
            "FAILED" => Cell::Failed,
            _ => Cell::Not(why),
        };
        Inner { name: c[1].to_owned(), cell }
    };
    INNER.captures_iter(serial).map(one).collect()
}

/// Names of those that failed.
pub fn failures(inner: &[Inner]) -> Vec<String> {
    inner.iter().filter(|i| i.cell == Cell::Failed).map(|i| i.name.clone()).collect()
}

/// Rows by test, columns by platform.
#[derive(Default)]
pub struct Matrix {
    rows: BTreeMap<String, BTreeMap<String, Cell>>,
    /// Scenario and platform of the runs whose inner tests are rows as well.
    with_inner: BTreeMap<String, BTreeSet<String>>,
}

impl Matrix {
    /// A scenario ran.
    pub fn ran(&mut self, s: &Scenario, passed: bool, inner: &[Inner]) {
        self.put(&s.base, &s.platform, if passed { Cell::Passed } else { Cell::Failed });
        for i in inner {
            let row = self.rows.entry(format!("{} / {}", s.base, i.name)).or_default();
            // A test that ran again, after a reboot perhaps, must not hide that it failed.
            let old = row.entry(s.platform.clone()).or_insert(i.cell.clone());
            if i.cell == Cell::Failed {
                *old = Cell::Failed;
            }
            self.with_inner.entry(s.base.clone()).or_default().insert(s.platform.clone());
        }
    }

    /// Nothing ran in a machine.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn put(&mut self, test: &str, platform: &str, cell: Cell) {
        self.rows.entry(test.into()).or_default().insert(platform.into(), cell);
    }

    /// The cells that nothing ran in, each with its reason. `all`: every scenario on each of its platforms.
    pub fn fill(&mut self, all: &[Scenario], platforms: &[Platform], presence: impl Fn(&Platform) -> Presence) {
        for base in self.bases(all) {
            for p in platforms {
                let missing = |row: Option<&BTreeMap<_, _>>| row.is_some_and(|r| !r.contains_key(&p.name));
                if missing(self.rows.get(&base)) {
                    self.put(&base, &p.name, Cell::Not(why(&base, p, all, platforms, &presence)));
                }
            }
        }
        for (base, ran_on) in &self.with_inner {
            let Some(outer) = self.rows.get(base).cloned() else { continue };
            for (_, row) in self.rows.iter_mut().filter(|(name, _)| name.starts_with(&format!("{base} / "))) {
                for (platform, cell) in &outer {
                    row.entry(platform.clone()).or_insert(match cell {
                        Cell::Not(why) => Cell::Not(why.clone()),
                        _ if ran_on.contains(platform) => Cell::Not("not among the tests that ran there".into()),
                        _ => Cell::Not("the machine reported no tests".into()),
                    });
                }
            }
        }
    }

    fn bases(&self, all: &[Scenario]) -> BTreeSet<String> {
        all.iter().map(|s| s.base.clone()).filter(|b| self.rows.contains_key(b)).collect()
    }

    /// The table, and the reasons below it.
    pub fn show(&self) -> String {
        let columns: BTreeSet<&String> = self.rows.values().flat_map(|r| r.keys()).collect();
        let wide = self.rows.keys().map(String::len).max().unwrap_or(0);
        let mut reasons: Vec<&str> = Vec::new();
        let mut text = format!("{:<wide$}", "test");
        columns.iter().for_each(|c| text += &format!("  {:>7}", c));
        for (test, row) in &self.rows {
            let _ = write!(text, "\n{test:<wide$}");
            for c in &columns {
                let cell = match row.get(*c) {
                    Some(Cell::Passed) => "ok".into(),
                    Some(Cell::Failed) => "FAILED".into(),
                    Some(Cell::Not(why)) => format!("- ({})", number(&mut reasons, why)),
                    None => "?".into(),
                };
                let _ = write!(text, "  {cell:>width$}", width = c.len().max(7));
            }
        }
        for (i, why) in reasons.iter().enumerate() {
            let _ = write!(text, "\n  ({}) {why}", i + 1);
        }
        text + "\n"
    }
}

/// Reasons are numbered from 1, each once.
fn number<'a>(reasons: &mut Vec<&'a str>, why: &'a str) -> usize {
    let at = reasons.iter().position(|r| *r == why).unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    });
    at + 1
}

/// Why the scenario did not run on the platform.
fn why(
    base: &str,
    p: &Platform,
    all: &[Scenario],
    platforms: &[Platform],
    presence: impl Fn(&Platform) -> Presence,
) -> String {
    let mut own = all.iter().filter(|s| s.base == base);
    if own.clone().any(|s| s.platform == p.name) {
        return match presence(p) {
            Presence::Unfit(why) => format!("{}: {why}", p.name),
            _ => "not asked for".into(),
        };
    }
    let stated = own.clone().find_map(|s| s.not.get(&p.name)).or(p.not.as_ref());
    let sibling = |s: &Scenario| platforms.iter().any(|o| o.name == s.platform && o.emulator == p.emulator);
    match (stated, own.find(|s| sibling(s))) {
        (Some(why), _) => why.clone(),
        (None, Some(s)) => format!("runs on {} instead", s.platform),
        (None, None) => "NO REASON GIVEN".into(),
    }
}

/// What is wrong with the scenarios' platforms: a platform without `not` is one on which every test runs, or one like
/// it, or the test says why not.
pub fn unexplained(all: &[Scenario], platforms: &[Platform]) -> Vec<String> {
    let mut faults = Vec::new();
    let bases: BTreeSet<&str> = all.iter().map(|s| s.base.as_str()).collect();
    for p in platforms.iter().filter(|p| p.not.is_none()) {
        for base in &bases {
            let runs = |s: &&Scenario| s.base == *base && s.platform == p.name;
            let reason = why(base, p, all, platforms, |_| Presence::Present);
            if !all.iter().any(|s| runs(&s)) && reason == "NO REASON GIVEN" {
                faults.push(format!(
                    "{base} runs on no platform with {:?} and does not say why: add it to `platforms`, or `not = {{ {} = \"why\" }}`",
                    p.emulator, p.name
                ));
            }
        }
    }
    for s in all {
        for name in s.not.keys().filter(|n| !platforms.iter().any(|p| p.name == **n)) {
            faults.push(format!("{}: `not` names {name:?}, which is no platform", s.base));
        }
        if s.not.contains_key(&s.platform) {
            faults.push(format!("{}: it runs on {}, and says why not", s.base, s.platform));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenarios(texts: &[(&str, &str)]) -> Vec<Scenario> {
        let one = |(name, more): &(&str, &str)| {
            let text = format!("about = ''\ntimeout_s = 1\nend = 'running'\n{more}\n[[step]]\nexpect = 'a'");
            Scenario::parse(name, &text).unwrap().on_each()
        };
        texts.iter().flat_map(one).collect()
    }

    fn platforms() -> Vec<Platform> {
        let wanted = ["bochs", "bochs-smp", "kvm", "qemu"];
        let all = crate::platform::all().unwrap();
        all.into_iter().filter(|p| wanted.contains(&p.name.as_str())).collect()
    }

    fn presence(p: &Platform) -> Presence {
        if p.name == "kvm" { Presence::Unfit("no SVM".into()) } else { Presence::Present }
    }

    #[test]
    fn every_cell_has_a_result_or_a_reason() {
        let all = scenarios(&[
            ("both", "platforms = ['bochs', 'kvm', 'qemu']"),
            ("smp", "platforms = ['bochs-smp']\nnot = { qemu = 'too slow' }"),
            ("other", ""),
        ]);
        let mut m = Matrix::default();
        m.ran(&all[0], true, &[]);
        m.ran(&all[3], false, &[]);
        m.fill(&all, &platforms(), presence);
        let text = m.show();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["test", "bochs", "bochs-smp", "kvm", "qemu"]);
        assert_eq!(lines[1], ["both", "ok", "-", "(1)", "-", "(2)", "-", "(3)"]);
        assert_eq!(lines[2], ["smp", "-", "(4)", "FAILED", "-", "(5)", "-", "(6)"]);
        assert!(text.contains("(2) kvm: no SVM\n  (3) not asked for\n  (4) runs on bochs-smp instead\n"), "{text}");
        assert!(text.ends_with("(6) too slow\n") && !text.contains("other"), "{text}");
    }

    #[test]
    fn tests_inside_the_machine_are_rows() {
        let serial = "[vm] test cr0 ... ok\r\ntest cr4 ... FAILED: 1 != 2\r\ntest vmx ... not here: no VT-x\r\n\
                      a test x ... ok\ntest y ... maybe\n";
        let found = inner(serial);
        let cell = |name: &str| found.iter().find(|i| i.name == name).map(|i| i.cell.clone());
        assert_eq!(cell("cr0"), Some(Cell::Passed));
        assert_eq!(cell("cr4"), Some(Cell::Failed));
        assert_eq!(cell("vmx"), Some(Cell::Not("no VT-x".into())));
        assert_eq!((found.len(), failures(&found)), (3, vec!["cr4".to_owned()]));
        let all = scenarios(&[("guest", "")]);
        let mut m = Matrix::default();
        m.ran(&all[0], true, &found);
        m.ran(&all[1], true, &inner("test vmx ... ok\n"));
        m.fill(&all, &platforms(), presence);
        let text = m.show();
        let row = |name: &str| text.lines().find(|l| l.contains(name)).unwrap().to_owned();
        assert!(row("/ cr4").contains("FAILED") && row("/ vmx").trim_end().ends_with("ok"), "{text}");
        assert!(text.contains(") no VT-x\n") && text.contains("not among the tests that ran there"), "{text}");
        assert!(!text.contains('?'), "{text}");
    }

    #[test]
    fn a_failure_is_not_hidden_by_a_second_run() {
        let all = scenarios(&[("guest", "")]);
        let mut m = Matrix::default();
        m.ran(&all[0], true, &inner("test a ... FAILED: x\ntest a ... ok\ntest b ... ok\ntest b ... FAILED: y\n"));
        assert_eq!(m.show().matches("FAILED").count(), 2);
    }

    #[test]
    fn a_test_that_is_missing_somewhere_must_say_why() {
        let faults = |text: &str| unexplained(&scenarios(&[("t", text)]), &platforms());
        assert_eq!(faults(""), Vec::<String>::new());
        assert_eq!(faults("platforms = ['bochs-smp', 'qemu']"), Vec::<String>::new());
        assert!(faults("platforms = ['bochs']")[0].contains("not = { qemu = \"why\" }"));
        assert_eq!(faults("platforms = ['bochs']\nnot = { qemu = 'no VT-x' }"), Vec::<String>::new());
        assert!(faults("not = { qemu = 'x' }")[0].contains("runs on qemu, and"));
        assert!(faults("not = { abacus = 'x' }")[0].contains("no platform"));
    }

    #[test]
    fn the_scenarios_of_the_tree_run_everywhere_or_say_why_not() {
        assert_eq!(
            unexplained(&crate::scenario::all().unwrap(), &crate::platform::all().unwrap()),
            Vec::<String>::new()
        );
    }
}
