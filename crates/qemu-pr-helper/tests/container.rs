// SPDX-License-Identifier: MIT OR Apache-2.0

//! KubeVirt's container without a cluster: its entry point, and the socket as virt-handler sees it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::VecDeque;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::Path;

use pr_testkit::helper::Builder;
use pr_testkit::namespace::mount_namespace;
use pr_testkit::procfs::status;
use pr_testkit::{HelperProcess, TEST_TIMEOUT, TestClient, eventually, skip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::process::geteuid;

/// User ID of KubeVirt's launchers.
const LAUNCHER: u32 = 107;

const HELPER: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

/// Creates a builder of a helper with only its socket in `dir`, as virt-handler expects.
fn builder(dir: &Path) -> Builder {
    HelperProcess::builder(HELPER).socket(dir.join("pr-helper.sock"))
}

fn terminate(mut helper: HelperProcess) {
    assert!(helper.terminate().unwrap().success());
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
            let timeout = Timespec::try_from(TEST_TIMEOUT).unwrap();
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
    let mut watch = Watch::new(dir.path());
    let created = (ReadFlags::CREATE, "pr-helper.sock".to_owned());
    let removed = (ReadFlags::DELETE, "pr-helper.sock".to_owned());
    let helper = builder(dir.path()).start().unwrap();
    assert_eq!(watch.next(), created);
    terminate(helper);
    assert_eq!(watch.next(), removed);

    // A killed helper leaves the socket behind; the next one replaces it.
    let helper = builder(dir.path()).start().unwrap();
    assert_eq!(watch.next(), created);
    drop(helper);
    let next = builder(dir.path()).start().unwrap();
    assert_eq!(watch.next(), removed);
    assert_eq!(watch.next(), created);
    terminate(next);
    assert_eq!(watch.next(), removed);
}

#[test]
fn launcher_user_removes_a_socket_it_was_given() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let user = LAUNCHER.to_string();
    let helper = builder(dir.path()).args(["-u", &user, "-g", &user]);
    let helper = helper.start().unwrap();
    // virt-handler changes the owner when it sees the socket.
    assert_served_after_chown(helper);
}

#[test]
fn root_serves_in_a_directory_of_another_user() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        assert_served_after_chown(builder(dir.path()).start().unwrap());
    }
}

/// Changes the owner of the directory and of the socket. The helper still serves then, and removes
/// its socket at the end.
fn assert_served_after_chown(helper: HelperProcess) {
    let socket = helper.socket().to_owned();
    for path in [socket.parent().unwrap(), &socket] {
        chown(path, Some(LAUNCHER), Some(LAUNCHER)).unwrap();
    }
    helper.client().assert_served();
    terminate(helper);
    assert!(!socket.exists(), "socket not removed");
}

/// Runs the entry point twice in one file system, because a container that is restarted keeps its
/// files.
#[test]
fn entry_point_executes_the_helper_twice() {
    const SCRIPT: &str = "
        unset MULTIPATH_SOCKET_NAME
        mount -t tmpfs tmpfs /run
        mkdir -p /run/here
        mount --bind \"$HELPER\" /usr/bin/qemu-pr-helper
    ";
    if !Path::new("/usr/bin/qemu-pr-helper").exists() || !geteuid().is_root() {
        return skip("requires root and a file /usr/bin/qemu-pr-helper");
    }
    let Some(wrapper) = mount_namespace(SCRIPT) else {
        return;
    };
    let entry_point = fs::canonicalize("../../packaging/kubevirt/entrypoint.sh").unwrap();
    let builder = || HelperProcess::builder(&entry_point).socket_option(None);
    let arguments = ["-k", "/run/here/a socket", "--io-timeout", "7"];
    let container = builder().wrapper(wrapper).args(arguments);
    let container = container.env("HELPER", HELPER).spawn().unwrap();
    let process = format!("/proc/{}", container.pid());
    // Root directory of the container.
    let root = Path::new(&process).join("root");
    wait_until_ready(&root.join("run/here/a socket"));
    assert_eq!(status(container.pid(), "Name"), "qemu-pr-helper");
    let target = Path::new("/var/run/kubevirt/daemons/pr/multipathd.socket");
    assert_eq!(
        fs::read_link(root.join("run/multipathd.socket")).unwrap(),
        target
    );

    // Run it again beside the first one, with the dangling link that the first run created.
    let namespace = format!("--mount={process}/ns/mnt");
    let wrapper = ["nsenter", &namespace, "env", "-u", "MULTIPATH_SOCKET_NAME"];
    let again = builder().wrapper(wrapper).args(["-k", "/run/here/another"]);
    let again = again.spawn().unwrap();
    wait_until_ready(&root.join("run/here/another"));
    terminate(again);
    terminate(container);
}

/// Waits until a helper completes the handshake. Its socket is in another mount namespace.
fn wait_until_ready(socket: &Path) {
    let client = eventually("the helper", || TestClient::try_connect(socket).ok());
    client.handshake().disconnect();
}
