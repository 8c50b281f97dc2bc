//! Where and when it was measured: figures mean nothing without.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use super::contestant::Contestant;
use crate::process;

/// The machine, the date, and what competed, as JSON.
pub(super) fn describe(contestants: &[Contestant]) -> Result<Value> {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let uname = rustix::system::uname();
    let commit = process::text(Command::new("git").args(["describe", "--always", "--dirty"]));
    let competitors: Vec<_> = contestants
        .iter()
        .map(|contestant| {
            json!({
                "name": contestant.name,
                "program": contestant.program,
                "arguments": contestant.arguments,
                "version": version(contestant),
            })
        })
        .collect();
    Ok(json!({
        "date": process::text(Command::new("date").args(["-u", "+%FT%TZ"]))?.trim(),
        "processor": model(&processors),
        "cores": std::thread::available_parallelism()?.get(),
        "kernel": uname.release().to_string_lossy(),
        "commit": commit.ok().map(|commit| commit.trim().to_owned()),
        "contestants": competitors,
    }))
}

/// The first line that it says of its version, if it says anything.
fn version(contestant: &Contestant) -> Option<String> {
    let text = process::text(Command::new(&contestant.program).arg("--version")).ok()?;
    text.lines().next().map(str::to_owned)
}

/// The processor's name; not every architecture has one there.
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
    fn the_model_is_that_of_the_first_processor() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.1GHz\n\nprocessor\t: 1\n";
        assert_eq!(model(text), Some("Some CPU @ 2.1GHz"));
        assert_eq!(model("processor : 0\n"), None);
    }
}
