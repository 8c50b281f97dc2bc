//! The table that multipath is judged by: what a single path answers, and what the map does.
//!
//! A row says whether the two have to be the same. The table is printed as a whole, as a row is
//! seldom understood without its neighbours, and judged at the end.

use std::fmt::Display;

use anyhow::{Result, ensure};

use super::device::{Device, Reply};
use super::stage::Stage;

/// What a row has to be.
#[derive(Clone, Copy)]
pub(super) enum Expected {
    /// The map answers as the single path does.
    Same,
    /// It does not, for this reason.
    Different(&'static str),
}

struct Row {
    case: String,
    single: String,
    map: String,
    same: bool,
    expected: Expected,
}

/// Rows, in the order in which they came about.
#[derive(Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a row. Anything that can be compared and shown makes one.
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
            // Of the whole, of which what is shown may be an extract.
            same: single == map,
            expected,
        });
    }

    /// Asks the map and each of its paths, which all have to answer alike. That is one row, but
    /// paths that do not agree have one each.
    pub(super) fn each(&mut self, case: &str, stage: &Stage, ask: impl Fn(&Device) -> Reply) {
        let map = ask(&stage.map);
        let [first, second] = stage.routes.each_ref().map(|route| ask(&route.device));
        if first == second {
            return self.add(case, &first, &map, Expected::Same);
        }
        for (route, single) in stage.routes.iter().zip([first, second]) {
            let case = format!("{case}, {}", route.name);
            self.add(case, &single, &map, Expected::Same);
        }
    }

    /// Prints the table; all reasons are below it, each once.
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
            if !row.is_right() {
                same += ", WRONG";
            }
            line([&row.case, &row.single, &row.map, &same]);
        }
        for (number, reason) in reasons.iter().enumerate() {
            println!("({}) {reason}", number + 1);
        }
    }

    /// Fails with the rows that are not what they have to be.
    pub(super) fn judge(&self) -> Result<()> {
        let wrong: Vec<_> = self.0.iter().filter(|row| !row.is_right()).collect();
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
    fn is_right(&self) -> bool {
        self.same == matches!(self.expected, Expected::Same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_wrong_if_it_is_not_as_expected_either_way() {
        let mut table = Table::default();
        table.add("same", &1, &1, Expected::Same);
        table.add("known difference", &1, &2, Expected::Different("so it is"));
        table.print();
        table.judge().unwrap();
        table.add("new difference", &1, &2, Expected::Same);
        table.add("difference gone", &1, &1, Expected::Different("so it was"));
        let error = table.judge().unwrap_err().to_string();
        assert_eq!(
            error,
            "2 of 4 rows of the table are wrong: new difference; difference gone"
        );
    }
}
