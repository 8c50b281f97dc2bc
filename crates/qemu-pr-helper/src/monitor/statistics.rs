// SPDX-License-Identifier: MIT OR Apache-2.0

//! Counts and durations of commands, by device, action and result.

use std::borrow::Cow;
use std::collections::BTreeMap;

use helper_state::{BUCKET_BOUNDS_US, BUCKETS, Statistics};
use pr_helper_protocol::Command;
use scsi_pr::{SenseKey, Status};

use crate::command::command_log;
use crate::command::device::DeviceId;
use crate::command::timestamp::Timestamp;

/// Maximum number of combinations that are counted separately for a client. A client can send
/// commands with any action to any number of devices, and each takes 170 bytes.
const MAX_CLIENT_COUNTS: usize = 64;

/// Maximum number of combinations that are counted separately after their clients have
/// disconnected.
const MAX_TOTAL_COUNTS: usize = 4096;

/// Client name of the commands that are not counted separately.
const OTHERS: &str = "(others)";

/// Device and kind of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CommandKey {
    pub(super) device: DeviceId,
    pub(super) command: CommandKind,
}

/// Operation code and second byte of a CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CommandKind([u8; 2]);

impl CommandKey {
    pub(super) fn new(command: &Command, device: DeviceId) -> Self {
        let [opcode, action, ..] = *command.cdb();
        Self {
            device,
            command: CommandKind([opcode, action]),
        }
    }
}

impl CommandKind {
    /// Returns the name of the action.
    pub(super) fn name(self) -> String {
        let [opcode, action] = self.0;
        let mut cdb = [0; 16];
        [cdb[0], cdb[1]] = [opcode, action];
        let name = Command::new(cdb).map(|command| command_log::service_action_name(&command));
        name.map_or_else(|_| format!("{opcode:#04x}"), Cow::into_owned)
    }
}

/// Result of a command: the status, and the sense key if there is sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ResultKind {
    status: u8,
    sense_key: Option<u8>,
}

impl ResultKind {
    pub(super) fn new(status: Status, sense_key: Option<SenseKey>) -> Self {
        Self {
            status: status.0,
            sense_key: sense_key.map(SenseKey::code),
        }
    }

    fn name(self) -> String {
        match self.sense_key.and_then(SenseKey::from_code) {
            Some(key) => key.to_string(),
            None => Status(self.status).to_string(),
        }
    }
}

/// Number and durations of commands.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    count: u64,
    total_us: u64,
    max_us: u64,
    buckets: [u64; BUCKETS],
}

impl Count {
    fn add(&mut self, took_us: u64) {
        let bucket = BUCKET_BOUNDS_US.partition_point(|bound| *bound < took_us);
        self.count = self.count.saturating_add(1);
        self.total_us = self.total_us.saturating_add(took_us);
        self.max_us = self.max_us.max(took_us);
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            *bucket = bucket.saturating_add(1);
        }
    }

    fn add_all(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.max_us = self.max_us.max(other.max_us);
        for (bucket, other) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket = bucket.saturating_add(other);
        }
    }
}

/// Commands of one client.
#[derive(Debug, Default)]
pub(super) struct ClientStatistics {
    /// The command in progress, with its start.
    pub(super) current: Option<(CommandKey, Timestamp)>,
    /// Number of commands that have ended.
    pub(super) commands: u64,
    /// Counts of each combination. The last one that was used is usually the next one too.
    counts: Vec<((CommandKey, ResultKind), Count)>,
    last: usize,
}

impl ClientStatistics {
    /// Counts the command in progress as ended. Returns whether the combination is new.
    pub(super) fn end(&mut self, command: CommandKey, result: ResultKind, took_us: u64) -> bool {
        let known = self.counts.len();
        self.current = None;
        self.commands = self.commands.saturating_add(1);
        let key = (command, result);
        if self
            .counts
            .get(self.last)
            .is_none_or(|(last, _)| *last != key)
        {
            self.last = self.find(key);
        }
        if let Some((_, count)) = self.counts.get_mut(self.last) {
            count.add(took_us);
        }
        self.counts.len() > known
    }

    /// Returns the index of a combination, which is added if there is room.
    fn find(&mut self, key: (CommandKey, ResultKind)) -> usize {
        let found = self.counts.iter().position(|(known, _)| *known == key);
        found.unwrap_or_else(|| {
            let (command, result) = key;
            let key = match self.counts.len() < MAX_CLIENT_COUNTS {
                true => key,
                false => (command.without_device(), result),
            };
            let found = self.counts.iter().position(|(known, _)| *known == key);
            found.unwrap_or_else(|| {
                // Most clients send few kinds of commands, and an element takes 170 bytes.
                self.counts.reserve_exact(1);
                self.counts.push((key, Count::default()));
                self.counts.len() - 1
            })
        })
    }

    /// Returns the devices of the commands.
    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> {
        let current = self.current.map(|(key, _)| key.device);
        self.counts
            .iter()
            .map(|((key, _), _)| key.device)
            .chain(current)
    }
}

impl CommandKey {
    /// Returns the key of the commands that are not counted for each device. There are at most a
    /// few hundred of these.
    fn without_device(self) -> Self {
        Self {
            device: DeviceId::Unknown,
            ..self
        }
    }
}

/// Commands of all clients, by name of the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals(BTreeMap<(String, CommandKey, ResultKind), Count>);

impl Totals {
    /// Adds the commands of a client.
    pub(super) fn add(&mut self, client: &str, statistics: &ClientStatistics) {
        for ((command, result), count) in &statistics.counts {
            let mut key = (client.to_owned(), *command, *result);
            if self.0.len() >= MAX_TOTAL_COUNTS && !self.0.contains_key(&key) {
                key = (OTHERS.to_owned(), command.without_device(), *result);
            }
            self.0.entry(key).or_default().add_all(count);
        }
    }

    /// Returns the devices of the commands.
    pub(super) fn devices(&self) -> impl Iterator<Item = DeviceId> {
        self.0.keys().map(|(_, command, _)| command.device)
    }

    /// Returns the counts in the form of the state document.
    pub(super) fn to_statistics(&self) -> Vec<Statistics> {
        let counts = self.0.iter();
        counts
            .map(|((client, command, result), count)| Statistics {
                client: client.clone(),
                device: command.device.to_string(),
                action: command.command.name(),
                result: result.name(),
                count: count.count,
                total_us: count.total_us,
                max_us: count.max_us,
                buckets: count.buckets.to_vec(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(minor: u32) -> CommandKey {
        let mut cdb = [0; 16];
        cdb[0] = 0x5e;
        CommandKey::new(&Command::new(cdb).unwrap(), DeviceId::Block(8, minor))
    }

    #[test]
    fn commands_are_counted_by_device_and_result() {
        let mut client = ClientStatistics::default();
        let good = ResultKind::new(Status::GOOD, None);
        let conflict = ResultKind::new(Status::RESERVATION_CONFLICT, None);
        client.end(key(0), good, 50);
        client.end(key(0), good, 51);
        client.end(key(16), good, 60_000_000);
        client.end(key(0), conflict, 0);
        let mut totals = Totals::default();
        totals.add("one", &client);
        totals.add("one", &client);
        let found = totals.to_statistics();
        let text = |entry: &Statistics| {
            let Statistics {
                client,
                device,
                action,
                result,
                count,
                ..
            } = entry;
            format!("{client} {device} {action} {result} {count}")
        };
        assert_eq!(
            found.iter().map(text).collect::<Vec<_>>(),
            [
                "one 8:0 READ KEYS GOOD 4",
                "one 8:0 READ KEYS RESERVATION CONFLICT 2",
                "one 8:16 READ KEYS GOOD 2",
            ]
        );
        assert_eq!(found[0].buckets[..3], [2, 2, 0]);
        assert_eq!(found[2].buckets[BUCKETS - 1], 2);
        assert_eq!((found[0].total_us, found[0].max_us), (202, 51));
    }

    #[test]
    fn number_of_combinations_is_bounded() {
        let good = ResultKind::new(Status::GOOD, None);
        let mut client = ClientStatistics::default();
        for minor in 0..1000 {
            client.end(key(minor), good, 0);
        }
        assert_eq!(client.counts.len(), MAX_CLIENT_COUNTS + 1);
        let mut totals = Totals::default();
        for name in 0..100 {
            totals.add(&name.to_string(), &client);
        }
        assert_eq!(totals.0.len(), MAX_TOTAL_COUNTS + 1);
        let sum: u64 = totals.0.values().map(|count| count.count).sum();
        assert_eq!(sum, 100 * 1000);
    }
}
