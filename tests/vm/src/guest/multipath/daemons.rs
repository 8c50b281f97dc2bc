// SPDX-License-Identifier: MIT OR Apache-2.0

//! udevd and multipathd in a machine without systemd.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::guest::{mount_new, write};
use pr_testkit::process::{self, poll, run, text};

/// Path of udevd in Debian's package.
pub(crate) const UDEVD: &str = "/lib/systemd/systemd-udevd";

/// Maximum time until a daemon starts or notices a change.
pub(super) const TIMEOUT: Duration = Duration::from_secs(40);

const LOG: &str = "/run/multipathd.log";

/// Returns multipathd's configuration. Unlike on a host with its list of known disks, every disk
/// gets a map, except those in `unmapped`. The keys of `mpathpersist` are stored in a file, so that
/// multipathd can register a path that returns. To save time, paths are checked each second, and
/// results are used at once (`force_sync`); hosts check every 5 to 20 seconds. For this target,
/// multipathd's default is to queue commands for a while if there is no path; here they fail unless
/// the scenario queues them. multipath-tools 0.15 checks LIO with `directio`: its read conflicts
/// with an Exclusive Access reservation of another initiator, and multipathd then fails the path.
/// TEST UNIT READY does not conflict.
fn multipath_conf(keys: Keys, without_path: WithoutPath, unmapped: &[String]) -> String {
    let keys = match keys {
        Keys::InFile => "    reservation_key file\n",
        Keys::Fixed => "    reservation_key 0x1\n",
        Keys::None => "",
    };
    let without_path = match without_path {
        WithoutPath::Fail => "fail",
        WithoutPath::Queue => "queue",
    };
    let unmapped: String = unmapped
        .iter()
        .map(|name| format!("    devnode \"^{name}$\"\n"))
        .collect();
    format!(
        "\
defaults {{
    user_friendly_names yes
    find_multipaths no
{keys}    polling_interval 1
    max_polling_interval 1
    force_sync yes
}}
overrides {{
    no_path_retry {without_path}
    path_checker tur
}}
blacklist {{
{unmapped}}}
"
    )
}

const CONFIG_PATH: &str = "/etc/multipath.conf";

/// Source of a map's key, which multipathd needs to register paths.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    /// `reservation_key file`: the client that registers sets the key.
    InFile,
    /// `reservation_key 0x1`.
    Fixed,
    /// No `reservation_key`, which is the default.
    None,
}

/// udevd, which announces the disks to multipathd.
pub(crate) struct Udevd {
    process: Child,
}

impl Udevd {
    /// Starts udevd and has it process the disks.
    pub(crate) fn start() -> Result<Self> {
        let process = start(UDEVD, &[], "/run/udevd.log")?;
        let ready = poll(TIMEOUT, || {
            Ok(Path::new("/run/udev/control").exists().then_some(()))
        })?;
        ready.context("udevd did not start")?;
        run(process::command("udevadm").args([
            "trigger",
            "--action=add",
            "--subsystem-match=block",
        ]))?;
        settle()?;
        Ok(Self { process })
    }

    /// Stops the process with SIGSTOP. After each close of a disk that was open for writing, udevd
    /// probes the disk and has the kernel read the partitions; both consume unit attentions.
    /// udevd's own pause command (`--stop-exec-queue`) does not prevent the latter.
    pub(crate) fn freeze(&self) -> Result<()> {
        settle()?;
        process::stop(Pid::from_child(&self.process)).context("cannot stop udevd")
    }

    /// Continues the process.
    pub(super) fn thaw(&self) -> Result<()> {
        signal(&self.process, Signal::CONT).context("cannot continue udevd")
    }
}

/// Waits until udevd has processed all events.
pub(super) fn settle() -> Result<()> {
    run(process::command("udevadm").args(["settle", "--timeout=60"]))
}

/// Handling of commands by a map without a path.
#[derive(Clone, Copy)]
pub(super) enum WithoutPath {
    Fail,
    Queue,
}

/// multipathd, which can be killed and restarted.
pub(crate) struct Multipathd {
    process: RefCell<Child>,
    unmapped: Vec<String>,
}

impl Multipathd {
    /// Starts multipathd in the foreground and waits until it responds.
    pub(crate) fn start(unmapped: Vec<String>) -> Result<Self> {
        // Hide the bindings, WWIDs and keys that the host's multipathd has stored.
        mount_new("tmpfs", "/etc/multipath")?;
        write(
            Path::new(CONFIG_PATH),
            &multipath_conf(Keys::InFile, WithoutPath::Fail, &unmapped),
        )?;
        let daemon = Self {
            process: RefCell::new(launch()?),
            unmapped,
        };
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Kills multipathd with SIGKILL.
    pub(super) fn kill(&self) -> Result<()> {
        let mut process = self.process.borrow_mut();
        process.kill().context("cannot kill multipathd")?;
        process.wait().context("cannot wait for multipathd")?;
        Ok(())
    }

    /// Starts multipathd after [`Multipathd::kill`].
    pub(super) fn restart(&self) -> Result<()> {
        *self.process.borrow_mut() = launch()?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> Result<()> {
        let response = poll(TIMEOUT, || {
            let status = self.process.borrow_mut().try_wait()?;
            ensure!(status.is_none(), "multipathd exited");
            Ok(self.command(&["show", "daemon"]).ok())
        })?;
        response.context("multipathd did not respond")?;
        Ok(())
    }

    /// Reloads the configuration and waits until it is in use.
    pub(super) fn configure(&self, keys: Keys, without_path: WithoutPath) -> Result<()> {
        write(
            Path::new(CONFIG_PATH),
            &multipath_conf(keys, without_path, &self.unmapped),
        )?;
        self.command(&["reconfigure"])?;
        let done = poll(TIMEOUT, || {
            let used = self.command(&["show", "config", "local"])?;
            let is_idle = self.command(&["show", "daemon"])?.contains("idle");
            let has_setting = match keys {
                Keys::InFile => used.contains("reservation_key \"file\""),
                Keys::Fixed => used.contains("reservation_key 0x1"),
                Keys::None => !used.contains("reservation_key"),
            };
            Ok((is_idle && has_setting).then_some(()))
        })?;
        done.context("multipathd did not apply its configuration")
    }

    /// Runs an interactive command.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<String> {
        text(process::command("multipathd").args(arguments))
    }

    /// Stops the process with SIGSTOP, so that only the kernel can notice path changes.
    pub(crate) fn freeze(&self) -> Result<()> {
        let process = Pid::from_child(&self.process.borrow());
        process::stop(process).context("cannot stop multipathd")
    }

    /// Continues the process.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, number: Signal) -> Result<()> {
        signal(&self.process.borrow(), number).context("cannot signal multipathd")
    }

    /// Returns the state of the path `name` (`sda`) in device-mapper and in multipathd's checker.
    pub(crate) fn path_state(&self, name: &str) -> Result<String> {
        let paths = self.command(&["show", "paths", "raw", "format", "%d %t %T"])?;
        let states = paths.lines().filter_map(|line| line.split_once(' '));
        let mut states = states.filter(|(path, _)| *path == name);
        Ok(states
            .next()
            .map(|(_, state)| state.trim().to_owned())
            .unwrap_or_default())
    }
}

/// Returns multipathd's log.
pub(crate) fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_else(|error| format!("({LOG}: {error})"))
}

fn launch() -> Result<Child> {
    start("multipathd", &["-d", "-s"], LOG)
}

fn signal(process: &Child, signal: Signal) -> rustix::io::Result<()> {
    kill_process(Pid::from_child(process), signal)
}

fn start(program: &str, arguments: &[&str], log: &str) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.with_context(|| format!("cannot open {log}"))?;
    let errors = output.try_clone()?;
    let mut process: Command = process::command(program);
    process.args(arguments).stdin(Stdio::null());
    process.stdout(output).stderr(errors);
    let started = process.spawn();
    started.with_context(|| format!("cannot start {program}"))
}
