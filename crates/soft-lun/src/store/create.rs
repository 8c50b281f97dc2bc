//! Makes a soft LUN: all of its files, or none.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, RenameFlags, fsync, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::description::{LunConfig, LunId, Port};
use super::error::StoreError;
use super::file::{self, FOLDER, Sync};
use super::lun::{DESCRIPTION, LOCK, Lun, PORTS, boot_id, save};
use super::name::Name;
use crate::supported::SupportedFeatures;
use crate::unit::LogicalUnit;

impl Lun {
    /// Makes a soft LUN, with nobody registered, in a folder that there is not yet. It is there as a
    /// whole or not at all.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the path's last part is no [`Name`], something is there, the ports cannot be, or
    /// the files cannot be made.
    pub fn create(
        path: &Path,
        ports: Vec<Port>,
        supported: SupportedFeatures,
    ) -> Result<Self, StoreError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name: Name = name.parse().map_err(|source| StoreError::Name {
            path: path.to_path_buf(),
            source,
        })?;
        let description = LunConfig {
            identity: LunId::random().map_err(StoreError::io("find an identity for", path))?,
            ports,
            supported,
        };
        let unit = description
            .unit()
            .map_err(|source| StoreError::Description {
                path: path.to_path_buf(),
                source,
            })?;
        let parent = open_parent(path)?;
        // A name that begins with a dot is no soft LUN's, and nobody else makes one with this identity.
        let temporary = path.with_file_name(format!(".{name}.{}", description.identity));
        let made =
            populate(&temporary, &description, &unit).and_then(|()| publish(&temporary, path));
        if let Err(error) = made {
            // Of the two errors the first is the one to tell.
            let _ = fs::remove_dir_all(&temporary);
            return Err(error);
        }
        fsync(parent).map_err(StoreError::io("bring to the disk", path))?;
        Self::open(path)
    }
}

/// Makes the folder with all that is in it.
fn populate(path: &Path, description: &LunConfig, unit: &LogicalUnit) -> Result<(), StoreError> {
    let described_in = path.join(DESCRIPTION);
    let content = description
        .to_json()
        .map_err(|source| StoreError::Malformed {
            path: described_in.clone(),
            source,
        })?;
    let boot = boot_id()?;
    let folder = create_folder(path)?;
    file::replace(
        folder.as_fd(),
        DESCRIPTION,
        &described_in,
        &content,
        Sync::Data,
    )?;
    save(folder.as_fd(), path, (description, &boot), unit, Sync::Data)?;
    file::create_lock(folder.as_fd(), LOCK, &path.join(LOCK))?;
    let ports_path = path.join(PORTS);
    let ports = create_folder(&ports_path)?;
    for port in &description.ports {
        let name = port.name.as_str();
        file::create_port(ports.as_fd(), name, &ports_path.join(name))?;
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

/// Gives the folder its name, unless something has it.
fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let taken = match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        // The file system cannot do that. A rename replaces nothing but an empty folder, which is no loss.
        Err(Errno::INVAL) => renameat(CWD, temporary, CWD, path),
        taken => taken,
    };
    taken.map_err(|error| match error {
        Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => StoreError::Exists(path.to_path_buf()),
        error => StoreError::io("create", path)(error),
    })
}

/// The folder that something is to be made in.
fn open_parent(path: &Path) -> Result<OwnedFd, StoreError> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    openat(CWD, parent, FOLDER, Mode::empty()).map_err(StoreError::io("open", parent))
}
