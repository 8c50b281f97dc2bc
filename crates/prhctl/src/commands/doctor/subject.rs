// SPDX-License-Identifier: MIT OR Apache-2.0

//! The virtual machines and disks that a finding is about.

/// The virtual machines and disks that a finding is about; none for the whole host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) vms: Vec<String>,
    pub(super) disks: Vec<String>,
}

impl Subject {
    /// Returns the subject of a finding about the whole host.
    pub(super) fn host() -> Self {
        Self::default()
    }

    /// Returns whether the finding is about one of these virtual machines and disks.
    pub(super) fn is_within(&self, selected: &Self) -> bool {
        let has = |own: &[String], selected: &[String]| {
            own.is_empty() || own.iter().any(|name| selected.contains(name))
        };
        has(&self.vms, &selected.vms) && has(&self.disks, &selected.disks)
    }
}
