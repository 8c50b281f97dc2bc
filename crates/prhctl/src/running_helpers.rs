// SPDX-License-Identifier: MIT OR Apache-2.0

//! Search for the helpers that run on this host, by their listening sockets in procfs.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use linux_util::procfs::{listening_sockets, namespace_pid, open_sockets, status_value};
use rustix::fs::{Access, access};

/// Name of a helper's process, this project's or QEMU's.
const PROCESS_NAME: &[u8] = b"qemu-pr-helper";

/// A helper that listens on a socket which this process can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunningHelper {
    pub(crate) socket: PathBuf,
    pub(crate) pid: u32,
}

impl fmt::Display for RunningHelper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.socket.display(), self.pid)
    }
}

/// A process with the name of a helper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HelperProcess {
    pub(crate) pid: u32,
    /// The directory of procfs.
    pub(crate) dir: PathBuf,
    /// Paths on which it listens and that this process can connect to; none if its open files are
    /// not visible.
    pub(crate) sockets: Vec<PathBuf>,
    /// Name of its state socket in the abstract namespace.
    pub(crate) state_socket: Option<String>,
}

impl fmt::Display for HelperProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sockets.first() {
            Some(socket) => write!(f, "helper at {} (process {})", socket.display(), self.pid),
            None => write!(f, "helper (process {})", self.pid),
        }
    }
}

/// Returns the helpers in the procfs that is mounted at `proc`, one for each socket, in the order
/// of their process IDs.
///
/// The open files of a process are visible only to root and, with the same capabilities, to its own
/// user. A helper with files that are not visible is missing.
pub(crate) fn running_helpers(proc: &Path) -> Vec<RunningHelper> {
    let mut helpers: Vec<RunningHelper> = Vec::new();
    for HelperProcess { pid, sockets, .. } in processes(proc) {
        for socket in sockets {
            // A child can have inherited the socket.
            if helpers.iter().all(|helper| helper.socket != socket) {
                helpers.push(RunningHelper { socket, pid });
            }
        }
    }
    helpers
}

/// Returns the processes with the name of a helper in the order of their process IDs, without the
/// children of others: these are workers.
pub(crate) fn helper_processes(proc: &Path) -> Vec<HelperProcess> {
    let mut processes = processes(proc);
    let pids: Vec<_> = processes.iter().map(|process| process.pid).collect();
    processes.retain(|process| {
        let parent = status_value(&process.dir, "PPid").and_then(|parent| parent.parse().ok());
        parent.is_none_or(|parent: u32| !pids.contains(&parent))
    });
    processes
}

/// Returns the processes with the name of a helper in the order of their process IDs.
fn processes(proc: &Path) -> Vec<HelperProcess> {
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    let mut pids: Vec<u32> = processes
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let processes = pids.into_iter();
    processes
        .filter_map(|pid| process(pid, proc.join(pid.to_string())))
        .collect()
}

/// Returns the process of a directory of procfs if it has the name of a helper.
fn process(pid: u32, dir: PathBuf) -> Option<HelperProcess> {
    let name = fs::read(dir.join("comm")).ok()?;
    if name.trim_ascii_end() != PROCESS_NAME {
        return None;
    }
    // The table is that of the process's network namespace: it can run in a container.
    let table = fs::read(dir.join("net/unix")).unwrap_or_default();
    let open = open_sockets(&dir).unwrap_or_default();
    let sockets = listening_sockets(&table)
        .filter(|socket| open.contains(&socket.inode) && is_reachable(&dir, socket.path))
        .map(|socket| socket.path.to_owned())
        .collect();
    let state_socket = helper_state::socket_name(namespace_pid(&dir).unwrap_or(pid));
    let is_listening = {
        let path = format!("@{state_socket}");
        listening_sockets(&table).any(|socket| socket.path == Path::new(&path))
    };
    Some(HelperProcess {
        pid,
        sockets,
        state_socket: is_listening.then_some(state_socket),
        dir,
    })
}

/// Returns whether this process can connect to the socket that `process` has bound to `path`. The
/// path can name another file here, if `process` runs in another mount namespace.
fn is_reachable(process: &Path, path: &Path) -> bool {
    let Ok(relative) = path.strip_prefix("/") else {
        return false;
    };
    let there = fs::metadata(process.join("root").join(relative));
    let (Ok(there), Ok(here)) = (there, fs::metadata(path)) else {
        return false;
    };
    (there.dev(), there.ino()) == (here.dev(), here.ino())
        && here.file_type().is_socket()
        && access(path, Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pr_testkit::fake_proc::FakeProcess;
    use pr_testkit::fake_proc::FakeSocket::{self, Accepted, Listening};
    use std::os::unix::net::UnixListener;

    /// A directory like procfs, and sockets.
    struct TestProc(tempfile::TempDir);

    impl TestProc {
        fn new() -> Self {
            TestProc(tempfile::tempdir().unwrap())
        }

        fn bind(&self, name: &str) -> PathBuf {
            let path = self.0.path().join(name);
            UnixListener::bind(&path).unwrap();
            path
        }

        /// Adds a helper that has the socket with inode `open` open.
        fn add(&self, pid: u32, open: u64, sockets: &[FakeSocket<'_>]) {
            self.add_process(pid, "qemu-pr-helper", "/", open, sockets);
        }

        fn add_process(
            &self,
            pid: u32,
            name: &str,
            root: impl AsRef<Path>,
            open: u64,
            sockets: &[FakeSocket<'_>],
        ) {
            let root = root.as_ref();
            let process = FakeProcess {
                pid,
                name,
                root,
                open,
                sockets,
            };
            process.create(self.0.path());
        }

        fn found(&self) -> Vec<(PathBuf, u32)> {
            let helpers = running_helpers(self.0.path()).into_iter();
            helpers.map(|helper| (helper.socket, helper.pid)).collect()
        }
    }

    #[test]
    fn helpers_are_found_once_in_order() {
        let proc = TestProc::new();
        let (first, second) = (proc.bind("first"), proc.bind("with blank"));
        let sockets = [Listening(50, &first), Listening(51, &second)];
        proc.add(10, 50, &sockets);
        proc.add(9, 51, &sockets);
        // The first helper's child.
        proc.add(11, 50, &sockets);
        assert_eq!(proc.found(), [(second, 9), (first, 10)]);
    }

    #[test]
    fn other_programs_are_not_found() {
        let proc = TestProc::new();
        let socket = proc.bind("socket");
        let sockets = [Listening(50, socket.as_path())];
        for (pid, name) in (1..).zip(["qemu-pr-helpers", "pr-helper", ""]) {
            proc.add_process(pid, name, "/", 50, &sockets);
        }
        assert_eq!(proc.found(), []);
    }

    #[test]
    fn only_listening_sockets_are_found() {
        let proc = TestProc::new();
        let socket = proc.bind("socket");
        let sockets = [Accepted(50, socket.as_path()), Listening(51, &socket)];
        proc.add(9, 50, &sockets);
        assert_eq!(proc.found(), []);
        proc.add(10, 51, &sockets);
        assert_eq!(proc.found(), [(socket, 10)]);
    }

    #[test]
    fn unreachable_sockets_are_not_found() {
        let proc = TestProc::new();
        let removed = proc.bind("removed");
        fs::remove_file(&removed).unwrap();
        let file = proc.0.path().join("file");
        fs::write(&file, "").unwrap();
        let paths = [&removed, &file, Path::new("relative"), Path::new("@/name")];
        for (pid, path) in (1..).zip(paths) {
            proc.add(pid, 50, &[Listening(50, path)]);
        }
        assert_eq!(proc.found(), []);
    }

    #[test]
    fn socket_of_other_mount_namespace_must_be_the_same_file() {
        let proc = TestProc::new();
        let (socket, other) = (proc.bind("socket"), proc.bind("other"));
        let root = tempfile::tempdir().unwrap();
        let there = root.path().join(socket.strip_prefix("/").unwrap());
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        let sockets = [Listening(50, socket.as_path())];
        proc.add_process(9, "qemu-pr-helper", root.path(), 50, &sockets);
        assert_eq!(proc.found(), []);
        fs::hard_link(&other, &there).unwrap();
        assert_eq!(proc.found(), []);
        fs::remove_file(&there).unwrap();
        fs::hard_link(&socket, &there).unwrap();
        assert_eq!(proc.found(), [(socket, 9)]);
    }

    #[test]
    fn worker_is_not_a_helper_process() {
        let proc = TestProc::new();
        for (pid, parent) in [(9, 1), (10, 9)] {
            proc.add(pid, 50, &[]);
            let status = proc.0.path().join(format!("{pid}/status"));
            fs::write(status, format!("PPid:\t{parent}\n")).unwrap();
        }
        let found = helper_processes(proc.0.path());
        let pids: Vec<_> = found.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [9]);
    }

    #[test]
    fn state_socket_has_the_process_id_in_its_namespace() {
        let proc = TestProc::new();
        let name = Path::new("@qemu-pr-helper/state/3");
        for (pid, in_namespace) in [(9, 3), (10, 4)] {
            proc.add(pid, 50, &[Listening(51, name)]);
            let status = proc.0.path().join(format!("{pid}/status"));
            fs::write(status, format!("NSpid:\t{pid}\t{in_namespace}\n")).unwrap();
        }
        let found = helper_processes(proc.0.path()).into_iter();
        let sockets: Vec<_> = found.map(|process| process.state_socket).collect();
        assert_eq!(sockets, [Some("qemu-pr-helper/state/3".to_owned()), None]);
    }

    #[test]
    fn missing_procfs_has_no_helpers() {
        assert_eq!(running_helpers(Path::new("/nonexistent")), []);
    }
}
