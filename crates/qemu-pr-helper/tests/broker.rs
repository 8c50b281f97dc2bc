//! The broker for multipath maps: there while the helper is, with nothing of the helper's, and gone with it.

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

const PROGRAM: &str = env!("CARGO_BIN_EXE_qemu-pr-helper");

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` finds something.
fn wait_for<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// A helper that serves, and its broker.
struct Running {
    helper: Child,
    broker: u32,
}

impl Running {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("socket");
        let helper = Command::new(PROGRAM)
            .arg("-k")
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self::once_it_serves(helper, &socket)
    }

    fn once_it_serves(helper: Child, socket: &Path) -> Self {
        // The greeting comes after everything has been done that takes privileges.
        let mut client = wait_for("the socket", || UnixStream::connect(socket).ok());
        client.read_exact(&mut [0; 4]).unwrap();
        let broker = child_of(helper.id()).unwrap();
        Self { helper, broker }
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.helper), signal).unwrap();
        self.helper.wait().unwrap();
        wait_for("the broker's end", || {
            (!is_running(self.broker)).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.helper.kill();
    }
}

/// The only child of a process.
fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    let mut children = children.split_whitespace();
    let child = children.next()?.parse().unwrap();
    assert_eq!(children.next(), None);
    Some(child)
}

/// Whether a process is there and not dead. Who takes the dead away is not ours to say.
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

/// What a process has open, by number.
fn open_files(process: u32) -> Vec<(i32, String)> {
    let folder = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let mut files: Vec<_> = folder
        .filter_map(|entry| {
            let entry = entry.unwrap();
            // The helper closes the connection of a client that has gone while we look.
            let link = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().into_string().unwrap().parse().unwrap();
            Some((number, link.to_string_lossy().into_owned()))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn it_ends_with_the_helper_however_that_ends() {
    for signal in [Signal::TERM, Signal::KILL] {
        let folder = tempfile::tempdir().unwrap();
        Running::start(folder.path()).end(signal);
    }
}

#[test]
fn it_is_not_ended_by_what_asks_the_helper_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    // As a service manager does, which signals all processes of a service.
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        kill_process(broker, signal).unwrap();
    }
    assert_eq!(status(running.broker, "Name"), "pr-broker");
    running.end(Signal::TERM);
}

#[test]
fn broker_uses_two_capabilities_and_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let running = Running::start(folder.path());
    // CAP_DAC_READ_SEARCH is number 2, CAP_SYS_RAWIO number 17.
    let used: u64 = 1 << 2 | 1 << 17;
    // CAP_DAC_OVERRIDE, effective only while a file is removed.
    let kept = used | 1 << 1;
    for (set, allowed) in [("CapPrm", kept), ("CapEff", used)] {
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
fn it_has_nothing_open_but_its_streams_and_the_way_to_the_helper() {
    let folder = tempfile::tempdir().unwrap();
    // What libvirt does: it takes the helper for gone once the lock is.
    let lock = File::create(folder.path().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    fcntl_setfd(&lock, FdFlags::empty()).unwrap();
    let running = Running::start(folder.path());
    let helper = open_files(running.helper.id());
    assert!(helper.iter().any(|(number, _)| *number == lock.as_raw_fd()));

    // The directory of the socket, and the signals of ended workers.
    let own = [folder.path().to_str().unwrap(), "anon_inode:[signalfd]"];
    // To the helper, one socket for messages and one for rejected connections, which the broker
    // receives after its start.
    let others = wait_for("two sockets", || {
        let files = open_files(running.broker).into_iter();
        let others = files.filter(|(number, file)| *number > 2 && !own.contains(&&**file));
        let others: Vec<_> = others.collect();
        (others.len() == 2).then_some(others)
    });
    assert!(others.iter().all(|(_, file)| file.starts_with("socket:")));
    let sockets: BTreeSet<_> = helper.iter().map(|(_, file)| file).collect();
    // Neither the listener nor the other end.
    assert!(
        others.iter().all(|(_, file)| !sockets.contains(file)),
        "{others:?}"
    );
    running.end(Signal::KILL);
}

#[test]
fn helper_fails_when_its_broker_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (folder.path().join("socket"), folder.path().join("pid"));
    let helper = Command::new(PROGRAM)
        .arg("-k")
        .arg(&socket)
        .arg("-f")
        .arg(&pid_file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut running = Running::once_it_serves(helper.unwrap(), &socket);
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    kill_process(broker, Signal::KILL).unwrap();
    assert_eq!(running.helper.wait().unwrap().code(), Some(1));
    let mut log = String::new();
    let mut stderr = running.helper.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert!(log.contains("broker ended unexpectedly"), "{log}");
    // The helper may not remove files, but it can empty the one that it holds.
    assert_eq!(fs::read_to_string(&pid_file).unwrap(), "");
    Running::start(folder.path()).end(Signal::TERM);
}

#[test]
fn broker_removes_the_files_of_a_user_s_helper() {
    if !geteuid().is_root() {
        return skipped("not root");
    }
    let folder = tempfile::tempdir().unwrap();
    let (socket, pid_file) = (folder.path().join("socket"), folder.path().join("pid"));
    let helper = Command::new(PROGRAM)
        .arg("-k")
        .arg(&socket)
        .arg("-f")
        .arg(&pid_file)
        .args(["-u", "54321", "-g", "54321"])
        .stdin(Stdio::null())
        .spawn();
    let running = Running::once_it_serves(helper.unwrap(), &socket);
    assert!(pid_file.exists());
    running.end(Signal::TERM);
    assert!(!socket.exists(), "the socket is left");
    assert!(!pid_file.exists(), "the PID file is left");
}

#[test]
fn files_that_were_replaced_stay() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let running = Running::start(folder.path());
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "another's").unwrap();
    running.end(Signal::TERM);
    assert_eq!(fs::read_to_string(&socket).unwrap(), "another's");
}

#[test]
fn stopped_broker_delays_the_end_by_seconds_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(folder.path());
    let broker = Pid::from_raw(running.broker.try_into().unwrap()).unwrap();
    kill_process(broker, Signal::STOP).unwrap();
    kill_process(Pid::from_child(&running.helper), Signal::TERM).unwrap();
    let start = Instant::now();
    assert!(running.helper.wait().unwrap().success());
    assert!(start.elapsed() < Duration::from_secs(30));
    kill_process(broker, Signal::CONT).unwrap();
    wait_for("the broker's end", || {
        (!is_running(running.broker)).then_some(())
    });
}

/// Prints that something was not tested; fails where nothing may be skipped.
fn skipped(why: &str) {
    assert!(env::var_os("PR_COMPAT_STRICT").is_none(), "skipped: {why}");
    // Not with eprintln, which the test harness keeps to itself.
    let _ = writeln!(io::stderr(), "broker: skipped: {why}");
}

#[test]
fn it_lets_go_of_a_daemon_s_caller() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let mut caller = Command::new(PROGRAM)
        .arg("-dk")
        .arg(folder.path().join("socket"))
        .arg("-f")
        .arg(&pid_file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(caller.wait().unwrap().success());
    // Ends only when nobody has the other ends any more.
    let mut said = String::new();
    caller.stdout.unwrap().read_to_string(&mut said).unwrap();
    caller.stderr.unwrap().read_to_string(&mut said).unwrap();
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
    wait_for("the broker's end", || (!is_running(broker)).then_some(()));
}
