// SPDX-License-Identifier: MIT OR Apache-2.0

//! Addresses of the machines, and connections between them.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::guest::Modules;
use crate::role::{NETWORKS, Role};
use pr_testkit::process::{command, poll, run};

/// Network for requests, consoles, monitors and migrations.
const CONTROL: u8 = 0;

/// Port on which the target's machine waits for the hosts.
pub(super) const COORDINATOR_PORT: u16 = 7000;

// Ports of a host's QEMU: the guest's console and heartbeat, the monitor, and a guest that migrates
// to this QEMU.
pub(super) const CONSOLE_PORT: u16 = 7001;
pub(super) const HEARTBEAT_PORT: u16 = 7002;
pub(super) const MONITOR_PORT: u16 = 7003;
pub(super) const MIGRATION_PORT: u16 = 7004;

/// Maximum time until a program on a running machine listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Size of a packet. The default size costs an emulated processor a multiple of the time.
const MTU: &str = "9000";

/// Brings up the machine's interfaces. Must be called before udevd runs, which would rename them.
pub(super) fn configure(role: Role, modules: &Modules) -> Result<()> {
    modules.load("virtio_net")?;
    for network in 0..NETWORKS {
        let interface = interface(network);
        let address = format!("{}/24", address(network, role));
        run(command("ip").args(["address", "add", &address, "dev", &interface]))?;
        run(command("ip").args(["link", "set", &interface, "mtu", MTU, "up"]))?;
    }
    Ok(())
}

/// Returns the name of the card in a network.
fn interface(network: u8) -> String {
    format!("eth{network}")
}

fn address(network: u8, role: Role) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, network, role.number())
}

/// Returns the address of a portal of the target. Portals are numbered from 1, like their networks.
pub(super) fn portal(number: u8) -> String {
    format!("{}:3260", address(number, Role::Target))
}

/// Returns the address of a machine in the control network.
pub(super) fn control_address(role: Role) -> Ipv4Addr {
    address(CONTROL, role)
}

/// Disables or enables this machine's card in the network of a portal.
pub(super) fn set_link(portal: u8, state: &str) -> Result<()> {
    run(command("ip").args(["link", "set", &interface(portal), state]))
}

/// Connects to a program on another machine, which may not listen yet.
pub(super) fn connect(role: Role, port: u16) -> Result<TcpStream> {
    let address = (control_address(role), port);
    let socket = poll(CONNECT_TIMEOUT, || Ok(TcpStream::connect(address).ok()))?
        .with_context(|| format!("cannot connect to port {port} of {}", role.name()))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
