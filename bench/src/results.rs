// SPDX-License-Identifier: MIT OR Apache-2.0

//! Values of all rounds by metric and subject, and the evaluation of the goals.

use serde_json::{Value, json};

use super::metric::{Goal, Metric};
use super::statistics::{Summary, ratio};
use super::subject::{FLOOR, ORIGINAL, OURS};

/// Values of one subject in one round.
pub(super) type Measured = Vec<(Metric, f64)>;

/// All measured values; metrics are in the order of their first occurrence.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Row>);

#[derive(Debug)]
struct Row {
    metric: Metric,
    /// Subject names, each with one value for each round.
    values: Vec<(String, Vec<f64>)>,
}

impl Results {
    /// Adds one round of one subject.
    pub(super) fn add(&mut self, subject: &str, measured: Measured) {
        for (metric, value) in measured {
            let rows = &mut self.0;
            let index = rows
                .iter()
                .position(|row| row.metric == metric)
                .unwrap_or_else(|| {
                    rows.push(Row {
                        metric,
                        values: Vec::new(),
                    });
                    rows.len() - 1
                });
            let columns = &mut rows[index].values;
            match columns.iter_mut().find(|(name, _)| name == subject) {
                Some((_, values)) => values.push(value),
                None => columns.push((subject.to_owned(), vec![value])),
            }
        }
    }

    pub(super) fn metrics(&self) -> impl Iterator<Item = &Metric> {
        self.0.iter().map(|row| &row.metric)
    }

    /// Returns the values of a subject by round; empty if the subject did not run.
    pub(super) fn values(&self, metric: &Metric, subject: &str) -> &[f64] {
        self.0
            .iter()
            .find(|row| row.metric == *metric)
            .and_then(|row| row.values.iter().find(|(name, _)| name == subject))
            .map_or(&[], |(_, values)| values)
    }

    pub(super) fn ratio(&self, metric: &Metric, ours: &str, others: &str) -> Option<f64> {
        ratio(self.values(metric, ours), self.values(metric, others))
    }

    /// Returns the goals and their results (`yes`, `NO`, or `?` for unknown), a line for each goal.
    pub(super) fn goal_results(&self, metric: &Metric) -> (String, String) {
        let texts: Vec<_> = metric.goals.iter().map(|goal| goal.text()).collect();
        let met = |goal: &Goal| match self.is_met(metric, *goal) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "?",
        };
        let met: Vec<_> = metric.goals.iter().map(met).collect();
        (texts.join("\n"), met.join("\n"))
    }

    /// Returns whether the goal is met; `None` if a subject that it compares did not run.
    fn is_met(&self, metric: &Metric, goal: Goal) -> Option<bool> {
        let median = || {
            let summary = Summary::from_values(self.values(metric, OURS))?;
            Some(summary.median)
        };
        Some(match goal {
            Goal::TimesFloorAtMost(max) => self.ratio(metric, OURS, FLOOR)? <= max,
            Goal::TimesFloorAtLeast(min) => self.ratio(metric, OURS, FLOOR)? >= min,
            Goal::LessThanOriginal(times) => self.ratio(metric, OURS, ORIGINAL)? * times <= 1.0,
            Goal::AtLeast(one, other, min) => self.ratio(metric, one, other)? >= min,
            Goal::Below(limit) => median()? < limit,
            Goal::AtMost(limit) => median()? <= limit,
        })
    }

    /// Returns everything as JSON, including each value of each round.
    pub(super) fn json(&self) -> Value {
        let column = |(name, values): &(String, Vec<f64>)| {
            let summary = Summary::from_values(values);
            (
                name.clone(),
                json!({ "summary": summary, "rounds": values }),
            )
        };
        self.0
            .iter()
            .map(|Row { metric, values }| {
                let (goals, met) = self.goal_results(metric);
                let subjects: serde_json::Map<_, _> = values.iter().map(column).collect();
                json!({
                    "figure": metric.name,
                    "unit": metric.unit,
                    "goals": goals.lines().zip(met.lines()).collect::<Vec<_>>(),
                    "contestants": subjects,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_metric_subject_and_round() {
        let wait = Metric::new("wait", "ms", &[]);
        let other = Metric::new("other", "ms", &[]);
        let mut results = Results::default();
        results.add("a", vec![(wait.clone(), 1.0), (other.clone(), 5.0)]);
        results.add("b", vec![(wait.clone(), 4.0)]);
        results.add("a", vec![(wait.clone(), 2.0)]);
        assert_eq!(results.values(&wait, "a"), [1.0, 2.0]);
        assert_eq!(results.values(&other, "b"), [] as [f64; 0]);
        assert_eq!(results.ratio(&wait, "a", "b"), Some(0.25));
        let names: Vec<_> = results.metrics().map(|metric| &metric.name).collect();
        assert_eq!(names, ["wait", "other"]);
        let json = results.json();
        assert_eq!(json[0]["contestants"]["a"]["rounds"], json!([1.0, 2.0]));
    }

    #[test]
    fn goal_is_met_missed_or_unknown() {
        let cpu = Metric::new(
            "CPU",
            "µs",
            &[Goal::TimesFloorAtMost(1.15), Goal::LessThanOriginal(3.0)],
        );
        let mut results = Results::default();
        results.add(OURS, vec![(cpu.clone(), 12.0)]);
        assert_eq!(results.goal_results(&cpu).1, "?\n?");
        results.add(FLOOR, vec![(cpu.clone(), 10.0)]);
        assert_eq!(results.goal_results(&cpu).1, "NO\n?");
        results.add(ORIGINAL, vec![(cpu.clone(), 36.0)]);
        assert_eq!(results.goal_results(&cpu).1, "NO\nyes");
    }

    #[test]
    fn limit_goal_uses_median() {
        let wait = Metric::new("wait", "ms", &[Goal::Below(2.0), Goal::AtMost(1.0)]);
        let mut results = Results::default();
        for value in [1.0, 1.0, 70.0] {
            results.add(OURS, vec![(wait.clone(), value)]);
        }
        assert_eq!(
            results.goal_results(&wait),
            ("< 2\n≤ 1".into(), "yes\nyes".into())
        );
    }
}
