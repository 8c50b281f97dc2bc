// SPDX-License-Identifier: MIT OR Apache-2.0

//! Device-mapper maps over the target's ports, without multipathd or udev.
//!
//! The tables follow `Documentation/admin-guide/device-mapper/` of the kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::lio_target::Port;
use super::{Modules, read};
use pr_testkit::process::{command, run};

/// Maps for the compatibility suite.
pub(crate) struct Maps {
    /// Multipath map over the two ports of one unit.
    pub(crate) multipath: PathBuf,
    /// A partition of that map, as kpartx creates it.
    pub(crate) partition: PathBuf,
    /// A linear map over all of the first port.
    pub(crate) linear: PathBuf,
    /// A linear map over all of `linear`.
    pub(crate) stack: PathBuf,
    /// Linear maps over a part of the first port, directly and through other maps.
    pub(crate) parts: Vec<PathBuf>,
    /// Set if multipathd manages the multipath map.
    pub(crate) has_multipathd: bool,
}

/// Loads device-mapper and its target for multipath maps. The kernel would look for the modules in
/// the host's directory.
pub(super) fn load_modules(modules: &Modules) -> Result<()> {
    let mut names = ["dm_mod", "dm_multipath", "dm_service_time"].into_iter();
    names.try_for_each(|name| modules.load(name))
}

/// Creates the maps over the two ports of one unit. Maps can share a port, because the kernel
/// counts device-mapper as one exclusive user.
pub(crate) fn create(modules: &Modules, ports: &[Port; 2]) -> Result<Maps> {
    load_modules(modules)?;
    let sectors = sectors(&ports[0].block)?;
    let [first, second] = ports.each_ref().map(|port| port.block.display());
    // No features, no hardware handler of the map's own, one group of two paths of equal weight.
    let table = format!("0 {sectors} multipath 0 0 1 1 service-time 0 2 1 {first} 1 {second} 1");
    let multipath = map("mpathtest", "mpath-test", &table)?;

    let table = linear(sectors / 2, &multipath);
    let partition = map("mpathtest-part1", "part1-mpath-test", &table)?;

    let whole = map("lintest", "lin-test", &linear(sectors, &ports[0].block))?;
    let stack = map("lintest-stack", "lin-stack", &linear(sectors, &whole))?;
    let parts = parts(&ports[0], &whole)?;
    run(command("dmsetup").arg("table"))?;
    Ok(Maps {
        multipath,
        partition,
        linear: whole,
        stack,
        parts,
        has_multipathd: false,
    })
}

/// Creates maps over a part of `port`: directly, on the `whole` map, and on the direct one.
fn parts(port: &Port, whole: &Path) -> Result<Vec<PathBuf>> {
    let half = sectors(&port.block)? / 2;
    let direct = map("linpart", "lin-part", &linear(half, &port.block))?;
    let of_map = map("linpart-map", "lin-part-map", &linear(half, whole))?;
    let stack = map("linpart-stack", "lin-part-stack", &linear(half, &direct))?;
    Ok(vec![direct, of_map, stack])
}

fn map(name: &str, uuid: &str, table: &str) -> Result<PathBuf> {
    run(command("dmsetup")
        .args(["create", name, "--noudevsync", "--uuid", uuid])
        .args(["--table", table]))?;
    run(command("dmsetup").args(["mknodes", name]))?;
    Ok(Path::new("/dev/mapper").join(name))
}

pub(super) fn linear(sectors: u64, device: &Path) -> String {
    format!("0 {sectors} linear {} 0", device.display())
}

pub(super) fn sectors(block: &Path) -> Result<u64> {
    let name = block
        .file_name()
        .with_context(|| format!("{} is not a device", block.display()))?;
    let size = read(&Path::new("/sys/class/block").join(name).join("size"))?;
    size.parse()
        .with_context(|| format!("{} has an invalid size: {size}", block.display()))
}
