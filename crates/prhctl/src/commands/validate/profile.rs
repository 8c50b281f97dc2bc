// SPDX-License-Identifier: MIT OR Apache-2.0

//! The profiles: the rules of SPC-4, and the commands of each cluster software.

use clap::ValueEnum;

use super::steps::{self, Step};

/// A list of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// The rules of the standard
    Spc4,
    /// Failover clusters of Windows
    Wsfc,
    /// `fence_scsi` of Pacemaker clusters
    #[value(name = "fence_scsi")]
    FenceScsi,
    /// `fence_mpath` of Pacemaker clusters
    #[value(name = "fence_mpath")]
    FenceMpath,
    /// Volume groups of LVM with persistent reservations
    Lvm,
}

impl Profile {
    /// Returns the steps in their order.
    pub(super) fn steps(self) -> Vec<&'static Step> {
        let lists: &[&'static [Step]] = match self {
            Profile::Spc4 => return steps::spc4().collect(),
            Profile::Wsfc => &[steps::SHARED, steps::WSFC],
            Profile::FenceScsi => &[steps::SHARED, steps::FENCE_SCSI, steps::FENCE],
            Profile::FenceMpath => &[steps::SHARED, steps::FENCE_MPATH, steps::FENCE],
            Profile::Lvm => &[steps::SHARED, steps::LVM],
        };
        lists.iter().copied().flatten().collect()
    }

    /// Returns the name on the command line.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_of_steps_are_unique() {
        let mut rules = BTreeMap::new();
        for profile in Profile::value_variants() {
            for step in profile.steps() {
                let rule = rules.insert(step.name, step.rule);
                assert!(rule.is_none_or(|rule| rule == step.rule), "{}", step.name);
            }
        }
    }
}
