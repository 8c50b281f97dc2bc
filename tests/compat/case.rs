// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cases, and their conversion to trials.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};

use crate::differences::{Change, Row};
use crate::helper::Helper;
use crate::need::Need;

type Run = dyn Fn(&Helper) -> Result<()> + Send + Sync;

/// A test that holds for all helpers.
pub(crate) struct Case {
    name: String,
    run: Arc<Run>,
    needs: Vec<Need>,
    rows: Vec<Row>,
    changes: Vec<Change>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        run: impl Fn(&Helper) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            run: Arc::new(run),
            needs: Vec::new(),
            rows: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Adds a prerequisite, without which the case is skipped.
    pub(crate) fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// Adds an intended difference that the case depends on.
    pub(crate) fn row(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    /// Adds a change between releases of the original that the case depends on.
    pub(crate) fn change(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.missing())
    }

    fn trial(&self, area: &str, helper: &Helper) -> Trial {
        let name = format!("{}::{area}::{}", helper.name(), self.name);
        let run = Arc::clone(&self.run);
        let helper = helper.with_differences(&self.rows, &self.changes);
        Trial::test(name, move || {
            run(&helper).map_err(|error| Failed::from(format!("{error:#}")))
        })
    }
}

/// Cases of one area.
pub(crate) struct Area {
    name: &'static str,
    cases: Vec<Case>,
}

impl Area {
    pub(crate) fn new(name: &'static str, cases: Vec<Case>) -> Self {
        Self { name, cases }
    }

    /// Returns the intended differences that the area's cases depend on.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.cases.iter().flat_map(|case| case.rows.iter().copied())
    }

    /// Returns the changes between releases that the area's cases depend on.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> {
        let cases = self.cases.iter();
        cases.flat_map(|case| case.changes.iter().copied())
    }
}

/// Returns a trial for each case and helper. Cases that cannot run are ignored, and counted by
/// reason; in an area that [`is_strict`] they fail.
pub(crate) fn trials(areas: &[Area], helpers: &[Helper]) -> (Vec<Trial>, BTreeMap<String, usize>) {
    let mut skipped_cases = BTreeMap::new();
    let mut trials = Vec::new();
    for helper in helpers {
        for area in areas {
            for case in &area.cases {
                let unusable = helper.unusable().map(ToOwned::to_owned);
                let Some(reason) = unusable.or_else(|| case.missing()) else {
                    trials.push(case.trial(area.name, helper));
                    continue;
                };
                let subject = match helper.unusable() {
                    Some(_) => format!("cases of `{}`", helper.name()),
                    None => format!("cases of `{}`", area.name),
                };
                *skipped_cases
                    .entry(format!("{subject}: {reason}"))
                    .or_default() += 1;
                let name = format!("{}::{}::{}", helper.name(), area.name, case.name);
                let skipped = Trial::test(name, move || Err(reason.into()));
                trials.push(skipped.with_ignored_flag(!is_strict(area.name)));
            }
        }
    }
    (trials, skipped_cases)
}

/// Returns whether the cases of an area must not be skipped: `PR_COMPAT_STRICT` is set and does not
/// contain the area.
fn is_strict(area: &str) -> bool {
    env::var("PR_COMPAT_STRICT").is_ok_and(|excused| !excused.split(',').any(|name| name == area))
}
