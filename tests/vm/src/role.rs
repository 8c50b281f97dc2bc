// SPDX-License-Identifier: MIT OR Apache-2.0

//! Machines of the scenario `two-hosts`, as both sides of the program know them.

use clap::ValueEnum;

/// Number of networks between the machines: one for control and migration, and one for each portal
/// of the target. Each machine has a card in each of them, in this order.
pub(crate) const NETWORKS: u8 = 3;

/// A machine of the scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// The iSCSI target, which also runs the scenario's steps.
    Target,
    HostA,
    HostB,
}

impl Role {
    pub(crate) const HOSTS: [Self; 2] = [Self::HostA, Self::HostB];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::HostA => "host-a",
            Self::HostB => "host-b",
        }
    }

    /// Returns the last byte of the machine's addresses.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Target => 1,
            Self::HostA => 2,
            Self::HostB => 3,
        }
    }
}
