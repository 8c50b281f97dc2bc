//! The model's device, at which some commands hang.

use std::collections::BTreeSet;
use std::sync::Arc;

use pr_helper_protocol::Request;
use rustix::process::{Resource, getrlimit};
use scsi_pr::Status;
use shuttle::sync::{Condvar, Mutex, MutexGuard};

use crate::command::executor::{CommandExecutor, CommandResult};
use crate::command::peer::Peer;
use crate::command::request_device::RequestDevice;

/// Service actions of PERSISTENT RESERVE IN: one that is answered at once, and one that hangs.
pub(super) const READ_KEYS: u8 = 0;
pub(super) const HANGING: u8 = 2;

/// A device that hangs at some commands until it is let go.
#[derive(Clone, Debug)]
pub(super) struct Device {
    state: Arc<(Mutex<State>, Condvar)>,
    /// For so many clients there is room.
    room: u64,
}

#[derive(Debug, Default)]
struct State {
    /// Clients whose command is executed.
    executing: BTreeSet<u64>,
    hanging: usize,
    is_let_go: bool,
    is_closed: bool,
}

impl Device {
    pub(super) fn new(room: u64) -> Self {
        Self {
            state: Arc::new((Mutex::default(), Condvar::new())),
            room,
        }
    }

    /// Waits until so many commands hang.
    pub(super) fn wait_until_hanging(&self, count: usize) {
        drop(self.wait_while(self.lock(), |state| state.hanging < count));
    }

    /// Nothing hangs any more.
    pub(super) fn let_go(&self) {
        self.lock().is_let_go = true;
        self.state.1.notify_all();
    }

    /// No command may be in progress, nor begin.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        assert_eq!(state.executing, BTreeSet::new(), "commands in progress");
        state.is_closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        mut is_so: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let changed = &self.state.1;
        changed.wait_while(state, |state| is_so(state)).unwrap()
    }
}

impl CommandExecutor for Device {
    fn execute(
        &self,
        client: &Peer,
        request: &Request,
        _: &RequestDevice,
        data: &mut [u8],
    ) -> CommandResult {
        let mut state = self.lock();
        assert!(!state.is_closed, "a command begins after the end");
        let is_first = state.executing.insert(client.connection_id());
        assert!(is_first, "two commands of one client at once");
        if request.command.cdb()[1] == HANGING {
            state.hanging += 1;
            self.state.1.notify_all();
            state = self.wait_while(state, |state| !state.is_let_go);
            state.hanging -= 1;
        } else {
            drop(state);
            shuttle::thread::yield_now();
            state = self.lock();
        }
        state.executing.remove(&client.connection_id());
        drop(state);
        data.fill(1);
        CommandResult {
            data_len: data.len(),
            ..CommandResult::from_status(Status::GOOD)
        }
    }

    fn fds_per_command(&self) -> u64 {
        // The door divides what the process may have by this and one more. Some of them it keeps for itself.
        let limit = getrlimit(Resource::Nofile).current.unwrap();
        (limit / (self.room + 1)).max(2)
    }
}
