// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hanging devices: files on which ioctl(2) never returns, like disks on dead paths.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use pr_testkit::hanging_devices::HangingDevices;

/// Time for which the kernel can cache entries and attributes.
const VALIDITY: Duration = Duration::from_secs(3600);

/// Arguments of `bench-hang`.
#[derive(Args)]
pub(crate) struct FuseHang {
    /// Empty directory to mount the files on
    #[arg(long)]
    dir: PathBuf,
}

impl FuseHang {
    pub(super) fn run(&self) -> Result<()> {
        // The devices are unmounted at the end, and hanging commands fail.
        let _devices = HangingDevices::mount_at(&self.dir, VALIDITY)
            .context("cannot mount a FUSE file system, which needs root and /dev/fuse")?;
        super::wait_for_start_signal()?;
        super::wait_for_stdin_eof()
    }
}
