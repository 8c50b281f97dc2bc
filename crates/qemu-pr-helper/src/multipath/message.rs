// SPDX-License-Identifier: MIT OR Apache-2.0

//! Messages between the helper and a worker: requests and replies, each a message of a
//! `SOCK_SEQPACKET` socket. Numbers are big-endian.
//!
//! | request, with the map's descriptor | bytes |
//! |---|---|
//! | deadline in milliseconds of `CLOCK_MONOTONIC` | 8 |
//! | 1 if the report is to contain the trace, else 0 | 1 |
//! | version of multipathd; zero to ask for it | 3 |
//! | CDB | 16 |
//! | parameter list | the rest |
//!
//! | request to forget a key or to check paths, without a descriptor | bytes |
//! |---|---|
//! | deadline | 8 |
//! | 1 if the reply is to contain the trace, else 0 | 1 |
//! | major and minor number of the map | 4 each |
//! | to check paths, `c` and the numbers of the registered paths, separated by spaces | the rest |
//!
//! The reply is a report. If a key is to be forgotten, its data is the key, 8 bytes, or empty if
//! the key is not removed.
//!
//! | report | bytes |
//! |---|---|
//! | status | 1 |
//! | sense | 96 |
//! | version of multipathd, or zero | 3 |
//! | length of the data | 2 |
//! | data | as the length says |
//! | registrations of paths; warnings; the trace: lines, separated by zero bytes | the rest |
//!
//! If the device is a device-mapper device other than a multipath map, the worker replies with the
//! kind of the device instead:
//!
//! | kind | bytes |
//! |---|---|
//! | `s` for a whole disk, `p` for a part of one, `m` for a device on a multipath map | 1 |
//! | major and minor number of the map for `m`, else zero | 4 each |
//!
//! If the broker does not start a worker, it replies with a zero byte.
//!
//! The worker is privileged: it treats the request as untrusted input, as the helper treats the
//! bytes of a guest.

use helper_state::PathRegistration;
use pr_helper_protocol::wire::{CDB_SIZE, MAX_TRANSFER, SENSE_SIZE};
use pr_helper_protocol::{Command, Direction};
use scsi_pr::Status;

use super::deadline::Deadline;
use super::version::MultipathdVersion;
use crate::command::device::{DeviceId, DeviceKind};
use crate::command::executor::CommandResult;

/// Length of a version in bytes.
const VERSION_LEN: usize = 3;

/// Maximum length of a request in bytes.
pub(super) const MAX_REQUEST_LEN: usize =
    size_of::<u64>() + 1 + VERSION_LEN + CDB_SIZE + MAX_TRANSFER;

/// Maximum length of a reply in bytes. A longer report is truncated.
pub const MAX_REPLY_LEN: usize = 32 * 1024;

/// Reply of the broker if it does not start a worker. A report is longer.
pub(super) const NOT_STARTED: [u8; 1] = [0];

/// First byte of the action of a request to check paths.
const CHECK_PATHS: &str = "c";

/// Length in bytes of a reply with the kind of a device. A report is longer.
const KIND_REPLY_LEN: usize = 9;

/// Request to execute a command on a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRequest {
    /// Time after which the command must not be executed anymore.
    pub deadline: Deadline,
    /// True if the report is to contain the trace.
    pub is_traced: bool,
    /// Version of multipathd. If it is not known, the report on PERSISTENT RESERVE OUT is to
    /// contain it.
    pub multipathd: Option<MultipathdVersion>,
    /// The command.
    pub command: Command,
    /// The parameter list of the command; empty unless it is PERSISTENT RESERVE OUT.
    pub parameter_list: Vec<u8>,
}

impl WorkerRequest {
    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        [
            self.deadline.0.to_be_bytes().as_slice(),
            &[u8::from(self.is_traced)],
            &encode_version(self.multipathd),
            self.command.cdb().as_slice(),
            &self.parameter_list,
        ]
        .concat()
    }

    /// Decodes a request; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (deadline, rest) = bytes.split_first_chunk()?;
        let ([is_traced], rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (cdb, parameter_list) = rest.split_first_chunk::<CDB_SIZE>()?;
        let command = Command::new(*cdb).ok()?;
        let expected = match command.direction() {
            Direction::In => 0,
            Direction::Out => command.transfer_length(),
        };
        (parameter_list.len() == expected).then(|| Self {
            deadline: Deadline(u64::from_be_bytes(*deadline)),
            is_traced: *is_traced != 0,
            multipathd: decode_version(*version),
            command,
            parameter_list: parameter_list.to_owned(),
        })
    }
}

fn encode_version(version: Option<MultipathdVersion>) -> [u8; VERSION_LEN] {
    version.map_or([0; VERSION_LEN], |version| version.0)
}

fn decode_version(bytes: [u8; VERSION_LEN]) -> Option<MultipathdVersion> {
    (bytes != [0; VERSION_LEN]).then_some(MultipathdVersion(bytes))
}

/// Request about a map that no client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Time after which nothing must be changed anymore.
    pub deadline: Deadline,
    /// True if the report is to contain the trace.
    pub is_traced: bool,
    /// Major and minor number of the map.
    pub map: (u32, u32),
    /// Action to execute.
    pub action: MapAction,
}

/// Action of a [`MapRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapAction {
    /// Remove the key of the map from multipathd, if no path is registered with it.
    ForgetKey,
    /// Check whether the paths are registered, except those with these device numbers.
    CheckPaths(Vec<String>),
}

impl MapRequest {
    /// Encodes the request.
    pub fn encode(&self) -> Vec<u8> {
        let (major, minor) = self.map;
        let action = match &self.action {
            MapAction::ForgetKey => Vec::new(),
            MapAction::CheckPaths(registered) => {
                let text = CHECK_PATHS.to_owned() + &registered.join(" ");
                text.into_bytes()
            }
        };
        [
            self.deadline.0.to_be_bytes().as_slice(),
            &[u8::from(self.is_traced)],
            &major.to_be_bytes(),
            &minor.to_be_bytes(),
            &action,
        ]
        .concat()
    }

    /// Decodes a request; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (deadline, rest) = bytes.split_first_chunk()?;
        let ([is_traced], rest) = rest.split_first_chunk()?;
        let (major, rest) = rest.split_first_chunk()?;
        let (minor, rest) = rest.split_first_chunk()?;
        let action = match str::from_utf8(rest).ok()? {
            "" => MapAction::ForgetKey,
            text => {
                let numbers = text.strip_prefix(CHECK_PATHS)?.split(' ');
                let numbers = numbers.filter(|number| !number.is_empty());
                MapAction::CheckPaths(numbers.map(str::to_owned).collect())
            }
        };
        Some(Self {
            deadline: Deadline(u64::from_be_bytes(*deadline)),
            is_traced: *is_traced != 0,
            map: (u32::from_be_bytes(*major), u32::from_be_bytes(*minor)),
            action,
        })
    }
}

/// Path of a map in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// Name of the device, such as `sda`.
    pub name: String,
    /// Device number.
    pub number: String,
    /// Registration of the path.
    pub registration: PathRegistration,
}

impl PathReport {
    fn encode(&self) -> String {
        let code = match self.registration {
            PathRegistration::Registered => 'r',
            PathRegistration::NotRegistered => 'n',
            PathRegistration::Unknown => 'u',
        };
        format!("{code} {} {}", self.number, self.name)
    }

    fn decode(line: &str) -> Option<Self> {
        let (code, rest) = line.split_once(' ')?;
        let (number, name) = rest.split_once(' ')?;
        let registration = match code {
            "r" => PathRegistration::Registered,
            "n" => PathRegistration::NotRegistered,
            "u" => PathRegistration::Unknown,
            _ => return None,
        };
        Some(Self {
            name: name.to_owned(),
            number: number.to_owned(),
            registration,
        })
    }
}

/// Report of a worker on a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandReport {
    /// Result for the guest. Its `data_len` is the length of `data`.
    pub result: CommandResult,
    /// Version of multipathd, if the request asks for it and multipathd has answered.
    pub multipathd: Option<MultipathdVersion>,
    /// Data from the logical unit.
    pub data: Vec<u8>,
    /// The paths of the map, if the request shows their registrations.
    pub paths: Vec<PathReport>,
    /// Warnings for the log.
    pub warnings: Vec<String>,
    /// Lines of the trace, if the request asks for them.
    pub trace: Vec<String>,
}

impl CommandReport {
    /// Creates a report without data, warnings and trace.
    pub const fn from_result(result: CommandResult) -> Self {
        Self {
            result,
            multipathd: None,
            data: Vec::new(),
            paths: Vec::new(),
            warnings: Vec::new(),
            trace: Vec::new(),
        }
    }

    /// Encodes the report, truncated to [`MAX_REPLY_LEN`].
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.data.len()).unwrap_or(u16::MAX);
        let mut bytes = vec![self.result.status.0];
        bytes.extend(self.result.sense);
        bytes.extend(encode_version(self.multipathd));
        bytes.extend(length.to_be_bytes());
        bytes.extend(self.data.iter().take(length.into()));
        let paths: Vec<_> = self.paths.iter().map(PathReport::encode).collect();
        bytes.extend(paths.join("\n").bytes());
        bytes.push(0);
        bytes.extend(self.warnings.join("\n").bytes());
        bytes.push(0);
        for line in &self.trace {
            bytes.extend(line.bytes());
            bytes.push(b'\n');
        }
        bytes.truncate(MAX_REPLY_LEN);
        bytes
    }

    /// Decodes a report; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let ([status], rest) = bytes.split_first_chunk()?;
        let (sense, rest) = rest.split_first_chunk::<SENSE_SIZE>()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u16::from_be_bytes(*length).into();
        let (data, rest) = rest.split_at_checked(length)?;
        let text = String::from_utf8_lossy(rest);
        let (paths, rest) = text.split_once('\0').unwrap_or((&text, ""));
        let (warnings, trace) = rest.split_once('\0').unwrap_or((rest, ""));
        Some(Self {
            result: CommandResult {
                status: Status(*status),
                sense: *sense,
                data_len: length,
            },
            multipathd: decode_version(*version),
            data: data.to_owned(),
            paths: paths.lines().filter_map(PathReport::decode).collect(),
            warnings: warnings.lines().map(str::to_owned).collect(),
            trace: trace.lines().map(str::to_owned).collect(),
        })
    }
}

/// Reply of a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WorkerReply {
    /// The command was executed or rejected.
    Report(CommandReport),
    /// The device is not a multipath map, and the worker has done nothing. The kind is
    /// [`DeviceKind::Passthrough`], [`DeviceKind::Partition`] or [`DeviceKind::OnMultipath`].
    NotMultipath(DeviceKind),
}

impl WorkerReply {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (code, major, minor): (u8, u32, u32) = match self {
            Self::Report(report) => return report.encode(),
            Self::NotMultipath(DeviceKind::Passthrough) => (b's', 0, 0),
            Self::NotMultipath(DeviceKind::Partition) => (b'p', 0, 0),
            Self::NotMultipath(DeviceKind::OnMultipath(DeviceId::Block(major, minor))) => {
                (b'm', *major, *minor)
            }
            // A worker does not send other kinds; decoding rejects them.
            Self::NotMultipath(_) => (b'?', 0, 0),
        };
        [&[code][..], &major.to_be_bytes(), &minor.to_be_bytes()].concat()
    }

    /// Decodes a reply; `None` if it is malformed.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let Ok([code, a, b, c, d, e, f, g, h]) = <[u8; KIND_REPLY_LEN]>::try_from(bytes) else {
            return CommandReport::decode(bytes).map(Self::Report);
        };
        let major = u32::from_be_bytes([a, b, c, d]);
        let minor = u32::from_be_bytes([e, f, g, h]);
        let kind = match (code, major, minor) {
            (b's', 0, 0) => DeviceKind::Passthrough,
            (b'p', 0, 0) => DeviceKind::Partition,
            (b'm', major, minor) => DeviceKind::OnMultipath(DeviceId::Block(major, minor)),
            _ => return None,
        };
        Some(Self::NotMultipath(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::wire::pad_cdb;
    use scsi_pr::{AdditionalSense, SenseKey};

    #[test]
    fn request_and_report_round_trip() {
        let command = Command::new(pad_cdb(&[0x5f, 0, 0, 0, 0, 0, 0, 0, 3, 0])).unwrap();
        let deadline = Deadline(1500);
        let version = Some(MultipathdVersion([0, 9, 4]));
        for (is_traced, multipathd) in [(false, version), (true, None)] {
            let request = WorkerRequest {
                deadline,
                is_traced,
                multipathd,
                command,
                parameter_list: vec![1, 2, 3],
            };
            assert_eq!(WorkerRequest::decode(&request.encode()), Some(request));
        }

        let key = SenseKey::IllegalRequest;
        let mut result = CommandResult::check_condition(key, AdditionalSense::INVALID_FIELD_IN_CDB);
        result.data_len = 2;
        let report = CommandReport {
            result,
            multipathd: version,
            data: vec![8, 9],
            paths: vec![
                path("sda", "8:0", PathRegistration::Registered),
                path("sdb", "8:16", PathRegistration::NotRegistered),
                path("sdc", "8:32", PathRegistration::Unknown),
            ],
            warnings: vec!["one".to_owned(), "two".to_owned()],
            trace: vec!["multipathd\ta\tb\t1".to_owned()],
        };
        assert_eq!(CommandReport::decode(&report.encode()), Some(report));
        let report = CommandReport::from_result(CommandResult::from_status(Status::GOOD));
        assert_eq!(CommandReport::decode(&report.encode()), Some(report));
    }

    fn path(name: &str, number: &str, registration: PathRegistration) -> PathReport {
        PathReport {
            name: name.to_owned(),
            number: number.to_owned(),
            registration,
        }
    }

    #[test]
    fn map_request_round_trips() {
        let numbers = |numbers: &[&str]| numbers.iter().map(|one| (*one).to_owned()).collect();
        for (is_traced, action) in [
            (false, MapAction::ForgetKey),
            (true, MapAction::CheckPaths(Vec::new())),
            (true, MapAction::CheckPaths(numbers(&["8:0", "65:16"]))),
        ] {
            let request = MapRequest {
                deadline: Deadline(1500),
                is_traced,
                map: (253, 70_000),
                action,
            };
            let bytes = request.encode();
            assert_eq!(MapRequest::decode(&bytes), Some(request));
            assert_eq!(MapRequest::decode(&bytes[..16]), None);
        }
        assert_eq!(MapRequest::decode(&[0; 18]), None);
    }

    #[test]
    fn replies_round_trip() {
        let map = DeviceKind::OnMultipath(DeviceId::Block(253, 70_000));
        for kind in [DeviceKind::Passthrough, DeviceKind::Partition, map] {
            let reply = WorkerReply::NotMultipath(kind);
            assert_eq!(WorkerReply::decode(&reply.encode()), Some(reply));
        }
        let report = CommandReport::from_result(CommandResult::from_status(Status::GOOD));
        let reply = WorkerReply::Report(report);
        assert_eq!(WorkerReply::decode(&reply.encode()), Some(reply));
        for bytes in [
            &[b'x', 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[b's', 0, 0, 0, 0, 0, 0, 0, 1],
        ] {
            assert_eq!(WorkerReply::decode(bytes), None);
        }
    }

    #[test]
    fn malformed_messages_are_rejected() {
        let cdb = |opcode| pad_cdb(&[opcode, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
        for bytes in [
            &[][..],
            &[0x5f; 15],
            // A parameter list that is too short, one that is too long, one for a READ.
            &[cdb(0x5f).as_slice(), &[0; 2]].concat(),
            &[cdb(0x5f).as_slice(), &[0; 4]].concat(),
            &[cdb(0x5e).as_slice(), &[0; 3]].concat(),
            &cdb(0x2a),
        ] {
            assert_eq!(WorkerRequest::decode(&[&[0; 12], bytes].concat()), None);
        }
        assert_eq!(WorkerRequest::decode(&[0; 7]), None);
        let result = CommandResult::from_status(Status::GOOD);
        let report = CommandReport::from_result(result).encode();
        assert_eq!(CommandReport::decode(&report[..101]), None);
        assert_eq!(CommandReport::decode(&NOT_STARTED), None);
        let mut longer = report;
        longer[101] = 3;
        assert_eq!(CommandReport::decode(&longer), None);
    }
}
