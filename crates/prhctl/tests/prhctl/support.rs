//! A helper with a soft LUN of two ports, and the program run at it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use qemu_pr_helper::backend::Backends;
use qemu_pr_helper::backend::soft_lun::SoftLuns;
use qemu_pr_helper::cli::Limits;
use qemu_pr_helper::server::Server;
use qemu_pr_helper::server::listener::Listener;
use scsi_pr::TransportId;
use soft_lun::store::{Lun, Port};
use soft_lun::{Nexus, SupportedFeatures};
use tempfile::TempDir;

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Runs the program, with nothing in its surroundings that says anything about colours.
    pub(crate) fn of(command: &mut Command, input: &str) -> Self {
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

    /// What it printed, having succeeded without a word on standard error.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{self:?}");
        self.stdout
    }

    /// What it complained of, having printed nothing.
    #[track_caller]
    pub(crate) fn failed(self, status: i32) -> String {
        assert_eq!(
            (self.status, self.stdout.as_str()),
            (status, ""),
            "{self:?}"
        );
        self.stderr
    }

    /// The document that it printed.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program in `folder`, with these arguments, blanks between them.
pub(crate) fn program(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_prhctl"));
    command.current_dir(folder).args(arguments.split(' '));
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm");
    command
}

/// A folder with the soft LUN `lun`, whose ports are `a` and `b`, and a helper at `socket`.
pub(crate) struct Helper {
    folder: TempDir,
    engine: Arc<Server<Backends>>,
}

/// Initiator ports of the soft LUN, by the names of its ports.
pub(crate) const INITIATORS: [(&str, &str); 2] = [
    ("a", "sas,5001405000000001"),
    ("b", "iqn.2024-01.example:b,i,0x00023d000001"),
];

impl Helper {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ports = INITIATORS.into_iter().zip(1..);
        let ports = ports.map(|((name, initiator), target_port)| Port {
            name: name.parse().unwrap(),
            nexus: Nexus {
                initiator: initiator.parse::<TransportId>().unwrap(),
                target_port: u16::into(target_port),
            },
        });
        let luns = folder.path().join("luns");
        std::fs::create_dir(&luns).unwrap();
        Lun::create(
            &luns.join("lun"),
            ports.collect(),
            SupportedFeatures::default(),
        )
        .unwrap();
        // Short names for command lines.
        for (name, _) in INITIATORS {
            let port = luns.join("lun/ports").join(name);
            std::os::unix::fs::symlink(port, folder.path().join(name)).unwrap();
        }
        let (listener, _) = Listener::bind(&folder.path().join("socket")).unwrap();
        let backends = Backends::new(
            Duration::from_secs(10),
            Some(SoftLuns::open(&luns).unwrap()),
            None,
        );
        let engine = Arc::new(Server::new(listener, backends, None, &Limits::default()).unwrap());
        engine.start().unwrap();
        Helper { engine, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program at this helper.
    pub(crate) fn program(&self, arguments: &str) -> Command {
        program(self.folder.path(), &format!("-k socket {arguments}"))
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        Run::of(&mut self.program(arguments), "")
    }

    /// Registers key 0xa by port `a` and 0xb by port `b`.
    pub(crate) fn register_both(&self) {
        for name in ["a", "b"] {
            self.run(&format!("register {name} --key {name}")).good();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.engine.stop(Duration::from_secs(5));
    }
}
