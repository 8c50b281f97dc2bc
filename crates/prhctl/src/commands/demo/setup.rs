// SPDX-License-Identifier: MIT OR Apache-2.0

//! The environment of a demonstration: a temporary directory, a disk with two ports, and a helper.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::TransportId;
use soft_lun::store::{Lun, Name, Port};
use soft_lun::{Nexus, SupportedFeatures};

use super::DemoError;
use super::cleanup::{DemoGuard, remove_dir};
use super::scenario::Node;

/// Time for the helper to start, and to exit.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// The longest path of a parent directory that leaves room for the socket (`sun_path`, 108 bytes).
const MAX_PARENT_LEN: usize = 60;

/// The disk, the helper, and the nodes' connections.
pub(super) struct DemoSetup<'a> {
    connections: BTreeMap<&'static str, (Client, File)>,
    lun: Lun,
    socket: PathBuf,
    helper_pid: u32,
    guard: &'a DemoGuard,
}

impl<'a> DemoSetup<'a> {
    /// Creates the disk and starts `helper`. The guard removes both.
    pub(super) fn create(helper: &Path, guard: &'a DemoGuard) -> Result<Self, DemoError> {
        let dir = create_temp_dir(guard)?;
        let luns = dir.join("luns");
        fs::create_dir(&luns).map_err(|source| DemoError::File {
            path: luns.clone(),
            source,
        })?;
        let ports = Node::ALL.map(new_port).into();
        let lun = Lun::create(&luns.join("shared"), ports, SupportedFeatures::default())?;
        let socket = dir.join("helper.sock");
        let helper_pid = start_helper(helper, &socket, &luns, guard)?;
        Ok(DemoSetup {
            connections: BTreeMap::new(),
            lun,
            socket,
            helper_pid,
            guard,
        })
    }

    pub(super) const fn lun(&self) -> &Lun {
        &self.lun
    }

    pub(super) const fn helper_pid(&self) -> u32 {
        self.helper_pid
    }

    /// Returns a node's connection to the helper and its port of the disk. Opens them first if
    /// needed.
    pub(super) fn connection(&mut self, node: Node) -> Result<&mut (Client, File), DemoError> {
        match self.connections.entry(node.name()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let client = Client::connect(&self.socket).map_err(DemoError::Send)?;
                let path = self.lun.port_path(&port_name(node));
                let file = OpenOptions::new().read(true).write(true).open(&path);
                let file = file.map_err(|source| DemoError::File { path, source })?;
                Ok(entry.insert((client, file)))
            }
        }
    }

    /// Closes a node's connection.
    pub(super) fn disconnect(&mut self, node: Node) {
        self.connections.remove(node.name());
    }

    /// Stops the helper like a service manager, and removes everything.
    pub(super) fn teardown(self) -> Result<(), DemoError> {
        drop((self.connections, self.lun));
        stop_helper(self.guard)?;
        if self.socket.symlink_metadata().is_ok() {
            return Err(DemoError::NotRemoved(self.socket));
        }
        let dir = self.guard.resources().dir.take();
        match dir {
            Some(dir) => remove_dir(&dir).map_err(|_| DemoError::NotRemoved(dir)),
            None => Ok(()),
        }
    }
}

/// Returns the name of a node's port.
pub(super) fn port_name(node: Node) -> Name {
    node.name()
        .parse()
        .expect("node names are valid port names")
}

fn new_port(node: Node) -> Port {
    let sas_address = match node {
        Node::One => 0x3000_0000_0000_0001,
        Node::Two => 0x3000_0000_0000_0002,
    };
    Port {
        name: port_name(node),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address },
            target_port: 1.into(),
        },
    }
}

/// Creates the temporary directory in TMPDIR, or in /tmp if that path is too long for a socket.
fn create_temp_dir(guard: &DemoGuard) -> Result<PathBuf, DemoError> {
    // The helper requires an absolute path of its socket.
    let parent = absolute(env::temp_dir()).unwrap_or_default();
    let parent = match parent.as_os_str().len() {
        1..=MAX_PARENT_LEN => parent,
        _ => "/tmp".into(),
    };
    let mut resources = guard.resources();
    match create_private_dir(&parent) {
        Ok(path) => Ok(resources.dir.insert(path).clone()),
        Err(source) => Err(DemoError::TempDir { parent, source }),
    }
}

/// Creates a new directory that other users cannot access.
fn create_private_dir(parent: &Path) -> io::Result<PathBuf> {
    let mut number = 0_u32;
    loop {
        let path = parent.join(format!("prhctl-demo-{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            // Another process had the same PID, or has it in another container.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Starts the helper, and returns its PID when it accepts connections.
fn start_helper(
    binary: &Path,
    socket: &Path,
    luns: &Path,
    guard: &DemoGuard,
) -> Result<u32, DemoError> {
    let mut command = Command::new(binary);
    command
        .arg("--socket")
        .arg(socket)
        .arg("--soft-luns")
        .arg(luns)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let pid = {
        let mut resources = guard.resources();
        let child = guard.signal_mask().apply_to(&mut command).spawn();
        let child = child.map_err(|source| DemoError::Start {
            binary: binary.to_owned(),
            source,
        })?;
        resources.helper.insert(child).id()
    };
    let started = Instant::now();
    while UnixStream::connect(socket).is_err() {
        if let Some(status) = exit_status(guard)? {
            return Err(exited(status, guard));
        }
        if started.elapsed() > HELPER_TIMEOUT {
            return Err(DemoError::Timeout("start"));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(pid)
}

/// Sends SIGTERM to the helper and waits until it has exited.
fn stop_helper(guard: &DemoGuard) -> Result<(), DemoError> {
    if let Some(helper) = &guard.resources().helper {
        let pid = i32::try_from(helper.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| DemoError::Stop(io::ErrorKind::InvalidInput.into()))?;
        kill_process(pid, Signal::TERM).map_err(|error| DemoError::Stop(error.into()))?;
    }
    let started = Instant::now();
    loop {
        match exit_status(guard)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(exited(status, guard)),
            None if started.elapsed() > HELPER_TIMEOUT => return Err(DemoError::Timeout("exit")),
            None => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Returns the exit status of the helper if it has exited.
fn exit_status(guard: &DemoGuard) -> Result<Option<ExitStatus>, DemoError> {
    match &mut guard.resources().helper {
        Some(helper) => helper.try_wait().map_err(DemoError::Stop),
        None => Ok(None),
    }
}

/// Returns the error for a helper that has exited, with its standard error.
fn exited(status: ExitStatus, guard: &DemoGuard) -> DemoError {
    let mut stderr = String::new();
    let output = guard
        .resources()
        .helper
        .as_mut()
        .and_then(|helper| helper.stderr.take());
    if let Some(mut output) = output {
        // The exit status matters more than a read error.
        let _ = output.read_to_string(&mut stderr);
    }
    DemoError::Exited { status, stderr }
}
