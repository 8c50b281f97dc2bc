//! A helper that is stopped and goes on, as debuggers and freezers do it, loses no client by that.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_socket::Client;
use pr_socket::wire::padded;
use rustix::process::{Pid, Signal, kill_process};
use scsi_pr::Status;

const PATIENCE: Duration = Duration::from_secs(60);

/// READ KEYS, with room for eight bytes.
const READ_KEYS: [u8; 10] = [0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0];

/// Ends with the test, whatever that comes to.
struct Helper(Child);

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(socket: &Path) -> io::Result<Helper> {
    let mut helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper.arg("-k").arg(socket).stdin(Stdio::null());
    Ok(Helper(helper.spawn()?))
}

fn connect(socket: &Path) -> Client {
    let end = Instant::now() + PATIENCE;
    loop {
        match Client::connect(socket) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn clients_outlast_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let helper = start(&socket).unwrap();
    let mut client = connect(&socket);
    let process = Pid::from_child(&helper.0);
    let null = File::open("/dev/null").unwrap();
    for _ in 0..40 {
        // A moment after an answer a thread still waits for the next request.
        let response = client.execute(padded(&READ_KEYS), null.as_fd(), &[]);
        assert_eq!(response.unwrap().status, Status::CHECK_CONDITION);
        sleep(Duration::from_millis(2));
        kill_process(process, Signal::STOP).unwrap();
        sleep(Duration::from_millis(2));
        kill_process(process, Signal::CONT).unwrap();
    }
}
