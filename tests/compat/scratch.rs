// SPDX-License-Identifier: MIT OR Apache-2.0

//! A temporary directory for a case, with a path that is short enough for sockets.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

/// Maximum length of the parent directory, with which the sockets' paths fit `sun_path`.
const MAX_PARENT_LEN: usize = 60;

/// A temporary directory, which is removed when the value is dropped.
#[derive(Debug)]
pub(crate) struct Scratch(TempDir);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        let mut parent = env::temp_dir();
        if parent.as_os_str().len() > MAX_PARENT_LEN {
            parent = PathBuf::from("/tmp");
        }
        tempfile::Builder::new()
            .prefix("compat-")
            .tempdir_in(&parent)
            .map(Self)
            .with_context(|| format!("cannot create a directory in {}", parent.display()))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Returns the default path of the helper's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("socket")
    }

    /// Returns the sorted names of the files in the directory.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in self.dir().read_dir()? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}
