//! A FUSE file system that a client can mount, with files to pass to the helper. It does not answer
//! commands (`SG_IO`), and on request no attributes either.

use std::ffi::OsStr;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, IoctlFlags,
    ReplyAttr, ReplyEntry, ReplyIoctl, Request,
};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::helper::{skip, wait_until};

/// Inode number of the file `0`. The root of a FUSE file system has number 1.
const FIRST_INODE: u64 = 2;

/// Validity of attributes: the kernel requests them each time.
const VALID: Duration = Duration::ZERO;

/// A mounted file system with a file for each number. On drop it answers all commands.
pub(crate) struct Fuse {
    session: Option<fuser::BackgroundSession>,
    state: Arc<State>,
    dir: TempDir,
}

#[derive(Default)]
struct State {
    /// Commands and attribute requests without an answer.
    commands: Mutex<Vec<ReplyIoctl>>,
    attributes: Mutex<Vec<(INodeNo, ReplyAttr)>>,
    hides_attributes: AtomicBool,
}

impl Fuse {
    /// Mounts the file system; `None` with a printed reason if that is not possible.
    pub(crate) fn mount() -> Option<Self> {
        if !geteuid().is_root() {
            skip("not root: a FUSE file system cannot be mounted and unmounted");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(State::default());
        let server = Server(Arc::clone(&state));
        match fuser::spawn_mount(server, dir.path(), &Config::default()) {
            Ok(session) => Some(Self {
                session: Some(session),
                state,
                dir,
            }),
            Err(error) => {
                skip(&format!("a FUSE file system cannot be mounted: {error}"));
                None
            }
        }
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open(&self, number: usize) -> File {
        let mut options = File::options();
        let path = self.dir.path().join(number.to_string());
        options.read(true).write(true).open(path).unwrap()
    }

    /// Opens a file with `O_PATH`.
    pub(crate) fn open_path(&self, number: usize) -> File {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let path = self.dir.path().join(number.to_string());
        rustix::fs::open(path, flags, rustix::fs::Mode::empty())
            .unwrap()
            .into()
    }

    /// Stops answering requests for attributes.
    pub(crate) fn hide_attributes(&self) {
        self.state.hides_attributes.store(true, Ordering::SeqCst);
    }

    /// Waits until the helper has sent this many commands.
    #[track_caller]
    pub(crate) fn wait_for_commands(&self, count: usize) {
        wait_until("commands that hang", || {
            (self.state.commands.lock().unwrap().len() >= count).then_some(())
        });
    }
}

impl State {
    fn answer_all(&self) {
        self.hides_attributes.store(false, Ordering::SeqCst);
        for reply in self.commands.lock().unwrap().drain(..) {
            reply.error(Errno::EIO);
        }
        for (inode, reply) in self.attributes.lock().unwrap().drain(..) {
            reply.attr(&VALID, &attributes(inode));
        }
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Detached, because the helper still has files open. The server ends with the last of them.
        unmount(self.dir.path(), UnmountFlags::DETACH).unwrap();
        let Some(session) = self.session.take() else {
            return;
        };
        while !session.guard.is_finished() {
            self.state.answer_all();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

struct Server(Arc<State>);

impl Filesystem for Server {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
        match number {
            Some(number) => {
                let inode = INodeNo(FIRST_INODE + number);
                reply.entry(&VALID, &attributes(inode), Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.0.hides_attributes.load(Ordering::SeqCst) && inode.0 >= FIRST_INODE {
            self.0.attributes.lock().unwrap().push((inode, reply));
        } else {
            reply.attr(&VALID, &attributes(inode));
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
