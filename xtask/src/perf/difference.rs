//! What differs between two sets of results, row by row. Where instructions are counted a difference is a difference; where
//! figures scatter it must be one that chance does not explain.
//!
//! Key types: [`Side`], [`Comparison`], [`Verdict`].

use super::result::{Results, Run};
use super::statistics::{holm, median, ratio_interval, same_distribution};
use super::suite;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// Runs of each side for which the rank test can say anything: with three, chance alone gives one in ten.
const RUNS: usize = 4;
/// What counts as chance.
const CHANCE: f64 = 0.05;
/// Smaller changes of what scatters are none.
const SMALL: f64 = 0.01;
/// What a machine says of itself that is measured each time, or that the kernel decides or older ones did not tell.
const NOT_IDENTITY: [&str; 5] = ["tsc", "speculation", "microcode", suite::USES, suite::TURNED_OFF];

/// One of the two, measured once or several times.
pub struct Side {
    pub name: String,
    pub results: Vec<Results>,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing, or what chance explains.
    Same,
    /// From, to, and how sure that is.
    Changed { from: f64, to: f64, how: String },
    /// Too little is known.
    Unclear(String),
    /// It is not there on that side, and why, if that is known.
    Missing { on: String, why: Option<String> },
}

/// All rows of a platform.
#[derive(Debug)]
pub struct Comparison {
    pub platform: String,
    /// How the figures were compared.
    pub method: String,
    pub rows: Vec<(String, Verdict)>,
}

/// One figure of a side in all runs.
struct Figure {
    unit: String,
    /// Minimum, median and 99th percentile of each run.
    runs: Vec<[f64; 3]>,
}

/// Compares what was measured on the same machines; on others only if asked for.
pub fn compare(a: &Side, b: &Side, different_machines: bool) -> Result<Vec<Comparison>> {
    let pairs = pairs(a, b, different_machines)?;
    pairs.into_iter().map(|(name, a_runs, b_runs)| platform(name, (&a.name, &a_runs), (&b.name, &b_runs))).collect()
}

type Pair<'a> = (String, Vec<&'a Run>, Vec<&'a Run>);

/// The runs that belong together.
fn pairs<'a>(a: &'a Side, b: &'a Side, different_machines: bool) -> Result<Vec<Pair<'a>>> {
    let of = |s: &'a Side| -> Result<BTreeMap<&'a str, Vec<&'a Run>>> {
        let mut map: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in s.results.iter().flat_map(|r| &r.runs) {
            map.entry(&run.platform).or_default().push(run);
        }
        for (name, runs) in &map {
            for other in &runs[1..] {
                let faults = differences(runs[0], other);
                ensure!(faults.is_empty(), "{}: {name} is not one machine: {}", s.name, faults.join("; "));
            }
        }
        ensure!(!map.is_empty(), "{}: nothing was measured", s.name);
        Ok(map)
    };
    let (of_a, of_b) = (of(a)?, of(b)?);
    let mut pairs = Vec::new();
    for (name, runs) in &of_a {
        let Some(others) = of_b.get(name) else { continue };
        let faults = differences(runs[0], others[0]);
        if !faults.is_empty() && !different_machines {
            bail!("{name} is not the same machine: {}; --different-machines compares nevertheless", faults.join("; "));
        }
        pairs.push(((*name).to_owned(), runs.clone(), others.clone()));
    }
    let names = |m: &BTreeMap<&str, Vec<&Run>>| m.keys().copied().collect::<Vec<_>>().join(", ");
    if pairs.is_empty() {
        let what = format!("{}: {}; {}: {}", a.name, names(&of_a), b.name, names(&of_b));
        ensure!(different_machines, "no machine is in both ({what}); --different-machines compares nevertheless");
        for ((name, runs), (other, others)) in of_a.iter().zip(&of_b) {
            pairs.push((format!("{name} with {other}"), runs.clone(), others.clone()));
        }
    }
    Ok(pairs)
}

/// In what the machines differ.
fn differences(a: &Run, b: &Run) -> Vec<String> {
    let mut list = Vec::new();
    let mut check = |what: &str, a: Option<String>, b: Option<String>| {
        if a != b {
            let show = |v: Option<String>| v.unwrap_or_else(|| "not known".into());
            list.push(format!("{what}: {} and {}", show(a), show(b)));
        }
    };
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    check("emulator", a.machine.emulator.clone(), b.machine.emulator.clone());
    check("model", a.machine.model.clone(), b.machine.model.clone());
    check("CPUs", number(a.machine.cpus), number(b.machine.cpus));
    check("a tick is", Some(a.machine.tick().into()), Some(b.machine.tick().into()));
    // Older suites say nothing of the machine.
    if let (Some(s), Some(t)) = (&a.suite, &b.suite)
        && !s.machine.is_empty()
        && !t.machine.is_empty()
    {
        let value = |m: &[(String, String)], key: &str| m.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
        for (key, _) in s.machine.iter().filter(|(k, _)| !NOT_IDENTITY.contains(&k.as_str())) {
            check(key, value(&s.machine, key), value(&t.machine, key));
        }
    }
    list
}

fn platform(name: String, a: (&str, &[&Run]), b: (&str, &[&Run])) -> Result<Comparison> {
    let counted = [a.1, b.1].concat().iter().all(|r| r.machine.counted);
    let (of_a, of_b) = (figures(a.1), figures(b.1));
    let least = a.1.len().min(b.1.len());
    let method = match (counted, least) {
        (true, n) => format!("counts, which repeat exactly; runs of each: {n}"),
        (false, n) if n >= RUNS => {
            format!(
                "{n} runs of each; medians of runs by Mann and Whitney's test, corrected for the number of rows (Holm)"
            )
        }
        (false, n) => format!(
            "runs of each: {n}, too few to know how runs differ, so nothing is tested. Ten runs or more of each say more"
        ),
    };
    let mut rows: Vec<(String, Verdict)> = Vec::new();
    let mut tests = Vec::new();
    for (row, figure) in &of_a {
        let Some(other) = of_b.get(row) else {
            rows.push((row.clone(), missing(b.0, b.1, row)));
            continue;
        };
        if figure.unit != other.unit {
            rows.push((row.clone(), Verdict::Unclear(format!("{} there, {} here", figure.unit, other.unit))));
        } else if counted {
            rows.push((row.clone(), exactly(figure, other)?));
        } else if least < RUNS {
            rows.push((row.clone(), untested(figure, other)?));
        } else {
            let (x, y) = (medians(figure), medians(other));
            tests.push((rows.len(), same_distribution(&x, &y)?));
            rows.push((row.clone(), scattered(&x, &y)?));
        }
    }
    rows.extend(of_b.keys().filter(|r| !of_a.contains_key(*r)).map(|r| (r.clone(), missing(a.0, a.1, r))));
    corrected(&mut rows, &tests);
    Ok(Comparison { platform: name, method, rows })
}

/// All figures of one side, by name.
fn figures(runs: &[&Run]) -> BTreeMap<String, Figure> {
    let mut map: BTreeMap<String, Figure> = BTreeMap::new();
    let mut put = |name: String, unit: &str, values: [u64; 3]| {
        let f = map.entry(name).or_insert(Figure { unit: unit.into(), runs: vec![] });
        f.runs.push(values.map(|v| v as f64));
    };
    for run in runs {
        for r in run.suite.iter().flat_map(|s| &s.rows) {
            put(r.name.clone(), &r.unit, [r.min, r.median, r.p99]);
        }
        for l in &run.loads {
            put(format!("guest_load {}", l.name), "ticks", [l.guest_ticks; 3]);
        }
        for b in &run.boots {
            put(format!("guest_boot {}", b.name), "ticks", [b.guest_ticks; 3]);
            put(format!("guest_exits {}", b.name), "exits", [b.exits_at_prompt; 3]);
        }
    }
    map
}

fn missing(on: &str, runs: &[&Run], row: &str) -> Verdict {
    let why = runs.iter().filter_map(|r| r.suite.as_ref()?.why_missing(row)).next();
    Verdict::Missing { on: on.to_owned(), why }
}

/// Counts: the same in each run, or something is not as it should be.
fn exactly(a: &Figure, b: &Figure) -> Result<Verdict> {
    let (x, y) = (a.runs.first().context("no run")?, b.runs.first().context("no run")?);
    if [a, b].iter().any(|f| f.runs.iter().any(|r| r[1] != f.runs[0][1])) {
        let range = |f: &Figure| {
            let of = |r: &[f64; 3]| r[1];
            let least = f.runs.iter().map(of).fold(f64::INFINITY, f64::min);
            (least, f.runs.iter().map(of).fold(0.0, f64::max))
        };
        let ((a0, a1), (b0, b1)) = (range(a), range(b));
        let show = |from, to| if from == to { format!("{from}") } else { format!("{from} to {to}") };
        let how = format!("not the same in each run: {}; {}", show(a0, a1), show(b0, b1));
        // The least that it can be.
        let apart = [(a1, b0, a1 < b0), (a0, b1, b1 < a0)].into_iter().find(|(_, _, apart)| *apart);
        return Ok(apart.map_or(Verdict::Unclear(how.clone()), |(from, to, _)| Verdict::Changed { from, to, how }));
    }
    let [min, median, p99] = [0, 1, 2].map(|i| x[i] != y[i]);
    let at = |i: usize, how: &str| Verdict::Changed { from: x[i], to: y[i], how: how.into() };
    Ok(match (median, min, p99) {
        (true, ..) => at(1, ""),
        (_, true, _) => at(0, "minimum; the median is the same"),
        (.., true) => at(2, "99th percentile; the median is the same"),
        _ => Verdict::Same,
    })
}

/// Medians of runs.
fn medians(f: &Figure) -> Vec<f64> {
    f.runs.iter().map(|r| r[1]).collect()
}

/// Too few runs to say what chance explains. Samples would not do instead: those of two runs of one image are further apart
/// than those of one run tell.
fn untested(a: &Figure, b: &Figure) -> Result<Verdict> {
    let verdict = scattered(&medians(a), &medians(b))?;
    let Verdict::Changed { from, to, .. } = verdict else { return Ok(verdict) };
    Ok(Verdict::Changed { from, to, how: "not tested".into() })
}

/// As if chance explained nothing; [`corrected`] judges that.
fn scattered(a: &[f64], b: &[f64]) -> Result<Verdict> {
    let (from, to) = (median(a).context("no figure")?, median(b).context("no figure")?);
    if (to - from).abs() < SMALL * from {
        return Ok(Verdict::Same);
    }
    let interval = ratio_interval(a, b).map_or(String::new(), |(low, high)| {
        format!("95 %: {:+.1} to {:+.1} %", (low - 1.0) * 100.0, (high - 1.0) * 100.0)
    });
    Ok(Verdict::Changed { from, to, how: interval })
}

/// Takes back what chance explains, given how many tests there were.
fn corrected(rows: &mut [(String, Verdict)], tests: &[(usize, f64)]) {
    let probabilities: Vec<f64> = tests.iter().map(|(_, p)| *p).collect();
    for ((at, _), p) in tests.iter().zip(holm(&probabilities)) {
        match &mut rows[*at].1 {
            verdict if p >= CHANCE => *verdict = Verdict::Same,
            Verdict::Changed { how, .. } => *how += &format!(", p {p:.1e}"),
            _ => {}
        }
    }
}

impl Comparison {
    /// What changed, for people; of the rest only how many.
    pub fn show(&self) -> String {
        let mut text = format!("{}: {}\n", self.platform, self.method);
        let mut lacking: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        let (mut same, mut changed, mut lines) = (0, Vec::new(), Vec::new());
        for (row, verdict) in &self.rows {
            match verdict {
                Verdict::Same => same += 1,
                Verdict::Changed { from, to, how } => {
                    let (difference, percent) = (to - from, (to / from - 1.0) * 100.0);
                    let line = format!("  {row:<42} {from:>9} {to:>9} {difference:>+8} {percent:>+7.2} %  {how}");
                    changed.push((percent.abs(), line.trim_end().to_owned()));
                }
                Verdict::Unclear(why) => lines.push(format!("  {row:<42} not decided: {why}")),
                Verdict::Missing { on, why } => {
                    lacking.entry((on, why.as_deref().unwrap_or("not printed"))).or_default().push(row);
                }
            }
        }
        if !changed.is_empty() {
            text += &format!("  {:<42} {:>9} {:>9} {:>8}\n", "", "A", "B", "change");
        }
        // The largest first.
        changed.sort_by(|a, b| b.0.total_cmp(&a.0));
        lines.splice(0..0, changed.into_iter().map(|(_, line)| line));
        lines.extend(lacking.iter().map(|((on, why), rows)| format!("  not in {on} ({why}): {}", rows.join(", "))));
        lines.push(format!("  {same} of {} rows are the same", self.rows.len()));
        text + &lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::Machine;
    use super::super::suite::Suite;
    use super::*;
    use crate::platform::Platform;

    const HEAD: &str = "perf: machine cpu: A\nperf: machine tsc: 1 Hz\n";

    fn side(name: &str, machine: &Machine, texts: &[String]) -> Side {
        let result = |text: &String| {
            let mut r = Results::begin("t");
            r.named("m", || machine.clone()).suite = Some(Suite::parse("m", &format!("{HEAD}{text}")).unwrap());
            r
        };
        Side { name: name.into(), results: texts.iter().map(result).collect() }
    }

    fn row(name: &str, median: u64) -> String {
        format!("perf: {name} min 1 median {median} p99 9999 max 9999 of 9 ticks\n")
    }

    fn counted() -> Machine {
        Machine::of(&Platform::load("bochs").unwrap())
    }

    fn verdict<'a>(c: &'a [Comparison], row: &str) -> &'a Verdict {
        &c[0].rows.iter().find(|(name, _)| name == row).unwrap().1
    }

    #[test]
    fn counts_differ_exactly_and_missing_rows_are_named() {
        let a = row("x", 195) + &row("y", 5) + &row("gone", 1);
        let b = row("x", 190) + &row("y", 5) + &row("new", 1) + "perf: gone missing: no guests\n";
        let c =
            compare(&side("A", &counted(), &[a.clone(), a]), &side("B", &counted(), &[b.clone(), b]), false).unwrap();
        assert_eq!(*verdict(&c, "x"), Verdict::Changed { from: 195.0, to: 190.0, how: String::new() });
        assert_eq!(*verdict(&c, "y"), Verdict::Same);
        assert_eq!(*verdict(&c, "gone"), Verdict::Missing { on: "B".into(), why: Some("no guests".into()) });
        let text = c[0].show();
        for part in [
            "-5",
            "-2.56 %",
            "not in B (no guests): gone",
            "not in A (not printed): new",
            "1 of 4 rows are the same",
            "exactly",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("  y "), "{text}");
    }

    #[test]
    fn counts_that_do_not_repeat_are_told() {
        let with = |values: [u64; 2]| side("S", &counted(), &values.map(|v| row("x", v)));
        let c = compare(&with([5, 7]), &with([6, 6]), false).unwrap();
        assert!(matches!(verdict(&c, "x"), Verdict::Unclear(why) if why.contains("not the same in each run")));
        let c = compare(&with([5, 7]), &with([8, 9]), false).unwrap();
        assert!(
            matches!(verdict(&c, "x"), Verdict::Changed { from: 7.0, to: 8.0, how } if how.ends_with("5 to 7; 8 to 9"))
        );
        let c = compare(&with([9, 9]), &with([8, 7]), false).unwrap();
        assert!(matches!(verdict(&c, "x"), Verdict::Changed { from: 9.0, to: 8.0, how } if how.ends_with("9; 7 to 8")));
    }

    #[test]
    fn the_largest_changes_are_on_top() {
        let side = |values: [u64; 3]| {
            side("S", &counted(), &[["a", "b", "c"].iter().zip(values).map(|(n, v)| row(n, v)).collect::<String>()])
        };
        let text = compare(&side([100, 100, 100]), &side([101, 50, 120]), false).unwrap()[0].show();
        let at = |row: &str| text.find(&format!("  {row} ")).unwrap();
        assert!(at("b") < at("c") && at("c") < at("a"), "{text}");
    }

    #[test]
    fn cycles_differ_only_beyond_chance() {
        let real = Machine::default();
        let with = |values: &[u64]| {
            let texts: Vec<_> = values.iter().map(|v| row("x", *v) + &row("y", 1000 + v % 3)).collect();
            side("S", &real, &texts)
        };
        let c = compare(&with(&[100, 102, 101, 99, 103]), &with(&[120, 122, 121, 119, 123]), false).unwrap();
        assert!(matches!(verdict(&c, "x"), Verdict::Changed { how, .. } if how.contains("95 %") && how.contains("p ")));
        assert_eq!(*verdict(&c, "y"), Verdict::Same);
        let c = compare(&with(&[100, 140, 101, 99]), &with(&[102, 98, 150, 100]), false).unwrap();
        assert_eq!(*verdict(&c, "x"), Verdict::Same);
        let c = compare(&with(&[100]), &with(&[120]), false).unwrap();
        assert!(matches!(verdict(&c, "x"), Verdict::Changed { how, .. } if how == "not tested"), "one run");
        assert!(c[0].method.contains("nothing is tested"));
    }

    #[test]
    fn different_machines_are_refused_unless_asked_for() {
        let (a, mut b) = (side("A", &counted(), &[row("x", 1)]), side("B", &counted(), &[row("x", 2)]));
        b.results[0].runs[0].suite.as_mut().unwrap().machine[0].1 = "Another".into();
        let e = compare(&a, &b, false).unwrap_err().to_string();
        assert!(e.contains("cpu: A and Another") && e.contains("--different-machines"), "{e}");
        assert_eq!(compare(&a, &b, true).unwrap().len(), 1);
        b.results[0].runs[0].machine = Machine::default();
        let e = compare(&a, &b, false).unwrap_err().to_string();
        assert!(e.contains("emulator: Bochs") && e.contains("a tick is"), "{e}");
        b.results[0].runs[0].platform = "desk".into();
        assert!(compare(&a, &b, false).unwrap_err().to_string().contains("no machine is in both (A: m; B: desk)"));
        let c = compare(&a, &b, true).unwrap();
        assert!(
            c[0].platform == "m with desk"
                && matches!(verdict(&c, "x"), Verdict::Changed { how, .. } if how == "not tested")
        );
        let mixed = Side {
            name: "A".into(),
            results: [a.results, side("A", &Machine::default(), &[row("x", 1)]).results].concat(),
        };
        assert!(compare(&mixed, &mixed, true).unwrap_err().to_string().contains("not one machine"));
    }

    #[test]
    fn a_clock_measured_anew_is_the_same_machine() {
        let (a, mut b) = (side("A", &counted(), &[row("x", 1)]), side("B", &counted(), &[row("x", 1)]));
        b.results[0].runs[0].suite.as_mut().unwrap().machine[1].1 = "2 Hz".into();
        assert_eq!(*verdict(&compare(&a, &b, false).unwrap(), "x"), Verdict::Same);
        let empty = Side { name: "E".into(), results: vec![Results::begin("t")] };
        assert!(compare(&a, &empty, false).unwrap_err().to_string().contains("nothing was measured"));
    }
}
