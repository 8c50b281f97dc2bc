// SPDX-License-Identifier: MIT OR Apache-2.0

//! The coordinator's connections to the QEMU of a host: the guest's console, and the monitor.

use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::network::{self, CONSOLE_PORT, HEARTBEAT_PORT, MIGRATION_PORT, MONITOR_PORT};
use crate::guest::heartbeat;
use crate::guest::initiator::Initiator;
use crate::guest::live_migration::Capabilities;
use crate::guest::nested_guest::{Accelerator, COMMAND_TIMEOUT};
use crate::guest::qmp::{ANSWER_TIMEOUT, Qmp};
use crate::guest::serial::Console;
use crate::role::Role;

/// A guest, or a QEMU that waits for one.
pub(super) struct RemoteGuest {
    host: Role,
    console: Console<TcpStream>,
    pub(super) monitor: Qmp<TcpStream>,
}

impl RemoteGuest {
    /// Connects to a QEMU that was started just before.
    pub(super) fn connect(host: Role) -> Result<Self> {
        let console = network::connect(host, CONSOLE_PORT)?;
        let heartbeat = record_heartbeat(host, network::connect(host, HEARTBEAT_PORT)?)?;
        let monitor = network::connect(host, MONITOR_PORT)?;
        monitor.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let output = console.try_clone()?;
        Ok(Self {
            host,
            console: Console::new(console, output, Some(heartbeat)),
            monitor: Qmp::new(monitor)?,
        })
    }

    /// Waits until the guest accepts commands.
    pub(super) fn wait_for_boot(&self) -> Result<()> {
        let booted = self.console.read_result(Accelerator::Kvm.boot_timeout());
        booted.with_context(|| format!("the {} did not boot", self.name()))?;
        Ok(())
    }

    /// Ends the scenario if the emulated guest has hung: see [`heartbeat::check_nested`].
    pub(super) fn check_heartbeat(&self) -> Result<()> {
        heartbeat::check_nested(&heartbeat_file(self.host))
    }

    /// Makes QEMU wait for a guest.
    pub(super) fn listen(&mut self, capabilities: Capabilities) -> Result<()> {
        self.monitor.set_capabilities(capabilities)?;
        self.monitor
            .listen(&format!("tcp:0.0.0.0:{MIGRATION_PORT}"))
    }

    /// Starts a migration to a host where QEMU waits for the guest.
    pub(super) fn migrate(&mut self, destination: Role, capabilities: Capabilities) -> Result<()> {
        self.monitor.set_capabilities(capabilities)?;
        let address = network::control_address(destination);
        self.monitor
            .migrate(&format!("tcp:{address}:{MIGRATION_PORT}"))
    }

    /// Stops the guest's processor, as if its host hung.
    pub(super) fn pause(&mut self) -> Result<()> {
        self.monitor.execute("stop", &json!({}))?;
        Ok(())
    }

    /// Continues the guest.
    pub(super) fn resume(&mut self) -> Result<()> {
        self.monitor.execute("cont", &json!({}))?;
        Ok(())
    }
}

fn heartbeat_file(host: Role) -> PathBuf {
    Path::new("/run").join(format!("{}.heartbeat", host.name()))
}

/// Copies a guest's heartbeats to a file while QEMU runs, and returns the file.
fn record_heartbeat(host: Role, mut heartbeat: TcpStream) -> Result<PathBuf> {
    let path = heartbeat_file(host);
    let file = File::create(&path);
    let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
    thread::spawn(move || io::copy(&mut heartbeat, &mut file));
    Ok(path)
}

impl Initiator for RemoteGuest {
    fn name(&self) -> &'static str {
        match self.host {
            Role::HostB => "guest on host-b",
            _ => "guest on host-a",
        }
    }

    fn disk(&self) -> String {
        "/dev/sda".to_owned()
    }

    fn execute(&mut self, line: &str) -> Result<(i32, String)> {
        self.console.run(line, COMMAND_TIMEOUT)
    }
}
