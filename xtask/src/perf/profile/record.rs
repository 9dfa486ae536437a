//! A profile: one warm operation of a row, as it was executed, and what can be said about it.
//!
//! Key type: [`Profile`].

use super::kinds::{Counts, of as kinds_of};
use super::stack::Stacks;
use super::stages::{Rules, Table};
use super::step::{Mode, Step};
use super::symbols::Symbols;
use super::view;
use crate::tree;
use anyhow::Result;
use iced_x86::{Formatter, IntelFormatter};
use serde::Serialize;
use std::path::PathBuf;

/// Functions with fewer instructions than this are not shown in the terminal.
const LEAST: u64 = 4;

/// What was executed.
pub struct Profile {
    pub row: String,
    pub platform: String,
    pub steps: Vec<Step>,
    stages: Vec<String>,
    stacks: Stacks,
    places: Vec<String>,
}

/// What is written as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    row: &'a str,
    platform: &'a str,
    instructions: usize,
    kinds: Counts,
    stages: Vec<Stage>,
    table: Table,
    /// Stacks as flame graphs have them, with their instructions.
    functions: Vec<String>,
}

#[derive(Serialize)]
struct Stage {
    name: String,
    instructions: usize,
    kinds: Counts,
}

/// The operation alone, without the readings of the clock in user mode and the instruction that saves the first (`OVERHEAD` in
/// the suite). What was traced may be a round of a loop that takes samples: then it begins with the reading that ends the
/// sample before, and ends before that of its own; if it reads the clock but once, the sample is the round.
pub fn operation(steps: &[Step]) -> &[Step] {
    let reads = |s: &Step| s.mode == Mode::User && kinds_of(s).contains(&"rdtsc");
    let (first, last) = (steps.iter().position(reads), steps.iter().rposition(reads));
    let inside = match (first, last) {
        (Some(0), Some(0)) | (None, _) | (_, None) => Some(steps),
        (Some(0), Some(last)) => steps.get(last + 2..),
        (Some(first), Some(last)) => steps.get(first + 2..last),
    };
    inside.unwrap_or_default()
}

impl Profile {
    pub fn new(row: String, platform: &str, steps: &[Step], symbols: &Symbols, rules: &Rules) -> Profile {
        let steps = operation(steps).to_vec();
        let frames: Vec<_> = steps.iter().map(|s| symbols.frames(s)).collect();
        let names = |s: &Step| symbols.frames(s).into_iter().map(|f| f.name).collect();
        // Of assembly, a label says less than a stage.
        let stacks =
            Stacks::of(&steps, |s| symbols.stage(s).map_or_else(|| names(s), |n| vec![format!("entry.S: {n}")]));
        let stage = |((step, stack), frames): ((&Step, &Vec<String>), &Vec<super::symbols::Frame>)| {
            rules.stage(step, symbols.stage(step), frames.first().map_or("", |f| &f.name), stack)
        };
        let stages = steps.iter().zip(&stacks.0).zip(&frames).map(stage).collect();
        let places = frames.iter().map(|f| f.last().map_or(String::new(), |f| f.place.clone())).collect();
        Profile { row, platform: platform.into(), steps, stages, stacks, places }
    }

    pub fn counts(&self) -> Counts {
        Counts::of(&self.steps)
    }

    fn table(&self) -> Table {
        Table::of(&self.steps, &self.stages)
    }

    /// For people. `median`: what the suite measured.
    pub fn show(&self, median: Option<u64>) -> String {
        let suite = median.map_or("the suite printed no figure".into(), |m| format!("the suite: {m}"));
        let head = format!("{} on {}: {} instructions ({suite})\n", self.row, self.platform, self.steps.len());
        head + "  by kind\n"
            + &self.counts().show()
            + "  by stage\n"
            + &self.table().show()
            + "  by function: all, own\n"
            + &self.stacks.tree().show(LEAST)
    }

    fn summary(&self) -> Summary<'_> {
        let table = self.table();
        let stage = |(name, _): &(String, Vec<u64>)| {
            let of: Vec<_> = self.steps.iter().zip(&self.stages).filter(|(_, s)| *s == name).map(|(s, _)| s).collect();
            Stage { name: name.clone(), instructions: of.len(), kinds: Counts::of(of.iter().copied()) }
        };
        Summary {
            row: &self.row,
            platform: &self.platform,
            instructions: self.steps.len(),
            kinds: self.counts(),
            stages: table.rows.iter().map(stage).collect(),
            table,
            functions: self.stacks.folded(),
        }
    }

    /// All of it, an instruction a line.
    fn listing(&self) -> String {
        let (mut text, mut formatter) = (String::new(), IntelFormatter::new());
        formatter.options_mut().set_space_after_operand_separator(true);
        let mut stage = None;
        for (i, step) in self.steps.iter().enumerate() {
            if stage != Some(&self.stages[i]) {
                stage = Some(&self.stages[i]);
                text += &format!("{}:\n", self.stages[i]);
            }
            let mut code = String::new();
            match step.decode() {
                Some(insn) => formatter.format(&insn, &mut code),
                None => code = "(guest)".into(),
            }
            let function = self.stacks.0[i].last().map_or("", |n| n);
            text += &format!("{i:>5} {:>16x}  {code:<56} {function} {}\n", step.at, self.places[i]);
        }
        text
    }

    /// Writes `ROW.json`, `.txt` (the listing), `.trace.json` (for Perfetto) and `.svg` (flame graph). Returns the folder.
    pub fn write(&self) -> Result<PathBuf> {
        let dir = tree::build_dir(format!("profile/{}", self.platform))?;
        let put = |end: &str, data: &[u8]| tree::write_if_changed(&dir.join(format!("{}.{end}", self.row)), data);
        let title = format!("{} on {}", self.row, self.platform);
        put("json", serde_json::to_string_pretty(&self.summary())?.as_bytes())?;
        put("txt", self.listing().as_bytes())?;
        put("trace.json", &serde_json::to_vec(&view::trace(&title, &self.steps, &self.stages, &self.stacks))?)?;
        put("svg", &view::flame_graph(&title, &self.stacks)?)?;
        Ok(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(mode: Mode, code: &[u8]) -> Step {
        Step { at: 0, mode, code: code.into() }
    }

    const RDTSC: &[u8] = &[0x0f, 0x31];
    const NOP: &[u8] = &[0x90];

    #[test]
    fn the_operation_is_between_the_readings_of_the_clock() {
        use Mode::*;
        let all = [
            (User, NOP),
            (User, RDTSC),
            (User, NOP),
            (User, &[0x0f, 0x05][..]),
            (Kernel, RDTSC),
            (User, RDTSC),
            (User, NOP),
        ]
        .map(|(m, c)| step(m, c));
        assert_eq!(operation(&all), &all[3..5], "the kernel may read the clock as it likes");
        assert_eq!(operation(&all[1..5]), &all[1..5], "a round is a sample");
        let round = [&all[5..], &all[1..5]].concat();
        assert_eq!(operation(&round), &all[3..5], "a round begins with the end of the one before");
        assert_eq!(operation(&[]), &[]);
        assert_eq!(operation(&all[..2]), &[], "half of one");
    }
}
