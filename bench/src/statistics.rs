// SPDX-License-Identifier: MIT OR Apache-2.0

//! Statistics of a metric's values: median, spread, and the ratio of two subjects.

use serde::{Deserialize, Serialize};

/// Median, minimum and maximum of some values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Summary {
    /// Returns `None` if there are no values.
    pub(super) fn from_values(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: median(&sorted)?,
            least: *sorted.first()?,
            most: *sorted.last()?,
        })
    }
}

/// Returns the ratio of one subject to another: the median of the ratios of all rounds.
///
/// The two values of a round were measured right after each other, so a machine that is slower in
/// one round than in another does not affect the ratio.
pub(super) fn ratio(ours: &[f64], others: &[f64]) -> Option<f64> {
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(others)
        .map(|(ours, others)| ours / others)
        .filter(|ratio| ratio.is_finite())
        .collect();
    ratios.sort_by(f64::total_cmp);
    median(&ratios)
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_middle_value_or_midpoint() {
        let median = |values: &[f64]| Summary::from_values(values).map(|summary| summary.median);
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0]), Some(5.0));
        assert_eq!(median(&[100.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn spread_is_minimum_and_maximum() {
        let summary = Summary::from_values(&[4.0, 2.0, 9.0]).unwrap();
        assert_eq!((summary.least, summary.most), (2.0, 9.0));
    }

    #[test]
    fn ratio_compares_values_of_same_round() {
        // The second round was ten times slower for both. The ratio of the medians would be 0.2.
        assert_eq!(ratio(&[1.0, 10.0, 1.0], &[2.0, 20.0, 50.0]), Some(0.5));
        assert_eq!(ratio(&[], &[1.0]), None);
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }
}
