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

use linux_sys::sg::Data;
use pr_socket::wire::CDB_SIZE;
use rustix::fs::OFlags;
use scsi_pr::{AdditionalSense, Sense, SenseKey, Status};

use super::spread;
use crate::backend::sg::{self, Delivery};
use crate::device::{self, Number};
use crate::outcome::Outcome;

/// Room behind the room for an answer. Where the kernel is the target too, READ FULL STATUS with an
/// allocation length that ends within a registration is answered with the whole of it, in our memory (LIO
/// of Linux 6.12 with its loopback fabric).
const OVERRUN: usize = 512;

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

    /// How long to wait for one answer, at most: a third of what is left, so that a slow array has time
    /// and hanging paths cannot take it all, but never less than a path's share.
    #[must_use]
    pub fn turn(&self) -> Duration {
        let left = self.end.saturating_duration_since(Instant::now());
        left.min(self.share.max(left / 3))
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
}

/// What is to be opened, and what it is once it is open. Threads that hang keep it.
#[derive(Clone, Debug)]
struct Source {
    node: PathBuf,
    number: Number,
    open: Arc<OnceLock<File>>,
}

impl Path {
    /// The map itself: the kernel chooses a path for each command.
    #[must_use]
    pub fn map(descriptor: OwnedFd, number: Number, budget: Budget) -> Self {
        Self {
            name: "of the kernel's choice".to_owned(),
            source: Source {
                node: PathBuf::new(),
                number,
                open: Arc::new(OnceLock::from(File::from(descriptor))),
            },
            budget,
            hangs: false,
        }
    }

    /// Why it cannot be used at all, if that is not a matter of storage.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let error = self.source.open().err()?;
        let is_gone = [rustix::io::Errno::NXIO, rustix::io::Errno::NODEV]
            .iter()
            .any(|gone| error.raw_os_error() == Some(gone.raw_os_error()));
        let node = self.source.node.display();
        (!is_gone).then(|| format!("path {self} cannot be used: cannot open {node}: {error}"))
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
        if device::number(file.as_fd()) != self.number {
            return Err(io::Error::other(format!(
                "it is not device {}",
                self.number
            )));
        }
        Ok(self.open.get_or_init(|| file))
    }

    fn deliver(&self, cdb: &[u8; CDB_SIZE], data: Data<'_>, timeout: Duration) -> Delivery {
        let delivery = match self.open() {
            Ok(file) => sg::deliver(file.as_fd(), cdb, data, timeout),
            Err(_) => return lost(AdditionalSense::IO_PROCESS_TERMINATED),
        };
        match delivery {
            Delivery::Answered(outcome) if is_unavailable(&outcome) => Delivery::Lost(outcome),
            delivery => delivery,
        }
    }
}

impl spread::Path for Path {
    fn send(&mut self, cdb: &[u8; CDB_SIZE], data: Data<'_>) -> Delivery {
        let timeout = lost(AdditionalSense::COMMAND_TIMEOUT_DURING_PROCESSING);
        if self.hangs {
            return timeout;
        }
        let (source, cdb, patience) = (self.source.clone(), *cdb, self.budget.turn());
        let (answer, answers) = channel();
        // Whoever hangs in the kernel cannot be called back. It ends with the process.
        let spawned = match &data {
            Data::FromDevice(room) => {
                let length = room.len();
                let mut room = vec![0; length.saturating_add(OVERRUN)];
                thread::Builder::new().spawn(move || {
                    let (area, _) = room.split_at_mut(length);
                    let delivery = source.deliver(&cdb, Data::FromDevice(area), patience);
                    room.truncate(length);
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
            return lost(AdditionalSense::IO_PROCESS_TERMINATED);
        }
        let Ok((delivery, bytes)) = answers.recv_timeout(patience) else {
            self.hangs = true;
            return timeout;
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

/// The target port is in standby or unavailable (SPC-4, 5.15, asymmetric access): another one is not.
fn is_unavailable(outcome: &Outcome) -> bool {
    let sense = match outcome.status {
        Status::CHECK_CONDITION => Sense::decode(&outcome.sense).ok(),
        _ => None,
    };
    sense.is_some_and(|sense| {
        let is_access_state = sense.code.asc == 0x04 && matches!(sense.code.ascq, 0x0b | 0x0c);
        sense.key == SenseKey::NotReady && is_access_state
    })
}

fn lost(code: AdditionalSense) -> Delivery {
    Delivery::Lost(Outcome::check_condition(SenseKey::AbortedCommand, code))
}

/// The paths of the map at `map` in sysfs: those first that the SCSI layer has not given up.
///
/// # Errors
///
/// That sysfs cannot be read.
pub fn paths_of(map: &FilePath, patience: Duration) -> io::Result<Vec<Path>> {
    let mut found = Vec::new();
    for slave in fs::read_dir(map.join("slaves"))? {
        let slave = slave?;
        // One that was removed a moment ago.
        let Ok(number) = device::number_of(&slave.path()) else {
            continue;
        };
        let state = fs::read_to_string(slave.path().join("device/state"));
        let is_running = state.is_ok_and(|state| state.trim_end() == "running");
        let name = slave.file_name().to_string_lossy().into_owned();
        found.push((!is_running, name, number));
    }
    found.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    let budget = Budget::new(patience, found.len());
    let path = |(_, name, number)| Path {
        source: Source {
            node: FilePath::new("/dev").join(&name),
            number,
            open: Arc::default(),
        },
        name,
        budget,
        hangs: false,
    };
    Ok(found.into_iter().map(path).collect())
}
