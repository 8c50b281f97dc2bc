//! Log lines of the real helper: rate limits, escaped control characters, and priorities for
//! journald.

#![expect(clippy::unwrap_used, reason = "a failed precondition fails the test")]

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use pr_helper_protocol::wire::pad_cdb;
use rustix::fs::fstat;
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::{Status, TransportId};
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};

/// Timeout for every expected event. It is long, because the machine can be under load.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Environment variable with the path of a socket. If it is set, [`client_process`] is a client in
/// a process of its own.
const CLIENT_OF: &str = "PR_TEST_CLIENT_OF";

/// READ KEYS with an allocation length of 8 bytes.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

/// A helper as a child process, which is killed when the value is dropped.
struct Helper {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Helper {
    /// Starts a helper in `dir`, with `stderr` as its standard error.
    fn start(dir: tempfile::TempDir, arguments: &[&str], stderr: Stdio, journal: &str) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .current_dir(&dir)
            .arg("-k")
            .arg(dir.path().join("socket"))
            .args(arguments)
            .env("JOURNAL_STREAM", journal)
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn();
        let child = child.unwrap();
        Self { child, dir }
    }

    /// Starts a helper that logs to a file; see [`Self::stop`].
    fn start_logging(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        Self::start(dir, arguments, log.into(), "")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// Connects to the helper as soon as it has started.
    fn connect(&mut self) -> UnixStream {
        let end = Instant::now() + TIMEOUT;
        loop {
            match UnixStream::connect(self.socket()) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            assert_eq!(self.child.try_wait().unwrap(), None, "the helper exited");
            sleep(Duration::from_millis(10));
        }
    }

    /// Stops the helper after it has served all clients, and returns its log.
    fn stop(&mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Sends a request with an unsupported operation code and waits until the helper has closed the
/// connection.
fn violate_protocol(mut client: UnixStream) {
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    client.write_all(&pad_cdb(&[0x12, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_or_default(), 0);
}

/// Runs the client process of [`rate_limits_are_per_process`] if [`CLIENT_OF`] is set, and does
/// nothing otherwise.
#[test]
fn client_process() {
    if let Some(socket) = env::var_os(CLIENT_OF) {
        violate_protocol(UnixStream::connect(socket).unwrap());
    }
}

#[test]
fn rate_limits_are_per_process() {
    let mut helper = Helper::start_logging(&[]);
    for _ in 0..100 {
        violate_protocol(helper.connect());
    }
    let other = Command::new(env::current_exe().unwrap())
        .args(["--exact", "client_process"])
        .env(CLIENT_OF, helper.socket())
        .stdout(Stdio::null())
        .status();
    assert!(other.unwrap().success());
    let log = helper.stop();
    let lines = log
        .lines()
        .filter(|line| line.contains("protocol violation"));
    let lines: Vec<_> = lines.collect();
    let [first, second] = lines.as_slice() else {
        panic!("{log}");
    };
    let this = format!("(pid {},", std::process::id());
    assert!(
        first.contains("client 1 ") && first.contains(&this),
        "{first}"
    );
    assert!(
        second.contains("client 101 ") && !second.contains(&this),
        "{second}"
    );
    assert!(
        second.ends_with(" (99 similar messages suppressed)"),
        "{second}"
    );
}

#[test]
fn rate_limit_is_off_with_verbose() {
    let mut helper = Helper::start_logging(&["-v"]);
    for _ in 0..3 {
        violate_protocol(helper.connect());
    }
    let log = helper.stop();
    assert_eq!(log.matches("protocol violation").count(), 3, "{log}");
    assert!(!log.contains("suppressed"), "{log}");
}

#[test]
fn soft_lun_error_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    // The trace contains the names of directories.
    let luns = dir.path().join("luns\npr_helper_stopped \x1b[2J");
    let lun = luns.join("lun");
    fs::create_dir(&luns).unwrap();
    let port = Port {
        name: "a".parse().unwrap(),
        nexus: Nexus {
            initiator: TransportId::Sas { sas_address: 1 },
            target_port: 1.into(),
        },
    };
    Lun::create(&lun, vec![port], SupportedFeatures::default()).unwrap();
    // The error text contains the name of an unknown field.
    let forged = r#"{"x\nqemu-pr-helper: forged \u001b[2J\u009b\r": 1}"#;
    fs::write(lun.join("state.json"), forged).unwrap();
    let log = File::create(dir.path().join("log")).unwrap();
    let option = format!("--soft-luns={}", luns.display());
    let options = [&option, "-T*,file=trace"];
    let mut helper = Helper::start(dir, &options, log.into(), "");
    drop(helper.connect());
    let port = File::open(lun.join("ports/a")).unwrap();
    let mut client = Client::connect(&helper.socket()).unwrap();
    let answer = client
        .execute(pad_cdb(&READ_KEYS), port.as_fd(), &[])
        .unwrap();
    assert_eq!(answer.status, Status::CHECK_CONDITION);
    drop(client);
    let trace = helper.dir.path().join("trace");
    let log = helper.stop();
    let line = log.lines().find(|line| line.contains("soft LUN")).unwrap();
    let escaped = r"x\nqemu-pr-helper: forged \u{1b}[2J\u{9b}\r";
    assert!(line.contains(escaped), "{line:?}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(
        trace.contains(r"luns\npr_helper_stopped \u{1b}[2J/lun"),
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
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir, arguments, stderr.into(), &name);
    violate_protocol(helper.connect());
    helper.stop();
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
            "<4>qemu-pr-helper: warning: client 1 ",
        ),
        (": connected", "<6>qemu-pr-helper: info: client 1 "),
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
        let dir = tempfile::tempdir().unwrap();
        let stderr = stderr.try_clone().unwrap();
        let mut helper = Helper::start(dir, &[argument], stderr.into(), &name);
        assert_eq!(helper.child.wait().unwrap().code(), Some(1));
    }
    drop(stderr);
    let mut text = String::new();
    journal.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
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
