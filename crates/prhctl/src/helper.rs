// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connection to the helper: opens a device, and sends commands for it.
//!
//! A unit attention replaces the response to a command once; the command was not executed. A query
//! is therefore sent again. A change is sent again only if the unit attention does not concern
//! reservations and the device is still the same: a fenced node must not register again just
//! because prhctl repeats its command. Queries that precede a change follow the same rule.
//!
//! Helpers report BUSY also when a host adapter or a driver gave up a command that may have reached
//! the device, so a change is never sent again after BUSY.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use pr_helper_protocol::client::ClientError;
use pr_helper_protocol::wire::{MAX_TRANSFER, pad_cdb};
use pr_helper_protocol::{Client, Direction, Response};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::geteuid;
use scsi_pr::{
    AdditionalSense, Cdb, FullStatusDescriptor, InServiceAction, OutServiceAction,
    ParameterDataError, ParameterList, PersistentReserveIn, PersistentReserveOut, ScopeType, Sense,
    SenseKey, Status, Truncatable,
};

use crate::block_device::{BlockDevice, Part};
use crate::console::Console;
use crate::error::{Error, Failure, ForeignListener, Rejection};
use crate::own_registration;
use crate::scsi_path::Owner;

/// Number of unit attentions after which a command is not sent again. Devices queue a few kinds,
/// each once.
const MAX_UNIT_ATTENTIONS: usize = 16;
/// Number of times that a query is sent again after BUSY or TASK SET FULL.
const MAX_BUSY_RETRIES: usize = 5;
const BUSY_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Time without a response after which a note is printed.
const SLOW_NOTICE_DELAY: Duration = Duration::from_secs(5);

/// First allocation length of a query: room for 127 keys, or 21 registrations with short names.
const FIRST_ALLOCATION: u16 = 1024;
/// The largest allocation length that the protocol carries.
const MAX_ALLOCATION: u16 = 8192;
const _: () = assert!(MAX_ALLOCATION as usize == MAX_TRANSFER);

/// The result of a subcommand for a device.
#[derive(Debug)]
pub(crate) struct DeviceResult<T> {
    /// The device, as the command line names it.
    pub(crate) device: PathBuf,
    /// The maps or disks that the device is a part of.
    pub(crate) part: Option<Part>,
    /// The unit attentions that were received while the subcommand ran.
    pub(crate) unit_attentions: Vec<Sense>,
    pub(crate) value: T,
}

/// The reason for the choice of the helper's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketChoice {
    /// The command line names it, or it is the default socket and exists.
    Named,
    /// A search has found this helper.
    Found,
    /// A search has found no helper. This is the default socket, which does not exist.
    NoneFound,
}

/// Options of a connection to the helper.
#[derive(Debug)]
pub(crate) struct HelperOptions {
    pub(crate) socket: PathBuf,
    pub(crate) choice: SocketChoice,
    /// Time limit for each response.
    pub(crate) timeout: Option<Duration>,
    /// Print the bytes that are sent and received.
    pub(crate) is_verbose: bool,
    pub(crate) console: Console,
}

/// A connection to the helper, and the open device that its commands are for.
#[derive(Debug)]
pub(crate) struct HelperConnection<'a> {
    client: Client,
    path: &'a Path,
    device: OwnedFd,
    /// The device in sysfs; `None` for a file that is not a block device.
    block_device: Option<BlockDevice>,
    part: Option<Part>,
    /// `Out` until the change was sent; `In` afterwards, and for queries.
    intent: Direction,
    console: Console,
    is_verbose: bool,
    unit_attentions: Vec<Sense>,
}

impl<'a> HelperConnection<'a> {
    /// Opens the device and connects to the helper. `intent` is `Out` if the device will be
    /// changed.
    pub(crate) fn open(
        options: &HelperOptions,
        path: &'a Path,
        intent: Direction,
    ) -> Result<Self, Failure> {
        let console = options.console;
        let failure = |error: Error, part: Option<Part>| Failure {
            device: Some(path.to_owned()),
            part,
            ..error.into()
        };
        let device = open_device(path, intent).map_err(|error| failure(error, None))?;
        let block_device = BlockDevice::from_fd(&device);
        let part = block_device.as_ref().and_then(BlockDevice::part);
        if let Some(part) = &part {
            console.note(&format!("{}: {}", path.display(), part.note()));
        }
        let client = connect(options, path).map_err(|error| failure(error, part.clone()))?;
        Ok(HelperConnection {
            client,
            path,
            device,
            block_device,
            part,
            intent,
            console,
            is_verbose: options.is_verbose,
            unit_attentions: Vec::new(),
        })
    }

    /// Adds the device and the received unit attentions to the result of a subcommand.
    pub(crate) fn finish<T>(self, result: Result<T, Error>) -> Result<DeviceResult<T>, Failure> {
        let device = self.path.to_owned();
        match result {
            Ok(value) => Ok(DeviceResult {
                device,
                part: self.part,
                unit_attentions: self.unit_attentions,
                value,
            }),
            Err(error) => Err(Failure {
                error: Box::new(error),
                device: Some(device),
                part: self.part,
                unit_attentions: self.unit_attentions,
            }),
        }
    }

    /// Returns the path of the device.
    pub(crate) const fn path(&self) -> &Path {
        self.path
    }

    /// Returns the open device.
    pub(crate) const fn device(&self) -> &OwnedFd {
        &self.device
    }

    /// Returns the device in sysfs; `None` for a file that is not a block device.
    pub(crate) const fn block_device(&self) -> Option<&BlockDevice> {
        self.block_device.as_ref()
    }

    /// Returns the multipath map, if the device is one.
    pub(crate) fn multipath_map(&self) -> Option<&BlockDevice> {
        let device = self.block_device.as_ref();
        device.filter(|device| device.is_multipath_map())
    }

    /// Returns the owner of each of these registrations of the device.
    pub(crate) fn owners(&self, registrations: &[FullStatusDescriptor]) -> Vec<Owner> {
        own_registration::owners(self.path, self.block_device.as_ref(), registrations)
    }

    /// Prints a note about the device to standard error.
    pub(crate) fn note(&self, text: &str) {
        self.console
            .note(&format!("{}: {text}", self.path.display()));
    }

    /// Announces that another change follows: until it is sent, a unit attention about reservations
    /// is an error.
    pub(crate) const fn expect_change(&mut self) {
        self.intent = Direction::Out;
    }

    /// Queries data of a fixed length.
    pub(crate) fn query_fixed<T>(
        &mut self,
        action: InServiceAction,
        decode: impl Fn(&[u8]) -> Result<T, ParameterDataError>,
    ) -> Result<T, Error> {
        let data = self.reserve_in(action, FIRST_ALLOCATION)?;
        decode(&data).map_err(|source| self.malformed(action, source))
    }

    /// Queries a list. Repeats the query with a larger allocation length if the previous one has
    /// truncated the list.
    pub(crate) fn query_list<T>(
        &mut self,
        action: InServiceAction,
        decode: impl Fn(&[u8]) -> Result<Truncatable<T>, ParameterDataError>,
    ) -> Result<Truncatable<T>, Error> {
        let mut allocation = FIRST_ALLOCATION;
        loop {
            let data = self.reserve_in(action, allocation)?;
            let list = decode(&data).map_err(|source| self.malformed(action, source))?;
            // The allocation length grows up to its maximum, so the loop ends.
            match next_allocation(allocation, data.len().saturating_add(list.missing)) {
                Some(larger) if !list.is_complete() => allocation = larger,
                _ => return Ok(list),
            }
        }
    }

    fn malformed(&self, action: InServiceAction, source: ParameterDataError) -> Error {
        Error::Malformed {
            device: self.path.to_owned(),
            action,
            source,
        }
    }

    /// Sends PERSISTENT RESERVE IN and returns the parameter data.
    fn reserve_in(
        &mut self,
        service_action: InServiceAction,
        allocation_length: u16,
    ) -> Result<Vec<u8>, Error> {
        let command = PersistentReserveIn {
            service_action,
            allocation_length,
            control: 0,
        };
        Ok(self.execute(command.into(), &[])?.data)
    }

    /// Sends PERSISTENT RESERVE OUT.
    pub(crate) fn reserve_out(
        &mut self,
        service_action: OutServiceAction,
        scope_type: ScopeType,
        parameter_list: &ParameterList,
    ) -> Result<(), Error> {
        let bytes = parameter_list.encode();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.len() > MAX_TRANSFER {
            return Err(Error::TooManyInitiators);
        }
        let command = PersistentReserveOut {
            service_action,
            scope_type,
            parameter_list_length: length,
            control: 0,
        };
        let result = self.execute(command.into(), &bytes);
        // Only queries follow.
        self.intent = Direction::In;
        match result {
            Ok(_) => Ok(()),
            Err(Error::Rejected(mut rejection)) => {
                rejection.parameter_list = Some(parameter_list.clone());
                Err(Error::Rejected(rejection))
            }
            Err(other) => Err(other),
        }
    }

    /// Sends a command, and again after a unit attention or BUSY where that is safe.
    fn execute(&mut self, command: Cdb, parameters: &[u8]) -> Result<Response, Error> {
        let (mut unit_attentions, mut busy) = (0, 0);
        loop {
            let response = self.exchange(command, parameters)?;
            if response.status == Status::GOOD {
                return Ok(response);
            }
            let rejection = Rejection::new(command, self.path, &response);
            if let Some(unit_attention) = rejection.unit_attention() {
                self.unit_attentions.push(unit_attention);
                unit_attentions += 1;
            }
            if succeeded_with_warning(&rejection, &response) {
                self.console
                    .note(&format!("{rejection}; the command was executed"));
                return Ok(response);
            }
            match retry(&rejection, self.intent) {
                Retry::Immediately if unit_attentions < MAX_UNIT_ATTENTIONS => {
                    self.console.note(&format!("{rejection}; retrying"));
                }
                Retry::Delayed if busy < MAX_BUSY_RETRIES => {
                    if busy == 0 {
                        self.console
                            .note(&format!("{rejection}; retrying for a second"));
                    }
                    busy += 1;
                    thread::sleep(BUSY_RETRY_DELAY);
                }
                _ => return Err(Error::Rejected(Box::new(rejection))),
            }
        }
    }

    /// Sends a command once, whatever the response.
    pub(crate) fn exchange(&mut self, command: Cdb, parameters: &[u8]) -> Result<Response, Error> {
        let (action, warning) = match command {
            Cdb::In(command) => (command.service_action.name(), ""),
            Cdb::Out(command) => (
                command.service_action.name(),
                " (an interrupted command may still be executed)",
            ),
        };
        let text = format!(
            "{}: {action}: the helper has not answered for 5 seconds; still waiting{warning}",
            self.path.display()
        );
        let device = self.block_device.clone();
        let text = move || {
            let paths = device
                .as_ref()
                .map_or_else(Vec::new, BlockDevice::unusable_paths);
            let lines = paths.iter().map(|line| format!("; {line}"));
            text + &lines.collect::<String>()
        };
        let _notice = SlowNotice::start(SLOW_NOTICE_DELAY, self.console, text);
        let cdb = pad_cdb(&command.encode());
        self.note_bytes("sent CDB", &command.encode());
        self.note_bytes("sent parameter list", parameters);
        let response = self.client.execute(cdb, self.device.as_fd(), parameters);
        let response = response.map_err(|source| Error::Exchange {
            command,
            device: self.path.to_owned(),
            source,
        })?;
        self.note_bytes("received status", &[response.status.0]);
        self.note_bytes("received data", &response.data);
        if response.status == Status::CHECK_CONDITION {
            self.note_bytes("received sense data", &response.sense);
        }
        Ok(response)
    }

    /// Prints bytes in the form that `prhctl decode` accepts, if there are any and the options ask
    /// for it.
    fn note_bytes(&self, name: &str, bytes: &[u8]) {
        if !self.is_verbose || bytes.is_empty() {
            return;
        }
        let hex: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.note(&format!("{name}: {}", hex.join(" ")));
    }
}

/// Opens a device: for reading, and for writing too if it will be changed, because helpers reject
/// PERSISTENT RESERVE OUT through a read-only descriptor.
fn open_device(path: &Path, intent: Direction) -> Result<OwnedFd, Error> {
    let access = match intent {
        Direction::In => OFlags::RDONLY,
        Direction::Out => OFlags::RDWR,
    };
    // NONBLOCK: do not wait for the other end of a FIFO, or for the medium of a drive.
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|error| Error::Open {
        path: path.to_owned(),
        access: intent,
        source: error.into(),
    })
}

fn connect(options: &HelperOptions, device: &Path) -> Result<Client, Error> {
    let (socket, console) = (options.socket.as_path(), options.console);
    let text = format!(
        "{}: the helper has not answered for 5 seconds; still waiting",
        socket.display()
    );
    let _notice = SlowNotice::start(SLOW_NOTICE_DELAY, console, || text);
    let error = |source| Error::Connect {
        socket: socket.to_owned(),
        is_none_found: options.choice == SocketChoice::NoneFound,
        source,
    };
    let stream =
        UnixStream::connect(socket).map_err(|source| error(ClientError::Connect(source)))?;
    let limited = stream.set_read_timeout(options.timeout);
    limited.map_err(|source| error(ClientError::Connect(source)))?;
    match foreign_listener(&stream, socket) {
        // The command line does not name this socket. Its directory may belong to another user.
        Some(listener) if options.choice == SocketChoice::Found => {
            return Err(Error::Listener(listener));
        }
        Some(listener) => console.note(&format!(
            "{listener}; it receives the open device {}",
            device.display()
        )),
        None => {}
    }
    Client::negotiate(stream).map_err(error)
}

/// Returns the process that listens on `socket` if it runs as neither root nor the user of this
/// process. That process might not be a helper, and it receives the open device.
fn foreign_listener(stream: &UnixStream, socket: &Path) -> Option<ForeignListener> {
    // The kernel recorded these credentials at listen(2), before the process could drop privileges.
    let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
    let own_user = geteuid().as_raw();
    (peer.uid() != 0 && peer.uid() != own_user).then(|| ForeignListener {
        socket: socket.to_owned(),
        pid: peer.pid(),
        user: peer.uid(),
        own_user,
    })
}

/// Returns the allocation length for `needed` bytes, or `None` if `used` was not too short.
fn next_allocation(used: u16, needed: usize) -> Option<u16> {
    let needed = u16::try_from(needed).unwrap_or(u16::MAX);
    Some(needed.min(MAX_ALLOCATION)).filter(|larger| *larger > used)
}

/// Prints a note once if it is not dropped within a delay. There is no timeout: the helper limits
/// the time of a command itself, and a command that was sent cannot be withdrawn.
struct SlowNotice {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl SlowNotice {
    fn start(
        delay: Duration,
        console: Console,
        text: impl FnOnce() -> String + Send + 'static,
    ) -> Self {
        let (done, receiver) = mpsc::channel::<()>();
        let thread = Builder::new().spawn(move || {
            if receiver.recv_timeout(delay) == Err(RecvTimeoutError::Timeout) {
                console.note(&text());
            }
        });
        SlowNotice {
            done: Some(done),
            // Without a thread there is no note, and the command works all the same.
            thread: thread.ok(),
        }
    }
}

impl Drop for SlowNotice {
    fn drop(&mut self) {
        // The thread sees that the channel is closed.
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns whether the command was executed and the sense data are only a warning (SPC-4, 4.5.6),
/// as `sg_persist` judges. Deferred sense data replace the command, and a query without data has
/// failed.
fn succeeded_with_warning(rejection: &Rejection, response: &Response) -> bool {
    let is_warning = rejection.sense.is_some_and(|sense| {
        matches!(sense.key, SenseKey::NoSense | SenseKey::RecoveredError) && !sense.deferred
    });
    is_warning && (matches!(rejection.command, Cdb::Out(_)) || !response.data.is_empty())
}

/// The decision whether a rejected command is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    Immediately,
    Delayed,
    Never,
}

fn retry(rejection: &Rejection, intent: Direction) -> Retry {
    let is_query = matches!(rejection.command, Cdb::In(_));
    let is_busy = matches!(rejection.status, Status::BUSY | Status::TASK_SET_FULL);
    match (rejection.unit_attention(), intent) {
        (None, _) if is_busy && is_query => Retry::Delayed,
        (None, _) => Retry::Never,
        (Some(_), Direction::In) => Retry::Immediately,
        (Some(sense), Direction::Out) if is_unrelated(sense.code) => Retry::Immediately,
        (Some(_), Direction::Out) => Retry::Never,
    }
}

/// Returns whether a unit attention is known not to concern reservations. All others may: PREEMPT
/// AND ABORT can be reported as COMMANDS CLEARED (2Fh), vendors have codes of their own, and after
/// a change of medium, inquiry data or LUNs (28h, 3Fh) the device may be another one.
pub(crate) const fn is_unrelated(code: AdditionalSense) -> bool {
    match code.asc {
        // Power on, reset, nexus loss.
        0x29 => true,
        // Mode parameters, log parameters, access state, priority, capacity.
        0x2a => matches!(code.ascq, 0x01 | 0x02 | 0x06 | 0x07 | 0x08 | 0x09),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
