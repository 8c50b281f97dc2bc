//! What a demonstration needs: a folder, a disk with two ports, a helper. All of it goes at the end.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pr_socket::Client;
use pr_socket::client::ClientError;
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::TransportId;
use soft_lun::store::{Lun, Name, Port, StoreError};
use soft_lun::{Nexus, Supported};
use tempfile::TempDir;
use thiserror::Error;

use super::script::Node;

/// How long the helper may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Longest temporary folder that leaves room for a socket's path (`sun_path`, 108 bytes).
const LONGEST_FOLDER: usize = 60;

/// Why a demonstration could not be played.
#[derive(Debug, Error)]
pub(crate) enum StageError {
    /// A folder or file cannot be made or opened.
    #[error("cannot make or open {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The soft LUN.
    #[error(transparent)]
    Lun(#[from] StoreError),
    /// The helper cannot be started.
    #[error("cannot start {}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The helper has ended.
    #[error("the helper ended with {status} and said: {}", said.trim_end())]
    Ended {
        /// How.
        status: ExitStatus,
        /// Its standard error.
        said: String,
    },
    /// The helper does not begin or end.
    #[error("the helper did not {0} within 20 seconds")]
    Stuck(&'static str),
    /// The helper does not answer.
    #[error("cannot ask the helper")]
    Ask(#[source] ClientError),
    /// The helper cannot be told to end.
    #[error("cannot end the helper")]
    End(#[source] io::Error),
    /// Something is left.
    #[error("{} is still there", .0.display())]
    Left(PathBuf),
}

/// Everything that a demonstration needs.
pub(super) struct Stage {
    connections: BTreeMap<&'static str, (Client, File)>,
    lun: Lun,
    socket: PathBuf,
    // Dropped in this order: the helper is gone before its folder is.
    helper: Helper,
    folder: TempDir,
}

impl Stage {
    /// Makes the disk, and starts `program` as its helper.
    pub(super) fn set(program: &Path) -> Result<Self, StageError> {
        let folder = folder()?;
        let luns = folder.path().join("luns");
        fs::create_dir(&luns).map_err(|source| StageError::File {
            path: luns.clone(),
            source,
        })?;
        let lun = Lun::create(
            &luns.join("shared"),
            Node::BOTH.map(make_port).into(),
            Supported::default(),
        )?;
        let socket = folder.path().join("helper.sock");
        let helper = Helper::start(program, &socket, &luns)?;
        Ok(Stage {
            connections: BTreeMap::new(),
            lun,
            socket,
            helper,
            folder,
        })
    }

    /// The disk.
    pub(super) const fn lun(&self) -> &Lun {
        &self.lun
    }

    /// The helper's process.
    pub(super) fn process(&self) -> u32 {
        self.helper.0.id()
    }

    /// A node's connection to the helper, and its port of the disk.
    pub(super) fn connection(&mut self, node: Node) -> Result<&mut (Client, File), StageError> {
        use std::collections::btree_map::Entry;
        match self.connections.entry(node.name()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let client = Client::connect(&self.socket).map_err(StageError::Ask)?;
                let path = self.lun.port_path(&port(node));
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.map_err(|source| StageError::File { path, source })?;
                Ok(entry.insert((client, file)))
            }
        }
    }

    /// Ends a node's connection, if it has one.
    pub(super) fn disconnect(&mut self, node: Node) {
        self.connections.remove(node.name());
    }

    /// Ends the helper as a service manager does, and removes everything.
    ///
    /// # Errors
    ///
    /// That something is left, or the helper did not end well.
    pub(super) fn clear(self) -> Result<(), StageError> {
        let Stage {
            connections,
            socket,
            mut helper,
            folder,
            lun,
        } = self;
        drop((connections, lun));
        helper.end()?;
        if socket.symlink_metadata().is_ok() {
            return Err(StageError::Left(socket));
        }
        let path = folder.path().to_owned();
        folder.close().map_err(|_| StageError::Left(path))
    }
}

/// The name of a node's port.
///
/// # Panics
///
/// Never: the names of nodes are names of ports.
pub(super) fn port(node: Node) -> Name {
    node.name().parse().expect("a node's name is a port's name")
}

fn make_port(node: Node) -> Port {
    let sas_address = match node {
        Node::One => 0x3000_0000_0000_0001,
        Node::Two => 0x3000_0000_0000_0002,
    };
    Port {
        name: port(node),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address },
            target_port: 1.into(),
        },
    }
}

fn folder() -> Result<TempDir, StageError> {
    let mut parent = env::temp_dir();
    if parent.as_os_str().len() > LONGEST_FOLDER {
        parent = "/tmp".into();
    }
    let folder = tempfile::Builder::new()
        .prefix("prhctl-demo-")
        .tempdir_in(&parent);
    folder.map_err(|source| StageError::File {
        path: parent,
        source,
    })
}

/// A helper's process. Killed with the value, if it has not ended.
struct Helper(Child);

impl Helper {
    fn start(program: &Path, socket: &Path, luns: &Path) -> Result<Self, StageError> {
        let child = Command::new(program)
            .arg("--socket")
            .arg(socket)
            .arg("--soft-luns")
            .arg(luns)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut helper = Helper(child.map_err(|source| StageError::Start {
            program: program.to_owned(),
            source,
        })?);
        let began = Instant::now();
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = helper.0.try_wait().map_err(StageError::End)? {
                return Err(helper.ended(status));
            }
            if began.elapsed() > PATIENCE {
                return Err(StageError::Stuck("begin"));
            }
            thread::sleep(PAUSE);
        }
        Ok(helper)
    }

    /// SIGTERM, and the end that it should lead to.
    fn end(&mut self) -> Result<(), StageError> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| StageError::End(io::ErrorKind::InvalidInput.into()))?;
        kill_process(pid, Signal::TERM).map_err(|error| StageError::End(error.into()))?;
        let began = Instant::now();
        loop {
            match self.0.try_wait().map_err(StageError::End)? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(self.ended(status)),
                None if began.elapsed() > PATIENCE => return Err(StageError::Stuck("end")),
                None => thread::sleep(PAUSE),
            }
        }
    }

    fn ended(&mut self, status: ExitStatus) -> StageError {
        let mut said = String::new();
        if let Some(mut output) = self.0.stderr.take() {
            // What cannot be read is not worth another error.
            let _ = output.read_to_string(&mut said);
        }
        StageError::Ended { status, said }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended, and then this does nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
