//! One soft LUN: looked at, sent commands.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dev, Mode, openat, statat};
use rustix::io::Errno;

use super::description::LunConfig;
use super::error::StoreError;
use super::file::{self, FOLDER, Sync};
use super::name::Name;
use super::record::StateFile;
use crate::access::Access;
use crate::answer::Response;
use crate::nexus::NexusId;
use crate::unit::LogicalUnit;

/// The file that says what it is.
pub(super) const DESCRIPTION: &str = "lun.json";
const STATE: &str = "state.json";
/// The file that is locked while the state changes.
pub(super) const LOCK: &str = "lock";
/// The folder of the ports.
pub(super) const PORTS: &str = "ports";

/// Which start of the host this is: another text after each
/// (`Documentation/admin-guide/sysctl/kernel.rst`).
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A soft LUN in its folder.
///
/// Nothing of it is kept in memory: each call reads what is in the files, so any number of processes can
/// use it at once.
#[derive(Debug)]
pub struct Lun {
    dir: OwnedFd,
    /// For errors.
    path: PathBuf,
}

/// A port that somebody has open.
#[derive(Debug)]
pub struct OpenPort {
    /// The soft LUN that it is a port of.
    pub lun: Lun,
    /// Which of its ports it is.
    pub port: Name,
}

/// What has become of a command.
#[derive(Debug)]
pub struct Executed {
    /// What the port gets for it.
    pub response: Response,
    /// The unit as the command has left it, if that is not how it was before: a unit attention that was
    /// delivered is a change too.
    pub changed: Option<LogicalUnit>,
}

impl Lun {
    /// The soft LUN in a folder.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: there is no such folder. Whether it is a soft LUN's is seen when it is used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_at(CWD, path, path.to_path_buf())
    }

    pub(super) fn open_at(
        parent: BorrowedFd<'_>,
        name: &Path,
        path: PathBuf,
    ) -> Result<Self, StoreError> {
        match openat(parent, name, FOLDER, Mode::empty()) {
            Ok(folder) => Ok(Lun { dir: folder, path }),
            Err(error) => Err(StoreError::io("open", path)(error)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that stands for a port.
    #[must_use]
    pub fn port_path(&self, port: &Name) -> PathBuf {
        self.path.join(PORTS).join(port.as_str())
    }

    /// What it is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: `lun.json` is missing or wrong.
    pub fn config(&self) -> Result<LunConfig, StoreError> {
        let path = self.path.join(DESCRIPTION);
        let content = file::read(self.dir.as_fd(), DESCRIPTION, &path)?;
        let content = content.ok_or_else(|| StoreError::NoLun(self.path.clone()))?;
        LunConfig::from_json(&content).map_err(|source| StoreError::Malformed { path, source })
    }

    /// A copy of the unit as it is now. What is done to it has no effect here.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: one of the files is missing or wrong.
    pub fn load(&self) -> Result<LogicalUnit, StoreError> {
        self.read_unit(&self.config()?, &boot_id()?)
    }

    /// Does a PERSISTENT RESERVE command that came through a port: see [`LogicalUnit::execute`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the command was not done; or it was, and may not outlast a loss of power.
    pub fn execute(&self, port: &Name, cdb: &[u8], list: &[u8]) -> Result<Executed, StoreError> {
        self.change(port, |unit, nexus| unit.execute(nexus, cdb, list))
    }

    /// What becomes of another command that came through a port: see [`LogicalUnit::access`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it cannot be said.
    pub fn access(&self, port: &Name, access: Access) -> Result<Response, StoreError> {
        let done = self.change(port, |unit, nexus| unit.access(nexus, access))?;
        Ok(done.response)
    }

    /// Locks, reads, changes and writes the unit.
    fn change(
        &self,
        port: &Name,
        change: impl FnOnce(&mut LogicalUnit, NexusId) -> Response,
    ) -> Result<Executed, StoreError> {
        let (description, boot) = (self.config()?, boot_id()?);
        let nexus = description.nexus(port).ok_or_else(|| StoreError::NoPort {
            path: self.path.clone(),
            port: port.clone(),
        })?;
        let _lock = file::lock(self.dir.as_fd(), LOCK, &self.path.join(LOCK))?;
        let mut unit = self.read_unit(&description, &boot)?;
        let before = unit.clone();
        let answer = change(&mut unit, nexus);
        let has_changed = unit != before;
        if has_changed {
            // Also when it has just been switched off: a loss of power must not bring back what had it.
            let durable = match before.aptpl() || unit.aptpl() {
                true => Sync::DataAndDir,
                false => Sync::Data,
            };
            let of = (&description, &*boot);
            save(self.dir.as_fd(), &self.path, of, &unit, durable)?;
        }
        let changed = has_changed.then_some(unit);
        Ok(Executed {
            response: answer,
            changed,
        })
    }

    fn read_unit(&self, description: &LunConfig, boot: &str) -> Result<LogicalUnit, StoreError> {
        let path = self.path.join(STATE);
        let content = file::read(self.dir.as_fd(), STATE, &path)?;
        let content = content.ok_or_else(|| StoreError::io("open", &path)(Errno::NOENT))?;
        let record = match StateFile::from_json(&content) {
            Ok(record) => record,
            Err(source) => return Err(StoreError::Malformed { path, source }),
        };
        let mut unit = self.unit(description)?;
        match record.restore(description, boot, &mut unit) {
            Ok(()) => Ok(unit),
            Err(source) => Err(StoreError::State { path, source }),
        }
    }

    fn unit(&self, description: &LunConfig) -> Result<LogicalUnit, StoreError> {
        description
            .unit()
            .map_err(|source| StoreError::Description {
                path: self.path.join(DESCRIPTION),
                source,
            })
    }

    /// The port whose file has this device and inode.
    pub(super) fn port(self, wanted: (Dev, u64)) -> Result<Option<OpenPort>, StoreError> {
        let path = self.path.join(PORTS);
        let ports = openat(&self.dir, PORTS, FOLDER, Mode::empty());
        let ports = ports.map_err(StoreError::io("open", &path))?;
        for port in file::names_in(ports.as_fd(), &path)? {
            let stat = statat(&ports, port.as_str(), AtFlags::SYMLINK_NOFOLLOW);
            let stat = stat.map_err(StoreError::io("look at", path.join(port.as_str())))?;
            if (stat.st_dev, stat.st_ino) == wanted {
                return Ok(Some(OpenPort { lun: self, port }));
            }
        }
        Ok(None)
    }
}

/// Puts the state of a description's unit in the place of the old one.
///
/// # Errors
///
/// [`StoreError`]: the old one is still there, unless the new one's name could not be brought to the disk.
pub(super) fn save(
    folder: BorrowedFd<'_>,
    path: &Path,
    (description, boot): (&LunConfig, &str),
    unit: &LogicalUnit,
    durable: Sync,
) -> Result<(), StoreError> {
    let path = path.join(STATE);
    let record = match StateFile::from_unit(description, boot, unit) {
        Ok(record) => record,
        Err(source) => return Err(StoreError::State { path, source }),
    };
    match record.to_json() {
        Ok(content) => file::replace(folder, STATE, &path, &content, durable),
        Err(source) => Err(StoreError::Malformed { path, source }),
    }
}

/// Which start of the host this is.
///
/// # Errors
///
/// [`StoreError`]: the kernel does not say.
pub(super) fn boot_id() -> Result<String, StoreError> {
    let boot = fs::read_to_string(BOOT).map_err(StoreError::io("read", BOOT))?;
    Ok(boot.trim_end().to_owned())
}
