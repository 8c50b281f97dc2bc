// SPDX-License-Identifier: MIT OR Apache-2.0

//! Hanging devices: files on which commands (`SG_IO`) are not answered, like disks on dead paths.
//!
//! The kernel forwards the commands to the server of a FUSE file system, which is this process, and
//! waits for its replies. On request the server does not answer requests for attributes either.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, IoctlFlags,
    ReplyAttr, ReplyEntry, ReplyIoctl, Request,
};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::{TEST_TIMEOUT, eventually, skip};

/// Inode number of the file `0`. The root of a FUSE file system has number 1.
const FIRST_INODE: u64 = 2;

/// A mounted file system with a file for each number. On drop it answers all requests.
pub struct HangingDevices {
    session: Option<fuser::BackgroundSession>,
    state: Arc<State>,
    dir: PathBuf,
    /// The directory, if it is to be removed.
    temporary: Option<TempDir>,
}

impl HangingDevices {
    /// Mounts the file system on a temporary directory. The kernel does not cache attributes.
    /// Returns `None` with a printed reason if that is not possible.
    #[must_use]
    pub fn mount() -> Option<Self> {
        if !geteuid().is_root() {
            skip("not root: a FUSE file system cannot be mounted and unmounted");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        match Self::mount_at(dir.path(), Duration::ZERO) {
            Ok(mut devices) => {
                devices.temporary = Some(dir);
                Some(devices)
            }
            Err(error) => {
                skip(&format!("a FUSE file system cannot be mounted: {error}"));
                None
            }
        }
    }

    /// Mounts the file system on `dir`. The kernel can cache attributes for the time `validity`.
    pub fn mount_at(dir: &Path, validity: Duration) -> io::Result<Self> {
        let state = Arc::new(State {
            validity,
            ..State::default()
        });
        let server = Server(Arc::clone(&state));
        Ok(Self {
            session: Some(fuser::spawn_mount(server, dir, &Config::default())?),
            state,
            dir: dir.to_owned(),
            temporary: None,
        })
    }

    /// Opens a file for reading and writing.
    #[must_use]
    pub fn open(&self, number: usize) -> File {
        let mut options = File::options();
        let path = self.dir.join(number.to_string());
        options.read(true).write(true).open(path).unwrap()
    }

    /// Opens a file with `O_PATH`.
    #[must_use]
    pub fn open_path(&self, number: usize) -> File {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let path = self.dir.join(number.to_string());
        rustix::fs::open(path, flags, Mode::empty()).unwrap().into()
    }

    /// Stops answering requests for attributes.
    pub fn hide_attributes(&self) {
        self.state.hides_attributes.store(true, Ordering::SeqCst);
    }

    /// Waits until helpers have sent this number of commands.
    #[track_caller]
    pub fn wait_for_commands(&self, count: usize) {
        eventually("commands that hang", || {
            (self.state.commands.lock().unwrap().len() >= count).then_some(())
        });
    }
}

impl Drop for HangingDevices {
    fn drop(&mut self) {
        // Detached, because helpers still have files open. The server ends with the last of them.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
        let Some(session) = self.session.take() else {
            return;
        };
        let end = Instant::now() + TEST_TIMEOUT;
        while !session.guard.is_finished() && Instant::now() < end {
            self.state.answer_all();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// State that the server shares with the test.
#[derive(Default)]
struct State {
    /// Commands and attribute requests without an answer.
    commands: Mutex<Vec<ReplyIoctl>>,
    attributes: Mutex<Vec<(INodeNo, ReplyAttr)>>,
    hides_attributes: AtomicBool,
    /// Time for which the kernel can cache entries and attributes.
    validity: Duration,
}

impl State {
    fn answer_all(&self) {
        self.hides_attributes.store(false, Ordering::SeqCst);
        for reply in self.commands.lock().unwrap().drain(..) {
            reply.error(Errno::EIO);
        }
        for (inode, reply) in self.attributes.lock().unwrap().drain(..) {
            reply.attr(&self.validity, &attributes(inode));
        }
    }
}

struct Server(Arc<State>);

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match inode(name) {
            Some(inode) => reply.entry(&self.0.validity, &attributes(inode), Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.0.hides_attributes.load(Ordering::SeqCst) && inode.0 >= FIRST_INODE {
            self.0.attributes.lock().unwrap().push((inode, reply));
        } else {
            reply.attr(&self.0.validity, &attributes(inode));
        }
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
        self.0.commands.lock().unwrap().push(reply);
    }
}

fn inode(name: &OsStr) -> Option<INodeNo> {
    let number: u64 = name.to_str()?.parse().ok()?;
    FIRST_INODE.checked_add(number).map(INodeNo)
}

fn attributes(inode: INodeNo) -> FileAttr {
    let (kind, perm) = match inode.0 {
        FIRST_INODE.. => (FileType::RegularFile, 0o666),
        _ => (FileType::Directory, 0o755),
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
    fn file_names_map_to_inodes() {
        assert_eq!(inode("0".as_ref()), Some(INodeNo(2)));
        assert_eq!(inode("9".as_ref()), Some(INodeNo(11)));
        for other in ["", "disk", "-1", "x", "18446744073709551615"] {
            assert_eq!(inode(other.as_ref()), None, "{other}");
        }
    }
}
