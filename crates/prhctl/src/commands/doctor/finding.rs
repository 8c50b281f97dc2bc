// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks and their findings.

use super::fix::Line;
use super::host::Host;
use super::subject::Subject;

/// Weight of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// Reservations do not work, or do not protect the data.
    Problem,
    /// Reservations work, but less than they could, or can fail later.
    Warning,
}

impl Severity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Severity::Problem => "problem",
            Severity::Warning => "warning",
        }
    }
}

/// A check of the host for one fault.
#[derive(Debug)]
pub(super) struct Check {
    /// Name of the fault.
    pub(super) id: &'static str,
    pub(super) severity: Severity,
    /// The effect of the fault, in one sentence.
    pub(super) consequence: &'static str,
    pub(super) run: fn(&Host, &mut Results),
}

/// A fault.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) check: &'static Check,
    pub(super) subject: Subject,
    pub(super) fault: Fault,
}

/// A fault as its check describes it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    /// File and value.
    pub(super) evidence: String,
    /// Commands, or lines of a configuration file after a comment that names it.
    pub(super) fix: Vec<Line>,
}

/// A check, or a part of it, that was not possible.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotChecked {
    /// Name of the check; `None` for a machine to which no check was applied.
    pub(super) check: Option<&'static str>,
    pub(super) reason: String,
}

/// Results of the checks.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// The check that runs.
    check: Option<&'static Check>,
    pub(super) findings: Vec<Finding>,
    pub(super) not_checked: Vec<NotChecked>,
}

impl Results {
    /// Runs checks in their order. Problems precede warnings.
    pub(super) fn collect(host: &Host, checks: impl Iterator<Item = &'static Check>) -> Self {
        let mut results = Results::default();
        for reason in &host.unchecked {
            results.skip(reason);
        }
        for check in checks {
            results.check = Some(check);
            (check.run)(host, &mut results);
        }
        let is_warning = |finding: &Finding| finding.check.severity == Severity::Warning;
        results.findings.sort_by_key(is_warning);
        results
    }

    /// Adds a fault.
    pub(super) fn add(&mut self, subject: Subject, fault: Fault) {
        if let Some(check) = self.check {
            self.findings.push(Finding {
                check,
                subject,
                fault,
            });
        }
    }

    /// Adds the reason why something was not checked, once.
    pub(super) fn skip(&mut self, reason: impl Into<String>) {
        let skipped = NotChecked {
            check: self.check.map(|check| check.id),
            reason: reason.into(),
        };
        if !self.not_checked.contains(&skipped) {
            self.not_checked.push(skipped);
        }
    }

    /// Removes findings about other virtual machines and disks.
    pub(super) fn retain(&mut self, selected: &Subject) {
        let findings = &mut self.findings;
        findings.retain(|finding| finding.subject.is_within(selected));
    }
}
