// SPDX-License-Identifier: MIT OR Apache-2.0

//! Names of client processes and of disks.
//!
//! The helper reads no files of other processes, and few of sysfs. A child process of the broker,
//! the resolver, finds the names and answers queries. If it hangs, names are missing and nothing
//! else: commands and connections do not wait for it.
//!
//! | module | contents |
//! |---|---|
//! | [`query`] | format of a query |
//! | `resolver` | the process that answers queries |
//! | [`process_name`] | name of a process from files of procfs |
//! | [`disk_name`] | identifier of a disk from sysfs |
//! | `cache` | names that expire |

mod cache;
pub mod disk_name;
pub mod process_name;
pub mod query;
pub(crate) mod resolver;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use helper_state::Process;
use pr_helper_protocol::fd_passing::{self, ReceiveMode};
use serde::de::DeserializeOwned;

use crate::command::device::DeviceId;
use crate::command::peer::{Peer, ProcessKey};
use crate::process::seqpacket;
use cache::Cache;
use disk_name::DiskName;
use query::{MAX_REPLY_LEN, Query};

/// Maximum number of resolvers at the same time.
pub(crate) const MAX_RESOLVERS: usize = 4;

/// Time that the thread waits for a name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of names that wait for the thread. Further ones are not resolved.
const MAX_QUEUED: usize = 256;

/// Name of the thread in `ps -T`.
const THREAD_NAME: &str = "names";

/// Starter of resolvers.
pub(crate) trait StartResolver: fmt::Debug + Send + Sync {
    /// Starts a resolver on this end of a pair of sockets, without waiting for it.
    fn start_resolver(&self, socket: BorrowedFd<'_>) -> io::Result<()>;
}

/// Names of client processes and of disks.
#[derive(Debug)]
pub struct Names {
    shared: Arc<Shared>,
    queue: SyncSender<Job>,
    /// The other end of the queue, until the thread starts.
    receiver: Mutex<Option<Receiver<Job>>>,
}

#[derive(Debug)]
struct Shared {
    starter: Arc<dyn StartResolver>,
    /// Sockets of resolvers that have sent a reply.
    idle: Mutex<Vec<OwnedFd>>,
    processes: Cache<ProcessKey, Process>,
    disks: Cache<DeviceId, DiskName>,
}

/// A name that the thread resolves.
#[derive(Debug)]
enum Job {
    Process(Peer),
    Disk(DeviceId),
    /// Only lets resolvers exit.
    Used,
}

/// Reason why a resolver has not answered.
#[derive(Debug)]
enum ExchangeError {
    /// The resolver has exited.
    Exited,
    /// The resolver has not answered in time, or incorrectly.
    Failed,
}

impl Names {
    /// Creates names that resolvers of `starter` find.
    pub(crate) fn new(starter: Arc<dyn StartResolver>) -> Self {
        let (queue, receiver) = sync_channel(MAX_QUEUED);
        let shared = Shared {
            starter,
            idle: Mutex::default(),
            processes: Cache::new(),
            disks: Cache::new(),
        };
        Self {
            shared: Arc::new(shared),
            queue,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// Starts the thread that resolves names before they are needed. Without it, only
    /// [`Self::process`] and [`Self::disk`] find names.
    pub(crate) fn start(&self) {
        let receiver = self.receiver.lock();
        let receiver = receiver.unwrap_or_else(PoisonError::into_inner).take();
        let Some(receiver) = receiver else {
            return;
        };
        let shared = Arc::clone(&self.shared);
        let run = move || {
            while let Ok(job) = receiver.recv() {
                shared.resolve(&job);
                while let Ok(job) = receiver.try_recv() {
                    shared.resolve(&job);
                }
                // The resolvers exit then.
                shared.idle().clear();
            }
        };
        let thread = thread::Builder::new().name(THREAD_NAME.to_owned());
        if let Err(error) = thread.spawn(run) {
            log::warn!(
                "log without names of clients: cannot start a thread: {error}; raise the limit of \
                 processes, and restart the helper"
            );
        }
    }

    /// Has the thread resolve the name of the process of a new connection. Never blocks.
    pub(crate) fn connected(&self, peer: &Peer) {
        if !self.set_cached(peer) && peer.pid > 0 {
            self.enqueue(Job::Process(peer.clone()));
        }
    }

    /// Returns the name of the process at the other end of a connection, if it is known. Never
    /// blocks.
    #[must_use]
    pub fn cached_process(&self, peer: &Peer) -> Option<Arc<Process>> {
        self.set_cached(peer);
        peer.process().cloned()
    }

    /// Returns the name of the process at the other end of a connection. Waits for at most
    /// `timeout`. The name does not change during a connection.
    #[must_use]
    pub fn process(&self, peer: &Peer, timeout: Duration) -> Option<Arc<Process>> {
        if !self.set_cached(peer) {
            self.shared.resolve_process(peer, timeout);
            self.enqueue(Job::Used);
        }
        peer.process().cloned()
    }

    /// Returns the names of a disk, if they are known and not older than half a minute. Otherwise
    /// has the thread resolve them for the next call. Never blocks.
    #[must_use]
    pub fn cached_disk(&self, device: DeviceId) -> Option<Arc<DiskName>> {
        Query::from_device(device)?;
        let cached = self.shared.disks.get(device);
        if cached.is_none() {
            self.enqueue(Job::Disk(device));
        }
        cached.flatten()
    }

    /// Returns the names of a disk, which are not older than half a minute. Waits for at most
    /// `timeout`.
    #[must_use]
    pub fn disk(&self, device: DeviceId, timeout: Duration) -> Option<Arc<DiskName>> {
        if let Some(known) = self.shared.disks.get(device) {
            return known;
        }
        let disk = self.shared.resolve_disk(device, timeout);
        self.enqueue(Job::Used);
        disk
    }

    /// Sets the name of a connection, if it is known. Returns false if it has to be resolved.
    fn set_cached(&self, peer: &Peer) -> bool {
        if peer.process().is_some() {
            return true;
        }
        let cached = self.shared.processes.get(peer.process_key());
        if let Some(Some(process)) = &cached {
            peer.set_process(Arc::clone(process));
        }
        cached.is_some()
    }

    /// Passes a job to the thread. If too many wait, the name stays unknown.
    fn enqueue(&self, job: Job) {
        let _ = self.queue.try_send(job);
    }
}

impl Shared {
    /// Resolves a name, unless another job has resolved it meanwhile.
    fn resolve(&self, job: &Job) {
        match job {
            Job::Process(peer) => match self.processes.get(peer.process_key()) {
                Some(Some(process)) => peer.set_process(process),
                Some(None) => {}
                None => self.resolve_process(peer, RESOLVE_TIMEOUT),
            },
            Job::Disk(device) if self.disks.get(*device).is_none() => {
                self.resolve_disk(*device, RESOLVE_TIMEOUT);
            }
            Job::Disk(_) | Job::Used => {}
        }
    }

    /// Resolves the name of a connection's process, for the cache and the connection.
    fn resolve_process(&self, peer: &Peer, timeout: Duration) {
        // A process in a PID namespace that this process cannot see has no ID.
        let Some(pid) = u32::try_from(peer.pid).ok().filter(|pid| *pid > 0) else {
            return;
        };
        let inode = match peer.process_key() {
            ProcessKey::Pidfd(inode) => Some(inode),
            ProcessKey::Pid(_) | ProcessKey::User(_) => None,
        };
        let found = self.query::<Process>(Query::Process { pid, inode }, timeout);
        let process = found.map(|mut process| {
            process.pid = peer.pid;
            process.uid = peer.uid;
            if process.name.is_empty() {
                process.name = format!("pid {pid}");
            }
            Arc::new(process)
        });
        if let Some(process) = &process {
            peer.set_process(Arc::clone(process));
        }
        self.processes.insert(peer.process_key(), process);
    }

    fn resolve_disk(&self, device: DeviceId, timeout: Duration) -> Option<Arc<DiskName>> {
        let query = Query::from_device(device)?;
        let disk = self.query(query, timeout).map(Arc::new);
        self.disks.insert(device, disk.clone());
        disk
    }

    /// Sends a query to a resolver, and decodes its reply; `None` without one in time.
    fn query<T: DeserializeOwned>(&self, query: Query, timeout: Duration) -> Option<T> {
        let deadline = Instant::now() + timeout;
        loop {
            let idle = self.idle().pop();
            let is_new = idle.is_none();
            let socket = match idle {
                Some(socket) => socket,
                None => self.start_resolver().ok()?,
            };
            match exchange(&socket, query, deadline) {
                Ok(reply) => {
                    self.idle().push(socket);
                    return serde_json::from_slice(&reply).ok()?;
                }
                // A resolver without a query exits after some time.
                Err(ExchangeError::Exited) if !is_new => {}
                Err(_) => return None,
            }
        }
    }

    fn start_resolver(&self) -> io::Result<OwnedFd> {
        let (socket, resolver_end) = seqpacket::pair()?;
        self.starter.start_resolver(resolver_end.as_fd())?;
        Ok(socket)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<OwnedFd>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a query, and waits for the reply until `deadline`.
fn exchange(socket: &OwnedFd, query: Query, deadline: Instant) -> Result<Vec<u8>, ExchangeError> {
    let sent = seqpacket::try_send(socket, &query.encode());
    sent.map_err(|_| ExchangeError::Exited)?;
    let timeout = deadline.saturating_duration_since(Instant::now());
    match seqpacket::wait_readable(socket, timeout) {
        Ok(true) => {}
        _ => return Err(ExchangeError::Failed),
    }
    let mut buffer = vec![0; MAX_REPLY_LEN + 1];
    match fd_passing::receive(socket.as_fd(), &mut buffer, ReceiveMode::NoWait) {
        Ok((0, _)) | Err(_) => Err(ExchangeError::Exited),
        Ok((length, _)) if length <= MAX_REPLY_LEN => {
            buffer.truncate(length);
            Ok(buffer)
        }
        Ok(_) => Err(ExchangeError::Failed),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Behavior of a resolver.
    #[derive(Clone, Copy, Debug)]
    enum Behavior {
        /// It answers each query.
        Answers,
        /// It answers one query, and exits.
        AnswersOnce,
        /// It exits at once, as if too many existed.
        Exits,
        /// It answers nothing.
        Hangs,
    }

    /// Starter of resolvers that are threads.
    #[derive(Debug)]
    struct TestStarter {
        behavior: Behavior,
        started: AtomicUsize,
    }

    impl StartResolver for TestStarter {
        fn start_resolver(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
            self.started.fetch_add(1, Ordering::SeqCst);
            let socket = socket.try_clone_to_owned()?;
            let behavior = self.behavior;
            thread::spawn(move || run(&socket, behavior));
            Ok(())
        }
    }

    fn run(socket: &OwnedFd, behavior: Behavior) {
        if matches!(behavior, Behavior::Exits) {
            return;
        }
        let mut query = [0; query::LEN];
        while let Ok((1.., _)) = fd_passing::receive(socket.as_fd(), &mut query, ReceiveMode::Wait)
        {
            let reply = match Query::decode(&query).unwrap() {
                Query::Process { .. } => r#"{"pid":0,"uid":0,"name":"vm","vm":null,"unit":null}"#,
                Query::Block(8, 0) => r#"{"nodes":["sda"],"kind":"disk"}"#,
                Query::Block(..) => "null",
                Query::Character(..) => "no JSON",
            };
            match behavior {
                Behavior::Hangs => {}
                _ => seqpacket::try_send(socket, reply.as_bytes()).unwrap(),
            }
            if matches!(behavior, Behavior::AnswersOnce) {
                return;
            }
        }
    }

    fn names(behavior: Behavior) -> (Names, Arc<TestStarter>) {
        let starter = Arc::new(TestStarter {
            behavior,
            started: AtomicUsize::new(0),
        });
        let names = Names::new(Arc::<TestStarter>::clone(&starter));
        (names, starter)
    }

    /// Returns names with a resolver that answers `vm` for each process, without the thread.
    pub(crate) fn answering_names() -> Names {
        names(Behavior::Answers).0
    }

    fn peer(id: u64) -> Peer {
        Peer::from_socket(&UnixStream::pair().unwrap().0, id)
    }

    const DISK: DeviceId = DeviceId::Block(8, 0);
    const TIMEOUT: Duration = Duration::from_secs(60);

    #[test]
    fn connection_gets_the_name_of_its_process() {
        let (names, starter) = names(Behavior::Answers);
        names.start();
        let (first, second) = (peer(1), peer(2));
        names.connected(&first);
        while names.cached_process(&first).is_none() {
            thread::yield_now();
        }
        let process = std::process::id();
        let text = first.to_string();
        assert!(
            text.starts_with(&format!("client 1 (vm, pid {process}, uid ")),
            "{text}"
        );
        // The second connection of a process needs no query.
        assert_eq!(
            names.process(&second, Duration::ZERO),
            names.cached_process(&first)
        );
        assert_eq!(starter.started.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn resolver_is_used_again() {
        let (names, starter) = names(Behavior::Answers);
        assert_eq!(names.disk(DISK, TIMEOUT).unwrap().nodes, ["sda"]);
        assert_eq!(names.disk(DeviceId::Block(8, 16), TIMEOUT), None);
        assert_eq!(names.disk(DeviceId::Character(21, 0), TIMEOUT), None);
        assert_eq!(names.disk(DeviceId::Unknown, TIMEOUT), None);
        assert_eq!(starter.started.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn exited_resolver_is_replaced() {
        let (names, starter) = names(Behavior::AnswersOnce);
        names.disk(DISK, TIMEOUT).unwrap();
        names.process(&peer(1), TIMEOUT).unwrap();
        assert_eq!(starter.started.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn missing_resolver_leaves_no_name() {
        let (names, starter) = names(Behavior::Exits);
        for _ in 0..2 {
            assert_eq!(names.disk(DISK, TIMEOUT), None);
        }
        assert_eq!(starter.started.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn hung_resolver_delays_only_for_the_timeout() {
        let (names, _) = names(Behavior::Hangs);
        let timeout = Duration::from_millis(10);
        let start = Instant::now();
        assert_eq!(names.disk(DISK, timeout), None);
        assert_eq!(names.process(&peer(1), timeout), None);
        assert!(start.elapsed() >= timeout * 2);
        // That there is no answer is known for some time.
        assert_eq!(names.disk(DISK, TIMEOUT), None);
        assert!(start.elapsed() < TIMEOUT);
    }

    #[test]
    fn full_queue_drops_jobs() {
        let (names, starter) = names(Behavior::Answers);
        for number in 0..10_000 {
            assert_eq!(names.cached_disk(DeviceId::Block(8, number)), None);
        }
        assert_eq!(starter.started.load(Ordering::SeqCst), 0);
        names.start();
        while names.cached_disk(DISK).is_none() {
            thread::yield_now();
        }
    }
}
