//! What log and trace say of a command. One call before it, one after; never in between.

use std::borrow::Cow;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pr_helper_protocol::{Command, Direction, Request, RequestFd};
use scsi_pr::{Cdb, InServiceAction, OutServiceAction, ParameterList, Sense, Status};

use crate::command::device::{self, DeviceId};
use crate::command::executor::CommandResult;
use crate::command::peer::Peer;
use crate::trace::{event_enabled, trace};

/// The low five bits of a CDB's second byte.
const SERVICE_ACTION: u8 = 0x1f;

thread_local! {
    static LAST_NAME: RefCell<Option<(DeviceId, Rc<str>)>> = const { RefCell::new(None) };
}

/// A request that has gone to its device.
#[derive(Debug)]
pub struct CommandSpan {
    /// When; none if nobody wants to know how long it takes.
    start: Option<Instant>,
    /// What events call the device, if there are any.
    device: Option<Rc<str>>,
}

/// A request goes to its device.
#[must_use]
pub fn start(client: &Peer, request: &Request, number: DeviceId) -> CommandSpan {
    let command = &request.command;
    let is_traced = match command.direction() {
        Direction::In => event_enabled!(pr_helper_in_begin, pr_helper_in_end),
        Direction::Out => event_enabled!(pr_helper_out_begin, pr_helper_out_end),
    };
    let device = is_traced.then(|| device_name(request, number));
    match command.direction() {
        Direction::In => trace!(pr_helper_in_begin(
            client.connection_id(),
            descriptor(request),
            device.as_deref().unwrap_or_default(),
            &service_action_name(command),
            length(command.transfer_length()),
        )),
        Direction::Out => trace!(pr_helper_out_begin(
            client.connection_id(),
            descriptor(request),
            device.as_deref().unwrap_or_default(),
            &service_action_name(command),
            scope_type(command),
            parameter_key(request, 0),
            parameter_key(request, 1),
            length(command.transfer_length()),
        )),
    }
    let is_timed = is_traced || log::log_enabled!(log::Level::Debug);
    CommandSpan {
        start: is_timed.then(Instant::now),
        device,
    }
}

impl CommandSpan {
    /// The request is done.
    pub fn end(self, client: &Peer, request: &Request, outcome: &CommandResult) {
        let took = || microseconds(self.start.map(|start| start.elapsed()).unwrap_or_default());
        let command = &request.command;
        match command.direction() {
            Direction::In => trace!(pr_helper_in_end(
                client.connection_id(),
                client.pid(),
                self.device.as_deref().unwrap_or_default(),
                &service_action_name(command),
                length(outcome.data_len),
                outcome.status.0,
                packed_sense(outcome),
                took(),
            )),
            Direction::Out => trace!(pr_helper_out_end(
                client.connection_id(),
                client.pid(),
                self.device.as_deref().unwrap_or_default(),
                &service_action_name(command),
                scope_type(command),
                parameter_key(request, 0),
                parameter_key(request, 1),
                outcome.status.0,
                packed_sense(outcome),
                took(),
            )),
        }
        log::debug!(
            "{client}: {}: {} after {} us",
            describe(request),
            format_result(outcome),
            took()
        );
    }
}

/// The helper answers a request itself, and why.
pub fn rejected(client: &Peer, request: &Request, reason: &str) {
    trace!(pr_helper_request_refused(
        client.connection_id(),
        &device_name(request, request_device_id(request)),
        reason
    ));
}

/// The same where the device must not be looked at.
pub fn rejected_unopened(client: &Peer, reason: &str) {
    trace!(pr_helper_request_refused(
        client.connection_id(),
        "unseen",
        reason
    ));
}

/// A duration as events have it.
pub(crate) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Sense as events have it: key, additional sense code, qualifier; 0 if there is none.
pub(crate) fn packed_sense(outcome: &CommandResult) -> u32 {
    match (outcome.status, Sense::decode(&outcome.sense)) {
        (Status::CHECK_CONDITION, Ok(sense)) => {
            u32::from_be_bytes([0, sense.key.code(), sense.code.asc, sense.code.ascq])
        }
        _ => 0,
    }
}

/// The name of a command's service action, or its number if it has none.
pub(crate) fn service_action_name(command: &Command) -> Cow<'static, str> {
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

/// Of the two keys that all parameter lists begin with (SPC-4, 6.16.3 and 6.16.4), the one at this place;
/// 0 if the list is shorter.
fn parameter_key(request: &Request, place: usize) -> u64 {
    let (keys, _) = request.parameters.as_chunks();
    keys.get(place).map_or(0, |key| u64::from_be_bytes(*key))
}

fn request_device_id(request: &Request) -> DeviceId {
    match &request.fd {
        RequestFd::Open(descriptor) => device::device_id(descriptor.as_fd()),
        RequestFd::Lost => DeviceId::Unknown,
    }
}

fn descriptor(request: &Request) -> i32 {
    match &request.fd {
        RequestFd::Open(descriptor) => descriptor.as_raw_fd(),
        RequestFd::Lost => -1,
    }
}

/// What events call a device. A thread's next command is mostly for the device of the last one.
fn device_name(request: &Request, number: DeviceId) -> Rc<str> {
    let RequestFd::Open(descriptor) = &request.fd else {
        return "lost".into();
    };
    let name = || Rc::from(device::name(descriptor.as_fd(), number));
    if matches!(number, DeviceId::File(..) | DeviceId::Unknown) {
        return name();
    }
    LAST_NAME.with_borrow_mut(|last| match last {
        Some((last, name)) if *last == number => Rc::clone(name),
        _ => Rc::clone(&last.insert((number, name())).1),
    })
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn describe(request: &Request) -> String {
    let device = match &request.fd {
        RequestFd::Open(descriptor) => device::describe(descriptor.as_fd()),
        RequestFd::Lost => "lost device".into(),
    };
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

fn format_result(outcome: &CommandResult) -> String {
    match (outcome.status, Sense::decode(&outcome.sense)) {
        (Status::CHECK_CONDITION, Ok(sense)) => format!("{}, {sense}", outcome.status),
        (status, _) => status.to_string(),
    }
}
