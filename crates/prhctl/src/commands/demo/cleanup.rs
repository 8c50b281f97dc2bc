// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper process and the temporary directory of a demonstration, and their removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;

use crate::cleanup::{CleanupGuard, Remove};

/// Number of attempts to remove the directory while another thread creates files in it.
const MAX_ATTEMPTS: usize = 50;
const RETRY_DELAY: Duration = Duration::from_millis(2);

/// Removes the resources when it is dropped, or when a signal terminates the program.
pub(super) type DemoGuard = CleanupGuard<Resources>;

/// The process and the directory that the demonstration has created so far.
#[derive(Debug, Default)]
pub(super) struct Resources {
    pub(super) helper: Option<Child>,
    pub(super) dir: Option<PathBuf>,
}

impl Remove for Resources {
    /// Stops the helper, and then removes the directory, which the helper uses.
    fn remove(&mut self) {
        if let Some(mut helper) = self.helper.take() {
            // This fails if the helper has already exited.
            let _ = helper.kill();
            let _ = helper.wait();
        }
        if let Some(dir) = self.dir.take() {
            let _ = remove_dir(&dir);
        }
    }
}

/// Removes a directory and its contents.
pub(super) fn remove_dir(dir: &Path) -> io::Result<()> {
    for _ in 1..MAX_ATTEMPTS {
        match fs::remove_dir_all(dir) {
            // Another thread of this process has just created a file there.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                thread::sleep(RETRY_DELAY);
            }
            other => return other,
        }
    }
    fs::remove_dir_all(dir)
}
