//! What the kernel says of a helper that serves.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;

const PATIENCE: Duration = Duration::from_secs(60);

/// `/proc/PID/status` of a helper with these options, once it serves.
fn status(options: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let mut helper = Command::new(env!("CARGO_BIN_EXE_qemu-pr-helper"));
    helper
        .arg("-k")
        .arg(&socket)
        .args(options)
        .stdin(Stdio::null());
    let mut helper = helper.spawn().unwrap();
    let end = Instant::now() + PATIENCE;
    while let Err(error) = Client::connect(&socket) {
        assert!(Instant::now() < end, "{error}");
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
fn a_helper_has_one_capability_and_a_filter() {
    let status = status(&[]);
    assert_eq!(field(&status, "NoNewPrivs"), "1");
    assert_eq!(field(&status, "Seccomp"), "2");
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    if !rustix::process::geteuid().is_root() {
        return crate::skipped("not root: there are no capabilities to give up");
    }
    assert_eq!(field(&status, "CapBnd"), "0000000000000000");
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(field(&status, set), "0000000000020000", "{set}");
    }
}

#[test]
fn a_helper_can_do_without() {
    assert_eq!(field(&status(&["--sandbox", "off"]), "Seccomp"), "0");
    assert_eq!(field(&status(&["--sandbox=log"]), "Seccomp"), "2");
}
