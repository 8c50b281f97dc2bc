// SPDX-License-Identifier: MIT OR Apache-2.0

//! The helper that libvirt starts for a domain: its process, and its complete removal.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{DOMAINS_DIR, HELPER_USER, STATE_DIR, USER};
use super::domain::Domain;
use crate::guest::process_table::{self, BROKER, HELPER, WORKER};
use crate::guest::read;

/// Maximum time until a process exits.
const EXIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Capabilities and restrictions of the process that serves clients.
const HELPER_STATUS: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000020000"),
    ("CapEff", "0000000000020000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// The broker uses `CAP_SYS_RAWIO` and `CAP_DAC_READ_SEARCH` for maps, and `CAP_DAC_OVERRIDE` to
/// remove the socket at exit.
const BROKER_STATUS: [(&str, &str); 6] = [
    ("Uid", "0\t0\t0\t0"),
    ("CapPrm", "0000000000020006"),
    ("CapEff", "0000000000020004"),
    ("CapBnd", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];

/// Files that libvirt creates for a domain's helper.
pub(super) struct Managed {
    dir: PathBuf,
    socket: PathBuf,
    pid_file: PathBuf,
}

impl Managed {
    pub(super) fn new(domain: &Domain) -> Self {
        let name = format!("{}-{}", domain.id, domain.name);
        let dir = Path::new(DOMAINS_DIR).join(format!("domain-{name}"));
        Self {
            socket: dir.join("pr-helper0.sock"),
            dir,
            pid_file: Path::new(STATE_DIR).join(format!("{name}-pr-helper0.pid")),
        }
    }

    /// Checks that exactly one helper runs, with libvirt's command line, socket and PID file.
    pub(super) fn expect_started(&self, program: &Path) -> Result<Pid> {
        let helper = process_table::one(HELPER)?;
        let expected = format!("{} -k {} ", program.display(), self.socket.display());
        let line = read(&process_table::proc_path(helper, "cmdline"))?.replace('\0', " ");
        ensure!(line == expected, "{line:?} instead of {expected:?}");
        process_table::expect_status(helper, &[("PPid", "1")])?;
        let pid = read(&self.pid_file)?;
        ensure!(
            pid == helper.as_raw_nonzero().to_string(),
            "{} has {pid:?}, and the helper is {helper:?}",
            self.pid_file.display()
        );
        let owner = fs::metadata(&self.socket).context("the socket does not exist")?;
        let owner = owner.uid();
        ensure!(owner == USER, "the socket belongs to user {owner}");
        println!("guest: {line}is process {pid}, as libvirt's PID file says, and has parent 1");
        Ok(helper)
    }

    /// Checks that the helper and the broker have no more privileges than they need.
    pub(super) fn expect_confined(helper: Pid) -> Result<()> {
        let broker = process_table::one(BROKER)?;
        let user = vec![HELPER_USER.to_string(); 4].join("\t");
        process_table::expect_status(helper, &[("Uid", &user)])?;
        for (process, name, status) in [
            (
                helper,
                "each of the helper's threads",
                HELPER_STATUS.as_slice(),
            ),
            (broker, "the broker", &BROKER_STATUS),
        ] {
            let lines = process_table::expect_status(process, status)?;
            println!("guest: {name}: {}", lines.join(", ").replace('\t', " "));
        }
        Ok(())
    }

    /// Kills the helper with SIGKILL, like the kernel's OOM killer. QEMU notifies libvirt at the
    /// guest's next command.
    pub(super) fn kill(helper: Pid) -> Result<()> {
        kill_process(helper, Signal::KILL).context("cannot kill the helper")?;
        for name in [HELPER, BROKER] {
            process_table::wait_until_gone(name, EXIT_TIMEOUT)?;
        }
        Ok(())
    }

    /// Checks that the processes and files of the helper are gone after the domain has ended.
    pub(super) fn expect_nothing_left(&self) -> Result<()> {
        for name in [HELPER, BROKER, WORKER] {
            let left = process_table::all(name)?;
            ensure!(left.is_empty(), "{name} still runs: {left:?}");
        }
        for path in [&self.socket, &self.pid_file, &self.dir] {
            ensure!(!path.exists(), "{} still exists", path.display());
        }
        Ok(())
    }
}
