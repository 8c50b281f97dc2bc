// SPDX-License-Identifier: MIT OR Apache-2.0

//! A sequence as a text file, with its responses.
//!
//! Each command has a line (`command.rs`). Below it, a line with `= ` contains the response of
//! soft-lun, which follows the standard. If LIO deviates, a line with `! ` follows with the
//! deviation and the response of LIO. The text after a `#` is a comment. PRgeneration counts from
//! zero.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

use crate::command::Step;
use crate::kernel::Kernel;
use crate::lio_deviations::{exclusion, predict};
use crate::model::{DisplayResponse, Model};

/// Returns the text of the steps with their responses.
pub(crate) fn text(kernel: Kernel, steps: &[Step]) -> String {
    let mut text = String::new();
    let mut model = Model::empty(kernel, 0.into());
    for step in steps {
        if exclusion(&model, step).is_some() {
            continue;
        }
        let standard = model.soft_lun_outcome(step).response;
        let prediction = predict(&model, step);
        writeln!(text, "{step}\n= {}", DisplayResponse(&standard)).unwrap();
        if let Some(deviation) = prediction.deviation {
            let response = &prediction.outcome.response;
            writeln!(text, "! {} {}", deviation.id(), DisplayResponse(response)).unwrap();
        }
        model = prediction.outcome.model;
    }
    text
}

/// Parses the steps of a file.
pub(crate) fn steps(text: &str) -> Result<Vec<Step>> {
    let lines = text.lines().map(strip_comment);
    let commands = lines.filter(|line| line.starts_with(['A', 'B']));
    commands.map(str::parse).collect()
}

/// Checks that the responses in a file are the known responses of soft-lun and LIO.
pub(crate) fn check(kernel: Kernel, text: &str) -> Result<()> {
    let steps = steps(text)?;
    ensure!(!steps.is_empty(), "no commands");
    let known = self::text(kernel, &steps);
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(strip_comment);
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

/// Returns a line without its comment.
fn strip_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// Returns the names and texts of the stored sequences.
pub(crate) fn stored() -> Result<Vec<(String, String)>> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lio/regressions");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).context(dir)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let name = name.context("the file name is not UTF-8")?.to_owned();
        files.push((name, std::fs::read_to_string(&path)?));
    }
    files.sort();
    Ok(files)
}
