// SPDX-License-Identifier: MIT OR Apache-2.0

//! The commands of one row, their cells, and the order of rows.

use std::cmp::{Ordering, Reverse};
use std::time::Duration;

use anstyle::Style;
use clap::ValueEnum;
use helper_state::CommandInProgress;

use super::counts::{Counts, Percentile};
use crate::console::{INVALID, PLAIN, REJECTED};
use crate::time::duration;

/// Age in microseconds above which a command hangs. It is that of the alert rules.
const HANGING_US: u64 = 10_000_000;

/// Order of rows. Rows that are equal in it are sorted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Order {
    /// Age of the oldest command in progress
    Waiting,
    /// Number of commands
    Commands,
    /// Number of reservation conflicts
    Conflicts,
    /// 99th percentile of the durations
    P99,
    /// Name of the machine or disk
    Name,
}

impl Order {
    /// Returns the order that follows this one when the user changes it.
    pub(super) fn next(self) -> Self {
        let all = Self::value_variants();
        let mut others = all.iter().cycle().skip_while(|one| **one != self).skip(1);
        others.next().copied().unwrap_or(self)
    }

    /// Returns the name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Order::Waiting => "waiting",
            Order::Commands => "commands",
            Order::Conflicts => "conflicts",
            Order::P99 => "p99",
            Order::Name => "name",
        }
    }

    pub(super) fn compare(self, one: &Activity, other: &Activity) -> Ordering {
        let key = |activity: &Activity| match self {
            Order::Waiting => activity.oldest_us(),
            Order::Commands => Some(activity.counts.commands),
            Order::Conflicts => Some(activity.counts.conflicts),
            Order::P99 => match activity.counts.p99() {
                Percentile::None => None,
                Percentile::AtMost(bound) => Some(bound),
                Percentile::Above(_) => Some(u64::MAX),
            },
            Order::Name => None,
        };
        Reverse(key(one)).cmp(&Reverse(key(other)))
    }
}

/// The commands of a client or of a disk.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// The commands that ended in the period.
    pub(super) counts: Counts,
    /// The commands in progress, oldest first.
    pub(super) waiting: Vec<CommandInProgress>,
}

impl Activity {
    /// Returns the age of the oldest command in progress.
    pub(super) fn oldest_us(&self) -> Option<u64> {
        self.waiting.first().map(|command| command.age_us)
    }

    pub(super) fn add_waiting(&mut self, command: &CommandInProgress) {
        let place = self
            .waiting
            .partition_point(|one| one.age_us >= command.age_us);
        self.waiting.insert(place, command.clone());
    }

    /// Returns the cells for number, rate, conflicts and durations of the commands in a period.
    pub(super) fn cells(&self, period: Duration) -> [String; 4] {
        let counts = &self.counts;
        [
            counts.commands.to_string(),
            rate(counts.commands, period),
            counts.conflicts.to_string(),
            counts.p99().to_text(),
        ]
    }

    /// Returns the age of the oldest command in progress, and their number if there are several.
    pub(super) fn waiting(&self) -> String {
        match (self.oldest_us().map(duration), self.waiting.len()) {
            (None, _) => "-".to_owned(),
            (Some(age), 1) => age,
            (Some(age), count) => format!("{age} ({count})"),
        }
    }

    pub(super) fn style(&self) -> Style {
        match self.oldest_us() {
            None => PLAIN,
            Some(0..HANGING_US) => REJECTED,
            Some(_) => INVALID,
        }
    }
}

/// Returns a number per second with two or more digits.
#[expect(clippy::cast_precision_loss, reason = "a rate is rounded")]
fn rate(count: u64, period: Duration) -> String {
    if period.is_zero() {
        return "-".to_owned();
    }
    match count as f64 / period.as_secs_f64() {
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate => format!("{rate:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_has_at_least_two_digits() {
        for (count, seconds, expected) in [(5, 0, "-"), (5, 60, "0.1"), (99, 10, "9.9")] {
            assert_eq!(rate(count, Duration::from_secs(seconds)), expected);
        }
        assert_eq!(rate(9950, Duration::from_secs(10)), "995");
    }
}
