//! KubeVirt's container without a cluster: what its entry point does, and what virt-handler sees of the socket.

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

const PATIENCE: Duration = Duration::from_secs(60);

/// The user of KubeVirt's launchers.
const LAUNCHER: u32 = 107;

/// Ends with the test, whatever that comes to.
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
    let end = Instant::now() + PATIENCE;
    loop {
        match Client::connect(socket) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// What virt-handler does: look at the folder.
struct Watch {
    events: OwnedFd,
    /// Those that came together with one that was asked for.
    more: VecDeque<(ReadFlags, String)>,
}

impl Watch {
    fn of(folder: &Path) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let kinds = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE;
        inotify::add_watch(&events, folder, kinds).unwrap();
        let more = VecDeque::new();
        Self { events, more }
    }

    /// The next event: what, and to which file.
    fn next(&mut self) -> (ReadFlags, String) {
        if self.more.is_empty() {
            let patience = Timespec::try_from(PATIENCE).unwrap();
            let mut ready = [PollFd::new(&self.events, PollFlags::IN)];
            let ready = poll(&mut ready, Some(&patience)).unwrap();
            assert_eq!(ready, 1, "nothing happened");
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        while let Ok(event) = reader.next() {
            let name = event.file_name().unwrap().to_str().unwrap();
            self.more.push_back((event.events(), name.to_owned()));
        }
        self.more.pop_front().unwrap()
    }
}

#[test]
fn the_socket_is_created_by_one_event_and_removed_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pr-helper.sock");
    let mut watch = Watch::of(folder.path());
    let created = (ReadFlags::CREATE, "pr-helper.sock".to_owned());
    let removed = (ReadFlags::DELETE, "pr-helper.sock".to_owned());
    let mut helper = Running::helper(&socket, &[]);
    assert_eq!(watch.next(), created);
    client(&socket);
    helper.terminate();
    assert_eq!(watch.next(), removed);

    // One that was killed leaves it to the next one, which makes another.
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
fn the_launchers_user_serves_and_removes_what_was_given_to_it() {
    if !geteuid().is_root() {
        return skipped("not root");
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pr-helper.sock");
    let user = LAUNCHER.to_string();
    let mut helper = Running::helper(&socket, &["-u", &user, "-g", &user]);
    client(&socket);
    // As virt-handler does when it sees the socket.
    for path in [folder.path(), &socket] {
        chown(path, Some(LAUNCHER), Some(LAUNCHER)).unwrap();
    }
    client(&socket);
    helper.terminate();
    assert!(!socket.exists());
}

#[test]
fn root_serves_in_a_folder_that_was_given_away_and_comes_back_there() {
    if !geteuid().is_root() {
        return skipped("not root");
    }
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("pr-helper.sock");
    for _ in 0..2 {
        let mut helper = Running::helper(&socket, &[]);
        client(&socket);
        for path in [folder.path(), &socket] {
            chown(path, Some(LAUNCHER), Some(LAUNCHER)).unwrap();
        }
        client(&socket);
        helper.terminate();
        assert!(!socket.exists(), "the socket is left");
    }
}

/// The entry point with a file system of its own, twice: a container that is started again keeps what it has made.
#[test]
fn the_entry_point_becomes_the_helper_again_and_again() {
    const SCRIPT: &str = r#"
        set -eu
        mount -t tmpfs tmpfs /run
        mkdir -p /run/here
        mount --bind "$HELPER" /usr/bin/qemu-pr-helper
        exec "$ENTRYPOINT" -k "/run/here/a socket" --io-timeout 7
    "#;
    let usable = Path::new("/usr/bin/qemu-pr-helper").exists() && geteuid().is_root();
    if !usable || !can_unshare() {
        return skipped("it takes root, a mount namespace, and a file /usr/bin/qemu-pr-helper");
    }
    let entry_point = fs::canonicalize("../../dist/kubevirt/entrypoint.sh").unwrap();
    let script = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT])
        .env("HELPER", env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .env("ENTRYPOINT", &entry_point)
        .env_remove("MULTIPATH_SOCKET_NAME")
        .stdin(Stdio::null())
        .spawn();
    let mut container = Running(script.unwrap());
    // Its files, as it sees them.
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

    // Again, beside the first, with the link that is there and leads nowhere.
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

/// Says that something was not tested, so that it is seen; and fails where nothing may be skipped.
fn skipped(why: &str) {
    assert!(env::var_os("PR_COMPAT_STRICT").is_none(), "skipped: {why}");
    // Not with eprintln, which the test harness keeps to itself.
    let _ = writeln!(io::stderr(), "container: skipped: {why}");
}
