//! What log and trace say of a command. One call before it, one after; never in between.

use std::os::fd::AsFd;
use std::time::Duration;

use pr_socket::{Device, Request};
use scsi_pr::{Cdb, ParameterList, Sense, Status};

use crate::client::Client;
use crate::device;
use crate::outcome::Outcome;
use crate::trace::trace;

/// A request goes to its device.
pub fn begin(client: &Client, request: &Request) {
    trace!(COMMAND_BEGIN, "{client}: {}", describe(request));
}

/// A request is done.
pub fn end(client: &Client, request: &Request, outcome: &Outcome, took: Duration) {
    let took = took.as_micros();
    trace!(
        COMMAND_END,
        "{client}: {}: {}, {} bytes, {took} us",
        describe(request),
        result(outcome),
        outcome.length
    );
    log::debug!(
        "{client}: {}: {} after {took} us",
        describe(request),
        result(outcome)
    );
}

fn describe(request: &Request) -> String {
    let device = match &request.device {
        Device::Open(descriptor) => device::describe(descriptor.as_fd()),
        Device::Lost => "lost device".into(),
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
