//! Broker for multipath maps: it runs as long as the helper, inherits nothing from it, and exits
//! with it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, geteuid, kill_process};

const BINARY: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

const TIMEOUT: Duration = Duration::from_secs(60);

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

/// Helper that accepts clients, and its broker.
struct Running {
    helper: Child,
    broker: u32,
}

impl Running {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("socket");
        let helper = Command::new(BINARY)
            .arg("-k")
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self::wait_until_ready(helper, &socket)
    }

    fn wait_until_ready(helper: Child, socket: &Path) -> Self {
        // The helper sends the greeting after it has dropped its privileges.
        let mut client = wait_until("the socket", || UnixStream::connect(socket).ok());
        client.read_exact(&mut [0; 4]).unwrap();
        let broker = child_of(helper.id()).unwrap();
        Self { helper, broker }
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.helper), signal).unwrap();
        self.helper.wait().unwrap();
        wait_until("exit of the broker", || {
            (!is_running(self.broker)).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The helper has exited already, unless the test failed.
        let _ = self.helper.kill();
    }
}

/// Returns the only child of a process.
fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    let mut children = children.split_whitespace();
    let child = children.next()?.parse().unwrap();
    assert_eq!(children.next(), None);
    Some(child)
}

/// Returns whether a process runs. A zombie does not: reaping it is the task of another process.
fn is_running(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

fn status(process: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let mut lines = status.lines().filter_map(|line| line.split_once(":\t"));
    let line = lines.find(|(key, _)| *key == name);
    line.unwrap().1.to_owned()
}

/// Returns the open files of a process, sorted by descriptor number.
fn open_files(process: u32) -> Vec<(i32, String)> {
    let dir = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut files: Vec<_> = dir
        .filter_map(|entry| {
            let entry = entry.unwrap();
            // The helper may have closed the connection of a disconnected client by now.
            let link = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().into_string().unwrap().parse().unwrap();
            Some((number, link.to_string_lossy().into_owned()))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn broker_exits_when_the_helper_exits_or_is_killed() {
    for signal in [Signal::TERM, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        Running::start(dir.path()).end(signal);
    }
}

#[test]
fn broker_ignores_termination_signals() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path());
    // A service manager signals all processes of a service.
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        kill_process(broker, signal).unwrap();
    }
    assert_eq!(status(running.broker, "Name"), "pr-broker");
    running.end(Signal::TERM);
}

#[test]
fn broker_uses_two_capabilities_and_gets_none() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path());
    // CAP_DAC_READ_SEARCH is number 2, CAP_SYS_RAWIO number 17.
    let used: u64 = 1 << 2 | 1 << 17;
    // CAP_DAC_OVERRIDE is number 1, and effective only while the broker removes a file.
    let permitted = used | 1 << 1;
    for (set, allowed) in [("CapPrm", permitted), ("CapEff", used)] {
        let held = u64::from_str_radix(&status(running.broker, set), 16).unwrap();
        assert_eq!(held & !allowed, 0, "{set} {held:#x}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(running.broker, set), "0".repeat(16), "{set}");
    }
    assert_eq!(status(running.broker, "NoNewPrivs"), "1");
    assert_eq!(status(running.broker, "Seccomp"), "2");
    running.end(Signal::TERM);
}

#[test]
fn broker_has_no_inherited_files_open() {
    let dir = tempfile::tempdir().unwrap();
    // libvirt passes a lock to the helper, and considers the helper gone once the lock is released.
    let lock = File::create(dir.path().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fcntl_setfd(&lock, FdFlags::empty()).unwrap();
    let running = Running::start(dir.path());
    let helper = open_files(running.helper.id());
    assert!(helper.iter().any(|(number, _)| *number == lock.as_raw_fd()));

    // The directory of the socket, and the signalfd for workers that have exited.
    let own = [dir.path().to_str().unwrap(), "anon_inode:[signalfd]"];
    // The broker has one socket for messages of the helper and one for rejected connections, which
    // it receives after its start.
    let others = wait_until("two sockets", || {
        let files = open_files(running.broker).into_iter();
        let others = files.filter(|(number, file)| *number > 2 && !own.contains(&&**file));
        let others: Vec<_> = others.collect();
        (others.len() == 2).then_some(others)
    });
    assert!(others.iter().all(|(_, file)| file.starts_with("socket:")));
    let sockets: BTreeSet<_> = helper.iter().map(|(_, file)| file).collect();
    // These are neither the listener nor the helper's ends.
    assert!(
        others.iter().all(|(_, file)| !sockets.contains(file)),
        "{others:?}"
    );
    running.end(Signal::KILL);
}

#[test]
fn helper_fails_when_its_broker_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (dir.path().join("socket"), dir.path().join("pid"));
    let helper = Command::new(BINARY)
        .arg("-k")
        .arg(&socket)
        .arg("-f")
        .arg(&pid_file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = Running::wait_until_ready(helper.unwrap(), &socket);
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    kill_process(broker, Signal::KILL).unwrap();
    assert_eq!(running.helper.wait().unwrap().code(), Some(1));
    let mut log = String::new();
    let mut stderr = running.helper.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(log.contains("broker ended unexpectedly"), "{log}");
    // The helper cannot remove files, but it can truncate the one that it has open.
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), "");
    Running::start(dir.path()).end(Signal::TERM);
}

#[test]
fn broker_removes_the_files_of_a_user_s_helper() {
    if !geteuid().is_root() {
        return skip("not root");
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (dir.path().join("socket"), dir.path().join("pid"));
    let helper = Command::new(BINARY)
        .arg("-k")
        .arg(&socket)
        .arg("-f")
        .arg(&pid_file)
        .args(["-u", "54321", "-g", "54321"])
        .stdin(Stdio::null())
        .spawn();
    let running = Running::wait_until_ready(helper.unwrap(), &socket);
    assert!(pid_file.exists());
    running.end(Signal::TERM);
    assert!(!socket.exists(), "socket not removed");
    assert!(!pid_file.exists(), "PID file not removed");
}

#[test]
fn files_that_were_replaced_stay() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let running = Running::start(dir.path());
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "another's").unwrap();
    running.end(Signal::TERM);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "another's");
}

#[test]
fn stopped_broker_delays_exit_only_briefly() {
    let dir = tempfile::tempdir().unwrap();
    let mut running = Running::start(dir.path());
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    kill_process(broker, Signal::STOP).unwrap();
    kill_process(Pid::from_child(&running.helper), Signal::TERM).unwrap();
    let start = Instant::now();
    assert!(running.helper.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(30));
    kill_process(broker, Signal::CONT).unwrap();
    wait_until("exit of the broker", || {
        (!is_running(running.broker)).then_some(())
    });
}

/// Prints why the test is skipped; skipping is a failure if `PR_COMPAT_STRICT` is set.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures that.
    let _ = writeln!(io::stderr(), "broker: skipped: {reason}");
}

#[test]
fn daemon_closes_the_streams_of_its_caller() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let mut caller = Command::new(BINARY)
        .arg("-dk")
        .arg(dir.path().join("socket"))
        .arg("-f")
        .arg(&pid_file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(caller.wait().unwrap().success());
    // Reading ends only when all processes have closed the other ends.
    let mut output = String::new();
    caller.stdout.unwrap().read_to_string(&mut output).unwrap();
    caller.stderr.unwrap().read_to_string(&mut output).unwrap();
    let helper: u32 = fs::read_to_string(pid_file)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let broker = child_of(helper).unwrap();
    assert!(is_running(broker));
    kill_process(
        Pid::from_raw(helper.try_into().unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    wait_until("exit of the broker", || (!is_running(broker)).then_some(()));
}
