//! A device that hangs: a file whose ioctl is not answered, as if it were on a dead path.
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

/// The name of the file.
pub(crate) const FILE: &str = "disk";

const INODE: INodeNo = INodeNo(2);

/// The kernel need not ask again what it knows of the file.
const VALID: Duration = Duration::from_secs(3600);

/// Arguments of the device that hangs.
#[derive(Args)]
pub(crate) struct Hang {
    /// Where the file is to be: an empty folder
    #[arg(long)]
    folder: PathBuf,
}

impl Hang {
    pub(super) fn run(&self) -> Result<()> {
        let waiting = Waiting::default();
        let disk = Disk(waiting.clone());
        let session = fuser::spawn_mount(disk, &self.folder, &Config::default())
            .context("cannot mount a FUSE file system, which takes root and /dev/fuse")?;
        super::wait_for_the_word()?;
        super::wait_for_the_end()?;
        // Detached, as helpers have the file open still. It goes with the last of them.
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

/// A file system with one file.
struct Disk(Waiting);

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if name == FILE {
            reply.entry(&VALID, &attributes(INODE), Generation(0));
        } else {
            reply.error(Errno::ENOENT);
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

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, perm) = if inode == INODE {
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
