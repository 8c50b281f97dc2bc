// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connections of the nodes, and the removal of everything that they have registered.

use std::path::{Path, PathBuf};

use pr_helper_protocol::{Direction, Response};
use scsi_pr::{
    Cdb, InServiceAction, Keys, ParameterDataError, PersistentReserveIn, ReservationData,
    ReservationKey,
};

use super::ValidateError;
use super::command::{Answer, OutCommand, clear, register, register_ignore};
use super::keys::{A, NodeId, is_of_a_run};
use crate::cleanup::Remove;
use crate::console::Console;
use crate::error::{Error, Failure};
use crate::helper::{HelperConnection, HelperOptions};

/// Maximum number of unit attentions that one node has at a time.
const MAX_UNIT_ATTENTIONS: usize = 16;
/// Allocation length of a query: the largest one that the protocol carries.
const ALLOCATION: u16 = 8192;

/// The connection of a node, and its keys.
#[derive(Debug)]
pub(super) struct Node {
    options: &'static HelperOptions,
    path: &'static Path,
    /// `None` after an error, which leaves the connection out of step.
    connection: Option<HelperConnection<'static>>,
    /// The keys that the node may be registered with.
    keys: Vec<ReservationKey>,
}

impl Node {
    /// Opens the device and connects to the helper. Options and path live as long as the process,
    /// because the thread that waits for signals uses them.
    pub(super) fn open(
        options: &'static HelperOptions,
        path: &'static Path,
    ) -> Result<Self, Failure> {
        Ok(Node {
            options,
            path,
            connection: Some(HelperConnection::open(options, path, Direction::Out)?),
            keys: Vec::new(),
        })
    }

    /// Returns the connection, and connects again after an error.
    pub(super) fn connection(&mut self) -> Result<&mut HelperConnection<'static>, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => HelperConnection::open(self.options, self.path, Direction::Out)?,
        };
        Ok(self.connection.insert(connection))
    }

    /// Sends a command once.
    fn exchange(&mut self, command: Cdb, parameters: &[u8]) -> Result<Response, Failure> {
        let result = self.connection()?.exchange(command, parameters);
        result.map_err(|error| {
            self.connection = None;
            error.into()
        })
    }

    /// Sends PERSISTENT RESERVE OUT.
    pub(super) fn change(&mut self, command: &OutCommand) -> Result<Answer, Failure> {
        let key = command.registered_key();
        // The answer can be lost.
        if !key.is_zero() && !self.keys.contains(&key) {
            self.keys.push(key);
        }
        let (cdb, parameters) = command.encode();
        Ok(Answer::from(&self.exchange(cdb, &parameters)?))
    }

    /// Sends PERSISTENT RESERVE IN, and returns the parameter data as well.
    pub(super) fn query(&mut self, action: InServiceAction) -> Result<(Answer, Vec<u8>), Failure> {
        let command = PersistentReserveIn {
            service_action: action,
            allocation_length: ALLOCATION,
            control: 0,
        };
        let response = self.exchange(command.into(), &[])?;
        Ok((Answer::from(&response), response.data))
    }

    /// Sends PERSISTENT RESERVE OUT, and again after each unit attention.
    fn settle(&mut self, command: &OutCommand) -> Result<Answer, Failure> {
        let mut answer = self.change(command)?;
        for _ in 0..MAX_UNIT_ATTENTIONS {
            if answer.unit_attention().is_none() {
                break;
            }
            answer = self.change(command)?;
        }
        Ok(answer)
    }

    /// Queries, and again after each unit attention, so that none is pending afterwards.
    pub(super) fn settled_query<T>(
        &mut self,
        action: InServiceAction,
        decode: impl FnOnce(&[u8]) -> Result<T, ParameterDataError>,
    ) -> Result<T, Failure> {
        let (mut answer, mut data) = self.query(action)?;
        for _ in 0..MAX_UNIT_ATTENTIONS {
            if answer.unit_attention().is_none() {
                break;
            }
            (answer, data) = self.query(action)?;
        }
        if !answer.is_good() {
            let device = self.path.to_owned();
            return Err(ValidateError::Query {
                device,
                action,
                answer,
            }
            .into());
        }
        let malformed = |source| Error::Malformed {
            device: self.path.to_owned(),
            action,
            source,
        };
        decode(&data).map_err(|error| malformed(error).into())
    }

    /// Removes the node's registrations, and with them its reservation.
    fn unregister(&mut self) -> Result<(), Failure> {
        for key in self.keys.clone() {
            self.settle(&register(key, ReservationKey::ZERO))?;
        }
        Ok(())
    }
}

/// Registrations and reservation of the disk.
#[derive(Debug)]
pub(super) struct DiskState {
    pub(super) keys: Keys,
    pub(super) is_reserved: bool,
}

impl DiskState {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.keys.is_empty() && !self.is_reserved
    }
}

/// All nodes. The first one always exists.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) all: Vec<Node>,
    pub(super) console: Console,
}

impl Nodes {
    /// Returns a node. Steps name only nodes that exist.
    pub(super) fn get(&mut self, id: NodeId) -> &mut Node {
        let index = id.0.min(self.all.len().saturating_sub(1));
        self.all.get_mut(index).expect("there is a first node")
    }

    /// Returns the path of the first node.
    pub(super) fn device(&mut self) -> PathBuf {
        self.get(A).path.to_owned()
    }

    /// Prints a note about the disk.
    pub(super) fn note(&mut self, text: &str) {
        let device = self.device();
        self.console.note(&format!("{}: {text}", device.display()));
    }

    /// Reads registrations and reservation through the first node.
    pub(super) fn state(&mut self) -> Result<DiskState, Failure> {
        let node = self.get(A);
        let keys = node.settled_query(InServiceAction::ReadKeys, Keys::decode)?;
        let action = InServiceAction::ReadReservation;
        let reservation = node.settled_query(action, ReservationData::decode)?;
        Ok(DiskState {
            keys: keys.value,
            is_reserved: reservation.reservation.is_some(),
        })
    }

    /// Removes all registrations of the run and the pending unit attentions. Returns whether the
    /// disk is in the state before the run.
    pub(super) fn restore(&mut self) -> Result<bool, Failure> {
        for node in &mut self.all {
            node.unregister()?;
        }
        self.read_unit_attentions()?;
        if !self.is_clean()? {
            self.restore_by_force()?;
        }
        let is_clean = self.is_clean()?;
        if is_clean {
            self.all.iter_mut().for_each(|node| node.keys.clear());
        }
        Ok(is_clean)
    }

    /// Reads the pending unit attentions of all nodes.
    fn read_unit_attentions(&mut self) -> Result<(), Failure> {
        for node in &mut self.all {
            node.settled_query(InServiceAction::ReadKeys, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Returns whether there is neither a registration nor a reservation. Malformed answers are
    /// found by a step, and are no reason to stop.
    fn is_clean(&mut self) -> Result<bool, Failure> {
        for node in &mut self.all {
            let decode = |data: &[u8]| Ok(Keys::decode(data));
            let keys = node.settled_query(InServiceAction::ReadKeys, decode)?;
            let decode = |data: &[u8]| Ok(ReservationData::decode(data));
            let reservation = node.settled_query(InServiceAction::ReadReservation, decode)?;
            let has_keys = keys.is_ok_and(|keys| !keys.value.keys.is_empty());
            if has_keys || reservation.is_ok_and(|data| data.reservation.is_some()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes registrations that unregistering has left, with the commands that need no key or
    /// ignore it. CLEAR is sent only if all keys are those of runs.
    fn restore_by_force(&mut self) -> Result<(), Failure> {
        for node in &mut self.all {
            node.settle(&register_ignore(ReservationKey::ZERO))?;
        }
        let state = self.state()?;
        let is_own = |state: &DiskState| state.keys.keys.iter().copied().all(is_of_a_run);
        if !state.is_empty() && is_own(&state) {
            self.clear()?;
        }
        self.read_unit_attentions()
    }

    /// Removes all registrations of the disk with CLEAR, through the first node.
    pub(super) fn clear_with(&mut self, key: ReservationKey) -> Result<Answer, Failure> {
        let node = self.get(A);
        node.settle(&register_ignore(key))?;
        node.settle(&clear(key))
    }

    fn clear(&mut self) -> Result<(), Failure> {
        let keys: Vec<_> = self.all.iter().flat_map(|node| node.keys.clone()).collect();
        if let Some(key) = keys.first() {
            self.clear_with(*key)?;
        }
        for node in &mut self.all {
            node.unregister()?;
        }
        Ok(())
    }
}

impl Remove for Nodes {
    fn remove(&mut self) {
        let has_keys = self.all.iter().any(|node| !node.keys.is_empty());
        if !has_keys {
            return;
        }
        let reason = match self.restore() {
            Ok(true) => return,
            Ok(false) => "the disk did not remove them".to_owned(),
            Err(failure) => cli_messages::error::error_chain(failure.error.as_ref()),
        };
        self.console.note(&format!(
            "registrations of this run may remain: {reason}; the next run removes them"
        ));
    }
}
