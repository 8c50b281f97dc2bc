// SPDX-License-Identifier: MIT OR Apache-2.0

//! Reads a report that `--json` has written.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::statistics::Summary;

/// The parts of a report that the chart needs.
#[derive(Deserialize)]
pub(super) struct Report {
    machine: Machine,
    rounds: u16,
    scenarios: BTreeMap<String, Vec<Row>>,
}

#[derive(Deserialize)]
struct Machine {
    date: String,
    processor: Option<String>,
    cores: usize,
    kernel: String,
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "figure")]
    metric: String,
    #[serde(rename = "contestants")]
    subjects: BTreeMap<String, Column>,
}

#[derive(Deserialize)]
struct Column {
    summary: Option<Summary>,
}

impl Report {
    /// Returns the subtitle: date and machine, and the meaning of the bars.
    pub(super) fn origin(&self) -> [String; 2] {
        let Machine {
            date,
            processor,
            cores,
            kernel,
        } = &self.machine;
        let day = date.split('T').next().unwrap_or_default();
        let s = |number| if number == 1 { "" } else { "s" };
        let of = processor
            .as_ref()
            .map_or_else(String::new, |name| format!(" of {name}"));
        let of_machine = format!("{day}, {cores} core{}{of}, Linux {kernel}", s(*cores));
        let rounds = self.rounds;
        let of_values = format!(
            "Bars are medians of {rounds} round{}; lines span minimum to maximum.",
            s(rounds.into())
        );
        [of_machine, of_values]
    }

    /// Returns the summary of a subject; `None` if the metric was not measured.
    pub(super) fn summary(&self, scenario: &str, metric: &str, subject: &str) -> Option<Summary> {
        let rows = self.scenarios.get(scenario)?;
        let row = rows.iter().find(|row| row.metric == metric)?;
        row.subjects.get(subject)?.summary
    }
}
