// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state document of a helper, and the records of its event journal.
//!
//! A helper writes one [`StateDocument`] in JSON to each connection to its state socket. The name
//! of the socket is in the abstract namespace; [`socket_name`] returns it. The helper reads nothing
//! from the connection.
//!
//! Times are in microseconds since 1970 UTC, durations in microseconds. Keys are strings of the
//! form `0x1a2b`. Actions, types and statuses have the names of SPC-4.
//!
//! Later versions add members; a change of existing members changes [`VERSION`]. A reader ignores
//! members that it does not know.

use serde::{Deserialize, Serialize};

/// Version of the document.
pub const VERSION: u32 = 1;

/// Upper bounds of the buckets of [`Statistics::buckets`] in microseconds. The last bucket has no
/// bound.
pub const BUCKET_BOUNDS_US: [u64; 15] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 1_000_000, 5_000_000,
    10_000_000, 30_000_000,
];

/// Number of buckets of [`Statistics::buckets`].
pub const BUCKETS: usize = BUCKET_BOUNDS_US.len() + 1;

/// Returns the name of the state socket of the helper with this process ID, in the abstract
/// namespace of the helper's network namespace, without the leading zero byte.
///
/// The process ID is that in the helper's own PID namespace. The socket belongs to the helper only
/// if its listener has that process ID.
#[must_use]
pub fn socket_name(pid: u32) -> String {
    format!("qemu-pr-helper/state/{pid}")
}

/// The state of a helper at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDocument {
    /// [`VERSION`].
    pub version: u32,
    /// Time at which the document was made.
    pub time_us: u64,
    /// The helper.
    pub helper: Helper,
    /// Connected clients, in the order of their numbers.
    pub clients: Vec<Client>,
    /// Disks that clients have sent commands to, in the order of their device names.
    pub disks: Vec<Disk>,
    /// Commands since the helper was started, by client name, disk, action and result.
    pub statistics: Vec<Statistics>,
    /// Events that the helper prevented or that need attention, counted since it was started.
    pub limits: Limits,
    /// Workers for multipath maps.
    pub workers: Workers,
    /// The last records of the event journal.
    pub journal: Journal,
}

/// A helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helper {
    /// Process ID in the helper's PID namespace.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Path of the socket that clients connect to; `None` if the name cannot be read.
    pub socket: Option<String>,
    /// Time at which the helper was started.
    pub started_us: u64,
    /// Value of `--same-lun`: `warn`, `refuse` or `allow`.
    pub same_lun: String,
}

/// A connected client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Number of the connection, counted from 1.
    pub id: u64,
    /// The process at the other end.
    pub process: Process,
    /// Time at which the client connected.
    pub connected_us: u64,
    /// Number of commands that have ended.
    pub commands: u64,
    /// The command in progress.
    pub command: Option<CommandInProgress>,
}

/// The process of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process ID in the helper's PID namespace; 0 if it is not visible there.
    pub pid: i32,
    /// User ID.
    pub uid: u32,
    /// Name of the virtual machine if the process is one, otherwise of the program. If neither is
    /// known, `pid N`.
    pub name: String,
    /// The virtual machine; `None` if the process is not known to be one.
    pub vm: Option<Vm>,
    /// The systemd scope or service, from the control group.
    pub unit: Option<String>,
}

/// A virtual machine. Its names are those that the process claims in its arguments, unless the
/// control group names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// libvirt's domain, `NAMESPACE/NAME` of a KubeVirt VMI, the VMID and name of Proxmox VE, or
    /// QEMU's `-name`.
    pub name: String,
    /// QEMU's `-uuid`.
    pub uuid: Option<String>,
    /// `libvirt`, `kubevirt`, `proxmox` or `qemu`.
    pub manager: String,
}

/// A command in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandInProgress {
    /// The device, as in [`Disk::device`].
    pub device: String,
    /// Service action, such as `PREEMPT`.
    pub action: String,
    /// Time since the command was received.
    pub age_us: u64,
}

/// A disk, by the device that clients opened. Several devices can lead to one disk, with the same
/// [`Disk::wwn`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Device number such as `8:0` or `char 21:0`, or the path of a file.
    pub device: String,
    /// Identifier of the logical unit, as in sysfs: `naa.6001405…`; `None` if it is not known.
    pub wwn: Option<String>,
    /// Names of the device and of those that lead to the same disk: `sda`, `sg0`, `dm-3`.
    pub nodes: Vec<String>,
    /// `disk`, `multipath`, `sg`, `soft LUN`, or `other`.
    pub kind: String,
    /// Name of a device-mapper device, such as `mpatha`.
    pub alias: Option<String>,
    /// Transport, such as `iscsi`, `fc` or `sas`.
    pub transport: Option<String>,
    /// Registrations that clients of this helper made through this device, and that the helper has
    /// not seen removed.
    pub registrations: Vec<Registration>,
    /// The reservation that a client of this helper made, and that the helper has not seen removed.
    pub reservation: Option<Reservation>,
    /// Paths of a multipath map, while it has [`Disk::registrations`] of connected clients.
    #[serde(default)]
    pub paths: Vec<Path>,
}

/// A path of a multipath map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Name of the device, such as `sda`.
    pub node: String,
    /// Device number.
    pub device: String,
    /// Registration of the path with the key of the map.
    pub registration: PathRegistration,
    /// Time at which the registration became known to be this one.
    pub since_us: u64,
}

/// Registration of a path with the key of its map, as the last command that changed it or the last
/// check has shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathRegistration {
    /// The path is registered.
    Registered,
    /// The path answered that it is not registered, or did not answer the registration.
    NotRegistered,
    /// No command has shown it.
    Unknown,
}

/// A registration of a client of the helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The key.
    pub key: String,
    /// Name of the process, as in [`Process::name`].
    pub client: String,
    /// True if a client of that name is connected.
    pub is_connected: bool,
    /// Time of the registration.
    pub time_us: u64,
}

/// A reservation of a client of the helper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// The key of the holder.
    pub key: String,
    /// Name of the type.
    pub r#type: String,
    /// Name of the process, as in [`Process::name`].
    pub client: String,
    /// Time of the reservation.
    pub time_us: u64,
}

/// Commands of one client name on one disk with the same action and result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Name of the process, as in [`Process::name`].
    pub client: String,
    /// The device, as in [`Disk::device`].
    pub device: String,
    /// Service action.
    pub action: String,
    /// Status, such as `GOOD`; with sense, the name of the sense key instead.
    pub result: String,
    /// Number of commands.
    pub count: u64,
    /// Sum of the durations.
    pub total_us: u64,
    /// The longest duration.
    pub max_us: u64,
    /// Number of commands in each bucket of [`BUCKET_BOUNDS_US`], not cumulative.
    pub buckets: Vec<u64>,
}

impl Statistics {
    /// Returns whether the commands ended with RESERVATION CONFLICT.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.result == "RESERVATION CONFLICT"
    }
}

/// Counts of events since the helper was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections closed because of `--max-clients-per-process`.
    pub rejected_connections: u64,
    /// Pauses of accepting, for example because of `--max-clients`.
    pub accept_pauses: u64,
    /// Commands answered with BUSY because of `--max-commands-per-device`.
    pub busy_devices: u64,
    /// Commands answered with BUSY because no thread could be started.
    pub busy_threads: u64,
    /// Connections closed because of `--request-timeout`.
    pub request_timeouts: u64,
    /// Registrations refused by `--same-lun=refuse`.
    pub refused_registrations: u64,
}

/// Workers for multipath maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workers {
    /// Workers that wait for a command.
    pub idle: u64,
    /// Commands that workers execute.
    pub busy: u64,
    /// Commands without a reply, because the worker exited or timed out, since the helper was
    /// started.
    pub failed: u64,
}

/// The end of the event journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// Number of records that could not be written to the journal's destination.
    pub lost: u64,
    /// The last records, oldest first. They are also kept if they could not be written.
    pub records: Vec<Record>,
}

/// A record of the event journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the record since the helper was started, from 1, without gaps.
    pub sequence: u64,
    /// Process ID of the helper.
    pub helper: u32,
    /// Time at which the command ended.
    pub time_us: u64,
    /// Kind of event.
    pub event: Event,
    /// Number of the connection.
    pub client_id: u64,
    /// Process ID of the client.
    pub pid: i32,
    /// Name of the client's process, as in [`Process::name`].
    pub client: String,
    /// UUID of the virtual machine.
    pub uuid: Option<String>,
    /// The device, as in [`Disk::device`].
    pub device: String,
    /// Identifier of the logical unit, as in [`Disk::wwn`].
    pub wwn: Option<String>,
    /// Name of the device's node, such as `sda`.
    pub node: Option<String>,
    /// Service action.
    pub action: String,
    /// Reservation key: the key that the client is registered with, or claims to be.
    pub key: Option<String>,
    /// Service action reservation key: the new key, or the key of the victim.
    pub service_action_key: Option<String>,
    /// Name of the reservation type, if the action has one.
    pub r#type: Option<String>,
    /// Status, such as `GOOD`.
    pub status: String,
    /// Text of the sense, such as `UNIT ATTENTION, RESERVATIONS PREEMPTED (6/2a/03)`.
    pub sense: Option<String>,
    /// Time that the command took.
    pub duration_us: u64,
    /// Key that the client's last registration through this helper had before the command.
    pub previous_key: Option<String>,
    /// Reservations of the disk before the command, as far as the helper has seen them.
    #[serde(default)]
    pub before: KnownReservations,
    /// Reservations of the disk after the command, as far as the helper has seen them.
    #[serde(default)]
    pub after: KnownReservations,
    /// Another client name that is concerned: the other virtual machine of [`Event::SameLun`], or
    /// the owner of the victim's key if it is a client of this helper.
    pub other: Option<String>,
}

/// Registrations and the reservation that clients of a helper made over a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownReservations {
    /// Keys of the registrations, oldest first.
    pub registrants: Vec<String>,
    /// Key of the reservation's holder.
    pub holder: Option<String>,
    /// Name of the reservation's type.
    pub r#type: Option<String>,
}

/// Kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A command changed, or could have changed, a registration or a reservation.
    Change,
    /// A command ended with RESERVATION CONFLICT.
    Conflict,
    /// A unit attention reported a change by another initiator.
    Attention,
    /// Two virtual machines of this host registered with the same disk.
    SameLun,
}

impl Event {
    /// All events.
    pub const ALL: [Self; 4] = [Self::Change, Self::Conflict, Self::Attention, Self::SameLun];

    /// Returns the `MESSAGE_ID` of the event in the system journal.
    #[must_use]
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::Change => "c2b1e7f0a3d94c1f8f5f0e6a7d3b9a10",
            Self::Conflict => "5d0f6d8be7f1471c9a4c3b2e1f6079d2",
            Self::Attention => "8a9e3c64f2b54e07b1d0c75e9f2a4c38",
            Self::SameLun => "e41b7a2d96c04f5ab8d3f09c6e5172b4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn message_ids_are_different_numbers() {
        let ids: HashSet<_> = Event::ALL.map(Event::message_id).into();
        assert_eq!(ids.len(), Event::ALL.len());
        let is_id = |id: &&str| id.len() == 32 && u128::from_str_radix(id, 16).is_ok();
        assert!(ids.iter().all(is_id));
    }

    #[test]
    fn unknown_members_are_ignored() {
        let text = r#"{"idle": 1, "busy": 2, "failed": 3, "new": 4}"#;
        let workers: Workers = serde_json::from_str(text).unwrap();
        assert_eq!((workers.idle, workers.busy, workers.failed), (1, 2, 3));
        assert_eq!(
            serde_json::to_string(&Event::SameLun).unwrap(),
            "\"same-lun\""
        );
    }

    #[test]
    fn buckets_are_in_order() {
        assert!(BUCKET_BOUNDS_US.is_sorted());
    }
}
