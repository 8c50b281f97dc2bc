// SPDX-License-Identifier: MIT OR Apache-2.0

//! Description of the machine, which the results depend on.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::subject::Subject;
use pr_testkit::process;

/// Returns the machine, the date, and the subjects as JSON.
pub(super) fn describe(subjects: &[Subject]) -> Result<Value> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let uname = rustix::system::uname();
    let commit = process::text(Command::new("git").args(["describe", "--always", "--dirty"]));
    let descriptions: Vec<_> = subjects
        .iter()
        .map(|subject| {
            json!({
                "name": subject.name,
                "program": subject.program,
                "arguments": subject.arguments,
                "version": version(subject),
            })
        })
        .collect();
    Ok(json!({
        "date": process::text(Command::new("date").args(["-u", "+%FT%TZ"]))?.trim(),
        "processor": model(&processors),
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": uname.release().to_string_lossy(),
        "commit": commit.ok().map(|commit| commit.trim().to_owned()),
        "contestants": descriptions,
    }))
}

/// Returns the first line of the output of `--version`; `None` if the program fails or prints
/// nothing.
fn version(subject: &Subject) -> Option<String> {
    let text = process::text(Command::new(&subject.program).arg("--version")).ok()?;
    text.lines().next().map(str::to_owned)
}

/// Returns the processor's model name; some architectures have none in `/proc/cpuinfo`.
fn model(processors: &str) -> Option<&str> {
    let line = processors
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_that_of_first_processor() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz\n\nprocessor\t: 1\n";
        assert_eq!(model(text), Some("Some CPU @ 2.1GHz"));
        assert_eq!(model("processor : 0\n"), None);
    }
}
