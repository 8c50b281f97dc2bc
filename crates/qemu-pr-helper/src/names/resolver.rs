// SPDX-License-Identifier: MIT OR Apache-2.0

//! Process that resolves names: a child of the broker without capabilities.
//!
//! It reads text that other processes choose, and a read can block: `/proc/PID/cmdline` waits for
//! the process's memory. SIGALRM then ends this process. The helper waits for a reply only for a
//! limited time.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use helper_state::Process;
use nix::unistd::alarm;
use pr_helper_protocol::fd_passing::{self, ReceiveMode};
use rustix::fs::fstat;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::CapabilitySet;
use serde::Serialize;

use super::query::{self, MAX_REPLY_LEN, Query};
use super::{disk_name, process_name};
use crate::command::device::DeviceId;
use crate::process::{child, seqpacket};

/// Name in `ps -e` and `/proc/PID/comm`.
const PROCESS_NAME: &CStr = c"pr-names";

/// Time after which the process exits without a query.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time limit for a query in seconds, after which the kernel ends the process.
const QUERY_TIMEOUT: u32 = 5;

/// Maximum number of bytes of a file in procfs that are read. Names are at the beginning of the
/// arguments.
const MAX_FILE_LEN: u64 = 64 * 1024;

/// Mount point of sysfs.
const SYSFS: &str = "/sys";

/// Runs a process that answers the queries of the helper on `socket`. `broker` is its parent.
pub(crate) fn run(socket: &OwnedFd, broker: Pid) -> u8 {
    let result = try_run(socket, broker);
    result
        .inspect_err(|error| log::info!("process for names exits: {error}"))
        .is_err()
        .into()
}

fn try_run(socket: &OwnedFd, broker: Pid) -> io::Result<()> {
    child::begin(PROCESS_NAME, broker, CapabilitySet::all())?;
    set_socket_timeout(socket, Timeout::Recv, Some(IDLE_TIMEOUT))?;
    while let Some(query) = receive(socket)? {
        alarm::set(QUERY_TIMEOUT);
        let reply = answer(query)?;
        alarm::cancel();
        seqpacket::try_send(socket, &reply)?;
    }
    Ok(())
}

/// Waits for a query; `None` if none arrives for [`IDLE_TIMEOUT`], or if the helper has closed its
/// end.
fn receive(socket: &OwnedFd) -> io::Result<Option<Query>> {
    let mut buffer = [0; query::LEN + 1];
    let length = match fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::Wait) {
        Ok((0, _)) => return Ok(None),
        Ok((length, _)) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        // The process was stopped.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return receive(socket),
        Err(error) => return Err(error),
    };
    let query = buffer.get(..length).and_then(Query::decode);
    let malformed = || io::Error::other("the helper sent a malformed query");
    query.map(Some).ok_or_else(malformed)
}

fn answer(query: Query) -> io::Result<Vec<u8>> {
    let disk = |device| encode(disk_name::find(Path::new(SYSFS), device).as_ref());
    match query {
        Query::Process { pid, inode } => encode(find_process(pid, inode).as_ref()),
        Query::Block(major, minor) => disk(DeviceId::Block(major, minor)),
        Query::Character(major, minor) => disk(DeviceId::Character(major, minor)),
    }
}

/// Encodes a reply; `null` if it is too long.
fn encode(value: Option<&impl Serialize>) -> io::Result<Vec<u8>> {
    let reply = serde_json::to_vec(&value)?;
    match reply.len() {
        ..=MAX_REPLY_LEN => Ok(reply),
        _ => Ok(serde_json::to_vec(&())?),
    }
}

/// Reads the names of a process; `None` if it has exited.
fn find_process(pid: u32, inode: Option<u64>) -> Option<Process> {
    let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let pidfd = match inode {
        Some(inode) => {
            let pidfd = pidfd_open(id, PidfdFlags::empty()).ok()?;
            if fstat(&pidfd).ok()?.st_ino != inode {
                return None;
            }
            Some(pidfd)
        }
        None => None,
    };
    // In this order: only the arguments can block.
    let files = ["cgroup", "comm", "cmdline"].map(|name| read(&format!("/proc/{pid}/{name}")));
    // Another process can get the ID only after this one has exited.
    let is_exited = |pidfd: &OwnedFd| seqpacket::wait_readable(pidfd, Duration::ZERO).ok();
    if pidfd
        .as_ref()
        .is_some_and(|pidfd| is_exited(pidfd) != Some(false))
    {
        return None;
    }
    let [Some(cgroup), Some(comm), Some(cmdline)] = &files else {
        return None;
    };
    Some(process_name::identify(cgroup, cmdline, comm))
}

fn read(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(MAX_FILE_LEN).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 == MAX_FILE_LEN {
        // The last argument is incomplete.
        let end = bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        bytes.truncate(end);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::disk_name::DiskName;
    use helper_state::Vm;
    use rustix::process::{getpid, pidfd_open};

    #[test]
    fn own_process_has_the_name_of_its_thread() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let inode = fstat(&pidfd).unwrap().st_ino;
        let found = find_process(std::process::id(), Some(inode)).unwrap();
        let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(found.name, comm.trim());
    }

    #[test]
    fn reused_pid_has_no_name() {
        let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        let inode = fstat(&pidfd).unwrap().st_ino;
        assert_eq!(find_process(std::process::id(), Some(inode + 1)), None);
        assert_eq!(find_process(0, None), None);
        assert_eq!(find_process(u32::MAX, None), None);
    }

    #[test]
    fn longest_reply_has_room() {
        // A backslash takes two bytes in JSON.
        let text = "\\".repeat(256);
        let process = Process {
            name: text.clone(),
            vm: Some(Vm {
                name: text.clone(),
                uuid: Some("0".repeat(36)),
                manager: "proxmox".to_owned(),
            }),
            unit: Some(text.clone()),
            ..Process::default()
        };
        assert_ne!(encode(Some(&process)).unwrap(), b"null");
        let disk = DiskName {
            wwn: Some(text.clone()),
            nodes: vec!["\\".repeat(32); 32],
            kind: "multipath".to_owned(),
            alias: Some(text),
            transport: Some("loopback".to_owned()),
        };
        assert_ne!(encode(Some(&disk)).unwrap(), b"null");
        assert_eq!(encode(Some(&"x".repeat(MAX_REPLY_LEN))).unwrap(), b"null");
    }
}
