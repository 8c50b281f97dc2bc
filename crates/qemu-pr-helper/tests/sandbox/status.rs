//! Privileges and sandbox of a serving helper, as the kernel reports them.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns `/proc/PID/status` of a serving helper with these options.
fn status(options: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let mut helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper
        .arg("-k")
        .arg(&socket)
        .args(options)
        .stdin(Stdio::null());
    let mut helper = helper.spawn().unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = Client::connect(&socket) {
        assert!(Instant::now() < deadline, "{error}");
        sleep(Duration::from_millis(10));
    }
    let status = fs::read_to_string(format!("/proc/{}/status", helper.id()));
    helper.kill().unwrap();
    helper.wait().unwrap();
    status.unwrap()
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.strip_prefix(':')).unwrap().trim()
}

#[test]
fn helper_has_one_capability_and_a_filter() {
    let status = status(&[]);
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Seccomp"), "2");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    if !rustix::process::geteuid().is_root() {
        return crate::skip("not root: there are no capabilities to drop");
    }
    assert_eq!(field(&status, "CapBnd"), "0000000000000000");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(field(&status, set), "0000000000020000", "{set}");
    }
}

#[test]
fn sandbox_can_be_off() {
    assert_eq!(field(&status(&["--sandbox", "off"]), "Seccomp"), "0");
    assert_eq!(field(&status(&["--sandbox=log"]), "Seccomp"), "2");
}
