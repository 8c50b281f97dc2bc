// SPDX-License-Identifier: MIT OR Apache-2.0

//! The state documents of the helpers that run on this host, read from their state sockets.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

use cli_messages::error::system_error;
use helper_state::{StateDocument, VERSION};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;
use thiserror::Error;

use crate::error::AdvisedError;
use crate::output::json::{Json, ToJson, array, message, object};
use crate::running_helpers::{HelperProcess, helper_processes};

/// Time limit for the state of a helper without `--timeout`.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum size of a document in bytes.
const MAX_SIZE: usize = 64 << 20;

/// An error of reading states.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    #[error("no helper runs on this host")]
    NoHelper,
    #[error("{}: no helper listens on this socket", socket.display())]
    NotListening { socket: PathBuf },
    #[error("{0}: no disk and no client of the helpers has this name")]
    UnknownName(String),
    #[error(transparent)]
    Helper(#[from] HelperStateError),
}

/// An error of reading the state of one helper.
#[derive(Debug, Error)]
#[error("{helper}: {reason}")]
pub(crate) struct HelperStateError {
    helper: String,
    reason: Reason,
}

/// The reason why a state cannot be read.
#[derive(Debug, Error)]
enum Reason {
    #[error("no state socket, because it is QEMU's own helper or an older version")]
    NoSocket,
    #[error("permission denied to read its state")]
    PermissionDenied,
    #[error("cannot connect to its state socket: {}", system_error(.0))]
    Connect(io::Error),
    #[error("process {pid} listens in its place on its state socket")]
    ForeignListener { pid: i32 },
    #[error("cannot read its state: {}", system_error(.0))]
    Read(io::Error),
    #[error("no complete state in time")]
    TimedOut,
    #[error("its state is larger than 64 MiB")]
    TooLarge,
    #[error("its state has version {version}, and this prhctl reads version {VERSION}")]
    Version { version: u32 },
    #[error("its state is malformed")]
    Malformed,
}

impl AdvisedError for StateError {
    fn advice(&self) -> Vec<String> {
        let line = match self {
            StateError::NoHelper => {
                "Check its unit (systemctl status qemu-pr-helper.socket qemu-pr-helper.service). \
                 The unit starts the helper when the first virtual machine connects."
            }
            StateError::NotListening { .. } => {
                "Omit -k to read the state of all helpers of this host. Only root sees the sockets \
                 of helpers that other users run."
            }
            StateError::UnknownName(_) => "List them with 'prhctl disks' and 'prhctl clients'.",
            StateError::Helper(error) => return error.advice(),
        };
        vec![line.to_owned()]
    }
}

impl AdvisedError for HelperStateError {
    fn advice(&self) -> Vec<String> {
        let line = match self.reason {
            Reason::NoSocket => {
                "Use 'prhctl status DEVICE' for the registrations of a disk; it works with any \
                 helper."
            }
            Reason::PermissionDenied => {
                "Run as root, as the user that the helper runs as, or as one of its --state-user."
            }
            Reason::Connect(_) | Reason::Read(_) => "Check that the helper still runs; try again.",
            Reason::ForeignListener { .. } => {
                "The process is not the helper, so prhctl did not read from it. Find out what it \
                 is (ps -fp PID)."
            }
            Reason::TimedOut => {
                "The helper may be overloaded or stopped; try again, or with a longer --timeout."
            }
            Reason::TooLarge | Reason::Malformed | Reason::Version { .. } => {
                "Use the prhctl that belongs to the helper's version."
            }
        };
        vec![line.to_owned()]
    }
}

/// A helper, and its state or the reason why it cannot be read.
#[derive(Debug)]
pub(crate) struct HelperState {
    pub(crate) process: HelperProcess,
    pub(crate) state: Result<StateDocument, HelperStateError>,
}

impl HelperState {
    /// Returns whether the helper listens on `socket`.
    fn is_at(&self, socket: &Path) -> bool {
        let state = self.state.as_ref().ok();
        // The helper tells its own path if its open files are not visible.
        let told = state.and_then(|state| state.helper.socket.as_deref().map(Path::new));
        let mut sockets = self.process.sockets.iter().map(PathBuf::as_path);
        sockets.by_ref().chain(told).any(|own| is_same(own, socket))
    }
}

/// The states of the helpers of this host.
#[derive(Debug)]
pub(crate) struct HelperStates(pub(crate) Vec<HelperState>);

impl HelperStates {
    /// Returns the helpers with a document.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&HelperProcess, &StateDocument)> {
        let helpers = self.0.iter();
        helpers.filter_map(|helper| Some((&helper.process, helper.state.as_ref().ok()?)))
    }

    /// Returns whether several helpers have a document.
    pub(crate) fn has_several(&self) -> bool {
        self.documents().nth(1).is_some()
    }
}

impl ToJson for HelperStates {
    fn to_json(&self) -> Json {
        array(&self.0)
    }
}

impl ToJson for HelperState {
    fn to_json(&self) -> Json {
        let state = self.state.as_ref().ok();
        object! {
            "pid": self.process.pid,
            "socket": state.and_then(|state| state.helper.socket.as_ref()),
            "version": state.map(|state| &state.helper.version),
            "error": self.state.as_ref().err().map(|error| message(&error.to_string())),
        }
    }
}

/// The helpers that states are read from.
#[derive(Clone, Debug)]
pub(crate) struct StateSource {
    /// The socket of the only helper to read.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) timeout: Duration,
}

impl StateSource {
    /// Returns the states of the helpers of this host. At least one state was read.
    pub(crate) fn read(&self) -> Result<HelperStates, StateError> {
        states(Path::new("/proc"), self.socket.as_deref(), self.timeout)
    }
}

/// Returns whether two paths lead to the same file.
fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Returns the states of the helpers in the procfs that is mounted at `proc`, or of those that
/// listen on `socket`. At least one state was read.
fn states(
    proc: &Path,
    socket: Option<&Path>,
    timeout: Duration,
) -> Result<HelperStates, StateError> {
    let mut states = read_states(proc, timeout);
    if states.is_empty() {
        return Err(StateError::NoHelper);
    }
    if let Some(socket) = socket {
        states.retain(|state| state.is_at(socket));
        if states.is_empty() {
            let socket = socket.to_owned();
            return Err(StateError::NotListening { socket });
        }
    }
    let first_error = |states: Vec<HelperState>| states.into_iter().find_map(|one| one.state.err());
    match states.iter().any(|helper| helper.state.is_ok()) {
        true => Ok(HelperStates(states)),
        false => Err(first_error(states).map_or(StateError::NoHelper, Into::into)),
    }
}

/// Returns the state of each helper in the procfs that is mounted at `proc`, in the order of their
/// process IDs. The helpers are read at the same time, each within `timeout`.
pub(crate) fn read_states(proc: &Path, timeout: Duration) -> Vec<HelperState> {
    let helpers = helper_processes(proc);
    let states: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = helpers
            .iter()
            // A thread can enter another network namespace for itself.
            .map(|helper| Builder::new().spawn_scoped(scope, move || read(helper, timeout)))
            .collect();
        let readers = readers.into_iter();
        readers
            .map(|reader| match reader.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(state)) => state,
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(error) => Err(Reason::Connect(error)),
            })
            .collect()
    });
    let states = helpers.into_iter().zip(states);
    states
        .map(|(process, state)| {
            let helper = process.to_string();
            let state = state.map_err(|reason| HelperStateError { helper, reason });
            HelperState { process, state }
        })
        .collect()
}

/// Reads the state of a helper. The calling thread remains in the helper's network namespace.
fn read(helper: &HelperProcess, timeout: Duration) -> Result<StateDocument, Reason> {
    let name = helper.state_socket.as_deref();
    let name = name.ok_or(Reason::NoSocket)?;
    let deadline = Instant::now() + timeout;
    enter_network(&helper.dir)?;
    let stream = open(name, timeout).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => Reason::TimedOut,
        ErrorKind::PermissionDenied => Reason::PermissionDenied,
        _ => Reason::Connect(error),
    })?;
    let peer = getsockopt(&stream, sockopt::PeerCredentials);
    let peer = peer.map_err(|error| Reason::Connect(error.into()))?;
    if u32::try_from(peer.pid()) != Ok(helper.pid) {
        return Err(Reason::ForeignListener { pid: peer.pid() });
    }
    parse(&read_all(stream, deadline)?)
}

/// Moves the calling thread into the network namespace of `process`, a directory of procfs, if that
/// is another one. A process without the permission to see the namespace assumes its own.
fn enter_network(process: &Path) -> Result<(), Reason> {
    let path = process.join("ns/net");
    let (Ok(own), Ok(other)) = (fs::read_link("/proc/self/ns/net"), fs::read_link(&path)) else {
        return Ok(());
    };
    if own == other {
        return Ok(());
    }
    let entered = File::open(path).and_then(|namespace| {
        let network = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(namespace.as_fd(), network)?)
    });
    entered.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Reason::PermissionDenied,
        _ => Reason::Connect(error),
    })
}

/// Connects to a socket with a name in the abstract namespace.
fn open(name: &str, timeout: Duration) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The limit applies to connecting as well, which waits while the queue of the listener is full.
    let seconds = i64::try_from(timeout.as_secs().max(1)).unwrap_or(i64::MAX);
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(
        socket.as_raw_fd(),
        &UnixAddr::new_abstract(name.as_bytes())?,
    )?;
    Ok(socket.into())
}

/// Reads until the helper closes the connection.
fn read_all(mut stream: UnixStream, deadline: Instant) -> Result<Vec<u8>, Reason> {
    let (mut data, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Reason::TimedOut);
        }
        let limited = stream.set_read_timeout(Some(left));
        match limited.and_then(|()| stream.read(&mut buffer)) {
            // The helper closes the connections of other users without a document.
            Ok(0) if data.is_empty() => return Err(Reason::PermissionDenied),
            Ok(0) => return Ok(data),
            Ok(length) if data.len() + length > MAX_SIZE => return Err(Reason::TooLarge),
            Ok(length) => data.extend(buffer.iter().take(length)),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    return Err(Reason::TimedOut);
                }
                ErrorKind::ConnectionReset if data.is_empty() => {
                    return Err(Reason::PermissionDenied);
                }
                _ => return Err(Reason::Read(error)),
            },
        }
    }
}

fn parse(data: &[u8]) -> Result<StateDocument, Reason> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |_| Reason::Malformed;
    let Version { version } = serde_json::from_slice(data).map_err(malformed)?;
    match version {
        VERSION => serde_json::from_slice(data).map_err(malformed),
        version => Err(Reason::Version { version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state_fixture::{client, document};
    use pr_testkit::fake_proc::FakeProcess;
    use pr_testkit::fake_proc::FakeSocket::Listening;
    use std::io::Write as _;
    use std::net::Shutdown;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::process;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tempfile::TempDir;

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Returns a process ID in another namespace that no test has used.
    fn unused_pid() -> u32 {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        // The name of the socket must also differ from those of other runs.
        process::id() + COUNT.fetch_add(1, Ordering::Relaxed) * 10_000_000
    }

    /// Adds a helper with this state socket to the procfs `proc`.
    fn add(proc: &Path, pid: u32, namespace_pid: u32, socket: &str) {
        let process = FakeProcess {
            pid,
            name: "qemu-pr-helper",
            root: Path::new("/"),
            open: 50,
            sockets: &[Listening(51, Path::new(socket))],
        };
        process.create(proc);
        let status = format!("Name:\tqemu-pr-helper\nPPid:\t1\nNSpid:\t{pid}\t{namespace_pid}\n");
        fs::write(proc.join(format!("{pid}/status")), status).unwrap();
    }

    /// A procfs with one helper: this process, in another PID namespace.
    struct TestHelper {
        proc: TempDir,
        listener: UnixListener,
    }

    impl TestHelper {
        fn new(pid: u32) -> Self {
            let proc = tempfile::tempdir().unwrap();
            let namespace_pid = unused_pid();
            let name = helper_state::socket_name(namespace_pid);
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            add(proc.path(), pid, namespace_pid, &format!("@{name}"));
            TestHelper { proc, listener }
        }

        /// Reads the state while the helper writes `data` to the connection.
        fn read(&self, data: &[u8]) -> Result<HelperStates, StateError> {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = self.listener.accept().unwrap();
                    // The reader may have closed the connection.
                    let _ = stream.write_all(data);
                });
                states(self.proc.path(), None, TIMEOUT)
            })
        }

        #[track_caller]
        fn expect_error(&self, data: &[u8], expected: &str) {
            let error = self.read(data).unwrap_err();
            let start = format!("helper (process {}): ", process::id());
            let text = error.to_string();
            assert_eq!(text.strip_prefix(&start), Some(expected), "{text}");
            assert!(!error.advice().is_empty(), "{text}");
        }
    }

    #[test]
    fn document_is_read() {
        let helper = TestHelper::new(process::id());
        let mut state = document();
        state.clients = (1..500).map(|id| client(id, "node1")).collect();
        let data = serde_json::to_vec(&state).unwrap();
        let states = helper.read(&data).unwrap();
        let found: Vec<_> = states.documents().collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0.pid, process::id());
        assert_eq!(*found[0].1, state);
    }

    #[test]
    fn unusable_documents_are_errors() {
        let helper = TestHelper::new(process::id());
        helper.expect_error(b"", "permission denied to read its state");
        helper.expect_error(b"{", "its state is malformed");
        helper.expect_error(b"{\"version\": 1}", "its state is malformed");
        helper.expect_error(
            b"{\"version\": 2}",
            "its state has version 2, and this prhctl reads version 1",
        );
        let blanks = vec![b' '; MAX_SIZE + 1];
        helper.expect_error(&blanks, "its state is larger than 64 MiB");
    }

    #[test]
    fn silent_helper_times_out() {
        let helper = TestHelper::new(process::id());
        let error = states(helper.proc.path(), None, Duration::from_millis(10)).unwrap_err();
        let text = error.to_string();
        assert!(text.ends_with(": no complete state in time"), "{text}");
    }

    #[test]
    fn other_listener_is_not_read() {
        let pid = process::id() + 1;
        let helper = TestHelper::new(pid);
        let error = states(helper.proc.path(), None, TIMEOUT).unwrap_err();
        let expected = format!(
            "helper (process {pid}): process {} listens in its place on its state socket",
            process::id()
        );
        assert_eq!(error.to_string(), expected);
        // prhctl has closed the connection without reading.
        let (stream, _) = helper.listener.accept().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn helpers_without_state_are_reported() {
        let helper = TestHelper::new(process::id());
        let proc = helper.proc.path();
        // The state socket of another process is in its table.
        add(proc, 7, 8, "@qemu-pr-helper/state/9");
        let states = helper
            .read(&serde_json::to_vec(&document()).unwrap())
            .unwrap();
        let errors: Vec<_> = states
            .0
            .iter()
            .filter_map(|helper| helper.state.as_ref().err())
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            errors,
            [
                "helper (process 7): no state socket, because it is QEMU's own helper or an older \
                 version"
            ]
        );
        assert!(!states.has_several());
    }

    #[test]
    fn socket_selects_its_helper() {
        let helper = TestHelper::new(process::id());
        let proc = helper.proc.path();
        let mut state = document();
        let path = proc.join("socket");
        fs::write(&path, "").unwrap();
        state.helper.socket = Some(path.to_str().unwrap().to_owned());
        let data = serde_json::to_vec(&state).unwrap();
        let select = |socket: &Path| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let (mut stream, _) = helper.listener.accept().unwrap();
                    stream.write_all(&data).unwrap();
                });
                states(proc, Some(socket), TIMEOUT)
            })
        };
        assert!(select(&path).is_ok());
        let error = select(Path::new("/dev/null")).unwrap_err();
        let expected = "/dev/null: no helper listens on this socket";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn host_without_helpers_is_an_error() {
        let error = states(Path::new("/nonexistent"), None, TIMEOUT).unwrap_err();
        assert_eq!(error.to_string(), "no helper runs on this host");
    }
}
