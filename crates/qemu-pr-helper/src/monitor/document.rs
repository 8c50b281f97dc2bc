// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use helper_state::{
    Client, CommandInProgress, Disk, Helper, Path, StateDocument, Statistics, VERSION, Workers,
};

use super::registrations::{DiskKey, Owner};
use super::{ClientActivity, Monitor, NAME_TIMEOUT, lock};
use crate::command::device::DeviceId;
use crate::command::timestamp::unix_microseconds;
use crate::names::disk_name::DiskName;

/// State of the multipath maps.
#[derive(Debug, Default)]
pub(crate) struct MapStates {
    pub(crate) workers: Workers,
    /// The paths of maps that clients have registered.
    pub(crate) paths: BTreeMap<DeviceId, Vec<Path>>,
}

impl Monitor {
    /// Returns the state of this moment. `socket` is the path that clients connect to.
    pub(super) fn document(&self, socket: &str, maps: MapStates) -> StateDocument {
        let clients: Vec<_> = lock(&self.clients).values().cloned().collect();
        StateDocument {
            version: VERSION,
            time_us: unix_microseconds(SystemTime::now()),
            helper: Helper {
                pid: self.pid,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                socket: Some(socket.to_owned()).filter(|name| !name.is_empty()),
                started_us: unix_microseconds(self.started),
                same_lun: self.same_lun.to_string(),
            },
            disks: self.disks(&clients, maps.paths),
            statistics: self.statistics(&clients),
            clients: clients.iter().map(|client| client.to_state()).collect(),
            limits: self.counters.limits(),
            workers: maps.workers,
            journal: self
                .journal
                .to_state(|device| self.disk_name(&DiskKey::Device(device), NAME_TIMEOUT)),
        }
    }

    fn statistics(&self, clients: &[Arc<ClientActivity>]) -> Vec<Statistics> {
        let mut totals = lock(&self.totals).clone();
        for client in clients {
            let name = super::process(&client.peer).name;
            totals.add(&name, &lock(&client.statistics));
        }
        totals.to_statistics()
    }

    /// Returns the disks that clients have sent commands to.
    fn disks(
        &self,
        clients: &[Arc<ClientActivity>],
        mut paths: BTreeMap<DeviceId, Vec<Path>>,
    ) -> Vec<Disk> {
        let mut keys: BTreeSet<DiskKey> = lock(&self.registrations).disks().cloned().collect();
        let is_disk = |id: &DeviceId| matches!(id, DeviceId::Block(..) | DeviceId::Character(..));
        keys.extend(
            lock(&self.totals)
                .devices()
                .filter(is_disk)
                .map(DiskKey::Device),
        );
        for client in clients {
            let statistics = lock(&client.statistics);
            keys.extend(statistics.devices().filter(is_disk).map(DiskKey::Device));
        }
        let is_running = |owner: &Owner| self.is_running(owner.process());
        let disks = keys.into_iter().map(|key| {
            let name = self.disk_name(&key, NAME_TIMEOUT);
            let name = name.map(|name| DiskName::clone(&name)).unwrap_or_default();
            let (registered, reservation) = lock(&self.registrations).of_disk(&key, is_running);
            let paths = match &key {
                DiskKey::Device(id) => paths.remove(id),
                DiskKey::SoftLun(_) => None,
            };
            let is_in_use = registered.iter().any(|one| one.is_connected);
            Disk {
                device: key.device(),
                wwn: name.wwn,
                kind: match name.kind.is_empty() {
                    true => kind(&key).to_owned(),
                    false => name.kind,
                },
                nodes: name.nodes,
                alias: name.alias,
                transport: name.transport,
                registrations: registered,
                reservation,
                paths: paths.filter(|_| is_in_use).unwrap_or_default(),
            }
        });
        let disks: BTreeMap<_, _> = disks.map(|disk| (disk.device.clone(), disk)).collect();
        disks.into_values().collect()
    }
}

fn kind(key: &DiskKey) -> &'static str {
    match key {
        DiskKey::SoftLun(_) => "soft LUN",
        DiskKey::Device(DeviceId::Character(..)) => "sg",
        DiskKey::Device(_) => "disk",
    }
}

impl ClientActivity {
    fn to_state(&self) -> Client {
        let statistics = lock(&self.statistics);
        Client {
            id: self.peer.connection_id(),
            process: super::process(&self.peer),
            connected_us: unix_microseconds(self.connected),
            commands: statistics.commands,
            command: statistics.current.map(|(key, start)| CommandInProgress {
                device: key.device.to_string(),
                action: key.command.name(),
                age_us: start.elapsed_us(),
            }),
        }
    }
}
