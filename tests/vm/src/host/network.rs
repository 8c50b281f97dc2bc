// SPDX-License-Identifier: MIT OR Apache-2.0

//! Networks between the machines of the scenario `two-hosts`, which need no privileges.
//!
//! Each network is a hub in the target's QEMU, to which the QEMU of each host connects with a Unix
//! socket. Frames are neither lost nor visible to other processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::role::{NETWORKS, Role};

/// Adds the machine's network cards, and the hubs if it is the target. The sockets are in `dir`.
pub(crate) fn add_cards(qemu: &mut Command, role: Role, dir: &Path) {
    for network in 0..NETWORKS {
        match role {
            Role::Target => add_hub(qemu, network, dir),
            host => {
                let socket = socket(dir, network, host);
                qemu.arg("-netdev").arg(format!(
                    "stream,id=card{network},server=off,reconnect-ms=100,{socket}"
                ));
            }
        }
        qemu.arg("-device").arg(format!(
            "virtio-net-pci,netdev=card{network},mac=52:54:00:00:0{network}:0{},romfile=",
            role.number()
        ));
    }
}

fn add_hub(qemu: &mut Command, network: u8, dir: &Path) {
    qemu.arg("-netdev")
        .arg(format!("hubport,id=card{network},hubid={network}"));
    for host in Role::HOSTS {
        let link = format!("link{network}-{}", host.name());
        let socket = socket(dir, network, host);
        qemu.arg("-netdev")
            .arg(format!("stream,id={link},server=on,{socket}"))
            .arg("-netdev")
            .arg(format!(
                "hubport,id={link}-port,hubid={network},netdev={link}"
            ));
    }
}

/// Returns the options for the socket between the hub of a network and a host.
fn socket(dir: &Path, network: u8, host: Role) -> String {
    let path: PathBuf = dir.join(format!("network{network}.{}", host.name()));
    // A comma would end the value.
    let path = path.display().to_string().replace(',', ",,");
    format!("addr.type=unix,addr.path={path}")
}
