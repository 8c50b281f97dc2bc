//! User and group of a helper that root starts, with and without `-u` and `-g`.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without fails it")]

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pr_helper_protocol::Client;
use rustix::process::geteuid;

const TIMEOUT: Duration = Duration::from_secs(60);

const USER: u32 = 54_321;
const GROUP: u32 = 54_322;

/// Adds the account `qemu-pr-helper` in a mount namespace, and executes the helper.
const SCRIPT: &str = r#"
    set -eu
    mount --bind "$PASSWD" /etc/passwd
    exec $PREFIX "$@"
"#;

/// Helper that accepts clients on a host with the account.
struct Running {
    dir: tempfile::TempDir,
    helper: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.helper.kill();
        let _ = self.helper.wait();
    }
}

impl Running {
    /// Starts a helper. Prints the reason and returns `None` if this host does not support that.
    fn start(prefix: &str, options: &[&str]) -> Option<Self> {
        let unshare = Command::new("unshare").args(["--mount", "true"]).output();
        let can_unshare = unshare.is_ok_and(|output| output.status.success());
        if !can_unshare || !geteuid().is_root() {
            skip("requires root and a mount namespace");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let account = format!("qemu-pr-helper:x:{USER}:{GROUP}::/:/usr/sbin/nologin\n");
        let passwd = account + &fs::read_to_string("/etc/passwd").unwrap();
        fs::write(dir.path().join("passwd"), passwd).unwrap();
        fs::create_dir(dir.path().join("luns")).unwrap();
        let socket = dir.path().join("socket");
        let helper = Command::new("unshare")
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(env!("CARGO_BIN_EXE_qemu-pr-helper"))
            .arg("-k")
            .arg(&socket)
            .args(options)
            .env("PASSWD", dir.path().join("passwd"))
            .env("PREFIX", prefix)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn();
        let running = Self {
            helper: helper.unwrap(),
            dir,
        };
        let end = Instant::now() + TIMEOUT;
        while let Err(error) = Client::connect(&socket) {
            assert!(Instant::now() < end, "{error}: {}", running.stderr());
            sleep(Duration::from_millis(10));
        }
        Some(running)
    }

    fn ids(&self) -> (u32, u32) {
        ids(self.helper.id())
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }
}

/// Returns the effective user and group of a process.
fn ids(process: u32) -> (u32, u32) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let id = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split('\t').nth(2).unwrap().parse().unwrap()
    };
    (id("Uid:"), id("Gid:"))
}

#[test]
fn root_becomes_the_account_and_the_broker_stays_root() {
    let Some(running) = Running::start("", &[]) else {
        return;
    };
    assert_eq!(running.ids(), (USER, GROUP));
    let process = running.helper.id();
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    assert_eq!(ids(children.trim().parse().unwrap()), (0, 0));
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000020000",
        "CapPrm:\t0000000000020000",
        "Groups:\t ",
    ] {
        assert!(status.lines().any(|other| other == line), "{status}");
    }
}

#[test]
fn chosen_ids_are_used_instead_of_the_account() {
    for (options, expected) in [
        (&["-u", "root"][..], (0, 0)),
        (&["-g", "root"], (0, 0)),
        (&["-g", "12"], (0, 12)),
        (&["-u", "12345", "-g", "12346"], (12345, 12346)),
    ] {
        let Some(running) = Running::start("", options) else {
            return;
        };
        assert_eq!(running.ids(), expected, "{options:?}");
    }
}

#[test]
fn soft_luns_are_served_as_root() {
    let Some(running) = Running::start("", &["--soft-luns", "luns"]) else {
        return;
    };
    assert_eq!(running.ids(), (0, 0));
}

/// A container can lack the capabilities to change IDs.
#[test]
fn root_without_setuid_stays_root_and_logs_it() {
    for capabilities in ["-setuid", "-setgid", "-setuid,-setgid"] {
        let prefix = format!("setpriv --bounding-set={capabilities} --inh-caps={capabilities}");
        let Some(running) = Running::start(&prefix, &["-v"]) else {
            return;
        };
        assert_eq!(running.ids(), (0, 0), "{capabilities}");
        let log = running.stderr();
        assert!(log.contains("account qemu-pr-helper not used"), "{log}");
    }
}

/// Prints why the test is skipped; skipping is a failure if `PR_COMPAT_STRICT` is set.
fn skip(reason: &str) {
    assert!(
        env::var_os("PR_COMPAT_STRICT").is_none(),
        "skipped: {reason}"
    );
    // Not with eprintln, because the test harness captures that.
    let _ = writeln!(io::stderr(), "identity: skipped: {reason}");
}
