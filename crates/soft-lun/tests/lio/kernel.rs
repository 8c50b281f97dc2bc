// SPDX-License-Identifier: MIT OR Apache-2.0

//! Releases of Linux: the deviations of LIO depend on them.

use std::fmt;

use anyhow::{Context as _, Result};

/// A release of Linux: major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel(u32, u32);

impl Kernel {
    /// A release before [`Self::V7_1`], with which the deviations were first observed.
    pub(crate) const V6_12: Self = Self(6, 12);

    /// The first release that ignores type and scope of a PREEMPT that only removes registrations.
    pub(crate) const V7_1: Self = Self(7, 1);

    /// Returns the release of the running kernel.
    pub(crate) fn running() -> Result<Self> {
        const FILE: &str = "/proc/sys/kernel/osrelease";
        let release = std::fs::read_to_string(FILE).context(FILE)?;
        Self::parse(&release).with_context(|| format!("{FILE}: unexpected release {release:?}"))
    }

    /// Returns the release that a stored sequence is for: that in the file's name, as in
    /// `L10-linux-7.1`, or [`Self::V6_12`].
    pub(crate) fn of_file(name: &str) -> Result<Self> {
        match name.split_once("-linux-") {
            Some((_, release)) => Self::parse(release).context("no release in the file's name"),
            None => Ok(Self::V6_12),
        }
    }

    /// Parses a release, as `uname -r` prints it: `6.12.117+deb12-amd64`.
    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Self(number()?, number()?))
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
