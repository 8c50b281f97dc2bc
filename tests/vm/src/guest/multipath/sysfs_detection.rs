// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks the sysfs attributes by which the helper detects multipath maps and devices on them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{major, minor};

use super::fixture::MapFixture;
use crate::guest::read;

/// UUID prefixes of multipathd's maps and of kpartx's first partition of such a map.
const MAP_PREFIX: &str = "mpath-";
const PARTITION_PREFIX: &str = "part1-mpath-";

/// Checks the UUIDs and the underlying devices.
pub(super) fn check(fixture: &MapFixture) -> Result<()> {
    let map = sysfs_dir(&fixture.maps.multipath)?;
    let uuid = uuid(&map)?;
    ensure!(uuid.starts_with(MAP_PREFIX), "the map's UUID is {uuid:?}");
    let mut paths: Vec<_> = fixture.paths.iter().map(|path| path.name.clone()).collect();
    paths.sort_unstable();
    let below = slaves(&map)?;
    ensure!(below == paths, "the map's devices are {below:?}");

    let map_name = name(&map)?;
    for (what, device, prefix, below) in [
        (
            "partition",
            &fixture.maps.partition,
            PARTITION_PREFIX,
            &map_name,
        ),
        ("volume on the map", &fixture.volume, "", &map_name),
        ("volume on a path", &fixture.maps.linear, "", &paths[0]),
    ] {
        let sysfs_dir = sysfs_dir(device)?;
        let uuid = self::uuid(&sysfs_dir)?;
        // The partition's UUID contains the map's prefix, but does not begin with it.
        let matches =
            uuid.starts_with(prefix) && prefix.contains(MAP_PREFIX) == uuid.contains(MAP_PREFIX);
        ensure!(matches, "the UUID of the {what} is {uuid:?}");
        let found = slaves(&sysfs_dir)?;
        ensure!(
            found == [below.as_str()],
            "the devices of the {what} are {found:?}"
        );
        println!("guest: {what}: UUID {uuid:?}, devices {found:?}");
    }
    println!("guest: map: UUID {uuid:?}, devices {below:?}");
    Ok(())
}

/// Returns the sysfs directory of a device node by its device number, like the helper.
fn sysfs_dir(node: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(node).with_context(|| format!("cannot stat {}", node.display()))?;
    let number = metadata.rdev();
    let (major, minor) = (major(number), minor(number));
    Ok(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
}

fn uuid(sysfs_dir: &Path) -> Result<String> {
    read(&sysfs_dir.join("dm/uuid"))
}

/// Returns the kernel's name of a device, `dm-0`.
fn name(sysfs_dir: &Path) -> Result<String> {
    let real = fs::canonicalize(sysfs_dir)?;
    let name = real.file_name().and_then(|name| name.to_str());
    Ok(name.context("a device's name is not UTF-8")?.to_owned())
}

/// Returns the names of the underlying devices.
fn slaves(sysfs_dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(sysfs_dir.join("slaves"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
