//! A sequence as a text file, with its answers.
//!
//! A line for a command (`command.rs`), below it `= ` and what the standard wants as soft-lun does it, and
//! below that, where LIO departs from it, `! `, the row and LIO's own answer. What follows a `#` is for the
//! reader. The generation begins at zero.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use crate::command::Step;
use crate::departures::{avoided, predict};
use crate::model::{Model, Shown};

/// The steps with their answers.
pub(crate) fn text(steps: &[Step]) -> String {
    let mut text = String::new();
    let mut model = Model::empty(0.into());
    for step in steps {
        if avoided(&model, step).is_some() {
            continue;
        }
        let standard = model.standard(step).answer;
        let prediction = predict(&model, step);
        writeln!(text, "{step}\n= {}", Shown(&standard)).unwrap();
        if let Some(row) = prediction.row {
            let answer = &prediction.outcome.answer;
            writeln!(text, "! {} {}", row.id(), Shown(answer)).unwrap();
        }
        model = prediction.outcome.model;
    }
    text
}

/// The steps of a file.
pub(crate) fn steps(text: &str) -> Result<Vec<Step>> {
    let lines = text.lines().map(meant);
    let commands = lines.filter(|line| line.starts_with(['A', 'B']));
    commands.map(str::parse).collect()
}

/// Checks that a file's answers are those that soft-lun and LIO are known to give.
pub(crate) fn check(text: &str) -> Result<()> {
    let steps = steps(text)?;
    ensure!(!steps.is_empty(), "no commands");
    let known = self::text(&steps);
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(meant);
        let lines = lines.filter(|line| !line.is_empty());
        lines.map(ToOwned::to_owned).collect()
    };
    let (known, stored) = (lines(&known), lines(text));
    let differs = known.iter().zip(&stored).find(|(one, other)| one != other);
    if let Some((known, stored)) = differs {
        return Err(anyhow::anyhow!("`{stored}` is `{known}`"));
    }
    ensure!(known.len() == stored.len(), "lines are missing: {known:#?}");
    Ok(())
}

/// A line without what is for the reader.
fn meant(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// The stored sequences: names and texts.
pub(crate) fn stored() -> Result<Vec<(String, String)>> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lio/regressions");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).context(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.context("an odd name")?.to_owned();
        files.push((name, std::fs::read_to_string(&path)?));
    }
    files.sort();
    Ok(files)
}
