//! The values of all rounds, by figure and contestant.

use serde_json::{Value, json};

use super::figure::Figure;
use super::statistics::{Summary, ratio};

/// What one contestant came to in one round.
pub(super) type Measured = Vec<(Figure, f64)>;

/// Everything that was measured, figures in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Results(Vec<Row>);

#[derive(Debug)]
struct Row {
    figure: Figure,
    /// By the contestant's name, a value for each round.
    values: Vec<(String, Vec<f64>)>,
}

impl Results {
    /// Takes in one round of one contestant.
    pub(super) fn add(&mut self, contestant: &str, measured: Measured) {
        for (figure, value) in measured {
            let rows = &mut self.0;
            let place = rows
                .iter()
                .position(|row| row.figure == figure)
                .unwrap_or_else(|| {
                    rows.push(Row {
                        figure,
                        values: Vec::new(),
                    });
                    rows.len() - 1
                });
            let columns = &mut rows[place].values;
            match columns.iter_mut().find(|(name, _)| name == contestant) {
                Some((_, values)) => values.push(value),
                None => columns.push((contestant.to_owned(), vec![value])),
            }
        }
    }

    pub(super) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter().map(|row| &row.figure)
    }

    /// What a contestant came to, round by round; empty if it did not run.
    pub(super) fn values(&self, figure: &Figure, contestant: &str) -> &[f64] {
        self.0
            .iter()
            .find(|row| row.figure == *figure)
            .and_then(|row| row.values.iter().find(|(name, _)| name == contestant))
            .map_or(&[], |(_, values)| values)
    }

    pub(super) fn ratio(&self, figure: &Figure, ours: &str, others: &str) -> Option<f64> {
        ratio(self.values(figure, ours), self.values(figure, others))
    }

    /// All of it, each value of each round too.
    pub(super) fn json(&self) -> Value {
        let column = |(name, values): &(String, Vec<f64>)| {
            let summary = Summary::of(values);
            (
                name.clone(),
                json!({ "summary": summary, "rounds": values }),
            )
        };
        self.0
            .iter()
            .map(|Row { figure, values }| {
                let (goals, met) = figure.verdict(self);
                let contestants: serde_json::Map<_, _> = values.iter().map(column).collect();
                json!({
                    "figure": figure.name,
                    "unit": figure.unit,
                    "goals": goals.lines().zip(met.lines()).collect::<Vec<_>>(),
                    "contestants": contestants,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_by_figure_contestant_and_round() {
        let wait = Figure::new("wait", "ms", &[]);
        let other = Figure::new("other", "ms", &[]);
        let mut results = Results::default();
        results.add("a", vec![(wait.clone(), 1.0), (other.clone(), 5.0)]);
        results.add("b", vec![(wait.clone(), 4.0)]);
        results.add("a", vec![(wait.clone(), 2.0)]);
        assert_eq!(results.values(&wait, "a"), [1.0, 2.0]);
        assert_eq!(results.values(&other, "b"), [] as [f64; 0]);
        assert_eq!(results.ratio(&wait, "a", "b"), Some(0.25));
        let names: Vec<_> = results.figures().map(|figure| &figure.name).collect();
        assert_eq!(names, ["wait", "other"]);
        let json = results.json();
        assert_eq!(json[0]["contestants"]["a"]["rounds"], json!([1.0, 2.0]));
    }
}
