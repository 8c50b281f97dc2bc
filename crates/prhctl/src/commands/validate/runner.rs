// SPDX-License-Identifier: MIT OR Apache-2.0

//! Executes the steps, and decides on the verdicts.

use std::time::Duration;

use super::known_differences::{self, KnownDifference};
use super::session::{SentCommand, Session, StepLog, StepResult, Stop};
use super::steps::{Needs, Step};
use crate::error::Failure;

/// Time after which a command is too slow: clusters have time limits of a few seconds for several
/// commands.
const SLOW: Duration = Duration::from_secs(1);

/// The verdict on a step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verdict {
    Pass,
    Warning,
    Failed,
    /// Failed, as expected of this target.
    Known(&'static KnownDifference),
    NotTested,
}

impl Verdict {
    pub(super) const fn is_failure(self) -> bool {
        matches!(self, Verdict::Failed)
    }

    /// Returns whether the disk follows the rule.
    pub(super) const fn is_success(self) -> bool {
        matches!(self, Verdict::Pass | Verdict::Warning)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
            Verdict::Known(_) => "known difference",
            Verdict::NotTested => "not tested",
        }
    }
}

/// The result of a step.
pub(super) struct Row {
    pub(super) step: &'static Step,
    pub(super) verdict: Verdict,
    /// Explanations: differences, warnings, or the reason that the step was not tested.
    pub(super) details: Vec<String>,
    pub(super) commands: Vec<SentCommand>,
    /// Index of the last command that the rule is about.
    subject: Option<usize>,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step.name, self.verdict.name())
    }
}

impl Row {
    /// Returns the command for the table: the last one if the step failed, and otherwise the last
    /// one that the rule is about.
    pub(super) fn subject(&self) -> Option<&SentCommand> {
        let subject = self.subject.and_then(|index| self.commands.get(index));
        match self.verdict {
            Verdict::Pass | Verdict::Warning => subject.or_else(|| self.commands.last()),
            _ => self.commands.last(),
        }
    }

    /// Returns the time of the slowest command.
    pub(super) fn time(&self) -> Duration {
        let times = self.commands.iter().map(|command| command.time);
        times.max().unwrap_or_default()
    }
}

/// Executes the steps. An error of the helper, registrations that cannot be removed, and those of
/// other programs abort the run.
pub(super) fn run(
    session: &mut Session<'_>,
    steps: Vec<&'static Step>,
) -> (Vec<Row>, Option<Failure>) {
    let mut rows = Vec::new();
    for step in steps {
        let result = run_step(session, step);
        let StepLog {
            commands,
            subject,
            warnings: mut details,
        } = session.take_log();
        let slow = commands.iter().filter(|command| command.time > SLOW);
        details.extend(slow.map(|command| {
            let seconds = command.time.as_secs_f32();
            format!("{} took {seconds:.1} s", command.command)
        }));
        let mut error = None;
        let verdict = match result {
            Ok(()) if details.is_empty() => Verdict::Pass,
            Ok(()) => Verdict::Warning,
            Err(Stop::Failed(text)) => {
                details.insert(0, text);
                let known = session.environment.is_lio.then_some(step.name);
                let known = known.and_then(|name| known_differences::find(name, &commands));
                known.map_or(Verdict::Failed, Verdict::Known)
            }
            Err(Stop::NotTested(text)) => {
                details.insert(0, text);
                Verdict::NotTested
            }
            Err(Stop::Aborted(failure)) => {
                details.insert(0, "an error aborted the run".to_owned());
                error = Some(*failure);
                Verdict::NotTested
            }
        };
        rows.push(Row {
            step,
            verdict,
            details,
            commands,
            subject,
        });
        if error.is_some() {
            return (rows, error);
        }
    }
    (rows, session.restore().err())
}

fn run_step(session: &mut Session<'_>, step: &Step) -> StepResult {
    let environment = session.environment;
    let reason = match step.needs {
        Needs::TwoNodes | Needs::Write if environment.nodes < 2 => "needs a second DEVICE",
        Needs::Write if !environment.may_write => "needs --write, and a disk with data blocks",
        _ => "",
    };
    if !reason.is_empty() {
        return Err(Stop::NotTested(reason.to_owned()));
    }
    session.restore()?;
    (step.run)(session)
}
