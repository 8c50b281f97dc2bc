//! A helper that answers as it is told, by no other code than its own.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::thread::{Uid, set_thread_res_uid};
use tempfile::TempDir;

use crate::support::{Run, program};

/// What to answer.
pub(crate) enum Reply {
    /// A result, sense, and data.
    Answer(u32, Vec<u8>, Vec<u8>),
    /// GOOD, and these bytes as far as the CDB has room for them.
    Data(Vec<u8>),
    /// Nothing: the connection is closed.
    Close,
}

/// CHECK CONDITION with sense in fixed format.
pub(crate) fn check_condition(key: u8, asc: u8, ascq: u8) -> Reply {
    let mut sense = vec![0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq];
    sense.resize(18, 0);
    Reply::Answer(2, sense, Vec::new())
}

/// A folder with the file `disk` and a helper at `socket`, which keeps the CDBs that it gets.
pub(crate) struct Fake {
    pub(crate) folder: TempDir,
    cdbs: Arc<Mutex<Vec<[u8; 16]>>>,
}

impl Fake {
    /// One that takes an answer from `script` for each command, told how many came before it.
    pub(crate) fn start(script: impl Fn(usize, &[u8; 16]) -> Reply + Send + 'static) -> Self {
        Self::start_as(None, script)
    }

    /// Starts a helper that listens as this user, for which this process has to be root.
    pub(crate) fn start_as(
        user: Option<Uid>,
        script: impl Fn(usize, &[u8; 16]) -> Reply + Send + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("disk"), "").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let socket = folder.path().join("socket");
        let listen = move || {
            if let Some(user) = user {
                // Of this thread alone, which ends here.
                set_thread_res_uid(user, user, user).unwrap();
            }
            UnixListener::bind(socket).unwrap()
        };
        let listener = thread::spawn(listen).join().unwrap();
        let cdbs = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&cdbs);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever goes away in the middle is done.
                let _ = serve(&mut stream.unwrap(), &script, &seen);
            }
        });
        Fake { folder, cdbs }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        let arguments = format!("-k socket {arguments}");
        Run::of(&mut program(self.path(), &arguments), "")
    }

    /// Service action and length of each command so far.
    pub(crate) fn commands(&self) -> Vec<(u8, u8, u16)> {
        let cdbs = self.cdbs.lock().unwrap();
        let commands = cdbs
            .iter()
            .map(|cdb| (cdb[0], cdb[1], u16::from_be_bytes([cdb[7], cdb[8]])));
        commands.collect()
    }
}

fn serve(
    stream: &mut UnixStream,
    script: &impl Fn(usize, &[u8; 16]) -> Reply,
    seen: &Mutex<Vec<[u8; 16]>>,
) -> std::io::Result<()> {
    stream.write_all(&[0; 4])?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut cdb = [0; 16];
        // The descriptor is closed by the kernel, as there is no room for one.
        stream.read_exact(&mut cdb)?;
        let length = u16::from_be_bytes([cdb[7], cdb[8]]);
        if cdb[0] == 0x5f {
            stream.read_exact(&mut vec![0; length.into()])?;
        }
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(cdb);
            seen.len() - 1
        };
        let (result, mut sense, data) = match script(number, &cdb) {
            Reply::Close => return Ok(()),
            Reply::Answer(result, sense, data) => (result, sense, data),
            Reply::Data(mut data) => {
                data.truncate(length.into());
                (0, Vec::new(), data)
            }
        };
        sense.resize(96, 0);
        stream.write_all(&result.to_be_bytes())?;
        stream.write_all(&u32::try_from(data.len()).unwrap().to_be_bytes())?;
        stream.write_all(&sense)?;
        stream.write_all(&data)?;
    }
}
