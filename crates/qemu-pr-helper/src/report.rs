//! What log and trace say of a command. One call before it, one after; never in between.

use std::borrow::Cow;
use std::cell::RefCell;
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use pr_helper_protocol::{Command, Direction, Request, RequestFd};
use scsi_pr::{Cdb, InServiceAction, OutServiceAction, ParameterList, Sense, Status};

use crate::client::Client;
use crate::device::{self, Number};
use crate::outcome::Outcome;
use crate::trace::{trace, traced};

/// The low five bits of a CDB's second byte.
const SERVICE_ACTION: u8 = 0x1f;

thread_local! {
    static LAST_NAME: RefCell<Option<(Number, Rc<str>)>> = const { RefCell::new(None) };
}

/// A request that has gone to its device.
#[derive(Debug)]
pub struct Pending {
    /// When; none if nobody wants to know how long it takes.
    start: Option<Instant>,
    /// What events call the device, if there are any.
    device: Option<Rc<str>>,
}

/// A request goes to its device.
#[must_use]
pub fn begin(client: &Client, request: &Request, number: Number) -> Pending {
    let command = &request.command;
    let is_traced = match command.direction() {
        Direction::In => traced!(pr_helper_in_begin, pr_helper_in_end),
        Direction::Out => traced!(pr_helper_out_begin, pr_helper_out_end),
    };
    let device = is_traced.then(|| device_name(request, number));
    match command.direction() {
        Direction::In => trace!(pr_helper_in_begin(
            client.number(),
            descriptor(request),
            device.as_deref().unwrap_or_default(),
            &action(command),
            length(command.transfer_length()),
        )),
        Direction::Out => trace!(pr_helper_out_begin(
            client.number(),
            descriptor(request),
            device.as_deref().unwrap_or_default(),
            &action(command),
            scope_type(command),
            key(request, 0),
            key(request, 1),
            length(command.transfer_length()),
        )),
    }
    let is_timed = is_traced || log::log_enabled!(log::Level::Debug);
    Pending {
        start: is_timed.then(Instant::now),
        device,
    }
}

impl Pending {
    /// The request is done.
    pub fn end(self, client: &Client, request: &Request, outcome: &Outcome) {
        let took = || microseconds(self.start.map(|start| start.elapsed()).unwrap_or_default());
        let command = &request.command;
        match command.direction() {
            Direction::In => trace!(pr_helper_in_end(
                client.number(),
                client.pid(),
                self.device.as_deref().unwrap_or_default(),
                &action(command),
                length(outcome.length),
                outcome.status.0,
                sense(outcome),
                took(),
            )),
            Direction::Out => trace!(pr_helper_out_end(
                client.number(),
                client.pid(),
                self.device.as_deref().unwrap_or_default(),
                &action(command),
                scope_type(command),
                key(request, 0),
                key(request, 1),
                outcome.status.0,
                sense(outcome),
                took(),
            )),
        }
        log::debug!(
            "{client}: {}: {} after {} us",
            describe(request),
            result(outcome),
            took()
        );
    }
}

/// The helper answers a request itself, and why.
pub fn refused(client: &Client, request: &Request, reason: &str) {
    trace!(pr_helper_request_refused(
        client.number(),
        &device_name(request, number_of(request)),
        reason
    ));
}

/// The same where the device must not be looked at.
pub fn refused_unseen(client: &Client, reason: &str) {
    trace!(pr_helper_request_refused(client.number(), "unseen", reason));
}

/// A duration as events have it.
pub(crate) fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Sense as events have it: key, additional sense code, qualifier; 0 if there is none.
pub(crate) fn sense(outcome: &Outcome) -> u32 {
    match (outcome.status, Sense::decode(&outcome.sense)) {
        (Status::CHECK_CONDITION, Ok(sense)) => {
            u32::from_be_bytes([0, sense.key.code(), sense.code.asc, sense.code.ascq])
        }
        _ => 0,
    }
}

/// The name of a command's service action, or its number if it has none.
pub(crate) fn action(command: &Command) -> Cow<'static, str> {
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
fn key(request: &Request, place: usize) -> u64 {
    let (keys, _) = request.parameters.as_chunks();
    keys.get(place).map_or(0, |key| u64::from_be_bytes(*key))
}

fn number_of(request: &Request) -> Number {
    match &request.fd {
        RequestFd::Open(descriptor) => device::number(descriptor.as_fd()),
        RequestFd::Lost => Number::None,
    }
}

fn descriptor(request: &Request) -> i32 {
    match &request.fd {
        RequestFd::Open(descriptor) => descriptor.as_raw_fd(),
        RequestFd::Lost => -1,
    }
}

/// What events call a device. A thread's next command is mostly for the device of the last one.
fn device_name(request: &Request, number: Number) -> Rc<str> {
    let RequestFd::Open(descriptor) = &request.fd else {
        return "lost".into();
    };
    let name = || Rc::from(device::name(descriptor.as_fd(), number));
    if matches!(number, Number::File(..) | Number::None) {
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

fn result(outcome: &Outcome) -> String {
    match (outcome.status, Sense::decode(&outcome.sense)) {
        (Status::CHECK_CONDITION, Ok(sense)) => format!("{}, {sense}", outcome.status),
        (status, _) => status.to_string(),
    }
}
