//! Workers of a real helper on a fake multipath map: a loop device that a fake sysfs shows as a map
//! with one path. The node of the path is a regular file. A worker opens it to execute a command.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::wire::pad_cdb;
use pr_helper_protocol::{Client, Response};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{major, minor};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use scsi_pr::{AdditionalSense, Sense, Status};

const TIMEOUT: Duration = Duration::from_secs(60);

const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];
const RESERVE: [u8; 10] = [0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0];

/// Mounts a private `/dev` and a fake `/sys/dev/block`, and executes the helper.
const SCRIPT: &str = r#"
    set -eu
    mount -t tmpfs tmpfs /dev
    mknod -m 666 /dev/null c 1 3
    : >/dev/prtest
    mount --bind "$SYSFS" /sys/dev/block
    exec "$HELPER" -k "$SOCKET" --io-timeout 3
"#;

/// Helper for which a loop device is a map with the path `prtest`.
struct Setup {
    dir: tempfile::TempDir,
    helper: Child,
    map: File,
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

impl Setup {
    /// Starts the helper. Prints the reason and returns `None` if this host does not support that.
    fn start() -> Option<Self> {
        let unshare = Command::new("unshare").args(["--mount", "true"]).output();
        let can_unshare = unshare.is_ok_and(|output| output.status.success());
        let mut devices = (0..8).map(|number| format!("/dev/loop{number}"));
        let open = |path: String| File::options().read(true).write(true).open(path).ok();
        let (Some(map), true, true) = (devices.find_map(open), can_unshare, geteuid().is_root())
        else {
            skip("requires root, a mount namespace, and a loop device");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let number = map.metadata().unwrap().rdev();
        let number = format!("{}:{}", major(number), minor(number));
        let device = dir.path().join("sysfs").join(&number);
        fs::create_dir_all(device.join("dm")).unwrap();
        fs::create_dir_all(device.join("slaves/prtest")).unwrap();
        fs::write(device.join("dev"), &number).unwrap();
        fs::write(device.join("dm/uuid"), "mpath-test\n").unwrap();
        fs::write(device.join("slaves/prtest/dev"), "8:0\n").unwrap();
        let helper = Command::new("unshare")
            .args(["--mount", "sh", "-c", SCRIPT])
            .env("SYSFS", dir.path().join("sysfs"))
            .env("HELPER", env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .env("SOCKET", dir.path().join("socket"))
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn();
        Some(Self {
            dir,
            helper: helper.unwrap(),
            map,
        })
    }

    fn client(&self) -> Client {
        let socket = self.dir.path().join("socket");
        wait_until("start of the helper", || Client::connect(&socket).ok())
    }

    fn execute(&self, client: &mut Client, cdb: &[u8]) -> Response {
        let parameters: &[u8] = if cdb == RESERVE { &[0; 24] } else { &[] };
        let response = client.execute(pad_cdb(cdb), self.map.as_fd(), parameters);
        response.unwrap()
    }

    fn broker(&self) -> Pid {
        match children(Pid::from_child(&self.helper)).as_slice() {
            [broker] => *broker,
            others => panic!("not one broker: {others:?}"),
        }
    }

    /// Waits until all workers have exited.
    fn wait_for_workers(&self) {
        let broker = self.broker();
        wait_until("exit of all workers", || {
            children(broker).is_empty().then_some(())
        });
    }

    /// Returns the node of the path in the mount namespace of the helper.
    fn node(&self) -> PathBuf {
        format!("/proc/{}/root/dev/prtest", self.helper.id()).into()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }
}

/// Counter of the opens of the path's node.
struct Opens(OwnedFd);

impl Opens {
    fn watch(setup: &Setup) -> Self {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&events, setup.node(), WatchFlags::OPEN).unwrap();
        Self(events)
    }

    /// Returns the number of opens since the last call. The kernel merges consecutive equal events.
    fn count(&self) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        std::iter::from_fn(|| reader.next().ok().map(drop)).count()
    }
}

fn children(process: Pid) -> Vec<Pid> {
    let process = process.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    let children = children.split_whitespace();
    children
        .map(|child| Pid::from_raw(child.parse().unwrap()).unwrap())
        .collect()
}

/// Calls `poll` until it returns a value. `what` names the event in a failure.
fn wait_until<T>(what: &str, poll: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < end, "timed out: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn code(response: &Response) -> AdditionalSense {
    assert_eq!(response.status, Status::CHECK_CONDITION);
    Sense::decode(&response.sense).unwrap().code
}

/// A command must not be executed after it was reported as failed, even if the broker resumes.
#[test]
fn request_is_not_executed_after_its_deadline() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.client();
    let opens = Opens::watch(&setup);
    setup.execute(&mut client, &RESERVE);
    setup.wait_for_workers();
    assert_eq!(opens.count(), 1, "{}", setup.stderr());

    kill_process(setup.broker(), Signal::STOP).unwrap();
    let response = setup.execute(&mut client, &RESERVE);
    assert_eq!(
        code(&response),
        AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING
    );
    kill_process(setup.broker(), Signal::CONT).unwrap();
    // The broker handles requests in order, so the reply to this one means that it has handled the
    // one before.
    setup.execute(&mut client, &READ_KEYS);
    setup.wait_for_workers();
    let executed_again = opens.count();
    // READ KEYS goes to the map, and to the path only if the map does not answer.
    assert_eq!(executed_again, 0, "{}", setup.stderr());
    setup.execute(&mut client, &RESERVE);
    setup.wait_for_workers();
    assert_eq!(opens.count(), 1, "{}", setup.stderr());
}

/// Attaches strace to the broker, which makes fork fail. Returns `None` if strace is not installed.
fn inject_fork_failure(broker: Pid) -> Option<Child> {
    let strace = Command::new("strace")
        .args(["-qq", "-o", "/dev/null"])
        .args(["-e", "inject=clone,clone3:error=EAGAIN"])
        .arg(format!("--attach={}", broker.as_raw_nonzero()))
        .stdin(Stdio::null())
        .spawn();
    match strace {
        Ok(strace) => Some(strace),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn refused_worker_is_answered_with_busy() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.client();
    assert_eq!(
        setup.execute(&mut client, &READ_KEYS).status,
        Status::CHECK_CONDITION
    );
    let Some(mut strace) = inject_fork_failure(setup.broker()) else {
        return skip("strace is not installed");
    };
    let tracer = format!("/proc/{}/status", setup.broker().as_raw_nonzero());
    wait_until("attachment of strace", || {
        let status = fs::read_to_string(&tracer).unwrap();
        (!status.contains("TracerPid:\t0\n")).then_some(())
    });
    for _ in 0..3 {
        let response = setup.execute(&mut client, &READ_KEYS);
        assert_eq!(response.status, Status::BUSY, "{}", setup.stderr());
    }
    kill_process(Pid::from_child(&strace), Signal::INT).unwrap();
    strace.wait().unwrap();
    let log = setup.stderr();
    let lines = log.lines().filter(|line| line.contains("not started"));
    assert_eq!(lines.count(), 1, "{log}");
    assert_eq!(
        setup.execute(&mut client, &READ_KEYS).status,
        Status::CHECK_CONDITION
    );
    setup.wait_for_workers();
}

/// The sandbox denies a worker the files of the host, but not the nodes of the paths.
#[test]
fn worker_opens_its_paths_in_the_sandbox() {
    let Some(setup) = Setup::start() else {
        return;
    };
    let mut client = setup.client();
    setup.execute(&mut client, &RESERVE);
    let log = setup.stderr();
    // The worker has opened the node, which is a regular file.
    assert!(log.contains("the node is not device 8:0"), "{log}");
}

/// Prints why the test is skipped; skipping is a failure if `PR_COMPAT_STRICT` is set.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures that.
    let _ = writeln!(io::stderr(), "worker: skipped: {reason}");
}
