// SPDX-License-Identifier: MIT OR Apache-2.0

//! Programs of a scenario: copies of the files that cargo builds.
//!
//! cargo replaces a program when it is built with other features, which another scenario or a
//! developer can do at any time. A machine that executes the program would then read some of its
//! pages from another file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use pr_testkit::build;
use rustix::fs::{FlockOperation, flock};

/// Directory with the programs of one scenario. Its machine sees it at the same path.
pub(crate) struct Programs {
    dir: PathBuf,
    /// Locked, so that no other process of this kind replaces a program before it is copied.
    _lock: File,
}

impl Programs {
    /// Creates the directory, if necessary, and waits for other processes that build programs.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        let target = build::target_dir()?;
        let lock = File::open(&target).and_then(|lock| {
            flock(&lock, FlockOperation::LockExclusive)?;
            Ok(lock)
        });
        let lock = lock.with_context(|| format!("cannot lock {}", target.display()))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Builds a program and returns the path of its copy.
    pub(crate) fn debug(&self, name: &str) -> Result<PathBuf> {
        self.copy(&build::debug(name)?)
    }

    /// Builds the release version of a program and returns the path of its copy.
    pub(crate) fn release(&self, name: &str) -> Result<PathBuf> {
        self.copy(&build::release(name)?)
    }

    /// Copies a file. The name of its directory, which tells a release build from a debug build,
    /// becomes part of the copy's path.
    pub(crate) fn copy(&self, file: &Path) -> Result<PathBuf> {
        let mut names = file.iter().rev();
        let name = names.next().context("no file name")?;
        let dir = self.dir.join(names.next().context("no directory")?);
        let copy = dir.join(name);
        let copied = fs::create_dir_all(&dir).and_then(|()| {
            // A new file, because an earlier machine can still have the old one open.
            let _ = fs::remove_file(&copy);
            fs::copy(file, &copy)
        });
        copied.with_context(|| format!("cannot copy {} to {}", file.display(), copy.display()))?;
        Ok(copy)
    }
}
