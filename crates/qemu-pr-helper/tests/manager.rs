//! Messages of the helper to a service manager.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use rustix::net::sockopt::set_socket_passcred;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A helper, which is killed on drop.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Helper {
    fn start(dir: &Path, manager: impl AsRef<OsStr>, watchdog: &[(&str, &str)]) -> Self {
        let helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(dir.join("socket"))
            .env("NOTIFY_SOCKET", manager)
            .envs(watchdog.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        Self(helper.unwrap())
    }

    fn terminate(&mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

/// Returns the lines of the next message.
fn receive(manager: &UnixDatagram) -> Vec<String> {
    let mut message = [0; 4096];
    let length = manager.recv(&mut message).unwrap();
    let text = String::from_utf8(message[..length].to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn helper_sends_ready_watchdog_and_stopping() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut helper = Helper::start(dir.path(), address, &[("WATCHDOG_USEC", "100000")]);
    let status = "STATUS=0 clients, 0 commands in progress";
    assert_eq!(receive(&manager), ["READY=1", "NOTIFYACCESS=all", status]);
    let client = Client::connect(&dir.path().join("socket")).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let message = receive(&manager);
        assert_eq!(message[0], "WATCHDOG=1");
        if message[1] == "STATUS=1 clients, 0 commands in progress" {
            break;
        }
        assert!(Instant::now() < deadline, "{message:?}");
    }
    drop(client);
    helper.terminate();
    let mut last = receive(&manager);
    while last[0] == "WATCHDOG=1" {
        last = receive(&manager);
    }
    assert_eq!(
        last,
        ["STOPPING=1", "STATUS=waiting for commands in progress"]
    );
}

#[test]
fn helper_without_watchdog_sends_no_ping() {
    let dir = tempfile::tempdir().unwrap();
    let name = format!("pr-helper-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let other_process = [("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let mut helper = Helper::start(dir.path(), format!("@{name}"), &other_process);
    assert_eq!(receive(&manager)[0], "READY=1");
    helper.terminate();
    assert_eq!(receive(&manager)[0], "STOPPING=1");
}

#[test]
fn helper_serves_without_its_service_manager() {
    let dir = tempfile::tempdir().unwrap();
    let mut helper = Helper::start(dir.path(), dir.path().join("missing"), &[]);
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = Client::connect(&dir.path().join("socket")) {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(10));
    }
    let mut stderr = helper.0.stderr.take().unwrap();
    helper.terminate();
    let mut log = String::new();
    stderr.read_to_string(&mut log).unwrap();
    // The helper of an ordinary user also logs that it lacks the capability.
    let about_manager = log.lines().filter(|line| line.contains("service manager"));
    let about_manager: Vec<&str> = about_manager.collect();
    assert_eq!(about_manager.len(), 1, "{log}");
    assert!(about_manager[0].contains("cannot connect"), "{log}");
}

#[test]
fn daemon_sends_its_pid_before_its_parent_exits() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let pid_file = dir.path().join("pid");
    let status = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"))
        .arg("-d")
        .arg("-k")
        .arg(dir.path().join("socket"))
        .arg("-f")
        .arg(&pid_file)
        .env("NOTIFY_SOCKET", address)
        .status();
    assert!(status.unwrap().success());
    let process = fs::read_to_string(pid_file).unwrap();
    let process = Pid::from_raw(process.trim().parse().unwrap()).unwrap();
    manager.set_nonblocking(true).unwrap();
    let message = receive(&manager);
    kill_process(process, Signal::TERM).unwrap();
    assert_eq!(message[0], "READY=1");
    assert_eq!(message[1], format!("MAINPID={}", process.as_raw_nonzero()));
    assert_eq!(message[2], "NOTIFYACCESS=all");
}

#[test]
fn ready_is_sent_when_the_queue_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let others = UnixDatagram::unbound().unwrap();
    others.connect(&address).unwrap();
    others.set_nonblocking(true).unwrap();
    let mut waiting = 0;
    while others.send(b"OTHER=1").is_ok() {
        waiting += 1;
    }
    let _helper = Helper::start(dir.path(), address, &[]);
    sleep(Duration::from_millis(1500));
    for _ in 0..waiting {
        assert_eq!(receive(&manager), ["OTHER=1"]);
    }
    assert_eq!(receive(&manager)[0], "READY=1");
}

/// Returns the number of sockets that a process has open.
fn sockets(process: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let links = files.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

/// Returns the only child of a process: the broker.
fn broker_of(helper: &Helper) -> Pid {
    let id = helper.0.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap()).unwrap()
}

/// Binds the socket of a service manager that receives the credentials of senders.
fn manager_with_credentials(address: &Path) -> UnixDatagram {
    let manager = UnixDatagram::bind(address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    set_socket_passcred(&manager, true).unwrap();
    manager
}

/// Receives a message. Returns its first line and the process that sent it.
fn receive_from(manager: &UnixDatagram) -> (String, Pid) {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(manager, &mut buffers, &mut ancillary, RecvFlags::empty()).unwrap();
    let process = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
        _ => None,
    });
    let text = String::from_utf8(bytes[..received.bytes].to_vec()).unwrap();
    (text.lines().next().unwrap().to_owned(), process.unwrap())
}

#[test]
fn helper_that_serves_has_no_notify_socket() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = manager_with_credentials(&address);
    let mut helper = Helper::start(dir.path(), &address, &[("WATCHDOG_USEC", "100000")]);
    let process = Pid::from_child(&helper.0);
    assert_eq!(receive_from(&manager), ("READY=1".to_owned(), process));
    drop(Client::connect(&dir.path().join("socket")).unwrap());
    let broker = broker_of(&helper);
    assert_eq!(receive_from(&manager), ("WATCHDOG=1".to_owned(), broker));
    // As many sockets as a helper without a service manager. The connection of the client can still
    // be open for a moment.
    let other = tempfile::tempdir().unwrap();
    let unmanaged = Helper::start(other.path(), "", &[]);
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = Client::connect(&other.path().join("socket")) {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(10));
    }
    loop {
        let numbers = [helper.0.id(), unmanaged.0.id()].map(sockets);
        if numbers[0] == numbers[1] {
            break;
        }
        assert!(Instant::now() < deadline, "{numbers:?}");
        sleep(Duration::from_millis(10));
    }
    helper.terminate();
    let mut last = receive_from(&manager);
    while last.0 == "WATCHDOG=1" {
        last = receive_from(&manager);
    }
    assert_eq!(last, ("STOPPING=1".to_owned(), broker));
}

#[test]
fn stopped_broker_sends_no_watchdog_message() {
    let dir = tempfile::tempdir().unwrap();
    let address = dir.path().join("notify");
    let manager = UnixDatagram::bind(&address).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let helper = Helper::start(dir.path(), &address, &[("WATCHDOG_USEC", "100000")]);
    assert_eq!(receive(&manager)[0], "READY=1");
    assert_eq!(receive(&manager)[0], "WATCHDOG=1");
    let broker = broker_of(&helper);
    kill_process(broker, Signal::STOP).unwrap();
    // Discards the messages from before the stop.
    sleep(Duration::from_millis(500));
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 4096]).is_ok() {}
    // Ten times the period of the messages.
    sleep(Duration::from_millis(500));
    let error = manager.recv(&mut [0; 4096]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    manager.set_nonblocking(false).unwrap();
    kill_process(broker, Signal::CONT).unwrap();
    assert_eq!(receive(&manager)[0], "WATCHDOG=1");
}
