// SPDX-License-Identifier: MIT OR Apache-2.0

//! The disks in the states of the helpers: all devices that lead to one logical unit together.

use std::fs;
use std::path::{Path, PathBuf};

use helper_state::{Disk, Event, PathRegistration, Record, Registration, Reservation};
use scsi_pr::ReservationType;

use crate::labels;
use crate::running_helpers::HelperProcess;
use crate::state::HelperStates;

/// A logical unit that clients of the helpers have sent commands to.
#[derive(Debug)]
pub(crate) struct KnownDisk<'a> {
    pub(crate) wwn: Option<&'a str>,
    /// The devices of the logical unit, each with the helper that it was used through.
    pub(crate) devices: Vec<(&'a HelperProcess, &'a Disk)>,
    /// Removals by clients of the helpers. A helper learns of a removal through another helper
    /// only from the next command of its client.
    removals: Vec<Removal<'a>>,
}

/// Removal of registrations by a command.
#[derive(Debug)]
struct Removal<'a> {
    /// Process ID of the helper.
    helper: u32,
    time_us: u64,
    /// The key of the registrations; `None` for all.
    victim: Option<&'a str>,
}

impl<'a> Removal<'a> {
    /// Returns the removal by the command of a record.
    fn new(helper: u32, record: &'a Record) -> Option<Self> {
        let victim = match record.action.as_str() {
            "CLEAR" => None,
            "PREEMPT" | "PREEMPT AND ABORT" => Some(record.service_action_key.as_deref()?),
            _ => return None,
        };
        (record.event == Event::Change && record.status == "GOOD").then_some(Removal {
            helper,
            time_us: record.time_us,
            victim,
        })
    }
}

/// Returns the disks of the helpers, in the order of the documents. A device without a WWN is a
/// disk of its own.
pub(crate) fn known_disks(states: &HelperStates) -> Vec<KnownDisk<'_>> {
    let mut disks: Vec<KnownDisk<'_>> = Vec::new();
    let devices = states
        .documents()
        .flat_map(|(helper, state)| state.disks.iter().map(move |disk| (helper, disk)));
    for (helper, disk) in devices {
        let is_same = |known: &&mut KnownDisk<'_>| match (known.wwn, disk.wwn.as_deref()) {
            (Some(known), Some(wwn)) => known == wwn,
            (None, None) => known
                .devices
                .iter()
                .any(|(_, one)| one.device == disk.device),
            _ => false,
        };
        match disks.iter_mut().find(is_same) {
            Some(known) => known.devices.push((helper, disk)),
            None => disks.push(KnownDisk {
                wwn: disk.wwn.as_deref(),
                devices: vec![(helper, disk)],
                removals: removals(states, disk.wwn.as_deref()),
            }),
        }
    }
    disks
}

/// Returns the removals of registrations with the logical unit with this WWN.
fn removals<'a>(states: &'a HelperStates, wwn: Option<&str>) -> Vec<Removal<'a>> {
    let records = states
        .documents()
        .flat_map(|(helper, state)| state.journal.records.iter().map(|one| (helper.pid, one)));
    records
        .filter(|(_, record)| wwn.is_some() && record.wwn.as_deref() == wwn)
        .filter_map(|(helper, record)| Removal::new(helper, record))
        .collect()
}

impl<'a> KnownDisk<'a> {
    fn disks(&self) -> impl Iterator<Item = &'a Disk> + use<'a, '_> {
        self.devices.iter().map(|(_, disk)| *disk)
    }

    /// Returns whether the disk is a soft LUN. Its ports are files in a directory.
    pub(crate) fn is_soft_lun(&self) -> bool {
        self.disks().any(|disk| disk.kind == "soft LUN")
    }

    /// Returns the names of the nodes, or the devices if none has a node.
    pub(crate) fn nodes(&self) -> Vec<&'a str> {
        let nodes = distinct(
            self.disks()
                .flat_map(|disk| &disk.nodes)
                .map(String::as_str),
        );
        match nodes.is_empty() {
            true => distinct(self.disks().map(|disk| disk.device.as_str())),
            false => nodes,
        }
    }

    /// Returns the path of a device of the disk: a multipath map if there is one. The port of a
    /// soft LUN is not known.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        if self.is_soft_lun() {
            return None;
        }
        let disk = self.disks().find(|disk| disk.alias.is_some());
        let disk = disk.or_else(|| self.disks().next())?;
        match (&disk.alias, disk.nodes.first()) {
            (Some(alias), _) => Some(Path::new("/dev/mapper").join(alias)),
            (None, node) => Some(Path::new("/dev").join(node?)),
        }
    }

    /// Returns the kinds of the devices with their aliases: `multipath mpatha`.
    pub(crate) fn kinds(&self) -> Vec<String> {
        distinct(self.disks().map(|disk| match &disk.alias {
            Some(alias) => format!("{} {alias}", disk.kind),
            None => disk.kind.clone(),
        }))
    }

    /// Returns the transports.
    pub(crate) fn transports(&self) -> Vec<&'a str> {
        distinct(self.disks().filter_map(|disk| disk.transport.as_deref()))
    }

    /// Returns whether a client of another helper has since removed what `helper` knows.
    fn is_removed(&self, helper: &HelperProcess, key: &str, time_us: u64) -> bool {
        self.removals.iter().any(|removal| {
            removal.helper != helper.pid
                && removal.time_us > time_us
                && removal.victim.is_none_or(|victim| victim == key)
        })
    }

    /// Returns the registrations, each key of a client once, although it can be registered through
    /// several devices.
    pub(crate) fn registrations(&self) -> Vec<&'a Registration> {
        let mut registrations: Vec<&Registration> = Vec::new();
        let all = self.devices.iter().flat_map(|&(helper, disk)| {
            let known = disk.registrations.iter();
            known.filter(|one| !self.is_removed(helper, &one.key, one.time_us))
        });
        for one in all {
            let is_same =
                |other: &&Registration| other.key == one.key && other.client == one.client;
            if !registrations.iter().any(is_same) {
                registrations.push(one);
            }
        }
        registrations
    }

    /// Returns the names of the paths of a map that are not registered, although clients of this
    /// host are.
    pub(crate) fn unregistered_paths(&self) -> Vec<&'a str> {
        let is_registered = |&&(helper, disk): &&(&HelperProcess, &Disk)| {
            let mut registrations = disk.registrations.iter();
            registrations.any(|one| !self.is_removed(helper, &one.key, one.time_us))
        };
        let registered = self.devices.iter().filter(is_registered);
        let paths = registered.flat_map(|(_, disk)| &disk.paths);
        let paths = paths.filter(|path| path.registration == PathRegistration::NotRegistered);
        distinct(paths.map(|path| path.node.as_str()))
    }

    /// Returns the last reservation.
    pub(crate) fn reservation(&self) -> Option<&'a Reservation> {
        let reservations = self.devices.iter().filter_map(|&(helper, disk)| {
            let known = disk.reservation.as_ref();
            known.filter(|one| !self.is_removed(helper, &one.key, one.time_us))
        });
        reservations.max_by_key(|reservation| reservation.time_us)
    }

    /// Returns the names of the clients if several are registered. They share the initiator port of
    /// this host, unless the disk is a soft LUN: each port of that is another initiator.
    pub(crate) fn sharing_clients(&self) -> Vec<&'a str> {
        if self.is_soft_lun() {
            return Vec::new();
        }
        let registrations = self.registrations().into_iter();
        let clients = distinct(registrations.map(|one| one.client.as_str()));
        match clients.len() {
            0 | 1 => Vec::new(),
            _ => clients,
        }
    }

    /// Returns whether clients of a helper with this process ID use the disk as `device`.
    pub(crate) fn has_device(&self, helper: u32, device: &str) -> bool {
        let mut devices = self.devices.iter();
        devices.any(|(process, disk)| process.pid == helper && disk.device == device)
    }

    /// Returns whether the file at `path` is a port of this soft LUN.
    fn has_port(&self, path: &Path) -> bool {
        let lun = path.parent().and_then(Path::parent);
        self.is_soft_lun()
            && self
                .disks()
                .any(|disk| lun == Some(Path::new(&disk.device)))
    }

    /// Returns whether `name` is the WWN, a device number, an alias, a node (its name, its path, or
    /// a link to it), or the port of a soft LUN.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let target = fs::canonicalize(name).ok();
        let nodes = [Some(Path::new(name)), target.as_deref()];
        let is_node = |node: &str| {
            let path = Path::new("/dev").join(node);
            node == name || nodes.contains(&Some(&path))
        };
        self.wwn == Some(name)
            || target
                .as_deref()
                .is_some_and(|target| self.has_port(target))
            || self.disks().any(|disk| {
                let is_alias =
                    |alias: &String| is_node(alias) || is_node(&format!("mapper/{alias}"));
                let paths = nodes.into_iter().flatten();
                disk.device == name
                    || paths
                        .into_iter()
                        .any(|path| Path::new(&disk.device) == path)
                    || disk.alias.as_ref().is_some_and(is_alias)
                    || disk.nodes.iter().any(|node| is_node(node))
            })
    }
}

/// Returns the values without repetitions, in their order.
pub(crate) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// Returns the short name of a reservation type with this name in the standard.
pub(crate) fn short_type(name: &str) -> String {
    let mut known = ReservationType::ALL.into_iter();
    match known.find(|kind| kind.to_string() == name) {
        Some(kind) => labels::short_type(kind).to_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{disk, document, record, registration, reservation, states};

    #[test]
    fn devices_with_the_same_wwn_are_one_disk() {
        let (mut first, mut second) = (document(), document());
        first.disks = vec![disk("8:0", Some("naa.1"), "sda"), disk("8:16", None, "sdb")];
        first.disks[0].registrations = vec![registration("0xa", "node1")];
        second.disks = vec![
            disk("8:32", Some("naa.1"), "sdc"),
            disk("8:48", None, "sdd"),
        ];
        second.disks[0].registrations = vec![registration("0xa", "node1")];
        let states = states([first, second]);
        let disks = known_disks(&states);
        let nodes: Vec<_> = disks.iter().map(KnownDisk::nodes).collect();
        assert_eq!(nodes, [vec!["sda", "sdc"], vec!["sdb"], vec!["sdd"]]);
        assert_eq!(disks[0].registrations().len(), 1);
        assert!(disks[0].sharing_clients().is_empty());
    }

    #[test]
    fn clients_with_different_names_share_a_disk() {
        let mut state = document();
        state.disks = vec![
            disk("8:0", Some("naa.1"), "sda"),
            disk("8:16", Some("naa.1"), "sdb"),
        ];
        state.disks[0].registrations = vec![registration("0xa", "node1")];
        state.disks[1].registrations = vec![registration("0xa", "node2")];
        let states = states([state]);
        assert_eq!(
            known_disks(&states)[0].sharing_clients(),
            ["node1", "node2"]
        );
    }

    /// Each virtual machine of libvirt has a helper of its own, which does not see what the others
    /// do.
    #[test]
    fn registration_that_another_helper_removed_is_missing() {
        let known = |removal: &Record| {
            let (mut first, mut second) = (document(), document());
            first.disks = vec![disk("8:0", Some("naa.6001405"), "sda")];
            first.disks[0].registrations = vec![registration("0xa", "node1")];
            first.disks[0].reservation = Some(reservation("0xa", "node1"));
            second.disks = vec![disk("8:16", Some("naa.6001405"), "sdb")];
            second.disks[0].registrations = vec![registration("0xb", "node2")];
            second.journal.records = vec![removal.clone()];
            let states = states([first, second]);
            let disks = known_disks(&states);
            let keys = disks[0]
                .registrations()
                .into_iter()
                .map(|one| one.key.clone());
            (keys.collect::<Vec<_>>(), disks[0].reservation().is_some())
        };
        let mut removal = record(1000, "node2", "PREEMPT AND ABORT");
        removal.service_action_key = Some("0xa".to_owned());
        let (both, one) = (["0xa", "0xb"], ["0xb"]);
        assert_eq!(known(&removal), (one.map(str::to_owned).to_vec(), false));
        let changes: [fn(&mut Record); 5] = [
            |removal| removal.time_us = 0,
            |removal| removal.service_action_key = Some("0xc".to_owned()),
            |removal| removal.status = "RESERVATION CONFLICT".to_owned(),
            |removal| removal.wwn = Some("naa.2".to_owned()),
            |removal| removal.action = "REGISTER".to_owned(),
        ];
        for change in changes {
            let mut other = removal.clone();
            change(&mut other);
            assert_eq!(known(&other), (both.map(str::to_owned).to_vec(), true));
        }
        removal.action = "CLEAR".to_owned();
        assert_eq!(known(&removal), (one.map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn disk_has_several_names() {
        let mut state = document();
        state.disks = vec![disk("253:3", Some("naa.1"), "dm-3")];
        state.disks[0].alias = Some("mpatha".to_owned());
        let states = states([state]);
        let disks = known_disks(&states);
        for (name, expected) in [
            ("naa.1", true),
            ("dm-3", true),
            ("/dev/dm-3", true),
            ("mpatha", true),
            ("/dev/mapper/mpatha", true),
            ("253:3", true),
            ("naa.2", false),
            ("/dev/mpathb", false),
            ("dm", false),
            ("", false),
        ] {
            assert_eq!(disks[0].is_called(name), expected, "{name}");
        }
    }

    #[test]
    fn short_name_of_unknown_type_is_its_name() {
        assert_eq!(short_type("Write Exclusive - Registrants Only"), "we-ro");
        assert_eq!(short_type("Shared"), "Shared");
    }
}
