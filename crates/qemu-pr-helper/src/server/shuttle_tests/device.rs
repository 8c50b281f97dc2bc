// SPDX-License-Identifier: MIT OR Apache-2.0

//! A device at which some commands hang until they are released.

use std::collections::BTreeSet;
use std::sync::Arc;

use pr_helper_protocol::Request;
use rustix::process::{Resource, getrlimit};
use scsi_pr::Status;
use shuttle::sync::{Condvar, Mutex};

use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::peer::Peer;
use crate::command::request_device::RequestDevice;

/// Service action of PERSISTENT RESERVE IN that the device completes at once.
pub(super) const READ_KEYS: u8 = 0;

/// Service action of PERSISTENT RESERVE IN that hangs.
pub(super) const HANGING: u8 = 2;

/// A device at which some commands hang until they are released.
#[derive(Clone, Debug)]
pub(super) struct TestDevice {
    state: Arc<(Mutex<State>, Condvar)>,
    max_clients: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Connections that have a command in flight.
    executing: BTreeSet<u64>,
    hanging: usize,
    is_released: bool,
    is_closed: bool,
}

impl TestDevice {
    pub(super) fn new(max_clients: u64) -> Self {
        Self {
            state: Arc::new((Mutex::default(), Condvar::new())),
            max_clients,
        }
    }

    /// Waits until `count` commands hang.
    pub(super) fn wait_until_hanging(&self, count: usize) {
        let (state, changed) = &*self.state;
        let is_less = |state: &mut State| state.hanging < count;
        drop(changed.wait_while(state.lock().unwrap(), is_less).unwrap());
    }

    /// Completes all commands that hang, and all later ones at once.
    pub(super) fn release_all(&self) {
        self.state.0.lock().unwrap().is_released = true;
        self.state.1.notify_all();
    }

    /// Asserts that no command is in flight, and that none starts later.
    pub(super) fn close(&self) {
        let mut state = self.state.0.lock().unwrap();
        assert_eq!(state.executing, BTreeSet::new(), "commands in flight");
        state.is_closed = true;
    }
}

impl CommandExecutor for TestDevice {
    fn execute(
        &self,
        peer: &Peer,
        request: &Request,
        _: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        let (mutex, changed) = &*self.state;
        let mut state = mutex.lock().unwrap();
        assert!(!state.is_closed, "a command starts after the shutdown");
        let is_first = state.executing.insert(peer.connection_id());
        assert!(is_first, "two commands of one client at once");
        if request.command.cdb()[1] == HANGING {
            state.hanging += 1;
            changed.notify_all();
            let hangs = |state: &mut State| !state.is_released;
            state = changed.wait_while(state, hangs).unwrap();
            state.hanging -= 1;
        } else {
            drop(state);
            shuttle::thread::yield_now();
            state = mutex.lock().unwrap();
        }
        state.executing.remove(&peer.connection_id());
        drop(state);
        data.fill(1);
        CommandResult {
            data_len: data.len(),
            ..CommandResult::from_status(Status::GOOD)
        }
    }

    fn fds_per_command(&self) -> u64 {
        // The acceptor divides the descriptor limit by this number plus one.
        let limit = getrlimit(Resource::Nofile).current.unwrap();
        (limit / (self.max_clients + 1)).max(2)
    }
}
