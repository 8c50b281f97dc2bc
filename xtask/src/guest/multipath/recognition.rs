//! What a map, and what lies on one, is recognised by in sysfs.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{major, minor};

use super::stage::Stage;
use crate::guest::read;

/// The mark of multipathd, and of kpartx's first partition of what multipathd has made.
const MAP: &str = "mpath-";
const PARTITION: &str = "part1-mpath-";

/// Checks the marks and what the devices lie on.
pub(super) fn check(stage: &Stage) -> Result<()> {
    let map = folder(&stage.maps.multipath)?;
    let uuid = uuid(&map)?;
    ensure!(uuid.starts_with(MAP), "the map's UUID is {uuid:?}");
    let mut paths: Vec<_> = stage
        .routes
        .iter()
        .map(|route| route.name.clone())
        .collect();
    paths.sort_unstable();
    let below = slaves(&map)?;
    ensure!(below == paths, "the map lies on {below:?}");

    let on_the_map = name(&map)?;
    for (what, device, mark, below) in [
        ("partition", &stage.maps.partition, PARTITION, &on_the_map),
        ("volume on the map", &stage.volume, "", &on_the_map),
        ("volume on a path", &stage.maps.linear, "", &paths[0]),
    ] {
        let folder = folder(device)?;
        let uuid = self::uuid(&folder)?;
        // The partition's mark has the map's in it, but does not begin with it.
        let is_marked = uuid.starts_with(mark) && mark.contains(MAP) == uuid.contains(MAP);
        ensure!(is_marked, "the UUID of the {what} is {uuid:?}");
        let found = slaves(&folder)?;
        ensure!(found == [below.as_str()], "the {what} lies on {found:?}");
        println!("guest: {what}: UUID {uuid:?}, lies on {found:?}");
    }
    println!("guest: map: UUID {uuid:?}, lies on {below:?}");
    Ok(())
}

/// Where sysfs has the device that a node stands for, by its number as the helper looks it up.
fn folder(node: &Path) -> Result<PathBuf> {
    let metadata = fs::metadata(node).with_context(|| format!("no {}", node.display()))?;
    let number = metadata.rdev();
    let (major, minor) = (major(number), minor(number));
    Ok(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
}

fn uuid(folder: &Path) -> Result<String> {
    read(&folder.join("dm/uuid"))
}

/// The kernel's name of a device, `dm-0`.
fn name(folder: &Path) -> Result<String> {
    let real = fs::canonicalize(folder)?;
    let name = real.file_name().and_then(|name| name.to_str());
    Ok(name.context("a device has an odd name")?.to_owned())
}

/// The names of the devices that it lies on.
fn slaves(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("slaves"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}
