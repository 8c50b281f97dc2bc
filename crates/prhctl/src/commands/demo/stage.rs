//! What a demonstration needs: a folder, a disk with two ports, a helper.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf, absolute};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use pr_helper_protocol::client::ClientError;
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::TransportId;
use soft_lun::store::{Lun, Name, Port, StoreError};
use soft_lun::{Nexus, SupportedFeatures};
use thiserror::Error;

use super::remains::{Remains, remove_folder};
use super::script::Node;

/// How long the helper may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Longest temporary folder that leaves room for a socket's path (`sun_path`, 108 bytes).
const LONGEST_FOLDER: usize = 60;

/// Why a demonstration could not be played.
#[derive(Debug, Error)]
pub(crate) enum StageError {
    /// Signals cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    /// There is no place for temporary files.
    #[error("cannot make a folder in {}", parent.display())]
    Folder {
        /// The place.
        parent: PathBuf,
        /// Why not.
        source: io::Error,
    },
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
pub(super) struct Stage<'a> {
    connections: BTreeMap<&'static str, (Client, File)>,
    lun: Lun,
    socket: PathBuf,
    process: u32,
    remains: &'a Remains,
}

impl<'a> Stage<'a> {
    /// Makes the disk, and starts `program` as its helper. Both are among what `remains`.
    pub(super) fn set(program: &Path, remains: &'a Remains) -> Result<Self, StageError> {
        let folder = folder(remains)?;
        let luns = folder.join("luns");
        fs::create_dir(&luns).map_err(|source| StageError::File {
            path: luns.clone(),
            source,
        })?;
        let lun = Lun::create(
            &luns.join("shared"),
            Node::BOTH.map(make_port).into(),
            SupportedFeatures::default(),
        )?;
        let socket = folder.join("helper.sock");
        let process = start(program, &socket, &luns, remains)?;
        Ok(Stage {
            connections: BTreeMap::new(),
            lun,
            socket,
            process,
            remains,
        })
    }

    /// The disk.
    pub(super) const fn lun(&self) -> &Lun {
        &self.lun
    }

    /// The helper's process.
    pub(super) const fn process(&self) -> u32 {
        self.process
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
            remains,
            lun,
            ..
        } = self;
        drop((connections, lun));
        end(remains)?;
        if socket.symlink_metadata().is_ok() {
            return Err(StageError::Left(socket));
        }
        let folder = remains.things().folder.take();
        match folder {
            Some(folder) => remove_folder(&folder).map_err(|_| StageError::Left(folder)),
            None => Ok(()),
        }
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

/// Makes the folder for everything, in the one for temporary files unless a socket's path would be too
/// long there.
fn folder(remains: &Remains) -> Result<PathBuf, StageError> {
    // The helper's socket has to have an absolute path.
    let parent = absolute(env::temp_dir()).unwrap_or_default();
    let parent = match parent.as_os_str().len() {
        1..=LONGEST_FOLDER => parent,
        _ => "/tmp".into(),
    };
    let mut things = remains.things();
    match make_folder(&parent) {
        Ok(path) => Ok(things.folder.insert(path).clone()),
        Err(source) => Err(StageError::Folder { parent, source }),
    }
}

/// Makes a folder that nobody else has, or may look into.
///
/// # Errors
///
/// The kernel's.
fn make_folder(parent: &Path) -> io::Result<PathBuf> {
    let mut number = 0_u32;
    loop {
        let path = parent.join(format!("prhctl-demo-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            // Left by another process with this number, or of somebody in another container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Starts the helper, and gives its process when it serves.
fn start(program: &Path, socket: &Path, luns: &Path, remains: &Remains) -> Result<u32, StageError> {
    let mut command = Command::new(program);
    command
        .arg("--socket")
        .arg(socket)
        .arg("--soft-luns")
        .arg(luns)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let process = {
        let mut things = remains.things();
        let child = remains.mask().apply_to(&mut command).spawn();
        let child = child.map_err(|source| StageError::Start {
            program: program.to_owned(),
            source,
        })?;
        things.helper.insert(child).id()
    };
    let began = Instant::now();
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = ended(remains)? {
            return Err(report(status, remains));
        }
        if began.elapsed() > PATIENCE {
            return Err(StageError::Stuck("begin"));
        }
        thread::sleep(PAUSE);
    }
    Ok(process)
}

/// SIGTERM, and the end that it should lead to.
fn end(remains: &Remains) -> Result<(), StageError> {
    if let Some(helper) = &remains.things().helper {
        let pid = i32::try_from(helper.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| StageError::End(io::ErrorKind::InvalidInput.into()))?;
        kill_process(pid, Signal::TERM).map_err(|error| StageError::End(error.into()))?;
    }
    let began = Instant::now();
    loop {
        match ended(remains)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(report(status, remains)),
            None if began.elapsed() > PATIENCE => return Err(StageError::Stuck("end")),
            None => thread::sleep(PAUSE),
        }
    }
}

/// Whether the helper has ended, and how.
fn ended(remains: &Remains) -> Result<Option<ExitStatus>, StageError> {
    match &mut remains.things().helper {
        Some(helper) => helper.try_wait().map_err(StageError::End),
        None => Ok(None),
    }
}

/// What the helper said before it ended.
fn report(status: ExitStatus, remains: &Remains) -> StageError {
    let mut said = String::new();
    let output = remains
        .things()
        .helper
        .as_mut()
        .and_then(|helper| helper.stderr.take());
    if let Some(mut output) = output {
        // What cannot be read is not worth another error.
        let _ = output.read_to_string(&mut said);
    }
    StageError::Ended { status, said }
}
