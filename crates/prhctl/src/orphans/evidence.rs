// SPDX-License-Identifier: MIT OR Apache-2.0

//! Finds out whether the owner of a registration runs, from what this host and others know.
//!
//! A registration without a known owner is not an orphan: it is one only if no process can use its
//! port.

use scsi_pr::FullStatusDescriptor;

use super::disk_users::DiskUsers;
use super::reports::{DiskState, OtherHosts};
use super::verdict::Verdict;
use crate::known_disks::{KnownDisk, distinct};
use crate::scsi_path::Owner;

/// A registration and its verdict.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) registration: FullStatusDescriptor,
    pub(crate) owner: Owner,
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
}

impl Judged {
    /// Returns whether a port of this host is registered.
    pub(crate) const fn is_local(&self) -> bool {
        matches!(self.owner, Owner::ThisPath | Owner::OtherPath)
    }
}

/// Knowledge about the owners of a disk's registrations.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    /// The disk in the states of this host's helpers.
    pub(crate) disk: Option<&'a KnownDisk<'a>>,
    pub(crate) users: DiskUsers,
    /// Identifier and generation of the disk.
    pub(crate) disk_state: &'a DiskState,
    pub(crate) others: &'a OtherHosts,
}

impl Evidence<'_> {
    /// Returns the verdicts on the registrations of a disk.
    pub(crate) fn judge(
        &self,
        registrations: &[FullStatusDescriptor],
        owners: &[Owner],
    ) -> Vec<Judged> {
        let registrations = registrations.iter().zip(owners);
        registrations
            .map(|(registration, &owner)| {
                let (verdict, reason) = self.verdict(registration, owner);
                Judged {
                    registration: registration.clone(),
                    owner,
                    verdict,
                    reason,
                }
            })
            .collect()
    }

    fn verdict(&self, registration: &FullStatusDescriptor, owner: Owner) -> (Verdict, String) {
        // A machine of another host can have the same key; the ports of a soft LUN belong to this
        // host.
        let is_other = owner == Owner::Other && !self.disk.is_some_and(KnownDisk::is_soft_lun);
        let clients = Clients::new(self.disk.filter(|_| !is_other), registration);
        match owner {
            _ if !clients.connected.is_empty() => {
                let names = clients.connected.join(", ");
                (
                    Verdict::Alive,
                    format!("{names} of this host is connected to a helper"),
                )
            }
            Owner::ThisPath | Owner::OtherPath => self.local(&clients),
            Owner::EarlierSession => (
                Verdict::Orphan,
                "made by an earlier iSCSI session of this host".to_owned(),
            ),
            Owner::Other | Owner::Unknown => self.others.verdict(self.disk_state, registration),
        }
    }

    /// Returns the verdict on a registration of a port of this host without a connected owner.
    fn local(&self, clients: &Clients<'_>) -> (Verdict, String) {
        if !self.users.is_complete {
            let reason = "the open files of some processes are not visible; run prhctl as root";
            return (Verdict::Unknown, reason.to_owned());
        }
        if self.users.is_held {
            let reason = "this host uses the disk, a partition or a volume of it";
            return (Verdict::Unknown, reason.to_owned());
        }
        // Any process with the disk can be the owner. What helpers know can only add to that: a
        // restarted helper does not know the keys of before.
        let users: Vec<_> = self.users.users.iter().map(ToString::to_string).collect();
        match (users.is_empty(), clients.disconnected.as_slice()) {
            (true, []) => (
                Verdict::Orphan,
                "no process of this host has the disk open".to_owned(),
            ),
            (true, names) => (
                Verdict::Orphan,
                format!("{} of this host has closed the disk", names.join(", ")),
            ),
            (false, _) => (
                Verdict::Unknown,
                format!("{} has the disk open", users.join(", ")),
            ),
        }
    }
}

/// Names of the clients of this host that registered a key.
struct Clients<'a> {
    connected: Vec<&'a str>,
    disconnected: Vec<&'a str>,
}

impl<'a> Clients<'a> {
    fn new(disk: Option<&KnownDisk<'a>>, registration: &FullStatusDescriptor) -> Self {
        let key = registration.key.to_string();
        let known = disk.map(KnownDisk::registrations).unwrap_or_default();
        let names = |is_connected| {
            let known = known
                .iter()
                .filter(|one| one.key == key && one.is_connected == is_connected);
            distinct(known.map(|one| one.client.as_str()))
        };
        Clients {
            connected: names(true),
            disconnected: names(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk_users::DiskUser;
    use super::*;
    use crate::known_disks::known_disks;
    use crate::state_fixture::{disk, document, registration, states};
    use scsi_pr::ScopeType;

    fn descriptor(key: u64, port: &str) -> FullStatusDescriptor {
        FullStatusDescriptor {
            key: key.into(),
            all_tg_pt: false,
            holder: false,
            scope_type: ScopeType(0),
            relative_target_port: 1.into(),
            transport_id: Ok(port.parse().unwrap()),
        }
    }

    fn users(pids: &[u32]) -> DiskUsers {
        DiskUsers {
            users: pids.iter().map(|pid| DiskUser::for_test(*pid)).collect(),
            is_held: false,
            is_complete: true,
        }
    }

    /// Returns the verdict and the reason for a registration with key 0xa of this owner. A helper
    /// can know that web1 has this key.
    fn verdict(owner: Owner, is_connected: Option<bool>, users: &DiskUsers) -> (Verdict, String) {
        let mut state = document();
        state.disks = vec![disk("8:0", Some("naa.1"), "sda")];
        state.disks[0].registrations = is_connected
            .map(|is_connected| {
                let mut known = registration("0xa", "web1");
                known.is_connected = is_connected;
                known
            })
            .into_iter()
            .collect();
        let states = states([state]);
        let disks = known_disks(&states);
        let evidence = Evidence {
            disk: disks.first(),
            users: users.clone(),
            disk_state: &DiskState::default(),
            others: &OtherHosts::default(),
        };
        let registration = descriptor(0xa, "sas,5001405000000001");
        let judged = evidence.judge(&[registration], &[owner]);
        (judged[0].verdict, judged[0].reason.clone())
    }

    #[test]
    fn owner_with_a_connection_is_alive() {
        for owner in [
            Owner::ThisPath,
            Owner::OtherPath,
            Owner::EarlierSession,
            Owner::Unknown,
        ] {
            let (verdict, reason) = verdict(owner, Some(true), &users(&[]));
            assert_eq!(verdict, Verdict::Alive, "{owner:?}: {reason}");
        }
    }

    #[test]
    fn port_that_a_process_can_use_is_no_orphan() {
        let of =
            |is_connected, pids: &[u32]| verdict(Owner::ThisPath, is_connected, &users(pids)).0;
        assert_eq!(of(Some(false), &[]), Verdict::Orphan);
        assert_eq!(of(Some(false), &[1002]), Verdict::Unknown);
        assert_eq!(of(None, &[]), Verdict::Orphan);
        assert_eq!(of(None, &[1002]), Verdict::Unknown);
        let held = DiskUsers {
            is_held: true,
            ..users(&[])
        };
        let (verdict_of_held, reason) = verdict(Owner::ThisPath, None, &held);
        assert_eq!(verdict_of_held, Verdict::Unknown);
        assert!(reason.starts_with("this host uses the disk"), "{reason}");
        let incomplete = DiskUsers::default();
        let (verdict, reason) = verdict(Owner::ThisPath, None, &incomplete);
        assert_eq!(verdict, Verdict::Unknown);
        assert!(reason.contains("run prhctl as root"), "{reason}");
    }

    #[test]
    fn other_hosts_decide_about_their_ports() {
        let of = |owner| verdict(owner, None, &users(&[])).0;
        assert_eq!(of(Owner::EarlierSession), Verdict::Orphan);
        assert_eq!(of(Owner::Other), Verdict::Unknown);
        assert_eq!(of(Owner::Unknown), Verdict::Unknown);
        // A client of this host can have the key of another host.
        assert_eq!(
            verdict(Owner::Other, Some(true), &users(&[])).0,
            Verdict::Unknown
        );
    }
}
