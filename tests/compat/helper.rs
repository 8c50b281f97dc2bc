//! The helpers under test.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::differences::Row;
use crate::need::Need;

/// Releases of the C helper that the cases were verified with.
const VERIFIED: [&str; 1] = ["10.0.2"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Original,
}

/// A helper binary.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    kind: Kind,
    path: PathBuf,
    unusable: Option<String>,
    rows: Vec<Row>,
}

impl Helper {
    /// Returns the original and our helper, even if they cannot run here.
    pub(crate) fn find_all() -> Vec<Self> {
        vec![
            Self::new(
                Kind::Original,
                env::var_os("PR_HELPER_ORIGINAL"),
                "/usr/bin/qemu-pr-helper",
            ),
            Self::new(
                Kind::Ours,
                env::var_os("PR_HELPER"),
                env!("CARGO_BIN_EXE_qemu-pr-helper"),
            ),
        ]
    }

    fn new(kind: Kind, chosen: Option<OsString>, default: &str) -> Self {
        let path = chosen.map_or_else(|| PathBuf::from(default), PathBuf::from);
        let unusable = match kind {
            Kind::Ours => (!path.exists()).then(|| format!("{} does not exist", path.display())),
            Kind::Original => unverified_reason(&path),
        };
        Self {
            kind,
            path,
            unusable,
            rows: Vec::new(),
        }
    }

    /// Returns the helper for a case that can query `rows`.
    pub(crate) fn with_rows(&self, rows: &[Row]) -> Self {
        Self {
            rows: rows.to_vec(),
            ..self.clone()
        }
    }

    /// Returns the first part of the trials' names.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ours => "ours",
            Kind::Original => "original",
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns why the helper cannot run; `None` if it can.
    pub(crate) fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// Returns whether this helper has our behavior in the table's row; `false` means the
    /// original's.
    ///
    /// A case names its rows when it is registered, so that the table can be checked.
    pub(crate) fn differs(&self, row: Row) -> bool {
        assert!(
            self.rows.contains(&row),
            "the case is not registered with {row:?}"
        );
        self.kind == Kind::Ours
    }
}

/// Returns why `path` is not a verified C helper; `None` if it is.
fn unverified_reason(path: &Path) -> Option<String> {
    if let Some(missing) = Need::Root.missing() {
        return Some(format!(
            "it does not start without privileges that it can drop: {missing}"
        ));
    }
    let output = Command::new(path)
        .arg("-V")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => return Some(format!("{}: {error}", path.display())),
    };
    let version = text.split_whitespace().nth(1).unwrap_or("unknown");
    (!VERIFIED.contains(&version)).then(|| {
        let known = VERIFIED.join(", ");
        format!("{} is version {version}, verified: {known}", path.display())
    })
}
