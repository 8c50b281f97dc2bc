//! What a case is, what it needs, and how cases become trials.

use std::collections::BTreeSet;
use std::env;
use std::sync::Arc;

use anyhow::Result;
use libtest_mimic::{Failed, Trial};
use rustix::thread::{CapabilitySet, capabilities};

use crate::differences::Row;
use crate::helper::Helper;

type Run = dyn Fn(&Helper) -> Result<()> + Send + Sync;

/// What a case cannot run without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Being root with all of root's capabilities: to see privileges dropped, and to send commands to
    /// a device.
    Root,
    /// An environment variable that names devices.
    Variable(&'static str),
}

impl Need {
    /// Why the need is not met here, if it is not.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Root if !rustix::process::geteuid().is_root() => Some("not root".to_owned()),
            Self::Root => (!may_send_commands()).then(|| "no CAP_SYS_RAWIO".to_owned()),
            Self::Variable(name) => env::var_os(name)
                .is_none()
                .then(|| format!("{name} is not set")),
        }
    }
}

/// Whether this process, and so the helpers that it starts, can have the capability that they keep.
pub(crate) fn may_send_commands() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RAWIO))
}

/// One thing that is true of both helpers.
pub(crate) struct Case {
    name: String,
    run: Arc<Run>,
    needs: Vec<Need>,
    rows: Vec<Row>,
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
        }
    }

    /// Says that the case is skipped where `need` is not met.
    pub(crate) fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// Says that the case asks about this intended difference.
    pub(crate) fn row(mut self, row: Row) -> Self {
        self.rows.push(row);
        self
    }

    fn missing(&self) -> Option<String> {
        self.needs.iter().find_map(|need| need.missing())
    }

    fn trial(&self, area: &str, helper: &Helper) -> Trial {
        let name = format!("{}::{area}::{}", helper.name(), self.name);
        let run = Arc::clone(&self.run);
        let helper = helper.allowing(&self.rows);
        Trial::test(name, move || {
            run(&helper).map_err(|error| Failed::from(format!("{error:#}")))
        })
    }
}

/// Cases about one subject.
pub(crate) struct Area {
    name: &'static str,
    cases: Vec<Case>,
}

impl Area {
    pub(crate) fn new(name: &'static str, cases: Vec<Case>) -> Self {
        Self { name, cases }
    }

    /// The differences that this area's cases ask about.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Row> {
        self.cases.iter().flat_map(|case| case.rows.iter().copied())
    }
}

/// Every case for every helper. What cannot run is marked as ignored, with a line on stderr for each
/// reason; in an area that [`is_strict`] it fails.
pub(crate) fn trials(areas: &[Area], helpers: &[Helper]) -> Vec<Trial> {
    let mut reasons = BTreeSet::new();
    let mut trials = Vec::new();
    for helper in helpers {
        for area in areas {
            for case in &area.cases {
                let unusable = helper.unusable().map(ToOwned::to_owned);
                let Some(reason) = unusable.or_else(|| case.missing()) else {
                    trials.push(case.trial(area.name, helper));
                    continue;
                };
                let whose = match helper.unusable() {
                    Some(_) => format!("every case of `{}`", helper.name()),
                    None => format!("cases of `{}`", area.name),
                };
                reasons.insert(format!("{whose}: {reason}"));
                let name = format!("{}::{}::{}", helper.name(), area.name, case.name);
                let skipped = Trial::test(name, move || Err(reason.into()));
                trials.push(skipped.with_ignored_flag(!is_strict(area.name)));
            }
        }
    }
    for reason in reasons {
        eprintln!("compat: skipped {reason}");
    }
    trials
}

/// Whether cases of an area must not be skipped: `PR_COMPAT_STRICT` is set, and does not name the area.
fn is_strict(area: &str) -> bool {
    env::var("PR_COMPAT_STRICT").is_ok_and(|excused| !excused.split(',').any(|name| name == area))
}
