// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helpers under test.

use std::env;
use std::ffi::{OsStr, OsString};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::differences::{Change, Row};
use crate::need::Need;
use crate::release::Release;

/// Path of QEMU's helper in a root directory.
const INSTALLED: &str = "usr/bin/qemu-pr-helper";

/// Root directory of Debian's newest release, below cargo's target directory. `cargo xtask vm`
/// builds it.
const NEWEST_ROOT: &str = "vm/roots/forky";

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Original(Release),
    /// An original that cannot run, and the reason.
    Unusable(String),
}

/// A helper binary.
#[derive(Clone, Debug)]
pub(crate) struct Helper {
    kind: Kind,
    path: PathBuf,
    rows: Vec<Row>,
    changes: Vec<Change>,
}

impl Helper {
    /// Returns the originals and our helper. The originals include those that cannot run here.
    pub(crate) fn find_all() -> Vec<Self> {
        let mut helpers: Vec<_> = originals().into_iter().map(Self::original).collect();
        let ours = env::var_os("PR_HELPER");
        let ours = ours.unwrap_or_else(|| env!("CARGO_BIN_EXE_qemu-pr-helper").into());
        helpers.push(Self::new(Kind::Ours, ours.into()));
        helpers
    }

    fn new(kind: Kind, path: PathBuf) -> Self {
        Self {
            kind,
            path,
            rows: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn original(path: PathBuf) -> Self {
        match find_release(&path) {
            Ok(release) => {
                eprintln!("compat: original-{release} is {}", path.display());
                if Release::VERIFIED.iter().all(|verified| *verified < release) {
                    eprintln!("compat: {release} is newer than the releases that were verified");
                }
                Self::new(Kind::Original(release), path)
            }
            Err(reason) => Self::new(Kind::Unusable(reason), path),
        }
    }

    /// Returns the helper for a case that can query these differences.
    pub(crate) fn with_differences(&self, rows: &[Row], changes: &[Change]) -> Self {
        Self {
            rows: rows.to_vec(),
            changes: changes.to_vec(),
            ..self.clone()
        }
    }

    /// Returns the first part of the trials' names.
    pub(crate) fn name(&self) -> String {
        match &self.kind {
            Kind::Ours => "ours".to_owned(),
            Kind::Original(release) => format!("original-{release}"),
            Kind::Unusable(_) => "original".to_owned(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the program to execute, and its first arguments.
    pub(crate) fn command_line(&self) -> (PathBuf, Vec<OsString>) {
        command_line(&self.path)
    }

    /// Returns why the helper cannot run; `None` if it can.
    pub(crate) fn unusable(&self) -> Option<&str> {
        match &self.kind {
            Kind::Unusable(reason) => Some(reason),
            Kind::Ours | Kind::Original(_) => None,
        }
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

    /// Returns whether this helper has the newer behavior of a change between releases of the
    /// original. Ours has the earlier behavior in each.
    pub(crate) fn has_changed(&self, change: Change) -> bool {
        assert!(
            self.changes.contains(&change),
            "the case is not registered with {change:?}"
        );
        matches!(self.kind, Kind::Original(release) if release >= change.since())
    }
}

/// Returns the paths of the originals: those in `PR_HELPER_ORIGINAL`, or the installed one and, if
/// it exists, that of [`NEWEST_ROOT`].
fn originals() -> Vec<PathBuf> {
    if let Some(paths) = env::var_os("PR_HELPER_ORIGINAL") {
        return env::split_paths(&paths).collect();
    }
    // Our binary is target/PROFILE/qemu-pr-helper.
    let target = Path::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .ancestors()
        .nth(2);
    let newest = target.map(|dir| dir.join(NEWEST_ROOT).join(INSTALLED));
    let newest = newest.filter(|path| {
        if !path.exists() {
            eprintln!("compat: skipped {}: it does not exist", path.display());
        }
        path.exists()
    });
    let installed = Path::new("/").join(INSTALLED);
    iter::once(installed).chain(newest).collect()
}

/// Returns the program to execute, and its first arguments, for the helper at `path`. A helper in
/// another root directory needs the loader and the libraries of that directory.
fn command_line(path: &Path) -> (PathBuf, Vec<OsString>) {
    let root = path.ancestors().nth(3).unwrap_or(path);
    let loader = root.join("lib64/ld-linux-x86-64.so.2");
    if root == Path::new("/") || !path.ends_with(INSTALLED) || !loader.exists() {
        return (path.to_owned(), Vec::new());
    }
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    let arguments: [&OsStr; 5] = [
        "--argv0".as_ref(),
        path.as_ref(),
        "--library-path".as_ref(),
        libraries.as_ref(),
        path.as_ref(),
    ];
    (loader, arguments.map(OsStr::to_owned).to_vec())
}

/// Returns the release of the original at `path`, or why the cases cannot run with it.
fn find_release(path: &Path) -> Result<Release, String> {
    if let Some(missing) = Need::Root.missing() {
        return Err(format!(
            "it does not start without privileges that it can drop: {missing}"
        ));
    }
    let (program, arguments) = command_line(path);
    let output = Command::new(program)
        .args(arguments)
        .arg("-V")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let output = output.map_err(|error| format!("{}: {error}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let release = Release::from_version_text(&text);
    let release = release.ok_or_else(|| format!("{} states no version", path.display()))?;
    let [oldest, ..] = Release::VERIFIED;
    if release < oldest {
        return Err(format!(
            "{} is version {release}, the oldest verified one is {oldest}",
            path.display()
        ));
    }
    Ok(release)
}
