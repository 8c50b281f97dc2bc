// SPDX-License-Identifier: MIT OR Apache-2.0

//! A map and its paths in sysfs. The files are kept open, because opening a file takes several
//! times as long as reading it again. So are the devices of the paths, for some time.

use std::fs::File;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use helper_state::PathRegistration;
use rustix::fs::{Mode, OFlags, RawDir, SeekFrom, open, seek};
use rustix::io::Errno;

use super::message::PathReport;
use crate::command::device::{self, Attribute, DeviceId};

/// Directory with the devices that a device-mapper device lies on.
const SLAVES: &str = "slaves";

/// Length of the buffer for the names of paths in bytes. More names take more system calls.
const NAMES_LEN: usize = 2048;

/// A map, or one that has been removed since it was opened.
#[derive(Debug)]
pub(super) struct SysfsMap {
    number: (u32, u32),
    uuid: Attribute,
    slaves: OwnedFd,
    slaves_path: PathBuf,
    paths: Vec<SysfsPath>,
}

#[derive(Debug)]
struct SysfsPath {
    id: PathId,
    /// State of the SCSI device; `None` if the device has no such attribute.
    state: Option<Attribute>,
}

/// Name of a path, such as `sda`, and the number of its device.
#[derive(Clone, Debug)]
pub(super) struct PathId {
    pub(super) name: String,
    pub(super) number: DeviceId,
    /// False if the SCSI layer sends no commands to the device, or has none with this name.
    pub(super) is_running: bool,
    /// The device, opened on first use.
    pub(super) file: Arc<OnceLock<File>>,
}

impl PathId {
    /// Returns the path with its registration.
    pub(super) fn report(&self, registration: PathRegistration) -> PathReport {
        PathReport {
            name: self.name.clone(),
            number: self.number.to_string(),
            registration,
        }
    }
}

impl SysfsMap {
    /// Opens the device-mapper device with this number; `None` if it is not a multipath map.
    pub(super) fn open((major, minor): (u32, u32)) -> io::Result<Option<Self>> {
        let dir = device::sysfs_path(major, minor);
        let Some(uuid) = device::mapper_uuid(&dir)? else {
            return Ok(None);
        };
        if !device::is_multipath_uuid(&uuid.read()?) {
            return Ok(None);
        }
        let slaves_path = dir.join(SLAVES);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Some(Self {
            number: (major, minor),
            uuid,
            slaves: open(&slaves_path, flags, Mode::empty())?,
            slaves_path,
            paths: Vec::new(),
        }))
    }

    /// Returns whether this is the map with that number now.
    pub(super) fn is(&self, number: (u32, u32)) -> bool {
        // The kernel reads nothing from the files of a device that was removed.
        self.number == number && self.uuid.read().is_ok()
    }

    /// Returns the kernel's name, `dm-N`.
    pub(super) fn name(&self) -> String {
        // The kernel names a device-mapper device after its minor number.
        let (_, minor) = self.number;
        format!("dm-{minor}")
    }

    /// Returns the paths, sorted by name. Paths that the SCSI layer has given up come last.
    pub(super) fn paths(&mut self) -> io::Result<Vec<PathId>> {
        let mut known = mem::take(&mut self.paths);
        let mut found = Vec::new();
        for name in self.path_names()? {
            let index = known.iter().position(|path| path.id.name == name);
            let known = index.map(|index| known.swap_remove(index));
            let Some((mut path, state)) = known
                .and_then(SysfsPath::read_state)
                .or_else(|| self.open_path(name))
            else {
                continue;
            };
            path.id.is_running = state == "running";
            found.push(path);
        }
        let order = |path: &SysfsPath| (!path.id.is_running, path.id.name.clone());
        found.sort_by_cached_key(order);
        self.paths = found;
        Ok(self.paths.iter().map(|path| path.id.clone()).collect())
    }

    /// Closes the devices of the paths.
    pub(super) fn close_devices(&mut self) {
        for path in &mut self.paths {
            path.id.file = Arc::default();
        }
    }

    /// Opens a path. Returns it with its state; `None` if it was removed after its name was read.
    fn open_path(&self, name: String) -> Option<(SysfsPath, String)> {
        let dir = self.slaves_path.join(&name);
        let number = device::device_id_from_sysfs(&dir).ok()?;
        let state = Attribute::open(&dir.join("device/state")).ok();
        let id = PathId {
            name,
            number,
            is_running: false,
            file: Arc::default(),
        };
        let text = state.as_ref().and_then(|state| state.read().ok());
        Some((SysfsPath { id, state }, text.unwrap_or_default()))
    }

    fn path_names(&self) -> io::Result<Vec<String>> {
        seek(&self.slaves, SeekFrom::Start(0))?;
        let mut buffer = [MaybeUninit::uninit(); NAMES_LEN];
        let mut dir = RawDir::new(&self.slaves, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = dir.next() {
            match entry {
                Ok(entry) => names.push(entry.file_name().to_string_lossy().into_owned()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        names.retain(|name| !name.starts_with('.'));
        Ok(names)
    }
}

impl SysfsPath {
    /// Reads the state again; `None` if the device was removed, or may be another one of this name.
    fn read_state(self) -> Option<(Self, String)> {
        let state = self.state.as_ref()?.read().ok()?;
        Some((self, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, write};

    /// Creates a path in the directory `slaves`.
    fn add(slaves: &std::path::Path, name: &str, number: &str, state: &str) {
        let dir = slaves.join(name);
        create_dir_all(dir.join("device")).unwrap();
        write(dir.join("dev"), format!("{number}\n")).unwrap();
        write(dir.join("device/state"), format!("{state}\n")).unwrap();
    }

    #[test]
    fn paths_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let slaves = dir.path().join(SLAVES);
        add(&slaves, "sdb", "8:16", "running");
        add(&slaves, "sda", "8:0", "running");
        write(dir.path().join("uuid"), "mpath-1\n").unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut map = SysfsMap {
            number: (254, 3),
            uuid: Attribute::open(&dir.path().join("uuid")).unwrap(),
            slaves: open(&slaves, flags, Mode::empty()).unwrap(),
            slaves_path: slaves.clone(),
            paths: Vec::new(),
        };
        assert!(map.is((254, 3)));
        assert!(!map.is((254, 4)));
        assert_eq!(map.name(), "dm-3");
        let mut names = || {
            let paths = map.paths().unwrap();
            let path = |path: PathId| format!("{} {}", path.name, path.number);
            paths.into_iter().map(path).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["sda 8:0", "sdb 8:16"]);
        // The open file is read again.
        write(slaves.join("sda/device/state"), "offline\n").unwrap();
        assert_eq!(names(), ["sdb 8:16", "sda 8:0"]);
        remove_dir_all(slaves.join("sdb")).unwrap();
        add(&slaves, "sdc", "8:32", "running");
        assert_eq!(names(), ["sdc 8:32", "sda 8:0"]);
    }
}
