//! How many commands there can be at a device. It hangs in an engine of this process, whose devices are the test's.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use clap::Parser as _;
use pr_helper_protocol::Request;
use qemu_pr_helper::cli::Options;
use qemu_pr_helper::command::executor::{CommandExecutor, CommandResult};
use qemu_pr_helper::command::peer;
use qemu_pr_helper::command::request_device::RequestDevice;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use scsi_pr::Status;
use tempfile::TempDir;

use crate::Test;
use crate::client::{Client, READ_KEYS, null};
use crate::helper::PATIENCE;

pub(crate) const TESTS: &[Test] = &[(
    "a_device_has_its_share_of_threads",
    a_device_has_its_share_of_threads,
)];

/// REPORT CAPABILITIES, at which the devices hang.
const HANGING: [u8; 16] = [0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0];

const MOST: usize = 5;

/// How many commands hang, and whether they still do.
#[derive(Clone, Debug, Default)]
struct Devices(Arc<(Mutex<(usize, bool)>, Condvar)>);

impl Devices {
    fn wait_until_hanging(&self, count: usize) {
        let (state, changed) = &*self.0;
        let state = state.lock().unwrap();
        let fewer = |state: &mut (usize, bool)| state.0 < count;
        let (state, waited) = changed.wait_timeout_while(state, PATIENCE, fewer).unwrap();
        assert!(!waited.timed_out(), "{} of {count} hang", state.0);
    }

    /// Lets those go that hang, and all that come.
    fn let_go(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap().1 = true;
        changed.notify_all();
    }
}

impl CommandExecutor for Devices {
    fn execute(
        &self,
        _: &peer::Peer,
        request: &Request,
        _: &RequestDevice,
        _: &mut [u8],
    ) -> CommandResult {
        if *request.command.cdb() == HANGING {
            let (state, changed) = &*self.0;
            let mut state = state.lock().unwrap();
            state.0 += 1;
            changed.notify_all();
            drop(changed.wait_while(state, |state| !state.1).unwrap());
        }
        CommandResult::from_status(Status::GOOD)
    }
}

struct Running {
    engine: Arc<Server<Devices>>,
    devices: Devices,
    folder: TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let most = MOST.to_string();
        let options = Options::parse_from(["helper", "--max-commands-per-device", &most]);
        let devices = Devices::default();
        let (listener, _) = Listener::bind(&folder.path().join("socket")).unwrap();
        let engine = Server::new(listener, devices.clone(), None, &options.limits);
        let engine = Arc::new(engine.unwrap());
        engine.start().unwrap();
        Self {
            engine,
            devices,
            folder,
        }
    }

    /// A file in the folder, opened.
    fn open(&self, name: &str) -> File {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(self.folder.path().join(name)).unwrap()
    }

    fn ask(&self, cdb: [u8; 16], device: &File) -> Status {
        let client = Client::connect(&self.folder.path().join("socket"));
        client.greeted().try_ask(cdb, device).unwrap()
    }

    /// Has one client more send a command that hangs.
    fn hang(self: &Arc<Self>, device: File) -> JoinHandle<Status> {
        let running = Arc::clone(self);
        thread::spawn(move || running.ask(HANGING, &device))
    }
}

fn a_device_has_its_share_of_threads() {
    let running = Arc::new(Running::start());
    // Files count together, whichever they are.
    let names = ["disk", "other"].into_iter().cycle();
    let hanging = names
        .take(MOST)
        .map(|name| running.hang(running.open(name)));
    let mut hanging: Vec<_> = hanging.collect();
    running.devices.wait_until_hanging(MOST);
    for name in ["disk", "other"] {
        for cdb in [READ_KEYS, HANGING] {
            assert_eq!(running.ask(cdb, &running.open(name)), Status::BUSY);
        }
    }

    let other = null();
    assert_eq!(running.ask(READ_KEYS, &other), Status::GOOD);
    // Who was refused has not taken a place, nor have the others' commands.
    hanging.push(running.hang(other));
    running.devices.wait_until_hanging(MOST + 1);
    assert_eq!(running.ask(READ_KEYS, &running.open("disk")), Status::BUSY);
    assert_eq!(running.ask(READ_KEYS, &null()), Status::GOOD);

    running.devices.let_go();
    for thread in hanging {
        assert_eq!(thread.join().unwrap(), Status::GOOD);
    }
    for file in [running.open("disk"), running.open("other"), null()] {
        for cdb in [READ_KEYS, HANGING] {
            assert_eq!(running.ask(cdb, &file), Status::GOOD);
        }
    }
    assert_eq!(running.engine.shutdown(PATIENCE), 0);
}
