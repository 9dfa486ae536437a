//! What failed, at the very end of the output of `cargo xtask test`: of long logs often the end alone is kept.
//!
//! Key types: [`Failure`]. [`crate::test`] and [`crate::host`] make them.

/// Longest line that is shown, in characters.
const COLUMNS: usize = 160;
/// Most lines of the cause of one failure.
const CAUSE: usize = 12;
/// Most lines of the log of one failure, and fewest, however many there are.
const LOG: (usize, usize) = (15, 3);
/// Lines of all logs together, while each has its fewest.
const LOGS: usize = 75;

/// A test that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its name, as the tests are listed.
    pub name: String,
    /// Why it failed, from the outermost cause to the innermost; may have several lines.
    pub cause: String,
    /// The end of its log.
    pub log: Vec<String>,
}

/// The list, line by line: of tests that failed, and of those of which only the first try did.
pub fn lines(failed: &[Failure], second_tries: &[Failure]) -> Vec<String> {
    let log = (LOGS / failed.len().max(1)).clamp(LOG.1, LOG.0);
    let mut lines = Vec::new();
    for f in second_tries {
        lines.push(format!("second try: {}; the first:", f.name));
        lines.extend(f.cause.lines().take(CAUSE).map(|l| format!("    {l}")));
    }
    if !failed.is_empty() {
        lines.push(format!("failed: {}", failed.len()));
    }
    for f in failed {
        lines.push(format!("  {}", f.name));
        lines.extend(f.cause.lines().take(CAUSE).map(|l| format!("    {l}")));
        lines.extend(f.log[f.log.len().saturating_sub(log)..].iter().map(|l| format!("    | {l}")));
    }
    lines.iter().map(|l| cut(l)).collect()
}

fn cut(line: &str) -> String {
    let line = line.trim_end();
    match line.char_indices().nth(COLUMNS) {
        None => line.into(),
        Some(_) => line.chars().take(COLUMNS - 3).chain("...".chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(name: &str, lines: usize) -> Failure {
        let log = (0..lines).map(|i| format!("line {i}")).collect();
        Failure { name: name.into(), cause: "step 1: expected /x/: 9 s passed\nmore".into(), log }
    }

    #[test]
    fn each_has_its_cause_and_the_end_of_its_log() {
        assert!(lines(&[], &[]).is_empty());
        let shown = lines(&[failure("a@p", 2), failure("b@p", 20)], &[failure("c@p", 9)]);
        let cause = ["    step 1: expected /x/: 9 s passed", "    more"];
        assert_eq!(shown[..3], ["second try: c@p; the first:", cause[0], cause[1]]);
        assert_eq!(shown[3..9], ["failed: 2", "  a@p", cause[0], cause[1], "    | line 0", "    | line 1"]);
        assert_eq!(shown[9..13], ["  b@p", cause[0], cause[1], "    | line 5"]);
        assert_eq!(shown.len(), 27);
    }

    #[test]
    fn many_have_less_of_their_logs_each() {
        let many: Vec<Failure> = (0..100).map(|_| failure("a", 40)).collect();
        assert_eq!(lines(&many[..10], &[]).len(), 1 + 10 * (3 + 7));
        assert_eq!(lines(&many, &[]).len(), 1 + 100 * (3 + 3));
    }

    #[test]
    fn long_lines_are_cut_and_long_causes_too() {
        let f = Failure { name: "a".into(), cause: "é".repeat(200), log: vec!["x".repeat(150)] };
        let shown = lines(&[f], &[]);
        assert!(shown[2].chars().count() == COLUMNS && shown[2].ends_with("é..."), "{}", shown[2]);
        assert_eq!(shown[3].len(), 156);
        let f = Failure { name: "a".into(), cause: "l\n".repeat(99), log: vec![] };
        assert_eq!(lines(&[f], &[]).len(), 2 + CAUSE);
    }
}
