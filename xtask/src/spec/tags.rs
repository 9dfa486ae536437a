//! Tags of the pages against those that tests name.

use super::{UNTESTED, page::Page};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

/// A string that holds nothing but tags.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#""((?:[a-z_]+-[0-9]+)(?:[\s\\]+[a-z_]+-[0-9]+)*)[\s\\]*""#).expect("constant pattern")
});
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new("[a-z_]+-[0-9]+").expect("constant pattern"));

/// The page of a tag.
fn page_of(tag: &str) -> &str {
    tag.rsplit_once('-').map_or(tag, |(p, _)| p)
}

/// Tags that a source file names: words of a string whose words begin with names of pages.
fn named<'a>(text: &'a str, pages: &BTreeSet<&str>) -> Vec<&'a str> {
    let strings = NAMED.captures_iter(text).filter_map(|c| c.get(1)).map(|m| m.as_str());
    let words = strings.map(|s| WORD.find_iter(s).map(|m| m.as_str()).collect::<Vec<_>>());
    words.filter(|w| w.iter().any(|t| pages.contains(page_of(t)))).flatten().collect()
}

/// Tags and reasons of the page of what is not tested: rows of its tables.
fn excused(pages: &[Page]) -> BTreeMap<&str, &str> {
    let rows = pages.iter().filter(|p| p.name == UNTESTED).flat_map(|p| &p.tables).flat_map(|t| &t.rows);
    let pairs = rows.filter_map(|r| Some((r.first()?, r.get(1)?)));
    pairs.flat_map(|(tags, why)| WORD.find_iter(tags).map(move |t| (t.as_str(), why.as_str()))).collect()
}

/// Coverage of each page, and faults. Tests are files with their names.
pub fn check(pages: &[Page], tests: &[(String, String)]) -> (String, Vec<String>) {
    let names: BTreeSet<&str> = pages.iter().map(|p| p.name.as_str()).collect();
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for p in pages.iter().filter(|p| p.name != UNTESTED) {
        for t in &p.tags {
            if page_of(t) != p.name {
                faults.push(format!("{}: tag {t} of another page", p.name));
            } else if !known.insert(t.as_str()) {
                faults.push(format!("{}: tag {t} twice", p.name));
            }
        }
    }
    let mut tested = BTreeSet::new();
    for (file, text) in tests {
        for t in named(text, &names) {
            if !known.contains(t) {
                faults.push(format!("{file}: names {t}, which no page has"));
            }
            tested.insert(t);
        }
    }
    let excused = excused(pages);
    for (t, why) in &excused {
        if !known.contains(t) {
            faults.push(format!("{UNTESTED}: names {t}, which no page has"));
        } else if tested.contains(t) {
            faults.push(format!("{UNTESTED}: {t} is named by a test"));
        } else if why.is_empty() {
            faults.push(format!("{UNTESTED}: {t} has no reason"));
        }
    }
    for t in known.iter().filter(|t| !tested.contains(*t) && !excused.contains_key(*t)) {
        faults.push(format!("{}: no test names {t}", page_of(t)));
    }
    (coverage(pages, &tested, &excused), faults)
}

fn coverage(pages: &[Page], tested: &BTreeSet<&str>, excused: &BTreeMap<&str, &str>) -> String {
    let mut text = String::new();
    let mut sum = [0; 3];
    let row =
        |name: &str, n: [usize; 3]| format!("{name:<14} {:>4} statements, {:>4} tested, {:>3} not", n[0], n[1], n[2]);
    for p in pages.iter().filter(|p| p.name != UNTESTED) {
        let count = |f: &dyn Fn(&str) -> bool| p.tags.iter().filter(|t| f(t)).count();
        let n = [p.tags.len(), count(&|t| tested.contains(t)), count(&|t| excused.contains_key(t))];
        sum.iter_mut().zip(n).for_each(|(s, n)| *s += n);
        let _ = writeln!(text, "{}", row(&p.name, n));
    }
    text + &row("all", sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages() -> Vec<Page> {
        vec![
            Page::parse("ctrl_x", "# x\n\n* one [ctrl_x-1]\n* two [ctrl_x-2]\n* three [ctrl_x-3]\n"),
            Page::parse("untested", "| Tag | Why |\n|---|---|\n| ctrl_x-3 | cannot be seen |\n"),
        ]
    }

    fn faults(test: &str) -> Vec<String> {
        check(&pages(), &[("t.rs".into(), test.into())]).1
    }

    #[test]
    fn strings_of_nothing_but_tags_count() {
        assert!(faults(r#"("ctrl_x-1 ctrl_x-2", "a test", f)"#).is_empty());
        assert!(faults("(\"ctrl_x-1 \\\n    ctrl_x-2\", \"a test\", f)").is_empty());
        assert!(faults(r#"spec = "ctrl_x-1 ctrl_x-2""#).is_empty());
        let missing = ["ctrl_x: no test names ctrl_x-1", "ctrl_x: no test names ctrl_x-2"];
        assert_eq!(faults(r#"// ctrl_x-1 "about ctrl_x-1" "other-1" "qemu-2""#), missing);
    }

    #[test]
    fn unknown_tags_are_faults() {
        let all = r#""ctrl_x-1 ctrl_x-2" "#.to_string();
        assert_eq!(faults(&(all.clone() + r#""ctrl_x-4""#)), ["t.rs: names ctrl_x-4, which no page has"]);
        assert_eq!(faults(&(all + r#""ctrl_x-1 ctrl_y-1""#)), ["t.rs: names ctrl_y-1, which no page has"]);
    }

    #[test]
    fn excuses_are_for_what_is_not_tested() {
        assert_eq!(faults(r#""ctrl_x-1 ctrl_x-2 ctrl_x-3""#), ["untested: ctrl_x-3 is named by a test"]);
        let mut p = pages();
        p[1] = Page::parse("untested", "| Tag | Why |\n|---|---|\n| ctrl_x-3 ctrl_x-2 | |\n| ctrl_x-9 | no |\n");
        let (_, f) = check(&p, &[("t.rs".into(), r#""ctrl_x-1""#.into())]);
        let want = ["untested: ctrl_x-2 has no reason", "untested: ctrl_x-3 has no reason"];
        assert_eq!(f, [want[0], want[1], "untested: names ctrl_x-9, which no page has"]);
    }

    #[test]
    fn tags_are_unique_and_of_their_page() {
        let p = vec![Page::parse("ctrl_x", "* one [ctrl_x-1]\n* two [ctrl_x-1]\n* three [ctrl_y-3]\n")];
        let (_, f) = check(&p, &[("t.rs".into(), r#""ctrl_x-1""#.into())]);
        assert_eq!(f, ["ctrl_x: tag ctrl_x-1 twice", "ctrl_x: tag ctrl_y-3 of another page"]);
    }

    #[test]
    fn coverage_is_counted() {
        let (c, _) = check(&pages(), &[("t.rs".into(), r#""ctrl_x-1""#.into())]);
        let lines: Vec<Vec<&str>> = c.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["ctrl_x", "3", "statements,", "1", "tested,", "1", "not"]);
        assert_eq!(lines[1][0..2], ["all", "3"]);
    }
}
