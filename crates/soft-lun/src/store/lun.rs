// SPDX-License-Identifier: MIT OR Apache-2.0

//! A soft LUN in its directory: creation, inspection, and execution of commands.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dev, Mode, RenameFlags, renameat, renameat_with};
use rustix::io::Errno;

use super::directory::{Directory, SyncMode};
use super::error::StoreError;
use super::lun_config::{LunConfig, LunId, Name, Port};
use super::state_file::StateFile;
use crate::access::Access;
use crate::nexus::NexusId;
use crate::response::Response;
use crate::supported_features::SupportedFeatures;
use crate::unit::LogicalUnit;

/// The configuration file.
const CONFIG: &str = "lun.json";
/// The state file.
const STATE: &str = "state.json";
/// The file that is locked while the state changes.
const LOCK: &str = "lock";
/// Mode of the lock file: a process that can open the file can block all commands.
const LOCK_MODE: Mode = Mode::from_raw_mode(0o600);
/// The directory of the ports.
pub(super) const PORTS: &str = "ports";
/// Mode of a port.
const PORT_MODE: Mode = Mode::from_raw_mode(0o660);

/// The boot ID of the host, which changes at every boot
/// (`Documentation/admin-guide/sysctl/kernel.rst`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A soft LUN in its directory.
///
/// Nothing is cached: each call reads the files, so that any number of processes can use the soft
/// LUN at the same time.
#[derive(Debug)]
pub struct Lun {
    pub(super) dir: Directory,
}

/// A port that a file descriptor refers to.
#[derive(Debug)]
pub struct OpenPort {
    /// The soft LUN that has the port.
    pub lun: Lun,
    /// The name of the port.
    pub port: Name,
}

/// The result of an executed command.
#[derive(Debug)]
pub struct Executed {
    /// The response.
    pub response: Response,
    /// The unit after the command, if it changed. A reported unit attention is a change too.
    pub changed: Option<LogicalUnit>,
}

impl Lun {
    /// Creates a soft LUN without registrations. On failure nothing is created.
    ///
    /// # Errors
    ///
    /// * [`StoreError::Name`] if the last component of `path` is not a [`Name`].
    /// * [`StoreError::Exists`] if `path` exists.
    /// * [`StoreError::Config`] if the ports are invalid.
    /// * [`StoreError::Io`] if the files cannot be created.
    pub fn create(
        path: &Path,
        ports: Vec<Port>,
        supported_features: SupportedFeatures,
    ) -> Result<Self, StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: Name = name.parse().map_err(|source| StoreError::Name {
            path: path.to_path_buf(),
            source,
        })?;
        let config = LunConfig {
            identity: LunId::random().map_err(StoreError::io("generate an identity for", path))?,
            ports,
            supported_features,
        };
        let unit = new_unit(&config, path)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Directory::open(parent)?,
            _ => Directory::open(Path::new("."))?,
        };
        // A name that begins with a dot is not a soft LUN, and the identity makes it unique.
        let temporary = path.with_file_name(format!(".{name}.{}", config.identity));
        let created = populate(&temporary, &config, &unit).and_then(|()| publish(&temporary, path));
        if let Err(error) = created {
            // Report the first error and ignore an error of the cleanup.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        parent.sync()?;
        Self::open(path)
    }

    /// Opens the directory of a soft LUN.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Io`] if the path is not a directory. The files in it are not checked
    /// until the soft LUN is used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let dir = Directory::open(path)?;
        Ok(Lun { dir })
    }

    /// Removes the soft LUN with its files. It disappears at once: first, its directory gets a name
    /// that no soft LUN has.
    ///
    /// # Errors
    ///
    /// * [`StoreError::NotALun`] if there is no `lun.json`, so that no other directory is removed.
    /// * [`StoreError::Io`] if the directory cannot be renamed or removed.
    pub fn remove(self) -> Result<(), StoreError> {
        let path = self.path();
        let identity = self.config()?.identity;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = path.with_file_name(format!(".{name}.{identity}"));
        fs::rename(path, &hidden).map_err(StoreError::io("remove", path))?;
        fs::remove_dir_all(&hidden).map_err(StoreError::io("remove", &hidden))
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the path of a port.
    #[must_use]
    pub fn port_path(&self, port: &Name) -> PathBuf {
        self.path().join(PORTS).join(port.as_str())
    }

    /// Reads the configuration.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::NotALun`] if there is no `lun.json`, and another [`StoreError`] if the
    /// file cannot be read or parsed.
    pub fn config(&self) -> Result<LunConfig, StoreError> {
        let content = self.dir.read(CONFIG)?;
        let content = content.ok_or_else(|| StoreError::NotALun(self.path().to_path_buf()))?;
        LunConfig::from_json(&content).map_err(|source| StoreError::Malformed {
            path: self.path().join(CONFIG),
            source,
        })
    }

    /// Reads the current state. Changes to the returned unit do not affect the soft LUN.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if a file is missing or invalid.
    pub fn load(&self) -> Result<LogicalUnit, StoreError> {
        self.read_unit(&self.config()?, &boot_id()?)
    }

    /// Executes a PERSISTENT RESERVE command from a port, like [`LogicalUnit::execute`].
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if the command was not executed, or if it was, but may not persist
    /// through a power loss because the sync failed.
    pub fn execute(&self, port: &Name, cdb: &[u8], list: &[u8]) -> Result<Executed, StoreError> {
        self.change(port, |unit, nexus| unit.execute(nexus, cdb, list))
    }

    /// Checks another command from a port against the reservation, like [`LogicalUnit::access`].
    ///
    /// # Errors
    ///
    /// Returns [`StoreError`] if a file is missing or invalid or cannot be replaced.
    pub fn access(&self, port: &Name, access: Access) -> Result<Response, StoreError> {
        let executed = self.change(port, |unit, nexus| unit.access(nexus, access))?;
        Ok(executed.response)
    }

    /// Locks the soft LUN, reads the unit, changes it, and writes it.
    fn change(
        &self,
        port: &Name,
        change: impl FnOnce(&mut LogicalUnit, NexusId) -> Response,
    ) -> Result<Executed, StoreError> {
        let (config, boot_id) = (self.config()?, boot_id()?);
        let nexus = config.nexus(port).ok_or_else(|| StoreError::UnknownPort {
            path: self.path().to_path_buf(),
            port: port.clone(),
        })?;
        let _lock = self.dir.lock(LOCK)?;
        let mut unit = self.read_unit(&config, &boot_id)?;
        let before = unit.clone();
        let response = change(&mut unit, nexus);
        let changed = unit != before;
        if changed {
            // If the command has just cleared APTPL, a power loss must not bring back the old
            // state.
            let sync = match before.aptpl() || unit.aptpl() {
                true => SyncMode::DataAndDir,
                false => SyncMode::Data,
            };
            save(&self.dir, (&config, &boot_id), &unit, sync)?;
        }
        Ok(Executed {
            response,
            changed: changed.then_some(unit),
        })
    }

    fn read_unit(&self, config: &LunConfig, boot_id: &str) -> Result<LogicalUnit, StoreError> {
        let path = self.path().join(STATE);
        let content = self.dir.read(STATE)?;
        let content = content.ok_or_else(|| StoreError::io("open", &path)(Errno::NOENT))?;
        let state = match StateFile::from_json(&content) {
            Ok(state) => state,
            Err(source) => return Err(StoreError::Malformed { path, source }),
        };
        let mut unit = new_unit(config, &self.path().join(CONFIG))?;
        match state.restore(config, boot_id, &mut unit) {
            Ok(()) => Ok(unit),
            Err(source) => Err(StoreError::State { path, source }),
        }
    }

    /// Returns the port with this device and inode number.
    pub(super) fn find_port(self, inode: (Dev, u64)) -> Result<Option<OpenPort>, StoreError> {
        let ports = self.dir.open_dir(PORTS)?;
        for port in ports.names()? {
            let stat = ports.stat(port.as_str());
            let stat = stat.map_err(StoreError::io("stat", ports.path().join(port.as_str())))?;
            if (stat.st_dev, stat.st_ino) == inode {
                return Ok(Some(OpenPort { lun: self, port }));
            }
        }
        Ok(None)
    }
}

fn new_unit(config: &LunConfig, path: &Path) -> Result<LogicalUnit, StoreError> {
    config.unit().map_err(|source| StoreError::Config {
        path: path.to_path_buf(),
        source,
    })
}

/// Creates the directory with all files.
fn populate(path: &Path, config: &LunConfig, unit: &LogicalUnit) -> Result<(), StoreError> {
    let content = config.to_json().map_err(|source| StoreError::Malformed {
        path: path.join(CONFIG),
        source,
    })?;
    let boot_id = boot_id()?;
    let dir = Directory::create(path)?;
    dir.replace(CONFIG, &content, SyncMode::Data)?;
    save(&dir, (config, &boot_id), unit, SyncMode::Data)?;
    dir.create_file(LOCK, LOCK_MODE)?;
    let ports = Directory::create(&path.join(PORTS))?;
    for port in &config.ports {
        ports.create_file(port.name.as_str(), PORT_MODE)?;
    }
    ports.sync()?;
    dir.sync()
}

/// Renames the directory to its final name, unless the name is in use.
fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let renamed = match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // The file system does not support NOREPLACE. A plain rename of a directory replaces
        // nothing but an empty directory.
        Err(Errno::INVAL) => renameat(CWD, temporary, CWD, path),
        renamed => renamed,
    };
    renamed.map_err(|error| match error {
        Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => StoreError::Exists(path.to_path_buf()),
        error => StoreError::io("create", path)(error),
    })
}

/// Replaces the state file. On failure the old state file is unchanged, unless only the sync of the
/// directory failed.
fn save(
    dir: &Directory,
    (config, boot_id): (&LunConfig, &str),
    unit: &LogicalUnit,
    sync: SyncMode,
) -> Result<(), StoreError> {
    let path = dir.path().join(STATE);
    let state = match StateFile::from_unit(config, boot_id, unit) {
        Ok(state) => state,
        Err(source) => return Err(StoreError::State { path, source }),
    };
    match state.to_json() {
        Ok(content) => dir.replace(STATE, &content, sync),
        Err(source) => Err(StoreError::Malformed { path, source }),
    }
}

/// Returns the boot ID of the host.
fn boot_id() -> Result<String, StoreError> {
    let boot_id = fs::read_to_string(BOOT_ID).map_err(StoreError::io("read", BOOT_ID))?;
    Ok(boot_id.trim_end().to_owned())
}
