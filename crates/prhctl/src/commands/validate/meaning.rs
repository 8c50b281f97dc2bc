// SPDX-License-Identifier: MIT OR Apache-2.0

//! The meaning of a failed step for each cluster software, and the remedy.

/// The meaning of failed steps.
#[derive(Debug)]
pub(super) struct Meaning {
    /// Names of the steps. A name that ends with `*` stands for all that begin with it.
    steps: &'static [&'static str],
    pub(super) windows: &'static str,
    /// `fence_scsi` and `fence_mpath`.
    pub(super) fence_agents: &'static str,
    pub(super) lvm: &'static str,
    pub(super) remedy: &'static str,
}

impl Meaning {
    /// Returns the texts with their labels.
    pub(super) fn texts(&self) -> [(&'static str, &'static str); 4] {
        [
            ("Windows cluster", self.windows),
            ("fence_scsi, fence_mpath", self.fence_agents),
            ("LVM", self.lvm),
            ("Remedy", self.remedy),
        ]
    }
}

const FIRMWARE: &str = "Update the firmware or software of the storage, and send this report to \
                        its vendor: the behavior cannot be configured on the host.";
const ENABLE: &str = "Enable persistent reservations (SCSI-3 PR) for this disk and for both hosts \
                      at the storage, then update its firmware.";
const ATTENTIONS: &str = "If another program of this host sends commands through the same path \
                          (multipathd, a guest, monitoring), it can receive the unit attention \
                          first: stop it, and check again. Otherwise update the firmware.";

/// The first matching entry applies.
static MEANINGS: &[Meaning] = &[
    Meaning {
        steps: &[
            "read-keys",
            "register",
            "register-new-key",
            "unregister",
            "wsfc-register",
        ],
        windows: "Validation of the storage fails at its first step, and no cluster disk can be \
                  created.",
        fence_agents: "Nodes cannot be unfenced, so the resource does not start.",
        lvm: "'vgchange --persist start' fails.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &["shared-registrations", "register-second-node"],
        windows: "Validation fails: the nodes do not see each other's registrations, and two nodes \
                  could own the disk.",
        fence_agents: "A node is not fenced on the other path: data corruption is possible.",
        lvm: "Two hosts could use a volume group that belongs to one of them.",
        remedy: "Make sure that both devices are paths of one disk (compare their WWNs with \
                 'prhctl list') and different I_T nexuses. In a storage cluster, the controllers \
                 must share reservations: enable that, or do not use it for clusters.",
    },
    Meaning {
        steps: &["register-stale-key", "register-wrong-key"],
        windows: "A node that was removed can defend its disk with an old key, and two nodes could \
                  own the disk.",
        fence_agents: "No effect: the agents register only without an old key.",
        lvm: "No effect: it registers only without an old key.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["register-ignore", "fence_scsi-unfence"],
        windows: "A node that restarts cannot bring its disks online.",
        fence_agents: "fence_scsi cannot unfence nodes. fence_mpath registers with REGISTER.",
        lvm: "No effect: it registers with REGISTER.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &["report-capabilities", "lvm-types"],
        windows: "No effect: Windows tries the types that it needs.",
        fence_agents: "No effect: the agents try the type that they need.",
        lvm: "'vgchange --persist start' fails, because LVM checks the reported types.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["aptpl"],
        windows: "A power loss of the storage can remove registrations, and disks go offline until \
                  the nodes register again.",
        fence_agents: "After a power loss of the storage, all nodes are without access if the \
                       agent is used with its option for APTPL.",
        lvm: "Reservations of volume groups with the setting 'ptpl' cannot be started.",
        remedy: "Enable persistence through power loss (APTPL) at the storage, or configure the \
                 cluster without it.",
    },
    Meaning {
        steps: &["full-status*"],
        windows: "No effect: Windows reads keys and reservation only.",
        fence_agents: "fence_mpath cannot compare the registrations of paths; fence_scsi is not \
                       affected.",
        lvm: "No effect.",
        remedy: "Without valid data, 'prhctl status' and multipathd cannot assign registrations to \
                 hosts. Update the firmware of the storage.",
    },
    Meaning {
        steps: &["path-registration"],
        windows: "Writes of the virtual machine fail whenever the kernel selects a path that is \
                  not registered.",
        fence_agents: "Writes of the node fail, and the node can be stopped by the cluster.",
        lvm: "Writes to the volume group fail.",
        remedy: "Check the paths with 'multipathd show paths', set 'reservation_key file' in \
                 /etc/multipath.conf, and see docs/multipath.md.",
    },
    Meaning {
        steps: &["generation-*"],
        windows: "No effect known: keys are read again.",
        fence_agents: "No effect.",
        lvm: "No effect.",
        remedy: "Software that reads the generation to find changes can miss them. Update the \
                 firmware of the storage.",
    },
    Meaning {
        steps: &["fence_mpath-unfence"],
        windows: "Validation of the storage fails at its first step.",
        fence_agents: "fence_mpath cannot unfence nodes.",
        lvm: "'vgchange --persist start' fails.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &["fence_scsi-own-key"],
        windows: "No effect.",
        fence_agents: "A node that fence_scsi unfences after a new iSCSI login can lose its \
                       registration, and its writes fail.",
        lvm: "No effect.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &[
            "reserve-we-ro",
            "wsfc-reserve",
            "fence-reserve",
            "lvm-start-we-ro",
        ],
        windows: "No cluster disk can be reserved: Windows uses this type.",
        fence_agents: "No node gets the reservation: the agents use this type.",
        lvm: "No effect: it uses other types.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &[
            "reserve-we-ar",
            "reserve-ea-ar",
            "all-registrants-*",
            "wsfc-storage-spaces",
            "lvm-shared-*",
            "lvm-stop",
        ],
        windows: "Storage Spaces cannot use the disk. Other cluster disks are not affected.",
        fence_agents: "No effect.",
        lvm: "Shared volume groups cannot be started: they use a type for all registrants.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &["reserve-we", "reserve-ea", "reserve-ea-ro", "lvm-start-we"],
        windows: "No effect: Windows uses types for registrants.",
        fence_agents: "No effect: the agents use type 5.",
        lvm: "A volume group that belongs to one host cannot be started with type 1 or 3.",
        remedy: ENABLE,
    },
    Meaning {
        steps: &["reserve-*", "wsfc-conflict", "lvm-conflict"],
        windows: "Two nodes can own a disk at the same time: data corruption.",
        fence_agents: "A fenced node can take the reservation: data corruption is possible.",
        lvm: "A volume group can be used by two hosts: data corruption.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["unregister-holder", "release", "wsfc-move"],
        windows: "A disk cannot be moved to another node without a failure.",
        fence_agents: "A node that leaves the cluster leaves a reservation that nobody holds.",
        lvm: "'vgchange --persist stop' leaves the volume group reserved.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["release-attention*"],
        windows: "A node does not notice that the disk was released, and reacts late.",
        fence_agents: "No effect.",
        lvm: "No effect.",
        remedy: ATTENTIONS,
    },
    Meaning {
        steps: &["release-*"],
        windows: "A node can remove the protection of a disk that another node owns.",
        fence_agents: "A node can remove the reservation of the cluster, and fenced nodes can \
                       write again.",
        lvm: "A host can remove the reservation of another host.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["preempt-attention*"],
        windows: "A node that lost a disk does not notice it at once, or stops although it owns \
                  the disk.",
        fence_agents: "A fenced node notices it only when a write fails.",
        lvm: "No effect: keys are read again.",
        remedy: ATTENTIONS,
    },
    Meaning {
        steps: &[
            "preempt-unknown-key",
            "preempt-unregistered",
            "preempt-zero",
        ],
        windows: "A node without rights can take a disk, or a node takes an error for success.",
        fence_agents: "Fencing can be reported as successful although no node was fenced.",
        lvm: "A key can be reported as removed although it was not registered.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &[
            "preempt-*",
            "wsfc-defend",
            "wsfc-challenge",
            "wsfc-rejoin",
            "fence-holder",
            "fence-registrant",
            "lvm-take-over",
            "lvm-remove",
        ],
        windows: "A disk cannot be taken from a failed node, so failover does not work, or the \
                  failed node can still write: data corruption.",
        fence_agents: "Fencing fails, or a fenced node can still write: data corruption.",
        lvm: "The key of a failed host cannot be removed, so its volume group stays unusable.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["clear-attention*"],
        windows: "A node does not notice that a disk was cleared.",
        fence_agents: "No effect.",
        lvm: "No effect.",
        remedy: ATTENTIONS,
    },
    Meaning {
        steps: &["clear*", "wsfc-clear", "lvm-clear"],
        windows: "A left-over reservation cannot be removed ('Clear-ClusterDiskReservation'), or \
                  is removed by a node without rights.",
        fence_agents: "Left-over keys have to be removed one by one.",
        lvm: "'vgchange --persist clear' fails.",
        remedy: FIRMWARE,
    },
    Meaning {
        steps: &["access-*", "wsfc-access", "fence-access"],
        windows: "A node can write to a disk that it does not own, or cannot use its own disk.",
        fence_agents: "A fenced node can write, or a member of the cluster cannot.",
        lvm: "Another host can write to the volume group, or its owner cannot.",
        remedy: FIRMWARE,
    },
];

/// Returns the meaning of a failed step.
pub(super) fn of(step: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|meaning| {
        let mut names = meaning.steps.iter();
        names.any(|name| match name.strip_suffix('*') {
            Some(start) => step.starts_with(start),
            None => step == *name,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    use crate::commands::validate::profile::Profile;

    #[test]
    fn every_step_has_a_meaning_and_every_meaning_a_step() {
        let steps = || {
            let profiles = Profile::value_variants().iter();
            profiles.flat_map(|profile| profile.steps())
        };
        for step in steps() {
            assert!(of(step.name).is_some(), "{}", step.name);
        }
        for meaning in MEANINGS {
            let mut found = steps().filter_map(|step| of(step.name));
            assert!(found.any(|one| std::ptr::eq(one, meaning)), "{meaning:?}");
        }
    }
}
