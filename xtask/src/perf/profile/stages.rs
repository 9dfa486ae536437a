//! What a path does, step by step: stages. Of `arch/entry.S` its own marks say which; of Rust, `perf/stages.toml`.
//!
//! Key types: [`Rules`], [`Table`].

use super::step::{Mode, Step};
use crate::tree;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Functions of a stage.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    /// Ends of their names.
    functions: Vec<String>,
}

/// `perf/stages.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default)]
    stage: Vec<Rule>,
}

impl Rules {
    pub fn load() -> Result<Rules> {
        Ok(toml::from_str(&tree::read_text(&tree::root().join("perf/stages.toml"))?)?)
    }

    /// Names that no function of the kernel has.
    pub fn without_function(&self, functions: &BTreeSet<String>) -> Vec<&str> {
        let named = self.stage.iter().flat_map(|r| &r.functions);
        let is_none = |end: &&String| !functions.iter().any(|f| ends_with(plain(f), end));
        named.filter(is_none).map(String::as_str).collect()
    }

    /// The stage of a step with these functions around it, outermost first: that of the innermost function that has one,
    /// else `linked`, the function that the linker knows. `marked`: what `entry.S` says.
    pub fn stage(&self, step: &Step, marked: Option<&str>, linked: &str, stack: &[String]) -> String {
        if step.mode != Mode::Kernel {
            return step.mode.name().into();
        }
        if let Some(name) = marked {
            return name.into();
        }
        let rule_of = |f: &String| self.stage.iter().find(|r| r.functions.iter().any(|e| ends_with(plain(f), e)));
        stack.iter().rev().find_map(rule_of).map_or(linked, |r| &r.name).into()
    }
}

/// Without what a generic function is an instance of.
fn plain(name: &str) -> &str {
    name.find('<').filter(|i| *i > 0).map_or(name, |i| &name[..i])
}

/// With whole words of a path.
fn ends_with(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with("::"))
}

/// Instructions by stage, and by passage: each time that the kernel is entered.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Table {
    /// How the kernel was entered.
    pub passages: Vec<&'static str>,
    /// Name, and instructions in each passage.
    pub rows: Vec<(String, Vec<u64>)>,
}

/// The passage that each step belongs to, and how each began. What user mode or a guest does belongs to the passage
/// before it, but SYSCALL to that which it begins.
pub fn passages(steps: &[Step]) -> (Vec<usize>, Vec<&'static str>) {
    let (mut of, mut began) = (Vec::with_capacity(steps.len()), Vec::new());
    let mut before = None;
    for step in steps {
        let syscall = step.decode().is_some_and(|i| i.mnemonic() == iced_x86::Mnemonic::Syscall);
        match (before, step.mode) {
            (_, Mode::User) if syscall => began.push("hypercall"),
            (Some(Mode::Guest), Mode::Kernel) => began.push("exit"),
            (Some(Mode::User), Mode::Kernel) => began.push("trap"),
            _ => {}
        }
        of.push(began.len());
        // After SYSCALL the kernel is no news.
        before = Some(if syscall { Mode::Kernel } else { step.mode });
    }
    // What was there before the first entry counts as part of it.
    (of.into_iter().map(|p| p.saturating_sub(1)).collect(), began)
}

impl Table {
    pub fn of(steps: &[Step], stages: &[String]) -> Table {
        let (of, passages) = passages(steps);
        let mut table = Table { passages, rows: Vec::new() };
        let columns = table.passages.len().max(1);
        for (stage, passage) in stages.iter().zip(of) {
            let at = table.rows.iter().position(|(n, _)| n == stage).unwrap_or_else(|| {
                table.rows.push((stage.clone(), vec![0; columns]));
                table.rows.len() - 1
            });
            table.rows[at].1[passage] += 1;
        }
        table
    }

    /// As a table of Markdown, which is for people and for `docs/design` at once.
    pub fn show(&self) -> String {
        let heads: Vec<String> = self.passages.iter().enumerate().map(|(i, p)| format!("{}: {p}", i + 1)).collect();
        let width = self.rows.iter().map(|(n, _)| n.len()).max().unwrap_or(5).max(5);
        let line = |name: &str, cells: &[String]| {
            let cells: String = cells.iter().map(|c| format!(" {c:>12} |")).collect();
            format!("    | {name:<width$} |{cells}\n")
        };
        let rule = format!("    |{}|{}\n", "-".repeat(width + 2), "-------------:|".repeat(heads.len().max(1)));
        let mut text = line("Stage", &heads) + &rule;
        for (name, counts) in &self.rows {
            let cells: Vec<_> = counts.iter().map(|n| if *n == 0 { String::new() } else { n.to_string() }).collect();
            text += &line(name, &cells);
        }
        let sum = |i: usize| self.rows.iter().map(|(_, c)| c[i]).sum::<u64>().to_string();
        text + &line("all", &(0..heads.len().max(1)).map(sum).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(mode: Mode, code: &[u8]) -> Step {
        Step { at: 0, mode, code: code.into() }
    }

    const SYSCALL: &[u8] = &[0x0f, 0x05];
    const NOP: &[u8] = &[0x90];

    fn rules() -> Rules {
        toml::from_str("[[stage]]\nname = 'state'\nfunctions = ['event::save', 'save_gpr']\n").unwrap()
    }

    #[test]
    fn the_innermost_function_with_a_stage_names_it() {
        let of = |stack: &[&str], marked| {
            let stack: Vec<String> = stack.iter().map(|s| s.to_string()).collect();
            rules().stage(&step(Mode::Kernel, NOP), marked, "linked", &stack)
        };
        assert_eq!(of(&["kernel", "h::event::save", "get<u64>"], None), "state");
        assert_eq!(of(&["kernel", "h::other", "save_gpr<vmx::Port>", "copy"], None), "state");
        assert_eq!(of(&["kernel", "h::go", "h::other", "save"], None), "linked");
        assert_eq!(of(&["kernel", "h::event::saved"], None), "linked");
        assert_eq!(of(&["kernel", "<h::Ec as Ec>::save_gpr"], None), "state");
        assert_eq!(of(&["kernel", "syscall_entry"], Some("portal")), "portal");
        assert_eq!(rules().stage(&step(Mode::User, NOP), None, "", &[]), "user mode");
    }

    #[test]
    fn a_name_that_no_function_has_is_told() {
        let unknown = |all: [&str; 2]| rules().without_function(&all.map(String::from).into()).join(" ");
        assert_eq!(unknown(["h::event::save", "h::save_gpr<vmx::Port>"]), "");
        assert_eq!(unknown(["h::event::saved", "save_gpr"]), "event::save");
    }

    #[test]
    fn passages_begin_with_syscalls_exits_and_traps() {
        use Mode::*;
        let steps: Vec<_> =
            [(User, NOP), (User, SYSCALL), (Kernel, NOP), (Guest, NOP), (Kernel, NOP), (User, NOP), (Kernel, NOP)]
                .map(|(m, c)| step(m, c))
                .into();
        let (of, began) = passages(&steps);
        assert_eq!(began, ["hypercall", "exit", "trap"]);
        assert_eq!(of, [0, 0, 0, 0, 1, 1, 2]);
    }

    #[test]
    fn the_table_adds_up() {
        use Mode::*;
        let steps: Vec<_> =
            [(User, SYSCALL), (Kernel, NOP), (User, SYSCALL), (Kernel, NOP)].map(|(m, c)| step(m, c)).into();
        let stages = ["user mode", "entry", "user mode", "exit"].map(String::from);
        let t = Table::of(&steps, &stages);
        assert_eq!(t.rows[0], ("user mode".into(), vec![1, 1]));
        assert_eq!(t.rows[1], ("entry".into(), vec![1, 0]));
        let text = t.show();
        assert!(text.contains("| Stage     | 1: hypercall | 2: hypercall |"), "{text}");
        assert!(text.contains("| all       |            2 |            2 |"), "{text}");
        assert_eq!(Table::of(&[], &[]), Table::default());
    }
}
