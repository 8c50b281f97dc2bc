// SPDX-License-Identifier: MIT OR Apache-2.0

//! Version of multipathd, and what it means for the registrations of a map.

use std::fmt;

/// Text before the version at the beginning of multipathd's page of help.
const PREFIX: &str = "multipath-tools v";

/// Version of multipathd: major, minor and patch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MultipathdVersion(pub [u8; 3]);

impl MultipathdVersion {
    /// First version that removes the registration of a path again if another host has preempted
    /// the key while multipathd registered the path (multipath-tools commit 601d09a7).
    const FENCING: Self = Self([0, 13, 1]);

    /// First version that stores whether a map holds the reservation (`getprhold`, `setprhold`).
    const HOLDER: Self = Self([0, 13, 0]);

    /// First version that accepts the registered paths with `setprstatus` (multipath-tools commits
    /// f7d6cd17 and 4f3036ba).
    const PATH_LIST: Self = Self([0, 14, 0]);

    /// Finds the version in multipathd's page of help, which all versions send for the command
    /// `help`; `None` if there is none.
    pub(super) fn from_help(help: &str) -> Option<Self> {
        let (_, rest) = help.split_once(PREFIX)?;
        let version = rest.split_whitespace().next()?;
        let mut numbers = version.split('.').map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(Self([next()?, next()?, next()?]))
    }

    /// Returns whether a path that returns can keep a key that is preempted at that moment, so that
    /// the fenced host can write through it.
    pub(super) fn may_undo_fencing(self) -> bool {
        self < Self::FENCING
    }

    /// Returns whether `setprstatus` accepts the registered paths.
    pub(super) fn accepts_path_list(self) -> bool {
        self >= Self::PATH_LIST
    }

    /// Returns whether multipathd stores whether a map holds the reservation.
    pub(super) fn stores_holder(self) -> bool {
        self >= Self::HOLDER
    }
}

impl fmt::Display for MultipathdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_found_in_the_page_of_help() {
        let help = "fail\nmultipath-tools v0.9.4 (05/12, 2022)\nCLI commands reference:\n";
        let version = MultipathdVersion::from_help(help).unwrap();
        assert_eq!(version.to_string(), "0.9.4");
        for help in [
            "",
            "ok",
            "multipath-tools v",
            "multipath-tools v0.9 (05/12, 2022)",
        ] {
            assert_eq!(MultipathdVersion::from_help(help), None, "{help}");
        }
    }

    #[test]
    fn versions_before_0_13_1_may_undo_fencing() {
        for (version, expected) in [
            ([0, 9, 4], true),
            ([0, 13, 0], true),
            ([0, 13, 1], false),
            ([0, 15, 1], false),
            ([1, 0, 0], false),
        ] {
            let version = MultipathdVersion(version);
            assert_eq!(version.may_undo_fencing(), expected, "{version}");
        }
    }
}
