// SPDX-License-Identifier: MIT OR Apache-2.0

//! The limit on commands at a device, with devices of the test and a server in this process.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use clap::Parser as _;
use pr_helper_protocol::Request;
use pr_testkit::cdb::{PrCommand, read_keys, report_capabilities};
use pr_testkit::client::null;
use pr_testkit::{TEST_TIMEOUT, TestClient};
use qemu_pr_helper::cli::Options;
use qemu_pr_helper::command::executor::{CommandExecutor, CommandResult};
use qemu_pr_helper::command::peer::Peer;
use qemu_pr_helper::command::request_device::RequestDevice;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use scsi_pr::Status;
use tempfile::TempDir;

use crate::Test;

pub(crate) const TESTS: &[Test] = tests![commands_at_a_device_are_limited];

const LIMIT: usize = 5;

/// Returns the command at which the devices hang.
fn hanging_command() -> PrCommand {
    report_capabilities(8)
}

/// The number of commands that hang, and whether they are released.
#[derive(Clone, Debug, Default)]
struct Devices(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Devices {
    fn wait_until_hanging(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let fewer = |state: &mut (usize, bool)| state.0 < count;
        let (state, waited) = changed
            .wait_timeout_while(state, TEST_TIMEOUT, fewer)
            .unwrap();
        assert!(!waited.timed_out(), "{} of {count} hang", state.0);
    }

    /// Completes all commands that hang, and all later ones at once.
    fn release_all(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().1 = true;
        changed.notify_all();
    }
}

impl CommandExecutor for Devices {
    fn execute(
        &self,
        _: &Peer,
        request: &Request,
        _: &RequestDevice,
        _: &mut [u8],
    ) -> CommandResult {
        if *request.command.cdb() == hanging_command().cdb {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            changed.notify_all();
            drop(changed.wait_while(state, |state| !state.1).unwrap());
        }
        CommandResult::from_status(Status::GOOD)
    }
}

struct Fixture {
    server: Arc<Server<Devices>>,
    devices: Devices,
    dir: TempDir,
}

impl Fixture {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limit = LIMIT.to_string();
        let options = Options::parse_from(["helper", "--max-commands-per-device", &limit]);
        let devices = Devices::default();
        let (listener, _) = Listener::bind(&dir.path().join("socket")).unwrap();
        let server = Server::new(
            listener,
            devices.clone(),
            None,
            &Arc::default(),
            &options.limits,
        );
        let server = Arc::new(server.unwrap());
        server.start().unwrap();
        Self {
            server,
            devices,
            dir,
        }
    }

    /// Opens a file in the directory, and creates it if necessary.
    fn open(&self, name: &str) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.dir.path().join(name)).unwrap()
    }

    fn request(&self, command: &PrCommand, device: &File) -> Status {
        let client = TestClient::connect(&self.dir.path().join("socket"));
        client.handshake().execute(command, device).status
    }

    /// Starts a client with a command that hangs.
    fn hang(self: &Arc<Self>, device: File) -> JoinHandle<Status> {
        let fixture = Arc::clone(self);
        thread::spawn(move || fixture.request(&hanging_command(), &device))
    }
}

fn commands_at_a_device_are_limited() {
    let fixture = Arc::new(Fixture::start());
    // All files count together.
    let names = ["disk", "other"].into_iter().cycle();
    let hanging = names
        .take(LIMIT)
        .map(|name| fixture.hang(fixture.open(name)));
    let mut hanging: Vec<_> = hanging.collect();
    fixture.devices.wait_until_hanging(LIMIT);
    for name in ["disk", "other"] {
        for command in [read_keys(8), hanging_command()] {
            assert_eq!(fixture.request(&command, &fixture.open(name)), Status::BUSY);
        }
    }

    let other = null();
    assert_eq!(fixture.request(&read_keys(8), &other), Status::GOOD);
    // Rejected commands and those at other devices have taken no permit.
    hanging.push(fixture.hang(other));
    fixture.devices.wait_until_hanging(LIMIT + 1);
    assert_eq!(
        fixture.request(&read_keys(8), &fixture.open("disk")),
        Status::BUSY
    );
    assert_eq!(fixture.request(&read_keys(8), &null()), Status::GOOD);

    fixture.devices.release_all();
    for thread in hanging {
        assert_eq!(thread.join().unwrap(), Status::GOOD);
    }
    for file in [fixture.open("disk"), fixture.open("other"), null()] {
        for command in [read_keys(8), hanging_command()] {
            assert_eq!(fixture.request(&command, &file), Status::GOOD);
        }
    }
    assert_eq!(fixture.server.shutdown(TEST_TIMEOUT), 0);
}
