// SPDX-License-Identifier: MIT OR Apache-2.0

//! The findings as text and as JSON.

use super::checks;
use super::finding::{Finding, NotChecked, Results, Severity};
use super::fix::Line;
use crate::console::{BOLD, GOOD, INVALID, REJECTED, escape_control};
use crate::known_disks::distinct;
use crate::output::json::{Json, ToJson, array, object};
use crate::output::text::{ToText, count};

impl ToText for Results {
    fn to_text(&self) -> String {
        let findings: String = self.findings.iter().map(finding).collect();
        let not_checked: String = self.not_checked_lines().concat();
        findings + &not_checked + &self.summary()
    }
}

impl Results {
    /// Returns a line for each reason why something was not checked, with the names of the checks.
    fn not_checked_lines(&self) -> Vec<String> {
        let reasons = distinct(self.not_checked.iter().map(|one| &one.reason));
        let lines = reasons.into_iter().map(|reason| {
            let same = self.not_checked.iter().filter(|one| one.reason == *reason);
            let checks: Vec<_> = same.filter_map(|one| one.check).collect();
            let checks = match checks.is_empty() {
                true => String::new(),
                false => format!(": {}", checks.join(", ")),
            };
            let reason = escape_control(reason);
            format!("{BOLD}Not checked:{BOLD:#} {reason}{checks}\n")
        });
        lines.collect()
    }

    fn summary(&self) -> String {
        let count_of = |severity: Severity| {
            let findings = self.findings.iter();
            let findings = findings.filter(|finding| finding.check.severity == severity);
            count(findings.count(), severity.name())
        };
        let (style, text) = match self.findings.is_empty() {
            true => (GOOD, "nothing found".to_owned()),
            false => {
                let counts = [Severity::Problem, Severity::Warning].map(count_of);
                (REJECTED, counts.join(", "))
            }
        };
        let checks = count(checks::all().count(), "check");
        format!("{BOLD}Result:{BOLD:#} {style}{text}{style:#}, {checks}\n")
    }
}

fn finding(finding: &Finding) -> String {
    let (style, label) = match finding.check.severity {
        Severity::Problem => (INVALID, "Problem"),
        Severity::Warning => (REJECTED, "Warning"),
    };
    let fault = &finding.fault;
    let mut text = format!(
        "{style}{label}:{style:#} {}: {}\n  Evidence: {}\n  Consequence: {}\n  Fix:\n",
        finding.check.id,
        escape_control(&fault.what),
        escape_control(&fault.evidence),
        finding.check.consequence
    );
    for line in &fault.fix {
        text += &format!("    {}\n", escape_control(line.as_str()));
    }
    text
}

impl ToJson for Results {
    fn to_json(&self) -> Json {
        object! {
            "findings": array(&self.findings),
            "not_checked": array(&self.not_checked),
            "checks": checks::all().count(),
        }
    }
}

impl ToJson for Finding {
    fn to_json(&self) -> Json {
        object! {
            "id": self.check.id,
            "severity": self.check.severity.name(),
            "what": &self.fault.what,
            "evidence": &self.fault.evidence,
            "consequence": self.check.consequence,
            "fix": Json::from_iter(self.fault.fix.iter().map(Line::as_str)),
            "vms": Json::from_iter(&self.subject.vms),
            "disks": Json::from_iter(&self.subject.disks),
        }
    }
}

impl ToJson for NotChecked {
    fn to_json(&self) -> Json {
        object! { "id": self.check, "reason": &self.reason }
    }
}
