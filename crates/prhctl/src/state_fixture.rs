// SPDX-License-Identifier: MIT OR Apache-2.0

//! State documents for tests.

use std::path::PathBuf;

use helper_state::{
    BUCKET_BOUNDS_US, BUCKETS, Client, Disk, Event, Helper, Journal, KnownReservations, Limits,
    Path, PathRegistration, Process, Record, Registration, Reservation, StateDocument, Statistics,
    VERSION, Vm, Workers,
};

use crate::output::json::{Json, ToJson};
use crate::output::text::ToText;
use crate::running_helpers::HelperProcess;
use crate::state::{HelperState, HelperStates};

/// The time of the documents in microseconds, 2026-03-01 12:00:00 UTC.
pub(crate) const NOW: u64 = 1_772_366_400_000_000;

const MINUTE: u64 = 60_000_000;

/// Returns a document of a helper without clients.
pub(crate) fn document() -> StateDocument {
    StateDocument {
        version: VERSION,
        time_us: NOW,
        helper: Helper {
            pid: 100,
            version: "0.1.0".to_owned(),
            socket: Some("/run/qemu-pr-helper.sock".to_owned()),
            started_us: NOW - 90 * MINUTE,
            same_lun: "warn".to_owned(),
        },
        clients: Vec::new(),
        disks: Vec::new(),
        statistics: Vec::new(),
        limits: Limits::default(),
        workers: Workers::default(),
        journal: Journal::default(),
    }
}

/// Returns a virtual machine that has been connected for an hour and `id` minutes.
pub(crate) fn client(id: u32, name: &str) -> Client {
    Client {
        id: id.into(),
        process: Process {
            pid: 1000 + id.cast_signed(),
            uid: 107,
            name: name.to_owned(),
            vm: Some(Vm {
                name: name.to_owned(),
                uuid: None,
                manager: "libvirt".to_owned(),
            }),
            unit: Some(format!("vm-{id}.scope")),
        },
        connected_us: NOW - (60 + u64::from(id)) * MINUTE,
        commands: 7,
        command: None,
    }
}

/// Returns a disk without registrations.
pub(crate) fn disk(device: &str, wwn: Option<&str>, node: &str) -> Disk {
    Disk {
        device: device.to_owned(),
        wwn: wwn.map(str::to_owned),
        nodes: vec![node.to_owned()],
        kind: "disk".to_owned(),
        ..Disk::default()
    }
}

/// Returns a registration of a connected client.
pub(crate) fn registration(key: &str, client: &str) -> Registration {
    Registration {
        key: key.to_owned(),
        client: client.to_owned(),
        is_connected: true,
        time_us: NOW - MINUTE,
    }
}

/// Returns paths with these names and registrations.
pub(crate) fn paths(registrations: &[(&str, PathRegistration)]) -> Vec<Path> {
    let paths = registrations.iter().map(|(node, registration)| Path {
        node: (*node).to_owned(),
        device: "8:0".to_owned(),
        registration: *registration,
        since_us: NOW - MINUTE,
    });
    paths.collect()
}

/// Returns a reservation.
pub(crate) fn reservation(key: &str, client: &str) -> Reservation {
    Reservation {
        key: key.to_owned(),
        r#type: "Write Exclusive - Registrants Only".to_owned(),
        client: client.to_owned(),
        time_us: NOW - MINUTE,
    }
}

/// Returns the record of a change this many seconds after [`NOW`].
pub(crate) fn record(second: u64, client: &str, action: &str) -> Record {
    Record {
        sequence: second,
        helper: 100,
        time_us: NOW + second * 1_000_000,
        event: Event::Change,
        client_id: 1,
        pid: 1001,
        client: client.to_owned(),
        uuid: None,
        device: "8:0".to_owned(),
        wwn: Some("naa.6001405".to_owned()),
        node: Some("sda".to_owned()),
        action: action.to_owned(),
        key: None,
        service_action_key: None,
        r#type: None,
        status: "GOOD".to_owned(),
        sense: None,
        duration_us: 1500,
        previous_key: None,
        before: KnownReservations::default(),
        after: KnownReservations::default(),
        other: None,
    }
}

/// Returns commands with these durations in microseconds.
pub(crate) fn statistics(
    client: &str,
    device: &str,
    result: &str,
    durations: &[u64],
) -> Statistics {
    let mut buckets = vec![0; BUCKETS];
    for duration in durations {
        let bucket = BUCKET_BOUNDS_US.partition_point(|bound| bound < duration);
        buckets[bucket] += 1;
    }
    Statistics {
        client: client.to_owned(),
        device: device.to_owned(),
        action: "RESERVE".to_owned(),
        result: result.to_owned(),
        count: durations.len().try_into().unwrap(),
        total_us: durations.iter().sum(),
        max_us: durations.iter().copied().max().unwrap_or_default(),
        buckets,
    }
}

/// Returns the text of a result without styles.
pub(crate) fn plain_text(result: &impl ToText) -> String {
    anstream::adapter::strip_str(&result.to_text()).to_string()
}

/// Panics unless docs/prhctl.md names each member of the JSON document of a result.
#[track_caller]
pub(crate) fn check_members(result: &impl ToJson) {
    let document = include_str!("../../../docs/prhctl.md");
    let (_, section) = document.split_once("\n## JSON\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut pending = vec![result.to_json()];
    let mut count = 0;
    while let Some(json) = pending.pop() {
        match json {
            Json::Array(values) => pending.extend(values),
            Json::Object(members) => {
                for (name, value) in members {
                    assert!(section.contains(&format!("`{name}`")), "{name}");
                    pending.push(value);
                    count += 1;
                }
            }
            _ => {}
        }
    }
    assert!(count > 5, "{count}");
}

/// Returns the states of helpers with the process IDs 100, 101, and so on.
pub(crate) fn states(documents: impl IntoIterator<Item = StateDocument>) -> HelperStates {
    let documents = documents.into_iter().zip(100..);
    let states = documents.map(|(document, pid)| HelperState {
        process: HelperProcess {
            pid,
            dir: PathBuf::new(),
            sockets: Vec::new(),
            state_socket: None,
        },
        state: Ok(document),
    });
    HelperStates(states.collect())
}
