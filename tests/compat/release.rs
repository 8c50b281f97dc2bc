// SPDX-License-Identifier: MIT OR Apache-2.0

//! Releases of QEMU's helper.

use std::fmt;

/// A release of QEMU: major and minor version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(pub(crate) u32, pub(crate) u32);

impl Release {
    /// Releases that the cases were verified with.
    pub(crate) const VERIFIED: [Self; 2] = [Self(10, 0), Self(11, 1)];

    /// Finds the release in the output of `--version`: `PATH 10.0.2 (Debian 1:10.0.2+ds-2)`.
    pub(crate) fn from_version_text(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().nth(1)?.split('.');
        let mut number = || numbers.next()?.parse().ok();
        Some(Self(number()?, number()?))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}
