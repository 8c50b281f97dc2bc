//! A helper that is stopped by a signal. After it is continued, as by debuggers and freezers, it
//! still has all its clients. After it is terminated, it starts no command.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::wire::pad_cdb;
use pr_helper_protocol::{Client, fd_passing};
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::Status;

/// Timeout for an event that must happen.
const TIMEOUT: Duration = Duration::from_secs(60);

/// READ KEYS, with an allocation length of 8 bytes.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

/// A helper as a child process. It is killed on drop.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(socket: &Path, arguments: &[&str]) -> io::Result<Helper> {
    let mut helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper
        .arg("-k")
        .arg(socket)
        .args(arguments)
        .stdin(Stdio::null());
    Ok(Helper(helper.spawn()?))
}

fn connect<T, E: Display>(connect: impl Fn() -> Result<T, E>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        match connect() {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn clients_stay_connected_after_sigstop() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let helper = start(&socket, &[]).unwrap();
    let mut client = connect(|| Client::connect(&socket));
    let process = Pid::from_child(&helper.0);
    let null = File::open("/dev/null").unwrap();
    for _ in 0..40 {
        // For a short time after a reply, a thread still waits for the next request.
        let response = client.execute(pad_cdb(&READ_KEYS), null.as_fd(), &[]);
        assert_eq!(response.unwrap().status, Status::CHECK_CONDITION);
        sleep(Duration::from_millis(2));
        kill_process(process, Signal::STOP).unwrap();
        sleep(Duration::from_millis(2));
        kill_process(process, Signal::CONT).unwrap();
    }
}

/// The helper is terminated while a thread reads a request byte by byte.
#[test]
fn partial_request_at_shutdown_never_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, trace) = (dir.path().join("socket"), dir.path().join("trace"));
    let option = format!("pr_helper_*,file={}", trace.display());
    let mut helper = start(&socket, &["-T", &option]).unwrap();
    let mut client = connect(|| UnixStream::connect(&socket));
    client.read_exact(&mut [0; 4]).unwrap();
    client.write_all(&[0; 4]).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.unwrap();
    // After a reply, a thread lingers with the client.
    fd_passing::send(client.as_fd(), &pad_cdb(&READ_KEYS), null.as_fd()).unwrap();
    client.read_exact(&mut [0; 104]).unwrap();
    let register = [0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    fd_passing::send(client.as_fd(), &pad_cdb(&register), null.as_fd()).unwrap();
    for byte in 0..24 {
        if byte == 12 {
            kill_process(Pid::from_child(&helper.0), Signal::TERM).unwrap();
        }
        // The helper may have exited.
        let _ = client.write_all(&[0]);
        sleep(Duration::from_millis(3));
    }
    assert!(helper.0.wait().unwrap().success());
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("pr_helper_in_end"), "{trace}");
    assert!(trace.contains("pr_helper_stopped unanswered=0"), "{trace}");
    assert!(!trace.contains("pr_helper_out_begin"), "{trace}");
}
