//! Views of a profile for other programs: a trace for Perfetto (ui.perfetto.dev) or chrome://tracing, and a flame graph.
//!
//! In the trace an instruction takes a microsecond, as those programs know only times.

use super::kinds;
use super::stack::Stacks;
use super::step::Step;
use anyhow::{Context, Result};
use inferno::flamegraph::{self, Options};
use serde_json::{Value, json};

/// Threads of the trace.
const STAGES: u64 = 1;
const FUNCTIONS: u64 = 2;

/// The events: stages above functions; kinds are marks on the functions.
pub fn trace(name: &str, steps: &[Step], stages: &[String], stacks: &Stacks) -> Value {
    let mut all = vec![label("process_name", STAGES, name)];
    all.extend([label("thread_name", STAGES, "stages"), label("thread_name", FUNCTIONS, "functions")]);
    let stages: Vec<_> = stages.iter().map(|s| vec![s.clone()]).collect();
    all.extend(slices(STAGES, &stages));
    all.extend(slices(FUNCTIONS, &stacks.0));
    for (ts, step) in steps.iter().enumerate() {
        let args = json!({ "at": format!("{:#x}", step.at) });
        let mark = |k| json!({ "name": k, "ph": "i", "s": "t", "ts": ts, "pid": 1, "tid": FUNCTIONS, "args": args });
        all.extend(kinds::marked(step).into_iter().map(mark));
    }
    json!({ "displayTimeUnit": "ns", "traceEvents": all })
}

fn label(what: &str, tid: u64, name: &str) -> Value {
    json!({ "name": what, "ph": "M", "pid": 1, "tid": tid, "args": { "name": name } })
}

/// A slice for each name for as long as it and all above it stay the same.
fn slices(tid: u64, stacks: &[Vec<String>]) -> Vec<Value> {
    let (mut all, mut open) = (Vec::new(), Vec::<(String, usize)>::new());
    let none = Vec::new();
    for (ts, stack) in stacks.iter().chain([&none]).enumerate() {
        let same = open.iter().zip(stack).take_while(|((name, _), new)| name == *new).count();
        for (name, since) in open.drain(same..).rev() {
            all.push(json!({ "name": name, "ph": "X", "ts": since, "dur": ts - since, "pid": 1, "tid": tid }));
        }
        open.extend(stack[same..].iter().map(|n| (n.clone(), ts)));
    }
    all
}

/// An SVG that browsers show, with a click to enlarge.
pub fn flame_graph(title: &str, stacks: &Stacks) -> Result<Vec<u8>> {
    let mut options = Options::default();
    options.title = title.into();
    options.count_name = "instructions".into();
    options.deterministic = true;
    let (lines, mut svg) = (stacks.folded(), Vec::new());
    if lines.is_empty() {
        return Ok(svg);
    }
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg)
        .context("drawing a flame graph")?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perf::profile::step::Mode;

    fn stacks() -> Stacks {
        Stacks(
            [&["k", "f"][..], &["k", "f", "g"], &["k", "h"]].map(|s| s.iter().map(|n| n.to_string()).collect()).into(),
        )
    }

    #[test]
    fn slices_nest_and_last_as_long_as_what_is_above_them() {
        let all = slices(7, &stacks().0);
        let of = |name: &str| {
            let s = all.iter().find(|e| e["name"] == name).unwrap();
            (s["ts"].as_u64().unwrap(), s["dur"].as_u64().unwrap())
        };
        assert_eq!([of("k"), of("f"), of("g"), of("h")], [(0, 3), (0, 2), (1, 1), (2, 1)]);
        assert_eq!(all.len(), 4);
        let twice = slices(1, &["a", "b", "a"].map(|n| vec![n.to_string()]));
        assert_eq!(twice.len(), 3, "what ends and comes again is two");
    }

    #[test]
    fn kinds_are_marks_and_the_whole_is_what_viewers_read() {
        let step = |code: &[u8]| Step { at: 1, mode: Mode::Kernel, code: code.into() };
        let steps = [step(&[0x90]), step(&[0x0f, 0x22, 0xd8]), step(&[0xc3])];
        let t = trace("row", &steps, &["a", "a", "b"].map(String::from), &stacks());
        let events = t["traceEvents"].as_array().unwrap();
        let marks: Vec<_> = events.iter().filter(|e| e["ph"] == "i").collect();
        assert!(marks.len() == 1 && marks[0]["name"] == "cr3_writes" && marks[0]["ts"] == 1);
        assert_eq!(events.iter().filter(|e| e["ph"] == "X" && e["tid"] == STAGES).count(), 2);
    }

    #[test]
    fn the_flame_graph_is_an_svg_and_always_the_same() {
        let draw = || String::from_utf8(flame_graph("row on bochs", &stacks()).unwrap()).unwrap();
        assert!(draw().contains("<svg") && draw().contains("row on bochs"));
        assert_eq!(draw(), draw());
    }
}
