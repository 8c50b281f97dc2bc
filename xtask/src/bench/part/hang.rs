//! Devices that hang: files whose ioctl is not answered, as if they were on dead paths.
//!
//! The kernel passes `SG_IO` on to the server of a FUSE file system, which is this process, and waits.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, IoctlFlags,
    ReplyAttr, ReplyEntry, ReplyIoctl, Request,
};
use rustix::mount::{UnmountFlags, unmount};

/// What the names of the files begin with. A number follows.
const PREFIX: &str = "disk-";

/// The first file's. The root of a FUSE file system is number 1.
const FIRST_INODE: u64 = 2;

/// The kernel need not ask again what it knows of a file.
const VALID: Duration = Duration::from_secs(3600);

/// The name of a file in the folder.
pub(crate) fn disk(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Arguments of the devices that hang.
#[derive(Args)]
pub(crate) struct Hang {
    /// Where the files are to be: an empty folder
    #[arg(long)]
    folder: PathBuf,
}

impl Hang {
    pub(super) fn run(&self) -> Result<()> {
        let waiting = Waiting::default();
        let disks = Disks(waiting.clone());
        let session = fuser::spawn_mount(disks, &self.folder, &Config::default())
            .context("cannot mount a FUSE file system, which takes root and /dev/fuse")?;
        super::wait_for_the_word()?;
        super::wait_for_the_end()?;
        // Detached, as helpers have files open still. It goes with the last of them.
        unmount(&self.folder, UnmountFlags::DETACH).context("cannot unmount")?;
        while !session.guard.is_finished() {
            waiting.let_go();
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// The commands that hang.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<Vec<ReplyIoctl>>>);

impl Waiting {
    fn add(&self, reply: ReplyIoctl) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(reply);
    }

    fn let_go(&self) {
        for reply in self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            reply.error(Errno::EIO);
        }
    }
}

/// A file system with as many files as anybody asks for.
struct Disks(Waiting);

impl Filesystem for Disks {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match inode(name) {
            Some(inode) => reply.entry(&VALID, &attributes(inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&VALID, &attributes(inode));
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        self.0.add(reply);
    }
}

fn inode(name: &OsStr) -> Option<INodeNo> {
    let number: u64 = name.to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
    FIRST_INODE.checked_add(number).map(INodeNo)
}

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, perm) = if inode.0 >= FIRST_INODE {
        (FileType::RegularFile, 0o666)
    } else {
        (FileType::Directory, 0o755)
    };
    let time = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: inode,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disk_is_a_file_of_its_own() {
        assert_eq!(inode(disk(0).as_ref()), Some(INodeNo(2)));
        assert_eq!(inode(disk(9).as_ref()), Some(INodeNo(11)));
        for other in ["", "disk", "disk-", "disk-x", "disk-18446744073709551615"] {
            assert_eq!(inode(other.as_ref()), None, "{other}");
        }
    }
}
