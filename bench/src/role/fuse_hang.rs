//! Hanging devices: files on which ioctl(2) never returns, like disks on dead paths.
//!
//! The kernel forwards `SG_IO` to the server of a FUSE file system, which is this process, and
//! waits for its reply.

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

/// Prefix of the file names; a number follows.
const PREFIX: &str = "disk-";

/// Inode number of the first file. Inode 1 is the root of a FUSE file system.
const FIRST_INODE: u64 = 2;

/// Time for which the kernel can cache entries and attributes.
const VALID: Duration = Duration::from_secs(3600);

/// Returns the name of a file.
pub(crate) fn disk_name(number: usize) -> String {
    format!("{PREFIX}{number}")
}

/// Arguments of `bench-hang`.
#[derive(Args)]
pub(crate) struct FuseHang {
    /// Empty directory to mount the files on
    #[arg(long)]
    dir: PathBuf,
}

impl FuseHang {
    pub(super) fn run(&self) -> Result<()> {
        let pending = PendingReplies::default();
        let file_system = DiskFs(pending.clone());
        let session = fuser::spawn_mount(file_system, &self.dir, &Config::default())
            .context("cannot mount a FUSE file system, which needs root and /dev/fuse")?;
        super::wait_for_start_signal()?;
        super::wait_for_stdin_eof()?;
        // Detach the mount, because helpers still have files open; the kernel removes it when they
        // are closed.
        unmount(&self.dir, UnmountFlags::DETACH).context("cannot unmount")?;
        while !session.guard.is_finished() {
            pending.fail_all();
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

/// Replies of the hanging commands.
#[derive(Clone, Default)]
struct PendingReplies(Arc<Mutex<Vec<ReplyIoctl>>>);

impl PendingReplies {
    fn add(&self, reply: ReplyIoctl) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(reply);
    }

    fn fail_all(&self) {
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

/// A file system that has a file for every number.
struct DiskFs(PendingReplies);

impl Filesystem for DiskFs {
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
    fn disk_numbers_map_to_inodes() {
        assert_eq!(inode(disk_name(0).as_ref()), Some(INodeNo(2)));
        assert_eq!(inode(disk_name(9).as_ref()), Some(INodeNo(11)));
        for other in ["", "disk", "disk-", "disk-x", "disk-18446744073709551615"] {
            assert_eq!(inode(other.as_ref()), None, "{other}");
        }
    }
}
