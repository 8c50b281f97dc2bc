//! KubeVirt's container without a cluster: its entry point, and the socket as virt-handler sees it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::{Pid, Signal, geteuid, kill_process};

const TIMEOUT: Duration = Duration::from_secs(60);

/// User ID of KubeVirt's launchers.
const LAUNCHER: u32 = 107;

/// Process that is killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn helper(socket: &Path, arguments: &[&str]) -> Self {
        let mut helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"));
        helper.arg("-k").arg(socket).args(arguments);
        Self(helper.stdin(Stdio::null()).spawn().unwrap())
    }

    fn terminate(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

fn client(socket: &Path) -> Client {
    let end = Instant::now() + TIMEOUT;
    loop {
        match Client::connect(socket) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// Watch on a directory, as virt-handler sets it.
struct Watch {
    events: OwnedFd,
    /// Events that arrived together with an earlier one.
    pending: VecDeque<(ReadFlags, String)>,
}

impl Watch {
    fn new(dir: &Path) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let kinds = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        inotify::add_watch(&events, dir, kinds).unwrap();
        let pending = VecDeque::new();
        Self { events, pending }
    }

    /// Returns the next event, and the name of its file.
    fn next(&mut self) -> (ReadFlags, String) {
        if self.pending.is_empty() {
            let timeout = Timespec::try_from(TIMEOUT).unwrap();
            let mut ready = [PollFd::new(&self.events, PollFlags::IN)];
            let ready = poll(&mut ready, Some(&timeout)).unwrap();
            assert_eq!(ready, 1, "timed out: no event");
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().unwrap().to_str().unwrap();
            self.pending.push_back((event.events(), name.to_owned()));
        }
        self.pending.pop_front().unwrap()
    }
}

#[test]
fn socket_creation_and_removal_are_one_event_each() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pr-helper.sock");
    let mut watch = Watch::new(dir.path());
    let created = (ReadFlags::CREATE, "pr-helper.sock".to_owned());
    let removed = (ReadFlags::DELETE, "pr-helper.sock".to_owned());
    let mut helper = Running::helper(&socket, &[]);
    assert_eq!(watch.next(), created);
    client(&socket);
    helper.terminate();
    assert_eq!(watch.next(), removed);

    // A killed helper leaves the socket behind; the next one replaces it.
    let mut helper = Running::helper(&socket, &[]);
    assert_eq!(watch.next(), created);
    client(&socket);
    helper.0.kill().unwrap();
    helper.0.wait().unwrap();
    let mut next = Running::helper(&socket, &[]);
    assert_eq!(watch.next(), removed);
    assert_eq!(watch.next(), created);
    client(&socket);
    next.terminate();
    assert_eq!(watch.next(), removed);
}

#[test]
fn launcher_user_removes_a_socket_it_was_given() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pr-helper.sock");
    let user = LAUNCHER.to_string();
    let mut helper = Running::helper(&socket, &["-u", &user, "-g", &user]);
    client(&socket);
    // virt-handler changes the owner when it sees the socket.
    for path in [dir.path(), &socket] {
        chown(path, Some(LAUNCHER), Some(LAUNCHER)).unwrap();
    }
    client(&socket);
    helper.terminate();
    assert!(!socket.exists());
}

#[test]
fn root_serves_in_a_directory_of_another_user() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("pr-helper.sock");
    for _ in 0..2 {
        let mut helper = Running::helper(&socket, &[]);
        client(&socket);
        for path in [dir.path(), &socket] {
            chown(path, Some(LAUNCHER), Some(LAUNCHER)).unwrap();
        }
        client(&socket);
        helper.terminate();
        assert!(!socket.exists(), "socket not removed");
    }
}

/// Runs the entry point twice in one file system, because a container that is restarted keeps its
/// files.
#[test]
fn entry_point_executes_the_helper_twice() {
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs tmpfs /run
        mkdir -p /run/here
        mount --bind "$HELPER" /usr/bin/qemu-pr-helper
        exec "$ENTRYPOINT" -k "/run/here/a socket" --io-timeout 7
    "#;
    let usable = Path::new("/usr/bin/qemu-pr-helper").exists() && geteuid().is_root();
    if !usable || !can_unshare() {
        return skip("requires root, a mount namespace, and a file /usr/bin/qemu-pr-helper");
    }
    let entry_point = fs::canonicalize("../../packaging/kubevirt/entrypoint.sh").unwrap();
    let script = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT])
        .env("HELPER", env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .env("ENTRYPOINT", &entry_point)
        .env_remove("MULTIPATH_SOCKET_NAME")
        .stdin(Stdio::null())
        .spawn();
    let mut container = Running(script.unwrap());
    // Root directory of the container.
    let root = format!("/proc/{}/root", container.0.id());
    let root = Path::new(&root);
    client(&root.join("run/here/a socket"));
    let name = fs::read_to_string(format!("/proc/{}/comm", container.0.id())).unwrap();
    assert_eq!(name, "qemu-pr-helper\n");
    let target = Path::new("/var/run/kubevirt/daemons/pr/multipathd.socket");
    assert_eq!(
        fs::read_link(root.join("run/multipathd.socket")).unwrap(),
        target
    );

    // Run it again beside the first one, with the dangling link that the first run created.
    let again = Command::new("nsenter")
        .arg(format!("--mount=/proc/{}/ns/mnt", container.0.id()))
        .arg(&entry_point)
        .args(["-k", "/run/here/another"])
        .env_remove("MULTIPATH_SOCKET_NAME")
        .stdin(Stdio::null())
        .spawn();
    let mut again = Running(again.unwrap());
    client(&root.join("run/here/another"));
    again.terminate();
    container.terminate();
}

fn can_unshare() -> bool {
    let output = Command::new("unshare").args(["--mount", "true"]).output();
    output.is_ok_and(|output| output.status.success())
}

/// Prints why the test is skipped; skipping is a failure if `PR_COMPAT_STRICT` is set.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures that.
    let _ = writeln!(io::stderr(), "container: skipped: {reason}");
}
