// SPDX-License-Identifier: MIT OR Apache-2.0

//! A disk with a planted fault: the state machine of a soft LUN in memory, behind a small helper.
//! A fault changes commands and responses, and the state between commands.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use nix::sys::socket::{getsockopt, sockopt};
use pr_helper_protocol::fd_passing::ReceiveMode;
use pr_helper_protocol::server::{Disconnect, PollResult};
use pr_helper_protocol::wire::SENSE_SIZE;
use pr_helper_protocol::{Connection, ReplyBuffer, Request, RequestFd};
use pr_testkit::soft_lun::two_ports;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::fstat;
use rustix::process::Pid;
use scsi_pr::{
    AdditionalSense, BasicParameterList, Cdb, InServiceAction, OutServiceAction, ParameterList,
    Sense, SenseKey, Status,
};
use soft_lun::{LogicalUnit, NexusId, Response, Snapshot};
use tempfile::TempDir;

use crate::support::{Run, prhctl};

/// Names of the ports.
const PORTS: [&str; 2] = ["a", "b"];

/// A command, and the unit that it is for.
pub(crate) struct Exchange<'a> {
    pub(crate) unit: &'a mut LogicalUnit,
    /// Number of commands before this one.
    pub(crate) number: usize,
    /// Index of the port.
    pub(crate) port: usize,
    pub(crate) command: Cdb,
    /// The parameter list of PERSISTENT RESERVE OUT.
    pub(crate) list: BasicParameterList,
    /// The process that sent the command.
    pub(crate) client: Pid,
}

impl Exchange<'_> {
    /// Returns the nexus of a port.
    pub(crate) fn nexus(&self, port: usize) -> NexusId {
        self.unit.nexuses().nth(port).unwrap().0
    }

    /// Returns the nexus of the sender.
    pub(crate) fn sender(&self) -> NexusId {
        self.nexus(self.port)
    }

    /// Executes the command as the standard says.
    pub(crate) fn execute(&mut self) -> Response {
        let sender = self.sender();
        let parameters = match self.command {
            Cdb::In(_) => Vec::new(),
            Cdb::Out(_) => ParameterList::from(self.list.clone()).encode(),
        };
        self.unit
            .execute(sender, &self.command.encode(), &parameters)
    }

    pub(crate) fn is_out(&self, action: OutServiceAction) -> bool {
        matches!(self.command, Cdb::Out(command) if command.service_action == action)
    }

    pub(crate) fn is_in(&self, action: InServiceAction) -> bool {
        matches!(self.command, Cdb::In(command) if command.service_action == action)
    }

    /// Changes the state of the unit.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.unit.snapshot();
        change(&mut snapshot);
        self.unit.restore(&snapshot).unwrap();
    }
}

/// Returns a response without data.
pub(crate) fn status(status: Status) -> Response {
    Response {
        status,
        sense: None,
        data: Vec::new(),
    }
}

/// Returns ILLEGAL REQUEST.
pub(crate) fn illegal(code: AdditionalSense) -> Response {
    Response {
        sense: Some(Sense::new(SenseKey::IllegalRequest, code)),
        ..status(Status::CHECK_CONDITION)
    }
}

/// Status of a response that is not sent: the helper closes the connection instead.
pub(crate) const CLOSE: Status = Status(0xff);

/// Executes a command, with a fault.
pub(crate) type Fault = Box<dyn FnMut(&mut Exchange<'_>) -> Response + Send>;

/// The unit and its fault.
struct Disk {
    unit: LogicalUnit,
    fault: Fault,
    commands: usize,
}

/// A directory with the ports `a` and `b` of the disk, and a helper at `socket`.
pub(crate) struct FaultyDisk {
    dir: TempDir,
    disk: Arc<Mutex<Disk>>,
}

impl FaultyDisk {
    pub(crate) fn start(fault: Fault) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let inodes = PORTS.map(|name| fstat(File::create(dir.path().join(name)).unwrap()).unwrap());
        let ports: BTreeMap<_, _> = inodes
            .map(|stat| stat.st_ino)
            .into_iter()
            .zip(0..)
            .collect();
        let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let nexuses = two_ports().into_iter().map(|port| port.nexus).collect();
        let disk = Arc::new(Mutex::new(Disk {
            unit: LogicalUnit::new(nexuses).unwrap(),
            fault,
            commands: 0,
        }));
        let shared = Arc::clone(&disk);
        thread::spawn(move || {
            for socket in listener.incoming() {
                let (socket, disk, ports) = (socket.unwrap(), Arc::clone(&shared), ports.clone());
                thread::spawn(move || serve(socket, &disk, &ports));
            }
        });
        FaultyDisk { dir, disk }
    }

    /// Starts a disk without a fault.
    pub(crate) fn healthy() -> Self {
        Self::start(Box::new(|exchange| exchange.execute()))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Returns the directory with the ports.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the state of the unit.
    pub(crate) fn state(&self) -> Snapshot {
        self.lock().unit.snapshot()
    }

    /// Returns the number of commands so far.
    pub(crate) fn commands(&self) -> usize {
        self.lock().commands
    }

    /// Returns a command that runs prhctl with this disk.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        prhctl(self.dir.path(), &format!("-k socket {arguments}"))
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        Run::new(&mut self.command(arguments), "")
    }
}

/// Serves a client until it disconnects.
fn serve(socket: UnixStream, disk: &Mutex<Disk>, ports: &BTreeMap<u64, usize>) -> Disconnect {
    let peer = getsockopt(&socket, sockopt::PeerCredentials).unwrap();
    let client = Pid::from_raw(peer.pid()).unwrap();
    let mut connection = Connection::new(socket);
    let mut reply = ReplyBuffer::new();
    if let Err(reason) = connection.send_greeting() {
        return reason;
    }
    loop {
        let request = match connection.poll_request(ReceiveMode::Wait) {
            Ok(PollResult::Request(request)) => request,
            Ok(PollResult::Negotiated(_)) => continue,
            Ok(PollResult::Pending(_)) => {
                let mut readable = [PollFd::new(&connection, PollFlags::IN)];
                poll(&mut readable, None).unwrap();
                continue;
            }
            Err(reason) => return reason,
        };
        let response = respond(&request, &mut disk.lock().unwrap(), ports, client);
        if response.status == CLOSE {
            return Disconnect::Closed;
        }
        let area = reply.data_area(&request.command);
        area[..response.data.len()].copy_from_slice(&response.data);
        let mut sense = [0; SENSE_SIZE];
        if let Some(data) = response.sense {
            sense[..18].copy_from_slice(&data.to_fixed());
        }
        let length = response.data.len();
        let bytes = reply.encode(&request.command, response.status, &sense, length);
        if let Err(reason) = connection.send(bytes) {
            return reason;
        }
    }
}

fn respond(
    request: &Request,
    disk: &mut Disk,
    ports: &BTreeMap<u64, usize>,
    client: Pid,
) -> Response {
    let RequestFd::Open(fd) = &request.fd else {
        panic!("a request without a device");
    };
    let port = ports[&fstat(fd.as_fd()).unwrap().st_ino];
    let mut exchange = Exchange {
        unit: &mut disk.unit,
        number: disk.commands,
        port,
        command: Cdb::decode(request.command.cdb()).unwrap(),
        list: BasicParameterList::without_ids(&request.parameters).unwrap_or_default(),
        client,
    };
    disk.commands += 1;
    (disk.fault)(&mut exchange)
}
