// SPDX-License-Identifier: MIT OR Apache-2.0

//! A host: sets up its paths, the map and the helper, and executes the coordinator's requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::iscsi_initiator;
use super::iscsi_target::PORTALS;
use super::kernel_log;
use super::network::{self, CONSOLE_PORT, COORDINATOR_PORT, HEARTBEAT_PORT, MONITOR_PORT};
use super::request::Request;
use crate::guest::helper::{Helper, SOCKET, helper_stderr};
use crate::guest::maps::load_modules;
use crate::guest::multipath::{Multipathd, Udevd, multipathd_log, wait_for_map, wait_for_map_of};
use crate::guest::nested_guest::{self, Accelerator, Programs};
use crate::guest::{Modules, read, serial, write};
use crate::role::Role;
use pr_testkit::process::poll;

/// Trace of the helper, which its user can create.
const TRACE: &str = "/run/pr/trace";

/// Maximum time until multipathd notices that a path has failed or returned.
const PATH_TIMEOUT: Duration = Duration::from_secs(90);

/// Maximum time until the helper has noticed that its client is gone.
const FORGET_TIMEOUT: Duration = Duration::from_secs(30);

/// State of a path.
#[derive(Clone, Copy, Debug)]
struct PathState {
    /// State of the SCSI device in sysfs.
    of_device: &'static str,
    /// First words of multipathd's state.
    in_multipathd: &'static str,
}

const ACTIVE: PathState = PathState {
    of_device: "running",
    in_multipathd: "active ready",
};

const FAILED: PathState = PathState {
    of_device: "transport-offline",
    in_multipathd: "failed",
};

/// A host of the scenario.
struct Host {
    accelerator: Accelerator,
    multipathd: Multipathd,
    /// Names of the paths (`sda`), in the order of the portals.
    paths: [String; 2],
    /// Name and device node of the map.
    map: String,
    disk: PathBuf,
    qemu: Option<Child>,
    // Kept running.
    _udevd: Udevd,
    _helper: Helper,
}

/// Sets up the host when the target is available, and executes requests. Does not return after
/// that: the end of the target's machine ends the scenario.
pub(super) fn run(role: Role, programs: &Programs, modules: &Modules) -> Result<()> {
    let requests = network::connect(Role::Target, COORDINATOR_PORT)?;
    let mut host = Host::set_up(role, programs, modules)?;
    let replies = requests.try_clone()?;
    let served = serial::serve(requests, replies, |line| host.execute(line.parse()?));
    println!(
        "{}: the coordinator has disconnected: {served:?}",
        role.name()
    );
    loop {
        thread::park();
    }
}

impl Host {
    fn set_up(role: Role, programs: &Programs, modules: &Modules) -> Result<Self> {
        load_modules(modules)?;
        let accelerator = Accelerator::detect(modules);
        programs.prepare()?;
        let paths = iscsi_initiator::login(role, modules)?;
        let udevd = Udevd::start()?;
        let multipathd = Multipathd::start(Vec::new())?;
        let map = wait_for_map_of(&paths.each_ref().map(String::as_str))?;
        let disk = wait_for_map(&map)?;
        let trace = format!("pr_helper_*,file={TRACE}");
        let helper = Helper::start_with(
            &programs.helper,
            &["-v", "-u", "nobody", "--trace-timestamp", "-T", &trace],
            &[],
        )?;
        let host = Self {
            accelerator,
            multipathd,
            paths,
            map,
            disk,
            qemu: None,
            _udevd: udevd,
            _helper: helper,
        };
        for portal in PORTALS {
            host.wait_for_path(portal, ACTIVE)?;
        }
        println!("{}: the map {} is ready", role.name(), host.map);
        Ok(host)
    }

    fn execute(&mut self, request: Request) -> Result<String> {
        println!("request: {request}");
        match request {
            Request::Boot => self.start_qemu(&[])?,
            Request::Await => self.start_qemu(&["-incoming", "defer"])?,
            Request::Kill => self.kill_qemu()?,
            Request::FailPath(portal) => {
                network::set_link(portal, "down")?;
                iscsi_initiator::close_connections(portal)?;
                self.wait_for_path(portal, FAILED)?;
            }
            Request::RestorePath(portal) => {
                network::set_link(portal, "up")?;
                self.wait_for_path(portal, ACTIVE)?;
            }
            Request::AwaitNoKey => self.wait_until_forgotten()?,
            Request::Crash => write(Path::new("/proc/sysrq-trigger"), "b")?,
            Request::Logs => return Ok(logs()),
        }
        Ok(String::new())
    }

    /// Starts QEMU, which waits until a client has connected to the guest's console and heartbeat.
    fn start_qemu(&mut self, options: &[&str]) -> Result<()> {
        ensure!(self.qemu.is_none(), "QEMU is already running");
        let [console, heartbeat] = [CONSOLE_PORT, HEARTBEAT_PORT]
            .map(|port| format!("tcp:0.0.0.0:{port},server=on,wait=on"));
        let monitor = format!("tcp:0.0.0.0:{MONITOR_PORT},server=on,wait=off");
        let qemu = nested_guest::qemu(&self.disk, Path::new(SOCKET), self.accelerator)?
            .args(["-serial", &console, "-serial", &heartbeat])
            .args(["-qmp", &monitor])
            .args(options)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start the nested QEMU")?;
        self.qemu = Some(qemu);
        Ok(())
    }

    fn kill_qemu(&mut self) -> Result<()> {
        let mut qemu = self.qemu.take().context("QEMU is not running")?;
        // It may have exited after a command to its monitor.
        qemu.kill().context("cannot kill QEMU")?;
        qemu.wait().context("cannot wait for QEMU")?;
        Ok(())
    }

    /// Waits until the helper has made multipathd forget the key of a guest that is gone.
    fn wait_until_forgotten(&self) -> Result<()> {
        let mut key = String::new();
        let forgotten = poll(FORGET_TIMEOUT, || {
            key = self.multipathd.command(&["getprkey", "map", &self.map])?;
            Ok((key.trim() == "none").then_some(()))
        })?;
        forgotten.with_context(|| format!("multipathd still stores the key {}", key.trim()))
    }

    /// Waits until the kernel and then multipathd agree on the state of a path.
    fn wait_for_path(&self, portal: u8, state: PathState) -> Result<()> {
        let path = &self.paths[usize::from(portal) - 1];
        let device = PathBuf::from(format!("/sys/block/{path}/device/state"));
        let mut last = String::new();
        let reached = poll(PATH_TIMEOUT, || {
            last = read(&device)?;
            if last == state.of_device {
                // multipathd does not answer in time while a checker waits for the path.
                last = self.multipathd.path_state(path).unwrap_or_default();
            }
            Ok(last.starts_with(state.in_multipathd).then_some(()))
        })?;
        reached.with_context(|| format!("the path {path} is {last:?} instead of {state:?}"))
    }
}

/// Returns all logs of the host.
fn logs() -> String {
    let trace = fs::read_to_string(TRACE);
    let trace = trace.unwrap_or_else(|error| format!("({TRACE}: {error})"));
    format!(
        "trace:\n{trace}\nhelper:\n{}\nmultipathd:\n{}\niscsid:\n{}\nkernel:\n{}",
        helper_stderr(),
        multipathd_log(),
        crate::guest::iscsi_initiator::log(),
        kernel_log()
    )
}
