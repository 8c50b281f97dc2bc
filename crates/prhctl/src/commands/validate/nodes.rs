// SPDX-License-Identifier: MIT OR Apache-2.0

//! The connections of the nodes, and the removal of everything that they have registered.

use std::path::{Path, PathBuf};

use pr_helper_protocol::{Direction, Response};
use scsi_pr::{
    Cdb, InServiceAction, Keys, ParameterDataError, PersistentReserveIn, PrGeneration,
    ReservationData, ReservationKey, Truncatable,
};

use super::ValidateError;
use super::command::{Answer, OutCommand, clear, register, register_ignore};
use super::keys::{A, NodeId, is_of_a_run};
use crate::cleanup::Remove;
use crate::console::Console;
use crate::error::{Error, Failure};
use crate::helper::{HelperConnection, HelperOptions};
use crate::known_disks::distinct;

/// Maximum number of unit attentions that one node has at a time.
const MAX_UNIT_ATTENTIONS: usize = 16;
/// Allocation length of a query: the largest one that the protocol carries.
const ALLOCATION: u16 = 8192;

/// The connection of a node, and its keys.
#[derive(Debug)]
pub(super) struct Node {
    options: &'static HelperOptions,
    pub(super) path: &'static Path,
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

    /// Reads registrations and reservation.
    fn state(&mut self) -> Result<DiskState, Failure> {
        let keys = self.settled_query(InServiceAction::ReadKeys, Keys::decode)?;
        let action = InServiceAction::ReadReservation;
        let reservation = self.settled_query(action, ReservationData::decode)?;
        Ok(DiskState::new(self.path, Some(keys), Some(reservation)))
    }

    /// Like [`Self::state`], but a malformed answer only makes the state incomplete. A step finds
    /// malformed answers, and they are no reason to stop.
    fn visible_state(&mut self) -> Result<DiskState, Failure> {
        let decode = |data: &[u8]| Ok(Keys::decode(data).ok());
        let keys = self.settled_query(InServiceAction::ReadKeys, decode)?;
        let decode = |data: &[u8]| Ok(ReservationData::decode(data).ok());
        let reservation = self.settled_query(InServiceAction::ReadReservation, decode)?;
        Ok(DiskState::new(self.path, keys, reservation))
    }

    /// Removes the node's registrations, and with them its reservation.
    fn unregister(&mut self) -> Result<(), Failure> {
        for key in self.keys.clone() {
            self.settle(&register(key, ReservationKey::ZERO))?;
        }
        Ok(())
    }
}

/// Registrations and reservation of the disk, as one node sees them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DiskState {
    /// The device of the node.
    pub(super) device: &'static Path,
    generation: Option<PrGeneration>,
    /// The keys of the registrations and of the reservation, without duplicates.
    pub(super) keys: Vec<ReservationKey>,
    is_reserved: bool,
    /// False if the answers may lack keys.
    is_complete: bool,
}

impl DiskState {
    fn new(
        device: &'static Path,
        keys: Option<Truncatable<Keys>>,
        reservation: Option<ReservationData>,
    ) -> Self {
        let is_complete =
            keys.as_ref().is_some_and(Truncatable::is_complete) && reservation.is_some();
        let generation = keys.as_ref().map(|keys| keys.value.generation);
        let holder = reservation.and_then(|data| data.reservation);
        let holder_key = holder.map(|one| one.key).filter(|key| !key.is_zero());
        let registered = keys.into_iter().flat_map(|keys| keys.value.keys);
        DiskState {
            device,
            generation,
            keys: distinct(registered.chain(holder_key)),
            is_reserved: holder.is_some(),
            is_complete,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.is_reserved
    }

    /// Returns whether all keys are known, and those of runs.
    pub(super) fn is_of_runs(&self) -> bool {
        self.is_complete && self.keys.iter().copied().all(is_of_a_run)
    }

    /// Returns whether this key is the only one.
    pub(super) fn has_only(&self, key: ReservationKey) -> bool {
        self.is_complete && self.keys == [key]
    }
}

/// Checks that all keys are those of runs, during a run.
pub(super) fn check_own(device: &Path, keys: &[ReservationKey]) -> Result<(), ValidateError> {
    let keys: Vec<_> = distinct(keys.iter().copied().filter(|key| !is_of_a_run(*key)));
    match keys.is_empty() {
        true => Ok(()),
        false => Err(ValidateError::Appeared {
            device: device.to_owned(),
            keys,
        }),
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

    /// Reads registrations and reservation through each node, which can lead to different disks.
    pub(super) fn states(&mut self) -> Result<Vec<DiskState>, Failure> {
        self.all.iter_mut().map(Node::state).collect()
    }

    /// Removes all registrations of the run and the pending unit attentions. Returns whether the
    /// disk is in the state before the run.
    ///
    /// # Errors
    ///
    /// Another program has registered during the run. Its registrations remain.
    pub(super) fn restore(&mut self) -> Result<bool, Failure> {
        for node in &mut self.all {
            node.unregister()?;
        }
        self.read_unit_attentions()?;
        let mut states = self.own_states()?;
        if !states.iter().all(DiskState::is_empty) {
            states = self.restore_by_force(&states)?;
        }
        let is_clean = states.iter().all(DiskState::is_empty);
        if is_clean {
            self.forget_keys();
        }
        Ok(is_clean)
    }

    fn may_be_registered(&self) -> bool {
        self.all.iter().any(|node| !node.keys.is_empty())
    }

    fn forget_keys(&mut self) {
        self.all.iter_mut().for_each(|node| node.keys.clear());
    }

    /// Reads the pending unit attentions of all nodes.
    fn read_unit_attentions(&mut self) -> Result<(), Failure> {
        for node in &mut self.all {
            node.settled_query(InServiceAction::ReadKeys, |_| Ok(()))?;
        }
        Ok(())
    }

    /// Returns the state through each node, after unregistering. Fails if a node sees a key that is
    /// not of a run.
    fn own_states(&mut self) -> Result<Vec<DiskState>, Failure> {
        let states = self.all.iter_mut().map(Node::visible_state);
        let states = states.collect::<Result<Vec<_>, _>>()?;
        let mut checks = states.iter();
        if let Err(error) = checks.try_for_each(|state| check_own(state.device, &state.keys)) {
            let own: Vec<_> = self.all.iter().flat_map(|node| &node.keys).collect();
            let is_own = |key: &ReservationKey| own.contains(&key);
            let is_removed =
                |state: &DiskState| state.is_complete && !state.keys.iter().any(is_own);
            if states.iter().all(is_removed) {
                self.forget_keys();
            }
            return Err(error.into());
        }
        Ok(states)
    }

    /// Removes registrations that unregistering has left, with the commands that need no key or
    /// ignore it. Through a node that may see the keys of others, no command is sent: B can lead to
    /// another disk. Returns the states afterwards.
    fn restore_by_force(&mut self, states: &[DiskState]) -> Result<Vec<DiskState>, Failure> {
        for (node, _) in (self.all.iter_mut().zip(states)).filter(|(_, state)| state.is_of_runs()) {
            node.settle(&register_ignore(ReservationKey::ZERO))?;
        }
        let states = self.own_states()?;
        let is_left = states.iter().any(|state| !state.is_empty());
        if is_left && states.iter().all(DiskState::is_of_runs) {
            self.clear()?;
        }
        self.read_unit_attentions()?;
        self.own_states()
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
        if !self.may_be_registered() {
            return;
        }
        let reason = match self.restore() {
            Ok(true) => return,
            Ok(false) => "the disk did not remove them".to_owned(),
            // It removed them, and found those of another program.
            Err(_) if !self.may_be_registered() => return,
            Err(failure) => cli_messages::error::error_chain(failure.error.as_ref()),
        };
        self.console.note(&format!(
            "registrations of this run may remain: {reason}; the next run removes them, unless the \
             disk has others"
        ));
    }
}
