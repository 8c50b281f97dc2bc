//! One soft LUN: made, looked at, sent commands.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dev, Mode, fsync, openat, statat};

use super::description::{Description, Identity, Port};
use super::error::StoreError;
use super::file::{self, Durable, FOLDER};
use super::name::Name;
use super::record::Record;
use crate::access::Access;
use crate::answer::Answer;
use crate::nexus::NexusId;
use crate::supported::Supported;
use crate::unit::LogicalUnit;

const DESCRIPTION: &str = "lun.json";
const STATE: &str = "state.json";
const LOCK: &str = "lock";
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
    folder: OwnedFd,
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

impl Lun {
    /// Makes a soft LUN, with nobody registered, in a folder that there is not yet. It is there as a
    /// whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the path's last part is no [`Name`], something is there, the ports cannot be, or
    /// the files cannot be made.
    pub fn create(path: &Path, ports: Vec<Port>, supported: Supported) -> Result<Self, StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: Name = name.parse().map_err(|source| StoreError::Name {
            path: path.to_path_buf(),
            source,
        })?;
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Exists(path.to_path_buf()));
        }
        let parent = open_parent(path)?;
        let description = Description {
            identity: Identity::random().map_err(StoreError::io("find an identity for", path))?,
            ports,
            supported,
        };
        // A name that begins with a dot is no soft LUN's.
        let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let made = fill(&temporary, &description).and_then(|()| {
            let named = fs::rename(&temporary, path).and_then(|()| Ok(fsync(&parent)?));
            named.map_err(StoreError::io("create", path))
        });
        if let Err(error) = made {
            // Of the two errors the first is the one to tell.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        Self::open(path)
    }

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
            Ok(folder) => Ok(Lun { folder, path }),
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
    pub fn description(&self) -> Result<Description, StoreError> {
        let path = self.path.join(DESCRIPTION);
        let content = file::read(self.folder.as_fd(), DESCRIPTION, &path)?;
        let content = content.ok_or_else(|| StoreError::NoLun(self.path.clone()))?;
        Description::from_json(&content).map_err(|source| StoreError::Malformed { path, source })
    }

    /// A copy of the unit as it is now. What is done to it has no effect here.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: one of the files is missing or wrong.
    pub fn look(&self) -> Result<LogicalUnit, StoreError> {
        self.load(&self.description()?, &boot()?)
    }

    /// Does a PERSISTENT RESERVE command that came through a port: see [`LogicalUnit::execute`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the command was not done; or it was, and may not outlast a loss of power.
    pub fn execute(&self, port: &Name, cdb: &[u8], list: &[u8]) -> Result<Answer, StoreError> {
        self.change(port, |unit, nexus| unit.execute(nexus, cdb, list))
    }

    /// What becomes of another command that came through a port: see [`LogicalUnit::access`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it cannot be said.
    pub fn access(&self, port: &Name, access: Access) -> Result<Answer, StoreError> {
        self.change(port, |unit, nexus| unit.access(nexus, access))
    }

    /// Locks, reads, changes and writes the unit.
    fn change(
        &self,
        port: &Name,
        change: impl FnOnce(&mut LogicalUnit, NexusId) -> Answer,
    ) -> Result<Answer, StoreError> {
        let _lock = file::lock(self.folder.as_fd(), LOCK, &self.path.join(LOCK))?;
        let (description, boot) = (self.description()?, boot()?);
        let nexus = description.nexus(port).ok_or_else(|| StoreError::NoPort {
            path: self.path.clone(),
            port: port.clone(),
        })?;
        let mut unit = self.load(&description, &boot)?;
        let before = unit.clone();
        let answer = change(&mut unit, nexus);
        if unit != before {
            // Also when it has just been switched off: a loss of power must not bring back what had it.
            let durable = match before.aptpl() || unit.aptpl() {
                true => Durable::Name,
                false => Durable::Content,
            };
            let record = Record::of(&description, &boot, &unit);
            save(self.folder.as_fd(), &self.path, &record, durable)?;
        }
        Ok(answer)
    }

    fn load(&self, description: &Description, boot: &str) -> Result<LogicalUnit, StoreError> {
        let path = self.path.join(STATE);
        let content = file::read(self.folder.as_fd(), STATE, &path)?;
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let content = content.ok_or_else(|| StoreError::io("open", &path)(missing()))?;
        let record = match Record::from_json(&content) {
            Ok(record) => record,
            Err(source) => return Err(StoreError::Malformed { path, source }),
        };
        let mut unit = self.unit(description)?;
        match record.restore(description, boot, &mut unit) {
            Ok(()) => Ok(unit),
            Err(source) => Err(StoreError::State { path, source }),
        }
    }

    fn unit(&self, description: &Description) -> Result<LogicalUnit, StoreError> {
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
        let ports = openat(&self.folder, PORTS, FOLDER, Mode::empty());
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

/// Makes the folder of a soft LUN.
fn fill(path: &Path, description: &Description) -> Result<(), StoreError> {
    let unit = description
        .unit()
        .map_err(|source| StoreError::Description {
            path: path.join(DESCRIPTION),
            source,
        })?;
    let folder = create_folder(path)?;
    let description_path = path.join(DESCRIPTION);
    let content = description
        .to_json()
        .map_err(|source| StoreError::Malformed {
            path: description_path.clone(),
            source,
        })?;
    file::replace(
        folder.as_fd(),
        DESCRIPTION,
        &description_path,
        &content,
        Durable::Content,
    )?;
    let record = Record::of(description, &boot()?, &unit);
    save(folder.as_fd(), path, &record, Durable::Content)?;
    file::lock(folder.as_fd(), LOCK, &path.join(LOCK))?;
    let ports_path = path.join(PORTS);
    let ports = create_folder(&ports_path)?;
    for port in &description.ports {
        let name = port.name.as_str();
        file::create_empty(ports.as_fd(), name, &ports_path.join(name))?;
    }
    for (folder, path) in [(&ports, &*ports_path), (&folder, path)] {
        fsync(folder).map_err(StoreError::io("bring to the disk", path))?;
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<OwnedFd, StoreError> {
    let created = fs::DirBuilder::new().mode(0o755).create(path);
    created.map_err(StoreError::io("create", path))?;
    openat(CWD, path, FOLDER, Mode::empty()).map_err(StoreError::io("open", path))
}

/// The folder that something is to be made in.
fn open_parent(path: &Path) -> Result<OwnedFd, StoreError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    openat(CWD, parent, FOLDER, Mode::empty()).map_err(StoreError::io("open", parent))
}

fn save(
    folder: BorrowedFd<'_>,
    path: &Path,
    record: &Record,
    durable: Durable,
) -> Result<(), StoreError> {
    let path = path.join(STATE);
    match record.to_json() {
        Ok(content) => file::replace(folder, STATE, &path, &content, durable),
        Err(source) => Err(StoreError::Malformed { path, source }),
    }
}

fn boot() -> Result<String, StoreError> {
    let boot = fs::read_to_string(BOOT).map_err(StoreError::io("read", BOOT))?;
    Ok(boot.trim_end().to_owned())
}
