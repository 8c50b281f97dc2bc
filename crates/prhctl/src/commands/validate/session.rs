// SPDX-License-Identifier: MIT OR Apache-2.0

//! The session of a run, with which the steps send commands and check the answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use scsi_pr::{
    AdditionalSense, Capabilities, FullStatus, InServiceAction, Keys, ParameterDataError,
    PrGeneration, ReservationData, ReservationKey, ReservationType, SenseKey, Status, Truncatable,
};

use super::ValidateError;
use super::access::{self, Access};
use super::command::{Answer, OutCommand, preempt_and_abort, register, reserve};
use super::keys::{A, NodeId, RunNumber};
use super::nodes::{self, Nodes};
use crate::block_device::BlockDevice;
use crate::cleanup::CleanupGuard;
use crate::error::Failure;
use crate::helper::is_unrelated;
use crate::labels;

/// Number of unit attentions that do not concern reservations, after which a command is not sent
/// again.
const MAX_UNRELATED: usize = 16;

/// The end of a step that did not pass.
#[derive(Debug)]
pub(super) enum Stop {
    /// The device does not do what the step checks.
    Failed(String),
    /// The step cannot be executed.
    NotTested(String),
    /// The helper cannot be used.
    Aborted(Box<Failure>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Aborted(Box::new(failure))
    }
}

/// The result of a step.
pub(super) type StepResult = Result<(), Stop>;

/// A command that a step has sent.
#[derive(Clone, Debug)]
pub(super) struct SentCommand {
    pub(super) node: NodeId,
    pub(super) command: String,
    pub(super) answer: String,
    pub(super) time: Duration,
}

/// The commands and warnings of a step.
#[derive(Debug)]
pub(super) struct StepLog {
    pub(super) commands: Vec<SentCommand>,
    /// Index of the last command that the rule is about.
    pub(super) subject: Option<usize>,
    pub(super) warnings: Vec<String>,
}

/// Properties of the disk that steps depend on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Environment {
    pub(super) nodes: usize,
    /// A node is a multipath map, which stands for several `I_T` nexuses.
    pub(super) has_map: bool,
    /// The disk is one of LIO, the SCSI target of Linux.
    pub(super) is_lio: bool,
    /// The disk never answers a PREEMPT AND ABORT that succeeds.
    pub(super) hangs_on_abort: bool,
    /// The disk is empty, and the operator allows writes.
    pub(super) may_write: bool,
}

/// The session of a run.
pub(super) struct Session<'a> {
    guard: &'a CleanupGuard<Nodes>,
    pub(super) run: RunNumber,
    pub(super) environment: Environment,
    /// The commands of the current step.
    sent: Vec<SentCommand>,
    /// The last command in `sent` that a rule is about.
    subject: Option<usize>,
    /// The warnings of the current step.
    warnings: Vec<String>,
}

impl<'a> Session<'a> {
    pub(super) const fn new(
        guard: &'a CleanupGuard<Nodes>,
        run: RunNumber,
        environment: Environment,
    ) -> Self {
        Session {
            guard,
            run,
            environment,
            sent: Vec::new(),
            subject: None,
            warnings: Vec::new(),
        }
    }

    /// Returns the commands and the warnings since the last call.
    pub(super) fn take_log(&mut self) -> StepLog {
        StepLog {
            subject: self.subject.take(),
            commands: std::mem::take(&mut self.sent),
            warnings: std::mem::take(&mut self.warnings),
        }
    }

    /// Removes all registrations of the run and the pending unit attentions.
    pub(super) fn restore(&self) -> Result<(), Failure> {
        let mut nodes = self.guard.resources();
        match nodes.restore()? {
            true => Ok(()),
            false => Err(ValidateError::NotRestored(nodes.device()).into()),
        }
    }

    /// Returns the multipath map, if the device of a node is one.
    pub(super) fn map(&self, node: NodeId) -> Option<BlockDevice> {
        let mut nodes = self.guard.resources();
        let connection = nodes.get(node).connection().ok()?;
        connection.multipath_map().cloned()
    }

    /// Returns the first key of a node.
    pub(super) fn key(&self, node: NodeId) -> ReservationKey {
        self.run.key(node, 1)
    }

    /// Returns the second key of a node.
    pub(super) fn new_key(&self, node: NodeId) -> ReservationKey {
        self.run.key(node, 2)
    }

    /// Returns a key that no node registers.
    pub(super) fn unknown_key(&self) -> ReservationKey {
        self.run.key(A, u8::MAX)
    }

    /// Adds a warning to the row of the step.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    fn record(&mut self, node: NodeId, command: String, answer: String, start: Instant) {
        self.sent.push(SentCommand {
            node,
            command,
            answer,
            time: start.elapsed(),
        });
    }

    /// Sends a command, and again after a unit attention that does not concern reservations.
    fn exchange<T>(
        &mut self,
        node: NodeId,
        name: &str,
        send: impl Fn(&mut Nodes) -> Result<T, Failure>,
        answer_of: impl Fn(&T) -> Answer,
    ) -> Result<T, Stop> {
        for attempt in 0.. {
            let start = Instant::now();
            let result = send(&mut self.guard.resources());
            let text = match &result {
                Ok(value) => answer_of(value).to_string(),
                Err(failure) => cli_messages::error::error_chain(failure.error.as_ref()),
            };
            self.record(node, name.to_owned(), text, start);
            let value = result?;
            let code = answer_of(&value).unit_attention();
            if !code.is_some_and(is_unrelated) || attempt == MAX_UNRELATED {
                return Ok(value);
            }
        }
        unreachable!("the loop returns after a number of attempts")
    }

    /// Sends PERSISTENT RESERVE OUT.
    pub(super) fn send(&mut self, node: NodeId, command: OutCommand) -> Result<Answer, Stop> {
        if command.is_preempt_and_abort() && self.environment.hangs_on_abort {
            return Err(Stop::NotTested(
                "PREEMPT AND ABORT was not sent, because a disk of this host's own SCSI target \
                 (loopback fabric of LIO) never answers it"
                    .to_owned(),
            ));
        }
        let name = command.to_string();
        let send = |nodes: &mut Nodes| nodes.get(node).change(&command);
        self.exchange(node, &name, send, |answer| *answer)
    }

    /// Sends a command that a rule is about.
    fn send_subject(&mut self, node: NodeId, command: OutCommand) -> Result<Answer, Stop> {
        let answer = self.send(node, command)?;
        self.mark_subject();
        Ok(answer)
    }

    /// Marks the last command as the one that a rule is about.
    fn mark_subject(&mut self) {
        self.subject = self.sent.len().checked_sub(1);
    }

    /// Sends PERSISTENT RESERVE IN once.
    fn query(&mut self, node: NodeId, action: InServiceAction) -> Result<(Answer, Vec<u8>), Stop> {
        let send = |nodes: &mut Nodes| nodes.get(node).query(action);
        self.exchange(node, action.name(), send, |(answer, _)| *answer)
    }

    /// Sends PERSISTENT RESERVE IN, which must succeed.
    fn read<T>(
        &mut self,
        node: NodeId,
        action: InServiceAction,
        decode: impl Fn(&[u8]) -> Result<T, ParameterDataError>,
    ) -> Result<T, Stop> {
        let (answer, data) = self.query(node, action)?;
        if !answer.is_good() {
            return Err(unexpected(node, action.name(), &answer, "GOOD"));
        }
        decode(&data)
            .map_err(|error| Stop::Failed(format!("{node}: malformed answer to {action}: {error}")))
    }

    /// Returns a complete list.
    fn read_list<T>(
        &mut self,
        node: NodeId,
        action: InServiceAction,
        decode: impl Fn(&[u8]) -> Result<Truncatable<T>, ParameterDataError>,
    ) -> Result<T, Stop> {
        let list = self.read(node, action, decode)?;
        let missing = list.missing;
        list.complete().ok_or_else(|| {
            let text = format!("{node}: the answer to {action} lacks its last {missing} bytes");
            Stop::Failed(text)
        })
    }

    /// Returns the registered keys. Fails if another program has registered during the run.
    pub(super) fn read_keys(&mut self, node: NodeId) -> Result<Keys, Stop> {
        let keys = self.read_list(node, InServiceAction::ReadKeys, Keys::decode)?;
        let device = self.guard.resources().get(node).path;
        nodes::check_own(device, &keys.keys).map_err(Failure::from)?;
        Ok(keys)
    }

    pub(super) fn read_full_status(&mut self, node: NodeId) -> Result<FullStatus, Stop> {
        self.read_list(node, InServiceAction::ReadFullStatus, FullStatus::decode)
    }

    pub(super) fn read_reservation(&mut self, node: NodeId) -> Result<ReservationData, Stop> {
        self.read(
            node,
            InServiceAction::ReadReservation,
            ReservationData::decode,
        )
    }

    pub(super) fn capabilities(&mut self, node: NodeId) -> Result<Capabilities, Stop> {
        self.read(
            node,
            InServiceAction::ReportCapabilities,
            Capabilities::decode,
        )
    }

    pub(super) fn generation(&mut self, node: NodeId) -> Result<PrGeneration, Stop> {
        Ok(self.read_keys(node)?.generation)
    }

    /// Sends a command that only prepares what the step checks.
    pub(super) fn prepare(&mut self, node: NodeId, command: OutCommand) -> StepResult {
        let answer = self.send(node, command)?;
        match answer.is_good() {
            true => Ok(()),
            false => Err(Stop::NotTested(format!(
                "{node}: the preparation {command} ended with {answer}"
            ))),
        }
    }

    /// Registers a node with its first key, as a preparation.
    pub(super) fn prepare_registration(&mut self, node: NodeId) -> StepResult {
        self.prepare(node, register(ReservationKey::ZERO, self.key(node)))
    }

    /// Registers the nodes with their first keys, and reserves through the first of them, as a
    /// preparation.
    pub(super) fn prepare_reservation(
        &mut self,
        nodes: &[NodeId],
        kind: ReservationType,
    ) -> StepResult {
        for node in nodes {
            self.prepare_registration(*node)?;
        }
        let holder = nodes.first().copied().unwrap_or(A);
        self.prepare(holder, reserve(self.key(holder), kind))
    }

    /// Sends a command that must succeed.
    pub(super) fn good(&mut self, node: NodeId, command: OutCommand) -> StepResult {
        let answer = self.send_subject(node, command)?;
        let is_good = answer.is_good();
        check(is_good, node, &command.to_string(), &answer, "GOOD")
    }

    /// Sends a command that must end with RESERVATION CONFLICT.
    pub(super) fn conflict(&mut self, node: NodeId, command: OutCommand) -> StepResult {
        let answer = self.send_subject(node, command)?;
        let is_conflict = answer.status == Status::RESERVATION_CONFLICT;
        let expected = "RESERVATION CONFLICT";
        check(is_conflict, node, &command.to_string(), &answer, expected)
    }

    /// Sends a command that must end with ILLEGAL REQUEST and this code.
    pub(super) fn illegal(
        &mut self,
        node: NodeId,
        command: OutCommand,
        code: AdditionalSense,
    ) -> StepResult {
        let answer = self.send_subject(node, command)?;
        let sense = answer.sense;
        let is_expected =
            sense.is_some_and(|sense| sense.key == SenseKey::IllegalRequest && sense.code == code);
        let expected = format!("ILLEGAL REQUEST, {code}");
        check(is_expected, node, &command.to_string(), &answer, &expected)
    }

    /// Sends PREEMPT AND ABORT, which must succeed.
    pub(super) fn preempt_and_abort(
        &mut self,
        node: NodeId,
        victim: ReservationKey,
        kind: ReservationType,
    ) -> StepResult {
        self.good(node, preempt_and_abort(self.key(node), victim, kind))
    }

    /// Checks the registered keys. A map registers the key of its node once for each path.
    pub(super) fn expect_keys(&mut self, node: NodeId, expected: &[ReservationKey]) -> StepResult {
        let found = self.read_keys(node)?.keys;
        let distinct = |keys: &[ReservationKey]| keys.iter().copied().collect::<BTreeSet<_>>();
        let is_number = self.environment.has_map || found.len() == expected.len();
        match is_number && distinct(&found) == distinct(expected) {
            true => Ok(()),
            false => Err(Stop::Failed(format!(
                "{node}: READ KEYS returned {}, expected {}",
                list(&found),
                list(expected)
            ))),
        }
    }

    /// Checks the reservation: its type, and the key of its holder, which is zero if all
    /// registrants hold it.
    pub(super) fn expect_reservation(
        &mut self,
        node: NodeId,
        expected: Option<(ReservationKey, ReservationType)>,
    ) -> StepResult {
        let found = self.read_reservation(node)?.reservation;
        let key_of = |key, kind: ReservationType| match kind.is_all_registrants() {
            true => ReservationKey::ZERO,
            false => key,
        };
        let expected = expected.map(|(key, kind)| (key_of(key, kind), kind.into()));
        let found = found.map(|one| (one.key, one.scope_type));
        let text = |reservation: Option<(ReservationKey, scsi_pr::ScopeType)>| match reservation {
            Some((key, scope_type)) => format!("key {key}, {scope_type}"),
            None => "no reservation".to_owned(),
        };
        match found == expected {
            true => Ok(()),
            false => Err(Stop::Failed(format!(
                "{node}: READ RESERVATION returned {}, expected {}",
                text(found),
                text(expected)
            ))),
        }
    }

    /// Reads one pending unit attention. `None` if none is pending.
    fn read_unit_attention(&mut self, node: NodeId) -> Result<Option<AdditionalSense>, Stop> {
        let (answer, _) = self.query(node, InServiceAction::ReadKeys)?;
        match answer.unit_attention() {
            None if !answer.is_good() => Err(unexpected(node, "READ KEYS", &answer, "GOOD")),
            code => Ok(code),
        }
    }

    /// Checks that the next command of a node reports this unit attention.
    pub(super) fn expect_attention(
        &mut self,
        node: NodeId,
        expected: AdditionalSense,
    ) -> StepResult {
        let found = self.read_unit_attention(node)?;
        self.mark_subject();
        match found {
            Some(code) if code == expected => Ok(()),
            other => Err(Stop::Failed(format!(
                "{node}: expected the unit attention {expected}, got {}",
                other.map_or_else(|| "none".to_owned(), |code| code.to_string())
            ))),
        }
    }

    /// Checks that no unit attention is pending for a node.
    pub(super) fn expect_no_attention(&mut self, node: NodeId) -> StepResult {
        match self.read_unit_attention(node)? {
            None => Ok(()),
            Some(code) => Err(Stop::Failed(format!(
                "{node}: unexpected unit attention {code}"
            ))),
        }
    }

    /// Reads the pending unit attentions of a node, which the step does not check.
    pub(super) fn skip_attentions(&mut self, node: NodeId) -> StepResult {
        for _ in 0..MAX_UNRELATED {
            if self.read_unit_attention(node)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Reads or writes a block, which the reservation must allow, or else reject with RESERVATION
    /// CONFLICT.
    pub(super) fn expect_access(
        &mut self,
        node: NodeId,
        access: Access,
        is_allowed: bool,
    ) -> StepResult {
        let send = |nodes: &mut Nodes| {
            let connection = nodes.get(node).connection()?;
            access::execute(connection, access).map_err(Failure::from)
        };
        let answer = self.exchange(node, access.name(), send, |answer| *answer)?;
        self.mark_subject();
        let (is_expected, expected) = match is_allowed {
            true => (answer.is_good(), "GOOD"),
            false => (
                answer.status == Status::RESERVATION_CONFLICT,
                "RESERVATION CONFLICT",
            ),
        };
        check(is_expected, node, access.name(), &answer, expected)
    }
}

fn check(
    is_expected: bool,
    node: NodeId,
    command: &str,
    answer: &Answer,
    expected: &str,
) -> StepResult {
    match is_expected {
        true => Ok(()),
        false => Err(unexpected(node, command, answer, expected)),
    }
}

fn unexpected(node: NodeId, command: &str, answer: &Answer, expected: &str) -> Stop {
    Stop::Failed(format!(
        "{node}: {command} ended with {answer}, expected {expected}"
    ))
}

/// Returns keys as text.
fn list(keys: &[ReservationKey]) -> String {
    match keys {
        [] => "no keys".to_owned(),
        keys => {
            let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
            keys.join(", ")
        }
    }
}

/// Returns whether a type is among those that the device reports, or it reports none.
pub(super) fn is_supported(capabilities: &Capabilities, kind: ReservationType) -> bool {
    capabilities
        .type_mask
        .is_none_or(|mask| mask.contains(kind))
}

/// Returns the end of a step for a type that the device does not support.
pub(super) fn unsupported(kind: ReservationType) -> Stop {
    let short = labels::short_type(kind);
    Stop::NotTested(format!(
        "the device reports that it does not support type {short}"
    ))
}
