// SPDX-License-Identifier: MIT OR Apache-2.0

//! The coordinator's connections to the hosts.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::network::{self, COORDINATOR_PORT};
use super::remote_guest::RemoteGuest;
use super::request::Request;
use crate::guest::serial::Console;
use crate::role::Role;
use pr_testkit::process::poll;

/// Maximum time until a host has booted and its map is ready.
const SETUP_TIMEOUT: Duration = Duration::from_secs(240);

/// Maximum time of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// A host that executes requests.
pub(super) struct RemoteHost {
    role: Role,
    requests: Console<TcpStream>,
}

/// Waits for the hosts' connections.
pub(super) fn accept_all() -> Result<(TcpListener, [RemoteHost; 2])> {
    let address = (network::control_address(Role::Target), COORDINATOR_PORT);
    let listener = TcpListener::bind(address).context("cannot listen for the hosts")?;
    listener.set_nonblocking(true)?;
    let mut hosts = [accept(&listener)?, accept(&listener)?];
    hosts.sort_by_key(|host| host.role);
    for host in &hosts {
        host.wait_until_ready()?;
    }
    Ok((listener, hosts))
}

fn accept(listener: &TcpListener) -> Result<RemoteHost> {
    let accepted = poll(SETUP_TIMEOUT, || Ok(listener.accept().ok()))?;
    let (socket, address) = accepted.context("a host did not connect")?;
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    let mut roles = Role::HOSTS.into_iter();
    let role = roles.find(|&role| address.ip() == network::control_address(role));
    let role = role.with_context(|| format!("{address} is not the address of a host"))?;
    println!("{}: connected", role.name());
    let output = socket.try_clone()?;
    Ok(RemoteHost {
        role,
        requests: Console::new(socket, output, None),
    })
}

impl RemoteHost {
    fn wait_until_ready(&self) -> Result<()> {
        let ready = self.requests.read_result(SETUP_TIMEOUT);
        ready.with_context(|| format!("{} is not ready", self.role.name()))?;
        println!("{}: ready", self.role.name());
        Ok(())
    }

    /// Executes a request, and returns the result.
    pub(super) fn execute(&mut self, request: Request) -> Result<String> {
        let name = self.role.name();
        println!("{name}: {request}");
        let result = self.requests.run(&request.to_string(), REQUEST_TIMEOUT);
        let (code, output) = result.with_context(|| format!("{name}: {request}"))?;
        ensure!(code == 0, "{name}: {request}: {}", output.trim_end());
        Ok(output.trim_end().to_owned())
    }

    /// Starts QEMU on the host.
    pub(super) fn start_guest(&mut self, request: Request) -> Result<RemoteGuest> {
        self.execute(request)?;
        RemoteGuest::connect(self.role)
    }

    /// Crashes and restarts the machine.
    pub(super) fn crash(&mut self) -> Result<()> {
        println!("{}: crash", self.role.name());
        self.requests.send(&Request::Crash.to_string())
    }

    /// Waits until the machine is ready again after a crash.
    pub(super) fn wait_for_restart(&mut self, listener: &TcpListener) -> Result<()> {
        let host = accept(listener)?;
        ensure!(host.role == self.role, "{} has restarted", host.role.name());
        *self = host;
        self.wait_until_ready()
    }
}
