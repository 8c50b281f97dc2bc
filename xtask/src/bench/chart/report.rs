//! A report as `--json` writes it, read again.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::bench::statistics::Summary;

/// As much of it as a picture needs.
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
    figure: String,
    contestants: BTreeMap<String, Column>,
}

#[derive(Deserialize)]
struct Column {
    summary: Option<Summary>,
}

impl Report {
    /// When and where it was measured, and what is shown of that.
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
            "Bars are medians of {rounds} round{}, lines go from the least to the most.",
            s(rounds.into())
        );
        [of_machine, of_values]
    }

    /// What a contestant came to; `None` if that was not measured.
    pub(super) fn summary(
        &self,
        scenario: &str,
        figure: &str,
        contestant: &str,
    ) -> Option<Summary> {
        let rows = self.scenarios.get(scenario)?;
        let row = rows.iter().find(|row| row.figure == figure)?;
        row.contestants.get(contestant)?.summary
    }
}
