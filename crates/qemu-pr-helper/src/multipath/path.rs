//! The paths of a map as the kernel knows them, each asked with patience: a command that hangs costs its
//! path, not the command.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use linux_util::sg_io::Data;
use pr_helper_protocol::wire::CDB_SIZE;
use rustix::fs::OFlags;
use rustix::io::Errno;
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

use super::deadline::PendingRequest;
use super::pr_out;
use super::worker_trace::{Step, Trail};
use crate::command::command_log;
use crate::command::device::{self, DeviceId};
use crate::command::executor::CommandResult;
use crate::command::sg::{self, TransportOutcome};

/// The additional sense code of LOGICAL UNIT NOT READY, whatever the qualifier says.
const NOT_READY: u8 = 0x04;

/// Between two attempts at a path that is busy, or could not be reached.
const PAUSE: Duration = Duration::from_millis(50);

/// How long there is for a command, and how much of that each path gets.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    end: Instant,
    share: Duration,
}

impl Budget {
    /// For a command that may take `patience`, and may have to ask `paths` paths of which none answers.
    /// A share is left for what has to be done then.
    #[must_use]
    pub fn new(patience: Duration, paths: usize) -> Self {
        let shares = u32::try_from(paths.saturating_add(1)).unwrap_or(u32::MAX);
        let now = Instant::now();
        Self {
            // An end that no clock can show is never reached.
            end: now.checked_add(patience).unwrap_or(now),
            share: patience.checked_div(shares).unwrap_or(patience),
        }
    }

    /// How long to wait for one answer, at most: a path's share, or what is left.
    #[must_use]
    pub fn turn(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        left.min(self.share)
    }
}

/// A path of a map, or the map itself. `Display` is its name.
#[derive(Debug)]
pub struct Path {
    name: String,
    source: Source,
    budget: Budget,
    /// It was asked, and has not answered.
    hangs: bool,
    trail: Trail,
}

/// What is to be opened, and what it is once it is open. Threads that hang keep it.
#[derive(Clone, Debug)]
struct Source {
    node: PathBuf,
    number: DeviceId,
    open: Arc<OnceLock<File>>,
    /// Why it could not be opened, if that is not a matter of storage.
    trouble: Arc<OnceLock<String>>,
    request: PendingRequest,
}

impl Path {
    /// The map itself: the kernel chooses a path for each command.
    #[must_use]
    pub fn map(
        descriptor: OwnedFd,
        number: DeviceId,
        budget: Budget,
        request: &PendingRequest,
        trail: &Trail,
    ) -> Self {
        Self {
            name: "map".to_owned(),
            source: Source {
                node: PathBuf::new(),
                number,
                open: Arc::new(OnceLock::from(File::from(descriptor))),
                trouble: Arc::default(),
                request: request.clone(),
            },
            budget,
            hangs: false,
            trail: trail.clone(),
        }
    }

    /// Why it cannot be used, if that is not a matter of storage. Says what was found when it was asked.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let trouble = self.source.trouble.get()?;
        let node = self.source.node.display();
        Some(format!(
            "path {self} cannot be used: cannot open {node}: {trouble}"
        ))
    }
}

impl Source {
    /// For reading, which is enough for who has `CAP_SYS_RAWIO`: udev looks at a disk anew each time that
    /// somebody who could write to it has closed it.
    fn open(&self) -> io::Result<&File> {
        if let Some(file) = self.open.get() {
            return Ok(file);
        }
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.node)?;
        if device::device_id(file.as_fd()) != self.number {
            return Err(io::Error::other(format!(
                "it is not device {}",
                self.number
            )));
        }
        Ok(self.open.get_or_init(|| file))
    }

    /// Sends a command to the path, unless nothing waits for its answer any more.
    ///
    /// To open the path can take longer than `timeout`. By then the path was given up, and a
    /// command that changes something must not be executed after its request has failed.
    fn deliver(&self, cdb: &[u8; CDB_SIZE], data: Data<'_>, timeout: Duration) -> TransportOutcome {
        let start = Instant::now();
        let delivery = match self.open() {
            Ok(file) => {
                let left = timeout.saturating_sub(start.elapsed());
                let is_change = !matches!(data, Data::FromDevice(_));
                if left.is_zero() || (is_change && !self.request.is_pending()) {
                    return unsent(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING);
                }
                sg::execute_sg_io(file.as_fd(), cdb, data, left)
            }
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                if !matches!(errno, Some(Errno::NXIO | Errno::NODEV)) {
                    self.trouble.get_or_init(|| error.to_string());
                }
                return unsent(AdditionalSense::IO_PROCESS_TERMINATED);
            }
        };
        match delivery {
            TransportOutcome::Completed(outcome) if is_unavailable(&outcome) => {
                TransportOutcome::NotDelivered(outcome)
            }
            delivery => delivery,
        }
    }
}

impl pr_out::Path for Path {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let start = Instant::now();
        let delivery = self.deliver(cdb, data);
        let took = command_log::microseconds(start.elapsed());
        self.trail
            .add(|| Step::path(&self.name, cdb, &delivery, took));
        delivery
    }

    fn pause(&self) {
        // A path that hangs is not asked again.
        if !self.hangs {
            thread::sleep(PAUSE);
        }
    }
}

impl Path {
    /// Sends a command, and waits no longer than there is time.
    fn deliver(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> TransportOutcome {
        let timeout = AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING;
        if self.hangs {
            return lost(timeout);
        }
        let (source, cdb, patience) = (self.source.clone(), *cdb, self.budget.turn());
        // What nobody waits for must not be done behind the guest's back.
        if patience.is_zero() {
            return unsent(timeout);
        }
        let (answer, answers) = channel();
        // Whoever hangs in the kernel cannot be called back. It ends with the process.
        let spawned = match &data {
            Data::FromDevice(room) => {
                let mut room = vec![0; room.len()];
                thread::Builder::new().spawn(move || {
                    let delivery = source.deliver(&cdb, Data::FromDevice(&mut room), patience);
                    let _ = answer.send((delivery, room));
                })
            }
            Data::ToDevice(list) => {
                let list = list.to_vec();
                thread::Builder::new().spawn(move || {
                    let delivery = source.deliver(&cdb, Data::ToDevice(&list), patience);
                    let _ = answer.send((delivery, Vec::new()));
                })
            }
            Data::None => thread::Builder::new().spawn(move || {
                let _ = answer.send((source.deliver(&cdb, Data::None, patience), Vec::new()));
            }),
        };
        if spawned.is_err() {
            return TransportOutcome::Completed(CommandResult::from_status(Status::BUSY));
        }
        let Ok((delivery, bytes)) = answers.recv_timeout(patience) else {
            self.hangs = true;
            return lost(timeout);
        };
        if let Data::FromDevice(room) = data {
            room.copy_from_slice(&bytes);
        }
        delivery
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// By this path, the logical unit is not ready or not even there: its target port is in standby, its
/// controller starts. Another one may know better; if none does, this is the answer.
fn is_unavailable(outcome: &CommandResult) -> bool {
    let sense = match outcome.status {
        Status::CHECK_CONDITION => Sense::decode(&outcome.sense).ok(),
        _ => None,
    };
    sense.is_some_and(|sense| {
        sense.key == SenseKey::NotReady && sense.code.asc == NOT_READY
            || sense.code == AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED
    })
}

fn unsent(code: AdditionalSense) -> TransportOutcome {
    TransportOutcome::NotDelivered(CommandResult::check_condition(
        SenseKey::AbortedCommand,
        code,
    ))
}

fn lost(code: AdditionalSense) -> TransportOutcome {
    TransportOutcome::Unknown(CommandResult::check_condition(
        SenseKey::AbortedCommand,
        code,
    ))
}

/// The paths of the map at `map` in sysfs: those first that the SCSI layer has not given up.
///
/// # Errors
///
/// That sysfs cannot be read.
pub fn paths_of(map: &FilePath, request: &PendingRequest, trail: &Trail) -> io::Result<Vec<Path>> {
    let mut found = Vec::new();
    for slave in fs::read_dir(map.join("slaves"))? {
        let slave = slave?;
        // One that was removed a moment ago.
        let Ok(number) = device::device_id_from_sysfs(&slave.path()) else {
            continue;
        };
        let state = fs::read_to_string(slave.path().join("device/state"));
        let is_running = state.is_ok_and(|state| state.trim_end() == "running");
        let name = slave.file_name().to_string_lossy().into_owned();
        found.push((!is_running, name, number));
    }
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    let budget = Budget::new(request.deadline().time_left(), found.len());
    let path = |(_, name, number)| Path {
        source: Source {
            node: FilePath::new("/dev").join(&name),
            number,
            open: Arc::default(),
            trouble: Arc::default(),
            request: request.clone(),
        },
        name,
        budget,
        hangs: false,
        trail: trail.clone(),
    };
    Ok(found.into_iter().map(path).collect())
}

#[cfg(test)]
mod tests {
    use super::super::deadline::tests::pending;
    use super::pr_out::Path as _;
    use super::*;

    #[test]
    fn path_executes_no_change_after_the_helper_hangs_up() {
        let (request, helper) = pending();
        let budget = Budget::new(Duration::from_secs(60), 1);
        let file = tempfile::tempfile().unwrap();
        let mut path = Path::map(
            file.into(),
            DeviceId::Unknown,
            budget,
            &request,
            &Trail::default(),
        );
        let cdb = [0x5f; CDB_SIZE];
        // A file knows no SCSI commands: the kernel has answered.
        let delivery = path.send(&cdb, Data::ToDevice(&[]));
        assert!(
            matches!(delivery, TransportOutcome::Completed(_)),
            "{delivery:?}"
        );
        drop(helper);
        let delivery = path.send(&cdb, Data::ToDevice(&[]));
        assert!(
            matches!(delivery, TransportOutcome::NotDelivered(_)),
            "{delivery:?}"
        );
        let delivery = path.send(&cdb, Data::FromDevice(&mut [0; 8]));
        assert!(
            matches!(delivery, TransportOutcome::Completed(_)),
            "{delivery:?}"
        );
    }
}
