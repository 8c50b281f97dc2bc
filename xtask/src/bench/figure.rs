//! What is measured, and what it ought to be.

use super::contestant::{FLOOR, ORIGINAL, OURS};
use super::results::Results;
use super::statistics::Summary;

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    /// What it is, and of how many.
    pub(super) name: String,
    /// Its unit.
    pub(super) unit: &'static str,
    /// What ours ought to reach.
    pub(super) goals: &'static [Goal],
}

/// What ours ought to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// At most so many times what it is for the floor.
    TimesFloorAtMost(f64),
    /// At least so many times what it is for the floor.
    TimesFloorAtLeast(f64),
    /// At least so many times less than for QEMU's helper.
    LessThanOriginal(f64),
    /// The first at least so many times what it is for the second.
    AtLeast(&'static str, &'static str, f64),
    /// Less than so much.
    Below(f64),
    /// Just so much, or less.
    AtMost(f64),
}

impl Goal {
    /// Whether it is met; `None` if nobody ran whom it compares with.
    fn is_met(self, figure: &Figure, results: &Results) -> Option<bool> {
        let median = || {
            let summary = Summary::of(results.values(figure, OURS))?;
            Some(summary.median)
        };
        Some(match self {
            Self::TimesFloorAtMost(most) => results.ratio(figure, OURS, FLOOR)? <= most,
            Self::TimesFloorAtLeast(least) => results.ratio(figure, OURS, FLOOR)? >= least,
            Self::LessThanOriginal(times) => results.ratio(figure, OURS, ORIGINAL)? * times <= 1.0,
            Self::AtLeast(one, other, least) => results.ratio(figure, one, other)? >= least,
            Self::Below(limit) => median()? < limit,
            Self::AtMost(limit) => median()? <= limit,
        })
    }

    fn text(self) -> String {
        match self {
            Self::TimesFloorAtMost(most) => format!("≤ {most} × {FLOOR}"),
            Self::TimesFloorAtLeast(least) => format!("≥ {least} × {FLOOR}"),
            Self::LessThanOriginal(times) => format!("≤ {ORIGINAL} / {times}"),
            Self::AtLeast(one, other, least) => format!("{one} ≥ {least} × {other}"),
            Self::Below(limit) => format!("< {limit}"),
            Self::AtMost(limit) => format!("≤ {limit}"),
        }
    }
}

impl Figure {
    pub(super) fn new(name: impl Into<String>, unit: &'static str, goals: &'static [Goal]) -> Self {
        Self {
            name: name.into(),
            unit,
            goals,
        }
    }

    /// The goals, and whether each is met, line by line.
    pub(super) fn verdict(&self, results: &Results) -> (String, String) {
        let texts: Vec<_> = self.goals.iter().map(|goal| goal.text()).collect();
        let met = |goal: &Goal| match goal.is_met(self, results) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "?",
        };
        let met: Vec<_> = self.goals.iter().map(met).collect();
        (texts.join("\n"), met.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_missed_or_unknown() {
        let cpu = Figure::new(
            "CPU",
            "µs",
            &[Goal::TimesFloorAtMost(1.15), Goal::LessThanOriginal(3.0)],
        );
        let mut results = Results::default();
        results.add(OURS, vec![(cpu.clone(), 12.0)]);
        assert_eq!(cpu.verdict(&results).1, "?\n?");
        results.add(FLOOR, vec![(cpu.clone(), 10.0)]);
        assert_eq!(cpu.verdict(&results).1, "NO\n?");
        results.add(ORIGINAL, vec![(cpu.clone(), 36.0)]);
        assert_eq!(cpu.verdict(&results).1, "NO\nyes");
    }

    #[test]
    fn a_limit_is_for_the_median() {
        let wait = Figure::new("wait", "ms", &[Goal::Below(2.0), Goal::AtMost(1.0)]);
        let mut results = Results::default();
        for value in [1.0, 1.0, 70.0] {
            results.add(OURS, vec![(wait.clone(), value)]);
        }
        assert_eq!(
            wait.verdict(&results),
            ("< 2\n≤ 1".into(), "yes\nyes".into())
        );
    }
}
