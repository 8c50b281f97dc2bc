// SPDX-License-Identifier: MIT OR Apache-2.0

//! The journals of the helpers, merged by time, and the text of their records.

use helper_state::{Event, Record};

use crate::known_disks::{KnownDisk, known_disks};
use crate::state::{HelperStates, StateError};

/// A record of a helper with this process ID.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HelperRecord<'a> {
    pub(crate) helper: u32,
    pub(crate) record: &'a Record,
    /// The other client of the record. For a victim that the helper does not know, this is the
    /// client that registered the key before, through any helper.
    pub(crate) other: Option<&'a str>,
}

/// Returns the records of all helpers, oldest first.
pub(crate) fn records(states: &HelperStates) -> Vec<HelperRecord<'_>> {
    let mut records: Vec<_> = states
        .documents()
        .flat_map(|(process, state)| {
            let records = state.journal.records.iter();
            let helper = process.pid;
            records.map(move |record| HelperRecord {
                helper,
                record,
                other: record.other.as_deref(),
            })
        })
        .collect();
    records.sort_by_key(|one| (one.record.time_us, one.helper, one.record.sequence));
    for index in 0..records.len() {
        let (before, rest) = records.split_at_mut(index);
        if let Some(one) = rest.first_mut().filter(|one| one.other.is_none()) {
            one.other = victim(one.record, before);
        }
    }
    records
}

/// Returns whether the command of a record changed the disk. A rejected one did not.
fn has_changed(record: &Record) -> bool {
    record.event == Event::Change && record.status == "GOOD"
}

/// Returns the owner of the registration that a record removed, from the records before it.
fn victim<'a>(record: &Record, before: &[HelperRecord<'a>]) -> Option<&'a str> {
    let key = record.service_action_key.as_deref();
    let is_preemption = record.action.starts_with("PREEMPT") && has_changed(record);
    let wwn = record.wwn.as_deref().filter(|_| is_preemption)?;
    let before = before.iter().rev().map(|one| one.record);
    let mut others = before.filter(|one| one.wwn.as_deref() == Some(wwn));
    let last = others.find(|one| {
        let is_registration = one.action.starts_with("REGISTER") && has_changed(one);
        let keys = [&one.service_action_key, &one.previous_key];
        is_registration && keys.into_iter().any(|one| one.as_deref() == key)
    })?;
    let is_registered = last.service_action_key.as_deref() == key && last.client != record.client;
    is_registered.then_some(last.client.as_str())
}

/// The records that a timeline shows.
#[derive(Debug)]
pub(crate) enum Selection<'a> {
    All,
    Disk(KnownDisk<'a>),
    /// The client with this name, or the machine with this UUID.
    Client(&'a str),
}

impl<'a> Selection<'a> {
    /// Returns the selection for the name of a disk or a client.
    pub(crate) fn new(states: &'a HelperStates, name: Option<&'a str>) -> Result<Self, StateError> {
        let Some(name) = name else {
            return Ok(Selection::All);
        };
        let disks = known_disks(states).into_iter();
        if let Some(disk) = disks.into_iter().find(|disk| disk.is_called(name)) {
            return Ok(Selection::Disk(disk));
        }
        let mut clients = states.documents().flat_map(|(_, state)| &state.clients);
        let is_client = clients.any(|client| {
            let vm = client.process.vm.as_ref();
            client.process.name == name || vm.is_some_and(|vm| vm.uuid.as_deref() == Some(name))
        });
        let selection = Selection::Client(name);
        let is_known = is_client || records(states).iter().any(|one| selection.has(one));
        match is_known {
            true => Ok(selection),
            false => Err(StateError::UnknownName(name.to_owned())),
        }
    }

    /// Returns whether the timeline shows a record.
    pub(crate) fn has(&self, one: &HelperRecord<'_>) -> bool {
        let record = one.record;
        match self {
            Selection::All => true,
            Selection::Disk(disk) => match disk.wwn {
                Some(wwn) => record.wwn.as_deref() == Some(wwn),
                None => disk
                    .devices
                    .iter()
                    .any(|(_, disk)| disk.device == record.device),
            },
            Selection::Client(_) => self.is_actor(record) || self.is_victim(one),
        }
    }

    fn is_actor(&self, record: &Record) -> bool {
        match self {
            Selection::Client(name) => {
                record.client == *name || record.uuid.as_deref() == Some(*name)
            }
            _ => true,
        }
    }

    /// Returns whether the timeline is that of a client to which the record's client did something.
    pub(crate) fn is_victim(&self, one: &HelperRecord<'_>) -> bool {
        match self {
            Selection::Client(name) => !self.is_actor(one.record) && one.other == Some(*name),
            _ => false,
        }
    }
}

/// Returns the verb for a record that removed the registration of another client.
fn removal<'a>(one: &HelperRecord<'a>) -> Option<(&'static str, &'a str)> {
    let (record, other) = (one.record, one.other?);
    let verb = match record.action.as_str() {
        _ if !has_changed(record) => return None,
        "PREEMPT" | "PREEMPT AND ABORT" => "preempted",
        "CLEAR" => "cleared",
        _ => return None,
    };
    Some((verb, other))
}

/// Returns what a record means for another client, as its own client sees it.
pub(crate) fn effect(one: &HelperRecord<'_>) -> Option<String> {
    match (removal(one), one.record.event, one.other) {
        (Some((verb, other)), ..) => Some(format!("{verb} {other}")),
        (None, Event::SameLun, Some(other)) => Some(format!("{other} has the disk as well")),
        _ => None,
    }
}

/// Returns what a record means for the other client, as that sees it.
pub(crate) fn effect_on_other(one: &HelperRecord<'_>) -> Option<String> {
    let client = &one.record.client;
    match (removal(one), one.record.event) {
        (Some((verb, _)), _) => Some(format!("{verb} by {client}")),
        (None, Event::SameLun) => Some(format!("{client} has the disk as well")),
        _ => None,
    }
}

/// Returns the keys of a command: the old and the new one, or the own one and the victim's.
pub(crate) fn keys(record: &Record) -> String {
    let is_key = |key: &&str| *key != "0x0";
    let key = record.key.as_deref().filter(is_key);
    let other = record.service_action_key.as_deref().filter(is_key);
    let old = record.previous_key.as_deref().filter(is_key).or(key);
    match record.action.as_str() {
        action if action.starts_with("REGISTER") => match (old, other) {
            (Some(old), Some(new)) if old != new => format!("{old} to {new}"),
            (_, Some(new)) => new.to_owned(),
            (Some(old), None) => format!("{old} removed"),
            (None, None) => "-".to_owned(),
        },
        action if action.starts_with("PREEMPT") => {
            let victim = other.unwrap_or("0x0");
            format!("{} victim {victim}", key.unwrap_or("0x0"))
        }
        _ => key.unwrap_or("-").to_owned(),
    }
}

/// Returns the node of a record's disk, or its device number.
pub(crate) fn disk(record: &Record) -> &str {
    record.node.as_deref().unwrap_or(&record.device)
}

/// Returns the result of a command with its effect on others.
pub(crate) fn result(record: &Record, effect: Option<String>) -> String {
    let result = record.sense.as_deref().unwrap_or(&record.status);
    match effect {
        Some(effect) => format!("{result}; {effect}"),
        None => result.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{document, record, states};

    #[test]
    fn records_of_helpers_are_merged_by_time() {
        let (mut first, mut second) = (document(), document());
        first.journal.records = vec![record(1, "node1", "RESERVE"), record(3, "node1", "CLEAR")];
        second.journal.records = vec![record(2, "node2", "REGISTER")];
        let states = states([first, second]);
        let found: Vec<_> = records(&states)
            .iter()
            .map(|one| (one.helper, one.record.action.as_str()))
            .collect();
        assert_eq!(found, [(100, "RESERVE"), (101, "REGISTER"), (100, "CLEAR")]);
    }

    /// libvirt starts a helper for each machine.
    #[test]
    fn victim_of_another_helper_is_named() {
        let key = |mut record: Record, previous: Option<&str>, new: &str| {
            record.previous_key = previous.map(str::to_owned);
            record.service_action_key = Some(new.to_owned());
            record
        };
        let registration = key(record(1, "node1", "REGISTER"), None, "0xa");
        let preemption = key(record(3, "node2", "PREEMPT AND ABORT"), Some("0xb"), "0xa");
        let other = |records: &[&Record]| {
            let [mut first, mut second] = [document(), document()];
            first.journal.records = records.iter().map(|&record| record.clone()).collect();
            second.journal.records = vec![preemption.clone()];
            let states = states([first, second]);
            let records = super::records(&states);
            records.last().unwrap().other.map(str::to_owned)
        };
        assert_eq!(other(&[&registration]).as_deref(), Some("node1"));
        assert_eq!(other(&[]), None);
        let changed = key(record(2, "node1", "REGISTER"), Some("0xa"), "0xc");
        assert_eq!(other(&[&registration, &changed]), None);
        let mut refused = changed;
        refused.event = Event::Conflict;
        assert_eq!(other(&[&registration, &refused]).as_deref(), Some("node1"));
        for wwn in [Some("naa.2"), None] {
            let mut elsewhere = registration.clone();
            elsewhere.wwn = wwn.map(str::to_owned);
            assert_eq!(other(&[&elsewhere]), None);
        }
    }

    #[test]
    fn keys_depend_on_the_action() {
        for (action, key, service_action_key, previous, expected) in [
            ("REGISTER", None, Some("0xa"), None, "0xa"),
            ("REGISTER", Some("0x0"), Some("0xa"), None, "0xa"),
            (
                "REGISTER",
                Some("0xa"),
                Some("0xb"),
                Some("0xa"),
                "0xa to 0xb",
            ),
            (
                "REGISTER",
                Some("0xa"),
                Some("0x0"),
                Some("0xa"),
                "0xa removed",
            ),
            (
                "REGISTER AND IGNORE EXISTING KEY",
                None,
                Some("0xb"),
                Some("0xa"),
                "0xa to 0xb",
            ),
            (
                "PREEMPT",
                Some("0xa"),
                Some("0xb"),
                Some("0xa"),
                "0xa victim 0xb",
            ),
            ("RESERVE", Some("0xa"), None, None, "0xa"),
            ("READ KEYS", None, None, None, "-"),
        ] {
            let mut record = record(1, "node1", action);
            record.key = key.map(str::to_owned);
            record.service_action_key = service_action_key.map(str::to_owned);
            record.previous_key = previous.map(str::to_owned);
            assert_eq!(keys(&record), expected, "{action}");
        }
    }

    #[test]
    fn removal_names_both_clients() {
        let effects = |record: &Record| {
            let one = HelperRecord {
                helper: 100,
                record,
                other: record.other.as_deref(),
            };
            [effect(&one), effect_on_other(&one)].map(Option::unwrap_or_default)
        };
        let mut record = record(1, "node2", "PREEMPT AND ABORT");
        assert_eq!(effects(&record), ["", ""]);
        record.other = Some("node1".to_owned());
        let expected = ["preempted node1", "preempted by node2"];
        assert_eq!(effects(&record), expected);
        record.status = "CHECK CONDITION".to_owned();
        assert_eq!(effects(&record), ["", ""]);
        record.status = "GOOD".to_owned();
        record.action = "CLEAR".to_owned();
        assert_eq!(effects(&record)[1], "cleared by node2");
        record.event = Event::Conflict;
        assert_eq!(effects(&record), ["", ""]);
        record.event = Event::SameLun;
        assert_eq!(effects(&record)[0], "node1 has the disk as well");
    }

    #[test]
    fn timeline_of_victim_has_the_preemption() {
        let mut state = document();
        let mut preemption = record(1, "node2", "PREEMPT");
        preemption.other = Some("node1".to_owned());
        state.journal.records = vec![preemption, record(2, "node3", "RESERVE")];
        let states = states([state]);
        let selection = Selection::new(&states, Some("node1")).unwrap();
        let records = records(&states);
        let shown: Vec<_> = records.iter().map(|one| selection.has(one)).collect();
        assert_eq!(shown, [true, false]);
        assert!(selection.is_victim(&records[0]));
        assert!(!Selection::All.is_victim(&records[0]));
        let error = Selection::new(&states, Some("node4")).unwrap_err();
        let expected = "node4: no disk and no client of the helpers has this name";
        assert_eq!(error.to_string(), expected);
    }
}
