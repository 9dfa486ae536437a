//! What is going on, on standard error: a spinner a step on a terminal, plain lines otherwise.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// One step of work, such as "building the kernel".
pub struct Step {
    what: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Announces the step.
    pub fn begin(what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = std::io::stderr().is_terminal().then(|| spinner(&what));
        Step { what, began: Instant::now(), bar }
    }

    /// A step that is shown nowhere: tests run side by side.
    pub fn silent() -> Step {
        Step { what: String::new(), began: Instant::now(), bar: None }
    }

    /// What the step is doing just now; shown on a terminal only.
    pub fn note(&self, line: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(line.trim().chars().take(80).collect::<String>());
        }
    }

    /// Ends the step; `result` says what came of it and may be empty.
    pub fn done(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let gap = if result.is_empty() { "" } else { ": " };
        eprintln!("  {}{gap}{result} ({:.1} s)", self.what, self.began.elapsed().as_secs_f32());
    }
}

fn spinner(what: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_prefix(what.to_owned());
    bar.set_style(ProgressStyle::with_template("{spinner} {prefix} {elapsed} {msg:.dim}").expect("constant template"));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
