// SPDX-License-Identifier: MIT OR Apache-2.0

//! Results as a table for a terminal.

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use super::results::Results;
use super::statistics::Summary;
use super::subject::OURS;

/// Prints the results of `subjects` with median and spread, and the ratios of the first of them
/// to the others. Our helper is the first if it is among them.
pub(super) fn print(results: &Results, subjects: &[&str]) {
    let base = subjects
        .iter()
        .find(|name| **name == OURS)
        .or_else(|| subjects.first());
    let Some(&base) = base else { return };
    let others: Vec<&str> = subjects
        .iter()
        .copied()
        .filter(|name| *name != base)
        .collect();

    let mut header = vec!["metric".to_owned()];
    header.push(base.to_owned());
    header.extend(others.iter().map(|name| (*name).to_owned()));
    header.extend(others.iter().map(|name| format!("{base} / {name}")));
    header.extend(["goal".into(), "met".into()]);
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_MARKDOWN)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for metric in results.metrics() {
        let mut row = vec![Cell::new(format!("{}, {}", metric.name, metric.unit))];
        let values = [base].into_iter().chain(others.iter().copied());
        row.extend(values.map(|name| right(summary(results.values(metric, name)))));
        let ratios = others.iter().map(|name| results.ratio(metric, base, name));
        row.extend(
            ratios
                .map(|ratio| right(ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")))),
        );
        let (goals, met) = results.goal_results(metric);
        row.extend([Cell::new(goals), Cell::new(met)]);
        table.add_row(row);
    }
    println!("{table}");
}

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn summary(values: &[f64]) -> String {
    Summary::from_values(values).map_or_else(String::new, |summary| {
        let [median, least, most] = [summary.median, summary.least, summary.most].map(three_digits);
        format!("{median} ({least}..{most})")
    })
}

/// Formats a number with three significant digits, or all digits before the point.
pub(super) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_digits() {
        let formatted = [0.0124, 2.71, 27.18, 271.8, 27182.8].map(three_digits);
        assert_eq!(formatted, ["0.012", "2.71", "27.2", "272", "27183"]);
        assert_eq!(summary(&[1.0, 3.0, 2.0]), "2.00 (1.00..3.00)");
        assert_eq!(summary(&[]), "");
    }
}
