// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper that prhctl uses without `-k`, in a mount namespace with its own default socket.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use pr_testkit::fake_proc::{FakeProcess, FakeSocket};
use pr_testkit::namespace::mount_namespace;
use pr_testkit::skip;
use rustix::process::geteuid;
use rustix::thread::Uid;

use crate::fake::{FakeHelper, Response};
use crate::support::{Run, prhctl};

/// Makes the default socket a link to `default`, and replaces /proc by a directory of the test.
const MOUNT: &str = "\
mount -t tmpfs none \"$(readlink -f /var/run)\"
ln -s \"$PWD/default\" /var/run/qemu-pr-helper.sock
mount --bind proc /proc";

/// A directory with the helpers that are visible in /proc.
struct TestHost {
    dir: tempfile::TempDir,
    wrapper: Vec<String>,
}

impl TestHost {
    /// Returns `None` with a printed reason if mount namespaces cannot be created.
    fn new() -> Option<Self> {
        let wrapper = mount_namespace(MOUNT)?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("proc")).unwrap();
        std::fs::write(dir.path().join("disk"), "").unwrap();
        Some(TestHost { dir, wrapper })
    }

    /// Adds the process of a helper.
    fn add(&self, pid: u32, socket: &Path) {
        let process = FakeProcess {
            pid,
            name: "qemu-pr-helper",
            root: Path::new("/"),
            open: 41837,
            sockets: &[FakeSocket::Listening(41837, socket)],
        };
        process.create(&self.dir.path().join("proc"));
    }

    /// Runs prhctl on this host.
    fn run(&self, arguments: &str) -> Run {
        let prhctl = prhctl(self.dir.path(), arguments);
        let mut command = Command::new(&self.wrapper[0]);
        command.args(&self.wrapper[1..]);
        command.arg(prhctl.get_program()).args(prhctl.get_args());
        command.current_dir(self.dir.path());
        Run::new(&mut command, "")
    }
}

/// Starts a helper that returns no keys.
fn helper(user: Option<Uid>) -> (FakeHelper, PathBuf) {
    let helper = FakeHelper::start_as(user, |_, _| Response::Data(vec![0; 8]));
    let socket = helper.path().join("socket");
    (helper, socket)
}

#[test]
fn only_running_helper_is_used() {
    let Some(host) = TestHost::new() else {
        return;
    };
    let (helper, socket) = helper(None);
    host.add(7, &socket);
    let note = format!(
        "prhctl: using the helper at {} (process 7)\n",
        socket.display()
    );
    let run = host.run("keys disk disk");
    assert_eq!((run.status, run.stderr), (0, note.clone()));
    assert_eq!(run.stdout, "disk: generation 0x0, no keys\n".repeat(2));
    assert_eq!(helper.commands().len(), 2);
    let run = host.run("--json keys disk");
    assert_eq!(run.json()["keys"], serde_json::json!([]));
    assert_eq!((run.status, run.stderr), (0, note));
    // A named socket is used even if it does not exist.
    host.run("-k none keys disk")
        .expect_failure(1, &["prhctl: none: cannot connect"]);
}

#[test]
fn default_socket_is_used_without_a_search() {
    let Some(host) = TestHost::new() else {
        return;
    };
    let ((default, default_socket), (running, socket)) = (helper(None), helper(None));
    host.add(7, &socket);
    symlink(default_socket, host.dir.path().join("default")).unwrap();
    host.run("keys disk")
        .expect_stdout("disk: generation 0x0, no keys\n");
    assert_eq!((default.commands().len(), running.commands().len()), (1, 0));
}

#[test]
fn several_running_helpers_are_listed() {
    let Some(host) = TestHost::new() else {
        return;
    };
    let ((first, first_socket), (second, second_socket)) = (helper(None), helper(None));
    host.add(7, &first_socket);
    host.add(8, &second_socket);
    let expected = format!(
        "prhctl: several helpers run on this host, and none uses the default socket\n  \
         {} (process 7)\n  {} (process 8)\n  Choose one with -k SOCKET. The sockets of libvirt \
         name the machine: domain-ID-NAME.\n",
        first_socket.display(),
        second_socket.display()
    );
    for line in ["keys disk", "list"] {
        assert_eq!(host.run(line).failure(1), expected);
    }
    let run = host.run("--json clear disk --key 1 --yes");
    let advice = run.json()["error"]["advice"].to_string();
    assert!(advice.contains("(process 8)"), "{run:?}");
    assert_eq!((first.commands(), second.commands()), (vec![], vec![]));
    // Each helper returns the same registrations.
    let note = format!("using the helper at {} (process 7)", first_socket.display());
    let run = host.run("holders disk");
    assert!(run.stderr.contains(&note), "{run:?}");
    assert_eq!(run.stdout, "disk: no registrants, no reservation\n");
    assert_eq!((first.commands().len(), second.commands()), (1, vec![]));
}

#[test]
fn missing_helper_is_reported_after_search() {
    let Some(host) = TestHost::new() else {
        return;
    };
    host.run("keys disk").expect_failure(
        1,
        &[
            "prhctl: /var/run/qemu-pr-helper.sock: cannot connect to the helper: No such file",
            "Check that the helper is running",
            "No other helper was found on this host",
        ],
    );
    let stderr = host.run("-k none keys disk").failure(1);
    assert!(!stderr.contains("No other helper"), "{stderr}");
}

/// Another user can replace the socket in a directory of its own, as QEMU's user can with libvirt.
#[test]
fn found_listener_of_other_user_receives_no_device() {
    if !geteuid().is_root() {
        return skip("not root, so no helper can listen as another user");
    }
    let Some(host) = TestHost::new() else {
        return;
    };
    let (helper, socket) = helper(Some(Uid::from_raw(65534)));
    host.add(7, &socket);
    host.run("keys disk").expect_failure(
        1,
        &[
            "user 65534) is neither root nor user 0\n",
            "does not receive the device",
        ],
    );
    assert_eq!(helper.commands(), []);
}
