// SPDX-License-Identifier: MIT OR Apache-2.0

//! A helper that sends scripted responses. It shares no code with the real helper.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::thread::{Uid, set_thread_res_uid};
use tempfile::TempDir;

use crate::support::{Run, prhctl};

/// A scripted response.
pub(crate) enum Response {
    /// Result, sense data and parameter data.
    Status(u32, Vec<u8>, Vec<u8>),
    /// GOOD with parameter data, truncated to the allocation length.
    Data(Vec<u8>),
    /// No response: the connection is closed.
    Close,
}

/// Returns a CHECK CONDITION with sense data in fixed format.
pub(crate) fn check_condition(key: u8, asc: u8, ascq: u8) -> Response {
    let mut sense = vec![0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, ascq];
    sense.resize(18, 0);
    Response::Status(2, sense, Vec::new())
}

/// A directory with the file `disk`, and a helper at `socket` that records the CDBs it receives.
pub(crate) struct FakeHelper {
    pub(crate) dir: TempDir,
    cdbs: Arc<Mutex<Vec<[u8; 16]>>>,
}

impl FakeHelper {
    /// Starts a helper. `script` returns the response to a command from the number of commands
    /// before it and its CDB.
    pub(crate) fn start(script: impl Fn(usize, &[u8; 16]) -> Response + Send + 'static) -> Self {
        Self::start_as(None, script)
    }

    /// Starts a helper that listens as another user, which requires root.
    pub(crate) fn start_as(
        user: Option<Uid>,
        script: impl Fn(usize, &[u8; 16]) -> Response + Send + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("disk"), "").unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let socket = dir.path().join("socket");
        let listen = move || {
            if let Some(user) = user {
                // This changes only the current thread, which ends after bind.
                set_thread_res_uid(user, user, user).unwrap();
            }
            UnixListener::bind(socket).unwrap()
        };
        let listener = thread::spawn(listen).join().unwrap();
        let cdbs = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&cdbs);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client may disconnect at any time.
                let _ = serve(&mut stream.unwrap(), &script, &seen);
            }
        });
        FakeHelper { dir, cdbs }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn run(&self, arguments: &str) -> Run {
        let arguments = format!("-k socket {arguments}");
        Run::new(&mut prhctl(self.path(), &arguments), "")
    }

    /// Returns operation code, service action and length of each received command.
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
    script: &impl Fn(usize, &[u8; 16]) -> Response,
    seen: &Mutex<Vec<[u8; 16]>>,
) -> std::io::Result<()> {
    stream.write_all(&[0; 4])?;
    stream.read_exact(&mut [0; 4])?;
    loop {
        let mut cdb = [0; 16];
        // The kernel closes the file descriptor, because read(2) does not receive it.
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
            Response::Close => return Ok(()),
            Response::Status(result, sense, data) => (result, sense, data),
            Response::Data(mut data) => {
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
