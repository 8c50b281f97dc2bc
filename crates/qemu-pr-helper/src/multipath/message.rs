//! What goes between the helper and a worker: one order, one report, each a message of a socket that keeps
//! messages apart (`SOCK_SEQPACKET`).
//!
//! | order, with the map's descriptor | bytes |
//! |---|---|
//! | deadline in milliseconds of `CLOCK_MONOTONIC`, big-endian | 8 |
//! | 1 if the steps are wanted, else 0 | 1 |
//! | CDB | 16 |
//! | parameter list | the rest |
//!
//! | report | bytes |
//! |---|---|
//! | status | 1 |
//! | sense | 96 |
//! | length of the data, big-endian | 2 |
//! | data | that many |
//! | remarks, a line each; a zero byte; steps, a line each | the rest |
//!
//! The broker replies with [`REFUSED`] instead of a report if it does not start a worker. A worker
//! replies with the kind of the device if that is another device-mapper device than a multipath map:
//!
//! | kind | bytes |
//! |---|---|
//! | `s` a whole disk, `p` a part of one, `m` on a multipath map | 1 |
//! | for `m` major and minor number of the map, big-endian, else zero | 4 each |
//!
//! The worker is the one with privileges: it believes the order no more than the helper believes a guest.

use pr_helper_protocol::wire::{CDB_SIZE, MAX_TRANSFER, SENSE_SIZE};
use pr_helper_protocol::{Command, Direction};
use scsi_pr::Status;

use super::deadline::Deadline;
use super::worker_trace::Step;
use crate::command::device::{DeviceId, DeviceKind};
use crate::command::executor::CommandResult;

/// Bytes of the longest order.
pub const LONGEST_ORDER: usize = size_of::<u64>() + 1 + CDB_SIZE + MAX_TRANSFER;

/// Bytes of the longest report. What is beyond that is cut off.
pub const LONGEST_REPORT: usize = 32 * 1024;

/// Reply of the broker if it does not start a worker. A report is longer.
pub const REFUSED: [u8; 1] = [0];

/// Bytes of the reply that has the kind of a device. A report is longer.
const KIND_LEN: usize = 9;

/// What a worker is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Time after which the command must not be executed any more.
    pub deadline: Deadline,
    /// Whether the report is to have the steps.
    pub is_traced: bool,
    /// The command.
    pub command: Command,
    /// Its parameter list; empty for PERSISTENT RESERVE IN.
    pub list: Vec<u8>,
}

impl Order {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            self.deadline.as_millis().to_be_bytes().as_slice(),
            &[u8::from(self.is_traced)],
            self.command.cdb().as_slice(),
            &self.list,
        ]
        .concat()
    }

    /// Reads one; `None` if the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (deadline, rest) = bytes.split_first_chunk()?;
        let ([is_traced], rest) = rest.split_first_chunk()?;
        let (cdb, list) = rest.split_first_chunk::<CDB_SIZE>()?;
        let command = Command::new(*cdb).ok()?;
        let expected = match command.direction() {
            Direction::In => 0,
            Direction::Out => command.transfer_length(),
        };
        (list.len() == expected).then(|| Order {
            deadline: Deadline::from_millis(u64::from_be_bytes(*deadline)),
            is_traced: *is_traced != 0,
            command,
            list: list.to_owned(),
        })
    }
}

/// What a worker has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Status and sense. Its length is that of `data`.
    pub outcome: CommandResult,
    /// What the logical unit gave.
    pub data: Vec<u8>,
    /// What the operator has to know.
    pub remarks: Vec<String>,
    /// What was done, if that was asked for.
    pub steps: Vec<Step>,
}

impl Report {
    /// One without data, remarks or steps.
    #[must_use]
    pub const fn of(outcome: CommandResult) -> Self {
        Self {
            outcome,
            data: Vec::new(),
            remarks: Vec::new(),
            steps: Vec::new(),
        }
    }

    /// Its bytes, at most [`LONGEST_REPORT`] of them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.data.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![self.outcome.status.0];
        bytes.extend(self.outcome.sense);
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.data.iter().take(length.into()));
        bytes.extend(self.remarks.join("\n").bytes());
        bytes.push(0);
        for step in &self.steps {
            bytes.extend(step.encode().bytes());
            bytes.push(b'\n');
        }
        bytes.truncate(LONGEST_REPORT);
        bytes
    }

    /// Reads one; `None` if the bytes are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([status], rest) = bytes.split_first_chunk()?;
        let (sense, rest) = rest.split_first_chunk::<SENSE_SIZE>()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u16::from_be_bytes(*length).into();
        let (data, rest) = rest.split_at_checked(length)?;
        let text = String::from_utf8_lossy(rest);
        let (remarks, steps) = text.split_once('\0').unwrap_or((&text, ""));
        Some(Self {
            outcome: CommandResult {
                status: Status(*status),
                sense: *sense,
                data_len: length,
            },
            data: data.to_owned(),
            remarks: remarks.lines().map(str::to_owned).collect(),
            steps: steps.lines().filter_map(Step::decode).collect(),
        })
    }
}

/// Reply of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The command was executed, or refused.
    Report(Report),
    /// The device is no multipath map, and the worker has done nothing: [`Kind::Single`],
    /// [`Kind::Part`] or [`Kind::OnMultipath`].
    Kind(DeviceKind),
}

impl Reply {
    /// Encodes the reply.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (code, number) = match self {
            Self::Report(report) => return report.encode(),
            Self::Kind(DeviceKind::Partition) => (b'p', (0, 0)),
            Self::Kind(DeviceKind::OnMultipath(DeviceId::Block(major, minor))) => {
                (b'm', (*major, *minor))
            }
            Self::Kind(DeviceKind::Passthrough) => (b's', (0, 0)),
            // Not for a reply; decoding rejects it.
            Self::Kind(_) => (b'?', (0, 0)),
        };
        let (major, minor): (u32, u32) = number;
        [&[code][..], &major.to_be_bytes(), &minor.to_be_bytes()].concat()
    }

    /// Decodes a reply; `None` if it is malformed.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let Ok([code, a, b, c, d, e, f, g, h]) = <[u8; KIND_LEN]>::try_from(bytes) else {
            return Report::decode(bytes).map(Self::Report);
        };
        let number = (
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        );
        match (code, number) {
            (b's', (0, 0)) => Some(Self::Kind(DeviceKind::Passthrough)),
            (b'p', (0, 0)) => Some(Self::Kind(DeviceKind::Partition)),
            (b'm', (major, minor)) => {
                let map = DeviceId::Block(major, minor);
                Some(Self::Kind(DeviceKind::OnMultipath(map)))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::wire::pad_cdb;
    use scsi_pr::{AdditionalSense, SenseKey};

    #[test]
    fn what_is_encoded_is_decoded() {
        let command = Command::new(pad_cdb(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 3, 0])).unwrap();
        let deadline = Deadline::from_millis(1500);
        for is_traced in [false, true] {
            let order = Order {
                deadline,
                is_traced,
                command,
                list: vec![1, 2, 3],
            };
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }

        let key = SenseKey::IllegalRequest;
        let mut outcome =
            CommandResult::check_condition(key, AdditionalSense::INVALID_FIELD_IN_CDB);
        outcome.data_len = 2;
        let report = Report {
            outcome,
            data: vec![8, 9],
            remarks: vec!["one".to_owned(), "two".to_owned()],
            steps: vec![Step::Daemon {
                request: "a".to_owned(),
                reply: "b".to_owned(),
                microseconds: 1,
            }],
        };
        assert_eq!(Report::decode(&report.encode()), Some(report));
        let report = Report::of(CommandResult::from_status(Status::GOOD));
        assert_eq!(Report::decode(&report.encode()), Some(report));
    }

    #[test]
    fn kinds_survive_encoding_and_decoding() {
        let map = DeviceKind::OnMultipath(DeviceId::Block(253, 70_000));
        for kind in [DeviceKind::Passthrough, DeviceKind::Partition, map] {
            let reply = Reply::Kind(kind);
            assert_eq!(Reply::decode(&reply.encode()), Some(reply));
        }
        let report = Reply::Report(Report::of(CommandResult::from_status(Status::GOOD)));
        assert_eq!(Reply::decode(&report.encode()), Some(report));
        for bytes in [
            &[b'x', 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[b's', 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(Reply::decode(bytes), None);
        }
    }

    #[test]
    fn what_is_no_message_is_none() {
        let cdb = |opcode| pad_cdb(&[opcode, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        for bytes in [
            &[][..],
            &[0x5f; 15],
            // A list that is too short, one too long, one that does not belong there.
            &[cdb(0x5f).as_slice(), &[0; 2]].concat(),
            &[cdb(0x5f).as_slice(), &[0; 4]].concat(),
            &[cdb(0x5e).as_slice(), &[0; 3]].concat(),
            &cdb(0x2a),
        ] {
            assert_eq!(Order::decode(&[&[0; 9], bytes].concat()), None);
        }
        assert_eq!(Order::decode(&[0; 7]), None);
        let report = Report::of(CommandResult::from_status(Status::GOOD)).encode();
        assert_eq!(Report::decode(&report[..98]), None);
        assert_eq!(Report::decode(&REFUSED), None);
        let mut longer = report;
        longer[98] = 2;
        assert_eq!(Report::decode(&longer), None);
    }
}
