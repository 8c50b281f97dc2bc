// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that serves a soft LUN with two ports, and runs of prhctl with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pr_testkit::soft_lun::{SoftLunFixture, port};
use qemu_pr_helper::backend::Backends;
use qemu_pr_helper::backend::soft_lun::SoftLuns;
use qemu_pr_helper::cli::Limits;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use tempfile::TempDir;

/// The result of a run of prhctl.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs a command with `input` on standard input.
    pub(crate) fn new(command: &mut Command, input: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Run {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns standard output. Panics unless the status is 0 and standard error is empty.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// Returns standard error. Panics unless the status is `status` and standard output is empty.
    #[track_caller]
    pub(crate) fn failure(self, status: i32) -> String {
        assert_eq!(
            (self.status, self.stdout.as_str()),
            (status, ""),
            "{self:?}"
        );
        self.stderr
    }

    /// Panics unless the run succeeds, and standard output is `expected`.
    #[track_caller]
    pub(crate) fn expect_stdout(self, expected: &str) {
        assert_eq!(self.success(), expected);
    }

    /// Panics unless the status is `status`, standard output is empty, and standard error contains
    /// each of the fragments.
    #[track_caller]
    pub(crate) fn expect_failure(self, status: i32, fragments: &[&str]) {
        let stderr = self.failure(status);
        for fragment in fragments {
            assert!(stderr.contains(fragment), "{fragment}: {stderr}");
        }
    }

    /// Returns the JSON document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Returns a command that runs prhctl in `dir`, with arguments separated by blanks and without
/// environment variables that affect colors.
pub(crate) fn prhctl(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prhctl"));
    command.current_dir(dir).args(arguments.split(' '));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm");
    command
}

/// A directory with a helper at `socket`, and the ports `a` and `b` of a soft LUN.
pub(crate) struct TestHelper {
    server: Arc<Server<Backends>>,
    dir: TempDir,
}

/// The ports and their initiator ports.
pub(crate) const INITIATORS: [(&str, &str); 2] = [
    ("a", "sas,5001405000000001"),
    ("b", "iqn.2024-01.example:b,i,0x00023d000001"),
];

impl TestHelper {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = INITIATORS.into_iter().zip(1..);
        let ports = ports.map(|((name, initiator), target_port)| {
            port(name, initiator.parse().unwrap(), target_port)
        });
        let fixture = SoftLunFixture::with_ports(dir.path(), ports.collect());
        // Short paths for command lines.
        for (name, _) in INITIATORS {
            std::os::unix::fs::symlink(fixture.port(name), dir.path().join(name)).unwrap();
        }
        let (listener, _) = Listener::bind(&dir.path().join("socket")).unwrap();
        let backends = Backends::new(
            Duration::from_secs(10),
            Some(SoftLuns::open(&fixture.luns).unwrap()),
            None,
        );
        let server = Arc::new(
            Server::new(
                listener,
                backends,
                None,
                &Arc::default(),
                &Limits::default(),
            )
            .unwrap(),
        );
        server.start().unwrap();
        TestHelper { server, dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns a command that runs prhctl with this helper.
    pub(crate) fn prhctl(&self, arguments: &str) -> Command {
        let uses_helper = !["lun", "decode", "demo", "completion"]
            .iter()
            .any(|name| arguments.starts_with(name));
        let socket = if uses_helper { "-k socket " } else { "" };
        prhctl(self.dir.path(), &format!("{socket}{arguments}"))
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        Run::new(&mut self.prhctl(arguments), "")
    }

    /// Registers key 0xa through port `a` and key 0xb through port `b`.
    pub(crate) fn register_both(&self) {
        for name in ["a", "b"] {
            self.run(&format!("register {name} --key {name}")).success();
        }
    }
}

impl Drop for TestHelper {
    fn drop(&mut self) {
        self.server.shutdown(Duration::from_secs(5));
    }
}
