// SPDX-License-Identifier: MIT OR Apache-2.0

//! Metrics and the goals of our helper.

use super::subject::{FLOOR, ORIGINAL};

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Metric {
    /// Name, with the number of clients.
    pub(super) name: String,
    /// Unit of the values.
    pub(super) unit: &'static str,
    /// Goals of our helper.
    pub(super) goals: &'static [Goal],
}

/// A goal of our helper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// At most this multiple of the floor's value.
    TimesFloorAtMost(f64),
    /// At least this multiple of the floor's value.
    TimesFloorAtLeast(f64),
    /// At most QEMU's value divided by this number.
    LessThanOriginal(f64),
    /// The first subject has at least this multiple of the second subject's value.
    AtLeast(&'static str, &'static str, f64),
    /// Median below this value.
    Below(f64),
    /// Median at or below this value.
    AtMost(f64),
}

impl Goal {
    pub(super) fn text(self) -> String {
        match self {
            Self::TimesFloorAtMost(max) => format!("≤ {max} × {FLOOR}"),
            Self::TimesFloorAtLeast(min) => format!("≥ {min} × {FLOOR}"),
            Self::LessThanOriginal(times) => format!("≤ {ORIGINAL} / {times}"),
            Self::AtLeast(one, other, min) => format!("{one} ≥ {min} × {other}"),
            Self::Below(limit) => format!("< {limit}"),
            Self::AtMost(limit) => format!("≤ {limit}"),
        }
    }
}

impl Metric {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, goals: &'static [Goal]) -> Self {
        Self {
            name: name.into(),
            unit,
            goals,
        }
    }
}
