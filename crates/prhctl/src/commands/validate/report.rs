// SPDX-License-Identifier: MIT OR Apache-2.0

//! The report as text and as JSON.

use std::time::Duration;

use anstyle::Style;

use super::Validation;
use super::meaning::{self, Meaning};
use super::runner::{Row, Verdict};
use super::session::SentCommand;
use crate::console::{BOLD, GOOD, INVALID, PLAIN, REJECTED, escape_path, table};
use crate::error::ErrorText;
use crate::known_disks::distinct;
use crate::output::json::{self, Json, ToJson, object};
use crate::output::text::ToText;

const VERDICTS: [&str; 5] = [
    "pass",
    "failed",
    "warning",
    "known difference",
    "not tested",
];

impl Validation {
    /// Returns the number of rows with a verdict.
    fn count(&self, verdict: &str) -> usize {
        let rows = self.rows.iter();
        rows.filter(|row| row.verdict.name() == verdict).count()
    }

    /// Returns the number of rows with each verdict that occurs.
    pub(super) fn summary(&self) -> String {
        let counts = VERDICTS.map(|verdict| (self.count(verdict), verdict));
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        let counts: Vec<_> = counts
            .map(|(count, verdict)| format!("{count} {verdict}"))
            .collect();
        counts.join(", ")
    }

    /// Returns the reasons of rows that were not tested, each with the names of its steps.
    fn not_tested(&self) -> Vec<(&str, Vec<&str>)> {
        let rows = || {
            let rows = self.rows.iter();
            rows.filter(|row| matches!(row.verdict, Verdict::NotTested))
        };
        let reasons = distinct(rows().filter_map(|row| row.details.first()));
        let names = |reason: &String| {
            let rows = rows().filter(|row| row.details.first() == Some(reason));
            rows.map(|row| row.step.name).collect()
        };
        let reasons = reasons.into_iter();
        reasons
            .map(|reason| (reason.as_str(), names(reason)))
            .collect()
    }
}

/// Returns a time in milliseconds.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

impl ToText for Validation {
    fn to_text(&self) -> String {
        let devices: Vec<_> = self.devices.iter().map(|path| escape_path(path)).collect();
        let header = [" STEP", "NODE", "ANSWER", "TIME", "VERDICT"];
        let rows = table(&header, self.rows.iter().map(table_row));
        let notes: String = self.rows.iter().map(note).collect();
        let not_tested: String = self.not_tested().into_iter().map(not_tested_line).collect();
        let heading = format!(
            "{BOLD}{}{BOLD:#}: profile {}, keys begin with {}\n",
            devices.join(", "),
            self.profile.name(),
            self.run
        );
        let result = format!("{BOLD}Result:{BOLD:#} {}\n", self.summary());
        heading + &rows + &notes + &not_tested + &result
    }
}

fn table_row(row: &Row) -> (Style, Vec<String>) {
    let style = match row.verdict {
        Verdict::Pass => GOOD,
        Verdict::Failed => INVALID,
        Verdict::Warning | Verdict::Known(_) => REJECTED,
        Verdict::NotTested => PLAIN,
    };
    let last = row.subject();
    let cell = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cells = vec![
        format!(" {}", row.step.name),
        cell(last.map(|command| command.node.to_string())),
        cell(last.map(|command| command.answer.clone())),
        cell(last.map(|_| milliseconds(row.time()))),
        row.verdict.name().to_owned(),
    ];
    (style, cells)
}

/// Returns the explanation of a row that neither passed nor was left out.
fn note(row: &Row) -> String {
    let (style, label) = match row.verdict {
        Verdict::Pass | Verdict::NotTested => return String::new(),
        Verdict::Failed => (INVALID, "Failed"),
        Verdict::Warning => (REJECTED, "Warning"),
        Verdict::Known(_) => (REJECTED, "Known difference"),
    };
    let mut lines = vec![format!("{style}{label}: {}{style:#}\n", row.step.name)];
    let mut add = |line: String| lines.push(format!("  {line}\n"));
    add(format!("Rule: {}.", row.step.rule));
    row.details
        .iter()
        .for_each(|detail| add(format!("{detail}.")));
    match row.verdict {
        Verdict::Known(known) => add(format!("{} ({}).", known.text, known.id)),
        Verdict::Failed => {
            for (name, text) in meaning::of(row.step.name)
                .into_iter()
                .flat_map(Meaning::texts)
            {
                add(format!("{name}: {text}"));
            }
        }
        _ => {}
    }
    lines.concat()
}

fn not_tested_line((reason, names): (&str, Vec<&str>)) -> String {
    format!("{BOLD}Not tested:{BOLD:#} {reason}: {}\n", names.join(", "))
}

impl ToJson for Validation {
    fn to_json(&self) -> Json {
        let error = self.error.as_ref().map(|failure| {
            let text = ErrorText::new(failure.error.as_ref());
            json::error(failure.error.as_ref(), &text)
        });
        object! {
            "devices": Json::from_iter(self.devices.iter().map(|path| path.as_path())),
            "profile": self.profile.name(),
            "success": self.has_passed(),
            "key_prefix": self.run.to_string(),
            "rows": json::array(&self.rows),
            "error": error,
        }
    }
}

impl ToJson for Row {
    fn to_json(&self) -> Json {
        let known = match self.verdict {
            Verdict::Known(known) => Some(known.id),
            _ => None,
        };
        let failed = self.verdict.is_failure();
        let meaning = meaning::of(self.step.name).filter(|_| failed);
        object! {
            "step": self.step.name,
            "rule": self.step.rule,
            "verdict": self.verdict.name(),
            "known_difference": known,
            "details": Json::from_iter(&self.details),
            "meaning": meaning.map(ToJson::to_json),
            "time_us": u64::try_from(self.time().as_micros()).unwrap_or(u64::MAX),
            "commands": json::array(&self.commands),
        }
    }
}

impl ToJson for SentCommand {
    fn to_json(&self) -> Json {
        object! {
            "node": self.node.to_string(),
            "command": &self.command,
            "answer": &self.answer,
            "time_us": u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

impl ToJson for Meaning {
    fn to_json(&self) -> Json {
        object! {
            "windows": self.windows,
            "fence_agents": self.fence_agents,
            "lvm": self.lvm,
            "remedy": self.remedy,
        }
    }
}
