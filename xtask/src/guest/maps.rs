//! Device-mapper maps over the target's ports, without the help of multipathd or udev.
//!
//! The table lines are those of `Documentation/admin-guide/device-mapper/` of the kernel.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::lio::Port;
use super::{Modules, read};
use crate::process::{command, run};

/// The maps that the compatibility suite is given.
pub(crate) struct Maps {
    /// Multipath over the two ports of one unit.
    pub(crate) multipath: PathBuf,
    /// A partition of that map, as kpartx makes it.
    pub(crate) partition: PathBuf,
    /// A linear map over the first of the ports alone.
    pub(crate) linear: PathBuf,
    /// A linear map over the whole of that map.
    pub(crate) stack: PathBuf,
    /// Linear maps over a part of the first port, directly and by other devices.
    pub(crate) parts: Vec<PathBuf>,
    /// Whether multipathd knows the multipath map.
    pub(crate) in_daemon: bool,
}

/// Makes the maps over the two ports of one unit. They can share a port: to the kernel all maps are
/// one user of it.
pub(crate) fn create(modules: &Modules, ports: &[Port; 2]) -> Result<Maps> {
    for module in ["dm_mod", "dm_multipath", "dm_service_time"] {
        modules.load(module)?;
    }
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
        in_daemon: false,
    })
}

/// Makes maps over a part of `port`: directly, on the map over the `whole` of it, and on such a
/// part.
fn parts(port: &Port, whole: &Path) -> Result<Vec<PathBuf>> {
    let half = sectors(&port.block)? / 2;
    let part = map("linpart", "lin-part", &linear(half, &port.block))?;
    let of_map = map("linpart-map", "lin-part-map", &linear(half, whole))?;
    let stack = map("linpart-stack", "lin-part-stack", &linear(half, &part))?;
    Ok(vec![part, of_map, stack])
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
        .with_context(|| format!("{} is no device", block.display()))?;
    let size = read(&Path::new("/sys/class/block").join(name).join("size"))?;
    size.parse()
        .with_context(|| format!("{} has an odd size: {size}", block.display()))
}
