//! Where the instructions of hot paths go, for the report: what [`super::profile`] writes about the rows whose kinds of
//! instructions have limits.
//!
//! Key type: [`Path`].

use super::profile;
use super::result::Keeper;
use crate::platform::Platform;
use crate::tree;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One warm operation of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Path {
    pub row: String,
    pub instructions: u64,
    /// Kinds of instructions that cost more than others, and how many there are.
    pub kinds: BTreeMap<String, u64>,
    pub stages: Vec<Stage>,
    /// Files for viewers: what, and where below `build/`.
    #[serde(default)]
    pub files: Vec<(String, String)>,
}

/// A stage of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    pub instructions: u64,
}

/// What there is for each row: for whom, and the ending of its name.
const FILES: [(&str, &str); 3] = [("flame graph", "svg"), ("trace for Perfetto", "trace.json"), ("listing", "txt")];

/// Traces the rows. Fails if they have more of a kind than they may.
pub fn measure(platform: &Platform, keeper: &Keeper) -> Result<()> {
    let folder = format!("profile/{}", platform.name);
    let dir = tree::build(&folder);
    if dir.exists() {
        // Of other rows, or of another revision.
        std::fs::remove_dir_all(&dir)?;
    }
    let judged = profile::test(&platform.name);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| tree::shown(&dir))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(row) = name.strip_suffix(".json").filter(|r| !r.contains('.')) {
            paths.push(parse(&tree::read_text(&dir.join(&name))?, &format!("{folder}/{row}"))?);
        }
    }
    paths.sort_by(|a, b| a.row.cmp(&b.row));
    keeper.change(|r| r.run(platform).paths = paths)?;
    judged
}

/// `stem`: the files without their endings.
fn parse(text: &str, stem: &str) -> Result<Path> {
    let path: Path = serde_json::from_str(text)?;
    Ok(Path { files: FILES.map(|(what, ending)| (what.into(), format!("{stem}.{ending}"))).into(), ..path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_with_its_files() {
        let text = r#"{"row": "x", "platform": "bochs", "instructions": 9, "kinds": {"locked": 1}, "functions": [],
            "stages": [{"name": "entry", "instructions": 4, "kinds": {}}, {"name": "exit", "instructions": 5, "kinds": {}}]}"#;
        let p = parse(text, "profile/bochs/x").unwrap();
        assert_eq!((p.instructions, p.kinds["locked"], p.stages.len()), (9, 1, 2));
        assert_eq!(p.files[0], ("flame graph".into(), "profile/bochs/x.svg".into()));
        assert!(parse("{}", "").is_err());
    }
}
