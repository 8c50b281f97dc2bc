//! A folder for one case, short enough for a socket's path.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Longest folder for which the sockets' paths still fit `sun_path`.
const LONGEST: usize = 60;

/// A temporary folder, removed with the value.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let mut parent = env::temp_dir();
        if parent.as_os_str().len() > LONGEST {
            parent = PathBuf::from("/tmp");
        }
        tempfile::Builder::new()
            .prefix("compat-")
            .tempdir_in(&parent)
            .map(Self)
            .with_context(|| format!("no folder in {}", parent.display()))
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Where the helper's socket goes unless a case chooses another place.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// The names of the files in the folder, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.folder().read_dir()? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}
