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
pub mod message;
pub mod multipathd;
mod multipathd_socket;
pub mod path;
pub mod spread;
pub mod trail;
mod turns;
mod worker;
mod workers;

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pr_helper_protocol::{Direction, Request};
use scsi_pr::{AdditionalSense, SenseKey, Status};

use crate::chain;
use crate::client::{Client, ProcessKey};
use crate::device::{Kind, Number};
use crate::logging::KeyedRateLimit;
use crate::outcome::Outcome;
use crate::report;
use crate::trace::{trace, traced};

use broker::{Broker, WorkerError};
use deadline::Deadline;
use message::{Order, Reply};
use turns::{Turn, Turns};

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
    remarks: KeyedRateLimit<(ProcessKey, Number, String)>,
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
        client: &Client,
        descriptor: BorrowedFd<'_>,
        number: Number,
        request: &Request,
        data: &mut [u8],
    ) -> Result<Outcome, Kind> {
        let deadline = Deadline::after(self.patience);
        let turn = match request.command.direction() {
            Direction::In => None,
            Direction::Out => match self.take_turn(client, number) {
                None => return Ok(Outcome::status(Status::BUSY)),
                turn => turn,
            },
        };
        let order = Order {
            deadline,
            is_traced: traced!(pr_helper_path, pr_helper_multipathd),
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
        outcome.length = data
            .iter_mut()
            .zip(&report.data)
            .map(|(to, from)| *to = *from)
            .count();
        Ok(outcome)
    }

    /// Waits until nobody else changes the map.
    fn take_turn(&self, client: &Client, number: Number) -> Option<Turn<'_>> {
        let start = Instant::now();
        let turn = self.turns.take(number, self.patience);
        trace!(pr_helper_map_turn(
            client.number(),
            &number.to_string(),
            u8::from(turn.is_some()),
            report::microseconds(start.elapsed()),
        ));
        turn
    }

    fn ask_worker(
        &self,
        client: &Client,
        number: Number,
        map: BorrowedFd<'_>,
        order: &Order,
    ) -> Result<Reply, WorkerError> {
        trace!(pr_helper_worker_begin(
            client.number(),
            &number.to_string(),
            &report::action(&order.command),
        ));
        let start = Instant::now();
        let answer = self.broker.execute(map, order);
        let took = report::microseconds(start.elapsed());
        if let Ok(Reply::Report(report)) = &answer {
            for step in &report.steps {
                step.tell(client.number(), &number.to_string());
            }
        }
        trace!(pr_helper_worker_end(
            client.number(),
            &number.to_string(),
            &answer
                .as_ref()
                .map_or_else(|error| chain(error), |_| "reported".to_owned()),
            took,
        ));
        answer
    }

    fn no_report(&self, client: &Client, number: Number, error: &WorkerError) -> Outcome {
        let code = match error {
            WorkerError::Ask(_) | WorkerError::Refused => None,
            WorkerError::Silent(_) => Some(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING),
            WorkerError::NoBroker | WorkerError::Ended | WorkerError::Nonsense => {
                Some(AdditionalSense::IO_PROCESS_TERMINATED)
            }
        };
        let outcome = match code {
            None => Outcome::status(Status::BUSY),
            Some(code) => Outcome::check_condition(SenseKey::AbortedCommand, code),
        };
        let remark = format!("command answered with {}: {}", outcome.status, chain(error));
        self.say(client, number, remark.clone(), &remark);
        outcome
    }

    fn say(&self, client: &Client, number: Number, kind: String, remark: &str) {
        if let Some(suppressed) = self
            .remarks
            .should_log((client.process_key(), number, kind))
        {
            log::warn!("{client}: multipath map {number}: {remark}{suppressed}");
        }
    }
}
