//! The programs under test: which there are, and where.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::case::Need;
use crate::differences::Row;

/// The releases of the C helper that the cases were tried on.
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
    /// The original and ours, also those that cannot be run here.
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
            Kind::Ours => (!path.exists()).then(|| format!("no {}", path.display())),
            Kind::Original => not_verified(&path),
        };
        Self {
            kind,
            path,
            unusable,
            rows: Vec::new(),
        }
    }

    /// The same helper for a case that may ask about `rows`.
    pub(crate) fn allowing(&self, rows: &[Row]) -> Self {
        Self {
            rows: rows.to_vec(),
            ..self.clone()
        }
    }

    /// The first part of the trials' names.
    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ours => "ours",
            Kind::Original => "original",
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Why no case can be run on this helper, if none can.
    pub(crate) fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    /// Whether this helper behaves as the table says of ours; `false` is the original's behaviour.
    ///
    /// A case names its rows when it is registered, so that the check of the table sees them.
    pub(crate) fn differs(&self, row: Row) -> bool {
        assert!(
            self.rows.contains(&row),
            "the case is not registered with {row:?}"
        );
        self.kind == Kind::Ours
    }
}

/// Why `path` is not a C helper that the cases are known to be true of.
fn not_verified(path: &Path) -> Option<String> {
    if let Some(missing) = Need::Root.missing() {
        return Some(format!(
            "it gives up where it has no privileges to drop: {missing}"
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
