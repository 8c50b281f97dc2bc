// SPDX-License-Identifier: MIT OR Apache-2.0

//! Log lines of the real helper: rate limits, escaped control characters, and priorities for
//! journald.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::env;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pr_helper_protocol::wire::pad_cdb;
use pr_testkit::cdb::read_keys;
use pr_testkit::helper::Builder;
use pr_testkit::soft_lun::SoftLunFixture;
use pr_testkit::{HelperProcess, TEST_TIMEOUT, TestClient};
use rustix::fs::fstat;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, connect, listen, socket};
use scsi_pr::Status;

/// Environment variable with the path of a socket. If it is set, [`client_process`] is a client in
/// a process of its own.
const CLIENT_OF: &str = "PR_TEST_CLIENT_OF";

/// Creates a builder of a helper that does not log to a journal by default.
fn builder() -> Builder {
    HelperProcess::builder(env!("CARGO_BIN_EXE_qemu-pr-helper")).env("JOURNAL_STREAM", "")
}

/// Stops the helper after it has served all clients, and returns its log.
fn stop(mut helper: HelperProcess) -> String {
    assert!(helper.terminate().unwrap().success());
    helper.stderr()
}

/// Sends a request with an unsupported operation code and waits until the helper has closed the
/// connection.
fn violate_protocol(socket: &Path) {
    let mut client = TestClient::connect(socket).handshake();
    client.try_send(&pad_cdb(&[0x12, 0, 0, 0, 0, 0])).unwrap();
    client.assert_closed();
}

/// Runs the client process of [`rate_limits_are_per_process`] if [`CLIENT_OF`] is set, and does
/// nothing otherwise.
#[test]
fn client_process() {
    if let Some(socket) = env::var_os(CLIENT_OF) {
        violate_protocol(Path::new(&socket));
    }
}

/// `qemu-pr-helper /run/x.sock` listens on another socket than the operator expects.
#[test]
fn positional_argument_is_warned_about() {
    let log = stop(builder().args(["/run/x.sock"]).start().unwrap());
    assert!(log.contains("argument '/run/x.sock' ignored"), "{log}");
    assert!(log.contains("-k names the socket"), "{log}");
}

#[test]
fn inherited_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("unit");
    let helper = builder().listener(UnixListener::bind(&path).unwrap());
    let log = stop(helper.socket(&path).start().unwrap());
    let line = format!(
        "qemu-pr-helper: listening on {}, the socket of the service manager\n",
        path.display()
    );
    assert!(log.contains(&line), "{log}");
}

/// Returns a path in `dir` that fills the address of a socket, so that no terminating zero is left.
fn longest_path(dir: &Path) -> PathBuf {
    dir.join("s".repeat(107 - dir.as_os_str().len()))
}

/// Returns a new socket at `path`. The standard library cannot bind the longest path.
fn bound_socket(path: &Path) -> OwnedFd {
    let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

#[test]
fn longest_socket_path_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = longest_path(dir.path());
    let helper = builder().socket(&path).spawn().unwrap();
    helper.wait_for_log(&format!("listening on {}\n", path.display()));
}

#[test]
fn longest_inherited_socket_path_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = longest_path(dir.path());
    let listener = bound_socket(&path);
    listen(&listener, 1).unwrap();
    let helper = builder().listener(listener).socket(&path).spawn().unwrap();
    helper.wait_for_log(&format!(
        "listening on {}, the socket of the service manager\n",
        path.display()
    ));
}

#[test]
fn client_at_longest_path_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let helper = builder().start().unwrap();
    let socket = bound_socket(&longest_path(dir.path()));
    connect(&socket, &SocketAddrUnix::new(helper.socket()).unwrap()).unwrap();
    let stream = UnixStream::from(socket);
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mut client = TestClient { stream }.handshake();
    client.assert_served();
}

#[test]
fn rate_limits_are_per_process() {
    let helper = builder().start().unwrap();
    for _ in 0..100 {
        violate_protocol(helper.socket());
    }
    let other = Command::new(env::current_exe().unwrap())
        .args(["--exact", "client_process"])
        .env(CLIENT_OF, helper.socket())
        .stdout(Stdio::null())
        .status();
    assert!(other.unwrap().success());
    let log = stop(helper);
    let lines = log
        .lines()
        .filter(|line| line.contains("protocol violation"));
    let lines: Vec<_> = lines.collect();
    let [first, second] = lines.as_slice() else {
        panic!("{log}");
    };
    let this = format!("pid {}, uid ", std::process::id());
    assert!(
        first.contains("client 2 ") && first.contains(&this),
        "{first}"
    );
    assert!(
        second.contains("client 102 ") && !second.contains(&this),
        "{second}"
    );
    assert!(
        second.ends_with(" (99 similar messages suppressed)"),
        "{second}"
    );
}

#[test]
fn rate_limit_is_off_with_verbose() {
    let helper = builder().arg("-v").start().unwrap();
    for _ in 0..3 {
        violate_protocol(helper.socket());
    }
    let log = stop(helper);
    assert_eq!(log.matches("protocol violation").count(), 3, "{log}");
    assert!(!log.contains("suppressed"), "{log}");
}

#[test]
fn soft_lun_error_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    // The trace contains the names of directories.
    let parent = dir.path().join("luns\npr_helper_stopped \x1b[2J");
    fs::create_dir(&parent).unwrap();
    let soft_lun = SoftLunFixture::create(&parent);
    // The error text contains the name of an unknown field.
    let forged = r#"{"x\nqemu-pr-helper: forged \u001b[2J\u009b\r": 1}"#;
    fs::write(soft_lun.lun.path().join("state.json"), forged).unwrap();
    let option = format!("--soft-luns={}", soft_lun.luns.display());
    let helper = builder().dir(dir.path()).args([&option, "-T*,file=trace"]);
    let helper = helper.start().unwrap();
    let port = File::open(soft_lun.port("a")).unwrap();
    let response = helper.client().execute(&read_keys(8), port);
    assert_eq!(response.status, Status::CHECK_CONDITION);
    let log = stop(helper);
    let line = log.lines().find(|line| line.contains("soft LUN")).unwrap();
    let escaped = r"x\nqemu-pr-helper: forged \u{1b}[2J\u{9b}\r";
    assert!(line.contains(escaped), "{line:?}");
    let trace = fs::read_to_string(dir.path().join("trace")).unwrap();
    assert!(
        trace.contains(r"luns\npr_helper_stopped \u{1b}[2J/luns/lun"),
        "{trace:?}"
    );
    for text in [log, trace] {
        let is_clean = |line: &str| !line.contains(char::is_control);
        assert!(text.lines().all(is_clean), "{text:?}");
        assert!(!text.contains("\nqemu-pr-helper: forged"), "{text:?}");
    }
}

/// Returns the log lines of a helper that has rejected a client. Its standard error is a socket, as
/// under systemd. `format_name` makes `JOURNAL_STREAM` from the device and the inode of the socket.
fn journal_lines(arguments: &[&str], format_name: fn(u64, u64) -> String) -> Vec<String> {
    let (mut journal, stderr) = UnixStream::pair().unwrap();
    let stderr = OwnedFd::from(stderr);
    let stat = fstat(&stderr).unwrap();
    let name = format_name(stat.st_dev, stat.st_ino);
    let helper = builder().args(arguments).stderr(stderr);
    let helper = helper.env("JOURNAL_STREAM", name).start().unwrap();
    violate_protocol(helper.socket());
    stop(helper);
    let mut text = String::new();
    journal.read_to_string(&mut text).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn journal_lines_have_priorities() {
    let lines = journal_lines(&["-vv"], |device, inode| format!("{device}:{inode}"));
    for (text, start) in [
        (
            "protocol violation",
            "<4>qemu-pr-helper: warning: client 2 ",
        ),
        (": connected", "<6>qemu-pr-helper: info: client 1 "),
        (": listening on /", "<6>qemu-pr-helper: listening on "),
        ("shutting down", "<6>qemu-pr-helper: info: SIGTERM"),
    ] {
        let line = lines.iter().find(|line| line.contains(text)).unwrap();
        assert!(line.starts_with(start), "{line}");
    }
    assert!(lines.iter().all(|line| line.starts_with('<')), "{lines:?}");
}

#[test]
fn journal_priority_of_errors_is_3() {
    let (mut journal, stderr) = UnixStream::pair().unwrap();
    let stderr = OwnedFd::from(stderr);
    let stat = fstat(&stderr).unwrap();
    let name = format!("{}:{}", stat.st_dev, stat.st_ino);
    // The first argument makes the start fail, the second one is invalid.
    for argument in ["--soft-luns=/nonexistent", "--nonexistent"] {
        let helper = builder().stderr(stderr.try_clone().unwrap()).arg(argument);
        let mut helper = helper.env("JOURNAL_STREAM", &name).spawn().unwrap();
        assert_eq!(helper.wait().unwrap().code(), Some(1));
    }
    drop(stderr);
    let mut text = String::new();
    journal.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(
        text.lines()
            .all(|line| line.starts_with("<3>qemu-pr-helper: ")),
        "{text}"
    );
}

#[test]
fn foreign_journal_stream_has_no_priorities() {
    // `JOURNAL_STREAM` names another stream, such as the inherited one of a parent process.
    let lines = journal_lines(&["-vv"], |device, inode| format!("{device}:{}", inode + 1));
    assert!(!lines.is_empty());
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with("qemu-pr-helper: ")),
        "{lines:?}"
    );
}
