//! Multipath maps: a logical unit that several paths lead to.
//!
//! | module | job |
//! |---|---|
//! | [`broker`] | the process with the rights that this takes, and how it is asked |
//! | `control` | control messages from the helper to the broker |
//! | [`deadline`] | the deadline of a command, and the check that the helper still waits |
//! | [`message`] | what is said to a worker and what it says |
//! | `workers` | start, number and end of worker processes |
//! | `worker` | one command, in a process of its own |
//! | [`spread`] | the command on all paths, so that it is as on one |
//! | [`path`] | a path, and the patience with it |
//! | [`trail`] | what was done, step by step |
//! | [`multipathd`] | who registers paths that come back |
//! | `turns` | one change at a time on a map |

pub mod broker;
mod control;
pub mod deadline;
mod map_locks;
pub mod message;
pub mod multipathd;
mod multipathd_socket;
pub mod path;
pub mod pr_out;
mod worker;
pub mod worker_trace;
mod workers;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pr_helper_protocol::{Direction, Request};
use scsi_pr::{AdditionalSense, SenseKey, Status};

use crate::command::command_log;
use crate::command::device::{DeviceId, DeviceKind};
use crate::command::executor::CommandResult;
use crate::command::peer::{Peer, ProcessKey};
use crate::error_chain;
use crate::logging::KeyedRateLimit;
use crate::trace::{event_enabled, trace};

use broker::{Broker, WorkerError};
use deadline::Deadline;
use map_locks::{Turn, Turns};
use message::{Order, Reply};

/// How many descriptors a command takes at most beside the map's: the pair of sockets to its worker.
pub const DESCRIPTORS: u64 = 2;

/// How many characters of a worker's remark tell what kind it is.
const KIND: usize = 24;

/// What executes commands on multipath maps.
#[derive(Debug)]
pub struct Multipath {
    broker: Arc<Broker>,
    turns: Turns,
    patience: Duration,
    /// By the client, the map and their kind: the same is not logged again and again.
    remarks: KeyedRateLimit<(ProcessKey, DeviceId, String)>,
}

impl Multipath {
    /// One with this broker, which gives a command `patience`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, patience: Duration) -> Self {
        Self {
            broker,
            turns: Turns::default(),
            patience,
            remarks: KeyedRateLimit::new(),
        }
    }

    /// Executes a request on the map that `descriptor` refers to.
    ///
    /// # Errors
    ///
    /// Returns the kind of the device if it is another device-mapper device; nothing was executed.
    pub fn execute(
        &self,
        client: &Peer,
        descriptor: BorrowedFd<'_>,
        number: DeviceId,
        request: &Request,
        data: &mut [u8],
    ) -> Result<CommandResult, DeviceKind> {
        let deadline = Deadline::after(self.patience);
        let turn = match request.command.direction() {
            Direction::In => None,
            Direction::Out => match self.take_turn(client, number) {
                None => return Ok(CommandResult::from_status(Status::BUSY)),
                turn => turn,
            },
        };
        let order = Order {
            deadline,
            is_traced: event_enabled!(pr_helper_path, pr_helper_multipathd),
            command: request.command,
            list: request.parameters.clone(),
        };
        let report = self.ask_worker(client, number, descriptor, &order);
        drop(turn);
        let report = match report {
            Ok(Reply::Report(report)) => report,
            Ok(Reply::Kind(kind)) => return Err(kind),
            Err(error) => return Ok(self.no_report(client, number, &error)),
        };
        for remark in report.remarks {
            // What a guest has made up, keys, stands further behind: it must not fill the log.
            let kind = remark.chars().take(KIND).collect();
            self.say(client, number, kind, &remark);
        }
        let mut outcome = report.outcome;
        outcome.data_len = data
            .iter_mut()
            .zip(&report.data)
            .map(|(to, from)| *to = *from)
            .count();
        Ok(outcome)
    }

    /// Waits until nobody else changes the map.
    fn take_turn(&self, client: &Peer, number: DeviceId) -> Option<Turn<'_>> {
        let start = Instant::now();
        let turn = self.turns.take(number, self.patience);
        trace!(pr_helper_map_turn(
            client.connection_id(),
            &number.to_string(),
            u8::from(turn.is_some()),
            command_log::microseconds(start.elapsed()),
        ));
        turn
    }

    fn ask_worker(
        &self,
        client: &Peer,
        number: DeviceId,
        map: BorrowedFd<'_>,
        order: &Order,
    ) -> Result<Reply, WorkerError> {
        trace!(pr_helper_worker_begin(
            client.connection_id(),
            &number.to_string(),
            &command_log::service_action_name(&order.command),
        ));
        let start = Instant::now();
        let answer = self.broker.execute(map, order);
        let took = command_log::microseconds(start.elapsed());
        if let Ok(Reply::Report(report)) = &answer {
            for step in &report.steps {
                step.tell(client.connection_id(), &number.to_string());
            }
        }
        trace!(pr_helper_worker_end(
            client.connection_id(),
            &number.to_string(),
            &answer
                .as_ref()
                .map_or_else(|error| error_chain(error), |_| "reported".to_owned()),
            took,
        ));
        answer
    }

    fn no_report(&self, client: &Peer, number: DeviceId, error: &WorkerError) -> CommandResult {
        let code = match error {
            WorkerError::Ask(_) | WorkerError::Refused => None,
            WorkerError::Silent(_) => Some(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING),
            WorkerError::NoBroker | WorkerError::Ended | WorkerError::Nonsense => {
                Some(AdditionalSense::IO_PROCESS_TERMINATED)
            }
        };
        let outcome = match code {
            None => CommandResult::from_status(Status::BUSY),
            Some(code) => CommandResult::check_condition(SenseKey::AbortedCommand, code),
        };
        let remark = format!(
            "command answered with {}: {}",
            outcome.status,
            error_chain(error)
        );
        self.say(client, number, remark.clone(), &remark);
        outcome
    }

    fn say(&self, client: &Peer, number: DeviceId, kind: String, remark: &str) {
        if let Some(suppressed) = self
            .remarks
            .should_log((client.process_key(), number, kind))
        {
            log::warn!("{client}: multipath map {number}: {remark}{suppressed}");
        }
    }
}
