// SPDX-License-Identifier: MIT OR Apache-2.0

//! Log and trace of commands: one call before a command, and one after it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pr_helper_protocol::{Command, Direction, Request, RequestFd};
use scsi_pr::{Cdb, InServiceAction, OutServiceAction, ParameterList};

use crate::command::device::{self, DeviceId};
use crate::command::executor::CommandResult;
use crate::command::peer::Peer;
use crate::trace::{event_enabled, trace};

/// Name of CLEANUP, which has no service action.
const CLEANUP_NAME: &str = "CLEANUP";

/// Mask of the service action in a CDB's second byte.
const SERVICE_ACTION: u8 = 0x1f;

thread_local! {
    static LAST_NAME: RefCell<Option<(DeviceId, Rc<str>)>> = const { RefCell::new(None) };
}

/// A command that is being executed.
#[derive(Debug)]
pub(crate) struct CommandSpan {
    /// `None` if the duration is neither logged nor traced.
    start: Option<Instant>,
    /// Name of the device in trace events; `None` if they are disabled.
    device: Option<Rc<str>>,
}

/// Traces the start of a command.
pub(crate) fn start(peer: &Peer, request: &Request, id: DeviceId) -> CommandSpan {
    let command = &request.command;
    let is_traced = match command.direction() {
        Direction::In => event_enabled!(pr_helper_in_begin, pr_helper_in_end),
        Direction::Out => event_enabled!(pr_helper_out_begin, pr_helper_out_end),
    };
    let device = is_traced.then(|| device_name(request, id));
    match command.direction() {
        Direction::In => trace!(pr_helper_in_begin(
            peer.connection_id(),
            raw_fd(request),
            device.as_deref().unwrap_or_default(),
            &service_action_name(command),
            to_u32(command.transfer_length()),
        )),
        Direction::Out => trace!(pr_helper_out_begin(
            peer.connection_id(),
            raw_fd(request),
            device.as_deref().unwrap_or_default(),
            &service_action_name(command),
            scope_type(command),
            parameter_key(request, 0),
            parameter_key(request, 1),
            to_u32(command.transfer_length()),
        )),
    }
    let is_timed = is_traced || log::log_enabled!(log::Level::Debug);
    CommandSpan {
        start: is_timed.then(Instant::now),
        device,
    }
}

impl CommandSpan {
    /// Logs and traces the result of the command.
    pub(crate) fn end(self, peer: &Peer, request: &Request, result: &CommandResult) {
        let took = || microseconds(self.start.map(|start| start.elapsed()).unwrap_or_default());
        let command = &request.command;
        match command.direction() {
            Direction::In => trace!(pr_helper_in_end(
                peer.connection_id(),
                peer.pid,
                self.device.as_deref().unwrap_or_default(),
                &service_action_name(command),
                to_u32(result.data_len),
                result.status.0,
                packed_sense(result),
                took(),
            )),
            Direction::Out => trace!(pr_helper_out_end(
                peer.connection_id(),
                peer.pid,
                self.device.as_deref().unwrap_or_default(),
                &service_action_name(command),
                scope_type(command),
                parameter_key(request, 0),
                parameter_key(request, 1),
                result.status.0,
                packed_sense(result),
                took(),
            )),
        }
        log::debug!(
            "{peer}: {}: {} after {} us",
            describe(request),
            format_result(result),
            took()
        );
    }
}

/// Traces that the helper rejects a request.
pub(crate) fn rejected(peer: &Peer, request: &Request, reason: &str) {
    let id = || match &request.fd {
        RequestFd::Open(fd) => device::device_id(fd.as_fd()),
        RequestFd::Lost => DeviceId::Unknown,
    };
    trace!(pr_helper_request_refused(
        peer.connection_id(),
        &device_name(request, id()),
        reason
    ));
}

/// Traces that the helper rejects a request without examining the device, because that could block.
pub(crate) fn rejected_unopened(peer: &Peer, reason: &str) {
    trace!(pr_helper_request_refused(
        peer.connection_id(),
        "unseen",
        reason
    ));
}

/// Converts a duration to microseconds for trace events.
pub(crate) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Packs sense for trace events: key, additional sense code, qualifier; 0 without sense.
pub(crate) fn packed_sense(result: &CommandResult) -> u32 {
    result.decode_sense().map_or(0, |sense| {
        u32::from_be_bytes([0, sense.key.code(), sense.code.asc, sense.code.ascq])
    })
}

/// Returns the name of a command's service action, or its number if it has none; or `CLEANUP`.
pub(crate) fn service_action_name(command: &Command) -> Cow<'static, str> {
    if command.is_cleanup() {
        return CLEANUP_NAME.into();
    }
    let [_, byte, ..] = command.cdb();
    let code = byte & SERVICE_ACTION;
    let name = match command.direction() {
        Direction::In => InServiceAction::from_code(code).map(InServiceAction::name),
        Direction::Out => OutServiceAction::from_code(code).map(OutServiceAction::name),
    };
    name.map_or_else(|| format!("{code:#04x}").into(), Cow::from)
}

fn scope_type(command: &Command) -> u8 {
    let [_, _, byte, ..] = command.cdb();
    *byte
}

/// Returns one of the two keys that all parameter lists begin with (SPC-4, 6.16.3 and 6.16.4); 0 if
/// the list is shorter.
fn parameter_key(request: &Request, index: usize) -> u64 {
    let (keys, _) = request.parameters.as_chunks();
    keys.get(index).map_or(0, |key| u64::from_be_bytes(*key))
}

fn raw_fd(request: &Request) -> i32 {
    match &request.fd {
        RequestFd::Open(fd) => fd.as_raw_fd(),
        RequestFd::Lost => -1,
    }
}

/// Returns the name of a device in trace events. The last one is cached, because the next command
/// of a thread is usually for the same device.
fn device_name(request: &Request, id: DeviceId) -> Rc<str> {
    let RequestFd::Open(fd) = &request.fd else {
        return "lost".into();
    };
    let name = || Rc::from(device::name(fd.as_fd(), id));
    if matches!(id, DeviceId::File(..) | DeviceId::Unknown) {
        return name();
    }
    LAST_NAME.with_borrow_mut(|last| match last {
        Some((last, name)) if *last == id => Rc::clone(name),
        _ => Rc::clone(&last.insert((id, name())).1),
    })
}

fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn describe(request: &Request) -> String {
    let device = match &request.fd {
        RequestFd::Open(fd) => device::describe(fd.as_fd()),
        RequestFd::Lost => "lost device".into(),
    };
    if request.command.is_cleanup() {
        return format!("{device}: {CLEANUP_NAME}");
    }
    match Cdb::decode(request.command.cdb()) {
        Ok(Cdb::Out(command)) => {
            match ParameterList::decode(command.service_action, &request.parameters) {
                Ok(parameters) => format!("{device}: {command}, {parameters}"),
                Err(error) => format!("{device}: {command}, bad parameter list: {error}"),
            }
        }
        Ok(Cdb::In(command)) => format!("{device}: {command}"),
        Err(error) => format!("{device}: {error}"),
    }
}

fn format_result(result: &CommandResult) -> String {
    match result.decode_sense() {
        Some(sense) => format!("{}, {sense}", result.status),
        None => result.status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_helper_protocol::wire::{CLEANUP, pad_cdb};

    #[test]
    fn cleanup_has_a_name() {
        let request = Request {
            // The second byte would be the service action RESERVE.
            command: Command::new(pad_cdb(&[CLEANUP, 1])).unwrap(),
            fd: RequestFd::Lost,
            parameters: Vec::new(),
        };
        assert_eq!(service_action_name(&request.command), "CLEANUP");
        assert_eq!(describe(&request), "lost device: CLEANUP");
    }
}
