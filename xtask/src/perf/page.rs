//! Results as one page that needs nothing else, no network either: for screens, light and dark, and for paper.

use super::anchors::{self, Anchors, Group};
use super::budgets::Check;
use super::paths::{Path, Stage};
use super::plots::{self, Bar, Line, Panel, Range, grouped};
use super::result::{Results, Run};
use super::several::Several;
use super::suite::{Row, Suite};
use anyhow::{Context, Result, ensure};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use regex::Regex;
use std::collections::BTreeMap;

/// The style sheet.
const STYLE: &str = include_str!("page.css");
/// The kernels whose figures by words are drawn.
const BY_WORDS: [&str; 2] = ["nova", "sel4"];
/// Curves that differ by so many hundredths are one.
const NEAR: u64 = 2;
/// What rows are drawn together: a title, and how their names begin.
const FAMILIES: [(&str, &[&str]); 7] = [
    ("Calls", &["call_", "shared_"]),
    ("Hypercalls, semaphores and switches", &["null_", "semaphore_", "switch_", "clock_"]),
    ("Memory, capabilities and page faults", &["map_", "unmap_", "delegate_", "revoke_", "page_"]),
    ("Objects", &["create_", "destroy_"]),
    ("Guests", &["exit_", "recall_", "guest_"]),
    ("The longest stretches with interrupts off", &["stretch_"]),
    ("Others", &[""]),
];
/// Reasons of exits that are drawn.
const REASONS: usize = 12;

/// The page.
pub fn render(r: &Results) -> Result<String> {
    let anchors = Anchors::load()?;
    let title = "Ferronova: what it costs";
    let dark = format!("@media screen and (prefers-color-scheme:dark){{{}}}", plots::dark());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(dark)) }
            }
            body {
                header { h1 { (title) } (head(r)) }
                main {
                    (promises(r))
                    (compared(r, &anchors)?)
                    @for run in &r.runs { (paths(run)?) }
                    @for run in &r.runs { (suite(run)?) }
                    (scaling(r)?)
                    (guests(r)?)
                    (sources(&anchors))
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Calls and exits beside other kernels, as a file for the README.
pub fn picture(r: &Results) -> Result<String> {
    let anchors = Anchors::load()?;
    let panels = panels(r, &anchors, |g| g.picture);
    ensure!(!panels.is_empty(), "the results have no row that is drawn, of a machine that counts instructions");
    Ok(plots::alone(&plots::bars(&panels)?))
}

fn head(r: &Results) -> Markup {
    html! {
        dl.facts {
            dt { "Measured" } dd { (r.date) " by " code { (r.made_by) } }
            dt { "Revision" } dd { (r.revision.as_ref().map_or("not known".to_owned(), |v| v.show())) }
            @for run in &r.runs {
                dt { (run.platform) }
                dd {
                    (run.machine.show()) ". A tick is " (run.machine.tick()) "."
                    @if let Some(s) = &run.suite {
                        br; small { (s.show_machine()) }
                    }
                }
            }
        }
        @if !r.complete {
            div.warning {
                strong { "Not complete." }
                @if r.failed.is_empty() { " The command was interrupted: this is what it had measured." }
                ul { @for what in &r.failed { li { (what) } } }
            }
        }
    }
}

fn figure(svg: &str, caption: &str) -> Markup {
    html! { figure { (PreEscaped(svg)) @if !caption.is_empty() { figcaption { (caption) } } } }
}

/// Those of rows: one line a row, one column a platform.
fn promises(r: &Results) -> Markup {
    let platforms: Vec<&str> = r.runs.iter().map(|run| run.platform.as_str()).collect();
    let (of_rows, others): (Vec<&Check>, Vec<&Check>) = r.budgets.iter().partition(|c| c.platform.is_some());
    let mut by_row: BTreeMap<&str, Vec<&Check>> = BTreeMap::new();
    of_rows.iter().for_each(|c| by_row.entry(&c.what).or_default().push(c));
    let cell = |c: Option<&&Check>| match c {
        Some(c) => html! { (c.measured()) small { " of " (c.figure(c.most)) } " " (verdict(c)) },
        None => html! { "-" },
    };
    html! {
        @if !r.budgets.is_empty() {
            section {
                h2 { "Promises" }
                p { "What was measured, and the most that " code { "perf/budgets.toml" } " lets it be." }
                @if !others.is_empty() {
                    table { tbody { @for c in &others { tr { td { (c.what) } td.n { (cell(Some(c))) } } } } }
                }
                @if !by_row.is_empty() {
                    table {
                        thead { tr { th { "Row of the suite, ticks" } @for p in &platforms { th.n { (p) } } } }
                        tbody {
                            @for (row, checks) in &by_row {
                                tr { td { code { (row) } } @for p in &platforms {
                                    td.n { (cell(checks.iter().find(|c| c.platform.as_deref() == Some(*p)))) }
                                } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn verdict(c: &Check) -> Markup {
    html! { @if c.kept { span.good { "kept" } } @else { span.bad { "broken" } } }
}

/// Bars of the rows that others have figures for. Machines of ours with the same figure share a bar.
fn panels(r: &Results, anchors: &Anchors, wanted: impl Fn(&Group) -> bool) -> Vec<Panel> {
    let mut panels = Vec::new();
    for g in anchors.groups.iter().filter(|g| wanted(g)) {
        let mut ours: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for run in r.runs.iter().filter(|run| run.machine.counted) {
            if let Some(row) = run.suite.as_ref().and_then(|s| s.row(&g.row)) {
                let virtualisation = run.machine.virtualisation.iter().map(|v| format!(", {v}"));
                let label = run.platform.clone() + &virtualisation.collect::<String>();
                ours.entry(row.median).or_default().push(label);
            }
        }
        if ours.is_empty() {
            continue;
        }
        let one = ours.len() == 1;
        let label = |on: &[String]| if one { "Ferronova".into() } else { format!("Ferronova ({})", on.join("; ")) };
        let others = anchors.of(&g.row).into_iter().map(|(label, value)| Bar { label, value, ours: false });
        let bars = ours.iter().map(|(value, on)| Bar { label: label(on), value: *value, ours: true });
        panels.push(Panel { title: g.title.clone(), bars: bars.chain(others).collect() });
    }
    panels
}

fn compared(r: &Results, anchors: &Anchors) -> Result<Markup> {
    let (ipc, others): (Vec<_>, Vec<_>) =
        panels(r, anchors, |_| true).into_iter().partition(|p| p.title.starts_with("Call"));
    let lines = by_words(r, anchors)?;
    if ipc.is_empty() && others.is_empty() {
        return Ok(html! {});
    }
    Ok(html! {
        section {
            h2 { "Beside other kernels" }
            p { "Executed instructions, medians. The others were built from their sources and measured on the same emulators; "
                a href="#sources" { "how" } ". An arrow: the bar would be longer." }
            @if !ipc.is_empty() { (figure(&plots::bars(&ipc)?, "")) }
            @if !lines.is_empty() {
                h3 { "By the length of the message" }
                (figure(&plots::curves("words each way", "instructions", &lines)?,
                    "A call and its reply between two address spaces on one CPU. seL4's fast path carries four words."))
            }
            @for p in others { (figure(&plots::bars(&[p])?, "")) }
        }
    })
}

/// Whether two curves could not be told apart.
fn near(a: &[(u64, u64)], b: &[(u64, u64)]) -> bool {
    let close = |(p, q): (&(u64, u64), &(u64, u64))| p.0 == q.0 && p.1.abs_diff(q.1) * 100 <= p.1 * NEAR;
    a.len() == b.len() && a.iter().zip(b).all(close)
}

fn by_words(r: &Results, anchors: &Anchors) -> Result<Vec<Line>> {
    let points = |s: &Suite| {
        let mut list: Vec<_> = s.rows.iter().filter_map(|x| Some((anchors::words(&x.name)?, x.median))).collect();
        list.sort_unstable();
        list
    };
    let mut lines: Vec<Line> = Vec::new();
    for run in r.runs.iter().filter(|run| run.machine.counted) {
        let points = run.suite.as_ref().map(points).unwrap_or_default();
        match lines.iter_mut().find(|l| near(&l.points, &points)) {
            _ if points.is_empty() => {}
            Some(l) if l.points == points => l.label += &format!(", {}", run.platform),
            Some(l) => l.label += &format!(", {} (within {NEAR} %)", run.platform),
            None => lines.push(Line { label: format!("Ferronova: {}", run.platform), points }),
        }
    }
    if lines.is_empty() {
        return Ok(lines);
    }
    for kernel in BY_WORDS {
        lines.push(Line { label: anchors.name(kernel)?.into(), points: anchors.by_words(kernel) });
    }
    Ok(lines)
}

/// Stages and kinds of instructions of the paths that were traced.
fn paths(run: &Run) -> Result<Markup> {
    let panel = |p: &Path| {
        let bar = |s: &Stage| Bar { label: s.name.clone(), value: s.instructions, ours: true };
        Panel { title: format!("{}: {} instructions", p.row, p.instructions), bars: p.stages.iter().map(bar).collect() }
    };
    let kinds = |p: &Path| p.kinds.iter().map(|(k, n)| format!("{n} {}", k.replace('_', " "))).collect::<Vec<_>>();
    Ok(html! {
        @if !run.paths.is_empty() {
            section {
                h2 { "Where the instructions go: " (run.platform) }
                p { "One warm operation, every instruction of it, by stage in order of their first. Functions of the kernel that "
                    "are no stage have their own name. The files are beside this page in " code { "build/" } "." }
                @for p in &run.paths {
                    (figure(&plots::bars(&[panel(p)])?, &format!("Among them: {}.", kinds(p).join(", "))))
                    p { @for (what, file) in &p.files { a href=(file) { (what) } " " } }
                }
            }
        }
    })
}

fn suite(run: &Run) -> Result<Markup> {
    let Some(s) = &run.suite else { return Ok(html! {}) };
    let spread: Vec<_> = s.rows.iter().filter(|r| r.spread.len() > 1).collect();
    Ok(html! {
        section {
            h2 { "Perf suite: " (run.platform) }
            p { "In ticks, on a logarithmic axis. Mark: median; blue: from the smallest to the 99th percentile; line and dot: to "
                "the largest." }
            @for (title, rows) in families(s) { h3 { (title) } (figure(&plots::ranges(&rows)?, "")) }
            (sizes(s)?)
            details {
                summary { "All rows in figures (" (s.rows.len()) ")" }
                (rows(s))
            }
            @if !spread.is_empty() {
                details open[!run.machine.counted] {
                    summary { "Distributions of rows whose samples are not all the same (" (spread.len()) ")" }
                    p { "Samples by ticks: a bar is as high as the logarithm of their number; below it, where its interval begins." }
                    div.grid { @for r in spread { (figure(&plots::histogram(&r.name, &r.spread)?, "")) } }
                }
            }
            @if !s.missing.is_empty() {
                h3 { "Rows that are missing here" }
                ul { @for line in s.missing_by_reason() { li { (line) } } }
            }
        }
    })
}

/// Rows in ticks by [`FAMILIES`], each in the first one that fits.
fn families(s: &Suite) -> Vec<(&'static str, Vec<Range>)> {
    let of = |r: &Row| FAMILIES.iter().position(|(_, heads)| heads.iter().any(|h| r.name.starts_with(h)));
    let range = |r: &Row| Range { label: r.name.clone(), min: r.min, median: r.median, p99: r.p99, max: r.max };
    let ticks = || s.rows.iter().filter(|r| r.unit == "ticks");
    let each = FAMILIES.iter().enumerate();
    each.map(|(i, (title, _))| (*title, ticks().filter(|r| of(r) == Some(i)).map(range).collect::<Vec<_>>()))
        .filter(|(_, rows)| !rows.is_empty())
        .collect()
}

/// Rows in bytes.
fn sizes(s: &Suite) -> Result<Markup> {
    let bytes = s.rows.iter().filter(|r| r.unit == "bytes");
    let label = |r: &Row| r.name.trim_start_matches("memory_of_").replace('_', " ");
    let bars: Vec<_> = bytes.map(|r| Bar { label: label(r), value: r.median, ours: true }).collect();
    if bars.is_empty() {
        return Ok(html! {});
    }
    Ok(figure(&plots::bars(&[Panel { title: "Kernel memory of an object, in bytes".into(), bars }])?, ""))
}

fn rows(s: &Suite) -> Markup {
    html! {
        table {
            thead { tr { th { "Row" } th.n { "min" } th.n { "median" } th.n { "p99" } th.n { "max" } th.n { "samples" } th {} } }
            tbody {
                @for r in &s.rows {
                    tr { td { code { (r.name) } }
                        @for n in [r.min, r.median, r.p99, r.max, r.count] { td.n { (grouped(n)) } } td { (r.unit) } }
                }
            }
        }
    }
}

/// Rows whose names differ only in a number of CPUs or guests, as curves over it: unit and number of what, and the curves.
fn scaling_lines(r: &Results) -> Result<BTreeMap<(String, String), Vec<Line>>> {
    let number = Regex::new(r"(?:^|_)(?<n>\d+)_?(?<of>cpu|guest|vcpu|domain|vm)s?(?:_|$)")?;
    let mut charts: BTreeMap<_, Vec<Line>> = BTreeMap::new();
    for run in &r.runs {
        for row in run.suite.iter().flat_map(|s| &s.rows) {
            let Some(c) = number.captures(&row.name) else { continue };
            let point = (c["n"].parse().context("a number in a row's name")?, row.median);
            // The name may have the same digits elsewhere.
            let number = c.name("n").map_or(0..0, |m| m.range());
            let label = format!("{}N{} ({})", &row.name[..number.start], &row.name[number.end..], run.platform);
            let lines = charts.entry((row.unit.clone(), format!("{}s", &c["of"]))).or_default();
            match lines.iter_mut().find(|l| l.label == label) {
                Some(l) => l.points.push(point),
                None => lines.push(Line { label, points: vec![point] }),
            }
        }
    }
    for run in &r.runs {
        let mut curve = |unit: &str, label: &str, of: fn(&Several) -> u64| {
            let points = run.several.iter().map(|s| (s.guests, of(s))).collect();
            let label = format!("{label} ({})", run.platform);
            charts.entry((unit.into(), "guests".into())).or_default().push(Line { label, points });
        };
        curve("ticks for each guest's work", "small guests, each with a VMM", Several::ticks_each);
        curve("bytes for each guest", "kernel memory", |s| s.kernel_bytes);
        curve("bytes for each guest", "memory of the VMM", |s| s.vmm_bytes);
    }
    charts.values_mut().flatten().for_each(|l| l.points.sort_unstable());
    charts.values_mut().for_each(|lines| lines.retain(|l| l.points.len() > 1));
    charts.retain(|_, lines| !lines.is_empty());
    Ok(charts)
}

fn scaling(r: &Results) -> Result<Markup> {
    let charts = scaling_lines(r)?;
    Ok(html! {
        @if !charts.is_empty() {
            section { h2 { "Scaling" } @for ((unit, of), lines) in &charts { (figure(&plots::curves(of, unit, lines)?, "")) } }
        }
    })
}

fn guests(r: &Results) -> Result<Markup> {
    let boots: Vec<_> = r.runs.iter().flat_map(|run| &run.boots).collect();
    let exits = |b: &super::guest::Boot| -> Result<Markup> {
        let mut list: Vec<_> = b.exits.iter().filter(|(reason, _)| reason != "in all").collect();
        list.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let bars = list.iter().take(REASONS).map(|(label, n)| Bar { label: label.clone(), value: *n, ours: true });
        let panel = Panel { title: format!("Exits until power-off, by reason: {}", b.name), bars: bars.collect() };
        Ok(figure(&plots::bars(&[panel])?, ""))
    };
    Ok(html! {
        @if !boots.is_empty() {
            section {
                h2 { "A Linux guest" }
                p { "From its kernel's entry to its shell, under us and on a bare machine of the same model." }
                table {
                    thead { tr { th { "Boot" } th.n { "ticks" } th.n { "bare machine" } th.n { "ratio" } th.n { "exits" } } }
                    tbody {
                        @for b in &boots {
                            tr { td { (b.name) } td.n { (grouped(b.guest_ticks)) } td.n { (grouped(b.native_ticks)) }
                                td.n { (format!("{:.3}", b.ratio())) } td.n { (grouped(b.exits_at_prompt)) } }
                        }
                    }
                }
                @for b in &boots { (exits(b)?) }
            }
        }
        @if r.runs.iter().any(|run| !run.loads.is_empty()) {
            section {
                h2 { "What the guest does" }
                p { "Beyond its quiet boot: " code { "guests/linux/loads" } ", under us and on a bare machine of the same model." }
                table {
                    thead { tr { th { "Load" } th.n { "ticks" } th.n { "bare machine" } th.n { "ratio" } th.n { "exits" } } }
                    tbody {
                        @for l in r.runs.iter().flat_map(|run| &run.loads) {
                            tr { td { (l.name) } td.n { (grouped(l.guest_ticks)) } td.n { (grouped(l.native_ticks)) }
                                td.n { (format!("{:.3}", l.ratio())) } td.n { (grouped(l.exits_at_prompt)) } }
                        }
                    }
                }
            }
        }
        @if let Some(p) = &r.prompt {
            section {
                h2 { "From switching on to the guest's prompt" }
                p { (format!("{:.1} s of QEMU's CPU time under us, {:.1} s on the bare machine: ratio {:.2}. ", p.ours_s, p.native_s, p.ratio()))
                    "This is a time, and depends on the machine that measured." }
            }
        }
    })
}

fn sources(anchors: &Anchors) -> Markup {
    html! {
        section #sources {
            h2 { "The other kernels" }
            p { "From " code { "perf/anchors.toml" } "." }
            table {
                thead { tr { th { "Kernel" } th { "Built" } th { "Measured" } } }
                tbody {
                    @for k in &anchors.kernels {
                        tr { td { a href=(k.source) { (k.name) } br; small { (k.version) } } td { (k.build) } td { (k.how) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;

    fn results() -> Results {
        let text = "perf: call_reply_other_pd_1w min 195 median 195 p99 195 max 563 of 1024 ticks\n\
            perf: call_reply_other_pd_1w spread 195:1023 563:1\n\
            perf: call_reply_other_pd_8w min 219 median 219 p99 219 max 219 of 1024 ticks\n\
            perf: walk_1w_on_1_cpus min 5 median 5 p99 5 max 5 of 1 ticks\nperf: walk_1w_on_2_cpus min 9 median 9 p99 9 max 9 of 1 ticks\n\
            perf: memory_of_pd min 9 median 9 p99 9 max 9 of 1 bytes\nperf: exit_cpuid_rip missing: the machine runs <no> guests\n";
        let mut r = Results::begin("cargo xtask perf --suite");
        for name in ["bochs", "qemu"] {
            let suite = Suite::parse(name, text).unwrap();
            r.run(&Platform::load(name).unwrap().counted()).suite = Some(suite);
        }
        r
    }

    #[test]
    fn the_page_has_all_and_needs_nothing_else() {
        let mut r = results();
        let stage = |name: &str, instructions| Stage { name: name.into(), instructions };
        r.runs[0].paths.push(Path {
            row: "a_call".into(),
            instructions: 60,
            kinds: [("cr3_writes".into(), 2)].into(),
            stages: vec![stage("entry", 20), stage("switch", 40)],
            files: vec![("trace".into(), "profile/trace.json".into())],
        });
        let page = render(&r).unwrap();
        for part in [
            "NOVA",
            "Not complete",
            "runs &lt;no&gt; guests",
            "Distributions",
            "Kernel memory of an object",
            "Scaling",
            "walk_1w_on_N_cpus (bochs)",
            "a_call: 60 instructions",
            "2 cr3 writes",
            "profile/trace.json",
            "8b6c28a0",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["<script", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("Ferronova: bochs, qemu"), "one curve for equal figures");
    }

    #[test]
    fn results_without_anything_are_a_page_too() {
        let page = render(&Results::begin("t")).unwrap();
        assert!(page.contains("interrupted") && !page.contains("Beside other kernels"));
    }

    #[test]
    fn the_picture_has_what_the_file_says() {
        let svg = picture(&results()).unwrap();
        assert!(svg.contains("1 word each way") && !svg.contains("8 words each way"), "{svg}");
        assert!(svg.contains("Ferronova<") || svg.contains("Ferronova\n"), "{svg}");
        assert!(picture(&Results::begin("t")).unwrap_err().to_string().contains("no row"));
    }
}
