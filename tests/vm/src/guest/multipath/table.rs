// SPDX-License-Identifier: MIT OR Apache-2.0

//! The table that compares the replies of a single path and of the map.
//!
//! A row states whether the two must be equal. The table is printed as a whole, because
//! neighboring rows help to understand a row, and checked at the end.

use std::fmt::Display;

use anyhow::{Result, ensure};

use super::device::{Device, Reply};
use super::fixture::MapFixture;

/// Expectation of a row.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// The map replies like the single path.
    Same,
    /// The map replies differently, for this reason.
    Different(&'static str),
}

struct Row {
    case: String,
    single: String,
    map: String,
    same: bool,
    expected: Expected,
}

/// Rows, in the order of execution.
#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a row.
    pub(super) fn add<T: Display + PartialEq>(
        &mut self,
        case: impl Into<String>,
        single: &T,
        map: &T,
        expected: Expected,
    ) {
        self.0.push(Row {
            case: case.into(),
            single: single.to_string(),
            map: map.to_string(),
            // Compare the complete values, since the printed text can be shortened.
            same: single == map,
            expected,
        });
    }

    /// Calls `query` for the map and each of its paths; the results must be equal. Paths with equal
    /// results share a row; otherwise each has its own.
    pub(super) fn add_paths(
        &mut self,
        case: &str,
        fixture: &MapFixture,
        query: impl Fn(&Device) -> Reply,
    ) {
        let map = query(&fixture.map);
        let [first, second] = fixture.paths.each_ref().map(|path| query(&path.device));
        if first == second {
            return self.add(case, &first, &map, Expected::Same);
        }
        for (path, single) in fixture.paths.iter().zip([first, second]) {
            let case = format!("{case}, {}", path.name);
            self.add(case, &single, &map, Expected::Same);
        }
    }

    /// Prints the table, and each reason once below it.
    pub(super) fn print(&self) {
        let same = self.0.iter().filter(|row| row.same).count();
        println!("guest: {} rows, {same} of them the same", self.0.len());
        let width = |column: fn(&Row) -> &str, title: &str| {
            let cells = self.0.iter().map(|row| column(row).chars().count());
            cells.max().unwrap_or(0).max(title.len())
        };
        let (case, single) = (
            width(|row| &row.case, "case"),
            width(|row| &row.single, "single path"),
        );
        let map = width(|row| &row.map, "map");
        let line = |cells: [&str; 4]| {
            let [one, two, three, four] = cells;
            println!("{one:case$} | {two:single$} | {three:map$} | {four}");
        };
        line(["case", "single path", "map", "same?"]);
        let mut reasons: Vec<&str> = Vec::new();
        for row in &self.0 {
            let mut same = (if row.same { "yes" } else { "no" }).to_owned();
            if let Expected::Different(reason) = row.expected {
                let known = reasons.iter().position(|&known| known == reason);
                let number = known.unwrap_or_else(|| {
                    reasons.push(reason);
                    reasons.len() - 1
                });
                same += &format!(" ({})", number + 1);
            }
            if !row.is_as_expected() {
                same += ", WRONG";
            }
            line([&row.case, &row.single, &row.map, &same]);
        }
        for (number, reason) in reasons.iter().enumerate() {
            println!("({}) {reason}", number + 1);
        }
    }

    /// Fails if a row does not meet its expectation.
    pub(super) fn check(&self) -> Result<()> {
        let wrong: Vec<_> = self.0.iter().filter(|row| !row.is_as_expected()).collect();
        let cases: Vec<_> = wrong.iter().map(|row| row.case.as_str()).collect();
        ensure!(
            wrong.is_empty(),
            "{} of {} rows of the table are wrong: {}",
            wrong.len(),
            self.0.len(),
            cases.join("; ")
        );
        Ok(())
    }
}

impl Row {
    fn is_as_expected(&self) -> bool {
        self.same == matches!(self.expected, Expected::Same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unexpected_equality_and_difference_are_wrong() {
        let mut table = Table::default();
        table.add("same", &1, &1, Expected::Same);
        table.add("known difference", &1, &2, Expected::Different("so it is"));
        table.print();
        table.check().unwrap();
        table.add("new difference", &1, &2, Expected::Same);
        table.add("difference gone", &1, &1, Expected::Different("so it was"));
        let error = table.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "2 of 4 rows of the table are wrong: new difference; difference gone"
        );
    }
}
